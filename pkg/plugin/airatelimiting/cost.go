package airatelimiting

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/variable"
)

// cost is a compiled `cost_expr`: arithmetic as Lua writes it over the members of what a
// provider counted. It is immutable and safe for concurrent use.
type cost struct {
	root  node
	names []string // members it asks for, dotted paths; the place is the number of a node's slot
}

// A node is a part of the expression; counts are the values of the names.
type node func(counts []float64) operand

// operand is a number or a truth value, as comparisons make it.
type operand struct {
	num   float64
	truth bool // of a truth value
	logic bool // it is a truth value
}

func number(f float64) operand { return operand{num: f} }

// number is the operand in arithmetic: a truth value is no number there.
func (o operand) number() float64 {
	if o.logic {
		return math.NaN()
	}
	return o.num
}

// holds is the operand as a condition: only false is false, 0 is not.
func (o operand) holds() bool { return !o.logic || o.truth }

var (
	errInfinite = errors.New("cost_expr returned non-finite value")
	errNoNumber = errors.New("cost_expr must return a number, got: boolean")
)

// maxCost bounds what one request can cost, and what a limit can be: the integers that
// are exact in the reference.
const maxCost = 1<<53 - 1

// of returns what the counts cost: rounded to the next whole number, and not less than 0.
func (c *cost) of(usage [][]byte) (int64, error) {
	var space [16]float64
	counts := space[:]
	if len(c.names) > len(space) {
		counts = make([]float64, len(c.names))
	}
	for _, object := range usage {
		c.read(counts, object, "")
	}
	got := c.root(counts)
	switch {
	case got.logic:
		return 0, errNoNumber
	case math.IsNaN(got.num) || math.IsInf(got.num, 0):
		return 0, errInfinite
	}
	return int64(min(max(math.Floor(got.num+0.5), 0), maxCost)), nil
}

// read notes the members that the expression asks for. A member of a later object
// replaces that of an earlier one.
func (c *cost) read(counts []float64, object []byte, within string) {
	_ = jsonedit.Members(object, func(name string, raw []byte, kind jsonedit.Kind) error {
		switch kind {
		case jsonedit.Number:
			for n, want := range c.names {
				rest, ok := strings.CutPrefix(want, within)
				if !ok || rest != name {
					continue
				}
				if f, ok := variable.ParseNumber(string(raw)); ok {
					counts[n] = f
				}
			}
		case jsonedit.Object:
			if within == "" && slices.ContainsFunc(c.names, func(want string) bool {
				return strings.HasPrefix(want, name) && strings.HasPrefix(want[len(name):], ".")
			}) {
				c.read(counts, raw, name+".")
			}
		}
		return nil
	})
}

// compileCost compiles an expression:
//
//	or; and; < > <= >= ~= ==; + -; * / %; not -; ^ (to the right); numbers, names,
//	parentheses, abs ceil floor max min and those of math.
func compileCost(text string) (*cost, error) {
	p := &parser{text: text, cost: &cost{}}
	p.next()
	root := p.binary(0)
	if p.err == nil && p.token != "" {
		p.unexpected()
	}
	if p.err != nil {
		return nil, p.err
	}
	p.cost.root = root
	return p.cost, nil
}

// parser reads an expression, one token ahead. After an error it reads nothing more.
type parser struct {
	text  string
	at    int    // behind the token
	token string // "": the end
	kind  tokenKind
	depth int
	cost  *cost
	err   error
}

type tokenKind uint8

const (
	symbol tokenKind = iota
	digits
	word
)

// Bounds of an expression, which is evaluated for every request.
const (
	maxDepth = 100  // of parentheses and signs
	maxText  = 4096 // bytes
)

func (p *parser) fail(format string, args ...any) node {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
		p.token, p.kind, p.at = "", symbol, len(p.text)
	}
	return func([]float64) operand { return number(0) }
}

func (p *parser) unexpected() node {
	if p.token == "" {
		return p.fail("unexpected end")
	}
	return p.fail("unexpected %q at character %d", p.token, p.at-len(p.token)+1)
}

func (p *parser) next() {
	if p.err != nil {
		return
	}
	if len(p.text) > maxText {
		p.fail("longer than %d bytes", maxText)
		return
	}
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	rest := p.text[p.at:]
	p.kind, p.token = symbol, ""
	switch {
	case rest == "":
		return
	case letter(rest[0]):
		p.kind = word
		p.token = rest[:span(rest, func(c byte, _ int) bool { return letter(c) || digit(c) })]
	case digit(rest[0]) || rest[0] == '.' && len(rest) > 1 && digit(rest[1]):
		p.kind = digits
		hex := strings.HasPrefix(rest, "0x") || strings.HasPrefix(rest, "0X")
		p.token = rest[:span(rest, func(c byte, n int) bool {
			exponent := n > 0 && !hex && rest[n-1]|0x20 == 'e'
			return letter(c) || digit(c) || c == '.' || exponent && (c == '+' || c == '-')
		})]
	default:
		p.token = rest[:1]
		for _, long := range []string{"<=", ">=", "==", "~=", "--"} {
			if strings.HasPrefix(rest, long) {
				p.token = long
			}
		}
	}
	p.at += len(p.token)
}

func letter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

func span(s string, in func(c byte, n int) bool) (n int) {
	for n < len(s) && in(s[n], n) {
		n++
	}
	return n
}

// takes reports whether the token is that symbol, and goes on behind it.
func (p *parser) takes(token string) bool {
	if p.err != nil || p.kind == digits || p.token != token {
		return false
	}
	p.next()
	return true
}

// levels are the binary operators, those that bind least first.
var levels = [][]string{{"or"}, {"and"}, {"<", ">", "<=", ">=", "~=", "=="}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) binary(level int) node {
	if level == len(levels) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for p.err == nil {
		n := slices.Index(levels[level], p.token)
		if n < 0 || p.kind == digits {
			break
		}
		operator := p.token
		p.next()
		left = operation(operator, left, p.binary(level+1))
	}
	return left
}

func operation(operator string, a, b node) node {
	arithmetic := func(f func(a, b float64) float64) node {
		return func(c []float64) operand { return number(f(a(c).number(), b(c).number())) }
	}
	comparison := func(f func(a, b float64) bool) node {
		return func(c []float64) operand {
			return operand{logic: true, truth: f(a(c).number(), b(c).number())}
		}
	}
	switch operator {
	case "or":
		return func(c []float64) operand {
			if v := a(c); v.holds() {
				return v
			}
			return b(c)
		}
	case "and":
		return func(c []float64) operand {
			if v := a(c); !v.holds() {
				return v
			}
			return b(c)
		}
	case "+":
		return arithmetic(func(a, b float64) float64 { return a + b })
	case "-":
		return arithmetic(func(a, b float64) float64 { return a - b })
	case "*":
		return arithmetic(func(a, b float64) float64 { return a * b })
	case "/":
		return arithmetic(func(a, b float64) float64 { return a / b })
	case "%":
		return arithmetic(func(a, b float64) float64 { return a - math.Floor(a/b)*b })
	case "<":
		return comparison(func(a, b float64) bool { return a < b })
	case ">":
		return comparison(func(a, b float64) bool { return a > b })
	case "<=":
		return comparison(func(a, b float64) bool { return a <= b })
	case ">=":
		return comparison(func(a, b float64) bool { return a >= b })
	}
	same := operator == "=="
	return func(c []float64) operand { return operand{logic: true, truth: (a(c) == b(c)) == same} }
}

func (p *parser) unary() node {
	if p.depth++; p.depth > maxDepth {
		return p.fail("deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.takes("-"):
		of := p.unary()
		return func(c []float64) operand { return number(-of(c).number()) }
	case p.takes("not"):
		of := p.unary()
		return func(c []float64) operand { return operand{logic: true, truth: !of(c).holds()} }
	}
	base := p.atom()
	if !p.takes("^") {
		return base
	}
	exponent := p.unary()
	return func(c []float64) operand { return number(math.Pow(base(c).number(), exponent(c).number())) }
}

func (p *parser) atom() node {
	switch {
	case p.err != nil:
		return p.unexpected()
	case p.kind == digits:
		f, ok := variable.ParseNumber(p.token)
		if !ok {
			return p.fail("%q is no number", p.token)
		}
		p.next()
		return func([]float64) operand { return number(f) }
	case p.kind == word:
		return p.named()
	case p.takes("("):
		of := p.binary(0)
		if !p.takes(")") {
			return p.unexpected()
		}
		return of
	}
	return p.unexpected()
}

// reserved are the words of Lua that cannot be names.
var reserved = strings.Fields("and break do else elseif end false for function goto if in local nil not or repeat return then true until while")

// named reads a name or a call.
func (p *parser) named() node {
	if slices.Contains(reserved, p.token) {
		return p.unexpected()
	}
	name := p.token
	p.next()
	for p.takes(".") {
		if p.kind != word || slices.Contains(reserved, p.token) {
			return p.unexpected()
		}
		name += "." + p.token
		p.next()
	}
	plain, inMath := strings.CutPrefix(name, "math.")
	if f, ok := functions[plain]; ok && (inMath || slices.Contains(bare, plain)) {
		return p.call(name, f)
	}
	switch {
	case name == "math.huge":
		return func([]float64) operand { return number(math.Inf(1)) }
	case name == "math.pi":
		return func([]float64) operand { return number(math.Pi) }
	case name == "math" || inMath || p.token == "(":
		return p.fail("there is no function %s", name)
	case strings.Count(name, ".") > 1:
		return p.fail("%s is deeper than two names", name)
	}
	n := slices.Index(p.cost.names, name)
	if n < 0 {
		n = len(p.cost.names)
		p.cost.names = append(p.cost.names, name)
	}
	return func(c []float64) operand { return number(c[n]) }
}

// function is a function of the language. most is 0 for any number of arguments.
type function struct {
	least, most int
	of          func(args []float64) float64
}

// bare are the functions that need no `math.`.
var bare = []string{"abs", "ceil", "floor", "max", "min"}

var functions = map[string]function{
	"abs":   {1, 1, func(a []float64) float64 { return math.Abs(a[0]) }},
	"ceil":  {1, 1, func(a []float64) float64 { return math.Ceil(a[0]) }},
	"floor": {1, 1, func(a []float64) float64 { return math.Floor(a[0]) }},
	"max":   {1, 0, func(a []float64) float64 { return slices.Max(a) }},
	"min":   {1, 0, func(a []float64) float64 { return slices.Min(a) }},
	"sqrt":  {1, 1, func(a []float64) float64 { return math.Sqrt(a[0]) }},
	"exp":   {1, 1, func(a []float64) float64 { return math.Exp(a[0]) }},
	"log":   {1, 1, func(a []float64) float64 { return math.Log(a[0]) }},
	"pow":   {2, 2, func(a []float64) float64 { return math.Pow(a[0], a[1]) }},
	"fmod":  {2, 2, func(a []float64) float64 { return math.Mod(a[0], a[1]) }},
}

func (p *parser) call(name string, f function) node {
	if !p.takes("(") {
		return p.unexpected()
	}
	var args []node
	for p.err == nil {
		args = append(args, p.binary(0))
		if !p.takes(",") {
			break
		}
	}
	if !p.takes(")") {
		return p.unexpected()
	}
	if len(args) < f.least || f.most > 0 && len(args) > f.most {
		return p.fail("%s cannot have %d arguments", name, len(args))
	}
	return func(c []float64) operand {
		var space [4]float64
		values := space[:0]
		for _, arg := range args {
			values = append(values, arg(c).number())
		}
		return number(f.of(values))
	}
}

package perl

import (
	"strconv"
	"strings"
)

// The levels of Perl's operators, the loosest first.
const (
	levelLow        = iota // or xor, and, not
	levelAnd               // and
	levelNot               // not
	levelList              // , =>
	levelAssign            // = += …
	levelTernary           // ?:
	levelRange             // ..
	levelOr                // || //
	levelLogicalAnd        // &&
	levelBitOr             // | ^
	levelBitAnd            // &
	levelEqual             // == eq …
	levelCompare           // < lt …
	levelUnary             // named unary operators
	levelShift             // << >>
	levelAdd               // + - .
	levelMul               // * / % x
	levelBind              // =~
	levelPrefix            // ! ~ \ -
	levelPower             // **
)

// infix are the operators between two terms, the longest first where one begins another.
var infix = []struct {
	mark  string
	level int
}{
	{"**=", levelAssign},
	{"||=", levelAssign},
	{"&&=", levelAssign},
	{"//=", levelAssign},
	{"<=>", levelEqual},
	{"...", levelRange},
	{"<<=", levelAssign},
	{">>=", levelAssign},
	{"=>", levelList},
	{"=~", levelBind},
	{"!~", levelBind},
	{"==", levelEqual},
	{"!=", levelEqual},
	{"<=", levelCompare},
	{">=", levelCompare},
	{"&&", levelLogicalAnd},
	{"||", levelOr},
	{"//", levelOr},
	{"..", levelRange},
	{"**", levelPower},
	{"+=", levelAssign},
	{"-=", levelAssign},
	{".=", levelAssign},
	{"*=", levelAssign},
	{"/=", levelAssign},
	{"%=", levelAssign},
	{"x=", levelAssign},
	{"|=", levelAssign},
	{"&=", levelAssign},
	{"^=", levelAssign},
	{"<<", levelShift},
	{">>", levelShift},
	{",", levelList},
	{"=", levelAssign},
	{"?", levelTernary},
	{"<", levelCompare},
	{">", levelCompare},
	{"+", levelAdd},
	{"-", levelAdd},
	{".", levelAdd},
	{"*", levelMul},
	{"/", levelMul},
	{"%", levelMul},
	{"|", levelBitOr},
	{"^", levelBitOr},
	{"&", levelBitAnd},
}

var wordOperators = map[string]int{
	"or": levelLow, "xor": levelLow, "and": levelAnd,
	"eq": levelEqual, "ne": levelEqual, "cmp": levelEqual,
	"lt": levelCompare, "gt": levelCompare, "le": levelCompare, "ge": levelCompare,
	"x": levelMul,
}

// operator returns the infix operator that comes next, without consuming it.
func (p *parser) operator() (mark string, level int) {
	p.space()
	if w := p.word(); w != "" {
		if level, ok := wordOperators[w]; ok {
			if w == "x" && p.peekAt(1) == '=' && p.peekAt(2) != '=' && p.peekAt(2) != '~' {
				return "x=", levelAssign
			}
			return w, level
		}
		// `"a"x3` and `x3` behind a blank are the operator too.
		if w[0] == 'x' && strings.Trim(w[1:], "0123456789") == "" {
			return "x", levelMul
		}
		return "", -1
	}
	for _, op := range infix {
		if strings.HasPrefix(p.src[p.at:], op.mark) {
			return op.mark, op.level
		}
	}
	return "", -1
}

func (p *parser) expression() node { return p.binary(levelLow) }

// binary reads an expression of operators at this level or tighter.
func (p *parser) binary(level int) node {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		unsupported(p.line, "nesting of more than %d levels", maxNesting)
	}
	p.space()
	var left node
	if level <= levelNot && p.word() == "not" {
		p.at += len("not")
		left = &not{p.binary(levelNot)}
	} else {
		left = p.prefix()
	}
	for {
		mark, at := p.operator()
		if mark == "" || at < level {
			return left
		}
		line := p.line
		p.at += len(mark)
		switch at {
		case levelList:
			left = p.commaList(left)
		case levelAssign:
			right := p.binary(levelAssign)
			left = p.assignment(strings.TrimSuffix(mark, "="), left, right, line)
		case levelTernary:
			yes := p.binary(levelAssign)
			p.want(":")
			left = &ternary{left, yes, p.binary(levelTernary)}
		case levelBind:
			left = p.bind(left, mark == "!~", line)
		case levelPower:
			left = &arith{mark, left, p.binary(levelPrefix), line}
		case levelOr, levelLogicalAnd, levelLow, levelAnd:
			left = &logical{mark, left, p.binary(at + 1)}
		case levelRange:
			left = &between{left, p.binary(at + 1), line}
		case levelEqual, levelCompare:
			left = &compare{mark, left, p.binary(at + 1)}
		default:
			left = &arith{mark, left, p.binary(at + 1), line}
		}
	}
}

// commaList goes on behind a first item and its comma.
func (p *parser) commaList(first node) node {
	l := &list{items: []node{first}}
	if f, ok := first.(*list); ok && !f.parens {
		l = f
	}
	for p.termFollows() {
		l.items = append(l.items, p.binary(levelAssign))
		if !p.take("=>") && !p.take(",") {
			break
		}
		for p.take(",") { // empty items count for nothing
			continue
		}
	}
	return l
}

// termFollows says whether an operand comes next.
func (p *parser) termFollows() bool {
	p.space()
	c := p.peekAt(0)
	if c == 0 || strings.IndexByte(")]};:,?=|^.*>", c) >= 0 {
		return false
	}
	w := p.word()
	if w == "" {
		return true
	}
	_, operator := wordOperators[w]
	switch w {
	case "if", "unless", "for", "foreach", "while", "until":
		operator = true
	}
	return !operator || p.arrowFollows(w)
}

// arrowFollows says whether a word is quoted by the => behind it.
func (p *parser) arrowFollows(word string) bool {
	return strings.HasPrefix(strings.TrimLeft(p.src[p.at+len(word):], " \t\r\n"), "=>")
}

func (p *parser) assignment(op string, left, right node, line int) node {
	switch l := left.(type) {
	case *list:
		if op != "" {
			unsupported(line, "(…) %s=", op)
		}
		return &assignList{l.items, right, line}
	case *declare:
		if l.parens {
			return &assignList{[]node{l}, right, line}
		}
		if len(l.names) == 1 && l.names[0][0] != '$' {
			return &assignList{[]node{l}, right, line}
		}
	case *arrayVar, *hashVar, *derefArray, *derefHash:
		if op != "" {
			unsupported(line, "%s= on an array or a hash", op)
		}
		return &assignList{[]node{left}, right, line}
	}
	target, ok := left.(place)
	if !ok {
		unsupported(line, "an assignment to what is no variable")
	}
	return &assign{op: op, to: target, from: right, line: line}
}

func (p *parser) bind(left node, negate bool, line int) node {
	right := p.binary(levelPrefix)
	switch r := right.(type) {
	case *match:
		r.target, r.negate = left, negate
		return r
	case *substitute:
		to, ok := left.(place)
		if a, is := left.(*assign); is { // (my $x = …) =~ s/…/…/
			to, ok = a, true
		}
		if l, is := left.(*list); is && len(l.items) == 1 {
			to, ok = l.items[0].(place)
			if a, is := l.items[0].(*assign); is {
				to, ok = a, true
			}
		}
		if !ok {
			unsupported(line, "a substitution in what is no variable")
		}
		r.target, r.negate = to, negate
		return r
	}
	return &match{target: left, pattern: right, negate: negate, line: line}
}

// prefix reads the operators before a term.
func (p *parser) prefix() node {
	p.space()
	line := p.line
	switch c := p.peekAt(0); {
	case c == '!' && p.peekAt(1) != '~':
		p.at++
		return &not{p.binary(levelPrefix)}
	case c == '\\':
		p.at++
		return p.reference(line)
	case c == '-' && isNameStart(p.peekAt(1)) && !isWordByte(p.peekAt(2)):
		if strings.IndexByte("efdrwxsz", p.peekAt(1)) < 0 {
			unsupported(line, "-%c", p.peekAt(1))
		}
		op := p.peekAt(1)
		p.at += 2
		return &fileTest{op, p.binary(levelUnary), line}
	case c == '-' && p.peekAt(1) != '-':
		p.at++
		return &arith{"-", constant{float64(0)}, p.binary(levelPrefix), line}
	case c == '+' && p.peekAt(1) != '+':
		p.at++
		return p.binary(levelPrefix)
	case c == '~':
		unsupported(line, "~")
	case c == '+' || c == '-':
		op := string(c)
		p.at += 2
		target, ok := p.binary(levelPower).(place)
		if !ok {
			unsupported(line, "%s%s on what is no variable", op, op)
		}
		return &assign{op: op, to: target, from: constant{float64(1)}, line: line}
	}
	return p.postfix(p.term())
}

// reference reads what follows a backslash. Arrays and hashes are references already.
func (p *parser) reference(line int) node {
	switch n := p.binary(levelPrefix).(type) {
	case *arrayVar:
		return &arrayRef{n}
	case *hashVar:
		return &hashRef{n}
	case *derefArray:
		return &arrayRef{n}
	case *derefHash:
		return &hashRef{n}
	case *call:
		if n.amp {
			return &codeRef{n.name, line}
		}
	}
	unsupported(line, "a reference to a scalar")
	return nil
}

// postfix reads what may follow a term: subscripts, arrows, ++ and --.
func (p *parser) postfix(n node) node {
	for {
		// No blank may stand before a subscript without an arrow, except behind another.
		switch c := p.peekAt(0); {
		case c == '[' || c == '{':
			if v, ok := n.(*scalarVar); ok {
				n = p.directSubscript(v)
				continue
			}
			if isElement(n) {
				n = p.subscript(n)
				continue
			}
			if l, ok := n.(*list); ok && l.parens && c == '[' {
				p.at++
				index := p.expression()
				p.want("]")
				n = &slice{l, index}
				continue
			}
			return n
		case c == '(' && isElement(n):
			n = &callCode{n, p.parenthesized(), p.line}
			continue
		}
		save, line := p.at, p.line
		p.space()
		switch {
		case strings.HasPrefix(p.src[p.at:], "->"):
			p.at += 2
			n = p.arrow(n)
		case strings.HasPrefix(p.src[p.at:], "++"), strings.HasPrefix(p.src[p.at:], "--"):
			target, ok := n.(place)
			if !ok {
				p.at, p.line = save, line
				return n
			}
			op := p.src[p.at : p.at+1]
			p.at += 2
			return &assign{op: op, to: target, from: constant{float64(1)}, post: true, line: line}
		default:
			return n
		}
	}
}

func (p *parser) arrow(n node) node {
	line := p.line
	p.space()
	switch c := p.peekAt(0); {
	case c == '[' || c == '{':
		return p.subscript(n)
	case c == '(':
		return &callCode{n, p.parenthesized(), line}
	case c == '@' && p.peekAt(1) == '*':
		p.at += 2
		return &derefArray{n, line}
	case c == '%' && p.peekAt(1) == '*':
		p.at += 2
		return &derefHash{n, line}
	}
	name := p.word()
	if name == "" {
		unsupported(line, "->%s", p.rest())
	}
	p.at += len(name)
	m := &method{on: n, name: name, line: line}
	if p.peekAt(0) == '(' {
		m.args = p.parenthesized()
	}
	return m
}

// subscript reads [ … ] or { … } of a reference.
func (p *parser) subscript(base node) node {
	line := p.line
	if p.take("[") {
		index := p.expression()
		p.want("]")
		return &element{base: base, index: index, line: line}
	}
	return &member{base: base, key: p.hashKey(), line: line}
}

// directSubscript reads $x[ … ] or $x{ … }: elements of @x and %x.
func (p *parser) directSubscript(v *scalarVar) node {
	line := p.line
	if p.peekAt(0) == '[' {
		p.at++
		index := p.expression()
		p.want("]")
		return &element{base: &arrayRef{&arrayVar{name: v.name, line: line}}, index: index, line: line}
	}
	return &member{base: &hashRef{&hashVar{name: v.name, line: line}}, key: p.hashKey(), line: line}
}

func (p *parser) hashKey() node {
	p.want("{")
	p.space()
	if w := p.word(); w != "" {
		rest := strings.TrimLeft(p.src[p.at+len(w):], " \t")
		if strings.HasPrefix(rest, "}") {
			p.at += len(w)
			p.want("}")
			return constant{w}
		}
	}
	key := p.expression()
	p.want("}")
	return key
}

// parenthesized reads ( … ) as the arguments of a call.
func (p *parser) parenthesized() node {
	p.want("(")
	if p.take(")") {
		return &list{parens: true}
	}
	n := p.expression()
	p.want(")")
	return n
}

func isElement(n node) bool {
	switch n.(type) {
	case *element, *member:
		return true
	case *callCode:
		return true
	}
	return false
}

func (p *parser) numberTerm() node {
	from := p.at
	if p.src[p.at] == '0' && (p.peekAt(1) == 'x' || p.peekAt(1) == 'b' || isDigit(p.peekAt(1))) {
		for p.at < len(p.src) && isWordByte(p.src[p.at]) {
			p.at++
		}
		digits := strings.ReplaceAll(p.src[from:p.at], "_", "")
		n, err := strconv.ParseUint(digits, 0, 64)
		if err != nil {
			p.syntax("the number %s", digits)
		}
		return constant{float64(n)}
	}
	for p.at < len(p.src) && (isDigit(p.src[p.at]) || p.src[p.at] == '_') {
		p.at++
	}
	if p.peekAt(0) == '.' && p.peekAt(1) != '.' {
		p.at++
		for p.at < len(p.src) && isDigit(p.src[p.at]) {
			p.at++
		}
	}
	if c := p.peekAt(0); (c == 'e' || c == 'E') && (isDigit(p.peekAt(1)) || (p.peekAt(1) == '-' || p.peekAt(1) == '+') && isDigit(p.peekAt(2))) {
		p.at += 2
		for p.at < len(p.src) && isDigit(p.src[p.at]) {
			p.at++
		}
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(p.src[from:p.at], "_", ""), 64)
	if err != nil {
		p.syntax("the number %s", p.src[from:p.at])
	}
	return constant{f}
}

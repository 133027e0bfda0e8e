// Package expr is the language of `vars` conditions (spec/03 §5): compiled once, then
// evaluated against exchanges. It knows operators and logic; what a condition decides, it
// does not know.
package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

// Expr is a compiled expression. It is immutable and safe for concurrent use. nil
// matches everything.
type Expr struct{ root node }

// Match reports whether the expression holds for an exchange. What cannot be evaluated
// does not hold.
func (e *Expr) Match(x *exchange.Exchange) bool {
	return e == nil || e.root == nil || e.root.match(x)
}

type node interface {
	match(*exchange.Exchange) bool
}

// all and not are the logic; any is not of all of not.
type (
	all []node
	any []node
	not struct{ node }
)

func (l all) match(x *exchange.Exchange) bool {
	for _, n := range l {
		if !n.match(x) {
			return false
		}
	}
	return true
}

func (l any) match(x *exchange.Exchange) bool {
	for _, n := range l {
		if n.match(x) {
			return true
		}
	}
	return false
}

func (n not) match(x *exchange.Exchange) bool { return !n.node.match(x) }

// condition compares a variable with what was configured.
type condition struct {
	get  variable.Getter
	test func(variable.Value) bool
}

func (c *condition) match(x *exchange.Exchange) bool { return c.test(c.get(x)) }

// The texts of errors are the reference's.
var (
	errBrackets = errors.New("rule should be wrapped inside brackets")
	errShort    = errors.New("rule too short")
	errNot      = errors.New("bad 'not' expression")
	errInvalid  = errors.New("invalid expression")
)

// matchTimeout bounds a pattern over one value.
const matchTimeout = 100 * time.Millisecond

// Compile compiles an expression from its JSON text.
func Compile(raw []byte) (*Expr, error) {
	var rules []json.RawMessage
	if err := json.Unmarshal(raw, &rules); err != nil {
		return nil, errBrackets
	}
	if len(rules) == 0 {
		return &Expr{}, nil
	}
	if word, ok := text(rules[0]); ok {
		if _, known := logic(word); !known {
			return nil, errBrackets
		}
	}
	root, err := group(rules)
	if err != nil {
		return nil, err
	}
	return &Expr{root}, nil
}

// group compiles a list of rules: conditions, all of which must hold, or a word of logic
// and its operands.
func group(rules []json.RawMessage) (node, error) {
	build := func(l []node) node { return all(l) }
	if word, ok := text(rules[0]); ok {
		known := false
		if build, known = logic(word); !known {
			return nil, errBrackets
		}
		if len(rules) < 3 {
			return nil, errShort
		}
		rules = rules[1:]
	}
	nodes := make([]node, len(rules))
	for i, raw := range rules {
		var err error
		if nodes[i], err = rule(raw); err != nil {
			return nil, err
		}
	}
	return build(nodes), nil
}

func logic(word string) (func([]node) node, bool) {
	switch strings.ToUpper(word) {
	case "AND":
		return func(l []node) node { return all(l) }, true
	case "OR":
		return func(l []node) node { return any(l) }, true
	case "!AND":
		return func(l []node) node { return not{all(l)} }, true
	case "!OR":
		return func(l []node) node { return not{any(l)} }, true
	}
	return nil, false
}

// rule compiles one condition, or a nested group.
func rule(raw json.RawMessage) (node, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, errBrackets
	}
	if len(parts) == 0 {
		return nil, errShort
	}
	name, ok := text(parts[0])
	if !ok {
		if kindOf(parts[0]) == '[' {
			return group(parts)
		}
		// A left side that is no name reads a variable of that text, which has no value.
		name = string(parts[0])
	} else if _, known := logic(name); known {
		return group(parts)
	}
	return compare(name, parts[1:])
}

// compare compiles what follows a variable's name: [op, value], ["!", op, value] or the
// shorthand [value].
func compare(name string, rest []json.RawMessage) (node, error) {
	get, known := variable.Compile(name)
	if !known {
		if strings.HasPrefix(name, "post_arg.") {
			return nil, fmt.Errorf("invalid JSONPath in %q", name)
		}
		get = func(*exchange.Exchange) variable.Value { return variable.Value{} }
	}
	switch len(rest) {
	case 0:
		return nil, errInvalid
	case 1:
		test, err := operators["=="](rest[0])
		if err != nil {
			return nil, err
		}
		return &condition{get, test}, nil
	}
	op, ok := text(rest[0])
	if !ok {
		return nil, fmt.Errorf("invalid operator '%s'", rest[0])
	}
	negated := op == "!" && len(rest) > 2
	if negated {
		if op, ok = text(rest[1]); !ok {
			return nil, errNot
		}
		rest = rest[1:]
	}
	make, known := operators[strings.ToLower(op)]
	if !known {
		return nil, fmt.Errorf("invalid operator '%s'", op)
	}
	test, err := make(rest[1])
	if err != nil {
		return nil, err
	}
	var n node = &condition{get, test}
	if negated {
		n = not{n}
	}
	return n, nil
}

func kindOf(raw json.RawMessage) byte {
	if len(raw) == 0 {
		return 0
	}
	return raw[0]
}

func text(raw json.RawMessage) (string, bool) {
	if kindOf(raw) != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// constant is a configured value.
func constant(raw json.RawMessage) variable.Value {
	switch kindOf(raw) {
	case '"':
		s, _ := text(raw)
		return variable.Text(s)
	case 't', 'f':
		return variable.Boolean(raw[0] == 't')
	case 'n', 0, '{':
		return variable.Value{}
	case '[':
		var parts []json.RawMessage
		_ = json.Unmarshal(raw, &parts)
		list := make([]variable.Value, len(parts))
		for i, p := range parts {
			list[i] = constant(p)
		}
		return variable.List(list)
	}
	var f float64
	_ = json.Unmarshal(raw, &f)
	return variable.Num(f)
}

type operator func(raw json.RawMessage) (func(variable.Value) bool, error)

// operators are those of spec/03 §5, by their names in lower case.
var operators = map[string]operator{
	"==": equal,
	"~=": func(raw json.RawMessage) (func(variable.Value) bool, error) {
		same, err := equal(raw)
		if err != nil {
			return nil, err
		}
		return func(v variable.Value) bool { return !same(v) }, nil
	},
	">":       ordered(func(l, r float64) bool { return l > r }),
	">=":      ordered(func(l, r float64) bool { return l >= r }),
	"<":       ordered(func(l, r float64) bool { return l < r }),
	"<=":      ordered(func(l, r float64) bool { return l <= r }),
	"~~":      pattern(regexp2.None),
	"~*":      pattern(regexp2.IgnoreCase),
	"in":      in,
	"has":     has,
	"ipmatch": ipMatch,
}

func equal(raw json.RawMessage) (func(variable.Value) bool, error) {
	want := constant(raw)
	if want.IsNumber() {
		number, _ := want.Number()
		return func(v variable.Value) bool {
			got, ok := v.Number()
			return ok && got == number
		}, nil
	}
	return func(v variable.Value) bool { return v.Equal(want) }, nil
}

func ordered(holds func(l, r float64) bool) operator {
	return func(raw json.RawMessage) (func(variable.Value) bool, error) {
		want, numeric := constant(raw).Number()
		return func(v variable.Value) bool {
			got, ok := v.Number()
			return ok && numeric && holds(got, want)
		}, nil
	}
}

func pattern(o regexp2.RegexOptions) operator {
	return func(raw json.RawMessage) (func(variable.Value) bool, error) {
		source := constant(raw).String()
		re, err := regexp2.Compile(source, o)
		if err != nil {
			return nil, fmt.Errorf("invalid regular expression %q: %w", source, err)
		}
		re.MatchTimeout = matchTimeout
		return func(v variable.Value) bool {
			if v.IsNil() || v.IsList() {
				return false
			}
			ok, err := re.MatchString(v.String())
			return ok && err == nil
		}, nil
	}
}

func in(raw json.RawMessage) (func(variable.Value) bool, error) {
	want := constant(raw)
	return func(v variable.Value) bool {
		for _, e := range want.Elements() {
			if v.Equal(e) {
				return true
			}
		}
		return false
	}, nil
}

func has(raw json.RawMessage) (func(variable.Value) bool, error) {
	want := constant(raw)
	return func(v variable.Value) bool {
		for _, e := range v.Elements() {
			if e.Equal(want) {
				return true
			}
		}
		return false
	}, nil
}

func ipMatch(raw json.RawMessage) (func(variable.Value) bool, error) {
	want := constant(raw)
	list := want.Elements()
	if !want.IsList() {
		list = []variable.Value{want}
	}
	nets := make([]netip.Prefix, len(list))
	for i, e := range list {
		p, err := parsePrefix(e.String())
		if err != nil {
			return nil, fmt.Errorf("invalid ip address: %s", e.String())
		}
		nets[i] = p
	}
	return func(v variable.Value) bool {
		addr, err := netip.ParseAddr(v.String())
		if err != nil {
			return false
		}
		addr = addr.Unmap().WithZone("")
		for _, p := range nets {
			if p.Contains(addr) {
				return true
			}
		}
		return false
	}, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.IndexByte(s, '/') >= 0 {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/variable"
)

// The texts of errors are the reference's.
var (
	errBrackets = errors.New("rule should be wrapped inside brackets")
	errShort    = errors.New("rule too short")
	errNot      = errors.New("bad 'not' expression")
	errInvalid  = errors.New("invalid expression")
)

// Compile compiles an expression from its JSON text. An empty array matches everything.
// Errors are the reference's, without the prefix that the Admin API puts before them.
func Compile(raw []byte) (*Expr, error) {
	if err := jsonedit.Check(raw, jsonedit.Options{}); err != nil {
		return nil, err
	}
	rules, err := split(raw)
	if err != nil {
		return nil, errBrackets
	}
	if len(rules) == 0 {
		return &Expr{}, nil
	}
	var c compiler
	root, err := c.group(rules)
	if err != nil {
		return nil, err
	}
	slices.Sort(c.names)
	return &Expr{root, slices.Compact(c.names)}, nil
}

// part is an element of a rule, as it stands in the text.
type part struct {
	raw  []byte
	kind jsonedit.Kind
}

// split returns the elements of an array.
func split(raw []byte) (parts []part, err error) {
	err = jsonedit.Elements(raw, func(_ int, raw []byte, kind jsonedit.Kind) error {
		parts = append(parts, part{raw, kind})
		return nil
	})
	return parts, err
}

// text is the element if it is a string.
func (p part) text() (string, bool) {
	if p.kind != jsonedit.String {
		return "", false
	}
	s, err := jsonedit.Unquote(p.raw)
	return s, err == nil
}

// shown is the element as error texts show it: a string without its quotes.
func (p part) shown() string {
	if s, ok := p.text(); ok {
		return s
	}
	return string(p.raw)
}

type compiler struct{ names []string }

// group compiles a list of rules, all of which must hold, or a word of logic and its
// operands. There is at least one element.
func (c *compiler) group(rules []part) (node, error) {
	combine := func(l []node) node { return allOf(l) }
	if word, ok := rules[0].text(); ok {
		if combine = logic(word); combine == nil {
			return nil, errBrackets
		}
		if rules = rules[1:]; len(rules) < 2 {
			return nil, errShort
		}
	}
	nodes := make([]node, len(rules))
	for i, r := range rules {
		var err error
		if nodes[i], err = c.rule(r); err != nil {
			return nil, err
		}
	}
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	return combine(nodes), nil
}

// logic returns what a word of logic makes of its operands, nil for other words.
func logic(word string) func([]node) node {
	switch strings.ToUpper(word) {
	case "AND":
		return func(l []node) node { return allOf(l) }
	case "OR":
		return func(l []node) node { return anyOf(l) }
	case "!AND":
		return func(l []node) node { return not{allOf(l)} }
	case "!OR":
		return func(l []node) node { return not{anyOf(l)} }
	}
	return nil
}

// rule compiles one condition, or a nested group.
func (c *compiler) rule(r part) (node, error) {
	parts, err := split(r.raw)
	switch {
	case err != nil:
		return nil, errBrackets
	case len(parts) == 0:
		return nil, errShort
	}
	switch parts[0].kind {
	case jsonedit.Array:
		return c.group(parts)
	case jsonedit.String:
		name, _ := parts[0].text()
		if logic(name) != nil {
			return c.group(parts)
		}
		return c.condition(name, parts[1:])
	case jsonedit.Number:
		// Accepted by the reference: no variable has such a name, so there is no value.
		return c.condition(string(parts[0].raw), parts[1:])
	}
	return nil, errInvalid
}

// condition compiles what follows a variable's name: an operator and a value, "!" before
// them, or the value alone.
func (c *compiler) condition(name string, rest []part) (node, error) {
	negated := false
	op := operators["=="]
	switch len(rest) {
	case 1:
		// An operator without a value is no value.
		if word, ok := rest[0].text(); ok && operators[strings.ToLower(word)] != nil {
			return nil, errInvalid
		}
	case 2, 3:
		if negated = len(rest) == 3; negated {
			if mark, _ := rest[0].text(); mark != "!" {
				return nil, errNot
			}
			rest = rest[1:]
		}
		word, ok := rest[0].text()
		if op = operators[strings.ToLower(word)]; !ok || op == nil {
			return nil, fmt.Errorf("invalid operator '%s'", rest[0].shown())
		}
		rest = rest[1:]
	default:
		return nil, errInvalid
	}
	if err := variable.Check(name); err != nil {
		return nil, err
	}
	get, known := variable.Compile(name)
	if !known {
		get = func(*exchange.Exchange) variable.Value { return variable.Value{} }
	}
	t, err := op(variable.FromJSON(rest[0].raw))
	if err != nil {
		return nil, err
	}
	c.names = append(c.names, name)
	var n node = &condition{get, t}
	if negated {
		n = not{n}
	}
	return n, nil
}

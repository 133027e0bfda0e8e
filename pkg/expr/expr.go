// Package expr is the language of `vars` conditions (spec/03 §5): compiled once, then
// evaluated against exchanges. It knows operators and logic; where variables come from
// and what a condition decides, it does not know.
package expr

import (
	"slices"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

// Expr is a compiled expression. It is immutable and safe for concurrent use. nil and the
// zero value match everything.
type Expr struct {
	root  node
	names []string
}

// Match reports whether the expression holds for an exchange. What cannot be evaluated
// does not hold.
func (e *Expr) Match(x *exchange.Exchange) bool {
	ok, err := e.Eval(x)
	return ok && err == nil
}

// Eval is Match that says why the expression could not be evaluated: a pattern took too
// long. That ends the whole evaluation, so that a negation around it does not hold either.
func (e *Expr) Eval(x *exchange.Exchange) (bool, error) {
	if e == nil || e.root == nil {
		return true, nil
	}
	return e.root.eval(x)
}

// Reads returns the names of the variables that the expression reads, sorted, each once.
func (e *Expr) Reads() []string {
	if e == nil {
		return nil
	}
	return slices.Clone(e.names)
}

type node interface {
	eval(*exchange.Exchange) (bool, error)
}

type (
	allOf []node
	anyOf []node
	not   struct{ node }
)

func (l allOf) eval(x *exchange.Exchange) (bool, error) {
	for _, n := range l {
		if ok, err := n.eval(x); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (l anyOf) eval(x *exchange.Exchange) (bool, error) {
	for _, n := range l {
		if ok, err := n.eval(x); ok || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}

func (n not) eval(x *exchange.Exchange) (bool, error) {
	ok, err := n.node.eval(x)
	return !ok && err == nil, err
}

// condition compares a variable with what was configured.
type condition struct {
	get  variable.Getter
	test test
}

// test is an operator and its right side.
type test func(variable.Value) (bool, error)

func (c *condition) eval(x *exchange.Exchange) (bool, error) { return c.test(c.get(x)) }

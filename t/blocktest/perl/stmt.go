package perl

import "errors"

// A block is statements with a scope of their own.
type block struct {
	list    []node
	noScope bool // a simple statement with a modifier
}

// run runs the statements and returns the value of the last one.
func (b *block) run(f *frame) []Value {
	defer f.in.restore(f)
	var out []Value
	for i, n := range b.list {
		f.in.step(0)
		if i == len(b.list)-1 {
			if f.list {
				out = n.list(f)
			} else {
				out = one(n.scalar(f))
			}
		} else {
			n.scalar(f)
		}
	}
	return out
}

func (b *block) scoped(f *frame) []Value {
	if b.noScope {
		// No restore: what it localizes belongs to the block around.
		if f.list {
			return b.list[0].list(f)
		}
		return one(b.list[0].scalar(f))
	}
	return b.run(f.inner())
}

// bare is { … } as a statement, and BEGIN { … }, which runs where it stands: what it sets
// is used behind it.
type bare struct{ body *block }

func (n *bare) list(f *frame) []Value { return n.body.scoped(f) }
func (n *bare) scalar(f *frame) Value { return last(n.body.scoped(f)) }

// doBlock is do { … }.
type doBlock struct{ body *block }

func (n *doBlock) list(f *frame) []Value {
	g := f.inner()
	g.list = true
	return n.body.run(g)
}

func (n *doBlock) scalar(f *frame) Value {
	g := f.inner()
	g.list = false
	return last(n.body.run(g))
}

// evalBlock is eval { … }.
type evalBlock struct{ body *block }

func (n *evalBlock) try(f *frame, list bool) (out []Value) {
	message := f.in.globals["$@"].(*cell)
	message.v = ""
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *failure:
			var d *DieError
			if !errors.As(p.err, &d) {
				panic(p)
			}
			message.v, out = d.Text, nil
		default:
			panic(p)
		}
	}()
	g := f.inner()
	g.list = list
	return n.body.run(g)
}
func (n *evalBlock) list(f *frame) []Value { return n.try(f, true) }
func (n *evalBlock) scalar(f *frame) Value { return last(n.try(f, false)) }

type cond struct {
	test   node
	negate bool
	yes    *block
	no     node // nil: no else
}

func (n *cond) list(f *frame) []Value {
	g := f
	if !n.yes.noScope {
		g = f.inner() // if (my $x = …)
	}
	test := n.test.scalar(g)
	switch {
	case Truth(test) != n.negate:
		return n.yes.scoped(g)
	case n.no != nil:
		return n.no.list(g)
	}
	return one(test)
}
func (n *cond) scalar(f *frame) Value { return last(n.list(f)) }

// returned carries the values of a return up to the call.
type returned struct{ values []Value }

type ret struct{ value node }

func (n *ret) list(f *frame) []Value {
	r := &returned{}
	switch {
	case n.value == nil:
	case f.list:
		r.values = n.value.list(f)
	default:
		r.values = one(n.value.scalar(f))
	}
	panic(r)
}
func (n *ret) scalar(f *frame) Value { return last(n.list(f)) }

// loopExit carries next and last up to the loop.
type loopExit struct {
	word string
	line int
}

type exitLoop struct {
	word string
	line int
}

func (n *exitLoop) list(*frame) []Value   { panic(loopExit(*n)) }
func (n *exitLoop) scalar(f *frame) Value { return last(n.list(f)) }

// turn runs the body of a loop once and says whether the loop goes on.
func turn(b *block, f *frame) (more bool) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case loopExit:
			more = p.word == "next"
		default:
			panic(p)
		}
	}()
	b.run(f)
	return true
}

type while struct {
	cond   node
	negate bool
	body   *block
	line   int
}

func (n *while) list(f *frame) []Value {
	g := f.inner()
	for Truth(n.cond.scalar(g)) != n.negate {
		f.in.step(n.line)
		if !turn(n.body, g.inner()) {
			break
		}
	}
	return nil
}
func (n *while) scalar(f *frame) Value { return last(n.list(f)) }

type foreach struct {
	name    string // "$_" or "$x"
	lexical bool
	over    node
	body    *block
	line    int
}

func (n *foreach) list(f *frame) []Value {
	if n.over == nil {
		return nil
	}
	items := n.over.list(f)
	aliased, _ := n.over.(*arrayVar)
	for i, v := range items {
		f.in.step(n.line)
		g := f.inner()
		c := &cell{v: v}
		if n.lexical || n.name != "$_" {
			g.vars[n.name] = c
		}
		more := true
		f.in.with("$_", c, n.name == "$_", func() { more = turn(n.body, g) })
		if aliased != nil {
			aliased.array(f).Elems[i] = c.v
		}
		if !more {
			break
		}
	}
	return nil
}
func (n *foreach) scalar(f *frame) Value { return last(n.list(f)) }

// with runs do while the global of that name is another cell.
func (in *Interp) with(name string, c *cell, really bool, do func()) {
	if really {
		saved := in.globals[name]
		in.globals[name] = c
		defer func() { in.globals[name] = saved }()
	}
	do()
}

// define is sub name { … }.
type define struct {
	name string
	body *block
}

func (n *define) scalar(f *frame) Value {
	f.in.subs[n.name] = &Code{name: n.name, body: n.body, env: f}
	return nil
}
func (n *define) list(f *frame) []Value { return one(n.scalar(f)) }

type useModule struct {
	module string
	args   node
	line   int
}

func (n *useModule) scalar(f *frame) Value {
	args := arguments(f, n.args)
	if n.module != "lib" && n.module != "Cwd" {
		f.in.strict = true
	}
	if f.in.opts.Use != nil {
		if err := f.in.opts.Use(n.module, args); err != nil {
			f.in.failHost(n.line, err)
		}
	}
	return nil
}
func (n *useModule) list(f *frame) []Value { return one(n.scalar(f)) }

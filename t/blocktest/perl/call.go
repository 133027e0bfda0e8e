package perl

// call runs a sub.
func (in *Interp) call(c *Code, args []Value, list bool, line int) (out []Value) {
	if in.depth++; in.depth > maxDepth {
		unsupported(line, "a recursion of more than %d calls", maxDepth)
	}
	in.step(line)
	depth := in.depth
	defer func() { in.depth = depth - 1 }()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *returned:
			out = p.values
		default:
			panic(p)
		}
	}()
	f := c.env.inner()
	f.list = list
	f.vars["@_"] = &Array{Elems: args}
	return c.body.run(f)
}

func arguments(f *frame, n node) []Value {
	if n == nil {
		return nil
	}
	return n.list(f)
}

// call is a call of a sub or of a host's function.
type call struct {
	name string
	args node // nil: none
	bare bool // without parentheses and arguments: it may be a bareword
	amp  bool
	line int
}

func (n *call) run(f *frame, list bool) []Value {
	if c, ok := f.in.subs[n.name]; ok {
		return f.in.call(c, arguments(f, n.args), list, n.line)
	}
	fn, ok := f.in.opts.Funcs[n.name]
	if !ok {
		if n.bare {
			f.in.die(n.line, "Bareword \""+n.name+"\" not allowed while \"strict subs\" in use")
		}
		unsupported(n.line, "the function %s", n.name)
	}
	out, err := fn(arguments(f, n.args))
	if err != nil {
		f.in.failHost(n.line, err)
	}
	return out
}
func (n *call) list(f *frame) []Value { return n.run(f, true) }
func (n *call) scalar(f *frame) Value { return last(n.run(f, false)) }

// callCode is $code->(…).
type callCode struct {
	code, args node
	line       int
}

func (n *callCode) run(f *frame, list bool) []Value {
	c, ok := n.code.scalar(f).(*Code)
	if !ok {
		f.in.die(n.line, "Not a CODE reference")
	}
	return f.in.call(c, arguments(f, n.args), list, n.line)
}
func (n *callCode) list(f *frame) []Value { return n.run(f, true) }
func (n *callCode) scalar(f *frame) Value { return last(n.run(f, false)) }

// method is $object->name(…).
type method struct {
	on   node
	name string
	args node
	line int
}

func (n *method) list(f *frame) []Value {
	on := n.on.scalar(f)
	o, ok := on.(Object)
	if !ok {
		if s, is := on.(string); is {
			unsupported(n.line, "%s->%s", s, n.name)
		}
		f.in.die(n.line, "Can't call method \""+n.name+"\" on an undefined value or an unblessed reference")
	}
	out, err := o.Call(n.name, arguments(f, n.args))
	if err != nil {
		f.in.failHost(n.line, err)
	}
	return out
}

// scalar is the first value: the accessors of a block are the methods that suites call.
func (n *method) scalar(f *frame) Value { return first(n.list(f)) }

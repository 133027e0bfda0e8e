package perl

import (
	"maps"
	"strings"
)

// A node is a part of a program. Every node may fail with a panic of *failure.
type node interface {
	scalar(f *frame) Value
	list(f *frame) []Value
}

// A place is a node that a scalar may be assigned to.
type place interface {
	node
	set(f *frame, v Value)
}

// A frame holds the lexical variables of a block and knows those around it.
type frame struct {
	in     *Interp
	parent *frame
	vars   map[string]any
	list   bool // the sub was called in list context
}

func (f *frame) inner() *frame {
	return &frame{in: f.in, parent: f, vars: map[string]any{}, list: f.list}
}

// find looks a variable up by its name with its sigil.
func (f *frame) find(name string) any {
	if global, ok := strings.CutPrefix(name[1:], "::"); ok {
		return f.in.global(name[:1] + global)
	}
	for at := f; at != nil; at = at.parent {
		if v, ok := at.vars[name]; ok {
			return v
		}
	}
	if v, ok := f.in.globals[name]; ok && (special(name) || strings.Contains(name, "::")) {
		return v
	}
	if !f.in.strict || strings.Contains(name, "::") || isDigit(name[1]) || name == "$&" {
		return f.in.global(name)
	}
	return nil
}

// special are the names that strict lets pass.
func special(name string) bool {
	return !isNameStart(name[1]) || name == "$_" || name == "%ENV"
}

func (in *Interp) global(name string) any {
	v, ok := in.globals[name]
	if !ok {
		v = newVariable(name)
		in.globals[name] = v
	}
	return v
}

func newVariable(name string) any {
	switch name[0] {
	case '@':
		return &Array{}
	case '%':
		return NewHash()
	}
	return &cell{}
}

// need is find for a variable that has to be there, as strict wants it.
func (f *frame) need(name string, line int) any {
	v := f.find(name)
	if v == nil {
		f.in.die(line, "Global symbol \""+name+"\" requires explicit package name (did you forget to declare \"my "+name+"\"?)")
	}
	return v
}

// one makes the scalar of a node whose list is what it is.
func one(v Value) []Value { return []Value{v} }

type constant struct{ v Value }

func (n constant) scalar(*frame) Value { return n.v }
func (n constant) list(*frame) []Value { return one(n.v) }

// concat joins the parts of an interpolated text.
type concat struct{ parts []node }

func (n *concat) scalar(f *frame) Value {
	if len(n.parts) == 1 {
		if re, ok := n.parts[0].scalar(f).(*Regexp); ok {
			return re.String()
		}
	}
	var b strings.Builder
	for _, p := range n.parts {
		b.WriteString(Text(p.scalar(f)))
	}
	return b.String()
}
func (n *concat) list(f *frame) []Value { return one(n.scalar(f)) }

// joined is an array inside a text.
type joined struct{ array node }

func (n *joined) scalar(f *frame) Value {
	var texts []string
	for _, v := range n.array.list(f) {
		texts = append(texts, Text(v))
	}
	return strings.Join(texts, " ")
}
func (n *joined) list(f *frame) []Value { return one(n.scalar(f)) }

// cased is a part of a text behind \Q, \U and the like.
type cased struct {
	letter byte
	text   node
}

func (n *cased) scalar(f *frame) Value { return applyCase(n.letter, Text(n.text.scalar(f))) }
func (n *cased) list(f *frame) []Value { return one(n.scalar(f)) }

type scalarVar struct {
	name string
	line int
}

func (n *scalarVar) cell(f *frame) *cell { return f.need("$"+n.name, n.line).(*cell) }
func (n *scalarVar) scalar(f *frame) Value {
	return n.cell(f).v
}
func (n *scalarVar) list(f *frame) []Value { return one(n.scalar(f)) }
func (n *scalarVar) set(f *frame, v Value) { n.cell(f).v = v }

type arrayVar struct {
	name string
	line int
}

func (n *arrayVar) array(f *frame) *Array { return f.need("@"+n.name, n.line).(*Array) }
func (n *arrayVar) scalar(f *frame) Value { return float64(len(n.array(f).Elems)) }
func (n *arrayVar) list(f *frame) []Value { return append([]Value(nil), n.array(f).Elems...) }

type hashVar struct {
	name string
	line int
}

func (n *hashVar) hash(f *frame) *Hash   { return f.need("%"+n.name, n.line).(*Hash) }
func (n *hashVar) scalar(f *frame) Value { return float64(len(n.hash(f).m)) }
func (n *hashVar) list(f *frame) []Value { return pairs(n.hash(f)) }

func pairs(h *Hash) []Value {
	var out []Value
	for _, k := range h.Keys() {
		out = append(out, k, h.m[k])
	}
	return out
}

// arrayRef and hashRef are \@x and \%x, and the bases of $x[0] and $x{k}.
type arrayRef struct{ of node }

func (n *arrayRef) scalar(f *frame) Value { return arrayOf(f, n.of) }
func (n *arrayRef) list(f *frame) []Value { return one(n.scalar(f)) }

type hashRef struct{ of node }

func (n *hashRef) scalar(f *frame) Value { return hashOf(f, n.of) }
func (n *hashRef) list(f *frame) []Value { return one(n.scalar(f)) }

type codeRef struct {
	name string
	line int
}

func (n *codeRef) scalar(f *frame) Value {
	c, ok := f.in.subs[n.name]
	if !ok {
		unsupported(n.line, `\&%s`, n.name)
	}
	return c
}
func (n *codeRef) list(f *frame) []Value { return one(n.scalar(f)) }

// arrayOf returns the array that a node of an array stands for.
func arrayOf(f *frame, n node) *Array {
	switch n := n.(type) {
	case *arrayVar:
		return n.array(f)
	case *derefArray:
		return n.array(f)
	case *declare:
		n.declare(f)
		if len(n.names) == 1 && n.names[0] != "" {
			if a, ok := f.find(n.names[0]).(*Array); ok {
				return a
			}
		}
	}
	unsupported(0, "an array that is no variable")
	return nil
}

func hashOf(f *frame, n node) *Hash {
	switch n := n.(type) {
	case *hashVar:
		return n.hash(f)
	case *derefHash:
		return n.hash(f)
	}
	unsupported(0, "a hash that is no variable")
	return nil
}

// derefArray is @$x and @{ … }.
type derefArray struct {
	ref  node
	line int
}

func (n *derefArray) array(f *frame) *Array {
	a, ok := vivify(f, n.ref, func() Value { return &Array{} }).(*Array)
	if !ok {
		f.in.die(n.line, "Not an ARRAY reference")
	}
	return a
}
func (n *derefArray) scalar(f *frame) Value { return float64(len(n.array(f).Elems)) }
func (n *derefArray) list(f *frame) []Value { return append([]Value(nil), n.array(f).Elems...) }

// derefHash is %$x and %{ … }.
type derefHash struct {
	ref  node
	line int
}

func (n *derefHash) hash(f *frame) *Hash {
	h, ok := vivify(f, n.ref, func() Value { return NewHash() }).(*Hash)
	if !ok {
		f.in.die(n.line, "Not a HASH reference")
	}
	return h
}
func (n *derefHash) scalar(f *frame) Value { return float64(len(n.hash(f).m)) }
func (n *derefHash) list(f *frame) []Value { return pairs(n.hash(f)) }

// vivify evaluates a reference and lets what is undefined spring into being.
func vivify(f *frame, ref node, fresh func() Value) Value {
	v := ref.scalar(f)
	if v != nil {
		return v
	}
	v = fresh()
	if p, ok := ref.(place); ok {
		p.set(f, v)
	}
	return v
}

type element struct {
	base, index node
	line        int
}

func (n *element) array(f *frame) *Array {
	return (&derefArray{n.base, n.line}).array(f)
}

func (n *element) at(f *frame, a *Array) int {
	i := int(Number(n.index.scalar(f)))
	if i < 0 {
		i += len(a.Elems)
	}
	return i
}

func (n *element) scalar(f *frame) Value {
	if o, ok := n.base.scalar(f).(Object); ok && o != nil {
		unsupported(n.line, "an element of an object")
	}
	a := n.array(f)
	if i := n.at(f, a); i >= 0 && i < len(a.Elems) {
		return a.Elems[i]
	}
	return nil
}
func (n *element) list(f *frame) []Value { return one(n.scalar(f)) }
func (n *element) set(f *frame, v Value) {
	a := n.array(f)
	i := n.at(f, a)
	if i < 0 || i > 1<<20 {
		unsupported(n.line, "the index %d", i)
	}
	for len(a.Elems) <= i {
		a.Elems = append(a.Elems, nil)
	}
	a.Elems[i] = v
}

type member struct {
	base, key node
	line      int
}

func (n *member) hash(f *frame) *Hash {
	if _, ok := n.base.scalar(f).(Object); ok {
		unsupported(n.line, "a member of an object")
	}
	return (&derefHash{n.base, n.line}).hash(f)
}
func (n *member) scalar(f *frame) Value { return n.hash(f).m[Text(n.key.scalar(f))] }
func (n *member) list(f *frame) []Value { return one(n.scalar(f)) }
func (n *member) set(f *frame, v Value) { n.hash(f).m[Text(n.key.scalar(f))] = v }

type lastIndex struct{ array node }

func (n *lastIndex) scalar(f *frame) Value { return float64(len(arrayOf(f, n.array).Elems) - 1) }
func (n *lastIndex) list(f *frame) []Value { return one(n.scalar(f)) }

// slice is (…)[…].
type slice struct{ of, index node }

func (n *slice) list(f *frame) []Value {
	all := n.of.list(f)
	var out []Value
	for _, v := range n.index.list(f) {
		i := int(Number(v))
		if i < 0 {
			i += len(all)
		}
		if i >= 0 && i < len(all) {
			out = append(out, all[i])
		} else {
			out = append(out, nil)
		}
	}
	return out
}
func (n *slice) scalar(f *frame) Value { return last(n.list(f)) }

// A list is items between commas.
type list struct {
	items  []node
	parens bool
}

func (n *list) list(f *frame) []Value {
	var out []Value
	for _, i := range n.items {
		out = append(out, i.list(f)...)
	}
	return out
}

func (n *list) scalar(f *frame) Value {
	var v Value
	for _, i := range n.items {
		v = i.scalar(f)
	}
	return v
}

type anonArray struct{ items node }

func (n *anonArray) scalar(f *frame) Value { return &Array{Elems: n.items.list(f)} }
func (n *anonArray) list(f *frame) []Value { return one(n.scalar(f)) }

type anonHash struct {
	items node
	line  int
}

func (n *anonHash) scalar(f *frame) Value {
	h := NewHash()
	fill(h, n.items.list(f))
	return h
}
func (n *anonHash) list(f *frame) []Value { return one(n.scalar(f)) }

func fill(h *Hash, items []Value) {
	for i := 0; i < len(items); i += 2 {
		var v Value
		if i+1 < len(items) {
			v = items[i+1]
		}
		h.m[Text(items[i])] = v
	}
}

type anonSub struct{ body *block }

func (n *anonSub) scalar(f *frame) Value { return &Code{name: "__ANON__", body: n.body, env: f} }
func (n *anonSub) list(f *frame) []Value { return one(n.scalar(f)) }

// declare is my, our, local and state.
type declare struct {
	word   string
	names  []string // with their sigils; "" for undef
	parens bool
	line   int
}

func (n *declare) declare(f *frame) {
	for _, name := range n.names {
		switch {
		case name == "":
		case n.word == "my":
			f.vars[name] = newVariable(name)
		case n.word == "our":
			f.vars[name] = f.in.global(name)
		case n.word == "local" && (name == "$/" || name == "$_" || name == "$|" || name == "$,"):
			// The value comes back when the block ends, see block.run.
			f.in.localize(f, name)
		default:
			unsupported(n.line, "%s %s", n.word, name)
		}
	}
}

func (n *declare) scalar(f *frame) Value {
	n.declare(f)
	if len(n.names) == 0 || n.names[0] == "" {
		return nil
	}
	if c, ok := f.find(n.names[0]).(*cell); ok {
		return c.v
	}
	return nil
}

func (n *declare) list(f *frame) []Value {
	n.declare(f)
	return nil
}

func (n *declare) set(f *frame, v Value) {
	n.declare(f)
	if len(n.names) != 1 || n.names[0] == "" || n.names[0][0] != '$' {
		unsupported(n.line, "an assignment to such a declaration")
	}
	f.find(n.names[0]).(*cell).v = v
}

// localize gives a special variable a fresh value for the rest of the block.
func (in *Interp) localize(f *frame, name string) {
	saved, _ := f.vars["local"].(map[string]any)
	if saved == nil {
		saved = map[string]any{}
		f.vars["local"] = saved
	}
	if _, done := saved[name]; !done {
		saved[name] = in.globals[name]
	}
	in.globals[name] = &cell{}
}

func (in *Interp) restore(f *frame) {
	if saved, ok := f.vars["local"].(map[string]any); ok {
		maps.Copy(in.globals, saved)
	}
}

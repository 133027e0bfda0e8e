package perl

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// A builtin is a function of the language. arity 0 takes no argument, 1 is a named unary
// operator, -1 takes a list.
type builtin struct {
	arity int
	run   func(f *frame, c *builtinCall) Value
	// many, when set, is what it is in list context.
	many func(f *frame, c *builtinCall) []Value
}

type builtinCall struct {
	name string
	fn   *builtin
	args node // nil: none
	line int
}

func (n *builtinCall) scalar(f *frame) Value { return n.fn.run(f, n) }
func (n *builtinCall) list(f *frame) []Value {
	if n.fn.many != nil {
		return n.fn.many(f, n)
	}
	return one(n.fn.run(f, n))
}

// items are the arguments as nodes.
func (n *builtinCall) items() []node {
	switch l := n.args.(type) {
	case nil:
		return nil
	case *list:
		return l.items
	}
	return []node{n.args}
}

// arg is one argument in scalar context; without any the first is $_.
func (n *builtinCall) arg(f *frame, i int) Value {
	items := n.items()
	if i < len(items) {
		return items[i].scalar(f)
	}
	if i == 0 {
		return f.in.globals["$_"].(*cell).v
	}
	return nil
}

// values are the arguments from the i-th on, in list context.
func (n *builtinCall) values(f *frame, i int) []Value {
	var out []Value
	items := n.items()
	for ; i < len(items); i++ {
		out = append(out, items[i].list(f)...)
	}
	return out
}

// target is the i-th argument as a variable; without any the first is $_.
func (n *builtinCall) target(i int) place {
	items := n.items()
	if len(items) == 0 && i == 0 {
		return &scalarVar{name: "_", line: n.line}
	}
	if i < len(items) {
		if p, ok := items[i].(place); ok {
			return p
		}
	}
	unsupported(n.line, "%s on what is no variable", n.name)
	return nil
}

// array is the first argument as an array; without any it is @_.
func (n *builtinCall) array(f *frame) *Array {
	items := n.items()
	if len(items) == 0 {
		if a, ok := f.find("@_").(*Array); ok {
			return a
		}
		unsupported(n.line, "%s outside a sub", n.name)
	}
	return arrayOf(f, items[0])
}

// text is a builtin of one text.
func text(do func(string) Value) *builtin {
	return &builtin{arity: 1, run: func(f *frame, c *builtinCall) Value { return do(Text(c.arg(f, 0))) }}
}

// builtins are the functions of the language. What a program prints goes nowhere; print to
// a file is no syntax that the parser knows.
var builtins map[string]*builtin

func init() { // the functions refer to nodes, which refer to the table
	builtins = map[string]*builtin{
		"uc":        text(func(s string) Value { return strings.ToUpper(s) }),
		"lc":        text(func(s string) Value { return strings.ToLower(s) }),
		"ucfirst":   text(func(s string) Value { return applyCase('u', s) }),
		"lcfirst":   text(func(s string) Value { return applyCase('l', s) }),
		"quotemeta": text(func(s string) Value { return QuoteMeta(s) }),
		"chr":       {arity: 1, run: func(f *frame, c *builtinCall) Value { return character(int(Number(c.arg(f, 0)))) }},
		"ord": text(func(s string) Value {
			if s == "" {
				return float64(0)
			}
			return float64(s[0])
		}),
		"hex": text(func(s string) Value {
			n, ok := parseHex(strings.TrimPrefix(s, "0x"))
			if !ok {
				return float64(0)
			}
			return float64(n)
		}),
		"int":     {arity: 1, run: func(f *frame, c *builtinCall) Value { return float64(int64(Number(c.arg(f, 0)))) }},
		"abs":     {arity: 1, run: func(f *frame, c *builtinCall) Value { return max(Number(c.arg(f, 0)), -Number(c.arg(f, 0))) }},
		"ref":     {arity: 1, run: func(f *frame, c *builtinCall) Value { return kind(c.arg(f, 0)) }},
		"scalar":  {arity: 1, run: func(f *frame, c *builtinCall) Value { return c.arg(f, 0) }},
		"length":  {arity: 1, run: length},
		"defined": {arity: 1, run: defined},
		"undef":   {arity: 1, run: undef},
		"exists":  {arity: 1, run: exists},
		"delete":  {arity: 1, run: remove},
		"chomp":   {arity: -1, run: chomp},
		"chop":    {arity: -1, run: chop},
		"die":     {arity: -1, run: dying},
		"warn":    {arity: -1, run: func(f *frame, c *builtinCall) Value { c.values(f, 0); return float64(1) }},
		"print":   {arity: -1, run: func(f *frame, c *builtinCall) Value { c.values(f, 0); return float64(1) }},
		"join":    {arity: -1, run: join},
		"sprintf": {arity: -1, run: format},
		"substr":  {arity: -1, run: substr},
		"index":   {arity: -1, run: index},
		"rindex":  {arity: -1, run: rindex},
		"push":    {arity: -1, run: push},
		"unshift": {arity: -1, run: unshift},
		"pop":     {arity: 1, run: pop},
		"shift":   {arity: 1, run: shift},
		"open":    {arity: -1, run: open},
		"close":   {arity: 1, run: func(f *frame, c *builtinCall) Value { c.arg(f, 0); return float64(1) }},
		"keys":    {arity: 1, run: counted(keys), many: keys},
		"values":  {arity: 1, run: counted(hashValues), many: hashValues},
		"reverse": {arity: -1, run: reverseText, many: reverse},
		"split":   {arity: -1, run: counted(split), many: split},
	}
}

// counted is a list function in scalar context.
func counted(many func(*frame, *builtinCall) []Value) func(*frame, *builtinCall) Value {
	return func(f *frame, c *builtinCall) Value { return float64(len(many(f, c))) }
}

func length(f *frame, c *builtinCall) Value {
	v := c.arg(f, 0)
	if v == nil {
		return nil
	}
	return float64(len(Text(v)))
}

func defined(f *frame, c *builtinCall) Value {
	if items := c.items(); len(items) == 1 {
		switch n := items[0].(type) {
		case *call:
			if n.amp {
				_, ok := f.in.subs[n.name]
				return boolean(ok)
			}
		case *arrayVar, *hashVar:
			f.in.die(c.line, "Can't use 'defined(@array)' (Maybe you should just omit the defined()?)")
		}
	}
	return boolean(c.arg(f, 0) != nil)
}

func undef(f *frame, c *builtinCall) Value {
	for _, n := range c.items() {
		switch n := n.(type) {
		case *arrayVar, *derefArray:
			arrayOf(f, n).Elems = nil
		case *hashVar, *derefHash:
			clear(hashOf(f, n).m)
		default:
			c.target(0).set(f, nil)
		}
	}
	return nil
}

func exists(f *frame, c *builtinCall) Value {
	switch n := c.items(); {
	case len(n) != 1:
	default:
		if m, ok := n[0].(*member); ok {
			_, found := m.hash(f).Get(Text(m.key.scalar(f)))
			return boolean(found)
		}
	}
	unsupported(c.line, "exists on what is no member of a hash")
	return nil
}

func remove(f *frame, c *builtinCall) Value {
	if n := c.items(); len(n) == 1 {
		if m, ok := n[0].(*member); ok {
			h, key := m.hash(f), Text(m.key.scalar(f))
			v := h.m[key]
			delete(h.m, key)
			return v
		}
	}
	unsupported(c.line, "delete on what is no member of a hash")
	return nil
}

func chomp(f *frame, c *builtinCall) Value {
	t := c.target(0)
	v := t.scalar(f)
	if s := Text(v); v != nil && strings.HasSuffix(s, "\n") {
		t.set(f, strings.TrimSuffix(s, "\n"))
		return float64(1)
	}
	return float64(0)
}

func chop(f *frame, c *builtinCall) Value {
	t := c.target(0)
	s := Text(t.scalar(f))
	if s == "" {
		return ""
	}
	t.set(f, s[:len(s)-1])
	return s[len(s)-1:]
}

func dying(f *frame, c *builtinCall) Value {
	var b strings.Builder
	for _, v := range c.values(f, 0) {
		b.WriteString(Text(v))
	}
	if b.Len() == 0 {
		b.WriteString("Died")
	}
	f.in.die(c.line, b.String())
	return nil
}

func join(f *frame, c *builtinCall) Value {
	all := c.values(f, 0)
	if len(all) == 0 {
		unsupported(c.line, "join without a separator")
	}
	texts := make([]string, 0, len(all))
	for _, v := range all[1:] {
		texts = append(texts, Text(v))
	}
	s := strings.Join(texts, Text(all[0]))
	if len(s) > maxString {
		unsupported(c.line, "a text of %d bytes", len(s))
	}
	return s
}

// format is sprintf.
func format(f *frame, c *builtinCall) Value {
	all := c.values(f, 0)
	if len(all) == 0 {
		return ""
	}
	spec, args := Text(all[0]), all[1:]
	var out strings.Builder
	for i := 0; i < len(spec); i++ {
		if spec[i] != '%' {
			out.WriteByte(spec[i])
			continue
		}
		end := i + 1
		for end < len(spec) && strings.IndexByte("-+ 0#.123456789", spec[end]) >= 0 {
			end++
		}
		if end >= len(spec) || end-i > 8 {
			unsupported(c.line, "sprintf %q", spec)
		}
		verb := spec[end]
		if verb == '%' {
			out.WriteByte('%')
			i = end
			continue
		}
		out.WriteString(c.verb(spec[i:end], verb, first(args)))
		args = args[min(1, len(args)):]
		i = end
	}
	return out.String()
}

func (n *builtinCall) verb(flags string, verb byte, v Value) string {
	switch verb {
	case 's':
		return fmt.Sprintf(flags+"s", Text(v))
	case 'd', 'i', 'u':
		return fmt.Sprintf(flags+"d", int64(Number(v)))
	case 'x', 'X', 'o', 'b':
		return fmt.Sprintf(flags+string(verb), int64(Number(v)))
	case 'f', 'e', 'g':
		return fmt.Sprintf(flags+string(verb), Number(v))
	case 'c':
		return character(int(Number(v)))
	}
	unsupported(n.line, "sprintf %s%c", flags, verb)
	return ""
}

func substr(f *frame, c *builtinCall) Value {
	items := c.items()
	if len(items) != 2 && len(items) != 3 {
		unsupported(c.line, "substr with %d arguments", len(items))
	}
	s, from := Text(c.arg(f, 0)), int(Number(c.arg(f, 1)))
	if from < 0 {
		from += len(s)
	}
	if from < 0 || from > len(s) {
		return nil
	}
	end := len(s)
	if len(items) == 3 {
		if n := int(Number(c.arg(f, 2))); n < 0 {
			end = max(len(s)+n, from)
		} else if n < len(s)-from {
			end = from + n
		}
	}
	return s[from:end]
}

func index(f *frame, c *builtinCall) Value {
	s, from := Text(c.arg(f, 0)), min(max(int(Number(c.arg(f, 2))), 0), len(Text(c.arg(f, 0))))
	i := strings.Index(s[from:], Text(c.arg(f, 1)))
	if i < 0 {
		return float64(-1)
	}
	return float64(i + from)
}

func rindex(f *frame, c *builtinCall) Value {
	if len(c.items()) != 2 {
		unsupported(c.line, "rindex with %d arguments", len(c.items()))
	}
	return float64(strings.LastIndex(Text(c.arg(f, 0)), Text(c.arg(f, 1))))
}

func push(f *frame, c *builtinCall) Value {
	a := c.array(f)
	if a.Elems = append(a.Elems, c.values(f, 1)...); len(a.Elems) > 1<<20 {
		unsupported(c.line, "an array of %d items", len(a.Elems))
	}
	return float64(len(a.Elems))
}

func unshift(f *frame, c *builtinCall) Value {
	a := c.array(f)
	a.Elems = append(c.values(f, 1), a.Elems...)
	return float64(len(a.Elems))
}

func pop(f *frame, c *builtinCall) Value {
	a := c.array(f)
	if len(a.Elems) == 0 {
		return nil
	}
	v := a.Elems[len(a.Elems)-1]
	a.Elems = a.Elems[:len(a.Elems)-1]
	return v
}

func shift(f *frame, c *builtinCall) Value {
	a := c.array(f)
	if len(a.Elems) == 0 {
		return nil
	}
	v := a.Elems[0]
	a.Elems = a.Elems[1:]
	return v
}

// open reads a file into a handle; it is for reading only.
func open(f *frame, c *builtinCall) Value {
	items := c.items()
	if len(items) < 2 {
		unsupported(c.line, "open with %d arguments", len(items))
	}
	to := c.target(0)
	mode, path := "<", strings.TrimSpace(Text(c.arg(f, len(items)-1)))
	if len(items) == 3 {
		mode = strings.TrimSpace(Text(c.arg(f, 1)))
	} else if rest, ok := strings.CutPrefix(path, "<"); ok {
		path = strings.TrimSpace(rest)
	}
	if len(items) > 3 || mode != "<" && !strings.HasPrefix(mode, "<:") || strings.ContainsAny(path, ">|&") {
		unsupported(c.line, "open for anything but reading a file")
	}
	data, err := os.ReadFile(f.in.path(path, c.line))
	if err != nil {
		f.in.globals["$!"].(*cell).v = "No such file or directory"
		return boolean(false)
	}
	to.set(f, &handle{data: data})
	return float64(1)
}

func (n *builtinCall) hash(f *frame) *Hash {
	if items := n.items(); len(items) == 1 {
		return hashOf(f, items[0])
	}
	unsupported(n.line, "%s without a hash", n.name)
	return nil
}

func keys(f *frame, c *builtinCall) []Value {
	var out []Value
	for _, k := range c.hash(f).Keys() {
		out = append(out, k)
	}
	return out
}

func hashValues(f *frame, c *builtinCall) []Value {
	h := c.hash(f)
	var out []Value
	for _, k := range h.Keys() {
		out = append(out, h.m[k])
	}
	return out
}

func reverse(f *frame, c *builtinCall) []Value {
	all := c.values(f, 0)
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

func reverseText(f *frame, c *builtinCall) Value {
	var b strings.Builder
	for _, v := range c.values(f, 0) {
		b.WriteString(Text(v))
	}
	s := []byte(b.String())
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
	return string(s)
}

func split(f *frame, c *builtinCall) []Value {
	items := c.items()
	if len(items) == 0 {
		unsupported(c.line, "split without a pattern")
	}
	s := ""
	if len(items) > 1 {
		s = Text(items[1].scalar(f))
	} else {
		s = Text(f.in.globals["$_"].(*cell).v)
	}
	limit := 0
	if len(items) > 2 {
		limit = int(Number(items[2].scalar(f)))
	}
	var re *Regexp
	if m, ok := items[0].(*match); ok && m.target == nil {
		re = compileNode(f, m.pattern, m.flags, c.line)
	} else if v := items[0].scalar(f); Text(v) == " " {
		s = strings.TrimLeft(s, " \t\r\n\f")
		re = compileNode(f, constant{`\s+`}, "", c.line)
	} else {
		re = compileNode(f, constant{v}, "", c.line)
	}
	return f.split(re, s, limit, c.line)
}

func (f *frame) split(re *Regexp, s string, limit, line int) []Value {
	var out []Value
	done := 0
	for at := 0; at < len(s) && (limit <= 0 || len(out) < limit-1); {
		m := f.matchAt(re, s, at, line)
		if m == nil {
			break
		}
		f.in.step(line)
		from, to := m.Groups[0][0], m.Groups[0][1]
		if from == to { // an empty match splits characters, not before the first
			if from >= len(s) {
				break
			}
			if from == done {
				at = from + 1
				if from == 0 || from == done {
					m = f.matchAt(re, s, at, line)
					if m == nil || m.Groups[0][0] >= len(s) {
						break
					}
					from, to = m.Groups[0][0], m.Groups[0][1]
				}
			}
		}
		out = append(out, s[done:from])
		for _, g := range m.Groups[1:] {
			out = append(out, group(g, s))
		}
		done = to
		at = max(to, from)
	}
	if s != "" {
		out = append(out, s[done:])
	}
	if limit == 0 {
		for len(out) > 0 && Text(out[len(out)-1]) == "" {
			out = out[:len(out)-1]
		}
	}
	return out
}

// eachItem is map, grep and sort.
type eachItem struct {
	word string
	body *block // nil for a plain sort
	over node
	line int
}

func (n *eachItem) list(f *frame) []Value {
	items := n.over.list(f)
	if n.word == "sort" {
		n.sort(f, items)
		return items
	}
	var out []Value
	for _, v := range items {
		f.in.step(n.line)
		g := f.inner()
		g.list = n.word == "map"
		f.in.with("$_", &cell{v: v}, true, func() {
			got := n.body.run(g)
			if n.word == "map" {
				out = append(out, got...)
			} else if Truth(last(got)) {
				out = append(out, v)
			}
		})
	}
	return out
}
func (n *eachItem) scalar(f *frame) Value { return float64(len(n.list(f))) }

func (n *eachItem) sort(f *frame, items []Value) {
	sort.SliceStable(items, func(i, j int) bool {
		if n.body == nil {
			return Text(items[i]) < Text(items[j])
		}
		f.in.step(n.line)
		g := f.inner()
		g.list = false
		g.vars["$a"], g.vars["$b"] = &cell{v: items[i]}, &cell{v: items[j]}
		return Number(last(n.body.run(g))) < 0
	})
}

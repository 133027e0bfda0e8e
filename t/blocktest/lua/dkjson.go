package lua

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// toolkit is the reference's JSON module for tests. It sorts keys, writes an empty table
// as [] unless it was decoded from {}, and decodes null as nil.
const toolkit = "toolkit.json"

// dkjson makes a module like dkjson; sorted is whether it sorts keys unasked.
func (rt *Runtime) dkjson(sorted bool) *glua.LTable {
	L := rt.state
	null := L.NewTable()
	mt := L.NewTable()
	mt.RawSetString("__tojson", L.NewFunction(func(L *glua.LState) int { return ret(L, str("null")) }))
	null.Metatable = mt
	kinds := map[string]*glua.LTable{}
	for _, kind := range []string{"object", "array"} {
		kinds[kind] = L.NewTable()
		kinds[kind].RawSetString("__jsontype", str(kind))
	}
	m := module(L, funcs{
		"encode": func(L *glua.LState) int {
			w := dkWriter{L: L, sorted: sorted, seen: map[*glua.LTable]bool{}}
			if opts, ok := L.Get(2).(*glua.LTable); ok {
				w.indent = glua.LVAsBool(opts.RawGetString("indent"))
				w.sorted = glua.LVAsBool(opts.RawGetString("sortkey"))
				w.order, _ = opts.RawGetString("keyorder").(*glua.LTable)
			}
			if err := w.write(L.Get(1), 0); err != nil {
				L.RaiseError("%s", err.Error())
			}
			return ret(L, str(w.out.String()))
		},
		"decode": func(L *glua.LState) int {
			src := checkText(L, 1)
			null := L.Get(3)
			p := dkParser{rt: rt, src: src, null: null, kinds: kinds}
			v, err := p.parse(L.OptInt(2, 1) - 1)
			if err != nil {
				return ret(L, glua.LNil, num(p.pos+1), str(err.Error()))
			}
			return ret(L, v, num(p.pos+1))
		},
		"quotestring": func(L *glua.LState) int { return ret(L, str(dkQuote(checkText(L, 1)))) },
	})
	m.RawSetString("null", null)
	m.RawSetString("version", str("dkjson 2.5"))
	return m
}

type dkWriter struct {
	L      *glua.LState
	out    strings.Builder
	sorted bool
	indent bool
	order  *glua.LTable
	seen   map[*glua.LTable]bool
}

func (w *dkWriter) newline(level int) {
	if w.indent {
		w.out.WriteString("\n" + strings.Repeat("  ", level))
	}
}

func (w *dkWriter) write(v glua.LValue, level int) error {
	if f := w.L.GetMetaField(v, "__tojson"); f != glua.LNil {
		s, _ := text(callOne(w.L, f, v))
		w.out.WriteString(s)
		return nil
	}
	switch v := v.(type) {
	case *glua.LNilType:
		w.out.WriteString("null")
	case glua.LNumber:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			w.out.WriteString("null")
		} else {
			w.out.WriteString(formatNumber(v))
		}
	case glua.LBool:
		w.out.WriteString(v.String())
	case glua.LString:
		w.out.WriteString(dkQuote(string(v)))
	case *glua.LTable:
		if w.seen[v] {
			return errors.New("reference cycle")
		}
		w.seen[v] = true
		defer delete(w.seen, v)
		if n, ok := dkArray(v); ok && (n > 0 || w.L.GetMetaField(v, "__jsontype") != str("object")) {
			return w.array(v, n, level+1)
		}
		return w.object(v, level+1)
	default:
		if v == runtimeOf(w.L).null {
			return said("type 'userdata' is not supported by JSON.")
		}
		return said("type '%s' is not supported by JSON.", v.Type())
	}
	return nil
}

// dkArray tells whether a table is a list, and how long.
func dkArray(t *glua.LTable) (length int, ok bool) {
	most, items, given := 0, 0, 0
	ok = true
	each(t, func(k, v glua.LValue) {
		if n, isNum := v.(glua.LNumber); isNum && k == str("n") {
			given = int(n)
			most = max(most, given)
			return
		}
		n, isNum := k.(glua.LNumber)
		if !isNum || n < 1 || float64(n) != math.Floor(float64(n)) {
			ok = false
			return
		}
		most = max(most, int(n))
		items++
	})
	if most > 10 && most > given && most > items*2 {
		return 0, false
	}
	return most, ok
}

func (w *dkWriter) array(t *glua.LTable, n, level int) error {
	w.out.WriteByte('[')
	for i := 1; i <= n; i++ {
		if err := w.write(t.RawGetInt(i), level); err != nil {
			return err
		}
		if i < n {
			w.out.WriteByte(',')
		}
	}
	w.out.WriteByte(']')
	return nil
}

func (w *dkWriter) object(t *glua.LTable, level int) error {
	var first, rest []glua.LValue
	placed := map[glua.LValue]bool{}
	if w.order != nil {
		for i := 1; i <= w.order.Len(); i++ {
			k := w.order.RawGetInt(i)
			if glua.LVAsBool(t.RawGet(k)) {
				first = append(first, k)
				placed[k] = true
			}
		}
	}
	each(t, func(k, v glua.LValue) {
		switch {
		case placed[k]:
		case w.sorted && glua.LVAsBool(v):
			first = append(first, k)
		default:
			// What is false comes last: the original tells it from absent by its truth.
			rest = append(rest, k)
		}
	})
	if w.sorted {
		sort.SliceStable(first, func(i, j int) bool { return w.L.LessThan(first[i], first[j]) })
	}
	w.out.WriteByte('{')
	for i, k := range append(first, rest...) {
		key, ok := text(k)
		if !ok {
			return said("type '%s' is not supported as a key by JSON.", k.Type())
		}
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.newline(level)
		w.out.WriteString(dkQuote(key) + ":")
		if err := w.write(t.RawGet(k), level); err != nil {
			return err
		}
	}
	w.newline(level - 1)
	w.out.WriteByte('}')
	return nil
}

// dkQuote escapes controls, and of other runes those that JavaScript stumbles over.
func dkQuote(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < 0x80 {
			i++
			if e, ok := jsonEscapes[c]; ok {
				out.WriteString(e)
			} else if c < ' ' {
				fmt.Fprintf(&out, `\u%04x`, c)
			} else {
				out.WriteByte(c)
			}
			continue
		}
		r, n := decodeRune(s[i:])
		if dkEscaped(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteString(s[i : i+n])
		}
		i += n
	}
	out.WriteByte('"')
	return out.String()
}

func dkEscaped(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f, r == 0xad, r >= 0x600 && r <= 0x604, r == 0x70f, r == 0x17b4, r == 0x17b5,
		r >= 0x200c && r <= 0x200f, r >= 0x2028 && r <= 0x202f, r >= 0x2060 && r <= 0x206f, r == 0xfeff, r >= 0xfff0 && r <= 0xffff && r != 0xfffd:
		return true
	}
	return false
}

// dkParser reads the values with cjson's reader made laxer, but null is what the caller says and
// what it reads remembers whether it was an object or a list.
type dkParser struct {
	rt    *Runtime
	src   string
	pos   int
	null  glua.LValue
	kinds map[string]*glua.LTable
}

func (p *dkParser) parse(at int) (glua.LValue, error) {
	c := p.rt.newJSON(p.rt.safeJSON)
	c.decodeArrayMT = true
	in := &jsonParser{c: c, lax: true, src: p.src, pos: at}
	in.next()
	v, err := in.parse()
	p.pos = in.pos
	if err != nil {
		if in.kind == tEnd {
			p.pos = len(p.src)
			return nil, said("no valid JSON value (reached the end)")
		}
		line := 1 + strings.Count(p.src[:in.at], "\n")
		column := in.at - strings.LastIndexByte(p.src[:in.at], '\n')
		p.pos = in.at
		return nil, said("no valid JSON value at line %d, column %d", line, column)
	}
	return p.mark(v, c.arrayMT), nil
}

func (p *dkParser) mark(v glua.LValue, arrayMT *glua.LTable) glua.LValue {
	if v == p.rt.null {
		return p.null
	}
	t, ok := v.(*glua.LTable)
	if !ok {
		return v
	}
	kind := "object"
	if t.Metatable == arrayMT {
		kind = "array"
	}
	t.Metatable = p.kinds[kind]
	var keys []glua.LValue
	each(t, func(k, _ glua.LValue) { keys = append(keys, k) })
	for _, k := range keys {
		t.RawSet(k, p.mark(t.RawGet(k), arrayMT))
	}
	return v
}

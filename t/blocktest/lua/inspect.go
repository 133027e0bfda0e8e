package lua

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// inspect is a module that is called: inspect(value, options) shows a value as Lua.
func (rt *Runtime) inspect() *glua.LTable {
	show := func(at int) glua.LGFunction {
		return func(L *glua.LState) int {
			newline, indent := "\n", "  "
			newline = stringField(L.Get(at+1), "newline", newline)
			indent = stringField(L.Get(at+1), "indent", indent)
			s := inspector{L: L, newline: newline, indent: indent, seen: map[*glua.LTable]bool{}}
			s.show(L.Get(at), 0)
			return ret(L, str(s.out.String()))
		}
	}
	m := module(rt.state, funcs{"inspect": show(1)})
	mt := module(rt.state, funcs{"__call": show(2)})
	m.Metatable = mt
	return m
}

type inspector struct {
	L               *glua.LState
	out             strings.Builder
	newline, indent string
	seen            map[*glua.LTable]bool
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (s *inspector) show(v glua.LValue, depth int) {
	switch v := v.(type) {
	case glua.LString:
		s.out.WriteString(inspectString(string(v)))
	case *glua.LTable:
		s.table(v, depth)
	case glua.LNumber, glua.LBool, *glua.LNilType:
		s.out.WriteString(tostring(s.L, v))
	default:
		fmt.Fprintf(&s.out, "<%s>", v.Type())
	}
}

func inspectString(v string) string {
	quote := byte('"')
	if strings.Contains(v, `"`) && !strings.Contains(v, "'") {
		quote = '\''
	}
	var out strings.Builder
	out.WriteByte(quote)
	for _, c := range []byte(v) {
		switch {
		case c == quote || c == '\\':
			out.Write([]byte{'\\', c})
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c < ' ' || c == 127:
			fmt.Fprintf(&out, `\%d`, c)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte(quote)
	return out.String()
}

func (s *inspector) line(depth int) {
	s.out.WriteString(s.newline + strings.Repeat(s.indent, depth))
}

func (s *inspector) table(t *glua.LTable, depth int) {
	if s.seen[t] {
		s.out.WriteString("<table>")
		return
	}
	s.seen[t] = true
	defer delete(s.seen, t)
	length := t.Len()
	var keys []glua.LValue
	each(t, func(k, _ glua.LValue) {
		if n, ok := k.(glua.LNumber); !ok || n < 1 || n > glua.LNumber(length) || n != glua.LNumber(int(n)) {
			keys = append(keys, k)
		}
	})
	sort.SliceStable(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		if a.Type() != b.Type() {
			return a.Type() == glua.LTNumber
		}
		return s.L.LessThan(a, b)
	})
	s.out.WriteByte('{')
	for i := 1; i <= length; i++ {
		if i > 1 {
			s.out.WriteByte(',')
		}
		s.out.WriteByte(' ')
		s.show(t.RawGetInt(i), depth+1)
	}
	for i, k := range keys {
		if i > 0 || length > 0 {
			s.out.WriteByte(',')
		}
		s.line(depth + 1)
		if name, ok := k.(glua.LString); ok && identifier.MatchString(string(name)) {
			s.out.WriteString(string(name))
		} else {
			s.out.WriteByte('[')
			s.show(k, depth+1)
			s.out.WriteByte(']')
		}
		s.out.WriteString(" = ")
		s.show(t.RawGet(k), depth+1)
	}
	mt, hasMeta := s.L.GetMetatable(t).(*glua.LTable)
	if hasMeta {
		if length > 0 || len(keys) > 0 {
			s.out.WriteByte(',')
		}
		s.line(depth + 1)
		s.out.WriteString("<metatable> = ")
		s.show(mt, depth+1)
	}
	if len(keys) > 0 || hasMeta {
		s.line(depth)
	} else if length > 0 {
		s.out.WriteByte(' ')
	}
	s.out.WriteByte('}')
}

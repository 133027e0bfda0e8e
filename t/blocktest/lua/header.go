package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// headerValues are all values of a name, in order.
func headerValues(h []Field, name string) []string {
	var values []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

func headerValue(h []Field, name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// setHeader puts the values where the name first stood, or at the end; none removes it.
func setHeader(h *[]Field, name string, values []string) {
	out := make([]Field, 0, len(*h)+len(values))
	put := func() {
		for _, v := range values {
			out = append(out, Field{name, v})
		}
		values = nil
	}
	for _, f := range *h {
		if !strings.EqualFold(f.Name, name) {
			out = append(out, f)
			continue
		}
		put()
	}
	put()
	*h = out
}

// headerTexts reads a value for a header: a text or a list of texts.
func headerTexts(L *glua.LState, v glua.LValue) []string {
	switch v := v.(type) {
	case *glua.LNilType:
		return nil
	case *glua.LTable:
		var values []string
		for i := 1; i <= v.Len(); i++ {
			values = append(values, headerText(L, v.RawGetInt(i)))
		}
		return values
	}
	return []string{headerText(L, v)}
}

func headerText(L *glua.LState, v glua.LValue) string {
	if b, ok := v.(glua.LBool); ok {
		return b.String()
	}
	s, ok := text(v)
	if !ok {
		L.RaiseError("bad argument (string expected, got %s)", v.Type().String())
	}
	return escapeControls(s)
}

// escapeControls keeps a header in its line.
func escapeControls(s string) string {
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", "%0D", "\n", "%0A", "\x00", "%00").Replace(s)
}

func headerGet(L *glua.LState) int {
	x, _ := exchange(L)
	name := strings.ReplaceAll(checkText(L, 2), "_", "-")
	values := headerValues(x.OutHeader, name)
	if len(values) == 0 {
		values = headerValues(x.OutHeader, checkText(L, 2))
	}
	return ret(L, tableOf(L, values))
}

func tableOf(L *glua.LState, values []string) glua.LValue {
	switch len(values) {
	case 0:
		return glua.LNil
	case 1:
		return str(values[0])
	}
	t := L.NewTable()
	for _, v := range values {
		t.Append(str(v))
	}
	return t
}

func headerSet(L *glua.LState) int {
	x, _ := exchange(L)
	name := strings.ReplaceAll(checkText(L, 2), "_", "-")
	if x.Sent {
		logAt(L, "error", "attempt to set ngx.header."+checkText(L, 2)+" after sending out response headers")
		return 0
	}
	setHeader(&x.OutHeader, name, headerTexts(L, L.Get(3)))
	return 0
}

var responseFuncs = funcs{
	"get_headers": func(L *glua.LState) int {
		x, _ := exchange(L)
		return ret(L, headerTable(L, x.OutHeader, L.Get(1), glua.LVAsBool(L.Get(2))))
	},
	"add_header": func(L *glua.LState) int {
		x, _ := exchange(L)
		name := checkText(L, 1)
		for _, v := range headerTexts(L, L.Get(2)) {
			x.OutHeader = append(x.OutHeader, Field{name, v})
		}
		return 0
	},
}

// headerTable is what get_headers returns: lower-case names unless raw, whose other
// spellings are found too.
func headerTable(L *glua.LState, h []Field, limit glua.LValue, raw bool) *glua.LTable {
	most := 100
	if n, ok := limit.(glua.LNumber); ok {
		most = int(n)
	}
	t := L.NewTable()
	for i, f := range h {
		if most > 0 && i >= most {
			break
		}
		name := f.Name
		if !raw {
			name = strings.ToLower(name)
		}
		addValue(L, t, name, str(f.Value))
	}
	if !raw {
		mt := L.NewTable()
		mt.RawSetString("__index", L.NewFunction(func(L *glua.LState) int {
			name, ok := text(L.Get(2))
			if !ok {
				return ret(L, glua.LNil)
			}
			return ret(L, L.CheckTable(1).RawGetString(strings.ReplaceAll(strings.ToLower(name), "_", "-")))
		}))
		t.Metatable = mt
	}
	return t
}

// addValue sets a field, or makes it a list when it is there already.
func addValue(L *glua.LState, t *glua.LTable, name string, v glua.LValue) {
	switch old := t.RawGetString(name).(type) {
	case *glua.LNilType:
		t.RawSetString(name, v)
	case *glua.LTable:
		old.Append(v)
	default:
		t.RawSetString(name, list(L, old, v))
	}
}

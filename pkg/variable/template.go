package variable

import (
	"github.com/gosix/gosix/pkg/exchange"
)

// Template is a text with variables in it: "$request_uri-${arg_x}". It is immutable.
type Template struct{ parts []part }

type part struct {
	text string
	get  Getter // nil: text
}

// CompileTemplate compiles a text. A name that is no variable has no value; a "$" without
// a name stands for itself.
func CompileTemplate(text string) *Template {
	t := &Template{}
	begin := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '$' {
			continue
		}
		name, end := nameAt(text, i+1)
		if name == "" {
			continue
		}
		if begin < i {
			t.parts = append(t.parts, part{text: text[begin:i]})
		}
		get, known := Compile(name)
		if !known {
			get = func(*exchange.Exchange) Value { return Value{} }
		}
		t.parts = append(t.parts, part{get: get})
		begin, i = end, end-1
	}
	if begin < len(text) {
		t.parts = append(t.parts, part{text: text[begin:]})
	}
	return t
}

// nameAt returns the variable's name that begins at i, braces allowed, and where it ends.
func nameAt(text string, i int) (name string, end int) {
	braced := i < len(text) && text[i] == '{'
	if braced {
		i++
	}
	for end = i; end < len(text) && nameByte(text[end]); end++ {
	}
	name = text[i:end]
	if !braced {
		return name, end
	}
	if end >= len(text) || text[end] != '}' {
		return "", end
	}
	return name, end + 1
}

func nameByte(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// Each calls text for the fixed parts and value for the variables, in order.
func (t *Template) Each(x *exchange.Exchange, text func(string), value func(Value)) {
	for i := range t.parts {
		if p := &t.parts[i]; p.get == nil {
			text(p.text)
		} else {
			value(p.get(x))
		}
	}
}

// Resolve returns the text with every variable filled in, absent ones as nothing, and
// how many had a value.
func (t *Template) Resolve(x *exchange.Exchange) (text string, resolved int) {
	b := make([]byte, 0, 64)
	for i := range t.parts {
		p := &t.parts[i]
		if p.get == nil {
			b = append(b, p.text...)
			continue
		}
		if v := p.get(x); !v.IsNil() {
			resolved++
			b = append(b, v.String()...)
		}
	}
	return string(b), resolved
}

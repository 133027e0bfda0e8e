package variable

import "github.com/gosix/gosix/pkg/exchange"

// Template is a text with variables in it: "$request_uri-${arg_x}". It is immutable and
// safe for concurrent use.
type Template struct {
	parts   []part
	missing string
}

type part struct {
	text string
	get  Getter // nil: text
}

// CompileTemplate compiles a text; there is none that it refuses. A name that is no
// variable has no value; a "$" without a name stands for itself. Without braces a name
// ends before the first byte that is not a letter, digit or underscore; in braces it may
// also hold what paths of post_arg. are written with.
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
			get = nothing
		}
		t.parts = append(t.parts, part{get: get})
		begin, i = end, end-1
	}
	if begin < len(text) {
		t.parts = append(t.parts, part{text: text[begin:]})
	}
	return t
}

// WithMissing returns a template that writes text for variables without a value, such
// as "-" in logs.
func (t *Template) WithMissing(text string) *Template {
	return &Template{parts: t.parts, missing: text}
}

func nothing(*exchange.Exchange) Value { return Value{} }

// nameAt returns the variable's name that begins at i, braces allowed, and where it ends.
func nameAt(text string, i int) (name string, end int) {
	braced := i < len(text) && text[i] == '{'
	if braced {
		i++
	}
	for end = i; end < len(text) && (nameByte(text[end]) || braced && pathByte(text[end])); end++ {
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

func pathByte(b byte) bool {
	return b == '.' || b == '-' || b == '[' || b == ']' || b == '*'
}

// Append appends the text with every variable filled in.
func (t *Template) Append(b []byte, x *exchange.Exchange) []byte {
	b, _ = t.append(b, x)
	return b
}

// AppendFunc is Append where write writes the variables, those without a value too: for
// formats that escape them.
func (t *Template) AppendFunc(b []byte, x *exchange.Exchange, write func(b []byte, v Value) []byte) []byte {
	for i := range t.parts {
		if p := &t.parts[i]; p.get == nil {
			b = append(b, p.text...)
		} else {
			b = write(b, p.get(x))
		}
	}
	return b
}

// Resolve returns the text with every variable filled in, and how many had a value.
func (t *Template) Resolve(x *exchange.Exchange) (text string, resolved int) {
	if len(t.parts) == 1 && t.parts[0].get != nil {
		// A text that is one variable needs no copy.
		if v := t.parts[0].get(x); !v.IsNil() {
			return v.String(), 1
		}
		return t.missing, 0
	}
	var space [128]byte
	b, resolved := t.append(space[:0], x)
	return string(b), resolved
}

func (t *Template) append(b []byte, x *exchange.Exchange) ([]byte, int) {
	resolved := 0
	for i := range t.parts {
		p := &t.parts[i]
		if p.get == nil {
			b = append(b, p.text...)
			continue
		}
		if v := p.get(x); v.IsNil() {
			b = append(b, t.missing...)
		} else {
			resolved++
			b = v.Append(b)
		}
	}
	return b, resolved
}

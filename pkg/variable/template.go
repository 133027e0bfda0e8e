package variable

import (
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
)

// Template is a text with variables in it: "$request_uri-${arg_x}". It is immutable and
// safe for concurrent use.
type Template struct {
	parts   []part
	missing string
}

type part struct {
	text     string // of a variable: what stands for it when it has no value, if fallback
	name     string // of the variable
	get      Getter // nil: text
	fallback bool
}

// value is the variable's, or what stands for it.
func (p *part) value(x *exchange.Exchange) Value {
	v := p.get(x)
	if p.fallback && v.IsNil() {
		return Text(p.text)
	}
	return v
}

// CompileTemplate compiles a text; there is none that it refuses. A name that is no
// variable has no value; a "$" without a name stands for itself. Without braces a name
// ends before the first byte that is not a letter, digit or underscore, but for the dots
// of post_arg.; in braces it may also hold what paths of post_arg. are written with, and
// "??" separates it from a text that stands for a variable without a value: it counts as
// one that has a value.
func CompileTemplate(text string) *Template {
	t := &Template{}
	begin := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '$' {
			continue
		}
		p, name, end := variableAt(text, i+1)
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
		p.name, p.get = name, get
		t.parts = append(t.parts, p)
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

// variableAt returns the variable's name that begins at i, braces allowed, where it ends,
// and a part with the text that stands for it.
func variableAt(text string, i int) (p part, name string, end int) {
	if i < len(text) && text[i] == '{' {
		return bracedAt(text, i+1)
	}
	for end = i; end < len(text) && nameByte(text[end]); end++ {
	}
	if text[i:end] == strings.TrimSuffix(postPrefix, ".") {
		for end+1 < len(text) && text[end] == '.' && nameByte(text[end+1]) {
			for end++; end < len(text) && nameByte(text[end]); end++ {
			}
		}
	}
	return part{}, text[i:end], end
}

func bracedAt(text string, i int) (p part, name string, end int) {
	length := strings.IndexByte(text[i:], '}')
	if length < 0 {
		return part{}, "", len(text)
	}
	name, p.text, p.fallback = strings.Cut(text[i:i+length], "??")
	name, p.text = strings.Trim(name, spaces), strings.Trim(p.text, spaces)
	for n := range len(name) {
		if !nameByte(name[n]) && !pathByte(name[n]) {
			return part{}, "", i
		}
	}
	return p, name, i + length + 1
}

const spaces = " \t\r\n"

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

// Resolve returns the text with every variable filled in, and how many had a value.
func (t *Template) Resolve(x *exchange.Exchange) (text string, resolved int) {
	if len(t.parts) == 1 && t.parts[0].get != nil {
		// A text that is one variable needs no copy.
		if v := t.parts[0].value(x); !v.IsNil() {
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
		if v := p.value(x); v.IsNil() {
			b = append(b, t.missing...)
		} else {
			resolved++
			b = v.Append(b)
		}
	}
	return b, resolved
}

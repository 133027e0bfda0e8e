package nginx

import (
	"fmt"
	"strings"
)

// A template is a text with variables. The zero value is the empty text.
type template []piece

type piece struct{ text, variable string }

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// compile reads $name, ${name} and $1.
func compile(s string) (template, error) {
	var t template
	for s != "" {
		at := strings.IndexByte(s, '$')
		if at < 0 {
			return append(t, piece{text: s}), nil
		}
		if at > 0 {
			t = append(t, piece{text: s[:at]})
		}
		name, rest, ok := cutName(s[at+1:])
		if !ok {
			return nil, fmt.Errorf("invalid variable name in %q", s)
		}
		t, s = append(t, piece{variable: name}), rest
	}
	return t, nil
}

// cutName reads a variable's name after its $.
func cutName(s string) (name, rest string, ok bool) {
	if strings.HasPrefix(s, "{") {
		name, rest, ok = strings.Cut(s[1:], "}")
		return name, rest, ok && name != ""
	}
	n := 0
	for n < len(s) && isNameByte(s[n]) {
		n++
	}
	if n > 0 && s[0] >= '0' && s[0] <= '9' {
		n = 1 // $10 is $1 and a zero
	}
	return s[:n], s[n:], n > 0
}

// expand puts the values in; a variable without one is empty.
func (t template) expand(r *request) string {
	if len(t) == 1 && t[0].variable == "" {
		return t[0].text
	}
	var b strings.Builder
	for _, p := range t {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		v, _ := r.variable(p.variable)
		b.WriteString(v)
	}
	return b.String()
}

package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// answerDepth bounds the stack when an answer is read; nothing else does.
const answerDepth = 1 << 10

// value is a value of a body that was found to be JSON, as it stands there. Reading is
// lenient: what a value is not, it has none of. The zero value is one that is missing.
type value struct {
	raw  []byte
	kind jsonedit.Kind
}

// document reads an answer, or an event of one; false if it is not JSON.
func document(p []byte) (value, bool) {
	if jsonedit.Check(p, jsonedit.Options{MaxDepth: answerDepth}) != nil {
		return value{}, false
	}
	v := value{raw: bytes.TrimSpace(p)}
	switch v.raw[0] {
	case '{':
		v.kind = jsonedit.Object
	case '[':
		v.kind = jsonedit.Array
	case '"':
		v.kind = jsonedit.String
	case 't', 'f':
		v.kind = jsonedit.Bool
	case 'n':
		v.kind = jsonedit.Null
	default:
		v.kind = jsonedit.Number
	}
	return v, true
}

// at returns the member of that name of a request.
func at(body *jsonedit.Doc, name string) value {
	raw, kind, _ := body.Get(name)
	return value{raw, kind}
}

// given reports whether there is a value, and one that says something.
func (v value) given() bool { return v.kind != jsonedit.Invalid && v.kind != jsonedit.Null }

func (v value) isText() bool   { return v.kind == jsonedit.String }
func (v value) isList() bool   { return v.kind == jsonedit.Array }
func (v value) isObject() bool { return v.kind == jsonedit.Object }
func (v value) isTrue() bool   { return v.kind == jsonedit.Bool && v.raw[0] == 't' }

// text is what a string says.
func (v value) text() string {
	if !v.isText() {
		return ""
	}
	s, _ := jsonedit.Unquote(v.raw)
	return s
}

// quoted is what stands between the quotes of a string, escapes and all: such pieces can be
// put together without being read.
func (v value) quoted() []byte {
	if !v.isText() {
		return nil
	}
	return v.raw[1 : len(v.raw)-1]
}

// blank reports whether there is no text in a string.
func (v value) blank() bool { return len(v.quoted()) == 0 }

func (v value) number() (float64, bool) {
	if v.kind != jsonedit.Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	return f, err == nil
}

// count is a number of things, 0 if it is no such number.
func (v value) count() int64 {
	if v.kind != jsonedit.Number {
		return 0
	}
	if n, err := strconv.ParseInt(string(v.raw), 10, 64); err == nil {
		return max(n, 0)
	}
	if f, ok := v.number(); ok && f > 0 && f < 1<<53 {
		return int64(f)
	}
	return 0
}

// members calls f for every member of an object.
func (v value) members(f func(name string, m value)) {
	if v.isObject() {
		_ = jsonedit.Members(v.raw, func(name string, raw []byte, k jsonedit.Kind) error {
			f(name, value{raw, k})
			return nil
		})
	}
}

// get returns one member of an object, the last of that name.
func (v value) get(name string) (found value) {
	v.members(func(n string, m value) {
		if n == name {
			found = m
		}
	})
	return found
}

// items calls f for every element of a list, counting from 0, and ends with its first error.
func (v value) items(f func(i int, m value) error) error {
	if !v.isList() {
		return nil
	}
	return jsonedit.Elements(v.raw, func(i int, raw []byte, k jsonedit.Kind) error {
		return f(i, value{raw, k})
	})
}

// each is items for an f that does not fail.
func (v value) each(f func(m value)) {
	_ = v.items(func(_ int, m value) error { f(m); return nil })
}

// empty reports whether an object or a list has nothing in it.
func (v value) empty() bool {
	return len(v.raw) < 2 || len(bytes.TrimSpace(v.raw[1:len(v.raw)-1])) == 0
}

// compact is the value without the white space between its parts. It is a copy.
func (v value) compact() []byte {
	p := jsontext.Value(bytes.Clone(v.raw))
	_ = p.Compact(jsontext.AllowDuplicateNames(true))
	return p
}

// quote returns s as a JSON string.
func quote(s string) []byte { return jsonedit.AppendQuote(nil, s) }

// inQuotes makes one JSON string of pieces that are quoted already.
func inQuotes(pieces ...[]byte) []byte {
	n := 2
	for _, p := range pieces {
		n += len(p)
	}
	s := append(make([]byte, 0, n), '"')
	for _, p := range pieces {
		s = append(s, p...)
	}
	return append(s, '"')
}

// names are those of tools that the provider does not take as they are, and what stands for
// them instead. The zero value is ready.
type names struct {
	ours map[string]string // by what the provider is told
}

const (
	maxName    = 64
	nameHash   = 8
	namePrefix = maxName - nameHash - 1
)

// give returns the name that the provider is told: letters, digits, _ and -, at most 64. It
// depends on nothing but the name, so that what was called earlier has the same one as what
// is declared (spec/06 §A7).
func (n *names) give(name string) string {
	clean := []byte(name)
	for i, c := range clean {
		if !nameByte(c) {
			clean[i] = '_'
		}
	}
	if string(clean) == name && len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	short := string(clean[:min(len(clean), namePrefix)]) + "_" + hex.EncodeToString(sum[:nameHash/2])
	if n.ours == nil {
		n.ours = map[string]string{}
	}
	n.ours[short] = name
	return short
}

// restore returns the client's name for one that the provider used.
func (n *names) restore(name string) string {
	if ours, ok := n.ours[name]; ok {
		return ours
	}
	return name
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

package jsonedit

import (
	"bytes"
	"encoding/json"
	"sync"
)

// Decode validates a document as Check does and returns it as encoding/json does: objects are
// map[string]any, arrays []any, strings string, numbers json.Number with the digits that they
// have. Of a member that occurs twice the last one counts, unless the options refuse it. What
// is returned does not alias p.
//
// It takes a fraction of the time and of the memory that encoding/json takes: what many
// documents have in common, such as names of members, is made once for all of them.
func Decode(p []byte, o Options) (any, error) { return DecodeKnown(p, o, Known{}) }

// Known is a part of a document that was decoded before: the member of that name of the
// object at the top, if it has just this text, which is that of an object. Without a text
// nothing is known.
type Known struct {
	Name  string
	Text  []byte
	Value any
}

// DecodeKnown is Decode for who knows a part: that is not read, and its value is Known's.
func DecodeKnown(p []byte, o Options, k Known) (any, error) {
	d := decoder{scanner: newScanner(p, Options{MaxDepth: o.MaxDepth}), shared: vocabularies.Get().(*vocabulary), known: k}
	d.dups = o.Duplicates // which the maps tell, without a list of names
	defer vocabularies.Put(d.shared)
	v, end := d.decode(d.space(0), 0)
	if end < 0 {
		return nil, d.err
	}
	if end = d.space(end); end < len(p) {
		d.unexpected("the end", end)
		return nil, d.err
	}
	return v, nil
}

// decoder is a scanner that keeps what it sees.
type decoder struct {
	scanner
	shared *vocabulary
	known  Known
}

// decode is value, and what that is.
func (d *decoder) decode(i, depth int) (v any, end int) {
	if i >= len(d.p) {
		return nil, d.unexpected("value", i)
	}
	switch c := d.p[i]; c {
	case '"':
		end, problem := d.text(i)
		if problem != "" {
			return nil, d.fail("value", problem, end)
		}
		if d.escaped {
			return unescape(d.p[i+1 : end-1]), end
		}
		return d.shared.string(d.p[i+1 : end-1]), end
	case '{':
		return d.members(i, depth+1)
	case '[':
		return d.elements(i, depth+1)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if end = number(d.p, i); end < 0 {
			return nil, d.fail("value", invalidNumber, i)
		}
		return d.shared.number(d.p[i:end]), end
	case 't':
		if d.word(i, "true") {
			return true, i + len("true")
		}
	case 'f':
		if d.word(i, "false") {
			return false, i + len("false")
		}
	case 'n':
		if d.word(i, "null") {
			return nil, i + len("null")
		}
	}
	return nil, d.unexpected("value", i)
}

// members is object.
func (d *decoder) members(i, depth int) (any, int) {
	if depth > d.max {
		return nil, d.tooDeep(i, depth)
	}
	m := map[string]any{}
	i = d.space(i + 1)
	if i < len(d.p) && d.p[i] == '}' {
		return m, i + 1
	}
	for {
		if i >= len(d.p) || d.p[i] != '"' {
			return nil, d.unexpected("object key string", i)
		}
		start := i
		end, problem := d.text(i)
		if problem != "" {
			return nil, d.fail("object key string", problem, end)
		}
		var name string
		if d.escaped {
			name = unescape(d.p[start+1 : end-1])
		} else {
			name = d.shared.name(d.p[start+1 : end-1])
		}
		if d.dups {
			if _, twice := m[name]; twice {
				d.err = &DuplicateError{name, start}
				return nil, -1
			}
		}
		if i = d.space(end); i >= len(d.p) || d.p[i] != ':' {
			return nil, d.unexpected("colon", i)
		}
		var v any
		i = d.space(i + 1)
		if depth == 1 && d.isKnown(name, i) {
			v, end = d.known.Value, i+len(d.known.Text)
		} else if v, end = d.decode(i, depth); end < 0 {
			return nil, end
		}
		m[name] = v
		i = d.space(end)
		if i < len(d.p) {
			switch d.p[i] {
			case ',':
				i = d.space(i + 1)
				continue
			case '}':
				return m, i + 1
			}
		}
		return nil, d.unexpected("comma or object end", i)
	}
}

// isKnown tells whether the value at i, of a member at the top, is the part that is known: no
// object is the beginning of another.
func (d *decoder) isKnown(name string, i int) bool {
	return len(d.known.Text) > 0 && name == d.known.Name && bytes.HasPrefix(d.p[i:], d.known.Text)
}

// elements is array.
func (d *decoder) elements(i, depth int) (any, int) {
	if depth > d.max {
		return nil, d.tooDeep(i, depth)
	}
	list := []any{}
	i = d.space(i + 1)
	if i < len(d.p) && d.p[i] == ']' {
		return list, i + 1
	}
	for {
		v, end := d.decode(i, depth)
		if end < 0 {
			return nil, end
		}
		list = append(list, v)
		i = d.space(end)
		if i < len(d.p) {
			switch d.p[i] {
			case ',':
				i = d.space(i + 1)
				continue
			case ']':
				return list, i + 1
			}
		}
		return nil, d.unexpected("comma or array end", i)
	}
}

// vocabulary is the short texts that were seen last. Each is one allocation less the next
// time, and two for a value, whose header is one as well. It is used by one goroutine.
type vocabulary struct {
	names   [shelves]string
	strings [shelves]any // of strings
	numbers [shelves]any // of json.Numbers
}

const (
	shelves = 256 // a power of two
	short   = 24  // longer texts are seldom what others have, too
)

var vocabularies = sync.Pool{New: func() any { return new(vocabulary) }}

// shelf is where a short text is, by FNV-1a.
func shelf(p []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range p {
		h = (h ^ uint32(c)) * 16777619
	}
	return (h ^ h>>15) % shelves
}

func (v *vocabulary) name(p []byte) string {
	if len(p) > short {
		return string(p)
	}
	at := &v.names[shelf(p)]
	if *at != string(p) {
		*at = string(p)
	}
	return *at
}

func (v *vocabulary) string(p []byte) any {
	if len(p) > short {
		return string(p)
	}
	at := &v.strings[shelf(p)]
	if known, ok := (*at).(string); !ok || known != string(p) {
		*at = string(p)
	}
	return *at
}

func (v *vocabulary) number(p []byte) any {
	if len(p) > short {
		return json.Number(p)
	}
	at := &v.numbers[shelf(p)]
	if known, ok := (*at).(json.Number); !ok || string(known) != string(p) {
		*at = json.Number(p)
	}
	return *at
}

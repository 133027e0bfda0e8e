package jsonedit

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"unsafe"
)

// Span is a part of a document, in bytes: from Start up to, but not with, End.
type Span struct{ Start, End int }

// Member is one member of a top-level object.
type Member struct {
	Name       string // unescaped
	Key, Value Span   // Key with its quotes
	Kind       Kind   // of the value
}

// Doc is a validated document and the index of its top-level members. It aliases the
// bytes it was made from, which must not change while it is used; the strings it hands out
// are its own. It is safe for concurrent reading.
type Doc struct {
	p        []byte
	kind     Kind
	elements int // of a top-level array
	members  []Member
	inline   [10]Member // for members: most bodies have no more, which saves an allocation
	keys     []key      // the scanner's, where a document is indexed again
}

// Index validates a document as Check does and finds its top-level members in the same
// pass. Members that occur twice are both kept, unless the options refuse them.
func Index(p []byte, o Options) (*Doc, error) {
	d := &Doc{p: p}
	d.members = d.inline[:0]
	s := newScanner(p, o)
	if d.kind = s.document(d); s.err != nil {
		return nil, s.err
	}
	d.nameMembers()
	return d, nil
}

// Reindex makes d the index of another document, as Index does, in the memory that it has:
// for those who look at one document after the other and keep none. Names alias p then,
// unless they have escapes, and are valid no longer than it. Whoever has read the document
// before must be done with it. After an error d is an empty document.
func (d *Doc) Reindex(p []byte, o Options) error {
	const most = 256 // members or keys for which memory is kept
	members, keys := d.members[:0], d.keys[:0]
	if members == nil || cap(members) > most {
		members = d.inline[:0]
	}
	if cap(keys) > most {
		keys = nil
	}
	d.p, d.kind, d.elements, d.members = p, Invalid, 0, members
	s := scanner{p: p, max: o.depth(), dups: o.Duplicates, keys: keys}
	d.kind = s.document(d)
	d.keys = s.keys
	if s.err != nil {
		d.Forget()
		return s.err
	}
	return nil
}

// ReindexTrusted is Reindex as IndexTrusted is Index.
func (d *Doc) ReindexTrusted(p []byte) error { return d.Reindex(p, Options{MaxDepth: trustedDepth}) }

// Forget makes d an empty document that keeps nothing alive but its own memory.
func (d *Doc) Forget() {
	clear(d.members)
	d.p, d.kind, d.elements, d.members = nil, Invalid, 0, d.members[:0]
}

// view is p as a string, valid as long as p is not changed.
func view(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// nameMembers gives the members names of their own, which share one allocation.
func (d *Doc) nameMembers() {
	size := 0
	for i := range d.members {
		size += len(d.members[i].Name)
	}
	var b strings.Builder
	b.Grow(size)
	for i := range d.members {
		m := &d.members[i]
		from := b.Len()
		b.WriteString(m.Name)
		m.Name = b.String()[from:]
	}
}

// IndexTrusted is Index for a document that was already checked against a limit of the
// caller's, of the depth too: a store's, or one that was put together of checked parts.
func IndexTrusted(p []byte) (*Doc, error) { return Index(p, Options{MaxDepth: trustedDepth}) }

// CheckTrusted is Check as IndexTrusted is Index.
func CheckTrusted(p []byte) error { return Check(p, Options{MaxDepth: trustedDepth}) }

// Find returns the value of the last member of that name of a document, as IndexTrusted and
// Get do. In the steady state nothing is allocated.
func Find(p []byte, name string) (value []byte, k Kind, ok bool, err error) {
	d := peeked.Get().(*Doc)
	if err = d.ReindexTrusted(p); err == nil {
		value, k, ok = d.Get(name)
	}
	d.Forget()
	peeked.Put(d)
	return value, k, ok, err
}

// Kind is the kind of the whole document.
func (d *Doc) Kind() Kind { return d.kind }

// Bytes returns the document as it was given to Index.
func (d *Doc) Bytes() []byte { return d.p }

// Members returns the members of the top-level object in their order, nothing for other
// documents. The list is the document's own.
func (d *Doc) Members() []Member { return d.members }

// Len is the number of members of the object, or of elements of the array, at the top.
func (d *Doc) Len() int { return len(d.members) + d.elements }

// Get returns the value of the last member of that name, as it stands in the text.
func (d *Doc) Get(name string) (value []byte, k Kind, ok bool) {
	for i := len(d.members) - 1; i >= 0; i-- {
		if m := &d.members[i]; m.Name == name {
			return d.value(m), m.Kind, true
		}
	}
	return nil, Invalid, false
}

func (d *Doc) value(m *Member) []byte { return d.p[m.Value.Start:m.Value.End] }

// Has reports whether there is a member of that name.
func (d *Doc) Has(name string) bool {
	_, _, ok := d.Get(name)
	return ok
}

// String returns the text of the last member of that name if that is a string.
func (d *Doc) String(name string) (string, bool) {
	raw, kind, ok := d.Get(name)
	if !ok || kind != String {
		return "", false
	}
	return unescape(raw[1 : len(raw)-1]), true
}

// View is String for those who keep nothing: without escapes the text aliases the document.
func (d *Doc) View(name string) (string, bool) {
	raw, kind, ok := d.Get(name)
	if !ok || kind != String {
		return "", false
	}
	if raw = raw[1 : len(raw)-1]; bytes.IndexByte(raw, '\\') < 0 {
		return view(raw), true
	}
	return unescape(raw), true
}

// trustedDepth is the depth for what was already checked against a limit of the caller's:
// it bounds the stack, nothing else.
const trustedDepth = 10000

var (
	errNoArray  = errors.New("not an array")
	errNoObject = errors.New("not an object")
)

// Elements calls f for each element of an array that is known to be valid; raw aliases p.
// It ends with the first error of f. An array that turns out not to be one is an error,
// after f saw what is before the fault.
func Elements(p []byte, f func(i int, raw []byte, k Kind) error) error {
	s := newScanner(p, Options{MaxDepth: trustedDepth})
	i := s.space(0)
	if i >= len(p) || p[i] != '[' {
		return errNoArray
	}
	if i = s.space(i + 1); i < len(p) && p[i] == ']' {
		return nil
	}
	for n := 0; ; n++ {
		kind, end := s.value(i, 1, nil)
		if end < 0 {
			return s.err
		}
		if err := f(n, p[i:end:end], kind); err != nil {
			return err
		}
		switch i = s.space(end); {
		case i < len(p) && p[i] == ']':
			return nil
		case i < len(p) && p[i] == ',':
			i = s.space(i + 1)
		default:
			s.unexpected("comma or array end", i)
			return s.err
		}
	}
}

// Members calls f for each member of an object that is known to be valid, with its name
// unescaped; raw aliases p, name does not. It ends with the first error of f.
func Members(p []byte, f func(name string, raw []byte, k Kind) error) error {
	d, err := IndexTrusted(p)
	if err != nil {
		return err
	}
	if d.kind != Object {
		return errNoObject
	}
	for i := range d.members {
		m := &d.members[i]
		if err := f(m.Name, d.p[m.Value.Start:m.Value.End:m.Value.End], m.Kind); err != nil {
			return err
		}
	}
	return nil
}

// Walk is Peek for an object that p only begins with: f sees each member as it is scanned,
// before what follows it is known to be valid. It returns the offset behind the object.
func Walk(p []byte, f func(name string, raw []byte, k Kind) error) (end int, err error) {
	s := scanner{p: p, max: trustedDepth}
	i := s.space(0)
	if i >= len(p) || p[i] != '{' {
		return 0, errNoObject
	}
	if i = s.space(i + 1); i < len(p) && p[i] == '}' {
		return i + 1, nil
	}
	for {
		from, value, kind, end := s.member(i)
		if end < 0 {
			return 0, s.err
		}
		raw := p[i+1 : from-1]
		if s.named {
			raw = appendUnescaped(make([]byte, 0, len(raw)), raw)
		}
		if err := f(view(raw), p[value:end:end], kind); err != nil {
			return 0, err
		}
		switch i = s.space(end); {
		case i < len(p) && p[i] == '}':
			return i + 1, nil
		case i < len(p) && p[i] == ',':
			i = s.space(i + 1)
		default:
			s.unexpected("comma or object end", i)
			return 0, s.err
		}
	}
}

// Closes reports whether p is what stands behind a member of the object at the top of a
// document: further members, if any, the end of the object, and nothing more.
func Closes(p []byte) bool {
	s := scanner{p: p, max: trustedDepth}
	for i := s.space(0); ; {
		switch {
		case i >= len(p):
			return false
		case p[i] == '}':
			return s.space(i+1) == len(p)
		case p[i] != ',':
			return false
		}
		_, _, _, end := s.member(s.space(i + 1))
		if end < 0 {
			return false
		}
		i = s.space(end)
	}
}

// Peek is Members for those who keep no name: it aliases p, as raw does. In the steady state
// nothing is allocated.
func Peek(p []byte, f func(name string, raw []byte, k Kind) error) error {
	d := peeked.Get().(*Doc)
	err := d.ReindexTrusted(p)
	if err == nil && d.kind != Object {
		err = errNoObject
	}
	for i := 0; err == nil && i < len(d.members); i++ {
		m := &d.members[i]
		err = f(m.Name, p[m.Value.Start:m.Value.End:m.Value.End], m.Kind)
	}
	d.Forget()
	peeked.Put(d)
	return err
}

var peeked = sync.Pool{New: func() any { return new(Doc) }}

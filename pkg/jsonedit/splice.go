package jsonedit

import "bytes"

// Edit names a top-level member and its new value.
type Edit struct {
	Name  string
	Value []byte // JSON text; nil removes the member

	quoted []byte // a comma, the name and a colon; nil: made when it is needed
}

// NewEdit returns an edit that is made once and used for many documents: its name is quoted
// already, so that adding the member allocates nothing.
func NewEdit(name string, value []byte) Edit {
	e := Edit{Name: name, Value: value}
	e.quoted = e.quote()
	return e
}

func (e *Edit) quote() []byte {
	if e.quoted != nil {
		return e.quoted
	}
	return append(AppendQuote(append(make([]byte, 0, len(e.Name)+len(`,"":`)), ','), e.Name), ':')
}

// Splice appends to dst the document with the edits applied, as segments that alias the
// document and the edits' values, ready for writev. All other members keep their bytes and
// their order. An edited member that occurs more than once is left in its first place
// only; one that does not occur is added at the end. Of several edits of one name the last
// counts. A document that is no object has no members and is returned as it is.
func (d *Doc) Splice(dst [][]byte, edits []Edit) [][]byte {
	if d.kind != Object {
		return segment(dst, d.p)
	}
	s := splicer{d: d, dst: dst, edits: editList{list: edits}}
	if len(edits) > manyEdits {
		s.edits.index()
		s.doneMore = make([]bool, len(edits))
	}
	for i := range d.members {
		s.member(i)
	}
	for e := range edits {
		if edits[e].Value != nil && !*s.isDone(e) && s.edits.find(edits[e].Name) == e {
			s.append(&edits[e])
		}
	}
	return segment(s.dst, d.p[s.at:])
}

// splicer is a splice under way.
type splicer struct {
	d     *Doc
	dst   [][]byte
	edits editList
	at    int // what is before at is in dst, or is not to be
	kept  int // members before at that stay

	done     [manyEdits]bool // the edits that are in dst
	doneMore []bool          // in place of done when there are many
}

// isDone is where it is noted that edit e is in dst.
func (s *splicer) isDone(e int) *bool {
	if s.doneMore != nil {
		return &s.doneMore[e]
	}
	return &s.done[e]
}

// member decides about the i-th member.
func (s *splicer) member(i int) {
	m := &s.d.members[i]
	e := s.edits.find(m.Name)
	if e < 0 {
		s.kept++
		return
	}
	if value, done := s.edits.list[e].Value, s.isDone(e); value != nil && !*done {
		*done = true
		s.kept++
		if bytes.Equal(value, s.d.value(m)) {
			return // it is that already
		}
		s.upTo(m.Value.Start)
		s.dst = segment(s.dst, value)
		s.at = m.Value.End
		return
	}
	// It goes, and with it the comma that separates it from what stays: the one before
	// it, or for the first member the one behind.
	switch {
	case s.kept > 0:
		s.upTo(s.d.members[i-1].Value.End)
		s.at = m.Value.End
	case i+1 < len(s.d.members):
		s.upTo(m.Key.Start)
		s.at = s.d.members[i+1].Key.Start
	default:
		s.upTo(m.Key.Start)
		s.at = m.Value.End
	}
}

// append adds a member behind all others.
func (s *splicer) append(e *Edit) {
	end := bytes.IndexByte(s.d.p, '{') + 1
	if n := len(s.d.members); n > 0 {
		end = s.d.members[n-1].Value.End
	}
	s.upTo(end)
	name := e.quote()
	if s.kept == 0 {
		name = name[1:]
	}
	s.kept++
	s.dst = append(s.dst, name)
	s.dst = segment(s.dst, e.Value)
}

// upTo takes over the document's bytes from where the splice is.
func (s *splicer) upTo(i int) {
	if i > s.at {
		s.dst = append(s.dst, s.d.p[s.at:i:i])
		s.at = i
	}
}

func segment(dst [][]byte, p []byte) [][]byte {
	if len(p) == 0 {
		return dst
	}
	return append(dst, p)
}

// manyEdits is from where on comparing a name with every edit costs more than a map.
const manyEdits = 16

// editList finds edits by name.
type editList struct {
	list []Edit
	last map[string]int // nil: look at each
}

func (l *editList) index() {
	l.last = make(map[string]int, len(l.list))
	for i := range l.list {
		l.last[l.list[i].Name] = i
	}
}

// find returns the index of the last edit of that name, or -1.
func (l *editList) find(name string) int {
	if l.last != nil {
		if i, ok := l.last[name]; ok {
			return i
		}
		return -1
	}
	for i := len(l.list) - 1; i >= 0; i-- {
		if l.list[i].Name == name {
			return i
		}
	}
	return -1
}

// SegmentsLen is the length of segments together, in bytes.
func SegmentsLen(segs [][]byte) (n int) {
	for _, s := range segs {
		n += len(s)
	}
	return n
}

// Join returns segments as one copy.
func Join(segs [][]byte) []byte {
	p := make([]byte, 0, SegmentsLen(segs))
	for _, s := range segs {
		p = append(p, s...)
	}
	return p
}

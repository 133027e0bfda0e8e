package ledger

import (
	"bytes"

	"github.com/gosix/gosix/pkg/jsonedit"
)

var escapeBegins = []byte(`\u00`)

// plainChat is Whole for the body that chats mostly have: one that calls no tools, reports no
// failure, and whose usage is told near its end. Only from there on it is read as JSON, since
// what is looked for does not stand before it; a body in which it might is left to be read
// whole. false: it was, and nothing is noted.
//
// That the usage is the document's, and no other object's, follows from what is behind it: the
// rest of one object and nothing more.
func (l *Ledger) plainChat(body []byte) bool {
	var u Usage
	var has, say names
	begin, end := 0, 0 // of the last usage
	for n, at := next(body, 0); n != 0; n, at = next(body, at) {
		has |= n
		switch n {
		case failure:
			return false
		case tools:
			if valued(body[at:]) {
				return false
			}
		case finish:
			if valued(body[at:]) {
				say |= finish
			}
		case usage:
			// One of an outer object would contain that of an inner one, so that only the
			// last one counts.
			u, begin, end = l.Usage, skip(body, at), 0
			if begin == len(body) || body[begin] != '{' {
				continue
			}
			length, err := u.read(body[begin:])
			if err != nil {
				return false // to go on could mean to read the rest for each of many
			}
			end = begin + length
			at = end
		}
	}
	if end == 0 || has&choices == 0 || !jsonedit.Closes(body[end:]) || oddName(body) {
		return false
	}
	l.Usage, l.Finished = u, l.Finished || say&finish != 0
	l.hold(body[begin:end])
	return true
}

// oddName reports whether a letter is written as an escape sequence somewhere, so that a name
// need not be found by its letters.
func oddName(body []byte) bool {
	for {
		i := bytes.Index(body, escapeBegins)
		if i < 0 || len(body) <= i+len(escapeBegins) {
			return false
		}
		body = body[i+len(escapeBegins):]
		if body[0] >= '4' && body[0] <= '7' {
			return true
		}
	}
}

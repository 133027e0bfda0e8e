// Package sse finds the events in a stream of server-sent events, however it was cut into
// pieces, and writes events. It does not decode what the events carry.
package sse

import "bytes"

// MaxEvent bounds what a Scanner keeps of an event that is not complete, in bytes. Of a
// longer one the rest is passed over.
const MaxEvent = 1 << 20

// Scanner splits a stream into events. Feed it pieces as they come; whatever the split,
// the events are the same. The zero value is ready. Not safe for concurrent use.
type Scanner struct {
	tail []byte // of an event whose end has not come
	skip bool   // the event is too long: its rest is passed over
	data []byte // of the event that is handed out
}

// Feed hands every event that is complete with p to f: the joined lines of its data. The
// bytes are valid until f returns.
func (s *Scanner) Feed(p []byte, f func(data []byte)) {
	for len(p) > 0 {
		if len(s.tail) == 0 && !s.skip {
			end, next := boundary(p)
			if end < 0 {
				s.keep(p)
				return
			}
			s.hand(p[:end], f)
			p = p[next:]
			continue
		}
		// The end may lie across the pieces: look from shortly before the seam.
		from := max(0, len(s.tail)-3)
		seam := len(s.tail)
		head := p[:min(len(p), 4)]
		joint := append(append([]byte(nil), s.tail[from:]...), head...)
		if end, next := boundary(joint); end >= 0 && from+next > seam {
			event := s.tail
			if grow := from + end - seam; grow > 0 {
				event = append(event, p[:grow]...)
			} else {
				event = event[:from+end]
			}
			s.close(event, f)
			p = p[from+next-seam:]
			continue
		}
		end, next := boundary(p)
		if end < 0 {
			s.keep(p)
			return
		}
		s.close(append(s.tail, p[:end]...), f)
		p = p[next:]
	}
}

// Pending reports whether an event has begun and not ended.
func (s *Scanner) Pending() bool {
	return s.skip || len(bytes.TrimLeft(s.tail, "\r\n")) > 0
}

func (s *Scanner) close(event []byte, f func([]byte)) {
	if !s.skip {
		s.hand(event, f)
	}
	s.tail, s.skip = s.tail[:0], false
}

func (s *Scanner) keep(p []byte) {
	if len(s.tail)+len(p) > MaxEvent {
		s.skip = true
		// Enough to see an end that lies across the seam.
		s.tail = append(s.tail[:0], p[max(0, len(p)-3):]...)
		return
	}
	s.tail = append(s.tail, p...)
}

// boundary finds the first empty line: where the event ends and where the next begins; -1
// if there is none. Lines end in LF or CR LF.
func boundary(p []byte) (end, next int) {
	for i := 0; ; {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			return -1, -1
		}
		i += n + 1
		switch {
		case i < len(p) && p[i] == '\n':
			return i, i + 1
		case i+1 < len(p) && p[i] == '\r' && p[i+1] == '\n':
			return i, i + 2
		}
	}
}

var dataField = []byte("data:")

// hand joins the data lines of an event and gives them out. An event without data, a
// comment, is none.
func (s *Scanner) hand(event []byte, f func([]byte)) {
	s.data = s.data[:0]
	lines := 0
	for rest := event; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		value, ok := bytes.CutPrefix(line, dataField)
		if !ok {
			continue
		}
		if lines++; lines > 1 {
			s.data = append(s.data, '\n')
		}
		s.data = append(s.data, bytes.TrimPrefix(value, []byte{' '})...)
	}
	if lines > 0 {
		f(s.data)
	}
}

// AppendEvent appends an event with that data.
func AppendEvent(dst, data []byte) []byte {
	for {
		line, rest, more := bytes.Cut(data, []byte{'\n'})
		dst = append(append(append(dst, "data: "...), line...), '\n')
		if !more {
			return append(dst, '\n')
		}
		data = rest
	}
}

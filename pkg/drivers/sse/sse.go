// Package sse finds the events in a stream of server-sent events, however it was cut into
// pieces, and writes events. It does not decode what the events carry.
package sse

import "bytes"

// MaxEvent is how much of an event that is not complete is held back, in bytes. A longer
// one is passed on in parts, and what it carries is not looked at. It is as much as a
// message of package eventstream may have: there are providers that put a whole answer into
// one event, such as the last one of a response.
const MaxEvent = 16 << 20

// Splitter finds whole events. Feed it pieces as they come: whatever the cuts, the events
// are the same. The zero value is ready. Not safe for concurrent use.
type Splitter struct {
	tail []byte // of an event whose end has not come
	out  []byte // the memory of what Feed returned
	data []byte // of an event whose data has several lines
	torn bool   // the beginning of the event at hand was passed on already
	drop bool   // the event at hand is left out
	late bool   // an event was handed out: what follows does not begin with a mark
}

// Feed takes the next piece and returns what can be passed on: everything up to the end of
// the last event that is complete, as it stands in the stream. event gets the data of each
// of those events, its lines joined. What is returned or handed out is valid until the
// next call, as long as p is not changed. Where an event is dropped p is.
func (s *Splitter) Feed(p []byte, event func(data []byte)) (ready []byte) {
	if len(s.tail) == 0 {
		end := lastEnd(p)
		s.tail = append(s.tail, p[end:]...)
		if end == 0 {
			return s.overflow()
		}
		return s.events(p[:end], event)
	}
	seam := max(0, len(s.tail)-2) // an empty line may lie across the cut
	s.tail = append(s.tail, p...)
	end := lastEnd(s.tail[seam:])
	if end == 0 {
		return s.overflow()
	}
	end += seam
	s.out, s.tail = s.tail, append(s.out[:0], s.tail[end:]...)
	return s.events(s.out[:end], event)
}

// Reset makes s ready for another stream, in the memory that it has.
func (s *Splitter) Reset() {
	*s = Splitter{tail: kept(s.tail), out: kept(s.out), data: kept(s.data)}
}

// kept is a buffer for the next stream; one that a long event made large is not.
func kept(p []byte) []byte {
	const most = 16 << 10
	if cap(p) > most {
		return nil
	}
	return p[:0]
}

// Drop leaves the event that is being handed out out of what is passed on.
func (s *Splitter) Drop() { s.drop = true }

// Rest returns what is held back: the beginning of an event whose end has not come.
func (s *Splitter) Rest() []byte { return s.tail }

// Torn reports whether a part of an event without an end was passed on.
func (s *Splitter) Torn() bool { return s.torn }

// Close is called when the stream has ended as it should. What is held back counts as an
// event then, since some servers leave out the last empty line; it is returned.
func (s *Splitter) Close(event func(data []byte)) (rest []byte) {
	s.drop = false
	if !s.torn {
		s.hand(s.tail, false, event)
	}
	if s.drop {
		return nil
	}
	return s.tail
}

// overflow gives out an event that is too long to be held back.
func (s *Splitter) overflow() []byte {
	if len(s.tail) <= MaxEvent {
		return nil
	}
	keep := len(s.tail) - 2 // the empty line that ends it may have begun
	s.out, s.tail = s.tail, append(s.out[:0], s.tail[keep:]...)
	s.torn = true
	return s.out[:keep]
}

// events hands out every event of p, which ends where an event ends, and returns p without
// those that were dropped.
func (s *Splitter) events(p []byte, event func([]byte)) []byte {
	onlyLF := bytes.IndexByte(p, '\r') < 0
	kept := 0
	for at := 0; at < len(p); {
		end := at + firstEnd(p[at:], onlyLF)
		s.drop = false
		if s.torn {
			s.torn = false
		} else {
			s.hand(p[at:end], onlyLF, event)
		}
		if !s.drop {
			if kept < at {
				copy(p[kept:], p[at:end])
			}
			kept += end - at
		}
		at = end
	}
	return p[:kept]
}

// lastEnd returns where the last complete event of p ends, 0 if none is complete. Lines end
// in LF, CR LF or CR, and an empty one, which ends like the line before it, ends an event.
func lastEnd(p []byte) int {
	end := 0
	if i := bytes.LastIndex(p, lf); i >= 0 {
		end = i + len(lf)
	}
	// Nearly every stream is without.
	if from := max(0, end-len(lf)); bytes.IndexByte(p[from:], '\r') >= 0 {
		for _, empty := range [][]byte{crlf, cr} {
			if i := bytes.LastIndex(p[from:], empty); i >= 0 {
				end = max(end, from+i+len(empty))
			}
		}
	}
	return end
}

// firstEnd returns where the first event of p ends; p has one.
func firstEnd(p []byte, onlyLF bool) int {
	for i := 0; ; {
		n := lineEnd(p[i:], onlyLF)
		if n < 0 {
			return len(p)
		}
		i += n + 1
		switch {
		case i < len(p) && p[i] == p[i-1]:
			return i + 1
		case i+1 < len(p) && p[i-1] == '\n' && p[i] == '\r' && p[i+1] == '\n':
			return i + 2
		}
	}
}

// lineEnd returns where the first line of p ends, at LF or CR; -1: nowhere. onlyLF says that
// p has no CR, which is quicker.
func lineEnd(p []byte, onlyLF bool) int {
	if onlyLF {
		return bytes.IndexByte(p, '\n')
	}
	return bytes.IndexAny(p, "\r\n")
}

var (
	lf        = []byte("\n\n")
	crlf      = []byte("\n\r\n")
	cr        = []byte("\r\r")
	dataField = []byte("data:")
	mark      = []byte("\uFEFF") // of byte order, which a stream may begin with
)

// hand joins the data lines of an event and gives them out. An event without data, such as
// a comment, is none. One line, which is nearly every event, is not copied.
func (s *Splitter) hand(event []byte, onlyLF bool, f func([]byte)) {
	var data []byte
	lines := 0
	if !s.late {
		s.late, event = true, bytes.TrimPrefix(event, mark)
	}
	for rest := event; len(rest) > 0; {
		end := lineEnd(rest, onlyLF)
		if end < 0 {
			end = len(rest)
		}
		// Of CR LF the second ends an empty line, which says nothing.
		line := rest[:end]
		rest = rest[min(end+1, len(rest)):]
		value, ok := bytes.CutPrefix(line, dataField)
		if !ok {
			continue
		}
		value = bytes.TrimPrefix(value, []byte{' '})
		switch lines++; lines {
		case 1:
			data = value
		case 2:
			s.data = append(s.data[:0], data...)
			fallthrough
		default:
			s.data = append(append(s.data, '\n'), value...)
			data = s.data
		}
	}
	if lines > 0 {
		f(data)
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

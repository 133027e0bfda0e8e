package gateway

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

// h1answer is an answer over HTTP/1 on its way to the client: its head, and how its end is told.
// The head and the first bytes of the body go out together.
type h1answer struct {
	wire h1wire
	head *http1.Request // that is answered

	out     *h1buffer // what was written and did not go out is out.bytes[:n]; nil: nothing
	n       int
	framing framing
	from    int   // of out: where the framing of an answer belongs whose length is not known yet
	left    int64 // of an announced length
	status  int
	close   bool // the connection ends with the answer
	written bool // the head is in out, or went out
	err     error
	parts   [3][]byte
}

// h1wire is what an answer goes out by: all of it in order, within the limit for a write.
type h1wire interface{ send(parts ...[]byte) error }

// framing is how the end of an answer is told.
type framing uint8

const (
	unframed   framing = iota // it has no body
	byLength                  // announced
	undecided                 // length or chunks, as soon as one of them is known
	inChunks                  //
	untilClose                // of HTTP/1.0
)

// begin takes the head of the answer in; date is its line for the time. Nothing goes out yet.
func (s *h1answer) begin(status int, h *exchange.Header, length int64, date string) {
	s.written, s.status = true, status
	b := appendStatusLine(s.buffer(), s.head.Old, status)
	dated := false
	for _, f := range h.Fields() {
		switch {
		case len(f.Name) == 10 && exchange.EqualName(f.Name, "Connection"):
			closes, _ := http1.Options(f.Value)
			s.close = s.close || closes
			continue
		case len(f.Name) == 14 && exchange.EqualName(f.Name, "Content-Length"),
			len(f.Name) == 17 && exchange.EqualName(f.Name, "Transfer-Encoding"):
			continue // the engine's to say
		case len(f.Name) == 4 && exchange.EqualName(f.Name, "Date"):
			dated = true
		}
		b = appendField(b, f)
	}
	if !dated {
		b = append(b, date...)
	}
	s.frame(b, length)
}

// frame ends the head.
func (s *h1answer) frame(b []byte, length int64) {
	r, bodiless := s.head, s.status == http.StatusNoContent || s.status == http.StatusNotModified
	head := r.Method == http.MethodHead
	switch {
	case bodiless || head:
		s.framing = unframed
	case length >= 0:
		s.framing, s.left = byLength, length
	case r.Old:
		s.framing, s.close = untilClose, true
	default:
		s.framing = undecided
	}
	// Of a 304 it would be that of what the client has (RFC 9110 §8.6), which nobody told.
	if length >= 0 && !bodiless {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), length, 10), '\r', '\n')
	}
	switch {
	case s.close && !r.Old:
		b = append(b, "Connection: close\r\n"...)
	case !s.close && r.Old:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	if s.from = len(b); s.framing != undecided {
		b = append(b, '\r', '\n')
	}
	s.keep(b)
}

// buffer returns what is to go out, to append to.
func (s *h1answer) buffer() []byte {
	if s.out == nil {
		s.out = buffers.Get().(*h1buffer)
	}
	return s.out.bytes[:s.n]
}

// keep takes back what buffer returned.
func (s *h1answer) keep(b []byte) {
	s.n = len(b)
	if cap(b) > len(s.out.bytes) {
		s.out = &h1buffer{b[:cap(b)]}
	}
}

// Write implements exchange.Sink.
func (s *h1answer) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	switch s.framing {
	case unframed:
		return len(p), nil
	case byLength:
		if int64(len(p)) > s.left {
			s.err = http.ErrContentLength
			return 0, s.err
		}
		s.left -= int64(len(p))
	case undecided:
		if s.room() >= len(p)+gap {
			s.keep(append(s.buffer(), p...))
			return len(p), nil
		}
		s.decide(false)
	}
	tail := ""
	if s.framing == inChunks {
		s.keep(http1.AppendChunkHead(s.buffer(), len(p)))
		tail = "\r\n"
	}
	if s.room() >= len(p)+len(tail) {
		s.keep(append(append(s.buffer(), p...), tail...))
		return len(p), nil
	}
	if err := s.flush(p, tail); err != nil {
		return 0, err
	}
	return len(p), nil
}

// gap is what framing may take in front of a body that is held back.
const gap = 64

// room is how much more is held back.
func (s *h1answer) room() int {
	if s.out == nil {
		return bufferSize
	}
	return len(s.out.bytes) - s.n
}

// decide frames what was held back of an undecided answer; last: nothing follows.
func (s *h1answer) decide(last bool) {
	var line [gap]byte
	b, body := line[:0], s.n-s.from
	switch {
	case last:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(body), 10), "\r\n\r\n"...)
		s.framing, s.left = byLength, 0
	default:
		b = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
		if body > 0 {
			b = http1.AppendChunkHead(b, body)
		}
		s.framing = inChunks
	}
	whole := append(s.buffer(), b...)
	copy(whole[s.from+len(b):], whole[s.from:s.n])
	copy(whole[s.from:], b)
	if s.framing == inChunks && body > 0 {
		whole = append(whole, '\r', '\n')
	}
	s.keep(whole)
}

// Flush implements exchange.Sink.
func (s *h1answer) Flush() error {
	if s.framing == undecided && s.written {
		s.decide(false)
	}
	return s.flush(nil, "")
}

// flush hands over what was held back, and p with what follows it.
func (s *h1answer) flush(p []byte, tail string) error {
	if s.err != nil {
		return s.err
	}
	if s.n == 0 && len(p) == 0 {
		return nil
	}
	s.parts[0] = nil
	if s.out != nil {
		s.parts[0] = s.out.bytes[:s.n]
	}
	s.parts[1] = p
	if tail != "" {
		s.parts[2] = crlf
	} else {
		s.parts[2] = nil
	}
	err := s.wire.send(s.parts[:]...)
	if s.out != nil {
		free(s.out)
		s.out, s.n = nil, 0
	}
	return err
}

var crlf = []byte("\r\n")

// finish completes the answer. It reports whether the client got all of what was announced.
func (s *h1answer) finish() (whole bool) {
	if s.framing == undecided {
		s.decide(true)
	}
	if s.framing == inChunks {
		s.keep(append(s.buffer(), http1.LastChunk...))
	}
	_ = s.flush(nil, "")
	return s.err == nil && (s.framing != byLength || s.left == 0)
}

// drop gives memory back.
func (s *h1answer) drop() {
	if s.out != nil {
		free(s.out)
		s.out = nil
	}
}

// appendInformation appends an answer that others follow, which no client of HTTP/1.0 gets.
func appendInformation(b []byte, status int, h *exchange.Header) []byte {
	b = appendStatusLine(b, false, status)
	for _, f := range h.Fields() {
		b = appendField(b, f)
	}
	return append(b, '\r', '\n')
}

func appendStatusLine(b []byte, old bool, status int) []byte {
	if status == http.StatusOK && !old {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	if old {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = strconv.AppendInt(append(b, "status code "...), int64(status), 10)
	}
	return append(b, '\r', '\n')
}

// appendField appends a line of the head. As with net/http, a name that is none is left out,
// and a value stays one line.
func appendField(b []byte, f exchange.Field) []byte {
	if !http1.Token(f.Name) {
		return b
	}
	b = append(append(b, f.Name...), ": "...)
	if http1.Value(f.Value) {
		b = append(b, f.Value...)
	} else {
		for _, c := range []byte(f.Value) {
			if c == '\r' || c == '\n' || c == 0 {
				c = ' '
			}
			b = append(b, c)
		}
	}
	return append(b, '\r', '\n')
}

// dates makes the header Date, one a second, for both engines.
type dates struct{ last atomic.Pointer[dated] }

// dated is the header of a second.
type dated struct {
	second int64
	line   string
	value  []string // nobody changes it
}

// at returns the header of a second since 1970.
func (d *dates) at(second int64) *dated {
	l := d.last.Load()
	if l == nil || l.second != second {
		text := time.Unix(second, 0).UTC().Format(http.TimeFormat)
		l = &dated{second, "Date: " + text + "\r\n", []string{text}}
		d.last.Store(l)
	}
	return l
}

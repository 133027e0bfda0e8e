package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

// fastSink writes an answer. Its head and the first bytes of its body go out with one write.
type fastSink struct {
	c    *h1conn
	x    *fastExchange
	body *fastBody // nil: the request has none, or it was there with the head

	out     *h1buffer // what was written and did not go out is out.bytes[:n]; nil: nothing
	n       int
	framing framing
	from    int   // of out: where the framing of an answer belongs whose length is not known yet
	left    int64 // of an announced length
	status  int
	close   bool // the connection ends with the answer
	written bool // the head is in out, or went out
	aborted bool
	err     error
	vec     net.Buffers
	parts   [3][]byte

	asking sync.Mutex // of the client for its body, which is possible until the head is written
	away   net.Conn   // the connection that is somebody else's; nil: it was not given away
}

// framing is how the end of an answer is told.
type framing uint8

const (
	unframed   framing = iota // it has no body
	byLength                  // announced
	undecided                 // length or chunks, as soon as one of them is known
	inChunks                  //
	untilClose                // of HTTP/1.0
)

func (s *fastSink) begin(c *h1conn, x *fastExchange) { s.c, s.x = c, x }

// invite asks the client for the body.
func (s *fastSink) invite() {
	s.asking.Lock()
	defer s.asking.Unlock()
	if !s.written {
		_ = s.send([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
}

// WriteHead implements exchange.Sink.
func (s *fastSink) WriteHead(status int, h *exchange.Header, length int64) error {
	if status < 200 {
		return s.inform(status, h)
	}
	c, r := s.c, &s.x.head
	s.close = s.close || r.Close || c.e.table.ending.Load() ||
		s.body != nil && !s.body.ended.Load() && !s.body.drop()
	if s.body != nil {
		s.asking.Lock()
		defer s.asking.Unlock()
	}
	s.written, s.status = true, status
	b := s.statusLine(s.buffer(), status)
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
		b = append(b, s.c.e.dateLine()...)
	}
	s.frame(b, length)
	return s.err
}

// frame ends the head.
func (s *fastSink) frame(b []byte, length int64) {
	r, bodiless := &s.x.head, s.status == http.StatusNoContent || s.status == http.StatusNotModified
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
	if length >= 0 && s.status != http.StatusNoContent {
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

func (s *fastSink) statusLine(b []byte, status int) []byte {
	if status == http.StatusOK && !s.x.head.Old {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	if s.x.head.Old {
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

// inform sends an answer that others follow.
func (s *fastSink) inform(status int, h *exchange.Header) error {
	if s.x.head.Old || s.written {
		return nil
	}
	b := s.statusLine(make([]byte, 0, 256), status)
	for _, f := range h.Fields() {
		b = appendField(b, f)
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.send(append(b, '\r', '\n'))
}

// buffer returns what is to go out, to append to.
func (s *fastSink) buffer() []byte {
	if s.out == nil {
		s.out = buffers.Get().(*h1buffer)
	}
	return s.out.bytes[:s.n]
}

// keep takes back what buffer returned.
func (s *fastSink) keep(b []byte) {
	s.n = len(b)
	if cap(b) > len(s.out.bytes) {
		s.out = &h1buffer{b[:cap(b)]}
	}
}

// Write implements exchange.Sink.
func (s *fastSink) Write(p []byte) (int, error) {
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
func (s *fastSink) room() int {
	if s.out == nil {
		return bufferSize
	}
	return len(s.out.bytes) - s.n
}

// decide frames what was held back of an undecided answer; last: nothing follows.
func (s *fastSink) decide(last bool) {
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
func (s *fastSink) Flush() error {
	if s.framing == undecided && s.written {
		s.decide(false)
	}
	return s.flush(nil, "")
}

// flush hands over what was held back, and p with what follows it.
func (s *fastSink) flush(p []byte, tail string) error {
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
	err := s.send(s.parts[:]...)
	if s.out != nil {
		free(s.out)
		s.out, s.n = nil, 0
	}
	return err
}

var crlf = []byte("\r\n")

// send writes to the client, each time within the limit for that.
func (s *fastSink) send(parts ...[]byte) error {
	c := s.c
	c.expect(&c.writing, c.e.std.limits.WriteStall)
	var err error
	switch p := onlyOne(parts); {
	case p != nil && c.writer != nil && c.tls == nil:
		_, err = c.writer.Write(p)
	case p != nil:
		_, err = c.nc.Write(p)
	default:
		s.vec = s.vec[:0]
		for _, p := range parts {
			if len(p) > 0 {
				s.vec = append(s.vec, p)
			}
		}
		rest := s.vec
		_, err = rest.WriteTo(c.nc)
		clear(s.vec[:cap(s.vec)])
	}
	c.settle(&c.writing)
	if err != nil && s.err == nil {
		s.err = err
	}
	return err
}

// onlyOne returns the only part that is not empty.
func onlyOne(parts [][]byte) (only []byte) {
	for _, p := range parts {
		switch {
		case len(p) == 0:
		case only != nil:
			return nil
		default:
			only = p
		}
	}
	return only
}

// Abort lets the client have what was written, and breaks the connection off.
func (s *fastSink) Abort() {
	if s.aborted {
		return
	}
	s.aborted = true
	if s.written {
		_ = s.Flush()
	}
}

var errNotAsked = errors.New("client asked for no other protocol")

// Hijack implements exchange.Sink. A client that asked for no other protocol itself gets none
// (RFC 9110 §7.8), whatever a plugin made of its request: it may be served within the wait for
// it, in which nobody can read from its connection or close it.
func (s *fastSink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !s.x.head.Upgrade {
		return nil, nil, errNotAsked
	}
	c, t := s.c, &s.c.e.std.tunnels
	t.expect()
	c.e.table.unwatch(c)
	c.hijacked, c.over, s.away = true, true, c.nc
	c.quiet.Store(false)
	c.e.open.Add(-1)
	early := append([]byte(nil), c.pending()...)
	c.r = c.w
	t.add(c.nc)
	from := io.Reader(c.nc)
	if len(early) > 0 {
		from = io.MultiReader(strings.NewReader(string(early)), c.nc)
	}
	return c.nc, bufio.NewReadWriter(bufio.NewReader(from), bufio.NewWriter(c.nc)), nil
}

// end completes the answer, and decides what becomes of the connection.
func (s *fastSink) end() {
	c := s.c
	switch {
	case s.away != nil:
		return
	case s.aborted || !s.written:
		c.over = true
		if s.written && s.x.head.Old {
			// What a client of HTTP/1.0 gets ends with its connection, so that it would
			// take an answer that was cut for a whole one. TLS would say goodbye.
			if t, ok := c.sys.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
				c.nc = c.sys
			}
		}
	default:
		if s.framing == undecided {
			s.decide(true)
		}
		tail := ""
		if s.framing == inChunks {
			tail = http1.LastChunk
			s.keep(append(s.buffer(), tail...))
		}
		_ = s.flush(nil, "")
		if s.close || s.err != nil || s.framing == byLength && s.left > 0 {
			c.over = true
			c.lingers = s.err == nil && (s.body != nil && !s.body.ended.Load() || c.r < c.w)
		}
	}
	if s.out != nil {
		free(s.out)
		s.out = nil
	}
}

// date is the header line of a second.
type date struct {
	second int64
	line   string
}

// dateLine may be late by the time between two looks of the table.
func (e *Fast) dateLine() string {
	second, d := e.table.second.Load(), e.date.Load()
	if d == nil || d.second != second {
		d = &date{second, "Date: " + time.Unix(second, 0).UTC().Format(http.TimeFormat) + "\r\n"}
		e.date.Store(d)
	}
	return d.line
}

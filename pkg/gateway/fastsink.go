package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/gosix/gosix/pkg/exchange"
)

// fastSink writes an answer.
type fastSink struct {
	c    *h1conn
	x    *fastExchange
	body *fastBody // nil: the request has none, or it was there with the head

	h1answer
	aborted bool
	vec     net.Buffers

	asking sync.Mutex // of the client for its body, which is possible until the head is written
	away   net.Conn   // the connection that is somebody else's; nil: it was not given away
}

func (s *fastSink) serve(c *h1conn, x *fastExchange) {
	s.c, s.x, s.wire, s.head = c, x, s, &x.head
}

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
	// The date may be late by the time between two looks of the table.
	s.begin(status, h, length, c.e.std.dates.at(c.e.table.second.Load()).line)
	return s.err
}

// inform sends an answer that others follow.
func (s *fastSink) inform(status int, h *exchange.Header) error {
	if s.x.head.Old || s.written {
		return nil
	}
	b := appendInformation(make([]byte, 0, 256), status, h)
	s.asking.Lock()
	defer s.asking.Unlock()
	return s.send(b)
}

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
		if whole := s.finish(); s.close || !whole {
			c.over = true
			c.lingers = s.err == nil && (s.body != nil && !s.body.ended.Load() || c.r < c.w)
		}
	}
	s.drop()
}

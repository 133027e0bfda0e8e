//go:build linux

// Package provider is a provider of chats whose answers are made before anybody asks: one
// thread, keep-alive, and nothing of a request is looked at but its length and what kind of
// answer it wants. It does not know who is between it and the client.
//
// What a request wants stands at the beginning of its body:
//
//	"stream":true                  Events events, the first at once, each Gap after the one before
//	"stream":true,"user":"burst"   all of them at once
//	"stream":true,"user":"hold"    the first, and nothing after it
//
// Anything else is answered with one document. Usage is told to who asks for it with
// include_usage at the beginning or the end of the body.
package provider

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosix/gosix/bench/poll"
)

// A stream's Events events, the one that ends it not counted, are Gap apart.
const (
	Events = 20
	Gap    = time.Millisecond
)

// Answer is the document that a chat is answered with.
var Answer = `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"` +
	strings.Repeat("A provider says a few words. ", 16) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":100,"total_tokens":300}}`

const (
	lead      = 256 // bytes of a body's two ends that are looked at
	maxHead   = 64 << 10
	streaming = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
	usage     = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[],"usage":{"prompt_tokens":200,"completion_tokens":20,"total_tokens":220}}` + "\n\n"
	done      = "data: [DONE]\n\n"
	last      = "0\r\n\r\n"
)

// wires are the answers as they are sent.
type wires struct {
	answer            []byte
	first, next       []byte
	end, endUsage     []byte // the last event with what ends the stream
	burst, burstUsage []byte
}

func newWires() *wires {
	event := func(content, finish string) string {
		return `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{"content":"` +
			content + `"},"finish_reason":` + finish + "}]}\n\n"
	}
	word, stop := event(" word", "null"), event(" end", `"stop"`)
	w := &wires{
		answer:   []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(Answer)) + "\r\n\r\n" + Answer),
		first:    []byte(streaming + chunk(word)),
		next:     []byte(chunk(word)),
		end:      []byte(chunk(stop+done) + last),
		endUsage: []byte(chunk(stop+usage+done) + last),
	}
	words := bytes.Repeat(w.next, Events-2)
	w.burst = bytes.Join([][]byte{w.first, words, w.end}, nil)
	w.burstUsage = bytes.Join([][]byte{w.first, words, w.endUsage}, nil)
	return w
}

func chunk(data string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(data), data) }

// Server answers. It is for one goroutine.
type Server struct {
	wires    *wires
	poll     *poll.Poller
	listener int
	conns    []*conn // by descriptor
	due      []turn  // in order
	buffer   []byte
}

// turn is when a stream goes on.
type turn struct {
	at time.Time
	c  *conn
}

type conn struct {
	fd      int
	head    []byte // of a request that is not whole yet
	body    int64  // bytes that are still to come; -1: chunks
	begin   []byte // of the body
	end     []byte
	said    int // events of the stream under way
	usage   bool
	closed  bool
	reading bool // a body
}

// Listen opens the server's socket and tells where it is.
func Listen(addr netip.AddrPort) (*Server, netip.AddrPort, error) {
	fd, at, err := poll.Listen(addr)
	if err != nil {
		return nil, at, err
	}
	return &Server{wires: newWires(), listener: fd, buffer: make([]byte, 256<<10)}, at, nil
}

// Serve answers until ctx is done. It is asked about once a second.
func (s *Server) Serve(ctx context.Context) error {
	var err error
	if s.poll, err = poll.New(); err != nil {
		return err
	}
	defer s.poll.Close()
	defer func() {
		_ = unix.Close(s.listener)
		for _, c := range s.conns {
			if c != nil {
				s.drop(c)
			}
		}
	}()
	if err := s.poll.Add(s.listener); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := s.poll.Wait(s.pause(), s.ready); err != nil {
			return err
		}
		s.speak(time.Now())
	}
	return nil
}

func (s *Server) pause() time.Duration {
	if len(s.due) == 0 {
		return time.Second
	}
	return max(0, time.Until(s.due[0].at))
}

func (s *Server) ready(e poll.Event) {
	if e.FD == s.listener {
		for {
			fd, ok, err := poll.Accept(s.listener)
			if err != nil || !ok {
				return
			}
			for len(s.conns) <= fd {
				s.conns = append(s.conns, nil)
			}
			s.conns[fd] = &conn{fd: fd}
			if s.poll.Add(fd) != nil {
				s.drop(s.conns[fd])
			}
		}
	}
	c := s.conns[e.FD]
	if c == nil {
		return
	}
	n, err := unix.Read(c.fd, s.buffer)
	if poll.Again(err) {
		return
	}
	if err != nil || n == 0 || !s.take(c, s.buffer[:n]) {
		s.drop(c)
	}
}

func (s *Server) drop(c *conn) {
	c.closed = true
	s.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}

// take goes on with what a client sent; false: it makes no sense.
func (s *Server) take(c *conn, in []byte) bool {
	for len(in) > 0 {
		if !c.reading {
			c.head = append(c.head, in...)
			end := bytes.Index(c.head, []byte("\r\n\r\n"))
			if end < 0 {
				return len(c.head) < maxHead
			}
			in = in[len(in)-(len(c.head)-end-4):]
			length, ok := framing(c.head[:end+2])
			if !ok {
				return false
			}
			c.head, c.begin, c.end, c.reading, c.body = c.head[:0], c.begin[:0], c.end[:0], true, length
		}
		part := in
		if c.body >= 0 {
			part = in[:min(int64(len(in)), c.body)]
			c.body -= int64(len(part))
		}
		in = in[len(part):]
		c.begin = append(c.begin, part[:min(len(part), lead-min(lead, len(c.begin)))]...)
		c.end = append(c.end, part[max(0, len(part)-lead):]...)
		c.end = c.end[:copy(c.end, c.end[max(0, len(c.end)-lead):])]
		if c.body == 0 || c.body < 0 && bytes.HasSuffix(c.end, []byte("\r\n"+last)) {
			c.reading = false
			if !s.answer(c) {
				return false
			}
		}
	}
	return true
}

// framing tells how long the body behind a head is; -1: chunks.
func framing(head []byte) (length int64, ok bool) {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.ParseInt(string(value), 10, 64)
			return n, err == nil && n >= 0
		case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
			return -1, bytes.EqualFold(value, []byte("chunked"))
		}
	}
	return 0, true
}

func (s *Server) answer(c *conn) bool {
	if !bytes.Contains(c.begin, []byte(`"stream":true`)) {
		return s.write(c, s.wires.answer)
	}
	c.usage = bytes.Contains(c.end, []byte("include_usage")) || bytes.Contains(c.begin, []byte("include_usage"))
	switch {
	case bytes.Contains(c.begin, []byte(`"user":"hold"`)):
		return s.write(c, s.wires.first)
	case bytes.Contains(c.begin, []byte(`"user":"burst"`)):
		if c.usage {
			return s.write(c, s.wires.burstUsage)
		}
		return s.write(c, s.wires.burst)
	}
	c.said = 1
	s.due = append(s.due, turn{time.Now().Add(Gap), c})
	return s.write(c, s.wires.first)
}

// speak says the next event of every stream whose turn it is.
func (s *Server) speak(now time.Time) {
	n := 0
	for n < len(s.due) && !s.due[n].at.After(now) {
		c := s.due[n].c
		n++
		if c.closed {
			continue
		}
		c.said++
		wire := s.wires.next
		if c.said == Events {
			wire = s.wires.end
			if c.usage {
				wire = s.wires.endUsage
			}
		}
		if !s.write(c, wire) {
			s.drop(c)
		} else if c.said < Events {
			// From now and not from when it was due: so the turns stay in order.
			s.due = append(s.due, turn{now.Add(Gap), c})
		}
	}
	if n > 0 {
		s.due = s.due[:copy(s.due, s.due[n:])]
	}
}

// write sends all or fails: an answer is smaller than what a socket takes.
func (s *Server) write(c *conn, wire []byte) bool {
	n, err := unix.Write(c.fd, wire)
	return err == nil && n == len(wire)
}

package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// outgoing is a request on its way: its head, and the memory that sending it takes.
type outgoing struct {
	buf   []byte      // the head, and room for a small body behind it
	vec   net.Buffers // what is written at once
	rest  net.Buffers // of vec, what is still to be written
	piece *piece      // of a stream; nil: none is sent

	framed []byte // the part of piece that goes on the wire
	left   int64  // of a stream's announced length
	ended  bool   // nothing follows framed
}

var (
	errUnsafe  = errors.New("request has a character where none may be")
	errFraming = errors.New("framing is not the caller's")
	errConnect = errors.New("method CONNECT is not carried")
	errShort   = errors.New("request body ended before its announced length")
	errLong    = errors.New("request body is longer than its announced length")
)

// assemble writes the head of r. Nothing in it can begin another line or another request:
// what could is refused, not repaired.
func (o *outgoing) assemble(r *Request) error {
	if !token(r.Method) || !visible(r.Path) || r.Path == "" || !visible(r.Host) || !value(r.Upgrade) {
		return errUnsafe
	}
	if r.Method == "CONNECT" {
		return errConnect
	}
	b := append(o.buf[:0], r.Method...)
	b = append(append(b, ' '), r.Path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...)
	b = append(b, '\r', '\n')
	if r.Header != nil {
		for _, f := range r.Header.Fields() {
			if !token(f.Name) || !value(f.Value) {
				return fmt.Errorf("header %q: %w", f.Name, errUnsafe)
			}
			if ours(f.Name) {
				return fmt.Errorf("header %q: %w", f.Name, errFraming)
			}
			b = append(append(append(append(b, f.Name...), ": "...), f.Value...), '\r', '\n')
		}
	}
	switch {
	case r.Stream != nil && r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Stream != nil:
		b = appendLength(b, r.Length)
	case r.Body != nil:
		b = appendLength(b, size(r.Body))
	case r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		b = appendLength(b, 0)
	}
	switch {
	case r.Upgrade != "":
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...), '\r', '\n')
	case r.Target.NoKeepAlive:
		b = append(b, "Connection: close\r\n"...)
	}
	o.buf = append(b, '\r', '\n')
	return nil
}

func appendLength(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), '\r', '\n')
}

func size(segments [][]byte) (n int64) {
	for _, s := range segments {
		n += int64(len(s))
	}
	return n
}

// ours reports whether a field is the Client's to write.
func ours(name string) bool {
	switch len(name) {
	case 4:
		return exchange.EqualName(name, "Host")
	case 7:
		return exchange.EqualName(name, "Upgrade")
	case 10:
		return exchange.EqualName(name, "Connection")
	case 14:
		return exchange.EqualName(name, "Content-Length")
	case 17:
		return exchange.EqualName(name, "Transfer-Encoding")
	}
	return false
}

// tokens marks the bytes that names may have (RFC 9110 §5.6.2).
var tokens = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func token[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// visible reports whether s has neither spaces nor control characters.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// value reports whether s may stand as a header's value.
func value[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// A piece is the memory for a part of a stream, with room for the frame around it.
type piece [32 << 10]byte

const (
	pieceHead = 8 // before a part: its size in hexadecimal digits and the end of that line
	pieceTail = 7 // behind it: the end of its line, and the last chunk
	lastChunk = "0\r\n\r\n"
)

// begin makes ready for the stream of r.
func (o *outgoing) begin(r *Request, p *piece) {
	o.piece, o.left, o.ended, o.framed = p, r.Length, false, nil
}

// next reads the next part of the stream and frames it. With an announced length the
// stream must be exactly that long; without, each part becomes a chunk.
func (o *outgoing) next(r *Request) error {
	space := o.piece[pieceHead : len(o.piece)-pieceTail]
	if r.Length >= 0 && int64(len(space)) > o.left {
		space = space[:o.left+1] // one more, to see what is too long before it is sent
	}
	n, err := 0, error(nil)
	for tries := 0; n == 0 && err == nil; tries++ {
		if tries == 100 {
			return io.ErrNoProgress
		}
		n, err = r.Stream.Read(space)
	}
	if err != nil && err != io.EOF {
		return err
	}
	o.ended = err == io.EOF
	if r.Length >= 0 {
		o.left -= int64(n)
		switch {
		case o.left < 0:
			return errLong
		case o.left > 0 && o.ended:
			return errShort
		}
		o.framed = o.piece[pieceHead : pieceHead+n]
		return nil
	}
	start, end := pieceHead, pieceHead
	if n > 0 {
		start -= 2
		o.piece[start], o.piece[start+1] = '\r', '\n'
		for digits := n; digits > 0; digits >>= 4 {
			start--
			o.piece[start] = "0123456789abcdef"[digits&15]
		}
		end += n
		end += copy(o.piece[end:], "\r\n")
	}
	if o.ended {
		end += copy(o.piece[end:], lastChunk)
	}
	o.framed = o.piece[start:end]
	return nil
}

const (
	// copyLimit is how large a request is copied together for one write; a larger one is
	// written from where it lies.
	copyLimit = 32 << 10
	// patience is how much is written before somebody looks whether the server answers
	// instead of reading, in bytes, and glances how often, while nothing moves.
	patience = 64 << 10
	glances  = 250 * time.Millisecond
	// recordSize is how much is written under one deadline over TLS, where a write that
	// was interrupted cannot be continued.
	recordSize = 16 << 10
)

// send writes head and body.
func (k *conn) send(r *Request, o *outgoing) *Error {
	if r.Stream == nil {
		if err := k.write(r, o, o.buf, r.Body); err != nil {
			return k.sendError(err)
		}
		return nil
	}
	segment := [1][]byte{o.framed}
	if err := k.write(r, o, o.buf, segment[:]); err != nil {
		return k.sendError(err)
	}
	for !o.ended {
		if err := o.next(r); err != nil {
			return &Error{Op: OpSend, Addr: k.addr, Err: err, Client: err}
		}
		if len(o.framed) > 0 {
			if err := k.write(r, o, o.framed, nil); err != nil {
				return k.sendError(err)
			}
		}
	}
	return nil
}

func (k *conn) sendError(err error) *Error {
	return &Error{Op: OpSend, Addr: k.addr, Err: err, Timeout: timedOut(err)}
}

// write sends first and then the segments, with one call where that is possible. first may
// have room behind it, which is used.
func (k *conn) write(r *Request, o *outgoing, first []byte, segments [][]byte) error {
	total := len(first) + int(size(segments))
	limit := copyLimit
	if k.secure {
		limit = recordSize // two records cost more than copying into one
	}
	o.vec = append(o.vec[:0], first)
	switch {
	case len(segments) == 0:
	case total <= limit:
		whole := first
		for _, s := range segments {
			whole = append(whole, s...)
		}
		if cap(whole) > cap(o.buf) {
			o.buf = whole[:len(first)]
		}
		o.vec[0] = whole
	default:
		o.vec = append(o.vec, segments...)
	}
	o.rest = o.vec
	if k.secure {
		return k.writeRecords(r, o)
	}
	return k.writePlain(r, o, total > patience || r.Stream != nil)
}

// writePlain writes o.rest. Timeouts.Send counts from the last byte that went out. Of a
// large request, a server that does not read on is looked at now and then: it may have
// answered.
func (k *conn) writePlain(r *Request, o *outgoing, large bool) error {
	var stalled time.Duration
	for {
		step := r.Timeouts.Send
		if large && k.raw != nil {
			if step -= stalled; r.Timeouts.Send == 0 || step > glances {
				step = glances
			}
		}
		k.limitWrite(step)
		var n int64
		var err error
		if len(o.rest) == 1 {
			var m int
			m, err = k.Write(o.rest[0])
			n, o.rest[0] = int64(m), o.rest[0][m:]
		} else {
			n, err = o.rest.WriteTo(k.Conn)
		}
		k.wrote = k.wrote || n > 0
		if err == nil || !timedOut(err) || k.cancelled.Load() {
			return err
		}
		if n > 0 {
			stalled = 0
			continue
		}
		stalled += step
		if r.Timeouts.Send > 0 && stalled >= r.Timeouts.Send || k.look() == linkPending {
			return err
		}
	}
}

// writeRecords writes o.rest over TLS.
func (k *conn) writeRecords(r *Request, o *outgoing) error {
	for _, segment := range o.rest {
		for len(segment) > 0 {
			k.limitWrite(r.Timeouts.Send)
			n, err := k.Write(segment[:min(len(segment), recordSize)])
			k.wrote = k.wrote || n > 0
			if err != nil {
				return err
			}
			segment = segment[n:]
		}
	}
	return nil
}

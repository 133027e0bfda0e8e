package upstream

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"time"
)

// body is the way of a response through its connection.
type body struct {
	client *Client
	conn   *conn
	req    *Request
	stop   func() bool // unhooks the context; nil: none
	left   int64       // of the body, or of the chunk that is being read
	done   bool        // the framed end was seen
	close  bool        // the connection serves nothing more
	closed bool
	taken  bool // the connection was given away
	opened bool // a chunk was begun: its line end is still to come
	err    error
}

// Read reads the body, without its framing. It returns what is there and does not wait
// for more. io.EOF means that the framed end was seen; a body that ends before is an
// *Error with io.ErrUnexpectedEOF.
func (res *Response) Read(p []byte) (int, error) {
	switch {
	case res.err != nil:
		return 0, res.err
	case res.done || res.closed:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	var n int
	var err error
	switch res.Framing {
	case ByLength:
		n, err = res.some(p, res.left)
		res.left -= int64(n)
		if res.left == 0 && err == nil {
			res.done = true
		}
	case Chunked:
		n, err = res.chunks(p)
	default:
		n, err = res.some(p, -1)
		if err == io.ErrUnexpectedEOF {
			res.done, err = true, nil
			if n == 0 {
				return 0, io.EOF
			}
		}
	}
	if err != nil {
		res.err = &Error{Op: OpBody, Addr: res.Addr, Wrote: true, Timeout: timedOut(err), Err: err}
		if n == 0 {
			return 0, res.err
		}
	}
	return n, nil
}

// some reads up to limit bytes (-1: any number), from the buffer or else the connection.
func (res *Response) some(p []byte, limit int64) (int, error) {
	if limit >= 0 && int64(len(p)) > limit {
		p = p[:limit]
	}
	k := res.conn
	if k.r < k.w {
		n := copy(p, k.buf[k.r:k.w])
		k.r += n
		return n, nil
	}
	k.deadline(k.SetReadDeadline, res.req.Timeouts.Read)
	n, err := k.Conn.Read(p)
	if n > 0 {
		return n, nil // the error comes again
	}
	if err == io.EOF || err == nil {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// maxChunkLine bounds a chunk's size line with its extensions, maxTrailer the fields
// behind the last chunk; both in bytes. Trailers are read and dropped.
const (
	maxChunkLine = 4 << 10
	maxTrailer   = 16 << 10
)

// chunks reads from as many chunks as are in the buffer already; it waits only for the
// first byte.
func (res *Response) chunks(p []byte) (n int, err error) {
	for n < len(p) {
		if res.left == 0 {
			if n > 0 && !res.lineReady() {
				return n, nil
			}
			if err := res.nextChunk(); err != nil || res.done {
				return n, err
			}
		}
		if n > 0 && res.conn.r == res.conn.w {
			return n, nil
		}
		m, err := res.some(p[n:], res.left)
		n += m
		res.left -= int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// lineReady reports whether the next chunk's size can be read without waiting.
func (res *Response) lineReady() bool {
	pending := res.conn.buf[res.conn.r:res.conn.w]
	if res.opened && len(pending) >= 2 {
		pending = pending[2:]
	}
	return bytes.IndexByte(pending, '\n') >= 0
}

// nextChunk reads the end of the last chunk and the size of the next; after the last one
// the trailer.
func (res *Response) nextChunk() error {
	if res.opened {
		line, err := res.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return ProtocolError("chunk is longer than its size")
		}
	}
	line, err := res.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, extension, _ := bytes.Cut(line, []byte{';'})
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 15 || !value(extension) {
		return ProtocolError("chunk size")
	}
	var total int64
	for _, c := range size {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return ProtocolError("chunk size")
		}
		total = total<<4 | int64(c)
	}
	if total > 0 {
		res.left, res.opened = total, true
		return nil
	}
	for seen := 0; ; {
		line, err := res.line(maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			res.done = true
			return nil
		}
		if seen += len(line); seen > maxTrailer {
			return ProtocolError("trailer is larger than " + strconv.Itoa(maxTrailer) + " bytes")
		}
		if name, content, ok := bytes.Cut(line, []byte{':'}); !ok || !token(name) || !value(content) {
			return ProtocolError("trailer line")
		}
	}
}

// line reads a line of up to limit bytes and returns it without its end.
func (res *Response) line(limit int) ([]byte, error) {
	k := res.conn
	for {
		if i := bytes.IndexByte(k.buf[k.r:k.w], '\n'); i >= 0 {
			line := k.buf[k.r : k.r+i]
			k.r += i + 1
			if i == 0 || line[i-1] != '\r' {
				return nil, ProtocolError("line without carriage return")
			}
			return line[:i-1], nil
		}
		if k.w-k.r > limit {
			return nil, ProtocolError("line is longer than " + strconv.Itoa(limit) + " bytes")
		}
		k.deadline(k.SetReadDeadline, res.req.Timeouts.Read)
		if err := k.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Conn gives the connection away after a switch of protocols, with the bytes that were
// read ahead. The response need not be closed then.
func (res *Response) Conn() (c net.Conn, early []byte) {
	k := res.conn
	res.taken, res.closed = true, true
	if res.stop != nil {
		res.stop()
	}
	_ = k.SetDeadline(noDeadline)
	return k.Conn, k.buf[k.r:k.w]
}

// noDeadline lifts a deadline.
var noDeadline time.Time

// Close ends the response. The connection is kept when the framed end was seen, nothing
// came behind it and both sides allow it; else it is closed.
func (res *Response) Close() error {
	if res.closed {
		return nil
	}
	res.closed = true
	k := res.conn
	interrupted := res.stop != nil && !res.stop()
	limit := res.req.Target.MaxRequests
	if limit == 0 {
		limit = 1000
	}
	if !res.done || res.close || interrupted || k.r != k.w || res.req.Target.NoKeepAlive || k.served >= limit || res.err != nil {
		return k.Conn.Close()
	}
	k.r, k.w = 0, 0
	if len(k.buf) > 64<<10 {
		k.buf = nil // one large head must not be kept for ever
	}
	_ = k.SetDeadline(noDeadline)
	res.client.put(k, res.req.Target)
	return nil
}

// drop closes the connection of a failed try.
func (res *Response) drop() {
	res.closed = true
	if res.stop != nil {
		res.stop()
	}
	_ = res.conn.Conn.Close()
}

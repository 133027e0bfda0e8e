package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gosix/gosix/pkg/http1"
)

// body is the way of a response through its connection.
type body struct {
	client   *Client
	conn     *conn
	req      *Request
	ctx      context.Context // names the cause when a read was broken off
	left     int64           // of the body, or of the chunk that is being read
	idle     time.Duration   // what the server says of idle connections; 0: nothing
	framing  http1.Chunks    // of a chunked body
	informed int             // answers below 200 so far
	sender   *sender         // sends the rest of the request; nil: nobody does
	done     bool            // the framed end was seen
	last     bool            // the connection serves nothing more
	unsent   bool            // the answer came before the request was sent whole
	closed   bool            // or given away
	err      error
}

var errClosed = errors.New("response is closed")

// Read reads the body, without its framing. It returns what is there and does not wait
// for more. io.EOF means that the framed end was seen; a body that ends before is an
// *Error with io.ErrUnexpectedEOF.
func (res *Response) Read(p []byte) (int, error) {
	switch {
	case res.err != nil:
		return 0, res.err
	case res.done || res.Framing == NoBody:
		return 0, io.EOF
	case res.closed:
		return 0, errClosed
	case len(p) == 0:
		return 0, nil
	}
	var n int
	var err error
	switch res.Framing {
	case ByLength:
		n, err = res.some(p, res.left)
		res.left -= int64(n)
		res.done = res.left == 0
	case Chunked:
		n, err = res.chunks(p)
	default:
		if n, err = res.some(p, -1); err == io.EOF {
			res.done = true
			return 0, io.EOF
		}
	}
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		res.err = because(res.ctx, res.blame(&Error{Op: OpBody, Addr: res.Addr, Wrote: true, Timeout: timedOut(err), Err: err}))
	}
	switch {
	case n > 0:
		return n, nil // the error comes with the next call
	case res.err != nil:
		return 0, res.err
	case res.done:
		return 0, io.EOF
	}
	return 0, nil
}

// Next is Read for what came with the bytes before it and lies in the client's memory: the
// caller needs none. What it returns is good until the next call. Nothing and no error say that
// the rest, if there is one, is for Read.
func (res *Response) Next() ([]byte, error) {
	if res.err != nil || res.closed {
		return nil, nil
	}
	if res.done || res.Framing == NoBody {
		return nil, io.EOF
	}
	k := res.conn
	n := k.w - k.r
	switch res.Framing {
	case ByLength:
		n = int(min(int64(n), res.left))
		res.left -= int64(n)
		res.done = res.left == 0
	case UntilClose:
	default: // Read puts together what small chunks have
		n = 0
	}
	p := k.buf[k.r : k.r+n : k.r+n]
	k.r += n
	return p, nil
}

// Await waits at most d until Read has something to say: bytes, the end, or an error. It
// reports false when there is nothing yet; Timeouts.Read does not count meanwhile.
func (res *Response) Await(d time.Duration) bool {
	k := res.conn
	switch {
	case res.err != nil || res.done || res.closed || res.Framing == NoBody || k.r != k.w:
		return true
	case d <= 0:
		return false
	}
	k.limitRead(d)
	// Another error than that nothing came is there again for the next read.
	err := k.fill()
	return err == nil || !timedOut(err) || k.cancelled.Load()
}

// directRead is from how many bytes on a body is read past the connection's buffer.
const directRead = 4 << 10

// some reads up to limit bytes (-1: any number), from the buffer or else the connection.
func (res *Response) some(p []byte, limit int64) (int, error) {
	if limit >= 0 && int64(len(p)) > limit {
		p = p[:limit]
	}
	k := res.conn
	if k.r == k.w {
		k.limitRead(res.req.Timeouts.Read)
		if len(p) >= directRead && (res.Framing != Chunked || len(p) >= len(k.buf)) {
			n, err := k.read(p)
			return n, k.arrived(n, err)
		}
		if err := k.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, k.buf[k.r:k.w])
	k.r += n
	return n, nil
}

// chunks reads from as many chunks as are in the buffer already; it waits only for the
// first byte.
func (res *Response) chunks(p []byte) (n int, err error) {
	k := res.conn
	for {
		more, err := res.advance()
		switch {
		case err != nil || res.done:
			return n, err
		case n > 0 && (more || n == len(p) || k.r == k.w):
			return n, nil
		case more:
			k.limitRead(res.req.Timeouts.Read)
			if err := k.fill(); err != nil {
				return n, err
			}
			continue
		}
		m, err := res.some(p[n:], res.left)
		n += m
		res.left -= int64(m)
		if res.framing.Took(m); err != nil {
			return n, err
		}
	}
}

// advance goes through the buffer up to the next byte of data or the end of the body. more
// says that the buffer ends before that.
func (res *Response) advance() (more bool, err error) {
	k := res.conn
	n, more, err := res.framing.Advance(k.buf[k.r:k.w])
	k.r += n
	if err != nil {
		return more, ProtocolError(err.Error())
	}
	res.left, res.done = res.framing.Left, res.framing.Done
	return more, nil
}

// skip goes on to the end of the body as far as it is in the buffer: a reader that knows
// the end of what is carried need not read the end of the framing.
func (res *Response) skip() {
	k := res.conn
	for !res.done {
		if res.Framing == Chunked {
			if more, err := res.advance(); more || err != nil || res.done {
				return
			}
		}
		m := min(res.left, int64(k.w-k.r))
		if m == 0 {
			return
		}
		k.r += int(m)
		if res.Framing == Chunked {
			res.framing.Took(int(m))
		}
		if res.left -= m; res.left > 0 {
			return
		}
		res.done = res.Framing != Chunked
	}
}

// Conn gives the connection away after a switch of protocols, with the bytes that were
// read ahead. Closing the connection is the caller's then; the response need not be closed
// and the context does not end the connection any more.
func (res *Response) Conn() (c net.Conn, early []byte) {
	k := res.conn
	interrupted := !res.client.hooks.remove(k)
	res.closed = true
	_ = k.SetDeadline(time.Time{})
	if interrupted {
		_ = k.drop() // who reads from it learns that it is over
	}
	return k.Conn, k.buf[k.r:k.w]
}

// forget lets go of what must not stay in memory for a response that does.
func (res *Response) forget() { res.conn, res.req, res.ctx = nil, nil, nil }

// Close ends the response. The connection is kept when the framed end was seen, nothing
// came behind it, the request was sent whole and both sides allow it; else it is closed.
// What is still being sent of the request is sent on when the answer ended, as long as the
// server takes it; else the sending is broken off. When Close returns nobody uses the
// request's body any more. Closing twice is no error.
func (res *Response) Close() error {
	if res.closed || res.conn == nil {
		return nil
	}
	res.closed = true
	defer res.forget()
	k, t := res.conn, res.req.Target
	if res.err == nil && !res.last && (res.Framing == ByLength || res.Framing == Chunked) {
		res.skip()
	}
	if res.sender != nil {
		res.settle()
	}
	interrupted := !res.client.hooks.remove(k)
	requests := t.MaxRequests
	if requests <= 0 {
		requests = defaultMaxRequests
	}
	if !res.done || res.err != nil || interrupted || res.unsent {
		return k.drop()
	}
	if res.last || t.NoKeepAlive || k.served >= requests || !k.clean() {
		return k.Conn.Close()
	}
	k.unload()
	if k.idleLimit = t.IdleTimeout; k.idleLimit <= 0 {
		k.idleLimit = defaultIdleTimeout
	}
	if res.idle > 0 {
		k.idleLimit = min(k.idleLimit, res.idle)
	}
	res.client.put(k, t)
	return nil
}

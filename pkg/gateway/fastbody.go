package gateway

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/http1"
)

// fastBody reads the body of a request. Every wait for the client has its own limit: one that
// stalls is cut, one that is slow but steady is not.
type fastBody struct {
	c        *h1conn
	sink     *fastSink
	gap      time.Duration
	left     int64 // of a body of known length
	chunks   http1.Chunks
	chunked  bool
	expected bool // the client waits to be asked for the body
	err      error

	// The upstream client may read while the gateway writes the answer.
	begun, ended, interrupted atomic.Bool // ended: the end was seen
}

// Read implements io.Reader.
func (b *fastBody) Read(p []byte) (int, error) {
	switch {
	case b.interrupted.Load():
		return 0, errInterrupted
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	}
	if !b.begun.Load() {
		b.begun.Store(true)
		if b.expected {
			b.sink.invite()
		}
	}
	var n int
	var err error
	if b.chunked {
		n, err = b.readChunks(p)
	} else {
		n, err = b.readLength(p)
	}
	if err == io.EOF {
		b.ended.Store(true)
		b.c.whole()
	}
	b.err = err
	if n > 0 && err != io.EOF {
		err = nil // with the next call
	}
	return n, err
}

// some reads what is there, or waits for it.
func (b *fastBody) some(p []byte) (int, error) {
	c := b.c
	if c.r < c.w {
		n := copy(p, c.in.bytes[c.r:c.w])
		c.r += n
		return n, nil
	}
	return b.wait(p)
}

// wait reads from the connection.
func (b *fastBody) wait(p []byte) (int, error) {
	c := b.c
	for {
		c.expect(&c.reading, b.gap)
		n, err := c.nc.Read(p)
		late := c.settle(&c.reading)
		switch {
		case n > 0:
			return n, nil
		case err == io.EOF:
			return 0, io.ErrUnexpectedEOF
		case err == nil:
			return 0, io.ErrNoProgress
		case b.interrupted.Load():
			return 0, errInterrupted
		case !late && timedOut(err):
			// The deadline is that of the last body, that nobody wanted to be read on.
			_ = c.sys.SetReadDeadline(time.Time{})
			if b.interrupted.Load() {
				return 0, errInterrupted
			}
			continue
		}
		return 0, err
	}
}

func (b *fastBody) readLength(p []byte) (int, error) {
	n, err := b.some(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// readChunks reads from as many chunks as are there; it waits only for the first byte.
func (b *fastBody) readChunks(p []byte) (n int, err error) {
	c := b.c
	for {
		size, more, err := b.chunks.Advance(c.pending())
		c.r += size
		switch {
		case err != nil:
			return n, err
		case b.chunks.Done:
			return n, io.EOF
		case n > 0 && (more || n == len(p) || c.r == c.w):
			return n, nil
		case more:
			m, err := b.wait(c.space())
			if c.w += m; err != nil {
				return n, err
			}
			continue
		}
		m, err := b.some(p[n:][:min(int64(len(p)-n), b.chunks.Left)])
		n += m
		if b.chunks.Took(m); err != nil {
			return n, err
		}
	}
}

// pending is what was read and not yet used.
func (c *h1conn) pending() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.bytes[c.r:c.w]
}

// space returns memory behind what is pending. The head of the request stays where it is.
func (c *h1conn) space() []byte {
	if c.r == c.w {
		c.r, c.w = c.keep, c.keep
	}
	if len(c.in.bytes)-c.w < bufferRoom {
		// What is pending is less than a line of a chunk may have, of what is in memory.
		next, size := buffers.Get().(*h1buffer), c.w-c.r
		if size > len(next.bytes)-bufferRoom {
			next = &h1buffer{make([]byte, 2*size+bufferRoom)}
		}
		copy(next.bytes, c.in.bytes[c.r:c.w])
		if c.held == nil {
			c.held = c.in
		} else {
			free(c.in)
		}
		c.in, c.r, c.w, c.keep = next, 0, size, 0
	}
	return c.in.bytes[c.w:]
}

// Interrupt makes a Read that waits for the client fail, and all that follow.
func (b *fastBody) Interrupt() {
	b.interrupted.Store(true)
	if !b.ended.Load() { // what is read behind the end is the next request
		_ = b.c.sys.SetReadDeadline(longAgo)
	}
}

// drop reads what is left of a body that nobody began to read, so that the connection can
// be used again. It reports false if the end did not come in time.
func (b *fastBody) drop() bool {
	if b.begun.Load() || b.expected || b.left > lingerBytes {
		return false
	}
	b.begun.Store(true)
	b.gap = lingerTime
	scrap := buffers.Get().(*h1buffer)
	defer free(scrap)
	for end, left := time.Now().Add(lingerTime), lingerBytes; left > 0; {
		n, err := b.Read(scrap.bytes)
		left -= n
		if err != nil || time.Now().After(end) {
			return err == io.EOF
		}
	}
	return false
}

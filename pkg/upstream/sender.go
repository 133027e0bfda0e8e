package upstream

import (
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gosix/gosix/pkg/socket"
)

// An Interrupter is a Request's Stream whose Read can be broken off.
type Interrupter interface {
	// Interrupt makes a Read that waits fail soon, and those that follow at once. It may be
	// called while another goroutine reads.
	Interrupt()
}

// sender sends what is left of a request beside the reading of its answer, with the one
// goroutine that this package starts: only then do two sides of a request have to wait at
// the same time. It writes to the connection and never reads from it.
type sender struct {
	o      *outgoing
	done   chan struct{} // closed at its end
	err    *Error        // then: why the request was not sent whole
	sent   atomic.Int64  // bytes
	seen   int64         // of sent, when the reader last asked
	ending atomic.Bool   // the answer has ended: no more patience with the server
	failed atomic.Pointer[Error]
}

// beside starts the sender of what o has left.
func (res *Response) beside(o *outgoing) {
	k, s := res.conn, &sender{o: o, done: make(chan struct{})}
	o.lent, res.sender, k.watch = true, s, false
	k.sender.Store(s)
	go func() {
		defer close(s.done)
		if s.err = k.send(res.req, o); s.err != nil && s.err.Client != nil {
			// Half a request gets no whole answer. A server that takes no more of it, on
			// the other hand, may have read enough.
			s.failed.Store(s.err)
			k.cancel()
		}
	}()
}

// Sending reports whether the rest of the request may still be on its way, so that its body
// and Stream are in use by another goroutine until Close has returned.
func (res *Response) Sending() bool { return res.sender != nil }

// moved reports whether the request got on since the last call. The reader calls it.
func (s *sender) moved() bool {
	before := s.seen
	s.seen = s.sent.Load()
	return s.seen != before
}

// blame returns the failure that is behind one of the reading.
func (res *Response) blame(e *Error) *Error {
	if res.sender != nil {
		if cause := res.sender.failed.Load(); cause != nil {
			blamed := *cause
			blamed.Wrote = true
			return &blamed
		}
	}
	return e
}

// settle waits for the sender's end, and brings it about unless the answer ended well.
func (res *Response) settle() {
	k, s := res.conn, res.sender
	if res.done && res.err == nil {
		s.ending.Store(true)
		select {
		case <-s.done:
		case <-res.ctx.Done():
		}
	}
	select {
	case <-s.done:
	default:
		k.cancel()
		if stream, ok := res.req.Stream.(Interrupter); ok {
			stream.Interrupt()
		}
		<-s.done
	}
	k.sender.Store(nil)
	res.unsent, res.sender = s.err != nil, nil
	k.heard = 0 // for the server the connection is idle since the request ended
	s.o.lent = false
	res.client.recycle(s.o)
}

// beneath is the socket below TLS. A record that was written in part can be continued only
// here: when the server answers instead of reading, beneath takes the rest into memory and
// reports it as written. That is at most what TLS makes of recordSize bytes.
type beneath struct {
	net.Conn
	k *conn

	mu      sync.Mutex // reading may write, too: TLS answers some messages by itself
	sending bool
	holding bool   // what is written is held back
	owed    []byte // was reported as written
	one     [1][]byte
	rest    net.Buffers

	dry  bool    // nothing comes from the socket
	got  int     // of the head of the record that is being read
	head [5]byte // which says its length in the last two
	left int     // of the record behind its head
}

// begin writes what is owed; what follows is written with the limits of the request.
func (b *beneath) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding = false
	if len(b.owed) > 0 {
		if err := b.pour(b.owed); err != nil {
			return err
		}
		if b.holding {
			return errAnswering
		}
		b.owed = nil
	}
	b.sending = true
	return nil
}

func (b *beneath) end() {
	b.mu.Lock()
	b.sending = false
	b.mu.Unlock()
}

func (b *beneath) held() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holding
}

// Write writes a record, or holds back what the server does not take.
func (b *beneath) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.holding:
		b.owed = append(b.owed, p...)
		return len(p), nil
	case !b.sending:
		return b.Conn.Write(p)
	}
	if err := b.pour(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// pour writes p. When it returns without an error, what is left of p is owed.
func (b *beneath) pour(p []byte) error {
	b.one[0] = p
	b.rest = b.one[:]
	err := b.k.pour(b.Conn, &b.rest)
	if err == errAnswering {
		b.holding = true
		b.owed = append([]byte(nil), b.rest[0]...)
		err = nil
	}
	b.one[0] = nil
	return err
}

// Read reads, but does not wait where the connection is not to.
func (b *beneath) Read(p []byte) (int, error) {
	if b.dry || b.k.eager && b.k.look() != socket.Pending {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.Conn.Read(p)
	b.follow(p[:n])
	return n, err
}

// follow keeps count of where the records end in what was read.
func (b *beneath) follow(p []byte) {
	for len(p) > 0 {
		if b.left > 0 {
			n := min(b.left, len(p))
			b.left -= n
			p = p[n:]
			continue
		}
		n := copy(b.head[b.got:], p)
		b.got += n
		if p = p[n:]; b.got == len(b.head) {
			b.got, b.left = 0, int(b.head[3])<<8|int(b.head[4])
		}
	}
}

// torn reports whether a part of a record was read, which lies in the memory of TLS.
func (b *beneath) torn() bool { return b.got > 0 || b.left > 0 }

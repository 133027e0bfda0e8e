package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// swap is the short way of a request that one call sends: looking at the connection,
// writing and waiting for the answer are one turn with the poller.
//
// The Read of a socket tries first and waits when nothing is there, and right after a request
// nothing ever is. To wait first would miss what came before the poller was made ready, and
// only that: here it is made ready before the request goes out, so whatever comes later
// wakes up who waits. What comes between a look and the poller is not lost either, since the
// look follows.
type swap struct {
	step func(socket uintptr) bool // bound once; nil: there is no short way
	o    *outgoing                 // to write
	out  net.Buffers               // of it
	n    int                       // bytes read, in the end
	sent int                       // bytes written
	err  error                     // of writing, or of reading once all was written
	at   swapPart

	// lender takes o back as soon as it is sent: while the answer is on its way, the memory
	// serves another request, and is in the processor's reach. nil: nobody does.
	lender *Client
	gone   bool // it was taken back
}

type swapPart uint8

const (
	swapBegins swapPart = iota
	swapDead            // the look showed a connection that is not as it was left
	swapSent            // or what could be of it
	swapRead
)

// swapping reports whether o can take the short way. On a new connection the server may have
// spoken first, which is to be read at once. What one call does not take goes the long way, on
// which somebody looks for an early answer.
func (k *conn) swapping(o *outgoing) bool {
	return k.swap.step != nil && k.served > 0 && o.whole
}

// exchange goes the short way. dead means that the server had left before: nothing was sent.
// Without an error the request was written, and what it brought is in the buffer; or else
// something is left of o.rest and sent by send. The limit of reading is set.
func (k *conn) exchange(o *outgoing) (dead bool, sent, read error) {
	s := &k.swap
	s.o, s.out, s.n, s.sent, s.err, s.at = o, o.rest, 0, 0, nil, swapBegins
	err := k.raw.Read(s.step)
	s.o, s.out = nil, nil
	k.wrote = s.sent > 0
	if !s.gone {
		o.pass(s.sent)
	}
	switch {
	case s.at == swapDead:
		return true, nil, nil
	case s.at == swapBegins:
		return false, err, nil // cancelled before
	case !s.gone && o.rest != nil:
		return false, k.fault("write", s.err), nil
	case s.at == swapSent && err != nil:
		if !timedOut(err) || k.cancelled.Load() || !k.reading.early() {
			return false, nil, k.fault("read", errors.Unwrap(err))
		}
		k.setRead() // reading goes on
		return false, nil, nil
	case s.n == 0 && s.err == nil:
		return false, nil, io.ErrUnexpectedEOF
	}
	k.took(s.n)
	k.answered = s.n > 0
	return false, nil, k.fault("read", s.err)
}

// pass goes on by n bytes of what is to be written; nothing is left: rest is nil.
func (o *outgoing) pass(n int) {
	for len(o.rest) > 0 && n >= len(o.rest[0]) {
		n -= len(o.rest[0])
		o.rest = o.rest[1:]
	}
	if len(o.rest) == 0 {
		o.rest = nil
		return
	}
	o.rest[0] = o.rest[0][n:]
}

// fault makes an error of the kernel what net would make of it; nil: none.
func (k *conn) fault(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, is := err.(syscall.Errno); is {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: k.LocalAddr(), Addr: k.RemoteAddr(), Err: err}
}

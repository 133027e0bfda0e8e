package drain

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// settle is how long a door stays open after the last client came in: as long as a handshake
// of TCP may take that had begun before. slam is when it closes whatever comes.
const (
	settle = 100 * time.Millisecond
	slam   = time.Second
)

// door is a listener that closes behind the last client: closing one resets connections that
// the kernel has accepted, and whose clients may have sent a request.
type door struct {
	net.Listener
	server *Server
	secure bool
	mute   bool // nothing is done to its connections here
	shut   atomic.Bool
	wait   atomic.Int64 // ns between two clients, while it closes
	until  atomic.Int64 // ns since 1970
	empty  bool         // nobody came for that time
}

// close lets the clients in that have come, and then no more. It does not wait.
func (o *door) close(patient bool) {
	l, ok := o.Listener.(*net.TCPListener)
	if !ok {
		o.shut.Store(true)
		_ = o.Listener.Close()
		return
	}
	wait := time.Millisecond
	if patient && refuse(l) {
		wait = settle
	}
	o.wait.Store(int64(wait))
	o.until.Store(time.Now().Add(slam).UnixNano())
	o.shut.Store(true)
	_ = l.SetDeadline(time.Now().Add(wait))
}

// Accept implements net.Listener.
func (o *door) Accept() (net.Conn, error) {
	nc, err := o.Listener.Accept()
	// A time that is over says nothing about who waits, so that it takes two in a row: every
	// Accept begins with a look.
	for o.shut.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		if o.empty {
			return nil, net.ErrClosed
		}
		o.empty = true
		o.again()
		nc, err = o.Listener.Accept()
	}
	if err != nil {
		return nil, err
	}
	if o.shut.Load() {
		o.empty = false
		o.again()
	}
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return nc, nil
	}
	c := &conn{Conn: t, tcp: t, server: o.server, secure: o.secure, mute: o.mute, fresh: true, waiting: !o.mute}
	if !o.mute {
		c.straight = straightOf(t)
	}
	return c, nil
}

// again sets how long the next client is waited for, while the door closes.
func (o *door) again() {
	l, ok := o.Listener.(*net.TCPListener)
	if !ok {
		return
	}
	at := time.Now().Add(time.Duration(o.wait.Load()))
	if end := time.Unix(0, o.until.Load()); at.After(end) {
		at = end
	}
	_ = l.SetDeadline(at)
}

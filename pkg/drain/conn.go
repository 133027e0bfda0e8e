package drain

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// conn is an accepted connection, below TLS. While its server ends and no byte of a request
// has come, its reads end after the grace; net/http then closes it.
//
// net/http sets several deadlines for every request, and each costs the runtime a timer that
// is moved. The system is told of one only when somebody waits, and only if it would end the
// wait too late otherwise; what ends a wait too soon is made good then. A connection that is
// in use needs one every now and then in the place of some for each request.
type conn struct {
	net.Conn // tcp; nil: the connection is only counted
	tcp      *net.TCPConn
	straight *straight // nil: tcp is read and written as it is
	server   *Server
	secure   bool

	mu      sync.Mutex
	mute    bool // HTTP/2, or somebody else's: nothing is done here
	fresh   bool // no request has come on it yet
	waiting bool // for the first byte of a request
	first   bool // the next deadline is that of the wait, and not that of a head
	capped  bool // the deadline is ours
	in, out deadline
}

// deadline is that of one direction.
type deadline struct {
	asked time.Time // what the engine wants
	told  time.Time // what the system knows
	waits int       // calls of Read or Write
}

// late reports whether the system would end a wait too late.
func (d *deadline) late() bool {
	return !d.asked.IsZero() && (d.told.IsZero() || d.asked.Before(d.told))
}

// early reports whether a wait that ended had time left.
func (d *deadline) early() bool {
	return d.asked.IsZero() || time.Now().Before(d.asked)
}

// beneath returns what Serve made of a connection, nil if it is none of those. What has it
// beneath says so as *tls.Conn does.
func beneath(nc net.Conn) *conn {
	for {
		if c, ok := nc.(*conn); ok {
			return c
		}
		t, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = t.NetConn()
	}
}

// Unwrap returns the connection of the system below one that Serve accepted, TLS or not; of
// others, it returns what it was given.
func Unwrap(nc net.Conn) net.Conn {
	if c := beneath(nc); c != nil && c.tcp != nil {
		return c.tcp
	}
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}

// begun says that a request came, or that there will be none of HTTP/1.
func (c *conn) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.fresh = false, false
}

// idle says that the answer to a request is through.
func (c *conn) idle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.first = true, true
}

// leave takes the connection out of what is done here.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute, c.waiting = true, false
	if c.capped {
		c.capped = false
		_ = c.tellIn(c.in.asked)
	}
}

// hurry gives a connection that waits its grace.
func (c *conn) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && !c.mute {
		c.cap()
	}
}

// cap sets the deadline of the engine or that of the grace, whichever is sooner; c.mu is
// held. Connections are not to end all at once: a client that is busy with many of them
// notices each later, and may have sent something by then.
func (c *conn) cap() {
	grace := time.Duration(c.server.grace.Load())
	if half := grace / 2; half > 0 {
		grace = half + rand.N(half)
	}
	at := time.Now().Add(grace)
	if c.in.asked.IsZero() || at.Before(c.in.asked) {
		c.capped = true
		_ = c.tellIn(at)
	}
}

// tellIn tells the system when reads are to end; c.mu is held.
func (c *conn) tellIn(t time.Time) error {
	c.in.told = t
	return c.tcp.SetReadDeadline(t)
}

// tellOut is tellIn for writes.
func (c *conn) tellOut(t time.Time) error {
	c.out.told = t
	return c.tcp.SetWriteDeadline(t)
}

// SetReadDeadline is the engine's; what it is for follows from when it comes.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wasCapped := c.capped
	c.in.asked, c.capped = t, false
	switch {
	case c.mute:
	case c.fresh && c.secure:
		c.waiting = true // the handshake is through, and is no request
	case c.waiting && !c.fresh:
		c.waiting, c.first = c.first, false
	}
	var err error
	if wasCapped || c.in.waits > 0 && c.in.late() {
		err = c.tellIn(t)
	}
	if c.waiting && c.server.ending.Load() {
		c.cap()
	}
	return err
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.asked = t
	if c.out.waits > 0 && c.out.late() {
		return c.tellOut(t)
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite is asked for by net/http.
func (c *conn) CloseWrite() error { return c.tcp.CloseWrite() }

// Memory is what is read into, of which a connection that waits need not have any. Room returns
// some that is not empty, the same until Spare: nothing was read into it, if there was any.
type Memory interface {
	Room() []byte
	Spare()
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.read(p, nil) }

// ReadInto is Read into memory that is asked for when there is something to be read.
func (c *conn) ReadInto(m Memory) (int, error) { return c.read(nil, m) }

// read reads into p, or into m, if that is not nil.
func (c *conn) read(p []byte, m Memory) (int, error) {
	c.mu.Lock()
	alone := c.in.waits == 0 && (m != nil || len(p) > 0)
	c.in.waits++
	if !c.capped && c.in.late() {
		_ = c.tellIn(c.in.asked)
	}
	c.mu.Unlock()
	for {
		var n int
		var err error
		switch {
		case alone && c.straight != nil:
			n, err = c.straight.read(p, m)
		case m != nil:
			n, err = c.tcp.Read(m.Room())
		default:
			n, err = c.tcp.Read(p)
		}
		if again := c.judge(&n, &err, p, m); again {
			continue
		}
		if n == 0 && m != nil {
			m.Spare()
		}
		return n, err
	}
}

// judge looks at what came of a read, and reports whether it is to be made again.
func (c *conn) judge(n *int, err *error, p []byte, m Memory) (again bool) {
	c.mu.Lock()
	defer func() {
		if !again {
			c.in.waits--
		}
		c.mu.Unlock()
	}()
	if *n > 0 && !c.capped || m == nil && len(p) == 0 {
		c.waiting = c.waiting && *n == 0
		return false
	}
	late := *n == 0 && errors.Is(*err, os.ErrDeadlineExceeded)
	if *n == 0 && !late {
		return false
	}
	if !c.capped {
		if again = c.in.early(); again {
			_ = c.tellIn(c.in.asked)
		}
		return again
	}
	// A request that came in time, or in the very moment, is served.
	_ = c.tellIn(c.in.asked)
	if late && c.waiting {
		if m != nil {
			p = m.Room()
		}
		if *n = look(c.tcp, p); *n == 0 {
			// net/http reads once more on a connection that is new.
			_ = c.tellIn(time.Unix(1, 0))
			return false
		}
		*err = nil
	}
	again = *n == 0
	c.waiting, c.capped = false, false
	return again
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	alone := c.out.waits == 0
	c.out.waits++
	if c.out.late() {
		_ = c.tellOut(c.out.asked)
	}
	c.mu.Unlock()
	for again := true; again; {
		var m int
		if alone && c.straight != nil {
			m, err = c.straight.write(p[n:])
		} else {
			m, err = c.tcp.Write(p[n:])
		}
		n += m
		again = c.wrote(err)
	}
	return n, err
}

// wrote looks at what came of a write, and reports whether it is to go on.
func (c *conn) wrote(err error) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if again = err != nil && errors.Is(err, os.ErrDeadlineExceeded) && c.out.early(); again {
		_ = c.tellOut(c.out.asked)
		return true
	}
	c.out.waits--
	return false
}

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
type conn struct {
	*net.TCPConn
	server *Server
	secure bool

	mu      sync.Mutex
	mute    bool      // HTTP/2, or somebody else's: nothing is done here
	fresh   bool      // no request has come on it yet
	waiting bool      // for the first byte of a request
	first   bool      // the next deadline is that of the wait, and not that of a head
	capped  bool      // the deadline is ours
	asked   time.Time // the deadline that the engine wants
}

// beneath returns what Serve made of a connection, nil if it is none of those. What has it
// beneath says so as *tls.Conn does.
func beneath(nc net.Conn) *conn {
	for {
		t, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// Unwrap returns the connection of the system below one that Serve accepted, TLS or not; of
// others, it returns what it was given.
func Unwrap(nc net.Conn) net.Conn {
	if c := beneath(nc); c != nil && c.TCPConn != nil {
		return c.TCPConn
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
		_ = c.TCPConn.SetReadDeadline(c.asked)
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
	if c.asked.IsZero() || at.Before(c.asked) {
		c.capped = true
		_ = c.TCPConn.SetReadDeadline(at)
	}
}

// SetReadDeadline is the engine's; what it is for follows from when it comes.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.capped = t, false
	switch {
	case c.mute:
	case c.fresh && c.secure:
		c.waiting = true // the handshake is through, and is no request
	case c.waiting && !c.fresh:
		c.waiting, c.first = c.first, false
	}
	err := c.TCPConn.SetReadDeadline(t)
	if c.waiting && c.server.ending.Load() {
		c.cap()
	}
	return err
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.TCPConn.Read(p)
		if n == 0 && err == nil {
			return 0, nil // p is empty
		}
		if again := c.judge(&n, &err, p); !again {
			return n, err
		}
	}
}

// judge looks at what came of a read, and reports whether it is to be made again.
func (c *conn) judge(n *int, err *error, p []byte) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.capped {
		if *n > 0 {
			c.waiting = false
		}
		return false
	}
	late := *n == 0 && errors.Is(*err, os.ErrDeadlineExceeded)
	if *n == 0 && !late {
		return false
	}
	// A request that came in time, or in the very moment, is served.
	_ = c.TCPConn.SetReadDeadline(c.asked)
	if late && c.waiting {
		if *n = look(c.TCPConn, p); *n == 0 {
			// net/http reads once more on a connection that is new.
			_ = c.TCPConn.SetReadDeadline(time.Unix(1, 0))
			return false
		}
		*err = nil
	}
	again = *n == 0
	c.waiting, c.capped = false, false
	return again
}

// Package drain makes HTTP servers end without breaking a request off. It knows connections
// and what clients on them may be about to do; what is served, it does not know.
//
// What net/http does by itself breaks requests: it closes connections on which a client is
// just sending one, throws away one that it has read, drops connections that the kernel has
// accepted and it has not, and over HTTP/2 refuses requests that were sent before its GOAWAY
// was seen. Here a server ends in this order:
//
//   - Begin: every answer over HTTP/1.1 says Connection: close. A connection with HTTP/2 gets a
//     GOAWAY that refuses nothing (RFC 9113 §6.8: with the highest number of a stream), so that
//     its client takes another connection for what comes next. New connections are served.
//   - Shutdown: the listeners close, after what the kernel has accepted was taken over.
//   - A connection without a request closes by itself once it was silent for the grace given to
//     Begin, or for some time from half of it on, after a last look for bytes. One whose answer had begun before the end did gets
//     that time too: its client could not know.
//   - Connections with HTTP/2 get the last GOAWAY, and end with their streams.
package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server is an http.Server that ends in order. It is safe for concurrent use.
type Server struct {
	// Above is put over every connection without TLS before the http.Server sees it; nil:
	// nothing is. What it returns has a method NetConn as that of *tls.Conn. It is set before
	// anything is served.
	Above func(net.Conn) net.Conn

	http    *http.Server
	accepts sync.WaitGroup // the loops that accept
	grace   atomic.Int64   // ns, while it ends
	ending  atomic.Bool

	mu    sync.Mutex
	doors map[*door]bool
	conns map[*conn]bool   // with HTTP/1, or where it is not known yet
	h2    map[*frames]bool // with HTTP/2
	shut  bool             // no door opens any more
	left  chan struct{}    // closed when a connection went; nil until somebody waits
	state func(net.Conn, http.ConnState)
}

// Attach makes s end in order, when it is served through the Server that is returned. It
// comes after all of s was set and before anything is served. What s.ConnState held is
// called as before.
func Attach(s *http.Server) *Server {
	d := &Server{http: s, doors: map[*door]bool{}, conns: map[*conn]bool{}, h2: map[*frames]bool{}, state: s.ConnState}
	s.ConnState = d.changed
	d.overHTTP2()
	return d
}

// Serve accepts connections of l until Shutdown or Close of the http.Server, over TLS unless
// secure is nil. It returns nil then.
func (d *Server) Serve(l net.Listener, secure *tls.Config) error {
	o := &door{Listener: l, server: d, secure: secure != nil}
	if !d.open(o) {
		_ = l.Close()
		return nil
	}
	defer d.accepts.Done()
	defer d.closed(o)
	var served net.Listener = o
	switch {
	case secure != nil:
		served = tls.NewListener(o, secure)
	case d.Above != nil:
		served = above{o, d.Above}
	}
	err := d.http.Serve(served)
	if err == http.ErrServerClosed || o.shut.Load() {
		return nil
	}
	return err
}

// ServeConns is Serve for who speaks HTTP/1 by himself: every connection is served by a call
// of serve, in a goroutine of its own, and counts as one until that returns. It closes l at its
// end, or clients would go on to connect, and wait for nobody. With true serve
// says that the http.Server has the connection now. Neither Begin nor Last does anything to a
// connection before that; who serves it sends it away.
func (d *Server) ServeConns(l net.Listener, serve func(net.Conn) (handed bool)) error {
	o := &door{Listener: l, server: d, mute: true}
	if !d.open(o) {
		_ = l.Close()
		return nil
	}
	defer d.accepts.Done()
	defer d.closed(o)
	defer func() { _ = l.Close() }()
	wait := time.Duration(0)
	for {
		nc, err := o.Accept()
		switch {
		case err == nil:
		case o.shut.Load() || errors.Is(err, net.ErrClosed):
			return nil
		case !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) &&
			!errors.Is(err, syscall.ENOBUFS) && !errors.Is(err, syscall.ENOMEM):
			return err
		default: // it passes
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			time.Sleep(wait)
			continue
		}
		wait = 0
		c, ok := nc.(*conn)
		if !ok {
			c = &conn{server: d, mute: true} // only to be counted
		}
		d.mu.Lock()
		d.conns[c] = true
		d.mu.Unlock()
		go func() {
			if !serve(nc) {
				d.gone(c)
			}
		}()
	}
}

// Ending reports whether Begin was called.
func (d *Server) Ending() bool { return d.ending.Load() }

// above is a listener whose connections have something above them.
type above struct {
	net.Listener
	put func(net.Conn) net.Conn
}

// Accept implements net.Listener.
func (a above) Accept() (net.Conn, error) {
	nc, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return a.put(nc), nil
}

func (d *Server) open(o *door) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return false
	}
	d.accepts.Add(1)
	d.doors[o] = true
	return true
}

func (d *Server) closed(o *door) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.doors, o)
}

// Begin begins the end: from now on clients are told to take other connections, and one
// that says nothing for the time of grace, or more than half of it, is closed. A second call
// can shorten that.
func (d *Server) Begin(grace time.Duration) {
	d.grace.Store(int64(grace))
	d.ending.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.hurry()
	}
	for f := range d.h2 {
		// A client that does not read must not hold up what all others are told.
		go f.advise()
	}
}

// Last reports whether an answer that now begins must say Connection: close, where ctx is
// that of its request. Over HTTP/2 it sends the GOAWAY that is due instead; there
// Connection: close is the last GOAWAY, for which it is time a grace later.
func (d *Server) Last(ctx context.Context) bool {
	if !d.ending.Load() {
		return false
	}
	f, ok := ctx.Value(framesKey{}).(*frames)
	if !ok {
		return true
	}
	f.advise()
	return d.until(f) <= 0
}

// Handler is h with answers that say Connection: close while the server ends, for handlers
// that do not ask Last themselves.
func (d *Server) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.Last(r.Context()) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// Shutdown closes the listeners and waits until no connection is left. When ctx ends first
// it returns the error of ctx, and the rest goes on. Without Begin there is no grace.
func (d *Server) Shutdown(ctx context.Context) error {
	if !d.ending.Load() {
		d.Begin(0)
	}
	d.mu.Lock()
	d.shut = true
	for o := range d.doors {
		o.close(d.grace.Load() > 0)
	}
	d.mu.Unlock()
	d.accepts.Wait()
	if err := d.quiet(ctx); err != nil {
		return err
	}
	return d.http.Shutdown(ctx)
}

// quiet waits until no connection with HTTP/1 is left, and every one with HTTP/2 was told to
// go a grace ago.
func (d *Server) quiet(ctx context.Context) error {
	for {
		d.mu.Lock()
		busy, wait := len(d.conns) > 0, time.Duration(0)
		for f := range d.h2 {
			go f.advise()
			wait = max(wait, d.until(f))
		}
		if d.left == nil {
			d.left = make(chan struct{})
		}
		left := d.left
		d.mu.Unlock()
		if !busy && wait <= 0 {
			return nil
		}
		t := time.NewTimer(wait)
		later := t.C
		if wait <= 0 {
			later = nil
		}
		select {
		case <-left:
		case <-later:
		case <-ctx.Done():
		}
		t.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// until is how long a connection with HTTP/2 is still to be left alone.
func (d *Server) until(f *frames) time.Duration {
	at := f.advised.Load()
	if at == 0 {
		at = time.Now().UnixNano()
	}
	return time.Until(time.Unix(0, at+d.grace.Load()))
}

// changed follows the states of connections with HTTP/1.
func (d *Server) changed(nc net.Conn, to http.ConnState) {
	if d.state != nil {
		d.state(nc, to)
	}
	c := beneath(nc)
	if c == nil {
		return
	}
	switch to {
	case http.StateNew:
		d.mu.Lock()
		d.conns[c] = true
		d.mu.Unlock()
		if d.ending.Load() {
			c.hurry()
		}
	case http.StateActive:
		c.begun()
	case http.StateIdle:
		c.idle()
	case http.StateClosed, http.StateHijacked:
		c.begun()
		d.gone(c)
	}
}

func (d *Server) gone(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	d.tell()
}

// tell wakes who waits for connections to go; d.mu is held.
func (d *Server) tell() {
	if d.left != nil {
		close(d.left)
		d.left = nil
	}
}

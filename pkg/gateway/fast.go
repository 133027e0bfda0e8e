package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Fast is the engine with a loop of its own for HTTP/1.1: a goroutine for each connection,
// heads read in place, no timer, deadline or context of package context for a request. What
// speaks HTTP/2 it hands to a Std. Where that is lax it is strict: see package http1.
type Fast struct {
	std     *Std
	h2c     bool
	table   h1table
	pool    sync.Pool // *fastExchange
	handing handing
	once    sync.Once
	ended   sync.WaitGroup

	accepted, open, serving atomic.Int64
}

// NewFast returns an engine that feeds g. With h2c it speaks HTTP/2 on plain connections to
// clients that begin with its preface.
func NewFast(g *Gateway, l Limits, h2c bool, errorLog zerolog.Logger) *Fast {
	e := &Fast{std: NewStd(g, l, h2c, errorLog), h2c: h2c}
	e.pool.New = func() any { return new(fastExchange) }
	e.table.init(l)
	e.handing = handing{conns: make(chan net.Conn), closed: make(chan struct{})}
	return e
}

// Connections tells of the engine's connections.
func (e *Fast) Connections() Connections {
	c := e.std.Connections()
	return Connections{Accepted: e.accepted.Load(), Active: c.Active + e.open.Load(), Serving: c.Serving + e.serving.Load()}
}

// Serve accepts connections until Shutdown, over TLS unless secure is nil.
func (e *Fast) Serve(l net.Listener, secure *tls.Config) error {
	if secure != nil {
		// As net/http has it.
		secure = secure.Clone()
		secure.NextProtos = withProtocols(secure.NextProtos)
	}
	e.once.Do(func() {
		e.ended.Go(func() { _ = e.std.server.Serve(&e.handing) })
	})
	return e.std.drain.ServeConns(l, func(nc net.Conn) bool { return e.serve(nc, secure) })
}

// withProtocols adds what net/http's servers offer.
func withProtocols(offered []string) []string {
	for _, p := range []string{"h2", "http/1.1"} {
		found := false
		for _, o := range offered {
			found = found || o == p
		}
		if !found {
			offered = append(offered, p)
		}
	}
	return offered
}

// ServeTLS is Serve for clients that speak TLS, as Std's.
func (e *Fast) ServeTLS(l net.Listener, o TLS) error { return e.Serve(l, e.std.greeting(o)) }

// Drain begins the end of an engine that still accepts, as Std's.
func (e *Fast) Drain(grace time.Duration) {
	e.table.drain(grace)
	e.std.Drain(grace)
}

// Shutdown ends the engine, as Std's.
func (e *Fast) Shutdown(ctx context.Context) error {
	if !e.std.drain.Ending() {
		e.Drain(0)
	}
	err := e.std.shutdown(ctx, &e.table)
	e.once.Do(func() {}) // who begins to serve only now hands nothing over
	_ = e.handing.Close()
	e.ended.Wait()
	e.table.end()
	return err
}

// handing is the listener by which net/http gets connections with HTTP/2.
type handing struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (h *handing) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handing) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handing) Addr() net.Addr { return &net.TCPAddr{} }

// handed is a connection on its way to net/http, or beneath TLS; early is what was read of it.
type handed struct {
	net.Conn   // of the system
	beneath    net.Conn
	connection *connection
	early      []byte
}

// NetConn is how package drain finds the connection that it knows.
func (h *handed) NetConn() net.Conn { return h.beneath }

// Read implements net.Conn.
func (h *handed) Read(p []byte) (int, error) {
	if len(h.early) > 0 {
		n := copy(p, h.early)
		h.early = h.early[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}

// hand gives a connection to net/http. It reports false when that takes none any more.
func (e *Fast) hand(nc net.Conn) bool {
	select {
	case e.handing.conns <- nc:
		return true
	case <-e.handing.closed:
		return false
	}
}

// serve is the life of a connection. It reports true if net/http has it now.
func (e *Fast) serve(nc net.Conn, secure *tls.Config) bool {
	c := newH1Conn(e, nc)
	if !e.table.add(c) {
		_ = nc.Close()
		return false
	}
	e.accepted.Add(1)
	e.open.Add(1)
	defer c.leave()
	defer func() {
		// As with net/http, one connection must not end all others.
		if v := recover(); v != nil {
			e.std.log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Msg("connection panicked")
		}
	}()
	c.expect(&c.reading, e.std.limits.HeaderRead)
	var h *handed
	switch {
	case secure != nil:
		if h = c.secure(nc, secure); h != nil {
			return c.handOver(c.nc)
		}
	case e.h2c:
		if h = c.preface(nc); h != nil {
			return c.handOver(h)
		}
	}
	c.loop()
	return false
}

// secure makes the connection one over TLS, and returns what is beneath that if the client
// chose HTTP/2.
func (c *h1conn) secure(nc net.Conn, config *tls.Config) *handed {
	e := c.e
	h := &handed{Conn: c.sys, beneath: nc, connection: c.connection}
	t := tls.Server(h, config)
	// A context that ends would cost a goroutine; the table ends what takes too long.
	err := t.HandshakeContext(context.WithValue(context.Background(), connKey{}, c.connection))
	if err != nil {
		if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil && speaksHTTP(plain.RecordHeader) {
			_, _ = io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
		e.std.log.Debug().Str("client", c.remote.String()).Err(err).Msg("TLS handshake failed")
		c.over = true
		return nil
	}
	state := t.ConnectionState()
	c.tls, c.nc, c.connection.conn = &state, t, t
	if state.NegotiatedProtocol == "h2" {
		return h
	}
	return nil
}

// speaksHTTP reports whether what came in the place of a record of TLS begins a request.
func speaksHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// preface reads as much of a new connection as tells whether it has HTTP/2.
func (c *h1conn) preface(nc net.Conn) *handed {
	if c.await() != nil {
		c.over = true
		return nil
	}
	for {
		have := c.in.bytes[c.r:c.w]
		n := min(len(have), len(preface))
		if string(have[:n]) != preface[:n] {
			return nil
		}
		if n == len(preface) {
			return &handed{Conn: c.sys, beneath: nc, connection: c.connection, early: append([]byte(nil), have...)}
		}
		if c.more() != nil {
			c.over = true
			return nil
		}
	}
}

// handOver gives the connection to net/http.
func (c *h1conn) handOver(to net.Conn) bool {
	c.settle(&c.reading)
	c.given = true
	c.e.table.remove(c)
	if !c.e.hand(to) {
		c.given = false
		return false
	}
	return true
}

// graceOf is how long a connection may be silent while the engine ends: some less than others,
// since a client that is busy with many of them notices each later.
func graceOf(grace time.Duration) time.Duration {
	if half := grace / 2; half > 0 {
		return half + rand.N(half)
	}
	return grace
}

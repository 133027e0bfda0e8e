package nginx

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A connection is one of a client.
type connection struct {
	net.Conn
	host     *Host
	in       *bufio.Reader
	out      *bufio.Writer
	id       uint64
	requests int
	remote   netip.AddrPort
	local    netip.AddrPort
	tls      *tls.ConnectionState
	proxied  string // the client's address by the PROXY protocol
	h2       bool
	hijacked atomic.Bool
	written  int64
}

// postpone is how many bytes of an answer wait for more before they go out.
const postpone = 1460

func newConnection(h *Host, c net.Conn) *connection {
	conn := &connection{
		Conn: c, host: h, id: h.connections.Add(1),
		remote: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr()),
	}
	conn.in = bufio.NewReaderSize(c, headLimit)
	conn.out = bufio.NewWriterSize(c, 16<<10)
	return conn
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

func (c *connection) h2Name() string {
	switch {
	case !c.h2:
		return ""
	case c.tls != nil:
		return "h2"
	}
	return "h2c"
}

// hijack gives the connection away, with what was read ahead. The server sends no more.
func (c *connection) hijack() (net.Conn, error) {
	if c.h2 || c.in == nil {
		return nil, errors.New("attempt to get the socket of an HTTP/2 connection or a subrequest")
	}
	c.hijacked.Store(true)
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	return &bufferedConn{Conn: c.Conn, in: c.in}, nil
}

// A bufferedConn reads what was read ahead first.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.in.Read(p) }

// CloseWrite ends the sending half.
func (b *bufferedConn) CloseWrite() error { return closeWrite(b.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// lingerTime is how long a closing server waits for what the client still sends, so that
// the answer is not lost to a reset.
const lingerTime = 500 * time.Millisecond

// close ends the connection after the last answer.
func (c *connection) close() {
	if c.out.Flush() == nil && closeWrite(c.Conn) == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.in, 1<<20)
	}
	_ = c.Conn.Close()
}

// A tracker knows what is open, so that a Host can end it.
type tracker struct {
	mu     sync.Mutex
	open   map[io.Closer]bool
	closed bool
	wait   sync.WaitGroup
}

// run starts f for c, unless the tracker is closed.
func (t *tracker) run(c io.Closer, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.Close()
		return
	}
	if t.open == nil {
		t.open = map[io.Closer]bool{}
	}
	t.open[c] = true
	t.wait.Go(func() {
		defer func() {
			t.mu.Lock()
			delete(t.open, c)
			t.mu.Unlock()
			_ = c.Close()
		}()
		f()
	})
}

// close closes all that is open and waits for its goroutines.
func (t *tracker) close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.wait.Wait()
}

// An endpoint is what one listener serves: it can be replaced while connections are open.
type endpoint struct {
	config  *Config
	listen  *listen // the first of its address
	servers []*Server
	stream  *streamServer // instead of servers
}

// A listener holds an address.
type listener struct {
	net.Listener
	host        *Host
	current     atomic.Pointer[endpoint]
	connections tracker
	ctx         context.Context
	cancel      context.CancelFunc
}

func (l *listener) serve() {
	for {
		c, err := l.Accept()
		if err != nil {
			return // it is closed
		}
		l.connections.run(c, func() { l.serveConn(c) })
	}
}

func (l *listener) close() {
	_ = l.Listener.Close()
	l.cancel()
	l.connections.close()
}

func (l *listener) serveConn(raw net.Conn) {
	e := l.current.Load()
	c := newConnection(l.host, raw)
	if e.listen.proxyProtocol {
		if err := c.readProxyHeader(); err != nil {
			return
		}
	}
	if e.listen.ssl {
		if !c.handshake(l.ctx, e) {
			return
		}
	}
	if e.stream != nil {
		e.stream.serve(l.ctx, e.config, c)
		return
	}
	if l.speaksH2(c, e) {
		c.serveH2(l.ctx, l)
		return
	}
	for c.serveOne(l.ctx, l.current.Load) {
	}
	if !c.hijacked.Load() {
		c.close()
	}
}

// preface is how an HTTP/2 client begins.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func (l *listener) speaksH2(c *connection, e *endpoint) bool {
	if c.tls != nil {
		return c.tls.NegotiatedProtocol == "h2"
	}
	if !e.http2() {
		return false
	}
	for n := 1; n <= len(preface); n++ {
		p, err := c.in.Peek(n)
		if err != nil || string(p) != preface[:n] {
			return false
		}
	}
	return true
}

func (e *endpoint) http2() bool {
	if e.listen.http2 {
		return true
	}
	for _, s := range e.servers {
		if s.http2 {
			return true
		}
	}
	return false
}

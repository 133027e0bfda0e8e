package lua

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// timeouts are those of a cosocket.
type timeouts struct{ connect, send, read time.Duration }

func defaultTimeouts() timeouts {
	return timeouts{connect: time.Minute, send: time.Minute, read: time.Minute}
}

// A peer is a connection with what was read ahead of it. Its methods return when the
// context ends.
type peer struct {
	conn   net.Conn
	r      *bufio.Reader
	reused int
	pool   string
	secure bool
}

func newPeer(c net.Conn) *peer { return &peer{conn: c, r: bufio.NewReaderSize(c, 16<<10)} }

// socketError names an error as nginx does.
func socketError(err error) string {
	var dns *net.DNSError
	var ne net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &dns) && !dns.IsTimeout:
		return dns.Name + " could not be resolved (3: Host not found)"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &ne) && ne.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

func (rt *Runtime) dial(ctx context.Context, network, addr string, timeout time.Duration) (*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := rt.opts.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	c, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if c = rt.conns.own(c); c == nil {
		return nil, net.ErrClosed
	}
	return newPeer(c), nil
}

// deadline arms the connection for one step; the returned function disarms it.
func deadline(ctx context.Context, set func(time.Time) error, timeout time.Duration) func() {
	_ = set(time.Now().Add(timeout))
	stop := context.AfterFunc(ctx, func() { _ = set(time.Unix(1, 0)) })
	return func() { stop() }
}

func (p *peer) write(ctx context.Context, b []byte, timeout time.Duration) error {
	defer deadline(ctx, p.conn.SetWriteDeadline, timeout)()
	_, err := p.conn.Write(b)
	return err
}

// readN reads n bytes; with an error it returns what came before it.
func (p *peer) readN(ctx context.Context, n int, timeout time.Duration) ([]byte, error) {
	defer deadline(ctx, p.conn.SetReadDeadline, timeout)()
	b := make([]byte, n)
	got, err := io.ReadFull(p.r, b)
	return b[:got], err
}

// readSome reads what there is, at most n bytes.
func (p *peer) readSome(ctx context.Context, n int, timeout time.Duration) ([]byte, error) {
	defer deadline(ctx, p.conn.SetReadDeadline, timeout)()
	b := make([]byte, n)
	got, err := p.r.Read(b)
	if got > 0 {
		err = nil
	}
	return b[:got], err
}

func (p *peer) readAll(ctx context.Context, timeout time.Duration) ([]byte, error) {
	var out bytes.Buffer
	for {
		b, err := p.readSome(ctx, 16<<10, timeout)
		out.Write(b)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out.Bytes(), err
		}
	}
}

// readLine reads up to a newline and drops it and every \r of the line.
func (p *peer) readLine(ctx context.Context, timeout time.Duration) ([]byte, error) {
	defer deadline(ctx, p.conn.SetReadDeadline, timeout)()
	b, err := p.r.ReadBytes('\n')
	if err == nil {
		b = b[:len(b)-1]
	}
	return bytes.ReplaceAll(b, []byte{'\r'}, nil), err
}

// handshake makes the connection a TLS one.
func (rt *Runtime) handshake(ctx context.Context, p *peer, name string, verify bool, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // as ssl_verify says; checked below
	c := tls.Client(p.conn, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s := socketError(err); s == "closed" || s == "timeout" {
			return err
		}
		return errors.New("handshake failed")
	}
	if verify {
		if err := rt.verify(c.ConnectionState(), name); err != nil {
			return err
		}
	}
	p.conn, p.r, p.secure = c, bufio.NewReaderSize(c, 16<<10), true
	return nil
}

// verify checks a server's chain against the certificates that the reference's suites
// trust, with OpenSSL's words.
func (rt *Runtime) verify(state tls.ConnectionState, name string) error {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if rt.opts.Home != "" {
		if pem, err := os.ReadFile(filepath.Join(rt.opts.Home, "t/certs/apisix.crt")); err == nil {
			roots.AppendCertsFromPEM(pem)
		}
	}
	certs := state.PeerCertificates
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	leaf := certs[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return errors.New("10: certificate has expired")
		case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
			return errors.New("18: self-signed certificate")
		case len(certs) > 1:
			return errors.New("19: self-signed certificate in certificate chain")
		}
		return errors.New("20: unable to get local issuer certificate")
	}
	if name != "" && leaf.VerifyHostname(name) != nil {
		return errors.New("certificate host mismatch")
	}
	return nil
}

// connPool knows all connections of scripts, and keeps those that setkeepalive gave back.
type connPool struct {
	mu     sync.Mutex
	closed bool
	open   map[*ownConn]bool
	idle   map[string][]idlePeer
}

// An ownConn is a connection of a script, which Close ends if the script does not.
type ownConn struct {
	net.Conn
	pool *connPool
}

func (c *ownConn) Close() error {
	c.pool.mu.Lock()
	delete(c.pool.open, c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}

// own adds a connection; nil: the pool is closed, and so is the connection.
func (c *connPool) own(conn net.Conn) net.Conn {
	o := &ownConn{conn, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil
	}
	c.open[o] = true
	return o
}

type idlePeer struct {
	peer  *peer
	until time.Time
}

func newConnPool() *connPool {
	return &connPool{open: map[*ownConn]bool{}, idle: map[string][]idlePeer{}}
}

// take returns a connection that is still open, nil when there is none.
func (c *connPool) take(name string) *peer {
	for {
		c.mu.Lock()
		list := c.idle[name]
		if len(list) == 0 {
			c.mu.Unlock()
			return nil
		}
		one := list[len(list)-1]
		c.idle[name] = list[:len(list)-1]
		c.mu.Unlock()
		if time.Now().Before(one.until) && one.peer.quiet() {
			one.peer.reused++
			return one.peer
		}
		_ = one.peer.conn.Close()
	}
}

// quiet tells whether the other side has neither closed nor sent anything.
func (p *peer) quiet() bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := p.r.Peek(1)
	_ = p.conn.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *connPool) put(name string, p *peer, keep time.Duration, size int) {
	if keep <= 0 {
		keep = time.Minute
	}
	c.mu.Lock()
	list := c.idle[name]
	var oldest *peer
	if len(list) >= max(size, 1) {
		oldest, list = list[0].peer, list[1:]
	}
	c.idle[name] = append(list, idlePeer{p, time.Now().Add(keep)})
	c.mu.Unlock()
	if oldest != nil {
		_ = oldest.conn.Close()
	}
}

// close ends all connections, those in use too.
func (c *connPool) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for o := range c.open {
		_ = o.Conn.Close()
	}
	clear(c.open)
	clear(c.idle)
}

// address splits what connect was given: "unix:/path", or a host and a port.
func address(host string, port int) (network, addr string) {
	if path, ok := strings.CutPrefix(host, "unix:"); ok {
		return "unix", path
	}
	return "tcp", net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// bodyConn is a connection that only has bytes to read.
func bodyConn(b []byte) *peer { return newPeer(readOnlyConn{bytes.NewReader(b)}) }

type readOnlyConn struct{ *bytes.Reader }

func (readOnlyConn) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (readOnlyConn) Close() error                     { return nil }
func (readOnlyConn) LocalAddr() net.Addr              { return nil }
func (readOnlyConn) RemoteAddr() net.Addr             { return nil }
func (readOnlyConn) SetDeadline(time.Time) error      { return nil }
func (readOnlyConn) SetReadDeadline(time.Time) error  { return nil }
func (readOnlyConn) SetWriteDeadline(time.Time) error { return nil }

package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options are the settings of a Client.
type Options struct {
	// Dial opens connections; nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// HeadBytes and HeadFields limit the head of an answer; 0: 64 KiB, 200.
	HeadBytes, HeadFields int
}

// Client sends requests over pooled connections. It is safe for concurrent use. There is
// no goroutine for a connection; idle ones are looked after by a timer.
type Client struct {
	o      Options
	mu     sync.Mutex
	pools  map[poolKey]*pool
	timer  *time.Timer // nil while no connection is idle
	closed bool
}

const (
	defaultHeadBytes  = 64 << 10
	defaultHeadFields = 200
	sweepInterval     = 5 * time.Second
)

// NewClient returns a client without connections.
func NewClient(o Options) *Client {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.HeadBytes == 0 {
		o.HeadBytes = defaultHeadBytes
	}
	if o.HeadFields == 0 {
		o.HeadFields = defaultHeadFields
	}
	return &Client{o: o, pools: map[poolKey]*pool{}}
}

// poolKey is everything that tells connections apart.
type poolKey struct {
	addr, sni, class string
	tls              *tls.Config
}

// pool is the idle connections of one target, the one used last on top.
type pool struct {
	key  poolKey
	tls  *tls.Config // with the server name in it
	mu   sync.Mutex
	idle []*conn
}

// conn is one connection. Between requests it belongs to its pool, during one to the
// response.
type conn struct {
	net.Conn
	pool      *pool
	raw       syscall.RawConn // to look at it while idle; nil if that cannot be
	buf       []byte          // what was read and not yet used is buf[r:w]
	r, w      int
	served    int // answers so far
	idleSince time.Time
	idleLimit time.Duration
	cancelled atomic.Bool
}

func (c *Client) poolOf(t *Target) *pool {
	key := poolKey{t.Addr, t.SNI, t.Class, t.TLS}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pools[key]
	if p == nil {
		p = &pool{key: key}
		if t.TLS != nil {
			p.tls = t.TLS.Clone()
			p.tls.NextProtos = []string{"http/1.1"}
			if t.SNI != "" {
				p.tls.ServerName = t.SNI
			}
			if p.tls.ServerName == "" {
				p.tls.ServerName, _, _ = net.SplitHostPort(t.Addr)
			}
			if p.tls.ClientSessionCache == nil {
				p.tls.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			}
		}
		c.pools[key] = p
	}
	return p
}

// take returns an idle connection that is still alive, nil if there is none.
func (p *pool) take() *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		k := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if time.Since(k.idleSince) < k.idleLimit && k.alive() {
			return k
		}
		_ = k.Conn.Close()
	}
}

// alive looks whether the peer closed an idle connection, or sent what nobody asked for.
// It is why a request is hardly ever written to a connection that is gone.
func (k *conn) alive() bool {
	if k.raw == nil {
		return true
	}
	ok := false
	err := k.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && ok
}

func (c *Client) dial(ctx context.Context, t *Target, timeout time.Duration) (*conn, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	p := c.poolOf(t)
	raw, err := c.o.Dial(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, connectError(ctx, t, err)
	}
	k := &conn{Conn: raw, pool: p, idleLimit: t.IdleTimeout}
	if k.idleLimit == 0 {
		k.idleLimit = 60 * time.Second
	}
	if sc, ok := raw.(syscall.Conn); ok {
		k.raw, _ = sc.SyscallConn()
	}
	if p.tls != nil {
		secure := tls.Client(raw, p.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, connectError(ctx, t, err)
		}
		k.Conn = secure
	}
	return k, nil
}

func connectError(ctx context.Context, t *Target, err error) error {
	return &Error{
		Op: OpConnect, Addr: t.Addr, Err: err, Refused: errors.Is(err, syscall.ECONNREFUSED),
		Timeout: timedOut(err) || errors.Is(ctx.Err(), context.DeadlineExceeded),
	}
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// put keeps a connection for the next request of its target.
func (c *Client) put(k *conn, t *Target) {
	limit := t.MaxIdle
	if limit == 0 {
		limit = 320
	}
	k.idleSince = time.Now()
	if k.idleLimit = t.IdleTimeout; k.idleLimit == 0 {
		k.idleLimit = 60 * time.Second
	}
	c.mu.Lock()
	closed := c.closed
	if !closed && c.timer == nil {
		c.timer = time.AfterFunc(sweepInterval, c.sweep)
	}
	c.mu.Unlock()
	p := k.pool
	var over *conn
	p.mu.Lock()
	if closed {
		over = k
	} else {
		if len(p.idle) >= limit {
			over = p.idle[0] // the coldest
			p.idle = append(p.idle[:0], p.idle[1:]...)
		}
		p.idle = append(p.idle, k)
	}
	p.mu.Unlock()
	if over != nil {
		_ = over.Conn.Close()
	}
}

// sweep closes connections that were idle for too long or were closed by the peer, and
// forgets pools without any. It runs as long as something is idle.
func (c *Client) sweep() {
	c.mu.Lock()
	pools := make([]*pool, 0, len(c.pools))
	for _, p := range c.pools {
		pools = append(pools, p)
	}
	c.mu.Unlock()
	left := false
	for _, p := range pools {
		p.mu.Lock()
		kept := p.idle[:0]
		var gone []*conn
		for _, k := range p.idle {
			if time.Since(k.idleSince) < k.idleLimit && k.alive() {
				kept = append(kept, k)
			} else {
				gone = append(gone, k)
			}
		}
		clear(p.idle[len(kept):])
		p.idle = kept
		left = left || len(kept) > 0
		p.mu.Unlock()
		for _, k := range gone {
			_ = k.Conn.Close()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if left && !c.closed {
		c.timer.Reset(sweepInterval)
		return
	}
	c.timer = nil
	for key, p := range c.pools {
		p.mu.Lock()
		if len(p.idle) == 0 {
			delete(c.pools, key) // connections in use keep theirs and come back to it unseen
		}
		p.mu.Unlock()
	}
}

// CloseIdle closes the connections that nobody uses.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pools {
		p.mu.Lock()
		for _, k := range p.idle {
			_ = k.Conn.Close()
		}
		clear(p.idle)
		p.idle = p.idle[:0]
		p.mu.Unlock()
	}
}

// Close closes idle connections now and those in use when their answer ends.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.CloseIdle()
}

// Do sends a request and returns the head of its answer. The error is an *Error. When a
// kept connection turns out to be dead before any byte of an answer, a request that may
// be sent twice is sent again on a new one.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	h, err := assemble(r)
	if err != nil {
		return nil, &Error{Op: OpSend, Addr: r.Target.Addr, Err: err}
	}
	defer headPool.Put(h)
	if err := ctx.Err(); err != nil {
		return nil, &Error{Op: OpConnect, Addr: r.Target.Addr, Err: err, Timeout: timedOut(err)}
	}
	if !r.Target.NoKeepAlive {
		if k := c.poolOf(r.Target).take(); k != nil {
			res, err := c.try(ctx, r, h, k)
			var e *Error
			if err == nil || !errors.As(err, &e) || !stale(r, e) || ctx.Err() != nil {
				return res, err
			}
		}
	}
	k, err := c.dial(ctx, r.Target, r.Timeouts.Connect)
	if err != nil {
		return nil, err
	}
	return c.try(ctx, r, h, k)
}

// stale reports whether a failure on a kept connection means that the server had closed
// it, and the request may be sent again without a doubt.
func stale(r *Request, e *Error) bool {
	if e.Timeout || e.Client != nil || e.answered || r.Stream != nil {
		return false
	}
	if !e.Wrote {
		return true
	}
	switch r.Method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// try sends a request on a connection and reads the head of the answer.
func (c *Client) try(ctx context.Context, r *Request, h *head, k *conn) (*Response, error) {
	k.cancelled.Store(false)
	res := &Response{Addr: k.RemoteAddr().String(), Reused: k.served > 0}
	res.client, res.conn, res.req = c, k, r
	if ctx.Done() != nil {
		res.stop = context.AfterFunc(ctx, k.cancel)
	}
	wrote, err := k.send(r, h)
	if err != nil {
		// A server that refuses a body answers first and closes then.
		if wrote && err.Client == nil && !err.Timeout && !k.cancelled.Load() {
			k.deadline(k.SetReadDeadline, time.Second)
			if res.readHead(c.o) == nil && res.Status >= 300 {
				res.close = true
				return res, nil
			}
		}
		res.drop()
		err.Wrote = wrote
		return nil, because(ctx, err)
	}
	if headErr := res.readHead(c.o); headErr != nil {
		answered := k.w > 0
		res.drop()
		return nil, because(ctx, &Error{
			Op: OpHead, Addr: res.Addr, Wrote: true, Timeout: timedOut(headErr), Err: headErr, answered: answered,
		})
	}
	k.served++
	return res, nil
}

// because names the end of the context as the cause of what it brought about.
func because(ctx context.Context, e *Error) *Error {
	if err := ctx.Err(); err != nil {
		e.Err = err
		e.Timeout = errors.Is(err, context.DeadlineExceeded)
	}
	return e
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// cancel makes whatever the connection waits for fail at once.
func (k *conn) cancel() {
	k.cancelled.Store(true)
	_ = k.SetDeadline(longAgo)
}

// deadline sets one of the connection's deadlines to d from now, unless it was cancelled.
func (k *conn) deadline(set func(time.Time) error, d time.Duration) {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = set(at)
	if k.cancelled.Load() {
		_ = k.SetDeadline(longAgo) // the cancellation came between
	}
}

// writeStep is how much is written under one deadline.
const writeStep = 256 << 10

// send writes head and body. wrote says whether a byte may have left.
func (k *conn) send(r *Request, h *head) (wrote bool, _ *Error) {
	fail := func(err error) *Error {
		return &Error{Op: OpSend, Addr: k.RemoteAddr().String(), Err: err, Timeout: timedOut(err)}
	}
	write := func(p []byte) *Error {
		for len(p) > 0 {
			step := p[:min(len(p), writeStep)]
			k.deadline(k.SetWriteDeadline, r.Timeouts.Send)
			n, err := k.Write(step)
			wrote = wrote || n > 0
			if err != nil {
				return fail(err)
			}
			p = p[n:]
		}
		return nil
	}
	if r.Stream != nil {
		return wrote, k.sendStream(r, h, write)
	}
	total := len(h.buf)
	for _, s := range r.Body {
		total += len(s)
	}
	_, secure := k.Conn.(*tls.Conn)
	switch {
	case total <= cap(h.buf) || secure && total <= 16<<10:
		// One record, or one packet: copying a little is cheaper than another of either.
		for _, s := range r.Body {
			h.buf = append(h.buf, s...)
		}
		head := h.buf
		err := write(head)
		h.buf = h.buf[:h.size]
		return wrote, err
	case secure || total > writeStep:
		if err := write(h.buf); err != nil {
			return wrote, err
		}
		for _, s := range r.Body {
			if err := write(s); err != nil {
				return wrote, err
			}
		}
		return wrote, nil
	}
	h.vec = append(append(h.vec[:0], h.buf), r.Body...)
	vec := h.vec
	k.deadline(k.SetWriteDeadline, r.Timeouts.Send)
	n, err := vec.WriteTo(k.Conn)
	wrote = n > 0
	if err != nil {
		return wrote, fail(err)
	}
	return wrote, nil
}

var errShortStream = errors.New("request body ended before its announced length")

// sendStream copies a body that is still coming. With an announced length it must be
// exact; without, each piece becomes a chunk.
func (k *conn) sendStream(r *Request, h *head, write func([]byte) *Error) *Error {
	if err := write(h.buf); err != nil {
		return err
	}
	buf := streamPool.Get().(*[streamBuffer]byte)
	defer streamPool.Put(buf)
	const room = 10 // before a chunk for its size, behind it for the end of its line
	left := r.Length
	for left != 0 {
		space := buf[room : len(buf)-2]
		if left > 0 && int64(len(space)) > left {
			space = space[:left]
		}
		n, err := r.Stream.Read(space)
		if n > 0 {
			piece := buf[room : room+n]
			if left > 0 {
				left -= int64(n)
			} else {
				start := room - 2
				buf[start], buf[start+1] = '\r', '\n'
				for size := n; size > 0; size >>= 4 {
					start--
					buf[start] = "0123456789abcdef"[size&15]
				}
				buf[room+n], buf[room+n+1] = '\r', '\n'
				piece = buf[start : room+n+2]
			}
			if err := write(piece); err != nil {
				return err
			}
		}
		if err == io.EOF {
			if left > 0 {
				return &Error{Op: OpSend, Addr: k.RemoteAddr().String(), Err: errShortStream, Client: errShortStream}
			}
			break
		}
		if err != nil {
			return &Error{Op: OpSend, Addr: k.RemoteAddr().String(), Err: err, Client: err}
		}
	}
	if r.Length < 0 {
		return write([]byte("0\r\n\r\n"))
	}
	return nil
}

const streamBuffer = 32 << 10

var streamPool = sync.Pool{New: func() any { return new([streamBuffer]byte) }}

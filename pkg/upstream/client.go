package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hash/maphash"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/socket"
)

// Options are the settings of a Client.
type Options struct {
	// Dialer opens connections; nil: a net.Dialer. It must return when its context ends.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	// Roots verify the servers of targets whose configuration names none; nil: the system's.
	Roots *x509.CertPool
	// HeaderBytes and HeaderFields limit the head of an answer; 0: 64 KiB, 200.
	HeaderBytes, HeaderFields int
}

const (
	defaultHeaderBytes  = 64 << 10
	defaultHeaderFields = 200
)

// Client sends requests over pooled connections. It is safe for concurrent use. There is
// no goroutine for a connection; one timer looks after idle ones, another after contexts.
type Client struct {
	o        Options
	outgoing sync.Pool // *outgoing
	texts    sync.Pool // *text
	pieces   sync.Pool // *piece

	hooks  hooks
	seed   maphash.Seed
	shards [shardCount]shard
	closed atomic.Bool
	armed  atomic.Bool // the timer will fire

	mu    sync.Mutex
	timer *time.Timer // nil until the first connection
}

// NewClient returns a client without connections.
func NewClient(o Options) *Client {
	if o.Dialer == nil {
		o.Dialer = (&net.Dialer{}).DialContext
	}
	if o.HeaderBytes == 0 {
		o.HeaderBytes = defaultHeaderBytes
	}
	if o.HeaderFields == 0 {
		o.HeaderFields = defaultHeaderFields
	}
	c := &Client{o: o, seed: maphash.MakeSeed()}
	c.outgoing.New = func() any { return &outgoing{buf: make([]byte, 0, 4<<10)} }
	c.texts.New = func() any { return new(text) }
	c.pieces.New = func() any { return new(piece) }
	for i := range c.shards {
		c.shards[i].pools = map[poolKey]*pool{}
	}
	return c
}

// Do sends a request and returns the head of its answer. The error is an *Error; when the
// context ended, its error is the cause. A request that may be sent twice is sent again on
// a new connection when a kept one turns out to be dead before any byte of an answer came;
// one that is not idempotent only if nothing of it was written (spec/05 §5).
//
// Do returns when the head of the final answer is there. An answer of 400 and more that
// comes while the request is being sent ends the sending: the server gets no more of it. Of
// any other answer that comes early the rest of the request is sent beside the reading of
// it (Response.Sending). While a stream's Read waits for the client nobody looks for an
// answer: one that came meanwhile is seen at the stream's next bytes.
//
// The end of the context breaks off what is going on, until the response is closed. It may
// be noticed 20 ms late.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	var k *conn
	o := c.outgoing.Get().(*outgoing)
	defer func() {
		if k == nil || !k.swap.gone { // try may have panicked behind it
			c.recycle(o)
		}
	}()
	if err := o.assemble(r); err != nil {
		return nil, &Error{Op: OpSend, Addr: r.Target.Addr, Err: err}
	}
	if r.Stream != nil {
		// Reading comes before taking a connection: one that waits for a slow client may
		// die meanwhile, and a stream cannot be sent again.
		o.begin(r, c.pieces.Get().(*piece))
		if err := o.next(r); err != nil {
			return nil, because(ctx, &Error{Op: OpSend, Addr: r.Target.Addr, Err: err, Client: err})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, because(ctx, &Error{Op: OpConnect, Addr: r.Target.Addr, Err: err})
	}
	at := r.begun()
kept:
	for !r.Target.NoKeepAlive {
		if k = c.take(r.Target, at); k == nil {
			break
		}
		res, failed := c.try(ctx, r, o, k)
		if k.swap.gone {
			o = nil // it was sent whole, and has another by now
		}
		switch {
		case failed == nil:
			return res, nil
		case failed == dead:
			continue
		case !stale(r, k, failed) || ctx.Err() != nil:
			return nil, failed
		}
		break kept
	}
	var err error
	if k, err = c.dial(ctx, r); err != nil {
		return nil, err
	}
	if o == nil {
		o = c.outgoing.Get().(*outgoing)
		if err := o.assemble(r); err != nil {
			return nil, &Error{Op: OpSend, Addr: r.Target.Addr, Err: err}
		}
	}
	res, failed := c.try(ctx, r, o, k)
	if failed != nil {
		return nil, failed
	}
	return res, nil
}

// recycle takes back what nothing is sent of any more; nil: it was taken back before.
func (c *Client) recycle(o *outgoing) {
	if o == nil || o.lent {
		return // or not until the sender has ended
	}
	if o.piece != nil {
		c.pieces.Put(o.piece)
		o.piece = nil
	}
	clear(o.vec[:cap(o.vec)]) // bodies must not stay in memory for it
	if exchange.Scribbles {
		exchange.Scribble(o.buf[:cap(o.buf)])
	}
	if cap(o.buf) <= 2*recordSize {
		c.outgoing.Put(o)
	}
}

// stale reports whether a failure on a kept connection means that the server had closed it
// and that the request may be sent again without a doubt.
func stale(r *Request, k *conn, e *Error) bool {
	if e.Timeout || e.Client != nil || k.answered || r.Stream != nil {
		return false
	}
	var malformed ProtocolError
	if errors.As(e.Err, &malformed) {
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

// dead ends a try on a kept connection that the server had left before.
var dead = &Error{Op: OpSend, Err: net.ErrClosed}

// earlyWait limits the reading of an answer that should be there already: over TLS what
// waits may be something else.
const earlyWait = 250 * time.Millisecond

// try sends a request on a connection and reads the head of the answer.
func (c *Client) try(ctx context.Context, r *Request, o *outgoing, k *conn) (*Response, *Error) {
	k.wrote, k.answered, k.swap.gone = false, false, false
	o.stage(k, r)
	swapped := k.swapping(o)
	// This is why a request is hardly ever written to a connection that is gone, nor gets an
	// answer that nobody asked for. A connection that was idle for a moment only is looked at
	// too (swapping does so on its way): servers that leave without a word do so right after an
	// answer, and under load the last connection that came back is the first to go out.
	if !swapped && k.served > 0 && k.look() != socket.Quiet {
		_ = k.Conn.Close()
		return nil, dead
	}
	res := r.Response
	if res == nil {
		res = &Response{}
	}
	h := res.Header
	h.Reset()
	*res = Response{} // in place: a literal would be made elsewhere and copied
	res.Header, res.Addr, res.Reused = h, k.addr, k.served > 0
	res.client, res.conn, res.req, res.ctx = c, k, r, ctx
	c.hooks.add(k, ctx)
	wait := r.Timeouts.Head
	var sendErr *Error
	if swapped {
		if k.reading.beginAt(wait, k.taken) {
			k.setRead()
		}
		k.swap.lender = c
		gone, sent, read := k.exchange(o)
		switch {
		case gone:
			c.hooks.remove(k)
			_ = k.Conn.Close()
			return nil, dead
		case sent != nil:
			sendErr, swapped = &Error{Op: OpSend, Addr: k.addr, Err: sent, Timeout: timedOut(sent)}, false
		case read != nil:
			return nil, res.fail(&Error{Op: OpHead, Addr: k.addr, Timeout: timedOut(read), Err: read})
		case !k.swap.gone && o.rest != nil:
			swapped = false
		}
	}
	if !swapped && sendErr == nil {
		sendErr = k.send(r, o)
	}
	for sendErr == answering {
		final, err := res.glimpse()
		switch {
		case err != nil:
			return nil, res.fail(&Error{Op: OpHead, Addr: k.addr, Timeout: timedOut(err), Err: err})
		case !final:
			sendErr = k.send(r, o)
			continue
		case res.Status == 101:
			// The other protocol begins behind the request.
			k.watch = false
			if sendErr = k.send(r, o); sendErr != nil {
				return nil, res.fail(sendErr)
			}
		case res.Status >= 400:
			res.unsent = true
		default:
			res.beside(o)
		}
		res.came()
		return res, nil
	}
	if sendErr != nil {
		// A server that refuses a body answers first and closes then, or reads no more.
		// After a timeout there is nothing to wait for, only to look for.
		early := k.wrote && sendErr.Client == nil && !k.cancelled.Load() &&
			(!sendErr.Timeout || k.look() == socket.Pending)
		if !early {
			return nil, res.fail(sendErr)
		}
		if wait == 0 || wait > earlyWait {
			wait = earlyWait
		}
	}
	if !swapped {
		k.limitRead(wait)
	}
	if err := res.finalHead(); err != nil {
		if sendErr != nil {
			return nil, res.fail(sendErr)
		}
		return nil, res.fail(&Error{Op: OpHead, Addr: k.addr, Timeout: timedOut(err), Err: err})
	}
	res.unsent = sendErr != nil
	res.came()
	return res, nil
}

// came takes note that the head of an answer is there.
func (res *Response) came() {
	k := res.conn
	k.served++
	k.heard = now()
	res.Came = k.heard.time()
}

// begun is when r began, or now. A stream may have waited for its client since.
func (r *Request) begun() moment {
	if r.Begin.IsZero() || r.Stream != nil {
		return now()
	}
	return moment(r.Begin.Sub(began))
}

// fail gives up a try and its connection.
func (res *Response) fail(e *Error) *Error {
	defer res.forget()
	res.closed = true
	res.client.hooks.remove(res.conn)
	_ = res.conn.drop()
	e.Wrote = res.conn.wrote
	return because(res.ctx, e)
}

// because names the end of the context as the cause of what it brought about.
func because(ctx context.Context, e *Error) *Error {
	if err := ctx.Err(); err != nil {
		e.Err = err
		e.Timeout = errors.Is(err, context.DeadlineExceeded)
	}
	return e
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// dial opens a connection to the target, with TLS if it has it.
func (c *Client) dial(ctx context.Context, r *Request) (*conn, error) {
	t := r.Target
	limited := ctx
	if r.Timeouts.Connect > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, r.Timeouts.Connect)
		defer cancel()
	}
	fail := func(err error) error {
		return because(ctx, &Error{
			Op: OpConnect, Addr: t.Addr, Err: err, Refused: errors.Is(err, syscall.ECONNREFUSED),
			Timeout: timedOut(err) || errors.Is(limited.Err(), context.DeadlineExceeded),
		})
	}
	raw, err := c.o.Dialer(limited, "tcp", t.Addr)
	if err != nil {
		return nil, fail(err)
	}
	k := &conn{Conn: raw, addr: raw.RemoteAddr().String()}
	k.probe.init(raw)
	c.hooks.adopt(k, k.cancel)
	if !t.NoKeepAlive {
		c.house(k, t)
	}
	if t.TLS == nil {
		k.swaps()
	}
	if t.TLS != nil {
		k.beneath = &beneath{Conn: raw, k: k}
		secure := tls.Client(k.beneath, c.tlsConfig(t))
		if err := secure.HandshakeContext(limited); err != nil {
			_ = raw.Close()
			return nil, fail(err)
		}
		k.Conn, k.secure = secure, true
	}
	return k, nil
}

// conn is one connection. Between requests it belongs to its pool, during one to the
// response.
type conn struct {
	net.Conn
	probe
	addr    string
	pool    *pool // where it waits for requests
	secure  bool
	swap    swap
	beneath *beneath // what TLS writes to; nil: plain
	hook    hook

	buf      []byte // what was read and not yet used is buf[r:w]
	r, w     int
	filled   bool // the last read took all the room there was
	roomy    bool // answers come in larger pieces
	ended    bool // the end came together with bytes
	answered bool // a byte of an answer came
	wrote    bool // a byte of the request may have left

	reading, writing limit

	// Of the request that is being sent: Timeouts.Send, how long until the writer looks up
	// again, and whether it then looks for an answer.
	limit, glance time.Duration
	watch         bool
	eager         bool                   // reads take what is there and do not wait
	sender        atomic.Pointer[sender] // who sends beside the answer; nil: nobody

	served    int    // answers so far
	heard     moment // when the last bytes came; 0: nobody looked at the clock since
	idleSince moment
	taken     moment // from its pool
	idleLimit time.Duration
	cancelled atomic.Bool
}

const (
	firstBuffer = 4 << 10
	bodyBuffer  = 16 << 10 // of a connection whose answers come in larger pieces
)

// Memory to read into. A connection has it from when an answer comes until that is closed, so
// that idle ones hold none, and what was used last is used next.
var (
	firstBuffers = sync.Pool{New: func() any { return new([firstBuffer]byte) }}
	bodyBuffers  = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
)

// lend gives a connection without memory some.
func (k *conn) lend() {
	if k.roomy {
		k.buf = bodyBuffers.Get().(*[bodyBuffer]byte)[:]
	} else {
		k.buf = firstBuffers.Get().(*[firstBuffer]byte)[:]
	}
}

// unload gives the memory of a connection back, in which nothing is any more.
func (k *conn) unload() {
	if exchange.Scribbles {
		exchange.Scribble(k.buf)
	}
	switch len(k.buf) { // one large head must not be kept for ever
	case firstBuffer:
		firstBuffers.Put((*[firstBuffer]byte)(k.buf))
	case bodyBuffer:
		bodyBuffers.Put((*[bodyBuffer]byte)(k.buf))
	}
	k.buf, k.r, k.w = nil, 0, 0
}

// fill reads more into the buffer, moving or growing it when it is full.
func (k *conn) fill() error {
	k.makeRoom()
	n, err := k.read(k.buf[k.w:])
	k.took(n)
	return k.arrived(n, err)
}

// took takes note that n bytes were read into the buffer.
func (k *conn) took(n int) {
	k.w += n
	k.filled = k.w == len(k.buf)
}

func (k *conn) makeRoom() {
	if k.r == k.w {
		k.r, k.w = 0, 0
		if k.filled && !k.roomy {
			k.roomy = true
			if k.buf != nil {
				k.unload()
			}
		}
	}
	if k.buf == nil {
		k.lend()
	}
	if k.w == len(k.buf) {
		if k.r > 0 {
			k.w = copy(k.buf, k.buf[k.r:k.w])
			k.r = 0
		} else {
			grown := make([]byte, 2*len(k.buf))
			copy(grown, k.buf[:k.w])
			k.buf = grown
		}
	}
}

// read reads from the connection. While the rest of the request moves, a server that is
// silent is at work.
func (k *conn) read(p []byte) (int, error) {
	// Over TLS bytes may lie in its memory; there beneath looks at the socket.
	if k.eager && !k.secure && k.look() != socket.Pending {
		return 0, os.ErrDeadlineExceeded
	}
	for {
		n, err := k.Conn.Read(p)
		if n > 0 || err == nil || k.eager || !timedOut(err) || k.cancelled.Load() {
			return n, err
		}
		if k.reading.early() {
			k.setRead()
		} else if s := k.sender.Load(); s != nil && s.moved() {
			k.limitRead(k.reading.of)
		} else {
			return n, err
		}
	}
}

// arrived judges the result of a read; its error counts only when no byte came with it.
func (k *conn) arrived(n int, err error) error {
	k.heard = 0
	if n > 0 {
		k.answered = true
		k.ended = k.ended || err != nil
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// drop closes the connection in the middle of something. TLS would say goodbye first and
// wait for room to do so, which a server that does not read never makes.
func (k *conn) drop() error {
	if secure, ok := k.Conn.(*tls.Conn); ok {
		return secure.NetConn().Close()
	}
	return k.Conn.Close()
}

// clean reports whether nothing was read ahead behind the answer. Records that came with
// its last one lie in the memory of TLS, where looking at the socket does not show them.
func (k *conn) clean() bool {
	if k.r != k.w || k.ended {
		return false
	}
	if !k.secure {
		return true
	}
	k.beneath.dry = true // only what is there already
	n, err := k.Conn.Read(k.one[:])
	k.beneath.dry = false
	return n == 0 && timedOut(err) && !k.beneath.torn()
}

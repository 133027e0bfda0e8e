package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
	"github.com/gosix/gosix/pkg/socket"
)

// h1conn is a connection with HTTP/1.1. What is not said to be shared belongs to the
// goroutine that serves it.
type h1conn struct {
	*connection
	e   *Fast
	sys net.Conn // of the system
	nc  net.Conn // what requests are read from: sys, or TLS over it
	tls *tls.ConnectionState

	raw    syscall.RawConn // of sys; nil: it has none
	reader *socket.Reader  // of raw; nil: there is none
	writer *socket.Writer  // the same
	probe  socket.Probe
	here   func(socket uintptr, n int) bool // serveHere, bound once

	// What was read is in.bytes[r:w]; what is before keep is still needed. Without memory
	// nothing was read.
	in         *h1buffer
	r, w, keep int
	held       *h1buffer // has a head whose request has outgrown it
	one        [1]byte
	asked      *fastExchange // the next request, whose head was read; nil: none

	large    bool // the last request needed a large buffer, so that the next one may begin with it
	fresh    bool // no request has come
	posted   bool // the last request was a POST
	over     bool // no request is read any more
	lingers  bool // the client may still be sending when the connection ends
	given    bool // somebody else has the connection
	hijacked bool

	// Shared.
	reading, writing limit
	ctx              atomic.Pointer[exchange.Context]
	quiet            atomic.Bool // the request was read, and nothing behind it
	fin              atomic.Bool // the client has sent its last byte

	mu sync.Mutex // the table sets deadlines of sys

	// The table's.
	slot    int
	name    uint32
	watched bool
}

func newH1Conn(e *Fast, nc net.Conn) *h1conn {
	c := &h1conn{e: e, sys: drain.Unwrap(nc), fresh: true, slot: -1}
	c.nc = c.sys
	c.connection = &connection{conn: c.sys, remote: addrOf(nc.RemoteAddr()), local: addrOf(nc.LocalAddr())}
	c.remoteIP, c.localPort = c.remote.Addr().String(), strconv.Itoa(int(c.local.Port()))
	c.probe.Init(c.sys)
	if c.raw = socket.Raw(c.sys); c.raw != nil && socket.Known {
		c.reader, c.writer = socket.NewReader(c.raw, c.room, c.spare), socket.NewWriter(c.raw)
		c.here = c.serveHere
	}
	return c
}

// Value implements exchange.Values.
func (c *h1conn) Value(key any) any {
	if _, ok := key.(connKey); ok {
		return c.connection
	}
	return nil
}

// h1buffer is memory for what was read of a connection, or for what is to be written to it.
type h1buffer struct{ bytes []byte }

const (
	bufferSize = 4 << 10
	bufferRoom = 512 // with less than this behind a head, what follows it gets other memory
	largeSize  = 36 << 10
	largeBody  = 32 << 10 // up to this size a body is taken in at once if it is there
)

var (
	buffers      = sync.Pool{New: func() any { return &h1buffer{make([]byte, bufferSize)} }}
	largeBuffers = sync.Pool{New: func() any { return &h1buffer{make([]byte, largeSize)} }}
)

func free(b *h1buffer) {
	if exchange.Scribbles {
		exchange.Scribble(b.bytes)
	}
	switch len(b.bytes) { // others are rare
	case bufferSize:
		buffers.Put(b)
	case largeSize:
		largeBuffers.Put(b)
	}
}

// room returns memory to read into.
func (c *h1conn) room() []byte {
	if c.in == nil {
		if c.large {
			c.in = largeBuffers.Get().(*h1buffer)
		} else {
			c.in = buffers.Get().(*h1buffer)
		}
	}
	return c.in.bytes[c.w:]
}

// spare gives memory back in which nothing is.
func (c *h1conn) spare() {
	if c.in != nil && c.r == c.w && c.keep == 0 {
		free(c.in)
		c.in, c.r, c.w = nil, 0, 0
	}
}

// expect sets a limit that begins now.
func (c *h1conn) expect(l *limit, d time.Duration) {
	if d > 0 {
		l.at.Store(c.e.table.due(d) &^ 1)
	}
}

// settle ends a limit. It reports whether that had passed.
func (c *h1conn) settle(l *limit) bool {
	if l.at.Swap(0) != passed {
		return false
	}
	c.mu.Lock() // the table may be about to set the deadline
	defer c.mu.Unlock()
	if l == &c.reading {
		_ = c.sys.SetReadDeadline(time.Time{})
	} else {
		_ = c.sys.SetWriteDeadline(time.Time{})
	}
	return true
}

// hurry ends what takes too long. The table calls it.
func (c *h1conn) hurry(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.reading.at.Load(); at > 0 && at <= now && c.reading.at.CompareAndSwap(at, passed) {
		_ = c.sys.SetReadDeadline(longAgo)
	}
	if at := c.writing.at.Load(); at > 0 && at <= now && c.writing.at.CompareAndSwap(at, passed) {
		_ = c.sys.SetWriteDeadline(longAgo)
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// shorten leaves a connection that waits for a request no more than its grace.
func (c *h1conn) shorten() {
	t := &c.e.table
	at := max(1, t.clock.Load()+int64(graceOf(time.Duration(t.grace.Load()))))
	for {
		old := c.reading.at.Load()
		if !forRequest(old) || old <= at || c.reading.at.CompareAndSwap(old, at|1) {
			return
		}
	}
}

// departed ends a request whose client has left. What the client sent before it left comes
// first.
func (c *h1conn) departed() {
	ctx := c.ctx.Load()
	if ctx == nil || !c.quiet.Load() {
		return
	}
	seen := c.glance()
	// Over TLS it says goodbye before that, which is not a request.
	if seen == socket.Gone || seen == socket.Pending && c.tls != nil && c.fin.Load() {
		ctx.Cancel(context.Canceled)
	}
}

func (c *h1conn) glance() socket.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.probe.Look()
}

// whole says that all of a request was read.
func (c *h1conn) whole() {
	if c.r == c.w {
		c.quiet.Store(true)
		if c.fin.Load() {
			c.departed()
		}
	}
}

func timedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// await waits for the first byte of a request.
func (c *h1conn) await() error {
	if c.r < c.w {
		return nil
	}
	c.rest()
	for {
		n, err := c.first()
		late := c.settle(&c.reading)
		if n > 0 {
			return nil
		}
		if !timedOut(err) {
			return err
		}
		// A request that came in this very moment is served. If it was not too late, the
		// deadline is that of a body that nobody wanted to be read on.
		if late && c.glance() != socket.Pending {
			return err
		}
		_ = c.sys.SetReadDeadline(time.Time{})
		c.expect(&c.reading, c.e.std.limits.HeaderRead)
	}
}

// rest begins the limit for the next request to begin.
func (c *h1conn) rest() {
	c.r, c.w, c.keep = 0, 0, 0
	at := c.reading.at.Load() // of a new connection
	if !c.fresh {
		at = c.e.table.due(c.e.std.limits.Idle)
	}
	if at == 0 {
		at = never
	}
	if at != passed {
		c.reading.at.Store(at | 1)
	}
	if c.e.table.ending.Load() {
		c.shorten()
	}
}

// first reads the first bytes of a request, with no memory while there are none. Requests that
// come whole are served meanwhile.
func (c *h1conn) first() (int, error) {
	switch {
	case c.reader == nil || c.tls != nil:
	case c.fresh || !c.watched:
		n, err := c.reader.Read()
		c.w = n
		return n, err
	default:
		return c.reader.Each(c.here)
	}
	c.spare()
	n, err := c.nc.Read(c.one[:])
	if n > 0 {
		c.room()[0] = c.one[0]
		c.w = n
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// more reads on in a head.
func (c *h1conn) more() error {
	p := c.room()
	if len(p) == 0 {
		if c.r > 0 {
			c.w = copy(c.in.bytes, c.in.bytes[c.r:c.w])
			c.r = 0
		} else {
			grown := &h1buffer{make([]byte, 2*len(c.in.bytes))}
			copy(grown.bytes, c.in.bytes[:c.w])
			free(c.in)
			c.in = grown
		}
		p = c.room()
	}
	for {
		c.expect(&c.reading, c.e.std.limits.HeaderRead)
		n, err := c.nc.Read(p)
		late := c.settle(&c.reading)
		c.w += n
		switch {
		case n > 0:
			return nil
		case err == nil:
			return io.ErrNoProgress
		case late || !timedOut(err):
			return err
		}
		// The deadline is that of the last body, that nobody wanted to be read on, and whose end
		// came with the beginning of this head.
		_ = c.sys.SetReadDeadline(time.Time{})
	}
}

var errHeadTooLarge = &http1.Refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: ""}

// head reads until the end of a head and returns its size.
func (c *h1conn) head() (int, error) {
	most := c.e.std.limits.mostHead()
	var scan http1.Scan
	begun, lined := time.Time{}, false
	for {
		pending := c.in.bytes[c.r:c.w]
		n, err := scan.End(pending)
		switch {
		case err != nil:
			return 0, &http1.Refusal{Status: http.StatusBadRequest, Reason: err.Error()}
		case n > most || n == 0 && len(pending) >= most:
			return 0, errHeadTooLarge
		case n > 0:
			return n, nil
		}
		// Who sends something else may never send an empty line.
		if scan.FirstLine() && !lined {
			var r http1.Request
			if _, err := r.ParseLine(pending); err != nil {
				return 0, err
			}
			lined = true
		}
		if !http1.Token(pending[:1]) {
			return 0, &http1.Refusal{Status: http.StatusBadRequest, Reason: "malformed request line"}
		}
		if limit := c.e.std.limits.HeaderRead; limit > 0 {
			if begun.IsZero() {
				begun = time.Now()
			} else if time.Since(begun) > limit {
				return 0, errSlowHead // there may have been no wait that was too long
			}
		}
		if err := c.more(); timedOut(err) {
			return 0, errSlowHead
		} else if err != nil {
			return 0, err
		}
	}
}

var errSlowHead = &http1.Refusal{Status: http.StatusRequestTimeout}

// loop serves one request after the other.
func (c *h1conn) loop() {
	for !c.over {
		if c.await() != nil || c.over {
			return
		}
		if c.asked == nil {
			if c.blank(); c.r == c.w {
				continue
			}
			n, err := c.head()
			if err != nil {
				c.reject(err)
				return
			}
			if c.fresh {
				c.fresh = false
				c.e.table.watch(c)
			}
			c.begin(n)
		}
		if c.asked != nil {
			c.answer()
		}
	}
}

// serveHere serves a request that came whole in n bytes within the wait for them, and reports
// whether the connection waits for the next one. Any other request is for loop: what reads from
// the connection, or gives it away, has to wait until this wait is over.
func (c *h1conn) serveHere(fd uintptr, n int) bool {
	c.w = n
	c.settle(&c.reading)
	c.blank()
	if !c.beginWhole() {
		return false
	}
	if h := &c.asked.head; h.Upgrade || h.Length < 0 || h.Length > int64(c.w-c.r) {
		return false
	}
	c.writer.Hold(fd)
	c.answer()
	c.writer.Release()
	if c.over || c.r < c.w || c.fin.Load() {
		return false
	}
	c.rest()
	c.spare()
	return true
}

// blank goes over empty lines that some clients send behind the body of a POST.
func (c *h1conn) blank() {
	if !c.posted {
		return
	}
	for skipped := 0; skipped < 4 && c.r < c.w; skipped++ {
		if b := c.in.bytes[c.r]; b != '\r' && b != '\n' {
			break
		}
		c.r++
	}
	c.posted = c.r == c.w
}

// reject answers what is no request; who only stopped sending gets no answer.
func (c *h1conn) reject(err error) {
	c.over = true
	r, ok := errors.AsType[*http1.Refusal](err)
	if !ok {
		return
	}
	c.lingers = true
	line := strconv.Itoa(r.Status) + " " + http.StatusText(r.Status)
	said := line
	if r.Reason != "" {
		said += ": " + r.Reason
	}
	c.expect(&c.writing, c.e.std.limits.WriteStall)
	_, _ = io.WriteString(c.nc, "HTTP/1.1 "+line+"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+said)
	c.settle(&c.writing)
}

// fastExchange is an exchange with what the engine needs for it; pooled.
type fastExchange struct {
	exchange.Exchange
	head http1.Request
	sink fastSink
	body fastBody

	contexts exchange.Contexts
}

// begin makes the request whose head has n bytes the next that is asked, unless it is none.
func (c *h1conn) begin(n int) {
	e := c.e
	x := e.pool.Get().(*fastExchange)
	x.Reset(context.Background(), &x.sink)
	if err := x.head.Parse(c.in.bytes[c.r:c.r+n], &x.Request.Header); err != nil {
		e.pool.Put(x)
		c.reject(err)
		return
	}
	if x.head.Expect == http1.ExpectUnknown {
		e.pool.Put(x)
		c.reject(&http1.Refusal{Status: http.StatusExpectationFailed})
		return
	}
	c.fill(x, n)
	c.asked = x
}

// beginWhole is begin for a head that came whole, as nearly all do. It reports false for any other,
// and for what is none.
func (c *h1conn) beginWhole() bool {
	e := c.e
	x := e.pool.Get().(*fastExchange)
	x.Reset(context.Background(), &x.sink)
	n := x.head.ParseWhole(c.pending(), &x.Request.Header)
	if n == 0 || n > c.e.std.limits.mostHead() || x.head.Expect == http1.ExpectUnknown {
		e.pool.Put(x)
		return false
	}
	c.fill(x, n)
	c.asked = x
	return true
}

// answer serves the request that is asked.
func (c *h1conn) answer() {
	e, x := c.e, c.asked
	c.asked = nil
	ctx := x.contexts.New(c)
	x.SetContext(ctx)
	c.ctx.Store(ctx)
	e.serving.Add(1)
	c.serveBody(x)
	c.run(x)
	x.sink.end()
	e.serving.Add(-1)
	c.ctx.Store(nil)
	c.quiet.Store(false)
	ctx.Cancel(context.Canceled)
	if x.sink.away != nil {
		e.std.tunnels.done(x.sink.away)
	}
	c.posted = x.head.Method == http.MethodPost
	x.Request.Body.Release()
	x.sink = fastSink{} // each by itself: together they would be made elsewhere and copied
	x.body = fastBody{}
	x.head = http1.Request{}
	e.pool.Put(x)
	c.release()
}

// run has the gateway serve an exchange. A panic of the gateway itself ends the connection.
func (c *h1conn) run(x *fastExchange) {
	defer func() {
		if v := recover(); v != nil {
			c.e.std.log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Str("request", x.ID).Msg("connection panicked")
			x.sink.Abort()
		}
	}()
	if status := c.e.std.limits.refuse(&x.Request); status != 0 {
		c.e.std.gateway.turnAway(&x.Exchange, status)
		return
	}
	c.e.std.gateway.Serve(&x.Exchange)
}

func (c *h1conn) fill(x *fastExchange, n int) {
	q := &x.Request
	c.connection.fill(q, &x.head, n)
	if c.tls != nil {
		q.TLS, q.Scheme, q.ClientVerify = c.tls, "https", c.clientVerify(c.tls)
	}
	c.r += n
	c.keep = c.r
}

// serveBody makes the request's body ready.
func (c *h1conn) serveBody(x *fastExchange) {
	h := &x.head
	x.sink.serve(c, x)
	c.large = h.Length > 0 && h.Length <= largeBody && x.Request.HeadBytes+h.Length > bufferSize
	if c.large && h.Expect != http1.ExpectContinue {
		c.collect(int(h.Length))
	}
	switch {
	case h.Length == 0:
		c.whole()
	case h.Length > 0 && h.Length <= int64(c.w-c.r):
		// It is there already, and stays until the exchange is over.
		end := c.r + int(h.Length)
		x.Request.Body.SetBytes(c.in.bytes[c.r:end:end])
		c.r, c.keep = end, end
		c.whole()
	default:
		x.body = fastBody{c: c, sink: &x.sink, gap: c.e.std.limits.BodyRead, left: h.Length, chunked: h.Chunked, expected: h.Expect == http1.ExpectContinue}
		x.sink.body = &x.body
		x.Request.Body.SetSource(&x.body, h.Length)
	}
}

// collect takes in as much of a body as is there, into memory for all of it. Most often the rest
// of a body of some KB is there, but for the first of a connection there was no room.
func (c *h1conn) collect(length int) {
	have := c.w - c.r
	if have >= length || c.reader == nil || c.tls != nil {
		return
	}
	if c.r+length > len(c.in.bytes) {
		next := largeBuffers.Get().(*h1buffer)
		copy(next.bytes, c.in.bytes[c.r:c.w])
		c.held, c.in, c.r, c.w, c.keep = c.in, next, 0, have, 0 // the head stays where it is
	}
	c.w += c.reader.Fill(c.in.bytes[c.w : c.r+length])
}

// release gives memory back that only the request needed.
func (c *h1conn) release() {
	if exchange.Scribbles && c.in != nil {
		exchange.Scribble(c.in.bytes[:c.keep])
	}
	if c.held != nil {
		free(c.held)
		c.held = nil
	}
	c.keep = 0
	if c.r == c.w {
		c.r, c.w = 0, 0
		if c.in != nil && len(c.in.bytes) != bufferSize && (len(c.in.bytes) != largeSize || !c.large) {
			free(c.in)
			c.in = nil
		}
	}
}

// sever ends the connection for both sides. Closing it would wait for a request that is served
// within a wait; its goroutine closes it when it finds out.
func (c *h1conn) sever() {
	if both, ok := c.sys.(interface {
		CloseRead() error
		CloseWrite() error
	}); ok {
		_, _ = both.CloseRead(), both.CloseWrite()
		return
	}
	_ = c.sys.Close()
}

// leave is the end of the connection's life here.
func (c *h1conn) leave() {
	e := c.e
	if !c.hijacked {
		e.open.Add(-1)
	}
	if !c.given && !c.hijacked {
		if c.lingers {
			c.linger()
		}
		_ = c.nc.Close()
	}
	e.table.remove(c)
	if c.held != nil {
		free(c.held)
	}
	if c.in != nil && !c.given {
		free(c.in)
	}
	c.in, c.held = nil, nil
}

// farewellTime is how long a client that still sends may do so, before it is reset and perhaps
// loses the answer: net/http's time for it.
const farewellTime = 500 * time.Millisecond

// linger says that the connection ends and goes over what the client sends all the same, until
// it ends too or the time is over. However much it is: what is left unread at the end resets
// the connection, and the client may then not see the answer.
func (c *h1conn) linger() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	_ = c.sys.SetReadDeadline(time.Now().Add(farewellTime))
	b := buffers.Get().(*h1buffer)
	defer free(b)
	for {
		if _, err := c.sys.Read(b.bytes); err != nil {
			return
		}
	}
}

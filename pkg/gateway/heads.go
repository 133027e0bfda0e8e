package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
	"github.com/gosix/gosix/pkg/socket"
)

// heads stands between a connection with HTTP/1 and net/http, and reads the heads of requests
// in its place, as the engine fast does: with the same parser, which is strict where net/http
// forgives what leaves the end of a request open to doubt, and into memory of the exchange.
// net/http gets a head with what it acts on, and no body that came with its head. What is no
// request it gets as it came; what of that it takes, ServeHTTP refuses. Nor does net/http write
// answers: see stdSink.writeHead.
//
// It also spares net/http the wait for a client that leaves while it is answered: see
// attendance. And of a request behind another, of which net/http has to know nothing, it is not
// told: see following.
//
// Reads come one after the other, but not from one goroutine alone.
type heads struct {
	net.Conn
	engine *Std
	token  uint64                           // by which it is watched; 0: it is not
	ctx    atomic.Pointer[exchange.Context] // of the request that is being answered
	whole  atomic.Bool                      // a request was read to its end, and nothing behind it
	fin    atomic.Bool                      // the client has sent its last byte
	broken atomic.Bool                      // a read for a client that leaves has ended so
	asked  *stdExchange                     // whose head was read, for ServeHTTP
	alone  bool                             // asked is a request of which net/http has to know nothing

	mu    sync.Mutex
	probe socket.Probe

	at     place
	next   *stdExchange // of which some bytes came; nil: none
	ahead  bool         // they were not looked at
	scan   http1.Scan   // of its head
	given  int          // bytes of its first line that net/http has
	blank  int          // bytes of empty lines that it may begin with
	left   int64        // bytes of a body to come
	chunks http1.Chunks
	part   []byte // the beginning of a line between chunks
	out    []byte // of this net/http has sent bytes
	sent   int

	mute bool // what net/http writes next is for nobody

	// Of requests that net/http is not told of: see following.
	into   readerInto   // nil: it is told of all
	looked atomic.Bool  // it waits no more for a client that leaves
	waits  atomic.Bool  // for one of them, beside net/http
	failed error        // what ended that wait
	vacant *stdExchange // to be read into; nil: none
}

// readerInto is a connection that waits without memory.
type readerInto interface {
	ReadInto(drain.Memory) (int, error)
}

// place is what a connection is read for.
type place uint8

const (
	atHead place = iota
	atBody
	atChunks
	unread  // net/http, or somebody else, gets all as it comes
	spoiled // net/http gets what it refuses
)

// mostBlank is how many bytes of empty lines net/http takes behind the body of a POST, which some
// clients send.
const mostBlank = 4

// keptOut is how much memory a connection keeps for what net/http gets, in bytes.
const keptOut = 512

// Read implements net.Conn.
func (h *heads) Read(p []byte) (int, error) {
	for {
		if h.sent < len(h.out) {
			n := copy(p, h.out[h.sent:])
			h.sent += n
			return n, nil
		}
		h.clear()
		switch h.at {
		case atHead:
			// Of one byte, and between two requests: net/http waits for the client to leave. No
			// byte and no error end that wait, and nothing else.
			if len(p) == 1 && h.token != 0 && h.whole.Load() {
				h.looked.Store(true) // nothing is touched after that
				return 0, nil
			}
			if h.failed != nil {
				return 0, h.failed
			}
			if n, err := h.readHead(p); n > 0 || err != nil {
				return n, err
			}
		case atBody:
			n, err := h.Conn.Read(p[:min(int64(len(p)), h.left)])
			if h.left -= int64(n); h.left == 0 {
				h.end(nil)
			}
			return n, err
		case atChunks:
			n, err := h.Conn.Read(p)
			if n == 0 {
				return 0, err
			}
			if n = h.chunked(p, n); n > 0 {
				return n, nil
			}
		case unread:
			return h.Conn.Read(p)
		case spoiled:
			for i := range p {
				p[i] = 'x'
			}
			return len(p), nil
		}
	}
}

// clear forgets what net/http has got.
func (h *heads) clear() {
	if cap(h.out) > keptOut {
		h.out = nil
	}
	h.out, h.sent = h.out[:0], 0
}

// readHead reads from a head, and returns how much of it net/http gets.
func (h *heads) readHead(p []byte) (int, error) {
	wait := len(p) == 1 // where a part of the next request is there, that wait is a read after all
	if !wait {
		h.looked.Store(false)
		if h.ahead { // net/http does not know that it has begun, and that it is not idle
			h.engine.server.ConnState(h, http.StateActive)
		}
	}
	if !h.ahead || wait {
		n, err := h.Conn.Read(p)
		switch {
		case n > 0:
		case wait:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				h.broken.Store(true) // first: begin looks in the other order
				if ctx := h.ctx.Load(); ctx != nil {
					ctx.Cancel(context.Canceled)
				}
			}
			return 0, err
		case h.next != nil && h.given < len(h.next.text):
			h.handOver() // it does not become a head
			return 0, nil
		default:
			return 0, err
		}
		h.take(p[:n])
	}
	if h.next == nil {
		return 0, nil
	}
	if wait && h.given == 0 {
		h.given = copy(p, h.next.text)
		return h.given, nil
	}
	h.ahead = false
	return h.look(p), nil
}

// take keeps what came of the next request.
func (h *heads) take(p []byte) {
	if h.next == nil {
		if p = h.skip(p); len(p) == 0 {
			return
		}
		h.begun(h.engine.exchange())
	}
	h.next.text = append(h.next.text, p...)
	h.ahead = true
}

// skip goes over empty lines that a request may begin with.
func (h *heads) skip(p []byte) []byte {
	for ; h.blank > 0 && len(p) > 0 && (p[0] == '\r' || p[0] == '\n'); h.blank-- {
		p = p[1:]
	}
	return p
}

// begun says that x is the next request.
func (h *heads) begun(x *stdExchange) {
	h.whole.Store(false)
	h.next, h.scan, h.given, h.alone = x, http1.Scan{}, 0, false
}

// look judges what is there of a head, and gives net/http what it may have. Before the end of a
// head that is the first line as it comes: the limits of time that net/http sets depend on it.
func (h *heads) look(p []byte) int {
	x, most := h.next, h.engine.limits.mostHead()
	if h.scan == (http1.Scan{}) { // most heads come whole
		x.Reset(context.Background(), &x.sink)
		if size := x.head.ParseWhole(x.text, &x.Request.Header); size > 0 && size <= most {
			return h.ask(p, size)
		}
	}
	size, err := h.scan.End(x.text)
	switch {
	case err != nil:
		h.refuse(http.StatusBadRequest)
	case size > most || size == 0 && len(x.text) >= most:
		h.at = spoiled
	case size > 0:
		return h.parse(p, size)
	default:
		line := len(x.text)
		if h.scan.FirstLine() {
			line = bytes.IndexByte(x.text, '\n') + 1
		}
		h.out = append(h.out, x.text[h.given:line]...)
		h.given = line
	}
	return 0
}

// following waits for the request behind one that was answered. If net/http has to know nothing
// of that either, it is returned: net/http takes it for a part of the one that it knows. Any other
// is left for net/http to read, and so is the end of the connection. all is the context of all
// requests.
func (h *heads) following(all context.Context) *stdExchange {
	if !h.alone || h.into == nil || !h.looked.Load() || !h.whole.Load() || h.failed != nil {
		return nil
	}
	e := h.engine
	h.waits.Store(true)
	defer h.waits.Store(false)
	for {
		e.server.ConnState(h, http.StateIdle) // as net/http would
		idle := time.Time{}
		if e.limits.Idle > 0 {
			idle = time.Now().Add(e.limits.Idle)
		}
		_ = h.SetReadDeadline(idle)
		if all.Err() != nil { // last: see wake
			return nil
		}
		n, err := h.into.ReadInto(h)
		if n == 0 {
			h.failed = err
			return nil
		}
		e.server.ConnState(h, http.StateActive)
		x := h.vacant
		h.vacant = nil
		x.text = h.skip(x.text[:n])
		if len(x.text) > 0 {
			h.begun(x)
			break
		}
		e.release(x)
	}
	h.clear()
	h.look(nil)
	switch {
	case h.at == atHead && h.asked == nil: // it is to be looked at when net/http reads
		h.clear()
		h.begun(h.next)
		h.ahead = true
		fallthrough
	case h.asked == nil || !h.alone || h.asked.head.Upgrade:
		h.looked.Store(false)
		return nil
	}
	x := h.asked
	h.asked = nil
	h.clear()
	return x
}

// wake ends the wait in following.
func (h *heads) wake() {
	if h.waits.Load() {
		_ = h.SetReadDeadline(longAgo)
	}
}

// Room implements drain.Memory.
func (h *heads) Room() []byte {
	if h.vacant == nil {
		h.vacant = h.engine.exchange()
	}
	x := h.vacant
	if cap(x.text) < bufferSize {
		x.text = make([]byte, 0, bufferSize)
	}
	return x.text[:cap(x.text)]
}

// Spare implements drain.Memory.
func (h *heads) Spare() {
	if h.vacant != nil {
		h.engine.pool.Put(h.vacant)
		h.vacant = nil
	}
}

// refuse leaves a request to net/http, and to ServeHTTP if net/http takes it.
func (h *heads) refuse(status int) {
	x := h.next
	x.refused, h.asked = status, x
	h.handOver()
}

// handOver leaves the connection to who has it now, with what has come.
func (h *heads) handOver() {
	h.whole.Store(false)
	h.at = unread
	if x := h.next; x != nil {
		h.out, h.next = append(h.out, x.text[h.given:]...), nil
	}
}

// parse makes the request whose head has size bytes the one that is asked.
func (h *heads) parse(p []byte, size int) int {
	x := h.next
	x.Reset(context.Background(), &x.sink)
	if err := x.head.Parse(x.text[:size], &x.Request.Header); err != nil {
		refusal, _ := errors.AsType[*http1.Refusal](err)
		h.refuse(refusal.Status)
		return 0
	}
	return h.ask(p, size)
}

// ask hands over the request whose head was parsed.
func (h *heads) ask(p []byte, size int) int {
	x := h.next
	h.next, h.asked, h.blank = nil, x, 0
	if x.head.Method == http.MethodPost {
		h.blank = mostBlank
	}
	x.size = size
	length, came := x.head.Length, x.text[size:]
	if length > 0 && length <= int64(len(came)) {
		x.Request.Body.SetBytes(came[:length:length])
		came, length, x.whole = came[length:], 0, true
	}
	if h.alone = length == 0 && x.plain(); h.alone && h.given == 0 {
		h.out = append(h.out, least...)
	} else {
		h.out = x.brief(h.out)
	}
	n := copy(p, h.out[h.given:])
	h.sent = h.given + n
	switch {
	case length == 0:
		h.end(came)
	case length > 0:
		h.at, h.left = atBody, length-int64(len(came))
		n += h.give(p[n:], came)
	default:
		h.at, h.chunks, h.part = atChunks, http1.Chunks{}, h.part[:0]
		n += h.give(p[n:], h.follow(came))
	}
	return n
}

// give hands bytes over that net/http may have, to p as far as they fit.
func (h *heads) give(p, b []byte) (n int) {
	if h.sent == len(h.out) {
		n = copy(p, b)
	}
	h.out = append(h.out, b[n:]...)
	return n
}

// chunked hands over what came of a body in chunks.
func (h *heads) chunked(p []byte, n int) int {
	if len(h.part) == 0 {
		return len(h.follow(p[:n]))
	}
	b := append(h.part, p[:n]...)
	h.part = nil
	return h.give(p, h.follow(b))
}

// follow goes over what came of a body in chunks, and returns what of it net/http may have: all
// but the beginning of a line, and what is behind the end. It is given no chunk that the engine
// fast would not take, but what it does not take either.
func (h *heads) follow(p []byte) []byte {
	for n := 0; ; {
		size, more, err := h.chunks.Advance(p[n:])
		if err != nil {
			h.at = spoiled
			return p[:n]
		}
		n += size
		data := int(min(h.chunks.Left, int64(len(p)-n)))
		switch {
		case h.chunks.Done:
			h.end(p[n:])
			return p[:n]
		case more || data == 0:
			h.part = append(h.part[:0], p[n:]...)
			return p[:n]
		}
		n += data
		h.chunks.Took(data)
	}
}

// end is that of a request; behind it came the beginning of the next one.
func (h *heads) end(came []byte) {
	h.at = atHead
	h.take(came)
	if h.next == nil {
		h.whole.Store(true)
		if h.fin.Load() {
			h.departed()
		}
	}
}

// least is what net/http gets for a request of which it has to know nothing: a method for which it
// wants no Host, and so no field at all. The answer is not its business, nor what follows.
const least = "CONNECT / HTTP/1.1\r\n\r\n"

// plain reports whether net/http would take a request without a body, whatever is in it.
func (x *stdExchange) plain() bool {
	t := x.head.Target
	return t[0] == '/' && strings.IndexByte(t, '%') < 0 && x.head.Expect != http1.ExpectUnknown
}

// brief appends the head that net/http gets of any other, which begins as the one that came: the first line,
// how long the body is that follows, and what becomes of the connection.
func (x *stdExchange) brief(b []byte) []byte {
	r := &x.head
	b = append(b, x.text[:bytes.IndexByte(x.text, '\n')+1]...)
	b = append(b, "Host:\r\n"...)
	switch {
	case r.Chunked:
		b = append(b, "Transfer-Encoding:chunked\r\n"...)
	case r.Length > 0 && !x.whole:
		b = append(strconv.AppendInt(append(b, "Content-Length:"...), r.Length, 10), "\r\n"...)
	}
	switch {
	case r.Close && !r.Old:
		b = append(b, "Connection:close\r\n"...)
	case r.KeepAlive:
		b = append(b, "Connection:keep-alive\r\n"...)
	}
	switch {
	case r.Expect == http1.ExpectUnknown:
		b = append(b, "Expect:?\r\n"...)
	case r.Expect == http1.ExpectContinue && !x.whole:
		b = append(b, "Expect:100-continue\r\n"...)
	}
	return append(b, "\r\n"...)
}

// Write implements net.Conn.
func (h *heads) Write(p []byte) (int, error) {
	if h.mute {
		h.mute = false
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// CloseWrite is asked for by net/http.
func (h *heads) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection beneath, as that of *tls.Conn does.
func (h *heads) NetConn() net.Conn { return h.Conn }

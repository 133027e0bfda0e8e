package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

// Limits are what a client may ask of an engine. Zero values mean none.
type Limits struct {
	URIBytes     int
	HeaderBytes  int
	HeaderFields int
	HeaderRead   time.Duration // for the whole head
	BodyRead     time.Duration // between two reads of the body
	Idle         time.Duration // of a connection between requests
	WriteStall   time.Duration // that one write may take
}

// What is left of a request's body when it is answered is read for this long, so that the
// connection can be used again, and no further than this many bytes.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// Std is the engine made of net/http: it reads requests into exchanges and writes their
// answers. HTTP/1.1, and HTTP/2 with or without TLS. Over HTTP/1 without TLS the heads of both
// are read and written beside net/http, which has the connection and what bodies are to come.
type Std struct {
	gateway *Gateway
	limits  Limits
	server  http.Server
	drain   *drain.Server
	cut     context.CancelCauseFunc // of every request
	pool    sync.Pool               // *stdExchange
	tunnels tunnels
	present attendance
	dates   dates
	log     zerolog.Logger

	strangers               strangers
	accepted, open, serving atomic.Int64
}

// Connections is what the connections of clients do.
type Connections struct {
	Accepted int64 // since the start
	Active   int64 // now, WebSocket connections among them
	Serving  int64 // requests that are being answered, several of a connection with HTTP/2
}

// Connections tells of the engine's connections.
func (e *Std) Connections() Connections {
	return Connections{Accepted: e.accepted.Load(), Active: e.open.Load() + e.tunnels.number(), Serving: e.serving.Load()}
}

// changed counts a connection that begins or ends; one that was given away is a tunnel.
func (e *Std) changed(nc net.Conn, to http.ConnState) {
	switch to {
	case http.StateNew:
		e.accepted.Add(1)
		e.open.Add(1)
	case http.StateClosed:
		e.open.Add(-1)
		if h, ok := nc.(*heads); ok {
			e.present.remove(h)
		}
	case http.StateHijacked:
		e.open.Add(-1)
	}
}

type connKey struct{}

// NewStd returns an engine that feeds g. With h2c it speaks HTTP/2 on plain
// connections to clients that begin with its preface.
func NewStd(g *Gateway, l Limits, h2c bool, errorLog zerolog.Logger) *Std {
	e := &Std{gateway: g, limits: l, log: errorLog}
	e.pool.New = func() any { return new(stdExchange) }
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(h2c)
	var all context.Context
	all, e.cut = context.WithCancelCause(context.Background())
	e.server = http.Server{
		Handler:           e,
		BaseContext:       func(net.Listener) context.Context { return all },
		ConnState:         e.changed,
		ReadHeaderTimeout: l.HeaderRead,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.HeaderBytes,
		Protocols:         &protocols,
		ErrorLog:          log.New(errorWriter{errorLog}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			a := connectionOf(c)
			if a.heads != nil {
				e.present.add(a.heads)
			}
			return context.WithValue(ctx, connKey{}, a)
		},
		// Without this net/http answers OPTIONS * by itself.
		DisableGeneralOptionsHandler: true,
	}
	e.drain = drain.Attach(&e.server)
	e.drain.Above = func(c net.Conn) net.Conn { return &heads{Conn: c, engine: e} }
	return e
}

// connection is what is known of a client's connection.
type connection struct {
	conn                net.Conn
	heads               *heads // nil over TLS
	remote, local       netip.AddrPort
	remoteIP, localPort string

	// Over TLS, set by the handshake: what it was made with, and the name that the client
	// asked for. nil on plain connections.
	server  *certificate.Server
	name    string
	verdict atomic.Pointer[verdict]
}

// connectionOf tells of a connection that was accepted, or handed over by another engine.
func connectionOf(c net.Conn) *connection {
	below := c
	if t, ok := c.(*tls.Conn); ok {
		below = t.NetConn()
	}
	if h, ok := below.(*handed); ok {
		return h.connection
	}
	// Two addresses parsed and written out once a connection, not once a request.
	a := connection{conn: c, remote: addrOf(c.RemoteAddr()), local: addrOf(c.LocalAddr())}
	a.remoteIP, a.localPort = a.remote.Addr().String(), strconv.Itoa(int(a.local.Port()))
	a.heads, _ = c.(*heads)
	return &a
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Serve accepts connections until Shutdown, over TLS unless secure is nil.
func (e *Std) Serve(l net.Listener, secure *tls.Config) error { return e.drain.Serve(l, secure) }

// Drain begins the end of an engine that still accepts: clients learn from every answer that
// they are to take other connections. One that says nothing for the time of grace is closed.
func (e *Std) Drain(grace time.Duration) { e.drain.Begin(grace) }

// Shutdown stops accepting and waits for requests in flight, tunnels among them, until ctx
// ends; then it breaks off what is left. An answer that has not begun is a 503 then, and a
// stream of a language model ends with the error event of its protocol.
func (e *Std) Shutdown(ctx context.Context) error { return e.shutdown(ctx, nil) }

// shutdown also ends the connections that another engine serves, if others is not nil.
func (e *Std) shutdown(ctx context.Context, others *h1table) error {
	err := e.drain.Shutdown(ctx)
	if err == nil {
		err = e.tunnels.wait(ctx)
	}
	if err != nil {
		e.cut(exchange.ErrEnding)
		e.present.cut(exchange.ErrEnding)
		others.cut(exchange.ErrEnding)
		// What it takes to say so, and what comes after it, as the access log, is short.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingerTime)
		defer cancel()
		others.wait(ending)
		_ = e.server.Shutdown(ending)
		_ = e.tunnels.wait(ending)
		_ = e.server.Close()
		others.close()
		e.tunnels.close()
	}
	e.present.end()
	return err
}

// stdExchange is an exchange with what the engine needs for it; pooled.
type stdExchange struct {
	exchange.Exchange
	sink stdSink
	body bodyReader

	contexts exchange.Contexts

	// Of a request whose head was read here.
	text    []byte // what came, as long as the exchange; it begins with the head
	head    http1.Request
	size    int  // of the head
	whole   bool // all of the body is in text
	refused int  // status, if it is none to be served; 0: it is one
}

// exchange returns one that has everything from the last but for its memory.
func (e *Std) exchange() *stdExchange { return e.pool.Get().(*stdExchange) }

// keptText is how much memory an exchange keeps for what comes, in bytes.
const keptText = 16 << 10

// release gives an exchange back that is over.
func (e *Std) release(x *stdExchange) {
	x.Request.Body.Release()
	x.sink.reset()
	if exchange.Scribbles {
		exchange.Scribble(x.text)
	}
	if cap(x.text) > keptText {
		x.text = nil
	}
	x.text = x.text[:0]
	x.body = bodyReader{} // each by itself: together they would be made elsewhere and copied
	x.head = http1.Request{}
	x.size, x.whole, x.refused = 0, false, 0
	e.pool.Put(x)
}

// ServeHTTP makes an exchange of a request of net/http, and of those behind it on the connection
// that net/http has no part in.
func (e *Std) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, _ := r.Context().Value(connKey{}).(*connection)
	var h *heads // has read the head; nil: net/http has
	var x *stdExchange
	if r.ProtoMajor < 2 {
		h = a.heads
	}
	if h != nil {
		x, h.asked = h.asked, nil
	}
	if x == nil {
		x = e.exchange()
		x.Reset(r.Context(), &x.sink)
		if h != nil { // net/http takes something behind what was refused
			x.refused = http.StatusBadRequest
		}
	}
	for known := true; x != nil; known = false {
		x.sink.known = known
		if !e.serve(x, w, r, a, h) || h == nil {
			return
		}
		x = h.following(r.Context())
	}
}

// serve makes an exchange of a request and serves it, and reports whether the connection stays. h
// has read its head; with nil that was net/http.
func (e *Std) serve(x *stdExchange, w http.ResponseWriter, r *http.Request, a *connection, h *heads) bool {
	e.serving.Add(1)
	defer e.serving.Add(-1)
	// HTTP/2 has a timer for each stream instead of deadlines that only calls notice.
	timers := r.ProtoMajor >= 2
	control := w.(controlled)
	x.sink.w, x.sink.control, x.sink.stall, x.sink.timers = w, control, e.limits.WriteStall, timers
	x.sink.tunnels, x.sink.drain, x.sink.ctx = &e.tunnels, e.drain, r.Context()
	x.sink.dates = &e.dates
	x.sink.heads, x.sink.direct.wire, x.sink.direct.head = h, &x.sink, &x.head
	status := 0
	if h != nil && x.refused == 0 {
		x.SetContext(r.Context())
		a.fill(&x.Request, &x.head, x.size)
		status = e.limits.refuse(&x.Request)
	} else {
		status = e.read(x, r, a)
	}
	if h != nil && h.token != 0 {
		ctx := x.contexts.New(a)
		h.begin(r, ctx)
		x.SetContext(ctx)
		defer func() {
			h.ctx.Store(nil)
			ctx.Cancel(context.Canceled)
		}()
	}
	if x.sink.known && r.Body != nil && r.Body != http.NoBody {
		x.body.body, x.body.control, x.body.gap, x.body.timers = r.Body, control, e.limits.BodyRead, timers
		x.body.expected, x.body.heads = r.Header.Get("Expect") != "", h
		x.sink.body = &x.body
		x.Request.Body.SetSource(&x.body, r.ContentLength)
	}
	if status != 0 {
		x.body.begun.Store(true) // where it ends is not known, or not to be trusted
		e.gateway.turnAway(&x.Exchange, status)
	} else {
		e.gateway.Serve(&x.Exchange)
	}
	x.sink.finish()
	x.sink.leave()
	away := x.sink.away != nil
	if away {
		if a.heads != nil {
			e.present.remove(a.heads)
		}
		e.tunnels.done(x.sink.away)
	}
	aborted, cut, old, ends := x.sink.aborted, x.sink.written, x.head.Old, x.sink.direct.close
	if known := x.sink.known; ends && !known {
		h.failed = io.EOF
	}
	e.release(x)
	if aborted {
		if cut && old {
			reset(r.Context())
		}
		// The only way to make net/http break a connection off.
		panic(http.ErrAbortHandler)
	}
	return !away && !ends
}

// controlled is what net/http's writers can, of both versions of HTTP, without a
// http.ResponseController to find it out.
type controlled interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	FlushError() error
}

// reset makes the connection of a request end with an error. What a client of HTTP/1.0 gets
// ends with its connection, so that it would take an answer that was cut for a whole one. TLS
// would say goodbye before that.
func reset(ctx context.Context) {
	a, ok := ctx.Value(connKey{}).(*connection)
	if !ok {
		return
	}
	if t, ok := drain.Unwrap(a.conn).(*net.TCPConn); ok {
		_ = t.SetLinger(0)
		_ = t.Close()
	}
}

// refuse returns the status for a request above a limit, 0 for all others.
func (l *Limits) refuse(q *exchange.Request) int {
	if l.URIBytes > 0 && len(q.Target) > l.URIBytes {
		return http.StatusRequestURITooLong
	}
	if l.HeaderFields > 0 && q.Header.Len() > l.HeaderFields {
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return 0
}

// mostHead is how many bytes a head may have.
func (l *Limits) mostHead() int {
	if l.HeaderBytes > 0 {
		return l.HeaderBytes
	}
	return http.DefaultMaxHeaderBytes
}

// ambiguous reports whether a request of HTTP/2 is malformed (RFC 9113 §8.2.2, §8.3.1) in a
// way that net/http forgives: another server may take it for another one.
func ambiguous(r *http.Request) bool {
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return true
		}
	}
	if lengths := r.Header["Content-Length"]; len(lengths) > 0 {
		if n, err := strconv.ParseUint(lengths[0], 10, 63); len(lengths) > 1 || err != nil || strconv.FormatUint(n, 10) != lengths[0] {
			return true
		}
	}
	for _, values := range r.Header {
		for _, v := range values {
			if strings.IndexByte(v, 0) >= 0 { // over HTTP/1 net/http refuses it
				return true
			}
		}
	}
	target := r.RequestURI
	return r.Method != http.MethodConnect && target != "*" && (target == "" || target[0] != '/')
}

// read takes a request over as net/http has read it, and returns the status for one that can be
// read in two ways, or is above a limit; 0 for all others.
func (e *Std) read(x *stdExchange, r *http.Request, a *connection) int {
	refused := x.refused
	x.Reset(r.Context(), &x.sink)
	x.head = http1.Request{Method: r.Method, Old: !r.ProtoAtLeast(1, 1), Close: true} // the connection ends if that is HTTP/1
	q := &x.Request
	q.Method, q.Host, q.Proto, q.Target = r.Method, r.Host, r.Proto, r.RequestURI
	q.RawQuery, q.TLS, q.Scheme = r.URL.RawQuery, r.TLS, "http"
	q.Path = r.URL.Path
	if a != nil {
		q.Remote, q.Local, q.RemoteIP, q.LocalPort = a.remote, a.local, a.remoteIP, a.localPort
		if r.TLS != nil {
			q.Scheme, q.ClientVerify = "https", a.clientVerify(r.TLS)
		}
	}
	size := len(q.Method) + len(q.Target) + len(q.Proto) + 4
	for name, values := range r.Header {
		if name == "Host" {
			continue // of HTTP/2, where it is r.Host
		}
		for _, v := range values {
			q.Header.Add(name, v)
			size += len(name) + len(v) + 4
		}
	}
	q.HeadBytes = int64(size)
	status := e.limits.refuse(q)
	// net/http takes Host out of the header; for plugins and variables it is one.
	if r.Host != "" {
		q.Header.Add("Host", r.Host)
	}
	switch {
	case refused != 0:
		return refused
	case r.ProtoMajor >= 2 && ambiguous(r), r.ProtoMajor < 2 && r.URL.Scheme != "" && (r.URL.Host == "" || r.URL.User != nil):
		return http.StatusBadRequest
	}
	return status
}

// fill says what a request is whose head was read here.
func (a *connection) fill(q *exchange.Request, h *http1.Request, size int) {
	q.Method, q.Target, q.Proto, q.Host = h.Method, h.Target, h.Proto, h.Host
	q.Path, q.RawQuery, _ = strings.Cut(h.Target, "?")
	if q.Path == "" || q.Path[0] != '/' {
		q.Path, _ = pathOf(h.Target)
	}
	q.Remote, q.Local, q.RemoteIP, q.LocalPort = a.remote, a.local, a.remoteIP, a.localPort
	q.Scheme, q.HeadBytes = "http", int64(size)
}

// bodyReader gives every read of a body its own deadline: a client that stalls is cut,
// one that is slow but steady is not.
type bodyReader struct {
	body     io.Reader
	control  controlled
	gap      time.Duration
	timers   bool
	expected bool   // the client waits to be asked for the body
	limited  bool   // a read has a deadline
	heads    *heads // knows when nothing is to be waited for; nil: nobody does

	// The upstream client may read while the handler writes the answer.
	begun, ended, interrupted atomic.Bool // ended: the end was seen
}

func (b *bodyReader) Read(p []byte) (int, error) {
	b.begun.Store(true)
	if b.gap > 0 && !b.here() {
		b.limited = true
		_ = b.control.SetReadDeadline(time.Now().Add(b.gap))
	}
	if b.interrupted.Load() { // after the deadline was set, or that would undo it
		return 0, errInterrupted
	}
	n, err := b.body.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	if b.limited && (b.ended.Load() || b.timers) {
		b.limited = false
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// here reports whether all of the body has come, so that no read waits for it.
func (b *bodyReader) here() bool { return b.heads != nil && b.heads.whole.Load() }

var errInterrupted = errors.New("request body is not read any more")

// Interrupt makes a Read that waits for the client fail, and all that follow.
func (b *bodyReader) Interrupt() {
	b.interrupted.Store(true)
	if !b.ended.Load() { // what is read behind the end is the next request
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// drop reads what is left of a body that nobody began to read, so that the connection can
// be used again. It reports false if the end did not come in time.
func (b *bodyReader) drop() bool {
	if b.begun.Load() || b.expected {
		return false
	}
	b.begun.Store(true)
	_ = b.control.SetReadDeadline(time.Now().Add(lingerTime))
	n, err := io.CopyN(io.Discard, b.body, lingerBytes+1)
	ended := err == io.EOF && n <= lingerBytes
	if b.ended.Store(ended); ended {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return ended
}

// stdSink writes answers through net/http, or past it to the connection.
type stdSink struct {
	w       http.ResponseWriter
	known   bool   // net/http knows of the request
	heads   *heads // over which direct goes to the client; nil: net/http writes the answer
	direct  h1answer
	control controlled
	stall   time.Duration
	timers  bool
	body    *bodyReader // nil: the request has none
	aborted bool
	written bool     // the head went out
	away    net.Conn // the connection that is somebody else's; nil: it was not given away
	tunnels *tunnels
	drain   *drain.Server
	ctx     context.Context // of the request, from net/http
	values  []string        // memory for the header
	lasting bool            // of which another answer must not have it
	dates   *dates
	pending int // bytes that net/http holds back
}

// WriteHead implements exchange.Sink.
func (s *stdSink) WriteHead(status int, h *exchange.Header, length int64) error {
	if s.heads != nil && status >= 200 {
		return s.writeHead(status, h, length)
	}
	switch {
	case status >= 200:
	case s.direct.head.Old:
		return nil // which knows of one answer alone (RFC 9110 §15.2)
	case !s.known:
		return s.inform(status, h)
	}
	out := s.w.Header()
	for _, f := range h.Fields() {
		// Two spellings of one name are one field to net/http.
		name := http.CanonicalHeaderKey(f.Name)
		if strings.HasPrefix(name, "Trailer") {
			s.lasting = true // net/http looks again when the answer is over
		}
		if more, ok := out[name]; ok {
			out[name] = append(more, f.Value)
		} else {
			out[name] = s.value(f.Value)
		}
	}
	if length >= 0 && status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified {
		out["Content-Length"] = s.value(strconv.FormatInt(length, 10))
	}
	if _, dated := out["Date"]; !dated && status >= 200 {
		out["Date"] = s.dates.at(time.Now().Unix()).value // net/http would format one for each answer
	}
	if _, typed := out["Content-Type"]; !typed && status >= 200 {
		out["Content-Type"] = nil // nil keeps net/http from guessing
	}
	if status < 200 {
		s.limit()
		s.w.WriteHeader(status)
		s.unlimit()
		clear(out) // the answer has its own, and what net/http writes of that has to be short
		return nil
	}
	if s.last() {
		out["Connection"] = closing
	}
	s.written = true
	if s.timers {
		s.limit()
	}
	s.w.WriteHeader(status) // over HTTP/1 nothing goes out yet
	s.unlimit()
	return nil
}

// writeHead begins an answer that net/http does not write. It is told of one without a body, and
// what it writes of that stays here: it still decides what becomes of the connection.
func (s *stdSink) writeHead(status int, h *exchange.Header, length int64) error {
	d := &s.direct
	d.close = d.head.Close || s.last()
	d.begin(status, h, length, s.dates.at(time.Now().Unix()).line)
	if s.written = true; !s.known {
		return nil
	}
	if d.close {
		s.w.Header()["Connection"] = closing
	}
	s.w.WriteHeader(http.StatusNoContent) // the client is not asked for its body any more
	s.heads.mute = true
	return nil
}

// inform sends an answer that others follow, past net/http.
func (s *stdSink) inform(status int, h *exchange.Header) error {
	if s.written {
		return nil
	}
	return s.put(appendInformation(make([]byte, 0, 256), status, h))
}

// send implements h1wire.
func (s *stdSink) send(parts ...[]byte) error {
	if p := onlyOne(parts); p != nil {
		return s.put(p)
	}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size <= largeSize {
		b := largeBuffers.Get().(*h1buffer)
		defer free(b)
		together := b.bytes[:0]
		for _, p := range parts {
			together = append(together, p...)
		}
		return s.put(together)
	}
	for _, p := range parts {
		if err := s.put(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *stdSink) put(p []byte) error {
	s.limit()
	_, s.direct.err = s.heads.Conn.Write(p)
	return s.direct.err
}

// last reports whether the connection ends with the answer. net/http would wait without limit for
// the rest of a body before it answers; of a connection that it closes it does not.
func (s *stdSink) last() bool {
	stays := s.timers || s.body == nil || s.body.ended.Load() || s.body.drop()
	return s.drain.Last(s.ctx) || !stays
}

// finish completes the answer.
func (s *stdSink) finish() {
	if s.heads == nil || s.away != nil {
		return
	}
	if !s.aborted && (!s.written || !s.direct.finish()) {
		s.aborted = true
	}
	s.direct.drop()
}

var closing = []string{"close"}

// value returns a list of one value. net/http copies the list when the head is written.
func (s *stdSink) value(v string) []string {
	n := len(s.values)
	s.values = append(s.values, v) // lists that are out keep what was there before
	return s.values[n : n+1 : n+1]
}

// reset makes the sink ready for another answer.
func (s *stdSink) reset() {
	if s.lasting {
		s.values = nil
	}
	clear(s.values)
	*s = stdSink{values: s.values[:0]}
}

// limit gives a write its time.
func (s *stdSink) limit() {
	if s.stall > 0 {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.stall))
	}
}

// unlimit takes the limit away where it would end a stream in which nothing is written.
func (s *stdSink) unlimit() {
	if s.stall > 0 && s.timers {
		_ = s.control.SetWriteDeadline(time.Time{})
	}
}

// leave limits what net/http does after the handler: it writes the end of the answer and
// reads what is left of the request's body.
func (s *stdSink) leave() {
	if s.away != nil {
		return
	}
	if s.heads == nil {
		s.limit()
	}
	if !s.timers && s.body != nil && !s.body.ended.Load() {
		_ = s.control.SetReadDeadline(time.Now().Add(lingerTime))
	}
}

// Write implements exchange.Sink.
func (s *stdSink) Write(p []byte) (int, error) {
	if s.heads != nil {
		return s.direct.Write(p)
	}
	if s.pending += len(p); !s.timers && s.pending <= heldBack {
		return s.w.Write(p) // nothing goes out
	}
	s.limit()
	n, err := s.w.Write(p)
	s.unlimit()
	return n, err
}

// heldBack is how much of a body net/http holds back over HTTP/1, in bytes.
const heldBack = 2 << 10

// Flush implements exchange.Sink.
func (s *stdSink) Flush() error {
	if s.heads != nil {
		return s.direct.Flush()
	}
	s.pending = 0
	s.limit()
	err := s.control.FlushError()
	s.unlimit()
	return err
}

// Abort lets the client have what was written: net/http drops its buffer when a handler
// is aborted, and with it an error event meant for the client.
func (s *stdSink) Abort() {
	s.aborted = true
	if s.written {
		_ = s.Flush()
	}
}

// Hijack implements exchange.Sink. Of a request that asks for another protocol net/http knows.
func (s *stdSink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !s.known {
		return nil, nil, errNotAsked
	}
	s.tunnels.expect()
	conn, rw, err := http.NewResponseController(s.w).Hijack()
	if err != nil {
		s.tunnels.done(nil)
		return nil, nil, err
	}
	if h, ok := conn.(*heads); ok {
		h.handOver() // who has it now sees the client leave
	}
	s.away = conn
	_ = conn.SetDeadline(time.Time{})
	s.tunnels.add(conn)
	return conn, rw, nil
}

// errorWriter turns the lines of net/http's log into events of ours.
type errorWriter struct{ log zerolog.Logger }

func (w errorWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("err", strings.TrimSpace(string(p))).Msg("http server")
	return len(p), nil
}

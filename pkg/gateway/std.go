package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
)

// Limits are what a client may ask of an engine. Zero values mean none.
type Limits struct {
	URIBytes     int
	HeaderBytes  int
	HeaderFields int
	HeaderRead   time.Duration // for the whole head
	BodyRead     time.Duration // between two reads of the body
	Idle         time.Duration // of a connection between requests
	WriteStall   time.Duration // between two successful writes
}

// Std is the engine made of net/http: it reads requests into exchanges and writes their
// answers. HTTP/1.1, and HTTP/2 with or without TLS.
type Std struct {
	gateway *Gateway
	limits  Limits
	server  http.Server
	pool    sync.Pool // *stdExchange
}

type localKey struct{}

// NewStd returns an engine that feeds g. With h2c it speaks HTTP/2 on plain
// connections to clients that begin with its preface.
func NewStd(g *Gateway, l Limits, h2c bool, errorLog zerolog.Logger) *Std {
	e := &Std{gateway: g, limits: l}
	e.pool.New = func() any { return new(stdExchange) }
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(h2c)
	e.server = http.Server{
		Handler:           e,
		ReadHeaderTimeout: l.HeaderRead,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.HeaderBytes,
		Protocols:         &protocols,
		ErrorLog:          log.New(errorWriter{errorLog}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			// Two addresses parsed once a connection, not once a request.
			return context.WithValue(ctx, localKey{}, connAddrs{addrOf(c.RemoteAddr()), addrOf(c.LocalAddr())})
		},
		// Without this net/http answers OPTIONS * by itself.
		DisableGeneralOptionsHandler: true,
	}
	return e
}

type connAddrs struct{ remote, local netip.AddrPort }

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Serve accepts connections until Shutdown or Close.
func (e *Std) Serve(l net.Listener) error {
	err := e.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits for requests in flight until ctx ends; then it
// breaks off what is left.
func (e *Std) Shutdown(ctx context.Context) error {
	err := e.server.Shutdown(ctx)
	if err != nil {
		_ = e.server.Close()
	}
	return err
}

type stdExchange struct {
	exchange.Exchange
	sink stdSink
}

// ServeHTTP makes an exchange of a request of net/http.
func (e *Std) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := e.pool.Get().(*stdExchange)
	x.sink = stdSink{w: w, control: http.NewResponseController(w), stall: e.limits.WriteStall, proto: r.ProtoMajor}
	x.Reset(r.Context(), &x.sink)
	e.fill(&x.Exchange, r, x.sink.control)
	status := e.refuse(r)
	if status != 0 {
		x.Response.Header.Set("Connection", "close")
		x.Response.Header.Set("Server", e.gateway.o.Server)
		plugin.Exit(status, nil).Answer(&x.Response)
		if e.gateway.o.AccessLog != nil {
			e.gateway.o.AccessLog.Record(&x.Exchange)
		}
	} else {
		e.gateway.Serve(&x.Exchange)
	}
	aborted := x.sink.aborted
	x.sink = stdSink{}
	e.pool.Put(x)
	if aborted {
		// The only way to make net/http break a connection off.
		panic(http.ErrAbortHandler)
	}
}

// refuse returns the status for a request above a limit, 0 for all others.
func (e *Std) refuse(r *http.Request) int {
	if e.limits.URIBytes > 0 && len(r.RequestURI) > e.limits.URIBytes {
		return http.StatusRequestURITooLong
	}
	fields := 0
	for name, values := range r.Header {
		fields += len(values)
		for _, v := range values {
			if strings.IndexByte(v, 0) >= 0 {
				return http.StatusBadRequest
			}
		}
		// RFC 9110 leaves h2c upgrades to those who want them; a proxy that passes
		// one on loses sight of the connection.
		if name == "Upgrade" && len(values) > 0 && strings.EqualFold(values[0], "h2c") {
			r.Header.Del(name)
		}
	}
	if e.limits.HeaderFields > 0 && fields > e.limits.HeaderFields {
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return 0
}

func (e *Std) fill(x *exchange.Exchange, r *http.Request, control *http.ResponseController) {
	q := &x.Request
	q.Method, q.Host, q.Proto, q.Target = r.Method, r.Host, r.Proto, r.RequestURI
	q.RawQuery, q.TLS, q.Scheme = r.URL.RawQuery, r.TLS, "http"
	if r.TLS != nil {
		q.Scheme = "https"
	}
	q.Path = r.URL.Path
	addrs, _ := r.Context().Value(localKey{}).(connAddrs)
	q.Remote, q.Local = addrs.remote, addrs.local
	size := len(q.Method) + len(q.Target) + len(q.Proto) + 4
	for name, values := range r.Header {
		for _, v := range values {
			q.Header.Add(name, v)
			size += len(name) + len(v) + 4
		}
	}
	// net/http takes Host out of the header; for plugins and variables it is one.
	if r.Host != "" {
		q.Header.Add("Host", r.Host)
	}
	q.HeadBytes = int64(size)
	if r.Body != nil && r.Body != http.NoBody {
		q.Body.SetSource(&bodyReader{body: r.Body, control: control, gap: e.limits.BodyRead}, r.ContentLength)
	} else {
		q.Body.SetSource(nil, 0)
	}
}

// bodyReader gives every read of a body its own deadline: a client that stalls is cut,
// one that is slow but steady is not.
type bodyReader struct {
	body    io.Reader
	control *http.ResponseController
	gap     time.Duration
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.gap > 0 {
		_ = b.control.SetReadDeadline(time.Now().Add(b.gap))
	}
	n, err := b.body.Read(p)
	if err == io.EOF && b.gap > 0 {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// stdSink writes answers through net/http.
type stdSink struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	proto   int
	aborted bool
	written bool // the head went out
}

func (s *stdSink) WriteHead(status int, h *exchange.Header, length int64) error {
	out := s.w.Header()
	clear(out)
	for _, f := range h.Fields() {
		// Two spellings of one name are one field to net/http.
		name := http.CanonicalHeaderKey(f.Name)
		out[name] = append(out[name], f.Value)
	}
	if length >= 0 && status >= 200 && status != http.StatusNoContent {
		out["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	if _, typed := out["Content-Type"]; !typed && status >= 200 {
		out["Content-Type"] = nil // nil keeps net/http from guessing
	}
	s.deadline()
	s.written = s.written || status >= 200
	s.w.WriteHeader(status)
	return nil
}

func (s *stdSink) deadline() {
	if s.stall > 0 {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.stall))
	}
}

func (s *stdSink) Write(p []byte) (int, error) {
	s.deadline()
	return s.w.Write(p)
}

func (s *stdSink) Flush() error {
	s.deadline()
	return s.control.Flush()
}

// Abort lets the client have what was written: net/http drops its buffer when a handler
// is aborted, and with it an error event meant for the client.
func (s *stdSink) Abort() {
	s.aborted = true
	if s.written {
		_ = s.Flush()
	}
}

func (s *stdSink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := s.control.Hijack()
	if err == nil {
		_ = conn.SetDeadline(time.Time{})
	}
	return conn, rw, err
}

// errorWriter turns the lines of net/http's log into events of ours.
type errorWriter struct{ log zerolog.Logger }

func (w errorWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("err", strings.TrimSpace(string(p))).Msg("http server")
	return len(p), nil
}

package nginx

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// serveH2 serves a connection of HTTP/2. The frames are net/http's business; requests
// take the same way through the phases as those of HTTP/1.
func (c *connection) serveH2(ctx context.Context, l *listener) {
	c.h2 = true
	var conn net.Conn = &bufferedConn{Conn: c.Conn, in: c.in}
	if c.tls != nil {
		conn = c.Conn // net/http looks for a *tls.Conn
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	var mu sync.Mutex // over the count of requests
	done := make(chan struct{})
	srv := &http.Server{
		Protocols:   &protocols,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    c.host.errorLogger(),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				close(done)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			c.requests++
			n := c.requests
			mu.Unlock()
			c.serveStream(l.current.Load(), w, req, n)
		}),
	}
	_ = srv.Serve(&oneConn{conn: conn, done: done, addr: c.LocalAddr()}) // it ends with its connection
}

// oneConn is a listener of one connection, which ends when that does.
type oneConn struct {
	conn net.Conn
	done chan struct{}
	addr net.Addr
}

func (o *oneConn) Accept() (net.Conn, error) {
	if c := o.conn; c != nil {
		o.conn = nil
		return c, nil
	}
	<-o.done
	return nil, net.ErrClosed
}

func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return o.addr }

func (c *connection) serveStream(e *endpoint, w http.ResponseWriter, req *http.Request, number int) {
	x := &lua.Exchange{
		Method: req.Method, Target: req.RequestURI, Proto: "HTTP/2.0", Scheme: "http",
		Remote: c.remote, Local: c.local, TLS: c.tls, Connection: c.id, Requests: number,
		Header: h2Fields(req),
	}
	if c.tls != nil {
		x.Scheme, x.ServerName = "https", c.tls.ServerName
	}
	uri, args, ok := splitTarget(req.RequestURI)
	x.URI, x.Args = uri, args
	wire := &h2Wire{w: w}
	r := newRequest(req.Context(), c, e.config, pick(e.servers, e.listen.key(), req.Host), x, wire)
	r.body = &requestBody{length: req.ContentLength}
	r.body.reader = req.Body
	r.setBody()
	if !ok {
		r.URI = "/"
		r.page(400)
		return
	}
	r.serve()
	if wire.aborted {
		panic(http.ErrAbortHandler) // how net/http is told to reset the stream
	}
}

// h2Fields are the request's fields, in alphabetic order: net/http does not keep theirs.
func h2Fields(req *http.Request) []lua.Field {
	fields := []lua.Field{{Name: "host", Value: req.Host}}
	for name, values := range req.Header {
		for _, v := range values {
			fields = append(fields, lua.Field{Name: strings.ToLower(name), Value: v})
		}
	}
	slices.SortStableFunc(fields[1:], func(a, b lua.Field) int { return strings.Compare(a.Name, b.Name) })
	return fields
}

// An h2Wire writes an answer to a stream of HTTP/2.
type h2Wire struct {
	w       http.ResponseWriter
	n       int64
	aborted bool
}

func (w *h2Wire) head(status int, fields []lua.Field, _ int64, _ bool) error {
	h := w.w.Header()
	h["Date"] = nil // nginx's may be cleared; net/http must add none
	h["Content-Type"] = nil
	for _, f := range fields {
		if name := http.CanonicalHeaderKey(f.Name); !slices.Contains(perConnection, name) {
			h[name] = append(h[name], lineSafe(f.Value))
		}
	}
	w.w.WriteHeader(status)
	return nil
}

// perConnection are fields that HTTP/2 forbids.
var perConnection = []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection"}

func (w *h2Wire) data(p []byte) error {
	n, err := w.w.Write(p)
	w.n += int64(n)
	return err
}

func (w *h2Wire) flush() error { return http.NewResponseController(w.w).Flush() }
func (w *h2Wire) end() error   { return nil }
func (w *h2Wire) abort()       { w.aborted = true }
func (w *h2Wire) sent() int64  { return w.n }

// readStream reads a body that HTTP/2's frames delimit.
func (b *requestBody) readStream() ([]byte, error) {
	in := b.reader
	if b.limit > 0 {
		in = io.LimitReader(in, b.limit+1)
	}
	p, err := io.ReadAll(in)
	if b.limit > 0 && int64(len(p)) > b.limit {
		return nil, errBodyTooLarge
	}
	return p, err
}

package nginx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// headLimit bounds a request's line and fields together: large_client_header_buffers'
// four times eight kilobytes.
const headLimit = 32 << 10

var (
	errHead        = errors.New("malformed head")
	errHeadTooLong = errors.New("head too long")
)

// readLine reads one line without its end.
func readLine(in *bufio.Reader, left *int) (string, error) {
	line, err := in.ReadSlice('\n')
	if *left -= len(line); *left < 0 || errors.Is(err, bufio.ErrBufferFull) {
		return "", errHeadTooLong
	}
	if err != nil {
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// readFields reads header fields up to the empty line.
func readFields(in *bufio.Reader, left *int) ([]lua.Field, error) {
	var fields []lua.Field
	for {
		line, err := readLine(in, left)
		switch {
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case line == "":
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\x00") || strings.IndexByte(value, 0) >= 0 {
			continue // nginx passes an invalid field over
		}
		fields = append(fields, lua.Field{Name: name, Value: strings.Trim(value, " \t")})
	}
}

// A requestBody is the body of one request, read at most once.
type requestBody struct {
	c        *connection
	length   int64 // -1: chunked
	limit    int64 // client_max_body_size; 0: none
	expects  bool  // 100-continue, not sent yet
	finished bool
	data     []byte
	err      error
	reader   io.Reader // of HTTP/2, instead of c
}

var errBodyTooLarge = errors.New("client intended to send too large body")

// read returns the whole body, the same on every call.
func (b *requestBody) read() ([]byte, error) {
	if b.finished {
		return b.data, b.err
	}
	b.finished = true
	if b.reader != nil {
		b.data, b.err = b.readStream()
		return b.data, b.err
	}
	if b.err = b.proceed(); b.err != nil {
		return nil, b.err
	}
	if b.length >= 0 {
		b.data = make([]byte, b.length)
		_, b.err = io.ReadFull(b.c.in, b.data)
		return b.data, b.err
	}
	chunked := io.Reader(httputil.NewChunkedReader(b.c.in))
	if b.limit > 0 {
		chunked = io.LimitReader(chunked, b.limit+1)
	}
	b.data, b.err = io.ReadAll(chunked)
	if b.limit > 0 && int64(len(b.data)) > b.limit {
		b.data, b.err = nil, errBodyTooLarge
		return nil, b.err
	}
	if b.err == nil {
		// The reader leaves what follows the last chunk.
		left := headLimit
		_, b.err = readFields(b.c.in, &left)
	}
	return b.data, b.err
}

// proceed tells a client that waits to send its body.
func (b *requestBody) proceed() error {
	if !b.expects {
		return nil
	}
	b.expects = false
	if _, err := b.c.out.WriteString("HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
		return err
	}
	return b.c.out.Flush()
}

// keepAliveTimeout is how long a connection waits for its next request.
const keepAliveTimeout = 75 * time.Second

// serveOne reads a request and answers it. It says whether another may follow.
// current is asked when a request has come: the servers may have changed while there was
// none.
func (c *connection) serveOne(ctx context.Context, current func() *endpoint) bool {
	_ = c.SetReadDeadline(time.Now().Add(keepAliveTimeout))
	if _, err := c.in.Peek(1); err != nil {
		return false
	}
	e := current()
	c.requests++
	before := c.written
	x, body, err := c.readRequest()
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	_ = c.SetReadDeadline(time.Time{})
	s := pick(e.servers, e.listen.key(), firstField(x.Header, "Host"))
	w := &http1Wire{c: c, before: before}
	r := newRequest(ctx, c, e.config, s, x, w)
	w.r = r
	r.body = body
	r.setBody()
	r.keepAlive = wantsKeepAlive(x)
	if err != nil {
		r.refuse(err)
		return false
	}
	if !s.scope.settings.underscores {
		x.Header = slices.DeleteFunc(x.Header, func(f lua.Field) bool { return strings.Contains(f.Name, "_") })
	}
	r.serve()
	return !c.hijacked.Load() && c.finishOne(r)
}

// finishOne sends what is left of the answer and passes over an unread body.
func (c *connection) finishOne(r *request) bool {
	if c.out.Flush() != nil || !r.keepAlive {
		return false
	}
	_, err := r.body.read()
	return err == nil
}

func (r *request) setBody() {
	r.Body = func() ([]byte, error) {
		p, err := r.body.read()
		r.bodyRead = p
		return p, err
	}
}

// refuse answers what is no request.
func (r *request) refuse(err error) {
	status := 400
	var bad *badRequest
	if errors.As(err, &bad) {
		status = bad.status
	}
	r.keepAlive = false
	r.logError("info", "client sent invalid request: %v", err)
	r.page(status)
	r.logAccess()
	_ = r.conn.out.Flush()
}

// A badRequest is answered with a page.
type badRequest struct {
	status int
	what   string
}

func (e *badRequest) Error() string { return e.what }

// readRequest reads a head. With a *badRequest, what is known of the request comes along.
func (c *connection) readRequest() (*lua.Exchange, *requestBody, error) {
	x := &lua.Exchange{
		Scheme: "http", Remote: c.remote, Local: c.local, TLS: c.tls, Connection: c.id, Requests: c.requests,
		Method: "GET", URI: "/",
	}
	body := &requestBody{c: c, finished: true}
	if c.tls != nil {
		x.Scheme, x.ServerName = "https", c.tls.ServerName
	}
	left := headLimit
	line, err := readLine(c.in, &left)
	for err == nil && line == "" { // nginx allows empty lines before a request
		line, err = readLine(c.in, &left)
	}
	if errors.Is(err, errHeadTooLong) {
		return x, body, &badRequest{414, "client sent too long URI"}
	}
	if err != nil {
		return x, body, err
	}
	if err := parseRequestLine(x, line); err != nil {
		return x, body, err
	}
	if x.Header, err = readFields(c.in, &left); err != nil {
		if errors.Is(err, errHeadTooLong) {
			err = &badRequest{400, "client sent too large request"}
		}
		return x, body, err
	}
	return x, body, body.frame(x)
}

func parseRequestLine(x *lua.Exchange, line string) error {
	method, rest, ok := strings.Cut(line, " ")
	if !ok || method == "" || strings.ToUpper(method) != method {
		return &badRequest{400, "client sent invalid method"}
	}
	x.Method, rest = method, strings.TrimLeft(rest, " ")
	at := strings.LastIndexByte(rest, ' ')
	if at < 0 {
		return &badRequest{400, "client sent invalid request line"}
	}
	x.Target, x.Proto = strings.TrimRight(rest[:at], " "), rest[at+1:]
	if x.Proto != "HTTP/1.1" && x.Proto != "HTTP/1.0" {
		if strings.HasPrefix(x.Proto, "HTTP/") && !strings.HasPrefix(x.Proto, "HTTP/1.") {
			x.Proto = "HTTP/1.1"
			return &badRequest{505, "client sent an unknown version"}
		}
		return &badRequest{400, "client sent invalid version"}
	}
	uri, args, ok := splitTarget(x.Target)
	if !ok {
		return &badRequest{400, "client sent invalid URI"}
	}
	x.URI, x.Args = uri, args
	return nil
}

// frame finds out how long the body is.
func (b *requestBody) frame(x *lua.Exchange) error {
	hosts, length := 0, ""
	for _, f := range x.Header {
		switch strings.ToLower(f.Name) {
		case "host":
			hosts++
		case "content-length":
			if length != "" {
				return &badRequest{400, "client sent duplicate Content-Length"}
			}
			length = f.Value
		case "transfer-encoding":
			if !strings.EqualFold(f.Value, "chunked") {
				return &badRequest{501, "client sent unknown Transfer-Encoding"}
			}
			b.length = -1
		case "expect":
			b.expects = x.Proto == "HTTP/1.1" && strings.EqualFold(f.Value, "100-continue")
		}
	}
	switch {
	case hosts == 0 && x.Proto == "HTTP/1.1":
		return &badRequest{400, "client sent HTTP/1.1 request without Host"}
	case hosts > 1:
		return &badRequest{400, "client sent duplicate Host"}
	case length != "" && b.length < 0:
		return &badRequest{400, "client sent Content-Length and Transfer-Encoding"}
	case length != "":
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n < 0 || length[0] == '+' {
			return &badRequest{400, "client sent invalid Content-Length"}
		}
		b.length = n
	}
	b.finished = b.length == 0
	b.expects = b.expects && !b.finished
	return nil
}

func wantsKeepAlive(x *lua.Exchange) bool {
	value := strings.ToLower(firstField(x.Header, "Connection"))
	if x.Proto == "HTTP/1.1" {
		return !strings.Contains(value, "close")
	}
	return strings.Contains(value, "keep-alive")
}

// An http1Wire writes an answer in HTTP/1.
type http1Wire struct {
	c       *connection
	r       *request
	before  int64 // of the connection's bytes, those of earlier answers
	chunked bool
	left    int64 // of a body whose length is known; -1: unknown
}

// leading are the fields that nginx writes before all others, in its order. framing has
// the place where it says how the body and the connection end.
var leading = []string{"Server", "Date", "Content-Type", "Content-Length", "Last-Modified", "Location"}

func (w *http1Wire) head(status int, fields []lua.Field, length int64, bodyless bool) error {
	if w.r.body != nil {
		// A client that still waits to send its body is told to before the answer.
		if err := w.r.body.proceed(); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + reasons[status] + "\r\n")
	field := func(name, value string) { b.WriteString(name + ": " + lineSafe(value) + "\r\n") }
	for _, name := range leading {
		for _, f := range fields {
			if strings.EqualFold(f.Name, name) {
				field(f.Name, f.Value)
			}
		}
	}
	w.frame(status, length, bodyless, field)
	for _, f := range fields {
		if !slices.ContainsFunc(framed, func(name string) bool { return strings.EqualFold(name, f.Name) }) {
			field(f.Name, f.Value)
		}
	}
	b.WriteString("\r\n")
	return w.write(b.Bytes())
}

// framed are the fields that a script cannot repeat.
var framed = append([]string{"Connection", "Transfer-Encoding", "Keep-Alive"}, leading...)

func (w *http1Wire) frame(status int, length int64, bodyless bool, field func(name, value string)) {
	w.left = length
	noLength := status < 200 || status == 204 || status == 304
	if length < 0 && !noLength {
		if w.r.Proto == "HTTP/1.1" {
			w.chunked = true
			field("Transfer-Encoding", "chunked")
		} else {
			w.r.keepAlive = false
		}
	}
	w.chunked = w.chunked && !bodyless
	switch {
	case status == 101:
		field("Connection", "upgrade")
	case w.r.keepAlive:
		field("Connection", "keep-alive")
	default:
		field("Connection", "close")
	}
}

// lineSafe keeps a value inside its line.
func lineSafe(s string) string { return strings.NewReplacer("\r", "%0D", "\n", "%0A").Replace(s) }

func (w *http1Wire) write(p []byte) error {
	n, err := w.c.out.Write(p)
	w.c.written += int64(n)
	if err == nil && w.c.out.Buffered() >= postpone {
		err = w.c.out.Flush()
	}
	return err
}

func (w *http1Wire) data(p []byte) error {
	if !w.chunked {
		if w.left >= 0 {
			// More than Content-Length says would be taken for the next answer.
			p = p[:min(int64(len(p)), w.left)]
			w.left -= int64(len(p))
		}
		return w.write(p)
	}
	framed := append(strconv.AppendInt(nil, int64(len(p)), 16), "\r\n"...)
	return w.write(append(append(framed, p...), "\r\n"...))
}

func (w *http1Wire) flush() error { return w.c.out.Flush() }

func (w *http1Wire) end() error {
	if w.chunked {
		return w.write([]byte("0\r\n\r\n"))
	}
	if w.left > 0 && w.r.Method != "HEAD" {
		w.r.keepAlive = false // the client waits for what will not come
	}
	return nil
}

func (w *http1Wire) abort() {
	w.r.keepAlive = false
	_ = w.c.out.Flush()
}

func (w *http1Wire) sent() int64 { return w.c.written - w.before }

func httpDate() string { return time.Now().UTC().Format(httpTime) }

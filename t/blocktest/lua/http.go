package lua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// httpClient is resty.http: one connection at a time, with what the client knows of it.
type httpClient struct {
	conn *peer
	timeouts
	host      string
	port      int
	secure    bool
	unix      bool
	keepalive bool
}

const userAgent = "lua-resty-http/0.17.2 (Lua) ngx_lua/10028"

var errConnectionClosed = errors.New("not initialized")

func (rt *Runtime) http() *glua.LTable {
	L := rt.state
	m := module(L, funcs{"new": func(L *glua.LState) int {
		return ret(L, object(L, rt.class("resty.http client", httpMethods), &httpClient{timeouts: defaultTimeouts(), keepalive: true}))
	}})
	m.RawSetString("_VERSION", str("0.17.2"))
	m.RawSetString("_USER_AGENT", str(userAgent))
	extend(L, m, funcs{"parse_uri": httpMethods["parse_uri"]})
	return m
}

var httpMethods funcs

func init() {
	httpMethods = funcs{
		"set_timeout":      httpSetTimeout,
		"set_timeouts":     httpSetTimeouts,
		"connect":          httpConnect,
		"ssl_handshake":    httpHandshake,
		"set_keepalive":    httpSetKeepalive,
		"get_reused_times": httpReused,
		"close":            httpClose,
		"parse_uri":        httpParseURI,
		"request":          httpRequest,
		"request_uri":      httpRequestURI,
		"request_pipeline": httpPipeline,
		"set_proxy_options": func(L *glua.LState) int {
			unsupported(L, "resty.http's proxy options")
			return 0
		},
	}
}

func httpSetTimeout(L *glua.LState) int {
	c, d := self[*httpClient](L), milliseconds(L.OptNumber(2, 60000))
	c.timeouts = timeouts{d, d, d}
	return ret(L, num(1))
}

func httpSetTimeouts(L *glua.LState) int {
	c := self[*httpClient](L)
	for i, d := range []*time.Duration{&c.timeouts.connect, &c.send, &c.read} {
		if n, ok := L.Get(2 + i).(glua.LNumber); ok {
			*d = milliseconds(n)
		}
	}
	return ret(L, num(1))
}

// httpTarget is where a client connects to and how.
type httpTarget struct {
	scheme, host string
	port         int
	pool         string
	verify       bool
	serverName   string
}

// httpConnect takes (host, port, options) or one table.
func httpConnect(L *glua.LState) int {
	c := self[*httpClient](L)
	opts, modern := L.Get(2).(*glua.LTable)
	if !modern {
		t := httpTarget{host: checkText(L, 2)}
		rest := L.Get(3)
		if n, ok := number(L.Get(3)); ok {
			t.port = n
			rest = L.Get(4)
		}
		t.pool = stringField(rest, "pool", "")
		return connectedHTTP(L, c, t)
	}
	t := httpTarget{
		scheme: stringField(opts, "scheme", ""), host: stringField(opts, "host", ""),
		pool: stringField(opts, "pool", ""), serverName: stringField(opts, "ssl_server_name", ""),
		verify: opts.RawGetString("ssl_verify") != glua.LFalse,
	}
	if opts.RawGetString("proxy_opts") != glua.LNil {
		unsupported(L, "resty.http's proxy options")
	}
	t.port, _ = number(opts.RawGetString("port"))
	if t.port == 0 {
		t.port = defaultPort(t.scheme)
	}
	return connectedHTTP(L, c, t)
}

func number(v glua.LValue) (int, bool) {
	switch v := v.(type) {
	case glua.LNumber:
		return int(v), true
	case glua.LString:
		n, ok := parseNumber(string(v)).(glua.LNumber)
		return int(n), ok
	}
	return 0, false
}

func defaultPort(scheme string) int {
	if scheme == "https" {
		return 443
	}
	return 80
}

func connectedHTTP(L *glua.LState, c *httpClient, t httpTarget) int {
	if err := c.open(L, t); err != nil {
		return fail(L, socketError(err))
	}
	return ret(L, num(1))
}

func (c *httpClient) open(L *glua.LState, t httpTarget) error {
	rt := runtimeOf(L)
	c.drop()
	network, addr := address(t.host, t.port)
	c.host, c.port, c.unix, c.keepalive = t.host, t.port, network == "unix", true
	c.secure = t.scheme == "https"
	pool := t.pool
	if pool == "" {
		pool = fmt.Sprintf("%s:%s:%s:%v:%s", t.scheme, network, addr, t.verify, t.serverName)
	}
	if p := rt.conns.take(pool); p != nil {
		c.conn = p
		return nil
	}
	name := t.serverName
	if name == "" && net.ParseIP(t.host) == nil {
		name = t.host
	}
	var err error
	rt.wait(L, func(ctx context.Context) {
		c.conn, err = rt.dial(ctx, network, addr, c.timeouts.connect)
		if err == nil && c.secure {
			err = rt.handshake(ctx, c.conn, name, t.verify, c.timeouts.connect)
		}
	})
	if err != nil {
		c.drop()
		return err
	}
	c.conn.pool = pool
	return nil
}

func (c *httpClient) drop() {
	if c.conn != nil {
		_ = c.conn.conn.Close()
		c.conn = nil
	}
}

func httpHandshake(L *glua.LState) int {
	c := self[*httpClient](L)
	if c.conn == nil {
		return fail(L, "not initialized")
	}
	rt := runtimeOf(L)
	name, verify := optText(L, 3, ""), glua.LVAsBool(L.Get(4))
	c.secure = true
	if !c.conn.secure {
		var err error
		rt.wait(L, func(ctx context.Context) { err = rt.handshake(ctx, c.conn, name, verify, c.timeouts.connect) })
		if err != nil {
			c.drop()
			return fail(L, socketError(err))
		}
	}
	if L.Get(2) == glua.LFalse {
		return ret(L, glua.LTrue)
	}
	return ret(L, userdata("session"))
}

func httpSetKeepalive(L *glua.LState) int {
	c := self[*httpClient](L)
	if c.conn == nil {
		return fail(L, "not initialized")
	}
	p := c.conn
	c.conn = nil
	if !c.keepalive {
		_ = p.conn.Close()
		return ret(L, num(2), str("connection must be closed"))
	}
	if !p.quiet() {
		_ = p.conn.Close()
		return fail(L, "connection in dubious state")
	}
	runtimeOf(L).conns.put(p.pool, p, milliseconds(L.OptNumber(2, 60000)), L.OptInt(3, 30))
	return ret(L, num(1))
}

func httpReused(L *glua.LState) int {
	c := self[*httpClient](L)
	if c.conn == nil {
		return fail(L, "not initialized")
	}
	return ret(L, num(c.conn.reused))
}

func httpClose(L *glua.LState) int {
	c := self[*httpClient](L)
	if c.conn == nil {
		return fail(L, "not initialized")
	}
	c.drop()
	return ret(L, num(1))
}

// splitURI is scheme, host, port, path and query of an absolute URI; a path alone has the
// scheme of the request.
func splitURI(uri string) (scheme, host string, port int, path, query string, ok bool) {
	scheme, rest, found := strings.Cut(uri, "://")
	if !found {
		if rest, found = strings.CutPrefix(uri, "//"); !found {
			return "", "", 0, "", "", false
		}
		scheme = ""
	}
	if found && scheme != "" && scheme != "http" && scheme != "https" {
		return "", "", 0, "", "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	host = authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		n, err := strconv.Atoi(authority[i+1:])
		if err != nil {
			return "", "", 0, "", "", false
		}
		host, port = authority[:i], n
	}
	if host == "" {
		return "", "", 0, "", "", false
	}
	rest, _, _ = strings.Cut(rest, "#")
	path, query, _ = strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	return scheme, host, port, path, query, true
}

func httpParseURI(L *glua.LState) int {
	uri := checkText(L, 2)
	scheme, host, port, path, query, ok := splitURI(uri)
	if !ok {
		return fail(L, "bad uri: "+uri)
	}
	if scheme == "" {
		x, _ := exchange(L)
		scheme = x.Scheme
	}
	if port == 0 {
		port = defaultPort(scheme)
	}
	if L.Get(3) != glua.LFalse && query != "" {
		path += "?" + query
	}
	return ret(L, list(L, str(scheme), str(host), num(port), str(path), str(query)))
}

// httpCall is a request as it goes out.
type httpCall struct {
	method  string
	version string
	target  string
	header  []Field
	body    []byte
	next    glua.LValue // a function that gives the body's parts
	chunked bool
}

func (c *httpClient) call(L *glua.LState, params glua.LValue) (*httpCall, error) {
	q := &httpCall{method: strings.ToUpper(stringField(params, "method", "GET")), version: "1.1"}
	if stringField(params, "version", "1.1") == "1" {
		q.version = "1.0"
	}
	if h, ok := field(params, "headers").(*glua.LTable); ok {
		each(h, func(k, v glua.LValue) {
			name, _ := text(k)
			name = hyphenated(name)
			for _, f := range q.header {
				if strings.EqualFold(f.Name, name) {
					name = f.Name // of two spellings the first is sent, with the last value
					break
				}
			}
			setHeader(&q.header, name, plainTexts(L, v))
		})
	}
	path := stringField(params, "path", "/")
	if path == "" {
		path = "/"
	}
	if v := field(params, "query"); v != glua.LNil {
		query := argsText(L, v)
		if query != "" && !strings.HasPrefix(query, "?") {
			query = "?" + query
		}
		path += query
	}
	q.target = path
	switch body := field(params, "body").(type) {
	case *glua.LNilType:
	case *glua.LFunction:
		q.next = body
	case *glua.LTable:
		var out strings.Builder
		flatten(L, &out, body, 1, "send")
		q.body = []byte(out.String())
	default:
		s, _ := text(body)
		q.body = []byte(s)
	}
	return q, c.complete(q, field(params, "body") != glua.LNil)
}

// plainTexts is a header's value or values as they are.
func plainTexts(L *glua.LState, v glua.LValue) []string {
	t, ok := v.(*glua.LTable)
	if !ok {
		return []string{tostring(L, v)}
	}
	var values []string
	for i := 1; i <= t.Len(); i++ {
		values = append(values, tostring(L, t.RawGetInt(i)))
	}
	return values
}

// complete adds the headers that the client gives unasked.
func (c *httpClient) complete(q *httpCall, hasBody bool) error {
	has := func(name string) bool { return len(headerValues(q.header, name)) > 0 }
	q.chunked = strings.Contains(strings.ToLower(headerValue(q.header, "Transfer-Encoding")), "chunked")
	switch {
	case q.next != nil && !q.chunked && !has("Content-Length") && q.version == "1.1":
		return said("Request body is a function but a length or chunked encoding is not specified")
	case q.chunked, has("Content-Length"):
	case hasBody && q.next == nil, q.method == "POST", q.method == "PUT", q.method == "PATCH":
		q.header = append(q.header, Field{"Content-Length", strconv.Itoa(len(q.body))})
	}
	if !has("Host") {
		host := c.host
		if c.unix {
			host = strings.TrimPrefix(host, "unix:")
		}
		if c.port != 0 && c.port != defaultPort(map[bool]string{true: "https", false: "http"}[c.secure]) {
			host += ":" + strconv.Itoa(c.port)
		}
		q.header = append(q.header, Field{"Host", host})
	}
	if !has("User-Agent") {
		q.header = append(q.header, Field{"User-Agent", userAgent})
	}
	if q.version == "1.0" && !has("Connection") {
		q.header = append(q.header, Field{"Connection", "Keep-Alive"})
	}
	return nil
}

func (q *httpCall) head() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s HTTP/%s\r\n", q.method, q.target, q.version)
	for _, f := range q.header {
		fmt.Fprintf(&out, "%s: %s\r\n", f.Name, f.Value)
	}
	out.WriteString("\r\n")
	return []byte(out.String())
}

// put sends a request.
func (c *httpClient) put(L *glua.LState, q *httpCall) error {
	rt := runtimeOf(L)
	if c.conn == nil {
		return errConnectionClosed
	}
	expects := strings.EqualFold(headerValue(q.header, "Expect"), "100-continue")
	out := q.head()
	if !expects {
		out = append(out, q.body...)
	}
	write := func(b []byte) (err error) {
		p := c.conn
		rt.wait(L, func(ctx context.Context) { err = p.write(ctx, b, c.send) })
		return err
	}
	if err := write(out); err != nil {
		return err
	}
	if expects {
		head, err := c.readHead(L)
		if err != nil {
			return err
		}
		if head.status != 100 {
			c.keepalive = false
			return fmt.Errorf("the server answered %d to Expect", head.status)
		}
		if err := write(q.body); err != nil {
			return err
		}
	}
	for q.next != nil {
		values := callAll(L, q.next)
		part, ok := "", false
		if len(values) > 0 {
			part, ok = text(values[0])
		}
		if !ok {
			if len(values) > 1 && values[1] != glua.LNil {
				message, _ := text(values[1])
				return errors.New(message)
			}
			break
		}
		if err := write([]byte(part)); err != nil {
			return err
		}
	}
	return nil
}

// httpHead is the head of an answer.
type httpHead struct {
	status  int
	reason  string
	version string
	header  []Field
}

// readHead reads the next head that is not an interim one, unless it is 100 or 101.
func (c *httpClient) readHead(L *glua.LState) (*httpHead, error) {
	var head *httpHead
	var err error
	p := c.conn
	runtimeOf(L).wait(L, func(ctx context.Context) {
		head, err = p.readHead(ctx, c.read)
	})
	return head, err
}

func (p *peer) readHead(ctx context.Context, timeout time.Duration) (*httpHead, error) {
	line, err := p.readLine(ctx, timeout)
	if err != nil {
		return nil, err
	}
	version, rest, _ := strings.Cut(string(line), " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/") || err != nil {
		return nil, fmt.Errorf("couldn't parse HTTP version from response prefix: '%.8s'", line)
	}
	head := &httpHead{status: status, reason: reason, version: strings.TrimPrefix(version, "HTTP/")}
	head.header, err = p.readFields(ctx, timeout)
	return head, err
}

func (p *peer) readFields(ctx context.Context, timeout time.Duration) ([]Field, error) {
	var fields []Field
	for {
		line, err := p.readLine(ctx, timeout)
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return fields, nil
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			continue
		}
		fields = append(fields, Field{name, strings.TrimSpace(value)})
	}
}

// httpBody reads the body of one answer.
type httpBody struct {
	c       *httpClient
	chunked bool
	trailer bool // fields follow the last chunk, for read_trailers
	left    int  // of the length or the chunk; -1: up to the end of the connection
	done    bool
}

// read returns up to n bytes, none at the end.
func (b *httpBody) read(ctx context.Context, n int) ([]byte, error) {
	p := b.c.conn
	if b.done {
		return nil, nil
	}
	if p == nil {
		return nil, net.ErrClosed
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(ctx); err != nil || b.done {
			return nil, err
		}
	}
	if b.left < 0 {
		part, err := p.readSome(ctx, n, b.c.read)
		if err != nil && socketError(err) == "closed" {
			b.done = true
			return nil, nil
		}
		return part, err
	}
	if b.left == 0 {
		b.done = true
		return nil, nil
	}
	part, err := p.readN(ctx, min(n, b.left), b.c.read)
	if err != nil {
		return part, err
	}
	b.left -= len(part)
	switch {
	case b.left > 0:
	case b.chunked:
		_, err = p.readLine(ctx, b.c.read)
	default:
		b.done = true
	}
	return part, err
}

func (b *httpBody) nextChunk(ctx context.Context) error {
	line, err := b.c.conn.readLine(ctx, b.c.read)
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(string(line), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
	if err != nil {
		return errors.New("unable to read chunksize")
	}
	b.left = int(n)
	if n > 0 {
		return nil
	}
	b.done = true
	if !b.trailer {
		_, err = b.c.conn.readFields(ctx, b.c.read)
	}
	return err
}

const bodyPart = 65536

// receive reads an answer's head into a table with the means to read its body.
func (c *httpClient) receive(L *glua.LState, method string) (*glua.LTable, *httpBody, error) {
	if c.conn == nil {
		return nil, nil, errConnectionClosed
	}
	head, err := c.readHead(L)
	for err == nil && head.status/100 == 1 && head.status != 101 {
		head, err = c.readHead(L)
	}
	if err != nil {
		c.keepalive = false
		return nil, nil, err
	}
	res := L.NewTable()
	c.fill(L, res, head)
	b := c.bodyOf(head, method)
	res.RawSetString("has_body", glua.LBool(b != nil))
	readable := b
	if b == nil {
		b = &httpBody{c: c, done: true}
	}
	methods := extend(L, res, funcs{
		"read_body": func(L *glua.LState) int {
			body, err := b.readAll(L)
			if err != nil {
				return fail(L, socketError(err))
			}
			return ret(L, str(body))
		},
		"read_trailers": func(L *glua.LState) int {
			if !b.trailer || !b.done || c.conn == nil {
				return ret(L, glua.LNil)
			}
			var fields []Field
			var err error
			p := c.conn
			runtimeOf(L).wait(L, func(ctx context.Context) { fields, err = p.readFields(ctx, c.read) })
			if err != nil {
				return fail(L, socketError(err))
			}
			headers := res.RawGetString("headers")
			for _, f := range fields {
				L.SetField(headers, f.Name, str(f.Value))
			}
			b.trailer = false
			return ret(L, headers)
		},
	})
	reader := L.NewFunction(func(L *glua.LState) int {
		n := L.OptInt(1, bodyPart)
		var part []byte
		var err error
		runtimeOf(L).wait(L, func(ctx context.Context) { part, err = b.read(ctx, n) })
		switch {
		case err != nil:
			return ret(L, glua.LNil, str(socketError(err)), str(string(part)))
		case len(part) == 0:
			return ret(L, glua.LNil)
		}
		return ret(L, str(string(part)))
	})
	if readable != nil {
		methods.RawSetString("body_reader", reader)
	}
	return res, b, nil
}

// fill sets what is known with the head.
func (c *httpClient) fill(L *glua.LState, res *glua.LTable, head *httpHead) {
	res.RawSetString("status", num(head.status))
	res.RawSetString("reason", str(head.reason))
	res.RawSetString("version", parseNumber(head.version))
	res.RawSetString("headers", httpHeaders(L, head.header))
	connection := strings.ToLower(headerValue(head.header, "Connection"))
	c.keepalive = c.keepalive && !strings.Contains(connection, "close") && (head.version == "1.1" || strings.Contains(connection, "keep-alive"))
}

// bodyOf is nil for an answer that has none.
func (c *httpClient) bodyOf(head *httpHead, method string) *httpBody {
	if method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304 {
		return nil
	}
	b := &httpBody{c: c, left: -1}
	length, err := strconv.Atoi(headerValue(head.header, "Content-Length"))
	switch {
	case strings.Contains(strings.ToLower(headerValue(head.header, "Transfer-Encoding")), "chunked"):
		b.chunked, b.left = true, 0
		b.trailer = headerValue(head.header, "Trailer") != ""
	case err == nil:
		b.left = length
	default:
		c.keepalive = false
	}
	return b
}

func (b *httpBody) readAll(L *glua.LState) (string, error) {
	var out strings.Builder
	var err error
	runtimeOf(L).wait(L, func(ctx context.Context) {
		for {
			var part []byte
			part, err = b.read(ctx, bodyPart)
			out.Write(part)
			if err != nil || len(part) == 0 {
				return
			}
		}
	})
	if err != nil {
		b.c.keepalive = false
	}
	return out.String(), err
}

// hyphenated is a header's name as the library writes it: scripts may name one with
// underscores.
func hyphenated(name string) string { return strings.ReplaceAll(name, "_", "-") }

// httpHeaders keeps the letters of names as received and finds them in any spelling.
func httpHeaders(L *glua.LState, h []Field) *glua.LTable {
	t := L.NewTable()
	names := map[string]string{}
	for _, f := range h {
		name := hyphenated(f.Name)
		low := strings.ToLower(name)
		if first, ok := names[low]; ok {
			name = first
		} else {
			names[low] = name
		}
		addValue(L, t, name, str(f.Value))
	}
	lookup := func(L *glua.LState, key glua.LValue) (string, bool) {
		s, ok := text(key)
		if !ok {
			return "", false
		}
		name, ok := names[strings.ToLower(hyphenated(s))]
		return name, ok
	}
	mt := L.NewTable()
	extend(L, mt, funcs{
		"__index": func(L *glua.LState) int {
			name, ok := lookup(L, L.Get(2))
			if !ok {
				return ret(L, glua.LNil)
			}
			return ret(L, t.RawGetString(name))
		},
		"__newindex": func(L *glua.LState) int {
			name, ok := lookup(L, L.Get(2))
			if !ok {
				name, _ = text(L.Get(2))
				name = hyphenated(name)
				names[strings.ToLower(name)] = name
			}
			t.RawSetString(name, L.Get(3))
			return 0
		},
	})
	t.Metatable = mt
	return t
}

func httpRequest(L *glua.LState) int {
	c := self[*httpClient](L)
	q, err := c.call(L, L.Get(2))
	if err != nil {
		return fail(L, err.Error())
	}
	if err := c.put(L, q); err != nil {
		return fail(L, socketError(err))
	}
	res, _, err := c.receive(L, q.method)
	if err != nil {
		return fail(L, socketError(err))
	}
	return ret(L, res)
}

// httpRequestURI connects, asks, reads the whole answer and lets the connection go.
func httpRequestURI(L *glua.LState) int {
	c := self[*httpClient](L)
	uri, params := checkText(L, 2), L.Get(3)
	scheme, host, port, path, query, ok := splitURI(uri)
	if !ok {
		return fail(L, "bad uri: "+uri)
	}
	if scheme == "" {
		x, _ := exchange(L)
		scheme = x.Scheme
	}
	if port == 0 {
		port = defaultPort(scheme)
	}
	opts := L.NewTable()
	if given, ok := params.(*glua.LTable); ok {
		each(given, func(k, v glua.LValue) { opts.RawSet(k, v) })
	}
	if opts.RawGetString("path") == glua.LNil {
		opts.RawSetString("path", str(path))
	}
	if opts.RawGetString("query") == glua.LNil && query != "" {
		opts.RawSetString("query", str(query))
	}
	err := c.open(L, httpTarget{
		scheme: scheme, host: host, port: port, pool: stringField(params, "pool", ""),
		verify: field(params, "ssl_verify") != glua.LFalse, serverName: stringField(params, "ssl_server_name", ""),
	})
	if err != nil {
		return fail(L, socketError(err))
	}
	q, err := c.call(L, opts)
	if err != nil {
		c.drop()
		return fail(L, err.Error())
	}
	if err := c.put(L, q); err != nil {
		c.drop()
		return fail(L, socketError(err))
	}
	res, b, err := c.receive(L, q.method)
	if err != nil {
		c.drop()
		return fail(L, socketError(err))
	}
	body, err := b.readAll(L)
	if err != nil {
		c.drop()
		return fail(L, socketError(err))
	}
	res.RawSetString("body", str(body))
	if b.trailer && c.conn != nil {
		p := c.conn
		runtimeOf(L).wait(L, func(ctx context.Context) { _, err = p.readFields(ctx, c.read) })
		if err != nil {
			c.keepalive = false
		}
	}
	for _, name := range []string{"read_body", "body_reader", "read_trailers"} {
		res.RawSetString(name, glua.LNil)
	}
	p := c.conn
	c.conn = nil
	switch {
	case p == nil:
	case !c.keepalive, field(params, "keepalive") == glua.LFalse, !p.quiet():
		_ = p.conn.Close()
	default:
		keep, _ := field(params, "keepalive_timeout").(glua.LNumber)
		size, _ := number(field(params, "keepalive_pool"))
		if size == 0 {
			size = 30
		}
		runtimeOf(L).conns.put(p.pool, p, milliseconds(keep), size)
	}
	return ret(L, res)
}

// httpPipeline sends all requests; each answer is read when it is first looked at.
func httpPipeline(L *glua.LState) int {
	c := self[*httpClient](L)
	requests := L.CheckTable(2)
	responses := L.NewTable()
	for i := 1; i <= requests.Len(); i++ {
		q, err := c.call(L, requests.RawGetInt(i))
		if err != nil {
			return fail(L, err.Error())
		}
		if err := c.put(L, q); err != nil {
			return fail(L, socketError(err))
		}
		res := L.NewTable()
		mt := L.NewTable()
		mt.RawSetString("__index", L.NewFunction(func(L *glua.LState) int {
			res.Metatable = glua.LNil
			read, _, err := c.receive(L, q.method)
			if err != nil {
				return fail(L, socketError(err))
			}
			each(read, func(k, v glua.LValue) { res.RawSet(k, v) })
			return ret(L, res.RawGet(L.Get(2)))
		}))
		res.Metatable = mt
		responses.Append(res)
	}
	return ret(L, responses)
}

// urlTable is socket.url's parse.
func urlTable(L *glua.LState, raw string) *glua.LTable {
	t := L.NewTable()
	u, err := url.Parse(raw)
	if err != nil {
		return t
	}
	set := func(name, value string) {
		if value != "" {
			t.RawSetString(name, str(value))
		}
	}
	set("scheme", u.Scheme)
	set("host", u.Hostname())
	set("port", u.Port())
	set("path", u.EscapedPath())
	set("query", u.RawQuery)
	set("fragment", u.Fragment)
	set("authority", u.Host)
	if u.User != nil {
		set("userinfo", u.User.String())
		set("user", u.User.Username())
		password, _ := u.User.Password()
		set("password", password)
	}
	return t
}

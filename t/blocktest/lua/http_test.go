package lua

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func newUpstream(t *testing.T, tls bool) string {
	t.Helper()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Seen", r.Method+" "+r.URL.String())
		switch r.URL.Path {
		case "/stream":
			for i := range 3 {
				fmt.Fprintf(w, "part%d;", i)
				w.(http.Flusher).Flush()
			}
		case "/twice":
			w.Header().Add("X-Twice", "1")
			w.Header().Add("X-Twice", "2")
		case "/names":
			for _, name := range []string{"X-Api-Key", "X-Api-Key-Two"} {
				for _, v := range r.Header.Values(name) {
					fmt.Fprintf(w, "%s=%s;", name, v)
				}
			}
		case "/underscore":
			w.Header()["X_Under_Score"] = []string{"yes"}
		case "/close":
			w.Header().Set("Connection", "close")
			_, _ = w.Write(body)
		default:
			_, _ = w.Write(body)
		}
	})
	var s *httptest.Server
	if tls {
		s = httptest.NewTLSServer(h)
	} else {
		s = httptest.NewServer(h)
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).String()
}

func TestHTTPClient(t *testing.T) {
	addr := newUpstream(t, false)
	port := netip.MustParseAddrPort(addr).Port()
	prelude := fmt.Sprintf("local port = %d local uri = 'http://127.0.0.1:%d' local c = require('resty.http').new() ", port, port)
	rt := newRuntime(t, Options{})
	for _, c := range []snippet{
		{"request_uri returns the whole answer", `local r = c:request_uri(uri .. "/p?x=1", {method = "PUT", body = "abc"}) ngx.print(r.status, r.body, r.headers["x-seen"], r.reason)`, "200abcPUT /p?x=1OK"},
		{"a query table is encoded", `local r = c:request_uri(uri .. "/p", {query = {a = "b c"}}) ngx.print(r.headers.x_seen)`, "GET /p?a=b%20c"},
		{"names of headers may be given with underscores", `local r = c:request_uri(uri .. "/names", {headers = {x_api_key = "k", ["X-Api_Key-Two"] = 2}}) ngx.print(r.body)`, "X-Api-Key=k;X-Api-Key-Two=2;"},
		{"of two spellings the first is sent, with the last value", `local h = {} h["X-Api-key"] = 1 h.x_api_key = 2 local r = c:request_uri(uri .. "/names", {headers = h}) ngx.print(r.body)`, "X-Api-Key=2;"},
		{"a header received with underscores has hyphens", `local r = c:request_uri(uri .. "/underscore") ngx.print(r.headers["X-Under-Score"], next(r.headers) ~= nil)`, "yestrue"},
		{"repeated headers are a list", `local r = c:request_uri(uri .. "/twice") ngx.print(r.headers["X-Twice"][2])`, "2"},
		{"a body is read part by part", `c:connect("127.0.0.1", port) local r = c:request({path = "/stream"}) local n = 0
			repeat local p = r.body_reader(5) if p then ngx.print(p, "|") end until not p ngx.print(c:set_keepalive())`, "part0|;|part1|;|part2|;|1"},
		{"a body comes from a function", `c:connect("127.0.0.1", port) local n = 0
			local r = c:request({path = "/", method = "POST", headers = {["Content-Length"] = 4}, body = function() n = n + 1 if n < 3 then return "ab" end end}) ngx.print(r:read_body(), c:close())`, "abab1"},
		{"a connection is used again", `c:connect({scheme = "http", host = "127.0.0.1", port = port}) local r = c:request({path = "/"}) r:read_body() ngx.print(c:set_keepalive())
			c:connect({scheme = "http", host = "127.0.0.1", port = port}) ngx.print(c:get_reused_times() > 0)`, "1true"},
		{"a closed one is not kept", `c:connect("127.0.0.1", port) local r = c:request({path = "/close"}) r:read_body() ngx.print(c:set_keepalive())`, "2connection must be closed"},
		{"a pipeline answers in order", `c:connect("127.0.0.1", port) local rs = c:request_pipeline({{path = "/1"}, {path = "/2"}}) for _, r in ipairs(rs) do ngx.print(r.headers["X-Seen"]) r:read_body() end`, "GET /1GET /2"},
		{"HEAD has no body", `c:connect("127.0.0.1", port) local r = c:request({path = "/", method = "HEAD"}) ngx.print(r.has_body, r:read_body())`, "false"},
		{"a refused connection says so", `ngx.print(c:request_uri("http://127.0.0.1:1/"))`, "nilconnection refused"},
		{"a bad URI says so", `ngx.print(c:request_uri("nonsense"))`, "nilbad uri: nonsense"},
		{"parse_uri splits", `ngx.print(table.concat(c:parse_uri("https://h/a?b=c"), " "))`, "https h 443 /a?b=c b=c"},
		{"a silent server times out", `
			local s = ngx.socket.tcp() s:settimeout(20) s:connect("127.0.0.1", port) ngx.print(s:receive())`, "niltimeout"},
		{"sockets read lines, bytes and the rest", `
			local s = ngx.socket.tcp() s:connect("127.0.0.1", port) s:send({"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", "hello"})
			local line = s:receive() repeat local h = s:receive() until h == "" ngx.print(line, s:receive(2), s:receive("*a"))`, "HTTP/1.0 200 OKhello"},
		{"receiveuntil stops before the pattern", `
			local s = ngx.socket.tcp() s:connect("127.0.0.1", port) s:send("GET / HTTP/1.0\r\n\r\n") local it = s:receiveuntil(" ") ngx.print(it(), it())`, "HTTP/1.0200"},
	} {
		c.chunk = prelude + c.chunk
		check(t, rt, []snippet{c})
	}
}

func TestTLSIsVerifiedWhenAsked(t *testing.T) {
	uri := "https://" + newUpstream(t, true)
	check(t, newRuntime(t, Options{}), []snippet{
		{"an unknown issuer is refused", `ngx.print(require("resty.http").new():request_uri("` + uri + `"))`, "nil18: self-signed certificate"},
		{"unless it is not verified", `ngx.print(require("resty.http").new():request_uri("` + uri + `", {ssl_verify = false}).status)`, "200"},
	})
}

func TestWebSocketsTalkToEachOther(t *testing.T) {
	rt := newRuntime(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = conn.Close() }()
		p := newPeer(conn)
		if _, err := p.readLine(t.Context(), time.Minute); err != nil {
			done <- err
			return
		}
		x, _ := newExchange("")
		x.Header, err = p.readFields(t.Context(), time.Minute)
		x.Conn = func() (net.Conn, error) { return conn, err }
		done <- rt.Run(t.Context(), Content, "server", `
			local wb = assert(require("resty.websocket.server"):new())
			local data, typ = wb:recv_frame()
			wb:send_text(data .. ":" .. typ)
			data, typ = wb:recv_frame()
			assert(typ == "close", typ)`, x, nil)
	}()
	check(t, rt, []snippet{{
		"text goes there and back, then the end", fmt.Sprintf(`
			local wb = require("resty.websocket.client"):new()
			assert(wb:connect("ws://%s/x"))
			assert(wb:send_text("hello"))
			ngx.print(wb:recv_frame()) wb:close()`, l.Addr()), "hello:texttext",
	}})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

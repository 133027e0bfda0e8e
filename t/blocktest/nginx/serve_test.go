package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/t/blocktest/lua"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeScripts runs Go functions by the text of the chunk.
type fakeScripts struct {
	chunks map[string]func(ctx context.Context, x *lua.Exchange, body *lua.BodyPart) error

	mu     sync.Mutex
	shared []string
	resets int
	ran    []string // phase and name, of the phases without a request
}

func (f *fakeScripts) Run(ctx context.Context, phase lua.Phase, name, chunk string, x *lua.Exchange, body *lua.BodyPart) error {
	if x == nil {
		f.mu.Lock()
		f.ran = append(f.ran, string(phase)+" "+strings.TrimSpace(chunk))
		f.mu.Unlock()
		return nil
	}
	run := f.chunks[strings.TrimSpace(chunk)]
	if run == nil {
		return fmt.Errorf("%s:1: no such chunk", name)
	}
	return run(ctx, x, body)
}

func (f *fakeScripts) Shared(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shared = append(f.shared, name)
}

func (f *fakeScripts) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
}

// say is a content script that writes one line after another.
func say(lines ...string) func(context.Context, *lua.Exchange, *lua.BodyPart) error {
	return func(_ context.Context, x *lua.Exchange, _ *lua.BodyPart) error {
		for _, l := range lines {
			if _, err := io.WriteString(x.Out, l+"\n"); err != nil {
				return err
			}
		}
		return nil
	}
}

func exitWith(status int) func(context.Context, *lua.Exchange, *lua.BodyPart) error {
	return func(context.Context, *lua.Exchange, *lua.BodyPart) error { return &lua.ExitError{Status: status} }
}

func scripts() *fakeScripts {
	type x = lua.Exchange
	return &fakeScripts{chunks: map[string]func(context.Context, *lua.Exchange, *lua.BodyPart) error{
		"hello":      say("hello"),
		"two lines":  say("one", "two"),
		"nothing":    func(context.Context, *x, *lua.BodyPart) error { return nil },
		"exit 0":     exitWith(0),
		"exit 200":   exitWith(200),
		"exit 204":   exitWith(204),
		"exit 403":   exitWith(403),
		"exit 418":   exitWith(418),
		"exit 444":   exitWith(444),
		"exec":       func(context.Context, *x, *lua.BodyPart) error { return &lua.ExecError{URI: "/t", Args: "a=1"} },
		"exec @name": func(context.Context, *x, *lua.BodyPart) error { return &lua.ExecError{URI: "@name"} },
		"white box":  func(context.Context, *x, *lua.BodyPart) error { return &lua.WhiteBoxError{What: "upvalues"} },
		"server name": func(_ context.Context, x *x, _ *lua.BodyPart) error {
			if x.TLS == nil || x.TLS.ServerName == "" || x.TLS.ServerName != x.ServerName {
				return fmt.Errorf("the client's name is %+v", x.TLS)
			}
			return nil
		},
		"say, flush and be interrupted": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			return errors.Join(say("said")(ctx, x, b), x.Out.Flush(), &lua.InterruptedError{Err: context.Canceled})
		},
		"be interrupted": func(ctx context.Context, _ *x, _ *lua.BodyPart) error {
			return &lua.InterruptedError{Err: context.Canceled}
		},
		"status 201 and say": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			x.Status = 201
			return say("made")(ctx, x, b)
		},
		"say and exit 403": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			return errors.Join(say("said")(ctx, x, b), exitWith(403)(ctx, x, b))
		},
		"say and fail": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			return errors.Join(say("said")(ctx, x, b), errors.New("content_by_lua(nginx.conf:1):2: boom"))
		},
		"eof and say": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			if err := errors.Join(say("said")(ctx, x, b), x.Out.EOF()); err != nil {
				return err
			}
			if _, err := x.Out.Write([]byte("lost")); err == nil {
				return errors.New("a write after EOF")
			}
			return nil
		},
		"length": func(ctx context.Context, x *x, b *lua.BodyPart) error {
			x.OutHeader = append(x.OutHeader, lua.Field{Name: "Content-Length", Value: "6"})
			return say("hello")(ctx, x, b)
		},
		"body": func(_ context.Context, x *x, _ *lua.BodyPart) error {
			p, err := x.Body()
			if err == nil {
				_, err = x.Out.Write(append([]byte("got "), p...))
			}
			return err
		},
		"headers": func(_ context.Context, x *x, _ *lua.BodyPart) error {
			for _, f := range x.Header {
				if _, err := fmt.Fprintf(x.Out, "%s=%s;", f.Name, f.Value); err != nil {
					return err
				}
			}
			return nil
		},
		"add header": func(_ context.Context, x *x, _ *lua.BodyPart) error {
			x.OutHeader = append(x.OutHeader, lua.Field{Name: "X-Filter", Value: fmt.Sprint(x.Status)})
			return nil
		},
		"upper": func(_ context.Context, _ *x, b *lua.BodyPart) error {
			b.Data = bytes.ToUpper(b.Data)
			if b.EOF {
				b.Data = append(b.Data, "!"...)
			}
			return nil
		},
		"set v": func(_ context.Context, x *x, _ *lua.BodyPart) error { x.Vars["v"] = "from lua"; return nil },
		"capture": func(ctx context.Context, x *x, _ *lua.BodyPart) error {
			var out collector
			sub := &lua.Exchange{Method: "GET", URI: "/sub", Target: "/sub", Out: &out}
			if err := x.Capture(ctx, sub); err != nil {
				return err
			}
			_, err := fmt.Fprintf(x.Out, "%d %s", sub.Status, out.String())
			return err
		},
		"raw socket": func(_ context.Context, x *x, _ *lua.BodyPart) error {
			c, err := x.Conn()
			if err != nil {
				return err
			}
			line := make([]byte, 4)
			if _, err := io.ReadFull(c, line); err != nil {
				return err
			}
			_, err = c.Write(bytes.ToUpper(line))
			return errors.Join(err, c.Close())
		},
	}}
}

type collector struct{ bytes.Buffer }

func (*collector) Flush() error { return nil }
func (*collector) EOF() error   { return nil }

// A stage is a host with its logs.
type stage struct {
	*Host
	scripts *fakeScripts

	mu       sync.Mutex
	log      []string
	access   []string
	reported []error
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{scripts: scripts()}
	s.Host = NewHost(Runtime{
		Scripts: s.scripts,
		Log:     func(level, line string) { s.mu.Lock(); defer s.mu.Unlock(); s.log = append(s.log, "["+level+"] "+line) },
		Access:  func(file, line string) { s.mu.Lock(); defer s.mu.Unlock(); s.access = append(s.access, file+": "+line) },
		Report:  func(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.reported = append(s.reported, err) },
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func load(t *testing.T, http, front string) *Config {
	t.Helper()
	var src Source
	for text, list := range map[string]*[]*Directive{http: &src.HTTP, front: &src.Server} {
		if text == "" {
			continue
		}
		parsed, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		*list = parsed
	}
	cfg, err := Load(src, Options{Root: "testdata"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// apply serves a configuration and returns the address of its first listener.
func (s *stage) apply(t *testing.T, cfg *Config) string {
	t.Helper()
	if err := s.Apply(t.Context(), cfg, false); err != nil {
		t.Fatal(err)
	}
	for _, server := range cfg.servers {
		for _, l := range server.listens {
			return s.listeners[l.key()].Addr().String()
		}
	}
	return ""
}

// speak sends bytes, ends its half and returns all that comes.
func speak(t *testing.T, network, addr, text string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(c); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%v after %q", err, answer)
	}
	return string(answer)
}

var dateLine = regexp.MustCompile(`Date: [A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT`)

// plain makes an answer comparable, and readable in tables.
func plain(answer string) string {
	answer = dateLine.ReplaceAllString(answer, "Date: D")
	answer = strings.ReplaceAll(answer, "Server: openresty\r\nDate: D\r\n", "<own>|")
	return strings.ReplaceAll(answer, "\r\n", "|")
}

const get = "GET /t HTTP/1.1\r\nHost: a\r\n\r\n"

func TestServe(t *testing.T) {
	page := func(title string) string { return strings.ReplaceAll(htmlPage(title, title, ""), "\r\n", "|") }
	paged := func(status, connection string) string {
		p := pageOf(status)
		return fmt.Sprintf("HTTP/1.1 %s|<own>|Content-Type: text/html|Content-Length: %d|Connection: %s||%s",
			status, len(strings.ReplaceAll(page(p), "|", "\r\n")), connection, page(p))
	}
	lua := func(chunk string) string { return "location /t { content_by_lua_block { " + chunk + " } }" }
	const chunkedHead = "HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Transfer-Encoding: chunked|Connection: keep-alive||"
	for _, tt := range []struct{ name, config, request, want string }{
		{
			"a text of the configuration has its length", "location /t { return 200 'ok'; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 2|Connection: keep-alive||ok",
		},
		{"a status alone has nginx's page", "location /t { return 404; }", get, paged("404 Not Found", "keep-alive")},
		{"no location and no file is 404", "location /other { return 200; }", get, paged("404 Not Found", "keep-alive")},
		{"a page for 500 closes the connection", "location /t { return 500; }", get, paged("500 Internal Server Error", "close")},
		{
			"a path to return to is made absolute", "location /t { return 301 /b; }", get,
			strings.Replace(paged("301 Moved Permanently", "keep-alive"), "|Connection", "|Location: http://a/b|Connection", 1),
		},
		{"Lua's output is chunked, a chunk for each write", lua("two lines"), get, chunkedHead + "4|one\n|4|two\n|0||"},
		{"a script that writes nothing has an empty chunked body", lua("nothing"), get, chunkedHead + "0||"},
		{
			"a length that the script gives is kept", lua("length"), get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 6|Connection: keep-alive||hello\n",
		},
		{
			"HTTP/1.0 gets a length and no chunks", lua("two lines"), "GET /t HTTP/1.0\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 8|Connection: close||one\ntwo\n",
		},
		{
			"HTTP/1.0 may keep the connection", lua("hello"), "GET /t HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 6|Connection: keep-alive||hello\n",
		},
		{"HEAD has a head only", lua("hello"), "HEAD /t HTTP/1.1\r\nHost: a\r\n\r\n", chunkedHead},
		{
			"Connection: close is obeyed", lua("hello"), "GET /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			strings.Replace(chunkedHead, "keep-alive", "close", 1) + "6|hello\n|0||",
		},
		{
			"pipelined requests are answered in order", "location /a { return 200 A; } location /b { return 200 B; }",
			"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||A" +
				"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||B",
		},
		{
			"an unread body is passed over", "location /t { return 200 ok; }",
			"POST /t HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /t HTTP/1.1\r\nHost: a\r\n\r\n",
			strings.Repeat("HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 2|Connection: keep-alive||ok", 2),
		},
		{"a body by length reaches the script", lua("body"), "POST /t HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", chunkedHead + "7|got abc|0||"},
		{
			"a chunked body reaches the script", lua("body"),
			"POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", chunkedHead + "7|got abc|0||",
		},
		{
			"Expect is answered when the body is read", lua("body"),
			"POST /t HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 100 Continue||" + chunkedHead + "7|got abc|0||",
		},
		{
			"a body too long by its own word is refused", "client_max_body_size 2; " + lua("body"),
			"POST /t HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", paged("413 Request Entity Too Large", "close"),
		},
		{"no Host is no request", "location /t { return 200; }", "GET /t HTTP/1.1\r\n\r\n", paged("400 Bad Request", "close")},
		{"a path above the root is no request", "location / { return 200; }", "GET /../t HTTP/1.1\r\nHost: a\r\n\r\n", paged("400 Bad Request", "close")},
		{"another version is refused", "location / { return 200; }", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", paged("505 HTTP Version Not Supported", "close")},
		{
			"a length and chunks together are refused", "location / { return 200; }",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", paged("400 Bad Request", "close"),
		},
		{"names of headers reach the script as received", lua("headers"), "GET /t HTTP/1.1\r\nhOst: a\r\nX-b:  c \r\n\r\n", chunkedHead + "7|hOst=a;|6|X-b=c;|0||"},
		{"names with an underscore do not, as in nginx", lua("headers"), "GET /t HTTP/1.1\r\nHost: a\r\nx_b: c\r\n\r\n", chunkedHead + "7|Host=a;|0||"},
		{"unless the configuration lets them", "underscores_in_headers on; " + lua("headers"), "GET /t HTTP/1.1\r\nHost: a\r\nx_b: c\r\n\r\n", chunkedHead + "7|Host=a;|6|x_b=c;|0||"},

		{"exit with 200 sends what there is", lua("exit 200"), get, chunkedHead + "0||"},
		{"exit with 204 has no body", lua("exit 204"), get, "HTTP/1.1 204 No Content|<own>|Content-Type: text/plain|Connection: keep-alive||"},
		{"exit with an error has nginx's page", lua("exit 403"), get, paged("403 Forbidden", "keep-alive")},
		{"exit with a status without a page has an empty body", lua("exit 418"), get, "HTTP/1.1 418 |<own>|Content-Length: 0|Connection: keep-alive||"},
		{"exit with 444 says nothing", lua("exit 444"), get, ""},
		{"exit after output ends the output", lua("say and exit 403"), get, chunkedHead + "5|said\n|0||"},
		{"a script that fails has a page for 500", lua("no such"), get, paged("500 Internal Server Error", "close")},
		{"a script that fails after output leaves it without an end", lua("say and fail"), get, chunkedHead + "5|said\n|"},
		{"what is written after the end is lost", lua("eof and say"), get, chunkedHead + "5|said\n|0||"},
		{"a status that the script sets is sent", lua("status 201 and say"), get, strings.Replace(chunkedHead, "200 OK", "201 Created", 1) + "5|made\n|0||"},
		{"access may end the request", "location /t { access_by_lua_block { exit 403 } content_by_lua_block { hello } }", get, paged("403 Forbidden", "keep-alive")},
		{"access with exit 0 lets it go on", "location /t { access_by_lua_block { exit 0 } content_by_lua_block { hello } }", get, chunkedHead + "6|hello\n|0||"},
		{"access of the server is for every location", "access_by_lua_block { exit 403 } location /t { content_by_lua_block { hello } }", get, paged("403 Forbidden", "keep-alive")},
		{
			"exec goes on elsewhere", "location /t { return 200 $args; } location /x { content_by_lua_block { exec } }", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 3|Connection: keep-alive||a=1",
		},
		{"exec goes to a named location", "location @name { echo named; } location /t { content_by_lua_block { exec @name } }", get, chunkedHead + "6|named\n|0||"},
		{
			"a header filter sees the status and adds", "location /t { content_by_lua_block { hello } header_filter_by_lua_block { add header } }", get,
			strings.Replace(chunkedHead, "keep-alive||", "keep-alive|X-Filter: 200||", 1) + "6|hello\n|0||",
		},
		{
			"a body filter changes every part and the end", "location /t { content_by_lua_block { hello } body_filter_by_lua_block { upper } }", get,
			chunkedHead + "6|HELLO\n|1|!|0||",
		},
		{"a subrequest runs another location", "location /sub { internal; return 201 sub; } " + lua("capture"), get, chunkedHead + "7|201 sub|0||"},
		{"a script may take the connection", lua("raw socket"), get + "ping", "PING"},

		{"set and a script's variables are read alike", "location /t { set $v a; rewrite_by_lua_block { set v } echo $v; }", get, chunkedHead + "9|from lua\n|0||"},
		{
			"a map gives a value", "location /t { return 200 $m; }", "GET /t?k=B1 HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 5|Connection: keep-alive||re: 1",
		},
		{
			"default_type is inherited wherever it stands", "location /t { return 200 x; } default_type 'application/json';", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: application/json|Content-Length: 1|Connection: keep-alive||x",
		},
		{
			"more_clear_headers takes Date off", "more_clear_headers Date; location /t { return 200 x; }", get,
			"HTTP/1.1 200 OK|Server: openresty|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||x",
		},
		{
			"more_set_headers replaces and adds", "location /t { more_set_headers 'Server: s' 'X-A: $arg_k'; return 200 x; }", "GET /t?k=1 HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|Server: s|Date: D|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive|X-A: 1||x",
		},
		{
			"add_header adds to ordinary answers", "location /t { add_header X-A b; return 200 x; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive|X-A: b||x",
		},
		{
			"add_header adds nothing to errors", "location /t { add_header X-A b; return 404 x; }", get,
			"HTTP/1.1 404 Not Found|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||x",
		},
		{
			"more_set_input_headers changes what scripts see", "location /t { more_set_input_headers 'X-B: z'; content_by_lua_block { headers } }",
			"GET /t HTTP/1.1\r\nHost: a\r\nX-b: c\r\n\r\n", chunkedHead + "7|Host=a;|6|X-B=z;|0||",
		},

		{
			"rewrite last looks for a location again", "location /t { rewrite ^/(t)$ /to/$1?b=2 last; } location /to { return 200 $uri?$args; }",
			"GET /t?a=1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 13|Connection: keep-alive||/to/t?b=2&a=1",
		},
		{"a rewrite without an end is a cycle", "location / { rewrite ^ /x last; }", get, paged("500 Internal Server Error", "close")},
		{
			"if with a comparison", `location /t { if ($arg_a = "b") { return 200 yes; } return 200 no; }`, "GET /t?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 3|Connection: keep-alive||yes",
		},
		{
			"if may carry headers for what follows", `location /t { if ($arg_a) { add_header X-A $arg_a; } return 200 no; }`, "GET /t?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 2|Connection: keep-alive|X-A: b||no",
		},
		{
			"an exact location is before a prefix and a pattern", "location /t { return 200 p; } location ~ ^/t { return 200 r; } location = /t { return 200 e; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||e",
		},
		{
			"a pattern is before a prefix, with named groups", "location /t { return 200 p; } location ~ ^/(?<x>t)$ { return 200 r$x; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 2|Connection: keep-alive||rt",
		},
		{
			"a final prefix is before a pattern", "location ^~ /t { return 200 p; } location ~ ^/t { return 200 r; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 1|Connection: keep-alive||p",
		},
		{"an internal location is not there", "location /t { internal; return 200; }", get, paged("404 Not Found", "keep-alive")},
		{"deny is obeyed in order", "location /t { allow 10.0.0.0/8; deny all; content_by_lua_block { hello } }", get, paged("403 Forbidden", "keep-alive")},
		{
			"error_page with its own status", "location /t { return 404; error_page 404 =200 /page; } location /page { return 200 page; }", get,
			"HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 4|Connection: keep-alive||page",
		},
		{
			"the client's address comes from a trusted header", "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For; location /t { echo $remote_addr; }",
			"GET /t HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n\r\n", chunkedHead + "8|2.2.2.2\n|0||",
		},
		{"gzip is for those who take it", "gzip on; gzip_types *; gzip_min_length 1; location /t { content_by_lua_block { hello } }", get, chunkedHead + "6|hello\n|0||"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			addr := s.apply(t, load(t, `map $arg_k $m { default none; ~*^b(\d) "re: $1"; } server { listen 127.0.0.1:0; `+tt.config+" }", ""))
			got := plain(speak(t, "tcp", addr, tt.request))
			if got != tt.want {
				t.Errorf("got  %s\nwant %s\nlog  %q", got, tt.want, s.log)
			}
		})
	}
}

// pageOf is the title of a page by its status line.
func pageOf(status string) string {
	var n int
	if _, err := fmt.Sscan(status, &n); err != nil {
		panic(err)
	}
	title := titles[n]
	if title == "" {
		title = reasons[n]
	}
	return fmt.Sprintf("%d %s", n, title)
}

func TestAScriptThatIsInterruptedAnswersNothing(t *testing.T) {
	for script, said := range map[string]string{"be interrupted": "", "say, flush and be interrupted": "said"} {
		t.Run(script, func(t *testing.T) {
			s := newStage(t)
			addr := s.apply(t, load(t, "server { listen 127.0.0.1:0; location / { content_by_lua_block { "+script+" } } }", ""))
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, get); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection ended with %v, want a reset", err)
			}
			if strings.Contains(string(got), "\r\n0\r\n\r\n") || said == "" && len(got) > 0 {
				t.Errorf("it answered %q", got)
			}
		})
	}
}

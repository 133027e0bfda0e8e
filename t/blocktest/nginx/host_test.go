package nginx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosix/gosix/internal/porttest"
	"github.com/gosix/gosix/t/blocktest/lua"
)

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// ask sends one request over an open connection and returns the body.
func ask(t *testing.T, c net.Conn, in *bufio.Reader, path string) string {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestApplyKeepsListenersThatStay(t *testing.T) {
	s := newStage(t)
	stays, goes, comes := free(t), free(t), free(t)
	s.apply(t, load(t, fmt.Sprintf("server { listen %s; return 200 one; } server { listen %s; return 200 x; }", stays, goes), ""))
	c, err := net.Dial("tcp", stays)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if got := ask(t, c, in, "/"); got != "one" {
		t.Fatal(got)
	}
	s.apply(t, load(t, fmt.Sprintf("server { listen %s; return 200 two; } server { listen %s; return 200 y; }", stays, comes), ""))
	if got := ask(t, c, in, "/"); got != "two" {
		t.Errorf("the open connection got %q, want the new answer", got)
	}
	if c, err := net.Dial("tcp", goes); err == nil {
		c.Close()
		t.Error("the address that went away is still open")
	}
	if got := speak(t, "tcp", comes, get); !strings.HasSuffix(got, "y") {
		t.Error(got)
	}
}

func TestApplyNamesTheAddressThatItCannotHave(t *testing.T) {
	s := newStage(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kept := free(t)
	s.apply(t, load(t, fmt.Sprintf("server { listen %s; return 200 kept; }", kept), ""))
	err = s.Apply(t.Context(), load(t, fmt.Sprintf("server { listen %s reuseport; return 200 x; }", l.Addr()), ""), true)
	var failed *ListenError
	if !errors.As(err, &failed) || failed.Addr != l.Addr().String() || failed.Directive != fmt.Sprintf("listen %s reuseport", l.Addr()) {
		t.Fatalf("got %v", err)
	}
	if s.scripts.resets != 0 {
		t.Error("the scripts were reset by what failed")
	}
	if got := speak(t, "tcp", kept, get); !strings.HasSuffix(got, "kept") {
		t.Errorf("the earlier configuration does not serve any more: %q", got)
	}
}

func TestApplyResetsScriptsOnlyWhenAsked(t *testing.T) {
	s := newStage(t)
	cfg := func(init string) *Config {
		return load(t, "lua_shared_dict a 1m; init_by_lua_block { "+init+" } init_worker_by_lua_block { w }", "return 200 x;")
	}
	for _, step := range []struct {
		init   string
		reset  bool
		resets int
		ran    string
	}{
		{"one", false, 0, "init one,init_worker w"},
		{"one", false, 0, ""},
		{"two", false, 0, "init two"},
		{"two", true, 1, "init two,init_worker w"},
	} {
		s.scripts.ran = nil
		if err := s.Apply(t.Context(), cfg(step.init), step.reset); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.scripts.ran, ","); got != step.ran || s.scripts.resets != step.resets {
			t.Errorf("%+v: ran %q with %d resets", step, got, s.scripts.resets)
		}
	}
	if got := strings.Join(s.scripts.shared, ","); got != "a,a,a,a" {
		t.Error(got)
	}
}

func TestServersShareAnAddressByTheirNames(t *testing.T) {
	s := newStage(t)
	addr := s.apply(t, load(t, `
		server { listen 127.0.0.1:0; server_name a.com; return 200 exact; }
		server { listen 127.0.0.1:0; server_name *.a.com; return 200 leading; }
		server { listen 127.0.0.1:0; server_name ~^r\d+\.com$; return 200 pattern; }
		server { listen 127.0.0.1:0 default_server; server_name _; return 200 default; }`, ""))
	for host, want := range map[string]string{
		"a.com": "exact", "A.com:80": "exact", "b.a.com": "leading", "r12.com": "pattern", "rx.com": "default",
	} {
		got := speak(t, "tcp", addr, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if !strings.HasSuffix(got, "\r\n\r\n"+want) {
			t.Errorf("%s: %q, want %s", host, got, want)
		}
	}
}

func TestServerOnASocketFile(t *testing.T) {
	s := newStage(t)
	path := filepath.Join(t.TempDir(), "s.sock")
	s.apply(t, load(t, "server { listen unix:"+path+"; location / { echo $remote_addr $server_addr; } }", ""))
	if got := speak(t, "unix", path, "GET / HTTP/1.0\r\n\r\n"); !strings.HasSuffix(got, "unix: unix:\n") {
		t.Error(got)
	}
}

func TestLogLines(t *testing.T) {
	s := newStage(t)
	addr := s.apply(t, load(t, `
		log_format f escape=default '$status "$request" [$http_x]$http_none $body_bytes_sent';
		access_log logs/a.log f;
		server { listen 127.0.0.1:0; server_name n; location /t { content_by_lua_block { no such } }
			location /off { access_log off; return 200 x; } }`, ""))
	speak(t, "tcp", addr, "GET /t?a=1 HTTP/1.1\r\nHost: h\r\nX: a\"b\x01\r\n\r\n")
	speak(t, "tcp", addr, "GET /off HTTP/1.1\r\nHost: h\r\n\r\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantLog := `[error] *1 lua entry thread aborted: runtime error: content_by_lua(nginx.conf:4):1: no such chunk, client: 127.0.0.1, server: n, request: "GET /t?a=1 HTTP/1.1", host: "h"`
	if len(s.log) != 1 || s.log[0] != wantLog {
		t.Errorf("got  %q\nwant %q", s.log, wantLog)
	}
	wantAccess := fmt.Sprintf(`logs/a.log: 500 "GET /t?a=1 HTTP/1.1" [a\x22b\x01]- %d`, len(pageText(500)))
	if len(s.access) != 1 || s.access[0] != wantAccess {
		t.Errorf("got  %q\nwant %q", s.access, wantAccess)
	}
}

func TestAScriptThatCannotRunIsReported(t *testing.T) {
	s := newStage(t)
	addr := s.apply(t, load(t, "server { listen 127.0.0.1:0; location / { content_by_lua_block { white box } } }", ""))
	got := speak(t, "tcp", addr, get)
	var inside *lua.WhiteBoxError
	if !strings.HasPrefix(got, "HTTP/1.1 500 ") || len(s.reported) != 1 || !errors.As(s.reported[0], &inside) || len(s.log) > 0 {
		t.Errorf("%q, reported %v, logged %q", got, s.reported, s.log)
	}
}

func TestProxyPass(t *testing.T) {
	const echo = `server { listen %s; location / { content_by_lua_block { headers } } location /u { echo "$request_method $request_uri $server_protocol"; }
		location /gone { return 404 gone; } }`
	for _, tt := range []struct{ name, config, path, want string }{
		{"without a path the target goes on as it came", "location / { proxy_pass http://$UP; }", "/u/%41?b=1", "GET /u/%41?b=1 HTTP/1.0\n"},
		{"a path takes the place of the location's", "location /x/ { proxy_pass http://$UP/u/; }", "/x/y?b=1", "GET /u/y?b=1 HTTP/1.0\n"},
		{"a rewrite's path goes on", "location /x { rewrite ^/x/(.*)$ /u/$1 break; proxy_pass http://$UP; }", "/x/y?b=1", "GET /u/y?b=1 HTTP/1.0\n"},
		{"a variable may be the address", "location /x { set $to $UP; proxy_pass http://$to/u$uri; }", "/x", "GET /u/x HTTP/1.0\n"},
		{"HTTP/1.1 when it is asked for", "location / { proxy_http_version 1.1; proxy_pass http://$UP; }", "/u", "GET /u HTTP/1.1\n"},
		{"an upstream block's next server is tried", "location / { proxy_pass http://group; }", "/u", "GET /u HTTP/1.0\n"},
		{
			"headers are nginx's, the block's and the client's", "location / { proxy_set_header X-A $arg_a; proxy_pass http://$UP; }", "/h?a=1",
			"Host=$UP;Connection=close;X-A=1;",
		},
		{"an upstream's error is the answer", "location / { proxy_pass http://$UP; }", "/gone", "gone"},
		{"an upstream that is not there is 502", "location / { proxy_pass http://$DOWN; }", "/", pageText(502)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			up, front, down := free(t), free(t), free(t)
			fill := strings.NewReplacer("$UP", up, "$DOWN", down)
			s.apply(t, load(t, fmt.Sprintf(echo, up)+
				fmt.Sprintf("upstream group { server %s; server %s; } server { listen %s; %s }", down, up, front, fill.Replace(tt.config)), ""))
			c, err := net.Dial("tcp", front)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := ask(t, c, bufio.NewReader(c), tt.path); got != fill.Replace(tt.want) {
				t.Errorf("got  %q\nwant %q\nlog %q", got, fill.Replace(tt.want), s.log)
			}
		})
	}
}

func TestStreamServers(t *testing.T) {
	s := newStage(t)
	script, pass := free(t), free(t)
	parsed, err := Parse(fmt.Sprintf("server { listen %s; content_by_lua_block { hello } } server { listen %s; proxy_pass %s; }", script, pass, script))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(Source{Stream: parsed}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), cfg, false); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{script, pass} {
		if got := speak(t, "tcp", addr, "x"); got != "hello\n" {
			t.Errorf("%s: %q", addr, got)
		}
	}
}

package nginx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A gateway records what comes and answers with a fixed text.
type gateway struct {
	net.Listener
	mu   sync.Mutex
	got  []string
	wait sync.WaitGroup
}

func newGateway(t *testing.T, serve func(net.Conn)) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Listener: l}
	if serve == nil {
		serve = func(c net.Conn) {
			p, _ := io.ReadAll(c)
			g.mu.Lock()
			g.got = append(g.got, string(p))
			g.mu.Unlock()
			_, _ = io.WriteString(c, "relayed")
		}
	}
	g.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.wait.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); g.wait.Wait() })
	return g
}

func newFront(t *testing.T, config string, g *gateway) (*Front, *stage) {
	t.Helper()
	s := newStage(t)
	s.apply(t, load(t, "", config))
	f, err := NewFront("127.0.0.1:0", s.Host, func(string, net.Addr) (string, net.Addr) { return g.Addr().String(), nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, s
}

func TestFront(t *testing.T) {
	const ours = "HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 4|Connection: keep-alive||ours"
	const other = "POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	for _, tt := range []struct{ name, sent, answer, relayed string }{
		{"a declared location is answered here", get, ours, ""},
		{"any other is relayed byte for byte", other, "relayed", other},
		{"requests before it are answered here", get + other, ours + "relayed", other},
		{"an internal location is not declared", "GET /in HTTP/1.1\r\n\r\n", "relayed", "GET /in HTTP/1.1\r\n\r\n"},
		{"the preface of HTTP/2 is relayed", preface + "\x00", "relayed", preface + "\x00"},
		{"TLS is relayed", "\x16\x03\x01", "relayed", "\x16\x03\x01"},
		{"what is no request is relayed", "hello\r\n", "relayed", "hello\r\n"},
		{"half a line is relayed", "GET /t", "relayed", "GET /t"},
		{"nothing is relayed, too", "", "relayed", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, nil)
			f, _ := newFront(t, "location /t { return 200 ours; } location /in { internal; }", g)
			answer := plain(speak(t, "tcp", f.Addr().String(), tt.sent))
			if answer != tt.answer {
				t.Errorf("answered %q, want %q", answer, tt.answer)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if got := strings.Join(g.got, ""); got != tt.relayed {
				t.Errorf("relayed %q, want %q", got, tt.relayed)
			}
		})
	}
}

func TestFrontPassesAResetOn(t *testing.T) {
	g := newGateway(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		reset(c)
	})
	f, _ := newFront(t, "", g)
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, get); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestFrontAsksTheGatewayForSubrequestsItDoesNotDeclare(t *testing.T) {
	g := newGateway(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 7\r\n\r\n"+line[:7])
	})
	f, s := newFront(t, "location /t { content_by_lua_block { capture } }", g)
	got := plain(speak(t, "tcp", f.Addr().String(), get))
	if !strings.HasSuffix(got, "||b|202 GET /su|0||") || len(s.log) > 0 {
		t.Errorf("%s, logged %q", got, s.log)
	}
}

func TestAFrontWithoutAHostOnlyRelays(t *testing.T) {
	g := newGateway(t, nil)
	f, err := NewFront("127.0.0.1:0", nil, func(path string, _ net.Addr) (string, net.Addr) {
		return g.Addr().String(), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := speak(t, "tcp", f.Addr().String(), get); got != "relayed" {
		t.Error(got)
	}
}

// answering is a gateway that answers each request of a connection with its path, and what
// its head and body are.
func answering(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "" {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		text := req.URL.Path + " " + string(body)
		switch req.URL.Path {
		case "/chunks":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\n/\r\n%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n", len(text)-1, text[1:])
		case "/end":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n\r\n%s", text)
			return
		case "/close":
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			return
		case "/head":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
		case "/none":
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		case "/upgrade":
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(c, in)
			return
		default:
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
}

func TestFrontDecidesForEachRequest(t *testing.T) {
	const ours = "HTTP/1.1 200 OK|<own>|Content-Type: text/plain|Content-Length: 4|Connection: keep-alive||ours"
	const other = "POST /o HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	const others = "HTTP/1.1 200 OK|Content-Length: 6||/o abc"
	ask := func(method, path string) string { return method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	for _, tt := range []struct{ name, sent, want string }{
		{"a declared location behind one that is not", other + get, others + ours},
		{"back and forth", get + other + get + other, ours + others + ours + others},
		{"a body in chunks", "POST /o HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX-A: b\r\n\r\n" + get, others + ours},
		{"an answer in chunks", ask("GET", "/chunks") + get, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||1;a=b|/|7|chunks |0|X-T: 1||" + ours},
		{"an answer to HEAD", ask("HEAD", "/head") + get, "HTTP/1.1 200 OK|Content-Length: 100||" + ours},
		{"an answer without a body", ask("GET", "/none") + get, "HTTP/1.1 204 No Content||" + ours},
		{"an answer of status 1xx", "POST /o HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + get, "HTTP/1.1 100 Continue||" + others + ours},
		{"an answer that ends with the connection", ask("GET", "/end") + get, "HTTP/1.1 200 OK||/end "},
		{"an answer that closes", ask("GET", "/close") + get, "HTTP/1.1 200 OK|Connection: close|Content-Length: 7||/close "},
		{"another protocol", ask("GET", "/upgrade") + get, "HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: echo||" + strings.ReplaceAll(get, "\r\n", "|")},
		{"empty lines between requests", other + "\r\n" + get, others + ours},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := newFront(t, "location /t { return 200 ours; }", newGateway(t, answering))
			if got := plain(speak(t, "tcp", f.Addr().String(), tt.sent)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestFrontKeepsOneConnectionForAClient(t *testing.T) {
	var mu sync.Mutex
	n := 0
	f, _ := newFront(t, "location /t { return 200 ours; }", newGateway(t, func(c net.Conn) {
		mu.Lock()
		n++
		mu.Unlock()
		answering(c)
	}))
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for path, want := range map[string]string{"/a": "/a ", "/t": "ours", "/b": "/b ", "/chunks": "/chunks "} {
		if got := ask(t, c, in, path); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n != 1 {
		t.Errorf("the gateway has seen %d connections", n)
	}
}

func TestFrontEndsWithTheGateway(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"while the client is idle": func(c net.Conn) {
			in := bufio.NewReader(c)
			_, _ = http.ReadRequest(in)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		},
		"before it has read the body": func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		},
		"in the middle of an answer": func(c net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := newFront(t, "", newGateway(t, serve))
			c, err := net.Dial("tcp", f.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"); err != nil {
				t.Fatal(err)
			}
			if name == "while the client is idle" {
				if _, err := io.WriteString(c, strings.Repeat("x", 997)); err != nil {
					t.Fatal(err)
				}
			}
			// The client neither sends nor closes: it reads the end of the connection.
			got, _ := io.ReadAll(c)
			if !strings.HasPrefix(string(got), "HTTP/1.1 ") {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestFrontTellsTheGatewayOfAClientThatGoes(t *testing.T) {
	gone := make(chan struct{})
	f, _ := newFront(t, "", newGateway(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		_, _ = io.Copy(io.Discard, c)
		close(gone)
	}))
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, get); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	<-gone
}

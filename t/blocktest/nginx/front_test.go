package nginx

import (
	"bufio"
	"errors"
	"io"
	"net"
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
	f, err := NewFront("127.0.0.1:0", s.Host, func(string) (string, net.Addr) { return g.Addr().String(), nil })
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
		{"what follows goes the same way, declared or not", other + get, "relayed", other + get},
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
	if !strings.HasSuffix(got, "||b|202 GET /su|0||") {
		t.Errorf("%s, logged %q", got, s.log)
	}
}

func TestAFrontWithoutAHostOnlyRelays(t *testing.T) {
	g := newGateway(t, nil)
	f, err := NewFront("127.0.0.1:0", nil, func(path string) (string, net.Addr) {
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

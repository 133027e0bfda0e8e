package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// tunnelled opens a tunnel to a server that sends back every line.
func tunnelled(t *testing.T, w *world) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, r, err := tunnel(t, w, "")
	if err != nil {
		t.Fatal(err)
	}
	return conn, r
}

// tunnel is tunnelled over a route with limits of time; it returns why there is no tunnel.
func tunnel(t *testing.T, w *world, timeout string) (net.Conn, *bufio.Reader, error) {
	t.Helper()
	up := backend(t, func(rw http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buf)
	})
	w.put("routes/1", `{"uri":"/ws","enable_websocket":true,`+timeout+`"upstream":`+nodes(up)+`}`)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, fmt.Errorf("got %v, %w", res, err)
	}
	return conn, r, nil
}

func echo(t *testing.T, conn net.Conn, r *bufio.Reader) {
	t.Helper()
	_, _ = io.WriteString(conn, "hi\n")
	if line, err := r.ReadString('\n'); line != "hi\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

func TestAnIdleTunnelEnds(t *testing.T) {
	w := newWorld(t, nil)
	// The server has to answer within the same limit.
	timetest.Stretch(t, 50*time.Millisecond, func(limit time.Duration) error {
		_, r, err := tunnel(t, w, fmt.Sprintf(`"timeout":{"connect":5,"send":5,"read":%v},`, limit.Seconds()))
		if err != nil {
			return err
		}
		if line, err := r.ReadString('\n'); !errors.Is(err, io.EOF) {
			t.Errorf("got %q, %v", line, err)
		}
		return nil
	})
}

// deadlines is a connection that keeps the last one.
type deadlines struct {
	net.Conn
	at time.Time
}

func (d *deadlines) SetDeadline(at time.Time) error {
	d.at = at
	return nil
}

func TestAByteOfOneSideKeepsBothAlive(t *testing.T) {
	var client, server deadlines
	one := pulsing{strings.NewReader("x"), pulse{client: &client, server: &server, idle: time.Hour}}
	if _, err := one.Read(make([]byte, 1)); err != nil || client.at.IsZero() || server.at.IsZero() {
		t.Errorf("got %v, deadlines %v and %v", err, client.at, server.at)
	}
	client.at, server.at = time.Time{}, time.Time{}
	if _, err := one.Read(make([]byte, 1)); err == nil || !client.at.IsZero() || !server.at.IsZero() {
		t.Errorf("the end counts as a byte: %v, deadlines %v and %v", err, client.at, server.at)
	}
}

func TestShutdownWaitsForTunnels(t *testing.T) {
	w := newWorld(t, nil)
	conn, r := tunnelled(t, w)
	echo(t, conn, r)
	ended := make(chan error, 1)
	go func() { ended <- w.engine.Shutdown(context.Background()) }()
	<-w.served
	echo(t, conn, r)
	select {
	case err := <-ended:
		t.Fatalf("the engine ended beside a tunnel: %v", err)
	default:
	}
	_ = conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w.tunnels().count != 0 || len(w.tunnels().open) != 0 {
		t.Errorf("left: %d", w.tunnels().count)
	}
}

func TestShutdownCutsTunnelsInTheEnd(t *testing.T) {
	w := newWorld(t, nil)
	conn, r := tunnelled(t, w)
	echo(t, conn, r)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.engine.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if line, err := r.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Errorf("got %q, %v", line, err)
	}
	if w.tunnels().count != 0 {
		t.Error("Shutdown returned before the tunnel's request did")
	}
}

func TestAWebSocketIsClosedInTheEnd(t *testing.T) {
	for name, tt := range map[string]struct{ upgrade, sent, want string }{
		"between two frames":   {"websocket", "\x81\x02hi", "\x81\x02hi\x88\x02\x03\xe9"},
		"inside a frame":       {"websocket", "\x81\x03hi", "\x81\x03hi"},
		"another protocol":     {"echo", "\x81\x02hi", "\x81\x02hi"},
		"behind a longer head": {"websocket", "\x82\x7e\x00\x01x", "\x82\x7e\x00\x01x\x88\x02\x03\xe9"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			up := backend(t, func(rw http.ResponseWriter, _ *http.Request) {
				conn, buf, err := http.NewResponseController(rw).Hijack()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tt.upgrade+"\r\n\r\n"+tt.sent)
				_, _ = io.Copy(io.Discard, buf)
			})
			w.put("routes/1", `{"uri":"/ws","enable_websocket":true,"upstream":`+nodes(up)+`}`)
			c := w.dial()
			_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "+tt.upgrade+"\r\n\r\n")
			if res, err := http.ReadResponse(c.r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("got %v, %v", res, err)
			}
			if _, err := c.r.Peek(len(tt.sent)); err != nil {
				t.Fatal(err)
			}
			over, cancel := context.WithCancel(t.Context())
			cancel()
			if err := w.engine.Shutdown(over); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if got, err := io.ReadAll(c.r); err != nil || string(got) != tt.want {
				t.Errorf("got %x, %v, want %x", got, err, tt.want)
			}
		})
	}
}

// stuck is a connection that takes nothing, whatever deadlines it is given: whoever speaks on the
// other side of a tunnel gives both another while.
type stuck struct {
	net.Conn
	writing, closed chan struct{}
}

func (s *stuck) Write([]byte) (int, error) {
	close(s.writing)
	<-s.closed
	return 0, net.ErrClosed
}

func (s *stuck) SetWriteDeadline(time.Time) error { return nil }

func (s *stuck) Close() error {
	close(s.closed)
	return nil
}

func TestTheGoodbyeDoesNotWaitForAClientThatReadsNothing(t *testing.T) {
	conn := &stuck{writing: make(chan struct{}), closed: make(chan struct{})}
	f := &farewell{Conn: conn}
	wrote, said := make(chan error, 1), make(chan struct{})
	go func() {
		_, err := f.Write([]byte("\x81\x02hi"))
		wrote <- err
	}()
	<-conn.writing
	conn.writing = make(chan struct{}) // for the goodbye, which goes nowhere either
	go func() {
		f.say()
		close(said)
	}()
	timetest.Until(t, "it is closed, and the goodbye over", func() bool {
		select {
		case <-said:
			return true
		default:
			return false
		}
	})
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// However frames are cut into writes, their ends are found.
func FuzzFramesOfAWebSocketAreFollowed(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x82\x7e\x00\x01x"), uint8(1))
	f.Add([]byte("\x81\x82maskhi\x89\x00"), uint8(3))
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"), uint8(5))
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, step uint8) {
		var whole, pieces farewell
		whole.follow(text)
		for rest := text; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			pieces.follow(rest[:n])
			rest = rest[n:]
		}
		if whole.got != pieces.got || whole.left != pieces.left || whole.head != pieces.head {
			t.Errorf("got %d of a head and %d to come, and in one piece %d and %d", pieces.got, pieces.left, whole.got, whole.left)
		}
	})
}

func TestConnectionsAreCounted(t *testing.T) {
	w := newWorld(t, nil)
	come := func(what string, want Connections) {
		t.Helper()
		timetest.Until(t, fmt.Sprintf("%s: %+v", what, want), func() bool { return w.engine.Connections() == want })
	}
	come("before any", Connections{})
	conn, r := tunnelled(t, w)
	echo(t, conn, r)
	come("a tunnel", Connections{Accepted: 1, Active: 1, Serving: 1})
	c := w.dial()
	for range 2 {
		_, _ = io.WriteString(c, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
	}
	come("and one that waits", Connections{Accepted: 2, Active: 2, Serving: 1})
	if n := w.gateway.Requests(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	_ = c.Close()
	_ = conn.Close()
	come("none any more", Connections{Accepted: 2})
}

// switching is a plugin that asks for another protocol in the place of the client.
func switching() plugin.Definition {
	return plugin.Definition{
		Name: "switching", Version: "1", Priority: 10, Schema: []byte(`{"type":"object"}`),
		New: func(*plugin.Build) (plugin.Phases, error) {
			return plugin.Phases{Rewrite: func(c *plugin.Context) error {
				c.Request.Header.Set("Connection", "Upgrade")
				c.Request.Header.Set("Upgrade", "echo")
				return nil
			}}, nil
		},
	}
}

func TestATunnelThatTheClientDidNotAskForEnds(t *testing.T) {
	w := newWorldWith(t, Limits{}, nil, func(*upstream.Client, *balancer.Cache) []plugin.Definition {
		return []plugin.Definition{switching()}
	})
	up := backend(t, func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	})
	w.put("routes/1", `{"uri":"/ws","enable_websocket":true,"plugins":{"switching":{}},"upstream":`+nodes(up)+`}`)
	w.put("routes/2", `{"uri":"/x","upstream":`+nodes(backend(t, parrot))+`}`)
	c := w.dial()
	c.ask("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na")
	c.send("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if _, err := io.ReadAll(c.r); err != nil {
		t.Errorf("the connection does not end: %v", err)
	}
}

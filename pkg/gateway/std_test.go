package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/racetest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/variable"
)

// clumsy is a plugin that panics where it is told to.
func clumsy() plugin.Definition {
	return plugin.Definition{
		Name: "clumsy", Version: "1", Priority: 10, Schema: []byte(`{"type":"object"}`),
		New: func(b *plugin.Build) (plugin.Phases, error) {
			at := map[string]bool{}
			if err := json.Unmarshal(b.Conf, &at); err != nil {
				return plugin.Phases{}, err
			}
			return plugin.Phases{
				Access: func(*plugin.Context) error {
					if at["access"] {
						panic("access")
					}
					return nil
				},
				HeaderFilter: func(*plugin.Context) {
					if at["header"] {
						panic("header")
					}
				},
				Stream: func(*plugin.Context) exchange.StreamFilter {
					if at["stream"] {
						panic("stream")
					}
					return clumsyFilter(at)
				},
				Log: func(*plugin.Context) {
					if at["log"] {
						panic("log")
					}
				},
			}, nil
		},
	}
}

type clumsyFilter map[string]bool

func (f clumsyFilter) Filter(p []byte, last bool) ([]byte, error) {
	if f["piece"] && !last || f["last"] && last {
		panic("filter")
	}
	return p, nil
}

// client is a connection to the gateway that is written to by hand.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (w *world) dial() *client {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{w.t, conn, bufio.NewReader(conn)}
}

// ask writes text and reads an answer with its body.
func (c *client) ask(text string) (*http.Response, string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Errorf("body: %v", err)
	}
	return res, string(body)
}

func TestAPluginMayPanicAnywhere(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/0", `{"uri":"/fine","upstream":`+nodes(backend(t, hello))+`}`)
	for _, tt := range []struct {
		at     string
		status int // 0: the answer is broken off
	}{
		{`"access":true`, 500},
		{`"header":true`, 200},
		{`"stream":true`, 500},
		{`"piece":true`, 0},
		{`"last":true`, 0},
		{`"log":true`, 200},
		{`"access":true,"header":true`, 500},
		{`"access":true,"stream":true`, 0},
		{`"access":true,"piece":true`, 0},
		{`"access":true,"last":true,"log":true`, 0},
	} {
		t.Run(tt.at, func(t *testing.T) {
			path := "/" + strings.NewReplacer(`"`, "", ":true", "", ",", "-").Replace(tt.at)
			w.put("routes/1", fmt.Sprintf(`{"uri":%q,"plugins":{"clumsy":{%s}},"upstream":%s}`, path, tt.at, nodes(backend(t, hello))))
			req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
			switch {
			case tt.status == 0:
				if err == nil {
					t.Errorf("got a whole answer with status %d", res.StatusCode)
				}
			case err != nil || res.StatusCode != tt.status || res.Header.Get("Server") != "gosix/test":
				t.Errorf("got %v, %v, want %d", res, err, tt.status)
			}
			w.logs("GET " + path + " ")
			if res, body := w.do("GET", "/fine", ""); res.StatusCode != 200 || body != "hello" {
				t.Errorf("the next request got %d %q", res.StatusCode, body)
			}
		})
	}
}

func TestASilentStreamIsNotCut(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2 %v", http2), func(t *testing.T) {
			timetest.Stretch(t, 50*time.Millisecond, func(stall time.Duration) error {
				w := newLimitedWorld(t, Limits{WriteStall: stall, BodyRead: stall}, nil)
				up := backend(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					for _, part := range []string{"one ", "two"} {
						_, _ = io.WriteString(w, part)
						_ = http.NewResponseController(w).Flush()
						<-time.After(3 * stall) // a model that thinks
					}
				})
				w.put("routes/1", `{"uri":"/x","upstream":`+nodes(up)+`}`)
				var p http.Protocols
				p.SetHTTP1(!http2)
				p.SetUnencryptedHTTP2(http2)
				transport := &http.Transport{Protocols: &p}
				defer transport.CloseIdleConnections()
				res, err := (&http.Client{Transport: transport}).Post(w.url+"/x", "text/plain", strings.NewReader("body"))
				if err != nil {
					return err
				}
				defer func() { _ = res.Body.Close() }()
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != "one two" {
					return fmt.Errorf("got %q, %w", body, err)
				}
				return nil
			})
		})
	}
}

func TestAnAnswerDoesNotWaitForABodyThatNobodyReads(t *testing.T) {
	w := newWorld(t, nil)
	const head = "POST /none HTTP/1.1\r\nHost: x\r\n"
	t.Run("a body that came leaves the connection in use", func(t *testing.T) {
		c := w.dial()
		for range 2 {
			if res, _ := c.ask(head + "Content-Length: 5\r\n\r\nhello"); res.StatusCode != 404 || res.Close {
				t.Fatalf("got %d, closing %v", res.StatusCode, res.Close)
			}
			if res, _ := c.ask(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"); res.StatusCode != 404 || res.Close {
				t.Fatalf("chunked: got %d, closing %v", res.StatusCode, res.Close)
			}
		}
	})
	for name, framing := range map[string]string{
		"a body that does not come":     "Content-Length: 5\r\n\r\nhe",
		"a large body":                  "Content-Length: 5000000\r\n\r\nhe",
		"a chunk that does not come":    "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
		"a body that was not asked for": "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := w.dial()
			if res, _ := c.ask(head + framing); res.StatusCode != 404 || !res.Close {
				t.Errorf("got %d, closing %v", res.StatusCode, res.Close)
			}
			// What comes late is not taken for another request.
			_, _ = io.WriteString(c, "llo"+head+"\r\n")
			if rest, err := io.ReadAll(c.r); len(rest) > 0 {
				t.Errorf("then got %q, %v", rest, err)
			}
		})
	}
}

func TestAClientThatStallsInABodyIsTold(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: 50 * time.Millisecond}, nil)
	w.put("routes/1", `{"uri":"/x","upstream":`+nodes(backend(t, hello))+`}`)
	c := w.dial()
	if res, _ := c.ask("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe"); res.StatusCode != 408 || !res.Close {
		t.Errorf("got %d, closing %v", res.StatusCode, res.Close)
	}
	w.logs("POST /x 408 ")
}

func TestARefusedRequestIsLoggedWithAnID(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.AccessLog.format = variable.CompileLine("$status [$apisix_request_id]") })
	if res, _ := w.do("GET", "/"+strings.Repeat("x", 300), ""); res.StatusCode != 414 {
		t.Errorf("got %d", res.StatusCode)
	}
	w.logs("414 [")
	if strings.Contains(w.lines.String(), "[-]") {
		t.Errorf("the log says %q", w.lines)
	}
}

func TestWhatNoRouteMaySeeEndsTheConnection(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	const rest = " HTTP/1.1\r\nHost: x\r\n"
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"CONNECT":                            {"CONNECT x:1" + rest + "\r\n", 405},
		"TRACE":                              {"TRACE /" + rest + "\r\n", 405},
		"PRI":                                {"PRI /" + rest + "\r\n", 400},
		"a fragment":                         {"GET /#x" + rest + "\r\n", 400},
		"an asterisk where it means nothing": {"GET *" + rest + "\r\n", 400},
		"a path above the root":              {"GET /../x" + rest + "\r\n", 400},
		"a length beside an encoding":        {"POST /" + rest + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"a second length":                    {"POST /" + rest + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
		"a folded line":                      {"GET /" + rest + "X: y\r\n z\r\n\r\n", 400},
		"a line that ends with a bare LF":    {"GET /" + rest + "X: y\n\r\n", 400},
		"an absolute form of another host":   {"GET http://y/" + rest + "\r\n", 400},
	} {
		c := w.dial()
		if res, _ := c.ask("GET /" + rest + "\r\n"); res.StatusCode != 200 || res.Close {
			t.Fatalf("got %d, closing %v", res.StatusCode, res.Close)
		}
		if res, _ := c.ask(tt.text + "GET /" + rest + "\r\n"); res.StatusCode != tt.status || !res.Close {
			t.Errorf("%s: got %d, closing %v, want %d", name, res.StatusCode, res.Close, tt.status)
		}
		if left, err := io.ReadAll(c.r); len(left) > 0 {
			t.Errorf("%s: then got %q, %v", name, left, err)
		}
	}
	c := w.dial()
	if res, _ := c.ask("OPTIONS *" + rest + "\r\n"); res.StatusCode != 200 {
		t.Errorf("OPTIONS *: got %d", res.StatusCode)
	}
}

// While requests are under way, who comes is to find nobody instead of waiting for their end.
func TestAnEngineThatEndsIsNotConnectedTo(t *testing.T) {
	w := newWorld(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		hello(w, r)
	})
	w.put("routes/1", `{"uri":"/slow","upstream":`+nodes(up)+`}`)
	c := w.dial()
	_, _ = io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	ended := make(chan error)
	go func() { ended <- w.engine.Shutdown(context.Background()) }()
	<-w.served
	if late, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://")); err == nil {
		t.Error("a client can connect, and nobody serves it")
		_ = late.Close()
	}
	close(leave)
	if _, body := c.ask(""); body != "hello" {
		t.Errorf("the request under way got %q", body)
	}
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// poisoned is a connection that panics when it is read from.
type poisoned struct{ net.Conn }

func (poisoned) Read([]byte) (int, error) { panic("told to") }

// offering is a listener with one connection, and then none.
type offering struct {
	net.Listener
	one chan net.Conn
}

func (o offering) Accept() (net.Conn, error) {
	if c, ok := <-o.one; ok {
		return c, nil
	}
	return o.Listener.Accept()
}

func TestAPanicEndsItsConnectionAndNoOther(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/fine","upstream":`+nodes(backend(t, hello))+`}`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	o := offering{l, make(chan net.Conn, 1)}
	o.one <- poisoned{near}
	close(o.one)
	go func() { _ = w.engine.Serve(o, nil) }()
	t.Cleanup(func() { _ = l.Close() })
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client gets %v, want the end of the connection", err)
	}
	if res, body := w.do("GET", "/fine", ""); res.StatusCode != 200 || body != "hello" {
		t.Errorf("another gets %d %q", res.StatusCode, body)
	}
}

// What a request over the engine under test allocates from the client to the server and back. If
// net/http was asked for each it would be more than twice as much.
func TestARequestOverAConnectionAllocatesLittle(t *testing.T) {
	if racetest.Enabled {
		t.Skip("pools drop things under the race detector")
	}
	const most = 5
	ask := asking(t, true, 1<<10)
	for range 100 {
		ask()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	if got := testing.AllocsPerRun(300, ask); got > most {
		t.Errorf("got %v allocations, want at most %v", got, most)
	}
}

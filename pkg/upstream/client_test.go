package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/socket"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(serverVariable); kind != "" {
		benchServer(kind)
	}
	leaktest.Main(m)
}

// serve gives each connection to a handler, the first to the first and so on; the last has
// all that follow. It waits for them at the end of the test.
func serve(t testing.TB, handlers ...func(net.Conn, *bufio.Reader)) *Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h := handlers[min(i, len(handlers)-1)]
			running.Go(func() {
				defer func() { _ = c.Close() }()
				h(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return &Target{Addr: l.Addr().String()}
}

// request reads one request and returns its body; ok is false at the end.
func request(r *bufio.Reader) (head *http.Request, body []byte, ok bool) {
	q, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, false
	}
	body, err = io.ReadAll(q.Body)
	return q, body, err == nil
}

func write(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

func answer(body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// numbered answers every request with the number of its connection and of the request on it.
func numbered() func(net.Conn, *bufio.Reader) {
	var connections atomic.Int64
	return func(c net.Conn, r *bufio.Reader) {
		n := connections.Add(1)
		for i := 1; ; i++ {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, answer(fmt.Sprintf("%d.%d", n, i)))
		}
	}
}

// untilGone reads until the client is gone.
func untilGone(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

func client(t testing.TB, o Options) *Client {
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

func get(target *Target) *Request {
	return &Request{Target: target, Method: "GET", Path: "/", Host: "server.test"}
}

func post(target *Target, body ...string) *Request {
	r := &Request{Target: target, Method: "POST", Path: "/", Host: "server.test", Body: [][]byte{}}
	for _, s := range body {
		r.Body = append(r.Body, []byte(s))
	}
	return r
}

func do(t testing.TB, c *Client, r *Request) string {
	t.Helper()
	res, err := c.Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Close(); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func failure(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e
}

var until = timetest.Until

func (c *Client) idle(target *Target) []*conn {
	s := c.shard(keyOf(target))
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[keyOf(target)]; p != nil {
		return append([]*conn(nil), p.idle...)
	}
	return nil
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	for _, want := range []string{"1.1", "1.2", "1.3"} {
		if got := do(t, c, get(target)); got != want {
			t.Errorf("got answer %s, want %s", got, want)
		}
	}
	res, err := c.Do(context.Background(), get(target))
	if err != nil || !res.Reused || res.Addr != target.Addr {
		t.Fatalf("got %+v, %v, want a reused connection to %s", res, err, target.Addr)
	}
	_ = res.Close() // the body is in the buffer
	if got := do(t, c, get(target)); got != "1.5" {
		t.Errorf("got answer %s, want 1.5: the end of the body had come", got)
	}
}

func TestLimitsOfAPool(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Target)
		want   []string
	}{
		"a connection serves so many requests":     {func(x *Target) { x.MaxRequests = 2 }, []string{"1.1", "1.2", "2.1", "2.2"}},
		"a target without keep-alive":              {func(x *Target) { x.NoKeepAlive = true }, []string{"1.1", "2.1"}},
		"an idle connection is too old":            {func(x *Target) { x.IdleTimeout = 1 }, []string{"1.1", "2.1"}},
		"an idle connection is not too old":        {func(x *Target) { x.IdleTimeout = time.Hour }, []string{"1.1", "1.2"}},
		"negative limits are the defaults as well": {func(x *Target) { x.IdleTimeout, x.MaxIdle, x.MaxRequests = -1, -1, -1 }, []string{"1.1", "1.2"}},
	} {
		t.Run(name, func(t *testing.T) {
			target := serve(t, numbered())
			c.change(target)
			client := client(t, Options{})
			for _, want := range c.want {
				if got := do(t, client, get(target)); got != want {
					t.Errorf("got answer %s, want %s", got, want)
				}
			}
		})
	}
}

func TestTheConnectionUsedLastIsUsedNext(t *testing.T) {
	target := serve(t, numbered())
	target.MaxIdle = 2
	c := client(t, Options{})
	var open []*Response
	for range 3 {
		res, err := c.Do(context.Background(), get(target))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res); err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	for _, i := range []int{2, 0, 1} {
		if err := open[i].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(c.idle(target)); got != 2 {
		t.Errorf("got %d idle connections, want 2", got)
	}
	for _, want := range []string{"2.2", "2.3"} {
		if got := do(t, c, get(target)); got != want {
			t.Errorf("got answer %s, want %s", got, want)
		}
	}
}

func TestPoolsAreApart(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	a, b := *target, *target
	a.Class, b.Class = "key-a", "key-b"
	for _, s := range []struct {
		target *Target
		want   string
	}{{target, "1.1"}, {&a, "2.1"}, {&b, "3.1"}, {&a, "2.2"}, {target, "1.2"}} {
		if got := do(t, c, get(s.target)); got != s.want {
			t.Errorf("class %q: got answer %s, want %s", s.target.Class, got, s.want)
		}
	}
}

func TestTheServersIdleTimeoutCounts(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		write(c, "HTTP/1.1 200 OK\r\nKeep-Alive: max=3, timeout=5\r\nContent-Length: 0\r\n\r\n")
		untilGone(c, r)
	})
	c := client(t, Options{})
	do(t, c, get(target))
	if got, want := c.idle(target)[0].idleLimit, 4*time.Second; got != want {
		t.Errorf("got %v, want %v: shorter than the server's", got, want)
	}
}

func TestIdleConnectionsAreSweptAway(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	do(t, c, get(target))
	if !c.armed.Load() {
		t.Error("no sweep is to come")
	}
	if !c.purge(now()) || len(c.idle(target)) != 1 {
		t.Error("a fresh connection was swept away")
	}
	since := c.idle(target)[0].idleSince
	if !c.purge(since+moment(59*time.Second)) || len(c.idle(target)) != 1 {
		t.Error("a connection was swept away before its time")
	}
	if c.purge(since+moment(61*time.Second)) || len(c.idle(target)) != 0 {
		t.Error("an old connection was kept, or its pool")
	}
	if got := do(t, c, get(target)); got != "2.1" {
		t.Errorf("got answer %s, want 2.1", got)
	}
	c.sweep()
	if !c.armed.Load() {
		t.Error("no sweep is to come although a connection is idle")
	}
}

func TestAConnectionThatWasInUseWhenItsPoolWasForgottenIsFoundAgain(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	res, err := c.Do(context.Background(), get(target))
	if err != nil {
		t.Fatal(err)
	}
	c.purge(now() + moment(time.Hour))
	_ = res.Close()
	if got := do(t, c, get(target)); got != "1.2" {
		t.Errorf("got answer %s, want 1.2", got)
	}
}

// What a target knows of its pool saves a search and decides nothing.
func TestABoundTarget(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	equal := *target
	c.Bind(target)
	again := func(what string, target *Target, want string) {
		t.Helper()
		if got := do(t, c, get(target)); got != want {
			t.Errorf("%s: got answer %s, want %s", what, got, want)
		}
	}
	again("first", target, "1.1")
	again("one that is equal and not bound", &equal, "1.2")
	elsewhere := *target
	elsewhere.Class = "other"
	again("a copy that another credential uses", &elsewhere, "2.1")
	again("itself after that", target, "1.3")

	c.purge(now() + moment(time.Hour))
	again("after its pool was forgotten", target, "3.1")
	again("when the pool is back", &equal, "3.2")
	c.purge(now() + moment(time.Hour))
	again("forgotten, and another has its place", &equal, "4.1")
	again("from there on", target, "4.2")
	if n := len(c.idle(target)); n != 1 {
		t.Errorf("got %d idle connections, want 1", n)
	}

	other := client(t, Options{})
	if got := do(t, other, get(target)); got != "5.1" {
		t.Errorf("at another client: got answer %s, want 5.1", got)
	}
	again("at its own after that", target, "4.3")
}

func TestTheClockOfAnExchange(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	do(t, c, get(target))
	r := get(target)
	r.Begin = time.Now()
	res, err := c.Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if res.Came.Before(r.Begin) || res.Came.After(time.Now()) {
		t.Errorf("the head came %v after the beginning, and %v ago", res.Came.Sub(r.Begin), time.Since(res.Came))
	}
	_ = res.Close()
	k := c.idle(target)[0]
	if k.taken.time().Sub(r.Begin) != 0 || k.idleSince.time().Sub(res.Came) != 0 {
		t.Errorf("taken %v after the beginning, idle %v after the head", k.taken.time().Sub(r.Begin), k.idleSince.time().Sub(res.Came))
	}

	// An answer in pieces ends later than its head.
	next := make(chan struct{})
	target = serve(t, func(c net.Conn, r *bufio.Reader) {
		for range 2 {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			<-next
			write(c, "hello")
		}
	})
	r = get(target)
	if res, err = c.Do(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	came := res.Came
	close(next)
	if _, err := io.ReadAll(res); err != nil {
		t.Fatal(err)
	}
	_ = res.Close()
	if k = c.idle(target)[0]; !k.idleSince.time().After(came) {
		t.Error("the connection is idle since its head came, want since its body did")
	}
	// A stream may have waited for its client: then the beginning says nothing.
	r = get(target)
	r.Stream, r.Length, r.Begin = strings.NewReader("x"), 1, time.Now().Add(-time.Hour)
	r.Timeouts.Head = time.Minute
	if got := do(t, c, r); got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

// A server that keeps no connection may be closing it, whenever a request began.
func TestAConnectionThatIsNotKeptServesNoEarlierRequest(t *testing.T) {
	var connections atomic.Int64
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		n := connections.Add(1)
		for {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 1\r\n\r\n%d", n))
		}
	})
	c := client(t, Options{})
	begin := time.Now()
	do(t, c, post(target, "a"))
	r := post(target, "b")
	if r.Begin = begin; do(t, c, r) != "2" {
		t.Error("it was used again")
	}
}

func TestClosingTheClient(t *testing.T) {
	gone := make(chan struct{}, 2)
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		numbered()(c, r)
		gone <- struct{}{}
	})
	c := NewClient(Options{})
	busy, err := c.Do(context.Background(), get(target))
	if err != nil {
		t.Fatal(err)
	}
	do(t, c, get(target))
	c.Close()
	<-gone
	if got, err := io.ReadAll(busy); string(got) != "1.1" || err != nil {
		t.Errorf("got %q, %v: the answer in hand was cut", got, err)
	}
	_ = busy.Close()
	<-gone
	if n := len(c.idle(target)); n != 0 {
		t.Errorf("got %d connections in a closed client", n)
	}
}

func TestADeadConnectionIsNotWrittenTo(t *testing.T) {
	var posts atomic.Int64
	once := func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := request(r); ok {
			posts.Add(1)
			write(c, answer("ok"))
		}
	}
	target := serve(t, once)
	c := client(t, Options{})
	for range 3 {
		do(t, c, post(target, "x"))
		until(t, "the server's end is seen", func() bool { return c.idle(target)[0].look() == socket.Gone })
	}
	if got := posts.Load(); got != 3 {
		t.Errorf("the server saw %d requests, want 3", got)
	}
}

func TestAConnectionOnWhichSomethingCameIsNotUsedAgain(t *testing.T) {
	more := make(chan struct{})
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		write(c, answer("first"))
		<-more
		write(c, answer("poison"))
		untilGone(c, r)
	}, numbered())
	c := client(t, Options{})
	do(t, c, get(target))
	close(more)
	until(t, "the bytes came", func() bool { return c.idle(target)[0].look() == socket.Pending })
	if got := do(t, c, get(target)); got != "1.1" {
		t.Errorf("got answer %q, want that of a new connection", got)
	}
}

// On a connection that dies while a request is on its way, what may be sent again depends
// on the method and on whether an answer had begun.
func TestARequestIsSentAgainOnlyWithoutDoubt(t *testing.T) {
	stream := func(r Request) Request {
		r.Body, r.Stream, r.Length = nil, strings.NewReader("x"), 1
		return r
	}
	for name, c := range map[string]struct {
		request Request
		says    string // by the dying connection
		again   bool
	}{
		"GET is sent again":                           {request: Request{Method: "GET"}, again: true},
		"HEAD is sent again":                          {request: Request{Method: "HEAD"}, again: true},
		"PUT is sent again with its body":             {request: Request{Method: "PUT", Body: [][]byte{[]byte("x")}}, again: true},
		"PUT of a stream is not":                      {request: stream(Request{Method: "PUT"})},
		"POST is not":                                 {request: Request{Method: "POST", Body: [][]byte{[]byte("x")}}},
		"POST without a body is not":                  {request: Request{Method: "POST"}},
		"PATCH is not":                                {request: Request{Method: "PATCH"}},
		"an unknown method is not":                    {request: Request{Method: "FROB"}},
		"GET is not once an answer began":             {request: Request{Method: "GET"}, says: "H"},
		"GET is not after an informational answer":    {request: Request{Method: "GET"}, says: "HTTP/1.1 100 Continue\r\n\r\n"},
		"GET is not after something that is no reply": {request: Request{Method: "GET"}, says: "hello\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int64
			target := serve(t, func(conn net.Conn, r *bufio.Reader) {
				request(r)
				write(conn, answer("first"))
				if _, _, ok := request(r); ok {
					seen.Add(1)
					write(conn, c.says)
				}
			}, func(conn net.Conn, r *bufio.Reader) {
				if _, _, ok := request(r); ok {
					seen.Add(1)
					write(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			})
			client := client(t, Options{})
			do(t, client, get(target))
			r := c.request
			r.Target, r.Path, r.Host = target, "/", "server.test"
			res, err := client.Do(context.Background(), &r)
			if c.again {
				if err != nil || res.Status != 204 || res.Reused || seen.Load() != 2 {
					t.Fatalf("got %+v, %v after %d requests, want the answer to the second", res, err, seen.Load())
				}
				_ = res.Close()
				return
			}
			if e := failure(t, err); e.Op != OpHead || !e.Wrote || e.Timeout || seen.Load() != 1 {
				t.Errorf("got %+v after %d requests, want a failed head after one", e, seen.Load())
			}
		})
	}
}

// deaf is a connection whose writes fail from the second request on.
type deaf struct {
	net.Conn
	writes int
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.writes++; d.writes > 1 {
		return 0, errors.New("broken pipe")
	}
	return d.Conn.Write(p)
}

func TestAPOSTOfWhichNothingWasWrittenIsSentAgain(t *testing.T) {
	target := serve(t, numbered())
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &deaf{Conn: c}, err
	}
	c := client(t, Options{Dialer: dial})
	for _, want := range []string{"1.1", "2.1", "3.1"} {
		if got := do(t, c, post(target, "x")); got != want {
			t.Errorf("got answer %s, want %s", got, want)
		}
	}
}

func TestAbortMidStreamThenReuse(t *testing.T) {
	for name, head := range map[string]string{
		"by length":   "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
		"chunked":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"until close": "HTTP/1.1 200 OK\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			target := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					q, _, ok := request(r)
					if !ok {
						return
					}
					if q.URL.Path != "/stream" {
						write(c, answer("own answer to "+q.URL.Path))
						continue
					}
					// The rest of this answer looks like answers to others.
					write(c, head)
					for {
						if _, err := io.WriteString(c, answer("stolen")); err != nil {
							return
						}
					}
				}
			})
			c := client(t, Options{})
			for i := range 20 {
				r := get(target)
				r.Path = "/stream"
				res, err := c.Do(context.Background(), r)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := res.Read(make([]byte, 1+i)); err != nil {
					t.Fatal(err)
				}
				_ = res.Close()
				if _, err := res.Read(make([]byte, 10)); err == nil || err == io.EOF {
					t.Fatalf("got %v from a closed answer, want an error that is not its end", err)
				}
				r = get(target)
				r.Path = "/" + strconv.Itoa(i)
				if got, want := do(t, c, r), "own answer to "+r.Path; got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func TestAStreamWhoseEndIsInTheBufferKeepsItsConnection(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, chunked+"e\r\ndata: [DONE]\n\n\r\n0\r\nX: y\r\n\r\n")
		}
	})
	c := client(t, Options{})
	for i := range 3 {
		res, err := c.Do(context.Background(), get(target))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := res.Read(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		if res.Reused != (i > 0) {
			t.Errorf("request %d: got reused %v", i, res.Reused)
		}
		_ = res.Close()
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		for _, s := range []string{chunked + "2\r\na", "\n\r\n2", "\r\nb\n\r\n0\r\n", "\r\n"} {
			write(c, s)
			<-next
		}
	})
	res, err := client(t, Options{}).Do(context.Background(), get(target))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Close() }()
	p := make([]byte, 100)
	for _, want := range []string{"a", "\n", "b\n"} {
		n, err := res.Read(p)
		if string(p[:n]) != want || err != nil {
			t.Errorf("got %q, %v, want %q", p[:n], err, want)
		}
		next <- struct{}{}
	}
	next <- struct{}{}
	if n, err := res.Read(p); n != 0 || err != io.EOF {
		t.Errorf("got %d, %v, want the end", n, err)
	}
}

// phases are requests that stop in each part of a try: it ends by its limit or by
// cancellation.
func phases(t *testing.T) map[string]struct {
	op      Op
	request *Request
	options Options
	limit   func(*Timeouts, time.Duration)
	wrote   bool
} {
	silent := serve(t, untilGone)
	stay := make(chan struct{})
	unread := serve(t, func(net.Conn, *bufio.Reader) { <-stay })
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	unreadSecurely := serve(t, func(c net.Conn, _ *bufio.Reader) {
		_ = tls.Server(c, certified.TLS).Handshake()
		<-stay
	})
	unreadSecurely.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // a test's own server
	t.Cleanup(func() { close(stay) })
	begun := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		write(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		untilGone(c, r)
	})
	dripping := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		write(c, "HTTP/1.1 200 OK\r\nX: ")
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.Write([]byte("a")); err != nil {
				return
			}
		}
	})
	secure := *silent
	secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	blocked := Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("dial: %w", ctx.Err())
	}}
	large := post(unread, strings.Repeat("x", 16<<20), "y")
	largeSecurely := post(unreadSecurely, strings.Repeat("x", 16<<20))
	stream := post(unread)
	stream.Body, stream.Stream, stream.Length = nil, endless{}, -1
	type phase = struct {
		op      Op
		request *Request
		options Options
		limit   func(*Timeouts, time.Duration)
		wrote   bool
	}
	connect := func(x *Timeouts, d time.Duration) { x.Connect = d }
	send := func(x *Timeouts, d time.Duration) { x.Send = d }
	head := func(x *Timeouts, d time.Duration) { x.Head = d }
	read := func(x *Timeouts, d time.Duration) { x.Read = d }
	return map[string]phase{
		"dialling":           {OpConnect, get(silent), blocked, connect, false},
		"the TLS handshake":  {OpConnect, get(&secure), Options{}, connect, false},
		"sending a body":     {OpSend, large, Options{}, send, true},
		"sending over TLS":   {OpSend, largeSecurely, Options{}, send, true},
		"sending a stream":   {OpSend, stream, Options{}, send, true},
		"waiting for a head": {OpHead, get(silent), Options{}, head, true},
		"a head that drips":  {OpHead, get(dripping), Options{}, head, true},
		"reading a body":     {OpBody, get(begun), Options{}, read, true},
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// exchangeAll sends and reads to the end, and returns the error.
func exchangeAll(ctx context.Context, c *Client, r *Request) error {
	res, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	_, err = io.ReadAll(res)
	_ = res.Close()
	return err
}

func TestEveryPhaseHasItsLimit(t *testing.T) {
	for name, p := range phases(t) {
		t.Run(name, func(t *testing.T) {
			c := client(t, p.options)
			timetest.Stretch(t, 30*time.Millisecond, func(limit time.Duration) error {
				p.limit(&p.request.Timeouts, limit)
				e := failure(t, exchangeAll(context.Background(), c, p.request))
				if e.Op != p.op || !e.Timeout || e.Wrote != p.wrote || e.Client != nil || e.Refused {
					return fmt.Errorf("got %+v, want a timeout of %q", e, p.op)
				}
				if n := len(c.idle(p.request.Target)); n != 0 {
					t.Errorf("got %d idle connections, want none", n)
				}
				return nil
			})
		})
	}
}

func TestEveryPhaseIsCancelledAtOnce(t *testing.T) {
	for name, p := range phases(t) {
		for cause, with := range map[string]func(time.Duration) (context.Context, context.CancelFunc){
			"cancelled": func(after time.Duration) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(after, cancel)
				return ctx, cancel
			},
			"deadline": func(after time.Duration) (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), after)
			},
			"from the start": func(time.Duration) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				return ctx, cancel
			},
		} {
			t.Run(name+", "+cause, func(t *testing.T) {
				c := client(t, p.options)
				p.limit(&p.request.Timeouts, time.Hour)
				// A busy machine may not come as far as the phase in so short a time.
				for after := 20 * time.Millisecond; ; after *= 2 {
					ctx, cancel := with(after)
					err := exchangeAll(ctx, c, p.request)
					e, ended := failure(t, err), ctx.Err()
					cancel()
					if !errors.Is(err, ended) || e.Timeout != (cause == "deadline") {
						t.Fatalf("got %+v, want %v", e, ended)
					}
					if n := len(c.idle(p.request.Target)); n != 0 {
						t.Fatalf("got %d idle connections, want none", n)
					}
					if e.Op == p.op || cause == "from the start" {
						return
					}
					if after > 5*time.Second {
						t.Fatalf("got a failure of %q, want %q", e.Op, p.op)
					}
				}
			})
		}
	}
}

func TestAnAnswerInTheMemoryOfAnother(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		for i := 1; ; i++ {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, fmt.Sprintf("HTTP/1.1 %d Number %d\r\nX-Number: %d\r\n%sContent-Length: 1\r\n\r\n%d", 199+i, i, i, strings.Repeat("A: b\r\n", 3-i), i))
		}
	})
	c := client(t, Options{})
	r := get(target)
	r.Response = &Response{}
	var kept []string
	for i, fields := range []int{4, 3} {
		res, err := c.Do(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if res != r.Response || res.Header.Len() != fields || res.Status != 200+i {
			t.Errorf("got %+v, want answer %d in the memory that was given", res, i+1)
		}
		kept = append(kept, res.Header.Get("X-Number"), res.Reason)
		if body, err := io.ReadAll(res); err != nil || string(body) != strconv.Itoa(i+1) {
			t.Errorf("got body %q, %v", body, err)
		}
		_, _ = res.Close(), res.Close()
	}
	if want := []string{"1", "Number 1", "2", "Number 2"}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
}

func TestACancelledContextAfterTheBodyClosesTheConnection(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	res, err := c.Do(ctx, get(target))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res); err != nil {
		t.Fatal(err)
	}
	c.hooks.tick()
	c.hooks.tick()
	cancel()
	_ = res.Close()
	if n := len(c.idle(target)); n != 0 {
		t.Errorf("got %d idle connections, want none", n)
	}
	// And one that is cancelled after closing is not touched any more.
	ctx, cancel = context.WithCancel(context.Background())
	res, err = c.Do(ctx, get(target))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Close()
	cancel()
	if got := do(t, c, get(target)); got != "2.2" {
		t.Errorf("got answer %s, want 2.2", got)
	}
}

func TestNobodyListens(t *testing.T) {
	// A port that no system gives away, as it may do with one that was closed.
	_, err := client(t, Options{}).Do(context.Background(), get(&Target{Addr: "127.0.0.1:1"}))
	if e := failure(t, err); e.Op != OpConnect || !e.Refused || e.Wrote || e.Timeout {
		t.Errorf("got %+v, want a refused connection", e)
	}
}

func TestWhatIsSent(t *testing.T) {
	header := func(pairs ...string) *exchange.Header {
		h := &exchange.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	const start = " /p?q HTTP/1.1\r\nHost: server.test\r\n"
	big := strings.Repeat("0123456789", 5000)
	for name, c := range map[string]struct {
		request Request
		want    string
	}{
		"GET has no body":                  {Request{Method: "GET"}, "GET" + start + "\r\n"},
		"POST without a body says so":      {Request{Method: "POST"}, "POST" + start + "Content-Length: 0\r\n\r\n"},
		"names keep their case and order":  {Request{Method: "GET", Header: header("x-b", "1", "X-A", "\t2", "x-B", "")}, "GET" + start + "x-b: 1\r\nX-A: \t2\r\nx-B: \r\n\r\n"},
		"segments follow each other":       {Request{Method: "POST", Body: [][]byte{[]byte("he"), nil, []byte("llo")}}, "POST" + start + "Content-Length: 5\r\n\r\nhello"},
		"an empty body is a body":          {Request{Method: "GET", Body: [][]byte{}}, "GET" + start + "Content-Length: 0\r\n\r\n"},
		"large segments":                   {Request{Method: "POST", Body: [][]byte{[]byte(big), []byte(big)}}, "POST" + start + "Content-Length: 100000\r\n\r\n" + big + big},
		"a stream of known length":         {Request{Method: "POST", Stream: strings.NewReader("hello"), Length: 5}, "POST" + start + "Content-Length: 5\r\n\r\nhello"},
		"a stream of known length in bits": {Request{Method: "POST", Stream: iotest.OneByteReader(strings.NewReader("hello")), Length: 5}, "POST" + start + "Content-Length: 5\r\n\r\nhello"},
		"a stream of no bytes":             {Request{Method: "POST", Stream: strings.NewReader(""), Length: 0}, "POST" + start + "Content-Length: 0\r\n\r\n"},
		"a stream of unknown length":       {Request{Method: "POST", Stream: strings.NewReader("hello, world, again"), Length: -1}, "POST" + start + "Transfer-Encoding: chunked\r\n\r\n13\r\nhello, world, again\r\n0\r\n\r\n"},
		"a stream that ends with its data": {Request{Method: "POST", Stream: iotest.DataErrReader(strings.NewReader("hello")), Length: -1}, "POST" + start + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		"an unknown stream of no bytes":    {Request{Method: "POST", Stream: strings.NewReader(""), Length: -1}, "POST" + start + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"a stream of one-byte chunks":      {Request{Method: "PUT", Stream: iotest.OneByteReader(strings.NewReader("ab")), Length: -1}, "PUT" + start + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"},
		"an upgrade":                       {Request{Method: "GET", Upgrade: "websocket"}, "GET" + start + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		"one request per connection":       {Request{Method: "GET", Target: &Target{NoKeepAlive: true}}, "GET" + start + "Connection: close\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{pieces: [][]byte{[]byte("HTTP/1.1 204 No Content\r\n\r\n")}}
			client := client(t, Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return s, nil }})
			r := c.request
			r.Path, r.Host = "/p?q", "server.test"
			if r.Target == nil {
				r.Target = &Target{}
			}
			do(t, client, &r)
			if got := s.sent.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What was laid out before a request is what would be written for it, or not used.
func TestLines(t *testing.T) {
	fields := []exchange.Field{{Name: "Authorization", Value: "Bearer x"}, {Name: "Content-Type", Value: "application/json"}}
	lines, err := Lay("server.test", fields)
	if err != nil {
		t.Fatal(err)
	}
	field := func(name, value string) func(*Request) { return func(r *Request) { r.Header.Add(name, value) } }
	for name, c := range map[string]struct {
		change func(*Request)
		used   bool
	}{
		"as they are":         {func(*Request) {}, true},
		"with another behind": {field("Accept", "*/*"), true},
		"with one again":      {field("Authorization", "Bearer y"), true},
		"another host":        {func(r *Request) { r.Host = "other.test" }, false},
		"a changed value":     {func(r *Request) { r.Header.Set("Authorization", "Bearer y") }, false},
		"one that is missing": {func(r *Request) { r.Header.Del("Content-Type") }, false},
		"the first missing":   {func(r *Request) { r.Header.Del("Authorization") }, false},
		"no header":           {func(r *Request) { r.Header = nil }, false},
		"another name": {func(r *Request) {
			r.Header.Reset()
			r.Header.Append([]exchange.Field{{Name: "authorization", Value: "Bearer x"}, fields[1]})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{Target: &Target{}, Method: "POST", Path: "/", Host: "server.test", Header: &exchange.Header{}, Body: [][]byte{}}
			r.Header.Append(fields)
			c.change(r)
			var anew, laid outgoing
			if err := anew.assemble(r); err != nil {
				t.Fatal(err)
			}
			r.Lines = lines
			if err := laid.assemble(r); err != nil || string(laid.buf) != string(anew.buf) {
				t.Errorf("got %q, %v, want %q", laid.buf, err, anew.buf)
			}
			if lines.lead(r) != c.used {
				t.Errorf("they are used: %v, want %v", !c.used, c.used)
			}
			r.Header = &exchange.Header{}
			r.Header.Append(fields)
			r.Header.Add("X-A", "a\r\nX: y")
			if laid.assemble(r) == nil {
				t.Error("a line end behind them passes")
			}
		})
	}
	for name, bad := range map[string][]exchange.Field{
		"a line end in a value":    {{Name: "X-A", Value: "a\r\nX: y"}},
		"a space in a name":        {{Name: "X A", Value: "a"}},
		"a length of the caller's": {{Name: "content-length", Value: "5"}},
	} {
		if _, err := Lay("server.test", bad); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := Lay("a\r\nX: y", nil); err == nil {
		t.Error("a line end in the host passes")
	}
}

func TestARequestThatCouldBeTwoIsRefused(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	field := func(name, value string) func(*Request) {
		return func(r *Request) { r.Header = &exchange.Header{}; r.Header.Add(name, value) }
	}
	for name, change := range map[string]func(*Request){
		"a line end in the method":      func(r *Request) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"no method":                     func(r *Request) { r.Method = "" },
		"CONNECT":                       func(r *Request) { r.Method = "CONNECT" },
		"a space in the path":           func(r *Request) { r.Path = "/ HTTP/1.1" },
		"a line end in the path":        func(r *Request) { r.Path = "/\r\nX: y" },
		"NUL in the path":               func(r *Request) { r.Path = "/\x00" },
		"no path":                       func(r *Request) { r.Path = "" },
		"a line end in the host":        func(r *Request) { r.Host = "a\r\nX: y" },
		"a space in the host":           func(r *Request) { r.Host = "a b" },
		"a line end in the upgrade":     func(r *Request) { r.Upgrade = "a\r\nX: y" },
		"a line end in a value":         field("X-A", "a\r\nX: y"),
		"a bare LF in a value":          field("X-A", "a\nX: y"),
		"a bare CR in a value":          field("X-A", "a\rX: y"),
		"NUL in a value":                field("X-A", "a\x00"),
		"DEL in a value":                field("X-A", "a\x7f"),
		"a colon in a name":             field("X:A", "a"),
		"a space in a name":             field("X A", "a"),
		"a line end in a name":          field("X\r\nA", "a"),
		"no name":                       field("", "a"),
		"a letter beyond ASCII in one":  field("X-Ä", "a"),
		"a length of the caller's":      field("content-length", "5"),
		"a coding of the caller's":      field("Transfer-Encoding", "chunked"),
		"a connection of the caller's":  field("Connection", "close"),
		"an upgrade of the caller's":    field("Upgrade", "h2c"),
		"a second host":                 field("host", "other.test"),
		"a coding with a space behind":  field("Transfer-Encoding ", "chunked"),
		"a coding with a tab before it": field("\tTransfer-Encoding", "chunked"),
	} {
		t.Run(name, func(t *testing.T) {
			r := get(target)
			change(r)
			_, err := c.Do(context.Background(), r)
			if e := failure(t, err); e.Op != OpSend || e.Wrote || e.Timeout {
				t.Errorf("got %+v, want a refusal before anything is sent", e)
			}
		})
	}
	if got := do(t, c, get(target)); got != "1.1" {
		t.Errorf("got answer %s, want 1.1: something had been sent", got)
	}
}

func TestABodyThatTheClientDoesNotSend(t *testing.T) {
	cause := errors.New("client is gone")
	first := strings.NewReader(strings.Repeat("x", 100))
	for name, c := range map[string]struct {
		stream io.Reader
		length int64
		wrote  bool
		want   error
	}{
		"an error at once":               {iotest.ErrReader(cause), -1, false, cause},
		"an error in the middle":         {io.MultiReader(first, iotest.ErrReader(cause)), -1, true, cause},
		"a stream that is short":         {strings.NewReader("hello"), 6, true, errShort},
		"a stream that is short at once": {iotest.DataErrReader(strings.NewReader("hello")), 6, false, errShort},
		"a stream that is long":          {strings.NewReader("hello!"), 5, false, errLong},
		"a stream that is long at last":  {iotest.OneByteReader(strings.NewReader("hello!")), 5, true, errLong},
		"a stream that gives nothing":    {empty{}, -1, false, io.ErrNoProgress},
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			target := serve(t, func(conn net.Conn, r *bufio.Reader) {
				untilGone(conn, r)
				close(gone)
			}, untilGone)
			r := post(target)
			r.Body, r.Stream, r.Length = nil, c.stream, c.length
			_, err := client(t, Options{}).Do(context.Background(), r)
			e := failure(t, err)
			if e.Op != OpSend || !errors.Is(e.Client, c.want) || e.Wrote != c.wrote {
				t.Errorf("got %+v, want the client's error %v", e, c.want)
			}
			if c.wrote {
				<-gone
			}
		})
	}
}

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, nil }

func TestAnAnswerBeforeTheBodyWasSent(t *testing.T) {
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
	body := strings.Repeat("x", 32<<20)
	var stay chan struct{}
	for name, h := range map[string]func(net.Conn, *bufio.Reader){
		"and then the server closes": func(c net.Conn, r *bufio.Reader) {
			_, _ = r.ReadString('\n')
			write(c, refusal)
		},
		"and then the server reads no more": func(c net.Conn, r *bufio.Reader) {
			_, _ = r.ReadString('\n')
			write(c, refusal)
			<-stay
		},
	} {
		for kind, change := range map[string]func(*Request){
			"segments": func(r *Request) { r.Body = [][]byte{[]byte(body)} },
			"a stream": func(r *Request) { r.Stream, r.Length = strings.NewReader(body), int64(len(body)) },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				stay = make(chan struct{})
				target := serve(t, h)
				t.Cleanup(func() { close(stay) })
				c := client(t, Options{})
				r := post(target)
				r.Body = nil
				r.Timeouts = Timeouts{Send: time.Minute, Head: time.Minute, Read: time.Minute}
				change(r)
				res, err := c.Do(context.Background(), r)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res)
				if res.Status != 413 || string(got) != "no" || err != nil {
					t.Errorf("got %d %q, %v, want 413", res.Status, got, err)
				}
				_ = res.Close()
				if n := len(c.idle(target)); n != 0 {
					t.Errorf("got %d idle connections, want none: the request was not sent whole", n)
				}
			})
		}
	}
}

// crawling takes ten bytes at a time, each just before the limit.
type crawling struct{ script }

func (c *crawling) Write(p []byte) (int, error) {
	if len(p) <= 10 {
		return c.script.Write(p)
	}
	n, _ := c.script.Write(p[:10])
	return n, os.ErrDeadlineExceeded
}

func TestASlowServerThatReadsOnIsNotCut(t *testing.T) {
	s := &crawling{script: script{pieces: [][]byte{[]byte("HTTP/1.1 204 No Content\r\n\r\n")}}}
	c := client(t, Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return s, nil }})
	r := post(&Target{}, strings.Repeat("x", 20<<10), strings.Repeat("y", 20<<10))
	r.Timeouts.Send = time.Second
	do(t, c, r)
	if _, body, _ := strings.Cut(s.sent.String(), "\r\n\r\n"); body != string(r.Body[0])+string(r.Body[1]) {
		t.Errorf("got %d bytes, want both segments", len(body))
	}
}

func TestAnUpgradedConnectionBelongsToTheCaller(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		request(r)
		write(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nearly")
		_, _ = io.Copy(c, r)
	})
	c := client(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	r := get(target)
	r.Upgrade = "echo"
	r.Timeouts = Timeouts{Head: time.Hour, Read: time.Hour}
	res, err := c.Do(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	conn, early := res.Conn()
	cancel() // of the request, not of the connection
	_ = res.Close()
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, " late"); err != nil {
		t.Fatal(err)
	}
	const want = "early late"
	got := append(make([]byte, 0, len(want)), early...)
	n, err := io.ReadFull(conn, got[len(got):len(want)])
	if got = got[:len(got)+n]; string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	// One that nobody took is closed, not kept.
	res, err = c.Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Close()
	if n := len(c.idle(target)); n != 0 {
		t.Errorf("got %d idle connections, want none", n)
	}
}

func TestTLS(t *testing.T) {
	var names sync.Map
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		names.Store(q.TLS.ServerName, q.TLS.DidResume)
		body, _ := io.ReadAll(q.Body)
		_, _ = fmt.Fprintf(w, "%s %s %d", q.Proto, q.RemoteAddr, len(body))
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	target := &Target{Addr: server.Listener.Addr().String(), TLS: config, SNI: "example.com"}
	c := client(t, Options{})

	first := do(t, c, post(target, strings.Repeat("x", 100<<10), "y"))
	if !strings.HasPrefix(first, "HTTP/1.1 ") || !strings.HasSuffix(first, " 102401") {
		t.Errorf("got %q, want HTTP/1.1 and the whole body", first)
	}
	if _, ok := names.Load("example.com"); !ok {
		t.Error("the server saw no name")
	}
	if again := do(t, c, post(target, "y")); strings.Fields(again)[1] != strings.Fields(first)[1] {
		t.Errorf("got %q after %q, want the same connection", again, first)
	}
	stream := post(target)
	stream.Body, stream.Stream, stream.Length = nil, strings.NewReader(strings.Repeat("z", 50<<10)), -1
	if got := do(t, c, stream); !strings.HasSuffix(got, " 51200") {
		t.Errorf("got %q, want 51200 bytes", got)
	}
	c.CloseIdle()
	do(t, c, get(target))
	if resumed, _ := names.Load("example.com"); resumed != true {
		t.Error("the session was not resumed")
	}
	other := *target
	other.TLS = config.Clone()
	if got := do(t, c, get(&other)); len(c.idle(target)) != 1 || len(c.idle(&other)) != 1 {
		t.Errorf("got %q, want another connection for another configuration", got)
	}
	trusting := client(t, Options{Roots: roots})
	nameless := *target
	nameless.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	do(t, trusting, get(&nameless))
	nameless.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if _, err := trusting.Do(context.Background(), get(&nameless)); err == nil {
		t.Error("the client's own roots count beside those of the target")
	}
	if config.NextProtos != nil || config.ServerName != "" {
		t.Error("the caller's configuration was changed")
	}
	for name, change := range map[string]func(*Target){
		"a name that is not the certificate's": func(x *Target) { x.SNI = "other.test" },
		"an issuer that nobody trusts":         func(x *Target) { x.TLS = &tls.Config{MinVersion: tls.VersionTLS12} },
	} {
		t.Run(name, func(t *testing.T) {
			bad := *target
			change(&bad)
			_, err := c.Do(context.Background(), get(&bad))
			if e := failure(t, err); e.Op != OpConnect || e.Wrote || e.Timeout || e.Refused {
				t.Errorf("got %+v, want a failed handshake", e)
			}
		})
	}
}

func TestEveryoneGetsTheirOwnAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if q.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
		for i := 0; i < len(body); i += 1000 {
			_, _ = w.Write(body[i:min(i+1000, len(body))])
			if q.URL.Path == "/flush" {
				w.(http.Flusher).Flush()
			}
		}
	}))
	defer server.Close()
	target := &Target{Addr: server.Listener.Addr().String(), MaxIdle: 4, MaxRequests: 20}
	c := client(t, Options{})
	var running sync.WaitGroup
	for g := range 8 {
		running.Go(func() {
			for i := range 60 {
				want := bytes.Repeat([]byte(fmt.Sprintf("%d-%d,", g, i)), 1+i*40)
				r := &Request{Target: target, Method: "POST", Path: "/", Host: "h", Body: [][]byte{want[:len(want)/2], want[len(want)/2:]}}
				ctx, cancel := context.WithCancel(context.Background())
				switch i % 5 {
				case 1:
					r.Path = "/close"
				case 2:
					r.Path = "/flush"
				case 3:
					r.Body, r.Stream, r.Length = nil, bytes.NewReader(want), -1
				}
				res, err := c.Do(ctx, r)
				if err != nil {
					t.Error(err)
				} else {
					if i%7 == 0 {
						cancel()
					}
					got, err := io.ReadAll(res)
					if err == nil && !bytes.Equal(got, want) || err != nil && (i%7 != 0 || !bytes.HasPrefix(want, got)) {
						t.Errorf("got %d bytes and %v, want the %d that were sent", len(got), err, len(want))
					}
					_ = res.Close()
				}
				cancel()
			}
		})
	}
	running.Wait()
	if n := len(c.idle(target)); n > 4 {
		t.Errorf("got %d idle connections, want at most 4", n)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a?b", "server.test", "X-A", "b", "")
	f.Add("POST", "/", "h:80", "x", "\tb ", "websocket")
	f.Add("G\r\n", "/ ", "h\n", "X\r", "b\r\nc: d", "\x00")
	f.Fuzz(func(t *testing.T, method, path, host, name, value, upgrade string) {
		r := &Request{Target: &Target{}, Method: method, Path: path, Host: host, Header: &exchange.Header{}, Upgrade: upgrade, Body: [][]byte{}}
		r.Header.Add(name, value)
		first, refused := Lay(host, slices.Clone(r.Header.Fields()))
		var o outgoing
		if o.assemble(r) != nil {
			return
		}
		laid := outgoing{}
		if r.Lines = first; refused != nil || laid.assemble(r) != nil || string(laid.buf) != string(o.buf) {
			t.Errorf("laid out before: got %q, %v, want %q", laid.buf, refused, o.buf)
		}
		lines := 5 // request line, host, the field, length, the empty one
		if upgrade != "" {
			lines += 2
		}
		head := string(o.buf)
		if strings.Count(head, "\r\n") != lines || strings.Count(head, "\n") != lines || strings.Count(head, "\r") != lines ||
			strings.Count(head, "\r\n\r\n") != 1 || !strings.HasSuffix(head, "\r\n\r\n") || strings.Contains(head, "\x00") {
			t.Errorf("got %q, want %d lines", head, lines)
		}
		if first, _, _ := strings.Cut(head, "\r\n"); strings.Count(first, " ") != 2 {
			t.Errorf("got request line %q, want three words", first)
		}
	})
}

func TestATargetThatKeepsNoConnectionsHasNoPool(t *testing.T) {
	target := serve(t, numbered())
	target.NoKeepAlive = true
	c := client(t, Options{})
	c.Bind(target)
	do(t, c, get(target))
	if c.purge(now()) || c.armed.Load() {
		t.Error("there is a pool")
	}
}

func TestWhatLiesInMemoryIsReadInPlace(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<10)
	for name, text := range map[string]string{
		"by length":   answer("hello"),
		"long":        answer(long),
		"none":        answer(""),
		"in chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		"until close": "HTTP/1.1 200 OK\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			want := "hello"
			switch name {
			case "long":
				want = long
			case "none":
				want = ""
			}
			target := serve(t, func(c net.Conn, r *bufio.Reader) {
				for {
					if _, _, ok := request(r); !ok {
						return
					}
					if write(c, text); name == "until close" {
						return
					}
				}
			})
			c := client(t, Options{})
			for range 3 { // also with memory that others had
				res, err := c.Do(context.Background(), get(target))
				if err != nil {
					t.Fatal(err)
				}
				got, buffer := "", make([]byte, 7000)
				for err == nil {
					var part []byte
					if part, err = res.Next(); len(part) == 0 && err == nil {
						var n int
						n, err = res.Read(buffer)
						part = buffer[:n]
					}
					got += string(part)
				}
				if err != io.EOF || got != want {
					t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
				}
				if err := res.Close(); err != nil {
					t.Error(err)
				}
				if part, err := res.Next(); len(part) > 0 || err != nil && err != io.EOF {
					t.Errorf("behind the end: %q, %v", part, err)
				}
			}
		})
	}
}

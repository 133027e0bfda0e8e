package t

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/t/fakellm"
)

// size is how large the tests of ends are: short in `go test`, with GOSIX_DRAIN=full as
// large as what docs/operations.md says was measured.
type size struct {
	posts, h2, streams, rounds int
	lame                       float64 // seconds
	pause                      time.Duration
}

func sizes() size {
	if os.Getenv("GOSIX_DRAIN") == "full" {
		s := size{posts: 200, h2: 50, streams: 200, rounds: 20, lame: 5, pause: 200 * time.Millisecond}
		if n, err := strconv.Atoi(os.Getenv("GOSIX_DRAIN_ROUNDS")); err == nil {
			s.rounds = n
		}
		return s
	}
	return size{posts: 40, h2: 10, streams: 40, rounds: 3, lame: 2, pause: 100 * time.Millisecond}
}

// crowd are clients that send requests until nobody listens any more. None of them sends a
// request twice: what a server does to one request is seen.
type crowd struct {
	t       *testing.T
	addr    string
	pause   time.Duration
	silence time.Duration // a node that ends closes a connection over which nothing came for so long
	clients sync.WaitGroup

	answered, streamed atomic.Int64 // whole answers, those that are streams among them
	told               atomic.Int64 // answers with Connection: close
	begun              atomic.Int64 // clients that have had something
	late               atomic.Int64 // requests that nobody read, since their client had been silent

	mu     sync.Mutex
	broken []string
	over   chan struct{} // closed when they are to send no more
}

// newCrowd returns clients of nodes that have a lame duck of so many seconds.
func newCrowd(t *testing.T, addr string, lame float64, pause time.Duration) *crowd {
	half := time.Duration(lame * float64(time.Second) / 2)
	return &crowd{t: t, addr: addr, pause: pause, silence: half, over: make(chan struct{})}
}

func (c *crowd) breaks(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, fmt.Sprintf("%s: %v", what, err))
}

// unanswered is breaks for a request of whose answer nothing came. Where the server may have
// heard nothing of the client since then, and that is as long ago as docs/operations.md says,
// the request met the end of a silent connection: no server can help that. These clients are
// silent for so long only where they, or the node, do not get a processor.
func (c *crowd) unanswered(what string, err error, silent time.Duration) {
	if silent >= c.silence {
		c.late.Add(1)
		c.t.Logf("%s: after %v of silence: %v", what, silent.Round(time.Millisecond), err)
		return
	}
	c.breaks(what, err)
}

// report prints the counts and fails with what was broken.
func (c *crowd) report(what string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("%s: %d answers, %d of them streams, %d said close, %d late, %d broken", what, c.answered.Load(), c.streamed.Load(), c.told.Load(), c.late.Load(), len(c.broken))
	for i, b := range c.broken {
		if i == 20 {
			break
		}
		c.t.Errorf("%s: %s", what, b)
	}
}

// rest is the time between two requests of a client; false: there is no other.
func (c *crowd) rest() bool {
	select {
	case <-time.After(rand.N(c.pause)):
		return true
	case <-c.over:
		return false
	}
}

const (
	shortChat = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	longChat  = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

// wire is a connection that is written to by hand: no library sends anything again on it.
type wire struct {
	net.Conn
	r *bufio.Reader
}

// dated is a connection that knows when something went over it.
type dated struct {
	net.Conn
	last, before time.Time // the last two times
	got          int64     // bytes that came
}

func (d *dated) note() { d.before, d.last = d.last, time.Now() }

// since is a time at which the server had yet to send, or to read, the last of what it did:
// what came last may have lain here for a while.
func (d *dated) since() time.Time {
	if d.before.IsZero() {
		return d.last
	}
	return d.before
}

func (d *dated) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	if n > 0 {
		d.note()
		d.got += int64(n)
	}
	return n, err
}

func (d *dated) Write(p []byte) (int, error) {
	d.note()
	return d.Conn.Write(p)
}

// dial returns nil when nobody listens any more.
func (c *crowd) dial() *wire {
	d := &dated{last: time.Now()}
	var err error
	if d.Conn, err = net.DialTimeout("tcp", c.addr, patience); err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) {
			c.breaks("dial", err)
		}
		return nil
	}
	return &wire{d, bufio.NewReader(d)}
}

// post sends a request and reads its answer. It reports whether the connection can be used
// for another.
func (c *crowd) post(w *wire, path, body string, first func()) bool {
	_ = w.SetDeadline(time.Now().Add(2 * patience))
	conn := w.Conn.(*dated)
	since, had := conn.since(), conn.got
	_, err := fmt.Fprintf(w, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	silent := time.Since(since) // what the server does from now on, it does to a request that has come
	if err != nil {
		c.unanswered("send "+path, err, silent)
		return false
	}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		if conn.got == had && endedBy(err) {
			c.unanswered("head of "+path, err, silent)
		} else {
			c.breaks("head of "+path, err)
		}
		return false
	}
	return c.read(path, res, first)
}

func (c *crowd) read(path string, res *http.Response, first func()) bool {
	defer func() { _ = res.Body.Close() }()
	var text strings.Builder
	p := make([]byte, 4<<10)
	for {
		n, err := res.Body.Read(p)
		if text.Write(p[:n]); n > 0 && first != nil {
			first()
			first = nil
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			c.breaks("body of "+path, err)
			return false
		}
	}
	stream := strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	switch {
	case res.StatusCode != http.StatusOK:
		c.breaks(path, fmt.Errorf("status %d: %s", res.StatusCode, text.String()))
		return false
	case stream && !strings.HasSuffix(text.String(), "data: [DONE]\n\n"):
		c.breaks(path, fmt.Errorf("the stream ends with %q", text.String()[max(0, text.Len()-80):]))
		return false
	case stream:
		c.streamed.Add(1)
	}
	c.answered.Add(1)
	if res.Close {
		c.told.Add(1)
	}
	return !res.Close
}

// keepAlive is a client that keeps its connection as long as it may.
func (c *crowd) keepAlive(body string) {
	var w *wire
	once := func() { c.begun.Add(1) }
	for c.rest() {
		if w == nil {
			if w = c.dial(); w == nil {
				return
			}
		}
		if !c.post(w, "/v1/chat/completions", body, once) {
			_ = w.Close()
			w = nil
		}
		once = nil
	}
	if w != nil {
		_ = w.Close()
	}
}

// http2 is a client with HTTP/2 whose requests cannot be sent again. net/http's client may be
// told to go between its choice of a connection and the opening of a stream on it; a request
// of which it then has sent nothing is this client's to begin again, on another connection.
func (c *crowd) http2() {
	const most = 10 // in a row: every connection of a lame duck is told to go
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: &p}
	defer t.CloseIdleConnections()
	once, unsent, since := func() { c.begun.Add(1) }, 0, time.Now()
	for c.rest() {
		var wrote, reused, heard atomic.Bool
		var sent atomic.Pointer[time.Time]
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GotConn:              func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
			WroteHeaders:         func() { now := time.Now(); sent.Store(&now); wrote.Store(true) },
			GotFirstResponseByte: func() { heard.Store(true) },
		})
		begin := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.addr+"/v1/chat/completions", io.NopCloser(strings.NewReader(shortChat)))
		if err != nil {
			c.breaks("request", err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := t.RoundTrip(req)
		if !reused.Load() {
			since = begin
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return
		case err != nil && wrote.Load() && heard.Load():
			c.breaks("HTTP/2", err)
		case err != nil && wrote.Load():
			c.unanswered("HTTP/2", err, sent.Load().Sub(since))
		case err != nil:
			if unsent++; unsent > most {
				c.breaks("HTTP/2, nothing sent", err)
			}
		default:
			c.read("HTTP/2", res, once)
			once, unsent = nil, 0
		}
		since = begin
	}
}

// stream is a client with one long stream, which then goes on as others do: its connection
// has been told nothing.
func (c *crowd) stream() {
	w := c.dial()
	if w == nil {
		return
	}
	defer func() { _ = w.Close() }()
	if c.post(w, "/v1/slow", longChat, func() { c.begun.Add(1) }) {
		if c.post(w, "/v1/chat/completions", shortChat, nil) {
			c.breaks("after a stream", errors.New("the answer does not say close"))
		}
	}
}

// start lets all of them come, and returns once each has had something.
func (c *crowd) start(s size) {
	c.t.Helper()
	for range s.posts {
		c.clients.Go(func() { c.keepAlive(shortChat) })
	}
	for range s.h2 {
		c.clients.Go(c.http2)
	}
	for range s.streams {
		c.clients.Go(c.stream)
	}
	eventually(c.t, "every client has had something", func() bool { return c.begun.Load() == int64(s.posts+s.h2+s.streams) })
}

// cluster is an etcd, an Admin API and a provider, for gateways that come and go.
type cluster struct {
	t       *testing.T
	store   *embedetcd.Server
	control *node
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, store: etcd(t, t.TempDir(), "")}
	t.Cleanup(c.store.Close)
	llm := httptest.NewServer(fakellm.New("a fake model"))
	t.Cleanup(llm.Close)
	c.control = start(t, "admin", settings("DIR", c.store.Endpoint()))
	provided := func(id, uri, provider, endpoint string) {
		c.control.must("PUT", "/routes/"+id, fmt.Sprintf(`{"uri":%q,"plugins":{"ai-proxy":{"provider":%q,"auth":{"header":{"Authorization":"Bearer x"}},
			"override":{"endpoint":%q}}}}`, uri, provider, llm.URL+endpoint))
	}
	route := func(id, uri, query string) { provided(id, uri, "openai-compatible", "/v1/chat/completions?"+query) }
	route("short", "/v1/chat/completions", "")
	// Longer than the lame duck, shorter than that and drain_timeout.
	lame := sizes().lame
	route("slow", "/v1/slow", fmt.Sprintf("words=20&gap_ms=%d", int(lame*1000/10)))
	route("endless", "/v1/endless", "endless&gap_ms=20")
	route("silent", "/v1/silent", "silent_ms=-1")
	provided("messages", "/v1/messages", "anthropic", "/v1/messages?stall=6")
	provided("responses", "/v1/responses", "openai", "/v1/responses?stall=6")
	return c
}

// gateway starts one with a lame duck and with a line more in its settings.
func (c *cluster) gateway(lame float64, more string) *node {
	c.t.Helper()
	conf := strings.Replace(settings("DIR", c.store.Endpoint()), "  lame_duck: 0\n", fmt.Sprintf("  lame_duck: %v\n%s", lame, more), 1)
	n := start(c.t, "gateway", conf)
	// A node that serves has all routes: none of them changes any more.
	return n
}

// The line that every test of ends has in common: exit 0, everything logged, no panic.
func (n *node) endedInOrder(answers int64) {
	n.t.Helper()
	n.ended()
	if n.err != nil {
		n.t.Errorf("it ended with %v", n.err)
	}
	if lines := int64(strings.Count(accessLog(n.t, n), `" 200 `)); lines != answers {
		n.t.Errorf("the access log has %d answers, the clients have %d", lines, answers)
	}
}

// SIGTERM among clients that send all the time breaks nothing.
func TestAnEndBreaksNothing(t *testing.T) {
	s := sizes()
	c := newCluster(t)
	for round := range s.rounds {
		n := c.gateway(s.lame, "")
		crowd := newCrowd(t, n.Gateway[0], s.lame, s.pause)
		crowd.start(s)
		begin := time.Now()
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		eventually(t, "it is not ready", func() bool {
			return do(t, "GET", "http://"+n.Status+"/status/ready", "").StatusCode == http.StatusServiceUnavailable
		})
		if late := crowd.dial(); late != nil {
			if crowd.post(late, "/v1/chat/completions", shortChat, nil) {
				t.Error("in the lame duck an answer does not say Connection: close")
			}
			_ = late.Close()
		} else if took := time.Since(begin); took.Seconds() < s.lame {
			t.Errorf("no new connection is served in the lame duck, %v after its begin", took)
		}
		crowd.clients.Wait()
		n.endedInOrder(crowd.answered.Load())
		crowd.report(fmt.Sprintf("round %d, over after %.1f s", round+1, time.Since(begin).Seconds()))
		if t.Failed() {
			return
		}
	}
}

// What is left when the time is up hears of it, in the words of its protocol.
func TestWhatIsLeftAtTheEndIsTold(t *testing.T) {
	c := newCluster(t)
	n := c.gateway(0, "  drain_timeout: 0.2\n")
	open := func(path, body string) *wire {
		conn, err := net.Dial("tcp", n.Gateway[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		return &wire{conn, bufio.NewReader(conn)}
	}
	streams := map[string]struct{ request, event string }{
		"/v1/endless":   {longChat, "data: " + `{"error":{"message":"the gateway is ending","type":"upstream_error","param":null,"code":null}}`},
		"/v1/messages":  {`{"model":"m","max_tokens":9,` + longChat[13:], "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"the gateway is ending"}}`},
		"/v1/responses": {`{"model":"m","stream":true,"input":"hi"}`, "event: error\ndata: " + `{"type":"error","code":"upstream_error","param":null,"message":"the gateway is ending"}`},
	}
	answers := map[string]*http.Response{}
	for path, s := range streams {
		res, err := http.ReadResponse(open(path, s.request).r, nil)
		if err != nil {
			t.Fatal(path, err)
		}
		defer func() { _ = res.Body.Close() }()
		answers[path] = res
	}
	silent := open("/v1/silent", shortChat)
	eventually(t, "all requests are under way", func() bool {
		return strings.Contains(do(t, "GET", "http://"+n.Metrics+"/apisix/prometheus/metrics", "").Text, `state="writing"} 4`)
	})
	_ = n.cmd.Process.Signal(syscall.SIGTERM)

	for path, s := range streams {
		text, err := io.ReadAll(answers[path].Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(string(text), "\n\n"+s.event+"\n\n") {
			t.Errorf("%s ends with %v, %q", path, err, text[max(0, len(text)-200):])
		}
	}
	if res, err := http.ReadResponse(silent.r, nil); err != nil || res.StatusCode != http.StatusServiceUnavailable || !res.Close {
		t.Errorf("the request without an answer got %v, %v", res, err)
	}
	n.ended()
	if n.err != nil {
		t.Errorf("it ended with %v", n.err)
	}
	for _, want := range []string{"POST /v1/endless HTTP/1.1\" 200 ", "POST /v1/messages HTTP/1.1\" 200 ", "POST /v1/silent HTTP/1.1\" 503 "} {
		if !strings.Contains(accessLog(t, n), want) {
			t.Errorf("the access log lacks %q: %s", want, accessLog(t, n))
		}
	}
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	c := newCluster(t)
	n := c.gateway(3600, "  drain_timeout: 3600\n")
	crowd := newCrowd(t, n.Gateway[0], 3600, time.Millisecond)
	w := crowd.dial()
	_ = w.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprintf(w, "POST /v1/endless HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(longChat), longChat)
	if _, err := http.ReadResponse(w.r, nil); err != nil {
		t.Fatal(err)
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "it says that it is ending", func() bool { return strings.Contains(n.log.String(), "gosix is ending") })
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	n.ended()
	if n.err != nil {
		t.Errorf("it ended with %v", n.err)
	}
	if rest, _ := io.ReadAll(w.r); !strings.Contains(string(rest), "the gateway is ending") {
		t.Errorf("the stream ends with %q", rest[max(0, len(rest)-200):])
	}
	_ = w.Close()
}

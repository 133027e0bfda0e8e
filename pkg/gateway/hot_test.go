package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/racetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/keyauth"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
	"github.com/gosix/gosix/pkg/upstream"
)

// hot is a gateway as most have it: key-auth, ai-proxy-multi over two instances, prometheus
// and an access log. Its providers answer out of memory, in the goroutine that asks, so that
// what is measured is the gateway.
type hot struct {
	gateway *Gateway
	client  *upstream.Client
	log     *AccessLog
	reply   *provided
	ctx     context.Context
}

func newHot(t testing.TB) *hot {
	t.Helper()
	h := &hot{reply: &provided{}}
	metrics, err := prometheus.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.client = upstream.NewClient(upstream.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		return &looped{reply: h.reply}, nil
	}})
	pickers := balancer.NewCache(0)
	deps := aiproxy.Deps{Client: h.client, Drivers: drivers.NewSet(openai.Providers()), Pickers: pickers}
	registry := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, keyauth.Definition(), aiproxy.Multi(deps), prometheus.Definition(metrics))
	s := memstore.New()
	syncer := route.NewSyncer(s, route.Env{Registry: registry, Prefix: "/apisix", Router: route.HostURI, Pickers: pickers, Log: zerolog.Nop()}, zerolog.Nop())
	instance := func(name string) string {
		return `{"name":"` + name + `","provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer sk-` + name + `"}},` +
			`"options":{"model":"gpt-` + name + `"},"override":{"endpoint":"http://` + name + `.test:8000/v1/chat/completions"}}`
	}
	for key, doc := range map[string]string{
		"consumers/jack":                `{"username":"jack"}`,
		"consumers/jack/credentials/c1": `{"id":"c1","plugins":{"key-auth":{"key":"secret"}}}`,
		"routes/1": `{"id":"1","uri":"/v1/chat/completions","plugins":{"key-auth":{},"prometheus":{},"ai-proxy-multi":{` +
			`"fallback_strategy":["http_429","http_5xx"],"instances":[` + instance("a") + `,` + instance("b") + `]}}}`,
		"routes/2": `{"id":"2","uri":"/plain/*","plugins":{"prometheus":{}},"upstream":{"type":"roundrobin","nodes":{"c.test:8000":1,"d.test:8000":1}}}`,
	} {
		if _, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/apisix/" + key, Value: []byte(doc)}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	h.ctx = ctx
	if h.log, err = NewAccessLog("", io.Discard, "", false); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { syncer.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		h.client.Close()
		_ = s.Close()
	})
	<-syncer.Ready()
	if list := syncer.Router().Snapshot().Rejected(); len(list) > 0 {
		t.Fatalf("rejected: %+v", list)
	}
	h.gateway = New(Options{Server: "gosix/test", Log: zerolog.Nop(), Client: h.client, Router: syncer.Router(), AccessLog: h.log})
	return h
}

// provided is what the providers answer.
type provided struct{ pieces [][]byte }

func (p *provided) whole(body []byte) {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: abc\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	p.pieces = [][]byte{append([]byte(head), body...)}
}

// stream is an answer of which each event comes by itself.
func (p *provided) stream(events []string) {
	p.pieces = [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")}
	for _, e := range events {
		p.pieces = append(p.pieces, fmt.Appendf(nil, "%x\r\n%s\r\n", len(e), e))
	}
	last := len(p.pieces) - 1
	p.pieces[last] = append(p.pieces[last], "0\r\n\r\n"...)
}

// looped is a connection to a provider that is not there.
type looped struct {
	reply *provided
	want  int // bytes of the request at hand; 0: its head did not come yet
	got   int
	at    int // piece
	from  int // in it
}

func (c *looped) Write(p []byte) (int, error) {
	if c.want == 0 {
		end := bytes.Index(p, []byte("\r\n\r\n"))
		name := []byte("Content-Length: ")
		at := bytes.Index(p, name)
		n := 0
		if at >= 0 && at < end {
			for _, d := range p[at+len(name):] {
				if d < '0' || d > '9' {
					break
				}
				n = 10*n + int(d-'0')
			}
		}
		c.want, c.got, c.at, c.from = end+4+n, 0, 0, 0
	}
	c.got += len(p)
	return len(p), nil
}

func (c *looped) Read(p []byte) (int, error) {
	if c.got < c.want || c.at == len(c.reply.pieces) {
		return 0, errors.New("nothing was asked")
	}
	piece := c.reply.pieces[c.at]
	n := copy(p, piece[c.from:])
	if c.from += n; c.from == len(piece) {
		c.at, c.from = c.at+1, 0
	}
	if c.at == len(c.reply.pieces) {
		c.want = 0
	}
	return n, nil
}

func (c *looped) Close() error                     { return nil }
func (c *looped) LocalAddr() net.Addr              { return hotAddr }
func (c *looped) RemoteAddr() net.Addr             { return hotAddr }
func (c *looped) SetDeadline(time.Time) error      { return nil }
func (c *looped) SetReadDeadline(time.Time) error  { return nil }
func (c *looped) SetWriteDeadline(time.Time) error { return nil }

var hotAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000}

// counted is a client that reads everything and keeps nothing.
type counted struct{ status, bytes, flushes int }

func (s *counted) WriteHead(status int, _ *exchange.Header, _ int64) error {
	s.status = status
	return nil
}

func (s *counted) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return len(p), nil
}

func (s *counted) Flush() error {
	s.flushes++
	return nil
}

func (s *counted) Abort() { s.status = -1 }

func (s *counted) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, io.EOF }

// chatBody is a chat of about that many bytes.
func chatBody(size int, stream bool) []byte {
	const sentence = `The quick brown fox said: \"jump\" over the lazy dog.\nAnd again: `
	body := `{"model":"gpt-4o-mini","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"`
	end := `"}],"temperature":0.7,"max_tokens":256`
	if stream {
		end += `,"stream":true`
	}
	end += `}`
	if n := size - len(body) - len(end); n > 0 {
		body += strings.Repeat(sentence, n/len(sentence)+1)[:n/len(sentence)*len(sentence)]
	}
	return []byte(body + end)
}

func chatAnswer(size int) []byte {
	body := `{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"`
	end := `"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":34,"total_tokens":154,` +
		`"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"fp_44709d6fcb"}`
	return []byte(body + strings.Repeat("word ", max(size-len(body)-len(end), 5)/5) + end)
}

func chatEvents(n int) (events []string) {
	const chunk = `data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","system_fingerprint":"fp",` +
		`"choices":[{"index":0,"delta":{%s},"logprobs":null,"finish_reason":%s}]}` + "\n\n"
	events = append(events, fmt.Sprintf(chunk, `"role":"assistant","content":""`, "null"))
	for i := range n - 3 {
		events = append(events, fmt.Sprintf(chunk, fmt.Sprintf(`"content":"word %d "`, i), "null"))
	}
	return append(events, fmt.Sprintf(chunk, "", `"stop"`), "data: [DONE]\n\n")
}

// asked is a client's request that comes again and again.
type asked struct {
	x      exchange.Exchange
	sink   counted
	body   []byte
	reader bytes.Reader
	path   string
}

// fill makes the exchange what an engine makes of a request.
func (a *asked) fill(ctx context.Context) {
	x := &a.x
	a.sink = counted{}
	x.Reset(ctx, &a.sink)
	q := &x.Request
	q.Method, q.Scheme, q.Host, q.Proto, q.Target, q.Path = http.MethodPost, "http", "gw.test:9080", "HTTP/1.1", a.path, a.path
	q.Remote, q.Local = hotRemote, hotLocal
	q.RemoteIP, q.LocalPort = "127.0.0.1", "9080"
	q.HeadBytes = 200
	for _, f := range hotFields {
		q.Header.Add(f.Name, f.Value)
	}
	if a.body != nil {
		a.reader.Reset(a.body)
		q.Body.SetSource(&a.reader, int64(len(a.body)))
	}
}

var (
	hotRemote = netip.MustParseAddrPort("127.0.0.1:40000")
	hotLocal  = netip.MustParseAddrPort("127.0.0.1:9080")
	hotFields = []exchange.Field{
		{Name: "Host", Value: "gw.test:9080"},
		{Name: "User-Agent", Value: "bench/1.0"},
		{Name: "Accept", Value: "*/*"},
		{Name: "Apikey", Value: "secret"},
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Content-Length", Value: "1024"},
	}
)

const chatPath = "/v1/chat/completions"

func (a *asked) serve(t testing.TB, h *hot) {
	a.fill(h.ctx)
	h.gateway.Serve(&a.x)
	if a.sink.status != http.StatusOK {
		t.Fatalf("got %d", a.sink.status)
	}
}

// bare is what an exchange costs below this package: the client's body read, and the same
// request sent by the client of upstreams.
func (a *asked) bare(t testing.TB, h *hot, r *upstream.Request, p []byte) {
	a.fill(h.ctx)
	body, err := a.x.Request.Body.Bytes(0)
	if err != nil {
		t.Fatal(err)
	}
	r.Body[0] = body
	res, err := h.client.Do(h.ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := res.Read(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	_ = res.Close()
}

func bareRequest() *upstream.Request {
	h := &exchange.Header{}
	for _, f := range []exchange.Field{
		{Name: "User-Agent", Value: "bench/1.0"},
		{Name: "Accept", Value: "*/*"},
		{Name: "Authorization", Value: "Bearer sk-a"},
		{Name: "Content-Type", Value: "application/json"},
	} {
		h.Add(f.Name, f.Value)
	}
	const limit = time.Minute
	return &upstream.Request{
		Target: &upstream.Target{Addr: "bare.test:8000"}, Method: "POST", Path: chatPath, Host: "bare.test:8000", Header: h,
		Body: make([][]byte, 1), Timeouts: upstream.Timeouts{Connect: limit, Send: limit, Head: limit, Read: limit},
		Response: new(upstream.Response),
	}
}

var hotCases = []struct {
	name   string
	path   string
	size   int
	events int // 0: the answer is no stream

	objects, bytes float64 // at most, see TestARequestAllocatesLittle
}{
	{"1KB", chatPath, 1 << 10, 0, 1, 500},
	{"16KB", chatPath, 16 << 10, 0, 1, 500},
	{"128KB", chatPath, 128 << 10, 0, 1, 500},
	{"SSE20", chatPath, 1 << 10, 20, 1, 500},
	{"plain", "/plain/x", 1 << 10, 0, 1, 500},
}

func (h *hot) prepare(n int) *asked {
	c := hotCases[n]
	a := &asked{path: c.path, body: chatBody(c.size, c.events > 0)}
	if c.events > 0 {
		h.reply.stream(chatEvents(c.events))
	} else {
		h.reply.whole(chatAnswer(1 << 10))
	}
	return a
}

// BenchmarkServe is a whole request through the gateway; what is under "below" is the part
// of it that is the client's of upstreams and the buffering of the body.
func BenchmarkServe(b *testing.B) {
	for n, c := range hotCases {
		b.Run(c.name, func(b *testing.B) {
			h := newHot(b)
			a := h.prepare(n)
			a.serve(b, h)
			b.ReportAllocs()
			begin := processTime()
			for n := 0; b.Loop(); n++ {
				a.serve(b, h)
				if n%512 == 511 {
					h.log.flush()
				}
			}
			b.ReportMetric(float64(processTime()-begin)/float64(b.N), "cpu-ns/op")
			h.log.flush()
		})
		b.Run("below/"+c.name, func(b *testing.B) {
			h := newHot(b)
			a, r, p := h.prepare(n), bareRequest(), make([]byte, 32<<10)
			b.ReportAllocs()
			begin := processTime()
			for b.Loop() {
				a.bare(b, h, r, p)
			}
			b.ReportMetric(float64(processTime()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processTime is the processor time that the process has had: a busy machine changes it less
// than it does the clock's.
func processTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// What a request allocates between the engine and the client of upstreams, in the steady
// state: a ceiling for each kind, in objects and bytes.
func TestARequestAllocatesLittle(t *testing.T) {
	if racetest.Enabled {
		t.Skip("pools drop things under the race detector")
	}
	for n, c := range hotCases {
		t.Run(c.name, func(t *testing.T) {
			h := newHot(t)
			a, r, p := h.prepare(n), bareRequest(), make([]byte, 32<<10)
			objects, bytes := cost(h, func() { a.serve(t, h) })
			below, belowBytes := cost(h, func() { a.bare(t, h, r, p) })
			if objects -= below; objects > c.objects {
				t.Errorf("got %.2f allocations, want at most %v", objects, c.objects)
			}
			if bytes -= belowBytes; bytes > c.bytes {
				t.Errorf("got %.0f bytes of garbage, want at most %v", bytes, c.bytes)
			}
		})
	}
}

// cost is what f allocates at a time, in objects and bytes, as the heap counts them.
func cost(h *hot, f func()) (objects, bytes float64) {
	const warm, runs = 300, 300 // as many lines of the log as fit into what it keeps
	for range 2 {               // its buffers take turns
		for range warm {
			f()
		}
		h.log.flush()
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	h.log.flush()
	return float64(after.Mallocs-before.Mallocs) / runs, float64(after.TotalAlloc-before.TotalAlloc) / runs
}

// BenchmarkEngine is a whole request from the bytes of it to those of the answer, as BenchmarkServe
// with the engine fast around it; no call of the system is made.
func BenchmarkEngine(b *testing.B) {
	for n, c := range hotCases {
		b.Run(c.name, func(b *testing.B) {
			h := newHot(b)
			a := h.prepare(n)
			e := NewFast(h.gateway, Limits{HeaderRead: time.Minute, BodyRead: time.Minute, Idle: time.Minute, WriteStall: time.Minute}, false, zerolog.Nop())
			client := &h1conn{e: e, sys: nowhere{}, nc: nowhere{}, connection: &connection{
				remote: hotRemote, local: hotLocal, remoteIP: "127.0.0.1", localPort: "9080",
			}}
			request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\n", c.path)
			for _, f := range hotFields {
				if f.Name != "Content-Length" {
					request = fmt.Appendf(request, "%s: %s\r\n", f.Name, f.Value)
				}
			}
			request = append(fmt.Appendf(request, "Content-Length: %d\r\n\r\n", len(a.body)), a.body...)
			b.ReportAllocs()
			begin := processTime()
			for n := 0; b.Loop(); n++ {
				client.comes(request)
				if n%512 == 511 {
					h.log.flush()
				}
			}
			b.ReportMetric(float64(processTime()-begin)/float64(b.N), "cpu-ns/op")
			h.log.flush()
			if h.gateway.Requests() != int64(b.N) {
				b.Errorf("%d requests of %d were served", h.gateway.Requests(), b.N)
			}
		})
	}
}

// comes is what serveHere does with a request that came whole, however long it is.
func (c *h1conn) comes(request []byte) {
	if len(request) > bufferSize {
		c.large = true
	}
	if p := c.room(); len(p) < len(request) {
		c.in = &h1buffer{make([]byte, len(request))}
	}
	c.w = copy(c.in.bytes, request)
	c.settle(&c.reading)
	c.blank()
	if c.beginWhole() {
		c.answer()
	}
	c.rest()
	c.spare()
}

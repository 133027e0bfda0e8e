package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func parsed(t *testing.T, raw string) *Check {
	t.Helper()
	c, err := Parse(json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// at is a checked target at an address.
func at(t *testing.T, addr, check string) Target {
	t.Helper()
	return Target{Server: &upstream.Target{Addr: addr}, Check: parsed(t, check)}
}

// list returns who is down.
func list(g *Group) (down []int) {
	for i := range g.watched {
		if g.Down().Has(i) {
			down = append(down, i)
		}
	}
	return down
}

const passive = `{"active":{},"passive":{"healthy":{"successes":2},"unhealthy":{"http_failures":2,"tcp_failures":1,"timeouts":3}}}`

var errDial = &upstream.Error{Op: upstream.OpConnect, Err: errors.New("no")}

func TestWhatRequestsMeetChangesAState(t *testing.T) {
	late := &upstream.Error{Op: upstream.OpHead, Timeout: true, Err: errors.New("late")}
	garbled := &upstream.Error{Op: upstream.OpHead, Err: upstream.ProtocolError("no HTTP")}
	type met struct {
		status int
		err    error
	}
	tests := map[string]struct {
		met  []met
		down bool
	}{
		"nothing":                               {nil, false},
		"a status that says nothing":            {[]met{{404, nil}, {404, nil}, {404, nil}}, false},
		"one bad status":                        {[]met{{500, nil}}, false},
		"two bad statuses":                      {[]met{{500, nil}, {503, nil}}, true},
		"a success between":                     {[]met{{500, nil}, {200, nil}, {500, nil}}, false},
		"what says nothing between":             {[]met{{500, nil}, {404, nil}, {500, nil}}, true},
		"a failed connection":                   {[]met{{0, errDial}}, true},
		"two timeouts":                          {[]met{{0, late}, {0, late}}, false},
		"three timeouts":                        {[]met{{0, late}, {0, late}, {0, late}}, true},
		"an answer that is none counts as HTTP": {[]met{{0, garbled}, {500, nil}}, true},
		"kinds are counted apart":               {[]met{{0, late}, {500, nil}, {0, late}}, false},
		"one success is not enough":             {[]met{{0, errDial}, {200, nil}}, true},
		"two successes are":                     {[]met{{0, errDial}, {200, nil}, {200, nil}}, false},
		"two that are not in a row are not":     {[]met{{0, errDial}, {200, nil}, {500, nil}, {200, nil}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := NewGroup("x", []Target{{Server: &upstream.Target{Addr: "a:1"}}, at(t, "b:1", passive)}, nil)
			for _, m := range tt.met {
				g.Report(0, m.status, m.err)
				g.Report(1, m.status, m.err)
			}
			if got := g.Down().Has(1); got != tt.down || g.Down().Has(0) {
				t.Errorf("got %v, want %v", list(g), tt.down)
			}
		})
	}
	g := NewGroup("x", []Target{at(t, "a:1", `{"active":{}}`)}, nil)
	g.Report(0, 0, errDial)
	if len(list(g)) != 0 {
		t.Error("requests are listened to without a passive part")
	}
	if NewGroup("x", []Target{{Server: &upstream.Target{Addr: "a:1"}}}, nil) != nil {
		t.Error("got a group of which nothing is checked")
	}
}

func TestAStateOutlivesItsGroup(t *testing.T) {
	other := strings.Replace(passive, `"successes":2`, `"successes":3`, 1)
	first := NewGroup("x", []Target{at(t, "a:1", passive), at(t, "b:1", passive), at(t, "c:1", passive)}, nil)
	for i := range 3 {
		first.Report(i, 0, errDial)
	}
	second := NewGroup("x", []Target{at(t, "c:1", passive), at(t, "new:1", passive), at(t, "b:1", other), at(t, "a:1", passive)}, first)
	if got := fmt.Sprint(list(second)); got != "[0 3]" {
		t.Errorf("got %s down, want the equal ones", got)
	}
	first.Report(0, 200, nil)
	first.Report(0, 200, nil) // a request that began before the change
	if got := fmt.Sprint(list(second)); got != "[0]" {
		t.Errorf("got %s down, want what requests of the old one met", got)
	}
}

// lab is a checker at work.
type lab struct {
	checker *Checker
	log     *logtest.Log
}

func newLab(t *testing.T, change func(*Options)) *lab {
	t.Helper()
	client := upstream.NewClient(upstream.Options{})
	l := &lab{log: &logtest.Log{}}
	o := Options{Client: client, Log: zerolog.New(l.log)}
	if change != nil {
		change(&o)
	}
	l.checker = NewChecker(o)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.checker.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		client.Close()
	})
	return l
}

var eventually = timetest.Until

// fast makes the probes of a check so frequent that tests need not wait.
func fast(t *testing.T, raw string) *Check {
	c := parsed(t, raw)
	if c.active.healthy > 0 {
		c.active.healthy = 20 * time.Millisecond
	}
	if c.active.unhealthy > 0 {
		c.active.unhealthy = 20 * time.Millisecond
	}
	return c
}

const both = `"healthy":{"interval":1,"successes":2},"unhealthy":{"interval":1,"http_failures":2,"tcp_failures":2,"timeouts":2}`

func TestProbesChangeAState(t *testing.T) {
	var status atomic.Int64
	var seen atomic.Pointer[http.Request]
	var body atomic.Pointer[string]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, _ := io.ReadAll(q.Body)
		said := string(text)
		body.Store(&said)
		seen.Store(q)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(s.Close)
	status.Store(200)
	addr := strings.TrimPrefix(s.URL, "http://")
	l := newLab(t, nil)
	target := Target{
		Server: &upstream.Target{Addr: addr}, Host: "name.example:8080",
		Check:  fast(t, `{"active":{"timeout":30,"http_path":"/up?a=b","http_method":"POST","http_req_body":"ping","req_headers":["User-Agent: probe","X-Mine:1","Content-Length: 99"],`+both+`}}`),
		Header: []exchange.Field{{Name: "Authorization", Value: "Bearer k"}, {Name: "X-Mine", Value: "1"}}, Query: "key=v",
	}
	g := NewGroup("/apisix/upstreams/1", []Target{target}, nil)
	g.Use(l.checker)
	g.Use(l.checker)
	eventually(t, "a probe", func() bool { return seen.Load() != nil })
	q := seen.Load()
	if q.Method != "POST" || q.RequestURI != "/up?a=b&key=v" || q.Host != "name.example:8080" || *body.Load() != "ping" ||
		q.UserAgent() != "probe" || q.Header.Get("Authorization") != "Bearer k" || len(q.Header.Values("X-Mine")) != 1 {
		t.Errorf("got %s %s to %s with %v and %q", q.Method, q.RequestURI, q.Host, q.Header, *body.Load())
	}
	status.Store(500)
	eventually(t, "it goes down", func() bool { return g.Down().Has(0) })
	status.Store(302)
	eventually(t, "it comes up", func() bool { return !g.Down().Has(0) })
	for _, want := range []string{
		fmt.Sprintf("(upstream#/apisix/upstreams/1) unhealthy HTTP increment (1/2) for '127.0.0.1(%s)'", addr),
		fmt.Sprintf("(upstream#/apisix/upstreams/1) unhealthy HTTP increment (2/2) for '127.0.0.1(%s)'", addr),
		"healthy SUCCESS increment (2/2)",
	} {
		if !strings.Contains(l.log.String(), want) {
			t.Errorf("got log %s\nwant %s", l.log, want)
		}
	}
}

func TestWhatAProbeMeets(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(plain.Config.Handler)
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }))
	t.Cleanup(silent.Close)
	garbled, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := garbled.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Write([]byte("hello\r\n\r\n"))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = garbled.Close(); <-done })
	const nobody = "127.0.0.1:1" // a port that no system gives away, as it may do with one that was closed
	host := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	_, port, _ := net.SplitHostPort(host(plain.URL))
	tests := map[string]struct {
		addr, check string
		want        outcome
	}{
		"good":                        {host(plain.URL), `{"active":{}}`, success},
		"a status that says nothing":  {host(plain.URL), `{"active":{"healthy":{"http_statuses":[204]}}}`, nothing},
		"a bad status":                {host(plain.URL), `{"active":{"healthy":{"http_statuses":[204]},"unhealthy":{"http_statuses":[200]}}}`, httpFailure},
		"another port":                {"127.0.0.1:1", `{"active":{"port":` + port + `}}`, success},
		"nobody":                      {nobody, `{"active":{}}`, tcpFailure},
		"silence":                     {host(silent.URL), `{"active":{"timeout":0.05}}`, timeout},
		"no HTTP":                     {garbled.Addr().String(), `{"active":{}}`, httpFailure},
		"tcp":                         {host(silent.URL), `{"active":{"type":"tcp"}}`, success},
		"tcp to nobody":               {nobody, `{"active":{"type":"tcp"}}`, tcpFailure},
		"https":                       {host(secure.URL), `{"active":{"type":"https","https_verify_certificate":false}}`, success},
		"https that nobody vouches":   {host(secure.URL), `{"active":{"type":"https"}}`, tcpFailure},
		"https that is not":           {host(plain.URL), `{"active":{"type":"https"}}`, tcpFailure},
		"letter case is not forgiven": {host(plain.URL), `{"active":{"Type":"tcp","HTTP_PATH":"/x"}}`, success},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			target := at(t, tt.addr, tt.check)
			if tt.want != timeout {
				target.Check.active.timeout = timetest.Patience
			}
			w := newWatched("x", &target)
			if got := l.checker.probe(t.Context(), w, (*w.endpoints.Load())[0]); got != tt.want {
				t.Errorf("got %s, want %s", outcomeWords[got], outcomeWords[tt.want])
			}
		})
	}
}

func TestAnAbsentStateIsNotProbed(t *testing.T) {
	c := parsed(t, `{"active":{"unhealthy":{"interval":2}}}`)
	e := &endpoint{}
	if c.active.every(e) != 0 {
		t.Error("a healthy one is probed")
	}
	if e.down.Store(true); c.active.every(e) != 2*time.Second {
		t.Error("an unhealthy one is not probed")
	}
}

// A name stands for all its addresses, and is healthy when one of them is.
func TestNamesAreResolved(t *testing.T) {
	l1, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l1.Close() })
	_, port, _ := net.SplitHostPort(l1.Addr().String())
	var mu sync.Mutex
	addrs, failing := []string{"127.0.0.1", "127.0.0.2"}, false
	dead := map[string]bool{"127.0.0.2": true}
	set := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }
	l := newLab(t, func(o *Options) {
		o.Lookup = func(context.Context, string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			if failing {
				return nil, errors.New("no answer")
			}
			return append([]string(nil), addrs...), nil
		}
		o.Dial = func(_ context.Context, _, addr string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			host, _, _ := net.SplitHostPort(addr)
			if dead[host] {
				return nil, errors.New("refused")
			}
			a, b := net.Pipe()
			_ = b.Close()
			return a, nil
		}
	})
	server := &upstream.Target{Addr: "model.example:" + port, SNI: "model.example"}
	g := NewGroup("x", []Target{{Server: server, Resolve: true, Check: fast(t, `{"active":{"type":"tcp",`+both+`}}`)}}, nil)
	if g.Server(0) != nil {
		t.Error("an address is chosen before any is known")
	}
	g.Use(l.checker)
	only := func(want string) func() bool {
		return func() bool {
			for range 30 {
				if s := g.Server(0); s == nil || s.Addr != want+":"+port || s.SNI != "model.example" {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "only the live address is chosen", only("127.0.0.1"))
	if g.Down().Has(0) {
		t.Error("it is down while one address is not")
	}
	set(func() { dead["127.0.0.1"] = true })
	eventually(t, "it is down when all are", func() bool { return g.Down().Has(0) && g.Server(0) == nil })
	set(func() { dead["127.0.0.2"] = false })
	eventually(t, "the other is chosen", only("127.0.0.2"))
	set(func() { failing = true })
	eventually(t, "the resolver's failure is logged", func() bool { return strings.Contains(l.log.String(), "dns resolver domain: model.example error") })
	if !only("127.0.0.2")() {
		t.Error("the addresses of before are gone with the resolver")
	}
	set(func() { failing, addrs = false, []string{"127.0.0.3"} })
	eventually(t, "a new address is chosen", only("127.0.0.3"))
}

func TestWhatNoConfigurationHasIsNoLongerProbed(t *testing.T) {
	var probes atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { probes.Add(1) }))
	t.Cleanup(s.Close)
	l := newLab(t, nil)
	addr := strings.TrimPrefix(s.URL, "http://")
	first := NewGroup("x", []Target{{Server: &upstream.Target{Addr: addr}, Check: fast(t, `{"active":{`+both+`}}`)}}, nil)
	first.Use(l.checker)
	eventually(t, "probes", func() bool { return probes.Load() > 2 })
	quiet := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			runtime.GC()
			before := probes.Load()
			<-time.After(200 * time.Millisecond)
			return probes.Load() == before
		})
	}
	second := NewGroup("x", []Target{at(t, "127.0.0.1:1", `{"active":{}}`)}, first)
	second.Use(l.checker)
	quiet("a target that the next configuration lacks is left alone")
	third := NewGroup("x", []Target{{Server: &upstream.Target{Addr: addr}, Check: fast(t, `{"active":{`+both+`}}`)}}, second)
	third.Use(l.checker)
	begun := probes.Load()
	eventually(t, "probes again", func() bool { return probes.Load() > begun+2 })
	runtime.KeepAlive(first)
	runtime.KeepAlive(third)
	quiet("a group that nobody holds is left alone") // third is not used from here on
}

func TestManyChangesLeaveNothingBehind(t *testing.T) {
	l := newLab(t, nil)
	var g *Group
	for n := range 1000 {
		g = NewGroup("x", []Target{{Server: &upstream.Target{Addr: fmt.Sprintf("127.0.0.1:%d", 1+n%7)}, Check: fast(t, `{"active":{`+both+`}}`)}}, g)
		g.Use(l.checker)
		g.Down()
	}
	eventually(t, "no goroutine is left but the checker's and its probes'", func() bool { return runtime.NumGoroutine() < 100 })
}

func BenchmarkDown(b *testing.B) {
	targets := make([]Target, 20)
	for i := range targets {
		c, err := Parse(json.RawMessage(passive))
		if err != nil {
			b.Fatal(err)
		}
		targets[i] = Target{Server: &upstream.Target{Addr: fmt.Sprintf("a:%d", i)}, Check: c}
	}
	g := NewGroup("x", targets, nil)
	g.Report(3, 0, errDial)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if g.Down().Len() != 1 {
				b.Error("not one")
			}
		}
	})
}

func TestWhatIsWatchedIsTold(t *testing.T) {
	l := newLab(t, func(o *Options) {
		o.Lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.0.2", "127.0.0.3"}, nil }
	})
	told := func() string {
		var all []string
		l.checker.Each(func(name, host, port string, healthy bool) {
			all = append(all, fmt.Sprintf("%s %s %s %v", name, host, port, healthy))
		})
		return strings.Join(all, "; ")
	}
	const passiveOnly = `{"active":{"healthy":{"interval":0},"unhealthy":{"interval":0}},"passive":{"unhealthy":{"tcp_failures":1}}}`
	first := NewGroup("/x/1", []Target{at(t, "127.0.0.1:1", passiveOnly), {Server: &upstream.Target{Addr: "10.0.0.9:9"}}, at(t, "[::1]:2", passiveOnly)}, nil)
	if got := told(); got != "" {
		t.Errorf("before the first request: %s", got)
	}
	first.Use(l.checker)
	eventually(t, "both that are checked are told", func() bool { return told() == "/x/1 ::1 2 true; /x/1 127.0.0.1 1 true" })
	first.Report(0, 0, errDial)
	if got := told(); got != "/x/1 ::1 2 true; /x/1 127.0.0.1 1 false" {
		t.Errorf("with one down: %s", got)
	}
	named := Target{Server: &upstream.Target{Addr: "name.test:3"}, Resolve: true, Check: fast(t, `{"active":{"type":"tcp",`+both+`}}`)}
	second := NewGroup("/x/1", []Target{named}, first)
	second.Use(l.checker)
	eventually(t, "only what the next group has is told, by its addresses", func() bool {
		return strings.HasPrefix(told(), "/x/1 127.0.0.2 3 ") && strings.Contains(told(), "; /x/1 127.0.0.3 3 ") && !strings.Contains(told(), " 1 ")
	})
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// recorder is a plugin that notes the phases it runs in, and does what it is told.
func recorder(name string, priority int, seen *trace) plugin.Definition {
	return plugin.Definition{
		Name: name, Version: "1", Priority: priority, Schema: []byte(`{"type":"object"}`),
		New: func(b *plugin.Build) (plugin.Phases, error) {
			var c struct {
				Exit  string // phase in which to answer
				Code  int
				Panic string
			}
			if err := json.Unmarshal(b.Conf, &c); err != nil {
				return plugin.Phases{}, err
			}
			at := func(phase string) func(*plugin.Context) error {
				return func(*plugin.Context) error {
					seen.add(name + " " + phase)
					if c.Panic == phase {
						panic("told to")
					}
					if c.Exit == phase {
						return plugin.Exit(c.Code, map[string]string{"from": name})
					}
					return nil
				}
			}
			return plugin.Phases{
				Rewrite: at("rewrite"), Access: at("access"), BeforeProxy: at("before_proxy"),
				HeaderFilter: func(x *plugin.Context) {
					seen.add(name + " header_filter")
					x.Response.Header.Add("X-Seen", name)
				},
				Log: func(*plugin.Context) { seen.add(name + " log") },
			}, nil
		},
	}
}

type trace struct {
	mu   sync.Mutex
	list []string
}

func (t *trace) add(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, s)
}

func (t *trace) take() (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, t.list = t.list, nil
	return list
}

// world is a gateway over a store in memory.
type world struct {
	t       testing.TB
	store   *memstore.Store
	syncer  *route.Syncer
	seen    *trace
	log     *AccessLog
	lines   *bytes.Buffer
	engine  Engine
	gateway *Gateway
	served  chan struct{}   // closed when the engine accepts no more
	clients *http.Transport // of its own: another world's would know connections to a port that was another's
	url     string
}

func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	return newLimitedWorld(t, Limits{URIBytes: 200, HeaderFields: 30, HeaderBytes: 8 << 10}, change)
}

func newLimitedWorld(t testing.TB, limits Limits, change func(*Options)) *world {
	t.Helper()
	return newWorldWith(t, limits, change, nil)
}

// newWorldWith returns a world with further plugins.
func newWorldWith(t testing.TB, limits Limits, change func(*Options), more func(*upstream.Client, *balancer.Cache) []plugin.Definition) *world {
	t.Helper()
	_ = os.Getenv(engineVariable) // go test would take the outcome of another engine for this one's
	w := &world{t: t, store: memstore.New(), seen: &trace{}, lines: &bytes.Buffer{}, clients: &http.Transport{}}
	t.Cleanup(func() { _ = w.store.Close() })
	definitions := []plugin.Definition{recorder("early", 100, w.seen), recorder("late", 50, w.seen), clumsy()}
	client, pickers := upstream.NewClient(upstream.Options{}), balancer.NewCache(0)
	if more != nil {
		definitions = append(definitions, more(client, pickers)...)
	}
	registry := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, definitions...)
	checker := health.NewChecker(health.Options{Client: client, Log: zerolog.Nop()})
	w.syncer = route.NewSyncer(w.store, route.Env{
		Registry: registry, Prefix: "/apisix", Router: route.HostURI, Pickers: pickers, Health: checker, Log: zerolog.Nop(),
	}, zerolog.Nop())
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.syncer.Run(ctx) })
	running.Go(func() { checker.Run(ctx) })
	var err error
	if w.log, err = NewAccessLog("", w.lines, "$request_method $uri $status $upstream_status", false); err != nil {
		t.Fatal(err)
	}
	o := Options{Server: "gosix/test", Log: zerolog.Nop(), Client: client, Router: w.syncer.Router(), AccessLog: w.log}
	if change != nil {
		change(&o)
	}
	w.gateway, w.log = New(o), o.AccessLog
	engine := NewEngine(engineUnderTest, w.gateway, limits, true, zerolog.Nop())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.engine, w.served = engine, make(chan struct{})
	running.Go(func() {
		defer close(w.served)
		_ = engine.Serve(l, nil)
	})
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		w.clients.CloseIdleConnections()
		_ = engine.Shutdown(over)
		client.Close()
		stop()
		running.Wait()
	})
	<-w.syncer.Ready()
	w.url = "http://" + l.Addr().String()
	return w
}

func (w *world) put(key, value string) {
	w.t.Helper()
	res, err := w.store.Commit(w.t.Context(), nil, []store.Op{{Key: "/apisix/" + key, Value: []byte(value)}})
	if err != nil {
		w.t.Fatal(err)
	}
	timetest.Until(w.t, "the change is applied", func() bool { return w.syncer.Router().Snapshot().Revision() >= res.Revision })
	if list := w.syncer.Router().Snapshot().Rejected(); len(list) > 0 {
		w.t.Logf("rejected: %+v", list)
	}
}

// logs waits for a line of the access log with that text.
func (w *world) logs(text string) {
	w.t.Helper()
	for end := time.Now().Add(timetest.Patience); ; {
		w.log.flush()
		if strings.Contains(w.lines.String(), text) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("the log says %q, want %q", w.lines, text)
		}
		<-time.After(time.Millisecond)
	}
}

func (w *world) do(method, path, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := w.clients.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(res.Body)
	return res, string(text)
}

func backend(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func nodes(list ...string) string {
	m := map[string]int{}
	for _, n := range list {
		m[n] = 1
	}
	raw, _ := json.Marshal(m)
	return `{"type":"roundrobin","nodes":` + string(raw) + `}`
}

func TestPhasesRunInOrder(t *testing.T) {
	w := newWorld(t, nil)
	up := backend(t, hello)
	w.put("global_rules/1", `{"id":"1","plugins":{"late":{}}}`)
	w.put("routes/1", `{"uri":"/a","plugins":{"late":{},"early":{}},"upstream":`+nodes(up)+`}`)
	tests := map[string]struct {
		conf string
		want []string
	}{
		"a whole request": {`{"late":{},"early":{}}`, []string{
			"late rewrite", "early rewrite", "late rewrite", "late access", "early access", "late access",
			"late before_proxy", "early before_proxy", "late before_proxy",
			"late header_filter", "early header_filter", "late header_filter", "late log", "early log", "late log",
		}},
		"an answer in rewrite skips what follows but the response phases": {`{"late":{},"early":{"Exit":"rewrite","Code":403}}`, []string{
			"late rewrite", "early rewrite", "late header_filter", "early header_filter", "late header_filter", "late log", "early log", "late log",
		}},
		"a priority of one's own": {`{"late":{"_meta":{"priority":200}},"early":{"Exit":"rewrite","Code":403}}`, []string{
			"late rewrite", "late rewrite", "early rewrite",
			"late header_filter", "late header_filter", "early header_filter", "late log", "late log", "early log",
		}},
		"a disabled plugin": {`{"late":{"_meta":{"disable":true}},"early":{"Exit":"access","Code":403}}`, []string{
			"late rewrite", "early rewrite", "late access", "early access", "late header_filter", "early header_filter", "late log", "early log",
		}},
		"a filter that does not hold": {`{"late":{},"early":{"_meta":{"filter":[["arg_x","==","1"]]}}}`, []string{
			"late rewrite", "late rewrite", "late access", "late access", "late before_proxy", "late before_proxy",
			"late header_filter", "late header_filter", "late log", "late log",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w.put("routes/1", `{"uri":"/a","plugins":`+tt.conf+`,"upstream":`+nodes(up)+`}`)
			w.seen.take()
			w.do("GET", "/a", "")
			for end := time.Now().Add(timetest.Patience); time.Now().Before(end); { // the log phase comes after the answer
				w.seen.mu.Lock()
				n := len(w.seen.list)
				w.seen.mu.Unlock()
				if n >= len(tt.want) {
					break
				}
				<-time.After(time.Millisecond)
			}
			if diff := cmp.Diff(tt.want, w.seen.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("no route runs the global rules alone", func(t *testing.T) {
		res, body := w.do("GET", "/none", "")
		if res.StatusCode != 404 || body != "{\"error_msg\":\"404 Route Not Found\"}\n" || res.Header.Get("X-Seen") != "late" {
			t.Errorf("got %d %q %v", res.StatusCode, body, res.Header)
		}
	})
}

func TestAnswersOfTheGateway(t *testing.T) {
	w := newWorld(t, nil)
	up := backend(t, hello)
	w.put("routes/panic", `{"uri":"/panic","plugins":{"early":{"Panic":"access"}},"upstream":`+nodes(up)+`}`)
	w.put("routes/exit", `{"uri":"/exit","plugins":{"early":{"Exit":"access","Code":418,"_meta":{"error_response":{"own":"words"}}}}}`)
	w.put("routes/none", `{"uri":"/none","plugins":{}}`)
	w.put("routes/refused", `{"uri":"/refused","upstream":`+nodes(refusing)+`}`)
	w.put("routes/retry", `{"uri":"/retry","upstream":`+nodes(refusing, up)+`}`)
	w.put("routes/unknown", `{"uri":"/unknown","plugins":{"of-tomorrow":{}},"upstream":`+nodes(up)+`}`)
	w.put("routes/type", `{"uri":"/type","upstream":{"type":"dice","nodes":{"`+up+`":1,"`+refusing+`":1}}}`)
	w.put("routes/missing", `{"uri":"/missing","upstream_id":"x"}`)
	w.put("routes/ok", `{"uri":"/ok*","upstream":`+nodes(up)+`}`)
	tests := map[string]struct {
		method, path string
		header       []string
		want         int
		body         string
		upstream     string // X-APISIX-Upstream-Status
	}{
		"a panic is a 500 of that request":            {path: "/panic", want: 500, body: "<title>500 Internal Server Error</title>"},
		"error_response replaces a plugin's body":     {path: "/exit", want: 418, body: "{\"own\":\"words\"}\n"},
		"a route without an upstream":                 {path: "/none", want: 503, body: "<title>503 Service Temporarily Unavailable</title>"},
		"nobody listens":                              {path: "/refused", want: 502, body: "<title>502 Bad Gateway</title>", upstream: "502"},
		"another node is tried":                       {path: "/retry", want: 200, body: "hello"},
		"a plugin that this node does not have":       {path: "/unknown", want: 503},
		"a balancer that does not exist":              {path: "/type", want: 500},
		"an upstream id that does not exist":          {path: "/missing", want: 502},
		"CONNECT and TRACE are not for us":            {method: "TRACE", path: "/ok", want: 405},
		"a path above the root":                       {path: "/../ok", want: 400},
		"a URL that is too long":                      {path: "/ok" + strings.Repeat("x", 250), want: 414},
		"more header fields than allowed":             {path: "/ok", header: many(40), want: 431},
		"an answer":                                   {path: "/ok", want: 200, body: "hello"},
		"an answer again, after all of the above too": {path: "/ok2", want: 200, body: "hello"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = "GET"
			}
			res, body := w.do(tt.method, tt.path, "", tt.header...)
			if res.StatusCode != tt.want || !strings.Contains(body, tt.body) {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, body, tt.want, tt.body)
			}
			if got := res.Header.Get("X-APISIX-Upstream-Status"); got != tt.upstream {
				t.Errorf("X-APISIX-Upstream-Status is %q, want %q", got, tt.upstream)
			}
			if got := res.Header.Get("Server"); got != "gosix/test" {
				t.Errorf("Server is %q", got)
			}
		})
	}
}

func many(n int) (header []string) {
	for i := range n {
		header = append(header, fmt.Sprintf("X-%d", i), "v")
	}
	return header
}

func TestWhatTheUpstreamIsTold(t *testing.T) {
	var got *http.Request
	var body string
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, body = r, string(raw)
		w.Header().Set("Server", "theirs")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "1")
	})
	client := []string{"X-Forwarded-For", "1.1.1.1", "X-Forwarded-Proto", "https", "Connection", "X-Hop", "X-Hop", "1", "X_Consumer_Username", "liar", "X_Other", "1"}
	tests := map[string]struct {
		change func(*Options)
		extra  string // members of the upstream
		want   map[string]string
		host   string
	}{
		"by default": {nil, "", map[string]string{
			"X-Forwarded-For": "1.1.1.1, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Real-Ip": "127.0.0.1", "X-Hop": "",
			"X_consumer_username": "", "X_other": "1", "Accept-Encoding": "x",
		}, "client.test:81"},
		"of a peer that is trusted": {func(o *Options) {
			o.TrustedSet, o.Trusted = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}, "", map[string]string{"X-Forwarded-For": "1.1.1.1, 127.0.0.1", "X-Forwarded-Proto": "https"}, "client.test:81"},
		"of a peer that is not": {func(o *Options) { o.TrustedSet = true }, "", map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
		}, "client.test:81"},
		"with another host":   {nil, `,"pass_host":"rewrite","upstream_host":"else.test"`, nil, "else.test"},
		"with the node's own": {nil, `,"pass_host":"node"`, nil, up},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.change)
			w.put("routes/1", `{"uri":"/*","upstream":`+strings.TrimSuffix(nodes(up), "}")+tt.extra+`}}`)
			req, err := http.NewRequest("POST", w.url+"/a/./b//c?x=%20", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "client.test:81"
			req.Header.Set("Accept-Encoding", "x")
			for i := 0; i < len(client); i += 2 {
				req.Header[client[i]] = append(req.Header[client[i]], client[i+1])
			}
			res, err := w.clients.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			for name, want := range tt.want {
				if v := strings.Join(got.Header[http.CanonicalHeaderKey(name)], ", "); v != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
			if got.Host != tt.host || got.RequestURI != "/a/./b//c?x=%20" || body != "body" {
				t.Errorf("host %q, target %q, body %q", got.Host, got.RequestURI, body)
			}
			if len(res.Header["Set-Cookie"]) != 2 || res.Header.Get("X-Private") != "" || res.Header.Get("Server") != "gosix/test" {
				t.Errorf("the client got %v", res.Header)
			}
		})
	}
}

func TestACutAnswerIsBroken(t *testing.T) {
	w := newWorld(t, nil)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "12345")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	w.put("routes/1", `{"uri":"/cut","upstream":`+nodes(up)+`}`)
	res, err := http.Get(w.url + "/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, err := io.ReadAll(res.Body); err == nil || string(text) != "12345" {
		t.Errorf("got %q, %v", text, err)
	}
}

// A client of HTTP/1.0 knows the end of an answer without a length by that of the connection.
func TestACutAnswerIsBrokenForClientsOfHTTP10(t *testing.T) {
	w := newWorld(t, nil)
	authority := certtest.NewAuthority(t, "one")
	w.put("ssls/1", ssl(t, authority, nil, "a.test"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Cert)
	secure := w.secure(TLS{})
	for name, dial := range map[string]func() (net.Conn, error){
		"plain": func() (net.Conn, error) { return net.Dial("tcp", strings.TrimPrefix(w.url, "http://")) },
		"TLS": func() (net.Conn, error) {
			return tls.Dial("tcp", secure, &tls.Config{ServerName: "a.test", RootCAs: roots})
		},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan struct{})
			up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "12345")
				w.(http.Flusher).Flush()
				<-heard
				panic(http.ErrAbortHandler)
			})
			w.put("routes/1", `{"uri":"/cut","upstream":`+nodes(up)+`}`)
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "GET /cut HTTP/1.0\r\nHost: a.test\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			got := make([]byte, 5)
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "12345" {
				t.Fatalf("got %q, %v", got, err)
			}
			close(heard)
			if rest, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("the answer ended well after %q", rest)
			}
		})
	}
}

func TestAPlainPostIsNeverSentTwice(t *testing.T) {
	w := newWorld(t, nil)
	calls := &trace{}
	dying := func(w http.ResponseWriter, r *http.Request) {
		calls.add(r.Method)
		panic(http.ErrAbortHandler)
	}
	a, b := backend(t, dying), backend(t, dying)
	w.put("routes/1", `{"uri":"/x","upstream":`+nodes(a, b)+`}`)
	if res, _ := w.do("POST", "/x", "body"); res.StatusCode != 502 {
		t.Errorf("got %d", res.StatusCode)
	}
	if got := calls.take(); len(got) != 1 {
		t.Errorf("POST reached servers %d times", len(got))
	}
	if res, _ := w.do("GET", "/x", ""); res.StatusCode != 502 {
		t.Errorf("got %d", res.StatusCode)
	}
	if got := calls.take(); len(got) != 2 {
		t.Errorf("GET reached servers %d times, want 2", len(got))
	}
}

func TestUpgrade(t *testing.T) {
	w := newWorld(t, nil)
	up := backend(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			http.Error(rw, "no upgrade", 400)
			return
		}
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := buf.ReadString('\n')
		_, _ = io.WriteString(conn, "echo "+line)
	})
	w.put("routes/1", `{"uri":"/ws","enable_websocket":true,"upstream":`+nodes(up)+`}`)
	w.put("routes/2", `{"uri":"/plain","upstream":`+nodes(up)+`}`)
	talk := func(path string) string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(timetest.Patience))
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 101 {
			return res.Status
		}
		_, _ = io.WriteString(conn, "hi\n")
		line, _ := r.ReadString('\n')
		return line
	}
	if got := talk("/ws"); got != "echo hi\n" {
		t.Errorf("got %q", got)
	}
	if got := talk("/plain"); got != "400 Bad Request" {
		t.Errorf("without enable_websocket: got %q", got)
	}
}

func TestHTTP2WithPriorKnowledge(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/x","upstream":`+nodes(backend(t, hello))+`}`)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &p}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(w.url + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); res.ProtoMajor != 2 || string(body) != "hello" {
		t.Errorf("got %s %q", res.Proto, body)
	}
}

func TestAClientThatLeavesIsLoggedAs499(t *testing.T) {
	w := newWorld(t, nil)
	entered := make(chan struct{})
	left := make(chan struct{})
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})
	w.put("routes/1", `{"uri":"/slow","upstream":`+nodes(up)+`}`)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-entered
		cancel()
	}()
	if _, err := w.clients.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-left // the upstream's request ended as well
	w.logs("GET /slow 499 ")
}

func TestTheLogSaysWhyTheGatewayAnswered(t *testing.T) {
	var log logtest.Log
	w := newWorld(t, func(o *Options) {
		o.Log, o.ServletPaths, o.GraphQLLimit = zerolog.New(&log), true, 20
	})
	w.put("routes/none", `{"uri":"/none","plugins":{}}`)
	w.put("routes/empty", `{"uri":"/empty","upstream":{"type":"roundrobin","nodes":{}}}`)
	w.put("routes/arg", `{"uri":"/arg","plugins":{},"vars":[["post_arg.a","==","1"]]}`)
	w.put("routes/graphql", `{"uri":"/graphql","plugins":{},"vars":[["graphql_name","==","a"]]}`)
	for _, tt := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"no upstream", "/none", "", 503, "missing upstream configuration in Route or Service"},
		{"an upstream without nodes", "/empty", "", 503, "no valid upstream node"},
		{"a path above the root", "/../..", "", 400, "path is malformed or leads above its root"},
		{"a dot segment with parameters", "/a/..;/b", "", 400, "failed to normalize"},
		{"a body that no variable can read", "/arg", "text", 404, "unsupported content-type: text/plain"},
		{"a body above the limit of GraphQL", "/graphql", strings.Repeat("{", 21), 404, "failed to read graphql data, request size 21 is greater"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body := w.do("POST", tt.path, tt.body, "Content-Type", "text/plain")
			if res.StatusCode != tt.status {
				t.Errorf("got %d %s, want %d", res.StatusCode, body, tt.status)
			}
			timetest.Until(t, fmt.Sprintf("the log says %q", tt.want), func() bool { return strings.Contains(log.String(), tt.want) })
		})
	}
}

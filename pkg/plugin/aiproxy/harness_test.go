package aiproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/bedrock"
	"github.com/gosix/gosix/pkg/drivers/gcp"
	"github.com/gosix/gosix/pkg/drivers/google"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/keyauth"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
	"github.com/gosix/gosix/t/fakellm"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// rig is what stands around the plugins in a program.
type rig struct {
	t        *testing.T
	registry *plugin.Registry
	log      *logtest.Log
	clock    *timetest.Clock
	checker  *health.Checker
	account  string // the program's service account
	metrics  *prometheus.Metrics
	level    zerolog.Level // of the log of requests; the zero value is debug
}

func allDrivers() *drivers.Set {
	return drivers.NewSet(openai.Providers(), google.Providers(), bedrock.Providers())
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, "")
}

func newRigWith(t *testing.T, account string) *rig {
	t.Helper()
	return newRigOf(t, allDrivers(), account)
}

func newRigOf(t *testing.T, set *drivers.Set, account string) *rig {
	t.Helper()
	client := upstream.NewClient(upstream.Options{})
	t.Cleanup(client.Close)
	r := &rig{t: t, log: &logtest.Log{}, account: account, clock: timetest.NewClock(epoch.Add(time.Hour))}
	tokens := gcp.NewSource(gcp.Options{Client: client, Default: r.account, Log: zerolog.New(r.log)})
	t.Cleanup(tokens.Close)
	r.checker = health.NewChecker(health.Options{Client: client, Log: zerolog.New(r.log)})
	d := Deps{Client: client, Drivers: set, Pickers: balancer.NewCache(0), Tokens: tokens, Health: r.checker}
	var err error
	if r.metrics, err = prometheus.New(nil); err != nil {
		t.Fatal(err)
	}
	settings := plugin.Settings{Log: zerolog.New(r.log), Clock: r.clock}
	r.registry = plugin.NewRegistry(settings, keyauth.Definition(), Multi(d), Single(d), prometheus.Definition(r.metrics))
	return r
}

// route compiles plugin configurations, name by name, to a chain.
func (r *rig) route(nameAndConf ...string) *plugin.Chain {
	r.t.Helper()
	return r.routeAfter(nil, nameAndConf...)
}

func (r *rig) routeAfter(prev *plugin.Chain, nameAndConf ...string) *plugin.Chain {
	r.t.Helper()
	var all []*plugin.Compiled
	for n := 0; n < len(nameAndConf); n += 2 {
		source := plugin.Source{Name: nameAndConf[n], Conf: []byte(nameAndConf[n+1]), Parent: plugin.Ref{Kind: "routes", ID: "1"}}
		c, err := r.registry.Compile(source, plugin.Labels{RouteID: "1"}, nil, prev)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, c)
	}
	return plugin.NewChain(all)
}

// sink records an answer. Each flush closes a piece.
type sink struct {
	mu      sync.Mutex
	status  int
	header  exchange.Header
	pieces  []string
	open    string
	aborted bool
	flushed chan struct{} // receives a value for every flush; nil: nobody waits
	broken  bool          // the client is gone: writing fails
}

func (s *sink) WriteHead(status int, h *exchange.Header, _ int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
	for _, f := range h.Fields() {
		s.header.Add(f.Name, f.Value)
	}
	return nil
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return 0, errors.New("client is gone")
	}
	s.open += string(p)
	return len(p), nil
}

func (s *sink) Flush() error {
	s.mu.Lock()
	if s.open != "" {
		s.pieces = append(s.pieces, s.open)
		s.open = ""
	}
	s.mu.Unlock()
	if s.flushed != nil {
		s.flushed <- struct{}{}
	}
	return nil
}

func (s *sink) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
}

func (s *sink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("not here")
}

func (s *sink) body() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.pieces, "") + s.open
}

// request is a client's; the zero value asks for a chat.
type request struct {
	method, uri, body string
	header            []string // names and values
	consumer          string
	ctx               context.Context
	sink              *sink
}

// address is the client's. Between openai with weight 4 and deepseek with 1 it falls to
// deepseek, while an empty text falls to openai.
const address = "127.0.0.2"

const hello = `{"model":"mine","messages":[{"role":"user","content":"hello"}]}`

// ask runs a request through a chain as a gateway does.
func (r *rig) ask(chain *plugin.Chain, q request) (*sink, *plugin.Context) {
	r.t.Helper()
	if q.ctx == nil {
		q.ctx = context.Background()
	}
	if q.sink == nil {
		q.sink = &sink{}
	}
	if q.uri == "" {
		q.uri = "/v1/chat/completions"
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	u, err := url.ParseRequestURI(q.uri)
	if err != nil {
		r.t.Fatal(err)
	}
	x := &exchange.Exchange{}
	x.Reset(q.ctx, q.sink)
	x.Request.Method, x.Request.Target, x.Request.Path, x.Request.RawQuery = q.method, q.uri, u.Path, u.RawQuery
	x.Request.Remote = netip.MustParseAddrPort(address + ":4000")
	for n := 0; n < len(q.header); n += 2 {
		x.Request.Header.Add(q.header[n], q.header[n+1])
	}
	x.Request.Body.SetSource(strings.NewReader(q.body), int64(len(q.body)))
	c := &plugin.Context{}
	c.Begin(x, nil, nil, zerolog.New(r.log).Level(r.level))
	c.SetRoute(chain, plugin.Labels{RouteID: "1"})
	if q.consumer != "" {
		c.Attach(&plugin.Identity{Consumer: &plugin.Consumer{Name: q.consumer}})
	}
	if !chain.Run(c, plugin.Rewrite) && !chain.Run(c, plugin.Access) {
		chain.Run(c, plugin.BeforeProxy)
	}
	c.RunLog()
	return q.sink, c
}

// provider starts a fake provider and returns its address, host and port.
func provider(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func fake(t *testing.T, name string) (*fakellm.Server, string) {
	t.Helper()
	llm := fakellm.New(name)
	return llm, provider(t, llm)
}

// connections starts a server that hands every connection to each, one after the other, and
// then closes it.
func connections(t *testing.T, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			each(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// raw starts a server that answers every request with these bytes and closes.
func raw(t *testing.T, answer string) string {
	t.Helper()
	return connections(t, func(c net.Conn) {
		// What is left unread would make the close a reset, which may take the answer with it.
		if q, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = c.Write([]byte(answer))
		}
	})
}

// dead is an address where nobody listens: its port is none that a system gives away, as it may
// do with one that was closed.
const dead = "127.0.0.1:1"

// single is a configuration of ai-proxy for a server that speaks like OpenAI.
func single(addr, more string) string {
	return fmt.Sprintf(`{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer own"}},"override":{"endpoint":"http://%s"}%s}`, addr, more)
}

// member is an entry of instances.
func member(name, addr, more string) string {
	return fmt.Sprintf(`{"name":%q,"provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer %s"}},`+
		`"override":{"endpoint":"http://%s"}%s}`, name, name, addr, more)
}

// seedMember is an entry of providers.
func seedMember(name, addr, more string) string {
	return fmt.Sprintf(`{"name":%q,"model":"seed-model","auth":{"header":{"Authorization":"Bearer %s"}},`+
		`"override":{"endpoint":"http://%s"}%s}`, name, name, addr, more)
}

func multi(list, more string, members ...string) string {
	return fmt.Sprintf(`{%q:[%s]%s}`, list, strings.Join(members, ","), more)
}

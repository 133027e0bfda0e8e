package aiproxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// BenchmarkChat is a chat of 1 KB through ai-proxy-multi to a provider on the loopback.
func BenchmarkChat(b *testing.B) {
	answer := []byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("so ", 100) + `"},"finish_reason":"stop"}]}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	client := upstream.NewClient(upstream.Options{})
	defer client.Close()
	body := `{"model":"mine","messages":[{"role":"user","content":"` + strings.Repeat("hello ", 150) + `"}]}`
	for name, more := range benchmarks {
		b.Run(name, func(b *testing.B) {
			d := Deps{Client: client, Drivers: drivers.NewSet(openai.Providers()), Pickers: balancer.NewCache(0)}
			registry := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Multi(d))
			source := plugin.Source{Name: "ai-proxy-multi", Conf: []byte(multi("instances", more, member("a", addr, ""), member("b", addr, "")))}
			compiled, err := registry.Compile(source, plugin.Labels{}, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			chain := plugin.NewChain([]*plugin.Compiled{compiled})
			x, c := &exchange.Exchange{}, &plugin.Context{}
			b.ReportAllocs()
			for b.Loop() {
				x.Reset(context.Background(), discard{})
				x.Request.Method, x.Request.Path, x.Request.Target = http.MethodPost, "/v1/chat/completions", "/v1/chat/completions"
				x.Request.Remote = netip.MustParseAddrPort("127.0.0.1:4000")
				x.Request.Body.SetSource(strings.NewReader(body), int64(len(body)))
				c.Begin(x, nil, nil, zerolog.Nop())
				c.SetRoute(chain, plugin.Labels{})
				chain.Run(c, plugin.Access)
				chain.Run(c, plugin.BeforeProxy)
				c.RunLog()
				if x.Response.Status != 200 {
					b.Fatal(x.Response.Status)
				}
			}
		})
	}
}

// benchmarks are configurations by name.
var benchmarks = map[string]string{
	"plain":      `,"fallback_strategy":["http_429","http_5xx"]`,
	"least_conn": `,"balancer":{"algorithm":"least_conn"}`,
	"guarded":    `,"fallback_strategy":["http_429","http_5xx"],"cooldown":{},"ejection":{},"breaker":{},"retry_budget":{}`,
	"limited":    `,"first_token_timeout_ms":10000,"deadline_ms":30000`,
	"hedged":     `,"hedge":{"after":60000}`,
}

// discard is a client that reads everything and keeps nothing.
type discard struct{}

func (discard) WriteHead(int, *exchange.Header, int64) error { return nil }
func (discard) Write(p []byte) (int, error)                  { return len(p), nil }
func (discard) Flush() error                                 { return nil }
func (discard) Abort()                                       {}

func (discard) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, io.EOF }

package aiproxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gosix/gosix/internal/timetest"
)

// checking is a provider with a page for probes, which answers with a status.
func checking(t *testing.T, name string) (addr string, status *atomic.Int64, probes *atomic.Pointer[http.Request]) {
	t.Helper()
	status, probes = &atomic.Int64{}, &atomic.Pointer[http.Request]{}
	status.Store(200)
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/up" {
			probes.Store(q)
			w.WriteHeader(int(status.Load()))
			return
		}
		_, _ = io.WriteString(w, `{"said":"`+name+`"}`)
	})), status, probes
}

func TestUnhealthyInstancesAreNotAsked(t *testing.T) {
	const checks = `,"checks":{"active":{"http_path":"/up","healthy":{"interval":1,"successes":1},"unhealthy":{"interval":1,"http_failures":1}}}`
	for _, algorithm := range []string{`"roundrobin"`, `"chash","hash_on":"vars_combinations","key":"$uri"`, `"least_conn"`, `"ewma"`} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			a, statusA, probesA := checking(t, "a")
			b, statusB, _ := checking(t, "b")
			r := newRig(t)
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { r.checker.Run(ctx) })
			t.Cleanup(func() { stop(); running.Wait() })
			auth := `"auth":{"header":{"Authorization":"Bearer a"},"query":{"api key":"q&r"}}`
			chain := r.route("ai-proxy-multi", multi("instances", `,"balancer":{"algorithm":`+algorithm+`}`,
				strings.Replace(member("a", a, checks), `"auth":{"header":{"Authorization":"Bearer a"}}`, auth, 1), member("b", b, checks)))
			only := func(names ...string) func() bool {
				return func() bool {
					got := map[string]bool{}
					for range 12 {
						s, c := r.ask(chain, request{body: hello})
						if s.status != 200 {
							t.Errorf("got %d", s.status)
						}
						got[c.Facts.BalancerIP] = true
					}
					for _, n := range names {
						delete(got, n)
					}
					return len(got) == 0
				}
			}
			r.ask(chain, request{body: hello})
			eventually(t, "a probe", func() bool { return probesA.Load() != nil })
			if q := probesA.Load(); q.Header.Get("Authorization") != "Bearer a" || q.URL.RawQuery != "api%20key=q%26r" || q.Method != "GET" {
				t.Errorf("got a probe %s %s with %v", q.Method, q.URL, q.Header)
			}
			statusA.Store(500)
			eventually(t, "only b is asked", only("b"))
			statusB.Store(500)
			group := chain.Plugins()[0].Phases.State.(*state).health
			eventually(t, "both are unhealthy", func() bool { return group.Down().Len() == 2 })
			if !only("a", "b")() {
				t.Error("somebody else is asked")
			}
			statusA.Store(200)
			eventually(t, "only a is asked", only("a"))
		})
	}
}

var eventually = timetest.Until

func TestOneInstanceIsNotChecked(t *testing.T) {
	addr, _, _ := checking(t, "a")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", "", member("a", addr, `,"checks":{"active":{"http_path":"/up"}}`)))
	if chain.Plugins()[0].Phases.State.(*state).health != nil {
		t.Error("its health is kept, which nobody asks for")
	}
}

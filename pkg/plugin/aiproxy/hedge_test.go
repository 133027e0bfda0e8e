package aiproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
)

// inFlight is what a least_conn picker of n equal instances would do with n picks: all
// different if nothing is left in flight.
func nothingInFlight(t *testing.T, p balancer.Picker, n int) {
	t.Helper()
	seen := map[int]bool{}
	for range n {
		i, err := p.Pick(&balancer.Attempt{})
		if err != nil {
			t.Fatal(err)
		}
		seen[i] = true
	}
	if len(seen) != n {
		t.Errorf("of %d instances only %d are idle: an attempt was not ended", n, len(seen))
	}
	for i := range seen {
		p.Done(i, balancer.Outcome{})
	}
}

// hedged is a configuration whose first instance is a, by priority.
func hedged(more string, a, b string) string {
	return multi("instances", `,"balancer":{"algorithm":"least_conn"}`+more, member("a", a, `,"priority":1,"options":{"top_p":1}`), member("b", b, `,"options":{"seed":2}`))
}

func streamed(stream bool) string {
	if stream {
		return strings.TrimSuffix(hello, "}") + `,"stream":true}`
	}
	return hello
}

func TestTheFirstTokenWins(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("the second call, stream %v", stream), func(t *testing.T) {
			slow, _ := fake(t, "snail")
			quick, _ := fake(t, "owl")
			asked := make(chan struct{})
			slowAddr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				close(asked)
				slow.ServeHTTP(w, q)
			}))
			quickAddr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				<-asked // or the loser would not have been asked when it has lost
				quick.ServeHTTP(w, q)
			}))
			r := newRig(t)
			chain := r.route("ai-proxy-multi", hedged(`,"hedge":{"after":20,"max_percent":100}`, slowAddr+"/?silent_ms=60000", quickAddr))
			got, c := r.ask(chain, request{body: streamed(stream)})
			if got.status != 200 || !strings.Contains(got.body(), "owl") || got.aborted || c.Facts.BalancerIP != "b" {
				t.Errorf("got %d %q from %s", got.status, got.body(), c.Facts.BalancerIP)
			}
			if attempts(c) != "a:499 b:200" || c.Facts.Attempts[0].Err == nil {
				t.Errorf("got attempts %q", attempts(c))
			}
			wait(t, "the loser seeing the end", slow.Gone())
			want := strings.TrimSuffix(streamed(stream), "}")
			if stream {
				want += `,"stream_options":{"include_usage":true}`
			}
			if sent := string(quick.Received()[0].Body); sent != want+`,"seed":2}` {
				t.Errorf("the second call is not the client's request: %s", sent)
			}
			nothingInFlight(t, chain.Plugins()[0].Phases.State.(*state).picker, 1)
		})
		t.Run(fmt.Sprintf("the first call, stream %v", stream), func(t *testing.T) {
			release := make(chan struct{})
			loser, _ := fake(t, "snail")
			late := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				<-release // the second call has come
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"said":"first"}`)
			}))
			second := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				close(release)
				q.URL.RawQuery = "silent_ms=60000"
				loser.ServeHTTP(w, q)
			}))
			r := newRig(t)
			chain := r.route("ai-proxy-multi", hedged(`,"hedge":{"after":20,"max_percent":100}`, late, second))
			got, c := r.ask(chain, request{body: streamed(stream)})
			if got.status != 200 || got.body() != `{"said":"first"}` || c.Facts.BalancerIP != "a" || attempts(c) != "b:499 a:200" {
				t.Errorf("got %d %q from %s, attempts %q", got.status, got.body(), c.Facts.BalancerIP, attempts(c))
			}
			wait(t, "the loser seeing the end", loser.Gone())
		})
	}
}

func TestASecondCallStandsInForAFirstThatFails(t *testing.T) {
	_, alive := fake(t, "owl")
	const fails = 0
	tests := map[string]struct {
		a, b           time.Duration // in which it answers, as a multiple of that in which others fail
		more, attempts string
		status         int
	}{
		"the second is well": {fails, 8, "", "a:500 b:200", 200},
		"both fail":          {fails, fails, "", "a:500 b:500", 500},
		"both fail, and the strategy covers that": {fails, fails, `,"fallback_strategy":["http_5xx"]`, "a:500 b:500", 502},
		"the second fails, and the first is well": {3, fails, "", "b:499 a:200", 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			timetest.Stretch(t, 100*time.Millisecond, func(limit time.Duration) error {
				failing := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					_, _ = io.Copy(io.Discard, q.Body)
					select { // so that the second call is made, by a timer that nothing is measured with
					case <-time.After(limit):
					case <-q.Context().Done():
					}
					w.WriteHeader(500)
				}))
				in := func(times time.Duration) string {
					if times == fails {
						return failing
					}
					return fmt.Sprintf("%s/?silent_ms=%d", alive, (limit * times).Milliseconds())
				}
				r := newRig(t)
				hedge := fmt.Sprintf(`,"hedge":{"after":%d,"max_percent":100}`, (limit / 10).Milliseconds())
				chain := r.route("ai-proxy-multi", hedged(hedge+tt.more, in(tt.a), in(tt.b)))
				got, c := r.ask(chain, request{body: hello})
				tried := attempts(c)
				if tt.status == 200 && strings.HasPrefix(tried, "b:500") {
					tried = strings.Replace(tried, "b:500", "b:499", 1)
				}
				if got.status != tt.status || tried != tt.attempts {
					return fmt.Errorf("got %d, attempts %q, want %d, %q", got.status, attempts(c), tt.status, tt.attempts)
				}
				return nil
			})
		})
	}
}

func TestAThirdInstanceIsAskedAfterTwoCallsThatFailed(t *testing.T) {
	_, alive := fake(t, "owl")
	silent := stalling(t)
	timetest.Stretch(t, 700*time.Millisecond, func(limit time.Duration) error {
		r := newRig(t)
		more := fmt.Sprintf(`,"hedge":{"after":10,"max_percent":100},"first_token_timeout_ms":%d,"fallback_strategy":["http_5xx"]`, limit.Milliseconds())
		chain := r.route("ai-proxy-multi", multi("instances", more,
			member("a", silent, `,"priority":2`), member("b", silent, `,"priority":1`), member("c", alive, "")))
		got, c := r.ask(chain, request{body: hello})
		if got.status != 200 || attempts(c) != "a:504 b:504 c:200" {
			return fmt.Errorf("got %d, attempts %q", got.status, attempts(c))
		}
		return nil
	})
}

func TestSecondCallsAreAShareOfTheFirst(t *testing.T) {
	var second atomic.Int64
	_, alive := fake(t, "owl")
	counting := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		second.Add(1)
		<-q.Context().Done()
		_ = w
	}))
	// A call that nobody waits for any more may not come as far as its server.
	timetest.Stretch(t, 15*time.Millisecond, func(limit time.Duration) error {
		second.Store(0)
		r := newRig(t)
		chain := r.route("ai-proxy-multi", hedged(`,"hedge":{"after":1,"max_percent":10}`, fmt.Sprintf("%s/?silent_ms=%d", alive, limit.Milliseconds()), counting))
		const requests = 60
		for range requests {
			if got, _ := r.ask(chain, request{body: hello}); got.status != 200 {
				t.Errorf("got %d", got.status)
			}
		}
		n := second.Load()
		if n > requests/10 {
			t.Errorf("%d second calls for %d requests, want no more than a tenth", n, requests)
		}
		if n < 1 {
			return errors.New("no second call was made")
		}
		return nil
	})
}

func TestASecondCallWaitsForThePercentile(t *testing.T) {
	var second atomic.Int64
	_, alive := fake(t, "owl")
	other := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		second.Add(1)
		_, _ = io.WriteString(w, `{"said":"second"}`)
	}))
	var slow atomic.Bool
	first := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if slow.Load() {
			_, _ = io.Copy(io.Discard, q.Body)
			<-q.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"said":"first"}`)
	}))
	_ = alive
	r := newRig(t)
	chain := r.route("ai-proxy-multi", hedged(`,"hedge":{"after":"p95","max_percent":100}`, first, other))
	s := chain.Plugins()[0].Phases.State.(*state)
	if got := s.conditions[0].first[0].percentile(95); got != 0 {
		t.Errorf("got a percentile of %v of nothing", got)
	}
	for range fewSamples {
		r.ask(chain, request{body: hello})
	}
	slow.Store(true)
	if got, c := r.ask(chain, request{body: hello}); got.body() != `{"said":"second"}` || attempts(c) != "a:499 b:200" {
		t.Errorf("got %q, attempts %q", got.body(), attempts(c))
	}
	if s.conditions[0].first[1].percentile(95) != 0 {
		t.Error("whole answers say something of streams")
	}
}

func TestPercentiles(t *testing.T) {
	h := &histogram{}
	for n := range 1000 {
		h.add(time.Duration(n+1) * time.Millisecond)
	}
	for p, want := range map[int]time.Duration{50: 500, 90: 900, 95: 950, 99: 990} {
		want *= time.Millisecond
		if got := h.percentile(p); got < want || got > want*9/8+time.Millisecond {
			t.Errorf("p%d: got %v, want about %v", p, got, want)
		}
	}
	for range 5 * halveAt {
		h.add(10 * time.Millisecond)
	}
	if got := h.percentile(95); got > 20*time.Millisecond {
		t.Errorf("what was long ago still counts: got %v", got)
	}
	for d := time.Duration(0); d < 3*time.Hour; d += d/7 + time.Millisecond {
		if b := bucketOf(d); b < 0 || b >= buckets || d < time.Hour && (upper(b) < d || b > 0 && upper(b-1) > d) {
			t.Fatalf("%v is in bucket %d, %v to %v", d, b, upper(max(0, b-1)), upper(b))
		}
	}
}

func TestManyHedgedRequestsAtOnce(t *testing.T) {
	var n atomic.Int64
	jitter := func(name string) string {
		llm, _ := fake(t, name)
		return provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			switch n.Add(1) % 4 {
			case 0:
				q.URL.RawQuery = "silent_ms=6&words=3"
			case 1:
				q.URL.RawQuery = "status=500"
			default:
				q.URL.RawQuery = "words=3"
			}
			llm.ServeHTTP(w, q)
		}))
	}
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances",
		`,"balancer":{"algorithm":"least_conn"},"hedge":{"after":1,"max_percent":100},"fallback_strategy":["http_5xx"],"breaker":{},"ejection":{},"cooldown":{},"retry_budget":{"percent":100,"reserve":1000},"deadline_ms":20000,"first_token_timeout_ms":10000`,
		member("a", jitter("a"), ""), member("b", jitter("b"), ""), member("c", jitter("c"), "")))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 25 {
				got, c := r.ask(chain, request{body: streamed(g%2 == 0)})
				if got.status != 200 && got.status != 502 && got.status != 500 || got.aborted {
					t.Errorf("got %d, attempts %q", got.status, attempts(c))
				}
			}
		})
	}
	wg.Wait()
	nothingInFlight(t, chain.Plugins()[0].Phases.State.(*state).picker, 3)
	for _, k := range chain.Plugins()[0].Phases.State.(*state).conditions {
		if k.breaker.trial.Load() {
			t.Error("a trial was not ended")
		}
	}
}

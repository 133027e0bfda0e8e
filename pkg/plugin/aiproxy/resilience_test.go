package aiproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/t/fakellm"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		header []string
		want   time.Duration
	}{
		"nothing":                        {nil, 0},
		"seconds":                        {[]string{"Retry-After", "7"}, 7 * time.Second},
		"a part of a second":             {[]string{"Retry-After", " 0.5 "}, 500 * time.Millisecond},
		"a date":                         {[]string{"Retry-After", "Sun, 01 Jun 2025 12:01:00 GMT"}, time.Minute},
		"a date of old form":             {[]string{"Retry-After", "Sunday, 01-Jun-25 12:01:00 GMT"}, time.Minute},
		"a date that has passed":         {[]string{"Retry-After", "Sun, 01 Jun 2025 11:00:00 GMT"}, 0},
		"milliseconds go before seconds": {[]string{"Retry-After", "7", "retry-after-ms", "250"}, 250 * time.Millisecond},
		"bad milliseconds do not":        {[]string{"Retry-After", "7", "Retry-After-Ms", "soon"}, 7 * time.Second},
		"less than nothing":              {[]string{"Retry-After", "-3"}, 0},
		"no number":                      {[]string{"Retry-After", "NaN"}, 0},
		"more than there is":             {[]string{"Retry-After", "1e300"}, year},
		"words":                          {[]string{"Retry-After", "tomorrow"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var h exchange.Header
			for n := 0; n < len(tt.header); n += 2 {
				h.Add(tt.header[n], tt.header[n+1])
			}
			if got := retryAfter(&h, now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "0.5", "Sun, 01 Jun 2025 12:01:00 GMT", "1e999", "-1", "NaN"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, seconds, milliseconds string) {
		var h exchange.Header
		h.Add("Retry-After", seconds)
		h.Add("retry-after-ms", milliseconds)
		if got := retryAfter(&h, time.Now()); got < 0 {
			t.Errorf("got %v", got)
		}
	})
}

// busy is a provider that answers with a status and headers.
func busy(t *testing.T, status int, header ...string) (addr string, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		for n := 0; n < len(header); n += 2 {
			w.Header().Set(header[n], header[n+1])
		}
		w.WriteHeader(status)
	})), asked
}

func TestAProviderThatAsksForRestGetsIt(t *testing.T) {
	_, alive := fake(t, "owl")
	tests := map[string]struct {
		rule   string
		status int
		header []string
		rest   time.Duration // 0: none
	}{
		"seconds":                     {`{}`, 429, []string{"Retry-After", "30"}, 30 * time.Second},
		"milliseconds":                {`{}`, 529, []string{"retry-after-ms", "1500"}, 1500 * time.Millisecond},
		"a server error with a wish":  {`{}`, 500, []string{"Retry-After", "30"}, 30 * time.Second},
		"no longer than the limit":    {`{"max_ms":5000}`, 429, []string{"Retry-After", "3600"}, 5 * time.Second},
		"no wish":                     {`{}`, 429, nil, 0},
		"no wish, and a rule":         {`{"default_ms":2000}`, 429, nil, 2 * time.Second},
		"an overloaded provider":      {`{"default_ms":2000}`, 529, nil, 2 * time.Second},
		"a server error has no rule":  {`{"default_ms":2000}`, 500, nil, 0},
		"a wish goes before the rule": {`{"default_ms":2000}`, 503, []string{"Retry-After", "4"}, 4 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, asked := busy(t, tt.status, tt.header...)
			r := newRig(t)
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_429","http_5xx"],"cooldown":`+tt.rule,
				member("a", addr, `,"priority":1`), member("b", alive, "")))
			ask := func(times int64, what string) {
				t.Helper()
				if got, c := r.ask(chain, request{body: hello}); got.status != 200 || asked.Load() != times {
					t.Errorf("%s: got %d, attempts %q; a was asked %d times, want %d", what, got.status, attempts(c), asked.Load(), times)
				}
			}
			ask(1, "at first")
			if tt.rest == 0 {
				ask(2, "without a rest")
				return
			}
			ask(1, "at rest")
			r.clock.Pass(tt.rest - time.Millisecond)
			ask(1, "at the end of it")
			r.clock.Pass(2 * time.Millisecond)
			ask(2, "after it")
		})
	}
}

func TestWhenAllRestAllAreAsked(t *testing.T) {
	addr, asked := busy(t, 429, "Retry-After", "60")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_429"],"cooldown":{}`, member("a", addr, ""), member("b", addr, "")))
	for range 3 {
		if got, _ := r.ask(chain, request{body: hello}); got.status != 502 {
			t.Errorf("got %d", got.status)
		}
	}
	if asked.Load() != 6 {
		t.Errorf("asked %d times, want both in each of three requests", asked.Load())
	}
}

func TestWhatIsKnownOutlivesTheConfiguration(t *testing.T) {
	_, alive := fake(t, "owl")
	addr, asked := busy(t, 429, "Retry-After", "60")
	conf := func(more, a string) string {
		return multi("instances", `,"fallback_strategy":["http_429"],"cooldown":{}`+more, member("a", a, `,"priority":1`), member("b", alive, ""))
	}
	r := newRig(t)
	chain := r.route("ai-proxy-multi", conf("", addr))
	r.ask(chain, request{body: hello})
	chain = r.routeAfter(chain, "ai-proxy-multi", conf(`,"max_retries":3`, addr))
	if _, c := r.ask(chain, request{body: hello}); attempts(c) != "b:200" || asked.Load() != 1 {
		t.Errorf("after a change elsewhere: got attempts %q", attempts(c))
	}
	moved, asked := busy(t, 429)
	chain = r.routeAfter(chain, "ai-proxy-multi", conf("", moved))
	if _, c := r.ask(chain, request{body: hello}); attempts(c) != "a:429 b:200" || asked.Load() != 1 {
		t.Errorf("an instance that moved is another: got attempts %q", attempts(c))
	}
}

// withState returns a compiled configuration of n instances with its state.
func withState(t *testing.T, n int, more string) *proxy {
	t.Helper()
	var members []string
	for i := range n {
		members = append(members, member(fmt.Sprint("i", i), "a:1", ""))
	}
	r := newRig(t)
	compiled, err := r.registry.Compile(plugin.Source{Name: "ai-proxy-multi", Conf: []byte(multi("instances", more, members...))}, plugin.Labels{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &proxy{state: compiled.Phases.State.(*state), clock: r.clock}
}

// unfitOf lists who had better not be asked.
func unfitOf(s *state, g *guards, now int64) (list []int) {
	var set balancer.Set
	s.unfit(&set, g, now)
	for i := range s.conditions {
		if set.Has(i) {
			list = append(list, i)
		}
	}
	return list
}

func TestEjection(t *testing.T) {
	const second = int64(time.Second)
	e := &ejection{failures: 3, base: 10 * time.Second, most: 25 * time.Second, maxPercent: 50}
	g := &guards{ejection: e}
	s := withState(t, 4, "").state
	now := 100 * second
	fail := func(i int, times int) {
		for range times {
			s.learn(i, bad, false, g, now)
		}
	}
	want := func(what string, list ...int) {
		t.Helper()
		if diff := cmp.Diff(list, unfitOf(s, g, now)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	fail(0, 2)
	s.learn(0, good, false, g, now)
	fail(0, 2)
	want("failures that are not in a row")
	s.learn(0, silent, false, g, now)
	fail(0, 1)
	want("three in a row", 0)
	now += 10*second + 1
	want("after its time")
	fail(0, 3)
	now += 15 * second
	want("the second time lasts longer", 0)
	now += 6 * second
	want("and ends, too")
	fail(0, 3)
	now += 24 * second
	want("the third is no longer than the limit", 0)
	now += 2 * second
	want("and ends")
	fail(0, 3)
	fail(1, 3)
	fail(2, 3)
	want("no more than half are out", 0, 1)
	now += 60 * second
	s.learn(0, good, false, g, now)
	fail(0, 3)
	now += 11 * second
	want("who held out begins anew")
}

func TestBreaker(t *testing.T) {
	const second = int64(time.Second)
	rule := &breakerRule{percent: 50, minCalls: 4, window: 10 * time.Second, open: 30 * time.Second}
	now := 100 * second
	calls := func(b *breaker, list ...verdict) {
		for _, v := range list {
			b.learn(v, false, rule, now)
		}
	}
	t.Run("half of at least four open it", func(t *testing.T) {
		b := &breaker{}
		calls(b, bad, bad, bad)
		if b.refuses(now) {
			t.Error("it opens after three calls")
		}
		calls(b, silent)
		if b.refuses(now) {
			t.Error("it counts calls that say nothing")
		}
		calls(b, good)
		if !b.refuses(now) {
			t.Error("it does not open")
		}
	})
	t.Run("calls of long ago do not count", func(t *testing.T) {
		b := &breaker{}
		calls(b, bad, bad, bad)
		now += 11 * second
		calls(b, good, bad)
		if b.refuses(now) {
			t.Error("it opens")
		}
	})
	t.Run("half-open admits one", func(t *testing.T) {
		b := &breaker{}
		calls(b, bad, bad, bad, bad)
		if _, ok := b.admit(now); ok {
			t.Error("an open one admits a call")
		}
		now += 30*second + 1
		if b.refuses(now) {
			t.Error("it is not half-open in time")
		}
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if trial, ok := b.admit(now); ok {
					admitted.Add(1)
					if !trial {
						t.Error("a call is admitted as if it were closed")
					}
				}
			})
		}
		wg.Wait()
		if admitted.Load() != 1 || !b.refuses(now) {
			t.Errorf("%d calls are admitted", admitted.Load())
		}
		calls(b, good, good) // from before it opened
		if !b.refuses(now) {
			t.Error("another's success ends the trial")
		}
		b.learn(silent, true, rule, now)
		if trial, ok := b.admit(now); !ok || !trial {
			t.Error("a trial of which nothing was learnt is not followed by another")
		}
		b.learn(bad, true, rule, now)
		if !b.refuses(now + 29*second) {
			t.Error("a failed trial does not open it again")
		}
		now += 31 * second
		b.admit(now)
		b.learn(good, true, rule, now)
		if trial, ok := b.admit(now); !ok || trial {
			t.Error("a good trial does not close it")
		}
		calls(b, bad, bad, bad)
		if b.refuses(now) {
			t.Error("the counts of before are still there")
		}
	})
}

func TestABreakerKeepsRequestsFromABadInstance(t *testing.T) {
	_, alive := fake(t, "owl")
	var wellAgain atomic.Bool
	var asked atomic.Int64
	addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if !wellAgain.Load() {
			w.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	}))
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances",
		`,"fallback_strategy":["http_5xx"],"breaker":{"min_calls":5,"open_ms":1000}`, member("a", addr, `,"priority":1`), member("b", alive, "")))
	for range 20 {
		if got, _ := r.ask(chain, request{body: hello}); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
	}
	if asked.Load() != 5 {
		t.Errorf("asked %d times, want 5", asked.Load())
	}
	r.clock.Pass(1001 * time.Millisecond)
	for range 5 {
		r.ask(chain, request{body: hello})
	}
	if asked.Load() != 6 {
		t.Errorf("asked %d times, want one trial", asked.Load())
	}
	wellAgain.Store(true)
	r.clock.Pass(1001 * time.Millisecond)
	for range 5 {
		r.ask(chain, request{body: hello})
	}
	if asked.Load() != 11 {
		t.Errorf("asked %d times, want it back after a good trial", asked.Load())
	}
}

func TestAnEjectedInstanceIsNotAsked(t *testing.T) {
	_, alive := fake(t, "owl")
	addr, asked := busy(t, 500)
	limited, limitedAsked := busy(t, 429)
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx","http_429"],"ejection":{"failures":2,"base_ms":1000}`,
		member("a", addr, `,"priority":2`), member("l", limited, `,"priority":1`), member("b", alive, "")))
	for range 5 {
		if got, _ := r.ask(chain, request{body: hello}); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
	}
	if asked.Load() != 2 || limitedAsked.Load() != 5 {
		t.Errorf("asked %d times, want 2; a provider that only limits %d times, want 5", asked.Load(), limitedAsked.Load())
	}
}

// However many requests fail, retries are no more than a share of them.
func TestARetryBudgetBoundsTheExtraCalls(t *testing.T) {
	addr, asked := busy(t, 500)
	for _, reserve := range []int{0, 3} {
		asked.Store(0)
		r := newRig(t)
		chain := r.route("ai-proxy-multi", multi("instances", fmt.Sprintf(`,"fallback_strategy":["http_5xx"],"retry_budget":{"percent":20,"reserve":%d}`, reserve),
			member("a", addr, ""), member("b", addr, ""), member("c", addr, "")))
		const requests = 200
		for range requests {
			if got, _ := r.ask(chain, request{body: hello}); got.status != 500 && got.status != 502 {
				t.Errorf("got %d", got.status)
			}
		}
		extra := asked.Load() - requests
		if most := int64(requests*20/100 + reserve); extra > most || extra < most-1 {
			t.Errorf("with %d in reserve: %d extra calls, want %d", reserve, extra, most)
		}
		if !strings.Contains(r.log.String(), "the retry budget is spent, not retrying") {
			t.Error("the log does not say so")
		}
	}
}

func TestAllowancesAreExactUnderConcurrency(t *testing.T) {
	a, rule := &allowance{}, &allowanceRule{percent: 10, most: 1000}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				a.earn(rule)
				if a.take() {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	for a.take() {
		taken.Add(1)
	}
	if taken.Load() != 800 {
		t.Errorf("%d were taken, want 800", taken.Load())
	}
}

// What a quiet time saves up is bounded, as the README says.
func TestFewExtraCallsAreSavedUp(t *testing.T) {
	compiled := func(conf string) guards {
		var r resilience
		if err := json.Unmarshal([]byte(conf), &r); err != nil {
			t.Fatal(err)
		}
		return r.compile()
	}
	for name, tt := range map[string]struct {
		rule *allowanceRule
		want int
	}{
		"hedges":                       {&compiled(`{"hedge":{"after":1,"max_percent":100}}`).hedge.allowance, 10},
		"further attempts":             {compiled(`{"retry_budget":{"percent":20,"reserve":7}}`).budget, 7},
		"further attempts, no reserve": {compiled(`{"retry_budget":{"percent":20,"reserve":0}}`).budget, 1},
	} {
		a, got := &allowance{}, 0
		for range 10000 {
			a.earn(tt.rule)
		}
		for a.take() {
			got++
		}
		if got != tt.want {
			t.Errorf("%s: %d are saved up, want %d", name, got, tt.want)
		}
	}
}

func TestPausesGrowAndAreNotEqual(t *testing.T) {
	b := &backoff{base: 100 * time.Millisecond, most: time.Second}
	for tries, bound := range []time.Duration{100, 200, 400, 800, 1000, 1000, 1000} {
		bound *= time.Millisecond
		seen := map[time.Duration]bool{}
		for range 100 {
			d := b.pause(tries)
			if d < 0 || d > bound {
				t.Fatalf("after %d tries: got %v, want at most %v", tries, d, bound)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("after %d tries: only %d different pauses", tries, len(seen))
		}
	}
	if d := b.pause(1000); d > time.Second {
		t.Errorf("got %v", d)
	}
}

func TestAClientThatLeavesEndsAPause(t *testing.T) {
	addr, asked := busy(t, 500)
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx"],"backoff":{"base_ms":60000,"max_ms":60000}`,
		member("a", addr, ""), member("b", addr, "")))
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan *sink, 1)
	go func() {
		s, _ := r.ask(chain, request{ctx: ctx, body: hello})
		done <- s
	}()
	arrived(t, func() []int { return make([]int, asked.Load()) })
	leave()
	wait(t, "the end of the request", done)
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// headOnly begins a stream, or an answer, and says no more.
func headOnly(t *testing.T, kind string) string {
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", kind)
		w.(http.Flusher).Flush()
		<-q.Context().Done()
	}))
}

func TestAStreamWithoutAFirstTokenFallsBack(t *testing.T) {
	_, alive := fake(t, "owl")
	silent := headOnly(t, "text/event-stream")
	timetest.Stretch(t, 700*time.Millisecond, func(limit time.Duration) error {
		r := newRig(t)
		first := fmt.Sprintf(`"first_token_timeout_ms":%d`, limit.Milliseconds())
		chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx"],`+first,
			member("a", silent, `,"priority":1`), member("b", alive, "")))
		got, c := r.ask(chain, request{body: strings.TrimSuffix(hello, "}") + `,"stream":true}`})
		if got.status != 200 || attempts(c) != "a:200 b:200" || c.Facts.Attempts[0].Err == nil {
			return fmt.Errorf("got %d, attempts %q", got.status, attempts(c))
		}
		if want := fmt.Sprintf("nothing came within first_token_timeout_ms %d", limit.Milliseconds()); !strings.Contains(r.log.String(), want) {
			t.Errorf("got log %s", r.log)
		}
		return nil
	})
}

func TestTheFirstTokenOfAWholeAnswerIsItsHead(t *testing.T) {
	timetest.Stretch(t, 900*time.Millisecond, func(limit time.Duration) error {
		slow := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.(http.Flusher).Flush()
			select { // longer than the limit, by a timer that nothing is measured with
			case <-time.After(limit * 4 / 3):
			case <-q.Context().Done():
			}
			_, _ = io.WriteString(w, `{"said":1}`)
		}))
		r := newRig(t)
		got, _ := r.ask(r.route("ai-proxy", single(slow, fmt.Sprintf(`,"first_token_timeout_ms":%d`, limit.Milliseconds()))), request{body: hello})
		if got.status != 200 || got.body() != `{"said":1}` || got.aborted {
			return fmt.Errorf("got %d %q", got.status, got.body())
		}
		return nil
	})
}

func TestASilentStreamIsBrokenOff(t *testing.T) {
	timetest.Stretch(t, 700*time.Millisecond, func(limit time.Duration) error {
		llm, addr := fake(t, "owl")
		r := newRig(t)
		idle := fmt.Sprintf(`,"idle_timeout_ms":%d`, limit.Milliseconds())
		got, c := r.ask(r.route("ai-proxy", single(addr+"/?gap_ms=60000", idle)), request{body: strings.TrimSuffix(hello, "}") + `,"stream":true}`})
		if !got.aborted || !strings.Contains(got.body(), "upstream_error") || !c.Facts.LLM.Partial {
			return fmt.Errorf("got %q, aborted %v", got.body(), got.aborted)
		}
		wait(t, "the provider seeing the end", llm.Gone())
		return nil
	})
}

func TestIdleIsBetweenEvents(t *testing.T) {
	scripts := map[string]string{}
	for _, s := range fakellm.Scenarios() {
		scripts[s.Name] = s.Query
	}
	tests := map[string]struct {
		script string // %d: milliseconds, a share of the limit
		share  time.Duration
		limit  time.Duration
		more   string // %d: the limit in milliseconds
		status int
		whole  bool
	}{
		"one byte a second is no event":          {scripts["S19"], 0, 1500 * time.Millisecond, `,"idle_timeout_ms":%d`, 504, false},
		"events that go on for longer are heard": {"words=10&gap_ms=%d", 7, 1500 * time.Millisecond, `,"idle_timeout_ms":%d`, 200, true},
		"by default a byte is enough":            {"words=1&drip_ms=%d", 200, 400 * time.Millisecond, `,"timeout":%d`, 200, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timetest.Stretch(t, tt.limit, func(limit time.Duration) error {
				llm, addr := fake(t, "owl")
				r := newRig(t)
				script := tt.script
				if tt.share > 0 {
					script = fmt.Sprintf(script, (limit / tt.share).Milliseconds())
				}
				got, c := r.ask(r.route("ai-proxy", single(addr+"/?"+script, fmt.Sprintf(tt.more, limit.Milliseconds()))), request{body: streamed(true)})
				if got.status != tt.status && c.Response.Status != tt.status || strings.HasSuffix(got.body(), "data: [DONE]\n\n") != tt.whole {
					return fmt.Errorf("got %d %d %q", got.status, c.Response.Status, got.body())
				}
				if !tt.whole {
					wait(t, "the provider seeing the end", llm.Gone())
				}
				return nil
			})
		})
	}
}

func TestAllAttemptsShareADeadline(t *testing.T) {
	silent := stalling(t)
	timetest.Stretch(t, time.Second, func(limit time.Duration) error {
		r := newRig(t)
		limits := fmt.Sprintf(`"deadline_ms":%d,"first_token_timeout_ms":%d`, limit.Milliseconds(), (limit * 3 / 5).Milliseconds())
		chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx"],`+limits,
			member("a", silent, ""), member("b", silent, ""), member("c", silent, ""), member("d", silent, "")))
		got, c := r.ask(chain, request{body: hello})
		if asked := len(c.Facts.Attempts); got.status != 504 || asked != 2 {
			return fmt.Errorf("got %d after %d attempts (%q), want 504 after 2", got.status, asked, attempts(c))
		}
		if want := fmt.Sprintf("deadline_ms %d has passed, not retrying", limit.Milliseconds()); !strings.Contains(r.log.String(), want) {
			t.Errorf("got log %s", r.log)
		}
		return nil
	})
}

func TestADeadlineDoesNotEndAStreamThatBegan(t *testing.T) {
	_, addr := fake(t, "owl")
	timetest.Stretch(t, time.Second, func(limit time.Duration) error {
		r := newRig(t)
		limits := fmt.Sprintf(`,"deadline_ms":%d,"first_token_timeout_ms":%d`, limit.Milliseconds(), (limit * 9 / 10).Milliseconds())
		slow := fmt.Sprintf("%s/?words=5&gap_ms=%d", addr, (limit * 3 / 10).Milliseconds())
		chain := r.route("ai-proxy-multi", multi("instances", limits, member("a", slow, ""), member("b", slow, "")))
		got, _ := r.ask(chain, request{body: strings.TrimSuffix(hello, "}") + `,"stream":true}`})
		if got.status != 200 || got.aborted || !strings.HasSuffix(got.body(), "data: [DONE]\n\n") {
			return fmt.Errorf("got %d %q", got.status, got.body())
		}
		return nil
	})
}

func TestTheQuotaOfInstancesIsAsked(t *testing.T) {
	_, alive := fake(t, "owl")
	broken := answering(t, 500)
	tests := map[string]struct {
		more     string
		spent    string // names
		status   int
		body     string
		attempts string
	}{
		"as a list":                {`,"fallback_strategy":["rate_limiting"]`, "a", 200, "", "b:200"},
		"as a word":                {`,"fallback_strategy":"instance_health_and_rate_limiting"`, "a", 200, "", "b:200"},
		"without awareness":        {`,"fallback_strategy":["http_429"]`, "a", 200, "", "a:200"},
		"nothing is spent":         {`,"fallback_strategy":["rate_limiting"]`, "", 200, "", "a:200"},
		"all is spent":             {`,"fallback_strategy":["rate_limiting"]`, "a b x", 503, "all servers tried", ""},
		"at a fallback":            {`,"fallback_strategy":["rate_limiting","http_5xx"]`, "a b", 502, `{"said":500}`, "x:500"},
		"at a fallback, one is":    {`,"fallback_strategy":["rate_limiting","http_5xx"]`, "b", 200, "", "x:500 a:200"},
		"an algorithm that hashes": {`,"fallback_strategy":["rate_limiting"],"balancer":{"algorithm":"chash","key":"uri"}`, "a b", 200, "", "x:200"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			x, priority := alive, 0
			if strings.Contains(name, "fallback") {
				x, priority = broken, 3
			}
			r := newRig(t)
			chain := r.route("ai-proxy-multi", multi("instances", tt.more,
				member("a", alive, `,"priority":2`), member("b", alive, `,"priority":1`), member("x", x, fmt.Sprintf(`,"priority":%d`, priority))))
			counts := &plugin.Compiled{Name: "counts", Phases: plugin.Phases{Rewrite: func(c *plugin.Context) error {
				plugin.InstanceQuota.Set(c, func(_ *plugin.Context, instance string) bool { return !strings.Contains(tt.spent, instance) })
				return nil
			}}}
			got, c := r.ask(plugin.NewChain(append([]*plugin.Compiled{counts}, chain.Plugins()...)), request{body: hello})
			if got.status != tt.status || tt.body != "" && got.body() != tt.body || attempts(c) != tt.attempts {
				t.Errorf("got %d %q, attempts %q", got.status, got.body(), attempts(c))
			}
			if skipped := tt.attempts == "b:200"; skipped != strings.Contains(r.log.String(), "ai instance: a is not available, try to pick another one") && tt.spent == "a" {
				t.Errorf("got log %s", r.log)
			}
		})
	}
}

func TestWhatAClientIsToBlameForSaysNothingOfAnInstance(t *testing.T) {
	_, alive := fake(t, "owl")
	addr, asked := busy(t, 400)
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances",
		`,"fallback_http_statuses":[400],"ejection":{"failures":1},"breaker":{"min_calls":1},"cooldown":{}`, member("a", addr, `,"priority":1`), member("b", alive, "")))
	for range 5 {
		if got, c := r.ask(chain, request{body: hello}); got.status != 200 {
			t.Errorf("got %d, attempts %q", got.status, attempts(c))
		}
	}
	if asked.Load() != 5 {
		t.Errorf("asked %d times, want 5", asked.Load())
	}
	failed := try{failure: &failed{status: 400, reply: &reply.Reply{}}, took: time.Second}
	if o := failed.outcome(); o.Failed || o.FirstByte != time.Second {
		t.Errorf("the picker hears %+v", o)
	}
	failed.failure.status = 429
	if o := failed.outcome(); !o.Failed {
		t.Errorf("the picker hears of a limit %+v", o)
	}
}

func TestAStreamThatBreaksOffCountsAgainstItsInstance(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", `,"ejection":{"failures":1,"base_ms":1000}`,
		member("a", addr+"/?cut=2", `,"priority":1`), member("b", addr, "")))
	if got, c := r.ask(chain, request{body: streamed(true)}); !got.aborted || attempts(c) != "a:200" {
		t.Errorf("got %q, attempts %q", got.body(), attempts(c))
	}
	if got, c := r.ask(chain, request{body: streamed(true)}); got.aborted || attempts(c) != "b:200" {
		t.Errorf("the next one: got %q, attempts %q", got.body(), attempts(c))
	}
}

package airatelimiting

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/exchange/exchangetest"
	"github.com/gosix/gosix/pkg/plugin"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// rig is a route with the plugin.
type rig struct {
	t        testing.TB
	registry *plugin.Registry
	chain    *plugin.Chain
	clock    *timetest.Clock
	log      *logtest.Log
}

func newRig(t testing.TB, conf string) *rig {
	t.Helper()
	r := &rig{t: t, clock: timetest.NewClock(epoch), log: &logtest.Log{}}
	r.registry = plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop(), Clock: r.clock}, Definition())
	r.chain = r.compile("routes", conf)
	return r
}

func (r *rig) compile(kind, conf string) *plugin.Chain {
	r.t.Helper()
	c, err := r.registry.Compile(plugin.Source{Name: name, Conf: json.RawMessage(conf), Parent: plugin.Ref{Kind: kind, ID: "1"}}, plugin.Labels{}, nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return plugin.NewChain([]*plugin.Compiled{c})
}

// call is one request and what its answer costs.
type call struct {
	instance string // empty: none is chosen
	tokens   int64
	header   []string // names and values
	raw      string
	partial  bool
	fell     string // the instance that the request fell back to
}

func (r *rig) begin(q call) (*plugin.Context, *exchangetest.Recorder) {
	x, out := exchangetest.New()
	for n := 0; n < len(q.header); n += 2 {
		x.Request.Header.Add(q.header[n], q.header[n+1])
	}
	c := &plugin.Context{}
	c.Begin(x, nil, nil, zerolog.New(r.log))
	c.SetRoute(r.chain, plugin.Labels{})
	return c, out
}

// ask plays a request: aiproxy chooses, calls and accounts in between.
func (r *rig) ask(q call) *exchangetest.Recorder {
	r.t.Helper()
	c, out := r.begin(q)
	c.Chain().Run(c, plugin.Rewrite)
	if q.instance != "" {
		c.Facts.RequestType, c.Facts.BalancerIP = "ai_chat", q.instance
	}
	if !c.Chain().Run(c, plugin.Access) {
		r.answer(c, q)
	}
	c.RunLog()
	return out
}

func (r *rig) answer(c *plugin.Context, q call) {
	f := &c.Facts
	if q.instance == "" {
		f.BalancerIP, f.Attempts = "10.0.0.1", append(f.Attempts, exchange.Attempt{Addr: "10.0.0.1:80"})
		_ = c.Response.Send(200, "", nil)
		return
	}
	f.Attempts = append(f.Attempts, exchange.Attempt{Name: q.instance})
	if q.fell != "" {
		f.BalancerIP, f.Attempts = q.fell, append(f.Attempts, exchange.Attempt{Name: q.fell})
	}
	f.LLM.TotalTokens, f.LLM.PromptTokens, f.LLM.CompletionTokens, f.LLM.Partial = q.tokens, q.tokens/5, q.tokens/2, q.partial
	if q.raw != "" {
		f.LLM.RawUsage = [][]byte{[]byte(q.raw)}
	}
	_ = c.Response.Send(200, "", nil)
}

func (r *rig) expect(q call, status int) {
	r.t.Helper()
	if got := r.ask(q).Status; got != status {
		r.t.Errorf("got %d, want %d", got, status)
	}
}

func TestARequestIsAdmittedWhileAnythingIsLeft(t *testing.T) {
	r := newRig(t, `{"limit":30,"time_window":60}`)
	for _, want := range []struct {
		status    int
		remaining string
		reset     string
	}{{200, "30", "60"}, {200, "18", "58.75"}, {200, "6", "57.5"}, {503, "0", "56.25"}, {503, "0", "55"}} {
		out := r.ask(call{instance: "a", tokens: 12})
		h := out.Header
		if out.Status != want.status || h.Get("X-AI-RateLimit-Limit-a") != "30" || h.Get("X-AI-RateLimit-Remaining-a") != want.remaining || h.Get("X-AI-RateLimit-Reset-a") != want.reset {
			t.Errorf("got %d %v, want %v", out.Status, h.Fields(), want)
		}
		r.clock.Pass(1250 * time.Millisecond)
	}
	r.clock.Pass(time.Minute)
	r.expect(call{instance: "a", tokens: 12}, 200)
}

func TestRejections(t *testing.T) {
	for name, tt := range map[string]struct {
		conf, body string
		status     int
	}{
		"as they are by default": {`{"limit":1,"time_window":9}`, string(plugin.ErrorPage(503)), 503},
		"with a status":          {`{"limit":1,"time_window":9,"rejected_code":429}`, string(plugin.ErrorPage(429)), 429},
		"with a message":         {`{"limit":1,"time_window":9,"rejected_code":403,"rejected_msg":"no <more>"}`, `{"error_msg":"no \u003cmore\u003e"}` + "\n", 403},
		"that are no errors":     {`{"limit":1,"time_window":9,"rejected_code":200}`, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, strings.Replace(tt.conf, "{", `{"show_limit_quota_header":false,`, 1))
			r.expect(call{instance: "a", tokens: 5}, 200)
			out := r.ask(call{instance: "a", tokens: 5})
			if out.Status != tt.status || string(out.Body) != tt.body {
				t.Errorf("got %d %q, want %d %q", out.Status, out.Body, tt.status, tt.body)
			}
			for _, f := range out.Header.Fields() {
				if strings.Contains(f.Name, "RateLimit") {
					t.Errorf("got header %s", f.Name)
				}
			}
		})
	}
}

func TestWhatIsCounted(t *testing.T) {
	for name, tt := range map[string]struct {
		conf string
		call call
		left string
		log  string
	}{
		"all tokens":                                     {``, call{tokens: 20}, "80", ""},
		"those of the prompt":                            {`,"limit_strategy":"prompt_tokens"`, call{tokens: 20}, "96", ""},
		"those of the completion":                        {`,"limit_strategy":"completion_tokens"`, call{tokens: 20}, "90", ""},
		"an expression":                                  {`,"limit_strategy":"expression","cost_expr":"a * 1.5 + none"`, call{tokens: 20, raw: `{"a":3}`}, "95", ""},
		"an expression without usage":                    {`,"limit_strategy":"expression","cost_expr":"a"`, call{tokens: 20}, "100", "failed to get token usage for llm service"},
		"an expression without sense":                    {`,"limit_strategy":"expression","cost_expr":"1/a"`, call{tokens: 20, raw: `{"b":3}`}, "100", "cost_expr returned non-finite value"},
		"nothing, where nothing is told":                 {``, call{}, "100", "failed to get token usage for llm service"},
		"nothing, where that is told":                    {``, call{raw: `{"total_tokens":0}`}, "100", ""},
		"what is known of an answer that was broken off": {``, call{tokens: 20, partial: true}, "80", ""},
		"nothing of one of which nothing is known":       {``, call{partial: true}, "100", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, `{"limit":100,"time_window":60`+tt.conf+`}`)
			tt.call.instance = "a"
			r.ask(tt.call)
			if got := r.ask(call{instance: "a", raw: "{}"}).Header.Get("X-AI-RateLimit-Remaining-a"); got != tt.left {
				t.Errorf("left is %s, want %s", got, tt.left)
			}
			if log := r.log.String(); !strings.Contains(log, tt.log) || tt.log == "" && strings.Contains(log, `"error"`) {
				t.Errorf("got log %s, want %q", log, tt.log)
			}
		})
	}
}

func TestEachInstanceHasACounter(t *testing.T) {
	r := newRig(t, `{"limit":10,"time_window":60,"instances":[{"name":"b","limit":30,"time_window":30}]}`)
	r.expect(call{instance: "a", tokens: 10}, 200)
	r.expect(call{instance: "a"}, 503)
	r.expect(call{instance: "c", tokens: 10}, 200)
	r.expect(call{instance: "b", tokens: 20}, 200)
	if got := r.ask(call{instance: "b", tokens: 10}); got.Status != 200 || got.Header.Get("X-AI-RateLimit-Remaining-b") != "10" {
		t.Errorf("got %d %v", got.Status, got.Header.Fields())
	}
	r.expect(call{instance: "b"}, 503)
	r.clock.Pass(30 * time.Second)
	r.expect(call{instance: "b"}, 200)
	r.expect(call{instance: "a"}, 503)
}

func TestTheInstanceThatAnsweredPays(t *testing.T) {
	r := newRig(t, `{"limit":10,"time_window":60}`)
	r.expect(call{instance: "a", fell: "b", tokens: 10}, 200)
	r.expect(call{instance: "b"}, 503)
	r.expect(call{instance: "a", raw: "{}"}, 200)
}

func TestWithoutAQuotaNothingIsLimited(t *testing.T) {
	r := newRig(t, `{"instances":[{"name":"b","limit":1,"time_window":30}]}`)
	for range 3 {
		out := r.ask(call{instance: "a", tokens: 10})
		if out.Status != 200 || len(out.Header.Fields()) != 0 {
			t.Errorf("got %d %v", out.Status, out.Header.Fields())
		}
	}
}

func TestWithoutAnInstanceNothingIsLimited(t *testing.T) {
	r := newRig(t, `{"limit":1,"time_window":30}`)
	for range 2 {
		if out := r.ask(call{}); out.Status != 200 || len(out.Header.Fields()) != 0 {
			t.Errorf("got %d %v", out.Status, out.Header.Fields())
		}
	}
	if log := r.log.String(); log != "" {
		t.Errorf("got log %s", log)
	}
}

func TestQuotasMayBeTheRequests(t *testing.T) {
	r := newRig(t, `{"limit":"${http_count ?? 10}","time_window":"$http_window"}`)
	r.expect(call{instance: "a", tokens: 10, header: []string{"Window", "60"}}, 200)
	r.expect(call{instance: "a", header: []string{"Window", "60"}}, 503)
	r.expect(call{instance: "a", tokens: 10, header: []string{"Window", "60", "Count", "20"}}, 200)
	for _, bad := range []string{"0", "-1", "1.5", "x", "9007199254740993"} {
		r.expect(call{instance: "a", header: []string{"Window", bad}}, 500)
	}
	r.expect(call{instance: "a"}, 500)
	if log := r.log.String(); !strings.Contains(log, "failed to get rate limit rules") || !strings.Contains(log, "resolved value must be an integer, got: 1.5") {
		t.Errorf("got log %s", log)
	}
	lenient := newRig(t, `{"limit":1,"time_window":"$http_window","allow_degradation":true}`)
	lenient.expect(call{instance: "a", tokens: 5}, 200)
	lenient.expect(call{instance: "a", tokens: 5}, 200)
	lenient.expect(call{instance: "a", tokens: 5, header: []string{"Window", "60"}}, 200)
	lenient.expect(call{instance: "a", tokens: 5, header: []string{"Window", "60"}}, 503)
}

func TestRules(t *testing.T) {
	r := newRig(t, `{"rejected_code":429,"rules":[
		{"count":20,"time_window":10,"key":"${http_user}"},
		{"count":"${http_count ?? 30}","time_window":10,"key":"$http_project-$http_user","header_prefix":"project"},
		{"count":1,"time_window":10,"key":"constant"}]}`)
	jack := call{instance: "a", tokens: 10, header: []string{"User", "jack"}}
	out := r.ask(jack)
	for name, want := range map[string]string{
		"X-AI-1-RateLimit-Limit": "20", "X-AI-1-RateLimit-Remaining": "20", "X-AI-1-RateLimit-Reset": "10",
		"X-AI-project-RateLimit-Limit": "30", "X-AI-3-RateLimit-Limit": "",
	} {
		if got := out.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	r.expect(jack, 200)
	r.expect(jack, 429)
	r.expect(call{instance: "b", header: []string{"User", "jack"}}, 429)
	r.expect(call{instance: "a", tokens: 10, header: []string{"User", "rose"}}, 200)
	team := call{instance: "a", tokens: 15, header: []string{"Project", "x", "Count", "40"}}
	r.expect(team, 200)
	r.expect(team, 200)
	r.expect(call{instance: "a", header: []string{"Project", "x"}}, 429)
	r.expect(team, 200)
	r.expect(team, 429)
	r.expect(call{instance: "a", tokens: 10}, 500)
	r.expect(call{instance: "a", header: []string{"User", "new", "Count", "x"}}, 500)
	lenient := newRig(t, `{"allow_degradation":true,"rules":[{"count":20,"time_window":10,"key":"${http_user}"}]}`)
	lenient.expect(call{instance: "a", tokens: 10}, 200)
}

func TestNamesThatCannotBeHeaders(t *testing.T) {
	r := newRig(t, `{"limit":20,"time_window":10}`)
	out := r.ask(call{instance: "gpt 4: é\r\n/x"})
	if got := out.Header.Get("X-AI-RateLimit-Limit-gpt-4------x"); got == "" {
		t.Errorf("got %q", out.Header.Fields())
	}
}

func TestWhoeverChoosesCanAsk(t *testing.T) {
	r := newRig(t, `{"limit":10,"time_window":60,"instances":[{"name":"b","limit":"$http_b","time_window":60}]}`)
	asked := func(instance string, header ...string) bool {
		c, _ := r.begin(call{header: header})
		c.Chain().Run(c, plugin.Rewrite)
		return plugin.InstanceQuota.Get(c)(c, instance)
	}
	if !asked("a") || !asked("b", "B", "5") || asked("b") {
		t.Error("before anything is spent all are available, but for a quota that cannot be told")
	}
	r.ask(call{instance: "a", tokens: 10})
	if asked("a") || !asked("b", "B", "5") || !asked("c") {
		t.Error("it is not the one that spent its quota")
	}
	c, _ := r.begin(call{})
	c.Chain().Run(c, plugin.Rewrite)
	plugin.InstanceQuota.Get(c)(c, "a")
	if limit, left := c.Response.Header.Get("X-AI-RateLimit-Limit-a"), c.Response.Header.Get("X-AI-RateLimit-Remaining-a"); limit != "10" || left != "0" {
		t.Errorf("the answer tells %q of %q for the instance that is passed over", left, limit)
	}
	r.clock.Pass(time.Minute)
	if !asked("a") {
		t.Error("a new window has nothing left")
	}
	rules := newRig(t, `{"rules":[{"count":1,"time_window":10,"key":"$http_user"}]}`)
	c, _ = rules.begin(call{})
	c.Chain().Run(c, plugin.Rewrite)
	if !plugin.InstanceQuota.Get(c)(c, "a") {
		t.Error("rules are not about instances")
	}
}

func TestAConsumersQuotaIsTheOneThatCounts(t *testing.T) {
	for conf, want := range map[string]bool{`{"limit":1,"time_window":60}`: true, `{"_meta":{"disable":true}}`: true} {
		r := newRig(t, `{"limit":10,"time_window":60}`)
		r.ask(call{instance: "a", tokens: 10})
		c, _ := r.begin(call{})
		c.Chain().Run(c, plugin.Rewrite)
		own := &plugin.Consumer{Name: "ann", Chain: r.compile("consumers", conf)}
		c.Attach(&plugin.Identity{Consumer: own})
		c.MergeConsumer()
		if got := plugin.InstanceQuota.Get(c)(c, "a"); got != want {
			t.Errorf("%s: got %v, want %v", conf, got, want)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	r := newRig(t, `{"limit":1,"time_window":1}`)
	for conf, want := range map[string]string{
		`{"time_window":60}`:          `property "limit" is required when "time_window" is set`,
		`{"limit":30}`:                `property "time_window" is required when "limit" is set`,
		`{}`:                          "value should match only one schema, but matches none",
		`{"limit":0,"time_window":1}`: `property "limit" validation failed`,
		`{"limit":1,"time_window":1,"rules":[{"count":1,"time_window":1,"key":"$a"}]}`:       "value should match only one schema, but matches both schemas 1 and 2",
		`{"limit":1,"time_window":1,"limit_strategy":"expression"}`:                          "cost_expr is required when limit_strategy is 'expression'",
		`{"limit":1,"time_window":1,"limit_strategy":"expression","cost_expr":"a +"}`:        "invalid cost_expr: unexpected end",
		`{"limit":1,"time_window":1,"policy":"redis","redis_host":"127.0.0.1"}`:              `policy "redis" is not supported`,
		`{"limit":1,"time_window":1,"policy":"redis"}`:                                       "then clause did not match",
		`{"limit":1,"time_window":1,"policy":"redis-cluster","redis_cluster_name":"c"}`:      "else clause did not match",
		`{"limit":1,"time_window":1,"policy":"redis-sentinel","redis_master_name":"m"}`:      "else clause did not match",
		`{"limit":1,"time_window":1,"instances":[{"name":"a","limit":0,"time_window":"x"}]}`: `failed to validate item 1`,
	} {
		if err := r.registry.Check(plugin.Source{Name: name, Conf: json.RawMessage(conf)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", conf, err, want)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	for name, conf := range map[string]string{
		"limit": `{"limit":1000000000,"time_window":3600,"show_limit_quota_header":false}`,
		"rules": `{"rules":[{"count":1000000000,"time_window":3600,"key":"$http_user"}],"show_limit_quota_header":false}`,
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, conf)
			l := r.chain.Find("ai-rate-limiting").Phases.State.(*limiter)
			l.clock = plugin.SystemClock{}
			var n int
			var mu sync.Mutex
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				mu.Lock()
				n++
				user := fmt.Sprint("user", n)
				mu.Unlock()
				c, _ := r.begin(call{header: []string{"User", user}})
				c.Facts.RequestType, c.Facts.BalancerIP = "ai_chat", "a"
				c.Facts.Attempts = []exchange.Attempt{{Name: "a"}}
				c.Facts.LLM.TotalTokens = 10
				for pb.Next() {
					if err := l.access(c); err != nil {
						b.Error(err)
					}
					l.log(c)
				}
			})
		})
	}
}

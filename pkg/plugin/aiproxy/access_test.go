package aiproxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
)

func TestRequestsThatAreRefused(t *testing.T) {
	llm, addr := fake(t, "owl")
	const current, seed, limited = "ai-proxy", "seed", "limited"
	confs := map[string]string{
		current: single(addr, `,"max_req_body_size":100`),
		limited: `{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer own"}},"options":{"maxTokens":1},"override":{"endpoint":"http://` + addr + `","llm_options":{"max_tokens":100},"request_body":{"openai-chat":{"top_p":1}}}}`,
		seed:    `{"model":{"provider":"openai","name":"m"},"auth":{},"override":{"endpoint":"http://` + addr + `"}}`,
	}
	tests := map[string]struct {
		generation, contentType, body string
		status                        int
		want                          string
	}{
		"another content type": {
			current, "text/plain", hello, 400, "unsupported content-type: text/plain, only application/json is supported",
		},
		"the content type in capitals": {
			current, "Application/JSON", hello, 400, "unsupported content-type: Application/JSON, only application/json is supported",
		},
		"an empty body": {current, "", "", 400, `{"message":"could not get body: request body is empty"}` + "\n"},
		"too large a body": {
			current, "", `{"messages":[],"x":"` + strings.Repeat("x", 79) + `"}`, 413,
			`{"message":"could not get body: request size 101 is greater than the maximum size 100 allowed"}` + "\n",
		},
		"text behind the body": {
			current, "", `{}"messages": [ { "role": "system", "cont`, 400,
			`{"message":"could not parse JSON request body: Expected the end but found T_STRING at character 3"}` + "\n",
		},
		"a member twice": {
			current, "", `{"model":"a","messages":[],"mod\u0065l":"b"}`, 400,
			`{"message":"could not parse JSON request body: duplicate member \"model\" at character 28"}` + "\n",
		},
		"a member of a message twice": {
			current, "", `{"messages":[{"role":"a","role":"b"}]}`, 400,
			`{"message":"could not parse JSON request body: duplicate member \"role\" at character 26"}` + "\n",
		},
		"a member in other letters than the one that decides": {
			current, "", `{"model":"a","messages":[],"Model":"b"}`, 400,
			`{"message":"could not parse JSON request body: member \"Model\" is \"model\" in other letters"}` + "\n",
		},
		"a member in other letters, alone": {
			current, "", `{"messages":[],"ſtream":true}`, 400,
			`{"message":"could not parse JSON request body: member \"ſtream\" is \"stream\" in other letters"}` + "\n",
		},
		"a member in other letters than one that is configured": {
			limited, "", `{"messages":[],"maxtokens":5}`, 400,
			`{"message":"could not parse JSON request body: member \"maxtokens\" is \"maxTokens\" in other letters"}` + "\n",
		},
		"a limit in other letters": {
			limited, "", `{"messages":[],"max_tokens":1,"Max_Tokens":9}`, 400,
			`{"message":"could not parse JSON request body: member \"Max_Tokens\" is \"max_tokens\" in other letters"}` + "\n",
		},
		"a member of an overriding body in other letters": {
			limited, "", `{"messages":[],"Top_P":9}`, 400,
			`{"message":"could not parse JSON request body: member \"Top_P\" is \"top_p\" in other letters"}` + "\n",
		},
		"the wish for the usage in other letters": {
			current, "", `{"messages":[],"Stream_Options":{}}`, 400,
			`{"message":"could not parse JSON request body: member \"Stream_Options\" is \"stream_options\" in other letters"}` + "\n",
		},
		"an empty object": {current, "", `{}`, 400, "no matching AI protocol for the request"},
		"an empty list":   {current, "", `[]`, 400, "no matching AI protocol for the request"},
		"a number":        {current, "", `5`, 400, "no matching AI protocol for the request"},
		"a string":        {current, "", `"hi"`, 400, "no matching AI protocol for the request"},

		"seed: another content type": {
			seed, "application/x-www-form-urlencoded", "a=b", 400, "unsupported content-type: application/x-www-form-urlencoded",
		},
		"seed: an empty body": {seed, "", "", 400, `{"message":"could not get body: request body is empty"}` + "\n"},
		"seed: text behind the body": {
			seed, "", `{}"messages": [ { "role": "system", "cont`, 400,
			`{"message":"could not get parse JSON request body: Expected the end but found T_STRING at character 3"}` + "\n",
		},
		"seed: no messages": {
			seed, "", `{ "messages-missing": [] }`, 400, `request format doesn't match schema: property "messages" is required`,
		},
		"seed: messages that are no list": {
			seed, "", `{"messages":{"a":1}}`, 400,
			`request format doesn't match schema: property "messages" validation failed: wrong type: expected array, got table`,
		},
		"seed: no message": {
			seed, "", `{"messages":[]}`, 400,
			`request format doesn't match schema: property "messages" validation failed: expect array to have at least 1 items`,
		},
		"seed: a message without a role": {
			seed, "", `{"messages":[{"role":"user"},{"content":"x"}]}`, 400,
			`request format doesn't match schema: property "messages" validation failed: failed to validate item 2: property "role" is required`,
		},
		"seed: a list": {seed, "", `[1]`, 400, `request format doesn't match schema: wrong type: expected object, got table`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			q := request{body: tt.body}
			if tt.contentType != "" {
				q.header = []string{"Content-Type", tt.contentType}
			}
			got, _ := r.ask(r.route("ai-proxy", confs[tt.generation]), q)
			if got.status != tt.status || got.body() != tt.want {
				t.Errorf("got  %d %q\nwant %d %q", got.status, got.body(), tt.status, tt.want)
			}
		})
	}
	if n := len(llm.Received()); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestRequestsThatPass(t *testing.T) {
	_, addr := fake(t, "owl")
	seed := `{"model":{"provider":"openai","name":"m"},"auth":{},"override":{"endpoint":"http://` + addr + `"}}`
	tests := map[string]struct{ conf, method, contentType, body string }{
		"a charset":                     {single(addr, ""), "POST", "application/json; charset=utf-8", hello},
		"no content type":               {single(addr, ""), "POST", "", hello},
		"a GET with a body":             {single(addr, ""), "GET", "application/json", hello},
		"a prefix is enough (recorded)": {single(addr, ""), "POST", "application/jsonp", hello},
		"capitals where nothing decides": {
			single(addr, `,"options":{"maxTokens":1}`), "POST", "", `{"messages":[{"role":"user","Model":"x"}],"maxTokens":5,"modelId":1}`,
		},
		"seed: content parts, tools and members nobody knows": {
			seed, "POST", "application/json",
			`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}],"name":"x"},{"role":"tool","tool_call_id":"1","content":""}],"x":1}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			q := request{method: tt.method, body: tt.body}
			if tt.contentType != "" {
				q.header = []string{"Content-Type", tt.contentType}
			}
			if got, _ := r.ask(r.route("ai-proxy", tt.conf), q); got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body())
			}
		})
	}
}

func TestWhatTheAccessPhaseFindsOut(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	_, c := r.ask(r.route("ai-proxy", single(addr, `,"options":{"model":"theirs"}`)), request{
		body: `{"model":"mine","messages":[{"role":"user","content":"hi"}],"tools":[{},{}],"user":"u","stream":true}`,
	})
	f := &c.Facts
	got := []any{
		f.RequestType, f.BalancerIP, f.LLM.RequestModel, f.LLM.Model, f.LLM.EndUserID, f.LLM.ToolCount, c.Bypass,
		f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI,
	}
	want := []any{"ai_stream", "ai-proxy-openai-compatible", "mine", "theirs", "u", 2, true, "http", "127.0.0.1", "/v1/chat/completions"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBothPluginsOnOneRoute(t *testing.T) {
	one, oneAddr := fake(t, "one")
	many, manyAddr := fake(t, "many")
	r := newRig(t)
	chain := r.route("ai-proxy", single(oneAddr, ""), "ai-proxy-multi", multi("instances", "", member("many", manyAddr, "")))
	got, c := r.ask(chain, request{body: hello})
	if got.status != 200 || len(many.Received()) != 1 || len(one.Received()) != 0 {
		t.Errorf("got %d, ai-proxy-multi asked %d times, ai-proxy %d times", got.status, len(many.Received()), len(one.Received()))
	}
	if c.Facts.BalancerIP != "many" {
		t.Errorf("got instance %q", c.Facts.BalancerIP)
	}
}

// picks asks n times and counts whose instance answered.
func picks(r *rig, chain *plugin.Chain, n int, q func(i int) request) (count map[string]int, order []string) {
	count = map[string]int{}
	for i := 1; i <= n; i++ {
		_, c := r.ask(chain, q(i))
		count[c.Facts.BalancerIP]++
		order = append(order, c.Facts.BalancerIP)
	}
	return count, order
}

func plainly(int) request { return request{body: hello} }

func TestRoundRobinIsExactOverACycle(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("providers", "", seedMember("openai", addr, `,"weight":4`), seedMember("deepseek", addr, `,"weight":1`)))
	for cycle := range 3 {
		got, _ := picks(r, chain, 5, plainly)
		if diff := cmp.Diff(map[string]int{"openai": 4, "deepseek": 1}, got); diff != "" {
			t.Errorf("cycle %d: %s", cycle, diff)
		}
	}
}

func TestAMissingWeightIsOneInTheSeedGeneration(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	got, _ := picks(r, r.route("ai-proxy-multi", multi("providers", "", seedMember("openai", addr, ""), seedMember("deepseek", addr, ""))), 4, plainly)
	if diff := cmp.Diff(map[string]int{"openai": 2, "deepseek": 2}, got); diff != "" {
		t.Error(diff)
	}
}

func TestConsistentHashing(t *testing.T) {
	_, addr := fake(t, "owl")
	members := []string{seedMember("openai", addr, `,"weight":4`), seedMember("deepseek", addr, `,"weight":1`)}
	tests := map[string]struct {
		balancer string
		q        func(i int) request
		want     map[string]int
	}{
		// The vectors of spec/05 §4.2.
		"a variable": {
			`{"algorithm":"chash","hash_on":"vars","key":"query_string"}`,
			func(i int) request { return request{uri: fmt.Sprintf("/anything?index=%d", i), body: hello} },
			map[string]int{"openai": 8, "deepseek": 2},
		},
		"a combination": {
			`{"algorithm":"chash","hash_on":"vars_combinations","key":"index=$arg_index"}`,
			func(i int) request { return request{uri: fmt.Sprintf("/anything?index=%d", i), body: hello} },
			map[string]int{"openai": 8, "deepseek": 2},
		},
		"a header": {
			`{"algorithm":"chash","hash_on":"header","key":"X-Key"}`,
			func(i int) request {
				return request{header: []string{"X-Key", fmt.Sprintf("index=%d", i)}, body: hello}
			},
			map[string]int{"openai": 8, "deepseek": 2},
		},
		"a cookie": {
			`{"algorithm":"chash","hash_on":"cookie","key":"sid"}`,
			func(i int) request {
				return request{header: []string{"Cookie", fmt.Sprintf("a=b; sid=index=%d", i)}, body: hello}
			},
			map[string]int{"openai": 8, "deepseek": 2},
		},
		"a consumer": {
			`{"algorithm":"chash","hash_on":"consumer"}`,
			func(i int) request { return request{consumer: fmt.Sprintf("index=%d", i), body: hello} },
			map[string]int{"openai": 8, "deepseek": 2},
		},
		"nothing to hash: the client's address": {
			`{"algorithm":"chash","hash_on":"header","key":"X-Key"}`, plainly, map[string]int{whoHas(address): 10},
		},
		"nobody to hash: the client's address": {
			`{"algorithm":"chash","hash_on":"consumer"}`, plainly, map[string]int{whoHas(address): 10},
		},
		"no arguments to hash: the client's address": {
			`{"algorithm":"chash","hash_on":"vars","key":"query_string"}`, plainly, map[string]int{whoHas(address): 10},
		},
		"a header that is there and empty is a value": {
			`{"algorithm":"chash","hash_on":"header","key":"X-Key"}`,
			func(int) request { return request{header: []string{"X-Key", ""}, body: hello} },
			map[string]int{whoHas(""): 10},
		},
		"a combination of which nothing is there": {
			`{"algorithm":"chash","hash_on":"vars_combinations","key":"$arg_a$arg_b"}`, plainly, map[string]int{whoHas(address): 10},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, _ := picks(r, r.route("ai-proxy-multi", multi("providers", `,"balancer":`+tt.balancer, members...)), 10, tt.q)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// whoHas is who gets a key, by the balancer alone.
func whoHas(key string) string {
	targets := []balancer.Target{{ID: "openai", Weight: 4}, {ID: "deepseek", Weight: 1}}
	p, _ := balancer.New(balancer.Config{Algorithm: "chash", Targets: targets}, nil)
	i, _ := p.Pick(&balancer.Attempt{Hash: balancer.Hash(key)})
	return targets[i].ID
}

func TestLowerPrioritiesWaitForHigherOnes(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", "",
		member("low", addr, `,"priority":-1`), member("a", addr, `,"priority":5`), member("b", addr, `,"priority":5`)))
	got, _ := picks(r, chain, 6, plainly)
	if diff := cmp.Diff(map[string]int{"a": 3, "b": 3}, got); diff != "" {
		t.Error(diff)
	}
}

func TestABalancerWithoutAnAlgorithmCannotChoose(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy-multi", multi("instances", `,"balancer":{}`, member("a", addr, ""), member("b", addr, "")))
	if got, _ := r.ask(chain, request{body: hello}); got.status != http.StatusInternalServerError {
		t.Errorf("got %d", got.status)
	}
}

func TestPickersAreTakenOver(t *testing.T) {
	_, addr := fake(t, "owl")
	conf := multi("instances", "", member("a", addr, ""), member("b", addr, ""), member("c", addr, ""))
	r := newRig(t)
	_, want := picks(r, r.route("ai-proxy-multi", conf), 6, plainly)

	r = newRig(t)
	chain := r.route("ai-proxy-multi", conf)
	_, got := picks(r, chain, 2, plainly)
	chain = r.routeAfter(chain, "ai-proxy-multi", conf) // the route changed, this did not
	_, more := picks(r, chain, 2, plainly)
	got = append(got, more...)
	r.route("ai-proxy-multi", multi("instances", "", member("z", addr, ""))) // another configuration, and back
	_, more = picks(r, r.route("ai-proxy-multi", conf), 2, plainly)
	if diff := cmp.Diff(want, append(got, more...)); diff != "" {
		t.Error(diff)
	}
}

func TestAPickIsReleasedWhenTheRequestEndsBeforeTheCall(t *testing.T) {
	p := &countingPicker{}
	c, err := readMulti([]byte(multi("instances", "", member("a", "a:1", ""), member("b", "a:1", ""))))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := Deps{Drivers: allDrivers()}.compile("ai-proxy-multi", c)
	if err != nil {
		t.Fatal(err)
	}
	compiled.state = &state{picker: p}
	r := newRig(t)
	chain := plugin.NewChain([]*plugin.Compiled{
		{Name: "x", Phases: plugin.Phases{Access: compiled.access, Log: compiled.log, BeforeProxy: func(*plugin.Context) error {
			return plugin.Exit(http.StatusForbidden, nil)
		}}},
	})
	if got, _ := r.ask(chain, request{body: hello}); got.status != http.StatusForbidden || p.picked != 1 || p.done != 1 {
		t.Errorf("got %d, %d picks and %d ends", got.status, p.picked, p.done)
	}
}

type countingPicker struct{ picked, done int }

func (p *countingPicker) Pick(*balancer.Attempt) (int, error) { p.picked++; return 0, nil }
func (p *countingPicker) Done(int, balancer.Outcome)          { p.done++ }

var _ exchange.Sink = (*sink)(nil)

func TestWhatIsLoggedForThoseWhoDebug(t *testing.T) {
	_, addr := fake(t, "owl")
	broken := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	for level, want := range map[zerolog.Level]int{zerolog.DebugLevel: 1, zerolog.InfoLevel: 0} {
		for _, stream := range []bool{false, true} {
			r := newRig(t)
			r.level = level
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx"]`, member("a", broken, `,"priority":1`), member("b", addr, "")))
			r.ask(chain, request{body: streamed(stream)})
			log := r.log.String()
			for _, line := range []string{`"message":"picked instance: a"`, `"message":"picked instance: b"`, `"message":"got token usage from ai service:"`} {
				if got := strings.Count(log, line); got != want {
					t.Errorf("at %s, stream %v: %s comes %d times, want %d: %s", level, stream, line, got, want, log)
				}
			}
			if strings.Contains(log, "Bearer") || strings.Contains(log, "hello") {
				t.Errorf("a secret or a payload is in %s", log)
			}
		}
	}
}

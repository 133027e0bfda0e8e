package t

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The behaviours that the first suites of ai-proxy-multi assert, block by block, against
// the running program. The names are those of the blocks.

// solution is what the second suite's model answers; the blocks look for its message.
const solution = `{ "choices": [ { "finish_reason": "stop", "index": 0, "message": { "content": "1 + 1 = 2.", "role": "assistant" } } ] }` + "\n"

// models are the providers of the three suites, as far as their blocks can tell: they judge
// method, credentials and body, and answer fixed texts.
func models(t *testing.T) (balancer, first, second string) {
	type model func(w http.ResponseWriter, q *http.Request, body string)
	answer := func(text string) model {
		return func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = io.WriteString(w, text) }
	}
	guarded := func(allowed func(*http.Request) bool, then model) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			w.Header().Set("Content-Type", "application/json")
			switch {
			case q.Method != http.MethodPost:
				w.WriteHeader(400)
				_, _ = fmt.Fprintln(w, "Unsupported request method:", q.Method)
			case !allowed(q):
				w.WriteHeader(401)
				_, _ = io.WriteString(w, "Unauthorized\n")
			default:
				then(w, q, string(body))
			}
		}
	}
	token := func(q *http.Request) bool { return q.Header.Get("Authorization") == "Bearer token" }
	key := func(q *http.Request) bool { return q.URL.Query().Get("api_key") == "apikey" }
	anybody := func(*http.Request) bool { return true }

	picked := http.NewServeMux()
	picked.HandleFunc("/v1/chat/completions", guarded(token, answer("openai")))
	picked.HandleFunc("/chat/completions", guarded(token, answer("deepseek")))

	chat := http.NewServeMux()
	chat.HandleFunc("/v1/chat/completions", guarded(token, func(w http.ResponseWriter, q *http.Request, body string) {
		text := solution
		switch {
		case strings.Contains(body, `"foo":"bar"`):
			text = "options works\n"
		case strings.Contains(body, "write an SQL query to get all rows from student table"):
			text = "SELECT * FROM STUDENTS"
		}
		answer(text)(w, q, body)
	}))
	chat.HandleFunc("/random", guarded(anybody, answer("path override works\n")))
	chat.HandleFunc("/anything", guarded(anybody, func(w http.ResponseWriter, q *http.Request, body string) {
		if body != "SELECT * FROM STUDENTS" {
			w.WriteHeader(503)
		}
		answer("{\"foo\", \"bar\"}\n")(w, q, body)
	}))

	keyed := http.NewServeMux()
	keyed.HandleFunc("/v1/chat/completions", guarded(key, answer("passed\n")))
	keyed.HandleFunc("/test/params/in/overridden/endpoint", guarded(key, func(w http.ResponseWriter, q *http.Request, body string) {
		if args := q.URL.Query(); len(args) != 2 || args.Get("some_query") != "yes" {
			w.WriteHeader(503)
		}
		answer("passed\n")(w, q, body)
	}))
	return serve(t, picked), serve(t, chat), serve(t, keyed)
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

type provider struct {
	name, auth, options, endpoint string
	weight, priority              int
}

const (
	goodHeader = `{"header":{"Authorization":"Bearer token"}}`
	question   = `{ "messages": [ { "role": "system", "content": "You are a mathematician" }, { "role": "user", "content": "What is 1+1?"} ] }`
)

// multi is the configuration of a route with those providers.
func multi(extra string, upstream string, list ...provider) string {
	var providers []string
	for _, p := range list {
		if p.auth == "" {
			p.auth = goodHeader
		}
		if p.options == "" {
			p.options = `{"max_tokens":512,"temperature":1.0}`
		}
		override := ""
		if p.endpoint != "" {
			override = fmt.Sprintf(`,"override":{"endpoint":%q}`, p.endpoint)
		}
		providers = append(providers, fmt.Sprintf(`{"name":%q,"model":"gpt-4","weight":%d,"priority":%d,"auth":%s,"options":%s%s}`,
			p.name, p.weight, p.priority, p.auth, p.options, override))
	}
	return fmt.Sprintf(`{"uri":"/anything","plugins":{"ai-proxy-multi":{%s"providers":[%s],"ssl_verify":false}},`+
		`"upstream":{"type":"roundrobin","nodes":{%q:1}}}`, extra, strings.Join(providers, ","), upstream)
}

func TestSeedSuites(t *testing.T) {
	n := gosix(t)
	picked, llm, keyed := models(t)
	sse := streamer(t)
	const nowhere = "canbeanything.invalid"
	openai := provider{name: "openai", weight: 4, endpoint: "http://" + picked}
	deepseek := provider{name: "deepseek", weight: 1, endpoint: "http://" + picked + "/chat/completions"}
	one := func(change func(*provider)) string {
		p := provider{name: "openai", weight: 1, endpoint: "http://" + llm}
		change(&p)
		return multi("", nowhere, p)
	}
	set := func(t *testing.T, conf string) {
		t.Helper()
		n.t = t
		n.must("PUT", "/routes/1", conf)
	}
	ask := func(t *testing.T, want int, text, method, body string, header ...string) {
		t.Helper()
		n.t = t
		a := n.ask(method, "/anything", body, header...)
		if a.StatusCode != want || a.Text != text || a.Err != nil {
			t.Errorf("got %d %q (%v), want %d %q", a.StatusCode, a.Text, a.Err, want, text)
		}
	}
	picks := func(t *testing.T, path func(i int) string) map[string]int {
		t.Helper()
		n.t = t
		got := map[string]int{}
		for i := 1; i <= 10; i++ {
			a := n.ask("POST", path(i), question)
			if a.StatusCode != 200 {
				t.Errorf("got %d %q", a.StatusCode, a.Text)
			}
			got[a.Text]++
		}
		return got
	}
	always := func(int) string { return "/anything" }
	authorized := []string{"Authorization", "Bearer token"}

	blocks := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"ai-proxy-multi.balancer.t TEST 1", func(t *testing.T) { set(t, multi("", nowhere, openai, deepseek)) }},
		{"ai-proxy-multi.balancer.t TEST 2", func(t *testing.T) {
			if got := picks(t, always); got["openai"] != 8 || got["deepseek"] != 2 {
				t.Errorf("got %v, want 8 and 2", got)
			}
		}},
		{"ai-proxy-multi.balancer.t TEST 3", func(t *testing.T) {
			set(t, multi(`"balancer":{"algorithm":"chash","hash_on":"vars","key":"query_string"},`, nowhere, openai, deepseek))
		}},
		{"ai-proxy-multi.balancer.t TEST 4", func(t *testing.T) {
			got := picks(t, func(i int) string { return fmt.Sprintf("/anything?index=%d", i) })
			if got["openai"] != 8 || got["deepseek"] != 2 {
				t.Errorf("got %v, want 8 and 2", got)
			}
		}},
		{"ai-proxy-multi.balancer.t TEST 5", func(t *testing.T) {
			set(t, multi("", nowhere,
				provider{name: "openai", weight: 1, priority: 1, endpoint: "http://" + refusing(t)},
				provider{name: "deepseek", weight: 1, endpoint: deepseek.endpoint}))
		}},
		{"ai-proxy-multi.balancer.t TEST 6", func(t *testing.T) {
			ask(t, 200, "deepseek", "POST", question)
			const line = "failed to send request to LLM: failed to connect to LLM server: connection refused. Retrying..."
			eventually(t, "the log says why", func() bool { return strings.Contains(n.log.String(), line) })
		}},

		{"ai-proxy-multi.t TEST 1", func(t *testing.T) {
			set(t, `{"uri":"/anything","plugins":{"ai-proxy-multi":{"providers":[{"name":"openai","model":"gpt-4","weight":1,`+
				`"auth":{"header":{"some_header":"some_value"}}}]}}}`)
		}},
		{"ai-proxy-multi.t TEST 2", func(t *testing.T) {
			n.t = t
			a := n.admin("PUT", "/routes/1", strings.Replace(multi("", nowhere, openai), `"name":"openai"`, `"name":"some-unique"`, 1))
			if a.StatusCode != 400 || !strings.Contains(a.Text, "provider: some-unique is not supported.") {
				t.Errorf("got %d %s", a.StatusCode, a.Text)
			}
		}},
		{"ai-proxy-multi.t TEST 3", func(t *testing.T) {
			set(t, one(func(p *provider) { p.auth = `{"header":{"Authorization":"Bearer wrongtoken"}}` }))
		}},
		{"ai-proxy-multi.t TEST 4", func(t *testing.T) { ask(t, 401, "Unauthorized\n", "POST", question) }},
		{"ai-proxy-multi.t TEST 5", func(t *testing.T) { set(t, one(func(*provider) {})) }},
		{"ai-proxy-multi.t TEST 6", func(t *testing.T) { ask(t, 200, solution, "POST", question, authorized...) }},
		{"ai-proxy-multi.t TEST 7", func(t *testing.T) {
			ask(t, 400, `{"message":"could not get body: request body is empty"}`+"\n", "POST", "", authorized...)
		}},
		{"ai-proxy-multi.t TEST 8", func(t *testing.T) { ask(t, 200, solution, "GET", question, authorized...) }},
		{"ai-proxy-multi.t TEST 9", func(t *testing.T) {
			ask(t, 400, `{"message":"could not get parse JSON request body: Expected the end but found T_STRING at character 3"}`+"\n",
				"GET", `{}"messages": [ { "role": "system", "cont"`)
		}},
		{"ai-proxy-multi.t TEST 10", func(t *testing.T) {
			n.t = t
			a := n.ask("POST", "/anything", "prompt%3Dwhat%2520is%25201%2520%252B%25201", "Content-Type", "application/x-www-form-urlencoded")
			if a.StatusCode != 400 || a.Text != "unsupported content-type: application/x-www-form-urlencoded" {
				t.Errorf("got %d %q", a.StatusCode, a.Text)
			}
		}},
		{"ai-proxy-multi.t TEST 11", func(t *testing.T) {
			ask(t, 400, `request format doesn't match schema: property "messages" is required`, "POST",
				`{ "messages-missing": [ { "role": "system", "content": "xyz" } ] }`, authorized...)
		}},
		{"ai-proxy-multi.t TEST 12", func(t *testing.T) {
			set(t, one(func(p *provider) { p.options = `{"foo":"bar","temperature":1.0}` }))
			ask(t, 200, "options works\n", "POST", question, "Content-Type", "application/json")
		}},
		{"ai-proxy-multi.t TEST 13", func(t *testing.T) {
			set(t, one(func(p *provider) { p.endpoint += "/random" }))
			ask(t, 200, "path override works\n", "POST", question, "Content-Type", "application/json")
		}},
		{"ai-proxy-multi.t TEST 14", func(t *testing.T) {
			set(t, multi(`"passthrough":true,`, llm, provider{name: "openai", weight: 1, endpoint: "http://" + llm}))
		}},
		{"ai-proxy-multi.t TEST 15", func(t *testing.T) {
			ask(t, 200, "{\"foo\", \"bar\"}\n", "POST",
				`{ "messages": [ { "role": "user", "content": "write an SQL query to get all rows from student table" } ] }`, authorized...)
		}},
		{"ai-proxy-multi.t TEST 16", func(t *testing.T) {
			set(t, one(func(p *provider) {
				p.endpoint = "http://" + sse
				p.options = `{"max_tokens":512,"temperature":1.0,"stream":true}`
			}))
		}},
		{"ai-proxy-multi.t TEST 17", func(t *testing.T) {
			pieces := readPieces(t, n.url("/anything"), `{"messages":[{"role":"system","content":"some content"}]}`)
			if len(pieces) != 6 || pieces[5] != "data: [DONE]\n\n" {
				t.Errorf("got %d pieces: %q", len(pieces), pieces)
			}
		}},

		{"ai-proxy-multi2.t TEST 1", func(t *testing.T) {
			set(t, one(func(p *provider) { p.auth, p.endpoint = `{"query":{"api_key":"wrong_key"}}`, "http://"+keyed }))
		}},
		{"ai-proxy-multi2.t TEST 2", func(t *testing.T) { ask(t, 401, "Unauthorized\n", "POST", question) }},
		{"ai-proxy-multi2.t TEST 3", func(t *testing.T) {
			set(t, one(func(p *provider) { p.auth, p.endpoint = `{"query":{"api_key":"apikey"}}`, "http://"+keyed }))
		}},
		{"ai-proxy-multi2.t TEST 4", func(t *testing.T) { ask(t, 200, "passed\n", "POST", question) }},
		{"ai-proxy-multi2.t TEST 5", func(t *testing.T) {
			// Without an endpoint the provider's own address is used; here it cannot be reached.
			set(t, one(func(p *provider) { p.auth, p.endpoint = `{"header":{"Authorization":"some-key"}}`, "" }))
		}},
		{"ai-proxy-multi2.t TEST 6", func(t *testing.T) {
			// The real provider answers 401. What can be seen without it: the request leaves
			// for its address, and a failure is a bare 500.
			n.t = t
			a := n.ask("POST", "/anything", question)
			if a.StatusCode != 500 && a.StatusCode != 401 {
				t.Errorf("got %d %s", a.StatusCode, a.Text)
			}
			eventually(t, "the access log names the provider", func() bool {
				return strings.Contains(accessLog(t, n), "https://api.openai.com/v1/chat/completions")
			})
		}},
		{"ai-proxy-multi2.t TEST 7", func(t *testing.T) {
			set(t, one(func(p *provider) {
				p.auth = `{"query":{"api_key":"apikey"}}`
				p.endpoint = "http://" + keyed + "/test/params/in/overridden/endpoint?some_query=yes"
			}))
		}},
		{"ai-proxy-multi2.t TEST 8", func(t *testing.T) { ask(t, 200, "passed\n", "POST", question) }},
	}
	if len(blocks) != 31 {
		t.Fatalf("%d blocks, want 31", len(blocks))
	}
	for _, b := range blocks {
		t.Run(b.name, b.run)
	}
	n.t = t
}

// streamer answers with six events, each flushed, waiting for the reader in between.
func streamer(t *testing.T) string {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 5 {
			_, _ = fmt.Fprintf(w, `data: {"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}]}`+"\n\n", i)
			w.(http.Flusher).Flush()
			<-turn
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
}

// turn lets the streamer go on once an event was seen: pieces cannot run together.
var turn = make(chan struct{})

// readPieces reads a stream event by event, letting the streamer go on after each.
func readPieces(t *testing.T, url, body string) (pieces []string) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			pieces = append(pieces, string(buf[:n]))
			if len(pieces) <= 5 {
				select {
				case turn <- struct{}{}:
				case <-time.After(patience):
					t.Errorf("the stream does not go on after %q", pieces)
				}
			}
		}
		if err != nil {
			return pieces
		}
	}
}

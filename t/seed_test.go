package t

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// The behaviours that the first suites of ai-proxy-multi assert, block by block, against
// the running program. The names are those of the blocks.

// oracle is the model of those suites: it judges credentials and answers fixed texts.
func oracle(t *testing.T) (addr string) {
	answer := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
	guarded := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			switch {
			case r.Method != http.MethodPost:
				answer(w, 400, "method "+r.Method)
			case r.Header.Get("Authorization") != "Bearer token" && !slices.Contains([]string{"apikey"}, r.URL.Query().Get("api_key")):
				answer(w, 401, "Unauthorized\n")
			case strings.Contains(string(body), `"foo":"bar"`):
				answer(w, 200, "options works\n")
			case strings.Contains(string(body), "student table"):
				answer(w, 200, "SELECT * FROM STUDENTS")
			default:
				answer(w, 200, name)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/chat/completions", guarded("openai"))
	mux.HandleFunc("/chat/completions", guarded("deepseek"))
	mux.HandleFunc("/random", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "path override works\n") })
	mux.HandleFunc("/with/arguments", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer(w, 200, fmt.Sprintf("api_key=%s some_query=%s", q.Get("api_key"), q.Get("some_query")))
	})
	mux.HandleFunc("/anything", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != "SELECT * FROM STUDENTS" {
			answer(w, 503, "it got: "+string(body))
			return
		}
		answer(w, 200, "{\"foo\", \"bar\"}\n")
	})
	return serve(t, mux)
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
	llm, sse := oracle(t), streamer(t)
	const nowhere = "canbeanything.invalid"
	openai := provider{name: "openai", weight: 4, endpoint: "http://" + llm}
	deepseek := provider{name: "deepseek", weight: 1, endpoint: "http://" + llm + "/chat/completions"}
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
		if a.StatusCode != want || !strings.Contains(a.Text, text) {
			t.Errorf("got %d %q, want %d with %q", a.StatusCode, a.Text, want, text)
		}
	}
	picks := func(t *testing.T, path func(i int) string) map[string]int {
		t.Helper()
		n.t = t
		got := map[string]int{}
		for i := 1; i <= 10; i++ {
			got[n.ask("POST", path(i), question).Text]++
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
		{"ai-proxy-multi.t TEST 6", func(t *testing.T) { ask(t, 200, "openai", "POST", question, authorized...) }},
		{"ai-proxy-multi.t TEST 7", func(t *testing.T) {
			ask(t, 400, `{"message":"could not get body: request body is empty"}`, "POST", "", authorized...)
		}},
		{"ai-proxy-multi.t TEST 8", func(t *testing.T) { ask(t, 200, "openai", "GET", question, authorized...) }},
		{"ai-proxy-multi.t TEST 9", func(t *testing.T) {
			ask(t, 400, `{"message":"could not get parse JSON request body: Expected the end but found T_STRING at character 3"}`+"\n",
				"GET", `{}"messages": [ { "role": "system", "cont"`)
		}},
		{"ai-proxy-multi.t TEST 10", func(t *testing.T) {
			n.t = t
			a := n.ask("POST", "/anything", "prompt%3Dwhat", "Content-Type", "application/x-www-form-urlencoded")
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
			ask(t, 200, "options works", "POST", question, "Content-Type", "application/json")
		}},
		{"ai-proxy-multi.t TEST 13", func(t *testing.T) {
			set(t, one(func(p *provider) { p.endpoint += "/random" }))
			ask(t, 200, "path override works", "POST", question, "Content-Type", "application/json")
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
			set(t, one(func(p *provider) { p.auth = `{"query":{"api_key":"wrong_key"}}` }))
		}},
		{"ai-proxy-multi2.t TEST 2", func(t *testing.T) { ask(t, 401, "Unauthorized\n", "POST", question) }},
		{"ai-proxy-multi2.t TEST 3", func(t *testing.T) {
			set(t, one(func(p *provider) { p.auth = `{"query":{"api_key":"apikey"}}` }))
		}},
		{"ai-proxy-multi2.t TEST 4", func(t *testing.T) { ask(t, 200, "openai", "POST", question) }},
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
				p.endpoint += "/with/arguments?some_query=" + url.QueryEscape("yes")
			}))
		}},
		{"ai-proxy-multi2.t TEST 8", func(t *testing.T) { ask(t, 200, "api_key=apikey some_query=yes", "POST", question) }},
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

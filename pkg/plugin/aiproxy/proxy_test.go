package aiproxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/t/fakellm"
)

// wait fails the test when c says nothing for long.
func wait[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(timetest.Patience):
		t.Fatalf("%s did not happen", what)
	}
	return v
}

func TestAnAnswerIsRelayedAndAccounted(t *testing.T) {
	llm, addr := fake(t, "owl")
	r := newRig(t)
	got, c := r.ask(r.route("ai-proxy", single(addr, `,"options":{"model":"theirs"}`)), request{
		body:   `{"x":12345678901234567890,"mod\u0065l":"mine","messages":[{"role":"user","content":"hi"}],"y":1e-7}`,
		header: []string{"X-Mine", "1", "Cookie", "a", "Host", "gateway"},
	})
	if got.status != 200 || !strings.Contains(got.body(), `"content":"I am owl`) || got.aborted {
		t.Fatalf("got %d %s", got.status, got.body())
	}
	if kind := got.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("got content type %q", kind)
	}
	sent := llm.Received()[0]
	if want := `{"x":12345678901234567890,"mod\u0065l":"theirs","messages":[{"role":"user","content":"hi"}],"y":1e-7}`; string(sent.Body) != want {
		t.Errorf("got  %s\nwant %s", sent.Body, want)
	}
	if sent.Header.Get("Authorization") != "Bearer own" || sent.Header.Get("X-Mine") != "1" || sent.Header.Get("Cookie") != "" {
		t.Errorf("the provider got %v", sent.Header)
	}
	f := &c.Facts
	if diff := cmp.Diff([]int64{7, f.LLM.CompletionTokens, 7 + f.LLM.CompletionTokens}, []int64{f.LLM.PromptTokens, f.LLM.CompletionTokens, f.LLM.TotalTokens}); diff != "" || f.LLM.CompletionTokens == 0 {
		t.Errorf("tokens: %s", diff)
	}
	a := f.Attempts
	if len(a) != 1 || a[0].Name != "ai-proxy-openai-compatible" || a[0].Addr != addr || a[0].Status != 200 || a[0].Response <= 0 || a[0].Length == 0 || f.LLM.FirstToken <= 0 {
		t.Errorf("attempts %+v", a)
	}
	if c.Response.Origin != exchange.FromUpstream {
		t.Errorf("got origin %v", c.Response.Origin)
	}
}

func TestAProvidersErrorReachesTheClient(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 422, 429, 500, 502, 503, 529} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Retry-After", "7")
				w.Header().Set("X-Request-Id", "up-1")
				w.Header().Set("X-Ratelimit-Remaining-Requests", "3")
				w.Header().Set("X-Other", "stays")
				w.WriteHeader(status)
				_, _ = fmt.Fprint(w, `{"error":1}`)
			}))
			r := newRig(t)
			got, c := r.ask(r.route("ai-proxy", single(addr, "")), request{body: hello})
			if got.status != status || got.body() != `{"error":1}` {
				t.Errorf("got %d %s", got.status, got.body())
			}
			want := []exchange.Field{
				{Name: "Content-Type", Value: "application/json"},
				{Name: "Retry-After", Value: "7"},
				{Name: "X-Ratelimit-Remaining-Requests", Value: "3"},
				{Name: "X-Request-Id", Value: "up-1"},
			}
			if diff := cmp.Diff(want, got.header.Fields()); diff != "" {
				t.Error(diff)
			}
			if c.Facts.Attempts[0].Status != status {
				t.Errorf("got attempt %+v", c.Facts.Attempts[0])
			}
		})
	}
}

// sse is the beginning of the head of a stream.
const sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

// dripping is a provider whose stream says the same again and again, until nobody listens.
func dripping(t *testing.T, text string) string {
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for q.Context().Err() == nil {
			_, _ = io.WriteString(w, text)
			w.(http.Flusher).Flush()
		}
	}))
}

func TestTransportFailures(t *testing.T) {
	stalled := provider(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		// The server looks whether its client left only once the body is read.
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}))
	seed := func(addr, more string) string {
		return `{"model":{"provider":"openai","name":"m"},"auth":{},"override":{"endpoint":"http://` + addr + `"}` + more + `}`
	}
	tests := map[string]struct {
		conf   string
		status int
		body   string
	}{
		"nobody listens":                   {single(dead, ""), 500, "page"},
		"closed before the answer":         {single(raw(t, ""), ""), 500, "page"},
		"no head in time":                  {single(stalled, `,"timeout":50`), 504, "page"},
		"an answer that is no HTTP":        {single(raw(t, "hi there\r\n\r\n"), ""), 500, "page"},
		"an answer that is cut":            {single(raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":"), ""), 500, "page"},
		"an error that is cut":             {single(raw(t, "HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\n{\"a\":"), ""), 500, "page"},
		"an empty stream":                  {single(raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"), ""), 502, "page"},
		"a stream of empty lines":          {single(raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1\r\n\r\n\n"), ""), 502, "page"},
		"a stream cut in its 1st":          {single(raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\ndata: {"), ""), 500, "page"},
		"a stream too big before its 1st":  {single(raw(t, sse+"Content-Length: 99\r\n\r\n"+strings.Repeat("\n", 12)), `,"max_response_bytes":10`), 502, "max_response_bytes exceeded"},
		"a stream too long before its 1st": {single(dripping(t, ": x"), `,"max_stream_duration_ms":1`), 504, "max_stream_duration_ms exceeded"},
		"a stream of endless empty lines":  {single(dripping(t, strings.Repeat("\n", 64<<10)), ""), 502, "page"},
		"an announced answer too big":      {single(raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890"), `,"max_response_bytes":10`), 502, "max_response_bytes exceeded"},
		"a counted answer too big":         {single(raw(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n"), `,"max_response_bytes":10`), 502, "max_response_bytes exceeded"},
		"an endpoint that is none":         {`{"provider":"openai","auth":{},"override":{"endpoint":"not a url"}}`, 500, "page"},
		"a provider without a place":       {`{"provider":"azure-openai","auth":{}}`, 500, "page"},
		"seed: nobody listens":             {seed(dead, ""), 500, "page"},
		"seed: no head in time":            {seed(stalled, `,"keepalive_timeout":1000`), 500, "page"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, c := r.ask(r.route("ai-proxy", tt.conf), request{body: hello})
			want := tt.body
			if want == "page" {
				want = string(plugin.ErrorPage(tt.status))
			}
			if got.status != tt.status || got.body() != want {
				t.Errorf("got %d %q", got.status, got.body())
			}
			if a := c.Facts.Attempts; len(a) != 1 || a[0].Err == nil {
				t.Errorf("got attempts %+v", a)
			}
		})
	}
}

func TestCallsThatCannotBeMade(t *testing.T) {
	llm, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy", `{"provider":"deepseek","auth":{},"override":{"endpoint":"http://`+addr+`"}}`)
	got, c := r.ask(chain, request{uri: "/v1/embeddings", body: `{"input":"hi"}`})
	want := "provider deepseek does not support openai-embeddings protocol (supported: openai-chat)"
	if got.status != 400 || got.body() != want || len(c.Facts.Attempts) != 0 || len(llm.Received()) != 0 {
		t.Errorf("got %d %q, attempts %v", got.status, got.body(), c.Facts.Attempts)
	}
}

func TestPassingOn(t *testing.T) {
	llm, addr := fake(t, "owl")
	tests := map[string]struct {
		conf                 string
		q                    request
		method, path, query  string
		contentType, forward string
	}{
		"a chat goes to the provider's path, without the client's arguments": {
			conf: single(addr, ""), q: request{method: "GET", uri: "/any?x=1", body: hello}, method: "POST", path: "/v1/chat/completions",
		},
		"what is of no protocol goes to the client's path, with its arguments": {
			conf:   `{"provider":"openai","auth":{"query":{"key":"own"}},"override":{"endpoint":"http://` + addr + `?v=1&w=2"}}`,
			q:      request{method: "PUT", uri: "/v1/a%20b?key=mine&w=3&z", body: `{"a":1}`},
			method: "PUT", path: "/v1/a%20b", query: "key=own&v=1&w=3&z",
		},
		"embeddings":                    {conf: single(addr, ""), q: request{uri: "/e", body: `{"input":"x"}`}, method: "POST", path: "/v1/embeddings"},
		"responses":                     {conf: single(addr, ""), q: request{uri: "/v1/responses", body: `{"input":"x"}`}, method: "POST", path: "/v1/responses"},
		"the endpoint's path":           {conf: single(addr+"/own/path?a=b", ""), q: request{body: hello}, method: "POST", path: "/own/path", query: "a=b"},
		"the seed generation's request": {conf: `{"model":{"provider":"deepseek","name":"m"},"auth":{"query":{"api_key":"apikey"}},"override":{"endpoint":"http://` + addr + `?some_query=yes"}}`, q: request{method: "GET", uri: "/any?x=1", body: hello}, method: "POST", path: "/chat/completions", query: "api_key=apikey&some_query=yes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			llm.Reset()
			r := newRig(t)
			r.ask(r.route("ai-proxy", tt.conf), tt.q)
			sent := llm.Received()
			if len(sent) != 1 {
				t.Fatalf("the provider was asked %d times", len(sent))
			}
			path := strings.ReplaceAll(sent[0].Path, " ", "%20") // the fake shows it decoded
			if diff := cmp.Diff([]string{tt.method, tt.path, tt.query, "application/json"},
				[]string{sent[0].Method, path, sent[0].Query, sent[0].Header.Get("Content-Type")}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// answering is a provider that answers with statuses, one after the other; the last repeats.
func answering(t *testing.T, statuses ...int) string {
	t.Helper()
	next := make(chan int, 1)
	next <- 0
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := <-next
		next <- min(n+1, len(statuses)-1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(statuses[n])
		_, _ = fmt.Fprintf(w, `{"said":%d}`, statuses[n])
	}))
}

func TestFallback(t *testing.T) {
	_, alive := fake(t, "owl")
	nobody, broken, limited := dead, answering(t, 500), answering(t, 429)
	forbidden := answering(t, 403)
	first := func(addr string) []string {
		return []string{member("a", addr, `,"priority":1`), member("b", alive, "")}
	}
	tests := map[string]struct {
		more     string
		members  []string
		status   int
		attempts string
		log      string
	}{
		"no strategy":                    {"", first(broken), 500, "a:500", ""},
		"no strategy and no answer":      {"", first(nobody), 500, "a:500", ""},
		"http_5xx after a 500":           {`,"fallback_strategy":"http_5xx"`, first(broken), 200, "a:500 b:200", `ai instance a returned status 500, falling back to b. upstream error body: {\"said\":500}`},
		"http_5xx after no answer":       {`,"fallback_strategy":"http_5xx"`, first(nobody), 200, "a:500 b:200", "failed to send request to LLM: failed to connect to LLM server: connection refused. Retrying..."},
		"http_5xx after a 429":           {`,"fallback_strategy":"http_5xx"`, first(limited), 429, "a:429", ""},
		"http_429 after a 429":           {`,"fallback_strategy":["http_429"]`, first(limited), 200, "a:429 b:200", "falling back to b"},
		"http_429 after a 500":           {`,"fallback_strategy":["http_429"]`, first(broken), 500, "a:500", ""},
		"rate_limiting alone":            {`,"fallback_strategy":["rate_limiting"]`, first(limited), 429, "a:429", ""},
		"health and rate limiting alone": {`,"fallback_strategy":"instance_health_and_rate_limiting"`, first(broken), 500, "a:500", ""},
		"a listed status":                {`,"fallback_http_statuses":[403]`, first(forbidden), 200, "a:403 b:200", "falling back to b"},
		"a status that is not listed":    {`,"fallback_http_statuses":[404]`, first(forbidden), 403, "a:403", ""},
		"no retries allowed":             {`,"fallback_strategy":"http_5xx","max_retries":0`, first(broken), 500, "a:500", "reached max_retries 0, not retrying"},
		"one instance never falls back":  {`,"fallback_strategy":"http_5xx"`, []string{member("a", broken, "")}, 500, "a:500", ""},
		"all fail": {
			`,"fallback_strategy":"http_5xx"`, []string{member("a", nobody, `,"priority":1`), member("b", broken, "")}, 502, "a:500 b:500", "Retrying...",
		},
		"nobody answers": {
			`,"fallback_strategy":"http_5xx"`, []string{member("a", nobody, `,"priority":1`), member("b", nobody, "")}, 502, "a:500 b:500", "Retrying...",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, c := r.ask(r.route("ai-proxy-multi", multi("instances", tt.more, tt.members...)), request{body: hello})
			if got.status != tt.status {
				t.Errorf("got %d %s, want %d", got.status, got.body(), tt.status)
			}
			if tried := attempts(c); tried != tt.attempts {
				t.Errorf("got attempts %q, want %q", tried, tt.attempts)
			}
			if tt.log != "" && !strings.Contains(r.log.String(), tt.log) {
				t.Errorf("got log %s\nwant %q in it", r.log, tt.log)
			}
		})
	}
}

func attempts(c *plugin.Context) string {
	var list []string
	for _, a := range c.Facts.Attempts {
		list = append(list, fmt.Sprintf("%s:%d", a.Name, a.Status))
	}
	return strings.Join(list, " ")
}

func TestTheLastProvidersErrorIsTheAnswerWhenAllFail(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("x", 3<<20)
	addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "9")
		w.WriteHeader(503)
		_, _ = fmt.Fprint(w, big)
	}))
	conf := multi("instances", `,"fallback_strategy":"http_5xx"`, member("a", addr, `,"priority":1`), member("b", addr, ""))
	got, _ := r.ask(r.route("ai-proxy-multi", conf), request{body: hello})
	if got.status != 502 || got.body() != big || got.header.Get("Retry-After") != "9" {
		t.Errorf("got %d, %d bytes, %v", got.status, len(got.body()), got.header.Fields())
	}
}

func TestAFailureThatTookTooLongIsTheLast(t *testing.T) {
	slow := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		select { // longer than the window, by a timer that nothing is measured with
		case <-time.After(30 * time.Millisecond):
		case <-q.Context().Done():
		}
		w.WriteHeader(500)
	}))
	r := newRig(t)
	conf := multi("instances", `,"fallback_strategy":"http_5xx","retry_on_failure_within_ms":5`, member("a", slow, ""), member("b", slow, ""))
	_, c := r.ask(r.route("ai-proxy-multi", conf), request{body: hello})
	if len(c.Facts.Attempts) != 1 || !strings.Contains(r.log.String(), "exceeding retry_on_failure_within_ms 5, not retrying") {
		t.Errorf("got attempts %q and log %s", attempts(c), r.log)
	}
}

func TestSeedRetries(t *testing.T) {
	_, alive := fake(t, "owl")
	nobody, broken := dead, answering(t, 503)
	tests := map[string]struct {
		members  []string
		status   int
		attempts string
	}{
		"no answer: the next priority":   {[]string{seedMember("openai", nobody, `,"priority":1`), seedMember("deepseek", alive, "")}, 200, "openai:500 deepseek:200"},
		"no answer: the next of a group": {[]string{seedMember("openai", nobody, `,"weight":9`), seedMember("deepseek", alive, "")}, 200, "openai:500 deepseek:200"},
		"an error status is final":       {[]string{seedMember("openai", broken, `,"priority":1`), seedMember("deepseek", alive, "")}, 503, "openai:503"},
		"each is tried once, then 500":   {[]string{seedMember("openai", nobody, `,"priority":1`), seedMember("deepseek", nobody, "")}, 500, "openai:500 deepseek:500"},
		"a single one is tried once":     {[]string{seedMember("openai", nobody, "")}, 500, "openai:500"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, c := r.ask(r.route("ai-proxy-multi", multi("providers", "", tt.members...)), request{body: hello})
			if got.status != tt.status || attempts(c) != tt.attempts {
				t.Errorf("got %d, %q, want %d, %q", got.status, attempts(c), tt.status, tt.attempts)
			}
			if tt.status == 500 && got.body() != string(plugin.ErrorPage(500)) {
				t.Errorf("got %q", got.body())
			}
		})
	}
}

func TestEveryAttemptStartsFromTheClientsBody(t *testing.T) {
	llm, alive := fake(t, "owl")
	r := newRig(t)
	conf := multi("instances", `,"fallback_strategy":"http_5xx"`,
		member("a", dead, `,"priority":1,"options":{"model":"a-model","top_p":0.5}`), member("b", alive, `,"options":{"seed":1}`))
	_, c := r.ask(r.route("ai-proxy-multi", conf), request{body: hello})
	if got, want := string(llm.Received()[0].Body), strings.TrimSuffix(hello, "}")+`,"seed":1}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := llm.Received()[0].Header.Get("Authorization"); got != "Bearer b" {
		t.Errorf("got credentials %q", got)
	}
	if c.Facts.BalancerIP != "b" || c.Facts.LLM.Model != "mine" {
		t.Errorf("got instance %q and model %q", c.Facts.BalancerIP, c.Facts.LLM.Model)
	}
}

func TestPassthrough(t *testing.T) {
	sql := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x-sql")
		_, _ = fmt.Fprint(w, "SELECT * FROM STUDENTS")
	}))
	conf := func(addr string) string {
		return `{"passthrough":true,"model":{"provider":"openai","name":"m"},"auth":{},"override":{"endpoint":"http://` + addr + `"}}`
	}
	t.Run("the answer becomes the upstream's request", func(t *testing.T) {
		r := newRig(t)
		got, c := r.ask(r.route("ai-proxy", conf(sql)), request{body: hello, header: []string{"Content-Type", "application/json", "X-Mine", "1"}})
		body, err := c.Request.Body.Bytes(0)
		if err != nil || string(body) != "SELECT * FROM STUDENTS" || c.Request.Header.Get("Content-Type") != "text/x-sql" || c.Request.Header.Get("X-Mine") != "1" {
			t.Errorf("the upstream would get %q, %v (%v)", body, c.Request.Header.Fields(), err)
		}
		if got.status != 0 || c.Bypass || c.Request.Method != http.MethodPost {
			t.Errorf("got an answer %d, bypass %v", got.status, c.Bypass)
		}
	})
	t.Run("an encoding is passed on with what it encodes", func(t *testing.T) {
		r := newRig(t)
		addr := raw(t, "HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 8\r\n\r\n(packed)")
		_, c := r.ask(r.route("ai-proxy", conf(addr)), request{body: hello, header: []string{"Content-Type", "application/json", "Content-Encoding", "none"}})
		body, err := c.Request.Body.Bytes(0)
		if h := &c.Request.Header; err != nil || string(body) != "(packed)" || h.Get("Content-Encoding") != "zstd" || h.Has("Content-Type") {
			t.Errorf("the upstream would get %q, %v (%v)", body, h.Fields(), err)
		}
	})
	t.Run("what is no success is the answer", func(t *testing.T) {
		for _, status := range []int{302, 401, 503} {
			r := newRig(t)
			got, _ := r.ask(r.route("ai-proxy", conf(answering(t, status))), request{body: hello})
			if want := fmt.Sprintf(`{"said":%d}`, status); got.status != status || got.body() != want {
				t.Errorf("got %d %s, want %d", got.status, got.body(), status)
			}
		}
	})
	t.Run("a stream passes whole or not at all", func(t *testing.T) {
		const event = "data: {\"choices\":[{\"finish_reason\":null}]}\n\n"
		for text, whole := range map[string]bool{event: false, event + "data: [DONE]\n\n": true, event + "data: [DONE]": true} {
			r := newRig(t)
			got, c := r.ask(r.route("ai-proxy", conf(raw(t, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", sse, len(text), text)))), request{body: hello})
			body, err := c.Request.Body.Bytes(0)
			if passed := got.status == 0 && string(body) == text; err != nil || passed != whole || !whole && got.status != 500 {
				t.Errorf("%q: got %d, the upstream would get %q (%v)", text, got.status, body, err)
			}
		}
	})
	t.Run("no answer is a 500", func(t *testing.T) {
		r := newRig(t)
		if got, _ := r.ask(r.route("ai-proxy", conf(dead)), request{body: hello}); got.status != 500 {
			t.Errorf("got %d", got.status)
		}
	})
	t.Run("the provider is asked once, however often the upstream is tried", func(t *testing.T) {
		llm, addr := fake(t, "owl")
		r := newRig(t)
		chain := r.route("ai-proxy", conf(addr))
		_, c := r.ask(chain, request{body: hello})
		chain.Run(c, plugin.BeforeProxy)
		if n := len(llm.Received()); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAClientThatLeavesEndsTheCall(t *testing.T) {
	tests := map[string]struct{ query, body string }{
		"before the first byte":  {"?silent_ms=60000", hello},
		"in the middle":          {"?gap_ms=60000", strings.TrimSuffix(hello, "}") + `,"stream":true}`},
		"before a stream begins": {"?silent_ms=60000", strings.TrimSuffix(hello, "}") + `,"stream":true}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			llm, addr := fake(t, "owl")
			r := newRig(t)
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":"http_5xx"`,
				member("a", addr+"/"+tt.query, ""), member("b", addr+"/"+tt.query, "")))
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			s := &sink{flushed: make(chan struct{}, 100)}
			done := make(chan *plugin.Context, 1)
			go func() {
				_, c := r.ask(chain, request{ctx: ctx, body: tt.body, sink: s})
				done <- c
			}()
			if strings.Contains(tt.query, "gap") {
				wait(t, "the first event", s.flushed)
			} else {
				arrived(t, llm.Received)
			}
			leave()
			wait(t, "the provider seeing the end", llm.Gone())
			c := wait(t, "the end of the request", done)
			if len(c.Facts.Attempts) != 1 {
				t.Errorf("got attempts %q: another provider was asked", attempts(c))
			}
			if c.Response.Status != statusClientGone && !c.Response.Aborted() {
				t.Errorf("got status %d, not broken off", c.Response.Status)
			}
		})
	}
}

// arrived waits until the list is not empty.
func arrived[T any](t *testing.T, list func() []T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(timetest.Patience)
	for len(list()) == 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the provider was not asked")
		}
	}
}

func TestConnectionsAreKeptUnlessToldOtherwise(t *testing.T) {
	for name, tt := range map[string]struct {
		more string
		want int
	}{
		"kept":     {"", 1},
		"not kept": {`,"keepalive":false`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			opened := map[string]bool{}
			addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				opened[q.RemoteAddr] = true // requests come one after the other
				_, _ = fmt.Fprint(w, `{}`)
			}))
			r := newRig(t)
			chain := r.route("ai-proxy", single(addr, tt.more))
			for range 3 {
				r.ask(chain, request{body: hello})
			}
			if len(opened) != tt.want {
				t.Errorf("got %d connections, want %d", len(opened), tt.want)
			}
		})
	}
}

func TestCertificatesAreVerifiedUnlessToldOtherwise(t *testing.T) {
	s := httptest.NewTLSServer(fakellm.New("owl"))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for more, want := range map[string]int{"": 500, `,"ssl_verify":false`: 200} {
		r := newRig(t)
		conf := `{"provider":"openai","auth":{},"override":{"endpoint":"` + s.URL + `"}` + more + `}`
		if got, _ := r.ask(r.route("ai-proxy", conf), request{body: hello}); got.status != want {
			t.Errorf("with %q got %d, want %d", more, got.status, want)
		}
	}
}

func TestABrokenStreamIsSeenByTheClientAndInTheLog(t *testing.T) {
	llm, addr := fake(t, "owl")
	r := newRig(t)
	conf := multi("instances", `,"fallback_strategy":["http_5xx","http_429"]`,
		member("a", addr+"/?cut=2", `,"priority":1`), member("b", addr, ""))
	got, c := r.ask(r.route("ai-proxy-multi", conf), request{body: strings.TrimSuffix(hello, "}") + `,"stream":true}`})
	events := strings.Split(strings.TrimSuffix(got.body(), "\n\n"), "\n\n")
	if len(events) != 3 || !strings.Contains(events[2], `"type":"upstream_error"`) || !got.aborted {
		t.Errorf("got %q, broken off %v", events, got.aborted)
	}
	if n := len(llm.Received()); n != 1 || !c.Facts.LLM.Partial || !c.Facts.LLM.Stream {
		t.Errorf("asked %d times, facts %+v", n, c.Facts.LLM)
	}
	if !strings.Contains(r.log.String(), "AI answer was broken off") {
		t.Errorf("got log %s", r.log)
	}
}

func TestAStreamIsAccounted(t *testing.T) {
	llm, addr := fake(t, "owl")
	r := newRig(t)
	got, c := r.ask(r.route("ai-proxy", single(addr, "")), request{body: strings.TrimSuffix(hello, "}") + `,"stream":true}`})
	if !strings.HasSuffix(got.body(), "data: [DONE]\n\n") || got.aborted || got.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got %v %s", got.header.Fields(), got.body())
	}
	want := strings.TrimSuffix(hello, "}") + `,"stream":true,"stream_options":{"include_usage":true}}`
	if sent := string(llm.Received()[0].Body); sent != want {
		t.Errorf("got  %s\nwant %s", sent, want)
	}
	l := c.Facts.LLM
	if l.PromptTokens != 7 || l.CompletionTokens == 0 || l.TotalTokens != 7+l.CompletionTokens || !l.Stream || l.Partial || l.FirstToken <= 0 {
		t.Errorf("got %+v", l)
	}
}

func TestABodyThatAPluginReplacedIsTheOneThatIsSent(t *testing.T) {
	llm, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy", single(addr, ""))
	between := &plugin.Compiled{Name: "a", Phases: plugin.Phases{Access: func(c *plugin.Context) error {
		c.Request.Body.Set([]byte(`{"messages":[{"role":"user","content":"changed"}]}`))
		return nil
	}}}
	r.ask(plugin.NewChain(append([]*plugin.Compiled{between}, chain.Plugins()...)), request{body: hello})
	if got := string(llm.Received()[0].Body); !strings.Contains(got, "changed") {
		t.Errorf("got %s", got)
	}
}

func TestLogsNameTheAddressWithoutCredentials(t *testing.T) {
	_, addr := fake(t, "owl")
	r := newRig(t)
	chain := r.route("ai-proxy", `{"provider":"openai-compatible","auth":{"query":{"api_key":"hidden"}},"override":{"endpoint":"http://`+addr+`/v1/chat/completions?n=1"}}`)
	got, c := r.ask(chain, request{body: hello})
	f := &c.Facts
	if got.status != 200 || f.UpstreamURI != "/v1/chat/completions" || f.UpstreamHost != "127.0.0.1" || f.UpstreamScheme != "http" {
		t.Errorf("got %d, %s://%s%s", got.status, f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI)
	}
}

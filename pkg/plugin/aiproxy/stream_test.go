package aiproxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/variable"
)

const (
	roleEvent  = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	textEvent  = `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}` + "\n\n"
	limitEvent = `data: {"error":{"message":"slow down","type":"rate_limit_error"}}` + "\n\n"
	lostEvent  = `data: {"error":{"message":"lost","type":"server_error"}}` + "\n\n"
	asks       = `{"model":"m","stream":true,"user":"jo","messages":[{"role":"user","content":"hi"}]}`
)

// streaming is a provider that streams these events and ends.
func streaming(t *testing.T, events ...string) string {
	t.Helper()
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Retry-After", "9")
		for _, e := range events {
			_, _ = fmt.Fprint(w, e)
			w.(http.Flusher).Flush()
		}
	}))
}

func TestAStreamThatFailsBeforeItsFirstTokenFallsBack(t *testing.T) {
	_, alive := fake(t, "owl")
	tests := map[string]struct {
		strategy string
		events   []string
		status   int
		attempts string
		body     string
	}{
		"an error as first event":           {`"http_429"`, []string{limitEvent}, 200, "a:429, b:200", "owl"},
		"an error as second event":          {`"http_5xx"`, []string{roleEvent, lostEvent}, 200, "a:502, b:200", "owl"},
		"an error as third event":           {`"http_5xx"`, []string{roleEvent, textEvent, lostEvent}, 200, "a:200 error", roleEvent + textEvent + lostEvent},
		"nothing":                           {`"http_5xx"`, nil, 200, "a:200 empty, b:200", "owl"},
		"announcements alone":               {`"http_5xx"`, []string{roleEvent}, 200, "a:200 cut, b:200", "owl"},
		"a cut after the first token":       {`"http_5xx"`, []string{roleEvent, textEvent}, 200, "a:200 cut", "upstream_error"},
		"a strategy that does not cover it": {`"http_429"`, []string{roleEvent, lostEvent}, 502, "a:502", `{"error":{"message":"lost","type":"server_error"}}`},
		"none":                              {`"instance_health_and_rate_limiting"`, []string{limitEvent}, 429, "a:429", `{"error":{"message":"slow down","type":"rate_limit_error"}}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":`+tt.strategy,
				member("a", streaming(t, tt.events...), `,"priority":1`), member("b", alive, "")))
			got, c := r.ask(chain, request{body: asks})
			if got.status != tt.status || !strings.Contains(got.body(), tt.body) {
				t.Errorf("got %d %s", got.status, got.body())
			}
			if tt.status >= 400 && (got.header.Get("Content-Type") != "application/json" || got.header.Get("Retry-After") != "9") {
				t.Errorf("got %v", got.header.Fields())
			}
			line := string(variable.CompileTemplate("$llm_attempts").Append(nil, c.Exchange))
			if line != tt.attempts {
				t.Errorf("the log names %q, want %q", line, tt.attempts)
			}
		})
	}
}

// A provider that says 200 and means a failure has failed: another may be asked, and if none
// is, the client gets what the provider sent.
func TestAnErrorInPlaceOfAnAnswerFallsBack(t *testing.T) {
	const lost, limit = `{"error":{"message":"lost","type":"server_error"}}`, `{"error":{"message":"slow down","code":429}}`
	const strange = `{"error":{"message":"what?","type":"invalid_request_error","code":400}}`
	const beside = `{"choices":[{"message":{"content":"x"}}],"error":{"message":"lost"}}`
	_, alive := fake(t, "owl")
	tests := map[string]struct {
		strategy, body, uri string
		status              int
		attempts, got       string
	}{
		"an error of the server":            {`"http_5xx"`, lost, "", 200, "a:200 error, b:200", "owl"},
		"a limit":                           {`"http_429"`, limit, "", 200, "a:200 error, b:200", "owl"},
		"a strategy that does not cover it": {`"http_429"`, lost, "", 200, "a:200 error", lost},
		"the client's own fault":            {`"http_5xx"`, strange, "", 200, "a:200 error", strange},
		"an error beside an answer":         {`"http_5xx"`, beside, "", 200, "a:200", beside},
		"an error that is null":             {`"http_5xx"`, `{"error":null}`, "", 200, "a:200", `{"error":null}`},
		"to a client of another protocol":   {`"http_429"`, lost, "/v1/messages", 200, "a:200 error", `"type":"error"`},
		"converted, and another is asked":   {`"http_5xx"`, lost, "/v1/messages", 200, "a:200 error, b:200", "owl"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			a := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = fmt.Fprint(w, tt.body)
			}))
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":`+tt.strategy, member("a", a, `,"priority":1`), member("b", alive, "")))
			got, c := r.ask(chain, request{body: `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, uri: tt.uri})
			if got.status != tt.status || !strings.Contains(got.body(), tt.got) || got.aborted {
				t.Errorf("got %d %s", got.status, got.body())
			}
			if line := string(variable.CompileTemplate("$llm_attempts").Append(nil, c.Exchange)); line != tt.attempts {
				t.Errorf("the log names %q, want %q", line, tt.attempts)
			}
		})
	}
}

func TestWhatLogsMayHaveOfARequest(t *testing.T) {
	_, addr := fake(t, "owl")
	const summary = `{"request_model":"m","model":"m","duration":`
	for name, tt := range map[string]struct {
		logging, body          string
		summary, request, text string
	}{
		"nothing unless configured": {"", asks, "", "", ""},
		"counts":                    {`,"logging":{"summaries":true}`, asks, summary, "", ""},
		"what was said": {
			`,"logging":{"payloads":true}`, asks, "",
			`{"messages":[{"role":"user","content":"hi"}],"stream":true}`, "I am owl, and I hear: hi ",
		},
		"what was said, not streamed": {
			`,"logging":{"summaries":true,"payloads":true}`, strings.Replace(asks, `"stream":true,`, "", 1), summary,
			`{"messages":[{"role":"user","content":"hi"}],"stream":false}`, "I am owl, and I hear: hi",
		},
		"no more than fits a line": {
			`,"logging":{"payloads":true}`, strings.Replace(asks, `"hi"`, `"`+strings.Repeat("x", payloadLimit)+`"`, 1), "",
			`{"messages":"262174 bytes","stream":true}`, "I am owl",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			_, c := r.ask(r.route("ai-proxy", single(addr, tt.logging)), request{body: tt.body})
			is := func(variableName string) string {
				return string(variable.CompileTemplate("$"+variableName).Append(nil, c.Exchange))
			}
			if got := is("llm_summary"); !strings.HasPrefix(got, tt.summary) || (got == "") != (tt.summary == "") {
				t.Errorf("got summary %s", got)
			} else if got != "" && !strings.Contains(got, `"prompt_tokens":7,"completion_tokens":7,"total_tokens":14`) {
				t.Errorf("got summary %s", got)
			}
			if got := is("llm_request"); got != tt.request {
				t.Errorf("got request %s", got)
			}
			if got := is("llm_response_text"); !strings.HasPrefix(got, tt.text) || (got == "") != (tt.text == "") {
				t.Errorf("got text %q", got)
			}
			if all := is("llm_summary") + is("llm_request") + is("llm_response_text"); strings.Contains(all, "own") {
				t.Errorf("a credential is in %s", all)
			}
		})
	}
}

func TestTheEndUserOfEachProtocol(t *testing.T) {
	_, addr := fake(t, "owl")
	for body, tt := range map[string]struct{ uri, want string }{
		asks: {"/v1/chat/completions", "jo"},
		`{"messages":[{"role":"user","content":"x"}],"user":"jo","safety_identifier":"hash"}`:                      {"/v1/chat/completions", "hash"},
		`{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"user":"no","metadata":{"user_id":"j\u006f"}}`: {"/v1/messages", "jo"},
		`{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"metadata":{"user_id":5}}`:                     {"/v1/messages", ""},
		`{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"metadata":"user_id"}`:                         {"/v1/messages", ""},
	} {
		r := newRig(t)
		conf := strings.Replace(single(addr, ""), "openai-compatible", "anthropic", 1)
		if _, c := r.ask(r.route("ai-proxy", conf), request{body: body, uri: tt.uri}); c.Facts.LLM.EndUserID != tt.want {
			t.Errorf("%s: got %q", body, c.Facts.LLM.EndUserID)
		}
	}
}

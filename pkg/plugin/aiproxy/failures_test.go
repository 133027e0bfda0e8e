package aiproxy

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/t/fakellm"
)

// resetting accepts connections, reads a little and resets them.
func resetting(t *testing.T) string {
	t.Helper()
	return connections(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
	})
}

// refusing answers 400 with an error of that code.
func refusing(t *testing.T, code string) string {
	return provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":{"message":"no","type":"invalid_request_error","param":"messages","code":%q}}`, code)
	}))
}

// stalling never answers.
func stalling(t *testing.T) string {
	return provider(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}))
}

// Whatever the others do, a request succeeds when one of its instances is well.
func TestAFailureThatTheStrategyCoversCostsNoRequest(t *testing.T) {
	encrypted := httptest.NewTLSServer(fakellm.New("stranger")) // nobody vouches for its certificate
	t.Cleanup(encrypted.Close)
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	const covering = `,"fallback_strategy":["http_429","http_5xx"]`
	failures := map[string]struct{ endpoint, more string }{
		"429":                    {"http://" + answering(t, 429), ""},
		"500":                    {"http://" + answering(t, 500), ""},
		"502":                    {"http://" + answering(t, 502), ""},
		"503":                    {"http://" + answering(t, 503), ""},
		"504":                    {"http://" + answering(t, 504), ""},
		"529":                    {"http://" + answering(t, 529), ""},
		"a refused connection":   {"http://" + dead, ""},
		"a failure of TLS":       {encrypted.URL, ""},
		"a reset before headers": {"http://" + resetting(t), ""},
		"no first byte in time":  {"http://" + stalling(t), `,"timeout":700`},
		"no first token in time": {"http://" + stalling(t), `,"first_token_timeout_ms":700`},
		"content policy":         {"http://" + refusing(t, "content_policy_violation"), `,"fallback_http_statuses":[400]`},
		"context length":         {"http://" + refusing(t, "context_length_exceeded"), `,"fallback_http_statuses":[400]`},
		"an empty stream":        {"http://" + raw(t, sse+"Content-Length: 0\r\n\r\n"), ""},
	}
	choices := map[string]struct {
		more    string
		members func(bad, good string) []string
	}{
		"round robin of two": {"", func(bad, good string) []string { return []string{bad, good} }},
		"the last of three by priority": {"", func(bad, good string) []string {
			return []string{strings.Replace(bad, `"name":"bad"`, `"priority":2,"name":"worse"`, 1), strings.Replace(bad, `{`, `{"priority":1,`, 1), good}
		}},
		"a hash":            {`,"balancer":{"algorithm":"chash","hash_on":"header","key":"x-n"}`, func(bad, good string) []string { return []string{bad, good} }},
		"least connections": {`,"balancer":{"algorithm":"least_conn"}`, func(bad, good string) []string { return []string{bad, good} }},
		"the fastest":       {`,"balancer":{"algorithm":"ewma"}`, func(bad, good string) []string { return []string{bad, good} }},
	}
	for failure, f := range failures {
		for choice, how := range choices {
			if strings.Contains(f.more, "700") && how.more != "" {
				continue // each costs the time that is waited
			}
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, stream %v", failure, choice, stream), func(t *testing.T) {
					t.Parallel()
					llm, addr := fake(t, "owl")
					bad := strings.Replace(member("bad", "endpoint", `,"options":{"top_p":0.5}`), "http://endpoint", f.endpoint, 1)
					good := member("good", addr, `,"options":{"seed":7}`)
					body, sent := hello, strings.TrimSuffix(hello, "}")+`,"seed":7}`
					if stream {
						body = strings.TrimSuffix(hello, "}") + `,"stream":true}`
						sent = strings.TrimSuffix(body, "}") + `,"stream_options":{"include_usage":true},"seed":7}`
					}
					times := 4
					if strings.Contains(f.more, "700") {
						times = 2
					}
					failed := 0
					all := func(limit time.Duration) error {
						failed = 0
						r := newRig(t)
						more := strings.Replace(f.more, "700", fmt.Sprint(limit.Milliseconds()), 1)
						chain := r.route("ai-proxy-multi", multi("instances", covering+more+how.more, how.members(bad, good)...))
						for n := range times {
							got, c := r.ask(chain, request{body: body, header: []string{"X-N", fmt.Sprint(n)}})
							if got.status != 200 || !strings.Contains(got.body(), "owl") || got.aborted || c.Facts.BalancerIP != "good" {
								return fmt.Errorf("got %d %s from %q after %q", got.status, got.body(), c.Facts.BalancerIP, attempts(c))
							}
							failed += len(c.Facts.Attempts) - 1
							if stream && !strings.HasSuffix(got.body(), "data: [DONE]\n\n") {
								return fmt.Errorf("the stream is not whole: %s", got.body())
							}
						}
						return nil
					}
					if strings.Contains(f.more, "700") { // in which the good one has to answer, too
						timetest.Stretch(t, 700*time.Millisecond, all)
					} else if err := all(0); err != nil {
						t.Error(err)
					}
					for _, got := range llm.Received() {
						if string(got.Body) != sent || got.Header.Get("Authorization") != "Bearer good" {
							t.Errorf("the second attempt is not the client's request:\ngot  %s\nwant %s", got.Body, sent)
						}
					}
					if choice == "the last of three by priority" && failed != 2*times {
						t.Errorf("%d failures were met, want %d", failed, 2*times)
					}
				})
			}
		}
	}
}

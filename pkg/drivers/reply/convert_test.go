package reply_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// marks is a conversion that shows what it was asked for.
type marks struct{ whole error }

func (m *marks) Whole(body []byte) ([]byte, error) {
	return []byte(fmt.Sprintf(`{"whole":%s}`, body)), m.whole
}

func (m *marks) Error(status int, body []byte) []byte {
	return []byte(fmt.Sprintf(`{"status":%d,"error":%q}`, status, body))
}

func (m *marks) Event(dst []byte, _ string, data []byte) []byte {
	if strings.HasPrefix(string(data), "{") {
		return append(dst, fmt.Sprintf("event: e\ndata: %s\n\n", data)...)
	}
	return dst
}

func (m *marks) Close(dst []byte) []byte { return append(dst, "event: close\n\n"...) }

// stamped is one that shows when an answer is said to be made.
type stamped struct {
	marks
	created int64
}

func (s *stamped) Stamp(_ string, created int64) { s.created = created }

// The time of a head is counted from when the program began, which a clock that was set since
// makes wrong.
func TestAnAnswerIsMadeNowWhateverItsHeadSays(t *testing.T) {
	client := upstream.NewClient(upstream.Options{})
	defer client.Close()
	d := openai.Providers()["openai"]
	target := &upstream.Target{Addr: provider(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), NoKeepAlive: true}
	call := drivertest.NewCall(t, &drivers.Instance{Driver: d, Target: target, Host: "a"}, "/", hello)
	res := asked(t, client, call)
	s := &stamped{}
	call.Answer = s
	before := time.Now()
	var answer reply.Reply
	if err := answer.Begin(t.Context(), res, call, before.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	answer.Close()
	if s.created < before.Unix() {
		t.Errorf("it was made %d s before it was", before.Unix()-s.created)
	}
}

// played plays an answer to a client of Anthropic's through marks.
func played(t *testing.T, client protocol.ID, m *marks, answer string) (drivertest.Result, error) {
	t.Helper()
	i := &drivers.Instance{Driver: openai.Providers()["openai"]}
	call := drivertest.NewCall(t, i, "/", hello)
	call.Protocol, call.Answer = client, m
	return drivertest.PlayCall(t, call, answer)
}

// zipped is a text in the encoding gzip.
func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func TestWhatIsConverted(t *testing.T) {
	const (
		stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
		a      = `{"choices":[{"delta":{"content":"a"}}]}`
		role   = `{"choices":[{"delta":{"role":"assistant"}}]}`
		slow   = `{"error":{"type":"rate_limit_error"}}`
		use    = `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`
	)
	whole := func(status int, body string) string {
		return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	packed := func(encoding, body string) string {
		return fmt.Sprintf("HTTP/1.1 429 X\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", encoding, len(body), body)
	}
	long := `{"x":"` + strings.Repeat("x", 2<<20) + `"}`
	tests := map[string]struct {
		client protocol.ID
		answer string
		want   drivertest.Result
	}{
		"a whole answer, counted as the provider has it": {
			protocol.AnthropicMessages, whole(200, `{"usage":{"prompt_tokens":1}}`),
			drivertest.Result{Status: 200, Body: `{"whole":{"usage":{"prompt_tokens":1}}}`, Complete: true, Usage: drivers.Usage{Prompt: 1, Total: 1}},
		},
		"a whole answer, however long": {
			protocol.AnthropicMessages, whole(200, long), drivertest.Result{Status: 200, Body: `{"whole":` + long + `}`, Complete: true},
		},
		"no JSON: it passes as it is": {protocol.AnthropicMessages, whole(200, `<p>`), drivertest.Result{Status: 200, Body: `<p>`, Complete: true}},
		"an error, JSON or not": {
			protocol.AnthropicMessages, whole(503, `<p>`), drivertest.Result{Status: 503, Body: `{"status":503,"error":"<p>"}`, Complete: true},
		},
		"an error in an encoding that is known": {
			protocol.AnthropicMessages, packed("gzip", zipped(`{"error":1}`)),
			drivertest.Result{Status: 429, Body: `{"status":429,"error":"{\"error\":1}"}`, Complete: true},
		},
		"an error in an encoding that is not": {
			protocol.AnthropicMessages, packed("zstd", "(packed)"),
			drivertest.Result{Status: 429, Body: `{"status":429,"error":""}`, Complete: true},
		},
		"an error in an encoding that is broken": {
			protocol.AnthropicMessages, packed("gzip", zipped(`{"error":1}`)[:20]),
			drivertest.Result{Status: 429, Body: `{"status":429,"error":""}`, Complete: true},
		},
		"a stream": {
			protocol.AnthropicMessages, stream + "data: " + role + "\n\n: ping\n\ndata: " + a + "\n\ndata: " + use + "\n\ndata: [DONE]\n\n",
			drivertest.Result{
				Status: 200, Body: event("e", role) + event("e", a) + event("e", use) + "event: close\n\n", Complete: true,
				Usage: drivers.Usage{Prompt: 1, Completion: 2, Total: 3},
			},
		},
		"a stream that is cut: an error for the client's protocol": {
			protocol.AnthropicMessages, stream + "data: " + a + "\n\ndata: {",
			drivertest.Result{
				Status: 200, Broken: true,
				Body: event("e", a) + event("error", `{"type":"error","error":{"type":"api_error","message":"upstream stream ended before it was complete"}}`),
			},
		},
		"a stream that is cut, for a client of Bedrock's": {
			protocol.BedrockConverse, stream + "data: " + a + "\n\n",
			drivertest.Result{Status: 200, Broken: true, Body: event("e", a) + string(eventstream.AppendMessage(nil, eventstream.Message{
				Type: eventstream.Exception, Kind: "modelStreamErrorException", ContentType: "application/json",
				Payload: []byte(`{"message":"upstream stream ended before it was complete"}`),
			}))},
		},
		"an error as second event": {
			protocol.AnthropicMessages, stream + "data: " + role + "\n\ndata: " + slow + "\n\n",
			drivertest.Result{Status: 429, Body: fmt.Sprintf(`{"status":429,"error":%q}`, slow), Complete: true},
		},
		"an error as third event is told once": {
			protocol.AnthropicMessages, stream + "data: " + a + "\n\ndata: " + slow + "\n\n",
			drivertest.Result{Status: 200, Broken: true, Body: event("e", a) + event("e", slow)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := played(t, tt.client, &marks{}, tt.answer)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

func TestWhatCannotBeConvertedIsAFailure(t *testing.T) {
	const text = "streaming response completed without producing any output; " +
		"the upstream likely returned a different stream format than the converter expects"
	stream := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	tests := map[string]struct {
		answer string
		whole  error
		want   drivers.Failure
	}{
		"a stream of another kind": {stream + "data: hello\n\ndata: world\n\n", nil, drivers.Failure{Status: 502, Body: text}},
		"a stream of nothing":      {stream, nil, drivers.Failure{Status: 502}},
		"an answer without what is needed": {
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &convert.Error{Status: 500, Text: "no choices in response"},
			drivers.Failure{Status: 500, Body: "no choices in response"},
		},
		"an encoding": {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", nil, drivers.Failure{Status: 502}},
		"an event without end": {
			stream + "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", 2*sse.MaxEvent) + "\"}}]}\n\n", nil, drivers.Failure{},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := played(t, protocol.AnthropicMessages, &marks{whole: tt.whole}, tt.answer)
			var f *drivers.Failure
			if !errors.As(err, &f) {
				f = &drivers.Failure{}
			}
			if diff := cmp.Diff(tt.want, drivers.Failure{Status: f.Status, Body: f.Body}); diff != "" || err == nil || got.Status != 0 {
				t.Errorf("%s (%v, %+v)", diff, err, got)
			}
		})
	}
}

func TestUsageIsHiddenFromClientsThatDidNotAskForIt(t *testing.T) {
	const (
		text  = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n"
		usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n"
		both  = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n"
		done  = "data: [DONE]\n\n"
		ask   = `{"messages":[{"role":"user","content":"hi"}],"stream":true`
	)
	tests := map[string]struct {
		instance         drivers.Instance
		request, in, out string
	}{
		"not asked for":                       {drivers.Instance{Usage: true}, ask + `}`, text + usage + done, text + done},
		"asked for":                           {drivers.Instance{Usage: true}, ask + `,"stream_options":{"include_usage":true}}`, text + usage + done, text + usage + done},
		"asked not to":                        {drivers.Instance{Usage: true}, ask + `,"stream_options":{"include_usage":false}}`, text + usage + done, text + done},
		"configured":                          {drivers.Instance{Usage: true, Options: []jsonedit.Edit{{Name: "stream_options", Value: []byte(`{"include_usage":true}`)}}}, ask + `}`, text + usage + done, text + usage + done},
		"not asked for by us":                 {drivers.Instance{}, ask + `}`, text + usage + done, text + usage + done},
		"beside a choice it cannot be":        {drivers.Instance{Usage: true}, ask + `}`, text + both + done, text + both + done},
		"as last event without an empty line": {drivers.Instance{Usage: true}, ask + `}`, text + strings.TrimSpace(usage), text},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(tt.in), tt.in)
			want := drivertest.Result{Status: 200, Body: tt.out, Complete: true, Usage: drivers.Usage{Prompt: 1, Completion: 2, Total: 3}}
			for cut := 1; cut < len(answer); cut++ {
				i := tt.instance
				i.Driver = openai.Providers()["openai"]
				got, err := drivertest.PlayCall(t, drivertest.NewCall(t, &i, "/", tt.request), answer[:cut], answer[cut:])
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Fatal(cut, diff, err)
				}
			}
		})
	}
}

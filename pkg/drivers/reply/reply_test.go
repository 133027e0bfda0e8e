package reply_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

const hello = `{"model":"m","messages":[]}`

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestRecordedAnswers(t *testing.T) {
	drivertest.Run(t, openai.Providers()["openai"], "testdata/answers")
}

// asked sends a call, and returns the head of the answer.
func asked(t *testing.T, client *upstream.Client, call *drivers.Call) *upstream.Response {
	t.Helper()
	req, err := call.Instance.Driver.Request(call)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestAnAnswerIsCollectedUpToALimit(t *testing.T) {
	// More than is held back before there is no way back, so that both parts are in it.
	const size = 1<<20 + 100
	text := strings.Repeat("0123456789", size/10+1)[:size]
	addr := provider(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, text))
	client := upstream.NewClient(upstream.Options{})
	defer client.Close()
	d := openai.Providers()["openai"]
	for limit, fits := range map[int64]bool{size - 1: false, size: true, size + 1: true, 10: false} {
		call := drivertest.NewCall(t, &drivers.Instance{Driver: d, Target: &upstream.Target{Addr: addr, NoKeepAlive: true}, Host: "a"}, "/", hello)
		res := asked(t, client, call)
		answer, err := reply.Begin(t.Context(), res, call)
		if err != nil {
			t.Fatal(err)
		}
		body, err := answer.Body(limit)
		if (err == nil) != fits || fits && !bytes.Equal(body, []byte(text)) {
			t.Errorf("limit %d: got %d bytes, %v", limit, len(body), err)
		}
		answer.Close()
	}
}

// provider answers every request with the same bytes and returns its address.
func provider(t *testing.T, answer string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// gate is a client that shows when it got something.
type gate struct {
	exchange.Sink
	mu     sync.Mutex
	status int
	got    string
	flush  chan string
}

func (g *gate) WriteHead(status int, _ *exchange.Header, _ int64) error {
	g.status = status
	return nil
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got += string(p)
	return len(p), nil
}

func (g *gate) Flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.got != "" {
		g.flush <- g.got
	}
	g.got = ""
	return nil
}

func (g *gate) Abort() {}

func TestEveryEventIsFlushedBeforeTheNextOneComes(t *testing.T) {
	t.Run("events", func(t *testing.T) {
		flushes(t, "", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", ": ping\n\n", "data: a\n\ndata: b\n\n", "data: [DONE]\n\n")
	})
	t.Run("an encoding", func(t *testing.T) { flushes(t, "Content-Encoding: zstd\r\n", "(packed", "bytes)") })
}

// flushes checks that a client has each piece of a stream before the provider says the next.
func flushes(t *testing.T, head string, pieces ...string) {
	t.Helper()
	near, far := net.Pipe()
	client := upstream.NewClient(upstream.Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
	defer client.Close()
	d := openai.Providers()["openai"]
	call := drivertest.NewCall(t, &drivers.Instance{Driver: d, Target: &upstream.Target{Addr: "a:1", NoKeepAlive: true}, Host: "a"}, "/", hello)
	req, err := d.Request(call)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{flush: make(chan string)}
	done := make(chan error, 1)
	go func() {
		res, err := client.Do(context.Background(), req)
		if err != nil {
			done <- err
			return
		}
		answer, err := reply.Begin(context.Background(), res, call)
		if err != nil {
			done <- err
			return
		}
		defer answer.Close()
		x := &exchange.Exchange{}
		x.Reset(context.Background(), g)
		_, err = answer.Relay(&x.Response)
		done <- err
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	say := func(text string) {
		if _, err := io.WriteString(far, text); err != nil {
			t.Fatal(err)
		}
	}
	say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head + "\r\n")
	for _, event := range pieces {
		if head == "" {
			say(event[:3])
			say(event[3:])
		} else {
			say(event)
		}
		select {
		case got := <-g.flush:
			if got != event {
				t.Errorf("got %q, want %q", got, event)
			}
		case <-time.After(timetest.Patience):
			t.Fatalf("%q did not come before the next event", event)
		}
	}
	_ = far.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAStreamAboveItsLimitIsBrokenOff(t *testing.T) {
	stream := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	event := "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
	rec := drivertest.Recording{Path: "/", Request: hello}
	d := openai.Providers()["openai"]
	limits := drivers.Limits{Bytes: int64(len(event)) + 10}
	got := drivertest.Play(t, d, &drivers.Instance{Limits: limits}, rec, stream, event, event, event, "data: [DONE]\n\n")
	want := drivertest.Result{Status: 200, Broken: true, Body: event + event +
		`data: {"error":{"message":"max_response_bytes exceeded","type":"upstream_error","param":null,"code":null}}` + "\n\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAStreamAboveItsLimitBeforeItSaidAnythingIsAFailure(t *testing.T) {
	stream := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	event := "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"
	rec := drivertest.Recording{Path: "/", Request: hello}
	d := openai.Providers()["openai"]
	for name, limits := range map[string]drivers.Limits{"bytes": {Bytes: 30}, "duration": {Duration: 1}} {
		t.Run(name, func(t *testing.T) {
			got := drivertest.Play(t, d, &drivers.Instance{Limits: limits}, rec, stream, event, event, event, "data: [DONE]\n\n")
			if diff := cmp.Diff(drivertest.Result{}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOneEventMayHoldAWholeAnswer(t *testing.T) {
	const stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	text := strings.Repeat("x", 3<<20)
	all := event("response.completed", `{"type":"response.completed","response":{"output":[{"content":[{"text":"`+text+`"}]}],`+
		`"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}`)
	tests := map[string]struct{ path, request, body string }{
		"as its last one": {
			"/v1/responses", `{"model":"m","input":"a","stream":true}`,
			event("response.output_text.delta", `{"type":"response.output_text.delta","delta":"`+text+`"}`) + all,
		},
		"as its first one": {"/v1/responses", `{"model":"m","input":"a","stream":true}`, all},
		"as the first one of a chat": {
			"/v1/chat/completions", `{"model":"m","messages":[],"stream":true}`,
			`data: {"choices":[{"delta":{"content":"` + text + `"}}]}` + "\n\n" +
				`data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n\ndata: [DONE]\n\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rec := drivertest.Recording{Path: tt.path, Request: tt.request}
			got := drivertest.Play(t, openai.Providers()["openai"], &drivers.Instance{}, rec, stream, tt.body)
			if got.Body != tt.body {
				t.Errorf("got %d bytes, want %d", len(got.Body), len(tt.body))
			}
			got.Body = ""
			want := drivertest.Result{Status: 200, Complete: true, Usage: drivers.Usage{Prompt: 3, Completion: 2, Total: 5}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

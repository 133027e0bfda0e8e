package t

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

func accessLog(t *testing.T, n *node) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(raw)
}

func instance(name, addr, query, extra string) string {
	return fmt.Sprintf(`{"name":%q,"provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer %s"}},`+
		`"override":{"endpoint":"http://%s/v1/chat/completions%s"}%s}`, name, name, addr, query, extra)
}

func route(plugin string) string {
	return fmt.Sprintf(`{"uri":"/v1/chat/completions","plugins":{%s}}`, plugin)
}

const hello = `{"model":"m","messages":[{"role":"user","content":"hello"}]}`

func TestUntouchedMembersKeepTheirBytes(t *testing.T) {
	n := gosix(t)
	llm := fakellm.New("owl")
	n.must("PUT", "/routes/1", route(`"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer x"}},`+
		`"options":{"model":"other","top_p":0.50},"override":{"endpoint":"http://`+serve(t, llm)+`"}}`))
	body := `{ "big" : 12345678901234567890, "tiny":1e-7,"one":1.0, "mod\u0065l":"mine", "messages":[ {"role":"user","content":"h\u0069"}], "x":{"y":[ ]} }`
	if a := n.ask("POST", "/v1/chat/completions", body); a.StatusCode != 200 {
		t.Fatalf("got %d %s", a.StatusCode, a.Text)
	}
	got := string(llm.Received()[0].Body)
	want := `{ "big" : 12345678901234567890, "tiny":1e-7,"one":1.0, "mod\u0065l":"other", "messages":[ {"role":"user","content":"h\u0069"}], "x":{"y":[ ]},"top_p":0.50 }`
	if got != want {
		t.Errorf("the provider got\n%s\nwant\n%s", got, want)
	}
	n.must("PUT", "/routes/1", route(`"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer x"}},`+
		`"override":{"endpoint":"http://`+serve(t, llm)+`"}}`))
	n.ask("POST", "/v1/chat/completions", body)
	if got := string(llm.Received()[1].Body); got != body {
		t.Errorf("without anything to change the provider got\n%s", got)
	}
}

func TestCredentials(t *testing.T) {
	n := gosix(t)
	llm := fakellm.New("owl")
	addr := serve(t, llm)
	client := []string{
		"Authorization", "Bearer client", "Cookie", "sid=1", "X-Api-Key", "client", "X-Mine", "kept", "Connection", "X-Hop", "X-Hop", "1",
		"X-Forwarded-For", "1.2.3.4",
	}
	tests := map[string]struct {
		plugin string
		want   map[string]string // header → value; "" must be absent
	}{
		"an instance with its own never sees the client's": {
			`"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"X-Vendor":"v"}},"override":{"endpoint":"http://` + addr + `"}}`,
			map[string]string{"Authorization": "", "Cookie": "", "X-Api-Key": "", "X-Vendor": "v", "X-Mine": "kept", "X-Hop": "", "X-Forwarded-For": ""},
		},
		"an instance without any forwards the client's": {
			`"ai-proxy":{"provider":"openai-compatible","auth":{},"override":{"endpoint":"http://` + addr + `"}}`,
			map[string]string{"Authorization": "Bearer client", "Cookie": "sid=1", "X-Api-Key": "client", "X-Mine": "kept"},
		},
		"the seed generation forwards nothing": {
			`"ai-proxy":{"model":{"provider":"openai","name":"m"},"auth":{"header":{"X-Vendor":"v"}},"override":{"endpoint":"http://` + addr + `"}}`,
			map[string]string{"Authorization": "", "Cookie": "", "X-Vendor": "v", "X-Mine": ""},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			llm.Reset()
			n.must("PUT", "/routes/1", route(tt.plugin))
			if a := n.ask("POST", "/v1/chat/completions", hello, client...); a.StatusCode != 200 {
				t.Fatalf("got %d %s", a.StatusCode, a.Text)
			}
			for header, want := range tt.want {
				if got := llm.Received()[0].Header.Get(header); got != want {
					t.Errorf("%s: got %q, want %q", header, got, want)
				}
			}
		})
	}
}

func TestStreams(t *testing.T) {
	n := gosix(t)
	llm := fakellm.New("owl")
	addr := serve(t, llm)
	stream := strings.Replace(hello, `{"model"`, `{"stream":true,"model"`, 1)
	set := func(query string) {
		n.must("PUT", "/routes/1", route(`"ai-proxy-multi":{"fallback_strategy":["http_5xx"],"instances":[`+
			instance("a", addr, query, "")+","+instance("b", addr, "?words=1", `,"priority":-1`)+`]}`))
		llm.Reset()
	}
	t.Run("a stream passes byte for byte and asks for its usage", func(t *testing.T) {
		set("")
		a := n.ask("POST", "/v1/chat/completions", stream)
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" || a.Err != nil || !strings.HasSuffix(a.Text, "data: [DONE]\n\n") {
			t.Errorf("got %d %v %v %q", a.StatusCode, a.Header, a.Err, a.Text)
		}
		if body := string(llm.Received()[0].Body); !strings.Contains(body, `"stream_options":{"include_usage":true}`) {
			t.Errorf("the provider got %s", body)
		}
	})
	t.Run("a cut stream ends with an error event and a broken connection, and is not tried again", func(t *testing.T) {
		set("?cut=2")
		a := n.ask("POST", "/v1/chat/completions", stream)
		if a.StatusCode != 200 || a.Err == nil || strings.Contains(a.Text, "[DONE]") {
			t.Errorf("got %d, error %v, %q", a.StatusCode, a.Err, a.Text)
		}
		if !strings.Contains(a.Text, `data: {"error":{"message":"upstream stream ended before it was complete"`) {
			t.Errorf("no error event: %q", a.Text)
		}
		if got := len(llm.Received()); got != 1 {
			t.Errorf("the provider was called %d times", got)
		}
	})
	t.Run("a stream that is empty falls back", func(t *testing.T) {
		set("?cut=0")
		if a := n.ask("POST", "/v1/chat/completions", stream); a.StatusCode != 200 || a.Err != nil || len(llm.Received()) != 2 {
			t.Errorf("got %d, error %v, %d calls", a.StatusCode, a.Err, len(llm.Received()))
		}
	})
	t.Run("an error before the first byte falls back", func(t *testing.T) {
		set("?status=503")
		if a := n.ask("POST", "/v1/chat/completions", stream); a.StatusCode != 200 || a.Err != nil || len(llm.Received()) != 2 {
			t.Errorf("got %d, error %v, %d calls", a.StatusCode, a.Err, len(llm.Received()))
		}
	})
	t.Run("a client that leaves takes the provider's call with it", func(t *testing.T) {
		for name, query := range map[string]string{"before the first byte": "?silent_ms=60000", "in the middle": "?gap_ms=60000"} {
			set(query)
			ctx, leave := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "POST", n.url("/v1/chat/completions"), strings.NewReader(stream))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				res, err := http.DefaultTransport.RoundTrip(req)
				if err == nil {
					buf := make([]byte, 1)
					_, _ = res.Body.Read(buf)
					leave()
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			eventually(t, "the provider is asked", func() bool { return len(llm.Received()) == 1 })
			if strings.Contains(query, "silent") {
				leave()
			}
			begin := time.Now()
			select {
			case <-llm.Gone():
				t.Logf("%s: the call ended %v after the client left", name, time.Since(begin))
			case <-time.After(patience):
				t.Errorf("%s: the provider goes on", name)
			}
			leave()
			<-done
			eventually(t, "the access log has a line", func() bool { return strings.Contains(accessLog(t, n), `" 499 `) || name == "in the middle" })
		}
	})
}

func TestProviderErrorsReachTheClient(t *testing.T) {
	n := gosix(t)
	llm := fakellm.New("owl")
	n.must("PUT", "/routes/1", route(`"ai-proxy-multi":{"instances":[`+instance("a", serve(t, llm), "?status=429", "")+`]}`))
	a := n.ask("POST", "/v1/chat/completions", hello)
	if a.StatusCode != 429 || !strings.Contains(a.Text, "scripted") || a.Header.Get("X-Request-Id") != "req-fake" {
		t.Errorf("got %d %v %s", a.StatusCode, a.Header, a.Text)
	}
	if got := len(llm.Received()); got != 1 {
		t.Errorf("a single instance was called %d times", got)
	}
}

func TestPickersSurviveUnrelatedChanges(t *testing.T) {
	n := gosix(t)
	a, b := fakellm.New("a"), fakellm.New("b")
	conf := route(`"ai-proxy-multi":{"instances":[` + instance("a", serve(t, a), "", "") + "," + instance("b", serve(t, b), "", "") + `]}`)
	n.must("PUT", "/routes/1", conf)
	for i := range 6 {
		if n.ask("POST", "/v1/chat/completions", hello).StatusCode != 200 {
			t.Fatal("no answer")
		}
		n.must("PATCH", "/routes/1", fmt.Sprintf(`{"desc":"edit %d"}`, i))
	}
	if len(a.Received()) != 3 || len(b.Received()) != 3 {
		t.Errorf("shares are %d and %d, want 3 and 3", len(a.Received()), len(b.Received()))
	}
}

func TestHashOnConsumer(t *testing.T) {
	n := gosix(t)
	a, b := fakellm.New("a"), fakellm.New("b")
	for _, name := range []string{"ant", "bee", "cow", "dog"} {
		n.must("PUT", "/consumers", fmt.Sprintf(`{"username":%q}`, name))
		n.must("PUT", "/consumers/"+name+"/credentials/c", fmt.Sprintf(`{"plugins":{"key-auth":{"key":"key-of-%s"}}}`, name))
	}
	n.must("PUT", "/routes/1", route(`"key-auth":{},"ai-proxy-multi":{"balancer":{"algorithm":"chash","hash_on":"consumer"},"instances":[`+
		instance("a", serve(t, a), "", "")+","+instance("b", serve(t, b), "", "")+`]}`))
	if x := n.ask("POST", "/v1/chat/completions", hello); x.StatusCode != 401 || x.Header.Get("WWW-Authenticate") != `apikey realm="key"` {
		t.Errorf("without a key: %d %v", x.StatusCode, x.Header)
	}
	for _, name := range []string{"ant", "bee", "cow", "dog"} {
		first := ""
		for range 3 {
			x := n.ask("POST", "/v1/chat/completions", hello, "apikey", "key-of-"+name)
			if x.StatusCode != 200 || first != "" && x.Text != first {
				t.Errorf("%s: got %d %s, before %s", name, x.StatusCode, x.Text, first)
			}
			first = x.Text
		}
	}
	if got := len(a.Received()) + len(b.Received()); got != 12 {
		t.Errorf("%d calls, want 12", got)
	}
}

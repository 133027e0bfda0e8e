package fakellm

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func ask(t *testing.T, s *Server, query, body string) (status int, answer string, err error) {
	t.Helper()
	web := httptest.NewServer(s)
	defer web.Close()
	res, err := http.Post(web.URL+"/v1/chat/completions"+query, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), err
}

func TestWhatIsScriptedHappens(t *testing.T) {
	const whole, stream = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`
	tests := map[string]struct {
		query, body string
		status      int
		want        string
		events      int
		cut         bool
	}{
		"a whole answer":    {"", whole, 200, `"content":"I am owl, and I hear: hi"`, 0, false},
		"three words":       {"?words=3", whole, 200, `"completion_tokens":3`, 0, false},
		"a status":          {"?status=429", whole, 429, "scripted", 0, false},
		"no messages":       {"", `{}`, 400, "messages are missing", 0, false},
		"a stream":          {"?words=3", stream, 200, "data: [DONE]", 5, false},
		"one with usage":    {"?words=3", strings.TrimSuffix(stream, "}") + `,"stream_options":{"include_usage":true}}`, 200, `"usage":{`, 6, false},
		"one that is cut":   {"?words=3&cut=2", stream, 200, `"am "`, 2, true},
		"one with pauses":   {"?words=2&gap_ms=1&silent_ms=1", stream, 200, "data: [DONE]", 4, false},
		"more words than I": {"?words=9", whole, 200, "so so", 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, answer, err := ask(t, New("owl"), tt.query, tt.body)
			if status != tt.status || !strings.Contains(answer, tt.want) || strings.Count(answer, "data: ") != tt.events || (err != nil) != tt.cut {
				t.Errorf("got %d %s (%v)", status, answer, err)
			}
		})
	}
}

func TestCredentialsAreAskedForWhenThereAreAny(t *testing.T) {
	s := New("owl")
	s.Authorization = "Bearer right"
	if status, answer, _ := ask(t, s, "", `{}`); status != 401 {
		t.Errorf("got %d %s", status, answer)
	}
}

func TestWhatCameIsRemembered(t *testing.T) {
	s := New("owl")
	_, _, _ = ask(t, s, "?a=1", `{"x":1.50}`)
	got := s.Received()
	if len(got) != 1 || got[0].Method != "POST" || got[0].Path != "/v1/chat/completions" || got[0].Query != "a=1" || string(got[0].Body) != `{"x":1.50}` {
		t.Errorf("got %+v", got)
	}
	if s.Reset(); len(s.Received()) != 0 {
		t.Error("got requests after a reset")
	}
}

func TestAClientThatLeavesIsNoticed(t *testing.T) {
	s := New("owl")
	web := httptest.NewServer(s)
	defer web.Close()
	ctx, leave := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+"/?silent_ms=60000", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	for deadline := time.After(10 * time.Second); len(s.Received()) == 0; {
		select {
		case <-deadline:
			t.Fatal("the request did not come")
		case <-time.After(time.Millisecond):
		}
	}
	leave()
	select {
	case <-s.Gone():
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed")
	}
	<-done
}

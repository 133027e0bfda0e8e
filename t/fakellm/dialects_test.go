package fakellm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
)

// questions are requests in every protocol: whole, as a stream, with a tool that can be
// called.
var questions = map[string]struct {
	path, streamPath, body, tools string
	streamMember                  bool
}{
	"openai-chat":        {"/v1/chat/completions", "", `"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]`, `,"tools":[{"type":"function","function":{"name":"look"}}]`, true},
	"openai-responses":   {"/v1/responses", "", `"model":"m","input":[{"role":"user","content":"hi"}]`, `,"tools":[{"type":"function","name":"look"}]`, true},
	"anthropic-messages": {"/v1/messages", "", `"model":"m","messages":[{"role":"user","content":"hi"}]`, `,"tools":[{"name":"look"}]`, true},
	"bedrock-converse":   {"/model/m%3A0/converse", "/model/m%3A0/converse-stream", `"messages":[{"role":"user","content":[{"text":"hi"}]}]`, `,"toolConfig":{"tools":[{"toolSpec":{"name":"look"}}]}`, false},
	"gemini-generate":    {"/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent", `"contents":[{"role":"user","parts":[{"text":"hi"}]}]`, `,"tools":[{"functionDeclarations":[{"name":"look"}]}]`, false},
}

// get asks and returns what came; the error is that of a body that broke.
func get(t *testing.T, s *Server, path, query, body string) (*http.Response, []byte, error) {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	if query != "" {
		path += "?" + query
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return res, raw, err
}

// parts returns the JSON texts of a stream.
func parts(t *testing.T, res *http.Response, raw []byte) (list [][]byte) {
	t.Helper()
	if res.Header.Get("Content-Type") == eventstream.ContentType {
		var s eventstream.Splitter
		if _, err := s.Feed(raw, func(m eventstream.Message) { list = append(list, bytes.Clone(m.Payload)) }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	for line := range bytes.Lines(raw) {
		if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: ")); ok && string(data) != "[DONE]" {
			list = append(list, data)
		}
	}
	return list
}

func TestEveryProtocolAnswersWholeAndAsAStream(t *testing.T) {
	for name, q := range questions {
		for what, query := range map[string]string{"words": "words=4", "thoughts": "words=4&think", "a tool": "tool"} {
			t.Run(name+" "+what, func(t *testing.T) {
				body := "{" + q.body + q.tools + "}"
				res, raw, err := get(t, New("owl"), q.path, query, body)
				if err != nil || res.StatusCode != 200 || !json.Valid(raw) {
					t.Fatalf("got %v %s (%v)", res, raw, err)
				}
				path := q.path
				if q.streamPath != "" {
					path = q.streamPath
				} else {
					body = body[:len(body)-1] + `,"stream":true}`
				}
				res, stream, err := get(t, New("owl"), path, query, body)
				if err != nil {
					t.Fatal(err)
				}
				list := parts(t, res, stream)
				for _, p := range list {
					if !json.Valid(p) {
						t.Errorf("an event is %s", p)
					}
				}
				all := string(bytes.Join(list, []byte("\n")))
				for _, answer := range []string{string(raw), all} {
					if what == "thoughts" != strings.Contains(answer, thought) || what == "a tool" != strings.Contains(answer, `"look"`) {
						t.Errorf("got %s", answer)
					}
				}
				if len(list) < 2 && what != "a tool" {
					t.Errorf("got %d events", len(list))
				}
			})
		}
	}
}

func TestATextIsEmbedded(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/embeddings": `{"model":"m","input":["a","b"]}`,
		"/v1/projects/p/locations/l/publishers/google/models/m:predict": `{"instances":[{"content":"a"},{"content":"b"}]}`,
	} {
		res, raw, err := get(t, New("owl"), path, "", body)
		if err != nil || res.StatusCode != 200 || strings.Count(string(raw), "0.5") != 2 {
			t.Errorf("%s: got %s (%v)", path, raw, err)
		}
		if res, raw, _ := get(t, New("owl"), path, "", `{}`); res.StatusCode != 400 {
			t.Errorf("%s: got %d %s for nothing", path, res.StatusCode, raw)
		}
	}
}

func TestEveryScenarioIsWhatItSaysItIs(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		for name, q := range questions {
			t.Run(s.Name+" "+name, func(t *testing.T) {
				seen[s.Name] = true
				path, body := q.path, "{"+q.body+"}"
				if q.streamPath != "" {
					path = q.streamPath
				} else {
					body = body[:len(body)-1] + `,"stream":true}`
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				llm := New("owl")
				web := httptest.NewServer(llm)
				defer web.Close()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, web.URL+path+"?"+s.Query, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept-Encoding", "identity")
				if s.Name == "S06" {
					done := make(chan error, 1)
					go func() {
						res, err := http.DefaultClient.Do(req)
						if err == nil {
							_ = res.Body.Close()
						}
						done <- err
					}()
					for len(llm.Received()) == 0 {
						select {
						case err := <-done:
							t.Fatalf("it did not come: %v", err)
						case <-time.After(time.Millisecond):
						}
					}
					leave()
					<-llm.Gone()
					if err := <-done; !errors.Is(err, context.Canceled) {
						t.Errorf("got %v", err)
					}
					return
				}
				res, err := http.DefaultClient.Do(req)
				if s.Name == "S05" {
					if err == nil {
						t.Errorf("got %d", res.StatusCode)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				if s.Name == "S09" || s.Name == "S18" || s.Name == "S19" {
					first := make([]byte, 3)
					if _, err := io.ReadFull(res.Body, first[:1]); err != nil {
						t.Errorf("nothing came: %v", err)
					}
					leave()
					<-llm.Gone()
					return
				}
				raw, err := io.ReadAll(res.Body)
				check(t, s.Name, res, raw, err)
			})
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d scenarios were run, want 20", len(seen))
	}
}

// check judges an answer that ends.
func check(t *testing.T, scenario string, res *http.Response, raw []byte, err error) {
	t.Helper()
	broken := err != nil
	if want := scenario == "S08" || scenario == "S17"; broken != want {
		t.Errorf("the body is broken: %v, want %v (%v)", broken, want, err)
	}
	status := map[string]int{"S02": 429, "S03": 500, "S04": 529}[scenario]
	if status == 0 {
		status = 200
	}
	if res.StatusCode != status {
		t.Errorf("got status %d, want %d", res.StatusCode, status)
	}
	switch scenario {
	case "S02":
		if res.Header.Get("Retry-After") != "1" {
			t.Error("it does not say when to come back")
		}
	case "S10":
		good, bad := 0, 0
		for _, p := range parts(t, res, raw) {
			if json.Valid(p) {
				good++
			} else {
				bad++
			}
		}
		if good < 2 || bad != 1 {
			t.Errorf("%d events are good and %d are not", good, bad)
		}
	case "S11", "S12", "S13":
		list := parts(t, res, raw)
		if want := map[string]int{"S11": 1, "S12": 2, "S13": 30}[scenario]; len(list) != want || !strings.Contains(string(list[want-1]), "scripted") {
			t.Errorf("got %d events, the last is %s", len(list), list[len(list)-1])
		}
	case "S14":
		if len(raw) > 0 {
			t.Errorf("got %s", raw)
		}
	case "S15":
		if !strings.HasPrefix(string(raw), "<html>") {
			t.Errorf("got %s", raw)
		}
	case "S16":
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(z); err != nil || len(plain) == 0 {
			t.Errorf("got %s (%v)", plain, err)
		}
	case "S20":
		for _, last := range []string{"[DONE]", "message_stop", "response.completed", "STOP", "stopReason", `"finish_reason":"stop"`} {
			if strings.Contains(string(raw), last) {
				t.Errorf("%s came", last)
			}
		}
	}
}

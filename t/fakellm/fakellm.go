// Package fakellm is a provider of language models that has none: it answers chat requests
// in OpenAI's shapes, whole or as a stream, as slowly and as badly as it is asked to. Tests
// and the demo talk to it. It does not check credentials unless it is told one.
//
// The query of a request scripts the answer: status=N answers with that error, words=N sets
// how long it is, gap_ms=N pauses between events, cut=N breaks the connection after N
// events, silent_ms=N pauses before the first byte.
package fakellm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Received is a request as it came.
type Received struct {
	Method, Path, Query string
	Header              http.Header
	Body                []byte
}

// Server is the provider. It is an http.Handler and safe for concurrent use.
type Server struct {
	Name          string // how it calls itself in its answers
	Authorization string // what the header must be; empty: anything

	mu   sync.Mutex
	got  []Received
	gone chan struct{}
}

// New returns a provider of that name.
func New(name string) *Server { return &Server{Name: name, gone: make(chan struct{}, 64)} }

// Received returns the requests so far.
func (s *Server) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received(nil), s.got...)
}

// Reset forgets the requests so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = nil
}

// Gone receives a value for every request whose client left before the end.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// ServeHTTP answers a chat request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.got = append(s.got, Received{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body})
	s.mu.Unlock()
	q := script{r}
	if s.Authorization != "" && r.Header.Get("Authorization") != s.Authorization {
		fail(w, http.StatusUnauthorized, "Incorrect API key provided.")
		return
	}
	if !s.wait(r, q.number("silent_ms", 0)) {
		return
	}
	if status := q.number("status", 200); status != 200 {
		fail(w, status, "scripted")
		return
	}
	var in struct {
		Model    string
		Stream   bool
		Messages []struct {
			Role    string
			Content any
		}
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Messages) == 0 {
		fail(w, http.StatusBadRequest, "messages are missing")
		return
	}
	words := strings.Fields(fmt.Sprintf("I am %s, and I hear: %v", s.Name, in.Messages[len(in.Messages)-1].Content))
	for n := q.number("words", len(words)); len(words) != n; {
		if len(words) > n {
			words = words[:n]
		} else {
			words = append(words, "so")
		}
	}
	if in.Stream {
		s.stream(w, r, in.Model, words, bytes.Contains(body, []byte("include_usage")))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-fake", "object": "chat.completion", "created": 1700000000, "model": in.Model,
		"choices": []any{map[string]any{
			"index": 0, "message": map[string]any{"role": "assistant", "content": strings.Join(words, " ")}, "finish_reason": "stop",
		}},
		"usage": usage(len(words)),
	})
}

func usage(words int) map[string]int {
	return map[string]int{"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}
}

// stream writes one event a word, and one with the usage if that was asked for.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, model string, words []string, counted bool) {
	q := script{r}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := w.(http.Flusher).Flush
	event := func(choices string, usage string) {
		_, _ = fmt.Fprintf(w, `data: {"id":"chatcmpl-fake","object":"chat.completion.chunk","created":1700000000,"model":%q,"choices":%s%s}`+"\n\n",
			model, choices, usage)
		flush()
	}
	cut := q.number("cut", -1)
	for n, word := range words {
		if n == cut {
			panic(http.ErrAbortHandler)
		}
		if n > 0 && !s.wait(r, q.number("gap_ms", 0)) {
			return
		}
		text, _ := json.Marshal(word + " ")
		event(`[{"index":0,"delta":{"content":`+string(text)+`},"finish_reason":null}]`, "")
	}
	event(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, "")
	if counted {
		u, _ := json.Marshal(usage(len(words)))
		event("[]", `,"usage":`+string(u))
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// wait pauses; false if the client left meanwhile.
func (s *Server) wait(r *http.Request, ms int) bool {
	if ms == 0 {
		return true
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return true
	case <-r.Context().Done():
		select {
		case s.gone <- struct{}{}:
		default:
		}
		return false
	}
}

type script struct{ r *http.Request }

func (q script) number(name string, otherwise int) int {
	if n, err := strconv.Atoi(q.r.URL.Query().Get(name)); err == nil {
		return n
	}
	return otherwise
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Request-Id", "req-fake")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": text, "type": "fake_error", "code": nil}})
}

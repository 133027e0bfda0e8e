package aiproxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// embedder is a provider of embeddings: a text about code is one direction, one about
// languages another, anything else a third.
type embedder struct {
	t      *testing.T
	calls  atomic.Int64
	answer atomic.Pointer[string] // instead of vectors
	status atomic.Int64
	last   atomic.Pointer[http.Request]
	body   atomic.Pointer[string]
}

func (e *embedder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	e.calls.Add(1)
	raw, _ := io.ReadAll(q.Body)
	text := string(raw)
	e.last.Store(q)
	e.body.Store(&text)
	if s := e.status.Load(); s != 0 {
		w.WriteHeader(int(s))
		_, _ = io.WriteString(w, "SENSITIVE")
		return
	}
	if a := e.answer.Load(); a != nil {
		_, _ = io.WriteString(w, *a)
		return
	}
	var in struct{ Input []string }
	if err := json.Unmarshal(raw, &in); err != nil {
		e.t.Error(err)
	}
	var list []string
	for n, input := range in.Input {
		v := "[0,0,2]"
		switch {
		case strings.Contains(input, "code"):
			v = "[3,0.1,0]"
		case strings.Contains(input, "translate"):
			v = "[0,1,0]"
		}
		// From the last to the first: what counts is the index.
		list = append([]string{fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, n, v)}, list...)
	}
	_, _ = io.WriteString(w, `{"object":"list","data":[`+strings.Join(list, ",")+`]}`)
}

// semanticWorld is a route that chooses by meaning.
func semanticWorld(t *testing.T, r *rig, opts string) (*embedder, func(request) (*sink, string)) {
	t.Helper()
	e := &embedder{t: t}
	at := provider(t, e)
	_, addr := fake(t, "owl")
	chain := r.route("ai-proxy-multi", multi("instances",
		fmt.Sprintf(`,"balancer":{"algorithm":"semantic"},"fallback_strategy":["http_5xx"],"semantic_opts":{"embeddings":{"provider":"openai","model":"small","endpoint":"http://%s","auth":{"header":{"Authorization":"Bearer embed"},"query":{"k":"v"}}}%s}`, at, opts),
		member("code", addr, `,"examples":["write code","fix this code"]`), member("words", addr, `,"examples":["translate this"],"threshold":0.9`),
		member("rest", addr, `,"examples":["tell me a story"],"threshold":1`)))
	return e, func(q request) (*sink, string) {
		if q.body == "" {
			q.body = hello
		}
		got, c := r.ask(chain, q)
		return got, c.Facts.BalancerIP
	}
}

func saying(text string) request {
	raw, _ := json.Marshal(text)
	return request{body: `{"messages":[{"role":"system","content":"x"},{"role":"user","content":` + string(raw) + `}]}`}
}

func TestTheInstanceWhoseExamplesAreMostAlikeIsChosen(t *testing.T) {
	r := newRig(t)
	e, ask := semanticWorld(t, r, `,"threshold":0.5,"fallback":"rest","debugging":true`)
	for text, want := range map[string]string{"some code please": "code", "translate hello": "words"} {
		got, picked := ask(saying(text))
		if got.status != 200 || picked != want || got.header.Get("X-AI-Semantic-Picked-Instance") != want {
			t.Errorf("%q: got %d from %s (%v)", text, got.status, picked, got.header.Fields())
		}
	}
	if q := e.last.Load(); q.URL.Path != "/v1/embeddings" || q.URL.RawQuery != "k=v" || q.Header.Get("Authorization") != "Bearer embed" || q.Method != "POST" {
		t.Errorf("the embeddings were asked for by %s %s with %v", q.Method, q.URL, q.Header)
	}
	got, _ := ask(request{body: saying("code").body, header: []string{"Cookie", "secret", "X-Mine", "1"}})
	if scores := got.header.Get("X-AI-Semantic-Scores"); scores != "code:1.0000,words:0.0333,rest:0.0000" {
		t.Errorf("got scores %q", scores)
	}
	if q := e.last.Load(); q.Header.Get("Cookie") != "" || q.Header.Get("X-Mine") != "" {
		t.Errorf("the client's headers go to the embeddings: %v", q.Header)
	}
	if want := `{"input":["code"],"model":"small"}`; *e.body.Load() != want {
		t.Errorf("got body %s, want %s", *e.body.Load(), want)
	}
	long := strings.Repeat("code ", 10000)
	ask(saying(long))
	var in struct{ Input []string }
	if err := json.Unmarshal([]byte(*e.body.Load()), &in); err != nil || in.Input[0] != long[:16384] {
		t.Errorf("%d bytes are embedded (%v), want the first 16384", len(in.Input[0]), err)
	}
}

func TestWhereMeaningCannotTellTheFallbackAnswers(t *testing.T) {
	text := func(s string) *string { return &s }
	tests := map[string]struct {
		opts   string
		answer *string
		status int64
		q      request
		want   string
		log    string
		header string
	}{
		"nothing clears its threshold": {
			`,"threshold":0.99,"fallback":"words","debugging":true`, nil, 0, saying("translate and code"), "code", "", "code",
		},
		"nothing at all":            {`,"threshold":1,"fallback":"words","debugging":true`, text(`{"data":[{"embedding":[1,1,1]}]}`), 0, saying("x"), "words", "no instance cleared threshold (scores: code:0.5", "fallback"},
		"the first is the fallback": {`,"threshold":1`, text(`{"data":[{"embedding":[1,1,1]}]}`), 0, saying("x"), "code", "no instance cleared threshold", ""},
		"no user":                   {`,"fallback":"words"`, nil, 0, request{body: `{"messages":[{"role":"system","content":"x"}]}`}, "words", "no user message found", ""},
		"an error":                  {`,"fallback":"words"`, nil, 500, saying("code"), "words", "query embedding failed: embedding endpoint returned status 500", ""},
		"no JSON":                   {`,"fallback":"words"`, text(`code`), 0, saying("code"), "words", "invalid embedding response", ""},
		"JSON that is none":         {`,"fallback":"words"`, text(`7`), 0, saying("code"), "words", "invalid embedding response", ""},
		"entries that are none":     {`,"fallback":"words"`, text(`{"data":[7]}`), 0, saying("code"), "words", "invalid embedding entry at index 0", ""},
		"a vector that is none":     {`,"fallback":"words"`, text(`{"data":[{"embedding":["a"]}]}`), 0, saying("code"), "words", "non-numeric embedding component at index 0", ""},
		"an empty vector":           {`,"fallback":"words"`, text(`{"data":[{"embedding":[]}]}`), 0, saying("code"), "words", "invalid embedding vector at index 0", ""},
		"a number beyond numbers":   {`,"fallback":"words"`, text(`{"data":[{"embedding":[1e999]}]}`), 0, saying("code"), "words", "non-numeric embedding component at index 0", ""},
		"no list":                   {`,"fallback":"words"`, text(`{"data":[{"embedding":"AAAA"}]}`), 0, saying("code"), "words", "invalid embedding vector at index 0", ""},
		"numbers that are too long": {`,"fallback":"words"`, text(`{"data":[{"embedding":[1e308,1e308,0]}]}`), 0, saying("code"), "words", "non-numeric embedding component at index 0", ""},
		"an index that is none":     {`,"fallback":"words"`, text(`{"data":[{"index":3,"embedding":[1]}]}`), 0, saying("code"), "words", "invalid embedding index at entry 0", ""},
		"no vector":                 {`,"fallback":"words"`, text(`{"data":[]}`), 0, saying("code"), "words", "missing embedding for input index 0", ""},
		"another dimension":         {`,"fallback":"words"`, text(`{"data":[{"embedding":[1,2]}]}`), 0, saying("code"), "words", "embedding dimension mismatch (query 2 vs reference 3)", ""},
		"a vector without a length": {`,"fallback":"words","threshold":0.1`, text(`{"data":[{"embedding":[0,0,0]}]}`), 0, saying("code"), "words", "no instance cleared threshold", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			e, ask := semanticWorld(t, r, tt.opts)
			ask(saying("code")) // the examples are known
			e.answer.Store(tt.answer)
			e.status.Store(tt.status)
			got, picked := ask(tt.q)
			if got.status != 200 || picked != tt.want || got.header.Get("X-AI-Semantic-Picked-Instance") != tt.header {
				t.Errorf("got %d from %s (%v), want %s", got.status, picked, got.header.Fields(), tt.want)
			}
			if log := r.log.String(); tt.log != "" && !strings.Contains(log, tt.log) || strings.Contains(log, "SENSITIVE") {
				t.Errorf("got log %s, want %q in it", log, tt.log)
			}
		})
	}
}

func TestExamplesAreEmbeddedOncePerHour(t *testing.T) {
	r := newRig(t)
	e, ask := semanticWorld(t, r, "")
	e.status.Store(500)
	if _, picked := ask(saying("translate")); picked != "code" || !strings.Contains(r.log.String(), "failed to fetch reference embeddings") {
		t.Errorf("got %s, log %s", picked, r.log)
	}
	e.status.Store(0)
	e.calls.Store(0)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, picked := ask(saying("translate")); picked != "words" {
				t.Errorf("got %s", picked)
			}
		})
	}
	wg.Wait()
	r.clock.Pass(59 * time.Minute)
	ask(saying("translate"))
	if n := e.calls.Load(); n != 12 {
		t.Errorf("asked %d times, want once for the examples and once for each of eleven requests", n)
	}
	r.clock.Pass(2 * time.Minute)
	ask(saying("translate"))
	if n := e.calls.Load(); n != 14 {
		t.Errorf("asked %d times, want the examples again after an hour", n)
	}
}

func TestSemanticNeverFallsBackToAnother(t *testing.T) {
	r := newRig(t)
	e := &embedder{t: t}
	at := provider(t, e)
	_, alive := fake(t, "owl")
	chain := r.route("ai-proxy-multi", multi("instances",
		fmt.Sprintf(`,"balancer":{"algorithm":"semantic"},"fallback_strategy":["http_5xx"],"hedge":{"after":1},"retry_budget":{},"semantic_opts":{"embeddings":{"provider":"azure-openai","model":"small","endpoint":"http://%s/deployments/d/embeddings?api-version=1","auth":{}}}`, at),
		member("code", answering(t, 503), `,"examples":["code"]`), member("words", alive, `,"examples":["translate"]`)))
	got, c := r.ask(chain, saying("code"))
	if got.status != 503 || attempts(c) != "code:503" {
		t.Errorf("got %d, attempts %q", got.status, attempts(c))
	}
	if q := e.last.Load(); q.URL.String() != "/deployments/d/embeddings?api-version=1" || *e.body.Load() != `{"input":["code"]}` {
		t.Errorf("got %s %s", q.URL, *e.body.Load())
	}
}

func TestSemanticWithOneInstance(t *testing.T) {
	r := newRig(t)
	e := &embedder{t: t}
	at := provider(t, e)
	_, alive := fake(t, "owl")
	chain := r.route("ai-proxy-multi", multi("instances",
		fmt.Sprintf(`,"balancer":{"algorithm":"semantic"},"semantic_opts":{"debugging":true,"embeddings":{"provider":"openai","model":"small","endpoint":"http://%s","auth":{}}}`, at),
		member("code", alive, `,"examples":["code"]`)))
	if got, _ := r.ask(chain, saying("code")); got.status != 200 || got.header.Get("X-AI-Semantic-Scores") != "code:1.0000" {
		t.Errorf("got %d, %v", got.status, got.header.Fields())
	}
}

func FuzzVectors(f *testing.F) {
	f.Add([]byte(`{"data":[{"index":0,"embedding":[1,2.5,-3e2]},{"index":1,"embedding":[0]}]}`))
	f.Add([]byte(`{"data":[{"embedding":[1e308,1e308]}]}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		vectors, err := vectorsOf(answer, 2)
		if err == nil && len(vectors) != 2 {
			t.Errorf("got %d vectors", len(vectors))
		}
		for _, v := range vectors {
			sum := dot(v, v)
			if err == nil && (len(v) == 0 || sum != 0 && (sum < 0.9 || sum > 1.1)) {
				t.Errorf("got a vector of the square %v", sum)
			}
		}
	})
}

func TestVectorsAreNormalized(t *testing.T) {
	got, err := vectorsOf([]byte(`{"data":[{"embedding":[3,4]},{"embedding":[0,0]}]}`), 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]float32{{0.6, 0.8}, {0, 0}}, got); diff != "" {
		t.Error(diff)
	}
}

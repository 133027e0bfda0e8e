package aiproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// semanticConf is the member semantic_opts.
type semanticConf struct {
	Embeddings struct {
		Provider string `json:"provider"`
		Model    string `json:"model"`
		Endpoint string `json:"endpoint"`
		Auth     auth   `json:"auth"`
		Timeout  int64  `json:"timeout"` // ms
		Verify   bool   `json:"ssl_verify"`
	} `json:"embeddings"`
	Threshold float64 `json:"threshold"`
	Fallback  string  `json:"fallback"`
	Debugging bool    `json:"debugging"`
}

// semantic chooses the instance whose examples are most like what the user asks (spec/06
// §A8). It always chooses: where it cannot tell, a configured instance is taken.
type semantic struct {
	place      *drivers.Instance // of the embeddings; no driver speaks to it but this
	path       string
	model      []byte // JSON; nil: the address says it
	texts      []string
	owners     []int // the instance of each text
	thresholds []float64
	fallback   int
	debugging  bool
}

const (
	promptLimit   = 16384 // bytes of the user's message that are embedded
	examplesLast  = time.Hour
	vectorsLimit  = 64 << 20 // bytes of an answer
	noPath        = "/v1/embeddings"
	azureProvider = "azure-openai"
)

// semantic compiles semantic_opts.
func (d Deps) semantic(c *conf) (*semantic, error) {
	own := &c.Semantic
	e := &own.Embeddings
	driver, known := d.Drivers.Get(e.Provider)
	if !known {
		return nil, fmt.Errorf("semantic_opts.embeddings.provider %s is not supported by this version", e.Provider)
	}
	timeout := ms(e.Timeout)
	s := &semantic{
		place: &drivers.Instance{Driver: driver, Timeouts: upstream.Timeouts{Connect: timeout, Send: timeout, Head: timeout, Read: timeout}},
		path:  noPath, debugging: own.Debugging,
	}
	side := *c
	side.Verify = e.Verify
	account := &instance{Provider: e.Provider, Auth: e.Auth}
	account.Override.Endpoint = e.Endpoint
	if err := place(s.place, &side, account); err != nil {
		return nil, fmt.Errorf("semantic_opts.embeddings: %w", err)
	}
	if s.place.Path != "" {
		s.path = s.place.Path
	}
	if s.place.Query != "" {
		s.path += "?" + s.place.Query
	}
	if e.Provider != azureProvider {
		s.model = jsonedit.AppendQuote(nil, e.Model)
	}
	for n, i := range c.Instances {
		for _, text := range i.Examples {
			s.texts, s.owners = append(s.texts, text), append(s.owners, n)
		}
		threshold := own.Threshold
		if i.Threshold != nil {
			threshold = *i.Threshold
		}
		s.thresholds = append(s.thresholds, threshold)
		if i.Name == own.Fallback {
			s.fallback = n
		}
	}
	return s, nil
}

// examples keeps the vectors of the examples, and fetches them once however many requests
// wait for them. Its zero value is empty.
type examples struct {
	mu      sync.Mutex
	vectors [][]float32
	at      time.Time
	flight  *flight // nil: nobody fetches
}

type flight struct {
	done    chan struct{}
	vectors [][]float32
	err     error
}

// get returns the vectors, which are normalized.
func (e *examples) get(ctx context.Context, now time.Time, fetch func(context.Context) ([][]float32, error)) ([][]float32, error) {
	e.mu.Lock()
	if e.vectors != nil && now.Sub(e.at) < examplesLast {
		defer e.mu.Unlock()
		return e.vectors, nil
	}
	f := e.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		e.flight = f
		e.mu.Unlock()
		// The others wait for it too, so that it does not end with this client.
		e.fly(f, now, func() ([][]float32, error) { return fetch(context.WithoutCancel(ctx)) })
		return f.vectors, f.err
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f.vectors, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *examples) fly(f *flight, now time.Time, fetch func() ([][]float32, error)) {
	f.err = errors.New("the fetch was given up")
	defer func() {
		e.mu.Lock()
		if f.err == nil {
			e.vectors, e.at = f.vectors, now
		}
		e.flight = nil
		e.mu.Unlock()
		close(f.done)
	}()
	f.vectors, f.err = fetch()
}

// choose returns the instance for a request.
func (s *semantic) choose(c *plugin.Context, w *pending, p *proxy) int {
	warn := func(format string, args ...any) int {
		c.Log.Warn().Str("route", c.Route.RouteID).Str("request", c.ID).Msgf("semantic routing: "+format+", falling back", args...)
		return s.fallback
	}
	known, err := p.state.examples.get(c.Context(), p.clock.Now(), func(ctx context.Context) ([][]float32, error) {
		return s.embed(ctx, p.client, s.texts)
	})
	if err != nil {
		return warn("failed to fetch reference embeddings: %s", err)
	}
	prompt := protocol.Prompt(w.protocol, w.doc, promptLimit)
	if prompt == "" {
		return warn("no user message found")
	}
	asked, err := s.embed(c.Context(), p.client, []string{prompt})
	if err != nil {
		return warn("query embedding failed: %s", err)
	}
	query := asked[0]
	scores := make([]float64, len(s.thresholds))
	for i := range scores {
		scores[i] = -2 // below any cosine
	}
	for n, vector := range known {
		if len(vector) != len(query) {
			return warn("embedding dimension mismatch (query %d vs reference %d)", len(query), len(vector))
		}
		scores[s.owners[n]] = max(scores[s.owners[n]], dot(query, vector))
	}
	ranked := make([]int, len(scores))
	for i := range ranked {
		ranked[i] = i
	}
	slices.SortStableFunc(ranked, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	h := &c.Response.Header
	if s.debugging {
		h.Set("X-AI-Semantic-Scores", s.told(p, ranked, scores))
	}
	for _, i := range ranked {
		if scores[i] >= s.thresholds[i] {
			if s.debugging {
				h.Set("X-AI-Semantic-Picked-Instance", p.instances[i].Name)
			}
			return i
		}
	}
	if s.debugging {
		h.Set("X-AI-Semantic-Picked-Instance", "fallback")
	}
	return warn("no instance cleared threshold (scores: %s)", s.told(p, ranked, scores))
}

// told lists the scores.
func (s *semantic) told(p *proxy, ranked []int, scores []float64) string {
	list := make([]string, len(ranked))
	for n, i := range ranked {
		list[n] = p.instances[i].Name + ":" + strconv.FormatFloat(scores[i], 'f', 4, 64)
	}
	return strings.Join(list, ",")
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// embed returns the normalized vectors of texts. Its errors show nothing of the answer,
// which may repeat what a user wrote.
func (s *semantic) embed(ctx context.Context, client *upstream.Client, texts []string) ([][]float32, error) {
	if s.place.Unreachable != nil {
		return nil, s.place.Unreachable
	}
	body := []byte(`{"input":[`)
	for n, text := range texts {
		if n > 0 {
			body = append(body, ',')
		}
		body = jsonedit.AppendQuote(body, text)
	}
	body = append(body, ']')
	if s.model != nil {
		body = append(append(body, `,"model":`...), s.model...)
	}
	body = append(body, '}')
	h := &exchange.Header{}
	for _, f := range s.place.Header {
		h.Add(f.Name, f.Value)
	}
	h.Add("Content-Type", "application/json")
	res, err := client.Do(ctx, &upstream.Request{
		Target: s.place.Target, Timeouts: s.place.Timeouts, Method: http.MethodPost, Host: s.place.Host, Path: s.path, Header: h, Body: [][]byte{body},
	})
	if err != nil {
		return nil, fmt.Errorf("embedding request failed: %w", err)
	}
	defer func() { _ = res.Close() }()
	if res.Status != http.StatusOK {
		return nil, fmt.Errorf("embedding endpoint returned status %d", res.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(res, vectorsLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("embedding request failed: %w", err)
	case len(answer) > vectorsLimit:
		return nil, fmt.Errorf("embedding answer is larger than %d bytes", vectorsLimit)
	}
	return vectorsOf(answer, len(texts))
}

// vectorsOf reads an answer with n vectors.
func vectorsOf(answer []byte, n int) ([][]float32, error) {
	doc, err := jsonedit.IndexTrusted(answer)
	if err != nil {
		return nil, fmt.Errorf("invalid embedding response: %w", err)
	}
	data, kind, _ := doc.Get("data")
	if kind != jsonedit.Array {
		return nil, errors.New("invalid embedding response: unexpected shape")
	}
	vectors := make([][]float32, n)
	err = jsonedit.Elements(data, func(at int, raw []byte, kind jsonedit.Kind) error {
		if kind != jsonedit.Object {
			return fmt.Errorf("invalid embedding entry at index %d", at)
		}
		var list []byte
		index := at
		err := jsonedit.Members(raw, func(name string, raw []byte, kind jsonedit.Kind) error {
			switch {
			case name == "embedding" && kind == jsonedit.Array:
				list = raw
			case name == "index" && kind == jsonedit.Number:
				v, err := strconv.ParseFloat(string(raw), 64)
				if err != nil || v < 0 || v >= float64(n) || v != math.Trunc(v) {
					return fmt.Errorf("invalid embedding index at entry %d", at)
				}
				index = int(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
		vector, err := normalized(list)
		switch {
		case errors.Is(err, errNoNumber):
			return fmt.Errorf("non-numeric embedding component at index %d", index)
		case err != nil || index >= n:
			return fmt.Errorf("invalid embedding vector at index %d", index)
		}
		vectors[index] = vector
		return nil
	})
	if err != nil {
		return nil, err
	}
	if hole := slices.IndexFunc(vectors, func(v []float32) bool { return v == nil }); hole >= 0 {
		return nil, fmt.Errorf("missing embedding for input index %d", hole)
	}
	return vectors, nil
}

var (
	errNoVector = errors.New("not a vector")
	errNoNumber = errors.New("not a number")
)

// normalized reads a vector and brings it to the length 1.
func normalized(list []byte) ([]float32, error) {
	var values []float64
	if list == nil {
		return nil, errNoVector
	}
	sum := 0.0
	err := jsonedit.Elements(list, func(_ int, raw []byte, kind jsonedit.Kind) error {
		v, err := strconv.ParseFloat(string(raw), 64)
		if kind != jsonedit.Number || err != nil {
			return errNoNumber // or beyond what one may be
		}
		values = append(values, v)
		sum += v * v
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch {
	case len(values) == 0:
		return nil, errNoVector
	case math.IsInf(sum, 0):
		return nil, errNoNumber
	}
	vector := make([]float32, len(values))
	if norm := math.Sqrt(sum); norm > 0 {
		for i, v := range values {
			vector[i] = float32(v / norm)
		}
	}
	return vector, nil
}

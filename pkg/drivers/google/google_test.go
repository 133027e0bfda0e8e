package google

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

func call(t *testing.T, provider string, target protocol.ID, model, body string, stream bool) *drivers.Call {
	t.Helper()
	doc, err := jsonedit.Index([]byte(body), jsonedit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := &drivers.Instance{Provider: provider, Driver: Providers()[provider], Where: drivers.Where{Project: "p 1", Region: "us-central1"}}
	return &drivers.Call{Instance: i, Request: &exchange.Request{}, Body: doc, Target: target, Model: model, Stream: stream}
}

func TestPaths(t *testing.T) {
	const (
		chat, predict, generate = protocol.OpenAIChat, protocol.VertexPredict, protocol.GeminiGenerate
		vertex                  = "/v1/projects/p%201/locations/us-central1/publishers/google/models/"
	)
	tests := map[string]struct {
		provider string
		target   protocol.ID
		model    string
		stream   bool
		want     string
	}{
		"gemini, chat":                    {"gemini", chat, "", false, "/v1beta/openai/chat/completions"},
		"gemini, chat as a stream":        {"gemini", chat, "g", true, "/v1beta/openai/chat/completions"},
		"gemini, native":                  {"gemini", generate, "gemini-2.0-flash", false, "/v1beta/models/gemini-2.0-flash:generateContent"},
		"gemini, native as a stream":      {"gemini", generate, "gemini-2.0-flash", true, "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse"},
		"gemini, a model that is no name": {"gemini", generate, "../a?b:c", false, "/v1beta/models/..%2Fa%3Fb%3Ac:generateContent"},
		"vertex, chat":                    {"vertex-ai", chat, "", false, "/v1beta1/projects/p%201/locations/us-central1/endpoints/openapi/chat/completions"},
		"vertex, embeddings":              {"vertex-ai", predict, "text-embedding-004", false, vertex + "text-embedding-004:predict"},
		"vertex, a model with a version":  {"vertex-ai", predict, "gecko@003", false, vertex + "gecko@003:predict"},
		"vertex, native":                  {"vertex-ai", generate, "g", false, vertex + "g:generateContent"},
		"vertex, native as a stream":      {"vertex-ai", generate, "g", true, vertex + "g:streamGenerateContent?alt=sse"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := call(t, tt.provider, tt.target, tt.model, `{}`, tt.stream)
			r, err := c.Instance.Driver.Request(c)
			if err != nil {
				t.Fatal(err)
			}
			if r.Path != tt.want {
				t.Errorf("got %s, want %s", r.Path, tt.want)
			}
		})
	}
}

func TestAnEndpointsPathWins(t *testing.T) {
	for query, want := range map[string]string{
		"":          "/own?alt=sse",
		"a=b":       "/own?a=b&alt=sse",
		"alt=proto": "/own?alt=proto",
	} {
		c := call(t, "gemini", protocol.GeminiGenerate, "g", `{}`, true)
		c.Instance.Path, c.Instance.Query = "/own", query
		r, err := c.Instance.Driver.Request(c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Path != want {
			t.Errorf("%q: got %s, want %s", query, r.Path, want)
		}
	}
}

func TestWhatHasNoPath(t *testing.T) {
	tests := map[string]struct {
		provider string
		target   protocol.ID
		model    string
		where    drivers.Where
	}{
		"gemini, native without a model":   {"gemini", protocol.GeminiGenerate, "", drivers.Where{}},
		"vertex, embeddings without one":   {"vertex-ai", protocol.VertexPredict, "", drivers.Where{Project: "p", Region: "r"}},
		"vertex, native without one":       {"vertex-ai", protocol.GeminiGenerate, "", drivers.Where{Project: "p", Region: "r"}},
		"vertex, a chat without a project": {"vertex-ai", protocol.OpenAIChat, "m", drivers.Where{Region: "r"}},
		"vertex, a chat without a region":  {"vertex-ai", protocol.OpenAIChat, "m", drivers.Where{Project: "p"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := call(t, tt.provider, tt.target, tt.model, `{}`, false)
			c.Instance.Where = tt.where
			if _, err := c.Instance.Driver.Request(c); !errors.Is(err, drivers.ErrNoPath) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	tests := map[string]struct {
		target     protocol.ID
		body, want string
	}{
		"a chat names its model": {
			protocol.OpenAIChat, `{"model":"m","stream":true,"max_tokens":1}`, `{"model":"m","stream":true,"max_completion_tokens":9}`,
		},
		"embeddings do not": {
			protocol.VertexPredict, `{"model":"m","instances":[{"content":"x"}]}`, `{"instances":[{"content":"x"}]}`,
		},
		"a native request neither names it nor says that it is a stream": {
			protocol.GeminiGenerate, `{"model":"m","stream":true,"contents":[]}`,
			`{"contents":[],"generationConfig":{"maxOutputTokens":9}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := call(t, "vertex-ai", tt.target, "m", tt.body, false)
			c.Instance.MaxTokens = []byte("9")
			r, err := c.Instance.Driver.Request(c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(jsonedit.Join(r.Body))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	tests := map[string]struct {
		provider, region, want string
	}{
		"gemini is in one place":        {"gemini", "us-central1", "generativelanguage.googleapis.com"},
		"vertex is where its region is": {"vertex-ai", "us-central1", "us-central1-aiplatform.googleapis.com"},
		"vertex without a region":       {"vertex-ai", "", "aiplatform.googleapis.com"},
		"the region that is everywhere": {"vertex-ai", "global", "aiplatform.googleapis.com"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Providers()[tt.provider].Endpoint(drivers.Where{Region: tt.region}).Host; got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

type tokens struct{ err error }

func (t tokens) Token(context.Context) (string, error) { return "t1", t.err }

func TestAnInstancesTokenReplacesAConfiguredOne(t *testing.T) {
	c := call(t, "vertex-ai", protocol.OpenAIChat, "m", `{}`, false)
	c.Instance.Tokens = tokens{}
	r := &upstream.Request{Header: &exchange.Header{}}
	r.Header.Add("authorization", "Bearer configured")
	if err := drivers.Sign(context.Background(), c, r); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Joined("Authorization"); got != "Bearer t1" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutATokenThereIsNoCall(t *testing.T) {
	c := call(t, "vertex-ai", protocol.OpenAIChat, "m", `{}`, false)
	cause := errors.New("refused")
	c.Instance.Tokens = tokens{cause}
	err := drivers.Sign(context.Background(), c, &upstream.Request{Header: &exchange.Header{}})
	var failed *drivers.SignError
	if !errors.As(err, &failed) || failed.Text != "failed to get gcp access token: failed to get google oauth token" || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestRecordings(t *testing.T) { drivertest.Run(t, Providers()["vertex-ai"], "testdata/answers") }

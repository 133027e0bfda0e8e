package drivers

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
)

func TestWithClientQuery(t *testing.T) {
	i := &Instance{Query: "key=own&v=1&w=%202", Fixed: map[string]bool{"key": true}}
	tests := map[string]struct{ client, want string }{
		"nothing":                              {"", "key=own&v=1&w=%202"},
		"another argument comes behind":        {"z=1", "key=own&v=1&w=%202&z=1"},
		"an equal one wins over the endpoint":  {"v=9&v=8", "key=own&w=%202&v=9&v=8"},
		"but never over a configured one":      {"key=mine&%6bey=mine&x", "key=own&v=1&w=%202&x"},
		"what cannot be decoded is not passed": {"v=%zz", "key=own&v=1&w=%202"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := i.WithClientQuery(tt.client); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorHeaderKeepsWhatAClientNeeds(t *testing.T) {
	var h exchange.Header
	for _, name := range []string{
		"Content-Type", "Retry-After", "retry-after-ms", "x-ratelimit-limit-tokens", "Anthropic-RateLimit-Tokens-Reset", "x-request-id",
		"Request-Id", "apim-request-id", "Set-Cookie", "Server",
	} {
		h.Add(name, "1")
	}
	var got []string
	for _, f := range ErrorHeader(&h) {
		got = append(got, f.Name)
	}
	want := []string{
		"Retry-After", "retry-after-ms", "x-ratelimit-limit-tokens", "Anthropic-RateLimit-Tokens-Reset", "x-request-id", "Request-Id", "apim-request-id",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnsupportedErrorNamesWhatIsSupported(t *testing.T) {
	err := &UnsupportedError{Provider: "x", Protocol: protocol.OpenAIResponses, Supported: []protocol.ID{protocol.OpenAIChat, protocol.OpenAIEmbeddings}}
	if got, want := err.Error(), "provider x does not support openai-responses protocol (supported: openai-chat, openai-embeddings)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSet(t *testing.T) {
	s := NewSet(map[string]Driver{"b": nil}, map[string]Driver{"a": nil})
	if diff := cmp.Diff([]string{"a", "b"}, s.Providers()); diff != "" {
		t.Error(diff)
	}
	if _, ok := s.Get("c"); ok {
		t.Error("got a driver that is not in the set")
	}
}

func TestASetHasOneDriverForAName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two drivers for one name are accepted")
		}
	}()
	NewSet(map[string]Driver{"a": nil}, map[string]Driver{"a": nil})
}

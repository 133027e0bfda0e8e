package drivers

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
)

func fields(namesAndValues ...string) (list []exchange.Field) {
	for n := 0; n < len(namesAndValues); n += 2 {
		list = append(list, exchange.Field{Name: namesAndValues[n], Value: namesAndValues[n+1]})
	}
	return list
}

func TestHeadersFollowAConversion(t *testing.T) {
	const version, beta = "anthropic-version", "anthropic-beta"
	messages := fields("x-api-key", "k", version, "2023-06-01", beta, "x", "X-Stainless-Lang", "js", "X-Mine", "1")
	chat := fields("Authorization", "Bearer k", "OpenAI-Organization", "o", "x-stainless-lang", "js", "X-Mine", "1")
	own := fields("Authorization", "Bearer own")
	tests := map[string]struct {
		from, to protocol.ID
		client   []exchange.Field
		instance Instance
		want     []exchange.Field
	}{
		"messages to chat: the key becomes a bearer token": {
			protocol.AnthropicMessages, protocol.OpenAIChat, messages,
			Instance{Forward: true},
			fields("X-Mine", "1", "Authorization", "Bearer k"),
		},
		"messages to chat: an instance's own credentials": {
			protocol.AnthropicMessages, protocol.OpenAIChat, messages,
			Instance{Forward: true, Credentials: true, Header: own},
			fields("Authorization", "Bearer own", "X-Mine", "1"),
		},
		"messages to chat: own credentials in the query": {
			protocol.AnthropicMessages, protocol.OpenAIChat, messages, Instance{Forward: true, Credentials: true}, fields("X-Mine", "1"),
		},
		"messages to chat: a client with both": {
			protocol.AnthropicMessages, protocol.OpenAIChat, fields("x-api-key", "k", "authorization", "Bearer a"),
			Instance{Forward: true},
			fields("authorization", "Bearer a"),
		},
		"chat to messages: the bearer token becomes a key": {
			protocol.OpenAIChat, protocol.AnthropicMessages, chat,
			Instance{Forward: true},
			fields("X-Mine", "1", "X-API-Key", "k", "Anthropic-Version", "2023-06-01"),
		},
		"chat to messages: own credentials and version": {
			protocol.OpenAIChat, protocol.AnthropicMessages, chat,
			Instance{Forward: true, Credentials: true, Header: fields("x-api-key", "own", version, "2024-01-01")},
			fields("x-api-key", "own", version, "2024-01-01", "X-Mine", "1"),
		},
		"chat to messages: credentials of another kind": {
			protocol.OpenAIChat, protocol.AnthropicMessages, fields("Authorization", "Basic x"),
			Instance{Forward: true},
			fields("Anthropic-Version", "2023-06-01"),
		},
		"chat to gemini: what is OpenAI's own does not go along": {
			protocol.OpenAIChat, protocol.GeminiGenerate, append(fields("Anthropic-Beta", "x"), chat...),
			Instance{Forward: true},
			fields("Authorization", "Bearer k", "X-Mine", "1"),
		},
		"responses to bedrock: nor here": {
			protocol.OpenAIResponses, protocol.BedrockConverse, chat, Instance{Forward: true, Credentials: true}, fields("X-Mine", "1"),
		},
		"embeddings to vertex: nor here": {
			protocol.OpenAIEmbeddings, protocol.VertexPredict, chat, Instance{Forward: true, Credentials: true}, fields("X-Mine", "1"),
		},
		"messages to gemini: nor what is Anthropic's": {
			protocol.AnthropicMessages, protocol.GeminiGenerate, append(fields("OpenAI-Project", "p"), messages...),
			Instance{Forward: true},
			fields("X-Mine", "1", "Authorization", "Bearer k"),
		},
		"a header of that name that is configured goes along": {
			protocol.OpenAIChat, protocol.BedrockConverse, chat,
			Instance{Forward: true, Credentials: true, Header: fields("OpenAI-Organization", "own")},
			fields("OpenAI-Organization", "own", "X-Mine", "1"),
		},
		"within a family: they stay": {
			protocol.OpenAIResponses, protocol.OpenAIChat, chat, Instance{Forward: true}, chat,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := &Call{Instance: &tt.instance, Request: &exchange.Request{}, Protocol: tt.from, Target: tt.to, Answer: noAnswer{}}
			for _, f := range tt.client {
				c.Request.Header.Add(f.Name, f.Value)
			}
			// What is the instance's comes first, with the type behind it.
			own := len(tt.instance.Header)
			want := slices.Insert(slices.Clone(tt.want), own, exchange.Field{Name: "Content-Type", Value: "application/json"})
			if diff := cmp.Diff(want, header(c).Fields()); diff != "" {
				t.Error(diff)
			}
			tt.instance.Fix()
			if diff := cmp.Diff(want, header(c).Fields()); diff != "" {
				t.Errorf("laid out before: %s", diff)
			}
		})
	}
}

// noAnswer stands for a conversion that is not asked for anything.
type noAnswer struct{ convert.Answer }

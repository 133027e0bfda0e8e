package prompt

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

func index(t testing.TB, body string) *jsonedit.Doc {
	t.Helper()
	doc, err := jsonedit.Index([]byte(body), Options(0))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestMessages(t *testing.T) {
	tests := map[string]struct {
		id   protocol.ID
		body string
		want []Message
	}{
		"a chat": {
			protocol.OpenAIChat, `{"messages":[{"role":"system","content":"a"},{"content":"b","role":"user"}]}`,
			[]Message{{"system", "a"}, {"user", "b"}},
		},
		"parts that are texts": {
			protocol.OpenAIChat, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","text":"no"},{"text":"b"}]}]}`,
			[]Message{{"user", "a b"}},
		},
		"what has no text is left out": {
			protocol.OpenAIChat, `{"messages":[{"role":"user"},{"role":"user","content":[]},{"role":"user","content":1},7,"x",{"role":"user","content":""}]}`,
			[]Message{{"user", ""}},
		},
		"messages that are no list":        {protocol.OpenAIChat, `{"messages":{"role":"user","content":"a"}}`, nil},
		"escapes are read":                 {protocol.OpenAIChat, `{"messages":[{"role":"\u0075ser","content":"\u0062ad"}]}`, []Message{{"user", "bad"}}},
		"the system of anthropic":          {protocol.AnthropicMessages, `{"messages":[{"role":"user","content":"b"}],"system":"a"}`, []Message{{"system", "a"}, {"user", "b"}}},
		"the system of anthropic, as list": {protocol.AnthropicMessages, `{"system":[{"type":"text","text":"a"}]}`, []Message{{"system", "a"}}},
		"blocks of bedrock": {
			protocol.BedrockConverse, `{"system":[{"text":"a"}],"messages":[{"role":"user","content":[{"text":"b"},{"image":{}}]}]}`,
			[]Message{{"system", "a"}, {"user", "b"}},
		},
		"a response with a text": {protocol.OpenAIResponses, `{"input":"b","instructions":"a"}`, []Message{{"system", "a"}, {"user", "b"}}},
		"a response with items": {
			protocol.OpenAIResponses, `{"input":["a",{"content":"b"},{"role":"assistant","content":[{"type":"output_text","text":"c"}]}]}`,
			[]Message{{"user", "a"}, {"user", "b"}, {"assistant", "c"}},
		},
		"a text to embed": {protocol.OpenAIEmbeddings, `{"input":"a"}`, []Message{{"user", "a"}}},
		"texts to embed":  {protocol.OpenAIEmbeddings, `{"input":["a","b"]}`, []Message{{"user", "a b"}}},
		"numbers to embed": {
			protocol.OpenAIEmbeddings, `{"input":[1,2]}`, nil,
		},
		"passthrough": {protocol.Passthrough, `{"messages":[{"role":"user","content":"a"}]}`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Messages(tt.id, index(t, tt.body))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func additions(t testing.TB, raw ...string) (all []Addition) {
	t.Helper()
	for _, one := range raw {
		a, err := NewAddition(json.RawMessage(one))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

func TestSurround(t *testing.T) {
	before := additions(t, `{"role":"system","content":"s","more":1}`, `{"role":"user","content":"u"}`)
	behind := additions(t, `{"role":"assistant","content":"\"e\""}`)
	tests := map[string]struct {
		id         protocol.ID
		body, want string
	}{
		"a chat": {
			protocol.OpenAIChat, ` { "a" : 1.0, "messages" : [ 1 ] , "b":2}`,
			` { "a" : 1.0, "messages" : [{"role":"system","content":"s","more":1},{"role":"user","content":"u"}, 1 ,{"role":"assistant","content":"\"e\""}] , "b":2}`,
		},
		"an empty list": {
			protocol.OpenAIChat, `{"messages":[ ]}`,
			`{"messages":[{"role":"system","content":"s","more":1},{"role":"user","content":"u"},{"role":"assistant","content":"\"e\""}]}`,
		},
		"no protocol": {
			"", `{}`,
			`{"messages":[{"role":"system","content":"s","more":1},{"role":"user","content":"u"},{"role":"assistant","content":"\"e\""}]}`,
		},
		"anthropic gets role and content": {
			protocol.AnthropicMessages, `{"messages":[1]}`,
			`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},1,{"role":"assistant","content":"\"e\""}]}`,
		},
		"bedrock, whose system was no list": {
			protocol.BedrockConverse, `{"system":"x","messages":[1]}`,
			`{"system":[{"text":"s"}],"messages":[{"role":"user","content":[{"text":"u"}]},1,{"role":"assistant","content":[{"text":"\"e\""}]}]}`,
		},
		"a response with texts": {
			protocol.OpenAIResponses, `{"instructions":"\u0061","input":"\u0062"}`,
			`{"instructions":"s\nu\n\u0061","input":"\u0062\n\"e\""}`,
		},
		"a response with items": {
			protocol.OpenAIResponses, `{"instructions":null,"input":[1]}`,
			`{"instructions":"s\nu","input":[1,{"type":"message","role":"user","content":"\"e\""}]}`,
		},
		"a response with nothing": {protocol.OpenAIResponses, `{"input":null}`, `{"input":"\"e\"","instructions":"s\nu"}`},
		"embeddings":              {protocol.OpenAIEmbeddings, `{"input":"a"}`, `{"input":"a"}`},
		"passthrough":             {protocol.Passthrough, `{"a":1}`, `{"a":1}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for range 2 { // what is added does not grow
				got, err := Surround(tt.id, index(t, tt.body), before, behind)
				if err != nil || string(got) != tt.want {
					t.Errorf("got %s, %v, want %s", got, err, tt.want)
				}
			}
		})
	}
	if _, err := Surround(protocol.OpenAIChat, index(t, `{"messages":{"a":1}}`), before, nil); err == nil || err.Error() != "messages is not a list" {
		t.Errorf("got %v", err)
	}
	if _, err := NewAddition(json.RawMessage(`{"role":"user"}`)); err == nil {
		t.Error("a message without content is added")
	}
}

// Whatever a body says, what comes out is JSON, and what was said before is still there.
func FuzzSurround(f *testing.F) {
	for _, body := range []string{`{"messages":[{"role":"user","content":"a"}],"x":[1]}`, `{"input":"a","instructions":"b"}`, `{"system":[],"messages":[]}`, `[]`, `{"input":[{}]}`} {
		for i := range protocols {
			f.Add(body, uint8(i))
		}
	}
	before, behind := additions(f, `{"role":"system","content":"s\n"}`), additions(f, `{"role":"user","content":"\"u"}`)
	f.Fuzz(func(t *testing.T, body string, n uint8) {
		doc, err := jsonedit.Index([]byte(body), Options(0))
		if err != nil {
			return
		}
		id := protocols[int(n)%len(protocols)]
		said := Messages(id, doc)
		out, err := Surround(id, doc, before, behind)
		if err != nil {
			return
		}
		after, err := jsonedit.Index(out, jsonedit.Options{MaxDepth: 70, Duplicates: true})
		if err != nil {
			t.Fatalf("%s: %q became %q: %v", id, body, out, err)
		}
		if id != protocol.OpenAIResponses && id != protocol.BedrockConverse && len(Messages(id, after)) < len(said) {
			t.Fatalf("%s: %q lost messages: %q", id, body, out)
		}
	})
}

var protocols = []protocol.ID{
	protocol.OpenAIChat, protocol.OpenAIResponses, protocol.AnthropicMessages, protocol.BedrockConverse, protocol.OpenAIEmbeddings, protocol.Passthrough, "",
}

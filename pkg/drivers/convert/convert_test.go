package convert

import (
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

func FuzzEmbeddingsToPredict(f *testing.F) { fuzz(f, embeddingsToPredict) }
func FuzzChatToGemini(f *testing.F)        { fuzz(f, chatToGemini) }
func FuzzChatToConverse(f *testing.F)      { fuzz(f, chatToConverse) }
func FuzzChatToResponses(f *testing.F)     { fuzz(f, chatToResponses) }
func FuzzResponsesToChat(f *testing.F)     { fuzz(f, responsesToChat) }
func FuzzResponsesToConverse(f *testing.F) { fuzz(f, chain(responsesToChat, chatToConverse)) }

func TestFindPrefersADirectWay(t *testing.T) {
	for name, tt := range map[string]struct {
		from   protocol.ID
		native []protocol.ID
		to     protocol.ID // empty: none
	}{
		"directly":                          {protocol.OpenAIChat, []protocol.ID{protocol.BedrockConverse}, protocol.BedrockConverse},
		"directly rather than by way":       {protocol.OpenAIResponses, []protocol.ID{protocol.GeminiGenerate, protocol.OpenAIChat}, protocol.OpenAIChat},
		"by way of openai-chat":             {protocol.OpenAIResponses, []protocol.ID{protocol.GeminiGenerate}, protocol.GeminiGenerate},
		"embeddings":                        {protocol.OpenAIEmbeddings, []protocol.ID{protocol.OpenAIChat, protocol.VertexPredict}, protocol.VertexPredict},
		"no way for embeddings":             {protocol.OpenAIEmbeddings, []protocol.ID{protocol.OpenAIChat}, ""},
		"no way for what is not understood": {protocol.Passthrough, []protocol.ID{protocol.OpenAIChat}, ""},
		"no way to nothing":                 {protocol.OpenAIChat, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, ok := Find(tt.from, tt.native)
			switch {
			case ok != (tt.to != ""):
				t.Errorf("found: %v", ok)
			case ok && (c.From != tt.from || c.To != tt.to):
				t.Errorf("got %s to %s", c.From, c.To)
			}
		})
	}
	for _, c := range slices.Concat(conversions, chains) {
		if c.From == c.To {
			t.Errorf("a way from %s to itself", c.From)
		}
	}
}

// silentEnd is an inner answer that does not say when it ends.
type silentEnd struct{ Answer }

func (silentEnd) Event(dst []byte, _ string, data []byte) []byte { return sse.AppendEvent(dst, data) }
func (silentEnd) Close(dst []byte) []byte                        { return dst }

func TestAChainEndsThoughTheInnerStreamDoesNotSaySo(t *testing.T) {
	silent := &Conversion{From: protocol.OpenAIChat, To: protocol.GeminiGenerate, Request: func(body *jsonedit.Doc) (*Converted, error) {
		return &Converted{Body: body.Bytes(), Answer: silentEnd{}}, nil
	}}
	c := chain(responsesToChat, silent)
	out := relay(answerTo(t, c, `{"input":"a","stream":true}`), message{"", `{"choices":[{"index":0,"delta":{"content":"b"}}]}`})
	checkEvents(t, c, out)
	if !strings.Contains(out, "event: response.completed\n") {
		t.Errorf("no end in %s", out)
	}
}

func BenchmarkChatStreams(b *testing.B) {
	for name, tt := range map[string]struct {
		c    *Conversion
		list []message
	}{
		"gemini-generate":  {chatToGemini, []message{{"", `{"candidates":[{"content":{"parts":[{"text":" word"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9},"modelVersion":"m","responseId":"r"}`}}},
		"bedrock-converse": {chatToConverse, []message{{"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefgh"}`}}},
		"openai-responses": {chatToResponses, []message{{"", `{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":" word"}`}}},
	} {
		b.Run(name, func(b *testing.B) {
			a := answerTo(b, tt.c, `{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true}`)
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				for _, m := range tt.list {
					dst = a.Event(dst[:0], m.kind, []byte(m.data))
				}
			}
		})
	}
}

package convert

import (
	"testing"
)

func FuzzEmbeddingsToPredict(f *testing.F) { fuzz(f, embeddingsToPredict) }
func FuzzChatToGemini(f *testing.F)        { fuzz(f, chatToGemini) }
func FuzzChatToConverse(f *testing.F)      { fuzz(f, chatToConverse) }
func FuzzChatToResponses(f *testing.F)     { fuzz(f, chatToResponses) }
func FuzzResponsesToChat(f *testing.F)     { fuzz(f, responsesToChat) }

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

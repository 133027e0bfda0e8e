package convert

import (
	"testing"
)

func FuzzEmbeddingsToPredict(f *testing.F) { fuzz(f, embeddingsToPredict) }
func FuzzChatToGemini(f *testing.F)        { fuzz(f, chatToGemini) }
func FuzzChatToConverse(f *testing.F)      { fuzz(f, chatToConverse) }

func BenchmarkChatStreams(b *testing.B) {
	for name, tt := range map[string]struct {
		c    *Conversion
		list []message
	}{
		"gemini-generate":  {chatToGemini, []message{{"", `{"candidates":[{"content":{"parts":[{"text":" word"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9},"modelVersion":"m","responseId":"r"}`}}},
		"bedrock-converse": {chatToConverse, []message{{"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefgh"}`}}},
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

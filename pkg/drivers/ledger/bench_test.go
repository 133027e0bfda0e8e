package ledger

import (
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers/protocol"
)

const (
	benchText  = `{"id":"chatcmpl-123","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"`
	benchUsage = `"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":34,"total_tokens":154,` +
		`"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"fp_44709d6fcb"}`
)

func words(n int) string { return strings.Repeat(`said the fox.\nAnd: `, n/20) }

// BenchmarkWhole is what the usage of a whole answer costs.
func BenchmarkWhole(b *testing.B) {
	floats := strings.Replace(benchUsage, `"prompt_tokens":`, `"queue_time":0.01,"prompt_tokens":`, 1)
	for _, bb := range []struct{ name, body string }{
		{"600B", benchText + words(100) + benchUsage},
		{"16KB", benchText + words(16<<10) + benchUsage},
		{"spaced", strings.ReplaceAll(strings.ReplaceAll(benchText+words(100)+benchUsage, `":`, `": `), `,"`, ",\n    \"")},
		{"floats", benchText + words(100) + floats},
		{"tools", benchText + words(100) + strings.Replace(benchUsage, `"},`, `","tool_calls":[{}]},`, 1)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			body := []byte(bb.body)
			l := New(protocol.OpenAIChat, false)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				l.Reset(protocol.OpenAIChat, false)
				if l.Whole(body); l.Usage.Total != 154 {
					b.Fatal(l.Usage)
				}
			}
		})
	}
}

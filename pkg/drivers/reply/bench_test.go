package reply

import (
	"testing"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/ledger"
	"github.com/gosix/gosix/pkg/drivers/protocol"
)

// BenchmarkStreamEvent looks at one event of a stream on its way to the client.
func BenchmarkStreamEvent(b *testing.B) {
	event := []byte(`data: {"id":"c1","object":"chat.completion.chunk","created":1700000000,"model":"m","system_fingerprint":"fp",` +
		`"choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	r := &Reply{answer: answer{call: &drivers.Call{Protocol: protocol.OpenAIChat}}, book: ledger.New(protocol.OpenAIChat, false)}
	r.frames = r.framed(sseType)
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		_, _ = r.feed(event)
	}
}

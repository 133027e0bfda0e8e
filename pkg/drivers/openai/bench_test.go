package openai

import (
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// BenchmarkRequest builds the provider's request from one of 4 KiB that has to be changed.
func BenchmarkRequest(b *testing.B) {
	body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 800) + `"}],"stream":true,"temperature":1.0}`
	doc, err := jsonedit.Index([]byte(body), jsonedit.Options{})
	if err != nil {
		b.Fatal(err)
	}
	in := &exchange.Request{Method: "POST", Path: "/v1/chat/completions"}
	for _, name := range []string{"Host", "User-Agent", "Authorization", "Content-Type", "Accept", "Content-Length"} {
		in.Header.Add(name, "value")
	}
	i := &drivers.Instance{
		Options: edits("model", `"other"`, "top_p", "0.5"), Usage: true, Forward: true, Credentials: true,
		Header: []exchange.Field{{Name: "Authorization", Value: "Bearer x"}},
	}
	d := Providers()["openai"]
	call := &drivers.Call{Instance: i, Request: in, Body: doc, Protocol: protocol.OpenAIChat}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Request(call); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStreamEvent looks at one event of a stream on its way to the client.
func BenchmarkStreamEvent(b *testing.B) {
	event := []byte(`data: {"id":"c1","object":"chat.completion.chunk","created":1700000000,"model":"m","system_fingerprint":"fp",` +
		`"choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	r := &reply{call: &drivers.Call{Protocol: protocol.OpenAIChat}}
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		r.split.Feed(event, r.event)
	}
}

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
	i.Driver = d
	i.Fix()
	call := &drivers.Call{}
	b.ReportAllocs()
	for b.Loop() {
		call.Begin(i, in, doc, protocol.OpenAIChat)
		if err := drivers.Prepare(call); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Request(call); err != nil {
			b.Fatal(err)
		}
	}
}

package reply_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/protocol"
)

// clients are requests of each protocol that ask for a stream.
var clients = map[protocol.ID]struct{ path, request string }{
	protocol.OpenAIChat:        {"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`},
	protocol.AnthropicMessages: {"/v1/messages", `{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true}`},
	protocol.OpenAIResponses:   {"/v1/responses", `{"model":"m","input":"hi","stream":true}`},
}

// What holds for streams that are passed on holds for those that are converted: whatever the
// client speaks and wherever its provider's stream is cut.
func TestAConvertedStreamThatIsCutIsNeverACleanShortAnswer(t *testing.T) {
	for provider, s := range longStreams() {
		for client, q := range clients {
			if string(client) == provider {
				continue
			}
			t.Run(string(client)+" of "+provider, func(t *testing.T) {
				wire := "HTTP/1.1 200 OK\r\nContent-Type: " + s.kind + "\r\nTransfer-Encoding: chunked\r\n\r\n"
				for _, e := range s.events {
					wire += fmt.Sprintf("%x\r\n%s\r\n", len(e), e)
				}
				wire += "0\r\n\r\n"
				if _, ok := convert.Find(client, []protocol.ID{protocol.ID(provider)}); !ok {
					t.Skip("there is no such conversion")
				}
				play := func(cut int) (drivertest.Result, error) {
					i := &drivers.Instance{
						Driver: s.driver, Speak: protocol.ID(provider), Usage: true,
						AWS: &drivers.AWS{AccessKeyID: "a", SecretAccessKey: "b"}, Where: drivers.Where{Region: "r"},
					}
					return drivertest.PlayCall(t, drivertest.NewCall(t, i, q.path, q.request), wire[:cut])
				}
				want, err := play(len(wire))
				if err != nil || want.Broken || !strings.Contains(want.Body, "50 ") {
					t.Fatalf("got %+v, %v", want, err)
				}
				committed := false
				for cut := 1; cut < len(wire); cut += 3 {
					got, err := play(cut)
					switch {
					case err != nil && committed, !got.Broken && got.Status != 0 && len(got.Body) < len(want.Body):
						t.Fatalf("cut at byte %d of %d: got %+v, %v", cut, len(wire), got, err)
					case got.Broken:
						committed = true
						if !strings.Contains(got.Body, "upstream stream ended before it was complete") {
							t.Fatalf("cut at byte %d of %d: got %s", cut, len(wire), got.Body)
						}
					}
				}
			})
		}
	}
}

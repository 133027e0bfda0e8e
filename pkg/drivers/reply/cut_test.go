package reply_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/bedrock"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/openai"
)

// longStream is a stream of 60 events in one protocol.
type longStream struct {
	driver        drivers.Driver
	path, request string
	kind          string
	events        []string
	broken        string // what the client gets when it is cut
}

func event(kind, data string) string { return "event: " + kind + "\ndata: " + data + "\n\n" }

func message(kind, data string) string {
	return string(eventstream.AppendMessage(nil, eventstream.Message{
		Type: eventstream.Event, Kind: kind, ContentType: "application/json", Payload: []byte(data),
	}))
}

func longStreams() map[string]longStream {
	const cut = "upstream stream ended before it was complete"
	chat := longStream{
		driver: openai.Providers()["openai"], path: "/v1/chat/completions", request: `{"messages":[{"role":"user","content":"hi"}],"stream":true}`,
		kind: "text/event-stream", events: []string{"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"},
		broken: `data: {"error":{"message":"` + cut + `","type":"upstream_error","param":null,"code":null}}` + "\n\n",
	}
	for n := len(chat.events); n < 58; n++ {
		chat.events = append(chat.events, fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":\"%d \"}}]}\n\n", n))
	}
	chat.events = append(chat.events, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", "data: [DONE]\n\n")

	messages := longStream{
		driver: openai.Providers()["anthropic"], path: "/v1/messages", request: `{"messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true}`,
		kind: "text/event-stream", events: []string{
			event("message_start", `{"type":"message_start","message":{"usage":{"input_tokens":3}}}`),
			event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`),
		},
		broken: event("error", `{"type":"error","error":{"type":"api_error","message":"`+cut+`"}}`),
	}
	for n := len(messages.events); n < 57; n++ {
		messages.events = append(messages.events, event("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%d "}}`, n)))
	}
	messages.events = append(
		messages.events, event("content_block_stop", `{"type":"content_block_stop","index":0}`),
		event("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}`), event("message_stop", `{"type":"message_stop"}`),
	)

	responses := longStream{
		driver: openai.Providers()["openai"], path: "/v1/responses", request: `{"input":"hi","stream":true}`, kind: "text/event-stream",
		events: []string{
			event("response.created", `{"type":"response.created","response":{"id":"r"}}`),
			event("response.output_item.added", `{"type":"response.output_item.added","item":{"type":"message"}}`),
		},
		broken: event("error", `{"type":"error","code":"upstream_error","param":null,"message":"`+cut+`"}`),
	}
	for n := len(responses.events); n < 59; n++ {
		responses.events = append(responses.events, event("response.output_text.delta", fmt.Sprintf(`{"type":"response.output_text.delta","delta":"%d "}`, n)))
	}
	responses.events = append(responses.events, event("response.completed", `{"type":"response.completed","response":{"usage":{"input_tokens":1}}}`))

	converse := longStream{
		driver: bedrock.Providers()["bedrock"], path: "/model/m/converse", request: `{"model":"m","messages":[{"role":"user","content":[{"text":"hi"}]}],"stream":true}`,
		kind: eventstream.ContentType, events: []string{message("messageStart", `{"role":"assistant"}`)},
		broken: string(eventstream.AppendMessage(nil, eventstream.Message{
			Type: eventstream.Exception, Kind: "modelStreamErrorException", ContentType: "application/json", Payload: []byte(`{"message":"` + cut + `"}`),
		})),
	}
	for n := len(converse.events); n < 57; n++ {
		converse.events = append(converse.events, message("contentBlockDelta", fmt.Sprintf(`{"delta":{"text":"%d "}}`, n)))
	}
	converse.events = append(
		converse.events, message("contentBlockStop", `{"contentBlockIndex":0}`), message("messageStop", `{"stopReason":"end_turn"}`),
		message("metadata", `{"usage":{"inputTokens":3,"outputTokens":9,"totalTokens":12}}`),
	)
	return map[string]longStream{"openai-chat": chat, "anthropic-messages": messages, "openai-responses": responses, "bedrock-converse": converse}
}

// Wherever a stream is cut, the client gets nothing, so that another instance may be asked;
// or whole events, one that says so, and a broken connection; or all of it.
func TestAStreamThatIsCutIsNeverACleanShortAnswer(t *testing.T) {
	for name, s := range longStreams() {
		t.Run(name, func(t *testing.T) {
			if len(s.events) != 60 {
				t.Fatalf("the stream has %d events", len(s.events))
			}
			body := strings.Join(s.events, "")
			head := "HTTP/1.1 200 OK\r\nContent-Type: " + s.kind + "\r\n"
			chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
			for _, e := range s.events {
				chunked += fmt.Sprintf("%x\r\n%s\r\n", len(e), e)
			}
			for framing, wire := range map[string]string{
				"chunked": chunked + "0\r\n\r\n",
				"length":  head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body,
				"close":   head + "\r\n" + body,
			} {
				step := 1
				if framing != "chunked" {
					step = 7 // no divisor of an event's length
				}
				committed := false
				for cut := 0; cut <= len(wire); cut += step {
					i := &drivers.Instance{Driver: s.driver, AWS: &drivers.AWS{AccessKeyID: "a", SecretAccessKey: "b"}, Where: drivers.Where{Region: "r"}}
					call := drivertest.NewCall(t, i, s.path, s.request)
					got, err := drivertest.PlayCall(t, call, wire[:cut])
					at := func() string { return fmt.Sprintf("%s, cut at byte %d of %d: got %+v", framing, cut, len(wire), got) }
					switch {
					case err != nil:
						if got.Status != 0 || got.Body != "" || committed {
							t.Fatal(at(), err)
						}
						continue
					case !got.Broken:
						if got.Body != body || !got.Complete {
							t.Fatal(at())
						}
						continue
					}
					committed = true
					events, ok := strings.CutSuffix(got.Body, s.broken)
					if !ok || !strings.HasPrefix(body, events) || !atAnEnd(s.events, len(events)) {
						t.Fatal(at())
					}
				}
			}
		})
	}
}

func atAnEnd(events []string, n int) bool {
	for _, e := range events {
		if n <= 0 {
			break
		}
		n -= len(e)
	}
	return n == 0
}

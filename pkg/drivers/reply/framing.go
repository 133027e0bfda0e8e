package reply

import (
	"bytes"
	"errors"
	"strings"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// framing finds the events of a stream, however it was cut into pieces.
type framing interface {
	// feed takes the next piece and returns what can be passed on: whole events as they
	// stand in the stream. After an error the stream cannot be read.
	feed(p []byte) (ready []byte, err error)
	// close is called when the stream has ended, and returns what of what was held back
	// counts as an event. It may be called once.
	close() []byte
	// rest is what is held back: the beginning of an event.
	rest() []byte
	// torn: the beginning of an event that was too long was passed on already.
	torn() bool
}

// event gets each event of a stream, with its type where the framing carries it, and reports
// whether it is passed on.
type event func(kind string, data []byte) bool

// serverSent is server-sent events. It is used for one stream after the other.
type serverSent struct {
	s    sse.Splitter
	hand func(data []byte) // bound once
}

// begin makes f ready for a stream, whose events go to the same function each time.
func (f *serverSent) begin(to event) {
	f.s.Reset()
	if f.hand == nil {
		f.hand = func(data []byte) {
			if !to("", data) {
				f.s.Drop()
			}
		}
	}
}

func (f *serverSent) feed(p []byte) ([]byte, error) { return f.s.Feed(p, f.hand), nil }
func (f *serverSent) close() []byte                 { return f.s.Close(f.hand) }
func (f *serverSent) rest() []byte                  { return f.s.Rest() }
func (f *serverSent) torn() bool                    { return f.s.Torn() }

// messages is an AWS event stream.
type messages struct {
	s    eventstream.Splitter
	hand func(eventstream.Message)
}

func newMessages(f event) *messages {
	return &messages{hand: func(m eventstream.Message) {
		if m.Type == eventstream.Failure {
			f(failureKind(m.Kind), append(jsonedit.AppendQuote([]byte(`{"message":`), m.Text), '}'))
			return
		}
		f(m.Kind, m.Payload)
	}}
}

func (f *messages) feed(p []byte) ([]byte, error) { return f.s.Feed(p, f.hand) }
func (f *messages) close() []byte                 { return nil }
func (f *messages) rest() []byte                  { return f.s.Rest() }
func (f *messages) torn() bool                    { return false }

// failureKind names a failure so that it is known for one, as exceptions are.
func failureKind(kind string) string {
	if strings.HasSuffix(kind, "Exception") || strings.HasSuffix(kind, "Error") {
		return kind
	}
	return kind + "Error"
}

// opaque is a stream that cannot be read: it has an encoding, for which nobody asked.
type opaque struct{}

func (opaque) feed(p []byte) ([]byte, error) { return p, nil }
func (opaque) close() []byte                 { return nil }
func (opaque) rest() []byte                  { return nil }
func (opaque) torn() bool                    { return false }

const sseType = "text/event-stream"

// framed returns the framing of a stream by its Content-Type; nil: it is none.
func (r *Reply) framed(kind string) framing {
	if kind == jsonType {
		return nil
	}
	switch kind = strings.ToLower(kind); {
	case strings.HasPrefix(kind, sseType):
		if r.sent.hand == nil {
			r.sent.begin(r.event)
		} else {
			r.sent.begin(nil)
		}
		return &r.sent
	case strings.HasPrefix(kind, eventstream.ContentType):
		return newMessages(r.event)
	}
	return nil
}

// keepAlive is what a client gets while a model is silent.
const keepAlive = ": keep-alive\n\n"

// errorEvent is how a client of that protocol hears that a stream was broken off.
func errorEvent(id protocol.ID, inMessages bool, err error) []byte {
	message := "upstream stream ended before it was complete"
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrTooLong) || errors.Is(err, exchange.ErrEnding) {
		message = err.Error()
	}
	text := jsonedit.AppendQuote(nil, message)
	named := func(body []byte) []byte {
		return append([]byte("event: error\n"), sse.AppendEvent(nil, body)...)
	}
	switch {
	case inMessages:
		return eventstream.AppendMessage(nil, eventstream.Message{
			Type: eventstream.Exception, Kind: "modelStreamErrorException", ContentType: "application/json",
			Payload: bytes.Join([][]byte{[]byte(`{"message":`), text, []byte("}")}, nil),
		})
	case id == protocol.OpenAIResponses:
		body := append([]byte(`{"type":"error","code":"upstream_error","param":null,"message":`), text...)
		return named(append(body, '}'))
	case id == protocol.AnthropicMessages:
		body := append([]byte(`{"type":"error","error":{"type":"api_error","message":`), text...)
		return named(append(body, "}}"...))
	}
	body := append([]byte(`{"error":{"message":`), text...)
	return sse.AppendEvent(nil, append(body, `,"type":"upstream_error","param":null,"code":null}}`...))
}

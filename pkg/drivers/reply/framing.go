package reply

import (
	"bytes"
	"errors"
	"strings"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// framing finds the events of a stream, however it was cut into pieces.
type framing interface {
	// feed takes the next piece and returns what can be passed on: whole events as they
	// stand in the stream. event gets each, with its type where the framing carries it, and
	// reports whether it is passed on. After an error the stream cannot be read.
	feed(p []byte, event func(kind string, data []byte) bool) (ready []byte, err error)
	// close is called when the stream has ended, and returns what of what was held back
	// counts as an event. It may be called once.
	close(event func(kind string, data []byte) bool) []byte
	// rest is what is held back: the beginning of an event.
	rest() []byte
	// torn: the beginning of an event that was too long was passed on already.
	torn() bool
}

// serverSent is server-sent events.
type serverSent struct{ s sse.Splitter }

func (f *serverSent) feed(p []byte, event func(string, []byte) bool) ([]byte, error) {
	return f.s.Feed(p, func(data []byte) {
		if !event("", data) {
			f.s.Drop()
		}
	}), nil
}

func (f *serverSent) close(event func(string, []byte) bool) []byte {
	return f.s.Close(func(data []byte) {
		if !event("", data) {
			f.s.Drop()
		}
	})
}

func (f *serverSent) rest() []byte { return f.s.Rest() }
func (f *serverSent) torn() bool   { return f.s.Torn() }

// messages is an AWS event stream.
type messages struct{ s eventstream.Splitter }

func (f *messages) feed(p []byte, event func(string, []byte) bool) ([]byte, error) {
	return f.s.Feed(p, func(m eventstream.Message) {
		switch m.Type {
		case eventstream.Failure:
			event(failureKind(m.Kind), append(jsonedit.AppendQuote([]byte(`{"message":`), m.Text), '}'))
		default:
			event(m.Kind, m.Payload)
		}
	})
}

// failureKind names a failure so that it is known for one, as exceptions are.
func failureKind(kind string) string {
	if strings.HasSuffix(kind, "Exception") || strings.HasSuffix(kind, "Error") {
		return kind
	}
	return kind + "Error"
}

func (f *messages) close(func(string, []byte) bool) []byte { return nil }
func (f *messages) rest() []byte                           { return f.s.Rest() }
func (f *messages) torn() bool                             { return false }

// opaque is a stream that cannot be read: it has an encoding, for which nobody asked.
type opaque struct{}

func (opaque) feed(p []byte, _ func(string, []byte) bool) ([]byte, error) { return p, nil }
func (opaque) close(func(string, []byte) bool) []byte                     { return nil }
func (opaque) rest() []byte                                               { return nil }
func (opaque) torn() bool                                                 { return false }

const sseType = "text/event-stream"

// framed returns the framing of a stream by its Content-Type; nil: it is none.
func framed(kind string) framing {
	kind = strings.ToLower(kind)
	switch {
	case strings.HasPrefix(kind, sseType):
		return &serverSent{}
	case strings.HasPrefix(kind, eventstream.ContentType):
		return &messages{}
	}
	return nil
}

// keepAlive is what a client gets while a model is silent.
const keepAlive = ": keep-alive\n\n"

// errorEvent is how a client of that protocol hears that a stream was broken off.
func errorEvent(id protocol.ID, inMessages bool, err error) []byte {
	message := "upstream stream ended before it was complete"
	if errors.Is(err, errTooLarge) || errors.Is(err, errTooLong) {
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

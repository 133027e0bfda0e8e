// Package convert carries requests from one protocol of language models to another, and the
// answers back: bodies, errors and streams, event by event. Everything here is a function of
// the bytes it is given; providers, connections and retries it does not know.
package convert

import (
	"net/http"
	"slices"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// Conversion is the way of requests in one protocol to a provider that speaks another. It is
// immutable.
type Conversion struct {
	From protocol.ID // the client's
	To   protocol.ID // the provider's
	// Request converts a body, which is an object of the protocol From. It depends on
	// nothing else, so that the next attempt starts where this one did. An error is an
	// *Error.
	Request func(body *jsonedit.Doc) (*Converted, error)
}

// Converted is a request in the provider's protocol.
type Converted struct {
	Body   []byte // a JSON object
	Answer Answer // converts what comes back for this one request
}

// Answer converts one answer to one request, back into the client's protocol. It remembers
// what the request said that the answer needs: names that had to be shortened, whether usage
// was asked for. Not safe for concurrent use.
type Answer interface {
	// Whole converts an answer that is no stream, with a status below 300. An error is an
	// *Error.
	Whole(body []byte) ([]byte, error)
	// Error converts the body of an answer with that status, 300 or more. What it does not
	// understand it wraps as it is.
	Error(status int, body []byte) []byte
	// Event converts one event of a stream and appends whole events to dst, framed for the
	// client: for most protocols server-sent events, for bedrock-converse messages of an
	// event stream. kind is the event's type where the framing carries it (bedrock), data
	// its JSON text. An event that says nothing to the client appends nothing; one that is
	// not of the provider's protocol is passed over. An event with which the provider
	// reports a failure appends the client's error event; what follows it is passed over.
	Event(dst []byte, kind string, data []byte) []byte
	// Close is called when the stream ended as it should, and appends what was held back
	// and the client's terminator unless that was appended already.
	Close(dst []byte) []byte
}

// Stamped is an Answer in whose protocol every answer has an id and a time, for providers that
// may give none: bedrock-converse has neither. Stamp tells it what the connection knows, before
// anything else is called: an id, such as the provider's request id, and seconds since 1970.
// Without it the id is made of the request and of what the provider says first, and the time
// is 0. What the provider itself says comes first.
type Stamped interface {
	Stamp(id string, created int64)
}

// Error is a body that cannot be converted, in words for the client.
type Error struct {
	// Status is what the client gets: 400 for a request, 500 for an answer.
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

func badRequest(text string) error { return &Error{http.StatusBadRequest, text} }
func badAnswer(text string) error  { return &Error{http.StatusInternalServerError, text} }

// conversions is the table of what there is, the preferred way first.
var conversions = []*Conversion{
	messagesToChat,
	chatToMessages,
	embeddingsToPredict,
	chatToResponses,
	chatToGemini,
	chatToConverse,
	responsesToChat,
}

// Find returns the first conversion in the table from a client's protocol to one of those
// that a provider speaks, or else the first by way of openai-chat; false if there is none.
func Find(from protocol.ID, native []protocol.ID) (*Conversion, bool) {
	for _, list := range [][]*Conversion{conversions, chains} {
		for _, c := range list {
			if c.From == from && slices.Contains(native, c.To) {
				return c, true
			}
		}
	}
	return nil, false
}

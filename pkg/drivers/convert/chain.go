package convert

import (
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// chains are the conversions by way of openai-chat, in the order of the table.
var chains = compose(conversions, protocol.OpenAIChat)

// compose puts together every two conversions of a list of which one ends where the other
// begins.
func compose(list []*Conversion, by protocol.ID) (out []*Conversion) {
	for _, outer := range list {
		for _, inner := range list {
			if outer.To == by && inner.From == by && outer.From != inner.To {
				out = append(out, chain(outer, inner))
			}
		}
	}
	return out
}

// chain makes one conversion of two: the client speaks outer.From, the provider inner.To. The
// protocol between them must be one of server-sent events.
func chain(outer, inner *Conversion) *Conversion {
	return &Conversion{From: outer.From, To: inner.To, Request: func(body *jsonedit.Doc) (*Converted, error) {
		first, err := outer.Request(body)
		if err != nil {
			return nil, err
		}
		between, err := jsonedit.IndexTrusted(first.Body)
		if err != nil {
			return nil, badRequest(err.Error())
		}
		second, err := inner.Request(between)
		if err != nil {
			return nil, err
		}
		return &Converted{Body: second.Body, Answer: &chained{outer: first.Answer, inner: second.Answer}}, nil
	}}
}

// chained converts an answer twice.
type chained struct {
	outer, inner Answer
	events       sse.Splitter
	between      []byte // what the inner one wrote last
}

func (c *chained) Stamp(id string, created int64) {
	for _, a := range []Answer{c.outer, c.inner} {
		if s, ok := a.(Stamped); ok {
			s.Stamp(id, created)
		}
	}
}

func (c *chained) Whole(body []byte) ([]byte, error) {
	between, err := c.inner.Whole(body)
	if err != nil {
		return nil, err
	}
	return c.outer.Whole(between)
}

func (c *chained) Error(status int, body []byte) []byte {
	return c.outer.Error(status, c.inner.Error(status, body))
}

func (c *chained) Event(dst []byte, kind string, data []byte) []byte {
	c.between = c.inner.Event(c.between[:0], kind, data)
	return c.pass(dst)
}

func (c *chained) Close(dst []byte) []byte {
	c.between = c.inner.Close(c.between[:0])
	return c.outer.Close(c.pass(dst))
}

// pass gives the outer one what the inner one wrote, which is whole events.
func (c *chained) pass(dst []byte) []byte {
	c.events.Feed(c.between, func(data []byte) { dst = c.outer.Event(dst, "", data) })
	return dst
}

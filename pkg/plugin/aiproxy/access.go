package aiproxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/upstream"
)

// pending is what the access phase found out, for the phases after it.
type pending struct {
	owner    *proxy // which of the two plugins serves the request
	doc      *jsonedit.Doc
	protocol protocol.ID
	attempt  balancer.Attempt
	picked   int
	held     bool // a pick whose end the picker has not heard of
	trial    bool // the pick is the one call of a half-open breaker
	balanced bool // a picker chose, and may choose again
	stream   bool // a stream is asked for
	done     bool // the provider was asked
	try      try  // the attempt in hand
	until    time.Time
	laters   []func()
	own      *asking // of the calls in the request's own goroutine, one after the other
}

var (
	pendingKey  = plugin.NewKey[*pending]("aiproxy.pending")
	pendingRoom = plugin.NewRoom[pending]()
)

// begin makes w what a request of p needs, in the memory of another one.
func (w *pending) begin(p *proxy, doc *jsonedit.Doc) {
	own := w.own
	if own == nil {
		own = new(asking)
	}
	*w = pending{} // in place: a literal would be made elsewhere and copied
	w.owner, w.doc, w.own = p, doc, own
}

// asking is the memory of a call.
type asking struct {
	call     drivers.Call
	response upstream.Response
	reply    reply.Reply
}

type message struct {
	Message string `json:"message"`
}

// access reads the request, finds out what it speaks, and chooses an instance, so that
// plugins between here and the call know it (spec/06 §A4, B2).
func (p *proxy) access(c *plugin.Context) error {
	if pendingKey.Get(c) != nil {
		return nil // the other plugin of this package has the request already
	}
	q := &c.Request
	if kind := q.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "application/json") {
		return plugin.Exit(http.StatusBadRequest, "unsupported content-type: "+kind+p.rules.typeHint)
	}
	doc, err := p.read(q, nil)
	if err != nil {
		return err
	}
	w := pendingRoom.Get(c)
	w.begin(p, doc)
	if p.rules.chatOnly {
		w.protocol = protocol.OpenAIChat
		if err := checkMessages(doc); err != nil {
			return plugin.Exit(http.StatusBadRequest, "request format doesn't match schema: "+err.Error())
		}
	} else {
		var known bool
		if w.protocol, known = protocol.Detect(q.Path, doc); !known {
			return plugin.Exit(http.StatusBadRequest, "no matching AI protocol for the request")
		}
	}
	c.Facts.RequestType = "ai_chat"
	llm := &c.Facts.LLM
	if llm.Stream = protocol.Streams(w.protocol, doc); llm.Stream {
		c.Facts.RequestType = "ai_stream"
	}
	w.stream = llm.Stream
	llm.RequestModel, _ = doc.View("model")
	llm.EndUserID = endUser(w.protocol, doc)
	llm.ToolCount = tools(doc)
	p.keep(c, doc)
	if err := p.choose(c, w); err != nil {
		return err
	}
	pendingKey.Set(c, w)
	// The route's upstream is not bypassed when the model's answer becomes its request.
	c.Bypass = !p.passthrough
	return nil
}

// read reads a body that decides something; before is what was read of the request already.
func (p *proxy) read(q *exchange.Request, before *jsonedit.Doc) (*jsonedit.Doc, error) {
	body, err := q.Body.Bytes(p.maxBody)
	switch {
	case err != nil:
		return nil, unread(err)
	case len(body) == 0:
		return nil, plugin.Exit(http.StatusBadRequest, message{"could not get body: request body is empty"})
	}
	doc, err := q.Body.JSON(p.maxBody, jsonedit.Options{MaxDepth: p.depth, Duplicates: true})
	if err != nil {
		return nil, plugin.Exit(http.StatusBadRequest, message{p.rules.badJSON + err.Error()})
	}
	if doc != before {
		if err := p.names.twin(doc); err != nil {
			return nil, plugin.Exit(http.StatusBadRequest, message{p.rules.badJSON + err.Error()})
		}
	}
	return doc, nil
}

// unread is the answer to a body that could not be read.
func unread(err error) error {
	var large *exchange.TooLargeError
	if errors.As(err, &large) {
		return &plugin.ExitError{
			Status: http.StatusRequestEntityTooLarge, Body: message{"could not get body: " + large.Error()},
			Err: fmt.Errorf("failed to read request body: %w", large),
		}
	}
	return &plugin.ExitError{Status: http.StatusBadRequest, Body: message{"could not get body: " + err.Error()}, Err: err}
}

// endUser is whom a client names as its own user.
func endUser(id protocol.ID, doc *jsonedit.Doc) string {
	if id == protocol.AnthropicMessages {
		raw, kind, _ := doc.Get("metadata")
		if kind != jsonedit.Object {
			return ""
		}
		user, _ := jsonedit.Unquote(within(raw, "user_id"))
		return user
	}
	if user, ok := doc.View("safety_identifier"); ok {
		return user
	}
	user, _ := doc.View("user")
	return user
}

// tools counts the tools that a request offers.
func tools(doc *jsonedit.Doc) (n int) {
	if raw, kind, ok := doc.Get("tools"); ok && kind == jsonedit.Array {
		_ = jsonedit.Elements(raw, func(int, []byte, jsonedit.Kind) error { n++; return nil })
	}
	return n
}

// choose picks the first instance.
func (p *proxy) choose(c *plugin.Context, w *pending) error {
	switch {
	case p.semantic != nil:
		w.picked = p.semantic.choose(c, w, p)
	case len(p.instances) > 1:
		if p.state.picker == nil {
			return plugin.Exit(http.StatusInternalServerError, nil)
		}
		if p.hash != nil {
			w.attempt.Hash = balancer.Hash(p.hash(c.Exchange))
		}
		p.watch()
		if err := p.next(c, w); err != nil {
			p.sayPicked(c, "nil")
			return &plugin.ExitError{Status: http.StatusServiceUnavailable, Body: err.Error(), Err: err}
		}
	}
	p.take(c, w)
	return nil
}

// sayPicked is for those who debug a configuration, in the reference's words.
func (p *proxy) sayPicked(c *plugin.Context, name string) {
	if e := c.Log.Debug(); e.Enabled() && p.name == "ai-proxy-multi" {
		e.Str("route", c.Route.RouteID).Str("request", c.ID).Msg("picked instance: " + name)
	}
}

// take notes which instance is in use.
func (p *proxy) take(c *plugin.Context, w *pending) {
	i := p.instances[w.picked]
	p.sayPicked(c, i.Name)
	c.Facts.BalancerIP, c.Facts.BalancerPort = i.Name, ""
	c.Facts.LLM.Model = c.Facts.LLM.RequestModel
	if p.models[w.picked].set {
		c.Facts.LLM.Model = p.models[w.picked].name
	}
	if taken := plugin.InstanceTaken.Get(c); taken != nil {
		taken(c)
	}
}

// messagesSchema is what the seed generation asks of a request, in words; members beyond it
// pass (spec/00 15).
var messagesSchema = schema.Later("messages", func() []byte {
	return []byte(`{"type":"object","required":["messages"],"properties":{"messages":` +
		`{"type":"array","minItems":1,"items":{"type":"object","required":["role"],"properties":{"role":{"type":"string"}}}}}}`)
})

// checkMessages judges the messages of a request. A good one, which nearly all are, is not
// decoded for it.
func checkMessages(doc *jsonedit.Doc) error {
	if messagesAreGood(doc) {
		return nil
	}
	value, err := schema.Decode(doc.Bytes())
	if err != nil {
		return err
	}
	return messagesSchema.Check(value)
}

var errBadMessage = errors.New("not a message")

func messagesAreGood(doc *jsonedit.Doc) bool {
	raw, kind, ok := doc.Get("messages")
	if !ok || kind != jsonedit.Array {
		return false
	}
	n := 0
	err := jsonedit.Elements(raw, func(_ int, e []byte, kind jsonedit.Kind) error {
		n++
		role := false
		if kind != jsonedit.Object {
			return errBadMessage
		}
		err := jsonedit.Peek(e, func(name string, _ []byte, kind jsonedit.Kind) error {
			role = role || name == "role" && kind == jsonedit.String
			return nil
		})
		if err == nil && !role {
			err = errBadMessage
		}
		return err
	})
	return err == nil && n > 0
}

package drivers

import (
	"slices"

	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// Prepare finds out what an instance is asked in, and brings the call there: Target, Body,
// Answer, Model and Stream are set. The client's body is not changed, so that the next
// attempt starts where this one did. An error is an *UnsupportedError or a *convert.Error.
func Prepare(c *Call) error {
	i := c.Instance
	c.Target, c.Answer = c.Protocol, nil
	named := false
	c.Stream = protocol.Streams(c.Protocol, c.Body)
	c.HideUsage = i.Usage && c.Protocol == protocol.OpenAIChat && streams(c.Body) && !asksUsage(c.Body)
	for n := range i.Options {
		switch o := &i.Options[n]; o.Name {
		case "model":
			if c.Model = i.Model; c.Model == "" {
				c.Model, _ = jsonedit.Unquote(o.Value)
			}
			named = true
		case "stream":
			c.Stream = string(o.Value) == "true"
		case "stream_options":
			c.HideUsage = false // whoever configured it wants it seen
		}
	}
	if !named {
		c.Model, _ = c.Body.View("model")
	}
	way, err := i.way(c.Protocol)
	if err != nil || way == nil {
		return err
	}
	c.HideUsage = false // the conversion knows whether it was asked for
	source := c.Body
	if named {
		// What a request becomes depends on the model that is asked.
		if source, err = withModel(c.Body, c.Model); err != nil {
			return err
		}
	}
	converted, err := way.Request(source)
	if err != nil {
		return err
	}
	body, err := jsonedit.IndexTrusted(converted.Body)
	if err != nil {
		return err
	}
	c.Target, c.Body, c.Answer = way.To, body, converted.Answer
	return nil
}

// withModel returns a body that names a model, as another document.
func withModel(body *jsonedit.Doc, model string) (*jsonedit.Doc, error) {
	edit := []jsonedit.Edit{{Name: "model", Value: jsonedit.AppendQuote(nil, model)}}
	return jsonedit.IndexTrusted(jsonedit.Join(body.Splice(nil, edit)))
}

// asksUsage reports whether a client asks for the usage of a stream itself.
func asksUsage(body *jsonedit.Doc) (asks bool) {
	raw, kind, _ := body.Get("stream_options")
	if kind != jsonedit.Object {
		return false
	}
	_ = jsonedit.Peek(raw, func(name string, value []byte, _ jsonedit.Kind) error {
		asks = asks || name == "include_usage" && string(value) == "true"
		return nil
	})
	return asks
}

// way finds how requests in a client's protocol get to an instance; nil: as they are. The
// protocol that the instance is configured to speak comes first, then the client's own,
// then the first conversion to one that the provider speaks.
func (i *Instance) way(from protocol.ID) (*convert.Conversion, error) {
	if from == protocol.Passthrough {
		return nil, nil
	}
	if i.Speak != "" {
		if i.Speak == from {
			return nil, nil
		}
		if way, ok := convert.Find(from, []protocol.ID{i.Speak}); ok {
			return way, nil
		}
	}
	native := i.Driver.Native()
	if slices.Contains(native, from) {
		return nil, nil
	}
	if way, ok := convert.Find(from, native); ok {
		return way, nil
	}
	return nil, &UnsupportedError{Provider: i.Provider, Protocol: from, Supported: native}
}

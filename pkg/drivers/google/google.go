// Package google is the drivers for Google's models: the Gemini API and Vertex AI. Both have
// an endpoint that speaks like OpenAI, and methods of a model in a protocol of their own. It
// knows their places and paths; it does not know what comes back, nor where tokens are from.
package google

import (
	"context"
	"net/url"
	"strings"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/upstream"
)

// Providers returns the drivers by their providers' names.
func Providers() map[string]drivers.Driver {
	return map[string]drivers.Driver{
		"gemini": &driver{
			native: []protocol.ID{protocol.OpenAIChat, protocol.GeminiGenerate},
			host:   func(drivers.Where) string { return "generativelanguage.googleapis.com" },
			path:   geminiPath,
		},
		"vertex-ai": &driver{
			native: []protocol.ID{protocol.OpenAIChat, protocol.VertexPredict, protocol.GeminiGenerate},
			host:   vertexHost,
			path:   vertexPath,
		},
	}
}

// driver is one of the two. An empty path is none.
type driver struct {
	native []protocol.ID
	host   func(drivers.Where) string
	path   func(*drivers.Call) string
}

func (d *driver) Native() []protocol.ID { return d.native }

func (d *driver) Endpoint(w drivers.Where) drivers.Endpoint { return drivers.Endpoint{Host: d.host(w)} }

var shape = drivers.Shape{ChatLimit: "max_completion_tokens"}

func (d *driver) Request(c *drivers.Call) (*upstream.Request, error) {
	r, err := shape.Request(c, d.path(c))
	if err != nil {
		return nil, err
	}
	// Without it a stream of this protocol is one long array of JSON.
	if c.Target == protocol.GeminiGenerate && c.Stream {
		r.Path = withArgument(r.Path, "alt", "sse")
	}
	return r, nil
}

// Sign does nothing: what changes with time is the instance's token.
func (d *driver) Sign(context.Context, *drivers.Call, *upstream.Request) error { return nil }

func geminiPath(c *drivers.Call) string {
	switch c.Target {
	case protocol.OpenAIChat:
		return "/v1beta/openai/chat/completions"
	case protocol.GeminiGenerate:
		if c.Model != "" {
			return "/v1beta/models/" + segment(c.Model) + generate(c)
		}
	}
	return ""
}

// vertexHost is where a region is. Without one, and for the region that is everywhere, it is
// the host without a region.
func vertexHost(w drivers.Where) string {
	if w.Region == "" || w.Region == "global" {
		return "aiplatform.googleapis.com"
	}
	return w.Region + "-aiplatform.googleapis.com"
}

func vertexPath(c *drivers.Call) string {
	w := c.Instance.Where
	if w.Project == "" || w.Region == "" {
		return ""
	}
	location := "/projects/" + segment(w.Project) + "/locations/" + segment(w.Region)
	model := "/v1" + location + "/publishers/google/models/" + segment(c.Model)
	switch c.Target {
	case protocol.OpenAIChat:
		return "/v1beta1" + location + "/endpoints/openapi/chat/completions"
	case protocol.VertexPredict:
		if c.Model != "" {
			return model + ":predict"
		}
	case protocol.GeminiGenerate:
		if c.Model != "" {
			return model + generate(c)
		}
	}
	return ""
}

// generate is the method of a model that answers a chat.
func generate(c *drivers.Call) string {
	if c.Stream {
		return ":streamGenerateContent"
	}
	return ":generateContent"
}

// segment encodes a text to be one segment of a path. A colon would begin a method.
func segment(s string) string { return strings.ReplaceAll(url.PathEscape(s), ":", "%3A") }

// withArgument adds an argument to a path with a query, unless it has one of that name.
func withArgument(path, name, value string) string {
	_, query, more := strings.Cut(path, "?")
	if !more {
		return path + "?" + name + "=" + value
	}
	if args, err := url.ParseQuery(query); err == nil && args.Has(name) {
		return path
	}
	return path + "&" + name + "=" + value
}

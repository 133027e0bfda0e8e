// Package openai is the driver for OpenAI and, by a table of differences, for everything
// that speaks like it. It knows their paths and members; it does not choose, send or retry.
package openai

import (
	"context"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/upstream"
)

// Row is what tells a provider that speaks like OpenAI from the others (spec/06 §A3).
type Row struct {
	Host  string                 // empty: an endpoint must be configured
	Paths map[protocol.ID]string // of what it speaks
	drivers.Shape
}

func chat(path string) map[protocol.ID]string {
	return map[protocol.ID]string{protocol.OpenAIChat: path}
}

var openAIPaths = map[protocol.ID]string{
	protocol.OpenAIChat:       "/v1/chat/completions",
	protocol.OpenAIResponses:  "/v1/responses",
	protocol.OpenAIEmbeddings: "/v1/embeddings",
}

// limited is a provider that calls the limit of an answer as OpenAI does.
var limited = drivers.Shape{ChatLimit: "max_completion_tokens"}

var table = map[string]Row{
	"openai":            {Host: "api.openai.com", Paths: openAIPaths, Shape: limited},
	"openai-compatible": {Paths: openAIPaths},
	"deepseek":          {Host: "api.deepseek.com", Paths: chat("/chat/completions")},
	"aimlapi":           {Host: "api.aimlapi.com", Paths: chat("/chat/completions")},
	"openrouter":        {Host: "openrouter.ai", Paths: chat("/api/v1/chat/completions")},
	"azure-openai":      {Paths: chat("/completions"), Shape: drivers.Shape{NoModel: true}},
	"anthropic": {Host: "api.anthropic.com", Paths: map[protocol.ID]string{
		protocol.AnthropicMessages: "/v1/messages", protocol.OpenAIChat: "/v1/chat/completions",
	}},
}

// Providers returns a driver for every provider of the table.
func Providers() map[string]drivers.Driver {
	all := make(map[string]drivers.Driver, len(table))
	for name, row := range table {
		all[name] = New(row)
	}
	return all
}

type driver struct {
	Row
	native []protocol.ID
}

// order is that in which protocols are preferred.
var order = []protocol.ID{
	protocol.OpenAIChat, protocol.OpenAIResponses, protocol.OpenAIEmbeddings, protocol.AnthropicMessages,
}

// New returns the driver of a row.
func New(row Row) drivers.Driver {
	d := &driver{Row: row}
	for _, id := range order {
		if row.Paths[id] != "" {
			d.native = append(d.native, id)
		}
	}
	return d
}

func (d *driver) Native() []protocol.ID { return d.native }

func (d *driver) Endpoint(drivers.Where) drivers.Endpoint { return drivers.Endpoint{Host: d.Host} }

func (d *driver) Request(c *drivers.Call) (*upstream.Request, error) {
	return d.Shape.Request(c, d.Paths[c.Target])
}

// Sign does nothing: credentials are headers that do not change.
func (d *driver) Sign(context.Context, *drivers.Call, *upstream.Request) error { return nil }

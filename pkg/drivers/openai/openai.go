// Package openai is the driver for OpenAI and, by a table of differences, for everything
// that speaks like it. It knows their paths and members; it does not choose, send or retry.
package openai

import (
	"context"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/upstream"
)

// differences are a provider's row in the table (spec/06 §A3).
type differences struct {
	host  string // empty: an endpoint must be configured
	paths map[protocol.ID]string
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

var table = map[string]differences{
	"openai":            {host: "api.openai.com", paths: openAIPaths, Shape: limited},
	"openai-compatible": {paths: openAIPaths},
	"deepseek":          {host: "api.deepseek.com", paths: chat("/chat/completions")},
	"aimlapi":           {host: "api.aimlapi.com", paths: chat("/chat/completions")},
	"openrouter":        {host: "openrouter.ai", paths: chat("/api/v1/chat/completions")},
	"azure-openai":      {paths: chat("/completions"), Shape: drivers.Shape{NoModel: true}},
	"anthropic":         {host: "api.anthropic.com", paths: chat("/v1/chat/completions")},
}

// Providers returns a driver for every provider of the table.
func Providers() map[string]drivers.Driver {
	all := make(map[string]drivers.Driver, len(table))
	for name, row := range table {
		all[name] = newDriver(row)
	}
	return all
}

type driver struct {
	differences
	native []protocol.ID
}

// order is that in which protocols are preferred.
var order = []protocol.ID{protocol.OpenAIChat, protocol.OpenAIResponses, protocol.OpenAIEmbeddings}

func newDriver(row differences) *driver {
	d := &driver{differences: row}
	for _, id := range order {
		if row.paths[id] != "" {
			d.native = append(d.native, id)
		}
	}
	return d
}

func (d *driver) Native() []protocol.ID { return d.native }

func (d *driver) Endpoint(drivers.Where) drivers.Endpoint { return drivers.Endpoint{Host: d.host} }

func (d *driver) Request(c *drivers.Call) (*upstream.Request, error) {
	return d.Shape.Request(c, d.paths[c.Target])
}

// Sign does nothing: credentials are headers that do not change.
func (d *driver) Sign(context.Context, *drivers.Call, *upstream.Request) error { return nil }

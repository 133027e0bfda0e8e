package aiproxy

import (
	"errors"
	"fmt"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
)

// account notes what the answer cost (spec/06 §A10).
func (p *proxy) account(c *plugin.Context, out *drivers.Outcome) {
	llm, u := &c.Facts.LLM, &out.Usage
	llm.PromptTokens, llm.CompletionTokens, llm.TotalTokens = u.Prompt, u.Completion, u.Total
	llm.CachedTokens, llm.CacheCreationTokens, llm.ReasoningTokens = u.Cached, u.CacheCreation, u.Reasoning
	llm.Stream, llm.HasToolCalls, llm.Text = out.Stream, out.ToolCalls, out.Text
	llm.RawUsage = out.RawUsage
	if !out.FirstToken.IsZero() {
		llm.FirstToken = out.FirstToken.Sub(c.Start)
	}
	if e := c.Log.Debug(); e.Enabled() && len(out.RawUsage) > 0 {
		// The words are the reference's: its test suites look for them in the log.
		e.Str("route", c.Route.RouteID).Str("instance", c.Facts.BalancerIP).Str("request", c.ID).
			Int64("prompt", u.Prompt).Int64("completion", u.Completion).Int64("total", u.Total).
			Msg("got token usage from ai service:")
	}
}

// payloadLimit is up to how many bytes the messages of a request are kept for logs.
const payloadLimit = 256 << 10

// keep notes what logs may have of a request, where that is configured (spec/06 §A10).
func (p *proxy) keep(c *plugin.Context, doc *jsonedit.Doc) {
	llm := &c.Facts.LLM
	llm.Summarised = p.summaries
	if !p.payloads {
		return
	}
	llm.Messages = []byte("null")
	for _, name := range []string{"messages", "input"} {
		if raw, _, ok := doc.Get(name); ok {
			if len(raw) > payloadLimit {
				raw = jsonedit.AppendQuote(nil, fmt.Sprintf("%d bytes", len(raw)))
			}
			llm.Messages = raw
			return
		}
	}
}

// accountBroken notes what is known of an answer of which nothing went to the client.
func (p *proxy) accountBroken(c *plugin.Context, err error) {
	var broken *drivers.Broken
	if errors.As(err, &broken) {
		p.account(c, &broken.Outcome)
		c.Facts.LLM.Partial = true
	}
}

package aiproxy

import (
	"errors"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/plugin"
)

// account notes what the answer cost (spec/06 §A10).
func (p *proxy) account(c *plugin.Context, out drivers.Outcome) {
	llm, u := &c.Facts.LLM, out.Usage
	llm.PromptTokens, llm.CompletionTokens, llm.TotalTokens = u.Prompt, u.Completion, u.Total
	llm.CachedTokens, llm.CacheCreationTokens, llm.ReasoningTokens = u.Cached, u.CacheCreation, u.Reasoning
	llm.Stream, llm.HasToolCalls = out.Stream, out.ToolCalls
	if !out.FirstToken.IsZero() {
		llm.FirstToken = out.FirstToken.Sub(c.Start)
	}
}

// accountBroken notes what is known of an answer of which nothing went to the client.
func (p *proxy) accountBroken(c *plugin.Context, err error) {
	var broken *drivers.Broken
	if errors.As(err, &broken) {
		p.account(c, broken.Outcome)
		c.Facts.LLM.Partial = true
	}
}

package variable

import (
	"strconv"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// llmSummary is what logging.summaries asks for, as one JSON object (spec/06 §A10).
func llmSummary(x *exchange.Exchange) Value {
	l := &x.Facts.LLM
	if !l.Summarised {
		return Value{}
	}
	b := make([]byte, 0, 512)
	text := func(name, s string) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = jsonedit.AppendQuote(b, s)
	}
	number := func(name string, n int64) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = strconv.AppendInt(b, n, 10)
	}
	truth := func(name string, is bool) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = strconv.AppendBool(b, is)
	}
	text("request_model", l.RequestModel)
	text("model", l.Model)
	number("duration", l.FirstToken.Milliseconds())
	number("prompt_tokens", l.PromptTokens)
	number("completion_tokens", l.CompletionTokens)
	number("total_tokens", l.TotalTokens)
	if n := len(x.Facts.Attempts); n > 0 {
		number("upstream_response_time", x.Facts.Attempts[n-1].Response.Milliseconds())
	}
	truth("stream", l.Stream)
	number("tool_count", int64(l.ToolCount))
	truth("has_tool_calls", l.HasToolCalls)
	text("end_user_id", l.EndUserID)
	number("cache_read_input_tokens", l.CachedTokens)
	number("cache_creation_input_tokens", l.CacheCreationTokens)
	number("reasoning_tokens", l.ReasoningTokens)
	text("content_risk_level", "")
	truth("partial", l.Partial)
	b[0] = '{'
	return Text(string(append(b, '}')))
}

// llmRequest is what logging.payloads keeps of a request: nothing of its headers and query,
// where credentials are.
func llmRequest(x *exchange.Exchange) Value {
	l := &x.Facts.LLM
	if l.Messages == nil {
		return Value{}
	}
	b := append(append([]byte(`{"messages":`), l.Messages...), `,"stream":`...)
	return Text(string(append(strconv.AppendBool(b, x.Facts.RequestType == "ai_stream"), '}')))
}

// llmText is what logging.payloads keeps of an answer.
func llmText(x *exchange.Exchange) Value { return Some(string(x.Facts.LLM.Text)) }

// llmAttempts names the instance and the status of every attempt, and how one ended that
// began well and did not end so.
var llmAttempts = attempts(func(a *exchange.Attempt) Value {
	if a.Name == "" {
		return Value{}
	}
	text := a.Name + ":" + attemptStatus(a).String()
	if a.End != "" {
		text += " " + a.End
	}
	return Text(text)
})

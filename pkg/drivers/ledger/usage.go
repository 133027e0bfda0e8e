package ledger

import (
	"math"
	"strconv"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// Usage is the provider's count of tokens; zero: not told. Prompt counts what the provider
// calls its input: for OpenAI and Gemini with what was cached, for Anthropic and Bedrock
// without (spec/06 §A10). Completion includes the reasoning.
type Usage struct {
	Prompt, Completion, Total, Cached, CacheCreation, Reasoning int64
}

// count takes over an object of counts, and keeps it: of more than two the first and the
// last, which hold all that protocols spread over a stream. One that is too large for counts
// is not kept.
func (l *Ledger) count(raw []byte) {
	_, _ = l.Usage.read(raw)
	l.hold(raw)
}

func (l *Ledger) hold(raw []byte) {
	const limit = 4 << 10 // bytes
	switch {
	case len(raw) > limit:
	case len(l.Raw) < 2:
		n := len(l.Raw)
		l.room[n] = append(l.room[n][:0], raw...)
		l.Raw = append(l.Raw, l.room[n])
	default:
		l.room[1] = append(l.room[1][:0], raw...)
		l.Raw[1] = l.room[1]
	}
}

// read takes over what an object of counts says, in any protocol's names: they do not
// contradict each other. Counts grow in the course of an answer, and one that is left out,
// or zero in a later object, stays what it was. raw may go on behind the object, which ends at
// end; what was read of one that is broken counts.
func (u *Usage) read(raw []byte) (end int, err error) {
	var total, prompt, tools, candidates, thoughts int64 // of Gemini, but for the first
	told := false
	end, err = jsonedit.Walk(raw, func(name string, value []byte, kind jsonedit.Kind) error {
		n := int64(0)
		if kind == jsonedit.Number {
			n = count(value)
		}
		switch name {
		case "prompt_tokens", "input_tokens", "inputTokens":
			raise(&u.Prompt, n)
		case "completion_tokens", "output_tokens", "outputTokens":
			raise(&u.Completion, n)
		case "total_tokens", "totalTokens", "totalTokenCount":
			total, told = n, n > 0
		case "prompt_cache_hit_tokens", "cache_read_input_tokens", "cacheReadInputTokens", "cachedContentTokenCount":
			raise(&u.Cached, n)
		case "cache_creation_input_tokens", "cacheWriteInputTokens":
			raise(&u.CacheCreation, n)
		case "promptTokenCount":
			prompt = n
		case "candidatesTokenCount":
			candidates = n
		case "thoughtsTokenCount":
			thoughts = n
		case "toolUsePromptTokenCount":
			tools = n
		case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
			u.details(value, kind)
		}
		return nil
	})
	// Gemini counts apart what others include.
	raise(&u.Prompt, prompt+tools)
	raise(&u.Completion, candidates+thoughts)
	raise(&u.Reasoning, thoughts)
	if !told {
		total = u.Prompt + u.Completion
	}
	raise(&u.Total, total)
	return end, err
}

func (u *Usage) details(raw []byte, kind jsonedit.Kind) {
	if kind != jsonedit.Object {
		return
	}
	_, _ = jsonedit.Walk(raw, func(name string, value []byte, _ jsonedit.Kind) error {
		switch name {
		case "cached_tokens":
			raise(&u.Cached, count(value))
		case "cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens":
			raise(&u.CacheCreation, count(value))
		case "reasoning_tokens":
			raise(&u.Reasoning, count(value))
		}
		return nil
	})
}

func raise(n *int64, to int64) { *n = max(*n, to) }

// count reads a number of tokens; what is none, or negative, is 0.
func count(raw []byte) int64 {
	n := int64(0)
	for i, c := range raw {
		if c < '0' || c > '9' || i == 18 {
			return oddCount(raw)
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

// oddCount is count for what is more than a few digits.
func oddCount(raw []byte) int64 {
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return max(n, 0)
	}
	if f, err := strconv.ParseFloat(string(raw), 64); err == nil && f > 0 && f < math.MaxInt64/2 {
		return int64(f)
	}
	return 0
}

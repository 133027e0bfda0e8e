package ledger

import (
	"bytes"
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
	t := tally{Usage: *u}
	if end = t.plain(raw, false); end == 0 {
		t = tally{Usage: *u}
		end, err = t.walk(raw)
	}
	// Gemini counts apart what others include.
	raise(&t.Prompt, t.prompt+t.tools)
	raise(&t.Completion, t.candidates+t.thoughts)
	raise(&t.Reasoning, t.thoughts)
	if !t.told {
		t.total = t.Prompt + t.Completion
	}
	raise(&t.Total, t.total)
	*u = t.Usage
	return end, err
}

// tally is what an object of counts has said so far.
type tally struct {
	Usage
	total, prompt, tools, candidates, thoughts int64 // of Gemini, but for the first
	told                                       bool  // total
}

// note takes over a count; false: nobody knows its name.
func (t *tally) note(name []byte, n int64) bool {
	switch string(name) {
	case "prompt_tokens", "input_tokens", "inputTokens":
		raise(&t.Prompt, n)
	case "completion_tokens", "output_tokens", "outputTokens":
		raise(&t.Completion, n)
	case "total_tokens", "totalTokens", "totalTokenCount":
		t.total, t.told = n, n > 0
	case "prompt_cache_hit_tokens", "cache_read_input_tokens", "cacheReadInputTokens", "cachedContentTokenCount":
		raise(&t.Cached, n)
	case "cache_creation_input_tokens", "cacheWriteInputTokens":
		raise(&t.CacheCreation, n)
	case "promptTokenCount":
		t.prompt = n
	case "candidatesTokenCount":
		t.candidates = n
	case "thoughtsTokenCount":
		t.thoughts = n
	case "toolUsePromptTokenCount":
		t.tools = n
	default:
		return false
	}
	return true
}

// isDetails reports whether that is the name of an object for detail.
func isDetails(name []byte) bool {
	switch string(name) {
	case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
		return true
	}
	return false
}

// detail is note for an object inside another.
func (t *tally) detail(name []byte, n int64) bool {
	switch string(name) {
	case "cached_tokens":
		raise(&t.Cached, n)
	case "cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens":
		raise(&t.CacheCreation, n)
	case "reasoning_tokens":
		raise(&t.Reasoning, n)
	default:
		return false
	}
	return true
}

// walk reads any object.
func (t *tally) walk(raw []byte) (end int, err error) {
	return jsonedit.Walk(raw, func(name string, value []byte, kind jsonedit.Kind) error {
		n := int64(0)
		if kind == jsonedit.Number {
			n = count(value)
		}
		if !t.note([]byte(name), n) && kind == jsonedit.Object && isDetails([]byte(name)) {
			_, _ = jsonedit.Walk(value, func(name string, value []byte, _ jsonedit.Kind) error {
				t.detail([]byte(name), count(value))
				return nil
			})
		}
		return nil
	})
}

// plain reads an object as nearly all are: names in letters, counts, null, times in seconds, and
// objects of details in which is no more. It scans such a one as walk does, in far less time.
// end is 0 if there is anything else, of which walk must judge; what was noted is void then.
func (t *tally) plain(p []byte, details bool) (end int) {
	if len(p) == 0 || p[0] != '{' {
		return 0
	}
	for i := 1; ; i++ {
		if i = skip(p, i); i >= len(p) || p[i] != '"' {
			return 0
		}
		from := i + 1
		length := bytes.IndexByte(p[from:], '"')
		if length < 0 {
			return 0
		}
		name := p[from : from+length]
		if i = skip(p, from+length+1); i >= len(p) || p[i] != ':' {
			return 0
		}
		if i = skip(p, i+1); i >= len(p) {
			return 0
		}
		known, whole, n := false, true, int64(0)
		switch c := p[i]; {
		case digit(p, i):
			first := i
			for ; digit(p, i); i++ {
				n = 10*n + int64(p[i]-'0')
			}
			if i-first > mostDigits || c == '0' && i-first > 1 {
				return 0
			}
			if whole = i >= len(p) || p[i] != '.'; !whole {
				for first, i = i, i+1; digit(p, i); i++ {
				}
				if i == first+1 {
					return 0
				}
			}
		case c == 'n' && bytes.HasPrefix(p[i:], null):
			i += len(null)
		case c == '{' && !details && isDetails(name):
			if length = t.plain(p[i:], true); length == 0 {
				return 0
			}
			known, i = true, i+length
		default:
			return 0
		}
		switch {
		case known:
		case details:
			known = t.detail(name, n)
		default:
			known = t.note(name, n)
		}
		if !known && !letters(name) || known && !whole {
			return 0
		}
		if i = skip(p, i); i >= len(p) || p[i] != ',' {
			if i < len(p) && p[i] == '}' {
				return i + 1
			}
			return 0
		}
	}
}

func digit(p []byte, i int) bool { return i < len(p) && '0' <= p[i] && p[i] <= '9' }

func skip(p []byte, i int) int {
	for i < len(p) && space(p[i]) {
		i++
	}
	return i
}

// letters reports whether a name is nothing that a scan would have to look at twice.
func letters(name []byte) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return true
}

func raise(n *int64, to int64) { *n = max(*n, to) }

// mostDigits is how many digits make no number that is too large.
const mostDigits = 18

// count reads a number of tokens; what is none, or negative, is 0.
func count(raw []byte) int64 {
	n := int64(0)
	for i, c := range raw {
		if c < '0' || c > '9' || i == mostDigits {
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

package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// usages are objects of counts and what may follow them, and whether they are read in one pass.
var usages = []struct {
	name, raw string
	plain     bool
}{
	{"counts of a chat", `{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}`, true},
	{"details of a chat", `{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":5}},"a":1}`, true},
	{"details that are null", `{"total_tokens":3,"prompt_tokens_details":null}`, true},
	{"counts of gemini", `{"promptTokenCount":1,"candidatesTokenCount":2,"thoughtsTokenCount":3,"toolUsePromptTokenCount":4,"totalTokenCount":10}`, true},
	{"white space everywhere", "{ \"prompt_tokens\" :\t1 ,\r\n\"prompt_tokens_details\" : { \"cached_tokens\" : 1 } } ", true},
	{"a count that is told twice", `{"total_tokens":7,"total_tokens":3}`, true},
	{"a count that is null", `{"prompt_tokens":5,"total_tokens":7,"total_tokens":null}`, true},
	{"a name of nobody", `{"total_tokens":7,"num_sources_used":1}`, true},
	{"the most digits", `{"total_tokens":999999999999999999}`, true},
	{"a count of no tokens", `{"total_tokens":0}`, true},
	{"more digits than that", `{"total_tokens":1000000000000000000}`, false},
	{"a count with a zero before it", `{"total_tokens":01}`, false},
	{"a count below zero", `{"total_tokens":-1}`, false},
	{"a time", `{"queue_time":0.25,"total_tokens":1}`, true},
	{"a time as a count", `{"total_tokens":0.25}`, false},
	{"a time without its fraction", `{"queue_time":0.,"total_tokens":1}`, false},
	{"a time with an exponent", `{"queue_time":1.5e-05,"total_tokens":1}`, false},
	{"an exponent", `{"total_tokens":1e3}`, false},
	{"a text", `{"total_tokens":"1"}`, false},
	{"an object in place of a count", `{"total_tokens":{"total_tokens":1}}`, false},
	{"details inside details", `{"prompt_tokens_details":{"prompt_tokens_details":{"cached_tokens":1}}}`, false},
	{"details that are none", `{"prompt_tokens_details":1,"total_tokens":1}`, true},
	{"a list", `{"prompt_tokens_details":[],"total_tokens":1}`, false},
	{"a name in escape sequences", `{"total\u005ftokens":1}`, false},
	{"a name with an escaped quote", `{"a\"total_tokens":1}`, false},
	{"a name that is not UTF-8", "{\"\xff\":1}", false},
	{"a name with a control character", "{\"a\n\":1}", false},
	{"a word that begins like null", `{"total_tokens":nul}`, false},
	{"no counts", `{}`, false},
	{"a comma too many", `{"total_tokens":1,}`, false},
	{"no colon", `{"total_tokens" 1}`, false},
	{"no object", `["total_tokens"]`, false},
	{"nothing", ``, false},
}

func TestAUsageIsReadInOnePassIfItIsPlain(t *testing.T) {
	for _, tt := range usages {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&tally{}).plain([]byte(tt.raw), false) > 0; got != tt.plain {
				t.Errorf("got %v", got)
			}
			for end := range len(tt.raw) + 1 {
				sameAsWalk(t, []byte(tt.raw[:end]))
			}
		})
	}
}

// sameAsWalk compares what one pass finds with what is found by a scan, and where it ends.
func sameAsWalk(t *testing.T, raw []byte) {
	t.Helper()
	var got, want tally
	end := got.plain(raw, false)
	if end == 0 {
		return
	}
	to, err := want.walk(raw)
	if err != nil || to != end {
		t.Errorf("%q: ends at %d, by a scan at %d with %v", raw, end, to, err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(tally{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%q: by a scan, in one pass: %s", raw, diff)
	}
}

func FuzzUsage(f *testing.F) {
	for _, tt := range usages {
		f.Add([]byte(tt.raw))
	}
	f.Fuzz(sameAsWalk)
}

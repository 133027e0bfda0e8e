package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// plainChats are bodies, and whether their end alone is read.
var plainChats = []struct {
	name, body string
	plain      bool
}{
	{"a body with its usage last", `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, true},
	{"a body with members behind its usage", `{"choices":[],"usage" : {"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":1}} ,"a":[{}],"b":"}" } `, true},
	{"a body with lists of tools that are empty", `{"choices":[{"message":{"tool_calls":[],"function_call":null}}],"usage":{"total_tokens":9}}`, true},
	{"a text that looks like a usage", `{"usage":{"total_tokens":1},"choices":[{"message":{"content":"\"usage\":{\"total_tokens\":7}}"}}]}`, true},
	{"the usage of a choice", `{"usage":{"total_tokens":1},"choices":[{"usage":{"total_tokens":7}}]}`, false},
	{"a name that ends like usage", `{"usage":{"total_tokens":1},"choices":[],"a\"usage":{"total_tokens":7}}`, true},
	{"a value that is the word", `{"choices":[],"usage":{"total_tokens":1},"a":"usage"}`, true},
	{"a usage that is no object", `{"choices":[],"usage":null}`, false},
	{"a name in escape sequences", `{"usage":{"total_tokens":1},"choices":[],"\u0075sage":{"total_tokens":7}}`, false},
	{"a failure", `{"choices":[],"error":{"message":"x"},"usage":{"total_tokens":1}}`, false},
	{"a failure that says nothing", `{"choices":[],"error":null,"usage":{"total_tokens":1}}`, false},
	{"a call of a tool", `{"choices":[{"message":{"tool_calls":[{}]}}],"usage":{"total_tokens":1}}`, false},
	{"a usage behind one that cannot be read", `{"choices":[{"usage":null}],"usage":{"total_tokens":1}}`, true},
	{"a usage before one that cannot be read", `{"choices":[],"usage":{"total_tokens":1},"a":{"usage":null}}`, false},
	{"a usage that holds another", `{"choices":[],"usage":{"total_tokens":1,"usage":{"total_tokens":7}}}`, true},
	{"a usage with a failure in it", `{"choices":[],"usage":{"total_tokens":1,"error":{"message":"x"}}}`, true},
	{"no choices", `{"usage":{"total_tokens":1}}`, false},
	{"an end that is cut", `{"choices":[],"usage":{"total_tokens":1}`, false},
	{"more than a document", `{"choices":[],"usage":{"total_tokens":1}}{}`, false},
	{"a usage that is no JSON", `{"choices":[],"usage":{"total_tokens":1,}}`, false},
	{"no usage", `{"choices":[]}`, false},
	{"nothing", ``, false},
}

func TestThePlainBodyOfAChatIsReadFromItsEnd(t *testing.T) {
	for _, tt := range plainChats {
		t.Run(tt.name, func(t *testing.T) {
			l := New(protocol.OpenAIChat, false)
			if got := l.plainChat([]byte(tt.body)); got != tt.plain {
				t.Errorf("got %v", got)
			}
			sameAsWhole(t, tt.body)
		})
	}
}

// sameAsWhole compares what is found in a body with what is found where a text is kept, for
// which all of it is read.
func sameAsWhole(t *testing.T, body string) {
	t.Helper()
	if jsonedit.Check([]byte(body), jsonedit.Options{MaxDepth: wholeDepth}) != nil {
		return
	}
	got, want := New(protocol.OpenAIChat, false), New(protocol.OpenAIChat, true)
	got.Whole([]byte(body))
	want.Whole([]byte(body))
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Ledger{}, "Text", "Finished"), cmpopts.IgnoreUnexported(Ledger{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("whole, from its end: %s", diff)
	}
}

// The end of a body says what all of it says.
func FuzzPlainChat(f *testing.F) {
	for _, tt := range plainChats {
		f.Add(tt.body)
	}
	for _, s := range corpus {
		f.Add(s.in)
	}
	f.Fuzz(sameAsWhole)
}

func TestABrokenUsageCountsForNothing(t *testing.T) {
	l := New(protocol.OpenAIChat, false)
	l.Whole(fmt.Appendf(nil, `{"choices":[],"usage":{"total_tokens":%d,]}}`, 5))
	if l.Usage != (Usage{}) || l.Raw != nil {
		t.Errorf("got %+v, %q", l.Usage, l.Raw)
	}
}

// Objects inside one another that never end are not read again from each of them.
func TestAUsageThatNeverEndsIsReadOnce(t *testing.T) {
	read := func(n int) float64 {
		body := []byte(`{"choices":[],` + strings.Repeat(`"usage":{`, n))
		l := New(protocol.OpenAIChat, false)
		return testing.AllocsPerRun(1, func() { l.plainChat(body) })
	}
	if once, often := read(1), read(1000); once == 0 || often > once+10 {
		t.Errorf("got %v errors' memory for a thousand of them, %v for one", often, once)
	}
}

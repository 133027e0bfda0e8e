package ledger

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/gosix/gosix/pkg/drivers/protocol"
)

// What is known of a stream does not depend on chunks being compared instead of read.
func FuzzChunksAlike(f *testing.F) {
	const chunk = `{"id":"c1","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}],"usage":null}`
	word := fmt.Sprintf(chunk, "word")
	for _, second := range []string{
		fmt.Sprintf(chunk, " : more"), fmt.Sprintf(chunk, ""), fmt.Sprintf(chunk, `\"`), fmt.Sprintf(chunk, `a\`),
		fmt.Sprintf(chunk, `x"},"finish_reason":"stop","a":{"b":"`), fmt.Sprintf(chunk, `","tool_calls":[1],"c":"x`),
		`{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}`,
		`{"id":"c1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}`, `{"error":{"message":"no"}}`, `[DONE]`, `{`,
	} {
		f.Add(word, second)
		f.Add(second, word)
	}
	f.Add(`{"choices":[{"delta":{"content":"a"},"finish_reason":null}],"usage":{"prompt_tokens":1},"x":"`, word)
	f.Fuzz(func(t *testing.T, first, second string) {
		all, each := New(protocol.OpenAIChat, false), New(protocol.OpenAIChat, false)
		for _, data := range []string{first, second, second, first} {
			all.Event("", []byte(data))
			each.like.before = nil // so that nothing was learnt
			each.Event("", []byte(data))
			a, b := all, each
			a.like, b.like = likeness{}, likeness{}
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("after %q: got %+v, want %+v", data, a, b)
			}
		}
	})
}

func TestALaterPieceIsCompared(t *testing.T) {
	const chunk = `{"id":"c1","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}`
	l := New(protocol.OpenAIChat, false)
	l.Event("", fmt.Appendf(nil, chunk, "one"))
	for text, want := range map[string]bool{"two": true, `\n`: true, "": false, `"`: false, `\"`: false, `a\`: false} {
		if got := l.like.fits(fmt.Appendf(nil, chunk, text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

package ledger

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	stream "github.com/gosix/gosix/pkg/drivers/sse"
)

// play feeds a script in pieces.
func play(s script, keep bool, pieces ...string) seen {
	l := New(s.id, keep)
	switch {
	case strings.HasPrefix(s.in, "{") || strings.HasPrefix(s.in, "<"):
		l.Whole([]byte(strings.Join(pieces, "")))
	case s.id == protocol.BedrockConverse:
		var f eventstream.Splitter
		for _, p := range pieces {
			_, _ = f.Feed([]byte(p), func(m eventstream.Message) { l.Event(m.Kind, m.Payload) })
		}
	default:
		var f stream.Splitter
		event := func(data []byte) { l.Event("", data) }
		for _, p := range pieces {
			f.Feed([]byte(p), event)
		}
		f.Close(event)
	}
	got := seen{usage: l.Usage, text: string(l.Text)}
	for _, is := range []struct {
		name string
		so   bool
	}{{"begun", l.Began}, {"parsed", l.Parsed}, {"finished", l.Finished}, {"terminal", l.Terminal}, {"tools", l.ToolCalls}} {
		if is.so {
			got.ends += " " + is.name
		}
	}
	got.ends = strings.TrimSpace(got.ends)
	if l.Fault != nil {
		got.fault = fmt.Sprint(l.Fault.Status(), " ", l.Fault)
	}
	return got
}

func TestTheLedgerIsExactAtEverySplit(t *testing.T) {
	if len(corpus) < 60 {
		t.Errorf("the corpus has %d scripts, 60 are promised", len(corpus))
	}
	for _, s := range corpus {
		t.Run(s.name, func(t *testing.T) {
			check := func(s script) {
				t.Helper()
				compare := func(how string, got seen) {
					t.Helper()
					if diff := cmp.Diff(s.want, got, cmp.AllowUnexported(seen{})); diff != "" {
						t.Fatalf("%s: %s", how, diff)
					}
				}
				compare("in one piece", play(s, true, s.in))
				single := make([]string, 0, len(s.in))
				for cut := range len(s.in) {
					compare(fmt.Sprint("cut at byte ", cut), play(s, true, s.in[:cut], s.in[cut:]))
					single = append(single, s.in[cut:cut+1])
				}
				compare("byte by byte", play(s, true, single...))
				// Nobody asks for the text: events that only carry text are not decoded then.
				s.want.text = ""
				compare("without its text", play(s, false, s.in))
			}
			check(s)
			if strings.Contains(s.in, "\n\n") && s.id != protocol.BedrockConverse {
				s.in = strings.ReplaceAll(s.in, "\n", "\r\n")
				check(s)
			}
		})
	}
}

func TestATextIsKeptUpToALimit(t *testing.T) {
	l := New(protocol.OpenAIChat, true)
	piece := strings.Repeat("ä", 1000)
	for range TextLimit/len(piece) + 10 {
		l.Event("", []byte(delta(`{"content":"`+piece+`"}`)))
	}
	if n := len(l.Text); n > TextLimit || n < TextLimit-len(piece) {
		t.Errorf("got %d bytes, the limit is %d", n, TextLimit)
	}
	if !strings.HasSuffix(string(l.Text), "ä") {
		t.Error("a character was cut")
	}
}

func TestTheEndOfALongBodyHasItsUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		id   protocol.ID
		end  string
		want Usage
	}{
		"at the end":               {protocol.OpenAIEmbeddings, `0.1]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}`, Usage{Prompt: 8, Total: 8}},
		"with details":             {protocol.OpenAIChat, `x"}],"usage" : {"prompt_tokens":8,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3}},"model":"m"}`, Usage{Prompt: 8, Completion: 1, Total: 9, Cached: 3}},
		"of gemini":                {protocol.GeminiGenerate, `],"usageMetadata":{"promptTokenCount":8}}`, Usage{Prompt: 8, Total: 8}},
		"only the word":            {protocol.OpenAIChat, `x "usage" y`, Usage{}},
		"that is null":             {protocol.OpenAIChat, `"usage":null}`, Usage{}},
		"that has no end":          {protocol.OpenAIChat, `"usage":{"prompt_tokens":8`, Usage{}},
		"nothing":                  {protocol.OpenAIChat, ``, Usage{}},
		"nothing behind the colon": {protocol.OpenAIChat, `"usage":`, Usage{}},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(tt.id, false)
			if l.Tail([]byte(tt.end)); l.Usage != tt.want {
				t.Errorf("got %+v, want %+v", l.Usage, tt.want)
			}
		})
	}
}

func TestOnlyAChunkThatCountsIsExtra(t *testing.T) {
	for event, want := range map[string]bool{
		chunk("[]", chatUse): true,
		chunk(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, chatUse): false,
		chunk("[]", `,"usage":null`):                                      false,
		delta(`{"content":"a"}`):                                          false,
		"[DONE]":                                                          false,
	} {
		l := New(protocol.OpenAIChat, false)
		l.Event("", []byte(chunk("[]", chatUse)))
		if l.Event("", []byte(event)); l.Extra != want {
			t.Errorf("%s: got %v", event, l.Extra)
		}
	}
}

// Whatever a provider sends, a ledger neither panics nor counts below zero.
func FuzzLedger(f *testing.F) {
	ids := []protocol.ID{
		protocol.OpenAIChat, protocol.OpenAIResponses, protocol.AnthropicMessages, protocol.BedrockConverse,
		protocol.GeminiGenerate, protocol.VertexPredict, protocol.OpenAIEmbeddings, protocol.Passthrough,
	}
	for n, s := range corpus {
		f.Add(n, "metadata", s.in)
	}
	for n := range ids {
		f.Add(n, "throttlingException", `{"type":"error","error":{"code":99999999999999999999}}`)
	}
	f.Fuzz(func(t *testing.T, n int, kind, in string) {
		l := New(ids[uint(n)%uint(len(ids))], true)
		for _, line := range strings.Split(in, "\n") {
			l.Event(kind, []byte(strings.TrimPrefix(line, "data: ")))
		}
		l.Whole([]byte(in))
		l.Tail([]byte(in))
		u := l.Usage
		if min(u.Prompt, u.Completion, u.Total, u.Cached, u.CacheCreation, u.Reasoning) < 0 {
			t.Errorf("got %+v", u)
		}
		if len(l.Text) > TextLimit {
			t.Errorf("kept %d bytes of text", len(l.Text))
		}
		if l.Fault != nil && (l.Fault.Status() < 400 || l.Fault.Status() > 599) {
			t.Errorf("got status %d", l.Fault.Status())
		}
	})
}

func TestWhatAProviderCountedIsKeptInItsOwnWords(t *testing.T) {
	l := New(protocol.AnthropicMessages, false)
	for _, event := range []string{
		`{"type":"message_start","message":{"usage":{"input_tokens":5,"service":"x"}}}`,
		`{"type":"message_delta","delta":{},"usage":{"output_tokens":1}}`,
		`{"type":"message_delta","delta":{},"usage":{"output_tokens":` + strings.Repeat(" ", 4096) + `2}}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}`,
	} {
		l.Event("", []byte(event))
	}
	if got := string(bytes.Join(l.Raw, []byte(" "))); got != `{"input_tokens":5,"service":"x"} {"output_tokens":3}` {
		t.Errorf("got %s", got)
	}
}

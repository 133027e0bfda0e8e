package convert

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
)

// ask converts a request of two conversions whose answers are all stamped.
func ask(t testing.TB, c *Conversion, request string) (*Converted, error) {
	t.Helper()
	out, err := tryRequest(t, c, request)
	if err != nil {
		return nil, err
	}
	if _, ok := out.Answer.(Stamped); !ok {
		t.Fatalf("%s to %s: an answer takes no stamp", c.From, c.To)
	}
	return out, nil
}

// stream converts a stream that comes in pieces, and ends as it should.
func stream(a Answer, pieces ...[]byte) string {
	var split sse.Splitter
	var dst []byte
	event := func(data []byte) { dst = a.Event(dst, "", data) }
	for _, p := range pieces {
		split.Feed(p, event)
	}
	split.Close(event)
	return string(a.Close(dst))
}

var both = []*Conversion{messagesToChat, chatToMessages}

func TestEveryCutOfAStreamGivesTheSameEvents(t *testing.T) {
	for _, c := range both {
		goldens(t, c, func(t *testing.T, g *golden) {
			in, ok := g.sections["stream"]
			if !ok {
				return
			}
			fresh := func() Answer {
				out, err := ask(t, c, g.sections["request"])
				if err != nil {
					t.Fatal(err)
				}
				return out.Answer
			}
			p := []byte(in)
			want := stream(fresh(), p)
			for i := range p {
				if got := stream(fresh(), p[:i], p[i:]); got != want {
					t.Fatalf("cut at %d: %s", i, cmp.Diff(want, got))
				}
			}
			for _, text := range []string{in, strings.ReplaceAll(in, "\n", "\r\n")} {
				var bytewise [][]byte
				for i := range text {
					bytewise = append(bytewise, []byte(text[i:i+1]))
				}
				if got := stream(fresh(), bytewise...); got != want {
					t.Fatalf("byte by byte: %s", cmp.Diff(want, got))
				}
			}
		})
	}
}

// checkStream fails unless what came out is a stream of the client's protocol that ends at
// most once, with nothing behind its end.
func checkStream(t testing.TB, c *Conversion, out string) {
	t.Helper()
	var ends, failed int
	var split sse.Splitter
	rest := split.Feed([]byte(out), func(data []byte) {
		if ends+failed > 0 {
			t.Errorf("%q stands behind the end of %q", data, out)
		}
		if c.From == protocol.OpenAIChat && string(data) == "[DONE]" {
			ends++
			return
		}
		v, ok := document(data)
		if !ok {
			t.Fatalf("%q is not JSON, in %q", data, out)
		}
		if c.From == protocol.AnthropicMessages && v.get("type").text() == "message_stop" {
			ends++
		}
		if v.get("error").given() {
			failed++
		}
	})
	if !bytes.Equal(rest, []byte(out)) {
		t.Errorf("%q is not made of whole events", out)
	}
}

// A recorded stream is made to fail at any event, to end at any event, or to go on behind
// its end.
func TestAStreamEndsOnceWhereverItFails(t *testing.T) {
	for _, c := range both {
		goldens(t, c, func(t *testing.T, g *golden) {
			in, ok := g.sections["stream"]
			if !ok {
				return
			}
			var events []string
			var split sse.Splitter
			split.Feed([]byte(in), func(data []byte) { events = append(events, string(data)) })
			const fault = `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`
			for i := range len(events) + 1 {
				for name, list := range map[string][]string{
					"fails": append(append(append([]string{}, events[:i]...), fault), events[i:]...),
					"ends":  events[:i],
					"twice": append(append([]string{}, events[:i]...), events...),
				} {
					out, err := ask(t, c, g.sections["request"])
					if err != nil {
						t.Fatal(err)
					}
					var dst []byte
					for _, e := range list {
						dst = out.Answer.Event(dst, "", []byte(e))
					}
					dst = out.Answer.Close(dst)
					checkStream(t, c, string(dst))
					if again := out.Answer.Close(out.Answer.Event(nil, "", []byte(events[0]))); len(again) > 0 {
						t.Errorf("%s at %d: %q was said behind the end", name, i, again)
					}
				}
			}
		})
	}
}

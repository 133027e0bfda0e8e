package convert

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

var writeGolden = flag.Bool("golden", false, "write what comes out into the golden files; read them afterwards")

// ways are the conversions that the golden files show, chains among them, but for both between
// messages and chats.
func ways(t testing.TB) []*Conversion {
	t.Helper()
	list := []*Conversion{embeddingsToPredict, chatToGemini, chatToConverse, chatToResponses, responsesToChat}
	for _, to := range []protocol.ID{protocol.BedrockConverse, protocol.GeminiGenerate} {
		c, ok := Find(protocol.OpenAIResponses, []protocol.ID{to})
		if !ok {
			t.Fatalf("no way to %s", to)
		}
		list = append(list, c)
	}
	return list
}

func (c *Conversion) dir() string { return filepath.Join("testdata", string(c.From)+"."+string(c.To)) }

// golden is one golden file: a sentence about what it shows, and sections that begin with a
// line `-- name --`. What stands in one section is converted into what stands in another:
//
//	request    → converted, or refused
//	answer     → whole, or whole refused
//	error NNN  → error NNN converted
//	stream     → events
//
// JSON is compared by what it says, events by their bytes. The messages of an AWS event stream
// are written as server-sent events.
type golden struct {
	path, about string
	names       []string
	sections    map[string]string
}

func readGolden(t testing.TB, path string) *golden {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{path: path, sections: map[string]string{}}
	about, rest, _ := strings.Cut(string(p), "\n-- ")
	if g.about = strings.TrimSpace(about); g.about == "" {
		t.Errorf("%s does not say what it shows", path)
	}
	for part := range strings.SplitSeq(rest, "\n-- ") {
		name, text, ok := strings.Cut(part, " --\n")
		if !ok {
			t.Fatalf("%s: a section has no name: %s", path, part)
		}
		g.names = append(g.names, name)
		g.sections[name] = text + "\n"
	}
	return g
}

// goldens calls f for every golden file of a conversion.
func goldens(t *testing.T, c *Conversion, f func(t *testing.T, g *golden)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.dir(), "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files in %s", c.dir())
	}
	for _, path := range paths {
		t.Run(filepath.Base(c.dir())+"/"+strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			f(t, readGolden(t, path))
		})
	}
}

// want compares what came of a section, or keeps it behind that section.
func (g *golden) want(t *testing.T, from, name, got string) {
	t.Helper()
	if *writeGolden {
		if _, ok := g.sections[name]; !ok {
			g.names = slices.Insert(g.names, slices.Index(g.names, from)+1, name)
		}
		g.sections[name] = got
		return
	}
	want, ok := g.sections[name]
	if !ok {
		t.Errorf("no section %q, got %s", name, got)
	}
	if strings.HasPrefix(strings.TrimSpace(got), "{") {
		got, want = pretty(t, got), pretty(t, want)
	}
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func (g *golden) save(t *testing.T) {
	t.Helper()
	if !*writeGolden {
		return
	}
	text := g.about + "\n\n"
	for _, name := range g.names {
		text += "-- " + name + " --\n" + strings.TrimSpace(g.sections[name]) + "\n\n"
	}
	if err := os.WriteFile(g.path, []byte(strings.TrimSpace(text)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func pretty(t testing.TB, p string) string {
	t.Helper()
	v := jsontext.Value(p)
	if err := v.Canonicalize(); err != nil {
		t.Fatalf("%v in %s", err, p)
	}
	_ = v.Indent(jsontext.WithIndent("  "))
	return string(v)
}

// tryRequest converts a request and stamps the answer.
func tryRequest(t testing.TB, c *Conversion, request string) (*Converted, error) {
	t.Helper()
	d, err := jsonedit.Index([]byte(request), jsonedit.Options{})
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	out, err := c.Request(d)
	if err != nil {
		if e := new(Error); !errors.As(err, &e) || e.Status != 400 {
			t.Fatalf("got %v (%T), want an *Error with status 400", err, err)
		}
		return nil, err
	}
	if s, ok := out.Answer.(Stamped); ok {
		s.Stamp("stamped", 1700000000)
	}
	return out, nil
}

// answerTo is the answer to a request that is converted.
func answerTo(t testing.TB, c *Conversion, request string) Answer {
	t.Helper()
	out, err := tryRequest(t, c, request)
	if err != nil {
		t.Fatal(err)
	}
	return out.Answer
}

// message is one event of a provider's stream.
type message struct{ kind, data string }

// messages reads a section; only an AWS event stream has kinds.
func messages(c *Conversion, section string) (list []message) {
	for event := range strings.SplitSeq(strings.TrimSpace(section), "\n\n") {
		var m message
		for line := range strings.SplitSeq(event, "\n") {
			if name, ok := strings.CutPrefix(line, "event: "); ok && c.To == protocol.BedrockConverse {
				m.kind = name
			} else if data, ok := strings.CutPrefix(line, "data: "); ok {
				m.data += data
			}
		}
		if m != (message{}) {
			list = append(list, m)
		}
	}
	return list
}

// relay converts events, and the end of the stream.
func relay(a Answer, list ...message) string {
	var dst []byte
	for _, m := range list {
		dst = a.Event(dst, m.kind, []byte(m.data))
	}
	return string(a.Close(dst))
}

func TestGoldenExchangesAreConverted(t *testing.T) {
	for _, c := range slices.Concat(both, ways(t)) {
		goldens(t, c, func(t *testing.T, g *golden) {
			request := g.sections["request"]
			out, err := tryRequest(t, c, request)
			if err != nil {
				g.want(t, "request", "refused", err.Error()+"\n")
				g.save(t)
				return
			}
			g.want(t, "request", "converted", pretty(t, string(out.Body)))
			for _, name := range slices.Clone(g.names) {
				a, text := answerTo(t, c, request), g.sections[name]
				status, isError := strings.CutPrefix(name, "error ")
				n, notNumber := strconv.Atoi(status)
				switch {
				case name == "answer":
					whole, err := a.Whole([]byte(text))
					if err != nil {
						if e := new(Error); !errors.As(err, &e) || e.Status != 500 {
							t.Errorf("got %v (%T), want an *Error with status 500", err, err)
						}
						g.want(t, name, "whole refused", err.Error()+"\n")
						continue
					}
					g.want(t, name, "whole", pretty(t, string(whole)))
				case isError && notNumber == nil:
					g.want(t, name, name+" converted", pretty(t, string(a.Error(n, []byte(text)))))
				case name == "stream":
					g.want(t, name, "events", relay(a, messages(c, text)...))
				}
			}
			g.save(t)
		})
	}
}

func TestEverySplitOfAStreamGivesTheSameOutput(t *testing.T) {
	for _, c := range ways(t) {
		if c.To == protocol.BedrockConverse {
			continue // its framing gives whole messages
		}
		goldens(t, c, func(t *testing.T, g *golden) {
			in, ok := g.sections["stream"]
			if !ok {
				return
			}
			feed := func(pieces ...[]byte) string {
				a := answerTo(t, c, g.sections["request"])
				var split sse.Splitter
				var dst []byte
				event := func(data []byte) { dst = a.Event(dst, "", data) }
				for _, p := range pieces {
					split.Feed(p, event)
				}
				split.Close(event)
				return string(a.Close(dst))
			}
			want := relay(answerTo(t, c, g.sections["request"]), messages(c, in)...)
			// Longer ones are not cut at every byte but their first and last.
			for i := 0; i < len(in); i += 1 + len(in)/600 {
				if got := feed([]byte(in[:i]), []byte(in[i:])); got != want {
					t.Fatalf("split at %d: %s", i, cmp.Diff(want, got))
				}
			}
			for _, text := range []string{in, strings.ReplaceAll(in, "\n", "\r\n")} {
				var bytewise [][]byte
				for i := range len(text) {
					bytewise = append(bytewise, []byte(text[i:i+1]))
				}
				if got := feed(bytewise...); got != want {
					t.Fatalf("byte by byte: %s", cmp.Diff(want, got))
				}
			}
		})
	}
}

// checkEvents fails unless out is a stream of the client's protocol that ends at most once, by
// its terminator or an error, and says nothing afterwards. It returns how many usages it tells.
func checkEvents(t testing.TB, c *Conversion, out string) (usages int) {
	t.Helper()
	var split sse.Splitter
	ended := false
	finished := map[int]bool{}
	sequence := 0
	passed := split.Feed([]byte(out), func(data []byte) {
		if ended {
			t.Fatalf("%s comes after the end of %s", data, out)
		}
		if string(data) == "[DONE]" {
			if c.From != protocol.OpenAIChat {
				t.Fatalf("[DONE] in a stream of %s", c.From)
			}
			ended = true
			return
		}
		var e struct {
			Type     string         `json:"type"`
			Sequence int            `json:"sequence_number"`
			Error    jsontext.Value `json:"error"`
			Usage    jsontext.Value `json:"usage"`
			Choices  []chatChoice   `json:"choices"`
		}
		if !readAnswer(data, &e) {
			t.Fatalf("%s is no event", data)
		}
		if e.Usage != nil {
			usages++
		}
		for _, choice := range e.Choices {
			if finished[choice.Index] {
				t.Fatalf("%s comes after the reason why the choice ended in %s", data, out)
			}
			finished[choice.Index] = choice.FinishReason != nil
		}
		switch {
		case c.From == protocol.OpenAIChat:
			ended = e.Error != nil
		case e.Sequence != sequence:
			t.Fatalf("event %d has the number %d in %s", sequence, e.Sequence, out)
		default:
			switch e.Type {
			case "response.completed", "response.incomplete", "response.failed", "error":
				ended = true
			}
		}
		sequence++
	})
	if !bytes.Equal(passed, []byte(out)) {
		t.Fatalf("%s does not end with an event", out)
	}
	return usages
}

// fault is how a provider of a protocol reports that it failed.
func fault(to protocol.ID) message {
	switch to {
	case protocol.BedrockConverse:
		return message{"throttlingException", `{"message":"Too many requests"}`}
	case protocol.GeminiGenerate:
		return message{"", `{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}`}
	case protocol.OpenAIResponses:
		return message{"", `{"type":"error","code":"server_error","message":"failed","param":null,"sequence_number":9}`}
	}
	return message{"", `{"error":{"message":"failed","type":"server_error","param":null,"code":null}}`}
}

// A stream of the golden files fails, ends or goes on again after every one of its events.
func TestAStreamEndsOnceWhereverItBreaks(t *testing.T) {
	for _, c := range ways(t) {
		goldens(t, c, func(t *testing.T, g *golden) {
			in, ok := g.sections["stream"]
			if !ok {
				return
			}
			list := messages(c, in)
			for i := range len(list) + 1 {
				failing := slices.Concat(list[:i], []message{fault(c.To)}, list[i:], []message{fault(c.To)})
				out := relay(answerTo(t, c, g.sections["request"]), failing...)
				checkEvents(t, c, out)
				if !strings.Contains(out, "error") && !strings.Contains(out, `"finish_reason":"`) {
					t.Errorf("failing at %d: neither an error nor an end in %s", i, out)
				}
				checkEvents(t, c, relay(answerTo(t, c, g.sections["request"]), list[:i]...))

				a := answerTo(t, c, g.sections["request"])
				twice := relay(a, append(slices.Clone(list[:i]), list...)...)
				checkEvents(t, c, twice)
				if more := relay(a, list...); more != "" {
					t.Errorf("after the end it says %s", more)
				}
			}
		})
	}
}

func TestUsageIsToldToThoseWhoAskForIt(t *testing.T) {
	for _, c := range ways(t) {
		if c.From != protocol.OpenAIChat {
			continue
		}
		for options, want := range map[string]int{
			``: 0, `,"stream_options":null`: 0, `,"stream_options":{}`: 0,
			`,"stream_options":{"include_usage":false}`: 0, `,"stream_options":{"include_usage":true}`: 1,
		} {
			request := `{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true` + options + `}`
			text := readGolden(t, filepath.Join(c.dir(), "text.txt")).sections["stream"]
			out := relay(answerTo(t, c, request), messages(c, text)...)
			if got := checkEvents(t, c, out); got != want {
				t.Errorf("%s to %s%s: %d usages, want %d, in %s", c.From, c.To, options, got, want, out)
			}
		}
	}
}

func TestAStreamOfAnotherProtocolSaysNothing(t *testing.T) {
	for _, c := range ways(t) {
		a := answerTo(t, c, readGolden(t, filepath.Join(c.dir(), "text.txt")).sections["request"])
		got := relay(a, message{"", "hello"}, message{"", `{"hello":1}`}, message{"", `[]`}, message{"ping", "null"}, message{"", ""})
		if got != "" {
			t.Errorf("%s to %s: %s", c.From, c.To, got)
		}
	}
}

func TestWithoutAStampIDsDependOnWhatWasSaid(t *testing.T) {
	for _, c := range ways(t) {
		if c == embeddingsToPredict {
			continue
		}
		id := func(question string) string {
			d, _ := jsonedit.Index([]byte(`{"model":"m","messages":[{"role":"user","content":"`+question+`"}],"input":"`+question+`"}`), jsonedit.Options{})
			out, err := c.Request(d)
			if err != nil {
				t.Fatal(err)
			}
			answer := map[protocol.ID]string{
				protocol.BedrockConverse: `{"output":{"message":{"role":"assistant","content":[{"text":"a"}]}},"stopReason":"end_turn"}`,
				protocol.GeminiGenerate:  `{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}`,
				protocol.OpenAIResponses: `{"object":"response","output":[]}`,
				protocol.OpenAIChat:      `{"choices":[{"message":{"content":"a"}}]}`,
			}[c.To]
			whole, err := out.Answer.Whole([]byte(answer))
			if err != nil {
				t.Fatal(err)
			}
			var v struct {
				ID string `json:"id"`
			}
			if readAnswer(whole, &v); v.ID == "" {
				t.Fatalf("no id in %s", whole)
			}
			return v.ID
		}
		first, again, other := id("a"), id("a"), id("b")
		if first != again || first == other {
			t.Errorf("%s to %s: got %s, again %s, for another request %s", c.From, c.To, first, again, other)
		}
	}
}

package convert

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// gist is what a request of either protocol is about, told by means of their own.
type gist struct {
	Instructions string
	Texts        []string // of user and assistant, in their order, without those that say nothing
	Calls        []string
	Results      []string
	Media        []string
	Tools        []string
}

// told is a name as either protocol takes it.
func told(name string) string { return (&names{}).give(name) }

func canonical(raw []byte) string {
	v := jsontext.Value(slices.Clone(raw))
	if v.Canonicalize(jsontext.AllowDuplicateNames(true)) != nil {
		return "{}"
	}
	return string(v)
}

func (g *gist) say(text value) {
	if s := strings.TrimRight(text.text(), " \t\r\n"); s != "" {
		g.Texts = append(g.Texts, s)
	}
}

func gistOfMessages(t testing.TB, p []byte) (g gist) {
	v, ok := document(p)
	if !ok {
		t.Fatalf("%s is not JSON", p)
	}
	system := v.get("system")
	list := []string{system.text()}
	system.each(func(b value) { list = append(list, b.get("text").text()) })
	g.Instructions = strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), "\n")
	media := func(b value) {
		source := b.get("source")
		switch source.get("type").text() {
		case "base64":
			g.Media = append(g.Media, "data:"+source.get("media_type").text()+";base64,"+source.get("data").text())
		case "url":
			g.Media = append(g.Media, source.get("url").text())
		case "text":
			g.say(source.get("data"))
		}
	}
	v.get("messages").each(func(m value) {
		content := m.get("content")
		g.say(content)
		content.each(func(b value) {
			switch b.get("type").text() {
			case "text":
				g.say(b.get("text"))
			case "image", "document":
				if m.get("role").text() == "user" {
					media(b)
				}
			case "tool_use":
				g.Calls = append(g.Calls, told(b.get("id").text())+" "+told(b.get("name").text())+" "+canonical(b.get("input").raw))
			case "tool_result":
				said := b.get("content").text()
				b.get("content").each(func(s value) { said += s.get("text").text() })
				g.Results = append(g.Results, told(b.get("tool_use_id").text())+" "+said)
			}
		})
	})
	v.get("tools").each(func(tool value) {
		if tool.get("type").given() && tool.get("type").text() != "custom" {
			return
		}
		g.Tools = append(g.Tools, told(tool.get("name").text())+" "+tool.get("description").text()+" "+canonical(tool.get("input_schema").raw))
	})
	return g
}

func gistOfChat(t testing.TB, p []byte) (g gist) {
	v, ok := document(p)
	if !ok {
		t.Fatalf("%s is not JSON", p)
	}
	var instructions []string
	v.get("messages").each(func(m value) {
		role, content := m.get("role").text(), m.get("content")
		switch role {
		case "system", "developer":
			if s := content.text(); s != "" {
				instructions = append(instructions, s)
			}
			content.each(func(b value) { instructions = append(instructions, b.get("text").text()) })
			return
		case "tool":
			said := content.text()
			content.each(func(s value) { said += s.get("text").text() })
			g.Results = append(g.Results, told(m.get("tool_call_id").text())+" "+said)
			return
		}
		g.say(content)
		content.each(func(b value) {
			switch b.get("type").text() {
			case "text":
				g.say(b.get("text"))
			case "image_url":
				g.Media = append(g.Media, b.get("image_url").get("url").text())
			case "file":
				g.Media = append(g.Media, b.get("file").get("file_data").text())
			}
		})
		m.get("tool_calls").each(func(c value) {
			f := c.get("function")
			arguments := "{}"
			if v, ok := document([]byte(f.get("arguments").text())); ok && v.isObject() {
				arguments = canonical(v.raw)
			}
			g.Calls = append(g.Calls, told(c.get("id").text())+" "+told(f.get("name").text())+" "+arguments)
		})
	})
	g.Instructions = strings.Join(instructions, "\n")
	v.get("tools").each(func(tool value) {
		f := tool.get("function")
		g.Tools = append(g.Tools, told(f.get("name").text())+" "+f.get("description").text()+" "+canonical(f.get("parameters").raw))
	})
	return g
}

// A text may be cut into blocks, or put together of them.
func (g gist) plain() gist {
	g.Texts = []string{strings.Join(g.Texts, "")}
	g.Texts[0] = strings.Join(strings.Fields(g.Texts[0]), "")
	return g
}

const manyTurns = `{"model":"m","max_tokens":9,"system":[{"type":"text","text":"Be"},{"type":"text","text":"brief"}],
"tools":[{"name":"a","description":"d","input_schema":{"type":"object","properties":{"x":{"type":"string"}}}},{"name":"b c","input_schema":{"type":"object"}}],
"messages":[{"role":"user","content":"one"},{"role":"user","content":[{"type":"text","text":"two"},{"type":"image","source":{"type":"url","url":"https://a.test/i"}}]},
{"role":"assistant","content":[{"type":"text","text":"three"},{"type":"tool_use","id":"t1","name":"a","input":{"x":"\u00e9"}},{"type":"tool_use","id":"t.2","name":"b c","input":{}}]},
{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"r1"},{"type":"tool_result","tool_use_id":"t.2","content":[{"type":"text","text":"r"},{"type":"text","text":"2"}]},{"type":"text","text":"four"}]},
{"role":"assistant","content":"five"},{"role":"user","content":"six"}]}`

func TestThereAndBackKeepsTextsAndTools(t *testing.T) {
	got := func(body string) gist {
		there, err := ask(t, messagesToChat, body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(gistOfMessages(t, []byte(body)).plain(), gistOfChat(t, there.Body).plain()); diff != "" {
			t.Errorf("there: %s", diff)
		}
		back, err := ask(t, chatToMessages, string(there.Body))
		if err != nil {
			t.Fatal(err)
		}
		return gistOfMessages(t, back.Body).plain()
	}
	if diff := cmp.Diff(gistOfMessages(t, []byte(manyTurns)).plain(), got(manyTurns)); diff != "" {
		t.Error(diff)
	}
}

// A converted request that is converted back says the same as after the first conversion: from
// then on nothing is lost.
func TestConvertedRequestsKeepTextsAndToolsWhenConvertedBack(t *testing.T) {
	gists := map[protocol.ID]func(testing.TB, []byte) gist{
		protocol.OpenAIChat: gistOfChat, protocol.AnthropicMessages: gistOfMessages,
	}
	for i, c := range both {
		back := both[1-i]
		goldens(t, c, func(t *testing.T, g *golden) {
			there, err := ask(t, c, g.sections["request"])
			if err != nil {
				return
			}
			again, err := ask(t, back, string(there.Body))
			if err != nil {
				t.Fatalf("%v in %s", err, there.Body)
			}
			want, got := gists[c.To](t, there.Body).plain(), gists[c.From](t, again.Body).plain()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// exchange is a request and what may come of it.
type exchange struct{ request, answer, events []byte }

// exchanges returns those of the recordings.
func exchanges(t testing.TB, c *Conversion) (list []exchange) {
	paths, _ := filepath.Glob(filepath.Join("testdata", string(c.From)+"."+string(c.To), "*.txt"))
	for _, path := range paths {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		section := func(name string) []byte {
			_, rest, _ := strings.Cut(string(p), "\n-- "+name+" --\n")
			text, _, _ := strings.Cut(rest, "\n-- ")
			return []byte(text + "\n")
		}
		list = append(list, exchange{section("request"), section("answer"), section("stream")})
	}
	return list
}

// check fails unless all that comes of an exchange is of the protocols, or refused, and the
// same each time, wherever the stream is cut.
func (x exchange) check(t testing.TB, c *Conversion, status int, cut uint) {
	t.Helper()
	d, err := jsonedit.Index(x.request, jsonedit.Options{})
	if err != nil {
		x.request = []byte(`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}`)
		d, _ = jsonedit.Index(x.request, jsonedit.Options{})
	}
	fresh := func() *Converted {
		out, err := c.Request(d)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Status != 400 || e.Text == "") {
			t.Fatalf("%s is refused with %v (%T)", x.request, err, err)
		}
		return out
	}
	out := fresh()
	if out == nil {
		return
	}
	checkBody(t, c, d, out.Body)
	if again := fresh(); !bytes.Equal(again.Body, out.Body) {
		t.Fatalf("%s is converted into %s and into %s", x.request, out.Body, again.Body)
	}

	whole, err := fresh().Answer.Whole(x.answer)
	var e *Error
	if err != nil && (!errors.As(err, &e) || e.Status != 500 || whole != nil) {
		t.Fatalf("%s: %v (%T)", x.answer, err, err)
	}
	if err == nil {
		checkJSON(t, whole)
	}
	checkJSON(t, fresh().Answer.Error(status, x.answer))

	n := int(cut % uint(len(x.events)+1))
	want := stream(fresh().Answer, x.events)
	if got := stream(fresh().Answer, x.events[:n], x.events[n:]); got != want {
		t.Fatalf("cut at %d: %s", n, cmp.Diff(want, got))
	}
	checkStream(t, c, want)
}

func FuzzConversions(f *testing.F) {
	for i, c := range both {
		for _, x := range exchanges(f, c) {
			f.Add(i == 0, x.request, x.answer, x.events, 400+i, uint(len(x.events)/3))
		}
	}
	f.Fuzz(func(t *testing.T, first bool, request, answer, events []byte, status int, cut uint) {
		c := both[1]
		if first {
			c = both[0]
		}
		exchange{request, answer, events}.check(t, c, status, cut)
	})
}

// mutation changes recorded JSON here and there: values become others, members go away or
// come twice.
type mutation struct{ *rand.Rand }

func (m mutation) of(p []byte) []byte {
	v, ok := document(p)
	if !ok {
		return p
	}
	return m.value(nil, v)
}

func (m mutation) value(dst []byte, v value) []byte {
	if m.IntN(60) == 0 {
		others := []string{
			`null`, `true`, `false`, `0`, `-1`, `1.5e300`, `2`, `""`, `" "`, `"null"`, `"text"`, `"tool_use"`, `"stop"`, `"\ud83e\udd89\n\u0000"`, `[]`, `{}`,
			`[null]`, `[{"type":"text","text":"x"}]`, `[{"type":"tool_use","id":"i","name":"n"}]`, `{"type":"image","source":{"type":"base64","data":"AA=="}}`, `{"error":"x"}`,
		}
		return append(dst, others[m.IntN(len(others))]...)
	}
	switch {
	case v.isObject():
		dst = append(dst, '{')
		v.members(func(name string, sub value) {
			for range m.times() {
				dst = append(jsonedit.AppendQuote(comma(dst), name), ':')
				dst = m.value(dst, sub)
			}
		})
		return append(dst, '}')
	case v.isList():
		dst = append(dst, '[')
		v.each(func(sub value) {
			for range m.times() {
				dst = m.value(comma(dst), sub)
			}
		})
		return append(dst, ']')
	}
	return append(dst, v.raw...)
}

// times is how often a part is there: nearly always once.
func (m mutation) times() int {
	switch m.IntN(40) {
	case 0:
		return 0
	case 1:
		return 2
	}
	return 1
}

func (m mutation) exchange(x exchange) exchange {
	x.request, x.answer = m.of(x.request), m.of(x.answer)
	var events []byte
	var split sse.Splitter
	split.Feed(x.events, func(data []byte) {
		for range m.times() {
			events = sse.AppendEvent(events, m.of(data))
		}
	})
	x.events = events
	return x
}

func TestMutatedExchangesAreConvertedOrRefused(t *testing.T) {
	for i, c := range both {
		list := exchanges(t, c)
		for seed := range uint64(2000) {
			m := mutation{rand.New(rand.NewPCG(seed, uint64(i)))}
			m.exchange(list[m.IntN(len(list))]).check(t, c, 300+m.IntN(300), m.Uint())
		}
	}
}

func FuzzMutatedExchanges(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	lists := [][]exchange{exchanges(f, both[0]), exchanges(f, both[1])}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		m := mutation{rand.New(rand.NewPCG(a, b))}
		i := m.IntN(len(both))
		m.exchange(lists[i][m.IntN(len(lists[i]))]).check(t, both[i], 300+m.IntN(300), m.Uint())
	})
}

func checkJSON(t testing.TB, p []byte) {
	t.Helper()
	if err := jsonedit.Check(p, jsonedit.Options{MaxDepth: 2 * answerDepth}); err != nil {
		t.Fatalf("%v in %s", err, p)
	}
}

// checkBody fails unless a converted request is JSON, asks for usage if it is for a stream of
// openai-chat, and has the limit that anthropic-messages asks for.
func checkBody(t testing.TB, c *Conversion, request *jsonedit.Doc, body []byte) {
	t.Helper()
	checkJSON(t, body)
	v, _ := document(body)
	if at(request, "stream").isTrue() != v.get("stream").isTrue() {
		t.Fatalf("a stream is asked for, or not: %s", body)
	}
	if c.To == protocol.OpenAIChat && v.get("stream").isTrue() && !v.get("stream_options").get("include_usage").isTrue() {
		t.Fatalf("no usage is asked for: %s", body)
	}
	if c.To == protocol.AnthropicMessages && !v.get("max_tokens").given() {
		t.Fatalf("no limit: %s", body)
	}
	if v.get("tool_choice").given() && !v.get("tools").given() {
		t.Fatalf("a choice without tools: %s", body)
	}
}

func TestEffortIsNamedByTheBudget(t *testing.T) {
	for thinking, want := range map[string]string{
		`{"type":"enabled"}`:                                   "minimal",
		`{"type":"enabled","budget_tokens":"8000"}`:            "minimal",
		`{"type":"enabled","budget_tokens":1023}`:              "minimal",
		`{"type":"enabled","budget_tokens":1024}`:              "low",
		`{"type":"enabled","budget_tokens":2047}`:              "low",
		`{"type":"enabled","budget_tokens":2048}`:              "medium",
		`{"type":"enabled","budget_tokens":4095}`:              "medium",
		`{"type":"enabled","budget_tokens":4096}`:              "high",
		`{"type":"enabled","budget_tokens":32000}`:             "high",
		`{"type":"adaptive"}`:                                  "medium",
		`{"type":"adaptive"},"output_config":{"effort":""}`:    "medium",
		`{"type":"adaptive"},"output_config":{"effort":"max"}`: "max",
		`{"type":"disabled"},"output_config":{"effort":"low"}`: "",
		`null`: "",
	} {
		out, err := ask(t, messagesToChat, `{"messages":[{"role":"user","content":"a"}],"thinking":`+thinking+`}`)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := document(out.Body)
		if got := v.get("reasoning_effort").text(); got != want {
			t.Errorf("%s becomes %q, want %q", thinking, got, want)
		}
	}
}

func TestNamesOfToolsAreGivenAndRestored(t *testing.T) {
	for name, tt := range map[string]struct{ name, want string }{
		"one that fits stays":            {"get_weather-2", "get_weather-2"},
		"64 letters fit":                 {strings.Repeat("a", 64), strings.Repeat("a", 64)},
		"70 letters do not":              {strings.Repeat("a", 70), strings.Repeat("a", 55) + "_6bd5e503"},
		"a letter that is none is one _": {"a.b", "a_b_" + sumOf("a.b")},
		"a letter of two bytes is two _": {"é", "___" + sumOf("é")},
		"nothing stays nothing":          {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var n names
			got := n.give(tt.name)
			if got != tt.want || len(got) > maxName {
				t.Errorf("%q is given as %q, want %q", tt.name, got, tt.want)
			}
			if back := n.restore(got); back != tt.name {
				t.Errorf("%q comes back as %q", tt.name, back)
			}
		})
	}
	var n names
	seen := map[string]string{}
	for _, name := range []string{"get weather", "get_weather", "get.weather", strings.Repeat("x", 60) + "!aaa", strings.Repeat("x", 60) + "@aaa"} {
		got := n.give(name)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", name, other, got)
		}
		seen[got] = name
	}
}

func sumOf(name string) string { g := told(name); return g[len(g)-nameHash:] }

func TestChoicesOfToolsAreConverted(t *testing.T) {
	const tools = `"tools":[{"name":"my tool","input_schema":{}}]`
	for name, tt := range map[string]struct{ in, want, parallel string }{
		"any of them is required":       {`{"type":"any"}`, `"required"`, ``},
		"none":                          {`{"type":"none"}`, `"none"`, ``},
		"the model decides, one a time": {`{"type":"auto","disable_parallel_tool_use":true}`, `"auto"`, `false`},
		"several at a time":             {`{"type":"auto","disable_parallel_tool_use":false}`, `"auto"`, ``},
		"one that is declared":          {`{"type":"tool","name":"my tool"}`, `{"type":"function","function":{"name":"` + told("my tool") + `"}}`, ``},
		"one that is not":               {`{"type":"tool","name":"no tool"}`, `{"type":"function","function":{"name":"no tool"}}`, ``},
		"something else":                {`{"type":"luck"}`, ``, ``},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := ask(t, messagesToChat, `{"messages":[{"role":"user","content":"a"}],`+tools+`,"tool_choice":`+tt.in+`}`)
			if err != nil {
				t.Fatal(err)
			}
			v, _ := document(out.Body)
			if got := string(v.get("tool_choice").raw); got != tt.want {
				t.Errorf("choice %s, want %s", got, tt.want)
			}
			if got := string(v.get("parallel_tool_calls").raw); got != tt.parallel {
				t.Errorf("parallel %s, want %s", got, tt.parallel)
			}
		})
	}
}

func TestTheChecksumOfABillingTextIsTakenOut(t *testing.T) {
	for in, want := range map[string]string{
		"x-anthropic-billing-header:abc=123;cch=456":          "x-anthropic-billing-header:abc=123",
		"x-anthropic-billing-header:abc=123;def=789":          "x-anthropic-billing-header:abc=123;def=789",
		"X-Anthropic-Billing-Header: a=1; cch=2; b=3;":        "x-anthropic-billing-header:a=1; b=3",
		"x-anthropic-billing-header:cch=1":                    "",
		"Be brief; cch=1":                                     "Be brief; cch=1",
		"x-anthropic-billing-header: \"q\" \u00e9; cch=\"1\"": "x-anthropic-billing-header:\"q\" \u00e9",
	} {
		got := withoutChecksum(value{quote(in), jsonedit.String})
		if got.text() != want {
			t.Errorf("%q becomes %q, want %q", in, got.text(), want)
		}
	}
}

func TestFindKnowsBothWays(t *testing.T) {
	for _, c := range both {
		got, ok := Find(c.From, []protocol.ID{protocol.Passthrough, c.To})
		if !ok || got != c {
			t.Errorf("%s to %s: got %v", c.From, c.To, got)
		}
	}
	if got, ok := Find(protocol.Passthrough, []protocol.ID{protocol.OpenAIChat}); ok {
		t.Errorf("got %v", got)
	}
}

func BenchmarkStreams(b *testing.B) {
	var text, events bytes.Buffer
	for i := range 200 {
		fmt.Fprintf(&text, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"},\"finish_reason\":null}]}\n\n", i)
		fmt.Fprintf(&events, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word%d\"}}\n\n", i)
	}
	for i, in := range [][]byte{text.Bytes(), events.Bytes()} {
		c := both[i]
		b.Run(fmt.Sprintf("%s of %s", c.From, c.To), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				out, err := ask(b, c, `{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true}`)
				if err != nil {
					b.Fatal(err)
				}
				if got := stream(out.Answer, in); !strings.Contains(got, "word199") {
					b.Fatal(got)
				}
			}
		})
	}
}

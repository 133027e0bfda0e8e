package convert

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// sample is what is known of one exchange; any part may be damaged.
type sample struct{ request, answer, stream string }

// samples are the golden exchanges of a conversion.
func samples(t testing.TB, c *Conversion) (list []sample) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(c.dir(), "*.txt"))
	for _, path := range paths {
		g := readGolden(t, path)
		list = append(list, sample{g.sections["request"], g.sections["answer"], g.sections["stream"]})
	}
	if len(list) == 0 {
		t.Fatalf("no golden files in %s", c.dir())
	}
	return list
}

// checkObject fails unless p is an object of JSON.
func checkObject(t testing.TB, p []byte) {
	t.Helper()
	if err := jsonedit.Check(p, jsonedit.Options{MaxDepth: 1 << 14}); err != nil || jsontext.Value(p).Kind() != '{' {
		t.Fatalf("%v in %s", err, p)
	}
}

// check fails unless whatever comes of an exchange is well formed: requests are converted or
// refused with 400, answers with 500, streams end at most once, and no more is known of a
// stream than where it was cut.
func (s sample) check(t testing.TB, c *Conversion, status int, cut uint) {
	t.Helper()
	d, err := jsonedit.Index([]byte(s.request), jsonedit.Options{})
	if err != nil {
		return
	}
	refused := func(err error, status int) {
		if e := new(Error); !errors.As(err, &e) || e.Status != status || e.Text == "" {
			t.Fatalf("got %v (%T), want an *Error with status %d", err, err, status)
		}
	}
	fresh := func() Answer {
		out, err := c.Request(d)
		if err != nil {
			refused(err, 400)
			return nil
		}
		checkObject(t, out.Body)
		return out.Answer
	}
	a := fresh()
	if a == nil {
		return
	}
	whole, err := a.Whole([]byte(s.answer))
	if err != nil {
		refused(err, 500)
	} else {
		checkObject(t, whole)
	}
	failed := fresh().Error(status, []byte(s.answer))
	checkObject(t, failed)

	out := relay(fresh(), messages(c, s.stream)...)
	usages := checkEvents(t, c, out)
	if asked := asks(d); c.From == protocol.OpenAIChat && !asked && usages > 0 || usages > 1 {
		t.Fatalf("%d usages, asked for: %v", usages, asked)
	}
	if c.To == protocol.BedrockConverse {
		return
	}
	at := cut % uint(len(s.stream)+1)
	first, second := cutStream(fresh(), s.stream), cutStream(fresh(), s.stream[:at], s.stream[at:])
	if first != second {
		t.Fatalf("cut at %d: %s", at, cmp.Diff(first, second))
	}
	checkEvents(t, c, first)
}

// asks reports whether a request of openai-chat asks for usage.
func asks(d *jsonedit.Doc) bool {
	var r chatRequest
	return readRequest(d, &r) == nil && r.asksForUsage()
}

func cutStream(a Answer, pieces ...string) string {
	var split sse.Splitter
	var dst []byte
	event := func(data []byte) { dst = a.Event(dst, "", data) }
	for _, p := range pieces {
		split.Feed([]byte(p), event)
	}
	split.Close(event)
	return string(a.Close(dst))
}

func fuzz(f *testing.F, c *Conversion) {
	for i, s := range samples(f, c) {
		f.Add(s.request, s.answer, s.stream, 400+i, uint(len(s.stream)/3))
	}
	f.Fuzz(func(t *testing.T, request, answer, stream string, status int, cut uint) {
		sample{request, answer, stream}.check(t, c, status, cut)
	})
}

// damage changes JSON here and there: values become others, or are missing, or come twice.
type damage struct{ *rand.Rand }

var strangeValues = []string{
	`null`, `true`, `false`, `0`, `-1`, `1.5e300`, `2`, `""`, `" "`, `"null"`, `"text"`, `"stop"`, `"\ud83e\udd89\n\u0000"`,
	`"data:image/png;base64,AA=="`, `"function_call"`, `[]`, `{}`, `[null]`, `[{"type":"text","text":"x"}]`, `[[1]]`,
	`{"error":"x"}`, `{"type":"function","function":{"name":"f"}}`, `[{"role":"tool","tool_call_id":"x"}]`, `{"message":"x"}`,
}

func (d damage) text(p string) string {
	var v any
	if json.Unmarshal([]byte(p), &v) != nil {
		return p
	}
	return string(encode(d.value(v)))
}

func (d damage) value(v any) any {
	if d.IntN(50) == 0 {
		return jsontext.Value(strangeValues[d.IntN(len(strangeValues))])
	}
	switch v := v.(type) {
	case map[string]any:
		for name, sub := range v {
			if v[name] = d.value(sub); d.IntN(40) == 0 {
				delete(v, name)
			}
		}
	case []any:
		var out []any
		for _, sub := range v {
			for range d.times() {
				out = append(out, d.value(sub))
			}
		}
		return out
	}
	return v
}

// times is how often something is there: nearly always once.
func (d damage) times() int {
	switch d.IntN(40) {
	case 0:
		return 0
	case 1:
		return 2
	}
	return 1
}

func (d damage) sample(c *Conversion, s sample) sample {
	out := sample{request: d.text(s.request), answer: d.text(s.answer)}
	var stream bytes.Buffer
	for _, m := range messages(c, s.stream) {
		for range d.times() {
			if m.kind != "" {
				stream.WriteString("event: " + m.kind + "\n")
			}
			stream.Write(sse.AppendEvent(nil, []byte(d.text(m.data))))
		}
	}
	out.stream = stream.String()
	return out
}

func TestDamagedExchangesAreConvertedOrRefused(t *testing.T) {
	for i, c := range ways(t) {
		list := samples(t, c)
		for seed := range uint64(400) {
			d := damage{rand.New(rand.NewPCG(seed, uint64(i)))}
			d.sample(c, list[d.IntN(len(list))]).check(t, c, 300+d.IntN(300), d.Uint())
		}
	}
}

func TestWhatIsNestedTooDeeplyIsConvertedOrRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) }
	for _, n := range []int{10, 50, 9990, 20000} {
		for _, c := range ways(t) {
			for _, v := range []string{deep(n), nested(n)} {
				sample{
					request: `{"model":"m","messages":[{"role":"user","content":"a"}],"input":"a"}`,
					answer:  `{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":` + v + `}}]}}],"error":{"code":` + v + `},"predictions":[{"embeddings":{"values":` + v + `}}]}`,
					stream:  `data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":` + v + `}}]}}],"choices":[],"error":{"message":` + v + `,"code":` + v + `},"type":"error"}` + "\n\n",
				}.check(t, c, 500, 0)
			}
		}
	}
}

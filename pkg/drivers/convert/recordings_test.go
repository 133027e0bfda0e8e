package convert

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
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

var record = flag.Bool("record", false, "write what is converted into the recordings; read them afterwards")

// A recording is a text: a sentence about what it shows, and sections that begin with a line
// `-- name --`. What stands in one section is converted into what stands in another:
//
//	request    → converted, or refused
//	answer     → whole, or whole refused
//	error NNN  → error NNN converted
//	stream     → events
//
// JSON is compared by what it says, events by their bytes.
type recording struct {
	path, about string
	names       []string
	sections    map[string]string
}

func readRecording(t *testing.T, path string) *recording {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{path: path, sections: map[string]string{}}
	for i, part := range strings.Split("\n"+string(p), "\n-- ") {
		name, text, ok := strings.Cut(part, " --\n")
		if i == 0 {
			r.about = strings.TrimSpace(part)
			continue
		}
		if !ok {
			t.Fatalf("%s: section %d has no name", path, i)
		}
		r.names = append(r.names, name)
		r.sections[name] = text + "\n"
	}
	if r.about == "" {
		t.Errorf("%s does not say what it shows", path)
	}
	return r
}

// want compares what came of a section, or keeps it behind that section.
func (r *recording) want(t *testing.T, from, name, got string) {
	t.Helper()
	if *record {
		if _, ok := r.sections[name]; !ok {
			r.names = slices.Insert(r.names, slices.Index(r.names, from)+1, name)
		}
		r.sections[name] = got
		return
	}
	want, ok := r.sections[name]
	if !ok {
		t.Errorf("no section %q, got %s", name, got)
	}
	if !strings.HasPrefix(name, "events") && !strings.HasSuffix(name, "refused") {
		got, want = indent(t, got), indent(t, want)
	}
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func (r *recording) save(t *testing.T) {
	t.Helper()
	if !*record {
		return
	}
	text := r.about + "\n\n"
	for _, name := range r.names {
		text += "-- " + name + " --\n" + strings.TrimSpace(r.sections[name]) + "\n\n"
	}
	if err := os.WriteFile(r.path, []byte(strings.TrimSpace(text)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func indent(t *testing.T, p string) string {
	t.Helper()
	v := jsontext.Value(p)
	if err := v.Canonicalize(); err != nil {
		t.Fatalf("%v in %s", err, p)
	}
	_ = v.Indent(jsontext.WithIndent("  "))
	return string(v)
}

// recordings calls f for every recording of a conversion.
func recordings(t *testing.T, c *Conversion, f func(t *testing.T, r *recording)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", string(c.From)+"."+string(c.To), "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings of %s to %s", c.From, c.To)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { f(t, readRecording(t, path)) })
	}
}

// ask converts a request, and stamps the answer.
func ask(t testing.TB, c *Conversion, request string) (*Converted, error) {
	t.Helper()
	d, err := jsonedit.Index([]byte(request), jsonedit.Options{})
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	out, err := c.Request(d)
	if err != nil {
		return nil, err
	}
	out.Answer.(interface{ Stamp(string, int64) }).Stamp("stamped", 1700000000)
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

func TestRecordedExchangesAreConverted(t *testing.T) {
	for _, c := range both {
		t.Run(fmt.Sprintf("%s to %s", c.From, c.To), func(t *testing.T) {
			recordings(t, c, func(t *testing.T, r *recording) {
				request := r.sections["request"]
				out, err := ask(t, c, request)
				if err != nil {
					var e *Error
					if !errors.As(err, &e) || e.Status != 400 {
						t.Fatalf("got %v (%T), want an *Error with status 400", err, err)
					}
					r.want(t, "request", "refused", e.Text+"\n")
				} else {
					r.want(t, "request", "converted", indent(t, string(out.Body)))
				}
				for _, name := range slices.Clone(r.names) {
					if out == nil {
						break
					}
					again, _ := ask(t, c, request)
					status, isError := strings.CutPrefix(name, "error ")
					n, notNumber := strconv.Atoi(status)
					switch {
					case name == "answer":
						whole, err := again.Answer.Whole([]byte(r.sections[name]))
						if err != nil {
							r.want(t, name, "whole refused", err.Error()+"\n")
							continue
						}
						r.want(t, name, "whole", indent(t, string(whole)))
					case isError && notNumber == nil:
						r.want(t, name, name+" converted", indent(t, string(again.Answer.Error(n, []byte(r.sections[name])))))
					case name == "stream":
						r.want(t, name, "events", stream(again.Answer, []byte(r.sections[name])))
					}
				}
				r.save(t)
			})
		})
	}
}

func TestEveryCutOfAStreamGivesTheSameEvents(t *testing.T) {
	for _, c := range both {
		recordings(t, c, func(t *testing.T, r *recording) {
			in, ok := r.sections["stream"]
			if !ok {
				return
			}
			fresh := func() Answer {
				out, err := ask(t, c, r.sections["request"])
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
		recordings(t, c, func(t *testing.T, r *recording) {
			in, ok := r.sections["stream"]
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
					out, err := ask(t, c, r.sections["request"])
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

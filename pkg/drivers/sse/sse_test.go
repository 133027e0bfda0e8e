package sse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// feed returns the data of the events, what could be passed on, and what was held back.
func feed(pieces ...string) (list []string, passed, held string) {
	var s Splitter
	for _, p := range pieces {
		passed += string(s.Feed([]byte(p), func(data []byte) { list = append(list, string(data)) }))
	}
	return list, passed, string(s.Rest())
}

var streams = map[string]struct {
	stream string
	want   []string
	held   string
}{
	"two events":                          {"data: a\n\ndata: b\n\n", []string{"a", "b"}, ""},
	"lines that end in CR LF":             {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, ""},
	"lines that end in CR":                {"data: a\rdata: b\r\rid: 1\rdata: c\r\r", []string{"a\nb", "c"}, ""},
	"a CR within an event of LF lines":    {"data: a\rdata: b\n\n", []string{"a\nb"}, ""},
	"CR after CR LF":                      {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", []string{"a", "b", "c"}, ""},
	"no space after the colon":            {"data:a\n\n", []string{"a"}, ""},
	"several data lines are joined":       {"data: a\ndata: b\n\n", []string{"a\nb"}, ""},
	"names and comments are no data":      {": hi\n\nevent: x\nid: 1\ndata: a\n\n", []string{"a"}, ""},
	"an event that is cut is not given":   {"data: a\n\ndata: b", []string{"a"}, "data: b"},
	"an end that is half there is no end": {"data: a\n", nil, "data: a\n"},
	"an event that is only comments":      {": ping\n\n", nil, ""},
	"a text that is no stream of events":  {"{\"a\": 1}", nil, "{\"a\": 1}"},
	"more empty lines than needed":        {"data: a\n\n\n\ndata: b\n\n", []string{"a", "b"}, ""},
	"a mark of byte order before it all":  {"\uFEFFdata: a\n\ndata: b\n\n", []string{"a", "b"}, ""},
	"such a mark further on":              {"data: a\n\n\uFEFFdata: b\n\n", []string{"a"}, ""},
	"nothing":                             {"", nil, ""},
}

func TestEventsAreTheSameForEverySplit(t *testing.T) {
	for name, tt := range streams {
		t.Run(name, func(t *testing.T) {
			for i := 0; i <= len(tt.stream); i++ {
				for j := i; j <= len(tt.stream); j++ {
					got, passed, held := feed(tt.stream[:i], tt.stream[i:j], tt.stream[j:])
					if diff := cmp.Diff(tt.want, got); diff != "" {
						t.Fatalf("split at %d and %d: %s", i, j, diff)
					}
					if passed+held != tt.stream {
						t.Fatalf("split at %d and %d: passed on %q and held back %q of %q", i, j, passed, held, tt.stream)
					}
					if held != tt.held {
						t.Fatalf("split at %d and %d: held back %q, want %q", i, j, held, tt.held)
					}
				}
			}
			var bytewise []string
			for i := range len(tt.stream) {
				bytewise = append(bytewise, tt.stream[i:i+1])
			}
			got, _, _ := feed(bytewise...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

func TestAnEndlessEventIsPassedOnInParts(t *testing.T) {
	piece := strings.Repeat("x", MaxEvent/3)
	stream := []string{"data: a\n\ndata: ", piece, piece, piece, piece, "\n", "\ndata: b\n\n"}
	got, passed, held := feed(stream...)
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
	if passed != strings.Join(stream, "") || held != "" {
		t.Errorf("passed on %d bytes and held back %d", len(passed), len(held))
	}
}

func TestTornTellsThatPartOfAnEventWasPassedOn(t *testing.T) {
	var s Splitter
	none := func([]byte) {}
	s.Feed([]byte("data: a"), none)
	if s.Torn() {
		t.Error("got torn while everything is held back")
	}
	s.Feed(make([]byte, MaxEvent), none)
	if !s.Torn() {
		t.Error("got not torn after a part was passed on")
	}
	s.Feed([]byte("\n\n"), none)
	if s.Torn() {
		t.Error("got torn after the event's end")
	}
}

func TestCloseCountsTheLastEventWithoutItsEmptyLine(t *testing.T) {
	var s Splitter
	var got []string
	event := func(data []byte) { got = append(got, string(data)) }
	s.Feed([]byte("data: a\n\ndata: [DONE]\n"), event)
	rest := s.Close(event)
	if diff := cmp.Diff([]string{"a", "[DONE]"}, got); diff != "" || string(rest) != "data: [DONE]\n" {
		t.Errorf("rest %q: %s", rest, diff)
	}
}

func TestADroppedEventIsLeftOutWhateverTheCuts(t *testing.T) {
	for name, stream := range map[string]string{
		"LF":    "data: a\n\ndata: no\n\n: ping\n\ndata: b\n\ndata: no\n\ndata: no\n\ndata: c\n\ndata: no",
		"CR LF": "data: a\r\n\r\ndata: no\r\n\r\n: ping\r\n\r\ndata: b\r\n\r\ndata: no\r\n\r\ndata: no\r\n\r\ndata: c\r\n\r\ndata: no",
	} {
		t.Run(name, func(t *testing.T) {
			end := strings.ReplaceAll("\n\n", "\n", map[string]string{"LF": "\n", "CR LF": "\r\n"}[name])
			want := strings.ReplaceAll(stream, "data: no"+end, "")
			want = strings.TrimSuffix(want, "data: no")
			for a := range stream {
				var s Splitter
				passed := ""
				event := func(data []byte) {
					if string(data) == "no" {
						s.Drop()
					}
				}
				for _, piece := range []string{stream[:a], stream[a:]} {
					passed += string(s.Feed([]byte(piece), event))
				}
				if passed += string(s.Close(event)); passed != want {
					t.Fatalf("cut at %d: got %q, want %q", a, passed, want)
				}
			}
		})
	}
}

func TestAppendEventIsReadBack(t *testing.T) {
	got, _, _ := feed(string(AppendEvent(AppendEvent(nil, []byte("a\nb")), []byte(`{"x":1}`))))
	if diff := cmp.Diff([]string{"a\nb", `{"x":1}`}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzEventsDoNotDependOnTheSplit(f *testing.F) {
	for _, tt := range streams {
		f.Add(tt.stream, 3, 5)
	}
	f.Fuzz(func(t *testing.T, stream string, a, b int) {
		a, b = min(max(a, 0), len(stream)), min(max(b, 0), len(stream))
		if a > b {
			a, b = b, a
		}
		want, _, wantHeld := feed(stream)
		got, passed, held := feed(stream[:a], stream[a:b], stream[b:])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q at %d, %d: %s", stream, a, b, diff)
		}
		// Of empty lines that follow one another some may be held back, others not.
		if passed+held != stream || strings.TrimLeft(held, "\r\n") != strings.TrimLeft(wantHeld, "\r\n") {
			t.Fatalf("%q at %d, %d: passed on %q, held back %q, in one piece %q", stream, a, b, passed, held, wantHeld)
		}
	})
}

// provider is a stream as providers send it: one event in each read, or several.
func provider(events int) []byte {
	return []byte(strings.Repeat(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}`+"\n\n", events))
}

func TestWholeEventsAreFoundWithoutAllocating(t *testing.T) {
	var s Splitter
	n := 0
	count := func([]byte) { n++ }
	piece := provider(3)
	if got := testing.AllocsPerRun(100, func() { s.Feed(piece, count) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
	if n != 3*101 { // once more than it counts, to warm up
		t.Errorf("got %d events", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	for _, events := range []int{1, 20} {
		whole := provider(events)
		half := len(whole) - 40
		for name, pieces := range map[string][][]byte{"whole": {whole}, "cut": {whole[:half], whole[half:]}} {
			b.Run(fmt.Sprintf("%d/%s", events, name), func(b *testing.B) {
				var s Splitter
				n := 0
				count := func([]byte) { n++ }
				b.SetBytes(int64(len(whole)))
				b.ReportAllocs()
				for b.Loop() {
					for _, p := range pieces {
						s.Feed(p, count)
					}
				}
				if n == 0 || len(s.Rest()) != 0 {
					b.Fatal("events are lost")
				}
			})
		}
	}
}

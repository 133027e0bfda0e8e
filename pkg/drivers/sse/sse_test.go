package sse

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func events(pieces ...string) (list []string, pending bool) {
	var s Scanner
	for _, p := range pieces {
		s.Feed([]byte(p), func(data []byte) { list = append(list, string(data)) })
	}
	return list, s.Pending()
}

var streams = map[string]struct {
	stream  string
	want    []string
	pending bool
}{
	"two events":                          {"data: a\n\ndata: b\n\n", []string{"a", "b"}, false},
	"lines that end in CR LF":             {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, false},
	"no space after the colon":            {"data:a\n\n", []string{"a"}, false},
	"several data lines are joined":       {"data: a\ndata: b\n\n", []string{"a\nb"}, false},
	"names and comments are no data":      {": hi\n\nevent: x\nid: 1\ndata: a\n\n", []string{"a"}, false},
	"an event that is cut is not given":   {"data: a\n\ndata: b", []string{"a"}, true},
	"an end that is half there is no end": {"data: a\n", nil, true},
	"more empty lines than needed":        {"data: a\n\n\n\ndata: b\n\n", []string{"a", "b"}, false},
	"nothing":                             {"", nil, false},
}

func TestEventsAreTheSameForEverySplit(t *testing.T) {
	for name, tt := range streams {
		t.Run(name, func(t *testing.T) {
			for i := 0; i <= len(tt.stream); i++ {
				for j := i; j <= len(tt.stream); j++ {
					got, pending := events(tt.stream[:i], tt.stream[i:j], tt.stream[j:])
					if diff := cmp.Diff(tt.want, got); diff != "" || pending != tt.pending {
						t.Fatalf("split at %d and %d: pending %v: %s", i, j, pending, diff)
					}
				}
			}
			var bytewise []string
			for i := range tt.stream {
				bytewise = append(bytewise, tt.stream[i:i+1])
			}
			got, _ := events(bytewise...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

func TestAnEndlessEventIsPassedOver(t *testing.T) {
	piece := strings.Repeat("x", 300<<10)
	got, _ := events("data: a\n\ndata: ", piece, piece, piece, piece, "\n\ndata: b\n\n")
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAppendEventIsReadBack(t *testing.T) {
	got, _ := events(string(AppendEvent(AppendEvent(nil, []byte("a\nb")), []byte(`{"x":1}`))))
	if diff := cmp.Diff([]string{"a\nb", `{"x":1}`}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzScannerDoesNotDependOnTheSplit(f *testing.F) {
	for _, tt := range streams {
		f.Add(tt.stream, 3, 5)
	}
	f.Fuzz(func(t *testing.T, stream string, a, b int) {
		a, b = min(max(a, 0), len(stream)), min(max(b, 0), len(stream))
		if a > b {
			a, b = b, a
		}
		want, _ := events(stream)
		got, _ := events(stream[:a], stream[a:b], stream[b:])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q at %d, %d: %s", stream, a, b, diff)
		}
	})
}

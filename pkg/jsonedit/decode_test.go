package jsonedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// library is what encoding/json makes of a document that Check takes.
func library(t *testing.T, p []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", p, err)
	}
	return v
}

func FuzzDecodeAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, o := range []Options{{MaxDepth: 5000}, {MaxDepth: 5000, Duplicates: true}, {}} {
			want := Check(p, o)
			before := bytes.Clone(p)
			got, err := Decode(p, o)
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Fatalf("%q: %v, a check says %v", p, err, want)
			}
			if err != nil {
				continue
			}
			was := library(t, p)
			clear(p) // whoever aliases it shows now
			if !reflect.DeepEqual(got, was) {
				t.Fatalf("%q: got %#v, want %#v", before, got, was)
			}
			copy(p, before)
		}
	})
}

func TestDecode(t *testing.T) {
	long := strings.Repeat("long ", 10)
	for _, doc := range []string{
		`null`, ` true `, `false`, `"a"`, `""`, `"a\u0041\n"`, `-0`, `12345678901234567890123456789`, `1e400`, `[]`, `{}`, `[1,[2,[]],{}]`,
		`{"a":{"b":[null,"a",1,true]},"":"","` + long + `":"` + long + `","\u0061\t":1}`, `{"a":1,"b":2,"a":{"c":3}}`,
	} {
		// Twice: what is kept of the first time is used the second time.
		for range 2 {
			if got, err := Decode([]byte(doc), Options{}); err != nil || !reflect.DeepEqual(got, library(t, []byte(doc))) {
				t.Errorf("%s: got %#v, %v", doc, got, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	twice := new(DuplicateError)
	if _, err := Decode([]byte(`{"b":{"a":1,"\u0061":2}}`), Options{Duplicates: true}); !errors.As(err, &twice) || twice.Member != "a" || twice.Offset != 12 {
		t.Errorf("got %v", err)
	}
	for _, doc := range []string{
		"", " ", `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{a:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a\q":1}`, `["a\q"]`, `[`, `[1`, `[1,`, `[1 2]`, `01`, `tru`,
		`nul`, `fals`, `+1`, `1 2`, `{"a":01}`, `[{]`, strings.Repeat("[", 65), strings.Repeat(`{"a":`, 65), "\"\xff\"",
	} {
		_, err := Decode([]byte(doc), Options{})
		if want := Check([]byte(doc), Options{}); err == nil || err.Error() != want.Error() {
			t.Errorf("%q: got %v, want %v", doc, err, want)
		}
	}
}

func TestWhatIsKnownIsNotRead(t *testing.T) {
	k := Known{Name: "u", Text: []byte(`{"a":{}}`), Value: "known"}
	object := map[string]any{"a": map[string]any{}}
	for doc, want := range map[string]any{
		`{"u": {"a":{}} ,"b":1}`:      map[string]any{"u": "known", "b": json.Number("1")},
		`{"\u0075":{"a":{}}}`:         map[string]any{"u": "known"},
		`{"u":{"a":{}},"u":1}`:        map[string]any{"u": json.Number("1")},
		`{"v":{"a":{}}}`:              map[string]any{"v": object},
		`{"v":{"u":{"a":{}}}}`:        map[string]any{"v": map[string]any{"u": object}},
		`[{"u":{"a":{}}}]`:            []any{map[string]any{"u": object}},
		`{"u":{"a":{} }}`:             map[string]any{"u": object},
		`{"u":{"a":{"b":1}}}`:         map[string]any{"u": map[string]any{"a": map[string]any{"b": json.Number("1")}}},
		`{"u":{"a":{}},"b":{"a":{}}}`: map[string]any{"u": "known", "b": object},
	} {
		if got, err := DecodeKnown([]byte(doc), Options{}, k); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v, want %v", doc, got, err, want)
		}
	}
	for doc, want := range map[string]string{
		`{"u":{"a":{}}`:         "Expected comma or object end but found T_END at character 14",
		`{"u":{"a":{}}}}`:       "Expected the end but found T_OBJ_END at character 15",
		`{"u":{"a":{}},"u":1}`:  `duplicate member "u" at character 15`,
		`{"u":{"a":{}},"b":01}`: "Expected value but found invalid number at character 19",
	} {
		if _, err := DecodeKnown([]byte(doc), Options{Duplicates: true}, k); fmt.Sprint(err) != want {
			t.Errorf("%s: got %v, want %s", doc, err, want)
		}
	}
}

// What is kept between documents is one goroutine's at a time.
func TestDecodeAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 500 {
				doc := fmt.Sprintf(`{"w":"worker %d","n%d":%d,"same":"same"}`, w, i, i)
				got, err := Decode([]byte(doc), Options{})
				want := map[string]any{"w": fmt.Sprintf("worker %d", w), fmt.Sprintf("n%d", i): json.Number(fmt.Sprint(i)), "same": "same"}
				if err != nil || !reflect.DeepEqual(got, any(want)) {
					t.Errorf("got %v, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

const storedRoute = `{"id":"r%d","uri":"/r/%d","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:18080":1}},"create_time":1700000000,"update_time":1700000000}`

func BenchmarkDecode(b *testing.B) {
	docs := make([][]byte, 1000)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, storedRoute, i, i)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := Decode(docs[i%len(docs)], Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			var v any
			d := json.NewDecoder(bytes.NewReader(docs[i%len(docs)]))
			d.UseNumber()
			if err := d.Decode(&v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

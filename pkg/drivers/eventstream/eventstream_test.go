package eventstream

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The documented layout, byte by byte: total length, headers' length, their CRC; headers of
// a name's length, a name, a type, a value's length and a value; payload; CRC.
const (
	startBytes = "00000076" + "00000052" + "96d5fade" +
		"0b" + "3a6576656e742d74797065" + "07" + "000c" + "6d6573736167655374617274" + // :event-type messageStart
		"0d" + "3a636f6e74656e742d74797065" + "07" + "0010" + "6170706c69636174696f6e2f6a736f6e" + // :content-type application/json
		"0d" + "3a6d6573736167652d74797065" + "07" + "0005" + "6576656e74" + // :message-type event
		"7b22726f6c65223a22617373697374616e74227d" + // {"role":"assistant"}
		"6fa8c599"
	throttledBytes = "00000088" + "00000061" + "de0175f4" +
		"0f" + "3a657863657074696f6e2d74797065" + "07" + "0013" + "7468726f74746c696e67457863657074696f6e" +
		"0d" + "3a636f6e74656e742d74797065" + "07" + "0010" + "6170706c69636174696f6e2f6a736f6e" +
		"0d" + "3a6d6573736167652d74797065" + "07" + "0009" + "657863657074696f6e" +
		"7b226d657373616765223a22736c6f7720646f776e227d" + // {"message":"slow down"}
		"832ee072"
	emptyBytes = "00000010" + "00000000" + "05c248eb" + "7d98c8ff"
	// valuesBytes has a header of every type of value, among which the two that count.
	valuesBytes = "0000007f" + "0000006d" + "2da3b592" +
		"017400" + "016601" + "01620201" + "0173030001" + "01690400000001" + "016c050000000000000000" +
		"0179060003616263" + "0164080000000000000000" + "01750900000000000000000000000000000000" +
		"0d" + "3a6d6573736167652d74797065" + "07" + "0005" + "6576656e74" +
		"0b" + "3a6576656e742d74797065" + "07" + "0001" + "78" +
		"7b7d" + "c055f2d2"
)

var (
	start     = Message{Type: Event, Kind: "messageStart", ContentType: "application/json", Payload: []byte(`{"role":"assistant"}`)}
	throttled = Message{
		Type: Exception, Kind: "throttlingException", ContentType: "application/json", Payload: []byte(`{"message":"slow down"}`),
	}
)

func decode(t testing.TB, text string) []byte {
	t.Helper()
	p, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// result is what becomes of a stream.
type result struct {
	List         []Message
	Passed, Held string
	Err          string
}

func feed(pieces ...[]byte) (r result) {
	var s Splitter
	for _, p := range pieces {
		ready, err := s.Feed(append([]byte(nil), p...), func(m Message) {
			m.Payload = append([]byte{}, m.Payload...)
			r.List = append(r.List, m)
		})
		r.Passed += string(ready)
		if r.Err == "" && err != nil {
			r.Err = err.Error()
		}
	}
	r.Held = string(s.Rest())
	return r
}

func TestMessagesAreReadAsDocumented(t *testing.T) {
	tests := map[string]struct {
		bytes string
		want  Message
	}{
		"an event":                         {startBytes, start},
		"an exception":                     {throttledBytes, throttled},
		"a message of nothing":             {emptyBytes, Message{Payload: []byte{}}},
		"values that are no text are none": {valuesBytes, Message{Type: Event, Kind: "x", Payload: []byte("{}")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := decode(t, tt.bytes)
			if diff := cmp.Diff(result{List: []Message{tt.want}, Passed: string(p)}, feed(p)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMessagesAreWrittenAsDocumented(t *testing.T) {
	for want, m := range map[string]Message{startBytes: start, throttledBytes: throttled, emptyBytes: {}} {
		if got := hex.EncodeToString(AppendMessage(nil, m)); got != want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", m.Type, m.Kind, got, want)
		}
	}
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	want := []Message{
		start, throttled,
		{Type: Failure, Kind: "InternalError", Text: "it broke", Payload: []byte{}},
		{Type: "other", Kind: "x", Payload: []byte{}},
	}
	stream := []byte("before")
	for _, m := range want {
		stream = AppendMessage(stream, m)
	}
	if diff := cmp.Diff(want, feed(stream[len("before"):]).List); diff != "" {
		t.Error(diff)
	}
}

func TestATextThatNoHeaderCanCarryIsCut(t *testing.T) {
	got := feed(AppendMessage(nil, Message{Type: Failure, Text: strings.Repeat("x", 1<<16)}))
	if len(got.List) != 1 || len(got.List[0].Text) != 1<<16-1 {
		t.Errorf("got %d messages, %q", len(got.List), got.Err)
	}
}

// broken returns a message with the CRCs of its bytes, whatever those are.
func broken(size, headers uint32, rest string) []byte {
	p := binary.BigEndian.AppendUint32(nil, size)
	p = binary.BigEndian.AppendUint32(p, headers)
	p = binary.BigEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
	p = append(p, rest...)
	return binary.BigEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
}

var bad = map[string]struct {
	stream func(t testing.TB) []byte
	err    string
}{
	"a text that is no event stream": {
		func(testing.TB) []byte { return []byte("<html><body>") }, "event stream: the prelude's checksum is wrong",
	},
	"a bit of a prelude": {
		func(t testing.TB) []byte { p := decode(t, startBytes); p[3] ^= 1; return p }, "event stream: the prelude's checksum is wrong",
	},
	"a bit of a payload": {
		func(t testing.TB) []byte { p := decode(t, startBytes); p[len(p)-5] ^= 1; return p }, "event stream: a message's checksum is wrong",
	},
	"a message that is too long": {
		func(testing.TB) []byte { return broken(MaxMessage+1, 0, "") },
		"event stream: message of 16777217 bytes, at most 16777216 are allowed",
	},
	"a message that is too short": {
		func(testing.TB) []byte { return broken(15, 0, "") }, "event stream: message of 15 bytes with headers of 0",
	},
	"headers that are longer than their message": {
		func(testing.TB) []byte { return broken(20, 5, "aaaa") }, "event stream: message of 20 bytes with headers of 5",
	},
	"a header's name without an end": {
		func(testing.TB) []byte { return broken(20, 4, "\x03abc") }, "event stream: headers end within a header",
	},
	"a header's type nobody knows": {
		func(testing.TB) []byte { return broken(20, 4, "\x01a\x0a\x00") }, "event stream: headers end within a header",
	},
	"a header's value without a length": {
		func(testing.TB) []byte { return broken(20, 4, "\x01a\x07\x00") }, "event stream: headers end within a header",
	},
	"a header's value without an end": {
		func(testing.TB) []byte { return broken(22, 6, "\x01a\x07\x00\x02a") }, "event stream: headers end within a header",
	},
}

func TestWhatIsNoEventStreamIsAnError(t *testing.T) {
	for name, tt := range bad {
		t.Run(name, func(t *testing.T) {
			first, wrong, next := decode(t, startBytes), tt.stream(t), decode(t, emptyBytes)
			for cut := range wrong {
				got := feed(first, wrong[:cut], wrong[cut:], next)
				want := result{List: []Message{start}, Passed: string(first), Err: tt.err}
				got.Held = ""
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("cut at %d: %s", cut, diff)
				}
			}
		})
	}
}

func TestMessagesAreTheSameForEverySplit(t *testing.T) {
	stream := decode(t, startBytes+emptyBytes+throttledBytes)
	cut := append(stream[:len(stream):len(stream)], decode(t, valuesBytes)[:40]...)
	for name, stream := range map[string][]byte{"a whole stream": stream, "one that is cut": cut} {
		t.Run(name, func(t *testing.T) {
			want := feed(stream)
			if len(want.List) != 3 || want.Err != "" || want.Passed+want.Held != string(stream) {
				t.Fatalf("got %+v", want)
			}
			for i := 0; i <= len(stream); i++ {
				for j := i; j <= len(stream); j++ {
					// Of so many pairs only one that fails is worth the time of a comparison in words.
					if got := feed(stream[:i], stream[i:j], stream[j:]); !reflect.DeepEqual(want, got) {
						t.Fatalf("split at %d and %d: %s", i, j, cmp.Diff(want, got))
					}
				}
			}
			var single [][]byte
			for i := range stream {
				single = append(single, stream[i:i+1])
			}
			if diff := cmp.Diff(want, feed(single...)); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

func TestMessagesOfTheSameKindTakeNoMemory(t *testing.T) {
	stream := append(decode(t, startBytes), decode(t, startBytes)...)
	var s Splitter
	n := 0
	count := func(Message) { n++ }
	got := testing.AllocsPerRun(100, func() { _, _ = s.Feed(stream, count) })
	if got != 0 || n == 0 {
		t.Errorf("got %v allocations for %d messages", got, n)
	}
}

func FuzzMessagesDoNotDependOnTheSplit(f *testing.F) {
	whole := decode(f, startBytes+throttledBytes+emptyBytes+valuesBytes)
	f.Add(whole, 5, 130)
	f.Add(whole[:100], 12, 99)
	for _, tt := range bad {
		f.Add(tt.stream(f), 3, 12)
	}
	f.Fuzz(func(t *testing.T, stream []byte, a, b int) {
		a, b = min(max(a, 0), len(stream)), min(max(b, 0), len(stream))
		if a > b {
			a, b = b, a
		}
		want := feed(stream)
		got := feed(stream[:a], stream[a:b], stream[b:])
		if want.Err != "" {
			got.Held, want.Held = "", "" // nothing of that is passed on
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q at %d, %d: %s", stream, a, b, diff)
		}
		if want.Err == "" && want.Passed+want.Held != string(stream) {
			t.Fatalf("%q: passed on %q, held back %q", stream, want.Passed, want.Held)
		}
	})
}

// Random bytes have no good checksums, so this one makes messages of them.
func FuzzMessagesAreReadBack(f *testing.F) {
	f.Add("event", "messageStart", "application/json", "", []byte("{}"))
	f.Add("exception", "throttlingException", "", "", []byte(`{"message":"x"}`))
	f.Add("error", "code", "", "text", []byte{})
	f.Fuzz(func(t *testing.T, kind, name, content, text string, payload []byte) {
		if len(kind)+len(name)+len(content)+len(text) > 1<<16-1 {
			t.Skip("texts are cut")
		}
		m := Message{Type: kind, Kind: name, ContentType: content, Text: text, Payload: payload}
		got := feed(AppendMessage(nil, m))
		if got.Err != "" || len(got.List) != 1 {
			t.Fatalf("%+v: got %+v", m, got)
		}
		back := got.List[0]
		if !bytes.Equal(back.Payload, payload) {
			t.Fatalf("%q: got %q", payload, back.Payload)
		}
		if back.Payload = m.Payload; !cmp.Equal(m, back) {
			t.Fatal(cmp.Diff(m, back))
		}
	})
}

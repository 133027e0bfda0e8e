package exchange_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

func streamed(text string, length int64) *exchange.Body {
	b := new(exchange.Body)
	b.SetSource(strings.NewReader(text), length)
	return b
}

func TestBodyIsReadOnce(t *testing.T) {
	long := strings.Repeat("0123456789", 1<<18) // above every step of allocation
	for _, tt := range []struct {
		name, text string
		length     int64
	}{
		{"of known length", "hello", 5},
		{"of unknown length", "hello", -1},
		{"long and of known length", long, int64(len(long))},
		{"long and of unknown length", long, -1},
		{"empty and of unknown length", "", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := streamed(tt.text, tt.length)
			if b.Buffered() {
				t.Error("buffered before it was read")
			}
			if got := b.Length(); got != tt.length {
				t.Errorf("Length: got %d, want %d", got, tt.length)
			}
			for range 2 {
				if got, err := b.Bytes(0); err != nil || string(got) != tt.text {
					t.Fatalf("Bytes: got %d bytes, %v, want %d", len(got), err, len(tt.text))
				}
			}
			if !b.Buffered() || b.Length() != int64(len(tt.text)) || b.Changed() {
				t.Errorf("afterwards: buffered %v, length %d, changed %v", b.Buffered(), b.Length(), b.Changed())
			}
			for range 2 {
				if got, err := io.ReadAll(b.Reader()); err != nil || string(got) != tt.text {
					t.Fatalf("Reader: got %d bytes, %v", len(got), err)
				}
			}
		})
	}
}

func TestABodyThatIsNotThereIsEmpty(t *testing.T) {
	none, zero := new(exchange.Body), new(exchange.Body)
	none.SetSource(nil, 0)
	announced := streamed("", 0)
	for name, b := range map[string]*exchange.Body{"the zero value": zero, "no source": none, "length 0": announced} {
		if got, err := b.Bytes(1); err != nil || len(got) != 0 || !b.Buffered() || b.Length() != 0 {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if got, err := io.ReadAll(b.Reader()); err != nil || len(got) != 0 {
			t.Errorf("%s: Reader got %q, %v", name, got, err)
		}
	}
	zero.Set(nil)
	if got, err := zero.Bytes(0); err != nil || len(got) != 0 {
		t.Errorf("set to nothing: got %q, %v", got, err)
	}
}

func TestBodyLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		length int64
		limit  int64
		size   int64 // in the error; 0: none
	}{
		{"no limit", 5, 0, 0},
		{"at the limit", 5, 5, 0},
		{"at the limit, of unknown length", -1, 5, 0},
		{"announced above the limit", 5, 4, 5},
		{"above the limit, of unknown length", -1, 4, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := streamed("hello", tt.length)
			got, err := b.Bytes(tt.limit)
			var large *exchange.TooLargeError
			switch {
			case tt.size == 0 && (err != nil || string(got) != "hello"):
				t.Fatalf("got %q, %v", got, err)
			case tt.size != 0 && (!errors.As(err, &large) || large.Size != tt.size || large.Max != tt.limit):
				t.Fatalf("got %q, %v, want size %d above %d", got, err, tt.size, tt.limit)
			}
			// Whoever has no such limit still gets the body, whole.
			if got, err := b.Bytes(0); err != nil || string(got) != "hello" {
				t.Errorf("without a limit: got %q, %v", got, err)
			}
		})
	}
}

func TestBodyAboveALimitIsStillStreamed(t *testing.T) {
	b := new(exchange.Body)
	b.SetSource(iotest.OneByteReader(strings.NewReader("hello")), -1)
	if _, err := b.Bytes(2); err == nil {
		t.Fatal("a body above the limit was read")
	}
	if _, err := b.Bytes(2); err == nil {
		t.Fatal("the second reading forgot the limit")
	}
	if b.Buffered() {
		t.Error("half a body passes for a whole one")
	}
	if got, err := io.ReadAll(b.Reader()); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := b.Bytes(0); !errors.Is(err, exchange.ErrBodyTaken) {
		t.Errorf("after streaming: got %v, want %v", err, exchange.ErrBodyTaken)
	}
}

func TestTheTextOfALimitIsTheReferences(t *testing.T) {
	const want = "request size 5 is greater than the maximum size 4 allowed"
	if got := (&exchange.TooLargeError{Size: 5, Max: 4}).Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestABodyIsStreamedOnce(t *testing.T) {
	b := streamed("hello", 5)
	if got, err := io.ReadAll(b.Reader()); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := io.ReadAll(b.Reader()); !errors.Is(err, exchange.ErrBodyTaken) {
		t.Errorf("streaming again: got %v, want %v", err, exchange.ErrBodyTaken)
	}
	if _, err := b.Bytes(0); !errors.Is(err, exchange.ErrBodyTaken) {
		t.Errorf("buffering: got %v, want %v", err, exchange.ErrBodyTaken)
	}
}

func TestABodyThatBreaksOffStaysBroken(t *testing.T) {
	broken := errors.New("connection reset")
	b := new(exchange.Body)
	b.SetSource(io.MultiReader(strings.NewReader("he"), iotest.ErrReader(broken)), 5)
	for range 2 {
		if _, err := b.Bytes(0); !errors.Is(err, broken) {
			t.Errorf("Bytes: got %v, want %v", err, broken)
		}
	}
	if got, err := io.ReadAll(b.Reader()); !errors.Is(err, broken) {
		t.Errorf("Reader: got %q, %v, want %v", got, err, broken)
	}
}

func TestSetReplacesWhatWasRead(t *testing.T) {
	b := streamed(`{"a":1}`, -1)
	if _, err := b.JSON(0, jsonedit.Options{}); err != nil {
		t.Fatal(err)
	}
	first, _ := b.Memo(0, func(p []byte) any { return string(p) })
	b.Set([]byte(`{"a":2}`))
	if !b.Changed() || b.Length() != 7 {
		t.Errorf("changed %v, length %d", b.Changed(), b.Length())
	}
	doc, err := b.JSON(0, jsonedit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if raw, _, _ := doc.Get("a"); string(raw) != "2" {
		t.Errorf("JSON: got %s, want 2", raw)
	}
	if second, _ := b.Memo(0, func(p []byte) any { return string(p) }); first == second {
		t.Errorf("Memo: got %v again", second)
	}
}

func TestReadersShareOneIndex(t *testing.T) {
	b := streamed(`{"a":1}`, -1)
	one, err := b.JSON(0, jsonedit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if two, _ := b.JSON(0, jsonedit.Options{}); one != two {
		t.Error("the second reader got an index of its own")
	}
	calls := 0
	for range 2 {
		_, _ = b.Memo(0, func([]byte) any { calls++; return calls })
	}
	if calls != 1 {
		t.Errorf("parsed %d times, want once", calls)
	}
}

func TestAStrictReaderDoesNotGetALaxIndex(t *testing.T) {
	b := streamed(`{"a":1,"a":2}`, -1)
	if _, err := b.JSON(0, jsonedit.Options{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var twice *jsonedit.DuplicateError
		if doc, err := b.JSON(0, jsonedit.Options{Duplicates: true}); doc != nil || !errors.As(err, &twice) {
			t.Errorf("got %v, %v, want a duplicate", doc, err)
		}
	}
	if _, err := b.JSON(0, jsonedit.Options{}); err != nil {
		t.Errorf("lax again: %v", err)
	}
	if doc, err := b.JSON(3, jsonedit.Options{}); doc != nil || err == nil {
		t.Errorf("above the limit: got %v, %v", doc, err)
	}
	if _, err := b.Memo(3, func([]byte) any { return 1 }); err == nil {
		t.Error("Memo above the limit: got no error")
	}
}

type breakable struct {
	strings.Reader
	broken bool
}

func (b *breakable) Interrupt() { b.broken = true }

func TestAnInterruptReachesTheSource(t *testing.T) {
	var b exchange.Body
	b.Interrupt() // there is nothing to interrupt
	b.SetSource(strings.NewReader("hello"), 5)
	b.Interrupt() // nor anything that can be
	source := &breakable{Reader: *strings.NewReader("hello")}
	b.SetSource(source, 5)
	if b.Interrupt(); !source.broken {
		t.Error("the source was not interrupted")
	}
}

package nginx

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestABodyEndsWhereItsFramingSays(t *testing.T) {
	for _, tt := range []struct {
		name, text, body string
		framing          framing
		err              error
	}{
		{"no bytes", "rest", "", framing{}, nil},
		{"a length", "abcrest", "abc", framing{left: 3}, nil},
		{"a length that does not come", "ab", "ab", framing{left: 3}, io.ErrUnexpectedEOF},
		{"the end of the connection", "abc", "abc", framing{toEnd: true}, nil},
		{"chunks", "3\r\nabc\r\n0\r\n\r\nrest", "3\r\nabc\r\n0\r\n\r\n", chunkedBody(), nil},
		{"chunks with extensions and trailers", "A;x=y\r\n0123456789\r\n0\r\nX-A: b\r\n\r\nrest", "A;x=y\r\n0123456789\r\n0\r\nX-A: b\r\n\r\n", chunkedBody(), nil},
		{"a chunk that contains what looks like an end", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\nrest", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", chunkedBody(), nil},
		{"a chunk without a size", "x\r\n", "x\r\n", chunkedBody(), errFraming},
		{"a chunk longer than its size", "1\r\nabc\r\n", "1\r\nabc\r\n", chunkedBody(), errFraming},
		{"a chunk with a negative size", "-1\r\n", "-1\r\n", chunkedBody(), errFraming},
		{"chunks that do not end", "3\r\nabc\r\n", "3\r\nabc\r\n", chunkedBody(), io.ErrUnexpectedEOF},
	} {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
		} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				var out bytes.Buffer
				f := tt.framing
				in := bufio.NewReader(reader(strings.NewReader(tt.text)))
				if err := copyFramed(&out, in, &f); !errors.Is(err, tt.err) {
					t.Errorf("got %v, want %v", err, tt.err)
				}
				if out.String() != tt.body {
					t.Errorf("got %q, want %q", out.String(), tt.body)
				}
				rest, _ := io.ReadAll(in)
				if out.String()+string(rest) != tt.text {
					t.Errorf("%q and %q are not the text", out.String(), rest)
				}
			})
		}
	}
}

func FuzzFraming(f *testing.F) {
	f.Add("3\r\nabc\r\n0\r\n\r\nrest", uint8(3))
	f.Add("ffffffffffffffff\r\n", uint8(1))
	f.Fuzz(func(t *testing.T, text string, at uint8) {
		whole, parts := chunkedBody(), chunkedBody()
		n, err := whole.take([]byte(text))
		cut := min(int(at), len(text))
		a, errA := parts.take([]byte(text[:cut]))
		if errA == nil && a == cut {
			var b int
			b, errA = parts.take([]byte(text[cut:]))
			a += b
		}
		if a != n || (err == nil) != (errA == nil) || whole.done() != parts.done() {
			t.Errorf("%q: %d, %v at once; %d, %v cut at %d", text, n, err, a, errA, cut)
		}
	})
}

func TestReadHead(t *testing.T) {
	for _, tt := range []struct {
		head string
		odd  bool
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", true},
	} {
		if h := readHead([]byte(tt.head)); h.odd != tt.odd {
			t.Errorf("%q: %+v", tt.head, h)
		}
	}
}

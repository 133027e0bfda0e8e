package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

// read parses a head as a connection that has all of it does.
func read(text string) (r http1.Request, h exchange.Header, size int, err error) {
	var scan http1.Scan
	if size, err = scan.End([]byte(text)); err != nil || size == 0 {
		return r, h, size, err
	}
	return r, h, size, r.Parse([]byte(text[:size]), &h)
}

func TestHeads(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	for name, tt := range map[string]struct {
		head string
		want http1.Request
	}{
		"a plain one":                        {get, http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a"}},
		"an empty host":                      {"GET / HTTP/1.1\r\nHost:\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1"}},
		"a length":                           {get + "content-length: 12\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Length: 12}},
		"chunks":                             {get + "Transfer-Encoding: Chunked\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Length: -1, Chunked: true}},
		"white space around a value":         {get + "Content-Length: \t 3 \t\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Length: 3}},
		"a wish to close":                    {get + "Connection: x , close\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Close: true}},
		"an old one":                         {"GET / HTTP/1.0\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.0", Old: true, Close: true}},
		"an old one that stays":              {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.0", Old: true, KeepAlive: true}},
		"an old one expects nothing":         {"GET / HTTP/1.0\r\nExpect: 100-continue\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.0", Old: true, Close: true}},
		"an expectation":                     {get + "Expect: 100-Continue\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Expect: http1.ExpectContinue}},
		"one that nobody knows":              {get + "Expect: tea\r\n", http1.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "a", Expect: http1.ExpectUnknown}},
		"an absolute target":                 {"GET http://b:1/x?y HTTP/1.1\r\nHost: b:1\r\n", http1.Request{Method: "GET", Target: "http://b:1/x?y", Proto: "HTTP/1.1", Host: "b:1"}},
		"all that there is":                  {"OPTIONS * HTTP/1.1\r\nHost: a\r\n", http1.Request{Method: "OPTIONS", Target: "*", Proto: "HTTP/1.1", Host: "a"}},
		"a name that is nobody's but a name": {"CONNECT a:1 HTTP/1.1\r\n", http1.Request{Method: "CONNECT", Target: "a:1", Proto: "HTTP/1.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, h, size, err := read(tt.head + "\r\nrest")
			if err != nil || got != tt.want || size != len(tt.head)+2 {
				t.Errorf("got %+v, %d bytes, %v, want %+v, %d bytes", got, size, err, tt.want, len(tt.head)+2)
			}
			if got.Host != "" && h.Get("Host") != got.Host {
				t.Errorf("the header names %q, the request %q", h.Get("Host"), got.Host)
			}
		})
	}
}

func TestWhatIsNoHead(t *testing.T) {
	const line, host = "POST / HTTP/1.1\r\n", "Host: a\r\n"
	for name, tt := range map[string]struct {
		head   string
		status int // 0: where its lines end is in doubt already
	}{
		"a line feed alone":             {line + "Host: a\n\r\n", 0},
		"one at the beginning":          {"\n" + line, 0},
		"one at the end":                {line + host + "\n", 0},
		"an empty line first":           {"\r\n" + line + host, 400},
		"a carriage return alone":       {line + host + "X: a\rb\r\n", 400},
		"one in a name":                 {line + host + "X\r: a\r\n", 400},
		"one in the first line":         {"POST /\r HTTP/1.1\r\n" + host, 400},
		"a zero byte":                   {line + host + "X: a\x00b\r\n", 400},
		"a folded line":                 {line + host + "X: a\r\n b\r\n", 400},
		"a folded first line":           {line + " X: a\r\n" + host, 400},
		"a space before the colon":      {line + host + "X : a\r\n", 400},
		"no colon":                      {line + host + "X\r\n", 400},
		"no name":                       {line + host + ": a\r\n", 400},
		"a name that is none":           {line + host + "X(Y): a\r\n", 400},
		"no host":                       {line, 400},
		"two hosts":                     {line + host + host, 400},
		"a host that is none":           {line + "Host: a/b\r\n", 400},
		"two lengths that are alike":    {line + host + "Content-Length: 1\r\nContent-Length: 1\r\n", 400},
		"two lengths":                   {line + host + "Content-Length: 1\r\nContent-Length: 2\r\n", 400},
		"a list of lengths":             {line + host + "Content-Length: 1, 1\r\n", 400},
		"a length with a sign":          {line + host + "Content-Length: +1\r\n", 400},
		"a length below zero":           {line + host + "Content-Length: -1\r\n", 400},
		"no length":                     {line + host + "Content-Length:\r\n", 400},
		"a length of too many digits":   {line + host + "Content-Length: 1000000000000000000\r\n", 400},
		"a length in hexadecimal":       {line + host + "Content-Length: 0x1\r\n", 400},
		"length and chunks":             {line + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400},
		"chunks and length":             {line + host + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400},
		"chunks twice":                  {line + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501},
		"another coding":                {line + host + "Transfer-Encoding: gzip, chunked\r\n", 501},
		"a coding that is nearly known": {line + host + "Transfer-Encoding: xchunked\r\n", 501},
		"no coding":                     {line + host + "Transfer-Encoding:\r\n", 501},
		"chunks of HTTP/1.0":            {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400},
		"no protocol":                   {"POST /\r\n" + host, 400},
		"another protocol":              {"POST / HTTX/1.1\r\n" + host, 400},
		"a protocol in small letters":   {"POST / http/1.1\r\n" + host, 400},
		"HTTP/2":                        {"PRI * HTTP/2.0\r\n", 505},
		"HTTP/0.9":                      {"POST / HTTP/0.9\r\n" + host, 505},
		"two spaces":                    {"POST  / HTTP/1.1\r\n" + host, 400},
		"a space in the target":         {"POST /a b HTTP/1.1\r\n" + host, 400},
		"a tab for a space":             {"POST\t/ HTTP/1.1\r\n" + host, 400},
		"a method that is none":         {"PO(ST / HTTP/1.1\r\n" + host, 400},
		"no method":                     {" / HTTP/1.1\r\n" + host, 400},
		"a target without its slash":    {"POST a HTTP/1.1\r\n" + host, 400},
		"a target without a host":       {"POST http:///a HTTP/1.1\r\n" + host, 400},
		"a target of another host":      {"POST http://b/ HTTP/1.1\r\n" + host, 400},
		"an old target of no host":      {"POST http://b/ HTTP/1.0\r\n", 400},
		"a target with a user":          {"POST http://u@a/ HTTP/1.1\r\n" + host, 400},
		"a control character in it":     {"POST /\x7f HTTP/1.1\r\n" + host, 400},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := read(tt.head + "\r\n")
			refusal, ok := errors.AsType[*http1.Refusal](err)
			switch {
			case err == nil:
				t.Error("it was read")
			case tt.status == 0 && ok, tt.status != 0 && (!ok || refusal.Status != tt.status):
				t.Errorf("got %v (%T), want %d", err, err, tt.status)
			}
		})
	}
}

func TestAHeadComesInPieces(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	var scan http1.Scan
	for n := range len(head) {
		if size, err := scan.End([]byte(head[:n])); size != 0 || err != nil {
			t.Fatalf("after %d bytes: %d, %v", n, size, err)
		}
		if got, want := scan.FirstLine(), n >= 16; got != want {
			t.Errorf("after %d bytes: first line %v", n, got)
		}
	}
	if size, err := scan.End([]byte(head + "more")); size != len(head) || err != nil {
		t.Errorf("got %d, %v", size, err)
	}
}

// FuzzRequest holds that net/http reads whatever is read here, as the same request, and that one
// pass over it reads no more and no less.
func FuzzRequest(f *testing.F) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x?y=z HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nA: b\r\na:  c \r\n\r\nhello",
		"POST http://b/x HTTP/1.1\r\nHost: B\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: a\r\nConnection: close, te\r\nExpect: 100-continue\r\n\r\n",
	} {
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, h, size, err := read(text)
		var whole http1.Request
		var same exchange.Header
		if n := whole.ParseWhole([]byte(text), &same); err == nil && n != size || err != nil && n != 0 {
			t.Fatalf("in one pass %d bytes were read, in two %d, %v", n, size, err)
		} else if n > 0 && (whole != got || !slices.Equal(same.Fields(), h.Fields())) {
			t.Fatalf("in one pass %+v was read, in two %+v", whole, got)
		}
		if err != nil || size == 0 || got.Method == http.MethodConnect {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text[:size])))
		if errors.As(err, new(*url.Error)) {
			return // escapes and hosts are judged by who uses them
		}
		if err != nil && strings.Contains(err.Error(), "trailer") {
			return // trailers are dropped whatever they are announced as
		}
		if err != nil {
			t.Fatalf("net/http does not read it: %v", err)
		}
		length := want.ContentLength
		if want.Method != got.Method || want.RequestURI != got.Target || want.Proto != got.Proto || !strings.EqualFold(want.Host, got.Host) ||
			length != got.Length || got.Chunked != (len(want.TransferEncoding) > 0) || want.Close != got.Close {
			t.Fatalf("got %+v, net/http %+v", got, want)
		}
		seen := map[string]int{}
		for _, field := range h.Fields() {
			name := textproto.CanonicalMIMEHeaderKey(field.Name)
			switch name {
			case "Host", "Transfer-Encoding", "Trailer", "Pragma", "Cache-Control":
				continue
			}
			values := want.Header[name]
			if i := seen[name]; i >= len(values) || values[i] != field.Value {
				t.Fatalf("field %+v, net/http has %q", field, values)
			}
			seen[name]++
		}
	})
}

// FuzzChunks holds that net/http reads whatever is read here, as the same bytes, however the
// body comes.
func FuzzChunks(f *testing.F) {
	for _, body := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n1 \r\n!\r\n000\r\nX: y\r\n\r\n", "5\nhello\r\n0\r\n\r\n",
		"fffffffffffffff\r\n", "5\r\nhello0\r\n\r\n", "-1\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
	} {
		f.Add(body, uint8(1))
		f.Add(body, uint8(200))
	}
	f.Fuzz(func(t *testing.T, text string, step uint8) {
		got, ok := dechunk([]byte(text), int(step)+1)
		whole, whether := dechunk([]byte(text), len(text)+1)
		if ok != whether || !bytes.Equal(got, whole) && ok {
			t.Fatalf("in pieces: %q, %v, at once %q, %v", got, ok, whole, whether)
		}
		if !ok {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(text)))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, net/http %q, %v", got, want, err)
		}
	})
}

// dechunk reads a body that comes in pieces of step bytes, and reports whether it came to its end.
func dechunk(text []byte, step int) (body []byte, ok bool) {
	var c http1.Chunks
	r, w := 0, 0
	for {
		n, more, err := c.Advance(text[r:w])
		r += n
		switch {
		case err != nil:
			return body, false
		case c.Done:
			return body, true
		case more || r == w:
			if w == len(text) {
				return body, false
			}
			w = min(w+step, len(text))
			continue
		}
		n = int(min(c.Left, int64(w-r)))
		body = append(body, text[r:r+n]...)
		r += n
		c.Took(n)
	}
}

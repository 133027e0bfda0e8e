package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/exchange"
)

// script is a connection whose server sends what is written here, in these pieces.
type script struct {
	pieces [][]byte
	end    error // after the last piece; nil: io.EOF
	sent   bytes.Buffer
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	for len(s.pieces) > 0 && len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	if len(s.pieces) == 0 {
		if s.end != nil {
			return 0, s.end
		}
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.sent.Write(p) }
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// told is what a caller learns from an answer.
type told struct {
	Status  int
	Reason  string
	Fields  []exchange.Field
	Length  int64
	Framing Framing
	Body    string
	Err     string // "" when the body ended as it should
	Cut     bool   // Err is an *Error with io.ErrUnexpectedEOF
	Kept    bool   // the connection stays open
}

// ask sends a request over a scripted connection and reads the whole answer.
func ask(r Request, s *script, room int) told {
	c := NewClient(Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return s, nil }})
	defer c.Close()
	if r.Target == nil {
		r.Target = &Target{Addr: "server.test:80"}
	}
	if r.Method == "" {
		r.Method = "GET"
	}
	r.Path, r.Host = "/", "server.test"
	res, err := c.Do(context.Background(), &r)
	if err != nil {
		return told{Err: err.Error(), Cut: isCut(err), Kept: !s.closed}
	}
	got := told{Status: res.Status, Reason: res.Reason, Fields: res.Header.Fields(), Length: res.Length, Framing: res.Framing}
	var body []byte
	p := make([]byte, room)
	for {
		n, err := res.Read(p)
		body = append(body, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			got.Err, got.Cut = err.Error(), isCut(err)
			break
		}
	}
	got.Body = string(body)
	_ = res.Close()
	got.Kept = !s.closed
	return got
}

func isCut(err error) bool {
	var e *Error
	return errors.As(err, &e) && errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF)
}

var answers = map[string]struct {
	method  string
	upgrade string
	raw     string
	want    told
	refused string // part of the error; "" when the answer is good
}{
	"a body of announced length": {
		raw:  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-a: b \r\n\r\nhello",
		want: told{Status: 200, Reason: "OK", Length: 5, Framing: ByLength, Body: "hello", Kept: true},
	},
	"an announced length of nothing": {
		raw:  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		want: told{Status: 200, Reason: "OK", Framing: NoBody, Kept: true},
	},
	"the same length twice": {
		raw:  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nhi",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi", Kept: true},
	},
	"chunks with extensions and a trailer": {
		raw:  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA  \r\n, world...\r\n000\r\nX-Sum: 1\r\n\r\n",
		want: told{Status: 200, Reason: "OK", Length: -1, Framing: Chunked, Body: "hello, world...", Kept: true},
	},
	"no chunk at all": {
		raw:  "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
		want: told{Status: 200, Reason: "OK", Length: -1, Framing: Chunked, Kept: true},
	},
	"a body until the connection closes": {
		raw:  "HTTP/1.1 200 OK\r\n\r\nall of it",
		want: told{Status: 200, Reason: "OK", Length: -1, Framing: UntilClose, Body: "all of it"},
	},
	"a server that closes after the answer": {
		raw:  "HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nhi",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi"},
	},
	"HTTP/1.0 closes": {
		raw:  "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi"},
	},
	"HTTP/1.0 keeps when it says so": {
		raw:  "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi", Kept: true},
	},
	"no reason": {
		raw:  "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
		want: told{Status: 200, Framing: NoBody, Kept: true},
	},
	"204 has no body": {
		raw:  "HTTP/1.1 204 No Content\r\n\r\n",
		want: told{Status: 204, Reason: "No Content", Length: -1, Framing: NoBody, Kept: true},
	},
	"204 with a length is not trusted with another request": {
		raw:  "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
		want: told{Status: 204, Reason: "No Content", Length: -1, Framing: NoBody},
	},
	"304 may tell the length of what it does not send": {
		raw:  "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		want: told{Status: 304, Reason: "Not Modified", Length: -1, Framing: NoBody, Kept: true},
	},
	"an answer to HEAD has a length and no body": {
		method: "HEAD",
		raw:    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		want:   told{Status: 200, Reason: "OK", Length: 5, Framing: NoBody, Kept: true},
	},
	"a chunked answer to HEAD": {
		method: "HEAD",
		raw:    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		want:   told{Status: 200, Reason: "OK", Length: -1, Framing: NoBody, Kept: true},
	},
	"informational answers are skipped": {
		raw:  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi", Kept: true},
	},
	"bytes behind the end are not the next answer": {
		raw:  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n",
		want: told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "hi"},
	},
	"an upgrade that was asked for": {
		upgrade: "websocket",
		raw:     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n",
		want:    told{Status: 101, Reason: "Switching Protocols", Length: -1, Framing: NoBody},
	},
	"an upgrade that the server declines": {
		upgrade: "websocket",
		raw:     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
		want:    told{Status: 200, Reason: "OK", Length: 2, Framing: ByLength, Body: "no", Kept: true},
	},
	"an unknown status": {
		raw:  "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
		want: told{Status: 999, Reason: "What", Framing: NoBody, Kept: true},
	},

	"101 to another protocol":            {upgrade: "websocket", raw: "HTTP/1.1 101 X\r\nUpgrade: h2c\r\n\r\n", refused: "switched"},
	"101 without being asked":            {raw: "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", refused: "switched"},
	"informational answers for ever":     {raw: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), refused: "informational"},
	"length and chunks":                  {raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refused: "both"},
	"chunks and length":                  {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", refused: "both"},
	"two lengths":                        {raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", refused: "Content-Length"},
	"a list of lengths":                  {raw: "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", refused: "Content-Length"},
	"a negative length":                  {raw: "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", refused: "Content-Length"},
	"a signed length":                    {raw: "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", refused: "Content-Length"},
	"an empty length":                    {raw: "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", refused: "Content-Length"},
	"a length that overflows":            {raw: "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\nh", refused: "Content-Length"},
	"a hexadecimal length":               {raw: "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello", refused: "Content-Length"},
	"an unknown transfer coding":         {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"identity as transfer coding":        {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi", refused: "Transfer-Encoding"},
	"a coding that only ends in chunked": {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"chunked twice in one field":         {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"an empty coding":                    {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"NUL in the status line":             {raw: "HTTP/1.1 200 O\x00K\r\n\r\n", refused: "status line"},
	"chunked twice":                      {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"chunked with a vertical tab":        {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", refused: "control character"},
	"chunks in HTTP/1.0":                 {raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refused: "HTTP/1.0"},
	"chunks of 204":                      {raw: "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refused: "Transfer-Encoding"},
	"a folded header":                    {raw: "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n", refused: "header line"},
	"a space before the colon":           {raw: "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", refused: "header line"},
	"a header without colon":             {raw: "HTTP/1.1 200 OK\r\nX-A\r\n\r\n", refused: "header line"},
	"a header without name":              {raw: "HTTP/1.1 200 OK\r\n: a\r\n\r\n", refused: "header line"},
	"NUL in a value":                     {raw: "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\n\r\n", refused: "control character"},
	"a bare CR in a value":               {raw: "HTTP/1.1 200 OK\r\nX-A: a\rContent-Length: 5\r\n\r\n", refused: "control character"},
	"a bare LF in the head":              {raw: "HTTP/1.1 200 OK\r\nX-A: a\nContent-Length: 5\r\n\r\n", refused: "carriage return"},
	"a head of bare LFs":                 {raw: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", refused: "carriage return"},
	"an end of the head by LF alone":     {raw: "HTTP/1.1 200 OK\r\n\n", refused: "carriage return"},
	"a status of two digits":             {raw: "HTTP/1.1 20 OK\r\n\r\n", refused: "status line"},
	"a status of four digits":            {raw: "HTTP/1.1 2000 OK\r\n\r\n", refused: "status line"},
	"a status below 100":                 {raw: "HTTP/1.1 099 OK\r\n\r\n", refused: "status line"},
	"a signed status":                    {raw: "HTTP/1.1 +20 OK\r\n\r\n", refused: "status line"},
	"no status":                          {raw: "HTTP/1.1\r\n\r\n", refused: "status line"},
	"HTTP/1.2":                           {raw: "HTTP/1.2 200 OK\r\n\r\n", refused: "status line"},
	"HTTP/2 by name":                     {raw: "HTTP/2 200 OK\r\n\r\n", refused: "does not begin"},
	"HTTP/2 frames":                      {raw: "\x00\x00\x12\x04\x00\x00\x00\x00\x00", refused: "does not begin"},
	"another protocol":                   {raw: "SSH-2.0-OpenSSH_9.6\r\n", refused: "does not begin"},
	"an empty line first":                {raw: "\r\nHTTP/1.1 200 OK\r\n\r\n", refused: "does not begin"},
	"nothing":                            {raw: "", refused: "EOF"},
	"a head without end":                 {raw: "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 70<<10), refused: "larger than 65536 bytes"},
	"a head of too many fields":          {raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 201) + "\r\n", refused: "more than 200"},
	"a chunk size that is not one":       {raw: chunked + "5x\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"an empty chunk size":                {raw: chunked + "\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a negative chunk size":              {raw: chunked + "-5\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a chunk size with 0x":               {raw: chunked + "0x5\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a chunk size that overflows":        {raw: chunked + "10000000000000005\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a space before a chunk size":        {raw: chunked + " 5\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a bare LF behind a chunk size":      {raw: chunked + "5\nhello\r\n0\r\n\r\n", refused: "carriage return"},
	"a bare LF in a chunk extension":     {raw: chunked + "5;a\nb\r\nhello\r\n0\r\n\r\n", refused: "carriage return"},
	"a bare CR in a chunk extension":     {raw: chunked + "5;a\rb\r\nhello\r\n0\r\n\r\n", refused: "chunk size"},
	"a chunk longer than its size":       {raw: chunked + "4\r\nhello\r\n0\r\n\r\n", refused: "longer than its size"},
	"a chunk that ends in LF":            {raw: chunked + "5\r\nhello\n0\r\n\r\n", refused: "carriage return"},
	"a chunk extension without end":      {raw: chunked + "5;" + strings.Repeat("a", 5<<10) + "\r\nhello\r\n0\r\n\r\n", refused: "longer than 4096"},
	"chunk extensions without end":       {raw: chunked + strings.Repeat("1;"+strings.Repeat("a", 4000)+"\r\nx\r\n", 20), refused: "more chunk extensions"},
	"a trailer without end":              {raw: chunked + "0\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 20) + "\r\n", refused: "trailer is larger"},
	"a trailer line that is none":        {raw: chunked + "0\r\nHTTP/1.1 200 OK\r\n\r\n", refused: "trailer line"},
	"a body shorter than its length":     {raw: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", refused: "unexpected EOF"},
	"a chunked body without its end":     {raw: chunked + "5\r\nhello\r\n", refused: "unexpected EOF"},
	"a chunked body without last line":   {raw: chunked + "5\r\nhello\r\n0\r\n", refused: "unexpected EOF"},
	"a head that is cut":                 {raw: "HTTP/1.1 200 OK\r\nContent-", refused: "unexpected EOF"},
}

const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

func TestAnswersAreReadStrictly(t *testing.T) {
	for name, c := range answers {
		t.Run(name, func(t *testing.T) {
			got := ask(Request{Method: c.method, Upgrade: c.upgrade}, &script{pieces: [][]byte{[]byte(c.raw)}}, 1<<10)
			if c.refused != "" {
				if !strings.Contains(got.Err, c.refused) || got.Kept {
					t.Errorf("got %+v, want an error with %q and a closed connection", got, c.refused)
				}
				return
			}
			got.Fields = nil
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("got (+), want (-):\n%s", d)
			}
		})
	}
}

func TestAnAnswerIsTheSameHoweverItIsCut(t *testing.T) {
	for name, c := range answers {
		if len(c.raw) > 1000 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := Request{Method: c.method, Upgrade: c.upgrade}
			want := ask(r, &script{pieces: [][]byte{[]byte(c.raw)}}, 1<<10)
			check := func(how string, got told) {
				t.Helper()
				// What lies behind the end is seen only if it came together with it, and of
				// an answer with two faults the one that comes first in time is named.
				got.Kept = want.Kept
				if want.Err != "" && got.Err != "" {
					got = want
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s: got (+), want (-):\n%s", how, d)
				}
			}
			for i := range c.raw {
				check(fmt.Sprintf("cut at %d", i), ask(r, &script{pieces: [][]byte{[]byte(c.raw[:i]), []byte(c.raw[i:])}}, 1<<10))
			}
			single := func() *script {
				s := &script{}
				for i := range c.raw {
					s.pieces = append(s.pieces, []byte(c.raw[i:i+1]))
				}
				return s
			}
			check("byte by byte", ask(r, single(), 1<<10))
			check("byte by byte into one byte", ask(r, single(), 1))
			check("into one byte", ask(r, &script{pieces: [][]byte{[]byte(c.raw)}}, 1))
			check("into much room", ask(r, &script{pieces: [][]byte{[]byte(c.raw)}}, 64<<10))
		})
	}
}

func TestACutAnswerNeverLooksWhole(t *testing.T) {
	for name, c := range answers {
		if c.refused != "" || strings.HasPrefix(name, "bytes behind") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			whole := len(c.raw)
			if c.want.Framing == UntilClose {
				whole = strings.Index(c.raw, "\r\n\r\n") + 4 // from there on any end is one
			}
			for i := range whole {
				for _, end := range []error{io.EOF, errors.New("connection reset by peer")} {
					s := &script{pieces: [][]byte{[]byte(c.raw[:i])}, end: end}
					got := ask(Request{Method: c.method, Upgrade: c.upgrade}, s, 1<<10)
					if got.Err == "" || got.Cut != (end == io.EOF) || got.Kept {
						t.Errorf("cut at %d by %v: got %+v, want that error and a closed connection", i, end, got)
					}
				}
			}
		})
	}
}

func TestAResetIsNotTheEndOfABodyUntilClose(t *testing.T) {
	s := &script{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\n\r\nsome")}, end: errors.New("connection reset by peer")}
	if got := ask(Request{}, s, 100); !strings.Contains(got.Err, "reset") {
		t.Errorf("got %+v, want the error of the connection", got)
	}
}

func TestNamesKeepTheirCaseAndOrder(t *testing.T) {
	s := &script{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\nx-LOW: 1\r\nX-Low:\t2 \r\nEmpty:\r\nContent-Length: 0\r\n\r\n")}}
	want := []exchange.Field{{Name: "x-LOW", Value: "1"}, {Name: "X-Low", Value: "2"}, {Name: "Empty"}, {Name: "Content-Length", Value: "0"}}
	if d := cmp.Diff(want, ask(Request{}, s, 1).Fields); d != "" {
		t.Errorf("got (+), want (-):\n%s", d)
	}
}

func TestLargeBodiesOfEveryFraming(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20<<10)
	var chunks strings.Builder
	for rest, n := body, 1; rest != ""; n = n*3 + 1 {
		n = min(n, len(rest), 50<<10)
		fmt.Fprintf(&chunks, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	for name, raw := range map[string]string{
		"by length":   fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunked":     chunked + chunks.String() + "0\r\n\r\n",
		"until close": "HTTP/1.1 200 OK\r\n\r\n" + body,
	} {
		for _, room := range []int{1000, 4 << 10, 32 << 10} {
			for _, piece := range []int{999, 5000, len(raw)} {
				s := &script{}
				for rest := []byte(raw); len(rest) > 0; {
					n := min(piece, len(rest))
					s.pieces, rest = append(s.pieces, rest[:n]), rest[n:]
				}
				if got := ask(Request{}, s, room); got.Body != body || got.Err != "" {
					t.Errorf("%s, pieces of %d into %d: got %d bytes and %q, want %d", name, piece, room, len(got.Body), got.Err, len(body))
				}
			}
		}
	}
}

// A server that serves two answers at once wants the second to be taken for that to
// another request.
func TestAnAnswerNobodyAskedForIsDropped(t *testing.T) {
	two := "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"
	dialled := 0
	c := NewClient(Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		dialled++
		return &script{pieces: [][]byte{[]byte(two)}}, nil
	}})
	defer c.Close()
	target := &Target{Addr: "server.test:80"}
	for range 3 {
		res, err := c.Do(context.Background(), &Request{Target: target, Method: "GET", Path: "/", Host: "h"})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res)
		_ = res.Close()
		if string(body) != "a" || err != nil {
			t.Errorf("got %q, %v, want a", body, err)
		}
	}
	if dialled != 3 {
		t.Errorf("got %d connections, want 3", dialled)
	}
}

func FuzzResponse(f *testing.F) {
	for _, c := range answers {
		if len(c.raw) < 1000 {
			f.Add(c.method, []byte(c.raw), uint16(7))
		}
	}
	f.Add("GET", []byte(chunked+"5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\n"), uint16(3))
	f.Fuzz(func(t *testing.T, method string, raw []byte, cut uint16) {
		if method != "HEAD" && method != "POST" {
			method = "GET"
		}
		whole := ask(Request{Method: method}, &script{pieces: [][]byte{bytes.Clone(raw)}}, 512)
		n := min(int(cut), len(raw))
		parts := ask(Request{Method: method}, &script{pieces: [][]byte{bytes.Clone(raw[:n]), bytes.Clone(raw[n:])}}, 3)
		if (whole.Err == "") != (parts.Err == "") || whole.Err == "" && (whole.Body != parts.Body || whole.Status != parts.Status) {
			t.Fatalf("cut at %d: got %+v, want %+v", n, parts, whole)
		}
		if whole.Err != "" {
			return // we are stricter than the oracle in many ways, by intention
		}
		in := bufio.NewReader(bytes.NewReader(raw))
		for {
			want, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("accepted what net/http refuses: %v", err)
			}
			if want.StatusCode < 200 {
				continue
			}
			compare(t, whole, want)
			return
		}
	})
}

func compare(t *testing.T, got told, want *http.Response) {
	t.Helper()
	body, err := io.ReadAll(want.Body)
	if err != nil {
		t.Fatalf("got body %q, net/http says %v", got.Body, err)
	}
	if got.Status != want.StatusCode || got.Body != string(body) {
		t.Fatalf("got %d %q, net/http says %d %q", got.Status, got.Body, want.StatusCode, body)
	}
	if length := want.ContentLength; got.Framing == ByLength && got.Length != length {
		t.Fatalf("got length %d, net/http says %d", got.Length, length)
	}
	h := http.Header{}
	for _, f := range got.Fields {
		h.Add(f.Name, f.Value)
	}
	// net/http takes these out of the header, or joins equal ones.
	for _, name := range []string{"Transfer-Encoding", "Content-Length", "Trailer", "Connection"} {
		h.Del(name)
		want.Header.Del(name)
	}
	if d := cmp.Diff(want.Header, h); d != "" {
		t.Fatalf("header: got (+), net/http says (-):\n%s", d)
	}
	if got.Kept && want.Close {
		t.Fatalf("the connection is kept, net/http closes it")
	}
}

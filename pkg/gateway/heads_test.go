package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/http1"
)

// spoken is a connection on which somebody has said something.
type spoken struct {
	net.Conn
	r io.Reader
}

func (s spoken) Read(p []byte) (int, error) { return s.r.Read(p) }

// ReadInto implements readerInto.
func (s spoken) ReadInto(m drain.Memory) (int, error) {
	n, err := s.r.Read(m.Room())
	if n == 0 {
		m.Spare()
	}
	return n, err
}

func (spoken) SetReadDeadline(time.Time) error { return nil }

func newHeads(r io.Reader, l Limits) *heads {
	e := &Std{limits: l}
	e.pool.New = func() any { return new(stdExchange) }
	e.server.ConnState = func(net.Conn, http.ConnState) {}
	return &heads{Conn: spoken{r: r}, engine: e}
}

// taken is a request that net/http has taken.
type taken struct {
	line, body string
	refused    int
}

// listen reads a connection as net/http does, and returns which requests it takes until one is
// refused, and why it took no more; h is nil: they are read without what is tested here. With h it
// reads those beside net/http where that may be.
func listen(r io.Reader, h *heads) (all []taken, err error) {
	if h != nil {
		s := spoken{r: r}
		h.Conn, h.into, r = s, s, h
	}
	b := bufio.NewReader(r)
	for last := ""; ; {
		if last == http.MethodPost {
			blank, _ := b.Peek(4)
			_, _ = b.Discard(len(blank) - len(bytes.TrimLeft(blank, "\r\n")))
		}
		q, err := http.ReadRequest(b)
		if err != nil {
			return all, err
		}
		if q.ProtoMajor != 1 {
			return all, errors.New("another protocol")
		}
		t := taken{line: fmt.Sprint(q.Method, " ", q.RequestURI, " ", q.Host, " ", q.Proto, " ", q.ContentLength, " ", q.Close)}
		body := io.Reader(q.Body)
		if h != nil {
			x := h.asked
			if h.asked = nil; x == nil {
				return all, errAstray
			}
			if x.refused != 0 {
				return append(all, taken{refused: x.refused}), nil
			}
			m := &x.head
			q.Method = m.Method
			if x.whole {
				body = x.Request.Body.Reader()
			}
			t.line = lineOf(m)
		}
		last = q.Method
		text, err := io.ReadAll(body)
		if err != nil {
			return all, err
		}
		t.body = string(text)
		all = append(all, t)
		if h == nil {
			continue
		}
		h.looked.Store(true) // it does not wait here
		for x := h.following(context.Background()); x != nil; x = h.following(context.Background()) {
			m := &x.head
			if x.refused != 0 {
				return all, errAstray
			}
			text, err := io.ReadAll(x.Request.Body.Reader())
			if err != nil {
				return all, err
			}
			last = m.Method
			all = append(all, taken{lineOf(m), string(text), x.refused})
		}
	}
}

// errAstray is a request that nobody has read, or that is to be refused by net/http.
var errAstray = errors.New("a request is where it does not belong")

func lineOf(m *http1.Request) string {
	return fmt.Sprint(m.Method, " ", m.Target, " ", m.Host, " ", m.Proto, " ", m.Length, " ", m.Close)
}

func TestARequestInDoubtIsFound(t *testing.T) {
	const (
		get     = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
		post    = "POST /x HTTP/1.1\r\nHost: a\r\n"
		body    = "Content-Length: 5\r\n\r\nhello"
		chunked = "Transfer-Encoding: chunked\r\n"
		chunks  = chunked + "\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
	)
	for name, tt := range map[string]struct {
		text     string
		taken    int // before one that is in doubt, or until the end
		doubtful bool
	}{
		"requests":                           {get + get + post + body + get, 4, false},
		"chunks":                             {post + chunks + get + post + chunks + get, 4, false},
		"an absolute form":                   {"GET http://A/x HTTP/1.1\r\nHost: a\r\n\r\n" + get, 2, false},
		"a body that looks like a request":   {post + "Content-Length: 60\r\n\r\n" + strings.Repeat("GET / HTTP/1.1\nX: y\n\n", 3)[:60] + get, 2, false},
		"a chunk that looks like a request":  {post + chunked + "\r\n2a\r\n" + strings.Repeat("GET / HTTP/1.1\nX: y\n\n", 2) + "\r\n0\r\n\r\n" + get, 2, false},
		"a length beside an encoding":        {get + post + chunked + body, 1, true},
		"an encoding beside a length":        {post + "Content-Length: 5\r\n" + chunks, 0, true},
		"a second length":                    {post + body + post + "content-length: 5\r\n" + body, 1, true},
		"an encoding in HTTP/1.0":            {"POST /x HTTP/1.0\r\nHost: a\r\n" + chunks, 0, true},
		"a bare LF behind the request line":  {post + chunks + "GET /x HTTP/1.1\nHost: a\r\n\r\n", 1, true},
		"a bare LF behind a field":           {"GET /x HTTP/1.1\r\nHost: a\n\r\n", 0, true},
		"a bare LF as the end":               {"GET /x HTTP/1.1\r\nHost: a\r\n\n", 0, true},
		"a folded line":                      {post + body + "GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 1, true},
		"a line folded by a tab":             {"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", 0, true},
		"an absolute form of another host":   {"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 0, true},
		"an absolute form of another port":   {"GET http://a:81?x HTTP/1.1\r\nHost: a\r\n\r\n", 0, true},
		"an absolute form and no host":       {"GET http://a/x HTTP/1.0\r\n\r\n", 0, true},
		"a doubt behind CRLFs after a body":  {post + body + "\r\n\r\nGET /x HTTP/1.1\nHost: a\r\n\r\n", 1, true},
		"CRLFs after a body":                 {post + body + "\r\n\r\n" + get, 2, false},
		"too many of them":                   {post + body + "\r\n\r\n\r\n" + get, 1, true},
		"a chunk with a bare LF":             {post + chunked + "\r\n5\nhello\r\n0\r\n\r\n" + get, 0, false},
		"what net/http refuses":              {post + "Content-Length: x\r\n\r\n" + post + chunked + body, 0, false},
		"HTTP/2":                             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + post + chunked + body, 0, false},
		"a length named by a longer name":    {post + "X-Content-Length: 5\r\n" + body, 1, false},
		"an encoding named by a longer name": {post + "X-Transfer-Encoding: chunked\r\n" + body, 1, false},
		"a head that ends too early":         {get + post, 1, false},
	} {
		for way, r := range ways(tt.text) {
			all, _ := listen(r, newHeads(nil, Limits{}))
			n := len(all)
			doubtful := n > 0 && all[n-1].refused != 0
			if doubtful {
				n--
			}
			if n != tt.taken || doubtful != tt.doubtful {
				t.Errorf("%s, %s: %d requests, one in doubt: %v, want %d, %v", name, way, n, doubtful, tt.taken, tt.doubtful)
			}
		}
	}
}

// ways is a text that comes in pieces of several sizes.
func ways(text string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "in halves": iotest.HalfReader(strings.NewReader(text)),
	}
}

// net/http acts on some fields, and gets no others.
func TestNetHTTPGetsWhatItActsOn(t *testing.T) {
	const more = "X: y\r\nCookie: z\r\n"
	for name, tt := range map[string]struct{ text, want string }{
		"nothing that came whole":     {"GET /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + more + "\r\n", least},
		"nothing of what came":        {"HEAD / HTTP/1.0\r\n" + more + "Content-Length: 2\r\n\r\nhi", least},
		"a target that it may refuse": {"GET /%x HTTP/1.1\r\nHost: a\r\n" + more + "\r\n", "GET /%x HTTP/1.1\r\nHost:\r\n\r\n"},
		"another one that came":       {"GET http://a/ HTTP/1.1\r\nHost: a\r\n" + more + "\r\n", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n"},
		"a body that came":            {"PUT /% HTTP/1.1\r\nHost: a\r\n" + more + "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nhi", "PUT /% HTTP/1.1\r\nHost:\r\n\r\n"},
		"a body that is to come":      {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nhi", "PUT / HTTP/1.1\r\nHost:\r\nContent-Length:3\r\n\r\nhi"},
		"one that is to be wanted":    {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n", "PUT / HTTP/1.1\r\nHost:\r\nContent-Length:2\r\nExpect:100-continue\r\n\r\n"},
		"chunks":                      {"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nhi\r\n3", "PUT / HTTP/1.1\r\nHost:\r\nTransfer-Encoding:chunked\r\n\r\n2;x\r\nhi\r\n"},
		"an end":                      {"GET /% HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", "GET /% HTTP/1.1\r\nHost:\r\nConnection:close\r\n\r\n"},
		"an old one that stays":       {"GET /% HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET /% HTTP/1.0\r\nHost:\r\nConnection:keep-alive\r\n\r\n"},
		"what nobody expects":         {"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\nExpect:?\r\n\r\n"},
		"what is no request":          {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\nz", "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\nz"},
	} {
		for way, r := range ways(tt.text) {
			if way != "whole" && strings.Contains(name, "came") {
				continue // at once
			}
			h := newHeads(r, Limits{})
			if got, err := io.ReadAll(h); string(got) != tt.want || err != nil {
				t.Errorf("%s, %s: got %q, %v, want %q", name, way, got, err, tt.want)
			}
			if fields := h.asked.Request.Header.Len(); h.asked.refused == 0 && fields != strings.Count(tt.text, ": ") {
				t.Errorf("%s, %s: %d fields", name, way, fields)
			}
		}
	}
}

// net/http waits by reads of one byte for a client that leaves while it is answered.
func TestAReadOfOneByteEndsAtOnceBetweenRequests(t *testing.T) {
	const get, post = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.1\r\nHost: a\r\n"
	for name, tt := range map[string]struct {
		text  string
		token uint64
		want  string // of what comes then
		whole bool
	}{
		"behind a request":             {get, 1, "", true},
		"behind a body":                {post + "Content-Length: 5\r\n\r\nhello", 1, "", true},
		"behind chunks":                {post + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 1, "", true},
		"behind what is no next one":   {post + "Content-Length: 5\r\n\r\nhello\r\n", 1, "", true},
		"before the first request":     {"", 1, "z", false},
		"in a request line":            {get + "G", 1, "G", false},
		"behind the next one":          {get + get, 1, "G", false},
		"in a body":                    {post + "Content-Length: 6\r\n\r\nhello", 1, "z", true},
		"in a chunk":                   {post + "Transfer-Encoding: chunked\r\n\r\n6\r\nhello", 1, "z", false},
		"behind a request in doubt":    {"GET /x HTTP/1.1\nHost: a\r\n\r\n", 1, "z", false},
		"where nobody says who leaves": {get, 0, "z", false},
	} {
		said := strings.NewReader(tt.text)
		h := newHeads(said, Limits{})
		h.token = tt.token
		p := make([]byte, 4<<10)
		for said.Len() > 0 || h.sent < len(h.out) {
			if _, err := h.Read(p); err != nil {
				t.Fatal(err)
			}
		}
		said.Reset("z")
		n, err := h.Read(p[:1])
		if got := string(p[:n]); err != nil || got != tt.want || h.whole.Load() != tt.whole {
			t.Errorf("%s: read %q, %v, whole %v", name, got, err, h.whole.Load())
		}
	}
}

// A request behind another goes past net/http if that has no part in it.
func TestNetHTTPIsToldOfWhatItHasAPartIn(t *testing.T) {
	const first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, tt := range map[string]struct {
		next   string
		beside bool
	}{
		"a request":                 {"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", true},
		"the last one":              {"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", true},
		"a body":                    {"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", true},
		"two at once":               {"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n" + first, false},
		"a body that is to come":    {"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx", false},
		"chunks":                    {"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		"half a head":               {"GET /2 HTTP/1.1\r\nHost: a\r\n", false},
		"a target it may refuse":    {"GET /%x HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"what nobody expects":       {"GET /2 HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", false},
		"another protocol":          {"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n", false},
		"what is no request":        {"GET /2 HTTP/1.1\nHost: a\r\n\r\n", false},
		"the end of the connection": {"", false},
	} {
		s := spoken{r: &inPieces{[]string{first, tt.next}}}
		h := newHeads(nil, Limits{})
		h.Conn, h.into = s, s
		p := make([]byte, 4<<10)
		if n, err := h.Read(p); string(p[:n]) != least || err != nil {
			t.Fatalf("got %q, %v", p[:n], err)
		}
		if x := h.following(t.Context()); x != nil {
			t.Errorf("%s: it was read while net/http may read", name)
		}
		h.looked.Store(true)
		x := h.following(t.Context())
		if beside := x != nil; beside != tt.beside {
			t.Errorf("%s: past net/http is %v", name, beside)
		}
		if x != nil {
			continue
		}
		if h.looked.Load() && h.failed == nil {
			t.Errorf("%s: it would be read beside what net/http reads next", name)
		}
		if n, err := h.Read(p); n == 0 && err != io.EOF || n > 0 && tt.next == "" {
			t.Errorf("%s: then net/http reads %q, %v", name, p[:n], err)
		}
	}
}

// A connection on which a request has begun is not idle, which would let the drain close it.
func TestARequestThatHasBegunIsTold(t *testing.T) {
	const first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, pieces := range map[string][]string{
		"with the last one": {first + "G"},
		"behind it":         {first, "G"},
	} {
		s := spoken{r: &inPieces{pieces}}
		h := newHeads(nil, Limits{})
		h.Conn, h.into = s, s
		var state http.ConnState
		h.engine.server.ConnState = func(_ net.Conn, to http.ConnState) { state = to }
		p := make([]byte, 4<<10)
		if n, err := h.Read(p); string(p[:n]) != least || err != nil {
			t.Fatalf("%s: got %q, %v", name, p[:n], err)
		}
		h.asked = nil // served
		h.looked.Store(true)
		if x := h.following(t.Context()); x != nil {
			t.Fatalf("%s: there is a request", name)
		}
		h.engine.server.ConnState(h, http.StateIdle) // by net/http, which has answered
		if n, err := h.Read(p); string(p[:n]) != "G" || err != nil || state != http.StateActive {
			t.Errorf("%s: got %q, %v, and the connection is %v", name, p[:n], err, state)
		}
	}
}

// asleep is a connection on which nothing comes.
type asleep struct {
	spoken
	hurried chan struct{}
}

func (a asleep) ReadInto(drain.Memory) (int, error) {
	<-a.hurried
	return 0, os.ErrDeadlineExceeded
}

func (a asleep) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		close(a.hurried)
	}
	return nil
}

// Who ends all requests does not wait for one that has not come, whichever of both is first.
func TestAWaitBesideNetHTTPEnds(t *testing.T) {
	for _, before := range []bool{true, false} {
		h := newHeads(nil, Limits{})
		a := asleep{hurried: make(chan struct{})}
		h.Conn, h.into, h.alone = a, a, true
		h.looked.Store(true)
		h.whole.Store(true)
		h.engine.present.conns = map[uint64]*heads{1: h}
		all, cut := context.WithCancel(t.Context())
		end := func() { cut(); h.engine.present.cut(context.Canceled) }
		if before {
			end()
		} else {
			go func() {
				for !h.waits.Load() {
					runtime.Gosched()
				}
				end()
			}()
		}
		got := make(chan *stdExchange, 1)
		go func() { got <- h.following(all) }()
		select {
		case x := <-got:
			if x != nil {
				t.Error("there is a request")
			}
		case <-time.After(30 * time.Second):
			t.Fatal("it waits")
		}
	}
}

// What is not taken here net/http gets in a form that it does not take either.
func TestAChunkThatIsNoneIsRefused(t *testing.T) {
	const text = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, chunks := range []string{
		"8000000000000005\r\nhello", "5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\r\n0\r\nX y\r\n\r\n",
		"1;" + strings.Repeat("x", 5000) + "\r\nh\r\n0\r\n\r\n", "-0\r\n\r\n",
	} {
		for way, r := range ways(text + chunks) {
			q, err := http.ReadRequest(bufio.NewReader(newHeads(r, Limits{})))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(q.Body); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %s: got %q, %v", chunks, way, got, err)
			}
		}
	}
}

func TestAHeadAboveItsLimitIsNeverEnded(t *testing.T) {
	for _, text := range []string{"GET /x HTTP/1.1\r\nHost: a\r\nX: ", "GET /"} {
		for way, r := range ways(text + strings.Repeat("y", 200)) {
			h := newHeads(r, Limits{HeaderBytes: 100})
			if got, err := io.ReadAll(io.LimitReader(h, 1<<20)); len(got) != 1<<20 || err != nil || bytes.Count(got, []byte("\n")) > 1 {
				t.Errorf("%s: got %d bytes, %v", way, len(got), err)
			}
		}
	}
}

// border is where what a fuzz test makes up comes in pieces.
const border = "\x1e"

// inPieces is read piece by piece.
type inPieces struct{ left []string }

func (r *inPieces) Read(p []byte) (int, error) {
	for len(r.left) > 0 && r.left[0] == "" {
		r.left = r.left[1:]
	}
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left[0])
	r.left[0] = r.left[0][n:]
	return n, nil
}

// What net/http takes of what it gets from here is what it takes without, as the same requests
// with the same bodies, and however they come.
func FuzzHeads(f *testing.F) {
	for _, seed := range []string{
		"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET http://b/x HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
		"\r\n\nGET /x HTTP/1.1\nHost: a\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n\r\nGET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + border + "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" + border +
			"\r\nGET /3 HTTP/1.1\r\nHost: a\r\nUpgrade: b\r\n\r\n" + border + "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + border + "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx" + border + "yGET /3" +
			border + " HTTP/1.1\r\nHost: a\r\n\r\n" + border + "GET /4 HTTP/1.1\r\nHost: a\r\n\r\nGET /5 HTTP/1.1\nHost: a\r\n\r\n",
		"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + border + "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n" + border + "x\r\n0\r\n\r\n" + border + "GET /3 HTTP/1.1\r\n\r\n",
		"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + border + "GET /2 HTTP/1.1\nHost: a\r\n\r\n",
		"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nxCONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		pieces := strings.Split(string(bytes), border)
		text := strings.Join(pieces, "")
		want, wantErr := listen(strings.NewReader(text), nil)
		if errors.As(wantErr, new(*url.Error)) || wantErr != nil && strings.Contains(wantErr.Error(), "trailer") {
			return // hosts are judged by who uses them, trailers are dropped
		}
		if strings.Contains(text, http.MethodConnect) {
			return // its target is its host there; nobody serves it
		}
		whole, err1 := listen(strings.NewReader(text), newHeads(nil, Limits{}))
		slowly, err2 := listen(iotest.OneByteReader(strings.NewReader(text)), newHeads(nil, Limits{}))
		apart, err3 := listen(&inPieces{pieces}, newHeads(nil, Limits{}))
		if err := errors.Join(err1, err2, err3); errors.Is(err, errAstray) {
			t.Fatal(err)
		}
		for way, got := range map[string][]taken{"whole": whole, "byte by byte": slowly, "in pieces": apart} {
			if n := len(got); n > 0 && got[n-1].refused != 0 {
				got = got[:n-1]
			}
			for i := range got {
				if i >= len(want) || !strings.EqualFold(got[i].line, want[i].line) || got[i].body != want[i].body {
					t.Fatalf("%s: got %+v, net/http %+v, %v", way, got, want, wantErr)
				}
			}
		}
		if !slices.Equal(whole, slowly) || !slices.Equal(whole, apart) {
			t.Fatalf("whole %+v, slowly %+v, in pieces %+v", whole, slowly, apart)
		}
	})
}

package gateway

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// spoken is a connection on which somebody has said something.
type spoken struct {
	net.Conn
	r io.Reader
}

func (s spoken) Read(p []byte) (int, error) { return s.r.Read(p) }

// listen reads a connection as net/http does, and returns which requests net/http takes and
// the number of the one that is in doubt.
func listen(r io.Reader) (taken int, h *heads) {
	h = &heads{Conn: spoken{r: r}}
	b := bufio.NewReader(h)
	for {
		// net/http takes some of these.
		for {
			if c, err := b.Peek(1); err != nil || c[0] != '\r' && c[0] != '\n' {
				break
			}
			_, _ = b.Discard(1)
		}
		q, err := http.ReadRequest(b)
		if err != nil {
			return taken, h
		}
		taken++
		if h.doubtful.Load() == int64(taken) {
			return taken, h
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return taken, h
		}
	}
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
		doubtful int64
	}{
		"requests":                           {get + get + post + body + get, 0},
		"chunks":                             {post + chunks + get + post + chunks + get, 0},
		"an absolute form":                   {"GET http://A/x HTTP/1.1\r\nHost: a\r\n\r\n" + get, 0},
		"a body that looks like a request":   {post + "Content-Length: 60\r\n\r\n" + strings.Repeat("GET / HTTP/1.1\nX: y\n\n", 3)[:60] + get, 0},
		"a chunk that looks like a request":  {post + chunked + "\r\n2a\r\n" + strings.Repeat("GET / HTTP/1.1\nX: y\n\n", 2) + "\r\n0\r\n\r\n" + get, 0},
		"a length beside an encoding":        {get + post + chunked + body, 2},
		"an encoding beside a length":        {post + "Content-Length: 5\r\n" + chunks, 1},
		"a second length":                    {post + body + post + "content-length: 5\r\n" + body, 2},
		"an encoding in HTTP/1.0":            {"POST /x HTTP/1.0\r\nHost: a\r\n" + chunks, 1},
		"a bare LF behind the request line":  {post + chunks + "GET /x HTTP/1.1\nHost: a\r\n\r\n", 2},
		"a bare LF behind a field":           {"GET /x HTTP/1.1\r\nHost: a\n\r\n", 1},
		"a bare LF as the end":               {"GET /x HTTP/1.1\r\nHost: a\r\n\n", 1},
		"a folded line":                      {post + body + "GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 2},
		"a line folded by a tab":             {"GET /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", 1},
		"an absolute form of another host":   {"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 1},
		"an absolute form of another port":   {"GET http://a:81?x HTTP/1.1\r\nHost: a\r\n\r\n", 1},
		"an absolute form and no host":       {"GET http://a/x HTTP/1.0\r\n\r\n", 1},
		"a doubt behind CRLFs after a body":  {post + body + "\r\n\r\nGET /x HTTP/1.1\nHost: a\r\n\r\n", 2},
		"what net/http refuses is not ours":  {post + "Content-Length: x\r\n\r\n" + post + chunked + body, 0},
		"nothing is looked for in HTTP/2":    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + post + chunked + body, 0},
		"a length named by a longer name":    {post + "X-Content-Length: 5\r\n" + body, 0},
		"an encoding named by a longer name": {post + "X-Transfer-Encoding: chunked\r\n" + body, 0},
	} {
		for way, r := range map[string]io.Reader{
			"whole": strings.NewReader(tt.text), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.text)), "in halves": iotest.HalfReader(strings.NewReader(tt.text)),
		} {
			if _, h := listen(r); h.doubtful.Load() != tt.doubtful {
				t.Errorf("%s, %s: request %d is in doubt, want %d", name, way, h.doubtful.Load(), tt.doubtful)
			}
		}
	}
}

// net/http waits by reads of one byte for a client that leaves while it is answered.
func TestAReadOfOneByteEndsAtOnceBetweenRequests(t *testing.T) {
	const get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, tt := range map[string]struct {
		text  string
		token uint64
		waits bool
	}{
		"behind a request":             {get, 1, false},
		"behind a body":                {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 1, false},
		"before the first request":     {"", 1, true},
		"behind empty lines":           {"\r\n\r\n", 1, true},
		"in a request line":            {get + "G", 1, true},
		"in a head":                    {"GET /x HTTP/1.1\r\n", 1, true},
		"in a body":                    {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell", 1, true},
		"in a chunk":                   {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", 1, true},
		"behind a request in doubt":    {"GET /x HTTP/1.1\nHost: a\r\n\r\n", 1, true},
		"where nobody says who leaves": {get, 0, true},
	} {
		h := &heads{Conn: spoken{r: strings.NewReader(tt.text + "z")}, token: tt.token}
		for left := len(tt.text); left > 0; {
			n, err := h.Read(make([]byte, max(2, left))[:left:left])
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		n, err := h.Read(make([]byte, 1))
		if err != nil || n == 1 != tt.waits || h.quiet.Load() == tt.waits {
			t.Errorf("%s: read %d bytes, %v, quiet %v", name, n, err, h.quiet.Load())
		}
	}
}

func TestAChunkAboveAllMeasureIsRefused(t *testing.T) {
	const text = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8000000000000005\r\nhello"
	// As long as the end of its line does not come alone.
	for _, r := range []io.Reader{strings.NewReader(text), iotest.HalfReader(strings.NewReader(text))} {
		q, err := http.ReadRequest(bufio.NewReader(&heads{Conn: spoken{r: r}}))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(q.Body); len(got) > 0 || err == nil || err == io.ErrUnexpectedEOF {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// What net/http takes for a request is one here, too, and the same one.
func FuzzHeads(f *testing.F) {
	for _, seed := range []string{
		"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET http://b/x HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
		"\r\n\nGET /x HTTP/1.1\nHost: a\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		taken, whole := listen(bytes.NewReader(text))
		slowly, split := listen(iotest.OneByteReader(bytes.NewReader(text)))
		if a, b := whole.doubtful.Load(), split.doubtful.Load(); a != b && a <= int64(taken) && b <= int64(slowly) {
			t.Errorf("request %d is in doubt, read slowly %d", a, b)
		}
		if !split.off.Load() && split.number < int64(slowly) {
			t.Errorf("net/http takes %d requests, here are %d", slowly, split.number)
		}
	})
}

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

const benchHead = "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"X-Request-Id: 0123456789abcdef\r\nServer: bench\r\n"

// fixed answers every request of the same size with the same bytes, so that the server's
// work is small beside the client's.
func fixed(reply string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		head, rest := []byte("\r\n\r\n"), make([]byte, 64<<10)
		var seen []byte
		out := []byte(reply)
		for {
			n, err := r.Read(rest)
			if err != nil {
				return
			}
			seen = append(seen, rest[:n]...)
			i := bytes.Index(seen, head)
			if i < 0 {
				continue
			}
			size := 0
			if at := bytes.Index(seen[:i], []byte("Content-Length: ")); at >= 0 {
				for _, d := range seen[at+len("Content-Length: ") : i] {
					if d < '0' || d > '9' {
						break
					}
					size = size*10 + int(d-'0')
				}
			}
			if len(seen) < i+len(head)+size {
				continue
			}
			seen = seen[:0]
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

var (
	benchBody = []byte(strings.Repeat("0123456789abcdef", 64))
	benchJSON = benchHead + "Content-Length: 1024\r\n\r\n" + string(benchBody)
	benchSSE  = benchHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("40\r\n"+strings.Repeat("x", 64)+"\r\n", 50) + "0\r\n\r\n"
)

func benchRequest(target *Target) *Request {
	h := &exchange.Header{}
	h.Add("Content-Type", "application/json")
	h.Add("Authorization", "Bearer 0123456789")
	h.Add("User-Agent", "bench")
	return &Request{
		Target: target, Method: "POST", Path: "/v1/chat/completions", Host: "bench.test", Header: h,
		Body: [][]byte{benchBody[:300], benchBody[300:]}, Timeouts: Timeouts{Connect: time.Minute, Send: time.Minute, Head: time.Minute, Read: time.Minute},
	}
}

func BenchmarkDo(b *testing.B) {
	for name, reply := range map[string]string{"1KB": benchJSON, "50chunks": benchSSE} {
		b.Run(name+"/own", func(b *testing.B) {
			target := serve(b, fixed(reply))
			c := client(b, Options{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, p := benchRequest(target), make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				once(b, ctx, c, r, p)
			}
		})
		b.Run(name+"/transport", func(b *testing.B) {
			target := serve(b, fixed(reply))
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			p := make([]byte, 32<<10)
			b.ReportAllocs()
			for b.Loop() {
				q, err := http.NewRequestWithContext(ctx, "POST", "http://"+target.Addr+"/v1/chat/completions", bytes.NewReader(benchBody))
				if err != nil {
					b.Fatal(err)
				}
				q.Header.Set("Content-Type", "application/json")
				q.Header.Set("Authorization", "Bearer 0123456789")
				q.Header.Set("User-Agent", "bench")
				res, err := transport.RoundTrip(q)
				if err != nil {
					b.Fatal(err)
				}
				drain(b, res.Body, p)
				_ = res.Body.Close()
			}
		})
	}
}

func once(t testing.TB, ctx context.Context, c *Client, r *Request, p []byte) {
	res, err := c.Do(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	drain(t, res, p)
	_ = res.Close()
}

func drain(t testing.TB, r io.Reader, p []byte) {
	for {
		if _, err := r.Read(p); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A generous ceiling: what a request allocates is its answer, the head's text, the list of
// fields and the hook on the context.
func TestARequestAllocatesLittle(t *testing.T) {
	target := serve(t, fixed(benchJSON))
	c := client(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, p := benchRequest(target), make([]byte, 32<<10)
	once(t, ctx, c, r, p)
	const limit = 20
	if got := testing.AllocsPerRun(200, func() { once(t, ctx, c, r, p) }); got > limit {
		t.Errorf("got %v allocations, want at most %d", got, limit)
	}
}

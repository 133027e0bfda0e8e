package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

const benchHead = "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: application/json\r\n" +
	"X-Request-Id: 0123456789abcdef\r\nServer: bench\r\n"

// fixed answers every request of the same size with the same bytes, so that the server's
// work is small beside the client's. A pause comes before each piece but the first.
func fixed(pause time.Duration, pieces ...string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		head, rest := []byte("\r\n\r\n"), make([]byte, 64<<10)
		var seen []byte
		out := make([][]byte, len(pieces))
		for i := range out {
			out[i] = []byte(pieces[i])
		}
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
			for i, piece := range out {
				if i > 0 {
					time.Sleep(pause)
				}
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}
	}
}

var (
	benchBody   = []byte(strings.Repeat("0123456789abcdef", 64))
	benchJSON   = benchHead + "Content-Length: 1024\r\n\r\n" + string(benchBody)
	benchLarge  = benchHead + "Content-Length: 131072\r\n\r\n" + strings.Repeat(string(benchBody), 128)
	benchChunks = benchHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat(benchChunk, 50) + "0\r\n\r\n"
	benchChunk  = "40\r\n" + strings.Repeat("x", 64) + "\r\n"
	benchStream = append(append([]string{benchHead + "Transfer-Encoding: chunked\r\n\r\n" + benchChunk},
		strings.Split(strings.Repeat(","+benchChunk, 19)[1:], ",")...), "0\r\n\r\n")
)

// serverVariable makes the test binary the server of the benchmarks, a process of its own so
// that its work does not count as the client's.
const serverVariable = "GOSIX_BENCH_SERVER"

// servers are what that server can be.
var servers = map[string]func(net.Conn, *bufio.Reader){
	"length":  fixed(0, benchJSON),
	"large":   fixed(0, benchLarge),
	"chunked": fixed(0, benchChunks),
	"stream":  fixed(time.Millisecond, benchStream...),
}

// benchServer serves until its standard input ends. It says where, and with which certificate.
func benchServer(kind string) {
	kind, secured := strings.CutSuffix(kind, "+tls")
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr(), base64.StdEncoding.EncodeToString(certified.Certificate().Raw))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		if secured {
			c = tls.Server(c, &tls.Config{Certificates: certified.TLS.Certificates}) //nolint:gosec // a benchmark's server
		}
		go func() {
			defer func() { _ = c.Close() }()
			servers[kind](c, bufio.NewReader(c))
		}()
	}
}

// elsewhere starts a server of that kind in another process.
func elsewhere(b *testing.B, kind string) *Target {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"="+kind, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	var addr, encoded string
	if _, err := fmt.Fscan(out, &addr, &encoded); err != nil {
		b.Fatal(err)
	}
	target := &Target{Addr: addr}
	if strings.HasSuffix(kind, "+tls") {
		der, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			b.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			b.Fatal(err)
		}
		target.TLS, target.SNI = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, "example.com"
		target.TLS.RootCAs.AddCert(certificate)
	}
	return target
}

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

// processor is the time that this process spent computing, in user mode and in the kernel.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed reports what f, which goes through all of b, costs this process: the wall clock
// measures the server as well.
func timed(b *testing.B, f func()) {
	b.ReportAllocs()
	before := processor()
	f()
	b.ReportMetric(float64(processor()-before)/float64(b.N), "cpu-ns/op")
}

// What an exchange on a kept connection costs: alone, where every wait puts the process to
// sleep, and among others. Each request has a context of its own, as in a server.
func BenchmarkDo(b *testing.B) {
	for _, kind := range []string{"length", "large", "chunked", "stream", "length+tls", "large+tls", "stream+tls"} {
		b.Run(kind, func(b *testing.B) {
			target := elsewhere(b, kind)
			c := client(b, Options{})
			all := func(next func() bool) {
				r, p := benchRequest(target), make([]byte, 32<<10)
				r.Response = &Response{}
				for next() {
					ctx, cancel := context.WithCancel(context.Background())
					once(b, ctx, c, r, p)
					cancel()
				}
			}
			if !strings.HasPrefix(kind, "stream") {
				b.Run("alone", func(b *testing.B) { timed(b, func() { all(b.Loop) }) })
			}
			b.Run("among32", func(b *testing.B) {
				b.SetParallelism(32)
				timed(b, func() { b.RunParallel(func(pb *testing.PB) { all(pb.Next) }) })
			})
		})
	}
}

// The same through net/http, for comparison.
func BenchmarkTransport(b *testing.B) {
	for _, kind := range []string{"length", "chunked", "stream"} {
		b.Run(kind, func(b *testing.B) {
			target := elsewhere(b, kind)
			transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
			defer transport.CloseIdleConnections()
			b.SetParallelism(32)
			timed(b, func() {
				b.RunParallel(func(pb *testing.PB) {
					p := make([]byte, 32<<10)
					for pb.Next() {
						ctx, cancel := context.WithCancel(context.Background())
						q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.Addr+"/v1/chat/completions", bytes.NewReader(benchBody))
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
						cancel()
					}
				})
			})
		})
	}
}

// What a new connection costs over TLS.
func BenchmarkHandshake(b *testing.B) {
	for _, resumed := range []bool{true, false} {
		b.Run(fmt.Sprintf("resumed=%v", resumed), func(b *testing.B) {
			target := elsewhere(b, "length+tls")
			target.NoKeepAlive = true
			if !resumed {
				target.TLS.ClientSessionCache = forgetful{}
			}
			c := client(b, Options{})
			r, p := benchRequest(target), make([]byte, 32<<10)
			once(b, b.Context(), c, r, p)
			timed(b, func() {
				for b.Loop() {
					once(b, b.Context(), c, r, p)
				}
			})
		})
	}
}

// forgetful is a cache of sessions that has none.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// A connection leaves its pool and comes back.
func BenchmarkPool(b *testing.B) {
	for name, bind := range map[string]bool{"bound": true, "looked-for": false} {
		b.Run(name, func(b *testing.B) {
			c := client(b, Options{})
			near, far := net.Pipe()
			b.Cleanup(func() { _, _ = near.Close(), far.Close() })
			t, k := &Target{Addr: "provider.test:443", SNI: "provider.test"}, &conn{Conn: near, idleLimit: time.Hour}
			if bind {
				c.Bind(t)
			}
			c.house(k, t)
			c.put(k, t)
			for b.Loop() {
				if k = c.take(t, now()); k == nil {
					b.Fatal("got no connection")
				}
				c.put(k, t)
			}
		})
	}
}

func BenchmarkHeadWrite(b *testing.B) {
	o, r := &outgoing{}, benchRequest(&Target{Addr: "127.0.0.1:80"})
	for range 8 {
		r.Header.Add("X-Forwarded-Something", "192.0.2.1, 198.51.100.17")
	}
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if err := o.assemble(r); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(len(o.buf)))
	})
	// As a request to a provider: its credentials, the type, and two fields of the client's.
	b.Run("laid", func(b *testing.B) {
		r := benchRequest(r.Target)
		var err error
		if r.Lines, err = Lay(r.Host, slices.Clone(r.Header.Fields()[:2])); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := o.assemble(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHeadParse(b *testing.B) {
	o, raw := new(text), []byte(benchHead+"Content-Length: 1024\r\nConnection: keep-alive\r\nCache-Control: no-cache, must-revalidate\r\n"+
		"X-Ratelimit-Remaining-Requests: 9999\r\nX-Ratelimit-Remaining-Tokens: 149999984\r\nVia: 1.1 provider\r\n\r\n")
	res := &Response{}
	res.req = benchRequest(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if err := res.parse(o.keep(raw), defaultHeaderFields); err != nil {
			b.Fatal(err)
		}
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

// With memory for the answer nothing is allocated; what is left is the memory that heads of
// answers share, once in several requests.
func TestARequestAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("with the race detector pools lose things on purpose")
	}
	for name, pieces := range map[string][]string{"length": {benchJSON}, "chunked": {benchChunks}, "stream": benchStream} {
		t.Run(name, func(t *testing.T) {
			target := serve(t, fixed(0, pieces...))
			c := client(t, Options{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, p := benchRequest(target), make([]byte, 32<<10)
			r.Response = &Response{}
			once(t, ctx, c, r, p)
			if got := testing.AllocsPerRun(200, func() { once(t, ctx, c, r, p) }); got != 0 {
				t.Errorf("got %v allocations, want none", got)
			}
			r.Response = nil
			const limit = 6 // the answer and the list of its fields, as it grows
			if got := testing.AllocsPerRun(200, func() { once(t, ctx, c, r, p) }); got > limit {
				t.Errorf("without memory for the answer: got %v allocations, want at most %d", got, limit)
			}
		})
	}
}

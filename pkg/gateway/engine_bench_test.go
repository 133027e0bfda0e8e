package gateway

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

const benchHead = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: OpenAI/Python 1.99.1\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\n" +
	"Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nX-Stainless-Lang: python\r\nX-Stainless-Retry-Count: 0\r\n" +
	"Content-Length: 1024\r\n\r\n"

func BenchmarkParseHead(b *testing.B) {
	head := []byte(benchHead)
	var r http1.Request
	var h exchange.Header
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		var scan http1.Scan
		n, err := scan.End(head)
		if err != nil || r.Parse(head[:n], &h) != nil {
			b.Fatal(err)
		}
	}
}

// nowhere is a connection that takes everything.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkWriteAnswer(b *testing.B) {
	e := NewFast(New(Options{}), Limits{}, false, zerolog.Nop())
	c := &h1conn{e: e, sys: nowhere{}, nc: nowhere{}}
	body := make([]byte, 1024)
	var h exchange.Header
	for _, f := range [][2]string{
		{"Content-Type", "application/json"},
		{"Server", "gosix"},
		{"X-Request-Id", "0123456789"},
		{"X-Ratelimit-Remaining", "99"},
		{"Cache-Control", "no-store"},
	} {
		h.Add(f[0], f[1])
	}
	x := new(fastExchange)
	b.ReportAllocs()
	for b.Loop() {
		x.sink = fastSink{}
		x.sink.serve(c, x)
		if x.sink.WriteHead(200, &h, 1024) != nil {
			b.Fatal("head")
		}
		if _, err := x.sink.Write(body); err != nil {
			b.Fatal(err)
		}
		x.sink.end()
	}
}

// BenchmarkRequest is a whole request over loopback: the client, which does as little as it
// can, the engine, the gateway and the proxying to a server that is as simple.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 128 << 10} {
		for _, engine := range []string{EngineStd, EngineFast} {
			for _, kind := range []string{"answered here", "proxied"} {
				b.Run(fmt.Sprintf("%dKB/%s/%s", size>>10, strings.ReplaceAll(kind, " ", "-"), engine), func(b *testing.B) {
					benchRequest(b, engine, kind == "proxied", size)
				})
			}
		}
	}
}

func benchRequest(b *testing.B, engine string, proxied bool, size int) {
	other := engineUnderTest
	engineUnderTest = engine
	defer func() { engineUnderTest = other }()
	ask := asking(b, proxied, size)
	b.ReportAllocs()
	before := processTime()
	for b.Loop() {
		ask()
	}
	b.ReportMetric(float64(processTime()-before)/float64(b.N), "cpu-ns/op")
}

// asking returns what makes a request and reads its answer, without taking memory for it.
func asking(t testing.TB, proxied bool, size int) func() {
	w := newLimitedWorld(t, Limits{HeaderRead: 60e9, BodyRead: 60e9, Idle: 60e9, WriteStall: 60e9}, nil)
	if proxied {
		w.put("routes/1", `{"uri":"/*","upstream":`+nodes(simple(t))+`}`)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request := []byte(strings.Replace(benchHead, "1024", fmt.Sprint(size), 1) + strings.Repeat("x", size))
	r := bufio.NewReader(conn)
	return func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if err := skipAnswer(r); err != nil {
			t.Fatal(err)
		}
	}
}

// skipAnswer reads an answer without taking memory for it.
func skipAnswer(r *bufio.Reader) error {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err = r.Discard(length)
			return err
		}
		if len(line) > 16 && strings.EqualFold(string(line[:16]), "Content-Length: ") {
			length = 0
			for _, c := range line[16 : len(line)-2] {
				length = 10*length + int(c-'0')
			}
		}
	}
}

// simple is a server that answers every request, whose bodies have a length, without taking
// memory for it.
func simple(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n" + strings.Repeat("y", 600))
				for r := bufio.NewReader(conn); skipAnswer(r) == nil; {
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

//go:build linux

package provider

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T) string {
	t.Helper()
	s, at, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return at.String()
}

func TestAnswers(t *testing.T) {
	addr := serve(t)
	long := strings.Repeat(" ", 1<<20)
	for name, tt := range map[string]struct {
		body   string
		events int // 0: the document
		usage  bool
		long   bool // it lasts as long as its gaps
	}{
		"a chat":                     {body: `{"messages":[]}`},
		"a chat of a megabyte":       {body: `{"messages":[]` + long + `}`},
		"a stream":                   {body: `{"stream":true}`, events: Events + 1, long: true},
		"a stream with usage":        {body: `{"stream":true` + long + `,"stream_options":{"include_usage":true}}`, events: Events + 2, usage: true, long: true},
		"a stream in one":            {body: `{"stream":true,"user":"burst"}`, events: Events + 1},
		"a stream in one with usage": {body: `{"stream_options":{"include_usage":true},"stream":true,"user":"burst"}`, events: Events + 2, usage: true},
	} {
		for kind, reader := range map[string]func() io.Reader{
			"with a length": func() io.Reader { return strings.NewReader(tt.body) },
			"in chunks":     func() io.Reader { return struct{ io.Reader }{strings.NewReader(tt.body)} },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				begin := time.Now()
				res, err := http.Post("http://"+addr+"/v1/chat/completions", "application/json", reader())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				text, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != 200 {
					t.Fatalf("status %d: %v", res.StatusCode, err)
				}
				if tt.events == 0 {
					if string(text) != Answer {
						t.Errorf("got %.80q", text)
					}
					return
				}
				if got := strings.Count(string(text), "\n\n"); got != tt.events || !strings.HasSuffix(string(text), done) {
					t.Errorf("%d events, want %d: %q", got, tt.events, text)
				}
				if got := strings.Contains(string(text), `"usage"`); got != tt.usage {
					t.Errorf("usage is told: %v", got)
				}
				if took := time.Since(begin); tt.long && took < (Events-1)*Gap {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

func TestRequestsThatComeTogetherAreAnsweredInOrder(t *testing.T) {
	c, err := net.Dial("tcp", serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const one = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
	if _, err := io.WriteString(c, one+one+"GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for i := range 3 {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if text, err := io.ReadAll(res.Body); err != nil || string(text) != Answer {
			t.Errorf("answer %d: %.40q, %v", i, text, err)
		}
	}
}

func TestAHeldStreamEndsWithItsClient(t *testing.T) {
	c, err := net.Dial("tcp", serve(t))
	if err != nil {
		t.Fatal(err)
	}
	body := `{"stream":true,"user":"hold"}`
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 29\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: {") {
		t.Errorf("got %q, %v", line, err)
	}
	_ = c.Close()
}

func TestAnAnswerLooksAtLittle(t *testing.T) {
	s := &Server{wires: newWires(), conns: make([]*conn, 8)}
	in := []byte("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
	c := &conn{fd: -1}
	s.take(c, in)
	if got := testing.AllocsPerRun(100, func() {
		if s.take(c, in) { // writing fails, after all that is to be measured
			t.Fatal("it was written")
		}
	}); got > 1 { // the number of the length
		t.Errorf("%v allocations", got)
	}
}

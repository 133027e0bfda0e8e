package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// These run over both engines, as all tests of the package do.

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// ended reports how a connection ends on which nothing more is to come.
func (c *client) ended() error {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 {
		c.t.Errorf("then came %q", rest)
	}
	return err
}

func TestRequestsInOnePieceAreAnsweredInOrder(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}))+`}`)
	c := w.dial()
	c.send("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none" +
		"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\ntw\r\n1\r\no\r\n0\r\nX: y\r\n\r\n" +
		"\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\nGET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	for i, want := range []string{"/1 one", "/2 two", "/3 ", "/4 "} {
		if res, body := c.ask(""); body != want || res.Close != (i == 3) {
			t.Errorf("answer %d is %d %q, closing %v, want %q", i+1, res.StatusCode, body, res.Close, want)
		}
	}
	if err := c.ended(); err != nil {
		t.Error(err)
	}
}

// A connection remembers nothing of its last requests, whichever way each of them is served.
func TestRequestsOfEveryKindFollowEachOther(t *testing.T) {
	w := newLimitedWorld(t, Limits{HeaderRead: time.Minute, BodyRead: time.Minute, Idle: time.Minute, WriteStall: time.Minute}, nil)
	w.put("routes/1", `{"uri":"/*","enable_websocket":true,"upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Length") == "unknown" {
			w.(http.Flusher).Flush()
		}
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
	}))+`}`)
	plain := []string{"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"}
	type kind struct {
		name   string
		pieces []string
		want   string // status and how the body begins
		ends   bool   // the connection
	}
	kinds := []kind{
		{"a plain request", plain, "200 GET /plain ", false},
		{"a body", []string{"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"}, "200 POST /a one", false},
		{"a body that follows", []string{"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "one"}, "200 POST /b one", false},
		{"a body in two", []string{"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\no", "ne"}, "200 POST /c one", false},
		{"a large body", []string{"POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("y", 9000)}, "200 POST /d " + strings.Repeat("y", 9000), false},
		{"chunks", []string{"POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"}, "200 POST /e one", false},
		{"chunks that follow", []string{"POST /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\no", "ne\r\n0\r\n", "\r\n"}, "200 POST /f one", false},
		{"a body with its question", []string{"POST /g HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\none"}, "200 POST /g one", false},
		{"a body with an empty line behind it", []string{"POST /h HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none\r\n"}, "200 POST /h one", false},
		{"a head in two", []string{"GET /i HTTP/1.1\r\nHo", "st: x\r\n\r\n"}, "200 GET /i ", false},
		{"a line in two", []string{"GET", " /j HTTP/1.1\r\nHost: x\r\n\r\n"}, "200 GET /j ", false},
		{"a target that is written in another way", []string{"GET /%6b HTTP/1.1\r\nHost: x\r\n\r\n"}, "200 GET /k ", false},
		{"a target with its host", []string{"GET http://x/l HTTP/1.1\r\nHost: x\r\n\r\n"}, "200 GET /l ", false},
		{"an answer in chunks", []string{"GET /m HTTP/1.1\r\nHost: x\r\nX-Length: unknown\r\n\r\n"}, "200 GET /m ", false},
		{"another protocol that there is not", []string{"GET /n HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"}, "200 GET /n ", false},
		{"an old client that stays", []string{"GET /o HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"}, "200 GET /o ", false},
		{"the last one", []string{"GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}, "200 GET /p ", true},
		{"an old client", []string{"GET /q HTTP/1.0\r\nHost: x\r\n\r\n"}, "200 GET /q ", true},
		{"what is no request", []string{"GET /r HTTP/1.1\r\nHost : x\r\n\r\n"}, "400 ", true},
		{"what nobody expects", []string{"GET /s HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"}, "417 ", true},
	}
	for n, second := range kinds {
		for _, first := range kinds {
			c := w.dial()
			for range n % 3 { // of those before it, not all are served in the same way either
				c.ask(plain[0])
			}
			for _, kind := range []kind{first, second, kinds[0]} {
				for _, piece := range kind.pieces {
					c.send(piece)
				}
				res, body := c.ask("")
				if res.StatusCode == http.StatusContinue {
					res, body = c.ask("")
				}
				if got := fmt.Sprint(res.StatusCode, " ", body); !strings.HasPrefix(got, kind.want) || res.Close != kind.ends {
					t.Fatalf("%s, %s: got %.100q, closing %v, want %.100q", first.name, second.name, got, res.Close, kind.want)
				}
				if kind.ends {
					if err := c.ended(); err != nil {
						t.Errorf("%s, %s: %v", first.name, second.name, err)
					}
					break
				}
			}
			_ = c.Close()
		}
	}
}

func TestBodiesOfEverySizeArrive(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: time.Minute}, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, parrot))+`}`)
	for _, size := range []int{1, 3900, 4000, 4096, 8192, largeBody, largeBody + 1, 300000} {
		body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		for name, request := range map[string]string{
			"by length": fmt.Sprintf("POST /x HTTP/1.1\r\nHost: x\r\nX-Size: %d\r\nContent-Length: %d\r\n\r\n%s", size, size, body),
			"in chunks": "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, 1000) + "0\r\n\r\n",
			"in pieces": "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body[:min(size, 5000)], 7) + chunked(body[min(size, 5000):], 9999) + "0\r\n\r\n",
		} {
			t.Run(fmt.Sprint(size, " ", name), func(t *testing.T) {
				c := w.dial()
				for range 2 {
					go func(c *client) { _, _ = io.WriteString(c, request) }(c)
					res, got := c.ask("")
					if res.StatusCode != 200 || got != body {
						t.Fatalf("got %d and %d bytes", res.StatusCode, len(got))
					}
					if res.Close { // the answer began before all of the body had come
						c = w.dial()
					}
				}
			})
		}
	}
}

// A large body is collected if it is there, and what comes behind it is the next request.
func TestLargeBodiesComeInAnyPieces(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: time.Minute}, nil)
	// An answer that comes before the end of its request ends the connection, so that none may.
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))+`}`)
	body := strings.Repeat("0123456789abcdef", 1<<10)
	request := fmt.Sprintf("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	small := "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\ns"
	for name, pieces := range map[string][]string{
		"at once":                    {request},
		"head first":                 {request[:len(request)-len(body)], body},
		"a piece of the body first":  {request[:5000], request[5000:]},
		"with a small one behind it": {request + small},
		"with others around it":      {small + request + small + request[:3000], request[3000:] + small},
	} {
		t.Run(name, func(t *testing.T) {
			c, sent := w.dial(), ""
			for _, p := range pieces {
				sent += p
				c.send(p)
			}
			for sent != "" {
				want, next := "s", len(small)
				if strings.HasPrefix(sent, request) {
					want, next = body, len(request)
				}
				if res, got := c.ask(""); res.StatusCode != 200 || got != want {
					t.Fatalf("got %d and %d bytes, want %d", res.StatusCode, len(got), len(want))
				}
				sent = sent[next:]
			}
		})
	}
}

func chunked(body string, size int) string {
	var b strings.Builder
	for body != "" {
		n := min(size, len(body))
		b.WriteString(strconv.FormatInt(int64(n), 16) + "\r\n" + body[:n] + "\r\n")
		body = body[n:]
	}
	return b.String()
}

func TestAHeadMayComeByteByByteAndBeLarge(t *testing.T) {
	w := newLimitedWorld(t, Limits{HeaderBytes: 32 << 10}, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, len(r.Header.Get("X-Long")))
	}))+`}`)
	c := w.dial()
	for _, b := range "GET / HTTP/1.1\r\nHost: x\r\nX-Long: abc\r\n" {
		c.send(string(b))
	}
	if _, body := c.ask("\r\n"); body != "3" {
		t.Errorf("got %q", body)
	}
	for _, size := range []int{4000, 5000, 20000} {
		if _, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", size) + "\r\n\r\n"); body != fmt.Sprint(size) {
			t.Errorf("got %q, want %d", body, size)
		}
	}
	if res, _ := c.ask("GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 50000) + "\r\n\r\n"); res.StatusCode != 431 || !res.Close {
		t.Errorf("got %d", res.StatusCode)
	}
}

func TestWhatIsNoRequestEndsItsConnection(t *testing.T) {
	w := newWorld(t, nil)
	const line, host = "POST /none HTTP/1.1\r\n", "Host: x\r\n"
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"not HTTP":                 {"hello, is there anybody?\r\n\r\n", 400},
		"a control character":      {"\x16\x03\x01 " + line + host + "\r\n", 400},
		"no host":                  {line + "\r\n", 400},
		"length and chunks":        {line + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":              {line + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"an encoding":              {line + host + "Transfer-Encoding: gzip\r\n\r\n", 501},
		"a bare line feed":         {line + "Host: x\n\r\n", 400},
		"a folded line":            {line + host + "X: a\r\n b\r\n\r\n", 400},
		"a space before the colon": {line + host + "X : a\r\n\r\n", 400},
		"a future protocol":        {"GET / HTTP/3.0\r\n" + host + "\r\n", 505},
		"what nobody expects":      {line + host + "Expect: tea\r\nContent-Length: 1\r\n\r\n", 417},
		"too many fields":          {line + host + strings.Repeat("X: a\r\n", 40) + "\r\n", 431},
		"a long target":            {"GET /" + strings.Repeat("x", 300) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		"no size of a chunk":       {line + host + "Transfer-Encoding: chunked\r\n\r\nx\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.dial()
			res, body := c.ask(tt.text)
			if res.StatusCode != tt.status && tt.status != 0 || !res.Close {
				t.Errorf("got %d %q, closing %v, want %d", res.StatusCode, body, res.Close, tt.status)
			}
			_, _ = io.WriteString(c, "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n") // which may find nobody
			_ = c.ended()
		})
	}
	if w.log.flush(); strings.Contains(w.lines.String(), "smuggled") {
		t.Errorf("the log says %s", w.lines)
	}
}

func TestAMalformedChunkIsTheClientsFault(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	c := w.dial()
	if res, _ := c.ask("POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"); res.StatusCode != 400 || !res.Close {
		t.Errorf("got %d, closing %v", res.StatusCode, res.Close)
	}
}

func TestAClientIsAskedForWhatItWouldSend(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, parrot))+`}`)
	c := w.dial()
	for range 2 {
		c.send("POST /x HTTP/1.1\r\nHost: x\r\nX-Size: 5\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if line, err := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" || err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		if line, _ := c.r.ReadString('\n'); line != "\r\n" {
			t.Fatalf("got %q", line)
		}
		if res, body := c.ask("hello"); body != "hello" || res.Close {
			t.Errorf("got %q, closing %v", body, res.Close)
		}
	}
}

func TestOldClients(t *testing.T) {
	w := newWorld(t, nil)
	var cut bool
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(w, "one ")
			_ = http.NewResponseController(w).Flush()
		}
		if cut {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "two")
	}))+`}`)
	c := w.dial()
	if res, body := c.ask("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); body != "two" || res.Proto != "HTTP/1.0" || res.Header.Get("Connection") != "keep-alive" {
		t.Errorf("got %s %q %v", res.Proto, body, res.Header)
	}
	c.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if all, err := io.ReadAll(c.r); err != nil || !strings.HasSuffix(string(all), "\r\n\r\none two") || strings.Contains(string(all), "chunked") {
		t.Errorf("got %q, %v", all, err)
	}
	cut = true
	c = w.dial()
	c.send("GET /stream HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(c.r); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an answer that was cut ends with %q, %v", all, err)
	}
}

func TestAnswersSayWhereTheyEnd(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("x", 10000)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(204)
		case "/same":
			w.WriteHeader(304)
		case "/long":
			_, _ = io.WriteString(w, long)
		default:
			_, _ = io.WriteString(w, "hello")
		}
	}))+`}`)
	c := w.dial()
	for _, tt := range []struct {
		method, path, body string
		length             int64
	}{
		{"GET", "/", "hello", 5}, {"HEAD", "/", "", 5}, {"GET", "/none", "", 0}, {"GET", "/same", "", 0}, {"GET", "/long", long, -1},
	} {
		c.send(tt.method + " " + tt.path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(c.r, &http.Request{Method: tt.method})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != tt.body || res.ContentLength != tt.length || res.Close {
			t.Errorf("%s %s: got %d bytes of %d, %v", tt.method, tt.path, len(body), res.ContentLength, err)
		}
		if res.Header.Get("Server") != "gosix/test" || res.Header.Get("Date") == "" {
			t.Errorf("%s %s: %v", tt.method, tt.path, res.Header)
		}
		if told := res.Header.Values("Content-Length"); (res.StatusCode == 204 || res.StatusCode == 304) && told != nil {
			t.Errorf("%s %s: %d tells a length of %v", tt.method, tt.path, res.StatusCode, told)
		}
	}
}

func TestAnInformationalAnswerIsForItself(t *testing.T) {
	link := strings.Repeat("x", 6000)
	w := newWorldWith(t, Limits{}, nil, func(*upstream.Client, *balancer.Cache) []plugin.Definition {
		return []plugin.Definition{{
			Name: "hints", Version: "1", Priority: 1, Schema: []byte(`{"type":"object"}`),
			New: func(*plugin.Build) (plugin.Phases, error) {
				return plugin.Phases{Access: func(c *plugin.Context) error {
					var h exchange.Header
					h.Add("Link", link)
					return c.Response.Inform(http.StatusEarlyHints, &h)
				}}, nil
			},
		}}
	})
	w.put("routes/1", `{"uri":"/*","plugins":{"hints":{}},"upstream":`+nodes(backend(t, hello))+`}`)
	for proto, hints := range map[string]int{"1.1": 1, "1.0": 0} {
		c := w.dial()
		for range 2 {
			c.send("GET / HTTP/" + proto + "\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
			for n := range hints + 1 {
				res, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				status, said, links := http.StatusOK, "hello", ""
				if n < hints {
					status, said, links = http.StatusEarlyHints, "", link
				}
				if res.StatusCode != status || string(body) != said || res.Header.Get("Link") != links {
					t.Fatalf("HTTP/%s: answer %d is a %d with %q", proto, n, res.StatusCode, body)
				}
			}
		}
	}
}

// waiting is a server that says when it was asked, and when whoever asked has left.
func waiting(t *testing.T) (addr string, asked, left chan struct{}) {
	asked, left = make(chan struct{}), make(chan struct{})
	return backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	}), asked, left
}

func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		act  func(*client)
	}{
		"it closes":               {"", func(c *client) { _ = c.Close() }},
		"it sends its last byte":  {"", func(c *client) { _ = c.Conn.(*net.TCPConn).CloseWrite() }},
		"it resets":               {"", func(c *client) { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Close() }},
		"it sent a body":          {"5\r\nhello\r\n0\r\n\r\n", func(c *client) { _ = c.Close() }},
		"the second time as well": {"again", func(c *client) { _ = c.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			addr, asked, left := waiting(t)
			w.put("routes/1", `{"uri":"/wait","upstream":`+nodes(addr)+`}`)
			c := w.dial()
			head := "GET /wait HTTP/1.1\r\nHost: x\r\n"
			switch tt.body {
			case "":
			case "again":
				c.ask("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
			default:
				head += "Transfer-Encoding: chunked\r\n"
			}
			c.send(head + "\r\n" + strings.TrimPrefix(tt.body, "again"))
			<-asked
			tt.act(c)
			<-left
			w.logs("GET /wait 499 ")
		})
	}
}

func TestAClientThatLeavesWithinItsNextRequestEndsThisOne(t *testing.T) {
	if engineUnderTest == EngineFast {
		t.Skip("there, what lies unread comes before the end of a client")
	}
	w := newWorld(t, nil)
	addr, asked, left := waiting(t)
	w.put("routes/1", `{"uri":"/wait","upstream":`+nodes(addr)+`}`)
	c := w.dial()
	c.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\nG")
	<-asked
	_ = c.Close()
	<-left
	w.logs("GET /wait 499 ")
}

// Whoever waits to be asked may have sent the body all the same.
func TestABodyThatNobodyWantsIsNotAskedFor(t *testing.T) {
	w := newWorld(t, nil)
	res, _ := w.dial().ask("POST /none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na")
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", res.StatusCode)
	}
}

func TestWhatTakesTooLongEnds(t *testing.T) {
	const short = 50 * time.Millisecond
	t.Run("nothing at all", func(t *testing.T) { _ = newLimitedWorld(t, Limits{HeaderRead: short, Idle: short}, nil).dial().ended() })
	t.Run("half a head", func(t *testing.T) {
		timetest.Stretch(t, short, func(limit time.Duration) error {
			c := newLimitedWorld(t, Limits{HeaderRead: limit}, nil).dial()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX")
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				return err // no part of it came in time
			}
			_ = res.Body.Close()
			if res.StatusCode != 408 && res.StatusCode != 400 || !res.Close {
				t.Errorf("got %d", res.StatusCode)
			}
			return nil
		})
	})
	t.Run("no next request", func(t *testing.T) {
		for n := range 3 { // who waits behind the first request may be another than behind those that follow
			timetest.Stretch(t, short, func(limit time.Duration) error {
				w := newLimitedWorld(t, Limits{Idle: limit}, nil)
				w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
				c := w.dial()
				for range n + 1 {
					_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					res, err := http.ReadResponse(c.r, nil)
					if err != nil {
						return err // it came too late
					}
					_, _ = io.Copy(io.Discard, res.Body)
				}
				if err := c.ended(); timedOut(err) {
					t.Errorf("after %d requests nobody ends the connection", n+1)
				}
				return nil
			})
		}
	})
	t.Run("an answer that is not read", func(t *testing.T) {
		w := newLimitedWorld(t, Limits{WriteStall: short}, nil)
		stopped := make(chan struct{})
		w.put("routes/1", `{"uri":"/flood","upstream":`+nodes(backend(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(stopped)
			for piece := make([]byte, 1<<20); ; {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		}))+`}`)
		c := w.dial()
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		c.send("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
		<-stopped
	})
}

func TestAConnectionThatIsClosedIsNotCounted(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial()
	c.ask("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := w.engine.Connections(); got.Accepted != 1 || got.Active != 1 {
		t.Errorf("with one connection: %+v", got)
	}
	_ = c.Close()
	timetest.Until(t, "none is counted", func() bool { return w.engine.Connections().Active == 0 })
}

func TestAnEngineThatEndsServesWhatComes(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	used, idle, fresh := w.dial(), w.dial(), w.dial()
	for _, c := range []*client{used, idle} {
		if res, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); body != "hello" || res.Close {
			t.Fatalf("got %q, closing %v", body, res.Close)
		}
	}
	w.engine.Drain(time.Hour)
	for _, c := range []*client{used, fresh, w.dial()} {
		if res, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); body != "hello" || !res.Close {
			t.Errorf("got %q, closing %v", body, res.Close)
		}
		if err := c.ended(); err != nil {
			t.Error(err)
		}
	}
	w.engine.Drain(10 * time.Millisecond)
	if err := idle.ended(); err != nil {
		t.Error(err)
	}
	if err := w.engine.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAResponseWithALineBreakStaysOneLine(t *testing.T) {
	if _, fast := newWorld(t, nil).engine.(*Fast); !fast {
		t.Skip("net/http sees to it")
	}
	for value, want := range map[string]string{"a": "a", "a\r\nX: b": "a  X: b", "a\x00b": "a b"} {
		if got := string(appendField(nil, exchange.Field{Name: "N", Value: value})); got != "N: "+want+"\r\n" {
			t.Errorf("got %q", got)
		}
	}
	if got := appendField(nil, exchange.Field{Name: "N\r\nX", Value: "v"}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// A body that nobody wants any more is interrupted by a deadline. One that comes just after the
// body's end, with which the next head has begun to come, is not that head's.
func TestALateInterruptIsNotForTheNextRequest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	c := newH1Conn(NewFast(New(Options{}), Limits{}, false, zerolog.Nop()), near)
	c.w = copy(c.room(), "GET / HT")
	_ = c.sys.SetReadDeadline(longAgo)
	if _, err := io.WriteString(far, "TP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.more(); err != nil || !strings.HasPrefix(string(c.pending()), "GET / HTTP") {
		t.Errorf("got %q, %v, want what the client sent", c.pending(), err)
	}
}

// A request that comes while another is served is not missed when that is over, wherever in it.
func TestARequestThatComesDuringAnotherIsServed(t *testing.T) {
	w := newWorld(t, nil)
	asked, goOn := make(chan struct{}), make(chan struct{})
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			asked <- struct{}{}
			<-goOn
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}))+`}`)
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	c := w.dial()
	for range 2 { // the first request of a connection may be served in another way
		for name, second := range map[string][2]string{
			"whole":               {get("/next"), ""},
			"in two pieces":       {get("/next")[:7], get("/next")[7:]},
			"after it":            {"", get("/next")},
			"two at once":         {get("/next") + get("/next"), ""},
			"one and a beginning": {get("/next") + get("/next")[:9], get("/next")[9:]},
		} {
			c.send(get("/wait"))
			<-asked
			c.send(second[0])
			goOn <- struct{}{}
			if _, body := c.ask(""); body != "/wait" {
				t.Fatalf("%s: got %q", name, body)
			}
			c.send(second[1])
			for range strings.Count(second[0]+second[1], "GET") {
				if _, body := c.ask(""); body != "/next" {
					t.Fatalf("%s: got %q", name, body)
				}
			}
		}
	}
}

// The end of a client may come with its last request, of which nothing else tells.
func TestAClientThatEndsWithARequestIsLetGo(t *testing.T) {
	w := newWorld(t, nil)
	for range 20 {
		c := w.dial()
		c.ask("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
		c.send("GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c.r) // there may be an answer
	}
}

// halved counts how often nothing is to be read from it any more.
type halved struct {
	net.Conn
	times int
}

func (h *halved) CloseRead() error {
	h.times++
	return nil
}

// To wake a connection up is told as another departure.
func TestAConnectionIsWokenUpOnce(t *testing.T) {
	var table h1table
	h := &halved{}
	c := &h1conn{sys: h, slot: 0, name: 1}
	table.conns = []*h1conn{c}
	for range 3 {
		table.departed(table.token(c))
	}
	if h.times != 1 {
		t.Errorf("it was woken up %d times", h.times)
	}
	other := &h1conn{sys: h, slot: 0, name: 2}
	other.ctx.Store(exchange.NewContext(nil))
	table.conns[0] = other
	if table.departed(table.token(other)); h.times != 1 || !other.fin.Load() {
		t.Errorf("within a request it was woken up, or not told: %v", other.fin.Load())
	}
}

// Who ends at last does not wait for a request that nothing can end.
func TestAnEngineThatEndsDoesNotWaitForWhatHangs(t *testing.T) {
	w := newWorld(t, nil)
	asked, goOn := make(chan struct{}), make(chan struct{})
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			asked <- struct{}{}
			<-goOn
		}
	}))+`}`)
	defer close(goOn)
	c, idle := w.dial(), w.dial()
	for _, c := range []*client{c, idle} {
		c.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	c.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.engine.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, c := range []*client{c, idle} {
		_, _ = io.Copy(io.Discard, c.r) // the end comes to both
	}
}

// A process may be told to end while it starts.
func TestAnEngineMayEndWhileItBeginsToServe(t *testing.T) {
	for range 200 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := NewFast(New(Options{}), Limits{}, false, zerolog.Nop())
		served := make(chan error, 1)
		go func() { served <- e.Serve(l, nil) }()
		if err := e.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
}

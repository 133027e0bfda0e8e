package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

// parrot answers with the request's body while it reads it.
func parrot(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex()
	if r.ContentLength >= 0 {
		w.Header()["Content-Length"] = r.Header["X-Size"]
	}
	_, _ = io.Copy(w, r.Body)
}

func TestAServerMayAnswerWhileTheClientSends(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: time.Minute, WriteStall: time.Minute}, nil)
	w.put("routes/1", `{"uri":"/echo","upstream":`+nodes(backend(t, parrot))+`}`)
	body := make([]byte, 32<<20)
	for i := range body {
		body[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for proto, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		for _, framing := range []string{"by length", "in chunks"} {
			t.Run(proto+", "+framing, func(t *testing.T) {
				var p http.Protocols
				set(&p)
				transport := &http.Transport{Protocols: &p}
				defer transport.CloseIdleConnections()
				var source io.Reader = bytes.NewReader(body)
				if framing == "in chunks" {
					source = struct{ io.Reader }{source}
				}
				req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/echo", source)
				if err != nil {
					t.Fatal(err)
				}
				if framing == "by length" {
					req.Header.Set("X-Size", "33554432")
				}
				res, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				got, err := io.ReadAll(res.Body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("got %d bytes, %v, want the %d that were sent", len(got), err, len(body))
				}
			})
		}
	}
}

// half sends so much of a body that an answer has begun, and leaves the rest out.
const half = 16 << 20

func TestAClientThatStopsWhileItIsAnsweredEndsBoth(t *testing.T) {
	for name, tt := range map[string]struct {
		gap time.Duration
		act func(*client)
		log string
	}{
		"it stalls": {time.Second, func(c *client) { _, _ = io.Copy(io.Discard, c.r) }, "POST /echo 200 200"},
		"it leaves": {timetest.Patience, func(c *client) { _ = c.Close() }, "POST /echo "},
	} {
		t.Run(name, func(t *testing.T) {
			timetest.Stretch(t, tt.gap, func(gap time.Duration) error {
				w := newLimitedWorld(t, Limits{BodyRead: gap, WriteStall: time.Minute}, nil)
				ended := make(chan struct{})
				up := backend(t, func(w http.ResponseWriter, r *http.Request) {
					defer close(ended)
					parrot(w, r)
				})
				w.put("routes/1", `{"uri":"/echo","upstream":`+nodes(up)+`}`)
				c := w.dial()
				sent := make(chan error, 1)
				go func() {
					_, err := io.WriteString(c, "POST /echo HTTP/1.1\r\nHost: x\r\nX-Size: 99999999\r\nContent-Length: 99999999\r\n\r\n"+strings.Repeat("x", half))
					sent <- err
				}()
				res, err := http.ReadResponse(c.r, nil)
				if err != nil {
					return err
				}
				if n, err := io.CopyN(io.Discard, res.Body, half); err != nil {
					return fmt.Errorf("got %d bytes, %w, want all that was sent", n, err)
				}
				if err := <-sent; err != nil {
					return err
				}
				tt.act(c)
				<-ended
				w.logs(tt.log)
				return nil
			})
		})
	}
}

// The server cuts its answer while the client is silent: the client learns it at once, not
// when its own limit has passed.
func TestAnAnswerThatIsCutDoesNotWaitForTheClientsBody(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: time.Hour, WriteStall: time.Hour}, nil)
	cut := make(chan struct{})
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		go func() { _, _ = io.Copy(io.Discard, rw) }()
		<-cut
	})
	w.put("routes/1", `{"uri":"/cut","upstream":`+nodes(up)+`}`)
	for proto, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		t.Run(proto, func(t *testing.T) {
			var p http.Protocols
			set(&p)
			transport := &http.Transport{Protocols: &p}
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			body, more := io.Pipe()
			defer func() { _ = more.Close() }()
			sent := make(chan struct{})
			go func() {
				_, _ = more.Write(make([]byte, half))
				close(sent)
			}()
			req, err := http.NewRequestWithContext(ctx, "POST", w.url+"/cut", body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if got, err := io.ReadAll(io.LimitReader(res.Body, 5)); string(got) != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
			<-sent
			cut <- struct{}{}
			if _, err := io.ReadAll(res.Body); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want a cut", err)
			}
			w.logs("POST /cut 200 200")
		})
	}
}

func TestARefusalOfABodyThatIsStillSent(t *testing.T) {
	w := newLimitedWorld(t, Limits{BodyRead: time.Minute, WriteStall: time.Minute}, nil)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusRequestEntityTooLarge) })
	w.put("routes/1", `{"uri":"/up","upstream":`+nodes(up)+`}`)
	res, text := w.do("POST", "/up", strings.Repeat("x", half))
	if res.StatusCode != http.StatusRequestEntityTooLarge || text != "no\n" {
		t.Errorf("got %d %q", res.StatusCode, text)
	}
}

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

// pattern is n bytes of which each place tells itself from its neighbours. It reads as a
// stream and, written to, checks what comes.
type pattern struct{ at, n int64 }

func (p *pattern) fill(b []byte) {
	for i := range b {
		at := p.at + int64(i)
		b[i] = byte(at ^ at>>8 ^ at>>16)
	}
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	p.fill(b)
	p.at += int64(len(b))
	return len(b), nil
}

func (p *pattern) Write(b []byte) (int, error) {
	want := make([]byte, len(b))
	p.fill(want)
	if p.at += int64(len(b)); p.at > p.n || !bytes.Equal(b, want) {
		return 0, fmt.Errorf("wrong bytes before offset %d", p.at)
	}
	return len(b), nil
}

func (p *pattern) bytes() []byte {
	b := make([]byte, p.n)
	p.fill(b)
	return b
}

// echo answers each request with its own body, as it comes and framed as it was.
func echo(c net.Conn, r *bufio.Reader) {
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", q.ContentLength)
		if q.ContentLength < 0 {
			head = chunked
		}
		write(c, head)
		p := make([]byte, 32<<10)
		for {
			n, err := q.Body.Read(p)
			if n > 0 && q.ContentLength < 0 {
				write(c, fmt.Sprintf("%x\r\n%s\r\n", n, p[:n]))
			} else if _, err := c.Write(p[:n]); err != nil {
				return
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
		}
		if q.ContentLength < 0 {
			write(c, "0\r\n\r\n")
		}
	}
}

// securely makes a handler one over TLS.
func securely(h func(net.Conn, *bufio.Reader)) func(net.Conn, *tls.Conn, *bufio.Reader) {
	return func(_ net.Conn, c *tls.Conn, r *bufio.Reader) { h(c, r) }
}

// transports serve a handler in every way there is to a server.
var transports = map[string]func(*testing.T, func(net.Conn, *bufio.Reader)) *Target{
	"plain": func(t *testing.T, h func(net.Conn, *bufio.Reader)) *Target { return serve(t, h) },
	"TLS 1.2": func(t *testing.T, h func(net.Conn, *bufio.Reader)) *Target {
		return serveTLS(t, tls.VersionTLS12, securely(h))
	},
	"TLS 1.3": func(t *testing.T, h func(net.Conn, *bufio.Reader)) *Target {
		return serveTLS(t, tls.VersionTLS13, securely(h))
	},
}

// patient are limits that no test comes near.
var patient = Timeouts{Connect: time.Minute, Send: time.Minute, Head: time.Minute, Read: time.Minute}

func streamed(target *Target, body io.Reader, length int64) *Request {
	r := post(target)
	r.Body, r.Stream, r.Length, r.Timeouts = nil, body, length, patient
	return r
}

func TestAServerMayAnswerWhileItReads(t *testing.T) {
	const size = 64 << 20
	whole := (&pattern{n: size}).bytes()
	for transport, over := range transports {
		for kind, request := range map[string]func(*Target) *Request{
			"segments": func(x *Target) *Request {
				r := post(x)
				r.Body, r.Timeouts = [][]byte{whole[:100], nil, whole[100 : 40<<20], whole[40<<20:]}, patient
				return r
			},
			"a stream of known length":   func(x *Target) *Request { return streamed(x, &pattern{n: size}, size) },
			"a stream of unknown length": func(x *Target) *Request { return streamed(x, &pattern{n: size}, -1) },
		} {
			t.Run(transport+", "+kind, func(t *testing.T) {
				target := over(t, echo)
				c := client(t, Options{})
				res, err := c.Do(context.Background(), request(target))
				if err != nil {
					t.Fatal(err)
				}
				if !res.Sending() {
					t.Error("the request was sent whole before the answer, which fits into no buffer")
				}
				if n, err := io.Copy(&pattern{n: size}, struct{ io.Reader }{res}); n != size || err != nil {
					t.Errorf("got %d bytes, %v, want %d", n, err, size)
				}
				if err := res.Close(); err != nil || res.Sending() {
					t.Errorf("got %v, want no sender after closing", err)
				}
				if n := len(c.idle(target)); n != 1 {
					t.Errorf("got %d idle connections, want the one: both sides ended", n)
				}
				res, err = c.Do(context.Background(), post(target, "again"))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(res); string(got) != "again" || err != nil || !res.Reused {
					t.Errorf("got %q, %v, want the same connection to serve once more", got, err)
				}
				_ = res.Close()
			})
		}
	}
}

func TestAnErrorBeforeTheBodyWasSentEndsTheSending(t *testing.T) {
	for transport, over := range transports {
		for kind, request := range map[string]func(*Target) *Request{
			"segments": func(x *Target) *Request {
				r := post(x, strings.Repeat("x", 32<<20))
				r.Timeouts = patient
				return r
			},
			"a stream": func(x *Target) *Request { return streamed(x, endless{}, -1) },
		} {
			t.Run(transport+", "+kind, func(t *testing.T) {
				stay := make(chan struct{})
				target := over(t, func(c net.Conn, r *bufio.Reader) {
					_, _ = r.ReadString('\n')
					write(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
					<-stay
				})
				t.Cleanup(func() { close(stay) })
				c := client(t, Options{})
				res, err := c.Do(context.Background(), request(target))
				if err != nil {
					t.Fatal(err)
				}
				if res.Sending() {
					t.Error("the body is sent on although the server refused it")
				}
				if got, err := io.ReadAll(res); res.Status != 413 || string(got) != "no" || err != nil {
					t.Errorf("got %d %q, %v, want 413", res.Status, got, err)
				}
				_ = res.Close()
				if n := len(c.idle(target)); n != 0 {
					t.Errorf("got %d idle connections, want none", n)
				}
			})
		}
	}
}

// What comes early and is no answer must neither end the sending nor count against it.
func TestWhatIsNoAnswerYetDoesNotStopTheSending(t *testing.T) {
	const size = 16 << 20
	for transport, over := range transports {
		for name, early := range map[string][]string{
			"informational answers": {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", answer("ok")},
			"a head in two parts":   {"HTTP/1.1 200 OK\r\nContent-", "Length: 2\r\n\r\nok"},
		} {
			t.Run(transport+", "+name, func(t *testing.T) {
				target := over(t, func(c net.Conn, r *bufio.Reader) {
					q, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					for _, part := range early {
						write(c, part)
						_, _ = io.CopyN(io.Discard, q.Body, 4<<20)
					}
					_, _ = io.Copy(io.Discard, q.Body)
					untilGone(c, r)
				})
				c := client(t, Options{})
				res, err := c.Do(context.Background(), streamed(target, &pattern{n: size}, size))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(res); res.Status != 200 || string(got) != "ok" || err != nil {
					t.Errorf("got %d %q, %v, want ok", res.Status, got, err)
				}
				_ = res.Close()
				if n := len(c.idle(target)); n != 1 {
					t.Errorf("got %d idle connections, want the one", n)
				}
			})
		}
	}
}

func TestAProtocolIsSwitchedBehindTheRequest(t *testing.T) {
	const size = 16 << 20
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		write(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n\r\n")
		if n, err := io.Copy(&pattern{n: size}, q.Body); n != size || err != nil {
			write(c, fmt.Sprint(n, err))
		}
		line, _ := r.ReadString('\n')
		write(c, line)
	})
	r := streamed(target, &pattern{n: size}, size)
	r.Upgrade = "chat"
	res, err := client(t, Options{}).Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	conn, early := res.Conn()
	write(conn, "hello\n")
	rest, _ := io.ReadAll(conn)
	_ = conn.Close()
	if got := string(early) + string(rest); got != "hello\n" {
		t.Errorf("got %q, want what was said behind the body", got)
	}
}

// gaps notes the longest time between two reads.
type gaps struct {
	io.Reader
	last    time.Time
	longest time.Duration
}

func (r *gaps) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	at := time.Now()
	r.longest, r.last = max(r.longest, at.Sub(r.last)), at
	return n, err
}

// A server that acknowledges an upload at once and takes it all the same gets it whole.
func TestAnAnswerThatEndsFirstDoesNotCutTheRequest(t *testing.T) {
	const size = 16 << 20
	for transport, over := range transports {
		// longest is the most time that the server took between two reads.
		upload := func(t *testing.T) (whole bool, longest time.Duration) {
			read := make(chan int64, 1)
			target := over(t, func(c net.Conn, r *bufio.Reader) {
				q, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				var got bytes.Buffer // looked at later: a server that takes little at a time reads on, too
				got.Grow(size + bytes.MinRead)
				body := &gaps{Reader: q.Body, last: time.Now()}
				write(c, answer("accepted"))
				_, _ = got.ReadFrom(body)
				longest = body.longest
				n, _ := got.WriteTo(&pattern{n: size})
				read <- n
				untilGone(c, r)
			})
			c := client(t, Options{})
			res, err := c.Do(context.Background(), streamed(target, &pattern{n: size}, -1))
			if err != nil {
				t.Fatal(err)
			}
			came := res.Came
			if got, err := io.ReadAll(res); string(got) != "accepted" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			_ = res.Close()
			idle, got := c.idle(target), <-read
			if len(idle) != 1 || got != size {
				t.Logf("got %d idle connections, want the one; the server got %d bytes, want %d", len(idle), got, size)
				return false, longest
			}
			if !idle[0].idleSince.time().After(came) {
				t.Error("the connection is idle since the answer came, want since the request was sent")
			}
			return true, longest
		}
		t.Run(transport, func(t *testing.T) {
			// On a busy machine the server may take nothing for longer than earlyWait, and loses
			// the rest then: that is another try, and nothing else is.
			const tries = 10
			for try := 1; ; try++ {
				whole, longest := upload(t)
				if whole {
					break
				}
				if longest < earlyWait || try == tries {
					t.Fatalf("it is cut, in try %d, whose server was away for %v at most", try, longest)
				}
			}
		})
	}
}

func TestAServerThatReadsNoFurtherMayAnswerWhole(t *testing.T) {
	const reply = 4 << 20
	// A server that closed before its answer was read would take it back: unread bytes
	// make the system reset the connection.
	for name, end := range map[string]func(c net.Conn, read, stay chan struct{}){
		"reads no more":        func(_ net.Conn, _, stay chan struct{}) { <-stay },
		"closes its read side": func(c net.Conn, _, stay chan struct{}) { _ = c.(*net.TCPConn).CloseRead(); <-stay },
		"closes":               func(_ net.Conn, read, _ chan struct{}) { <-read },
	} {
		for _, limit := range []time.Duration{time.Minute, 30 * time.Millisecond} {
			t.Run(fmt.Sprint(name, ", limit ", limit), func(t *testing.T) {
				timetest.Stretch(t, limit, func(limit time.Duration) error {
					read, stay := make(chan struct{}), make(chan struct{})
					target := serve(t, func(c net.Conn, r *bufio.Reader) {
						_, _ = r.ReadString('\n')
						write(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", reply))
						_, _ = io.Copy(c, &pattern{n: reply})
						end(c, read, stay)
					})
					t.Cleanup(func() { close(stay) })
					over := sync.OnceFunc(func() { close(read) })
					defer over() // of a test that fails, too: its server waits
					c := client(t, Options{})
					r := streamed(target, endless{}, -1)
					r.Timeouts.Send = limit
					res, err := c.Do(context.Background(), r)
					if err != nil {
						return err // the server did not answer in time
					}
					if n, err := io.Copy(&pattern{n: reply}, struct{ io.Reader }{res}); n != reply || err != nil {
						t.Errorf("got %d bytes, %v, want %d", n, err, reply)
					}
					over()
					_ = res.Close()
					if n := len(c.idle(target)); n != 0 {
						t.Errorf("got %d idle connections, want none: the request was not sent whole", n)
					}
					return nil
				})
			})
		}
	}
}

// stalling is a stream that stops after so many bytes until it is interrupted or ended.
type stalling struct {
	left    int
	stalled chan struct{} // closed when Read waits
	wake    chan error
	reads   atomic.Int64 // in progress
	broken  error
}

func stall(after int) *stalling {
	return &stalling{left: after, stalled: make(chan struct{}), wake: make(chan error, 1)}
}

func (s *stalling) Read(p []byte) (int, error) {
	s.reads.Add(1)
	defer s.reads.Add(-1)
	if s.broken != nil {
		return 0, s.broken
	}
	if s.left > 0 {
		n := min(len(p), s.left)
		s.left -= n
		return n, nil
	}
	close(s.stalled)
	s.broken = <-s.wake
	return 0, s.broken
}

func (s *stalling) Interrupt() {
	select {
	case s.wake <- os.ErrDeadlineExceeded:
	default:
	}
}

func TestEveryWayToEndTheSendingEndsIt(t *testing.T) {
	const all = 1 << 50
	gone := errors.New("client is gone")
	// begun answers early and reads so many bytes of the body.
	begun := func(reads int64, stay chan struct{}) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			write(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			_, _ = io.CopyN(io.Discard, q.Body, reads)
			if reads == all {
				return
			}
			<-stay
		}
	}
	for transport, over := range transports {
		for name, tt := range map[string]struct {
			reads   int64
			stream  func() io.Reader // nil: a large body in memory
			stalls  bool             // wait until the stream stalls
			act     func(*Response, *stalling, context.CancelFunc)
			want    error // of reading on; nil: it is not tried
			limited bool
		}{
			"closing while a write waits":              {0, func() io.Reader { return endless{} }, false, nil, nil, false},
			"closing while a large write waits":        {0, nil, false, nil, nil, false},
			"closing while the client's bytes move":    {all, func() io.Reader { return endless{} }, false, nil, nil, false},
			"closing while the client stalls":          {all, func() io.Reader { return stall(8 << 20) }, true, nil, nil, false},
			"cancelled while a write waits":            {0, func() io.Reader { return endless{} }, false, func(_ *Response, _ *stalling, cancel context.CancelFunc) { cancel() }, context.Canceled, false},
			"cancelled while a large write waits":      {0, nil, false, func(_ *Response, _ *stalling, cancel context.CancelFunc) { cancel() }, context.Canceled, false},
			"cancelled while the client stalls":        {all, func() io.Reader { return stall(8 << 20) }, true, func(_ *Response, _ *stalling, cancel context.CancelFunc) { cancel() }, context.Canceled, false},
			"a client that leaves":                     {all, func() io.Reader { return stall(8 << 20) }, true, func(_ *Response, s *stalling, _ context.CancelFunc) { s.wake <- gone }, gone, false},
			"a server that takes no more for too long": {0, func() io.Reader { return endless{} }, false, func(res *Response, _ *stalling, _ context.CancelFunc) { <-res.sender.done }, nil, true},
		} {
			t.Run(transport+", "+name, func(t *testing.T) {
				var s *stalling
				var c *Client
				var target *Target
				var res *Response
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				begin := func(send time.Duration) (err error) {
					stay := make(chan struct{})
					target = over(t, begun(tt.reads, stay))
					t.Cleanup(func() { close(stay) })
					r := post(target, strings.Repeat("x", 16<<20))
					r.Timeouts = patient
					if tt.stream != nil {
						r = streamed(target, tt.stream(), -1)
						s, _ = r.Stream.(*stalling)
					}
					r.Timeouts.Send = send
					c = client(t, Options{})
					if res, err = c.Do(ctx, r); err != nil {
						return err
					}
					if !res.Sending() {
						_ = res.Close()
						return errors.New("nothing is sent beside the answer")
					}
					return nil
				}
				if tt.limited { // the server has to answer within the limit
					timetest.Stretch(t, 30*time.Millisecond, begin)
				} else if err := begin(patient.Send); err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 5)
				if _, err := io.ReadFull(res, p); err != nil {
					t.Fatal(err)
				}
				if tt.stalls {
					<-s.stalled
				}
				if tt.act != nil {
					tt.act(res, s, cancel)
				}
				if tt.want != nil {
					_, err := io.ReadAll(res)
					if e := failure(t, err); !errors.Is(err, tt.want) || (tt.want == gone) != (e.Client != nil) {
						t.Errorf("got %+v, want %v", e, tt.want)
					}
				}
				_ = res.Close()
				if s != nil && s.reads.Load() != 0 {
					t.Error("the stream is being read after Close")
				}
				if n := len(c.idle(target)); n != 0 {
					t.Errorf("got %d idle connections, want none", n)
				}
			})
		}
	}
}

// A stream that broke while its answer began is no request; one that is too long is two.
func TestABrokenBodyBreaksItsAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		stream io.Reader
		length int64
		want   error
	}{
		"too short": {&pattern{n: 20 << 20}, 20<<20 + 1, errShort},
		"too long":  {&pattern{n: 20<<20 + 1}, 20 << 20, errLong},
		"an error":  {io.MultiReader(&pattern{n: 20 << 20}, iotest.ErrReader(io.ErrClosedPipe)), -1, io.ErrClosedPipe},
	} {
		t.Run(name, func(t *testing.T) {
			target := serve(t, echo)
			c := client(t, Options{})
			res, err := c.Do(context.Background(), streamed(target, tt.stream, tt.length))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, res)
			if e := failure(t, err); e.Op != OpSend || !errors.Is(e.Client, tt.want) || !e.Wrote {
				t.Errorf("got %+v, want the client's error %v", e, tt.want)
			}
			_ = res.Close()
			if n := len(c.idle(target)); n != 0 {
				t.Errorf("got %d idle connections, want none", n)
			}
		})
	}
}

// silent is a connection whose reads run into their limit; what it does meanwhile is up to
// the test.
type silent struct {
	script
	reads []func()
}

func (s *silent) Read([]byte) (int, error) {
	s.reads[0]()
	s.reads = s.reads[1:]
	return 0, os.ErrDeadlineExceeded
}

// SetReadDeadline returns when the deadline has passed.
func (s *silent) SetReadDeadline(at time.Time) error {
	for time.Now().Before(at) {
		continue
	}
	return nil
}

func TestAServerIsNotSilentWhileTheRequestMoves(t *testing.T) {
	s := &sender{}
	c := &silent{reads: []func(){func() { s.sent.Add(1) }, func() { s.sent.Add(1) }, func() {}}}
	k := &conn{Conn: c}
	k.sender.Store(s)
	k.limitRead(1)
	if n, err := k.read(make([]byte, 1)); n != 0 || !timedOut(err) || len(c.reads) != 0 {
		t.Errorf("got %d, %v with %d reads left, want the limit to count from the last byte that was sent", n, err, len(c.reads))
	}
}

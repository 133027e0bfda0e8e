package drain

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is how long a test waits for what must come; never is longer than any test.
const (
	patience = timetest.Patience
	never    = time.Hour
)

// served is a server that ends in order.
type served struct {
	t *testing.T
	*Server
	addr   string
	closed chan error // what Serve returned
}

func serve(t *testing.T, h http.HandlerFunc, secure *tls.Config) *served {
	t.Helper()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: &p, IdleTimeout: never, ReadHeaderTimeout: never, ErrorLog: log.New(io.Discard, "", 0)}
	d := &served{t: t, Server: Attach(s), closed: make(chan error, 1)}
	s.Handler = d.Handler(h)
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	go func() { d.closed <- d.Serve(l, secure) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-d.closed; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return d
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// client is a connection that is written to by hand.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (d *served) dial() *client {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	return newClient(d.t, conn)
}

func newClient(t *testing.T, conn net.Conn) *client {
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one and reports whether it says Connection: close.
func (c *client) answer() bool {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "hello" {
		c.t.Fatalf("got %q, %v", body, err)
	}
	return res.Close
}

// ended reads the end of a connection.
func (c *client) ended() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err != io.EOF {
		c.t.Errorf("got %q, %v, want the end", b, err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestAConnectionIsToldBeforeItIsClosed(t *testing.T) {
	d := serve(t, hello, nil)
	idle, fresh := d.dial(), d.dial()
	idle.send(get)
	if idle.answer() {
		t.Error("a server that does not end says Connection: close")
	}
	d.Begin(never)
	for name, c := range map[string]*client{"one that waited": idle, "one that had sent nothing": fresh, "one that came later": d.dial()} {
		c.send(get)
		if !c.answer() {
			t.Errorf("%s: the answer does not say Connection: close", name)
		}
		c.ended()
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestASilentConnectionIsClosedAfterItsGrace(t *testing.T) {
	d := serve(t, hello, nil)
	idle, fresh, begun := d.dial(), d.dial(), d.dial()
	idle.send(get)
	idle.answer()
	half := len(get) / 2
	begun.send(get[:half])
	d.known(3)
	d.saw(begun)
	d.Begin(time.Millisecond)
	idle.ended()
	fresh.ended()
	// It has begun a request, which is no silence.
	begun.send(get[half:])
	if !begun.answer() {
		t.Error("the answer does not say Connection: close")
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// known waits until the server has taken over that many connections.
func (d *served) known(n int) {
	d.wait("connections", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.conns) == n
	})
}

// saw waits until the server has read something of a connection.
func (d *served) saw(c *client) {
	d.wait("bytes", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for own := range d.conns {
			if own.RemoteAddr().String() == c.LocalAddr().String() {
				own.mu.Lock()
				defer own.mu.Unlock()
				return !own.waiting
			}
		}
		return false
	})
}

func (d *served) wait(what string, ok func() bool) {
	d.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			d.t.Fatalf("it did not come to pass: %s", what)
		}
	}
}

func TestAConnectionWhoseAnswerBeganBeforeGetsAGraceBehindIt(t *testing.T) {
	begun, more := make(chan struct{}), make(chan struct{})
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hel")
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			close(begun)
			<-more
		}
		_, _ = io.WriteString(w, "lo")
	}, nil)
	c := d.dial()
	c.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	d.Begin(never)
	done := make(chan error, 1)
	go func() { done <- d.Shutdown(t.Context()) }()
	d.wait("the listener is closed", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.shut && len(d.doors) == 0
	})
	close(more)
	if c.answer() {
		t.Error("an answer that began before the end says Connection: close")
	}
	c.send(get)
	if !c.answer() {
		t.Error("the next one does not")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestARequestOfTheLastMomentIsServed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	d := Attach(&http.Server{})
	d.Begin(0)
	for name, text := range map[string]string{"something came": "hello", "nothing came": ""} {
		t.Run(name, func(t *testing.T) {
			here, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = here.Close() }()
			there, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = there.Close() }()
			c := &conn{Conn: there, tcp: there.(*net.TCPConn), server: d, fresh: true, waiting: true}
			_, _ = io.WriteString(here, text)
			if text != "" {
				// A byte that was read says that the others are there, too.
				if _, err := c.tcp.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				text = text[1:]
			}
			_ = c.SetReadDeadline(time.Time{}) // and the grace is over at once
			var m purse
			p := m.bytes[:]
			n, err := c.ReadInto(&m)
			if m.taken.Load() != (n > 0) {
				t.Errorf("read %d bytes, and has memory: %v", n, m.taken.Load())
			}
			var timeout net.Error
			switch {
			case text != "" && (err != nil || string(p[:n]) != text):
				t.Errorf("got %q, %v, want %q", p[:n], err, text)
			case text == "" && (n != 0 || !errors.As(err, &timeout) || !timeout.Timeout()):
				t.Errorf("got %q, %v, want a timeout", p[:n], err)
			}
		})
	}
}

// Clients come without a pause while the listener closes: whoever gets in gets an answer.
func TestWhoGotInIsServed(t *testing.T) {
	d := serve(t, hello, nil)
	var clients sync.WaitGroup
	var answers atomic.Int64
	for range 16 {
		clients.Go(func() {
			for {
				conn, err := net.DialTimeout("tcp", d.addr, patience)
				if err != nil {
					return // the door is closed
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, err = io.WriteString(conn, get)
				if err == nil {
					var res *http.Response
					if res, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
						_, err = io.ReadAll(res.Body)
					}
				}
				_ = conn.Close()
				if err != nil {
					t.Errorf("a client that got in: %v", err)
					return
				}
				answers.Add(1)
			}
		})
	}
	d.wait("answers", func() bool { return answers.Load() > 100 })
	d.Begin(never) // who got in says something, if late
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	clients.Wait()
}

func TestShutdownWaitsAsLongAsItMay(t *testing.T) {
	begun, leave := make(chan struct{}), make(chan struct{})
	d := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-leave
		hello(w, r)
	}, nil)
	c := d.dial()
	c.send(get)
	<-begun
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(leave)
	c.answer()
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	// A server that has ended serves nobody.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(l, nil); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("its listener is open: %v", err)
	}
}

// frame reads one of HTTP/2.
func (c *client) frame() (kind byte, stream uint32, body []byte) {
	c.t.Helper()
	var head [9]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		c.t.Fatal(err)
	}
	body = make([]byte, payload(head))
	if _, err := io.ReadFull(c.r, body); err != nil {
		c.t.Fatal(err)
	}
	return head[3], binary.BigEndian.Uint32(head[5:]), body
}

// until reads frames up to one of a kind.
func (c *client) until(want byte) (stream uint32, body []byte) {
	c.t.Helper()
	for {
		kind, stream, body := c.frame()
		if kind == want {
			return stream, body
		}
	}
}

const (
	headersFrame = 1
	goAwayFrame  = 7
)

// ask opens a stream with GET /.
func (c *client) ask(stream uint32) {
	c.t.Helper()
	block := "\x82\x86\x84\x41\x01x"
	head := []byte{0, 0, byte(len(block)), headersFrame, 5, 0, 0, 0, byte(stream)}
	c.send(string(head) + block)
}

func TestHTTP2IsToldToGoBeforeAnythingIsRefused(t *testing.T) {
	pair, err := tls.LoadX509KeyPair(certtest.Files(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secure := range map[string]*tls.Config{
		"in the clear": nil,
		"over TLS":     {Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var over atomic.Bool // TLS, and known to the handler
			d := serve(t, func(w http.ResponseWriter, r *http.Request) {
				over.Store(r.TLS != nil && r.TLS.NegotiatedProtocol == "h2")
				hello(w, r)
			}, secure)
			c := d.dial()
			if secure != nil {
				c = newClient(t, tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
			}
			c.send(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // and empty SETTINGS
			c.ask(1)
			if stream, _ := c.until(headersFrame); stream != 1 {
				t.Errorf("an answer on stream %d", stream)
			}
			if over.Load() != (secure != nil) {
				t.Errorf("the handler was told of TLS: %v", over.Load())
			}
			d.Begin(never)
			if _, body := c.until(goAwayFrame); binary.BigEndian.Uint32(body) != 1<<31-1 || binary.BigEndian.Uint32(body[4:]) != 0 {
				t.Errorf("the first GOAWAY says % x", body)
			}
			c.ask(3)
			if stream, _ := c.until(headersFrame); stream != 3 {
				t.Errorf("an answer on stream %d", stream)
			}
			d.Begin(0)
			c.ask(5)
			if _, body := c.until(goAwayFrame); binary.BigEndian.Uint32(body) != 5 || binary.BigEndian.Uint32(body[4:]) != 0 {
				t.Errorf("the last GOAWAY says % x", body)
			}
			if err := d.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection with HTTP/2 that comes during the end gets its answer, too.
func TestHTTP2ThatComesLateIsServed(t *testing.T) {
	d := serve(t, hello, nil)
	d.Begin(never)
	c := d.dial()
	c.send(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	for stream := uint32(1); stream <= 3; stream += 2 {
		c.ask(stream)
		if got, _ := c.until(headersFrame); got != stream {
			t.Errorf("an answer on stream %d, want %d", got, stream)
		}
	}
	_ = c.Close()
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// written is a connection that keeps what is written.
type written struct {
	net.Conn
	strings.Builder
}

func (w *written) Write(p []byte) (int, error) { return w.Builder.Write(p) }

// However frames are cut into writes and whenever it is due, the GOAWAY stands between two of
// them, once, and never before the first.
func FuzzAGoAwayStandsBetweenFrames(f *testing.F) {
	f.Add([]byte{3, 0, 200, 1}, []byte{1, 9, 4, 250}, uint8(0))
	f.Add([]byte{0, 0, 0}, []byte{30}, uint8(1))
	f.Add([]byte{9, 9}, []byte{}, uint8(3))
	f.Fuzz(func(t *testing.T, sizes, cuts []byte, when uint8) {
		var all []byte
		for i, n := range sizes {
			all = append(all, 0, 0, n, 9, 0, 0, 0, 0, byte(i))
			for range n {
				all = append(all, 7) // looks like a GOAWAY where it is taken for a head
			}
		}
		out := &written{}
		c := &frames{Conn: out}
		rest := all
		for i := 0; len(rest) > 0; i++ {
			if i == int(when) {
				c.advise()
				c.advise()
			}
			n := len(rest)
			if i < len(cuts) {
				n = min(n, int(cuts[i]))
			}
			if m, err := c.Write(rest[:n]); m != n || err != nil {
				t.Fatalf("wrote %d of %d: %v", m, n, err)
			}
			rest = rest[n:]
		}
		c.advise()
		got := out.String()
		if len(sizes) == 0 {
			if got != "" {
				t.Fatalf("got %x before the first frame", got)
			}
			return
		}
		var frames []byte
		told := 0
		for at := 0; at < len(got); {
			end := at + 9 + payload([9]byte([]byte(got[at:at+9])))
			if got[at:end] == string(goAway) {
				told++
				if at == 0 {
					t.Error("it stands before the first frame")
				}
			} else {
				frames = append(frames, got[at:end]...)
			}
			at = end
		}
		if told != 1 || string(frames) != string(all) {
			t.Errorf("told %d times in %x", told, got)
		}
	})
}

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/gosix/gosix/internal/timetest"
)

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// serveTLS is serve over TLS of one version. The handler's raw connection lies below.
func serveTLS(t *testing.T, version uint16, h func(raw net.Conn, c *tls.Conn, r *bufio.Reader)) *Target {
	t.Helper()
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	target := serve(t, func(raw net.Conn, _ *bufio.Reader) {
		g := &gathering{Conn: raw}
		c := tls.Server(g, certified.TLS)
		h(g, c, bufio.NewReader(c))
	})
	target.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version} //nolint:gosec // a test's own server
	return target
}

// gathering is a connection that can hold back what is written and send it as one piece.
type gathering struct {
	net.Conn
	hold bool
	held bytes.Buffer
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.hold {
		return g.held.Write(p)
	}
	return g.Conn.Write(p)
}

func (g *gathering) release() {
	g.hold = false
	_, _ = g.Conn.Write(g.held.Bytes())
	g.held.Reset()
}

// The second record lies decrypted in no buffer of ours and waits on no socket.
func TestAnAnswerNobodyAskedForIsDroppedOverTLS(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			target := serveTLS(t, version, func(raw net.Conn, c *tls.Conn, r *bufio.Reader) {
				g := raw.(*gathering)
				for {
					if _, _, ok := request(r); !ok {
						return
					}
					g.hold = true
					write(c, answer("own"))
					write(c, answer("another's"))
					g.release()
				}
			})
			c := client(t, Options{})
			for range 3 {
				if got := do(t, c, get(target)); got != "own" {
					t.Errorf("got answer %q, want the request's own", got)
				}
			}
		})
	}
}

// The rest of the record may come with the next answer, before it.
func TestHalfARecordBehindAnAnswerIsNoticed(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			target := serveTLS(t, version, func(raw net.Conn, c *tls.Conn, r *bufio.Reader) {
				g := raw.(*gathering)
				for {
					if _, _, ok := request(r); !ok {
						return
					}
					g.hold = true
					write(c, answer("own"))
					whole := g.held.Len()
					write(c, answer("another's"))
					g.held.Truncate(whole + (g.held.Len()-whole)/2)
					g.release()
				}
			})
			c := client(t, Options{})
			if got := do(t, c, get(target)); got != "own" {
				t.Errorf("got answer %q, want the request's own", got)
			}
			if n := len(c.idle(target)); n != 0 {
				t.Errorf("got %d idle connections, want none", n)
			}
		})
	}
}

func TestRecordsAreFollowedHoweverTheyAreCut(t *testing.T) {
	record := func(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	stream := slices.Concat(record(1), record(0), record(300), record(16<<10))
	ends := map[int]bool{0: true, 6: true, 11: true, 316: true, len(stream): true}
	for _, step := range []int{1, 2, 3, 5, 7, 300, len(stream)} {
		b := &beneath{}
		for at := 0; at < len(stream); at += step {
			to := min(at+step, len(stream))
			b.follow(stream[at:to])
			if b.torn() == ends[to] {
				t.Fatalf("in steps of %d: torn %v after %d bytes", step, b.torn(), to)
			}
		}
	}
}

// A new connection sends a request of many bytes in full records.
func TestRequestsAreSentInFullRecords(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			var written atomic.Int64
			o := Options{Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return &writes{Conn: c, n: &written}, err
			}}
			target := serveTLS(t, version, func(_ net.Conn, c *tls.Conn, r *bufio.Reader) {
				for {
					if _, _, ok := request(r); !ok {
						return
					}
					write(c, answer("ok"))
				}
			})
			c := client(t, o)
			do(t, c, post(target, strings.Repeat("x", 64)))
			before := written.Load()
			do(t, c, post(target, strings.Repeat("x", 60<<10)))
			// With head and body that is four records, and the head's own.
			if got := written.Load() - before; got > 5 {
				t.Errorf("wrote %d times, want at most 5", got)
			}
		})
	}
}

// writes is a connection that counts what is written to it.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (w *writes) Write(p []byte) (int, error) {
	w.n.Add(1)
	return w.Conn.Write(p)
}

// What looks behind an answer for further records must not spoil the connection.
func TestASecureConnectionIsUsedAgain(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			handler := numbered()
			target := serveTLS(t, version, func(_ net.Conn, c *tls.Conn, r *bufio.Reader) { handler(c, r) })
			c := client(t, Options{})
			for _, want := range []string{"1.1", "1.2", "1.3"} {
				r := get(target)
				r.Timeouts = Timeouts{Connect: time.Minute, Send: time.Minute, Head: time.Minute, Read: time.Minute}
				if got := do(t, c, r); got != want {
					t.Errorf("got answer %s, want %s", got, want)
				}
				if got := do(t, c, get(&Target{Addr: target.Addr, TLS: target.TLS, Class: "other"})); got[0] != '2' {
					t.Errorf("got answer %s, want one of the second connection", got)
				}
			}
		})
	}
}

// counting is a connection with its socket that counts what is written to it.
type counting struct {
	*net.TCPConn
	writes *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(p)
}

// A server that answered early and reads no more has no room for a goodbye: writing one
// would make Close wait.
func TestNothingIsWrittenAfterAnEarlyAnswerOverTLS(t *testing.T) {
	stay := make(chan struct{})
	target := serveTLS(t, tls.VersionTLS13, func(_ net.Conn, c *tls.Conn, r *bufio.Reader) {
		_, _ = r.ReadString('\n')
		write(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		<-stay
	})
	t.Cleanup(func() { close(stay) })
	var writes atomic.Int64
	c := client(t, Options{Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return counting{c.(*net.TCPConn), &writes}, nil
	}})
	r := post(target, strings.Repeat("x", 32<<20))
	r.Timeouts = Timeouts{Head: time.Minute, Read: time.Minute}
	var res *Response
	timetest.Stretch(t, 100*time.Millisecond, func(limit time.Duration) (err error) {
		r.Timeouts.Send = limit
		res, err = c.Do(context.Background(), r) // fails if the server does not answer within the limit
		return err
	})
	if got, err := io.ReadAll(res); res.Status != 413 || string(got) != "no" || err != nil {
		t.Errorf("got %d %q, %v, want 413", res.Status, got, err)
	}
	before := writes.Load()
	_ = res.Close()
	if got := writes.Load(); got != before {
		t.Errorf("got %d writes while closing, want none", got-before)
	}
	if n := len(c.idle(target)); n != 0 {
		t.Errorf("got %d idle connections, want none", n)
	}
}

// The goodbye of TLS is an end of the connection, not of a body.
func TestACutOverTLSIsNotTheEndOfABody(t *testing.T) {
	for name, version := range versions {
		for where, raw := range map[string]string{
			"in the head":             "HTTP/1.1 200 OK\r\nContent-",
			"before the head":         "",
			"in a body by length":     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsome",
			"in a chunk":              chunked + "5\r\nsome",
			"between chunks":          chunked + "4\r\nsome\r\n",
			"before the end's end":    chunked + "4\r\nsome\r\n0\r\n",
			"within a trailer's line": chunked + "4\r\nsome\r\n0\r\nX-A: b",
		} {
			for how, end := range map[string]func(net.Conn, *tls.Conn){
				"with a goodbye":    func(_ net.Conn, c *tls.Conn) { _ = c.Close() },
				"without a goodbye": func(raw net.Conn, _ *tls.Conn) { _ = raw.Close() },
			} {
				t.Run(name+", "+where+", "+how, func(t *testing.T) {
					target := serveTLS(t, version, func(conn net.Conn, c *tls.Conn, r *bufio.Reader) {
						request(r)
						write(c, raw)
						end(conn, c)
					})
					c := client(t, Options{})
					if err := exchangeAll(context.Background(), c, post(target, "x")); !isCut(err) {
						t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
					}
					if n := len(c.idle(target)); n != 0 {
						t.Errorf("got %d idle connections, want none", n)
					}
				})
			}
		}
	}
}

// Where the name that a server is asked for by is that of a client's Host, it ends with the
// request, and its memory becomes another's.
func TestAPoolKeepsNoPartOfARequest(t *testing.T) {
	target := serveTLS(t, tls.VersionTLS13, func(_ net.Conn, c *tls.Conn, r *bufio.Reader) {
		for n := 1; ; n++ {
			if _, _, ok := request(r); !ok {
				return
			}
			write(c, answer(fmt.Sprint(c.ConnectionState().ServerName, " ", n)))
		}
	})
	c := client(t, Options{})
	ask := func(name string, lasts bool) string {
		return do(t, c, get(&Target{Addr: target.Addr, TLS: target.TLS, SNI: name, NoKeepAlive: !lasts}))
	}
	memory := []byte("one.test")
	if got, want := ask(unsafe.String(&memory[0], len(memory)), true), "one.test 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	copy(memory, "two.test")
	if got, want := ask("one.test", true), "one.test 2"; got != want {
		t.Errorf("once the first request is over: got %q, want %q", got, want)
	}
	if got, want := ask("one.test", false), "one.test 1"; got != want {
		t.Errorf("over a new connection: got %q, want %q", got, want)
	}
}

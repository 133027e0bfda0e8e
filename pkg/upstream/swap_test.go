//go:build linux || darwin || freebsd || netbsd || openbsd

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/socket"
)

// dialled is a connection of c to the target, as if it had served before, with the other end
// of it.
func dialled(t *testing.T, c *Client) (*conn, *net.TCPConn, *Request) {
	t.Helper()
	ends := make(chan net.Conn, 1)
	done := make(chan struct{})
	target := serve(t, func(end net.Conn, _ *bufio.Reader) {
		ends <- end
		<-done
	})
	t.Cleanup(func() { close(done) })
	r := get(target)
	k, err := c.dial(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Conn.Close() })
	k.served = 1
	return k, (<-ends).(*net.TCPConn), r
}

func staged(t *testing.T, k *conn, r *Request) *outgoing {
	t.Helper()
	o := &outgoing{}
	if err := o.assemble(r); err != nil {
		t.Fatal(err)
	}
	if o.stage(k, r); !k.swapping(o) {
		t.Fatal("the request does not take the short way")
	}
	return o
}

func TestTheShortWayBringsTheAnswer(t *testing.T) {
	for name, body := range map[string][][]byte{
		"":          nil,
		"in parts":  {bytes.Repeat([]byte("a"), 5000), nil, bytes.Repeat([]byte("b"), 9000)},
		"one large": {bytes.Repeat([]byte("c"), 40<<10)},
		"watched":   {bytes.Repeat([]byte("d"), patience), []byte("e")}, // what is left of it would be
	} {
		t.Run(name, func(t *testing.T) { shortWay(t, body) })
	}
}

func shortWay(t *testing.T, body [][]byte) {
	k, far, r := dialled(t, client(t, Options{}))
	r.Method, r.Body = "POST", body
	o := staged(t, k, r)
	want := string(bytes.Join(o.rest, nil))
	got := make([]byte, len(want))
	answered := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(far, got)
		_, _ = io.WriteString(far, "answer")
		answered <- err
	}()
	dead, sent, read := k.exchange(o)
	if dead || sent != nil || read != nil {
		t.Fatalf("got dead %v, %v, %v", dead, sent, read)
	}
	if err := <-answered; err != nil || string(got) != want {
		t.Errorf("the server got %q, %v, want %q", got, err, want)
	}
	if !k.wrote || !k.answered || len(o.rest) != 0 || string(k.buf[k.r:k.w]) != "answer" {
		t.Errorf("got %q, wrote %v, answered %v, %d left to write", k.buf[k.r:k.w], k.wrote, k.answered, len(o.rest))
	}
}

func TestTheShortWayLooksBeforeItWrites(t *testing.T) {
	for name, what := range map[string]func(*net.TCPConn){
		"the server left":                func(far *net.TCPConn) { _ = far.Close() },
		"the server will write no more":  func(far *net.TCPConn) { _ = far.CloseWrite() },
		"the server broke it off":        func(far *net.TCPConn) { _ = far.SetLinger(0); _ = far.Close() },
		"it said what nobody asked for":  func(far *net.TCPConn) { _, _ = io.WriteString(far, answer("another's")) },
		"it said so and then left, even": func(far *net.TCPConn) { _, _ = io.WriteString(far, answer("another's")); _ = far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			k, far, r := dialled(t, client(t, Options{}))
			what(far)
			until(t, "it has arrived", func() bool { return k.look() != socket.Quiet })
			o := staged(t, k, r)
			dead, sent, read := k.exchange(o)
			if !dead || sent != nil || read != nil || k.wrote || len(o.rest) != 1 {
				t.Errorf("got dead %v, %v, %v, wrote %v, %d left to write", dead, sent, read, k.wrote, len(o.rest))
			}
		})
	}
}

func TestADeadConnectionIsFollowedByTheNext(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	var held []*Response
	for range 3 {
		res, err := c.Do(context.Background(), post(target, "x"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, res)
	}
	for _, res := range held {
		_, _ = io.ReadAll(res)
		_ = res.Close()
	}
	// The two that were used last are gone.
	for _, k := range c.idle(target)[1:] {
		_ = k.Conn.(*net.TCPConn).CloseRead()
	}
	if got := do(t, c, post(target, "x")); got != "1.2" {
		t.Errorf("got answer %s, want the second on the first connection", got)
	}
	if n := len(c.idle(target)); n != 1 {
		t.Errorf("got %d idle connections, want 1", n)
	}
}

func TestWhatTheSocketDoesNotTakeIsSentBesides(t *testing.T) {
	const size = 8 << 20
	k, far, r := dialled(t, client(t, Options{}))
	o := &outgoing{vec: net.Buffers{bytes.Repeat([]byte("x"), size)}}
	o.rest = o.vec
	dead, sent, read := k.exchange(o)
	if dead || sent != nil || read != nil || !k.wrote || len(o.rest) != 1 {
		t.Fatalf("got dead %v, %v, %v, wrote %v, %d left to write", dead, sent, read, k.wrote, len(o.rest))
	}
	go func() {
		_ = k.send(r, o)
		_ = k.Conn.(*net.TCPConn).CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, far); n != size || err != nil {
		t.Errorf("the server got %d bytes, %v, want %d", n, err, size)
	}
}

func TestTheShortWayEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration // 0: none
		what  func(*conn, *net.TCPConn)
		ok    func(sent, read error) bool
	}{
		{
			"at its limit", time.Millisecond,
			func(*conn, *net.TCPConn) {},
			func(sent, read error) bool {
				return sent == nil && timedOut(read) && strings.HasPrefix(read.Error(), "read tcp ")
			},
		},
		{
			"with a cancellation", time.Hour,
			func(k *conn, _ *net.TCPConn) { k.cancel() },
			func(sent, read error) bool { return sent == nil && timedOut(read) },
		},
		{
			"with the server's end", 0,
			func(_ *conn, far *net.TCPConn) { _ = far.CloseWrite() },
			func(sent, read error) bool { return sent == nil && errors.Is(read, io.ErrUnexpectedEOF) },
		},
		{
			"with a reset", 0,
			func(_ *conn, far *net.TCPConn) { _ = far.SetLinger(0); _ = far.Close() },
			func(sent, read error) bool { return sent == nil && strings.Contains(read.Error(), "connection reset") },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			try := func(limit time.Duration) error {
				k, far, r := dialled(t, client(t, Options{}))
				o := staged(t, k, r)
				go func() {
					_, _ = far.Read(make([]byte, 1<<10))
					tt.what(k, far)
				}()
				k.limitRead(limit)
				if dead, sent, read := k.exchange(o); dead || !tt.ok(sent, read) || !k.wrote {
					return fmt.Errorf("got dead %v, %v, %v, wrote %v", dead, sent, read, k.wrote)
				}
				return nil
			}
			if tt.limit > 0 { // which may pass before anything is written
				timetest.Stretch(t, tt.limit, try)
			} else if err := try(0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestACancelledConnectionSendsNothing(t *testing.T) {
	k, _, r := dialled(t, client(t, Options{}))
	o := staged(t, k, r)
	k.cancel()
	if dead, sent, read := k.exchange(o); dead || !timedOut(sent) || read != nil || k.wrote {
		t.Errorf("got dead %v, %v, %v, wrote %v", dead, sent, read, k.wrote)
	}
}

// The deadline is one of an earlier exchange, and ends nothing of this one.
func TestADeadlineThatComesTooEarlyDoesNotEndTheShortWay(t *testing.T) {
	k, far, r := dialled(t, client(t, Options{}))
	o := staged(t, k, r)
	k.limitRead(time.Hour)
	go func() {
		_, _ = far.Read(make([]byte, 1<<10))
		_ = k.Conn.SetReadDeadline(longAgo)
	}()
	dead, sent, read := k.exchange(o)
	if dead || sent != nil || read != nil || !k.wrote || k.answered {
		t.Fatalf("got dead %v, %v, %v, wrote %v, answered %v", dead, sent, read, k.wrote, k.answered)
	}
	_, _ = io.WriteString(far, answer("x"))
	if err := k.fill(); err != nil || !k.answered {
		t.Errorf("got %v, want the answer", err)
	}
}

// startling is a context that panics where the cause of a failure is looked for.
type startling struct {
	context.Context
	asked int
}

func (s *startling) Err() error {
	if s.asked++; s.asked > 1 {
		panic("asked twice")
	}
	return nil
}

// Two requests must not be written to the same memory, whatever went wrong before them.
func TestAPanicDoesNotGiveMemoryBackTwice(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := request(r); ok {
			write(c, answer("a"))
			_, _, _ = request(r)
		}
	})
	c := client(t, Options{})
	do(t, c, post(target, "a"))
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("nothing panicked")
			}
		}()
		_, _ = c.Do(&startling{Context: context.Background()}, post(target, "b"))
	}()
	if c.outgoing.Get() == c.outgoing.Get() {
		t.Error("one memory was given back twice")
	}
}

package drain

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

// net/http tells by these what ended a connection, and answers 400 where it does not know it.
func TestAConnectionEndsWithTheErrorOfPackageNet(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(c *conn, client net.Conn)
		want error
		op   string // of net's error around it; empty: there is none
		both bool   // writes end so, too
	}{
		"the client has sent its last": {func(_ *conn, client net.Conn) { _ = client.(*net.TCPConn).CloseWrite() }, io.EOF, "", false},
		"the client has reset it": {func(_ *conn, client net.Conn) {
			_ = client.(*net.TCPConn).SetLinger(0)
			_ = client.Close()
		}, syscall.ECONNRESET, "read", false},
		"its deadline has passed": {func(c *conn, _ net.Conn) { _ = c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded, "read", true},
		"it was closed":           {func(c *conn, _ net.Conn) { _ = c.Close() }, net.ErrClosed, "read", true},
	} {
		for way, straight := range map[string]bool{"past net": true, "by net": false} {
			t.Run(name+"/"+way, func(t *testing.T) {
				c, client := accepted(t)
				if c.straight == nil {
					t.Fatal("there is no way past net")
				}
				if !straight {
					c.straight = nil
				}
				c.waiting = false
				tt.end(c, client)
				_, err := c.Read(make([]byte, 1))
				if !errors.Is(err, tt.want) || opOf(err) != tt.op {
					t.Errorf("read: got %q of %q, want %q of %q", err, opOf(err), tt.want, tt.op)
				}
				if _, err := c.Write([]byte("x")); tt.both && (!errors.Is(err, tt.want) || opOf(err) != "write") {
					t.Errorf("write: got %q of %q, want %q", err, opOf(err), tt.want)
				}
			})
		}
	}
}

func opOf(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Op
	}
	return ""
}

func TestReadsThatOverlapShareWhatComes(t *testing.T) {
	c, client := accepted(t)
	got := make(chan byte, 2)
	for range 2 {
		go func() {
			var p [1]byte
			if n, err := c.Read(p[:]); n != 1 || err != nil {
				t.Errorf("got %d bytes and %v", n, err)
			}
			got <- p[0]
		}()
	}
	if _, err := client.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	both := []byte{<-got, <-got}
	if slices.Sort(both); string(both) != "ab" {
		t.Errorf("got %q", both)
	}
}

// purse is memory that knows whether it is in use.
type purse struct {
	bytes [16]byte
	taken atomic.Bool
}

func (p *purse) Room() []byte {
	p.taken.Store(true)
	return p.bytes[:]
}

func (p *purse) Spare() { p.taken.Store(false) }

func TestAConnectionThatWaitsHasNoMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		act  func(c *conn, client net.Conn)
		want string
	}{
		"something comes":            {func(_ *conn, client net.Conn) { _, _ = client.Write([]byte("hello")) }, "hello"},
		"the client leaves":          {func(_ *conn, client net.Conn) { _ = client.Close() }, ""},
		"it is told to end":          {func(c *conn, _ net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }, ""},
		"its server ends":            {func(c *conn, _ net.Conn) { c.server.Begin(0) }, ""},
		"its server gives it a time": {func(c *conn, _ net.Conn) { c.server.Begin(20 * time.Millisecond) }, ""},
	} {
		for _, straight := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, past package net %v", name, straight), func(t *testing.T) {
				c, client := accepted(t)
				if !straight {
					c.straight = nil
				}
				c.server.conns = map[*conn]bool{c: true}
				c.idle()
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				var p purse
				got := make(chan string, 1)
				go func() {
					n, err := c.ReadInto(&p)
					if (n == 0) != (err != nil) {
						t.Errorf("got %d bytes and %v", n, err)
					}
					got <- string(p.bytes[:n])
				}()
				timetest.Until(t, "it waits", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.in.waits > 0 && (!straight || !p.taken.Load())
				})
				tt.act(c, client)
				if text := <-got; text != tt.want {
					t.Errorf("got %q, want %q", text, tt.want)
				}
				if taken := p.taken.Load(); taken != (tt.want != "") {
					t.Errorf("in the end it has memory: %v", taken)
				}
			})
		}
	}
}

// BenchmarkConn is a request and its answer, with the client, which costs the same both ways.
func BenchmarkConn(b *testing.B) {
	for _, straight := range []bool{false, true} {
		b.Run(map[bool]string{true: "past net", false: "by net"}[straight], func(b *testing.B) {
			c, client := accepted(b)
			if !straight {
				c.straight = nil
			}
			request, answer := make([]byte, 1024), make([]byte, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Write(answer); err != nil {
					b.Fatal(err)
				}
				if _, err := client.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

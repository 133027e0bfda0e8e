package drain

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
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

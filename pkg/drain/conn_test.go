package drain

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// accepted returns both ends of a connection, one as a door makes it.
func accepted(t testing.TB) (*conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	nc, err := (&door{Listener: l, server: &Server{}}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*conn), client
}

func TestADeadlineIsKept(t *testing.T) {
	const short, long = 20 * time.Millisecond, time.Minute
	past := time.Unix(1, 0)
	for name, tt := range map[string]struct {
		before func(set func(time.Time) error, wait func() error) // it waits
		ends   bool                                               // the wait that follows, by its deadline
	}{
		"one that comes":  {func(set func(time.Time) error, _ func() error) { _ = set(time.Now().Add(short)) }, true},
		"one that passed": {func(set func(time.Time) error, _ func() error) { _ = set(past) }, true},
		"a sooner one": {func(set func(time.Time) error, _ func() error) {
			_, _ = set(time.Now().Add(long)), set(time.Now().Add(short))
		}, true},
		"one that passed and was taken back": {func(set func(time.Time) error, wait func() error) {
			_, _, _ = set(past), wait(), set(time.Time{})
		}, false},
		"one that passed and was put off": {func(set func(time.Time) error, wait func() error) {
			_, _, _ = set(time.Now().Add(short)), wait(), set(time.Now().Add(long))
		}, false},
		"one that passed and was set again": {func(set func(time.Time) error, wait func() error) {
			_, _, _ = set(past), wait(), set(time.Now().Add(short))
		}, true},
	} {
		t.Run("reading, "+name, func(t *testing.T) {
			c, client := accepted(t)
			read := func() error { _, err := c.Read(make([]byte, 1)); return err }
			tt.before(c.SetReadDeadline, read)
			if !tt.ends {
				time.AfterFunc(2*short, func() { _, _ = client.Write([]byte("x")) })
			}
			if err := read(); errors.Is(err, os.ErrDeadlineExceeded) != tt.ends || !tt.ends && err != nil {
				t.Errorf("got %v", err)
			}
		})
		t.Run("writing, "+name, func(t *testing.T) {
			c, client := accepted(t)
			_ = c.tcp.SetWriteBuffer(4 << 10)
			much := make([]byte, 8<<20)
			wrote := 0
			write := func() error {
				n, err := c.Write(much[wrote:])
				wrote += n
				return err
			}
			tt.before(c.SetWriteDeadline, write)
			got := make(chan int)
			if !tt.ends {
				time.AfterFunc(2*short, func() {
					n, p := 0, make([]byte, 64<<10)
					for n < len(much) {
						m, err := client.Read(p)
						if n += m; err != nil {
							break
						}
					}
					got <- n
				})
			}
			if err := write(); errors.Is(err, os.ErrDeadlineExceeded) != tt.ends || !tt.ends && err != nil {
				t.Errorf("got %v", err)
			}
			if !tt.ends && <-got != len(much) {
				t.Error("not all of it was written")
			}
		})
	}
}

func TestADeadlineEndsAWaitThatBeganBefore(t *testing.T) {
	c, _ := accepted(t)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	ended := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	for waits := 0; waits == 0; {
		c.mu.Lock()
		waits = c.in.waits
		c.mu.Unlock()
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestDeadlinesThatFollowEachOtherAreToldOnce(t *testing.T) {
	c, client := accepted(t)
	var first time.Time
	for i := range 3 {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		_, _ = client.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Time{})
		if i == 0 {
			first = c.in.told
		}
	}
	if first.IsZero() || c.in.told != first {
		t.Errorf("the system was told %v and %v", first, c.in.told)
	}
}

func BenchmarkDeadlines(b *testing.B) {
	c, _ := accepted(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
	}
}

package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/socket"
)

// counted is a connection that counts how often it gets a deadline.
type counted struct {
	net.Conn
	reads, writes int
}

func (c *counted) SetReadDeadline(t time.Time) error {
	c.reads++
	return c.Conn.SetReadDeadline(t)
}

func (c *counted) SetWriteDeadline(t time.Time) error {
	c.writes++
	return c.Conn.SetWriteDeadline(t)
}

func piped(t *testing.T) (*conn, *counted, net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	c := &counted{Conn: near}
	return &conn{Conn: c}, c, far
}

func TestADeadlineStaysWhileItServes(t *testing.T) {
	for _, tt := range []struct {
		name         string
		before, then time.Duration
		want         int
	}{
		{"the same limit", time.Hour, time.Hour, 1},
		{"one that ends a little later", time.Hour, time.Hour + time.Minute, 1},
		{"one that ends earlier", time.Hour, time.Minute, 2},
		{"one that ends much later", time.Minute, time.Hour, 2},
		{"none", time.Hour, 0, 2},
		{"none twice", 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, c, _ := piped(t)
			k.limitRead(tt.before)
			k.limitRead(tt.then)
			k.limitWrite(tt.before)
			k.limitWrite(tt.then)
			if c.reads != tt.want || c.writes != tt.want {
				t.Errorf("set %d deadlines for reading and %d for writing, want %d", c.reads, c.writes, tt.want)
			}
		})
	}
}

func TestADeadlineOfAnEarlierWaitEndsNoLaterOne(t *testing.T) {
	k, c, far := piped(t)
	k.limitRead(time.Hour)
	k.reading.set = now() + moment(time.Hour)
	_ = c.Conn.SetReadDeadline(longAgo) // as if that hour had passed meanwhile
	go func() { _, _ = io.WriteString(far, "x") }()
	if n, err := k.read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("got %d bytes, %v, want the one that came in time", n, err)
	}
	if c.reads != 2 {
		t.Errorf("set %d deadlines, want the second to follow the first", c.reads)
	}
}

func TestAWaitWithoutALimitOutlivesADeadline(t *testing.T) {
	k, c, far := piped(t)
	_ = c.Conn.SetReadDeadline(longAgo)
	go func() { _, _ = io.WriteString(far, "x") }()
	if n, err := k.read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("got %d bytes, %v, want the one that came", n, err)
	}
}

func TestALimitIsExceededAndACancellationIsFinal(t *testing.T) {
	k, _, _ := piped(t)
	k.limitRead(time.Nanosecond)
	if _, err := k.read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the limit: got %v", err)
	}
	k.limitRead(time.Hour)
	k.cancel()
	k.limitRead(2 * time.Hour) // comes too late
	if _, err := k.read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the cancellation: got %v", err)
	}
}

// A connection may be looked at after the deadline of its last exchange has passed.
func TestADeadlineThatHasPassedHidesNothing(t *testing.T) {
	target := serve(t, echo)
	c := client(t, Options{})
	do(t, c, get(target))
	k := c.idle(target)[0]
	_ = k.Conn.SetReadDeadline(longAgo)
	if got := k.look(); got != socket.Quiet {
		t.Errorf("got %v, want a quiet connection", got)
	}
}

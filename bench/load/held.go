//go:build linux

package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosix/gosix/bench/poll"
)

// Held is connections that stay open when their requests are answered, or, where Events is not
// 0, when that many events of a stream came.
type Held struct {
	d      *driver
	Answer Result // Requests: the connections that are as they should be
}

// Open opens Connections connections, sends one request over each, atOnce of them at a time, and
// waits until all are answered. All of Connections at once is a burst: first every connection is
// opened, then every request is sent.
func Open(o Options, atOnce int) (*Held, error) {
	d := newDriver(o)
	d.from, d.to = time.Now(), time.Now().Add(24*time.Hour)
	d.once = true
	var err error
	if d.poll, err = poll.New(); err != nil {
		return nil, err
	}
	h := &Held{d: d}
	begin := time.Now()
	for limit := begin.Add(d.Patience); ; {
		under := 0
		for _, c := range d.conns {
			if c != nil && c.busy && !d.reached(c) {
				under++
			}
		}
		for ; under < atOnce && d.result.Dialed < o.Connections; under++ {
			if err := d.dial(); err != nil {
				h.Close()
				return nil, err
			}
		}
		// One after the other, as dial put them there.
		for _, c := range d.idle {
			d.request(c, time.Now())
		}
		d.idle = d.idle[:0]
		if under == 0 || !time.Now().Before(limit) {
			break
		}
		if err := d.wait(10 * time.Millisecond); err != nil {
			h.Close()
			return nil, err
		}
	}
	h.Answer = d.result
	for _, c := range d.conns {
		if c != nil && c.busy && d.reached(c) {
			h.Answer.Requests++
		}
	}
	h.Answer.Wall = time.Since(begin)
	h.Answer.Latency, h.Answer.First, h.Answer.Gap = spread(d.latency), spread(d.first), spread(d.gap)
	if missing := o.Connections - h.Answer.Requests - h.Answer.Failed; missing > 0 {
		h.Answer.Failed += missing
		h.Answer.Why = fmt.Sprintf("%d were not answered; %s", missing, h.Answer.Why)
	}
	return h, nil
}

// reached tells whether a stream that is held is where it should be.
func (d *driver) reached(c *conn) bool { return d.Hold && c.answer.events >= d.Events }

// Alive counts the connections that nobody has closed, and over which nothing was sent since.
func (h *Held) Alive() (n int, err error) {
	var one [1]byte
	for _, c := range h.d.conns {
		if c == nil {
			continue
		}
		_, _, e := unix.Recvfrom(c.fd, one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errors.Is(e, unix.EAGAIN) {
			n++
		} else if err == nil {
			err = fmt.Errorf("a connection did not stay idle: %v", e)
		}
	}
	return n, err
}

// Close closes all connections.
func (h *Held) Close() {
	for _, c := range h.d.conns {
		if c != nil {
			_ = unix.Close(c.fd)
		}
	}
	h.d.poll.Close()
}

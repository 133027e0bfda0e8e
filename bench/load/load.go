//go:build linux

// Package load sends one request again and again, over many connections and on one thread, and
// says how long the answers took. It does not know who answers.
//
// With a closed loop a connection sends its next request when it has its answer: as much as the
// other side can bear. With an open loop requests are sent at a steady rate, and their times
// count from when each should have been sent, not from when a connection was free for it: what
// a server that stood still did to those who waited is in the figures.
package load

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosix/gosix/bench/poll"
	"github.com/gosix/gosix/bench/proc"
)

// Options say what is sent.
type Options struct {
	Addr        netip.AddrPort
	Request     []byte        // head and body
	Connections int           // of an open loop: at most
	Rate        float64       // requests a second; 0: a closed loop
	Warm        time.Duration // before anything counts
	Window      time.Duration // in which what happens counts
	Events      int           // that a right answer has, as a stream; 0: any answer of status 200 is right
	PID         int           // of the process whose time is taken, with those that it started; 0: none
	Processor   int           // on which it runs
	Mark        func() error  // called when the window begins, and when it ends
	Hold        bool          // for Open: streams go on after Events
	Patience    time.Duration // for answers, once the window of an open loop is over; 0: 30 s
}

// Result is what came of it. Times are in microseconds.
type Result struct {
	Requests int // answers that ended within the window, right ones
	Failed   int // wrong answers, and requests that were not answered
	Why      string
	Dialed   int           // connections, without those of the beginning
	Wall     time.Duration // the window
	CPU      time.Duration // of the process and those that it started, within the window
	Busy     time.Duration // that its processor worked for anybody, within the window
	Latency  Spread        // of whole answers
	First    Spread        // until the first event of streams
	Gap      Spread        // between events of a stream
	Joined   float64       // share of the gaps that are none: two events came in one read
}

// Spread is where the times of many requests lie.
type Spread struct{ P50, P99, Max float64 }

type conn struct {
	fd       int
	unsent   []byte
	busy     bool
	counts   bool
	intended time.Time
	said     time.Time // the last event
	answer   answer
}

type driver struct {
	Options
	poll    *poll.Poller
	conns   []*conn // by descriptor
	idle    []*conn
	waiting []time.Time // requests without a connection
	buffer  []byte
	result  Result

	from, to            time.Time // the window
	start               time.Time
	sent                int // of an open loop
	latency, first, gap []time.Duration
	err                 error
	once                bool // connections rest after their answer
}

// Run sends requests until the window is over and answers to what was sent in it have come.
func Run(o Options) (Result, error) { return newDriver(o).run() }

func newDriver(o Options) *driver {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	return &driver{Options: o, buffer: make([]byte, 256<<10)}
}

func (d *driver) run() (Result, error) {
	o := d.Options
	var err error
	if d.poll, err = poll.New(); err != nil {
		return Result{}, err
	}
	defer d.poll.Close()
	defer func() {
		for _, c := range d.conns {
			if c != nil {
				_ = unix.Close(c.fd)
			}
		}
	}()
	for range o.Connections {
		if err := d.dial(); err != nil {
			return Result{}, err
		}
	}
	d.result.Dialed = 0
	d.start = time.Now()
	d.from = d.start.Add(o.Warm)
	d.to = d.from.Add(o.Window)
	if o.Rate == 0 {
		for _, c := range slices.Clone(d.idle) {
			d.request(c, d.start)
		}
		d.idle = nil
	}
	if err := d.until(d.from); err != nil {
		return Result{}, err
	}
	before, busy, err := d.time()
	if err != nil {
		return Result{}, err
	}
	d.result = Result{}
	begin := time.Now()
	if o.Rate == 0 {
		d.from = begin
		d.to = d.from.Add(o.Window)
	}
	if err := d.until(d.to); err != nil {
		return Result{}, err
	}
	after, busier, err := d.time()
	if err != nil {
		return Result{}, err
	}
	d.result.Wall, d.result.CPU, d.result.Busy = time.Since(begin), after-before, busier-busy
	done := d.result
	// An open loop counts the answers to all that should have been sent in the window.
	for limit := time.Now().Add(o.Patience); o.Rate > 0 && d.unanswered() && time.Now().Before(limit); {
		if err := d.wait(10 * time.Millisecond); err != nil {
			return Result{}, err
		}
	}
	r := d.result
	r.Requests, r.Wall, r.CPU, r.Busy = done.Requests, done.Wall, done.CPU, done.Busy
	if o.Rate > 0 {
		now := time.Now()
		for _, c := range d.conns {
			if c != nil && c.busy && c.counts {
				d.fail("no answer")
				d.latency = append(d.latency, now.Sub(c.intended))
			}
		}
		for _, at := range d.waiting {
			d.fail("no answer")
			d.latency = append(d.latency, now.Sub(at))
		}
		r.Failed, r.Why = d.result.Failed, d.result.Why
	}
	r.Latency, r.First, r.Gap = spread(d.latency), spread(d.first), spread(d.gap)
	for _, g := range d.gap { // sorted by now
		if g > 0 {
			break
		}
		r.Joined += 1 / float64(len(d.gap))
	}
	return r, nil
}

func (d *driver) time() (own, all time.Duration, err error) {
	if d.Mark != nil {
		if err := d.Mark(); err != nil {
			return 0, 0, err
		}
	}
	if d.PID == 0 {
		return 0, 0, nil
	}
	if own, err = proc.CPU(d.PID); err != nil {
		return 0, 0, err
	}
	all, err = proc.Busy(d.Processor)
	return own, all, err
}

func (d *driver) unanswered() bool {
	return len(d.waiting) > 0 || slices.ContainsFunc(d.conns, func(c *conn) bool { return c != nil && c.busy && c.counts })
}

// until sends and reads until a time. What was due before that is sent, however late this
// process comes to it.
func (d *driver) until(end time.Time) error {
	for {
		now := time.Now()
		next := d.send(now)
		if !now.Before(end) {
			return nil
		}
		if err := d.wait(min(end.Sub(now), next)); err != nil {
			return err
		}
	}
}

func (d *driver) wait(timeout time.Duration) error {
	if err := d.poll.Wait(timeout, d.ready); err != nil {
		return err
	}
	return d.err
}

// send sends what an open loop owes by now, and tells for how long it owes nothing more.
func (d *driver) send(now time.Time) time.Duration {
	if d.Rate == 0 {
		return time.Hour
	}
	for {
		due := d.start.Add(time.Duration(float64(d.sent) / d.Rate * float64(time.Second)))
		if due.After(now) {
			return due.Sub(now)
		}
		if !due.Before(d.to) {
			return time.Hour
		}
		d.sent++
		d.waiting = append(d.waiting, due)
		d.serve()
	}
}

// serve gives waiting requests to idle connections.
func (d *driver) serve() {
	for len(d.waiting) > 0 && len(d.idle) > 0 {
		c := d.idle[len(d.idle)-1]
		d.idle = d.idle[:len(d.idle)-1]
		at := d.waiting[0]
		d.waiting = d.waiting[:copy(d.waiting, d.waiting[1:])]
		d.request(c, at)
	}
}

func (d *driver) dial() error {
	fd, err := poll.Dial(d.Addr)
	if err != nil {
		return err
	}
	for len(d.conns) <= fd {
		d.conns = append(d.conns, nil)
	}
	c := &conn{fd: fd}
	d.conns[fd] = c
	d.idle = append(d.idle, c)
	d.result.Dialed++
	return d.poll.Add(fd)
}

// drop closes a connection and opens another one.
func (d *driver) drop(c *conn) {
	_ = unix.Close(c.fd)
	d.conns[c.fd] = nil
	if i := slices.Index(d.idle, c); i >= 0 {
		d.idle = slices.Delete(d.idle, i, i+1)
	}
	if d.once {
		return
	}
	if err := d.dial(); err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.free()
}

// free is called when a connection is idle.
func (d *driver) free() {
	if d.Rate > 0 {
		d.serve()
		return
	}
	c := d.idle[len(d.idle)-1]
	d.idle = d.idle[:len(d.idle)-1]
	d.request(c, time.Now())
}

func (d *driver) request(c *conn, intended time.Time) {
	c.busy, c.intended, c.counts = true, intended, !intended.Before(d.from) && intended.Before(d.to)
	c.unsent = d.Request
	c.answer.reset()
	c.said = time.Time{}
	d.write(c)
}

func (d *driver) write(c *conn) {
	whole := len(c.unsent) == len(d.Request)
	n, err := unix.Write(c.fd, c.unsent)
	if err != nil && !poll.Again(err) {
		// Reading tells what happened, and whether an answer came before it.
		c.unsent = nil
		return
	}
	c.unsent = c.unsent[max(n, 0):]
	if len(c.unsent) > 0 && whole || len(c.unsent) == 0 && !whole {
		if err := d.poll.Writable(c.fd, len(c.unsent) > 0); err != nil {
			d.err = err
		}
	}
}

func (d *driver) ready(e poll.Event) {
	c := d.conns[e.FD]
	if c == nil {
		return
	}
	if e.Write && len(c.unsent) > 0 {
		d.write(c)
	}
	if !e.Read {
		return
	}
	n, err := unix.Read(c.fd, d.buffer)
	if poll.Again(err) {
		return
	}
	if err != nil || n == 0 {
		if c.busy && !(err == nil && c.answer.closed()) {
			d.fail(fmt.Sprintf("the connection ended within an answer: %v", err))
		} else if c.busy {
			d.ended(c, time.Now())
		}
		d.drop(c)
		return
	}
	if !c.busy {
		d.fail("bytes that nobody asked for")
		d.drop(c)
		return
	}
	now := time.Now()
	events := c.answer.events
	over, err := c.answer.feed(d.buffer[:n])
	if err != nil {
		d.fail(err.Error())
		d.drop(c)
		return
	}
	if c.answer.events > events && d.Events > 0 {
		d.heard(c, c.answer.events-events, now)
	}
	if !over {
		return
	}
	d.ended(c, now)
	if c.answer.close || len(c.unsent) > 0 {
		d.drop(c)
		return
	}
	if d.once {
		return
	}
	d.idle = append(d.idle, c)
	d.free()
}

// heard notes events that came in one read.
func (d *driver) heard(c *conn, n int, now time.Time) {
	if c.said.IsZero() {
		if c.counts {
			d.first = append(d.first, now.Sub(c.intended))
		}
		n--
	} else if c.counts {
		d.gap = append(d.gap, now.Sub(c.said))
		n--
	}
	for ; n > 0 && c.counts; n-- {
		d.gap = append(d.gap, 0)
	}
	c.said = now
}

func (d *driver) ended(c *conn, now time.Time) {
	c.busy = false
	a := &c.answer
	switch {
	case a.status != 200:
		d.fail(fmt.Sprintf("status %d", a.status))
		return
	case d.Events > 0 && a.events != d.Events:
		d.fail(fmt.Sprintf("a stream of %d events, want %d", a.events, d.Events))
		return
	}
	d.result.Requests++
	if c.counts {
		d.latency = append(d.latency, now.Sub(c.intended))
	}
}

func (d *driver) fail(why string) {
	d.result.Failed++
	if d.result.Why == "" {
		d.result.Why = why
	}
}

// spread sorts times and tells where they lie.
func spread(times []time.Duration) Spread {
	if len(times) == 0 {
		return Spread{}
	}
	slices.Sort(times)
	at := func(part float64) float64 {
		return float64(times[min(len(times)-1, int(part*float64(len(times))))]) / float64(time.Microsecond)
	}
	return Spread{at(0.5), at(0.99), at(1)}
}

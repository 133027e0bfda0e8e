package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/socket"
)

// h1table holds the connections of a Fast. One goroutine looks at all of them now and then,
// in the place of timers, and another hears of those whose client has left; neither runs
// while there is no connection.
type h1table struct {
	tick   atomic.Int64 // ns between two looks
	clock  atomic.Int64 // ns since begin, as of the last look
	second atomic.Int64 // the same by the calendar: Unix seconds
	begin  time.Time
	ending atomic.Bool
	grace  atomic.Int64 // ns, while it ends

	mu         sync.Mutex
	conns      []*h1conn // by slot; nil: free
	free       []int
	count      int
	sweeping   bool
	closed     bool          // no connection comes in any more
	left       chan struct{} // told when a connection went; nil until somebody waits
	departures *socket.Departures
	blind      bool // of departures: it cannot be had
	names      uint32
	poke       chan struct{} // makes the next look come at once
}

// Bounds of the time between two looks: limits are kept that exactly.
const (
	shortTick = 5 * time.Millisecond
	longTick  = 250 * time.Millisecond
	blindTick = 50 * time.Millisecond // where each connection has to be looked at for its client
)

func (t *h1table) init(l Limits) {
	t.begin, t.poke = time.Now(), make(chan struct{}, 1)
	t.tick.Store(int64(longTick))
	for _, limit := range []time.Duration{l.HeaderRead, l.BodyRead, l.Idle, l.WriteStall} {
		t.refine(limit)
	}
}

// refine makes looks frequent enough for a limit.
func (t *h1table) refine(limit time.Duration) {
	if limit > 0 {
		t.tick.Store(max(int64(shortTick), min(t.tick.Load(), int64(limit/8))))
	}
}

// add takes a connection in. It reports false when the engine has ended.
func (t *h1table) add(c *h1conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if n := len(t.free); n > 0 {
		c.slot, t.free = t.free[n-1], t.free[:n-1]
		t.conns[c.slot] = c
	} else {
		c.slot = len(t.conns)
		t.conns = append(t.conns, c)
	}
	t.names++
	c.name = t.names
	t.count++
	if !t.sweeping {
		t.sweeping = true
		t.strike()
		go t.sweep()
	}
	return true
}

func (t *h1table) remove(c *h1conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.slot < 0 {
		return
	}
	t.conns[c.slot] = nil
	t.free = append(t.free, c.slot)
	c.slot = -1
	t.count--
	if t.left != nil {
		close(t.left)
		t.left = nil
	}
}

// sweep looks at the connections until there is none.
func (t *h1table) sweep() {
	timer := time.NewTimer(t.interval())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-t.poke:
		}
		t.strike()
		if !t.look() {
			return
		}
		timer.Reset(t.interval())
	}
}

// strike sets the clocks.
func (t *h1table) strike() {
	now := time.Now()
	t.clock.Store(int64(now.Sub(t.begin)))
	t.second.Store(now.Unix())
}

func (t *h1table) interval() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blind {
		return min(time.Duration(t.tick.Load()), blindTick)
	}
	return time.Duration(t.tick.Load())
}

// look ends what takes too long. It reports false when there is nothing to look at.
func (t *h1table) look() bool {
	now := t.clock.Load()
	t.mu.Lock()
	if t.count == 0 {
		t.sweeping = false
		t.mu.Unlock()
		return false
	}
	var late []*h1conn
	for _, c := range t.conns {
		if c != nil && (c.reading.over(now) || c.writing.over(now) || t.blind) {
			late = append(late, c)
		}
	}
	blind := t.blind
	t.mu.Unlock()
	for _, c := range late {
		c.hurry(now)
		if blind {
			c.departed()
		}
	}
	return true
}

// due returns when a limit that begins now is over; 0: never.
func (t *h1table) due(limit time.Duration) int64 {
	if limit <= 0 {
		return 0
	}
	return t.clock.Load() + int64(limit) + t.tick.Load() // the clock may be a tick behind
}

// watch has the departure of a client told to its connection.
func (t *h1table) watch(c *h1conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.blind || c.slot < 0 {
		return
	}
	if t.departures == nil {
		d, err := socket.NewDepartures(t.departed)
		if err != nil {
			t.blind = true
			return
		}
		t.departures = d
	}
	if c.raw != nil {
		c.watched = t.departures.Add(c.raw, t.token(c)) == nil
	}
}

// token names a connection, also apart from others that had its slot.
func (t *h1table) token(c *h1conn) uint64 { return uint64(uint32(c.slot)) | uint64(c.name)<<32 }

func (t *h1table) unwatch(c *h1conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.watched && t.departures != nil {
		_ = t.departures.Remove(c.raw)
		c.watched = false
	}
}

// departed is told that the client of a connection has left.
func (t *h1table) departed(token uint64) {
	t.mu.Lock()
	var c *h1conn
	if slot := int(uint32(token)); slot < len(t.conns) {
		c = t.conns[slot]
	}
	if c != nil && t.token(c) != token {
		c = nil
	}
	t.mu.Unlock()
	if c == nil {
		return
	}
	// The end may have come with the last request, whose connection then waits for another. Once
	// is enough: that, too, is told here.
	if !c.fin.Swap(true) && c.ctx.Load() == nil {
		socket.Wake(c.sys)
	}
	c.departed()
}

// each calls do for every connection.
func (t *h1table) each(do func(c *h1conn)) {
	t.mu.Lock()
	all := make([]*h1conn, 0, t.count)
	for _, c := range t.conns {
		if c != nil {
			all = append(all, c)
		}
	}
	t.mu.Unlock()
	for _, c := range all {
		do(c)
	}
}

// drain gives connections that wait for a request their grace.
func (t *h1table) drain(grace time.Duration) {
	t.mu.Lock()
	t.refine(max(grace, 1))
	t.mu.Unlock()
	t.grace.Store(int64(grace))
	t.ending.Store(true)
	t.each((*h1conn).shorten)
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// cut ends every request.
func (t *h1table) cut(reason error) {
	if t == nil {
		return
	}
	t.each(func(c *h1conn) {
		if ctx := c.ctx.Load(); ctx != nil {
			ctx.Cancel(reason)
		}
	})
}

// wait returns when no connection is left, or ctx ends.
func (t *h1table) wait(ctx context.Context) {
	if t == nil {
		return
	}
	for {
		t.mu.Lock()
		if t.count == 0 {
			t.mu.Unlock()
			return
		}
		if t.left == nil {
			t.left = make(chan struct{})
		}
		left := t.left
		t.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return
		}
	}
}

// close closes every connection, and lets none in any more.
func (t *h1table) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.each(func(c *h1conn) {
		if ctx := c.ctx.Load(); ctx != nil {
			ctx.Cancel(context.Canceled)
		}
		c.sever()
	})
}

// end takes down what looks at connections; there are none any more, or they end by
// themselves.
func (t *h1table) end() {
	t.mu.Lock()
	t.closed = true
	d := t.departures
	t.departures = nil
	t.mu.Unlock()
	if d != nil {
		d.Close()
	}
}

// A limit is when something must have happened: in ns of the table's clock, 0 never, passed
// once it has not. It is set by who waits, and judged by the table.
type limit struct{ at atomic.Int64 }

const (
	passed = -1
	never  = 1<<63 - 1
)

// forRequest tells the limits that are for the next request to begin: they are odd.
func forRequest(at int64) bool { return at > 0 && at&1 != 0 }

func (l *limit) over(now int64) bool {
	at := l.at.Load()
	return at > 0 && at <= now
}

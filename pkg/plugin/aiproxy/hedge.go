package aiproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/plugin"
)

// hedgeRule says when a second call is made beside a first that has brought nothing yet.
type hedgeRule struct {
	after
	allowance allowanceRule
}

// rival is the second call. It runs in a goroutine of its own, which exists only once the
// first has taken too long and is gone before the race is over. It touches nothing that
// the request's goroutine changes meanwhile.
type rival struct {
	try
	called bool // an instance was asked
	winner atomic.Int32
	done   chan struct{} // closed when the second call has won, lost or failed
}

const (
	firstWon = iota + 1
	secondWon
)

// errLost ends the call that was slower.
var errLost = errors.New("the other call had the first token first")

// hedgeDelay is how long to wait for a request's first attempt; 0: there is no second call
// beside it.
func (p *proxy) hedgeDelay(w *pending, tries int) time.Duration {
	h := p.guards.hedge
	switch {
	case h == nil || tries > 0 || !w.held:
		return 0
	case h.delay > 0:
		return h.delay
	}
	return p.state.conditions[w.picked].first[w.kind()].percentile(h.percentile)
}

// kind tells whole answers from streams, whose first tokens come at quite other times.
func (w *pending) kind() int {
	if w.stream {
		return 1
	}
	return 0
}

// race asks the picked instance, and another beside it if that one takes too long.
// Whichever has a first token first wins; the other is cancelled and closed. What it leaves
// in w is the attempt that won, or if both failed the second, with the first among those
// that were tried.
func (p *proxy) race(c *plugin.Context, w *pending, delay time.Duration) {
	t := &w.try
	r := &rival{done: make(chan struct{})}
	first, cancelFirst := context.WithCancelCause(c.Context())
	second, cancelSecond := context.WithCancelCause(c.Context())
	w.later(func() { cancelFirst(nil); cancelSecond(nil) })
	a := balancer.Attempt{Hash: w.attempt.Hash}
	a.Tried.Union(&w.attempt.Tried)
	a.Tried.Add(t.picked)
	p.exhausted(c, &a.Tried)
	timer := time.AfterFunc(delay, func() {
		defer close(r.done)
		if !p.second(second, c, w, r, a) {
			return
		}
		if r.winner.CompareAndSwap(0, secondWon) {
			cancelFirst(errLost)
		}
	})
	asked := false
	defer func() {
		if !asked && !timer.Stop() {
			// It panicked, and the request ends: nobody may go on reading it.
			cancelSecond(errLost)
			<-r.done
			r.discard()
		}
	}()
	p.ask(first, c, w, t)
	if asked = true; timer.Stop() {
		return
	}
	if t.failure == nil && r.winner.CompareAndSwap(0, firstWon) {
		cancelSecond(errLost)
		<-r.done // it reads the client's request, which must not change under it
		if r.called {
			r.lose()
			p.note(c, &r.try)
			p.letGo(r.picked, r.trial)
		}
		return
	}
	lost := t.failure == nil || errors.Is(context.Cause(first), errLost) // else it failed by itself
	<-r.done
	if !r.called {
		return
	}
	if lost {
		t.lose()
		p.state.conditions[t.picked].first[w.kind()].add(t.took) // it would have taken longer
		p.end(w, silent, balancer.Outcome{FirstByte: t.took, Duration: t.took})
	} else {
		t.discard()
		p.end(w, t.verdict(), t.outcome())
	}
	p.note(c, t)
	w.attempt.Tried.Add(t.picked)
	w.try, w.picked, w.trial, w.held = r.try, r.picked, r.trial, true
	p.take(c, w)
}

// lose closes what a call has brought that was slower.
func (t *try) lose() {
	t.discard()
	t.record.Status, t.record.Err, t.record.End = statusClientGone, errLost, ""
}

// second makes the second call. It reports whether that has a first token; if it called at
// all, what it picked is then held.
func (p *proxy) second(ctx context.Context, c *plugin.Context, w *pending, r *rival, a balancer.Attempt) (ok bool) {
	s, budget := p.state, p.guards.budget
	if !s.hedges.take() {
		return false
	}
	if budget != nil && !s.retries.take() {
		s.hedges.back()
		return false
	}
	i, trial, err := p.pick(&a, nil)
	if err != nil {
		s.hedges.back()
		if budget != nil {
			s.retries.back()
		}
		return false
	}
	r.called, r.try = true, try{picked: i, trial: trial, memory: new(asking)}
	defer func() {
		// Outside the request's goroutine nobody else would catch it.
		if v := recover(); v != nil {
			c.Log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Str("request", c.ID).Msg("a second call panicked")
			r.failure = &failed{status: http.StatusInternalServerError, err: fmt.Errorf("panic: %v", v), transport: true}
			ok = false
		}
	}()
	p.ask(ctx, c, w, &r.try)
	return r.failure == nil
}

// later keeps what must be done when the answer is through.
func (w *pending) later(f func()) { w.laters = append(w.laters, f) }

// settle does what was kept for later.
func (w *pending) settle() {
	for _, f := range w.laters {
		f()
	}
	w.laters = nil
	if w.try.cancel != nil {
		w.try.cancel(nil)
	}
}

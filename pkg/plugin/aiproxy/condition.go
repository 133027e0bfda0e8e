package aiproxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
)

// epoch is when the times of conditions begin. They are differences, so that a wall clock
// that is set does not matter.
var epoch = time.Now()

// condition is what is known of one instance from the calls to it. It outlives the
// configuration as long as the instance keeps its name and place. Each instance has its
// own, and only its breaker has a lock.
type condition struct {
	key      string       // name and place
	cool     atomic.Int64 // until when its provider asked not to be called; since epoch, ns
	out      atomic.Int64 // until when it is ejected
	failures atomic.Int32 // in a row
	ejected  atomic.Int32 // times in a row
	breaker  breaker
	first    [2]histogram // times to the first token: of whole answers, of streams
}

// verdict is what an attempt says of its instance.
type verdict uint8

const (
	silent verdict = iota // nothing: the request was to blame, or nobody waited for the end
	good
	bad
)

// unfit adds the instances to s that had better not be asked now.
func (s *state) unfit(set *balancer.Set, g *guards, now int64) {
	if s.health != nil {
		set.Union(s.health.Down())
	}
	if !g.conditional() {
		return
	}
	for i, k := range s.conditions {
		if g.cooldown != nil && k.cool.Load() > now || g.ejection != nil && k.out.Load() > now ||
			g.breaker != nil && k.breaker.refuses(now) {
			set.Add(i)
		}
	}
}

// learn takes in how an attempt on instance i ended.
func (s *state) learn(i int, v verdict, trial bool, g *guards, now int64) {
	k := s.conditions[i]
	if g.breaker != nil {
		k.breaker.learn(v, trial, g.breaker, now)
	}
	if g.ejection == nil {
		return
	}
	switch v {
	case good:
		k.failures.Store(0)
		if k.out.Load() < now-int64(g.ejection.base) {
			k.ejected.Store(0) // it held out for as long as it was away
		}
	case bad:
		if k.failures.Add(1) >= g.ejection.failures {
			s.eject(k, g.ejection, now)
		}
	}
}

// eject puts an instance out, longer each time, unless too many are out already.
func (s *state) eject(k *condition, e *ejection, now int64) {
	s.ejecting.Lock()
	defer s.ejecting.Unlock()
	if k.out.Load() > now {
		return
	}
	others := 0
	for _, other := range s.conditions {
		if other.out.Load() > now {
			others++
		}
	}
	if (others+1)*100 > e.maxPercent*len(s.conditions) {
		return
	}
	long := e.most
	if times := k.ejected.Add(1) - 1; times < 32 {
		long = min(long, e.base<<times)
	}
	k.failures.Store(0)
	k.out.Store(now + int64(long))
}

// rest keeps an instance from being asked for a while, as its provider wishes.
func (k *condition) rest(wait time.Duration, now int64) {
	until := now + int64(wait)
	for before := k.cool.Load(); before < until; before = k.cool.Load() {
		if k.cool.CompareAndSwap(before, until) {
			return
		}
	}
}

// breakerRule says when a circuit breaker opens, and for how long.
type breakerRule struct {
	percent, minCalls int
	window, open      time.Duration
}

// breaker is the circuit breaker of one instance: closed while calls go through, open when
// too many failed, and half-open when it has been open for long enough: then one call at a
// time is admitted, and its end decides.
type breaker struct {
	until atomic.Int64 // when it is half-open; 0: it is closed
	trial atomic.Bool  // the call of the half-open breaker is under way

	mu            sync.Mutex // guards the counts of a closed one
	begun         int64      // when the window of the counts began
	calls, failed int
}

// refuses reports whether no call may be made.
func (b *breaker) refuses(now int64) bool {
	until := b.until.Load()
	return until != 0 && (now < until || b.trial.Load())
}

// admit asks for leave to call. trial: it is the one call of a half-open breaker, whose
// end must be told with the same word.
func (b *breaker) admit(now int64) (trial, ok bool) {
	until := b.until.Load()
	switch {
	case until == 0:
		return false, true
	case now < until:
		return false, false
	}
	ok = b.trial.CompareAndSwap(false, true)
	return ok, ok
}

// learn takes in the end of a call.
func (b *breaker) learn(v verdict, trial bool, r *breakerRule, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		switch v {
		case good:
			b.begun, b.calls, b.failed = now, 0, 0
			b.until.Store(0)
		case bad:
			b.until.Store(now + int64(r.open))
		}
		b.trial.Store(false)
		return
	}
	if b.until.Load() != 0 || v == silent {
		return // a call from before it opened, or one that was made since all are open
	}
	if now-b.begun > int64(r.window) {
		b.begun, b.calls, b.failed = now, 0, 0
	}
	b.calls++
	if v == bad {
		b.failed++
	}
	if b.calls >= r.minCalls && b.failed*100 >= r.percent*b.calls {
		b.until.Store(now + int64(r.open))
	}
}

// allowanceRule bounds extra calls: a share of the first ones, with some to begin with and
// some that can be saved up.
type allowanceRule struct{ percent, start, most int64 }

// allowance is what is left for extra calls, in hundredths of a call.
type allowance struct{ left atomic.Int64 }

// earn adds a first call's share.
func (a *allowance) earn(r *allowanceRule) {
	for {
		before := a.left.Load()
		after := min(before+r.percent, 100*r.most+99)
		if after <= before || a.left.CompareAndSwap(before, after) {
			return
		}
	}
}

// take spends one call; false: there is none left.
func (a *allowance) take() bool {
	for {
		before := a.left.Load()
		if before < 100 {
			return false
		}
		if a.left.CompareAndSwap(before, before-100) {
			return true
		}
	}
}

// back returns a call that was not made.
func (a *allowance) back() { a.left.Add(100) }

package aiproxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
)

// try is one call to one instance, and what it left behind.
type try struct {
	picked int
	trial  bool // the one call that a half-open breaker admits
	asked  bool // the request was built; else record says nothing
	record exchange.Attempt
	memory *asking
	// scheme, host and uri are where it went.
	scheme, host, uri string

	reply   *reply.Reply
	failure *failed
	// outOfTime: the request's deadline ended the call, for which its instance cannot help.
	outOfTime bool
	rest      time.Duration // how long the provider asks not to be called
	took      time.Duration // until the reply or the failure was there
	ended     time.Time     // when it was

	cancel context.CancelCauseFunc // ends the call; nil: the request's context alone does
	timer  *time.Timer             // ends it when it is late; nil: nothing does
}

// discard closes whatever came.
func (t *try) discard() {
	if t.reply != nil {
		t.reply.Close()
		t.reply = nil
	}
	if t.failure != nil {
		t.failure.close()
	}
}

// over ends what a failed call has left.
func (t *try) over() {
	if t.cancel != nil {
		t.cancel(nil)
	}
}

// verdict is what the call says of its instance. A status that a client's request can
// bring about says nothing, and neither does 429: that is what cooldowns are for.
func (t *try) verdict() verdict {
	switch f := t.failure; {
	case f == nil:
		return good
	case t.outOfTime:
		return silent
	case f.transport, f.reply != nil && f.status >= 500, f.reply == nil && f.body == nil && f.status == http.StatusBadGateway:
		return bad
	}
	return silent
}

// outcome is what a picker learns of a call that failed. One that the client's request is
// to blame for took its time, and no more.
func (t *try) outcome() balancer.Outcome {
	failed := t.verdict() == bad || t.failure.status == http.StatusTooManyRequests
	return balancer.Outcome{Failed: failed, FirstByte: t.took, Duration: t.took}
}

// lateError is a call that was ended because of a setting.
type lateError struct {
	setting string
	limit   time.Duration
}

func (e *lateError) Error() string {
	return "nothing came within " + e.setting + " " + strconv.FormatInt(e.limit.Milliseconds(), 10)
}

// because names the setting that ended a context as the cause of what that brought about.
func because(ctx context.Context, err error) error {
	if late := (*lateError)(nil); errors.As(context.Cause(ctx), &late) {
		return late
	}
	return err
}

// attempt asks the picked instance, and another beside it if the configuration hedges. The
// answer, or what went wrong, is in w.try; in the latter case nothing has gone to the
// client.
func (p *proxy) attempt(c *plugin.Context, w *pending, tries int) {
	w.try = try{}
	w.try.picked, w.try.trial, w.try.memory = w.picked, w.trial, w.own
	if delay := p.hedgeDelay(w, tries); delay > 0 {
		p.race(c, w, delay)
	} else {
		p.ask(c.Context(), c, w, &w.try)
	}
	p.note(c, &w.try)
}

// limit returns the context of a call. What ends it is stopped when the answer may begin:
// from then on the limits of the answer count.
func (p *proxy) limit(ctx context.Context, w *pending, t *try) context.Context {
	g := &p.guards
	if g.firstToken == 0 && g.deadline == 0 {
		return ctx
	}
	ctx, t.cancel = context.WithCancelCause(ctx)
	cancel, late, left := t.cancel, &lateError{firstTokenName, g.firstToken}, g.firstToken
	if g.deadline > 0 {
		if until := time.Until(w.until); left == 0 || until < left {
			left, late = until, &lateError{deadlineName, g.deadline}
		}
	}
	t.timer = time.AfterFunc(left, func() { cancel(late) })
	return ctx
}

// headCame is for answers that are no streams: their first token is their head, however
// long the rest takes; only the deadline still counts.
func (p *proxy) headCame(w *pending, t *try) {
	if t.timer == nil || w.stream || p.guards.firstToken == 0 || !t.timer.Stop() {
		return
	}
	t.timer = nil
	if d := p.guards.deadline; d > 0 {
		cancel, late := t.cancel, &lateError{deadlineName, d}
		t.timer = time.AfterFunc(time.Until(w.until), func() { cancel(late) })
	}
}

// inTime ends the limit of a call. An answer that came at the last moment is none: what it
// came over is cancelled.
func (p *proxy) inTime(ctx context.Context, t *try) {
	if t.timer != nil && !t.timer.Stop() && t.failure == nil {
		t.reply.Close()
		t.reply, t.failure = nil, p.transport(&t.record, because(ctx, ctx.Err()))
	}
	t.timer = nil
	if t.failure != nil {
		t.outOfTime = outOfTime(t.failure.err)
	}
}

func outOfTime(err error) bool {
	var late *lateError
	return errors.As(err, &late) && late.setting == deadlineName
}

const (
	firstTokenName = "first_token_timeout_ms"
	deadlineName   = "deadline_ms"
)

// note writes down that a call was made.
func (p *proxy) note(c *plugin.Context, t *try) {
	if t.asked {
		f := &c.Facts
		f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI = t.scheme, t.host, t.uri
		f.Attempts = append(f.Attempts, t.record)
	}
}

// pick chooses an instance for a: not one that was tried or whose quota is spent, and one
// that is down only if all are. trial: the pick is the one call of a half-open breaker.
func (p *proxy) pick(a *balancer.Attempt, quota func(i int) bool) (i int, trial bool, err error) {
	s, skipped, now := p.state, 0, int64(0)
	if p.guards.conditional() {
		now = p.now()
	}
	var refused balancer.Set // by a breaker that has let another in meanwhile
	for {
		a.Down = balancer.Set{}
		s.unfit(&a.Down, &p.guards, now)
		a.Down.Union(&refused)
		if i, err = s.picker.Pick(a); err != nil {
			if skipped == len(p.instances) {
				err = errAllTried
			}
			return 0, false, err
		}
		if p.guards.breaker != nil && !a.Down.Has(i) {
			ok := false
			if trial, ok = s.conditions[i].breaker.admit(now); !ok && !refused.Has(i) {
				refused.Add(i)
				s.picker.Done(i, balancer.Outcome{})
				continue
			}
		}
		if quota != nil && !quota(i) {
			p.letGo(i, trial)
			a.Tried.Add(i)
			skipped++
			continue
		}
		return i, trial, nil
	}
}

// errAllTried is a choice from nothing but instances that may not be used, in the
// reference's words.
var errAllTried = errors.New("all servers tried")

// next picks the instance of the next attempt, in the goroutine of the request.
func (p *proxy) next(c *plugin.Context, w *pending) error {
	var quota func(int) bool
	if p.onQuota {
		if left := plugin.InstanceQuota.Get(c); left != nil {
			quota = func(i int) bool {
				if left(c, p.instances[i].Name) {
					return true
				}
				c.Log.Warn().Str("route", c.Route.RouteID).Str("instance", p.instances[i].Name).Str("request", c.ID).
					Msg("ai instance: " + p.instances[i].Name + " is not available, try to pick another one")
				return false
			}
		}
	}
	i, trial, err := p.pick(&w.attempt, quota)
	if err != nil {
		return err
	}
	w.picked, w.trial, w.held, w.balanced = i, trial, true, true
	return nil
}

// exhausted adds the instances whose quota is spent to s.
func (p *proxy) exhausted(c *plugin.Context, s *balancer.Set) {
	if !p.onQuota {
		return
	}
	if left := plugin.InstanceQuota.Get(c); left != nil {
		for i, instance := range p.instances {
			if !s.Has(i) && !left(c, instance.Name) {
				s.Add(i)
			}
		}
	}
}

// letGo gives a pick back that was not used.
func (p *proxy) letGo(i int, trial bool) {
	p.forget(&try{picked: i, trial: trial})
	p.state.picker.Done(i, balancer.Outcome{})
}

// forget ends the trial of a call of which nothing was learnt.
func (p *proxy) forget(t *try) {
	if t.trial {
		p.state.learn(t.picked, silent, true, &p.guards, p.now())
	}
}

// end tells picker and condition how the picked instance did.
func (p *proxy) end(w *pending, v verdict, o balancer.Outcome) {
	t := &w.try
	if w.held && p.guards.conditional() {
		now := p.now()
		if t.rest > 0 && p.guards.cooldown != nil {
			p.state.conditions[t.picked].rest(t.rest, now)
		}
		p.state.learn(t.picked, v, w.trial, &p.guards, now)
	}
	w.trial = false
	p.release(w, o)
}

// resting is how long an answer asks its provider to be left alone.
func (p *proxy) resting(status int, h *exchange.Header) time.Duration {
	rule := p.guards.cooldown
	if rule == nil || status < 400 {
		return 0
	}
	if asked := retryAfter(h, p.clock.Now()); asked > 0 {
		return min(asked, rule.most)
	}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, statusOverloaded:
		return rule.otherwise
	}
	return 0
}

// statusOverloaded is Anthropic's word for a provider without room.
const statusOverloaded = 529

// now is the time since epoch, in nanoseconds.
func (p *proxy) now() int64 { return int64(p.clock.Now().Sub(epoch)) }

// pause waits between two attempts. It reports whether the client is still there and the
// deadline has not passed.
func (p *proxy) pause(c *plugin.Context, w *pending, tries int) bool {
	if b := p.guards.backoff; b != nil {
		wait := b.pause(tries)
		if p.guards.deadline > 0 {
			wait = min(wait, time.Until(w.until))
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Context().Done():
			return false
		}
	}
	return p.guards.deadline == 0 || time.Now().Before(w.until)
}

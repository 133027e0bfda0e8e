package aiproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// passthroughLimit bounds a model's answer that becomes a request (spec/00 21), in bytes.
const passthroughLimit = 64 << 20

// beforeProxy asks the provider: the chosen instance, and others while one fails and the
// configuration says so. Before the first byte went to the client, that is.
func (p *proxy) beforeProxy(c *plugin.Context) error {
	w := pendingKey.Get(c)
	if w == nil || w.owner != p || w.done {
		return nil
	}
	w.done = true
	// A plugin between the phases may have replaced the body; if not, this costs nothing.
	doc, err := p.read(&c.Request, w.doc)
	if err != nil {
		return err
	}
	w.doc = doc
	if p.guards.deadline > 0 {
		w.until = time.Now().Add(p.guards.deadline)
	}
	p.earn(w)
	defer w.settle()
	for tries := 0; ; tries++ {
		p.attempt(c, w, tries)
		answer, failure, took := w.try.reply, w.try.failure, w.try.took
		if failure == nil {
			err := p.deliver(c, answer, w.try.ended)
			p.answered(c, w)
			return err
		}
		if gone := c.Context().Err(); errors.Is(gone, context.Canceled) {
			failure.close()
			p.accountBroken(c, failure.err)
			p.end(w, silent, balancer.Outcome{})
			if exchange.Ending(c.Context()) {
				return &plugin.ExitError{Status: http.StatusServiceUnavailable, Err: exchange.ErrEnding}
			}
			return &plugin.ExitError{Status: statusClientGone, Err: gone}
		}
		p.end(w, w.try.verdict(), w.try.outcome())
		if !p.goesOn(c, w, failure, tries, took) {
			return p.fail(c, failure)
		}
		if !p.pause(c, w, tries) {
			p.giveBack()
			return p.fail(c, failure)
		}
		from := w.picked
		w.attempt.Tried.Add(from)
		if err := p.next(c, w); err != nil {
			p.giveBack()
			if p.rules.exhausted != 0 {
				failure.status = p.rules.exhausted
			}
			return p.fail(c, failure)
		}
		p.report(c, p.instances[from], p.instances[w.picked], failure)
		failure.close()
		w.try.over()
		p.take(c, w)
	}
}

// statusClientGone is what the access log shows when the client left first.
const statusClientGone = 499

// earn adds to what extra calls may be made.
func (p *proxy) earn(w *pending) {
	if !w.balanced {
		return
	}
	if b := p.guards.budget; b != nil {
		p.state.retries.earn(b)
	}
	if h := p.guards.hedge; h != nil {
		p.state.hedges.earn(&h.allowance)
	}
}

// giveBack returns what goesOn took for an attempt that is not made.
func (p *proxy) giveBack() {
	if p.guards.budget != nil {
		p.state.retries.back()
	}
}

// answered is the end of an answer, whole or broken off.
func (p *proxy) answered(c *plugin.Context, w *pending) {
	if !w.held {
		return
	}
	took, all := w.try.took, w.try.took
	if h := p.guards.hedge; h != nil && h.percentile > 0 {
		p.state.conditions[w.picked].first[w.kind()].add(took)
	}
	v := good
	if n := len(c.Facts.Attempts); n > 0 {
		last := &c.Facts.Attempts[n-1]
		all = max(all, last.Response)
		if last.Err != nil && c.Context().Err() == nil && c.Response.Err() == nil {
			v = bad // it broke off
		}
	}
	p.end(w, v, balancer.Outcome{Failed: v == bad, FirstByte: took, Duration: all})
}

// release tells the picker how the last pick ended.
func (p *proxy) release(w *pending, o balancer.Outcome) {
	if w.held {
		w.held = false
		p.state.picker.Done(w.picked, o)
	}
}

// log is for requests that ended between the choice and the call.
func (p *proxy) log(c *plugin.Context) {
	if w := pendingKey.Get(c); w != nil && w.owner == p {
		p.end(w, silent, balancer.Outcome{})
		w.doc = nil // the client's body must not stay in memory for the room
		w.own.call.Release()
	}
}

// failed is an attempt that failed.
type failed struct {
	status    int
	reply     *reply.Reply // the provider's own error, open; nil: there is none
	body      any          // what the client gets where there is no reply
	err       error
	transport bool
	// asSent: the reply has a status of its own, with which it goes to the client if nobody
	// else is asked; status is what the provider should have said.
	asSent bool
}

func (f *failed) close() {
	if f.reply != nil {
		f.reply.Close()
	}
}

// ask makes one call. What is left in t is an answer that may go to the client, or what
// went wrong.
func (p *proxy) ask(ctx context.Context, c *plugin.Context, w *pending, t *try) {
	ctx = p.limit(ctx, w, t)
	defer p.inTime(ctx, t)
	req := p.request(ctx, c, w, t)
	if req == nil {
		return
	}
	begin := c.Now()
	if p.send(ctx, w, t, req, begin); t.ended.IsZero() {
		t.ended = c.Now()
	}
	t.took = t.ended.Sub(begin)
	t.record.Response = t.took
}

// request makes the request of a call, and notes where it goes; nil: none can be made.
func (p *proxy) request(ctx context.Context, c *plugin.Context, w *pending, t *try) *upstream.Request {
	i := p.instances[t.picked]
	call := &t.memory.call
	call.Begin(i, &c.Request, w.doc, w.protocol)
	req, err := build(ctx, call)
	if err != nil {
		if err = because(ctx, err); errors.As(err, new(*lateError)) {
			t.failure = p.transport(&t.record, err)
			return nil
		}
		t.failure = refused(err)
		return nil
	}
	p.locate(t.picked, req)
	req.Response = &t.memory.response // that of the last call is closed
	// The variables get neither the port nor the query, in which credentials may be.
	t.asked, t.scheme = true, i.Scheme
	t.host, _, _ = strings.Cut(req.Host, ":")
	if strings.HasPrefix(req.Host, "[") {
		t.host = req.Host[:strings.IndexByte(req.Host, ']')+1]
	}
	t.uri, _, _ = strings.Cut(req.Path, "?")
	t.record = exchange.Attempt{Name: i.Name, Addr: i.Target.Addr}
	return req
}

// send makes the call that begins now.
func (p *proxy) send(ctx context.Context, w *pending, t *try, req *upstream.Request, begin time.Time) {
	tried := &t.record
	if gone := p.instances[t.picked].Unreachable; gone != nil {
		t.failure = p.transport(tried, gone)
		return
	}
	req.Begin = begin
	res, err := p.client.Do(ctx, req)
	if err != nil {
		tried.Header = time.Since(begin)
		t.failure = p.transport(tried, because(ctx, err))
		return
	}
	tried.Header = res.Came.Sub(begin)
	p.judge(ctx, w, t, res, res.Came)
}

// judge begins the answer whose head came at that time, and decides whether it may go to the
// client.
func (p *proxy) judge(ctx context.Context, w *pending, t *try, res *upstream.Response, at time.Time) {
	tried := &t.record
	defer func() {
		if t.reply == nil && t.failure == nil {
			_ = res.Close() // it panicked, and somebody may still be sending the request
		}
	}()
	tried.Status = res.Status
	p.headCame(w, t)
	answer := &t.memory.reply
	if err := answer.Begin(ctx, res, &t.memory.call, at); err != nil {
		t.failure = p.transport(tried, because(ctx, err))
		return
	}
	t.ended = answer.Came()
	// A stream may have said that it failed before it said anything else.
	if f := answer.Fault(); f != nil && answer.Status() >= 300 {
		tried.Status, tried.Err = answer.Status(), f
	}
	s, asSent := answer.Status(), false
	if n := answer.Failed(); n != 0 {
		s, asSent, tried.Err, tried.End = n, true, answer.Fault(), "error"
	}
	if s == http.StatusTooManyRequests || s >= 500 || p.statuses[s] {
		t.failure, t.rest = &failed{status: s, reply: answer, asSent: asSent}, p.resting(s, &res.Header)
		return
	}
	t.reply = answer
}

// build makes the request of an attempt.
func build(ctx context.Context, c *drivers.Call) (*upstream.Request, error) {
	if err := drivers.Prepare(c); err != nil {
		return nil, err
	}
	q, err := c.Instance.Driver.Request(c)
	if err == nil {
		err = drivers.Sign(ctx, c, q)
	}
	return q, err
}

// transport is the failure of an attempt that got no answer, or one that cannot go to a
// client (spec/06 §A6, B3).
func (p *proxy) transport(tried *exchange.Attempt, err error) *failed {
	f := &failed{status: http.StatusInternalServerError, err: err, transport: true}
	var own *drivers.Failure
	var sent *upstream.Error
	switch {
	case errors.As(err, &own):
		f.status, f.transport = own.Status, false
		if own.Body != "" {
			f.body = own.Body
		}
	case errors.As(err, &sent) && sent.Timeout, errors.As(err, new(*lateError)):
		f.status = p.rules.timedOut
	}
	tried.Err = err
	switch {
	case tried.Status == 0:
		tried.Status = f.status
	case tried.Status < 300:
		tried.End = ended(err)
	}
	return f
}

// ended is how an answer ended that began well, for exchange.Attempt.End.
func ended(err error) string {
	var sent *upstream.Error
	var own *drivers.Failure
	switch {
	case errors.Is(err, exchange.ErrEnding):
		return "ending"
	case errors.Is(err, context.Canceled):
		return "left"
	case errors.Is(err, reply.ErrEmpty):
		return "empty"
	case errors.Is(err, reply.ErrTooLarge):
		return "too large"
	case errors.Is(err, reply.ErrTooLong), errors.As(err, new(*lateError)), errors.As(err, &sent) && sent.Timeout:
		return "timeout"
	case errors.As(err, &own):
		return "unusable"
	}
	return "cut"
}

// refused is a call that cannot be made.
func refused(err error) *failed {
	f := &failed{status: http.StatusBadRequest, err: err, body: errorMessage{err.Error()}}
	var unsupported *drivers.UnsupportedError
	var unconverted *convert.Error
	var unsigned *drivers.SignError
	switch {
	case errors.As(err, &unsupported):
		f.body = err.Error()
	case errors.As(err, &unsigned):
		f.status, f.body = http.StatusInternalServerError, errorMessage{unsigned.Text}
	case errors.As(err, &unconverted):
		f.status = unconverted.Status
	}
	return f
}

type errorMessage struct {
	Message string `json:"error_msg"`
}

// goesOn decides whether another instance is asked (spec/06 §A9, B4).
func (p *proxy) goesOn(c *plugin.Context, w *pending, f *failed, tries int, took time.Duration) bool {
	if !w.balanced {
		return false
	}
	switch {
	case f.transport && p.rules.onTransport:
	case f.status == http.StatusTooManyRequests && p.onRate:
	case f.status >= 500 && f.status < 600 && p.onServer:
	case p.statuses[f.status]:
	default:
		return false
	}
	note := c.Log.Warn().Str("route", c.Route.RouteID).Str("instance", p.instances[w.picked].Name).
		Int("status", f.status).AnErr("err", f.err).Str("request", c.ID)
	// The words are the reference's: its test suites look for them in the log.
	switch {
	case p.within > 0 && took > p.within:
		note.Msgf("ai instance failed after %dms, exceeding retry_on_failure_within_ms %d, not retrying", took.Milliseconds(), p.within.Milliseconds())
		return false
	case p.retries >= 0 && tries >= p.retries:
		note.Msgf("reached max_retries %d, not retrying", p.retries)
		return false
	case w.try.outOfTime || !w.until.IsZero() && !time.Now().Before(w.until):
		note.Msgf("deadline_ms %d has passed, not retrying", p.guards.deadline.Milliseconds())
		return false
	case p.guards.budget != nil && !p.state.retries.take():
		note.Msg("the retry budget is spent, not retrying")
		return false
	}
	note.Discard()
	return true
}

// report logs that another instance is asked, in the reference's words.
func (p *proxy) report(c *plugin.Context, from, to *drivers.Instance, f *failed) {
	e := c.Log.Warn().Str("route", c.Route.RouteID).Str("instance", from.Name).Str("next", to.Name).
		Int("status", f.status).AnErr("err", f.err).Str("request", c.ID)
	if f.transport {
		e.Msg("failed to send request to LLM: " + cause(f.err) + ". Retrying...")
		return
	}
	e.Msgf("ai instance %s returned status %d, falling back to %s. upstream error body: %s", from.Name, f.status, to.Name, f.excerpt())
}

// cause words why a provider gave no answer; the error beside it has the details.
func cause(err error) string {
	var u *upstream.Error
	if !errors.As(err, &u) {
		if errors.As(err, new(*lateError)) {
			return "timeout"
		}
		return "no answer"
	}
	text := ""
	if u.Op == upstream.OpConnect {
		text = "failed to connect to LLM server: "
	}
	switch {
	case u.Refused:
		return text + "connection refused"
	case u.Timeout:
		return text + "timeout"
	case text != "":
		return text + "no connection"
	}
	return "closed"
}

// excerpt is what a log line shows of a provider's error.
func (f *failed) excerpt() string {
	const limit = 512 // bytes
	if f.reply == nil {
		return ""
	}
	text := f.reply.Peek()
	return string(text[:min(len(text), limit)])
}

// fail answers with a failure that is the last: the provider's own error, else ours.
func (p *proxy) fail(c *plugin.Context, f *failed) error {
	if f.reply != nil {
		if !f.asSent {
			c.Response.Status = f.status
		}
		return p.deliver(c, f.reply, time.Now())
	}
	err := f.err
	if f.transport {
		err = fmt.Errorf("failed to send request to LLM service: %w", err)
	}
	return &plugin.ExitError{Status: f.status, Body: f.body, Err: err, Proxy: f.transport}
}

// deliver relays the answer from that moment on, or in passthrough makes it the request of the
// upstream.
func (p *proxy) deliver(c *plugin.Context, answer *reply.Reply, begin time.Time) error {
	defer answer.Close()
	tried := &c.Facts.Attempts[len(c.Facts.Attempts)-1]
	if p.passthrough && answer.Status() < 300 {
		body, err := answer.Body(passthroughLimit)
		if err != nil {
			return p.fail(c, p.transport(tried, err))
		}
		c.Request.Body.Set(body)
		describe(&c.Request.Header, "Content-Type", answer.ContentType())
		describe(&c.Request.Header, "Content-Encoding", answer.Encoding())
		return nil
	}
	whole := answer.Ended() // else it is the provider's time, too, that passes now
	out, err := answer.Relay(&c.Response)
	if !whole {
		tried.Response += time.Since(begin)
	}
	tried.Length = out.Length
	p.account(c, &out)
	if err != nil {
		tried.Err = err
		c.Facts.LLM.Partial = true
		if tried.Status < 300 {
			if tried.End = ended(err); answer.Fault() != nil {
				tried.End = "error"
			}
		}
		e, text := c.Log.Warn(), "AI answer was broken off"
		// The words are the reference's: its test suites look for them in the log.
		switch {
		case errors.Is(err, reply.ErrTooLong):
			text = "aborting AI stream: max_stream_duration_ms exceeded"
		case errors.Is(err, reply.ErrTooLarge):
			text = "aborting AI stream: max_response_bytes exceeded"
		}
		if c.Context().Err() != nil && !exchange.Ending(c.Context()) || c.Response.Err() != nil {
			tried.End = "left"
			e, text = c.Log.Info(), "client disconnected during AI streaming, aborting upstream read"
		}
		e.Err(err).Str("route", c.Route.RouteID).Str("instance", tried.Name).Str("request", c.ID).
			Int64("bytes", out.Length).Msg(text)
		return nil
	}
	_ = c.Response.Finish()
	return nil
}

// describe sets what a header says of a body; empty: nothing.
func describe(h *exchange.Header, name, value string) {
	if value == "" {
		h.Del(name)
		return
	}
	h.Set(name, value)
}

package aiproxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
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
	for tries := 0; ; tries++ {
		begin := time.Now()
		reply, failure := p.attempt(c, w)
		took := time.Since(begin)
		if p.state != nil {
			p.state.picker.Done(w.picked, balancer.Outcome{Failed: failure != nil, FirstByte: took, Duration: took})
		}
		if failure == nil {
			return p.deliver(c, reply)
		}
		if gone := c.Context().Err(); errors.Is(gone, context.Canceled) {
			return &plugin.ExitError{Status: statusClientGone, Err: gone}
		}
		if !p.goesOn(c, failure, tries, took) {
			return failure.exit()
		}
		w.attempt.Tried.Add(w.picked)
		next, err := p.state.picker.Pick(&w.attempt)
		if err != nil {
			if p.seed {
				return &plugin.ExitError{Status: http.StatusInternalServerError, Err: errors.Join(err, failure.Err), Proxy: true}
			}
			failure.Status = http.StatusBadGateway
			return failure.exit()
		}
		p.report(c, w.picked, next, failure)
		w.picked = next
		p.take(c, w)
	}
}

// statusClientGone is what the access log shows when the client left first.
const statusClientGone = 499

// failed is an attempt that failed.
type failed struct {
	drivers.Failure
	transport bool
}

// attempt asks one instance. It returns an answer that may go to the client, or what went
// wrong; then nothing has gone to the client.
func (p *proxy) attempt(c *plugin.Context, w *pending) (drivers.Reply, *failed) {
	i := p.instances[w.picked]
	call := &drivers.Call{Instance: i, Request: &c.Request, Body: w.doc, Protocol: w.protocol, Stream: w.stream}
	f := &c.Facts
	f.Attempts = append(f.Attempts, exchange.Attempt{Name: i.Name, Addr: i.Target.Addr})
	tried := &f.Attempts[len(f.Attempts)-1]
	begin := time.Now()
	defer func() { tried.Response = time.Since(begin) }()

	if i.Unreachable != nil {
		return nil, p.transport(tried, i.Unreachable)
	}
	req, err := i.Driver.Request(call)
	if err == nil {
		err = i.Driver.Sign(c.Context(), call, req)
	}
	if err != nil {
		f.Attempts = f.Attempts[:len(f.Attempts)-1] // nobody was asked
		return nil, refused(err)
	}
	f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI = i.Scheme, req.Host, req.Path
	res, err := p.client.Do(c.Context(), req)
	tried.Header = time.Since(begin)
	if err != nil {
		return nil, p.transport(tried, err)
	}
	tried.Status = res.Status
	reply, err := i.Driver.Begin(c.Context(), res, call)
	if err != nil {
		var own *drivers.Failure
		if errors.As(err, &own) {
			tried.Err = own.Err
			return nil, &failed{Failure: *own}
		}
		return nil, p.transport(tried, err)
	}
	if fallsBack := res.Status == http.StatusTooManyRequests || res.Status >= 500 || p.statuses[res.Status]; fallsBack && len(p.instances) > 1 {
		body, err := reply.Body(1 << 20)
		reply.Close()
		if err != nil {
			return nil, p.transport(tried, err)
		}
		tried.Length = int64(len(body))
		return nil, &failed{Failure: drivers.Failure{
			Status: res.Status, ContentType: reply.ContentType(), Header: drivers.ErrorHeader(&res.Header), Body: body,
		}}
	}
	return reply, nil
}

// transport is the failure of an attempt that got no answer (spec/06 §A6, B3).
func (p *proxy) transport(tried *exchange.Attempt, err error) *failed {
	tried.Err = err
	status := http.StatusInternalServerError
	var e *upstream.Error
	if errors.As(err, &e) && e.Timeout && !p.seed {
		status = http.StatusGatewayTimeout
	}
	tried.Status = status
	return &failed{Failure: drivers.Failure{Status: status, Err: err}, transport: true}
}

// refused is a call that cannot be made.
func refused(err error) *failed {
	var unsupported *drivers.UnsupportedError
	f := &failed{Failure: drivers.Failure{Status: http.StatusBadRequest, Err: err}}
	switch {
	case errors.As(err, &unsupported):
		f.ContentType, f.Body = "text/plain; charset=utf-8", []byte(err.Error())
	default:
		body, _ := jsonError(err.Error())
		f.ContentType, f.Body = "text/plain; charset=utf-8", body
	}
	return f
}

// goesOn decides whether another instance is asked (spec/06 §A9, B4).
func (p *proxy) goesOn(c *plugin.Context, f *failed, tries int, took time.Duration) bool {
	if len(p.instances) < 2 {
		return false
	}
	switch {
	case f.transport && p.onTransport:
	case f.Status == http.StatusTooManyRequests && p.onRate:
	case f.Status >= 500 && f.Status < 600 && p.onServer:
	case p.statuses[f.Status]:
	default:
		return false
	}
	if p.within > 0 && took > p.within {
		c.Log.Warn().Str("route", c.Route.RouteID).Int64("took_ms", took.Milliseconds()).Int64("limit_ms", p.within.Milliseconds()).
			Str("request", c.ID).Msg("ai instance failed too late, not retrying")
		return false
	}
	if p.retries >= 0 && tries >= p.retries {
		c.Log.Warn().Str("route", c.Route.RouteID).Int("max_retries", p.retries).Str("request", c.ID).Msg("reached max_retries, not retrying")
		return false
	}
	return true
}

// report logs that another instance is asked. The words of a transport failure are the
// reference's.
func (p *proxy) report(c *plugin.Context, from, to int, f *failed) {
	e := c.Log.Warn().Str("route", c.Route.RouteID).Str("failed", p.instances[from].Name).Str("next", p.instances[to].Name).
		Int("status", f.Status).AnErr("err", f.Err).Str("request", c.ID)
	if !f.transport {
		e.Msg("ai instance failed, falling back to the next")
		return
	}
	cause := "no answer"
	var u *upstream.Error
	if errors.As(f.Err, &u) {
		switch {
		case u.Refused:
			cause = "failed to connect to LLM server: connection refused"
		case u.Op == upstream.OpConnect && u.Timeout:
			cause = "failed to connect to LLM server: timeout"
		case u.Op == upstream.OpConnect:
			cause = "failed to connect to LLM server"
		case u.Timeout:
			cause = "timeout"
		}
	}
	e.Msg("failed to send request to LLM: " + cause + ". Retrying...")
}

// exit is the answer of a failure that is the last.
func (f *failed) exit() error {
	e := &plugin.ExitError{Status: f.Status, Err: f.Err, Proxy: f.transport}
	if e.Err == nil {
		e.Err = errors.New("the provider answered with an error")
	}
	if f.Body != nil {
		e.Body = f.Body
		e.Header = f.Header
		if f.ContentType != "" {
			e.Header = append(e.Header, exchange.Field{Name: "Content-Type", Value: f.ContentType})
		}
	}
	return e
}

// deliver relays the answer, or in passthrough makes it the request of the upstream.
func (p *proxy) deliver(c *plugin.Context, reply drivers.Reply) error {
	defer reply.Close()
	tried := &c.Facts.Attempts[len(c.Facts.Attempts)-1]
	if p.passthrough && reply.Status() < 400 {
		body, err := reply.Body(passthroughLimit)
		if err != nil {
			return (&failed{Failure: drivers.Failure{Status: http.StatusInternalServerError, Err: err}, transport: true}).exit()
		}
		c.Request.Body.Set(body)
		c.Request.Header.Del("Content-Encoding")
		if kind := reply.ContentType(); kind != "" {
			c.Request.Header.Set("Content-Type", kind)
		} else {
			c.Request.Header.Del("Content-Type")
		}
		return nil
	}
	begin := time.Now()
	out, err := reply.Relay(&c.Response)
	tried.Response += time.Since(begin)
	tried.Length = out.Length
	p.account(c, out)
	if err != nil {
		tried.Err = err
		c.Facts.LLM.Partial = true
		c.Log.Warn().Err(err).Str("route", c.Route.RouteID).Str("instance", tried.Name).Str("request", c.ID).
			Int64("bytes", out.Length).Msg("AI answer was broken off")
		return nil
	}
	_ = c.Response.Finish()
	return nil
}

func jsonError(text string) ([]byte, error) {
	return jsonMarshal(struct {
		Message string `json:"error_msg"`
	}{text})
}

package health

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

// Options are what a Checker works with.
type Options struct {
	Client *upstream.Client // for probes over HTTP
	Log    zerolog.Logger
	// Dial opens connections for probes of TCP; nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Lookup resolves names; nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Checker probes. Its methods are safe for concurrent use; Run is called once.
type Checker struct {
	o    Options
	wake chan struct{}

	mu    sync.Mutex
	fresh []weak.Pointer[watched]
	all   []*entry // changed by Run alone
}

// NewChecker returns a checker that does nothing until Run.
func NewChecker(o Options) *Checker {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	return &Checker{o: o, wake: make(chan struct{}, 1)}
}

func (c *Checker) watch(w *watched) {
	w.log.Store(&c.o.Log)
	c.mu.Lock()
	c.fresh = append(c.fresh, weak.Make(w))
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Each calls f for every address that is watched: the name of its group, the host and port
// that requests go to, and whether it is healthy. The latest come first; of the groups that
// followed each other an address may come twice.
func (c *Checker) Each(f func(name, host, port string, healthy bool)) {
	c.mu.Lock()
	all := slices.Clone(c.all)
	c.mu.Unlock()
	for _, one := range slices.Backward(all) {
		w := one.target.Value()
		if w == nil || w.retired.Load() {
			continue
		}
		for _, e := range *w.endpoints.Load() {
			host, port, _ := net.SplitHostPort(e.addr)
			f(w.name, host, port, !e.down.Load())
		}
	}
}

const (
	// idle is how often to look whether a target that is not probed has changed its state.
	idle = time.Second
	// together bounds the targets that are probed at one time.
	together = 64
)

// entry is a target as Run sees it: not held, so that a configuration which went away takes
// its targets along.
type entry struct {
	target weak.Pointer[watched]
	due    time.Time
	busy   bool
}

// Run probes until ctx ends, and returns when no probe is left.
func (c *Checker) Run(ctx context.Context) {
	var (
		running  sync.WaitGroup
		finished = make(chan *entry, together)
		places   = together
		timer    = time.NewTimer(time.Hour)
	)
	defer running.Wait()
	defer timer.Stop()
	for {
		now := time.Now()
		c.mu.Lock()
		fresh := c.fresh
		c.fresh = nil
		for _, p := range fresh {
			if w := p.Value(); w != nil && !w.seen {
				w.seen = true
				for _, e := range *w.endpoints.Load() {
					e.last = now
				}
				c.all = append(c.all, &entry{target: p, due: w.due(now)})
			}
		}
		next := now.Add(time.Hour)
		kept := c.all[:0]
		for _, e := range c.all {
			w := e.target.Value()
			if w == nil || w.retired.Load() && !e.busy {
				continue
			}
			kept = append(kept, e)
			if !e.busy && !e.due.After(now) && places > 0 {
				e.busy = true
				places--
				running.Go(func() {
					c.round(ctx, w)
					finished <- e
				})
			}
			if !e.busy && e.due.Before(next) {
				next = e.due
			}
		}
		clear(c.all[len(kept):])
		c.all = kept
		c.mu.Unlock()
		if places == 0 {
			next = now.Add(time.Hour) // somebody has to end first
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		case e := <-finished:
			e.busy = false
			places++
			if w := e.target.Value(); w != nil {
				e.due = w.due(time.Now())
			}
		}
	}
}

// due is when something of a target is to be done next.
func (w *watched) due(now time.Time) time.Time {
	next := now.Add(idle)
	for _, e := range *w.endpoints.Load() {
		if every := w.Check.active.every(e); every > 0 {
			if at := e.last.Add(every); at.Before(next) {
				next = at
			}
		}
	}
	return next
}

func (a *active) every(e *endpoint) time.Duration {
	if e.down.Load() {
		return a.unhealthy
	}
	return a.healthy
}

// round resolves a target's name and probes what is due.
func (c *Checker) round(ctx context.Context, w *watched) {
	a := &w.Check.active
	if w.Resolve && !w.literal() && (a.healthy > 0 || a.unhealthy > 0) {
		limited, cancel := context.WithTimeout(ctx, max(a.timeout, time.Second))
		addrs, err := c.o.Lookup(limited, w.host)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || len(addrs) == 0:
			// The addresses of the last time may still be right.
			c.o.Log.Warn().Err(err).Str("upstream", w.name).Msg("dns resolver domain: " + w.host + " error")
		default:
			w.located(addrs)
		}
	}
	now := time.Now()
	var group sync.WaitGroup
	places := make(chan struct{}, a.concurrency)
	for _, e := range *w.endpoints.Load() {
		every := a.every(e)
		if every == 0 || now.Before(e.last.Add(every)) {
			continue
		}
		e.last = now
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if o := c.probe(ctx, w, e); ctx.Err() == nil {
				w.count(e, o, &a.limits)
			}
		})
	}
	group.Wait()
}

// Connections are told apart by their TLS configuration; nothing changes these.
var (
	verified   = &tls.Config{MinVersion: tls.VersionTLS12}
	unverified = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // https_verify_certificate is the user's choice
)

// probe asks one address how it does.
func (c *Checker) probe(ctx context.Context, w *watched, e *endpoint) outcome {
	a := &w.Check.active
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if a.kind == "tcp" {
		conn, err := c.o.Dial(ctx, "tcp", e.probe)
		if err != nil {
			return outcomeOf(err)
		}
		_ = conn.Close()
		return success
	}
	req := a.request(w, e)
	res, err := c.o.Client.Do(ctx, req)
	if err != nil {
		return outcomeOf(err)
	}
	_ = res.Close()
	return a.judge(res.Status)
}

func (a *active) request(w *watched, e *endpoint) *upstream.Request {
	host := w.Host
	if host == "" {
		host = a.host
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if host == "" {
		host = e.probe
	}
	h := &exchange.Header{}
	for _, f := range append(append([]exchange.Field(nil), a.header...), w.Header...) {
		switch {
		case exchange.EqualName(f.Name, "Host"):
			host = f.Value
		case exchange.HopByHop(f.Name), exchange.EqualName(f.Name, "Content-Length"): // these follow from what is sent
		case h.Get(f.Name) != f.Value:
			h.Add(f.Name, f.Value)
		}
	}
	t := &upstream.Target{Addr: e.probe, NoKeepAlive: true}
	if a.kind == "https" {
		t.TLS = verified
		if !a.verify {
			t.TLS = unverified
		}
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil {
			t.SNI = name
		}
	}
	req := &upstream.Request{Target: t, Method: a.method, Path: a.path, Host: host, Header: h}
	if w.Query != "" {
		separator := "?"
		if strings.Contains(a.path, "?") {
			separator = "&"
		}
		req.Path += separator + w.Query
	}
	if a.body != "" {
		req.Body = [][]byte{[]byte(a.body)}
	}
	return req
}

// outcomeOf says what an error counts as; an answer that cannot be read is one of HTTP.
func outcomeOf(err error) outcome {
	var malformed upstream.ProtocolError
	var limited net.Error
	var failed *upstream.Error
	switch {
	case err == nil:
		return nothing
	case errors.As(err, &failed) && failed.Timeout, errors.As(err, &limited) && limited.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return timeout
	case errors.As(err, &malformed):
		return httpFailure
	}
	return tcpFailure
}

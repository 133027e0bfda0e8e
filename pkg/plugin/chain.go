package plugin

import (
	"cmp"
	"errors"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
)

// Chain is the plugins of one route, consumer or of the global rules, in run order. It
// is laid out once, at load time, and immutable; nil is an empty chain. What a consumer's
// request runs is laid out for it, in memory of its Context.
type Chain struct {
	all    []*Compiled // in run order, disabled ones too: they override lower levels
	phases [phases][]*Compiled
}

// NewChain lays out compiled plugins: descending priority, equal ones by name.
func NewChain(all []*Compiled) *Chain {
	c := &Chain{all: append([]*Compiled(nil), all...)}
	slices.SortStableFunc(c.all, compare)
	c.layOut()
	return c
}

// compare is the run order.
func compare(a, b *Compiled) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), strings.Compare(a.Name, b.Name))
}

// layOut says who runs in which phase.
func (c *Chain) layOut() {
	for phase := range c.phases {
		c.phases[phase] = c.phases[phase][:0]
	}
	for _, p := range c.all {
		if p.Disabled {
			continue
		}
		for phase, present := range [phases]bool{
			Rewrite: p.Phases.Rewrite != nil, Access: p.Phases.Access != nil, BeforeProxy: p.Phases.BeforeProxy != nil,
			HeaderFilter: p.Phases.HeaderFilter != nil, BodyFilter: p.Phases.Stream != nil, Log: p.Phases.Log != nil,
		} {
			if present {
				c.phases[phase] = append(c.phases[phase], p)
			}
		}
	}
}

// Find returns the plugin of that name, nil if the chain has none.
func (c *Chain) Find(name string) *Compiled {
	if c != nil {
		for _, p := range c.all {
			if p.Name == name {
				return p
			}
		}
	}
	return nil
}

// Plugins lists the chain in run order.
func (c *Chain) Plugins() []*Compiled {
	if c == nil {
		return nil
	}
	return c.all
}

// merge makes c the plugins of lower with those of upper added; upper wins on equal names
// (spec/04 §4). c keeps its memory, and is neither of them.
func (c *Chain) merge(lower, upper *Chain) {
	c.all = c.all[:0]
	above := upper.all
	for _, p := range lower.Plugins() {
		if upper.Find(p.Name) != nil {
			continue
		}
		for len(above) > 0 && compare(above[0], p) < 0 {
			c.all, above = append(c.all, above[0]), above[1:]
		}
		c.all = append(c.all, p)
	}
	c.all = append(c.all, above...)
	c.layOut()
}

// runs says whether p takes part in this request: its filter is asked once, and a
// plugin that prefers the route is left out of the global rules.
func (c *Context) runs(p *Compiled, global bool) bool {
	if global && p.Prefer {
		if own := c.chain.Find(p.Name); own != nil && !own.Disabled {
			return false
		}
	}
	if p.filter == nil {
		return true
	}
	for _, v := range c.filters {
		if v.plugin == p {
			return v.run
		}
	}
	run, err := p.filter.Eval(c.Exchange)
	if err != nil {
		// A filter that cannot be asked must not switch off what may guard the route
		// (spec/04 §3).
		run = true
		c.Log.Warn().Str("plugin", p.Name).Str("route", c.Route.RouteID).Str("request", c.ID).Err(err).Msg("plugin filter failed")
	}
	c.filters = append(c.filters, filterVerdict{p, run})
	return run
}

// Run runs one of the phases Rewrite, Access and BeforeProxy. It reports whether an
// answer was made, which ends the request: later plugins are not run.
func (c *Chain) Run(x *Context, phase Phase) (answered bool) {
	if c == nil {
		return false
	}
	for _, p := range c.phases[phase] {
		if x.runs(p, c == x.global) && p.run(x, phase) {
			return true
		}
	}
	return false
}

// RunAdded runs Rewrite of what a consumer added: not of plugins that the route has
// already, and never of auth plugins (spec/04 §2 step 4).
func (c *Chain) RunAdded(x *Context) (answered bool) {
	if c == nil {
		return false
	}
	for _, p := range c.phases[Rewrite] {
		if p.Auth || x.routeOnly.Find(p.Name) != nil || !x.runs(p, false) {
			continue
		}
		if p.run(x, Rewrite) {
			return true
		}
	}
	return false
}

func (p *Compiled) run(x *Context, phase Phase) (answered bool) {
	f := p.Phases.Rewrite
	switch phase {
	case Access:
		f = p.Phases.Access
	case BeforeProxy:
		f = p.Phases.BeforeProxy
	}
	if err := f(x); err != nil {
		p.exit(x, err)
		return true
	}
	// A plugin may also have answered by itself: ai-proxy streams.
	return x.Response.Committed()
}

// exit turns an error of a plugin into the answer.
func (p *Compiled) exit(x *Context, err error) {
	var e *ExitError
	if !errors.As(err, &e) {
		e = &ExitError{Status: http.StatusInternalServerError, Err: err}
	}
	if e.Status >= 400 {
		if p.errorResponse != nil {
			e = &ExitError{Status: e.Status, Body: p.errorResponse, Header: e.Header, Err: e.Err, Proxy: e.Proxy}
		}
		x.Log.Warn().Str("plugin", p.Name).Int("status", e.Status).AnErr("err", e.Err).
			Str("route", x.Route.RouteID).Str("request", x.ID).Msg("plugin ended the request")
		x.Facts.Failed = e
	}
	e.Answer(&x.Response)
}

// MergeConsumer puts what an attached consumer configures over the route's chain and
// runs the rewrite phase of what that added. Without a consumer it does nothing.
func (c *Context) MergeConsumer() (answered bool) {
	if c.consumer == nil {
		return false
	}
	if c.consumer.Broken != nil {
		e := &ExitError{Status: c.consumer.Status, Err: c.consumer.Broken}
		c.Facts.Failed = e
		e.Answer(&c.Response)
		return true
	}
	if len(c.consumer.Chain.Plugins()) == 0 {
		return false
	}
	if c.merged == nil {
		c.merged = new(Chain)
	}
	c.merged.merge(c.routeOnly, c.consumer.Chain)
	c.chain = c.merged
	return c.chain.RunAdded(c)
}

// BeforeHead runs the header_filter phase, global rules first, and sets up the body
// filters. It makes Context the response's hook.
func (c *Context) BeforeHead() {
	for _, chain := range [2]*Chain{c.global, c.chain} {
		if chain == nil {
			continue
		}
		for _, p := range chain.phases[HeaderFilter] {
			if c.runs(p, chain == c.global) {
				c.quietly(p, "header_filter", p.Phases.HeaderFilter)
			}
		}
	}
	for _, chain := range [2]*Chain{c.global, c.chain} {
		if chain == nil {
			continue
		}
		for _, p := range chain.phases[BodyFilter] {
			if c.runs(p, chain == c.global) {
				if f := p.Phases.Stream(c); f != nil {
					c.Response.AddFilter(f)
				}
			}
		}
	}
	if c.OnHead != nil {
		c.OnHead(c)
	}
}

// RunLog runs the log phase, global rules first. A plugin that fails there harms neither
// the others nor the answer, which is complete.
func (c *Context) RunLog() {
	for _, chain := range [2]*Chain{c.global, c.chain} {
		if chain == nil {
			continue
		}
		for _, p := range chain.phases[Log] {
			if c.runs(p, chain == c.global) {
				c.quietly(p, "log", p.Phases.Log)
			}
		}
	}
}

func (c *Context) quietly(p *Compiled, phase string, f func(*Context)) {
	defer func() {
		if v := recover(); v != nil {
			c.Log.Error().Str("plugin", p.Name).Str("phase", phase).Any("panic", v).
				Bytes("stack", debug.Stack()).Str("request", c.ID).Msg("plugin panicked")
		}
	}()
	f(c)
}

var _ exchange.HeadHook = (*Context)(nil)

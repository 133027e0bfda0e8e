// Package airatelimiting is the plugin ai-rate-limiting: it counts what answers of language
// models cost and refuses requests when a quota is spent. Who the instances are and how one
// is chosen it does not know; it finds the choice and the cost in the exchange's facts.
package airatelimiting

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/variable"
)

//go:embed schema.json
var schema []byte

const name = "ai-rate-limiting"

// Definition is the plugin. Configurations that are compiled from one definition share
// counters where they are the same configuration of the same parent.
func Definition() plugin.Definition {
	s := &shelf{kept: map[place]weak.Pointer[counters]{}}
	return plugin.Definition{
		Name: name, Version: "0.1", Priority: 1030,
		Schema: schema, Check: check, New: s.build,
	}
}

// conf is a configuration with its defaults.
type conf struct {
	Limit       *amount    `json:"limit"`
	Window      *amount    `json:"time_window"`
	Instances   []instance `json:"instances"`
	Rules       []rule     `json:"rules"`
	Strategy    string     `json:"limit_strategy"`
	Cost        string     `json:"cost_expr"`
	Show        bool       `json:"show_limit_quota_header"`
	Code        int        `json:"rejected_code"`
	Message     string     `json:"rejected_msg"`
	Policy      string     `json:"policy"`
	Degradation bool       `json:"allow_degradation"`
}

type instance struct {
	Name   string  `json:"name"`
	Limit  *amount `json:"limit"`
	Window *amount `json:"time_window"`
}

type rule struct {
	Count  *amount `json:"count"`
	Window *amount `json:"time_window"`
	Key    string  `json:"key"`
	Prefix *string `json:"header_prefix"`
}

// amount is a positive integer, or a text with variables that has to become one.
type amount struct {
	fixed int64 // 0: text
	text  string
	tmpl  *variable.Template
}

// UnmarshalJSON reads a number or a text.
func (a *amount) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '"' {
		return plugin.Decode(raw, &a.fixed)
	}
	if err := plugin.Decode(raw, &a.text); err != nil {
		return err
	}
	a.tmpl = variable.CompileTemplate(a.text)
	return nil
}

// of returns the amount for one request.
func (a *amount) of(x *exchange.Exchange) (int64, error) {
	if a.tmpl == nil {
		return a.fixed, nil
	}
	text, _ := a.tmpl.Resolve(x)
	n, ok := variable.ParseNumber(text)
	switch {
	case !ok:
		return 0, fmt.Errorf("%q: resolved value is not a number", a.text)
	case n <= 0:
		return 0, fmt.Errorf("%q: resolved value must be a positive number, got: %s", a.text, text)
	case n != math.Floor(n):
		return 0, fmt.Errorf("%q: resolved value must be an integer, got: %s", a.text, text)
	case n > maxCost:
		return 0, fmt.Errorf("%q: resolved value exceeds safe integer range (2^53-1), got: %s", a.text, text)
	}
	return int64(n), nil
}

// check says what the schema cannot.
func check(raw []byte) error {
	c := &conf{}
	if err := plugin.Decode(raw, c); err != nil {
		return err
	}
	_, err := c.check()
	return err
}

func (c *conf) check() (*cost, error) {
	if c.Policy != "local" {
		return nil, fmt.Errorf("policy %q is not supported, counters are kept in the memory of each node: only \"local\" is", c.Policy)
	}
	if c.Strategy != "expression" {
		return nil, nil
	}
	if c.Cost == "" {
		return nil, errors.New("cost_expr is required when limit_strategy is 'expression'")
	}
	compiled, err := compileCost(c.Cost)
	if err != nil {
		return nil, fmt.Errorf("invalid cost_expr: %w", err)
	}
	return compiled, nil
}

// limiter is a compiled configuration. All but its counters is immutable.
type limiter struct {
	place    place
	counters *counters
	clock    plugin.Clock
	show     bool
	lenient  bool // allow_degradation
	tokens   func(*exchange.LLM) (int64, error)

	global    *quota
	instances map[string]*quota
	rules     []keyed

	// seats are the instances that were chosen so far, by their names. The map is replaced,
	// not changed; under mu.
	seats atomic.Pointer[map[string]*seat]
	mu    sync.Mutex

	rejected *plugin.ExitError
	left     func(c *plugin.Context, instance string) bool // for plugin.InstanceQuota
}

// quota is so many tokens in so many seconds.
type quota struct{ count, window *amount }

func (q *quota) of(x *exchange.Exchange) (count, seconds int64, err error) {
	if count, err = q.count.of(x); err != nil {
		return 0, 0, err
	}
	seconds, err = q.window.of(x)
	return count, seconds, err
}

// seat is an instance with a quota.
type seat struct {
	*quota
	counter *counter
	headers *headers
}

// keyed is a rule: a quota with a counter for each key.
type keyed struct {
	quota
	key     *variable.Template
	headers *headers
	table   *table
}

func (s *shelf) build(b *plugin.Build) (plugin.Phases, error) {
	c := &conf{}
	if err := plugin.Decode(b.Conf, c); err != nil {
		return plugin.Phases{}, err
	}
	compiled, err := c.check()
	if err != nil {
		return plugin.Phases{}, err
	}
	l := &limiter{
		place: place{b.Parent.Kind, b.Parent.ID, b.Digest}, counters: s.take(b, len(c.Rules)), clock: b.Clock,
		show: c.Show, lenient: c.Degradation, tokens: strategy(c.Strategy, compiled),
		rejected: &plugin.ExitError{Status: c.Code, Err: errSpent},
	}
	if c.Message != "" {
		l.rejected.Body = message{c.Message}
	}
	if c.Limit != nil {
		l.global = &quota{c.Limit, c.Window}
	}
	l.instances = make(map[string]*quota, len(c.Instances))
	for _, i := range c.Instances { // of those with one name the last counts, as in the reference
		l.instances[i.Name] = &quota{i.Limit, i.Window}
	}
	l.seats.Store(&map[string]*seat{})
	for n, r := range c.Rules {
		prefix := strconv.Itoa(n + 1)
		if r.Prefix != nil {
			prefix = *r.Prefix
		}
		l.rules = append(l.rules, keyed{
			quota: quota{r.Count, r.Window}, key: variable.CompileTemplate(r.Key),
			headers: named("X-AI-"+prefix+"-RateLimit-", ""), table: &l.counters.rules[n],
		})
	}
	l.left = l.ask
	return plugin.Phases{Rewrite: l.rewrite, Access: l.access, Log: l.log, State: l}, nil
}

type message struct {
	Message string `json:"error_msg"`
}

var errSpent = errors.New("the quota of tokens is spent")

// strategy returns what an answer costs; an error if that is not known.
func strategy(name string, expression *cost) func(*exchange.LLM) (int64, error) {
	switch name {
	case "prompt_tokens":
		return func(u *exchange.LLM) (int64, error) { return told(u, u.PromptTokens) }
	case "completion_tokens":
		return func(u *exchange.LLM) (int64, error) { return told(u, u.CompletionTokens) }
	case "expression":
		return func(u *exchange.LLM) (int64, error) {
			if len(u.RawUsage) == 0 {
				return 0, errUntold
			}
			return expression.of(u.RawUsage)
		}
	}
	return func(u *exchange.LLM) (int64, error) {
		if u.TotalTokens == 0 {
			return told(u, u.PromptTokens+u.CompletionTokens)
		}
		return u.TotalTokens, nil
	}
}

var errUntold = errors.New("the provider told no usage")

func told(u *exchange.LLM, n int64) (int64, error) {
	if n == 0 && u.RawUsage == nil && u.PromptTokens == 0 && u.CompletionTokens == 0 && u.TotalTokens == 0 {
		return 0, errUntold
	}
	return n, nil
}

// headers are the names of those that tell a quota.
type headers struct{ limit, remaining, reset string }

func named(before, after string) *headers {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) {
				return r
			}
			return '-' // of what may not stand in a header's name
		}, s)
	}
	return &headers{clean(before + "Limit" + after), clean(before + "Remaining" + after), clean(before + "Reset" + after)}
}

// rewrite lets the plugin that chooses an instance ask for quotas.
func (l *limiter) rewrite(c *plugin.Context) error {
	plugin.InstanceQuota.Set(c, l.left)
	return nil
}

// ask reports whether an instance has something left. A consumer's configuration, which
// comes after the rewrite phase of the route's, is the one that counts.
func (l *limiter) ask(c *plugin.Context, instance string) bool {
	if p := c.Chain().Find(name); p != nil {
		own, ok := p.Phases.State.(*limiter)
		if !ok {
			return true // it is switched off there
		}
		l = own
	}
	own := l.seatOf(instance)
	if own == nil {
		return true
	}
	now := l.clock.Now()
	count, w, err := own.at(c.Exchange, now)
	if err != nil {
		return l.lenient
	}
	if l.show {
		tell(c, own.headers, count, w, now) // of one that is passed over, too: why it did not answer
	}
	return w.used.Load() < count
}

// seatOf is an instance with its quota; nil: it has none. Each instance has a counter of its
// own, also where the quota is that of the whole configuration.
func (l *limiter) seatOf(instance string) *seat {
	if s := (*l.seats.Load())[instance]; s != nil {
		return s
	}
	own := l.instances[instance]
	if own == nil {
		own = l.global
	}
	if own == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	more := maps.Clone(*l.seats.Load())
	s := &seat{own, l.counters.of(instance), named("X-AI-RateLimit-", "-"+instance)}
	more[instance] = s
	l.seats.Store(&more)
	return s
}

// at resolves the quota for one request.
func (s *seat) at(x *exchange.Exchange, now time.Time) (count int64, w *window, err error) {
	count, seconds, err := s.of(x)
	if err != nil {
		return 0, nil, err
	}
	return count, s.counter.at(now, seconds), nil
}

// at resolves the rule for one request; w is nil if it does not apply. An invalid quota of
// one that applies is an error, or it would be a way around the rule.
func (r *keyed) at(x *exchange.Exchange, now time.Time) (count int64, w *window, err error) {
	key, resolved := r.key.Resolve(x)
	if resolved == 0 {
		return 0, nil, nil
	}
	count, seconds, err := r.of(x)
	if err != nil {
		return 0, nil, err
	}
	return count, r.table.find(key, now).at(now, seconds), nil
}

// access refuses the request if the quota of the instance that was chosen is spent.
func (l *limiter) access(c *plugin.Context) error {
	instance := c.Facts.BalancerIP
	if instance == "" || c.Facts.RequestType == "traditional_http" {
		return nil // none was chosen
	}
	now := l.clock.Now()
	if l.rules != nil {
		return l.accessRules(c, now)
	}
	own := l.seatOf(instance)
	if own == nil {
		return nil
	}
	count, w, err := own.at(c.Exchange, now)
	if err != nil {
		return l.unresolved(c, err)
	}
	if l.show {
		tell(c, own.headers, count, w, now)
	}
	if w.used.Load() >= count {
		return l.rejected
	}
	return nil
}

// accessRules refuses the request if the quota of one of the rules that apply is spent.
func (l *limiter) accessRules(c *plugin.Context, now time.Time) error {
	applied := false
	for n := range l.rules {
		r := &l.rules[n]
		count, w, err := r.at(c.Exchange, now)
		if err != nil {
			return l.unresolved(c, err)
		}
		if w == nil {
			continue
		}
		applied = true
		if l.show {
			tell(c, r.headers, count, w, now)
		}
		if w.used.Load() >= count {
			return l.rejected
		}
	}
	if !applied {
		return l.unresolved(c, errNoRule)
	}
	return nil
}

var errNoRule = errors.New("no variable in the key of any rule has a value")

// unresolved is a request of which the quota cannot be told.
func (l *limiter) unresolved(c *plugin.Context, err error) error {
	err = fmt.Errorf("failed to get rate limit rules: %w", err)
	if l.lenient {
		c.Log.Warn().Err(err).Str("plugin", name).Str("route", c.Route.RouteID).Str("request", c.ID).Msg("request is not limited")
		return nil
	}
	return &plugin.ExitError{Status: http.StatusInternalServerError, Err: err}
}

// tell sets the headers that say how much is left.
func tell(c *plugin.Context, h *headers, count int64, w *window, now time.Time) {
	out := &c.Response.Header
	out.Set(h.limit, strconv.FormatInt(count, 10))
	out.Set(h.remaining, strconv.FormatInt(max(count-w.used.Load(), 0), 10))
	out.Set(h.reset, seconds(w.end.Sub(now)))
}

// seconds writes a duration with up to two decimals, not rounded up.
func seconds(d time.Duration) string {
	hundredths := max(d.Milliseconds()/10, 0)
	b := strconv.AppendInt(nil, hundredths/100, 10)
	if part := hundredths % 100; part > 0 {
		b = append(b, '.', '0'+byte(part/10))
		if part%10 > 0 {
			b = append(b, '0'+byte(part%10))
		}
	}
	return string(b)
}

// log adds what the answer cost to the quotas, also of one that was broken off.
func (l *limiter) log(c *plugin.Context) {
	instance := charged(&c.Facts)
	if instance == "" {
		return // no provider was asked
	}
	tokens, err := l.tokens(&c.Facts.LLM)
	if err != nil {
		// A provider that failed has nothing to tell, and who left did not wait for it.
		if !c.Facts.LLM.Partial && c.Response.Status < 300 {
			c.Log.Error().Err(err).Str("route", c.Route.RouteID).Str("instance", instance).Str("request", c.ID).
				Msg("failed to get token usage for llm service")
		}
		return
	}
	if tokens <= 0 {
		return
	}
	now := l.clock.Now()
	for n := range l.rules {
		if _, w, err := l.rules[n].at(c.Exchange, now); err == nil && w != nil {
			w.add(tokens)
		}
	}
	if own := l.seatOf(instance); own != nil {
		if _, w, err := own.at(c.Exchange, now); err == nil {
			w.add(tokens)
		}
	}
}

// charged is the instance whose answer the client got, or in passthrough the upstream;
// empty: no provider was asked.
func charged(f *exchange.Facts) (last string) {
	for _, a := range f.Attempts {
		switch a.Name {
		case "":
		case f.BalancerIP:
			return a.Name
		default:
			last = a.Name
		}
	}
	return last
}

package aiproxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
	"github.com/gosix/gosix/pkg/variable"
)

// proxy is a compiled configuration.
type proxy struct {
	name        string
	rules       rules
	passthrough bool
	instances   []*drivers.Instance
	models      []model // that the instances are configured to be asked for
	names       names   // that may not come in other letters
	targets     []balancer.Target
	balancer    balance
	hash        func(*exchange.Exchange) string
	maxBody     int64
	depth       int
	summaries   bool // logs may have the counts of a request
	payloads    bool // and what was said
	client      *upstream.Client

	retries  int // how many more attempts; -1: as many as there are instances
	onRate   bool
	onServer bool
	onQuota  bool          // instances whose quota is spent are passed over
	statuses map[int]bool  // nil: none
	within   time.Duration // no further attempt after one that took longer; 0: any

	guards   guards
	semantic *semantic       // nil: a picker chooses
	targeted []health.Target // what is checked of the instances, in their order
	checker  *health.Checker
	clock    plugin.Clock

	state *state
}

// state is what lives across requests. It outlives the configuration: the next build goes
// on with what it knows of instances that keep their name and place.
type state struct {
	picker     balancer.Picker // nil: there is nothing to choose
	conditions []*condition    // of the instances, in their order
	retries    *allowance      // of further attempts
	hedges     *allowance
	ejecting   sync.Mutex    // one at a time, so that not too many are
	health     *health.Group // nil: nothing is checked
	examples   examples
}

const (
	defaultMaxBody  = 64 << 20
	defaultDuration = 30 * time.Minute // of a stream (spec/00 27)
	defaultResponse = 256 << 20        // bytes of an answer
)

// compile makes the one internal form of both generations. What differs between them is
// fields of it.
func (d Deps) compile(name string, c *conf) (*proxy, error) {
	p := &proxy{
		name: name, rules: c.rules, passthrough: c.Passthrough, balancer: c.Balancer, client: d.Client, depth: d.Depth,
		maxBody: c.MaxBody, retries: -1, within: ms(c.RetryWithin),
	}
	if p.maxBody == 0 {
		p.maxBody = d.MaxBody
	}
	if p.maxBody == 0 {
		p.maxBody = defaultMaxBody
	}
	p.guards, p.checker, p.clock = c.resilience.compile(), d.Health, plugin.SystemClock{}
	p.onRate, p.onServer, p.onQuota = c.Fallback.rate, c.Fallback.server, c.Fallback.quota
	p.summaries, p.payloads = c.Logging.Summaries, c.Logging.Payloads
	if len(c.Statuses) > 0 {
		p.statuses = map[int]bool{}
	}
	for _, s := range c.Statuses {
		p.statuses[s] = true
	}
	if c.MaxRetries != nil {
		p.retries = *c.MaxRetries
	}
	for n := range c.Instances {
		i := &c.Instances[n]
		compiled, err := d.instance(c, i)
		if err != nil {
			if c.multi {
				return nil, fmt.Errorf("instance '%s': %w", i.Name, err)
			}
			return nil, err
		}
		p.instances, p.models = append(p.instances, compiled), append(p.models, modelOf(compiled))
		p.targets = append(p.targets, balancer.Target{ID: i.Name, Weight: i.Weight, Priority: i.Priority})
	}
	p.names = namesOf(p.instances)
	c.warn(p.instances)
	if c.Balancer.Algorithm == "semantic" {
		var err error
		if p.semantic, err = d.semantic(c); err != nil {
			return nil, err
		}
	} else if err := p.checks(c); err != nil {
		return nil, err
	}
	if b := c.Balancer; b.Algorithm == "chash" {
		key := ""
		if b.Key != nil {
			key = *b.Key
		}
		p.hash = variable.HashKey(*b.HashOn, key)
	}
	return p, nil
}

// model is one that is configured; it may be the empty name.
type model struct {
	name string
	set  bool
}

// modelOf finds the model of an instance's options, and notes it there.
func modelOf(i *drivers.Instance) (m model) {
	for _, o := range i.Options {
		if o.Name == "model" {
			if name, err := jsonedit.Unquote(o.Value); err == nil {
				m = model{name, true}
			}
		}
	}
	i.Model = m.name
	return m
}

// warn collects what is accepted and has no effect, or not the one it seems to have.
func (c *conf) warn(compiled []*drivers.Instance) {
	add := func(text string) { c.warnings = append(c.warnings, text) }
	for n, i := range c.Instances {
		if err := compiled[n].Unreachable; err != nil {
			add("instance " + i.Name + " cannot be called: " + err.Error())
		}
		if i.Auth.references() {
			add("instance " + i.Name + ": secret references in auth are not looked up by this version")
		}
		if compiled[n].AWS != nil && i.Provider != "bedrock" {
			add("instance " + i.Name + ": auth.aws has no effect with provider " + i.Provider)
		}
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// instance compiles one account.
func (d Deps) instance(c *conf, i *instance) (*drivers.Instance, error) {
	driver, known := d.Drivers.Get(i.Provider)
	if !known {
		return nil, fmt.Errorf("provider %s is not supported by this version", i.Provider)
	}
	out := &drivers.Instance{
		Name: i.Name, Provider: i.Provider, Driver: driver, Where: drivers.Where{Project: i.Where.Project, Region: i.Where.Region},
		Forward: c.rules.forward, Usage: c.rules.askUsage, Force: i.Override.Force,
		Limits:    drivers.Limits{Duration: defaultDuration, Bytes: defaultResponse},
		KeepAlive: ms(c.Comments), Text: c.Logging.Payloads,
	}
	if c.MaxDuration > 0 {
		out.Limits.Duration = ms(c.MaxDuration)
	}
	if c.MaxResponse > 0 {
		out.Limits.Bytes = c.MaxResponse
	}
	timeout, idle := ms(c.Timeout), ms(c.KeepAliveTimeout)
	out.Timeouts = upstream.Timeouts{Connect: timeout, Send: timeout, Head: timeout, Read: timeout}
	if c.rules.idleLimits {
		out.Timeouts = upstream.Timeouts{Connect: timeout, Send: idle, Head: idle, Read: idle}
	}
	if c.Idle > 0 {
		out.Timeouts.Read, out.Limits.Idle = ms(c.Idle), ms(c.Idle)
	}
	if err := place(out, c, i); err != nil {
		return nil, err
	}
	if err := d.cloud(out, &i.Auth); err != nil {
		return nil, err
	}
	if err := speak(out, i.Where.Protocol); err != nil {
		return nil, err
	}
	if d.Client != nil {
		d.Client.Bind(out.Target)
	}
	out.Fix()
	return out, members(out, i)
}

// place compiles where an account is: the endpoint, its arguments, its connections.
func place(out *drivers.Instance, c *conf, i *instance) error {
	out.Scheme = "https"
	host, port := out.Driver.Endpoint(out.Where).Host, "443"
	rawQuery := ""
	if i.Override.Endpoint != "" {
		u, err := url.Parse(i.Override.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// ai-proxy accepts any text (spec/06 §A2); the call fails then.
			out.Unreachable = fmt.Errorf("override.endpoint %q is no address", i.Override.Endpoint)
			u = &url.URL{Scheme: "http"}
		}
		out.Scheme, host, port = u.Scheme, u.Hostname(), u.Port()
		out.Path, rawQuery = u.EscapedPath(), printable(u.RawQuery)
		if port == "" {
			port = "443"
			if out.Scheme == "http" {
				port = c.rules.plainPort
			}
		}
	}
	if host == "" && out.Unreachable == nil {
		out.Unreachable = fmt.Errorf("provider %s has no address of its own and override.endpoint names none", i.Provider)
	}
	out.Host = host
	if strings.Contains(host, ":") {
		out.Host = "[" + host + "]"
	}
	if out.Scheme == "https" && port != "443" || out.Scheme == "http" && port != "80" {
		out.Host += ":" + port
	}
	out.Target = &upstream.Target{
		Addr: net.JoinHostPort(host, port), NoKeepAlive: !c.KeepAlive, MaxIdle: c.KeepAlivePool, IdleTimeout: ms(c.KeepAliveTimeout),
		MaxRequests: connectionRequests,
	}
	if out.Scheme == "https" {
		out.Target.SNI = host
		out.Target.TLS = verified
		if !c.Verify {
			out.Target.TLS = unverified
		}
	}
	arguments(out, i.Auth.Query, rawQuery)
	credentials(out, &i.Auth)
	return nil
}

// connectionRequests is how many requests a connection to a provider serves. The reference has
// no limit; with one, a provider that has moved is found in the end.
const connectionRequests = 10_000

// printable encodes what may not stand in a request line; url.Parse leaves it in a query.
func printable(query string) string {
	var b strings.Builder
	for i := 0; i < len(query); i++ {
		if c := query[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Connections are pooled by the identity of their TLS configuration, so all instances share
// these two; nothing changes them.
var (
	verified   = &tls.Config{MinVersion: tls.VersionTLS12}
	unverified = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // ssl_verify is the user's choice
)

// credentials compiles the configured headers. An empty value is none: it is not sent, and
// does not keep the client's own from the provider (spec/00 4).
func credentials(out *drivers.Instance, a *auth) {
	for _, f := range a.Header {
		switch {
		case f.Value == "":
			continue
		case exchange.EqualName(f.Name, "Host"):
			out.Host = f.Value
		case framing(f.Name):
			continue // what is sent decides these
		default:
			out.Header = append(out.Header, f)
		}
		out.Credentials = true
	}
	for _, f := range a.Query {
		out.Credentials = out.Credentials || f.Value != ""
	}
}

// framing names the headers that follow from the body, which the driver makes.
func framing(name string) bool {
	return exchange.HopByHop(name) && !exchange.EqualName(name, "Proxy-Authorization") ||
		exchange.EqualName(name, "Content-Length") || exchange.EqualName(name, "Content-Type")
}

// arguments joins the configured arguments with the endpoint's, which win on equal names.
func arguments(out *drivers.Instance, configured ordered, endpoint string) {
	theirs, _ := url.ParseQuery(endpoint)
	out.Fixed = map[string]bool{}
	var list []string
	for _, f := range configured {
		out.Fixed[f.Name] = true
		if !theirs.Has(f.Name) {
			list = append(list, escape(f.Name)+"="+escape(f.Value))
		}
	}
	if endpoint != "" {
		list = append(list, endpoint)
	}
	out.Query = strings.Join(list, "&")
}

// escape encodes a part of a query; a space becomes "%20", as the reference has it.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// members compiles what is set in every body.
func members(out *drivers.Instance, i *instance) error {
	if i.model != "" {
		out.Options = append(out.Options, jsonedit.NewEdit("model", jsonedit.AppendQuote(nil, i.model)))
	}
	if options := bytes.TrimSpace(i.Options); len(options) > 0 && options[0] == '{' {
		err := jsonedit.Members(options, func(name string, raw []byte, _ jsonedit.Kind) error {
			value := append([]byte(nil), raw...)
			for n := range out.Options {
				if out.Options[n].Name == name {
					out.Options[n].Value = value
					return nil
				}
			}
			out.Options = append(out.Options, jsonedit.NewEdit(name, value))
			return nil
		})
		if err != nil {
			return err
		}
	}
	out.MaxTokens = i.Override.LLMOptions.MaxTokens
	for id, body := range i.Override.RequestBody {
		if out.Bodies == nil {
			out.Bodies = map[protocol.ID][]byte{}
		}
		if b := bytes.TrimSpace(body); len(b) > 0 && b[0] == '{' {
			out.Bodies[id] = b
		}
	}
	return nil
}

// adopt makes the state: that of the same configuration before this change, or a new one
// that goes on with what was known before.
func (p *proxy) adopt(b *plugin.Build, cache *balancer.Cache) error {
	if same, ok := b.Prev.(*state); ok && same != nil {
		p.state = same
		return nil
	}
	before, _ := b.Before.(*state)
	if before == nil {
		before = &state{}
	}
	s := &state{retries: before.retries, hedges: before.hedges}
	p.state = s
	if len(p.instances) < 2 || p.semantic != nil {
		return nil
	}
	if s.hedges == nil {
		s.hedges = new(allowance)
	}
	if budget := p.guards.budget; budget != nil && s.retries == nil {
		s.retries = new(allowance)
		s.retries.left.Store(100 * budget.start)
	}
	known := map[string]*condition{}
	for _, k := range before.conditions {
		known[k.key] = k
	}
	for _, i := range p.instances {
		key := i.Name + " " + i.Target.Addr
		k := known[key]
		if k == nil {
			k = &condition{key: key}
		}
		s.conditions = append(s.conditions, k)
	}
	s.health = health.NewGroup("/apisix/"+b.Parent.Kind+"/"+b.Parent.ID+"#plugins['"+p.name+"']", p.targeted, before.health)
	var err error
	s.picker, err = p.picker(b, cache, before.picker)
	return err
}

// picker finds what spreads the attempts: one that was kept when its configuration went
// away, or a new one; nil if no algorithm is named, selection fails then, as in the
// reference.
func (p *proxy) picker(b *plugin.Build, cache *balancer.Cache, before balancer.Picker) (balancer.Picker, error) {
	key := b.Parent.Kind + "/" + b.Parent.ID + "#" + p.name + "@" + b.Digest
	if cache != nil {
		if kept, ok := cache.Get(key); ok {
			return kept, nil
		}
	}
	if p.balancer.Algorithm == "" {
		return nil, nil
	}
	made, err := balancer.New(balancer.Config{Algorithm: p.balancer.Algorithm, Targets: p.targets}, before)
	if err != nil {
		return nil, err
	}
	if cache != nil {
		cache.Put(key, made)
	}
	return made, nil
}

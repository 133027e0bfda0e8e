package route

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/upstream"
)

// compiled is a route ready to be matched, with what it was made of.
type compiled struct {
	object     *object
	candidates []*candidate
	uses       []string // keys of everything it is built from, sorted
	chain      *plugin.Chain
	chainOf    []*object // what the chain was made of
	upstream   *Upstream // inline one
}

// compileRoutes compiles every stale route and hangs it into the matcher.
func (w *build) compileRoutes() {
	keys := w.stale["routes"]
	if len(keys) == 0 {
		return
	}
	made, former := make([]*compiled, len(keys)), make([]*compiled, len(keys))
	errs := make([]error, len(keys))
	w.parallel(len(keys), func(i int) {
		former[i], _ = w.prev.routes.get(keys[i])
		o, ok := w.next.objects.get(keys[i])
		if !ok {
			return
		}
		errs[i] = w.guarded(func() (err error) {
			made[i], err = w.compileRoute(o, former[i])
			return err
		})
	})
	routes, match := w.prev.routes.edit(), w.prev.matcher.edit(len(keys))
	for i, rest := range keys {
		before := former[i]
		if errs[i] != nil {
			made[i] = w.fallBack(rest, before, errs[i])
		}
		c := made[i]
		if c == before {
			continue
		}
		var was, is []string
		if before != nil {
			was = before.uses
			for _, old := range before.candidates {
				match.drop(old)
			}
		}
		if c == nil {
			routes.del(rest)
		} else {
			routes.set(rest, c)
			if errs[i] == nil {
				w.recovered(c.object)
			}
			is = c.uses
			for _, now := range c.candidates {
				match.add(now)
			}
			w.report.Compiled++
		}
		w.link(rest, was, is)
	}
	w.next.routes, w.next.matcher = routes.commit(), match.commit()
}

// fallBack puts the last good version of a route back into force, nil if it has none.
func (w *build) fallBack(rest string, before *compiled, cause error) *compiled {
	bad, _ := w.objects.get(rest)
	item, _ := w.next.stored.get(rest)
	old, had := w.prev.objects.get(rest)
	if had && old != bad && (w.report.Reset || old.item.CreateRevision == bad.item.CreateRevision) {
		w.objects.set(rest, old)
		var again *compiled
		err := w.guarded(func() (err error) {
			again, err = w.compileRoute(old, before)
			return err
		})
		w.reject(rest, item, cause)
		if err != nil {
			// What it refers to changed as well, and with that it does not compile.
			return before
		}
		return again
	}
	if had && old == bad {
		// Unchanged itself, but not with what it refers to: it stays as it was compiled.
		w.reject(rest, item, cause)
		return before
	}
	w.objects.del(rest)
	w.count("routes", -1)
	w.reject(rest, item, cause)
	return nil
}

// recovered takes back what was said of an item that compiled only now, since something
// it refers to changed.
func (w *build) recovered(o *object) {
	r, ok := w.rejected.get(o.rest)
	if item, _ := w.next.stored.get(o.rest); ok && r.Refused == o.item.Revision && item == o.item && o.unknown == nil {
		w.accept(o.rest)
	}
}

// compileRoute merges a route with what it refers to (spec/03 §8) and compiles it. It
// reads committed trees alone. before is its compiled form so far, nil if there is none.
func (w *build) compileRoute(o *object, before *compiled) (*compiled, error) {
	r := o.doc.(*resource.Route)
	c := &compiled{object: o}
	base := Route{Labels: plugin.Labels{RouteID: o.id, RouteName: r.Name, ServiceID: r.ServiceID}}

	var service, config *object
	var s resource.Service // what the route falls back on; empty without a service
	if r.ServiceID != "" {
		c.uses = append(c.uses, "services/"+r.ServiceID)
		if service = w.objectAt("services", r.ServiceID); service != nil {
			s = *service.doc.(*resource.Service)
			base.Labels.ServiceName = s.Name
		}
	}
	if r.PluginConfigID != "" {
		c.uses = append(c.uses, "plugin_configs/"+r.PluginConfigID)
		config = w.objectAt("plugin_configs", r.PluginConfigID)
	}
	base.Websocket = isTrue(r.EnableWebsocket, s.EnableWebsocket)
	if r.Timeout != nil {
		t := timeoutsOf(r.Timeout)
		base.timeouts = &t
	}
	w.routeUpstream(c, &base, r, service, before)

	switch unknown := firstUnknown(o, service, config); {
	case r.PluginConfigID != "" && config == nil:
		base.refuse(http.StatusServiceUnavailable, fmt.Errorf("failed to fetch plugin config by id: %s", r.PluginConfigID))
	case r.ServiceID != "" && service == nil:
		base.refuse(http.StatusNotFound, fmt.Errorf("failed to fetch service configuration by id: %s", r.ServiceID))
	case unknown != nil:
		base.refuse(http.StatusServiceUnavailable, unknown)
	}
	if base.Status == 0 || base.Status == http.StatusBadGateway {
		if err := w.routeChain(c, &base, o, service, config, before); err != nil {
			return nil, err
		}
	} else {
		if before != nil {
			c.chain = before.chain // it does not run, it keeps the plugins' state for later
		}
		// Whether an item is good must not depend on what it refers to.
		for _, p := range o.plugins() {
			if err := w.checkPlugin(o, p); err != nil && !isUnknown(err) {
				return nil, err
			}
		}
	}
	slices.Sort(c.uses)
	c.uses = slices.Compact(c.uses)

	hosts := r.Hosts
	if len(hosts) == 0 {
		hosts = s.Hosts
	}
	if err := c.hang(&base, r, hosts, w.env.Router); err != nil {
		return nil, err
	}
	if r.Status == 0 {
		c.candidates = nil // known, judged, and invisible
	}
	return c, nil
}

// hang makes the candidates: one for each pattern and host.
func (c *compiled) hang(base *Route, r *resource.Route, hosts []string, router string) error {
	rule := &rule{object: c.object, priority: r.Priority, addrs: r.RemoteAddrs}
	for _, m := range r.Methods {
		rule.methods |= methodBit(m)
	}
	if r.Vars != nil {
		var err error
		if rule.vars, err = expr.Compile(r.Vars); err != nil {
			return fmt.Errorf("failed to validate the 'vars' expression: %w", err)
		}
	}
	for _, uri := range r.URIs {
		path, err := compilePattern(uri, router == URIWithParam)
		if err != nil {
			return err
		}
		one := candidate{Route: *base, rule: rule, path: path}
		one.Pattern = uri
		if len(hosts) == 0 {
			one.order, one.host.any = len(c.candidates), true
			c.candidates = append(c.candidates, &one)
			continue
		}
		for _, host := range hosts {
			under := one
			under.order, under.Host, under.host = len(c.candidates), host, compileHost(host)
			c.candidates = append(c.candidates, &under)
		}
	}
	return nil
}

func (r *Route) refuse(status int, cause error) { r.Status, r.Broken = status, cause }

func firstUnknown(objects ...*object) error {
	for _, o := range objects {
		if o != nil && o.unknown != nil {
			return o.unknown
		}
	}
	return nil
}

func isTrue(first, second *bool) bool {
	if first != nil {
		return *first
	}
	return second != nil && *second
}

// routeUpstream finds the upstream: the route's, else its service's; an id goes before
// an inline one of the same level (spec/03 §8).
func (w *build) routeUpstream(c *compiled, base *Route, r *resource.Route, service *object, before *compiled) {
	var s resource.Service
	if service != nil {
		s = *service.doc.(*resource.Service)
	}
	id := r.UpstreamID
	if id == "" && r.Upstream == nil {
		id = s.UpstreamID
	}
	switch {
	case id != "":
		c.uses = append(c.uses, "upstreams/"+id)
		up, ok := w.next.upstreams.get("upstreams/" + id)
		if !ok {
			base.refuse(http.StatusBadGateway, fmt.Errorf("failed to find upstream by id: %s", id))
			return
		}
		base.Upstream = up
	case r.Upstream != nil:
		c.upstream = w.inlineUpstream(c.object, r.Upstream, before)
		base.Upstream = c.upstream
		c.uses = append(c.uses, c.upstream.uses()...)
	case s.Upstream != nil:
		base.Upstream, _ = w.next.upstreams.get(service.rest)
	}
}

// inlineUpstream compiles the upstream of a route, or takes over what was made of the same.
func (w *build) inlineUpstream(o *object, conf *resource.Upstream, before *compiled) *Upstream {
	if before == nil {
		return w.compileUpstream(o, conf, nil)
	}
	// With settings for TLS it may depend on others, and with checks it is watched by name.
	if was := before.object.doc.(*resource.Route); w.anew || was.Upstream != conf || conf.TLS != nil || conf.Checks != nil || before.upstream == nil {
		return w.compileUpstream(o, conf, before.upstream)
	}
	u := *before.upstream
	u.Ref = o.ref()
	return &u
}

// routeChain merges and compiles the plugins: the route's own go first, those of its
// plugin_config fill gaps, those of its service come last (spec/04 §4).
func (w *build) routeChain(c *compiled, base *Route, o, service, config *object, before *compiled) error {
	sources := map[string]*object{}
	for _, level := range []*object{o, config, service} {
		if level == nil {
			continue
		}
		for _, p := range level.plugins() {
			if sources[p.Name] == nil {
				sources[p.Name] = level
			}
		}
	}
	if len(sources) == 0 {
		return nil
	}
	c.chainOf = []*object{o, service, config}
	names := slices.Sorted(maps.Keys(sources))
	metadata := make([]json.RawMessage, len(names))
	for i, name := range names {
		m, key := w.metadataOf(name)
		if key == "" {
			continue
		}
		c.uses = append(c.uses, key)
		c.chainOf = append(c.chainOf, m)
		if m != nil {
			metadata[i] = m.doc.(*resource.PluginMetadata).Conf
		}
	}
	var prev *plugin.Chain
	if before != nil {
		if prev = before.chain; slices.Equal(before.chainOf, c.chainOf) {
			c.chain, base.Chain = prev, prev
			return nil
		}
	}
	all := make([]*plugin.Compiled, 0, len(names))
	for i, name := range names {
		level := sources[name]
		p, err := w.env.Registry.Compile(plugin.Source{Name: name, Conf: level.plugins().Get(name), Parent: level.ref()},
			base.Labels, metadata[i], prev)
		switch {
		case err == nil:
			all = append(all, p)
		case !isUnknown(err): // unknown ones got here to be left out
			return err
		}
	}
	c.chain = plugin.NewChain(all)
	base.Chain = c.chain
	return nil
}

// metadataOf returns the metadata of a plugin, nil if none is stored, and the key under
// which it would be; the key is empty for a plugin that has none.
func (w *build) metadataOf(name string) (*object, string) {
	d, ok := w.env.Registry.Definition(name)
	if !ok || d.MetadataSchema == nil {
		return nil, ""
	}
	return w.objectAt("plugin_metadata", name), "plugin_metadata/" + name
}

func timeoutsOf(t *resource.Timeout) upstream.Timeouts {
	read := seconds(t.Read)
	return upstream.Timeouts{Connect: seconds(t.Connect), Send: seconds(t.Send), Head: read, Read: read}
}

// seconds turns a positive number of seconds into a duration that is not zero, since
// zero would mean no limit.
func seconds(s float64) time.Duration {
	const most = float64(1<<63 - 1)
	ns := s * float64(time.Second)
	if ns >= most {
		return 1<<63 - 1
	}
	if s > 0 && ns < 1 {
		return 1
	}
	return time.Duration(ns)
}

// compiledConsumer is a consumer with its credentials.
type compiledConsumer struct {
	consumer *plugin.Consumer
	uses     []string
	holders  []holder
	warn     []Warning
}

// holder is one way to be identified.
type holder struct {
	plugin, key string
	created     int64
	rest        string // of the consumer or credential
	identity    *plugin.Identity
}

func (h holder) compare(other holder) int {
	switch {
	case h.created != other.created:
		return sign(h.created < other.created)
	default:
		return strings.Compare(h.rest, other.rest)
	}
}

// compileConsumers compiles every stale consumer and the index of what clients present.
func (w *build) compileConsumers() {
	keys := w.stale["consumers"]
	if len(keys) == 0 {
		return
	}
	made := make([]*compiledConsumer, len(keys))
	errs := make([]error, len(keys))
	w.parallel(len(keys), func(i int) {
		if o, ok := w.next.objects.get(keys[i]); ok {
			before, _ := w.prev.consumers.get(keys[i])
			errs[i] = w.guarded(func() (err error) {
				made[i], err = w.compileConsumer(o, before)
				return err
			})
		}
	})
	consumers := w.prev.consumers.edit()
	holders := holderEdit{}
	for i, rest := range keys {
		before, known := w.prev.consumers.get(rest)
		c := made[i]
		if errs[i] != nil {
			// Each part was judged on its own, so it is what they are together with.
			o, _ := w.next.objects.get(rest)
			c = &compiledConsumer{consumer: &plugin.Consumer{Name: o.id, Broken: errs[i], Status: http.StatusServiceUnavailable}}
			if known {
				c.uses, c.holders = before.uses, nil
			}
			r := Rejected{Key: w.keyOf(o), Refused: o.item.Revision, Reason: errs[i].Error()}
			w.rejected.set(rest, r)
			w.report.Rejected = append(w.report.Rejected, r)
		}
		var was, is []string
		if known {
			was = before.uses
			holders.drop(before.holders)
		}
		if c == nil {
			consumers.del(rest)
		} else {
			consumers.set(rest, c)
			if o, ok := w.next.objects.get(rest); ok && errs[i] == nil {
				w.recovered(o)
			}
			is = c.uses
			holders.add(c.holders)
			w.report.Warnings = append(w.report.Warnings, c.warn...)
		}
		w.link(rest, was, is)
	}
	w.next.consumers = consumers.commit()
	w.next.auth = holders.apply(w.prev.auth)
}

func (w *build) compileConsumer(o *object, before *compiledConsumer) (*compiledConsumer, error) {
	d := o.doc.(*resource.Consumer)
	c := &compiledConsumer{}
	who := &plugin.Consumer{Name: d.Username, GroupID: d.GroupID, CustomID: d.Labels["custom_id"], Labels: d.Labels}
	c.consumer = who
	var prev *plugin.Chain
	if before != nil {
		prev = before.consumer.Chain
	}
	var group *object
	if d.GroupID != "" {
		c.uses = append(c.uses, "consumer_groups/"+d.GroupID)
		if group = w.objectAt("consumer_groups", d.GroupID); group == nil {
			who.Broken, who.Status = fmt.Errorf("failed to fetch consumer group by id: %s", d.GroupID), http.StatusServiceUnavailable
		}
	}
	if unknown := firstUnknown(o, group); unknown != nil {
		who.Broken, who.Status = unknown, http.StatusServiceUnavailable
	}

	var all []*plugin.Compiled
	add := func(level *object, p resource.PluginConf, own bool) error {
		var metadata json.RawMessage
		if m, key := w.metadataOf(p.Name); key != "" {
			c.uses = append(c.uses, key)
			if m != nil {
				metadata = m.doc.(*resource.PluginMetadata).Conf
			}
		}
		source := plugin.Source{Name: p.Name, Conf: p.Conf, Parent: level.ref()}
		var one *plugin.Compiled
		var conf *plugin.ConsumerConf
		var err error
		if own {
			conf, one, err = w.env.Registry.CompileConsumer(source, metadata, prev)
		} else {
			one, err = w.env.Registry.Compile(source, plugin.Labels{}, metadata, prev)
		}
		switch {
		case isUnknown(err): // the consumer is broken, or the plugin left out
		case err != nil:
			return err
		case conf != nil:
			w.hold(c, level, conf, who, "")
		default:
			all = append(all, one)
		}
		return nil
	}
	for _, p := range o.plugins() {
		if err := add(o, p, true); err != nil {
			return nil, err
		}
	}
	if group != nil {
		for _, p := range group.plugins() {
			if o.plugins().Get(p.Name) != nil {
				continue // the consumer wins
			}
			if err := add(group, p, false); err != nil {
				return nil, err
			}
		}
	}
	if len(all) > 0 {
		who.Chain = plugin.NewChain(all)
	}
	var err error
	w.next.objects.walk(o.rest+"/credentials/", func(_ string, credential *object) bool {
		id := credential.doc.(*resource.Credential).ID
		for _, p := range credential.plugins() {
			var conf *plugin.ConsumerConf
			conf, _, err = w.env.Registry.CompileConsumer(plugin.Source{Name: p.Name, Conf: p.Conf, Parent: credential.ref()}, nil, nil)
			switch {
			case isUnknown(err):
				err = nil // it identifies nobody
			case err != nil:
				return false
			case conf != nil:
				w.hold(c, credential, conf, who, id)
			}
		}
		return true
	})
	slices.Sort(c.uses)
	c.uses = slices.Compact(c.uses)
	return c, err
}

func (w *build) hold(c *compiledConsumer, o *object, conf *plugin.ConsumerConf, who *plugin.Consumer, credential string) {
	if schema.IsReference(conf.Key) {
		// As plain text it would let in whoever knows the reference.
		c.warn = append(c.warn, Warning{w.keyOf(o), "the key of " + conf.Plugin + " is a reference that is not resolved: it identifies nobody"})
		return
	}
	if conf.Key == "" {
		return
	}
	c.holders = append(c.holders, holder{
		plugin: conf.Plugin, key: conf.Key, created: o.item.CreateRevision, rest: o.rest,
		identity: &plugin.Identity{Consumer: who, Credential: credential, Conf: conf.Conf},
	})
}

// holderEdit collects changes of the index of what clients present.
type holderEdit map[string]map[string]*holderChange // by plugin, then key

type holderChange struct {
	drop map[string]bool // by item
	add  []holder
}

func (e holderEdit) at(h holder) *holderChange {
	if e[h.plugin] == nil {
		e[h.plugin] = map[string]*holderChange{}
	}
	if e[h.plugin][h.key] == nil {
		e[h.plugin][h.key] = &holderChange{drop: map[string]bool{}}
	}
	return e[h.plugin][h.key]
}

func (e holderEdit) drop(list []holder) {
	for _, h := range list {
		e.at(h).drop[h.rest] = true
	}
}

func (e holderEdit) add(list []holder) {
	for _, h := range list {
		c := e.at(h)
		c.add = append(c.add, h)
	}
}

// presented is what clients may present to an auth plugin, and who they are then.
type presented struct {
	plugin string
	keys   tree[[]holder]
}

func (e holderEdit) apply(old []presented) []presented {
	if len(e) == 0 {
		return old
	}
	now := slices.Clone(old)
	for name, changes := range e {
		at := slices.IndexFunc(now, func(p presented) bool { return p.plugin == name })
		if at < 0 {
			at = len(now)
			now = append(now, presented{plugin: name})
		}
		edit := now[at].keys.edit()
		for key, change := range changes {
			before, _ := edit.get(key)
			var list []holder
			for _, h := range before {
				if !change.drop[h.rest] {
					list = append(list, h)
				}
			}
			list = append(list, change.add...)
			slices.SortFunc(list, holder.compare)
			if len(list) == 0 {
				edit.del(key)
			} else {
				edit.set(key, list)
			}
		}
		now[at].keys = edit.commit()
	}
	return now
}

// compileGlobal merges all global rules into one chain when one of them is stale. A
// plugin in two rules runs in none (spec/04 §4).
func (w *build) compileGlobal() {
	stale := w.stale["global_rules"]
	if len(stale) == 0 {
		return
	}
	var rules []*object
	owners := map[string][]*object{}
	w.next.globalErr = nil
	w.next.objects.walk("global_rules/", func(_ string, o *object) bool {
		rules = append(rules, o)
		if o.unknown != nil && w.next.globalErr == nil {
			w.next.globalErr = fmt.Errorf("global rule %q: %w", o.id, o.unknown)
		}
		for _, p := range o.plugins() {
			owners[p.Name] = append(owners[p.Name], o)
		}
		return true
	})
	var all []*plugin.Compiled
	now := map[string][]string{}
	for _, o := range rules {
		for _, p := range o.plugins() {
			m, key := w.metadataOf(p.Name)
			if key != "" {
				now[o.rest] = append(now[o.rest], key)
			}
			if among := owners[p.Name]; len(among) > 1 {
				if among[0] == o {
					w.report.Warnings = append(w.report.Warnings, Warning{
						w.keyOf(o),
						"Found " + p.Name + " configured across different global rules. Removing it from execution list",
					})
				}
				continue
			}
			var metadata json.RawMessage
			if m != nil {
				metadata = m.doc.(*resource.PluginMetadata).Conf
			}
			var one *plugin.Compiled
			err := w.guarded(func() (err error) {
				one, err = w.env.Registry.Compile(plugin.Source{Name: p.Name, Conf: p.Conf, Parent: o.ref()}, plugin.Labels{}, metadata, w.prev.global)
				return err
			})
			switch {
			case isUnknown(err):
			case err != nil:
				// Judged well on its own, it fails with its metadata: better no request
				// than one past a rule.
				if w.next.globalErr == nil {
					w.next.globalErr = fmt.Errorf("global rule %q: %w", o.id, err)
				}
			default:
				all = append(all, one)
			}
		}
	}
	w.next.global = nil
	if len(all) > 0 {
		w.next.global = plugin.NewChain(all)
	}
	// Rules that are gone have no metadata to follow any more.
	for _, rest := range stale {
		if now[rest] == nil {
			now[rest] = nil
		}
	}
	for rest, uses := range now {
		slices.Sort(uses)
		var before []string
		for name := range w.metadataUsers(rest) {
			before = append(before, name)
		}
		slices.Sort(before)
		w.link(rest, before, uses)
	}
}

// metadataUsers lists the metadata that a global rule of prev was built from.
func (w *build) metadataUsers(rest string) map[string]bool {
	found := map[string]bool{}
	if o, ok := w.prev.objects.get(rest); ok {
		for _, p := range o.plugins() {
			if _, key := w.metadataOf(p.Name); key != "" {
				found[key] = true
			}
		}
	}
	return found
}

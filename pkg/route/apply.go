package route

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/store"
)

// Report is what applying a batch did, for logs and metrics.
type Report struct {
	Revision int64
	Reset    bool
	Changed  int // items that are new, different or gone
	Compiled int // routes that were compiled
	// Rejected are the items that this batch brought and whose newest version is not in
	// force, by key; Accepted the keys of those which were rejected before and no
	// longer are.
	Rejected []Rejected
	Accepted []string
	Warnings []Warning
	Panics   int // while compiling; each cost one item
}

// Warning is something that is in force but not as it was meant.
type Warning struct{ Key, Text string }

// object is the last good version of a stored item, decoded. Immutable.
type object struct {
	kind   *resource.Kind
	id     string
	rest   string              // its key below the prefix
	item   *store.Item         // what it was read from
	doc    any                 // *resource.Route, …
	server *certificate.Server // of a ssl that is shown to clients
	// unknown is the plugin that this program does not have: what is built from the
	// object is answered 503 (spec/00 19).
	unknown error
}

func (o *object) ref() plugin.Ref {
	return plugin.Ref{Kind: o.kind.Name, ID: o.id, Revision: o.item.Revision}
}

// plugins are the configurations of this node's plugins in the object.
func (o *object) plugins() resource.Plugins {
	switch d := o.doc.(type) {
	case *resource.Route:
		return d.Plugins
	case *resource.Service:
		return d.Plugins
	case *resource.Consumer:
		return d.Plugins
	case *resource.Credential:
		return d.Plugins
	case *resource.ConsumerGroup:
		return d.Plugins
	case *resource.PluginConfig:
		return d.Plugins
	case *resource.GlobalRule:
		return d.Plugins
	}
	return nil // those of stream routes are others
}

// keyOf is the whole key of an object.
func (w *build) keyOf(o *object) string { return w.env.Prefix + "/" + o.rest }

// change is one item that is new, different or gone.
type change struct {
	rest   string
	item   *store.Item // nil: gone
	before *store.Item // nil: new
	good   *object     // the last good version so far, nil if there is none
	object *object     // nil: not an item, or err
	err    error
	warn   []Warning
}

// build is one apply in the making. Its editors are used by one goroutine; what is
// compiled in parallel reads committed trees alone.
type build struct {
	env  Env
	prev *Snapshot
	next Snapshot

	objects  editor[*object]
	rejected editor[Rejected]
	uses     editor[struct{}]
	dirty    map[string]struct{} // keys whose compiled form is stale
	stale    map[string][]string // the same by kind
	anew     bool                // items that are equal to what they were are judged again, too
	checked  sync.Map            // verdicts on plugin configurations, by checkedKey
	panics   atomic.Int64
	report   Report
}

// apply returns the snapshot after b. It is pure but for the pickers it makes: equal
// arguments give equal snapshots. It costs what b changes, with everything built from
// that; a Reset is compared with prev item by item, so that equal revisions keep what
// was compiled from them. An item that is bad keeps its last good version and is
// reported; only items that b brings are judged anew.
func apply(prev *Snapshot, b store.Batch, env Env) (*Snapshot, Report) {
	return applyBatch(prev, b, env, false)
}

// applyAnew is apply in another Env than that which prev was built in: what b holds is
// judged and compiled again, whether or not it is different.
func applyAnew(prev *Snapshot, b store.Batch, env Env) (*Snapshot, Report) {
	return applyBatch(prev, b, env, true)
}

func applyBatch(prev *Snapshot, b store.Batch, env Env, anew bool) (*Snapshot, Report) {
	w := &build{
		env: env, anew: anew, prev: prev, next: *prev, stale: map[string][]string{},
		objects: prev.objects.edit(), rejected: prev.rejected.edit(), uses: prev.uses.edit(),
	}
	w.next.counts = maps.Clone(prev.counts)
	w.next.revision = max(b.Revision, prev.revision)
	if b.Reset {
		// A store that was restored may stand at a lower revision than before.
		w.next.revision = b.Revision
	}
	w.report.Revision, w.report.Reset = w.next.revision, b.Reset

	w.read(w.diff(b))
	for _, keys := range w.stale {
		slices.Sort(keys)
	}
	w.next.objects = w.objects.commit()
	w.compileUpstreams()
	w.compileRoutes()
	w.next.objects = w.objects.commit() // a route may have fallen back
	w.compileConsumers()
	w.compileGlobal()
	w.indexServers()

	w.next.rejected, w.next.uses = w.rejected.commit(), w.uses.commit()
	w.report.Panics = int(w.panics.Load())
	slices.SortFunc(w.report.Rejected, func(a, b Rejected) int { return strings.Compare(a.Key, b.Key) })
	slices.SortStableFunc(w.report.Warnings, func(a, b Warning) int { return strings.Compare(a.Key, b.Key) })
	// Not &w.next: who holds a part of w holds w, with it the snapshot before, and so on.
	next := w.next
	return &next, w.report
}

// diff brings the stored content up to date and returns what is different, by key.
func (w *build) diff(b store.Batch) []*change {
	latest := make(map[string]*store.Item, len(b.Events))
	for i := range b.Events {
		e := &b.Events[i]
		rest, ok := below(w.env.Prefix, e.Item.Key)
		if !ok {
			rest = e.Item.Key
		}
		if e.Delete {
			latest[rest] = nil
		} else {
			latest[rest] = &e.Item
		}
	}
	if b.Reset {
		w.prev.stored.walk("", func(rest string, _ *store.Item) bool {
			if _, ok := latest[rest]; !ok {
				latest[rest] = nil
			}
			return true
		})
	}
	stored := w.prev.stored.edit()
	sum := digester{sum: w.next.digest}
	made := make([]change, 0, len(latest))
	for rest, item := range latest {
		old, known := stored.get(rest)
		switch {
		case !known && item == nil:
			continue
		case !w.anew && known && item != nil && old.Revision == item.Revision && old.CreateRevision == item.CreateRevision &&
			bytes.Equal(old.Value, item.Value):
			continue
		}
		if known {
			sum.take(old)
		}
		if item != nil {
			sum.add(item)
			kept := *item // the batch is not kept alive by one of its items
			stored.set(rest, &kept)
			item = &kept
		} else {
			stored.del(rest)
		}
		made = append(made, change{rest: rest, item: item, before: old})
	}
	changes := make([]*change, len(made))
	for i := range made {
		changes[i] = &made[i]
	}
	slices.SortFunc(changes, func(a, b *change) int { return strings.Compare(a.rest, b.rest) })
	w.next.stored, w.next.digest = stored.commit(), sum.sum
	w.report.Changed = len(changes)
	return changes
}

// read decodes and judges the changed items, in parallel, and takes over what is good.
func (w *build) read(changes []*change) {
	w.dirty = make(map[string]struct{}, len(changes))
	w.parallel(len(changes), func(i int) {
		c := changes[i]
		c.good, _ = w.prev.objects.get(c.rest)
		if c.item != nil {
			c.err = w.guarded(func() error { return w.readItem(c) })
		}
	})
	for _, c := range changes {
		old, known := c.good, c.good != nil
		switch {
		case c.err != nil:
			if known && !w.report.Reset && old.item.CreateRevision != c.item.CreateRevision {
				// The item was deleted in between: its last good version died with it.
				w.objects.del(c.rest)
				w.count(old.kind.Name, -1)
				w.markOwner(c.rest)
			}
			w.reject(c.rest, c.item, c.err)
			continue
		case c.object == nil && !known:
			if c.item == nil {
				w.accept(c.rest)
			}
			continue
		case c.object == nil:
			w.objects.del(c.rest)
			w.count(old.kind.Name, -1)
			w.accept(c.rest)
		default:
			w.objects.set(c.rest, c.object)
			if !known {
				w.count(c.object.kind.Name, 1)
			}
			w.accept(c.rest)
			if c.object.unknown != nil {
				w.rejectUnknown(c.object)
			}
		}
		w.report.Warnings = append(w.report.Warnings, c.warn...)
		w.markOwner(c.rest)
	}
}

// markOwner is mark; a credential is a part of its consumer.
func (w *build) markOwner(rest string) {
	w.mark(rest)
	if owner, ok := strings.CutPrefix(rest, "consumers/"); ok {
		if name, _, child := strings.Cut(owner, "/"); child {
			w.mark("consumers/" + name)
		}
	}
}

func (w *build) count(kind string, n int) {
	if w.next.counts[kind] += n; w.next.counts[kind] == 0 {
		delete(w.next.counts, kind)
	}
}

// reject keeps an item's last good version.
func (w *build) reject(rest string, item *store.Item, err error) {
	r := Rejected{Key: item.Key, Refused: item.Revision, Reason: err.Error()}
	if old, ok := w.objects.get(rest); ok && old.unknown == nil {
		r.InForce = old.item.Revision
	}
	w.rejected.set(rest, r)
	w.report.Rejected = append(w.report.Rejected, r)
	// A route is taken for good until it is compiled.
	w.report.Accepted = slices.DeleteFunc(w.report.Accepted, func(key string) bool { return key == r.Key })
}

// rejectUnknown reports an item that is in force as a refusal to serve.
func (w *build) rejectUnknown(o *object) {
	r := Rejected{Key: w.keyOf(o), Refused: o.item.Revision, Reason: o.unknown.Error()}
	w.rejected.set(o.rest, r)
	w.report.Rejected = append(w.report.Rejected, r)
}

func (w *build) accept(rest string) {
	if r, ok := w.rejected.get(rest); ok {
		w.rejected.del(rest)
		w.report.Accepted = append(w.report.Accepted, r.Key)
	}
}

// mark says that everything built from the item is stale.
func (w *build) mark(rest string) {
	if _, ok := w.dirty[rest]; ok {
		return
	}
	w.dirty[rest] = struct{}{}
	if k, _, ok := resource.Locate(rest); ok {
		w.stale[k.Name] = append(w.stale[k.Name], rest)
	}
	prefix := rest + "\x00"
	w.prev.uses.walk(prefix, func(edge string, _ struct{}) bool {
		w.mark(edge[len(prefix):])
		return true
	})
}

// link replaces what user is built from.
func (w *build) link(user string, before, now []string) {
	if slices.Equal(before, now) {
		return
	}
	for _, target := range before {
		w.uses.del(target + "\x00" + user)
	}
	for _, target := range now {
		w.uses.set(target+"\x00"+user, struct{}{})
	}
}

// objectAt returns the last good version of an item, nil if there is none.
func (w *build) objectAt(kind, id string) *object {
	o, _ := w.next.objects.get(kind + "/" + id)
	return o
}

// readItem decodes and judges one item. A key that is no item leaves c.object nil.
func (w *build) readItem(c *change) error {
	kind, id, ok := resource.Locate(c.rest)
	if !ok {
		return nil
	}
	doc := c.item.Value
	if w.env.Decrypt != nil {
		var err error
		if doc, err = w.env.Decrypt(c.rest, doc); err != nil {
			return fmt.Errorf("decrypt: %w", err)
		}
	}
	o := &object{kind: kind, id: id, rest: c.rest, item: c.item}
	var err error
	if before := w.routeBefore(c); before != nil {
		o.doc, err = resource.DecodeNextRoute(id, doc, before, c.before.Value)
	} else {
		o.doc, err = decode(kind.Name, id, doc)
	}
	if err != nil {
		return err
	}
	if err := w.checkPlugins(o, c); err != nil {
		return err
	}
	if s, ok := o.doc.(*resource.SSL); ok {
		if o.server, err = w.compileServer(s); err != nil {
			return err
		}
	}
	c.object = o
	return nil
}

// routeBefore is the version of a changed route that is in force, nil if that is not what was
// stored, or not what would be made of it. A revision does not tell: a store that was restored
// gives it again.
func (w *build) routeBefore(c *change) *resource.Route {
	if c.good == nil || c.before != c.good.item || w.anew {
		return nil
	}
	if _, rejected := w.prev.rejected.get(c.rest); rejected {
		return nil
	}
	r, _ := c.good.doc.(*resource.Route)
	return r
}

// decode returns the typed form of an item.
func decode(kind, id string, doc []byte) (any, error) {
	switch kind {
	case "routes":
		return resource.DecodeRoute(id, doc)
	case "services":
		return resource.DecodeService(id, doc)
	case "consumers":
		return resource.DecodeConsumer(id, doc)
	case "credentials":
		return resource.DecodeCredential(id, doc)
	case "consumer_groups":
		return resource.DecodeConsumerGroup(id, doc)
	case "plugin_configs":
		return resource.DecodePluginConfig(id, doc)
	case "global_rules":
		return resource.DecodeGlobalRule(id, doc)
	case "upstreams":
		return resource.DecodeUpstream(id, doc)
	case "plugin_metadata":
		return resource.DecodePluginMetadata(id, doc)
	case "ssls":
		return resource.DecodeSSL(id, doc)
	case "secrets":
		return resource.DecodeSecret(id, doc)
	case "protos":
		return resource.DecodeProto(id, doc)
	case "stream_routes":
		return resource.DecodeStreamRoute(id, doc)
	case "graphql_cost_decorations":
		return resource.DecodeGraphQLCostDecoration(id, doc)
	}
	return nil, fmt.Errorf("kind %q is not read by this node", kind)
}

// checkedKey names a plugin configuration for which a verdict exists.
type checkedKey struct {
	plugin, digest string
	consumer       bool
}

// checkPlugins judges the plugin configurations of an item. Those of routes are left
// alone: compiling them is the check, and there are too many to do it twice.
func (w *build) checkPlugins(o *object, c *change) error {
	if o.kind.Name == "plugin_metadata" {
		m := o.doc.(*resource.PluginMetadata)
		if err := w.env.Registry.CheckMetadata(m.Name, m.Conf); err != nil && !isUnknown(err) {
			return err
		}
		return nil
	}
	for _, p := range o.plugins() {
		if _, known := w.env.Registry.Definition(p.Name); !known {
			err := error(&plugin.UnknownError{Plugin: p.Name})
			if w.env.SkipUnknown {
				c.warn = append(c.warn, Warning{w.keyOf(o), err.Error() + " is left out"})
			} else if o.unknown == nil {
				o.unknown = err
			}
			continue
		}
		if o.kind.Name == "routes" {
			continue
		}
		if err := w.checkPlugin(o, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *build) checkPlugin(o *object, p resource.PluginConf) error {
	key := checkedKey{p.Name, plugin.Digest(p.Conf), o.kind.Name == "consumers" || o.kind.Name == "credentials"}
	if verdict, ok := w.checked.Load(key); ok {
		err, _ := verdict.(error)
		return err
	}
	source := plugin.Source{Name: p.Name, Conf: p.Conf, Parent: o.ref()}
	var err error
	if !key.consumer {
		err = w.env.Registry.Check(source)
	} else {
		var conf *plugin.ConsumerConf
		conf, _, err = w.env.Registry.CompileConsumer(source, nil, nil)
		if err == nil && conf == nil && o.kind.Name == "credentials" {
			return plugin.ErrNotAuth
		}
	}
	w.checked.Store(key, err)
	return err
}

func isUnknown(err error) bool {
	_, ok := errors.AsType[*plugin.UnknownError](err)
	return ok
}

// parallel calls f for 0 … n-1, by several goroutines if that pays.
func (w *build) parallel(n int, f func(i int)) {
	const share = 32
	workers := min(runtime.GOMAXPROCS(0), n/share)
	if workers < 2 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				start := int(next.Add(share)) - share
				if start >= n {
					return
				}
				for i := start; i < min(start+share, n); i++ {
					f(i)
				}
			}
		})
	}
	all.Wait()
}

// guarded makes a panic of f an error: it costs the item, not the node.
func (w *build) guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			w.panics.Add(1)
			w.env.Log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Msg("compiling an item panicked")
			err = fmt.Errorf("compiling it panicked: %v", v)
		}
	}()
	return f()
}

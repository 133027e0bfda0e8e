package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// poison is an item that no node can use.
type poison struct {
	about string
	kind  string // where it is stored
	value func(w *World, uri string) string
	gone  int  // status of its route when an earlier version was in force; 0: that one stays
	open  bool // it is no fault of the item's, so that nobody lists it
}

// poisons are the kinds of poison that can be stored from outside. A plugin that panics or
// never returns cannot: for these stand what is nested deepest, in JSON and in a pattern.
var poisons = []poison{
	{"no JSON", "routes", func(*World, string) string { return `{"uri":` }, 0, false},
	{"a wrong type", "routes", func(*World, string) string { return `{"uri":5}` }, 0, false},
	{"a wrong pattern", "routes", func(w *World, uri string) string {
		return with(w.route(uri, ""), `"vars":[["arg_x","~~","(("]]`)
	}, 0, false},
	{"an unknown plugin", "routes", func(w *World, uri string) string { return with(w.route(uri, ""), `"plugins":{"of-tomorrow":{}}`) }, 503, false},
	{"a plugin's wrong configuration", "routes", func(w *World, uri string) string {
		return with(w.route(uri, ""), `"plugins":{"ai-proxy":{"provider":"nobody"}}`)
	}, 0, false},
	{"a member twice", "routes", func(w *World, uri string) string { return with(w.route(uri, ""), `"uri":"/stolen"`) }, 0, false},
	{"1.4 MiB", "routes", func(w *World, uri string) string {
		return with(w.route(uri, ""), `"labels":{"x":"`+strings.Repeat("y", 1400<<10)+`"}`)
	}, 0, false},
	{"invalid UTF-8", "routes", func(w *World, uri string) string { return with(w.route(uri, ""), "\"name\":\"\xff\xfe\"") }, 0, false},
	{"a reference to nothing", "routes", func(_ *World, uri string) string {
		// What it names may come later; until then it is a 404, as in the reference.
		return fmt.Sprintf(`{"uri":%q,"service_id":"nowhere"}`, uri)
	}, 404, true},
	{"a wrong certificate", "ssls", func(*World, string) string { return `{"sni":"lab.example","cert":"none","key":"none"}` }, 0, false},
	{"nesting without end", "routes", func(w *World, uri string) string {
		return with(w.route(uri, ""), `"plugins":`+strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000))
	}, 0, false},
	{"a group that is not closed, a thousand deep", "routes", func(w *World, uri string) string {
		return with(w.route(uri, ""), `"vars":[["arg_x","~~","`+strings.Repeat("(a|", 1000)+`"]]`)
	}, 0, false},
}

// with adds members to an object.
func with(object, members string) string {
	return strings.TrimSuffix(object, "}") + "," + members + "}"
}

const goodItems = 988

// poisonPill is T9: twelve items of a thousand are poison, at run time and at a cold start.
func poisonPill(ctx context.Context, r *Run) error {
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1})
	if err != nil {
		return err
	}
	// Good first versions of what becomes poison.
	for i := range poisons {
		if err := w.raw(ctx, fmt.Sprintf("/routes/u%d", i), w.route(fmt.Sprintf("/u%d", i), "")); err != nil {
			return err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	// A thousand items in an order of chance.
	var ops []clientv3.Op
	for i := range goodItems {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/routes/g%d", prefix, i), w.route(fmt.Sprintf("/g%d", i), "")))
	}
	want, bad := map[string]bool{}, 0
	for i, p := range poisons {
		for _, id := range []string{"n", "u"} { // new ones, and updates
			name := fmt.Sprintf("%s%d", id, i)
			key := fmt.Sprintf("%s/%s/%s", prefix, p.kind, name)
			ops = append(ops, clientv3.OpPut(key, p.value(w, "/"+name)))
			bad++
			if !p.open {
				want[key] = true
			}
		}
	}
	r.Rand.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	var revision int64
	for len(ops) > 0 {
		// etcd takes so many operations at once, and no more than 1.5 MiB.
		n := min(len(ops), 100)
		size := 0
		for i, op := range ops[:n] {
			if size += len(op.ValueBytes()); size > 1<<20 && i > 0 {
				n = i
				break
			}
		}
		res, err := w.Etcd.KV.Txn(ctx).Then(ops[:n]...).Commit()
		if err != nil {
			return err
		}
		revision, ops = res.Header.Revision, ops[n:]
	}
	written := time.Now()
	for _, g := range w.Gateways {
		if _, err := within(ctx, settling, g.Name+" applies it", func() bool {
			s, err := g.State(ctx)
			return err == nil && s.Revision >= revision
		}); err != nil {
			return err
		}
	}
	r.Quick(fmt.Sprintf("%d good items beside %d bad ones are in force on 3 nodes in", goodItems, bad), time.Since(written), time.Second, 10*time.Second)
	for _, g := range w.Gateways {
		r.None(g.Name+": neighbours that are not served", w.unserved(g), goodItems)
	}
	r.None("poison that is not on every node's list", w.unlisted(ctx, want), len(want)*len(w.Gateways))
	var replaced []string
	for i, p := range poisons {
		if p.kind != "routes" {
			continue
		}
		for _, g := range w.Gateways {
			var rec Record
			send(small, &rec, fmt.Sprintf("http://%s/u%d", g.Gateway, i), "x")
			if want := max(p.gone, 200); rec.Status != want && (p.gone == 0 || rec.Status != p.gone) {
				replaced = append(replaced, fmt.Sprintf("%s on %s: %d", p.about, g.Name, rec.Status))
			}
		}
	}
	r.None("bad updates after which the last good version was not in force (an unknown plugin: 503, a missing reference: 404)", replaced, len(poisons)*len(w.Gateways))

	// A node that meets all of it at once.
	cold, err := w.NewNode("gateway-cold", "gateway", "")
	if err != nil {
		return err
	}
	started := time.Now()
	if err := cold.Listens(ctx, settling); err != nil {
		return err
	}
	r.Quick("a node that starts into it serves in", time.Since(started), time.Second, 10*time.Second)
	r.None("its neighbours that are not served", w.unserved(cold), goodItems)
	w.Gateways = append(w.Gateways, cold)
	r.None("poison that is not on its list", w.unlisted(ctx, want), len(want)*len(w.Gateways))

	for i := range poisons {
		if poisons[i].kind != "routes" {
			continue
		}
		name := fmt.Sprintf("u%d", i)
		if err := w.Put(ctx, "/routes/"+name, w.route("/"+name, "good again")); err != nil {
			return err
		}
		delete(want, prefix+"/routes/"+name)
	}
	repaired := time.Now()
	_, err = within(ctx, settling, "", func() bool { return len(w.unlisted(ctx, want)) == 0 })
	if err != nil {
		return fmt.Errorf("after the repair: %v", w.unlisted(ctx, want))
	}
	r.AtMost("what was repaired leaves every list in", time.Since(repaired), time.Second)
	w.AgreeLine(ctx, "same digest everywhere, poison included, in", time.Now(), 2*time.Second)
	w.Finish(ctx)
	return nil
}

// unserved finds the good items that a node does not serve.
func (w *World) unserved(g *Node) (bad []string) {
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range goodItems {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			path := fmt.Sprintf("/g%d", i)
			if !w.Probe(g, path, "x") {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, path)
			}
		})
	}
	group.Wait()
	return bad
}

// unlisted compares the lists of what nodes reject with what they must.
func (w *World) unlisted(ctx context.Context, want map[string]bool) (bad []string) {
	for _, g := range w.Gateways {
		var list []rejection
		if err := getJSON(ctx, "http://"+g.Control+"/v1/config/rejected", &list); err != nil {
			return append(bad, err.Error())
		}
		got := map[string]bool{}
		for _, r := range list {
			got[r.Key] = true
			if !want[r.Key] {
				bad = append(bad, fmt.Sprintf("%s lists %s (%.80s)", g.Name, r.Key, r.Reason))
			}
		}
		for key := range want {
			if !got[key] {
				bad = append(bad, fmt.Sprintf("%s does not list %s", g.Name, key))
			}
		}
	}
	return bad
}

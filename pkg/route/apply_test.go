package route

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/store"
)

func TestABadItemKeepsItsLastGoodVersion(t *testing.T) {
	bad := map[string]string{
		"that is no JSON":                  `init`,
		"that is no object":                `[1]`,
		"with a member nobody knows":       `{"uri":"/new","nosuch":1,"upstream":` + oneNode + `}`,
		"with a bad plugin configuration":  routeDoc(`"uri":"/new","plugins":{"checked":{"n":10}}`),
		"with a plugin of a wrong type":    routeDoc(`"uri":"/new","plugins":{"plain":{"n":"x"}}`),
		"with a plugin that panics":        routeDoc(`"uri":"/new","plugins":{"boom":{}}`),
		"with a member twice":              routeDoc(`"uri":"/new","name":"a","name":"b"`),
		"with a member twice, deep down":   routeDoc(`"uri":"/new","plugins":{"plain":{"n":1,"\u006e":2}}`),
		"with Lua":                         routeDoc(`"uri":"/new","filter_func":"function(vars) return true end"`),
		"with a member of a wrong type":    routeDoc(`"uri":"/new","priority":"x"`),
		"with nothing to answer a request": `{"uri":"/new"}`,
	}
	for name, doc := range bad {
		for _, how := range []string{"update", "reset"} {
			t.Run(how+" "+name, func(t *testing.T) {
				w, f := newWorld(), follow(t, testEnv(HostURI))
				w.put("routes/a", uri("/old"))
				w.put("routes/b", uri("/neighbour"))
				f.apply(w.reset())
				event := w.put("routes/a", doc)
				neighbour := w.put("routes/c", uri("/late"))
				if how == "reset" {
					f.apply(w.reset())
				} else {
					f.apply(w.batch(event, neighbour))
				}
				for request, want := range map[string]string{"GET h/old": "a", "GET h/new": "", "GET h/neighbour": "b", "GET h/late": "c"} {
					if got := idOf(f.ask(request)); got != want {
						t.Errorf("%q got route %q, want %q", request, got, want)
					}
				}
				r := f.snap.Rejected()
				if len(r) != 1 || r[0].Key != "/apisix/routes/a" || r[0].Refused != event.Item.Revision || r[0].InForce != 1 || r[0].Reason == "" {
					t.Fatalf("got rejected %+v, want routes/a at %d with 1 in force", r, event.Item.Revision)
				}
				f.apply(w.batch(w.put("routes/a", uri("/new"))))
				if got := idOf(f.ask("GET h/new")); got != "a" || len(f.snap.Rejected()) != 0 {
					t.Errorf("got route %q and rejected %v after the repair, want a and none", got, f.snap.Rejected())
				}
				if diff := cmp.Diff([]string{"/apisix/routes/a"}, f.last.Accepted); diff != "" {
					t.Errorf("accepted (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestANewVersionOfARouteTakesItsUpstreamOver(t *testing.T) {
	const one, other, bad = `{"nodes":{"a.test:80":1}}`, `{"nodes":{"b.test:80":1}}`, `{"nodes":{"a.test:x":1}}`
	doc := func(desc, upstream string) string {
		return `{"uri":"/a","desc":"` + desc + `","upstream":` + upstream + `}`
	}
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("routes/a", doc("1", one))
	f.apply(w.reset())
	first := f.ask("GET h/a").Upstream
	for i, step := range []struct {
		doc, addr string
		same      bool // as the first
		rejected  int
	}{
		{doc("2", one), "a.test:80", true, 0},
		{doc("3", other), "b.test:80", false, 0},
		{doc("4", bad), "b.test:80", false, 1},
		{doc("5", bad), "b.test:80", false, 1}, // as stored before, but never in force
		{doc("6", one) + "}", "b.test:80", false, 1},
		{doc("7", one), "a.test:80", false, 0},
		{doc("8", `{ "nodes":{"a.test:80":1}}`), "a.test:80", false, 0},
	} {
		event := w.put("routes/a", step.doc)
		f.apply(w.batch(event))
		got := f.ask("GET h/a").Upstream
		if got.Nodes[0].Target.Addr != step.addr || (&got.Nodes[0] == &first.Nodes[0]) != step.same || len(f.snap.Rejected()) != step.rejected {
			t.Errorf("%d: got %s, the same: %v, rejected %v", i, got.Nodes[0].Target.Addr, &got.Nodes[0] == &first.Nodes[0], f.snap.Rejected())
		}
		if step.rejected == 0 && got.Ref.Revision != event.Item.Revision {
			t.Errorf("%d: the upstream is of revision %d, want %d", i, got.Ref.Revision, event.Item.Revision)
		}
	}
}

// What is stored of a secret may be equal where the secret is not.
func TestAnUpstreamWithASecretIsReadAnew(t *testing.T) {
	const doc = `{"uri":"/a","upstream":{"scheme":"https","nodes":{"a.test:443":1},"tls":{"client_cert_id":"sealed"}}}`
	w, env := newWorld(), testEnv(HostURI)
	secret := "one"
	env.Decrypt = func(_ string, doc []byte) ([]byte, error) {
		return []byte(strings.ReplaceAll(string(doc), "sealed", secret)), nil
	}
	f := follow(t, env)
	for _, secret = range []string{"one", "sealed"} {
		f.apply(w.batch(w.put("routes/a", doc)))
		if got, want := fmt.Sprint(f.ask("GET h/a").Upstream.Unsupported), "upstream: failed to find client cert by id: "+secret; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A node lives through millions of snapshots.
func TestASnapshotDoesNotKeepTheOnesBeforeIt(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("routes/a", uri("/a"))
	f.apply(w.reset())
	old := weak.Make(f.snap)
	f.apply(w.batch(w.put("routes/a", uri("/b"))))
	runtime.GC()
	if old.Value() != nil {
		t.Error("the snapshot before is still there")
	}
	if idOf(f.ask("GET h/b")) != "a" {
		t.Error("the new one does not work")
	}
}

func TestABadItemIsAbsentAtFirst(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("routes/a", `nonsense`)
	w.put("routes/b", uri("/b"))
	w.put("services/", `init_dir`)
	w.put("nosuchkind/1", `nonsense`)
	w.put("gen_id", `1`)
	f.apply(w.reset())
	if got := idOf(f.ask("GET h/b")); got != "b" {
		t.Errorf("got route %q, want b", got)
	}
	r := f.snap.Rejected()
	if len(r) != 1 || r[0].Key != "/apisix/routes/a" || r[0].InForce != 0 {
		t.Errorf("got rejected %+v, want routes/a alone and nothing in force", r)
	}
	if diff := cmp.Diff(map[string]int{"routes": 1}, f.snap.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	f.apply(w.batch(w.del("routes/a")))
	if r := f.snap.Rejected(); len(r) != 0 {
		t.Errorf("got rejected %+v after the deletion, want none", r)
	}
}

func TestABadItemDoesNotInheritFromAnEarlierLife(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("routes/a", uri("/old"))
	f.apply(w.reset())
	gone := w.del("routes/a")
	f.apply(w.batch(gone, w.put("routes/a", `nonsense`)))
	if got := idOf(f.ask("GET h/old")); got != "" {
		t.Errorf("got route %q, want none", got)
	}
}

func TestReferencesAreFollowed(t *testing.T) {
	ref := `"uri":"/fox","service_id":"s","plugin_config_id":"p"`
	w, f := newWorld(), follow(t, testEnv(HostURI))
	f.apply(w.reset())
	step := func(e store.Event) *Route {
		f.apply(w.batch(e))
		return f.ask("GET h/fox")
	}
	check := func(what string, r *Route, status int, plugins ...string) {
		t.Helper()
		if r == nil {
			t.Fatalf("%s: got no route", what)
		}
		if r.Status != status || (r.Broken != nil) != (status != 0) {
			t.Errorf("%s: got status %d, %v, want %d", what, r.Status, r.Broken, status)
		}
		var got []string
		for _, p := range r.Chain.Plugins() {
			got = append(got, p.Name)
		}
		if diff := cmp.Diff(plugins, got); diff != "" {
			t.Errorf("%s: plugins (-want +got):\n%s", what, diff)
		}
	}
	check("a missing plugin_config goes before a missing service", step(w.put("routes/a", `{`+ref+`}`)), 503)
	check("a missing service is 404", step(w.put("plugin_configs/p", `{"id":"p","plugins":{"plain":{"n":1}}}`)), 404)
	check("a missing upstream is 502", step(w.put("services/s", `{"upstream_id":"u","plugins":{"checked":{}}}`)), 502, "checked", "plain")
	r := step(w.put("upstreams/u", oneNode))
	check("everything is there", r, 0, "checked", "plain")
	if want := (plugin.Ref{Kind: "upstreams", ID: "u", Revision: 4}); r.Upstream.Ref != want {
		t.Errorf("got upstream %v, want %v", r.Upstream.Ref, want)
	}
	if r.Upstream.Nodes[0].Target.Addr != "127.0.0.1:1980" {
		t.Errorf("got node %q, want 127.0.0.1:1980", r.Upstream.Nodes[0].Target.Addr)
	}
	r = step(w.put("upstreams/u", `{"nodes":{"127.0.0.2:1":1}}`))
	if r.Upstream.Nodes[0].Target.Addr != "127.0.0.2:1" {
		t.Errorf("got node %q, want that of the changed upstream", r.Upstream.Nodes[0].Target.Addr)
	}
	check("a deleted upstream is 502 again", step(w.del("upstreams/u")), 502, "checked", "plain")
	check("a changed service counts", step(w.put("services/s", `{"plugins":{},"hosts":["h"],"enable_websocket":true,"upstream":`+oneNode+`}`)), 0, "plain")
	r = f.ask("GET h/fox")
	if !r.Websocket || r.Host != "h" || f.ask("GET other/fox") != nil {
		t.Errorf("got websocket %v and host %q, want what the service says", r.Websocket, r.Host)
	}
	check("a deleted plugin_config is 503", step(w.del("plugin_configs/p")), 503)
	check("a deleted service after all", step(w.put("plugin_configs/p", `{"id":"p","plugins":{}}`)), 0)
	check("makes the route host-less and 404", step(w.del("services/s")), 404)
	if f.ask("GET other/fox") == nil {
		t.Error("got no route for another host, want the route without hosts")
	}
	f.apply(w.batch(w.del("routes/a")))
	if n := f.snap.uses.size; n != 0 {
		t.Errorf("got %d entries in the reverse index of an empty store, want none", n)
	}
}

func TestMergingPrefersTheRoute(t *testing.T) {
	tests := map[string]struct {
		route, service string
		want           func(*Route) string
		answer         string
	}{
		"the route's plugin replaces the service's, even by an empty one": {
			`"plugins":{"plain":{}}`, `"plugins":{"plain":{"n":1}}`,
			func(r *Route) string { return r.Chain.Find("plain").Parent.Kind }, "routes",
		},
		"the plugin_config fills gaps only": {
			`"plugin_config_id":"p","plugins":{"plain":{}}`, `"plugins":{"told":{}}`,
			func(r *Route) string {
				return r.Chain.Find("plain").Parent.Kind + " " + r.Chain.Find("checked").Parent.Kind + " " + r.Chain.Find("told").Parent.Kind
			}, "routes plugin_configs services",
		},
		"the plugin_config goes before the service": {
			`"plugin_config_id":"p"`, `"plugins":{"checked":{}}`,
			func(r *Route) string { return r.Chain.Find("checked").Parent.Kind }, "plugin_configs",
		},
		"the route's inline upstream drops the service's id": {
			`"upstream":{"nodes":{"r:1":1}}`, `"upstream_id":"u"`,
			func(r *Route) string { return r.Upstream.Nodes[0].Host }, "r",
		},
		"the route's id goes before the service's upstream": {
			`"upstream_id":"u"`, `"upstream":{"nodes":{"s:1":1}}`,
			func(r *Route) string { return r.Upstream.Nodes[0].Host }, "u",
		},
		"the service's upstream is the last resort": {
			`"plugins":{}`, `"upstream":{"nodes":{"s:1":1}}`,
			func(r *Route) string { return r.Upstream.Ref.Kind + " " + r.Upstream.Nodes[0].Host }, "services s",
		},
		"the route's timeout goes before its upstream's": {
			`"timeout":{"connect":1,"send":2,"read":3}`, `"upstream":{"nodes":{"s:1":1},"timeout":{"connect":9,"send":9,"read":9}}`,
			func(r *Route) string { return fmt.Sprint(r.Timeouts(), r.Upstream.Timeouts) }, "{1s 2s 3s 3s} {9s 9s 9s 9s}",
		},
		"without a timeout it is a minute each": {
			`"desc":""`, `"upstream":{"nodes":{"s:1":1}}`,
			func(r *Route) string { return fmt.Sprint(r.Timeouts()) }, "{1m0s 1m0s 1m0s 1m0s}",
		},
		"a route may switch websocket off": {
			`"enable_websocket":false`, `"enable_websocket":true`,
			func(r *Route) string { return fmt.Sprint(r.Websocket) }, "false",
		},
		"the route's hosts go before the service's": {
			`"hosts":["h"]`, `"hosts":["other"]`,
			func(r *Route) string { return r.Host }, "h",
		},
		"the service's name never stands for the route's": {
			`"desc":""`, `"name":"of the service"`,
			func(r *Route) string {
				return r.Labels.RouteName + "|" + r.Labels.ServiceName + "|" + r.Labels.ServiceID
			},
			"|of the service|s",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, f := newWorld(), follow(t, testEnv(HostURI))
			w.put("upstreams/u", `{"nodes":{"u:1":1}}`)
			w.put("plugin_configs/p", `{"id":"p","plugins":{"plain":{"n":2},"checked":{"n":2}}}`)
			w.put("services/s", `{`+tt.service+`}`)
			w.put("routes/a", `{"uri":"/fox","service_id":"s",`+tt.route+`}`)
			f.apply(w.reset())
			r := f.ask("GET h/fox")
			if r == nil {
				t.Fatalf("got no route, rejected %+v", f.snap.Rejected())
			}
			if got := tt.want(r); got != tt.answer {
				t.Errorf("got %q, want %q", got, tt.answer)
			}
		})
	}
}

func TestAnUnknownPluginFailsClosed(t *testing.T) {
	unknown := `"plugins":{"nosuch":{}}`
	tests := map[string]map[string]string{
		"on the route":              {"routes/a": routeDoc(`"uri":"/fox",` + unknown)},
		"on its service":            {"routes/a": `{"uri":"/fox","service_id":"s"}`, "services/s": `{` + unknown + `}`},
		"on its plugin_config":      {"routes/a": routeDoc(`"uri":"/fox","plugin_config_id":"p"`), "plugin_configs/p": `{"id":"p",` + unknown + `}`},
		"on a service it overrides": {"routes/a": routeDoc(`"uri":"/fox","service_id":"s","plugins":{"plain":{}}`), "services/s": `{"plugins":{"plain":{},"nosuch":{}}}`},
	}
	for name, items := range tests {
		t.Run(name, func(t *testing.T) {
			w, f := newWorld(), follow(t, testEnv(HostURI))
			for rest, doc := range items {
				w.put(rest, doc)
			}
			w.put("routes/neighbour", uri("/other"))
			f.apply(w.reset())
			r := f.ask("GET h/fox")
			if r == nil || r.Status != 503 || r.Broken == nil || r.Chain != nil {
				t.Errorf("got %+v, want a route that is 503", r)
			}
			if list := f.snap.Rejected(); len(list) != 1 || !strings.Contains(list[0].Reason, "unknown plugin [nosuch]") {
				t.Errorf("got rejected %+v, want the one item", list)
			}
			if other := f.ask("GET h/other"); other == nil || other.Status != 0 {
				t.Errorf("got neighbour %+v, want it unharmed", other)
			}
			f.env.SkipUnknown = true
			f.snap = Empty(f.env)
			f.apply(w.reset())
			if r := f.ask("GET h/fox"); r == nil || r.Status != 0 && r.Upstream != nil {
				t.Errorf("got %+v where unknown plugins are skipped, want a route that works", r)
			}
			if len(f.snap.Rejected()) != 0 || len(f.last.Warnings) == 0 {
				t.Errorf("got rejected %v and warnings %v, want none and one", f.snap.Rejected(), f.last.Warnings)
			}
		})
	}
}

func TestAnUnknownPluginReplacesTheGoodVersion(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("routes/a", uri("/fox"))
	f.apply(w.reset())
	f.apply(w.batch(w.put("routes/a", routeDoc(`"uri":"/fox","plugins":{"nosuch":{}}`))))
	if r := f.ask("GET h/fox"); r == nil || r.Status != 503 {
		t.Errorf("got %+v, want 503", r)
	}
	if r := f.snap.Rejected(); len(r) != 1 || r[0].Refused != 2 || r[0].InForce != 0 {
		t.Errorf("got rejected %+v, want revision 2 refused and none in force", r)
	}
}

func TestGlobalRules(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	f.apply(w.reset())
	if chain, err := f.snap.Global(); chain != nil || err != nil {
		t.Errorf("got %v, %v without rules, want nothing", chain, err)
	}
	w.put("global_rules/1", `{"id":"1","plugins":{"plain":{},"checked":{}}}`)
	w.put("global_rules/2", `{"id":"2","plugins":{"plain":{"n":2},"told":{}}}`)
	f.apply(w.reset())
	chain, err := f.snap.Global()
	if err != nil || chain.Find("checked") == nil || chain.Find("told") == nil || chain.Find("plain") != nil {
		t.Errorf("got %v, %v, want the plugins of both rules without the one in both", chain.Plugins(), err)
	}
	if len(f.last.Warnings) != 1 || !strings.Contains(f.last.Warnings[0].Text, "Found plain configured across different global rules") {
		t.Errorf("got warnings %v, want one of the plugin in both", f.last.Warnings)
	}
	f.apply(w.batch(w.put("global_rules/2", `{"id":"2","plugins":{"told":{}}}`)))
	if chain, _ := f.snap.Global(); chain.Find("plain") == nil {
		t.Error("got no plain, want it back")
	}
	f.apply(w.batch(w.put("plugin_metadata/told", `{"format":"x"}`)))
	if chain, _ := f.snap.Global(); !strings.Contains(chain.Find("told").Phases.State.(string), `"x"`) {
		t.Errorf("got metadata %v, want that which came later", chain.Find("told").Phases.State)
	}
	f.apply(w.batch(w.put("global_rules/1", `{"id":"1","plugins":{"nosuch":{}}}`)))
	if _, err := f.snap.Global(); err == nil {
		t.Error("got no error for an unknown plugin, want one")
	}
	f.apply(w.batch(w.del("global_rules/1"), w.del("global_rules/2"), w.del("plugin_metadata/told")))
	if chain, err := f.snap.Global(); chain != nil || err != nil {
		t.Errorf("got %v, %v after the deletion, want nothing", chain, err)
	}
	if n := f.snap.uses.size; n != 0 {
		t.Errorf("got %d entries in the reverse index of an empty store, want none", n)
	}
}

func TestMetadataRecompilesItsUsersAlone(t *testing.T) {
	c := new(counters)
	env := testEnv(HostURI)
	env.Registry = testRegistry(c)
	w, f := newWorld(), follow(t, env)
	w.put("routes/user", routeDoc(`"uri":"/user","plugins":{"told":{}}`))
	w.put("routes/other", routeDoc(`"uri":"/other","plugins":{"plain":{}}`))
	f.apply(w.reset())
	before := f.ask("GET h/other")
	f.apply(w.batch(w.put("plugin_metadata/told", `{"format":"new"}`)))
	if got := f.ask("GET h/user").Chain.Find("told").Phases.State.(string); !strings.Contains(got, "new") {
		t.Errorf("got metadata %q, want the new one", got)
	}
	if f.ask("GET h/other") != before || f.last.Compiled != 1 {
		t.Errorf("got %d routes compiled, want the one that uses it", f.last.Compiled)
	}
	f.apply(w.batch(w.put("plugin_metadata/told", `{"format":5}`)))
	if got := f.ask("GET h/user").Chain.Find("told").Phases.State.(string); !strings.Contains(got, "new") {
		t.Errorf("got metadata %q, want the last good one", got)
	}
	f.apply(w.batch(w.del("plugin_metadata/told")))
	if got := f.ask("GET h/user").Chain.Find("told").Phases.State.(string); got != "" {
		t.Errorf("got metadata %q after the deletion, want none", got)
	}
}

func TestStateOutlivesUnrelatedChanges(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	two := `"upstream":{"type":"roundrobin","nodes":{"a:1":1,"b:1":1}}`
	w.put("upstreams/u", `{"nodes":{"a:1":1,"b:1":1}}`)
	w.put("routes/inline", `{"uri":"/inline","plugins":{"plain":{"n":1}},`+two+`}`)
	w.put("routes/shared", `{"uri":"/shared","upstream_id":"u"}`)
	w.put("routes/shared2", `{"uri":"/shared2","upstream_id":"u"}`)
	f.apply(w.reset())
	inline, shared := f.ask("GET h/inline"), f.ask("GET h/shared")
	if shared.Upstream != f.ask("GET h/shared2").Upstream {
		t.Error("got two compiled upstreams for one id, want one")
	}
	f.apply(w.batch(
		w.put("routes/inline", `{"uri":"/inline","desc":"edited","plugins":{"plain":{"n":1}},`+two+`}`),
		w.put("upstreams/u", `{"desc":"edited","nodes":{"a:1":1,"b:1":1}}`),
	))
	if now := f.ask("GET h/inline"); now.Chain.Find("plain").Phases.State != inline.Chain.Find("plain").Phases.State || now.Upstream.Picker != inline.Upstream.Picker {
		t.Error("got new state or a new picker after an unrelated edit, want the old ones")
	}
	now := f.ask("GET h/shared")
	if now.Upstream.Picker != shared.Upstream.Picker || now.Upstream.Ref == shared.Upstream.Ref {
		t.Errorf("got picker %p and upstream %v, want the old picker and a new revision", now.Upstream.Picker, now.Upstream.Ref)
	}
	// Not even what it refers to being away for a while resets it.
	f.apply(w.batch(w.put("routes/away", `{"uri":"/away","service_id":"s","plugins":{"plain":{"n":1}},`+two+`}`), w.put("services/s", `{}`)))
	away := f.ask("GET h/away").Chain.Find("plain").Phases.State
	gone := w.del("services/s")
	f.apply(w.batch(gone))
	f.apply(w.batch(w.put("services/s", `{"desc":"back"}`)))
	if f.ask("GET h/away").Chain.Find("plain").Phases.State != away {
		t.Error("got new state after the service was away, want the old one")
	}
	// A full reload compiles nothing that did not change.
	before := f.ask("GET h/inline")
	f.apply(w.reset())
	if f.ask("GET h/inline") != before || f.last.Compiled != 0 || f.last.Changed != 0 {
		t.Errorf("got %d compiled and %d changed, want none", f.last.Compiled, f.last.Changed)
	}
}

func TestConsumers(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("consumers/jack", `{"username":"jack","group_id":"g","labels":{"custom_id":"c7"},"plugins":{"key-auth":{"key":"one"},"plain":{"n":1}}}`)
	w.put("consumers/jack/credentials/c1", `{"plugins":{"key-auth":{"key":"two"}}}`)
	w.put("consumers/jill", `{"username":"jill","plugins":{"key-auth":{"key":"$secret://vault/1/k"}}}`)
	w.put("consumers/joe/credentials/orphan", `{"plugins":{"key-auth":{"key":"three"}}}`)
	f.apply(w.reset())
	if got := f.snap.ByName("jack"); got == nil || got.Status != 503 || got.Broken == nil {
		t.Errorf("got %+v without its group, want a consumer that is 503", got)
	}
	f.apply(w.batch(w.put("consumer_groups/g", `{"id":"g","plugins":{"plain":{"n":2},"checked":{}}}`)))
	jack := f.snap.ByName("jack")
	if jack.Status != 0 || jack.CustomID != "c7" || jack.GroupID != "g" || jack.Chain.Find("checked") == nil || jack.Chain.Find("plain").Parent.Kind != "consumers" {
		t.Errorf("got %+v, want group and consumer merged, the consumer winning", jack)
	}
	if id := f.snap.Find("key-auth", "one"); id == nil || id.Consumer != jack || id.Credential != "" {
		t.Errorf("got %+v for the consumer's key, want jack", id)
	}
	if id := f.snap.Find("key-auth", "two"); id == nil || id.Consumer != jack || id.Credential != "c1" {
		t.Errorf("got %+v for the credential's key, want jack by c1", id)
	}
	for _, key := range []string{"three", "$secret://vault/1/k", "", "nobody"} {
		if id := f.snap.Find("key-auth", key); id != nil {
			t.Errorf("got %+v for key %q, want nobody", id, key)
		}
	}
	// The key that was there first wins, whatever comes later.
	f.apply(w.batch(w.put("consumers/aaron", `{"username":"aaron","plugins":{"key-auth":{"key":"one"}}}`)))
	if id := f.snap.Find("key-auth", "one"); id == nil || id.Consumer.Name != "jack" {
		t.Errorf("got %+v for a key used twice, want the older item's", id)
	}
	f.apply(w.batch(w.put("consumers/joe", `{"username":"joe","plugins":{"nosuch":{}}}`)))
	if id := f.snap.Find("key-auth", "three"); id == nil || id.Consumer.Status != 503 {
		t.Errorf("got %+v, want a consumer that is 503 for its unknown plugin", id)
	}
	f.apply(w.batch(w.put("consumers/jack/credentials/c1", `{"plugins":{"plain":{}}}`)))
	if id := f.snap.Find("key-auth", "two"); id == nil {
		t.Error("got nobody after a bad credential, want the last good one")
	}
	f.apply(w.batch(w.del("consumers/jack"), w.del("consumers/jack/credentials/c1")))
	if id := f.snap.Find("key-auth", "two"); id != nil {
		t.Errorf("got %+v after the deletion, want nobody", id)
	}
	if id := f.snap.Find("key-auth", "one"); id == nil || id.Consumer.Name != "aaron" {
		t.Errorf("got %+v after the deletion, want the other with that key", id)
	}
}

func TestDigestIsTheSumOverWhatIsStored(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(HostURI))
	f.apply(w.reset())
	if f.snap.Digest() != [32]byte{} {
		t.Errorf("got digest %x of an empty store, want zero", f.snap.Digest())
	}
	f.apply(w.batch(w.put("routes/a", uri("/a")), w.put("routes/bad", `nonsense`), w.put("routes/", `init_dir`), w.put("routes/a", uri("/b"))))
	f.apply(w.batch(w.put("routes/c", uri("/c")), w.del("routes/bad")))
	sum := new(big.Int)
	for _, item := range w.items {
		text := append([]byte(item.Key), binary.BigEndian.AppendUint64(nil, uint64(item.Revision))...)
		one := sha256.Sum256(append(text, item.Value...))
		sum.Add(sum, new(big.Int).SetBytes(one[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	var want [32]byte
	sum.FillBytes(want[:])
	if got := f.snap.Digest(); got != want {
		t.Errorf("got digest %x, want %x", got, want)
	}
	item, ok := f.snap.Item("routes", "c")
	if !ok || string(item.Value) != uri("/c") {
		t.Errorf("got item %+v, %v, want the stored one", item, ok)
	}
	var ids []string
	f.snap.Items("routes", func(id string, _ store.Item) bool {
		ids = append(ids, id)
		return true
	})
	if diff := cmp.Diff([]string{"a", "c"}, ids); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// Whatever the order of changes, what is in force is what the store holds.
func TestIncrementsAgreeWithAFullLoad(t *testing.T) {
	for seed := range uint64(12) {
		for _, router := range routers {
			r := rand.New(rand.NewPCG(seed, 7))
			env := testEnv(router)
			w, f := newWorld(), follow(t, env)
			f.apply(w.reset())
			for range 60 {
				var events []store.Event
				for range 1 + r.IntN(4) {
					events = append(events, randomChange(r, w))
				}
				f.apply(w.batch(events...))
			}
			full := follow(t, env)
			full.apply(w.reset())
			if f.snap.Digest() != full.snap.Digest() || f.snap.Revision() != full.snap.Revision() {
				t.Fatalf("seed %d, %s: got different digests or revisions", seed, router)
			}
			for range 400 {
				request := randomRequest(r)
				got, want := f.ask(request), full.ask(request)
				if diff := cmp.Diff(shown(want), shown(got)); diff != "" {
					t.Fatalf("seed %d, %s: %q (-full +increments):\n%s", seed, router, request, diff)
				}
			}
			for _, key := range []string{"k0", "k1", "k2"} {
				if diff := cmp.Diff(who(full.snap.Find("key-auth", key)), who(f.snap.Find("key-auth", key))); diff != "" {
					t.Fatalf("seed %d, %s: key %q (-full +increments):\n%s", seed, router, key, diff)
				}
			}
			if diff := cmp.Diff(edges(full.snap), edges(f.snap)); diff != "" {
				t.Fatalf("seed %d, %s: reverse index (-full +increments):\n%s", seed, router, diff)
			}
		}
	}
}

func edges(s *Snapshot) (list []string) {
	s.uses.walk("", func(edge string, _ struct{}) bool {
		list = append(list, edge)
		return true
	})
	return list
}

func who(id *plugin.Identity) string {
	if id == nil {
		return ""
	}
	return fmt.Sprintf("%s %s %s %d", id.Consumer.Name, id.Credential, id.Conf, id.Consumer.Status)
}

func shown(r *Route) string {
	if r == nil {
		return ""
	}
	text := fmt.Sprintf("%s %s %d %v %+v", r.Pattern, r.Host, r.Status, r.Broken, r.Labels)
	for _, p := range r.Chain.Plugins() {
		text += fmt.Sprintf(" %s:%s:%v", p.Name, p.Digest, p.Parent)
	}
	if r.Upstream != nil {
		text += fmt.Sprintf(" %v %s %v", r.Upstream.Ref, r.Upstream.Scheme, r.Upstream.Unsupported)
		for _, n := range r.Upstream.Nodes {
			text += fmt.Sprintf(" %s %s %s %d", n.Target.Addr, n.HostHeader, n.Target.SNI, n.Target.MaxIdle)
		}
	}
	return text
}

var (
	randomURIs  = []string{"/a", "/a/*", "/a/b", "/a/*/c", "/*", "/a*", "/u/:id", "/u/:id/*rest", "/u/*", "/a/b/c"}
	randomHosts = []string{"x.test", "*.test", "*", "a.x.test", "*x.test", "*.x.test"}
	// Few, so that the next version of a route mostly has that of the one before.
	randomUpstreams = []string{
		oneNode, `{"nodes":{"a.test:80":1,"b.test:81":2},"keepalive_pool":{"size":3}}`,
		`{"scheme":"https","pass_host":"node","nodes":[{"host":"a.test","port":443,"weight":1}]}`,
		`{"scheme":"https","nodes":{"a.test:443":1},"tls":{"client_cert_id":"none"}}`,
	}
	randomPaths = []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/u/1", "/u/1/2", "/u/:id", "/z"}
)

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

func randomChange(r *rand.Rand, w *world) store.Event {
	n := r.IntN(4)
	maybe := func(text string) string {
		if r.IntN(3) == 0 {
			return "," + text
		}
		return ""
	}
	plugins := fmt.Sprintf(`"plugins":{%q:{"n":%d}}`, pick(r, []string{"plain", "checked", "told"}), r.IntN(3))
	items := []struct{ rest, doc string }{
		{fmt.Sprintf("services/%d", n), `{` + plugins + maybe(`"hosts":["`+pick(r, randomHosts)+`"]`) + maybe(`"upstream":`+oneNode) + maybe(`"upstream_id":"1"`) + `}`},
		{fmt.Sprintf("upstreams/%d", n), fmt.Sprintf(`{"nodes":{"n%d:1":1}}`, r.IntN(9))},
		{fmt.Sprintf("plugin_configs/%d", n), fmt.Sprintf(`{"id":"%d",%s}`, n, plugins)},
		{"plugin_metadata/told", fmt.Sprintf(`{"format":"%d"}`, r.IntN(9))},
		{fmt.Sprintf("consumer_groups/%d", n), fmt.Sprintf(`{"id":"%d",%s}`, n, plugins)},
		{fmt.Sprintf("consumers/c%d", n), fmt.Sprintf(`{"username":"c%d","plugins":{"key-auth":{"key":"k%d"}}%s}`, n, r.IntN(3), maybe(`"group_id":"1"`))},
		{fmt.Sprintf("consumers/c%d/credentials/d", n), fmt.Sprintf(`{"plugins":{"key-auth":{"key":"k%d"}}}`, r.IntN(3))},
		{fmt.Sprintf("global_rules/%d", n), fmt.Sprintf(`{"id":"%d",%s}`, n, plugins)},
	}
	item := struct{ rest, doc string }{
		fmt.Sprintf("routes/%d", r.IntN(12)),
		fmt.Sprintf(`{"uri":%q,"priority":%d,%s`, pick(r, randomURIs), r.IntN(3), plugins) + maybe(`"host":"`+pick(r, randomHosts)+`"`) +
			maybe(`"methods":["GET"]`) + maybe(fmt.Sprintf(`"service_id":"%d"`, r.IntN(4))) + maybe(fmt.Sprintf(`"plugin_config_id":"%d"`, r.IntN(4))) +
			maybe(fmt.Sprintf(`"upstream_id":"%d"`, r.IntN(4))) + maybe(`"upstream":`+pick(r, randomUpstreams)) + maybe(`"status":0`) + `}`,
	}
	if r.IntN(2) == 0 {
		item = items[r.IntN(len(items))]
	}
	if r.IntN(4) == 0 {
		return w.del(item.rest)
	}
	return w.put(item.rest, item.doc)
}

func randomRequest(r *rand.Rand) string {
	return pick(r, []string{"GET", "PUT"}) + " " + pick(r, []string{"x.test", "a.x.test", "b.a.x.test", "other", "X.Test:80"}) + pick(r, randomPaths)
}

// A store that was restored counts on from where the backup was, and gives revisions that it
// gave before to other content.
func TestARestoredStoreMayHaveOtherContentByTheSameRevision(t *testing.T) {
	const one, other = `{"nodes":{"a.test:80":1}}`, `{"nodes":{"b.test:80":1}}`
	w, f := newWorld(), follow(t, testEnv(HostURI))
	w.put("services/s", `{}`)
	w.put("routes/a", `{"uri":"/a","service_id":"s","upstream":`+one+`}`)
	f.apply(w.reset())

	restored := newWorld()
	restored.put("services/s", `{}`)
	restored.put("routes/a", `{"uri":"/a","service_id":"s","priority":"x","upstream":`+other+`}`)
	f.apply(restored.reset())
	if got := f.snap.Rejected(); len(got) != 1 {
		t.Fatalf("got %v rejected, want the route", got)
	}
	f.apply(restored.batch(restored.put("services/s", `{"desc":"2"}`)))
	if got := f.snap.Rejected(); len(got) != 1 {
		t.Errorf("got %v rejected after a change of what it refers to, want the route still", got)
	}
	f.apply(restored.batch(restored.put("routes/a", `{"uri":"/a","service_id":"s","upstream":`+other+`}`)))
	if got := f.ask("GET h/a").Upstream.Nodes[0].Target.Addr; got != "b.test:80" {
		t.Errorf("got %s, want what is stored", got)
	}
}

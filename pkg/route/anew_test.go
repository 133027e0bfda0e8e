package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
)

// having is an environment with these plugins alone.
func having(names ...string) Env {
	noop := func(*plugin.Context) error { return nil }
	build := func(b *plugin.Build) (plugin.Phases, error) {
		state := b.Prev
		if state == nil {
			state = new(int)
		}
		return plugin.Phases{Access: noop, State: state}, nil
	}
	var defs []plugin.Definition
	for i, name := range names {
		defs = append(defs, plugin.Definition{
			Name: name, Priority: i, Auth: name == "door", Schema: []byte(anyObject), New: build,
			ConsumerSchema: []byte(`{"type":"object","required":["key"]}`), ConsumerKey: "key",
		})
	}
	return Env{Registry: plugin.NewRegistry(plugin.Settings{}, defs...), Prefix: prefix, Router: HostURI, Log: zerolog.Nop()}
}

// told is what can be seen of a snapshot from outside.
func told(s *Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %x %v\n", s.Revision(), s.Digest(), s.Counts())
	for _, r := range s.Rejected() {
		fmt.Fprintf(&b, "%s %d %d %s\n", r.Key, r.Refused, r.InForce, r.Reason)
	}
	for _, path := range []string{"/route", "/service", "/config", "/plain"} {
		r := s.Match(exchangeOf("GET h" + path))
		fmt.Fprintf(&b, "%s %d %v %d\n", idOf(r), r.Status, r.Broken, len(r.Chain.Plugins()))
	}
	global, err := s.Global()
	fmt.Fprintf(&b, "%d %v\n", len(global.Plugins()), err)
	if id := s.Find("door", "k"); id != nil {
		fmt.Fprintf(&b, "%s %v\n", id.Consumer.Name, id.Consumer.Broken)
	}
	return b.String()
}

// Whatever plugins come and go, a snapshot that is built anew is the one that a node has
// which started with them.
func TestBuiltAnewIsBuiltFromTheStart(t *testing.T) {
	w := newWorld()
	w.put("routes/route", routeDoc(`"uri":"/route","plugins":{"tag":{}}`))
	w.put("services/s", `{"plugins":{"tag":{}},"upstream":`+oneNode+`}`)
	w.put("routes/service", `{"uri":"/service","service_id":"s"}`)
	w.put("plugin_configs/p", `{"id":"p","plugins":{"tag":{}}}`)
	w.put("routes/config", routeDoc(`"uri":"/config","plugin_config_id":"p"`))
	w.put("routes/plain", uri("/plain"))
	w.put("routes/bad", `{"uri":5}`)
	w.put("global_rules/g", `{"id":"g","plugins":{"tag":{}}}`)
	w.put("consumers/jack", `{"username":"jack","plugins":{"door":{"key":"k"}}}`)
	envs := map[string]Env{"all": having("door", "tag"), "one": having("tag"), "the other": having("door"), "none": having()}
	for from, before := range envs {
		for to, after := range envs {
			first, _ := apply(Empty(before), w.reset(), before)
			anew, report := applyAnew(first, w.reset(), after)
			start, _ := apply(Empty(after), w.reset(), after)
			if got, want := told(anew), told(start); got != want {
				t.Errorf("from %s to %s: got\n%swant\n%s", from, to, got, want)
			}
			if report.Panics > 0 {
				t.Errorf("from %s to %s: %d panics", from, to, report.Panics)
			}
		}
	}
}

func TestPluginsKeepTheirStateWhenOthersGo(t *testing.T) {
	w := newWorld()
	w.put("routes/a", routeDoc(`"uri":"/a","plugins":{"tag":{}}`))
	before, _ := apply(Empty(having("tag")), w.reset(), having("door", "tag"))
	after, _ := applyAnew(before, w.reset(), having("tag"))
	state := func(s *Snapshot) any { return s.Match(exchangeOf("GET h/a")).Chain.Find("tag").Phases.State }
	if state(before) != state(after) {
		t.Error("the state is another one")
	}
}

func TestTheSyncerTakesAnotherEnvironment(t *testing.T) {
	w := newWorld()
	r := run(t, having("tag"), zerolog.Nop())
	w.put("routes/a", routeDoc(`"uri":"/a","plugins":{"tag":{}}`))
	r.feed.batches <- w.reset()
	r.until(t, w.revision)
	status := func() int { return r.Router().Snapshot().Match(exchangeOf("GET h/a")).Status }
	for _, tt := range []struct {
		env  Env
		want int
	}{{having(), 503}, {having("tag"), 0}, {having("door"), 503}} {
		if err := r.Use(t.Context(), tt.env); err != nil || status() != tt.want || r.Router().Snapshot().Revision() != w.revision {
			t.Errorf("got %v, status %d, want %d", err, status(), tt.want)
		}
	}
	// What comes later is built in it, too.
	r.feed.batches <- w.batch(w.put("routes/b", routeDoc(`"uri":"/b","plugins":{"door":{}}`)))
	r.until(t, w.revision)
	if got := r.Router().Snapshot().Match(exchangeOf("GET h/b")); got == nil || got.Status != 0 {
		t.Errorf("got %+v", got)
	}
	r.stop()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Use(ended, having()); err == nil {
		t.Error("got no error from a syncer that does not run")
	}
}

func TestTheStoredListOfPluginsIsFollowed(t *testing.T) {
	w := newWorld()
	env := having("tag", "door")
	r := runFollowing(t, env, func(list []byte) (Env, error) {
		if list == nil {
			return env, nil
		}
		l, err := resource.DecodePluginList(list)
		if slices.Contains(l.HTTP, "spoilt") {
			err = errors.New("spoilt")
		}
		return having(l.HTTP...), err
	})
	w.put("routes/a", routeDoc(`"uri":"/a","plugins":{"tag":{}}`))
	r.feed.batches <- w.reset()
	r.until(t, w.revision)
	expect := func(step string, want int) {
		t.Helper()
		r.until(t, w.revision)
		if got := r.Router().Snapshot().Match(exchangeOf("GET h/a")).Status; got != want {
			t.Errorf("%s: got status %d, want %d", step, got, want)
		}
	}
	r.feed.batches <- w.batch(w.put("plugins", `[{"name":"door"},{"name":"tag","stream":true}]`))
	expect("a list without the plugin", 503)
	r.feed.batches <- w.batch(w.put("plugins", `[{"name":"spoilt"}]`))
	expect("a list that fails changes nothing", 503)
	r.feed.batches <- w.batch(w.put("plugins", `[{"name":"tag"}]`))
	expect("a list with it", 0)
	r.feed.batches <- w.batch(w.put("plugins", `{}`), w.put("routes/b", uri("/b")))
	expect("an empty list beside a change", 503)
	if idOf(r.Router().Snapshot().Match(exchangeOf("GET h/b"))) != "b" {
		t.Error("the change beside it was lost")
	}
	r.feed.batches <- w.batch(w.del("plugins"))
	expect("no list", 0)
	w.put("plugins", `[]`)
	r.feed.batches <- w.reset()
	expect("a full state with another list", 503)
	delete(w.items, prefix+"/plugins")
	w.revision++
	r.feed.batches <- w.reset()
	expect("a full state without one", 0)
}

package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/store"
)

const prefix = "/apisix"

// world is a store in memory.
type world struct {
	items    map[string]store.Item
	revision int64
}

func newWorld() *world { return &world{items: map[string]store.Item{}} }

func (w *world) put(rest, value string) store.Event {
	w.revision++
	key := prefix + "/" + rest
	item := store.Item{Key: key, Value: []byte(value), CreateRevision: w.revision, Revision: w.revision}
	if old, ok := w.items[key]; ok {
		item.CreateRevision = old.CreateRevision
	}
	w.items[key] = item
	return store.Event{Item: item}
}

func (w *world) del(rest string) store.Event {
	w.revision++
	key := prefix + "/" + rest
	delete(w.items, key)
	return store.Event{Item: store.Item{Key: key, Revision: w.revision}, Delete: true}
}

func (w *world) batch(events ...store.Event) store.Batch {
	return store.Batch{Events: events, Revision: w.revision}
}

func (w *world) reset() store.Batch {
	b := store.Batch{Reset: true, Revision: w.revision}
	for _, item := range w.items {
		b.Events = append(b.Events, store.Event{Item: item})
	}
	sort.Slice(b.Events, func(i, j int) bool { return b.Events[i].Item.Key < b.Events[j].Item.Key })
	return b
}

// follower applies what it is given and fails the test on what should not be.
type follower struct {
	t    testing.TB
	env  Env
	snap *Snapshot
	last Report
}

func follow(t testing.TB, env Env) *follower { return &follower{t: t, env: env, snap: Empty(env)} }

func (f *follower) apply(b store.Batch) Report {
	f.snap, f.last = apply(f.snap, b, f.env)
	return f.last
}

// ask matches a request "GET host/path" or "GET host/path from address".
func (f *follower) ask(request string) *Route { return f.snap.Match(exchangeOf(request)) }

func exchangeOf(request string) *exchange.Exchange {
	method, rest, _ := strings.Cut(request, " ")
	rest, from, ok := strings.Cut(rest, " from ")
	if !ok {
		from = "127.0.0.1"
	}
	i := strings.IndexByte(rest, '/')
	x := &exchange.Exchange{}
	x.Reset(context.Background(), nil)
	x.Request.Method, x.Request.Host = method, rest[:i]
	x.Request.Path, x.Request.RawQuery, _ = strings.Cut(rest[i:], "?")
	x.Request.Target = rest[i:]
	x.Request.Remote = netip.AddrPortFrom(netip.MustParseAddr(from), 4000)
	return x
}

func idOf(r *Route) string {
	if r == nil {
		return ""
	}
	return r.Labels.RouteID
}

func testEnv(router string) Env {
	return Env{Registry: testRegistry(new(counters)), Prefix: prefix, Router: router, Log: zerolog.Nop()}
}

// counters counts what the test plugins do.
type counters struct{ news, carried atomic.Int64 }

const anyObject = `{"type":"object"}`

var errTooBig = errors.New("n is too big")

func testRegistry(c *counters) *plugin.Registry {
	noop := func(*plugin.Context) error { return nil }
	build := func(b *plugin.Build) (plugin.Phases, error) {
		c.news.Add(1)
		if b.Prev != nil {
			c.carried.Add(1)
			return plugin.Phases{Access: noop, State: b.Prev}, nil
		}
		return plugin.Phases{Access: noop, State: new(int)}, nil
	}
	return plugin.NewRegistry(
		plugin.Settings{},
		plugin.Definition{Name: "plain", Priority: 10, Schema: []byte(`{"type":"object","properties":{"n":{"type":"integer"}}}`), New: build},
		plugin.Definition{
			Name: "checked", Priority: 20, Schema: []byte(anyObject), New: build,
			Check: func(conf []byte) error {
				var m struct{ N int }
				if json.Unmarshal(conf, &m) == nil && m.N > 9 {
					return errTooBig
				}
				return nil
			},
		},
		plugin.Definition{
			Name: "told", Priority: 5, Schema: []byte(anyObject),
			MetadataSchema: []byte(`{"type":"object","properties":{"format":{"type":"string"}}}`),
			New: func(b *plugin.Build) (plugin.Phases, error) {
				c.news.Add(1)
				return plugin.Phases{Access: noop, State: string(b.Metadata)}, nil
			},
		},
		plugin.Definition{
			Name: "boom", Priority: 1, Schema: []byte(anyObject),
			New: func(*plugin.Build) (plugin.Phases, error) { panic("as it is meant to") },
		},
		plugin.Definition{
			Name: "key-auth", Priority: 2500, Auth: true, Schema: []byte(anyObject),
			ConsumerSchema: []byte(`{"type":"object","required":["key"],"properties":{"key":{"type":"string"}}}`), ConsumerKey: "key",
			New: build,
		},
	)
}

// oneNode is an upstream of one node, for routes that need some upstream.
const oneNode = `{"type":"roundrobin","nodes":{"127.0.0.1:1980":1}}`

func routeDoc(members string) string { return `{` + members + `,"upstream":` + oneNode + `}` }

func uri(pattern string) string { return routeDoc(fmt.Sprintf(`"uri":%q`, pattern)) }

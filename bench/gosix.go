//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/porttest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// key is what a consumer of the benchmark shows.
const key = "bench-key-of-no-value"

// refused is an engine that this gosix does not have.
type refusedError struct{ engine, why string }

func (e *refusedError) Error() string { return fmt.Sprintf("no engine %s: %s", e.engine, e.why) }

// startStore starts an etcd, which all gateways follow, each under a prefix.
func (b *bench) startStore(ctx context.Context) error {
	if b.store != nil {
		return nil
	}
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		return err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := b.start("etcd", b.cpus[1], b.work, nil, b.self, "etcd", "-dir", filepath.Join(b.work, "etcd"), "-listen", addr)
	if err != nil {
		return err
	}
	if err := p.listens(ctx, addr); err != nil {
		return err
	}
	b.etcd = "http://" + addr
	b.store, err = etcdstore.New(etcdstore.Config{Endpoints: []string{b.etcd}, Timeout: 30 * time.Second, Log: zerolog.Nop()})
	if err == nil {
		b.later(func() { _ = b.store.Close() })
	}
	return err
}

// item is something stored, by its key without the prefix.
type item struct{ key, value string }

// put stores items, many in a step.
func (b *bench) put(ctx context.Context, prefix string, items []item) error {
	const step = 100 // etcd takes 128
	for len(items) > 0 {
		n := min(step, len(items))
		ops := make([]store.Op, n)
		for i, it := range items[:n] {
			ops[i] = store.Op{Key: prefix + "/" + it.key, Value: []byte(it.value)}
		}
		if _, err := b.store.Commit(ctx, nil, ops); err != nil {
			return fmt.Errorf("store %s: %w", items[0].key, err)
		}
		items = items[n:]
	}
	return nil
}

// prefix is where in the store the gateways' routes are.
const prefix = "/bench"

// fill stores items under a prefix, once.
func (b *bench) fill(ctx context.Context, at string, items func() []item) error {
	if err := b.startStore(ctx); err != nil {
		return err
	}
	if b.filled[at] > 0 {
		return nil
	}
	if err := b.put(ctx, at, items()); err != nil {
		return err
	}
	_, revision, err := b.store.Get(ctx, at+"/routes/ai-multi")
	b.filled[at] = revision
	return err
}

// gosixRoutes are what every gosix of the benchmark has: the same path behind three prefixes.
var gosixRoutes = []string{"plain", "ai", "ai-multi"}

func (b *bench) routesOfOurs() []item {
	plain := fmt.Sprintf(`"uri":"/plain/*","upstream":{"type":"roundrobin","nodes":{%q:1},"timeout":{"connect":6,"send":600,"read":600}}`, b.upstream)
	one := fmt.Sprintf(`"uri":"/ai/v1/chat/completions","plugins":{"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer one"}},"options":{"model":"model-of-one"},"override":{"endpoint":"http://%s/v1/chat/completions"},%s}}`, b.upstream, patient)
	return append(b.oneRoute(), route("plain", plain), route("ai", one))
}

// patient are limits that no measurement reaches: idle streams are held for longer than the
// default, and more connections are under way than are kept by default.
const patient = `"timeout":600000,"keepalive_pool":256`

// oneRoute is the route with everything on it, and its consumer.
func (b *bench) oneRoute() []item {
	instance := func(name string) string {
		return fmt.Sprintf(`{"name":%q,"provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer %[1]s"}},"options":{"model":"model-of-%[1]s"},"override":{"endpoint":"http://%[2]s/v1/chat/completions"}}`, name, b.upstream)
	}
	return []item{
		{"consumers/bench", fmt.Sprintf(`{"username":"bench","plugins":{"key-auth":{"key":%q}},"create_time":1,"update_time":1}`, key)},
		route("ai-multi", fmt.Sprintf(`"uri":"/ai-multi/v1/chat/completions","plugins":{"key-auth":{},"ai-proxy-multi":{"instances":[%s,%s],%s},"prometheus":{}}`, instance("one"), instance("two"), patient)),
	}
}

func route(id, members string) item {
	return item{"routes/" + id, fmt.Sprintf(`{"id":%q,%s,"create_time":1,"update_time":1}`, id, members)}
}

// gosix is a running cmd/gateway.
type gosix struct {
	*process
	engine, addr, control, profiles string
	dir                             string
}

// startGosix starts a gateway that follows a prefix, and waits until it serves what is stored
// there.
func (b *bench) startGosix(ctx context.Context, name, engine, at string, profiled bool) (*gosix, error) {
	g := &gosix{engine: engine, dir: filepath.Join(b.work, name)}
	var ports [5]int
	for i := range ports {
		var err error
		if ports[i], err = porttest.Free("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	port := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	g.addr, g.control = port(0), port(1)
	line := ""
	// A gosix of before there was a choice has the one engine, and no such setting.
	if b.choice {
		line = "\n  http_engine: " + engine
	} else if engine != "std" {
		return nil, &refusedError{engine, "there is no setting apisix.http_engine"}
	}
	conf := fmt.Sprintf(`apisix:
  node_listen: [{ip: 127.0.0.1, port: %d, enable_http2: true}]
  ssl: {enable: false}
  control: {ip: 127.0.0.1, port: %d}
  status: {ip: 127.0.0.1, port: %d}
  limits: {idle_timeout: 600}%s
nginx_config: {http: {enable_access_log: true, access_log: access.log}}
plugin_attr: {prometheus: {export_addr: {ip: 127.0.0.1, port: %d}}}
deployment:
  role: data_plane
  data_dir: data
  etcd: {host: [%q], prefix: %s, timeout: 30}
`, ports[0], ports[1], ports[2], line, ports[3], b.etcd, at)
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(g.dir, "conf.yaml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	argv := []string{filepath.Join(b.work, "bin/gateway"), "-c", "conf.yaml"}
	if profiled {
		g.profiles = port(4)
		argv = []string{filepath.Join(b.work, "bin/profiled"), "-c", "conf.yaml", "-pprof", g.profiles}
	}
	var err error
	if g.process, err = b.start(name, b.cpus[0], g.dir, []string{"GOMAXPROCS=1"}, argv...); err != nil {
		return nil, err
	}
	if err := g.listens(ctx, g.addr); err != nil {
		if strings.Contains(err.Error(), "http_engine") {
			return nil, &refusedError{engine, err.Error()}
		}
		return nil, err
	}
	return g, g.serves(ctx, b.filled[at])
}

// passedOver notes an engine that this gosix does not have.
func (b *bench) passedOver(err error) bool {
	refused := (*refusedError)(nil)
	if errors.As(err, &refused) {
		b.note(refused.Error())
	}
	return refused != nil
}

// serves waits until a gateway has all in force that is stored.
func (g *gosix) serves(ctx context.Context, revision int64) error {
	var state struct {
		Revision int64
		Rejected int
	}
	err := g.until(ctx, fmt.Sprintf("serves revision %d", revision), func() bool {
		res, err := http.Get("http://" + g.control + "/v1/config")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		return json.NewDecoder(res.Body).Decode(&state) == nil && state.Revision >= revision
	})
	if err == nil && state.Rejected > 0 {
		err = fmt.Errorf("%s rejects %d items: see http://%s/v1/config/rejected", g.name, state.Rejected, g.control)
	}
	return err
}

// answers waits for an answer of the route with everything on it.
func (g *gosix) answers(ctx context.Context) error {
	t := g.target("ai-multi")
	return g.until(ctx, "answers", func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.addr+t.path, strings.NewReader(bodies[0].text()))
		if err != nil {
			return false
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("apikey", key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, res.Body)
		return errors.Join(err, res.Body.Close()) == nil && res.StatusCode == http.StatusOK
	})
}

// target is a route of a gateway, to be measured.
func (g *gosix) target(route string) *target {
	t := &target{
		name: route + "@" + g.engine, route: route, pid: g.pid(), stop: g.stop, addr: g.addr, path: "/" + route + "/v1/chat/completions",
		profiles: g.profiles, log: filepath.Join(g.dir, "access.log"),
	}
	if route == "ai-multi" {
		t.headers = []string{"apikey: " + key}
	}
	return t
}

var errNoAnswer = errors.New("no answer of status 200")

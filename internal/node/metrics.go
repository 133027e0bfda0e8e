package node

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/gateway"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// metrics returns what requests are counted into.
func metrics(c *config.Config) (*prometheus.Metrics, error) {
	m, err := prometheus.New(c.PluginAttr["prometheus"])
	if err != nil {
		return nil, fmt.Errorf("plugin_attr.prometheus.%w", err)
	}
	return m, nil
}

// served is the gateway and its engines, once they are there: metrics are served before.
type served struct{ current atomic.Pointer[serving] }

type serving struct {
	gateway *gateway.Gateway
	engines []gateway.Engine
}

func (s *served) set(g *gateway.Gateway, engines []gateway.Engine) {
	s.current.Store(&serving{g, slices.Clone(engines)})
}

func (s *served) requests() int64 {
	if now := s.current.Load(); now != nil {
		return now.gateway.Requests()
	}
	return 0
}

// connections are those of all engines. Of a connection that is open and on which no request
// is answered it is not known whether the client has begun one: it counts as waiting.
func (s *served) connections() (all prometheus.Connections) {
	now := s.current.Load()
	if now == nil {
		return all
	}
	for _, e := range now.engines {
		c := e.Connections()
		all.Accepted += c.Accepted
		all.Active += c.Active
		all.Writing += c.Serving
	}
	all.Handled, all.Waiting = all.Accepted, max(all.Active-all.Writing, 0)
	return all
}

// startMetrics opens the exporter, where the plugin is switched on.
func (n *node) startMetrics(syncer *route.Syncer, checker *health.Checker) error {
	addr, on := n.metrics.Address()
	if !on || n.c.Plugins != nil && !slices.Contains(n.c.Plugins, "prometheus") {
		return nil
	}
	hostname, _ := os.Hostname() // without one the label is empty
	l, err := listen("plugin_attr.prometheus.export_addr", addr)
	if err != nil {
		return err
	}
	n.ports.Metrics = reachable(l.Addr())
	var watched func(func(name, host, port string, healthy bool))
	if checker != nil {
		watched = checker.Each
	}
	n.about = append(n.about, n.serve(l, nil, n.metrics.Handler(prometheus.Sources{
		Hostname: hostname, Version: Version(), Connections: n.served.connections, Requests: n.served.requests,
		Reachable: func() bool { return syncer.Behind() == 0 },
		Revisions: func() map[string]int64 { return revisions(syncer) },
		Upstreams: watched,
		Held:      func() bool { return n.source.Status().Held != nil },
		Unsaved:   func() int64 { return n.source.Status().WriteErrors },
	})))
	return nil
}

// revisions are the values of etcd_modify_indexes (spec/08 §3): when what is stored of each
// kind changed last, the last of these, the revision that is in force and the newest that the store has.
func revisions(syncer *route.Syncer) map[string]int64 {
	s := syncer.Router().Snapshot()
	all, last := map[string]int64{}, int64(0)
	for _, kind := range []string{"routes", "services", "ssls", "consumers", "global_rules", "upstreams", "stream_routes", "protos"} {
		all[kind] = 0
		s.Items(kind, func(_ string, item store.Item) bool {
			all[kind] = max(all[kind], item.Revision)
			return true
		})
		last = max(last, all[kind])
	}
	all["max_modify_index"], all["prev_index"] = last, s.Revision()
	all["x_etcd_index"] = max(syncer.StoreRevision(), s.Revision())
	return all
}

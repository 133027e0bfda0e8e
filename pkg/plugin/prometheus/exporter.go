package prometheus

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/gosix/gosix/pkg/plugin"
)

// Sources tell what is not counted by requests. Each may be nil: then there is no such
// metric. They are called at every scrape, by several goroutines at once.
type Sources struct {
	Hostname, Version string
	Connections       func() Connections
	Requests          func() int64            // since the start
	Reachable         func() bool             // etcd
	Revisions         func() map[string]int64 // of etcd, by what they are of: etcd_modify_indexes
	Held              func() bool             // whether what etcd holds is not in force: store_reset
	Unsaved           func() int64            // snapshots that could not be written, since the start
	// Upstreams calls f for every checked server: the etcd key of what it belongs to, and
	// where it is. Of one that comes twice the first is right.
	Upstreams func(f func(name, ip, port string, healthy bool))
}

// Connections are those of clients: how many there were, and what they do now.
type Connections struct {
	Accepted, Handled                 int64
	Active, Reading, Writing, Waiting int64
}

// Address is where the exporter listens; false if it is switched off.
func (m *Metrics) Address() (string, bool) {
	return m.settings.address(), m.settings.Enable == nil || *m.settings.Enable
}

// Path is where the exposition is.
func (m *Metrics) Path() string { return m.settings.ExportURI }

// manyScrapes is how many are answered at once; more are told to come back.
const manyScrapes = 4

// Handler serves the exposition, and what nginx's stub_status tells. It has no
// authentication and belongs on a loopback address.
func (m *Metrics) Handler(s Sources) http.Handler {
	// Not through a registry, which would put labels into the order of the alphabet: the
	// reference's is what its users' patterns expect (spec/08 §3).
	gather := client.GathererFunc(func() ([]*dto.MetricFamily, error) { return m.gather(&s, time.Now()), nil })
	exposition := promhttp.HandlerFor(gather, promhttp.HandlerOpts{MaxRequestsInFlight: manyScrapes})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		get := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case get && r.URL.Path == m.settings.ExportURI:
			exposition.ServeHTTP(w, r)
		case get && r.URL.Path == "/apisix/nginx_status" && near(r.RemoteAddr) && s.Connections != nil:
			stub(w, s)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(plugin.ErrorPage(http.StatusNotFound))
		}
	})
}

// near reports whether a client is on this machine.
func near(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	return net.ParseIP(host).IsLoopback()
}

func stub(w http.ResponseWriter, s Sources) {
	c, requests := s.Connections(), int64(0)
	if s.Requests != nil {
		requests = s.Requests()
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprintf(w, "Active connections: %d \nserver accepts handled requests\n %d %d %d \nReading: %d Writing: %d Waiting: %d \n",
		c.Active, c.Accepted, c.Handled, requests, c.Reading, c.Writing, c.Waiting)
}

// gather returns every metric that has series, by name.
func (m *Metrics) gather(s *Sources, now time.Time) (all []*dto.MetricFamily) {
	for _, f := range m.families {
		if one := f.gather(*m.settings.Prefix, now); one != nil {
			all = append(all, one)
		}
	}
	all = append(all, m.told(s)...)
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

// told are the metrics that no request adds to.
func (m *Metrics) told(s *Sources) (all []*dto.MetricFamily) {
	gauge := func(name, help string) *dto.MetricFamily {
		all = append(all, metric(*m.settings.Prefix+name, help, dto.MetricType_GAUGE))
		return all[len(all)-1]
	}
	if s.Connections != nil {
		f, n := gauge("nginx_http_current_connections", "Connections of clients."), s.Connections()
		set(f, n.Active, "state", "active")
		set(f, n.Accepted, "state", "accepted")
		set(f, n.Handled, "state", "handled")
		set(f, n.Reading, "state", "reading")
		set(f, n.Writing, "state", "writing")
		set(f, n.Waiting, "state", "waiting")
	}
	if s.Requests != nil {
		set(gauge("http_requests_total", "Requests since the start."), s.Requests())
	}
	if s.Reachable != nil {
		set(gauge("etcd_reachable", "Whether etcd is in reach: 1, or 0."), bit(s.Reachable()))
	}
	if s.Revisions != nil {
		f, n := gauge("etcd_modify_indexes", "Revisions of etcd at which things changed last."), s.Revisions()
		for _, key := range slices.Sorted(maps.Keys(n)) {
			set(f, n[key], "key", key)
		}
	}
	if s.Held != nil {
		set(gauge("store_reset", "Whether etcd lost most of what is in force, and that is kept: 1, or 0."), bit(s.Held()))
	}
	if s.Unsaved != nil {
		f := metric(*m.settings.Prefix+"snapshot_errors_total", "Snapshots of the configuration that could not be written.", dto.MetricType_COUNTER)
		f.Metric = []*dto.Metric{{Counter: &dto.Counter{Value: ptr(float64(s.Unsaved()))}}}
		all = append(all, f)
	}
	set(gauge("node_info", "This node."), 1, "hostname", s.Hostname, "version", s.Version)
	if s.Upstreams != nil {
		upstreams(gauge("upstream_status", "What health checks say of a server: 1 healthy, 0 not."), s, m.settings.MaxSeries)
	}
	lost := metric(*m.settings.Prefix+"nginx_metric_errors_total", "Requests that found no room for series of their own.", dto.MetricType_COUNTER)
	lost.Metric = []*dto.Metric{{Counter: &dto.Counter{Value: ptr(float64(m.lost.Load()))}}}
	// The text format has no metric without series.
	return append(slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 }), lost)
}

// upstreams adds a series for each server, the latest known first, up to limit of them.
func upstreams(f *dto.MetricFamily, s *Sources, limit int) {
	seen := map[[3]string]bool{} // no series may come twice
	s.Upstreams(func(name, ip, port string, healthy bool) {
		if k := [3]string{name, ip, port}; !seen[k] && len(seen) < limit {
			seen[k] = true
			set(f, bit(healthy), "name", name, "ip", ip, "port", port)
		}
	})
}

// set adds a gauge's series; pairs are names and values of labels.
func set(f *dto.MetricFamily, value int64, pairs ...string) {
	one := &dto.Metric{Gauge: &dto.Gauge{Value: ptr(float64(value))}}
	for i := 0; i < len(pairs); i += 2 {
		one.Label = append(one.Label, &dto.LabelPair{Name: &pairs[i], Value: &pairs[i+1]})
	}
	f.Metric = append(f.Metric, one)
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Package prometheus is the plugin prometheus and what it counts into: the metrics of a
// process, and their exposition. Requests add to series that were looked up before, without
// a lock and without allocating. What else there is to tell of a process, such as its
// connections, it is told by functions; it knows neither engines nor stores.
package prometheus

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	dto "github.com/prometheus/client_model/go"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
)

//go:embed schema.json
var schema []byte

// The metrics to which requests add.
const (
	httpStatus = iota
	httpLatency
	bandwidth
	llmLatency
	promptTokens
	completionTokens
	promptDist
	completionDist
	activeConnections
	families
)

const micros = 1000 // in a millisecond: latencies are counted in µs

// metricInfos is spec/08 §3 as far as requests add to it, in its order of labels.
var metricInfos = [families]info{
	httpStatus: {
		"http_status", "Answers by their status.", dto.MetricType_COUNTER,
		[]label{code, route, uri, host, service, consumer, node, requestType, requestModel, model, source},
		1,
	},
	httpLatency: {
		"http_latency", "Duration of requests in milliseconds: whole, waiting for upstreams, and the rest.", dto.MetricType_HISTOGRAM,
		[]label{kind, route, service, consumer, node, requestType, requestModel, model},
		micros,
	},
	bandwidth: {
		"bandwidth", "Bytes of requests and of answers.", dto.MetricType_COUNTER,
		[]label{kind, route, service, consumer, node, requestType, requestModel, model},
		1,
	},
	llmLatency: {
		"llm_latency", "Duration of calls of language models in milliseconds: whole, and to the first token of a stream.", dto.MetricType_HISTOGRAM,
		[]label{kind, routeID, serviceID, consumer, node, requestType, requestModel, model},
		micros,
	},
	promptTokens: {
		"llm_prompt_tokens", "Tokens of prompts.", dto.MetricType_COUNTER,
		[]label{routeID, serviceID, consumer, node, requestType, requestModel, model},
		1,
	},
	completionTokens: {
		"llm_completion_tokens", "Tokens of completions.", dto.MetricType_COUNTER,
		[]label{routeID, serviceID, consumer, node, requestType, requestModel, model},
		1,
	},
	promptDist: {
		"llm_prompt_tokens_dist", "Tokens of a request's prompt.", dto.MetricType_HISTOGRAM,
		[]label{routeID, serviceID, consumer, node, requestType, requestModel, model},
		1,
	},
	completionDist: {
		"llm_completion_tokens_dist", "Tokens of a request's completion.", dto.MetricType_HISTOGRAM,
		[]label{routeID, serviceID, consumer, node, requestType, requestModel, model},
		1,
	},
	activeConnections: {
		"llm_active_connections", "Requests to language models that are under way.", dto.MetricType_GAUGE,
		[]label{routeName, routeID, uri, host, serviceName, serviceID, consumer, node, requestType, requestModel, model},
		1,
	},
}

// absent are metrics of plugins that are not built, whose labels may be named all the same.
var absent = map[string][]label{
	"ai_cache_hits_total":        {kind, routeName, routeID, serviceName, serviceID, consumer, node, requestType, requestModel, model},
	"ai_cache_misses_total":      {routeName, routeID, serviceName, serviceID, consumer, node, requestType, requestModel, model},
	"ai_cache_bypasses_total":    {routeName, routeID, serviceName, serviceID, consumer, node, requestType, requestModel, model},
	"ai_cache_embedding_latency": {routeName, routeID, serviceName, serviceID, consumer, node, requestType, requestModel, model},
}

// Metrics are the metrics of a process. They are safe for concurrent use.
type Metrics struct {
	settings  settings
	families  [families]*family
	variables variables
	lost      atomic.Int64

	mu    sync.Mutex
	views []*view // the latest first
}

// manyViews is how many views are kept: the Admin API judges without any metadata what nodes
// compile with it.
const manyViews = 4

// New returns the metrics that plugin_attr.prometheus asks for; nil: the defaults. An error
// begins with the setting's name.
func New(attr json.RawMessage) (*Metrics, error) {
	s, err := read(attr)
	if err != nil {
		return nil, err
	}
	m := &Metrics{settings: s}
	bounds := [families][]float64{
		httpLatency: s.Latency, llmLatency: s.LLMLatency, promptDist: s.Prompt, completionDist: s.Completion,
	}
	for i := range m.families {
		f := &family{info: metricInfos[i], cells: map[string]*cell{}, limit: s.MaxSeries, lost: &m.lost}
		own := s.Metrics[f.name]
		for _, l := range f.labels {
			f.names = append(f.names, labelNames[l])
		}
		more, which, err := m.variables.extra(own, f.names)
		if err == nil {
			f.expire, err = lifetime(own.Expire)
		}
		if err != nil {
			return nil, fmt.Errorf("metrics.%s.%w", f.name, err)
		}
		f.names, f.extra = append(f.names, more...), which
		if bounds[i] != nil {
			f.bounds = scaled(bounds[i], f.scale)
			f.starts = startsOf(f.bounds)
		}
		m.families[i] = f
	}
	return m, nil
}

// Definition is the plugin that counts into m.
func Definition(m *Metrics) plugin.Definition {
	return plugin.Definition{
		Name: "prometheus", Version: "0.2", Priority: 500, PreferRoute: true,
		Schema: schema, MetadataSchema: metadataSchema(),
		New: func(b *plugin.Build) (plugin.Phases, error) {
			var c struct {
				PreferName bool `json:"prefer_name"`
			}
			if err := plugin.Decode(b.Conf, &c); err != nil {
				return plugin.Phases{}, err
			}
			v, err := m.view(b.Metadata)
			if err != nil {
				return plugin.Phases{}, err
			}
			r := &recorder{m: m, view: v, preferName: c.PreferName}
			r.moved = r.moves
			begins := func(x *plugin.Context) error { r.begins(x); return nil }
			return plugin.Phases{Access: begins, BeforeProxy: begins, Log: r.log}, nil
		},
	}
}

// metadataSchema lets every label be switched off that does not make a metric what it is.
func metadataSchema() []byte {
	type list struct {
		Type  string `json:"type"`
		Items struct {
			Type string   `json:"type"`
			Enum []string `json:"enum"`
		} `json:"items"`
	}
	properties := map[string]list{}
	add := func(name string, labels []label) {
		l := list{Type: "array"}
		l.Items.Type = "string"
		for _, one := range labels {
			if one != code && one != kind {
				l.Items.Enum = append(l.Items.Enum, labelNames[one])
			}
		}
		properties[name] = l
	}
	for _, f := range metricInfos {
		add(f.name, f.labels)
	}
	for name, labels := range absent {
		add(name, labels)
	}
	inner, err := json.Marshal(properties)
	if err != nil {
		panic(err) // strings and maps of ours
	}
	return fmt.Appendf(nil, `{"type":"object","properties":{"disabled_labels":{"type":"object","properties":%s,"additionalProperties":false}}}`, inner)
}

// view is what one version of the plugin's metadata shows of the metrics, and the series that
// requests have asked for under it.
type view struct {
	metadata string
	off      [families][labels]bool
	unused   [labels]bool // off in every metric, so that requests need not be told apart by it
	known    table[key, *series]
	recent   [256]atomic.Pointer[series] // some of known, see spot
}

// spot is where among the recent series those stand that a request is one of. What configuration
// names is the same text in memory from one request to the next, so that where it lies tells it
// from others.
func spot(f *exchange.Facts) int {
	lies := func(s string) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.StringData(s)))) }
	h := lies(f.RouteID) ^ bits.RotateLeft64(lies(f.ConsumerName), 11) ^ bits.RotateLeft64(lies(f.BalancerIP), 23)
	if m := f.LLM.RequestModel; m != "" {
		h ^= uint64(len(m))<<8 ^ uint64(m[0])<<16 ^ uint64(m[len(m)-1])<<24 ^ uint64(m[len(m)/2])<<32
	}
	return int(h * 0x9e3779b97f4a7c15 >> 56)
}

// view returns the view of that metadata: the one in use if it is the same.
func (m *Metrics) view(metadata json.RawMessage) (*view, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.views {
		if v.metadata == string(metadata) {
			return v, nil
		}
	}
	v := &view{metadata: string(metadata)}
	var c struct {
		Disabled map[string][]string `json:"disabled_labels"`
	}
	if metadata != nil {
		if err := plugin.Decode(metadata, &c); err != nil {
			return nil, err
		}
	}
	var used [labels]bool
	for i := range metricInfos {
		for _, l := range metricInfos[i].labels {
			off := contains(c.Disabled[metricInfos[i].name], labelNames[l])
			v.off[i][l], used[l] = off, used[l] || !off
		}
	}
	for l := range used {
		v.unused[l] = !used[l]
	}
	m.views = append([]*view{v}, m.views[:min(len(m.views), manyViews-1)]...)
	return v, nil
}

// key is everything that requests are told apart by, but for how they end. Its texts are the
// exchange's own until it is kept.
type key struct {
	values [told]string
	extra  string // values of variables, joined
}

// series are those of requests that are told apart by nothing but how they end.
type series struct {
	key    key
	active atomic.Pointer[cell]      // of llm_active_connections; nil: nobody asked for it
	ended  atomic.Pointer[[]*bundle] // by how they ended; nil: nobody did
	mu     sync.Mutex                // is held to change ended
}

// fits reports whether a request that was one of s still is, but for what variables say.
func (s *series) fits(f *exchange.Facts) bool {
	v := &s.key.values
	return v[node] == f.BalancerIP && v[model] == f.LLM.Model && v[requestModel] == f.LLM.RequestModel &&
		v[consumer] == f.ConsumerName && v[requestType] == f.RequestType
}

// bundle returns the series of those that end so; nil: there are none, or they have expired.
func (s *series) bundle(code int, origin exchange.Origin) *bundle {
	if list := s.ended.Load(); list != nil {
		for _, b := range *list {
			if b.code == code && b.origin == origin {
				if b.gone() {
					return nil
				}
				return b
			}
		}
	}
	return nil
}

// keep makes b what bundle returns, for all who end as its requests do.
func (s *series) keep(b *bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []*bundle{b}
	if before := s.ended.Load(); before != nil {
		for _, other := range *before {
			if other.code != b.code || other.origin != b.origin {
				list = append(list, other)
			}
		}
	}
	s.ended.Store(&list)
}

// bundle are the series that a finished request adds to.
type bundle struct {
	code     int
	origin   exchange.Origin
	status   *cell
	latency  [3]*cell // request, upstream, apisix
	traffic  [2]*cell // ingress, egress
	llm      bool
	model    [2]*cell // total, ttft
	tokens   [2]*cell
	dist     [2]*cell
	expiring bool
}

// gone reports whether one of the series has expired.
func (b *bundle) gone() bool {
	if !b.expiring {
		return false
	}
	for _, c := range [...]*cell{
		b.status, b.latency[0], b.latency[1], b.latency[2], b.traffic[0], b.traffic[1],
		b.model[0], b.model[1], b.tokens[0], b.tokens[1], b.dist[0], b.dist[1],
	} {
		if c != nil && c.gone.Load() {
			return true
		}
	}
	return false
}

// recorder is a compiled configuration.
type recorder struct {
	m          *Metrics
	view       *view
	preferName bool
	moved      func(*plugin.Context) // moves, for plugin.InstanceTaken
}

var (
	// seriesKey is what a request was one of when it was last looked at, activeKey what of that
	// counts it as one that is under way.
	seriesKey = plugin.NewKey[*series]("prometheus.series")
	activeKey = plugin.NewKey[*cell]("prometheus.active")
)

// begins counts a request for which an AI instance was chosen as one that is under way. As
// a plugin of the route it runs behind the choice, in the access phase; as one of a global
// rule before it, so that it looks again in before_proxy.
func (r *recorder) begins(x *plugin.Context) {
	f := &x.Facts
	if !llm(f) || f.BalancerIP == "" || activeKey.Get(x) != nil {
		return
	}
	r.active(x).add(1)
	plugin.InstanceTaken.Set(x, r.moved)
}

// moves counts a request that is under way under the instance which it is at now.
func (r *recorder) moves(x *plugin.Context) {
	before := activeKey.Get(x)
	if before == nil {
		return
	}
	if c := r.active(x); c != before {
		c.add(1)
		before.add(-1)
	}
}

// active notes which series of llm_active_connections a request is one of as it stands.
func (r *recorder) active(x *plugin.Context) *cell {
	s := r.series(x)
	c := s.active.Load()
	if c == nil || c.gone.Load() {
		c = r.m.cell(activeConnections, r.view, &s.key, "", nil)
		s.active.Store(c)
	}
	seriesKey.Set(x, s)
	activeKey.Set(x, c)
	return c
}

// series returns what a request is one of as it stands.
func (r *recorder) series(x *plugin.Context) *series {
	f, plain := &x.Facts, len(r.m.variables.getters) == 0
	recent := &r.view.recent[spot(f)]
	if s := recent.Load(); plain && s != nil && r.of(s, f) {
		return s
	}
	s := r.lookUp(x)
	if plain {
		recent.Store(s)
	}
	return s
}

// of reports whether a request is one of s, but for what variables say. Where labels are left
// out or cut it may say that it is not.
func (r *recorder) of(s *series, f *exchange.Facts) bool {
	v := &s.key.values
	name, serviceShown := r.shownNames(f)
	return s.fits(f) && v[routeID] == f.RouteID && v[serviceID] == f.ServiceID && v[uri] == f.MatchedURI && v[host] == f.MatchedHost &&
		v[route] == name && v[service] == serviceShown && v[routeName] == f.RouteName && v[serviceName] == f.ServiceName
}

func (r *recorder) lookUp(x *plugin.Context) *series {
	var k key
	r.fill(&k, x)
	s, ok := r.view.known.get(&k)
	if !ok {
		r.keep(&k, r.view.known.size.Load())
		if s, ok = r.view.known.get(&k); !ok {
			s = &series{key: k}
			r.view.known.put(k, s)
		}
	}
	return s
}

func llm(f *exchange.Facts) bool { return f.RequestType == "ai_chat" || f.RequestType == "ai_stream" }

// shown is a label's value, nothing where no metric has it.
func (r *recorder) shown(l label, value string) string {
	if r.view.unused[l] {
		return ""
	}
	return cut(value)
}

// shownNames are the values of the labels route and service.
func (r *recorder) shownNames(f *exchange.Facts) (route, service string) {
	route, service = f.RouteID, f.ServiceID
	if r.preferName && f.RouteName != "" {
		route = f.RouteName
	}
	if r.preferName && f.ServiceName != "" {
		service = f.ServiceName
	}
	return route, service
}

// fill fills in what a request is told apart by.
func (r *recorder) fill(k *key, x *plugin.Context) {
	f, v := &x.Facts, &k.values
	name, serviceShown := r.shownNames(f)
	v[route], v[service] = r.shown(route, name), r.shown(service, serviceShown)
	v[routeID], v[serviceID] = r.shown(routeID, f.RouteID), r.shown(serviceID, f.ServiceID)
	v[routeName], v[serviceName] = r.shown(routeName, f.RouteName), r.shown(serviceName, f.ServiceName)
	v[uri], v[host] = r.shown(uri, f.MatchedURI), r.shown(host, f.MatchedHost)
	v[consumer], v[node] = r.shown(consumer, f.ConsumerName), r.shown(node, f.BalancerIP)
	v[requestType] = f.RequestType // it decides which series there are
	v[requestModel], v[model] = r.shown(requestModel, f.LLM.RequestModel), r.shown(model, f.LLM.Model)
	if len(r.m.variables.getters) > 0 {
		k.extra = r.m.variables.values(x.Exchange)
	}
}

// values are the variables' values, joined.
func (v *variables) values(x *exchange.Exchange) string {
	var b strings.Builder
	for i, get := range v.getters {
		if i > 0 {
			b.WriteByte(0xff)
		}
		if get != nil {
			b.WriteString(clean(get(x).String()))
		}
	}
	return b.String()
}

// keep makes a key one that may stay: with texts of its own, and one for all that find no room.
func (r *recorder) keep(k *key, size int64) {
	full := size >= int64(r.m.settings.MaxSeries)
	for l := range k.values {
		switch {
		case full && !bounded(label(l)) && k.values[l] != "":
			k.values[l] = overflow
		default:
			k.values[l] = clean(k.values[l])
		}
	}
	if full && k.extra != "" {
		k.extra = strings.Repeat(overflow+"\xff", len(r.m.variables.getters)-1) + overflow
	}
	if full {
		r.m.lost.Add(1)
	}
}

// cell returns a metric's series for a key. b says how the requests ended; nil: they have not.
func (m *Metrics) cell(which int, v *view, k *key, kindValue string, b *bundle) *cell {
	f := m.families[which]
	values := make([]string, 0, len(f.names))
	for _, l := range f.labels {
		switch {
		case l == kind:
			values = append(values, kindValue)
		case l == code:
			values = append(values, codeText(b.code))
		case v.off[which][l]:
			values = append(values, "")
		case l == source:
			values = append(values, sources[b.origin])
		default:
			values = append(values, k.values[l])
		}
	}
	if len(f.extra) > 0 {
		all := strings.Split(k.extra, "\xff")
		for _, i := range f.extra {
			values = append(values, all[i])
		}
	}
	return f.cell(values)
}

var sources = [...]string{exchange.FromGateway: "apisix", exchange.FromProxy: "nginx", exchange.FromUpstream: "upstream"}

// log counts a finished request (spec/08 §3).
func (r *recorder) log(x *plugin.Context) {
	f := &x.Facts
	if c := activeKey.Get(x); c != nil {
		c.add(-1)
		activeKey.Set(x, nil)
	}
	s := seriesKey.Get(x)
	if s == nil || !s.fits(f) || len(r.m.variables.getters) > 0 { // what variables say changes on the way
		s = r.series(x)
	}
	b := s.bundle(x.Response.Status, x.Response.Origin)
	if b == nil {
		b = r.bundle(&s.key, llm(f), x.Response.Status, x.Response.Origin)
		s.keep(b)
	}
	b.add(x)
}

// bundle makes the series of requests that end so.
func (r *recorder) bundle(k *key, llm bool, code int, origin exchange.Origin) *bundle {
	b := &bundle{code: code, origin: origin, llm: llm}
	of := func(which int, kindValue string) *cell { return r.m.cell(which, r.view, k, kindValue, b) }
	b.status = of(httpStatus, "")
	b.latency = [3]*cell{of(httpLatency, "request"), nil, of(httpLatency, "apisix")}
	b.traffic = [2]*cell{of(bandwidth, "ingress"), of(bandwidth, "egress")}
	// A request that reached no upstream has no such series.
	if k.values[node] != "" || r.view.unused[node] {
		b.latency[1] = of(httpLatency, "upstream")
	}
	if llm {
		b.model[0] = of(llmLatency, "total")
		if k.values[requestType] == "ai_stream" {
			b.model[1] = of(llmLatency, "ttft")
		}
		b.tokens = [2]*cell{of(promptTokens, ""), of(completionTokens, "")}
		b.dist = [2]*cell{of(promptDist, ""), of(completionDist, "")}
	}
	for _, f := range r.m.families {
		b.expiring = b.expiring || f.expire > 0
	}
	return b
}

// add adds one request.
func (b *bundle) add(x *plugin.Context) {
	f := &x.Facts
	var waited time.Duration
	for i := range f.Attempts {
		waited += f.Attempts[i].Response
	}
	took := x.Took()
	b.status.add(1)
	b.latency[0].observe(took.Microseconds())
	if len(f.Attempts) > 0 && b.latency[1] != nil {
		b.latency[1].observe(waited.Microseconds())
	}
	b.latency[2].observe((took - waited).Microseconds())
	b.traffic[0].add(x.Request.HeadBytes + max(x.Request.Body.Length(), 0))
	b.traffic[1].add(x.Response.Sent)
	if !b.llm {
		return
	}
	if n := len(f.Attempts); n > 0 && f.LLM.FirstToken.Milliseconds() > 0 && x.Response.Status < 400 {
		b.model[0].observe(f.Attempts[n-1].Response.Microseconds())
		if b.model[1] != nil {
			b.model[1].observe(f.LLM.FirstToken.Microseconds())
		}
	}
	b.tokens[0].add(f.LLM.PromptTokens)
	b.tokens[1].add(f.LLM.CompletionTokens)
	b.dist[0].observe(f.LLM.PromptTokens)
	b.dist[1].observe(f.LLM.CompletionTokens)
}

package prometheus

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/exchange/exchangetest"
	"github.com/gosix/gosix/pkg/plugin"
)

// rig is a process's metrics and a plugin that counts into them.
type rig struct {
	t       testing.TB
	metrics *Metrics
	chain   *plugin.Chain
}

func newRig(t testing.TB, attr, conf, metadata string) *rig {
	t.Helper()
	r := &rig{t: t}
	var raw, meta json.RawMessage
	if attr != "" {
		raw = json.RawMessage(attr)
	}
	if metadata != "" {
		meta = json.RawMessage(metadata)
	}
	var err error
	if r.metrics, err = New(raw); err != nil {
		t.Fatal(err)
	}
	r.chain = r.compile(conf, meta)
	return r
}

func (r *rig) compile(conf string, metadata json.RawMessage) *plugin.Chain {
	r.t.Helper()
	registry := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(r.metrics))
	if metadata != nil {
		if err := registry.CheckMetadata("prometheus", metadata); err != nil {
			r.t.Fatal(err)
		}
	}
	p, err := registry.Compile(plugin.Source{Name: "prometheus", Conf: json.RawMessage(conf)}, plugin.Labels{}, metadata, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return plugin.NewChain([]*plugin.Compiled{p})
}

func (r *rig) context(change func(*exchange.Exchange)) *plugin.Context {
	x, _ := exchangetest.New()
	x.Response.Status, x.Response.Origin, x.Response.Sent = 200, exchange.FromUpstream, 30
	x.Request.HeadBytes = 100
	x.Facts.RouteID, x.Facts.RouteName, x.Facts.ServiceID, x.Facts.ServiceName = "1", "first", "s1", "orders"
	x.Facts.MatchedURI, x.Facts.MatchedHost, x.Facts.ConsumerName, x.Facts.BalancerIP = "/a/*", "*.test", "ann", "10.0.0.1"
	x.Facts.Attempts = []exchange.Attempt{{Addr: "10.0.0.1:80", Status: 200, Response: 3 * time.Millisecond}}
	if change != nil {
		change(x)
	}
	c := &plugin.Context{}
	c.Begin(x, nil, nil, zerolog.Nop())
	c.SetRoute(r.chain, plugin.Labels{})
	return c
}

func (r *rig) count(change func(*exchange.Exchange)) {
	c := r.context(change)
	c.Chain().Run(c, plugin.Access)
	c.RunLog()
}

// toModel makes a request one to a language model.
func toModel(x *exchange.Exchange) {
	x.Facts.RequestType, x.Facts.BalancerIP = "ai_stream", "gpt"
	x.Facts.LLM = exchange.LLM{RequestModel: "asked", Model: "used", PromptTokens: 8, CompletionTokens: 60, FirstToken: 2 * time.Millisecond}
}

func (r *rig) scrape(s Sources) string {
	r.t.Helper()
	return get(r.t, r.metrics.Handler(s), http.MethodGet, r.metrics.Path(), http.StatusOK)
}

func get(t testing.TB, h http.Handler, method, path string, status int) string {
	t.Helper()
	w := httptest.NewRecorder()
	q := httptest.NewRequest(method, path, nil)
	q.RemoteAddr = "127.0.0.1:4000"
	h.ServeHTTP(w, q)
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != status {
		t.Fatalf("%s %s: %d %v\n%s", method, path, w.Code, err, body)
	}
	return string(body)
}

func (r *rig) want(text string, lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			r.t.Errorf("there is no line %s\nin\n%s", line, text)
		}
	}
}

const plain = `route="1",service="s1",consumer="ann",node="10.0.0.1",request_type="traditional_http",request_llm_model="",llm_model=""`

func TestARequestIsCounted(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	r.count(nil)
	r.count(func(x *exchange.Exchange) { x.Response.Status = 503; x.Response.Origin = exchange.FromProxy })
	r.count(func(x *exchange.Exchange) {
		x.Response.Status, x.Response.Origin, x.Facts = 404, exchange.FromGateway, exchange.Facts{RequestType: "traditional_http"}
	})
	text := r.scrape(Sources{})
	r.want(text,
		`# TYPE apisix_http_status counter`,
		`apisix_http_status{code="200",route="1",matched_uri="/a/*",matched_host="*.test",service="s1",consumer="ann",node="10.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="",response_source="upstream"} 1`,
		`apisix_http_status{code="503",route="1",matched_uri="/a/*",matched_host="*.test",service="s1",consumer="ann",node="10.0.0.1",request_type="traditional_http",request_llm_model="",llm_model="",response_source="nginx"} 1`,
		`apisix_http_status{code="404",route="",matched_uri="",matched_host="",service="",consumer="",node="",request_type="traditional_http",request_llm_model="",llm_model="",response_source="apisix"} 1`,
		`# TYPE apisix_http_latency histogram`,
		`apisix_http_latency_bucket{type="upstream",`+plain+`,le="2"} 0`,
		`apisix_http_latency_bucket{type="upstream",`+plain+`,le="5"} 2`,
		`apisix_http_latency_bucket{type="upstream",`+plain+`,le="+Inf"} 2`,
		`apisix_http_latency_sum{type="upstream",`+plain+`} 6`,
		`apisix_http_latency_count{type="request",`+plain+`} 2`,
		`apisix_http_latency_count{type="apisix",`+plain+`} 2`,
		`apisix_bandwidth{type="ingress",`+plain+`} 200`,
		`apisix_bandwidth{type="egress",`+plain+`} 60`,
	)
	for _, absent := range []string{"llm_", `type="upstream",route=""`} {
		if strings.Contains(text, absent+`latency`) || strings.Contains(text, absent) && absent != "llm_" {
			t.Errorf("%s is there: %s", absent, text)
		}
	}
}

// The clocks of a request and of its attempts are not read at once.
func TestTheGatewaysOwnTimeIsNeverNegative(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	r.count(func(x *exchange.Exchange) { x.Facts.Attempts[0].Response = time.Hour })
	r.want(r.scrape(Sources{}), `apisix_http_latency_sum{type="apisix",`+plain+`} 0`)
}

func TestARequestToAModelIsCounted(t *testing.T) {
	r := newRig(t, "", `{"prefer_name":true}`, "")
	r.count(toModel)
	r.count(func(x *exchange.Exchange) { toModel(x); x.Response.Status = 429 })
	r.count(func(x *exchange.Exchange) { toModel(x); x.Facts.RequestType = "ai_chat" })
	text := r.scrape(Sources{})
	const labels = `route_id="1",service_id="s1",consumer="ann",node="gpt",request_type="ai_stream",request_llm_model="asked",llm_model="used"`
	chat := strings.Replace(labels, "ai_stream", "ai_chat", 1)
	r.want(text,
		`apisix_llm_latency_count{type="total",`+labels+`} 1`,
		`apisix_llm_latency_sum{type="ttft",`+labels+`} 2`,
		`apisix_llm_latency_sum{type="total",`+chat+`} 3`,
		`apisix_llm_prompt_tokens{`+labels+`} 16`,
		`apisix_llm_completion_tokens{`+labels+`} 120`,
		`apisix_llm_prompt_tokens_dist_bucket{`+labels+`,le="1"} 0`,
		`apisix_llm_prompt_tokens_dist_bucket{`+labels+`,le="10"} 2`,
		`apisix_llm_completion_tokens_dist_sum{`+labels+`} 120`,
		`apisix_bandwidth{type="egress",`+strings.NewReplacer(`route_id="1"`, `route="first"`, `service_id="s1"`, `service="orders"`).Replace(labels)+`} 60`,
		`apisix_llm_active_connections{route="first",route_id="1",matched_uri="/a/*",matched_host="*.test",service="orders",service_id="s1",consumer="ann",node="gpt",request_type="ai_stream",request_llm_model="asked",llm_model="used"} 0`,
	)
	if strings.Contains(text, `type="ttft",`+chat) {
		t.Errorf("an answer that is no stream has a time to its first token: %s", text)
	}
}

func TestWhatIsUnderWay(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	active := regexp.MustCompile(`apisix_llm_active_connections\{[^}]*\} (\d+)`)
	now := func() string {
		if m := active.FindStringSubmatch(r.scrape(Sources{})); m != nil {
			return m[1]
		}
		return "none"
	}
	a, b, web := r.context(toModel), r.context(toModel), r.context(nil)
	for _, c := range []*plugin.Context{a, web} {
		c.Chain().Run(c, plugin.Access)
		c.Chain().Run(c, plugin.BeforeProxy)
		c.Chain().Run(c, plugin.BeforeProxy) // of another try
	}
	if got := now(); got != "1" {
		t.Errorf("with one under way: %s", got)
	}
	b.Chain().Run(b, plugin.BeforeProxy) // as in a global rule, which had nothing to see in access
	if got := now(); got != "2" {
		t.Errorf("with two under way: %s", got)
	}
	for _, c := range []*plugin.Context{a, b, web} {
		c.RunLog()
	}
	if got := now(); got != "0" {
		t.Errorf("with none under way: %s", got)
	}
}

func TestLabelsThatAreSwitchedOff(t *testing.T) {
	everywhere := `"http_status":["request_llm_model","node"],"http_latency":["request_llm_model"],"bandwidth":["request_llm_model"],"llm_latency":["request_llm_model"],` +
		`"llm_prompt_tokens":["request_llm_model"],"llm_completion_tokens":["request_llm_model"],"llm_active_connections":["request_llm_model","route"],` +
		`"llm_prompt_tokens_dist":["request_llm_model"],"llm_completion_tokens_dist":["request_llm_model"]`
	r := newRig(t, `{"max_series":3}`, `{}`, `{"disabled_labels":{`+everywhere+`}}`)
	for i := range 50 {
		r.count(func(x *exchange.Exchange) { toModel(x); x.Facts.LLM.RequestModel = "m" + strconv.Itoa(i) })
	}
	text := r.scrape(Sources{})
	r.want(text,
		`apisix_http_status{code="200",route="1",matched_uri="/a/*",matched_host="*.test",service="s1",consumer="ann",node="",request_type="ai_stream",request_llm_model="",llm_model="used",response_source="upstream"} 50`,
		`apisix_llm_prompt_tokens{route_id="1",service_id="s1",consumer="ann",node="gpt",request_type="ai_stream",request_llm_model="",llm_model="used"} 400`,
		`apisix_nginx_metric_errors_total 0`,
	)
	if !strings.Contains(text, `apisix_llm_active_connections{route="",route_id="1"`) {
		t.Errorf("got %s", text)
	}
}

func TestMetadataThatIsRefused(t *testing.T) {
	m, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(m))
	for doc, ok := range map[string]bool{
		`{"disabled_labels":{"http_status":["node","matched_uri"]}}`:   true,
		`{"disabled_labels":{"ai_cache_hits_total":["node","route"]}}`: true,
		`{"disabled_labels":{"http_status":["code"]}}`:                 false,
		`{"disabled_labels":{"http_latency":["type"]}}`:                false,
		`{"disabled_labels":{"http_latency":["matched_uri"]}}`:         false,
		`{"disabled_labels":{"http_hats":[]}}`:                         false,
	} {
		if err := r.CheckMetadata("prometheus", []byte(doc)); (err == nil) != ok {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestSeriesOfServersAreBounded(t *testing.T) {
	r := newRig(t, `{"max_series":10}`, `{}`, "")
	text := r.scrape(Sources{Upstreams: func(f func(name, ip, port string, healthy bool)) {
		for i := range 100 {
			f("/apisix/upstreams/1", "10.0.0.1", strconv.Itoa(i), true)
		}
	}})
	if n := strings.Count(text, "\napisix_upstream_status{"); n != 10 {
		t.Errorf("got %d series, want 10", n)
	}
}

// A client that makes names up fills no memory: what finds no room is counted together.
func TestSeriesAreBounded(t *testing.T) {
	r := newRig(t, `{"max_series":10,"metrics":{"http_status":{"extra_labels":[{"who":"$arg_who"}]}}}`, `{}`, "")
	for i := range 500 {
		r.count(func(x *exchange.Exchange) {
			toModel(x)
			x.Facts.LLM.RequestModel = "m" + strconv.Itoa(i)
			x.Request.RawQuery = "who=w" + strconv.Itoa(i)
		})
	}
	text := r.scrape(Sources{})
	for _, name := range []string{"http_status", "bandwidth", "llm_prompt_tokens", "llm_active_connections"} {
		found := regexp.MustCompile(`(?m)^apisix_`+name+`\{.*\} (\d+)$`).FindAllStringSubmatch(text, -1)
		if len(found) > 12 || len(found) < 10 {
			t.Errorf("%s has %d series, want about 10", name, len(found))
		}
		total := 0
		for _, m := range found {
			n, _ := strconv.Atoi(m[1])
			total += n
		}
		if name == "http_status" && total != 500 {
			t.Errorf("%d requests were counted, want 500: %s", total, text)
		}
	}
	if !strings.Contains(text, `apisix_http_status{code="200",route="overflow",matched_uri="overflow",matched_host="overflow",service="overflow",consumer="overflow",node="overflow",request_type="ai_stream",request_llm_model="overflow",llm_model="overflow",response_source="upstream",who="overflow"} 4`) {
		t.Errorf("there is no series for the rest: %s", text)
	}
	if strings.Contains(text, "apisix_nginx_metric_errors_total 0") {
		t.Error("nothing says that there was no room")
	}
}

func TestValuesFromClientsAreCutAndValid(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	r.count(func(x *exchange.Exchange) {
		toModel(x)
		x.Facts.LLM.RequestModel = strings.Repeat("a", 127) + "é" + "tail"
	})
	r.count(func(x *exchange.Exchange) { toModel(x); x.Facts.LLM.Model = "b\xff\"\n" })
	text := r.scrape(Sources{})
	for _, want := range []string{`request_llm_model="` + strings.Repeat("a", 127) + `"`, `llm_model="b\"\n"`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

func TestFurtherLabelsPrefixAndBuckets(t *testing.T) {
	r := newRig(t, `{"metric_prefix":"x_","default_buckets":[0.5,4],"export_uri":"/m",
		"metrics":{"http_status":{"extra_labels":[{"dst":"$upstream_addr"},{"no":"$no_such"}]},"http_latency":{"extra_labels":[{"dst":"$upstream_addr"}]}}}`, `{}`, "")
	r.count(nil)
	text := r.scrape(Sources{Hostname: "h", Version: "v"})
	r.want(text,
		`x_node_info{hostname="h",version="v"} 1`,
		`x_http_latency_bucket{type="upstream",`+plain+`,dst="10.0.0.1:80",le="0.5"} 0`,
		`x_http_latency_bucket{type="upstream",`+plain+`,dst="10.0.0.1:80",le="4"} 1`,
	)
	if !strings.Contains(text, `response_source="upstream",dst="10.0.0.1:80",no=""} 1`) {
		t.Errorf("got %s", text)
	}
}

// What a variable says may change while a request is under way, and be nothing at first.
func TestFurtherLabelsAreThoseOfTheEnd(t *testing.T) {
	r := newRig(t, `{"metrics":{"http_status":{"extra_labels":[{"dst":"$upstream_addr"}]}}}`, `{}`, "")
	c := r.context(toModel)
	c.Facts.Attempts = nil
	c.Chain().Run(c, plugin.Access)
	c.Facts.Attempts = []exchange.Attempt{{Addr: "10.0.0.1:80", Status: 200, Response: time.Millisecond}}
	c.RunLog()
	if text := r.scrape(Sources{}); !strings.Contains(text, `response_source="upstream",dst="10.0.0.1:80"} 1`) {
		t.Errorf("got %s", text)
	}
}

func TestSeriesExpire(t *testing.T) {
	r := newRig(t, `{"metrics":{"http_status":{"expire":60}}}`, `{}`, "")
	status := r.metrics.families[httpStatus]
	r.count(nil)
	for _, c := range status.cells {
		c.used.Store(time.Now().Unix() - 50)
	}
	if text := r.scrape(Sources{}); !strings.Contains(text, `apisix_http_status{`) {
		t.Errorf("it went too early: %s", text)
	}
	for _, c := range status.cells {
		c.used.Store(time.Now().Unix() - 70)
	}
	if text := r.scrape(Sources{}); strings.Contains(text, `apisix_http_status{`) || !strings.Contains(text, `apisix_bandwidth{`) {
		t.Errorf("got %s", text)
	}
	r.count(nil)
	r.count(nil)
	text := r.scrape(Sources{})
	if !regexp.MustCompile(`(?m)^apisix_http_status\{.*\} 2$`).MatchString(text) || !regexp.MustCompile(`(?m)^apisix_bandwidth\{type="egress".*\} 90$`).MatchString(text) {
		t.Errorf("got %s", text)
	}
}

func TestSourcesAreAsked(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	s := Sources{
		Hostname: "h", Version: "1.2",
		Connections: func() Connections {
			return Connections{Accepted: 9, Handled: 8, Active: 7, Reading: 1, Writing: 2, Waiting: 4}
		},
		Requests:  func() int64 { return 12 },
		Reachable: func() bool { return true },
		Held:      func() bool { return true },
		Unsaved:   func() int64 { return 3 },
		Revisions: func() map[string]int64 { return map[string]int64{"routes": 5, "max_modify_index": 6} },
		Upstreams: func(f func(name, ip, port string, healthy bool)) {
			f("/apisix/upstreams/1", "10.0.0.1", "80", true)
			f("/apisix/upstreams/1", "10.0.0.2", "80", false)
			f("/apisix/upstreams/1", "10.0.0.2", "80", true) // of another checker: no scrape fails of it
		},
	}
	r.want(r.scrape(s),
		`apisix_nginx_http_current_connections{state="accepted"} 9`, `apisix_nginx_http_current_connections{state="waiting"} 4`,
		`apisix_http_requests_total 12`, `apisix_etcd_reachable 1`, `apisix_etcd_modify_indexes{key="routes"} 5`,
		`apisix_store_reset 1`, `apisix_snapshot_errors_total 3`,
		`apisix_node_info{hostname="h",version="1.2"} 1`, `apisix_nginx_metric_errors_total 0`,
		`apisix_upstream_status{name="/apisix/upstreams/1",ip="10.0.0.1",port="80"} 1`,
		`apisix_upstream_status{name="/apisix/upstreams/1",ip="10.0.0.2",port="80"} 0`,
	)
	h := r.metrics.Handler(s)
	want := "Active connections: 7 \nserver accepts handled requests\n 9 8 12 \nReading: 1 Writing: 2 Waiting: 4 \n"
	if got := get(t, h, http.MethodGet, "/apisix/nginx_status", 200); got != want {
		t.Errorf("got %q", got)
	}
	get(t, h, http.MethodPost, "/apisix/prometheus/metrics", 404)
	get(t, h, http.MethodGet, "/", 404)
}

func TestSettingsThatAreRefused(t *testing.T) {
	for attr, want := range map[string]string{
		`{"export_addr":{"port":70000}}`:                                     "export_addr.port: 70000 is not between 0 and 65535",
		`{"export_uri":"metrics"}`:                                           `export_uri: "metrics" does not begin with a slash`,
		`{"metric_prefix":"a-"}`:                                             `metric_prefix: "a-" cannot begin a metric's name`,
		`{"default_buckets":[1,1]}`:                                          "default_buckets: [1] is 1, want more than 1 and at most 1e+12",
		`{"llm_prompt_tokens_buckets":[0]}`:                                  "llm_prompt_tokens_buckets: [0] is 0, want more than 0 and at most 1e+12",
		`{"max_series":-1}`:                                                  "max_series: -1 is below 1",
		`{"metrics":{"bandwidth":{"expire":-1}}}`:                            "metrics.bandwidth.expire: -1 is below 0",
		`{"metrics":{"bandwidth":{"extra_labels":[{"type":"$a"}]}}}`:         "metrics.bandwidth.extra_labels[0]: type: is a label already",
		`{"metrics":{"bandwidth":{"extra_labels":[{"a":"$a"},{"a":"$b"}]}}}`: "metrics.bandwidth.extra_labels[1]: a: is a label already",
		`{"metrics":{"bandwidth":{"extra_labels":[{"a-b":"$a"}]}}}`:          "metrics.bandwidth.extra_labels[0]: a-b: cannot be a label's name",
		`{"metrics":{"bandwidth":{"extra_labels":[{"a":"b"}]}}}`:             `metrics.bandwidth.extra_labels[0]: a: "b" is no variable, such as $host`,
		`{"metrics":{"bandwidth":{"extra_labels":[{}]}}}`:                    "metrics.bandwidth.extra_labels[0]: has 0 members, want one: a name and a variable",
	} {
		if _, err := New(json.RawMessage(attr)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", attr, err, want)
		}
	}
	m, err := New(json.RawMessage(`{"enable_export_server":false,"export_addr":{"ip":"::1","port":1},"refresh_interval":0.1,"metrics":{"other":{"expire":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if addr, on := m.Address(); on || addr != "[::1]:1" {
		t.Errorf("got %s, %v", addr, on)
	}
	if m, err = New(nil); err != nil {
		t.Fatal(err)
	}
	if addr, on := m.Address(); !on || addr != "127.0.0.1:9091" || m.Path() != "/apisix/prometheus/metrics" {
		t.Errorf("got %s%s, %v", addr, m.Path(), on)
	}
}

// Many requests at once, scrapes between them, new series all the time: nothing is lost.
func TestCountingAtOnce(t *testing.T) {
	const workers, each = 8, 200
	r := newRig(t, "", `{}`, "")
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				r.count(func(x *exchange.Exchange) { x.Facts.RouteID = strconv.Itoa((w + i) % 50) })
				if i%50 == 0 {
					r.scrape(Sources{})
				}
			}
		})
	}
	all.Wait()
	total := 0
	for _, m := range regexp.MustCompile(`(?m)^apisix_http_status\{.*\} (\d+)$`).FindAllStringSubmatch(r.scrape(Sources{}), -1) {
		n, _ := strconv.Atoi(m[1])
		total += n
	}
	if total != workers*each {
		t.Errorf("counted %d, want %d", total, workers*each)
	}
}

func BenchmarkLog(b *testing.B) {
	for name, change := range map[string]func(*exchange.Exchange){"web": nil, "model": toModel} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, "", `{}`, "")
			for i := range 1000 { // of other routes
				r.count(func(x *exchange.Exchange) { x.Facts.RouteID = strconv.Itoa(i) })
			}
			r.count(change)
			r.count(change)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				c := r.context(change)
				for pb.Next() {
					c.Chain().Run(c, plugin.Access)
					c.RunLog()
				}
			})
		})
	}
}

// Requests that differ in one thing alone are counted apart, in whatever order they come.
func TestSeriesAreToldApartByEachLabel(t *testing.T) {
	r := newRig(t, "", `{}`, "")
	changes := []func(*exchange.Exchange){
		func(*exchange.Exchange) {},
		func(x *exchange.Exchange) { x.Facts.RouteID = "2" },
		func(x *exchange.Exchange) { x.Facts.ServiceID = "s2" },
		func(x *exchange.Exchange) { x.Facts.MatchedURI = "/b/*" },
		func(x *exchange.Exchange) { x.Facts.MatchedHost = "b.test" },
		func(x *exchange.Exchange) { x.Facts.ConsumerName = "bob" },
		func(x *exchange.Exchange) { x.Facts.BalancerIP = "other" },
		func(x *exchange.Exchange) { x.Facts.RequestType = "ai_chat" },
		func(x *exchange.Exchange) { x.Facts.LLM.RequestModel = "other" },
		func(x *exchange.Exchange) { x.Facts.LLM.Model = "other" },
	}
	const rounds = 3
	for range rounds {
		for _, change := range changes {
			r.count(func(x *exchange.Exchange) { toModel(x); change(x) })
		}
	}
	all := regexp.MustCompile(`(?m)^apisix_http_status\{.*\} (\d+)$`).FindAllStringSubmatch(r.scrape(Sources{}), -1)
	if len(all) != len(changes) {
		t.Errorf("got %d series, want %d", len(all), len(changes))
	}
	for _, m := range all {
		if m[1] != strconv.Itoa(rounds) {
			t.Errorf("got %s requests, want %d: %s", m[1], rounds, m[0])
		}
	}
}

func TestAValueIsInTheFirstBucketThatIsAsLarge(t *testing.T) {
	for _, bounds := range [][]int64{
		scaled(latencyBuckets, micros), scaled(tokenBuckets, 1), {1}, {0, 0, 1}, {5, 6, 7, 8, 9, 1 << 40}, {math.MaxInt64},
	} {
		values := []int64{0, 1, math.MaxInt64}
		for _, b := range bounds {
			values = append(values, max(b-1, 0), b, b/2, b/4*3)
		}
		for _, v := range values {
			c := &cell{bounds: bounds, starts: startsOf(bounds), buckets: make([]atomic.Int64, len(bounds)+1)}
			c.observe(v)
			if want, _ := slices.BinarySearch(bounds, v); c.buckets[want].Load() != 1 {
				t.Errorf("%d among %v: not in the bucket %d", v, bounds, want)
			}
		}
	}
}

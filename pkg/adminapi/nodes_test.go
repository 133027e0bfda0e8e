package adminapi

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/store"
)

// clusterWorld is an API with a registry of nodes.
func clusterWorld(t *testing.T) *world {
	t.Helper()
	var registry *cluster.Registry
	w := newWorld(t, func(o *Options) {
		st, _ := o.Store.(cluster.Store)
		registry = cluster.NewRegistry(st, o.Prefix)
		o.Cluster = registry
		o.Reload = func() (int64, error) {
			res, err := o.Store.Commit(t.Context(), nil, []store.Op{{Key: o.Prefix + "/plugins", Value: []byte("[]")}})
			return res.Revision, err
		}
	})
	running(t, registry.Run)
	return w
}

func running(t *testing.T, run func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { run(ctx) })
	stop = func() {
		cancel()
		group.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// gateway is a node that applies everything up to a revision at once, except what it refuses.
func (w *world) gateway(id string, most int64, refuses string) (stop func()) {
	w.t.Helper()
	t, _ := w.t.(*testing.T)
	var mu sync.Mutex
	now := cluster.State{Digest: "d"}
	state := func() cluster.State {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	p := cluster.NewPresence(cluster.PresenceOptions{
		Store: w.store, Prefix: "/apisix", Applied: func() int64 { return state().Applied }, State: state, Log: zerolog.Nop(),
	})
	stop1 := running(t, func(ctx context.Context) {
		for b := range w.store.Watch(ctx, "/apisix/") {
			mu.Lock()
			now.Applied = min(b.Revision, most)
			for _, e := range b.Events {
				if e.Item.Key == refuses {
					now.Rejections = cluster.Reject([]cluster.Rejected{{Key: e.Item.Key, Refused: e.Item.Revision}})
				}
			}
			mu.Unlock()
			p.Changed()
		}
	})
	stop2 := running(t, func(ctx context.Context) { p.Run(ctx, cluster.Node{ID: id, Addresses: []string{"127.0.0.1:1"}}) })
	timetest.Until(t, "the node is registered", func() bool { return w.call("GET", "/nodes/"+id, "").Code == 200 })
	return func() {
		stop2()
		stop1()
	}
}

const everything = int64(1) << 60

func TestWaitIsForAWord(t *testing.T) {
	w := clusterWorld(t)
	refused := `{"error_msg":"invalid argument timeout: should be a time such as 2s or 500ms, above 0 and at most 1m0s"}`
	for args, want := range map[string]string{
		"wait=":                           `{"error_msg":"invalid argument wait: should be applied"}`,
		"wait=stored":                     `{"error_msg":"invalid argument wait: should be applied"}`,
		"wait=applied&timeout=":           refused,
		"wait=applied&timeout=0":          refused,
		"wait=applied&timeout=0s":         refused,
		"wait=applied&timeout=-1s":        refused,
		"wait=applied&timeout=soon":       refused,
		"wait=applied&timeout=61s":        refused,
		"wait=applied&timeout=61":         refused,
		"wait=applied&timeout=NaN":        refused,
		"wait=applied&timeout=1e300":      refused,
		"wait=applied&timeout=Inf":        refused,
		"wait=applied&timeout=2s":         "",
		"wait=applied&timeout=60":         "",
		"wait=applied&timeout=1m":         "",
		"wait=applied&timeout=0.5":        "",
		"wait=applied":                    "",
		"timeout=soon":                    "", // nobody waits
		"wait=applied&force=true":         "",
		"wait=applied&ttl=60&timeout=1ms": "",
	} {
		for _, call := range [][3]string{{"PUT", "/routes/1", `{"uri":"/a","plugins":{}}`}, {"PATCH", "/routes/1", `{"uri":"/b","plugins":{}}`}, {"DELETE", "/routes/1", ""}, {"POST", "/routes", `{"uri":"/c","plugins":{}}`}, {"PUT", "/plugins/reload", ""}} {
			rec := w.call(call[0], call[1]+"?"+args, call[2])
			switch {
			case want != "" && (rec.Code != 400 || strings.TrimSpace(rec.Body.String()) != want):
				t.Errorf("%s ?%s: got %d %s", call[0], args, rec.Code, rec.Body)
			case want != "":
				continue
			case rec.Code >= 300 && !(call[0] == "DELETE" || call[0] == "PATCH"):
				t.Errorf("%s ?%s: got %d %s", call[0], args, rec.Code, rec.Body)
			}
			if _, err := strconv.ParseInt(rec.Header().Get("X-Gosix-Revision"), 10, 64); err != nil && rec.Code < 300 {
				t.Errorf("%s ?%s: got X-Gosix-Revision %q", call[0], args, rec.Header().Get("X-Gosix-Revision"))
			}
		}
	}
	w.expect(t, "GET", "/routes?wait=nonsense", "", 200, `"total"`)
	none := newWorld(t, nil)
	none.expect(t, "PUT", "/routes/1?wait=applied", `{"uri":"/a","plugins":{}}`, 400, "this process knows no nodes")
	none.expect(t, "GET", "/nodes", "", 404, "not found")
}

func applied(t *testing.T, rec *httptest.ResponseRecorder, status int, header string) string {
	t.Helper()
	if got := rec.Header().Get("X-Gosix-Applied"); rec.Code != status || got != header {
		t.Errorf("got %d, X-Gosix-Applied %q, want %d and %q: %s", rec.Code, got, status, header, rec.Body)
	}
	return rec.Body.String()
}

func TestAWriteWaitsForEveryNode(t *testing.T) {
	w := clusterWorld(t)
	applied(t, w.call("PUT", "/routes/0?wait=applied", `{"uri":"/0","plugins":{}}`), 201, "0/0")
	for _, id := range []string{"a", "b", "c"} {
		w.gateway(id, everything, "")
	}
	const args = "?wait=applied&timeout=30s"
	for _, call := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "/routes/1", `{"uri":"/a","plugins":{}}`, 201, `{"key":"/apisix/routes/1","value":{`},
		{"PUT", "/routes/1", `{"uri":"/a","plugins":{}}`, 200, `{"key":"/apisix/routes/1","value":{`},
		{"PATCH", "/routes/1", `{"uri":"/b","plugins":{}}`, 200, `"uri":"/b"`},
		{"PATCH", "/routes/1/uri", `"/c"`, 200, `"uri":"/c"`},
		{"POST", "/routes", `{"uri":"/d","plugins":{}}`, 201, `"uri":"/d"`},
		{"DELETE", "/routes/1", "", 200, `{"deleted":"1","key":"/apisix/routes/1"}`},
		{"PUT", "/plugins/reload", "", 200, "done"},
	} {
		body := applied(t, w.call(call.method, call.path+args, call.body), call.status, "3/3")
		if !strings.Contains(body, call.want) || strings.Contains(body, "nodes") {
			t.Errorf("%s %s: got %s", call.method, call.path, body)
		}
	}
	if rec := w.call("DELETE", "/routes/1"+args, ""); rec.Code != 404 || rec.Header().Get("X-Gosix-Applied") != "" {
		t.Errorf("nothing was deleted: got %d %q", rec.Code, rec.Header())
	}
}

func TestAWriteThatIsNotEverywhereSaysWhere(t *testing.T) {
	w := clusterWorld(t)
	w.gateway("a", everything, "")
	stop := w.gateway("b", 0, "")
	rec := w.call("PUT", "/routes/1?wait=applied&timeout=200ms", `{"uri":"/a","plugins":{}}`)
	for rec.Header().Get("X-Gosix-Applied") == "0/2" { // not even a, on a busy machine
		rec = w.call("PUT", "/routes/1?wait=applied&timeout=2s", `{"uri":"/a","plugins":{}}`)
	}
	body := applied(t, rec, 202, "1/2")
	var got struct {
		Key      string
		Value    map[string]any
		Message  string
		Revision int64
		Nodes    []struct {
			ID      string
			Applied int64
			InForce bool `json:"in_force"`
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if got.Key != "/apisix/routes/1" || got.Value["uri"] != "/a" || strconv.FormatInt(got.Revision, 10) != rec.Header().Get("X-Gosix-Revision") ||
		!strings.Contains(got.Message, "the write is done") || len(got.Nodes) != 2 ||
		!got.Nodes[0].InForce || got.Nodes[0].Applied < got.Revision || got.Nodes[1].InForce || got.Nodes[1].Applied != 0 {
		t.Errorf("got %s", body)
	}
	w.expect(t, "GET", "/routes/1", "", 200, `"uri":"/a"`)
	rec = w.call("DELETE", "/routes/1?wait=applied&timeout=1ms", "")
	count := rec.Header().Get("X-Gosix-Applied")
	if count == "0/2" { // the one may be too slow for a millisecond
		count = "1/2"
	}
	if rec.Code != 202 || count != "1/2" || !strings.Contains(rec.Body.String(), `"deleted":"1"`) {
		t.Errorf("got %d, X-Gosix-Applied %q: %s", rec.Code, count, rec.Body)
	}
	stop()
	applied(t, w.call("PUT", "/routes/1?wait=applied&timeout=30s", `{"uri":"/a","plugins":{}}`), 201, "1/1")
}

func TestAWriteThatANodeRefusesIsNotApplied(t *testing.T) {
	w := clusterWorld(t)
	w.gateway("a", everything, "")
	w.gateway("b", everything, "/apisix/routes/1")
	rec := w.call("PUT", "/routes/1?wait=applied&timeout=30s", `{"uri":"/a","plugins":{}}`)
	body := applied(t, rec, 202, "1/2")
	if rec.Header().Get("X-Gosix-Rejected") != "1" || !strings.Contains(body, `"rejected":[{"key":"/apisix/routes/1","refused_revision":`) || !strings.Contains(body, "1 refuse it") {
		t.Errorf("got %v %s", rec.Header(), body)
	}
	applied(t, w.call("PUT", "/routes/2?wait=applied&timeout=30s", `{"uri":"/b","plugins":{}}`), 201, "2/2")
	list := w.expect(t, "GET", "/nodes", "", 200, `"rejected_differs":true`)
	if strings.Contains(list, `"digest_differs":true`) {
		t.Errorf("got %s", list)
	}
}

func TestAStoreThatGoesAwayDuringTheWaitLeavesTheWriteDone(t *testing.T) {
	w := clusterWorld(t)
	w.gateway("a", 0, "")
	if rec := w.call("PUT", "/routes/0?wait=applied&timeout=1ms", `{"uri":"/0","plugins":{}}`); rec.Code != 202 {
		t.Fatalf("got %d %s", rec.Code, rec.Body)
	}
	answer := make(chan *httptest.ResponseRecorder, 1)
	go func() { answer <- w.call("PUT", "/routes/1?wait=applied&timeout=2s", `{"uri":"/a","plugins":{}}`) }()
	timetest.Until(t, "it is written", func() bool { return w.call("GET", "/routes/1", "").Code == 200 })
	w.store.SetDown(true)
	if body := applied(t, <-answer, 202, "0/1"); !strings.Contains(body, `"uri":"/a"`) {
		t.Errorf("got %s", body)
	}
	w.expect(t, "PUT", "/routes/2?wait=applied", `{"uri":"/a","plugins":{}}`, 503, "not available")
	w.expect(t, "GET", "/nodes", "", 503, "not available")
}

func TestNodesAreListed(t *testing.T) {
	w := clusterWorld(t)
	w.expect(t, "GET", "/nodes", "", 200, `{"newest":0,"total":0,"list":[]}`)
	w.gateway("a", everything, "")
	for _, key := range []string{adminKey, viewerKey} {
		if rec := w.call("GET", "/nodes", "", "X-API-KEY", key); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"id":"a"`) {
			t.Errorf("got %d %s", rec.Code, rec.Body)
		}
	}
	one := w.expect(t, "GET", "/nodes/a", "", 200, `{"id":"a"`)
	for _, member := range []string{"applied", "observed", "digest", "staleness_s", "rejected", "live", "lag", "digest_differs", "rejected_differs", "version", "started", "addresses"} {
		if !strings.Contains(one, `"`+member+`":`) {
			t.Errorf("there is no %s in %s", member, one)
		}
	}
	w.expect(t, "GET", "/nodes/b", "", 404, "Key not found")
	w.expect(t, "GET", "/nodes/a/b", "", 404, "not found")
	w.expect(t, "PUT", "/nodes/a", "{}", 405, "not supported `PUT` method for nodes")
	if rec := w.call("GET", "/nodes", "", "X-Other", "1"); rec.Code != 401 {
		t.Errorf("without a key: got %d", rec.Code)
	}
}

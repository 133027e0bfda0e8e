package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
)

const (
	adminKey  = "admin-key-for-tests"
	viewerKey = "viewer-key-for-tests"
)

// clock stands still until it is moved.
type clock struct{ at time.Time }

func (c *clock) Now() time.Time { return c.at }

type world struct {
	t     testing.TB
	api   *API
	store *memstore.Store
	clock *clock
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, store: memstore.New(), clock: &clock{time.Unix(1700000000, 0)}}
	t.Cleanup(func() { _ = w.store.Close() })
	ring, err := seal.New([]string{"0123456789abcdef"}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	registry := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()},
		plugin.Definition{
			Name: "tag", Version: "1", Priority: 10, Scope: "global", MetadataSchema: []byte(`{"type":"object","properties":{"x":{"type":"integer"}}}`), Secrets: []string{"secret", "list.key"},
			Schema: []byte(`{"type":"object","properties":{"secret":{"type":"string"},"n":{"type":"integer","default":1}}}`),
			New:    func(*plugin.Build) (plugin.Phases, error) { return plugin.Phases{}, nil },
		},
		plugin.Definition{
			Name: "door", Version: "1", Priority: 20, Auth: true, ConsumerKey: "key", ConsumerSecrets: []string{"key"},
			Schema: []byte(`{"type":"object"}`), ConsumerSchema: []byte(`{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}`),
			New: func(*plugin.Build) (plugin.Phases, error) { return plugin.Phases{}, nil },
		})
	o := Options{
		Store: w.store, Registry: registry, Ring: ring, Prefix: "/apisix", KeyRequired: true, CORS: true, Server: "APISIX/3.18.0 gosix/test",
		Keys: []Key{{"a", adminKey, RoleAdmin}, {"v", viewerKey, RoleViewer}}, Log: zerolog.Nop(), Clock: w.clock,
	}
	if change != nil {
		change(&o)
	}
	w.api = New(o)
	return w
}

func (w *world) call(method, path, body string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, Base+path, strings.NewReader(body))
	if len(header) == 0 {
		req.Header.Set("X-API-KEY", adminKey)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, req)
	return rec
}

// expect makes a call and looks at its status and for a part of its body.
func (w *world) expect(t testing.TB, method, path, body string, status int, part string) string {
	t.Helper()
	rec := w.call(method, path, body)
	if got := rec.Body.String(); rec.Code != status || !strings.Contains(got, part) {
		t.Errorf("%s %s %s: got %d %s want %d %s", method, path, body, rec.Code, got, status, part)
	}
	return rec.Body.String()
}

func TestKeys(t *testing.T) {
	w := newWorld(t, nil)
	tests := map[string]struct {
		method string
		header []string
		want   string
	}{
		"no key":             {"GET", []string{"X-Other", "1"}, "missing apikey"},
		"a wrong key":        {"GET", []string{"X-API-KEY", "nope"}, "wrong apikey"},
		"an empty key":       {"GET", []string{"X-API-KEY", ""}, "wrong apikey"},
		"a viewer may read":  {"GET", []string{"X-API-KEY", viewerKey}, ""},
		"a viewer who wants": {"PUT", []string{"X-API-KEY", viewerKey}, "invalid method for role viewer"},
	}
	// Every path is behind the key: none must be forgotten when one is added.
	paths := []string{"/routes", "/routes/1", "/nope", "/plugins/list", "/plugins/tag", "/schema/route", "/schema/validate/routes", "/plugins/reload"}
	for _, k := range resource.Kinds() {
		paths = append(paths, "/"+k.Name)
	}
	for name, tt := range tests {
		for _, path := range paths {
			rec := w.call(tt.method, path, "", tt.header...)
			refused := rec.Code == 401
			if refused != (tt.want != "") || refused && rec.Body.String() != `{"error_msg":"failed to check token","description":"`+tt.want+"\"}\n" {
				t.Errorf("%s: %s: got %d %s", name, path, rec.Code, rec.Body)
			}
		}
	}
	if rec := w.call("GET", "/routes?api_key="+adminKey, "", "X-Other", "1"); rec.Code != 401 {
		t.Errorf("a key in the query opens: %d", rec.Code)
	}
	open := newWorld(t, func(o *Options) { o.KeyIn = []string{"query", "cookie"} })
	if rec := open.call("GET", "/routes?api_key="+adminKey, "", "X-Other", "1"); rec.Code != 200 {
		t.Errorf("a key in the query, allowed: %d", rec.Code)
	}
	if rec := open.call("GET", "/routes", "", "Cookie", "x_api_key="+adminKey); rec.Code != 200 {
		t.Errorf("a key in a cookie, allowed: %d", rec.Code)
	}
}

func TestHeadOfAnswers(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.call("OPTIONS", "/routes", "", "X-Other", "1")
	if rec.Code != 200 || rec.Body.Len() != 0 || rec.Header().Get("Access-Control-Allow-Methods") == "" {
		t.Errorf("OPTIONS: %d %v", rec.Code, rec.Header())
	}
	if rec = w.call("HEAD", "", "", "X-Other", "1"); rec.Code != 200 {
		t.Errorf("HEAD of the base: %d", rec.Code)
	}
	if rec = w.call("PURGE", "/routes", ""); rec.Code != 404 || !strings.Contains(rec.Body.String(), "<title>404 Not Found</title>") {
		t.Errorf("PURGE: %d %s", rec.Code, rec.Body)
	}
	rec = w.call("GET", "/routes", "")
	if rec.Header().Get("X-API-VERSION") != "v3" || rec.Header().Get("Server") != "APISIX/3.18.0 gosix/test" || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("GET: %v", rec.Header())
	}
	closed := newWorld(t, func(o *Options) { o.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}; o.CORS = false })
	if rec = closed.call("GET", "/routes", ""); rec.Code != 403 || rec.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("from elsewhere: %d %v", rec.Code, rec.Header())
	}
}

func TestWhoMayConnect(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	})
	for remote, want := range map[string]int{
		"10.1.2.3:4": 200, "[::ffff:10.1.2.3]:4": 200, "[fe80::1%eth0]:4": 200,
		"11.1.2.3:4": 403, "[::1]:4": 403, "@": 403,
	} {
		req := httptest.NewRequest("GET", Base+"/routes", nil)
		req.RemoteAddr = remote
		req.Header.Set("X-API-KEY", adminKey)
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("%s: got %d, want %d", remote, rec.Code, want)
		}
	}
}

const goodRoute = `{"uri":"/x","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}}`

func TestLifeOfARoute(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "GET", "/routes/1", "", 404, `{"message":"Key not found"}`)
	w.expect(t, "GET", "/routes", "", 200, `{"total":0,"list":[]}`)
	body := `{ "uri" : "/x", "priority":10, "upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}, "vars":[], "labels":{} }`
	created := w.expect(t, "PUT", "/routes/1", body, 201, `{"key":"/apisix/routes/1","value":{ "uri" : "/x", "priority":10,`)
	if strings.Contains(created, "createdIndex") || !strings.Contains(created, `"create_time":1700000000,"update_time":1700000000`) {
		t.Errorf("got %s", created)
	}
	w.clock.at = w.clock.at.Add(time.Minute)
	w.expect(t, "PUT", "/routes/1", goodRoute, 200, `"create_time":1700000000,"update_time":1700000060`)
	w.expect(t, "GET", "/routes/1/", "", 200, `"createdIndex":`)
	w.expect(t, "PATCH", "/routes/1", `{"desc":"new","upstream":{"retries":2}}`, 200, `"nodes":{"127.0.0.1:1":1},"retries":2`)
	w.expect(t, "PATCH", "/routes/1/labels/a", `"b"`, 200, `"labels":{"a":"b"}`)
	w.expect(t, "PATCH", "/routes/1/desc/x", `1`, 400, `invalid sub-path: /desc`)
	w.expect(t, "PATCH", "/routes/1", `{"update_time":5}`, 200, `"update_time":5`)
	w.expect(t, "PATCH", "/routes/1", `{"update_time":1e9,"create_time":7e1}`, 200, `"create_time":7e1,"update_time":1e9`)
	w.expect(t, "PUT", "/routes/1", goodRoute, 200, `"create_time":7e1,`)
	w.expect(t, "PATCH", "/routes/1", `{"id":null}`, 200, `"id":"1"`)
	w.expect(t, "PUT", "/routes", `{"id":7,`+goodRoute[1:], 201, `"id":7,`)
	w.expect(t, "PATCH", "/routes/7", `{"desc":"x"}`, 200, `"id":"7"`)
	w.expect(t, "DELETE", "/routes/7", "", 200, "")
	w.expect(t, "PATCH", "/routes/1"+strings.Repeat("/a", 65), `1`, 400, `invalid sub-path: more than 64 steps`)
	w.expect(t, "PATCH", "/routes/1", `{"uri":null}`, 400, `invalid configuration: `)
	w.expect(t, "PATCH", "/routes/1", `{"id":"2"}`, 400, `wrong route id`)
	w.expect(t, "PATCH", "/routes/1", `5`, 400, `{"error_msg":"invalid configuration"}`)
	w.expect(t, "PATCH", "/routes/1", ``, 400, `missing new configuration`)
	w.expect(t, "DELETE", "/routes/1", "", 200, `{"deleted":"1","key":"/apisix/routes/1"}`)
	w.expect(t, "DELETE", "/routes/1", "", 404, `Key not found`)
	w.expect(t, "PATCH", "/routes/1", `{}`, 404, `Key not found`)
	rec := w.call("POST", "/routes", goodRoute)
	if rec.Code != 201 || !strings.Contains(rec.Body.String(), `"id":"0000000000000000`) || rec.Header().Get("X-Gosix-Revision") == "" {
		t.Errorf("POST: %d %s %v", rec.Code, rec.Body, rec.Header())
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/upstreams/u", `{"nodes":{"127.0.0.1:1":1}}`, 201, "")
	tests := map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"an unknown resource":           {"GET", "/routs", "", 404, `{"error_msg":"Unsupported resource type: routs"}`},
		"a verb that a kind lacks":      {"POST", "/consumers", `{}`, 405, "not supported `POST` method for consumer"},
		"no body":                       {"PUT", "/routes/1", "", 400, `{"error_msg":"missing configurations"}`},
		"no id":                         {"PUT", "/routes", goodRoute, 400, `missing route id`},
		"another id in the body":        {"PUT", "/routes/1", `{"id":2,"uri":"/x","plugins":{}}`, 400, `wrong route id`},
		"an id at POST":                 {"POST", "/routes", `{"id":"1","uri":"/x","plugins":{}}`, 400, `wrong route id, do not need it`},
		"an id of another type":         {"PUT", "/routes", `{"id":true,"uri":"/x","plugins":{}}`, 400, `property \"id\" validation failed`},
		"text that is no JSON":          {"PUT", "/routes/1", `{"uri" "/x"}`, 400, `invalid request body: Expected colon but found T_STRING at character 8","req_body":`},
		"a member twice":                {"PUT", "/routes/1", `{"uri":"/a","uri":"/b","plugins":{}}`, 400, `invalid request body: duplicate member`},
		"a number":                      {"PUT", "/routes/1", `5`, 400, `invalid configuration`},
		"too deep":                      {"PUT", "/routes/1", strings.Repeat("[", 100), 400, `Found too many nested data structures (65)`},
		"too large":                     {"PUT", "/routes/1", strings.Repeat(" ", defaultBodyLimit+1), 400, `request size 1572865 is greater than the maximum size 1572864 allowed`},
		"a time to live that is none":   {"PUT", "/routes/1?ttl=soon", goodRoute, 400, `invalid argument ttl: should be a number`},
		"times":                         {"PUT", "/routes/1", `{"uri":"/x","plugins":{},"create_time":1}`, 400, `the property is forbidden:  create_time`},
		"times below":                   {"PUT", "/routes/1", `{"uri":"/x","upstream":{"nodes":{"a:1":1},"create_time":1}}`, 400, `the property is forbidden:  upstream.create_time`},
		"a wrong type":                  {"PUT", "/routes/1", `{"uri":1,"plugins":{}}`, 400, `invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number`},
		"an unknown member":             {"PUT", "/routes/1", `{"uri":"/x","plugins":{},"maple":1}`, 400, `additional properties forbidden, found maple`},
		"an unknown plugin":             {"PUT", "/routes/1", `{"uri":"/x","plugins":{"teleport":{}}}`, 400, `unknown plugin [teleport]`},
		"a plugin's wrong conf":         {"PUT", "/routes/1", `{"uri":"/x","plugins":{"tag":{"n":"x"}}}`, 400, `failed to check the configuration of plugin tag err: property \"n\" validation failed`},
		"a plugin's conf that is none":  {"PUT", "/routes/1", `{"uri":"/x","plugins":{"tag":"x"}}`, 400, `invalid plugin conf \"x\" for plugin [tag]`},
		"a null as a plugin's conf":     {"PUT", "/routes/1", `{"uri":"/x","plugins":{"tag":null}}`, 400, `invalid plugin conf \"userdata: NULL\" for plugin [tag]`},
		"a dangling upstream":           {"PUT", "/routes/1", `{"uri":"/x","upstream_id":"99"}`, 400, `failed to fetch upstream info by upstream id [99], response code: 404`},
		"a dangling service":            {"PUT", "/routes/1", `{"uri":"/x","service_id":"9"}`, 400, `failed to fetch service info by service id [9], response code: 404`},
		"a bad expression":              {"PUT", "/routes/1", `{"uri":"/x","plugins":{},"vars":[["a","xx","b"]]}`, 400, `failed to validate the 'vars' expression: invalid operator 'xx'`},
		"lua":                           {"PUT", "/routes/1", `{"uri":"/x","plugins":{},"filter_func":"function(vars) return true end"}`, 400, `error_msg`},
		"metadata of no plugin":         {"PUT", "/plugin_metadata/teleport", `{}`, 400, `invalid plugin name`},
		"metadata without a name":       {"PUT", "/plugin_metadata", `{}`, 400, `missing plugin name`},
		"a consumer of another name":    {"PUT", "/consumers/a", `{"username":"b"}`, 400, `wrong username`},
		"a credential without consumer": {"PUT", "/consumers/none/credentials/c", `{"plugins":{"door":{"key":"k"}}}`, 404, `consumer not found`},
		"a secret without a manager":    {"PUT", "/secrets/vault", `{"uri":"http://x","prefix":"p","token":"t"}`, 400, `error_msg`},
		"a page that is too small":      {"GET", "/routes?page=1&page_size=9", "", 400, `page_size must be between 10 and 500`},
		"stream routes":                 {"GET", "/stream_routes", "", 400, `stream mode is disabled, can not add stream routes`},
		"dots in the path":              {"GET", "/routes/..", "", 400, `invalid path`},
		"an unknown schema":             {"GET", "/schema/nope", "", 400, `not found schema: nope`},
		"a plugin's unknown schema":     {"GET", "/plugins/nope", "", 404, `plugin not found in subsystem http`},
		"a subsystem that is none":      {"GET", "/plugins/list?subsystem=x", "", 400, `invalid subsystem passed`},
	}
	before, _, _ := w.store.List(t.Context(), "/")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { w.expect(t, tt.method, tt.path, tt.body, tt.status, tt.want) })
	}
	if after, _, _ := w.store.List(t.Context(), "/"); len(after) != len(before) {
		t.Errorf("the refused calls left %d items behind", len(after)-len(before))
	}
}

func TestWhatIsInUseStays(t *testing.T) {
	w := newWorld(t, nil)
	for _, call := range []struct{ path, body string }{
		{"/upstreams/u", `{"nodes":{"127.0.0.1:1":1}}`},
		{"/services/s", `{"upstream_id":"u"}`},
		{"/plugin_configs/p", `{"plugins":{}}`},
		{"/consumer_groups/g", `{"plugins":{}}`},
		{"/routes/r", `{"uri":"/x","service_id":"s","plugin_config_id":"p"}`},
		{"/consumers", `{"username":"ann","group_id":"g"}`},
	} {
		w.expect(t, "PUT", call.path, call.body, 201, "")
	}
	w.expect(t, "DELETE", "/upstreams/u", "", 400, `can not delete this upstream, service [s] is still using it now`)
	w.expect(t, "DELETE", "/services/s", "", 400, `can not delete this service directly, route [r] is still using it now`)
	w.expect(t, "DELETE", "/plugin_configs/p", "", 400, `can not delete this plugin config, route [r] is still using it now`)
	w.expect(t, "DELETE", "/consumer_groups/g", "", 400, `can not delete this consumer group, consumer [ann] is still using it now`)
	w.expect(t, "DELETE", "/upstreams/u?force=true", "", 200, `"deleted":"1"`)
	// However an id is written, it is the same id.
	for name, tt := range map[string]struct{ id, written string }{
		"escaped":       {"esc", `"\u0065sc"`},
		"a number":      {"12", `12`},
		"a fraction":    {"13", `13.0`},
		"an exponent":   {"140", `1.4e2`},
		"a long number": {"12345678901234567890", `12345678901234567890`},
	} {
		t.Run(name, func(t *testing.T) {
			w.expect(t, "PUT", "/upstreams", `{"id":`+tt.written+`,"nodes":{"127.0.0.1:1":1}}`, 201, `"key":"/apisix/upstreams/`+tt.id+`"`)
			w.expect(t, "PUT", "/upstreams/"+tt.id, `{"id":`+tt.written+`,"nodes":{"127.0.0.1:1":1}}`, 200, "")
			w.expect(t, "PUT", "/routes/w", `{"uri":"/x","upstream_id":`+tt.written+`}`, 201, "")
			w.expect(t, "DELETE", "/upstreams/"+tt.id, "", 400, `route [w] is still using it now`)
			w.expect(t, "DELETE", "/routes/w", "", 200, "")
			w.expect(t, "DELETE", "/upstreams/"+tt.id, "", 200, "")
		})
	}
}

// between calls f before every deletion that it passes on.
type between struct {
	store.Store
	f func()
}

func (b *between) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	if len(then) > 0 && then[0].Delete {
		b.f()
	}
	return b.Store.Commit(ctx, when, then)
}

func TestADeletionSeesWhatIsWrittenBesideIt(t *testing.T) {
	w := newWorld(t, nil)
	beside := &between{Store: w.store}
	other := newWorld(t, func(o *Options) { o.Store = beside })
	w.expect(t, "PUT", "/services/s", `{"upstream":{"nodes":{"127.0.0.1:1":1}}}`, 201, "")
	beside.f = func() { w.expect(t, "PUT", "/routes/r", `{"uri":"/x","service_id":"s"}`, 201, "") }
	other.expect(t, "DELETE", "/services/s", "", 400, `can not delete this service directly, route [r] is still using it now`)
	w.expect(t, "GET", "/services/s", "", 200, "")

	n := 0
	beside.f = func() {
		n++
		w.expect(t, "PUT", fmt.Sprintf("/routes/n%d", n), goodRoute, 201, "")
	}
	w.expect(t, "DELETE", "/routes/r", "", 200, "")
	other.expect(t, "DELETE", "/services/s", "", 200, `"deleted":"1"`)
	if n != raceRetries+1 {
		t.Errorf("%d tries beside writes without pause, want %d", n, raceRetries+1)
	}
}

func TestConsumersAndCredentials(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"k1"}}}`, 201, `"key":"sealed:v1:`)
	w.expect(t, "GET", "/consumers/ann", "", 200, `{"door":{"key":"k1"}}`)
	w.expect(t, "PUT", "/consumers/ann/credentials/c", `{"plugins":{"door":{"key":"k2"}}}`, 201, `"id":"c"`)
	w.expect(t, "GET", "/consumers/ann/credentials", "", 200, `{"total":1,`)
	w.expect(t, "GET", "/consumers", "", 200, `{"total":1,`)
	w.expect(t, "PUT", "/consumers", `{"username":"bob","plugins":{"door":{"key":"k1"}}}`, 400, `duplicate key of plugin door found with consumer: ann`)
	w.expect(t, "PUT", "/consumers", `{"username":"bob","plugins":{"door":{"key":"k2"}}}`, 400, `duplicate key of plugin door found with credential: c of consumer: ann`)
	w.expect(t, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"k1"}}}`, 200, "")
	w.expect(t, "PUT", "/consumers/ann/credentials/d", `{"plugins":{"tag":{}}}`, 400, `only supports auth type plugins in consumer credential`)
	w.expect(t, "PUT", "/consumers", `{"username":"bob","plugins":{"door":{}}}`, 400, `invalid plugins configuration: failed to check the configuration of plugin door`)
	w.expect(t, "PUT", "/consumers/ann/credentials", `{"id":"annabel/credentials/c"}`, 400, `wrong credential id`)
	w.expect(t, "DELETE", "/consumers/ann", "", 200, "")
	w.expect(t, "GET", "/consumers/ann/credentials", "", 404, "Key not found")
	if items, _, _ := w.store.List(t.Context(), "/apisix/consumers/"); len(items) != 0 {
		t.Errorf("left: %v", items)
	}
}

func TestSurplusStepsOfAPath(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/consumers", `{"username":"ann"}`, 201, "")
	w.expect(t, "PUT", "/consumers/ann/credentials/c", `{"plugins":{"door":{"key":"k"}}}`, 201, "")
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	w.expect(t, "PUT", "/secrets/vault/1", `{"uri":"http://v","prefix":"kv","token":"t"}`, 201, "")
	before, _, _ := w.store.List(t.Context(), "/apisix/")
	for path, body := range map[string]string{
		"/consumers/ann/credential/c":      `{"username":"ann","desc":"x"}`,
		"/consumers/ann/credentials/c/key": `{"plugins":{"door":{"key":"other"}}}`,
		"/routes/1/plugins":                goodRoute,
		"/secrets/vault/1/token":           `{"uri":"http://v","prefix":"kv","token":"other"}`,
	} {
		want := `{"error_msg":"path not found: ` + Base + path + `"}`
		w.expect(t, "DELETE", path, "", 404, want)
		w.expect(t, "DELETE", path+"?force=true", "", 404, want)
		w.expect(t, "PUT", path, body, 404, want)
	}
	w.expect(t, "POST", "/routes/1/2", goodRoute, 404, "path not found: "+Base+"/routes/1/2")
	if after, _, _ := w.store.List(t.Context(), "/apisix/"); !cmp.Equal(before, after) {
		t.Error(cmp.Diff(before, after))
	}

	// As in the reference.
	w.expect(t, "GET", "/routes/1/plugins", "", 200, `"uri":`)
	w.expect(t, "PATCH", "/routes/1/desc", `"x"`, 200, `"desc":"x"`)
	w.expect(t, "DELETE", "/routes/1/", "", 200, "")
}

func TestDecorations(t *testing.T) {
	w := newWorld(t, nil)
	const at = "/services/s/graphql_cost_decorations"
	w.expect(t, "PUT", at+"/d", `{"field_path":"a.b"}`, 404, "service not found")
	w.expect(t, "PUT", "/services/s", `{}`, 201, "")
	w.expect(t, "PUT", "/services/r", `{}`, 201, "")
	w.expect(t, "PUT", at+"/d", `{"field_path":"a.b","service_id":"s"}`, 201, "")
	w.expect(t, "PUT", at+"/d", `{"field_path":"a.b","service_id":"r"}`, 400, "wrong service_id, it is taken from the path")
	w.expect(t, "PUT", at+"/d", `{"field_path":"a.b","add_value":2}`, 200, `"service_id":"s"`)
	w.expect(t, "PUT", at+"/e", `{"field_path":"a.b"}`, 400, "field_path a.b is already decorated on this service by [d]")
	w.expect(t, "POST", at, `{"field_path":"a.b"}`, 400, "field_path a.b is already decorated on this service by [d]")
	w.expect(t, "POST", at, `{"field_path":"a.c"}`, 201, "")
	w.expect(t, "PUT", "/services/r/graphql_cost_decorations/d", `{"field_path":"a.b"}`, 201, "")
	w.expect(t, "PATCH", at+"/d", `{"service_id":"s"}`, 400, "service_id can not be patched")
	w.expect(t, "PATCH", at+"/d", `{"field_path":"a.c"}`, 400, "field_path a.c is already decorated on this service by [")
	w.expect(t, "PATCH", at+"/d", `{"mul_value":2}`, 200, "")
	w.expect(t, "DELETE", "/services/s", "", 200, "")
	w.expect(t, "GET", at, "", 404, "Key not found")
}

func TestANewParentInheritsNothing(t *testing.T) {
	w := newWorld(t, nil)
	const at = "/services/s/graphql_cost_decorations"
	for _, key := range []string{"/services/s/graphql_cost_decorations/left", "/services/so/graphql_cost_decorations/other"} {
		if _, err := w.store.Commit(t.Context(), nil, []store.Op{{Key: "/apisix" + key, Value: []byte(`{"id":"left","field_path":"a.b"}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(t, "PUT", "/services/s", `{"upstream":5}`, 400, "")
	w.expect(t, "GET", at, "", 200, `{"total":1,`)
	w.expect(t, "PUT", "/services/s", `{}`, 201, `{"key":"/apisix/services/s"`)
	w.expect(t, "GET", at, "", 404, "Key not found")
	w.expect(t, "GET", "/services/so/graphql_cost_decorations", "", 200, `{"total":1,`)
	w.expect(t, "PUT", at+"/d", `{"field_path":"a.b"}`, 201, "")
	w.expect(t, "PUT", "/services/s", `{}`, 200, "")
	w.expect(t, "GET", at, "", 200, `{"total":1,`)
}

// What a PUT answers is what clients write back.
func TestSealedValuesComeBack(t *testing.T) {
	w := newWorld(t, nil)
	sealedAt := func(key string) string {
		item, _, err := w.store.Get(t.Context(), "/apisix/"+key)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(item.Value), `"sealed:`)
		text, _, found := strings.Cut(text, `"`)
		if !found {
			t.Fatalf("%s holds nothing sealed: %s", key, item.Value)
		}
		return "sealed:" + text
	}
	route := func(secret string) string { return `{"uri":"/x","plugins":{"tag":{"secret":"` + secret + `"}}}` }
	w.expect(t, "PUT", "/routes/1", route("hush"), 201, "")
	w.expect(t, "PUT", "/routes/1", route(sealedAt("routes/1")), 200, "")
	w.expect(t, "GET", "/routes/1", "", 200, `"secret":"hush"`)
	w.expect(t, "PATCH", "/routes/1/plugins/tag/secret", `"`+sealedAt("routes/1")+`"`, 200, "")
	w.expect(t, "GET", "/routes/1", "", 200, `"secret":"hush"`)
	w.expect(t, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"k1"}}}`, 201, "")
	w.expect(t, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"`+sealedAt("consumers/ann")+`"}}}`, 200, "")
	w.expect(t, "GET", "/consumers/ann", "", 200, `{"key":"k1"}`)

	const refused = "failed to decrypt previous encrypted key: plugins.tag.secret was sealed for another item"
	w.expect(t, "PUT", "/routes/2", route(sealedAt("routes/1")), 400, refused)
	w.expect(t, "POST", "/routes", route(sealedAt("routes/1")), 400, refused)
	w.expect(t, "PUT", "/routes", `{"id":2,`+route(sealedAt("routes/1"))[1:], 400, refused)
	if items, _, _ := w.store.List(t.Context(), "/apisix/gen_id"); len(items) != 0 {
		t.Error("the refused POST used up an id")
	}
	w.expect(t, "PUT", "/routes/3", route("sealed:v1:AAAA"), 201, "")
	w.expect(t, "GET", "/routes/3", "", 200, `"secret":"sealed:v1:AAAA"`)

	// A key that is gone from the keyring may return: until then its values stay.
	before := sealedAt("routes/1")
	other, err := seal.New([]string{"fedcba9876543210"}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	ring := w.api.o.Ring
	w.api.o.Ring = other
	w.expect(t, "PATCH", "/routes/1", `{"desc":"x"}`, 200, "")
	if after := sealedAt("routes/1"); after != before {
		t.Errorf("a value that does not open became %s", after)
	}
	w.api.o.Ring = ring
	w.expect(t, "GET", "/routes/1", "", 200, `"secret":"hush"`)
}

func TestSecretsSurviveEdits(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/routes/1", `{"uri":"/x","plugins":{"tag":{"secret":"hush","list":[{"key":"a"},{"key":"b"}]}}}`, 201, "")
	for i := range 10 {
		w.expect(t, "PATCH", "/routes/1", fmt.Sprintf(`{"desc":"%d"}`, i), 200, "")
	}
	w.expect(t, "GET", "/routes/1", "", 200, `{"tag":{"secret":"hush","list":[{"key":"a"},{"key":"b"}]}}`)
	items, _, _ := w.store.List(t.Context(), "/apisix/routes/")
	if text := string(items[0].Value); strings.Contains(text, "hush") || strings.Count(text, "sealed:v1:") != 3 {
		t.Errorf("stored: %s", text)
	}
}

// The reference stores and shows the credentials of secret managers as they are; clients
// must see the same, and the store must not.
func TestCredentialsOfSecretManagersAreSealedAtRest(t *testing.T) {
	managers := map[string]struct{ doc, member, patch, sub string }{
		"vault/1": {`{"uri":"http://v","prefix":"kv","token":"hush"}`, `"token":"hush"`, `{"token":"quiet"}`, "token"},
		"aws/1": {
			`{"access_key_id":"id","secret_access_key":"hush","session_token":"hush"}`, `"secret_access_key":"hush","session_token":"hush"`,
			`{"secret_access_key":"quiet","session_token":"quiet"}`, "secret_access_key",
		},
		"gcp/1": {
			`{"auth_config":{"client_email":"e","private_key":"hush","project_id":"p"}}`, `"private_key":"hush"`,
			`{"auth_config":{"private_key":"quiet"}}`, "auth_config/private_key",
		},
	}
	for id, m := range managers {
		t.Run(id, func(t *testing.T) {
			w := newWorld(t, nil)
			stored := func() string {
				item, _, err := w.store.Get(t.Context(), "/apisix/secrets/"+id)
				if err != nil {
					t.Fatal(err)
				}
				return string(item.Value)
			}
			sealed := func() {
				t.Helper()
				text := stored()
				if strings.Contains(text, "hush") || strings.Contains(text, "quiet") || strings.Count(text, "sealed:v1:") != strings.Count(m.doc, "hush") {
					t.Errorf("stored: %s", text)
				}
			}
			w.expect(t, "PUT", "/secrets/"+id, m.doc, 201, m.member)
			sealed()
			w.expect(t, "GET", "/secrets/"+id, "", 200, m.member)
			w.expect(t, "GET", "/secrets", "", 200, m.member)
			taken, _, _ := strings.Cut(stored(), `,"id":`)
			w.expect(t, "PATCH", "/secrets/"+id, m.patch, 200, strings.ReplaceAll(m.member, "hush", "quiet"))
			sealed()
			w.expect(t, "PATCH", "/secrets/"+id+"/"+m.sub, `"hush"`, 200, "hush")
			sealed()
			w.expect(t, "PUT", "/secrets/"+id[:len(id)-1]+"2", taken+"}", 400, "was sealed for another item")

			// What a node before this one, or the reference, wrote.
			if _, err := w.store.Commit(t.Context(), nil, []store.Op{{Key: "/apisix/secrets/" + id, Value: []byte(m.doc)}}); err != nil {
				t.Fatal(err)
			}
			w.expect(t, "GET", "/secrets/"+id, "", 200, m.member)

			// A store shared with the reference, which opens none of ours.
			w.expect(t, "PUT", "/secrets/"+id, m.doc, 200, m.member)
			shared, err := seal.New([]string{"0123456789abcdef"}, seal.CBC)
			if err != nil {
				t.Fatal(err)
			}
			w.api.o.Ring = shared
			w.expect(t, "GET", "/secrets/"+id, "", 200, m.member)
			w.expect(t, "PUT", "/secrets/"+id, m.doc, 200, m.member)
			if text := stored(); !strings.Contains(text, m.member) {
				t.Errorf("format cbc stored: %s", text)
			}
			// Neither is a token that looks like the reference's format taken for it.
			looks := shared.Seal("", "hush")
			w.expect(t, "PUT", "/secrets/"+id, strings.ReplaceAll(m.doc, "hush", looks), 200, looks)
			w.expect(t, "GET", "/secrets/"+id, "", 200, looks)
		})
	}
}

func TestIDsOfSecretsAndMetadata(t *testing.T) {
	w := newWorld(t, nil)
	const vault = `{"uri":"http://v","prefix":"kv","token":"t"}`
	const wrong = `{"error_msg":"invalid configuration: property \"id\" validation failed: object matches none of the required"}`
	for _, id := range []string{"a%20b", strings.Repeat("a", 65), "a$b", "%C3%A4"} {
		w.expect(t, "PUT", "/routes/"+id, goodRoute, 400, wrong)
		w.expect(t, "PUT", "/secrets/vault/"+id, vault, 400, wrong)
	}
	w.expect(t, "PUT", "/secrets/vault/"+strings.Repeat("a", 64), vault, 201, "")
	w.expect(t, "PUT", "/secrets/vault/a-b_c.1", vault, 201, "")
	w.expect(t, "PUT", "/secrets/vault/1", `{"id":"vault/2",`+vault[1:], 400, "wrong secret id")
	// A wrong id that is there already can be seen and taken away.
	if _, err := w.store.Commit(t.Context(), nil, []store.Op{{Key: "/apisix/secrets/vault/a b", Value: []byte(vault)}}); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "PATCH", "/secrets/vault/a%20b", `{"prefix":"x"}`, 400, wrong)
	w.expect(t, "GET", "/secrets/vault/a%20b", "", 200, `"prefix":"kv"`)
	w.expect(t, "DELETE", "/secrets/vault/a%20b", "", 200, "")

	for _, name := range []string{"create_time", "update_time"} {
		w.expect(t, "PUT", "/plugin_metadata/tag", `{"`+name+`":1}`, 400, `{"error_msg":"the property is forbidden:  `+name+`"}`)
	}
	// Recorded: the path's id stands.
	w.expect(t, "PUT", "/plugin_metadata/tag", `{"id":"other"}`, 201, `"value":{"id":"tag"}`)
}

// What stands in the store need not come from this API.
func TestWhatIsNoJSONSpoilsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	for key, value := range map[string]string{
		"routes/2": "not json", "routes/3": "", "routes/4": `{"uri":"/x"`, "ssls/1": `{"key":"hush"`, "ssls/2": "5",
		"consumers/ann": "{", "global_rules/1": `{"plugins":{`,
	} {
		if _, err := w.store.Commit(t.Context(), nil, []store.Op{{Key: "/apisix/" + key, Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(t, "GET", "/routes/2", "", 200, `{"key":"/apisix/routes/2","value":"not json","createdIndex":`)
	w.expect(t, "GET", "/routes/3", "", 200, `"value":"",`)
	for path, want := range map[string]int{"/routes": 4, "/ssls": 2, "/consumers": 1, "/global_rules": 1} {
		body := w.expect(t, "GET", path, "", 200, fmt.Sprintf(`{"total":%d,`, want))
		if !json.Valid([]byte(body)) || strings.Contains(body, "hush") {
			t.Errorf("%s: %s", path, body)
		}
	}
	w.expect(t, "PUT", "/consumers", `{"username":"bob","plugins":{"door":{"key":"k"}}}`, 201, "")
	w.expect(t, "PUT", "/global_rules/2", `{"plugins":{"tag":{}}}`, 201, "")
	w.expect(t, "PUT", "/global_rules/3", `{"plugins":{"tag":{}}}`, 400, `plugin 'tag' already exists in global rule with id '2'`)
	for _, path := range []string{"/routes/2", "/routes/3", "/ssls/1", "/consumers/ann", "/global_rules/1"} {
		w.expect(t, "DELETE", path, "", 200, `"deleted":"1"`)
	}
}

func TestTheDepthIsASetting(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Depth = 100 })
	deep := strings.Repeat(`{"a":`, 80) + "1" + strings.Repeat("}", 80)
	w.expect(t, "PUT", "/routes/1", `{"uri":"/x","plugins":{"tag":{"secret":"hush","more":`+deep+`}}}`, 201, `"id":"1","create_time":1700000000,`)
	w.expect(t, "PATCH", "/routes/1", `{"desc":"x"}`, 200, `"secret":"sealed:v1:`)
	w.expect(t, "GET", "/routes/1", "", 200, `"secret":"hush"`)
	w.expect(t, "GET", "/routes?name=x", "", 200, `"total":0`)
	w.expect(t, "PATCH", "/routes/1/plugins/tag/more/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", deep, 400, "Found too many nested data structures (101)")
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/services/s", `{}`, 201, "")
	for i := range 25 {
		w.expect(t, "PUT", fmt.Sprintf("/routes/r%02d", 24-i), fmt.Sprintf(`{"uri":"/u%d","name":"n%d","service_id":"s","labels":{"l%d":"1"}}`, i, i, i%2), 201, "")
	}
	for query, want := range map[string]string{
		"":                       `{"total":25,"list":[{"key":"/apisix/routes/r00"`,
		"?page=1&page_size=10":   `{"total":25,"list":[{"key":"/apisix/routes/r24"`,
		"?page=3&page_size=10":   `{"total":25,"list":[{"key":"/apisix/routes/r04"`,
		"?page=9&page_size=10":   `{"total":25,"list":[]}`,
		"?name=^n1$":             `{"total":1,`,
		"?name=[":                `{"total":0,"list":[]}`,
		"?uri=u2":                `{"total":6,`,
		"?label=l1":              `{"total":12,`,
		"?label=":                `{"total":0,"list":[]}`,
		"?name=":                 `{"total":25,`,
		"?filter=service_id%3Ds": `{"total":25,`,
		"?filter=service_id%3Dx": `{"total":0,`,
		"?label=l1&name=n3":      `{"total":1,`,
		"?page=1":                `{"total":25,`,
		"?filter=colour%3Dred":   `{"total":25,`,
	} {
		w.expect(t, "GET", "/routes"+query, "", 200, want)
	}
}

func TestAPatternThatTakesTooLongIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 3 {
		w.expect(t, "PUT", fmt.Sprintf("/routes/%d", i), `{"name":"`+strings.Repeat("a", 60)+`!","uri":"/x","plugins":{}}`, 201, "")
	}
	w.expect(t, "GET", "/routes?name=^(a%2B)%2B$", "", 400, `invalid argument name: the pattern takes longer than 100ms for one value`)
}

func TestTheStoreIsAway(t *testing.T) {
	w := newWorld(t, nil)
	w.store.SetDown(true)
	for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
		path, body := "/routes/1", goodRoute
		if method == "POST" {
			path = "/routes"
		}
		if method == "GET" || method == "DELETE" {
			body = ""
		}
		got := w.expect(t, method, path, body, 503, store.ErrUnavailable.Error())
		if want := `"error":"config_store_unavailable","retryable":true}`; !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", method, got, want)
		}
	}
}

func TestTheStoreIsAwayAndReadsAreAnsweredFromMemory(t *testing.T) {
	var known []store.Item
	w := newWorld(t, func(o *Options) {
		o.Cache = func() Cache {
			if known == nil {
				return nil
			}
			return memory(known)
		}
	})
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	w.expect(t, "PUT", "/routes/2", goodRoute, 201, "")
	one, all := w.expect(t, "GET", "/routes/1", "", 200, ""), w.expect(t, "GET", "/routes", "", 200, `"total":2`)
	items, _, err := w.store.List(t.Context(), "/apisix/")
	if err != nil {
		t.Fatal(err)
	}
	w.store.SetDown(true)
	w.expect(t, "GET", "/routes/1", "", 503, "config_store_unavailable")
	w.expect(t, "GET", "/routes", "", 503, "config_store_unavailable")
	known = items
	const mark = `,"stale":true}`
	for path, want := range map[string]string{"/routes/1": one, "/routes": all} {
		if got := w.expect(t, "GET", path, "", 200, mark); strings.Replace(got, mark, "}", 1) != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	w.expect(t, "GET", "/routes/3", "", 503, "config_store_unavailable")
	w.expect(t, "GET", "/routes?filter=uri%3D/none", "", 200, `"stale":true`)
	w.expect(t, "GET", "/services", "", 200, `{"total":0,"list":[],"stale":true}`)
	w.expect(t, "PUT", "/routes/1", goodRoute, 503, "config_store_unavailable")
	w.expect(t, "DELETE", "/routes/1", "", 503, "config_store_unavailable")
	w.store.SetDown(false)
	if got := w.expect(t, "GET", "/routes/1", "", 200, ""); got != one {
		t.Errorf("with the store back: got %s, want %s", got, one)
	}
}

// memory is a Cache of a list in the order of keys.
type memory []store.Item

func (m memory) Item(kind, id string) (store.Item, bool) {
	for _, item := range m {
		if item.Key == "/apisix/"+kind+"/"+id {
			return item, true
		}
	}
	return store.Item{}, false
}

func (m memory) Items(kind string, f func(id string, item store.Item) bool) {
	for _, item := range m {
		if id, ok := strings.CutPrefix(item.Key, "/apisix/"+kind+"/"); ok && !f(id, item) {
			return
		}
	}
}

// mute is a store that takes changes and says nothing.
type mute struct{ store.Store }

func (mute) Commit(context.Context, []store.Cond, []store.Op) (store.Result, error) {
	return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, store.ErrUnavailable)
}

func TestAnOutcomeThatIsNotKnownIsNotAFailure(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	w.api.o.Store = mute{w.store}
	for method, body := range map[string]string{"PUT": goodRoute, "PATCH": `{"desc":"x"}`, "DELETE": ""} {
		w.expect(t, method, "/routes/1", body, 504, `"error":"outcome_unknown","retryable":false}`)
	}
	w.expect(t, "POST", "/routes", goodRoute, 504, `"error":"outcome_unknown"`)
}

func TestAStoreThatFailsIsOneLineAMinute(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, func(o *Options) { o.Log = zerolog.New(&log) })
	w.store.SetDown(true)
	for range 50 {
		w.expect(t, "PUT", "/routes/1", goodRoute, 503, "")
	}
	w.clock.at = w.clock.at.Add(time.Minute)
	w.expect(t, "PUT", "/routes/1", goodRoute, 503, "")
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"not_logged":49`) {
		t.Errorf("got %d lines, want 2, the second of which counts 49:\n%s", len(lines), &log)
	}
}

func TestOneOfManyPatchesWinsEachRound(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i := range 20 {
		wg.Go(func() {
			rec := w.call("PATCH", "/routes/1", fmt.Sprintf(`{"labels":{"l%d":"1"}}`, i))
			mu.Lock()
			codes[rec.Code]++
			mu.Unlock()
		})
	}
	wg.Wait()
	body := w.expect(t, "GET", "/routes/1", "", 200, "")
	if kept := strings.Count(body, `":"1"`) - 1; kept != codes[200] || codes[200]+codes[503] != 20 {
		t.Errorf("%d labels after answers %v: %s", kept, codes, body)
	}
}

func TestMarkersAreWrittenOnce(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 {
		if err := w.api.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	items, _, _ := w.store.List(t.Context(), "/apisix/")
	if len(items) != 13 {
		t.Errorf("%d markers, want 13: %v", len(items), items)
	}
	w.expect(t, "GET", "/routes", "", 200, `{"total":0,"list":[]}`)
}

func TestTimeToLive(t *testing.T) {
	w := newWorld(t, nil)
	ended := w.store.Watch(t.Context(), "/apisix/routes/")
	<-ended
	w.expect(t, "PUT", "/routes/1?ttl=1", goodRoute, 201, "")
	<-ended
	select {
	case b := <-ended:
		if !b.Events[0].Delete {
			t.Errorf("got %+v", b)
		}
	case <-time.After(20 * time.Second):
		t.Error("the route stays")
	}
	w.expect(t, "GET", "/routes/1", "", 404, "")
}

var _ http.Handler = (*API)(nil)

// slow is a store that takes its time for every call, as long as the caller has some.
type slow struct {
	store.Store
	each time.Duration
}

func (s slow) answer(ctx context.Context) error {
	select {
	case <-time.After(s.each):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
}

func (s slow) Get(ctx context.Context, key string) (store.Item, int64, error) {
	if err := s.answer(ctx); err != nil {
		return store.Item{}, 0, err
	}
	return s.Store.Get(ctx, key)
}

func (s slow) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	if err := s.answer(ctx); err != nil {
		return nil, 0, err
	}
	return s.Store.List(ctx, prefix)
}

func (s slow) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	if err := s.answer(ctx); err != nil {
		return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return s.Store.Commit(ctx, when, then)
}

// However many calls of the store a write takes, its answer is there within the limit: 503
// where nothing was handed over, which may be sent again, and 504 where it was.
func TestAWriteHasOneLimit(t *testing.T) {
	const limit = 2 * time.Second
	route := `{"uri":"/b","service_id":"1","plugins":{}}`
	for name, test := range map[string]struct {
		each               time.Duration
		method, path, body string
		status             int
		want               string
	}{
		"in time":                               {500 * time.Millisecond, "PUT", "/routes/1", route, 200, `"uri":"/b"`},
		"a change that was in hand":             {750 * time.Millisecond, "PUT", "/routes/1", route, 504, `"outcome_unknown"`},
		"two reads":                             {850 * time.Millisecond, "PUT", "/routes/1", route, 503, `"config_store_unavailable","retryable":true`},
		"two reads that are not ended":          {990 * time.Millisecond, "PUT", "/routes/1", route, 503, `"config_store_unavailable","retryable":true`},
		"a first read":                          {time.Hour, "PUT", "/routes/1", route, 503, `"config_store_unavailable"`},
		"a patch":                               {850 * time.Millisecond, "PATCH", "/routes/1", `{"desc":"x"}`, 503, `"config_store_unavailable"`},
		"an id, what is referred to, and a put": {800 * time.Millisecond, "POST", "/routes", route, 503, `"config_store_unavailable"`},
		"a deletion":                            {1750 * time.Millisecond, "DELETE", "/services/2", "", 503, `"config_store_unavailable"`},
		"a read has no limit of ours":           {3 * time.Second, "GET", "/routes/1", "", 200, `"uri":"/a"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *Options) { o.Limit = limit })
				w.expect(t, "PUT", "/services/1", `{"name":"s"}`, 201, "")
				w.expect(t, "PUT", "/services/2", `{"name":"of no route"}`, 201, "")
				w.expect(t, "PUT", "/routes/1", strings.Replace(route, "/b", "/a", 1), 201, "")
				w.api.o.Store = slow{w.store, test.each}
				begin := time.Now()
				w.expect(t, test.method, test.path, test.body, test.status, test.want)
				if took := time.Since(begin); took > limit && test.method != "GET" {
					t.Errorf("answered after %v", took)
				}
				w.api.o.Store = w.store
				want := `"uri":"/a"`
				if test.method == "PUT" && test.status == 200 {
					want = `"uri":"/b"`
				}
				w.expect(t, "GET", "/routes/1", "", 200, want)
			})
		})
	}
}

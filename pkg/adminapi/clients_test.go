package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/store"
)

// listed is a list as clients decode it.
type listed struct {
	Total int
	List  []struct {
		Key                         string
		Value                       map[string]any
		CreatedIndex, ModifiedIndex int64
	}
}

func (w *world) list(t *testing.T, path string) (l listed, ids []string) {
	t.Helper()
	rec := w.call("GET", path, "")
	if err := json.Unmarshal(rec.Body.Bytes(), &l); err != nil || rec.Code != http.StatusOK || l.List == nil {
		t.Fatalf("GET %s: got %d %s (%v), want a list that is an array", path, rec.Code, rec.Body, err)
	}
	for _, item := range l.List {
		ids = append(ids, item.Key[strings.LastIndexByte(item.Key, '/')+1:])
	}
	return l, ids
}

// ADC asks which version answers, reads everything without pages, checks what it is going
// to write as a whole, and then writes and deletes item by item.
func TestTheDeclarativeClient(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.api.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := w.call("HEAD", "", ""); rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Server"), "APISIX/3.18.0") {
		t.Errorf("HEAD: got %d %v", rec.Code, rec.Header())
	}
	for _, kind := range []string{"routes", "services", "upstreams", "consumers", "ssls", "global_rules", "plugin_metadata", "plugin_configs", "consumer_groups", "secrets", "protos"} {
		if l, _ := w.list(t, "/"+kind); l.Total != 0 {
			t.Errorf("%s: got %+v", kind, l)
		}
	}
	w.expect(t, "GET", "/stream_routes", "", 400, "stream mode is disabled")

	node := `"nodes":[{"host":"127.0.0.1","port":1,"weight":1}]`
	whole := map[string][]string{
		"upstreams": {`{"id":"pond","type":"roundrobin",` + node + `}`},
		"services":  {`{"id":"pond","name":"pond","upstream_id":"pond"}`},
		"routes":    {`{"id":"heron","uris":["/heron"],"service_id":"pond"}`, `{"id":"Egret","uris":["/egret"],"service_id":"pond"}`, `{"id":"10","uris":["/ten"],"service_id":"pond"}`, `{"id":"9","uris":["/nine"],"service_id":"pond"}`},
		"consumers": {`{"username":"jack"}`, `{"id":"jack/credentials/first","plugins":{"door":{"key":"k"}}}`},
	}
	body, err := json.Marshal(raw(whole))
	if err != nil {
		t.Fatal(err)
	}
	w.expect(t, "POST", configsPath, string(body), 200, "{}")

	w.expect(t, "PUT", "/upstreams/pond", whole["upstreams"][0], 201, "")
	w.expect(t, "PUT", "/services/pond", whole["services"][0], 201, "")
	for _, route := range whole["routes"] {
		var named struct{ ID string }
		if err := json.Unmarshal([]byte(route), &named); err != nil {
			t.Fatal(err)
		}
		w.expect(t, "PUT", "/routes/"+named.ID, route, 201, "")
	}
	w.expect(t, "PUT", "/consumers/jack", whole["consumers"][0], 201, "")
	w.expect(t, "GET", "/consumers/jack/credentials", "", 404, `{"message":"Key not found"}`)
	w.expect(t, "PUT", "/consumers/jack/credentials/first", `{"plugins":{"door":{"key":"k"}}}`, 201, "")

	if _, ids := w.list(t, "/routes"); !slices.Equal(ids, []string{"10", "9", "Egret", "heron"}) {
		t.Errorf("routes: got %v, want the order of keys", ids)
	}
	if l, ids := w.list(t, "/consumers"); !slices.Equal(ids, []string{"jack"}) || l.Total != 1 {
		t.Errorf("consumers: got %v of %d", ids, l.Total)
	}
	if _, ids := w.list(t, "/consumers/jack/credentials"); !slices.Equal(ids, []string{"first"}) {
		t.Errorf("credentials: got %v", ids)
	}
	w.expect(t, "DELETE", "/services/pond", "", 400, "can not delete this service directly, route [10] is still using it now")
	for _, path := range []string{"/routes/heron", "/routes/Egret", "/routes/10", "/routes/9", "/services/pond", "/upstreams/pond", "/consumers/jack/credentials/first", "/consumers/jack"} {
		w.expect(t, "DELETE", path, "", 200, `"deleted":"1"`)
	}
	w.expect(t, "GET", "/consumers/jack/credentials", "", 404, `{"message":"Key not found"}`)
}

// raw makes sections of the texts of their items.
func raw(sections map[string][]string) map[string][]json.RawMessage {
	out := map[string][]json.RawMessage{}
	for name, items := range sections {
		for _, item := range items {
			out[name] = append(out[name], json.RawMessage(item))
		}
	}
	return out
}

// The dashboard shows lists page by page, as they grew, and searches in them.
func TestTheDashboard(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.api.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, _ := w.list(t, "/routes?page=1&page_size=10"); l.Total != 0 || len(l.List) != 0 {
		t.Errorf("an empty store: got %+v", l)
	}
	for i := range 23 {
		// By name the order is another one.
		body := fmt.Sprintf(`{"uri":"/bird/%d","name":"bird %d","labels":{"pond":"%d"},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}}`, i, i, i)
		if i%2 == 0 {
			body = fmt.Sprintf(`{"uris":["/fish/%d","/f/%d"],"name":"fish %d","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}}`, i, i, i)
		}
		w.expect(t, "PUT", fmt.Sprintf("/routes/r%02d", 22-i), body, 201, "")
	}
	w.expect(t, "PUT", "/routes/r22", `{"uri":"/fish/0","name":"fish 0","plugins":{}}`, 200, "") // keeps its place
	var seen []string
	for page := 1; page <= 4; page++ {
		l, ids := w.list(t, fmt.Sprintf("/routes?page=%d&page_size=10", page))
		if l.Total != 23 || len(ids) != []int{10, 10, 3, 0}[page-1] {
			t.Errorf("page %d: got %d of %d", page, len(ids), l.Total)
		}
		for i := 1; i < len(l.List); i++ {
			if l.List[i-1].CreatedIndex >= l.List[i].CreatedIndex {
				t.Errorf("page %d: %s stands before %s", page, l.List[i-1].Key, l.List[i].Key)
			}
		}
		seen = append(seen, ids...)
	}
	if len(seen) != 23 || seen[0] != "r22" || seen[22] != "r00" {
		t.Errorf("pages: got %v", seen)
	}
	for query, want := range map[string]int{
		"name=fish":                           12,
		"name=" + url.QueryEscape("^bird 1$"): 1,
		"name=Bird":                           0,
		"label=pond":                          11,
		"label=1":                             0,
		"uri=" + url.QueryEscape("^/f/"):      11,
		"uri=" + url.QueryEscape("/(bird|fish)/1$"):                   1,
		"name=bird&label=pond&uri=" + url.QueryEscape("/bird/2[0-9]"): 1,
		"name=bird&uri=fish": 0,
	} {
		if l, ids := w.list(t, "/routes?page=1&page_size=10&"+query); l.Total != want || len(ids) != min(want, 10) {
			t.Errorf("%s: got %d of %d, want %d", query, len(ids), l.Total, want)
		}
	}
	w.expect(t, "GET", "/plugins?all=true", "", 200, `"consumer_schema":`)
	w.expect(t, "GET", "/plugins/list", "", 200, `["door","tag"]`)
	w.expect(t, "GET", "/schema/plugins/door?schema_type=consumer", "", 200, `"required":["key"]`)
}

func TestPagingCorners(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 12 {
		w.expect(t, "PUT", fmt.Sprintf("/protos/%d", i), `{"content":"message A {}"}`, 201, "")
	}
	for query, want := range map[string]int{
		"":                            12,
		"page=1":                      12, // both or none
		"page_size=10":                12,
		"page=one&page_size=10":       12,
		"page=&page_size=10":          12,
		"page=1&page_size=ten":        12,
		"page=1&page_size=10":         10,
		"page=2&page_size=10":         2,
		"page=0&page_size=10":         10,
		"page=-5&page_size=10":        10,
		"page=3&page_size=10":         0,
		"page=1e300&page_size=10":     0,
		"page=1&page_size=500":        12,
		"page=1&page_size=10.5":       10,
		"page=1&page=2&page_size=10":  10,
		"filter=upstream_id%3D1":      12, // for routes alone
		"page=2&page_size=10&label=x": 0,
	} {
		if _, ids := w.list(t, "/protos?"+query); len(ids) != want {
			t.Errorf("%q: got %d, want %d", query, len(ids), want)
		}
	}
	for _, size := range []string{"9", "0", "-1", "501", "9.99", "1e9"} {
		rec := w.call("GET", "/protos?page=1&page_size="+size, "")
		if rec.Code != http.StatusBadRequest || rec.Body.String() != "page_size must be between 10 and 500" {
			t.Errorf("page_size %s: got %d %q", size, rec.Code, rec.Body)
		}
	}
}

func TestListsByWhatTheyUse(t *testing.T) {
	w := newWorld(t, nil)
	w.put("services/1", `{"id":"1"}`)
	w.put("routes/a", `{"id":"a","uri":"/a","service_id":"1","upstream_id":"2"}`)
	w.put("routes/b", `{"id":"b","uri":"/b","service_id":"1"}`)
	w.put("routes/c", `{"id":"c","uri":"/c","service_id":1}`)
	for filter, want := range map[string][]string{
		"service_id=1":                 {"a", "b"}, // of the same type
		"service_id=1&upstream_id=2":   {"a"},
		"upstream_id=3&upstream_id=2":  {"a"}, // the last one counts
		"service_id=":                  nil,
		"colour=red":                   {"a", "b", "c"},
		"colour=red&upstream_id=2":     {"a"},
		"service_id=1&service_id=none": nil,
	} {
		if _, ids := w.list(t, "/routes?filter="+url.QueryEscape(filter)); !slices.Equal(ids, want) {
			t.Errorf("%s: got %v, want %v", filter, ids, want)
		}
	}
}

// SDKs create with a trailing slash and go on with the id in the answer.
func TestAnSDKCreatesAndGoesOnWithTheID(t *testing.T) {
	w := newWorld(t, nil)
	for kind, body := range map[string]string{
		"routes": goodRoute, "services": `{}`, "upstreams": `{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}`,
		"protos": `{"content":"message A {}"}`, "ssls": `{"sni":"a.test","cert":"$env://C","key":"$env://K"}`,
	} {
		rec := w.call("POST", "/"+kind+"/", body)
		var made struct {
			Key   string
			Value struct{ ID string }
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &made); err != nil || rec.Code != http.StatusCreated || len(made.Value.ID) != 20 || made.Key != "/apisix/"+kind+"/"+made.Value.ID {
			t.Errorf("POST /%s/: got %d %s", kind, rec.Code, rec.Body)
			continue
		}
		w.expect(t, "GET", "/"+kind+"/"+made.Value.ID, "", 200, `"id":"`+made.Value.ID+`"`)
		w.expect(t, "DELETE", "/"+kind+"/"+made.Value.ID+"/", "", 200, `"deleted":"1"`)
	}
}

// overtaken is a store in which somebody else is always faster: what is read is written
// again before the reader goes on.
type overtaken struct {
	store.Store
	key string
}

func (s overtaken) Get(ctx context.Context, key string) (store.Item, int64, error) {
	item, at, err := s.Store.Get(ctx, key)
	if err == nil && key == s.key {
		_, err = s.Commit(ctx, nil, []store.Op{{Key: key, Value: item.Value}})
	}
	return item, at, err
}

func TestAPatchThatIsOvertakenChangesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/routes/1", goodRoute, 201, "")
	w.api.o.Store = overtaken{w.store, "/apisix/routes/1"}
	const lost = `{"error_msg":"value changed before overwritten"}`
	w.expect(t, "PATCH", "/routes/1", `{"desc":"lost"}`, 503, lost)
	w.expect(t, "PATCH", "/routes/1/desc", `"lost"`, 503, lost)
	if body := w.call("GET", "/routes/1", "").Body.String(); strings.Contains(body, "lost") {
		t.Errorf("got %s", body)
	}
	w.expect(t, "PUT", "/routes/1", strings.Replace(goodRoute, "{", `{"desc":"the last one wins",`, 1), 200, "the last one wins")
	w.expect(t, "PATCH", "/routes/2", `{"desc":"lost"}`, 404, `{"message":"Key not found"}`)
}

// What a newer version wrote has members that this one does not know. Where the reference's
// schema lets them be, a patch of something else leaves them as they stand, to the byte; where
// it does not, the patch is refused and nothing changes.
func TestAPatchKeepsWhatItDoesNotKnow(t *testing.T) {
	const newer = `"newer":{"a" : 1.0,"b":[ ]}`
	for name, test := range map[string]struct {
		path, stored     string
		patch, sub, text string
		refusal          string // empty: it is taken
	}{
		"at the top of an upstream": {
			path: "/upstreams/1", stored: `{"id":"1","nodes":{"127.0.0.1:80":1},"type":"roundrobin",` + newer + `}`,
			patch: `{"desc":"x"}`, sub: "/desc", text: `"y"`, refusal: "additional properties forbidden, found newer",
		},
		"in a route's upstream": {
			path: "/routes/1", stored: `{"id":"1","uri":"/a","upstream":{"nodes":{"127.0.0.1:80":1},"type":"roundrobin",` + newer + `}}`,
			patch: `{"upstream":{"retries":1}}`, sub: "/upstream/retries", text: `2`, refusal: "additional properties forbidden, found newer",
		},
		"in a plugin's configuration": {
			path: "/routes/1", stored: `{"id":"1","uri":"/a","plugins":{"tag":{"n":2,` + newer + `}}}`,
			patch: `{"plugins":{"tag":{"n":3}}}`, sub: "/plugins/tag/n", text: `4`,
		},
		"in what opens a secret manager": {
			path: "/secrets/vault/1", stored: `{"id":"vault/1","uri":"http://127.0.0.1:8200","prefix":"kv","token":"t",` + newer + `}`,
			patch: `{"prefix":"kv2"}`, sub: "/prefix", text: `"kv3"`,
		},
		"at the top of a route": {
			path: "/routes/1", stored: `{"id":"1","uri":"/a","plugins":{},` + newer + `}`,
			patch: `{"desc":"x"}`, sub: "/desc", text: `"y"`, refusal: "additional properties forbidden, found newer",
		},
		"at the top of a service": {
			path: "/services/1", stored: `{"id":"1","name":"s",` + newer + `}`,
			patch: `{"desc":"x"}`, sub: "/desc", text: `"y"`, refusal: "additional properties forbidden, found newer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			key := "/apisix" + test.path
			if _, err := w.store.Commit(t.Context(), nil, []store.Op{{Key: key, Value: []byte(test.stored)}}); err != nil {
				t.Fatal(err)
			}
			for _, step := range [][2]string{{test.path, test.patch}, {test.path + test.sub, test.text}} {
				before, _, err := w.store.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				status := 200
				if test.refusal != "" {
					status = 400
				}
				w.expect(t, "PATCH", step[0], step[1], status, test.refusal)
				after, _, err := w.store.Get(t.Context(), key)
				switch {
				case err != nil:
					t.Fatal(err)
				case test.refusal != "" && !reflect.DeepEqual(after, before):
					t.Errorf("%s: got %s, want %s", step[0], after.Value, before.Value)
				case test.refusal == "" && (!bytes.Contains(after.Value, []byte(newer)) || bytes.Equal(after.Value, before.Value)):
					t.Errorf("%s: got %s, want %s in it", step[0], after.Value, newer)
				}
			}
			w.expect(t, "GET", test.path, "", 200, `"newer":`)
		})
	}
}

package adminapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const configsPath = "/configs/validate"

func TestAConfigurationIsJudgedAsAWhole(t *testing.T) {
	w := newWorld(t, nil)
	fault := func(kind, id, index, text string) string {
		return `{"resource_type":"` + kind + `","resource_id":` + id + `,"index":` + index + `,"error":` + quoted(text) + `}`
	}
	section := func(kind, text string) string {
		return `{"resource_type":"` + kind + `","error":` + quoted(text) + `}`
	}
	const upstream = `"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}`
	tests := map[string]struct {
		body   string
		faults []string // none: it is good
	}{
		"nothing":                         {`{}`, nil},
		"empty sections of any kind":      {`{"routes":[],"services":{},"upstreams":null}`, nil},
		"a section of no kind":            {`{"planets":[{"id":"mars"}]}`, nil},
		"an item without an id":           {`{"routes":[{"uri":"/x",` + upstream + `}]}`, nil},
		"times, as in an export":          {`{"routes":[{"id":"1","uri":"/x",` + upstream + `,"create_time":1,"update_time":2}]}`, nil},
		"references are not followed":     {`{"routes":[{"id":"1","uri":"/x","upstream_id":"none","service_id":"none","plugin_config_id":"none"}]}`, nil},
		"one id in two kinds":             {`{"services":[{"id":"1"}],"upstreams":[{"id":"1","type":"roundrobin","nodes":{"127.0.0.1:1":1}}]}`, nil},
		"a consumer with its credential":  {`{"consumers":[{"username":"jack"},{"id":"jack/credentials/key1","plugins":{"door":{"key":"k"}}}]}`, nil},
		"a plugin's metadata":             {`{"plugin_metadata":[{"id":"tag","x":1}]}`, nil},
		"a secret manager":                {`{"secrets":[{"id":"vault/1","uri":"http://127.0.0.1:8200","prefix":"kv","token":"t"}]}`, nil},
		"the plugins to load":             {`{"plugins":[{"name":"tag"},{"name":"mqtt-proxy","stream":true}]}`, nil},
		"versions of sections":            {`{"routes":[],"routes_conf_version":7,"services_conf_version":1.5}`, nil},
		"a fault of the schema":           {`{"routes":[{"id":"r1","uri":5}]}`, []string{fault("routes", `"r1"`, "0", `invalid configuration: property "uri" validation failed: wrong type: expected string, got number`)}},
		"every fault, kind by kind":       {`{"upstreams":[{"id":"u","type":"chash","nodes":{"a.test:1":1}}],"routes":[{"id":"a","uri":"/x",` + upstream + `},{"id":2,"uri":"/x","plugins":{"teleport":{}}}]}`, []string{fault("routes", `2`, "1", "unknown plugin [teleport]"), fault("upstreams", `"u"`, "0", "missing key")}},
		"a fault of a plugin":             {`{"global_rules":[{"id":"g","plugins":{"tag":{"n":"x"}}}]}`, []string{fault("global_rules", `"g"`, "0", `failed to check the configuration of plugin tag err: property "n" validation failed: wrong type: expected integer, got string`)}},
		"a fault of an expression":        {`{"routes":[{"id":"a","uri":"/x",` + upstream + `,"vars":[["arg_n","?","1"]]}]}`, []string{fault("routes", `"a"`, "0", "failed to validate the 'vars' expression: invalid operator '?'")}},
		"a kind that asks for an id":      {`{"plugin_configs":[{"plugins":{}}]}`, []string{fault("plugin_configs", `""`, "0", `invalid configuration: property "id" is required`)}},
		"an id twice":                     {`{"services":[{"id":"1"},{"id":1},{"id":"2"}]}`, []string{fault("services", `1`, "1", "found duplicate id 1 in services")}},
		"a name twice":                    {`{"consumers":[{"username":"a"},{"username":"a"}]}`, []string{fault("consumers", `"a"`, "1", "found duplicate username a in consumers")}},
		"a credential twice":              {`{"consumers":[{"id":"a/credentials/key1"},{"id":"a/credentials/key1"}]}`, []string{fault("consumers", `"a/credentials/key1"`, "1", "found duplicate credential id a/credentials/key1 in consumers")}},
		"a duplicate with another fault":  {`{"services":[{"id":"1"},{"id":"1","hosts":5}]}`, []string{fault("services", `"1"`, "1", `invalid configuration: property "hosts" validation failed: wrong type: expected array, got number`), fault("services", `"1"`, "1", "found duplicate id 1 in services")}},
		"a credential that is no auth":    {`{"consumers":[{"id":"a/credentials/key1","plugins":{"tag":{}}}]}`, []string{fault("consumers", `"a/credentials/key1"`, "0", "only supports auth type plugins in consumer credential")}},
		"metadata of no plugin":           {`{"plugin_metadata":[{"id":"teleport"},{}]}`, []string{fault("plugin_metadata", `"teleport"`, "0", "invalid plugin name"), fault("plugin_metadata", `""`, "1", "missing plugin name")}},
		"secrets of no manager":           {`{"secrets":[{"id":"1"},{"id":"safe/1"}]}`, []string{fault("secrets", `"1"`, "0", "invalid secret id: 1"), fault("secrets", `"safe/1"`, "1", "invalid secret manager: safe")}},
		"items that are no objects":       {`{"routes":[5,null,[1]]}`, []string{fault("routes", `""`, "0", "invalid configuration: wrong type: expected object, got number"), fault("routes", `""`, "1", "invalid configuration: wrong type: expected object, got userdata"), fault("routes", `""`, "2", "invalid configuration: wrong type: expected object, got table")}},
		"a section that is no list":       {`{"routes":{"id":"1"},"services":"x"}`, []string{section("routes", "invalid configuration: wrong type: expected array, got table"), section("services", "invalid configuration: wrong type: expected array, got string")}},
		"a version that is no number":     {`{"routes_conf_version":"1","services_conf_version":null,"plugins_conf_version":{}}`, []string{section("routes", "routes_conf_version must be a number, got string"), section("services", "services_conf_version must be a number, got userdata"), section("plugins", "plugins_conf_version must be a number, got table")}},
		"plugins to load without a name":  {`{"plugins":[{"name":"tag"},{"stream":true}]}`, []string{section("plugins", `invalid configuration: failed to validate item 2: property "name" is required`)}},
		"a secret sealed for another one": {`{"consumers":[{"username":"a","plugins":{"door":{"key":"` + w.api.o.Ring.Seal("consumers/b", "k") + `"}}}]}`, []string{fault("consumers", `"a"`, "0", "failed to decrypt previous encrypted key: plugins.door.key was sealed for another item, or by a key that is not in the keyring")}},
		"a secret sealed for this one":    {`{"consumers":[{"username":"a","plugins":{"door":{"key":"` + w.api.o.Ring.Seal("consumers/a", "k") + `"}}}]}`, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, want := http.StatusOK, "{}\n"
			if tt.faults != nil {
				status, want = http.StatusBadRequest, `{"error_msg":"Configuration validation failed","errors":[`+strings.Join(tt.faults, ",")+"]}\n"
			}
			rec := w.call("POST", configsPath, tt.body)
			if rec.Code != status || rec.Body.String() != want {
				t.Errorf("got  %d %s\nwant %d %s", rec.Code, rec.Body, status, want)
			}
			if v := rec.Header().Get("X-API-VERSION"); v != "" {
				t.Errorf("X-API-VERSION is %q", v)
			}
		})
	}
}

// A configuration says what shall be; what is there now must not stand in its way.
func TestAConfigurationIsJudgedWithoutWhatIsStored(t *testing.T) {
	w := newWorld(t, nil)
	w.expect(t, "PUT", "/consumers/jack", `{"username":"jack","plugins":{"door":{"key":"k"}}}`, 201, "")
	w.expect(t, "PUT", "/global_rules/1", `{"plugins":{"tag":{}}}`, 201, "")
	w.expect(t, "POST", configsPath, `{"consumers":[{"username":"anna","plugins":{"door":{"key":"k"}}}],"global_rules":[{"id":"2","plugins":{"tag":{}}}]}`, 200, "{}")
}

func TestBodiesThatAreNoConfiguration(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.BodyLimit, o.Depth = 100, 5 })
	tests := map[string]struct{ kind, body, want string }{
		"none":                              {"", "", "empty request body"},
		"no JSON":                           {"", "{", "Expected object key string but found T_END at character 2"},
		"a name twice":                      {"", `{"routes":[],"routes":[]}`, "duplicate"},
		"a list":                            {"", "[]", "a configuration is an object"},
		"a text":                            {"", `"x"`, "a configuration is an object"},
		"no YAML":                           {"application/yaml", "routes: [", "invalid yaml request body"},
		"YAML of a comment":                 {"application/yaml", "# nothing", "invalid yaml request body"},
		"YAML of a text":                    {"application/yaml", "hello", "invalid yaml request body"},
		"YAML of a list":                    {"application/yaml", "- 1", "a configuration is an object"},
		"a name twice in YAML":              {"application/yaml", "routes: []\nroutes: []", "stands here and at line 1"},
		"YAML that nests too deep":          {"application/yaml", "a: [[[[[[]]]]]]", "nested more than 5 deep"},
		"more than the limit":               {"", strings.Repeat(" ", 101), "request size 101 is greater than the maximum size 100 allowed"},
		"YAML that does not say that it is": {"", "routes: []", "Expected value but found invalid token at character 1"},
	}
	for name, tt := range tests {
		rec := w.call("POST", configsPath, tt.body, "X-API-KEY", adminKey, "Content-Type", tt.kind)
		var answer map[string]string
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || len(answer) != 1 || rec.Code != http.StatusBadRequest ||
			!strings.HasPrefix(answer["error_msg"], "invalid request body: ") || !strings.Contains(answer["error_msg"], tt.want) {
			t.Errorf("%s: got %d %s, want %s", name, rec.Code, rec.Body, tt.want)
		}
	}
}

func TestAConfigurationInYAML(t *testing.T) {
	w := newWorld(t, nil)
	yaml := "routes:\n  - id: r1\n    uri: /y\n    plugins: {}\n  - id: 2\n    uri: 5\nservices:\n"
	rec := w.call("POST", configsPath, yaml, "X-API-KEY", adminKey, "Content-Type", "application/yaml; charset=utf-8")
	want := `{"error_msg":"Configuration validation failed","errors":[{"resource_type":"routes","resource_id":2,"index":1,"error":"invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number"}]}` + "\n"
	if rec.Code != http.StatusBadRequest || rec.Body.String() != want {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

func TestNothingElseIsBelowConfigs(t *testing.T) {
	w := newWorld(t, nil)
	for _, call := range [][2]string{{"GET", "/configs"}, {"PUT", "/configs"}, {"GET", configsPath}, {"POST", "/configs"}, {"POST", configsPath + "/x"}} {
		w.expect(t, call[0], call[1], "", 404, "Unsupported resource type: configs")
	}
	if rec := w.call("POST", configsPath, "{}", "X-API-KEY", viewerKey); rec.Code != http.StatusUnauthorized {
		t.Errorf("a viewer may: %d %s", rec.Code, rec.Body)
	}
}

package adminapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gosix/gosix/pkg/resource"
)

func TestPluginAndSchemaEndpoints(t *testing.T) {
	w := newWorld(t, nil)
	const notFound = `{"error_msg":"not found"}`
	noPlugin := func(in string) string { return `{"error_msg":"plugin not found in subsystem ` + in + `"}` }
	good := `{"uri":"/x","plugins":{"whatever":{}}}`
	tests := []struct {
		method, path, body string
		status             int
		want               string // the start of the answer
		versioned          bool   // the answer has X-API-VERSION
	}{
		{"GET", "/plugins/list", "", 200, `["door","tag"]`, false},
		{"GET", "/plugins/list/", "", 200, `["door","tag"]`, false},
		{"GET", "/plugins/list?subsystem=http", "", 200, `["door","tag"]`, false},
		{"GET", "/plugins/list?subsystem=stream", "", 200, `[]`, false},
		{"GET", "/plugins/list?subsystem=quic", "", 400, `invalid subsystem passed`, false},
		{"POST", "/plugins/list", "", 404, notFound, false},
		{"GET", "/plugins/tag", "", 200, `{"type":"object","properties":{"secret":{"type":"string"},"n":{"type":"integer","default":1},"_meta":{"type":"object",`, true},
		{"GET", "/plugins/tag?subsystem=http", "", 200, `{"type":"object"`, true},
		{"GET", "/plugins/tag?subsystem=stream", "", 404, noPlugin("stream"), true},
		{"GET", "/plugins/tag?subsystem=quic", "", 400, `{"error_msg":"unsupported subsystem: quic"}`, true},
		{"GET", "/plugins/tag?schema_type=consumer", "", 400, `{"error_msg":"not found schema"}`, true},
		{"GET", "/plugins/tag?schema_type=other", "", 200, `{"type":"object"`, true},
		{"GET", "/plugins/door?schema_type=consumer", "", 200, `{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}` + "\n", true},
		{"GET", "/plugins/teleport", "", 404, noPlugin("http"), true},
		{"GET", "/plugins", "", 404, noPlugin("http"), true},
		{"GET", "/plugins?all=false", "", 404, noPlugin("http"), true},
		{"PUT", "/plugins/tag", "{}", 404, notFound, false},
		{"GET", "/plugins?all=true&subsystem=stream", "", 200, "{}\n", true},
		{"GET", "/plugins?all=true&subsystem=quic", "", 400, `{"error_msg":"unsupported subsystem: quic"}`, true},
		{"GET", "/schema/plugins/tag", "", 200, `{"type":"object"`, true},
		{"GET", "/schema/plugins/door?schema_type=consumer", "", 200, `{"type":"object","properties":{"key"`, true},
		{"GET", "/schema/plugins/teleport", "", 404, noPlugin("http"), true},
		{"GET", "/schema/plugins", "", 404, noPlugin("http"), true},
		{"GET", "/schema/nope", "", 400, `{"error_msg":"not found schema: nope"}`, true},
		{"GET", "/schema/routes", "", 400, `{"error_msg":"not found schema: routes"}`, true},
		{"GET", "/schema/validate/routes", "", 400, `{"error_msg":"not found schema: validate"}`, true},
		{"PUT", "/schema/route", "{}", 404, notFound, false},
		{"POST", "/schema/validate", "{}", 404, notFound, false},
		{"PUT", "/schema/validate/routes", "{}", 404, notFound, false},
		{"POST", "/schema/validate/routes", good, 200, "", false},
		{"POST", "/schema/validate/routes?ttl=soon", good, 200, "", false},
		{"POST", "/schema/validate/routes", `{"uri":"/x","upstream_id":"none"}`, 200, "", false},
		{"POST", "/schema/validate/routes", `{"uri":5,"plugins":{}}`, 400, `{"error_msg":"property \"uri\" validation failed: wrong type: expected string, got number"}`, false},
		{"POST", "/schema/validate/routes", ``, 400, `{"error_msg":"wrong type: expected object, got nil"}`, false},
		{"POST", "/schema/validate/routes", `{`, 400, `{"error_msg":"invalid request body: Expected object key string but found T_END at character 2","req_body":"{"}`, false},
		{"POST", "/schema/validate/plugin_configs", `{"plugins":{}}`, 400, `{"error_msg":"property \"id\" is required"}`, false},
		{"POST", "/schema/validate/nope", `{}`, 404, `{"error_msg":"Unsupported resource type: nope"}`, false},
		{"POST", "/schema/validate/route", `{}`, 404, `{"error_msg":"Unsupported resource type: route"}`, false},
		{"POST", "/schema/validate/secrets", `{}`, 404, `{"error_msg":"Unsupported resource type: secrets"}`, false},
	}
	for _, tt := range tests {
		rec := w.call(tt.method, tt.path, tt.body)
		got := rec.Body.String()
		if rec.Code != tt.status || !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s %s %s: got %d %s, want %d %s", tt.method, tt.path, tt.body, rec.Code, got, tt.status, tt.want)
		}
		if versioned := rec.Header().Get("X-API-VERSION") == "v3"; versioned != tt.versioned {
			t.Errorf("%s %s: X-API-VERSION %v, want %v", tt.method, tt.path, versioned, tt.versioned)
		}
	}
}

// What the dashboard draws its forms from.
func TestAllPluginsWithEverythingAboutThem(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.call("GET", "/plugins?all=true", "")
	var all map[string]map[string]json.RawMessage
	if err := json.Unmarshal(rec.Body.Bytes(), &all); err != nil || len(all) != 2 {
		t.Fatalf("got %s %v", rec.Body, err)
	}
	want := map[string]map[string]string{
		"tag":  {"version": `"1"`, "priority": "10", "scope": `"global"`, "metadata_schema": `{"type":"object","properties":{"x":{"type":"integer"}}}`, "schema": ""},
		"door": {"version": `"1"`, "priority": "20", "type": `"auth"`, "consumer_schema": `{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}`, "schema": ""},
	}
	for name, attributes := range want {
		if len(all[name]) != len(attributes) {
			t.Errorf("%s has %v, want %v", name, all[name], attributes)
		}
		for attribute, value := range attributes {
			if got := string(all[name][attribute]); value != "" && got != value {
				t.Errorf("%s of %s: got %s, want %s", attribute, name, got, value)
			}
		}
		schema := w.call("GET", "/plugins/"+name, "").Body.String()
		if got := string(all[name]["schema"]); got != strings.TrimSpace(schema) {
			t.Errorf("schema of %s: got %s, want %s", name, got, schema)
		}
	}
}

func TestEveryCoreSchemaIsPublished(t *testing.T) {
	w := newWorld(t, nil)
	names := []string{"host_def", "id_schema", "method_schema", "upstream_hash_vars_schema", "upstream_hash_header_schema"}
	for _, k := range resource.Kinds() {
		if k.Schema != nil {
			names = append(names, k.SchemaName)
		}
	}
	for _, name := range names {
		if rec := w.call("GET", "/schema/"+name, ""); rec.Code != http.StatusOK || !json.Valid(rec.Body.Bytes()) || strings.Contains(rec.Body.String(), "$use") {
			t.Errorf("%s: got %d %s", name, rec.Code, rec.Body)
		}
	}
}

// Answers share the bytes of a schema; none may write to them.
func TestSchemasAreReadByManyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, path := range []string{"/schema/route", "/plugins/tag", "/plugins/door?schema_type=consumer"} {
				w.call("GET", path, "")
			}
		})
	}
	all.Wait()
}

func TestReloadIsForPUT(t *testing.T) {
	var fails error
	reloads := 0
	w := newWorld(t, func(o *Options) {
		o.Reload = func() (int64, error) { reloads++; return 7, fails }
	})
	for _, method := range []string{"GET", "POST", "DELETE", "PATCH"} {
		w.expect(t, method, "/plugins/reload", "", 405, `{"error_msg":"please use PUT method to reload the plugins, `+method+` method is not allowed."}`)
	}
	for _, path := range []string{"/plugins/reload", "/plugins/reload/"} {
		if rec := w.call("PUT", path, ""); rec.Code != http.StatusOK || rec.Body.String() != "done" || rec.Header().Get("X-API-VERSION") != "" {
			t.Errorf("PUT %s: got %d %s %v", path, rec.Code, rec.Body, rec.Header())
		}
	}
	fails = errors.New("conf.yaml:3: no")
	if rec := w.call("PUT", "/plugins/reload", ""); rec.Code != http.StatusServiceUnavailable || rec.Body.String() != fails.Error() {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if reloads != 3 {
		t.Errorf("%d reloads, want 3", reloads)
	}
	fixed := newWorld(t, nil)
	fixed.expect(t, "PUT", "/plugins/reload", "", 503, "the plugins of this process are fixed")
}

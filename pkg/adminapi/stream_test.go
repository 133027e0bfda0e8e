package adminapi

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/pkg/store"
)

// put stores a document as another writer of the store would.
func (w *world) put(key, doc string) {
	w.t.Helper()
	if _, err := w.store.Commit(w.t.Context(), nil, []store.Op{{Key: "/apisix/" + key, Value: []byte(doc)}}); err != nil {
		w.t.Fatal(err)
	}
}

func TestStreamRoutes(t *testing.T) {
	const upstream = `"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}`
	w := newWorld(t, func(o *Options) { o.Stream = true })
	w.put("stream_routes/top", `{"id":"top","protocol":{"name":"redis"},`+upstream+`}`)
	w.put("stream_routes/tcp", `{"id":"tcp",`+upstream+`}`)
	w.put("upstreams/u1", `{"id":"u1","type":"roundrobin","nodes":{"127.0.0.1:1":1}}`)
	tests := []struct {
		name, body string
		status     int
		want       string
	}{
		{"an inline upstream", `{"server_port":9100,"remote_addr":"10.0.0.0/8","server_addr":"::1",` + upstream + `}`, 201, `"server_port":9100`},
		{"a named upstream", `{"upstream_id":"u1"}`, 200, `"upstream_id":"u1"`},
		{"an upstream that is missing", `{"upstream_id":"u2"}`, 400, `{"error_msg":"failed to fetch upstream info by upstream id [u2], response code: 404"}`},
		{"a service that is missing", `{"service_id":"s1"}`, 400, `{"error_msg":"failed to fetch service info by service id [s1], response code: 404"}`},
		{"no address of a client", `{"remote_addr":":/8",` + upstream + `}`, 400, `{"error_msg":"invalid remote_addr: :/8"}`},
		{"no address of a server", `{"server_addr":"::/200",` + upstream + `}`, 400, `{"error_msg":"invalid server_addr: ::/200"}`},
		{"no port", `{"server_port":0,` + upstream + `}`, 400, `{"error_msg":"invalid configuration: property \"server_port\" validation failed: expected 0 to be at least 1"}`},
		{"a plugin for HTTP", `{"plugins":{"tag":{}},` + upstream + `}`, 400, `{"error_msg":"unknown plugin [tag]"}`},
		{"a plugin that is none", `{"plugins":{"teleport":{}},` + upstream + `}`, 400, `{"error_msg":"unknown plugin [teleport]"}`},
		{"a plugin configuration that is none", `{"plugins":{"teleport":"blah"},` + upstream + `}`, 400, `{"error_msg":"invalid plugin conf \"blah\" for plugin [teleport]"}`},
		{"a protocol that is not built", `{"protocol":{"name":"redis"},` + upstream + `}`, 400, `{"error_msg":"unknown protocol [redis]"}`},
		{"itself as its superior", `{"protocol":{"name":"redis","superior_id":"1"},` + upstream + `}`, 400, `{"error_msg":"stream route can not set itself as superior_id"}`},
		{"a superior that is missing", `{"protocol":{"name":"redis","superior_id":"nope"},` + upstream + `}`, 400, `{"error_msg":"failed to fetch stream routes[nope], response code: 404"}`},
		{"a superior of another protocol", `{"protocol":{"name":"dubbo","superior_id":"top"},` + upstream + `}`, 400, `{"error_msg":"protocol mismatch: subordinate protocol [dubbo] does not match superior protocol [redis]"}`},
		{"a superior of the same protocol", `{"protocol":{"name":"redis","superior_id":"top"},` + upstream + `}`, 400, `{"error_msg":"unknown protocol [redis]"}`},
		{"a superior without a protocol", `{"protocol":{"name":"redis","superior_id":"tcp"},` + upstream + `}`, 400, `{"error_msg":"unknown protocol [redis]"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { w.expect(t, "PUT", "/stream_routes/1", tt.body, tt.status, tt.want) })
	}
	w.expect(t, "POST", "/stream_routes/", `{"upstream_id":"u1"}`, 201, `"id":"0000000000`)
	w.expect(t, "PATCH", "/stream_routes/1", `{"desc":"x"}`, 405, "not supported `PATCH` method for stream route")
	w.expect(t, "DELETE", "/upstreams/u1", "", 400, `can not delete this upstream, stream_route [`)
	w.put("stream_routes/sub", `{"id":"sub","protocol":{"name":"redis","superior_id":"top"},`+upstream+`}`)
	w.expect(t, "DELETE", "/stream_routes/top", "", 400, `can not delete this stream route directly, stream route [sub] is still using it as superior_id`)
	w.expect(t, "DELETE", "/stream_routes/top?force=true", "", 200, `"deleted":"1"`)
	w.expect(t, "POST", configsPath, `{"stream_routes":[{"id":"1","upstream_id":"nope"},{"id":"2","protocol":{"name":"redis","superior_id":"nope"}}]}`, 400,
		`"errors":[{"resource_type":"stream_routes","resource_id":"2","index":1,"error":"unknown protocol [redis]"}]`)
}

func TestStreamRoutesAreOff(t *testing.T) {
	w := newWorld(t, nil)
	for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
		w.expect(t, method, "/stream_routes/1", `{}`, 400, `{"error_msg":"stream mode is disabled, can not add stream routes"}`)
	}
}

// The verdict on certificates is that of pkg/resource, on definitions that of pkg/protodef; here it becomes an
// answer, and nothing is stored.
func TestCertificatesAndDefinitionsAreJudged(t *testing.T) {
	var log logtest.Log
	w := newWorld(t, func(o *Options) { o.Log = zerolog.New(&log) })
	w.expect(t, "PUT", "/protos/1", `{"content":"syntax = \"proto3\"; message A { B b = 1; }"}`, 400, `{"error_msg":"invalid content: 1:32: field A.b: unknown type B"}`)
	w.expect(t, "POST", "/protos", `{"content":"syntax = \"proto3\"; message A {}"}`, 201, `"content":`)
	w.expect(t, "GET", "/protos/1", "", 404, "Key not found")
	long := `"` + strings.Repeat("w", 200) + `"`
	w.expect(t, "PUT", "/ssls/1", `{"sni":"a.test","cert":`+long+`,"key":`+long+`}`, 400, `{"error_msg":"failed to parse cert: PEM_read_bio_X509_AUX() failed"}`)
	w.expect(t, "PUT", "/ssls/1", `{"sni":"a.test","cert":"$env://CERT","key":`+long+`}`, 400, `{"error_msg":"failed to decrypt previous encrypted key"}`)
	w.expect(t, "PUT", "/ssls/1", `{"sni":"a.test","cert":"$env://CERT","key":"$env://KEY"}`, 201, `"sni":"a.test"`)
	if got := strings.Count(log.String(), "decrypt ssl key failed"); got != 1 {
		t.Errorf("%d lines tell of a key that does not open, want 1: %s", got, &log)
	}
}

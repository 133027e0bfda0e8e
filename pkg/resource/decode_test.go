package resource

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

var compareNetip = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestDecodeRoute(t *testing.T) {
	yes, retries := true, 0
	tests := []struct {
		name, doc string
		want      *Route
	}{
		{
			"a plain one gets its defaults", `{"uri":"/a","plugins":{}}`,
			&Route{URIs: []string{"/a"}, Hosts: []string{}, RemoteAddrs: []netip.Prefix{}, Status: 1, Plugins: Plugins{}},
		},
		{
			"lists, in lower case where case does not count",
			`{"id":"other","name":"n","desc":"d","labels":{"a":"b"},"uris":["/A","/b*"],"hosts":["*.A.test","B.test"],"methods":["GET"],
			  "remote_addrs":["10.1.2.3","10.1.2.3/8","fe80::1/64","::1"],"vars":[ ["arg_a", "==", 1e2] ],"priority":-4.0,"status":0,
			  "plugin_config_id":7,"service_id":"s1","upstream_id":9,"enable_websocket":true,"timeout":{"connect":0.5,"send":1,"read":2},
			  "plugins":{"zebra":{ "a" : 1.0 },"ant":[]},"create_time":5,"update_time":6}`,
			&Route{
				Name: "n", URIs: []string{"/A", "/b*"},
				Hosts: []string{"*.a.test", "b.test"}, Methods: []string{"GET"},
				RemoteAddrs: []netip.Prefix{
					netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.0.0.0/8"),
					netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("::1/128"),
				},
				Vars: json.RawMessage(`[["arg_a","==",1e2]]`), Priority: -4, Status: 0,
				PluginConfigID: "7", ServiceID: "s1", UpstreamID: "9", EnableWebsocket: &yes,
				Timeout: &Timeout{Connect: 0.5, Send: 1, Read: 2},
				Plugins: Plugins{{"ant", json.RawMessage(`[]`)}, {"zebra", json.RawMessage(`{"a":1.0}`)}},
			},
		},
		{
			"an inline upstream", `{"id":1,"uri":"/a","host":"A.test","upstream":{"nodes":{"b.test":2,"a.test:80":1,"[::1]:81":0,"::2":4},"retries":0}}`,
			&Route{
				URIs: []string{"/a"}, Hosts: []string{"a.test"}, RemoteAddrs: []netip.Prefix{}, Status: 1,
				Upstream: &Upstream{
					Type: "roundrobin", HashOn: "vars", Scheme: "http", PassHost: "pass", Retries: &retries,
					Nodes: []Node{{"[::2]", 0, 4, 0}, {"[::1]", 81, 0, 0}, {"a.test", 80, 1, 0}, {"b.test", 0, 2, 0}},
				},
			},
		},
		{
			"empty containers of the other kind", `{"uri":"/a","plugins":[],"labels":[],"vars":{},"methods":{},"upstream":{"nodes":[],"labels":[]}}`,
			&Route{
				URIs: []string{"/a"}, Hosts: []string{}, RemoteAddrs: []netip.Prefix{}, Status: 1,
				Upstream: &Upstream{Type: "roundrobin", HashOn: "vars", Scheme: "http", PassHost: "pass", Nodes: []Node{}},
			},
		},
		{
			"a priority beyond all bounds is limited", `{"uri":"/a","plugins":{},"priority":1e300}`,
			&Route{URIs: []string{"/a"}, Hosts: []string{}, RemoteAddrs: []netip.Prefix{}, Status: 1, Plugins: Plugins{}, Priority: 1 << 53},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := DecodeRoute("r1", []byte(test.doc))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Hosts) == 0 {
				got.Hosts = []string{}
			}
			if diff := cmp.Diff(test.want, got, compareNetip); diff != "" {
				t.Errorf("route (-want +got):\n%s", diff)
			}
		})
	}
}

// Maps of documents, which are gone once they are decoded, take 288 bytes of memory that is
// handed out in equal parts: what is kept must not be of their size.
func TestRoutesAreNoNeighboursOfMaps(t *testing.T) {
	for name, size := range map[string]uintptr{"a route": unsafe.Sizeof(Route{}), "an upstream": unsafe.Sizeof(Upstream{})} {
		if size > 256 {
			t.Errorf("%s has %d bytes, want 256 at most", name, size)
		}
	}
}

func TestDecodeRouteRefuses(t *testing.T) {
	for _, test := range []struct{ name, doc, want string }{
		{"what is no JSON", `init_dir`, `invalid character 'i' looking for beginning of value`},
		{"what is no object", `"a"`, `it should be an object`},
		{"a list", `[1]`, `it should be an object`},
		{"two values", `{} {}`, `data after the JSON value`},
		{"what the schema refuses", `{"uri":5,"plugins":{}}`, `invalid configuration: property "uri" validation failed: wrong type: expected string, got number`},
		{"what the schema cannot say", `{"uri":"/a","upstream":{"nodes":{"a:0":1}}}`, `invalid port 0`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := DecodeRoute("r1", []byte(test.doc)); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestDecodeUpstream(t *testing.T) {
	got, err := DecodeUpstream("u1", []byte(`{"type":"chash","key":"uri","scheme":"https","retry_timeout":1.5,"pass_host":"rewrite","upstream_host":"a.test",
		"nodes":[{"host":"b","port":80,"weight":1,"priority":-1},{"host":"::1","weight":2}],"keepalive_pool":{"idle_timeout":0.5},
		"tls":{"client_cert_id":3},"checks":{"active":{"healthy":{"successes":1}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Upstream{
		ID: "u1", Type: "chash", HashOn: "vars", Key: "uri", Scheme: "https", RetryTimeout: 1.5, PassHost: "rewrite", UpstreamHost: "a.test",
		Nodes:         []Node{{"b", 80, 1, -1}, {"[::1]", 0, 2, 0}},
		KeepalivePool: &KeepalivePool{Size: 320, IdleTimeout: 0.5, Requests: 1000},
		TLS:           &UpstreamTLS{ClientCertID: "3"},
		Checks: json.RawMessage(`{"active":{"concurrency":10,"healthy":{"http_statuses":[200,302],"interval":1,"successes":1},` +
			`"http_method":"GET","http_path":"/","http_req_body":"","https_verify_certificate":true,"timeout":1,"type":"http"}}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("upstream (-want +got):\n%s", diff)
	}
	discovered, err := DecodeUpstream("u2", []byte(`{"service_name":"a","discovery_type":"dns","discovery_args":{"group_name":"g"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if discovered.Nodes != nil || discovered.ServiceName != "a" {
		t.Errorf("got %+v, want a service and no nodes", discovered)
	}
}

func TestDecodeOthers(t *testing.T) {
	cert, key := newPair(t)
	pair, err := json.Marshal(map[string]any{"cert": cert, "key": key, "sni": "A.test.", "client": map[string]any{"ca": cert}})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParsePrefix("10.0.0.0/8")
	tests := []struct {
		name   string
		decode func() (any, error)
		want   any
	}{
		{
			"a service", func() (any, error) { return DecodeService("s1", []byte(`{"hosts":["A.test"],"upstream_id":1}`)) },
			&Service{ID: "s1", Hosts: []string{"a.test"}, UpstreamID: "1"},
		},
		{
			"a decoration",
			func() (any, error) {
				return DecodeGraphQLCostDecoration("s1/graphql_cost_decorations/d1", []byte(`{"field_path":"a.b","add_value":2}`))
			},
			&GraphQLCostDecoration{ID: "d1", ServiceID: "s1", FieldPath: "a.b", AddValue: 2, MulValue: 1},
		},
		{
			"a consumer", func() (any, error) {
				return DecodeConsumer("jack", []byte(`{"username":"jack","group_id":1,"plugins":{"key-auth":{"key":"k"}}}`))
			},
			&Consumer{Username: "jack", GroupID: "1", Plugins: Plugins{{"key-auth", json.RawMessage(`{"key":"k"}`)}}},
		},
		{
			"a credential", func() (any, error) { return DecodeCredential("jack/credentials/c1", []byte(`{"name":"n"}`)) },
			&Credential{ID: "c1", Consumer: "jack", Name: "n"},
		},
		{
			"a consumer group", func() (any, error) { return DecodeConsumerGroup("g1", []byte(`{"plugins":{"a":{}}}`)) },
			&ConsumerGroup{ID: "g1", Plugins: Plugins{{"a", json.RawMessage(`{}`)}}},
		},
		{
			"a plugin config", func() (any, error) { return DecodePluginConfig("p1", []byte(`{"id":"p1","plugins":{}}`)) },
			&PluginConfig{ID: "p1", Plugins: Plugins{}},
		},
		{
			"a global rule", func() (any, error) { return DecodeGlobalRule("r1", []byte(`{"plugins":{}}`)) },
			&GlobalRule{ID: "r1", Plugins: Plugins{}},
		},
		{
			"plugin metadata", func() (any, error) { return DecodePluginMetadata("http-logger", []byte(`{ "a": 1.0 }`)) },
			&PluginMetadata{Name: "http-logger", Conf: json.RawMessage(`{"a":1.0}`)},
		},
		{
			"a certificate", func() (any, error) { return DecodeSSL("s1", pair) },
			&SSL{ID: "s1", Type: "server", SNIs: []string{"a.test"}, Cert: cert, Key: key, Status: 1, Client: &SSLClient{CA: cert, Depth: 1}},
		},
		{
			"a secret", func() (any, error) {
				return DecodeSecret("aws/1", []byte(`{"access_key_id":"a","secret_access_key":"b"}`))
			},
			&Secret{Manager: "aws", ID: "1", Conf: json.RawMessage(`{"access_key_id":"a","region":"us-east-1","secret_access_key":"b"}`)},
		},
		{"a definition", func() (any, error) { return DecodeProto("p1", []byte(`{"content":"message A {}"}`)) }, &Proto{ID: "p1", Content: "message A {}"}},
		{
			"a stream route", func() (any, error) {
				return DecodeStreamRoute("s1", []byte(`{"remote_addr":"10.0.0.1/8","server_port":9100,"sni":"A.test","protocol":{"name":"redis","conf":{"a":1}}}`))
			},
			&StreamRoute{
				ID: "s1", RemoteAddr: &addr, ServerPort: 9100, SNI: "a.test",
				Protocol: &StreamProtocol{Name: "redis", Conf: json.RawMessage(`{"a":1}`)},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.decode()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compareNetip); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPluginsGet(t *testing.T) {
	p := Plugins{{"a", json.RawMessage(`1`)}, {"c", json.RawMessage(`2`)}}
	if got, want := string(p.Get("c")), "2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := p.Get("b"); got != nil {
		t.Errorf("got %s, want none", got)
	}
}

func FuzzDecodeRoute(f *testing.F) {
	for _, seed := range []string{
		`{"uri":"/a","plugins":{"x":{"y":[1]}}}`,
		`{"uris":["/a"],"upstream":{"nodes":[{"host":"::1","weight":1}],"checks":{"active":{}}},"vars":[["a","==",1]]}`,
		`{"uri":"/a","upstream":{"nodes":{"a:80":1,"[::1]":0},"type":"chash","key":"uri","tls":{"client_cert":"$env://A","client_key":"$env://B"}}}`,
		`{"uri":"/a","plugins":[],"remote_addr":"fe80::1%a/64","timeout":{"connect":1,"send":1,"read":1e999}}`,
		`{"uri":"/a","host":"$env://H","plugins":{},"status":"$env://S"}`,
		`[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := DecodeRoute("r1", p)
		if err != nil {
			return
		}
		if len(r.URIs) == 0 || r.Status < 0 || r.Status > 1 {
			t.Errorf("%s: got %+v", p, r)
		}
		for _, c := range r.Plugins {
			if !json.Valid(c.Conf) {
				t.Errorf("%s: plugin %s has configuration %s", p, c.Name, c.Conf)
			}
		}
		if r.Upstream == nil {
			return
		}
		for _, n := range r.Upstream.Nodes {
			if n.Port < 0 || n.Port > 65535 || n.Weight < 0 || isIPv6(n.Host) && !strings.HasPrefix(n.Host, "[") {
				t.Errorf("%s: node %+v", p, n)
			}
		}
	})
}

func BenchmarkDecodeRoute(b *testing.B) {
	doc := []byte(`{"id":"r1","uri":"/a/*","host":"a.test","methods":["GET","POST"],"plugins":{"limit-count":{"count":2,"time_window":60}},` +
		`"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1980":1,"127.0.0.1:1981":1}},"create_time":1,"update_time":2}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRoute("r1", doc); err != nil {
			b.Fatal(err)
		}
	}
}

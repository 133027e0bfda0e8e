package resource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/schema"
)

func decoded(t testing.TB, doc string) any {
	t.Helper()
	v, err := schema.Decode([]byte(doc))
	if err != nil {
		t.Fatalf("decode %s: %v", doc, err)
	}
	return v
}

// A good or bad document; the id is that of Locate, "t1" if empty.
type verdict struct {
	name, id, doc, want string
}

func testVerdicts(t *testing.T, kind string, tests []verdict) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.id == "" {
				test.id = "t1"
			}
			got := ""
			if _, err := ByName(kind).Validate(test.id, decoded(t, test.doc)); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

const hostPattern = `"^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"`

func TestValidateRoute(t *testing.T) {
	const anyOf = `object matches none of the required: ["plugins","uri"] or ["upstream","uri"] or ["upstream_id","uri"] or ["service_id","uri"]` +
		` or ["plugins","uris"] or ["upstream","uris"] or ["upstream_id","uris"] or ["service_id","uris"] or ["script","uri"] or ["script","uris"]`
	testVerdicts(t, "routes", []verdict{
		{name: "a plain one", doc: `{"uri":"/a","upstream_id":"u1"}`},
		{name: "everything at once", doc: `{"id":"r1","name":"n","desc":"d","labels":{"a":"b"},"uris":["/a","/b*"],"priority":-4,"methods":["GET","PURGE"],"hosts":["*.a.test","b.test"],"remote_addrs":["10.0.0.1","10.0.0.0/8","::1","fe80::1/64"],"timeout":{"connect":0.5,"send":1,"read":2},"vars":[["arg_a","==","1"]],"plugins":{"x":{}},"plugin_config_id":7,"service_id":"s","upstream_id":9,"enable_websocket":true,"status":0,"create_time":1,"update_time":2}`},
		{name: "empty containers of either kind", doc: `{"uri":"/a","plugins":[],"labels":[],"vars":{},"methods":{}}`},
		{name: "no uri", doc: `{"plugins":{}}`, want: `invalid configuration: allOf 1 failed: value should match only one schema, but matches none`},
		{name: "uri and uris", doc: `{"uri":"/a","uris":["/b"],"plugins":{}}`, want: `invalid configuration: allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2`},
		{name: "nowhere to go", doc: `{"uri":"/a"}`, want: `invalid configuration: ` + anyOf},
		{name: "a list, which the id makes an object", doc: `["a"]`, want: `invalid configuration: additional properties forbidden, found 1`},
		{name: "a scalar", doc: `5`, want: `invalid configuration: wrong type: expected object, got number`},
		{name: "an empty uri", doc: `{"uri":"","plugins":{}}`, want: `invalid configuration: property "uri" validation failed: string too short, expected at least 1, got 0`},
		{name: "a uri too long", doc: `{"uri":"` + strings.Repeat("a", 4097) + `","plugins":{}}`, want: `invalid configuration: property "uri" validation failed: string too long, expected at most 4096, got 4097`},
		{name: "no uris", doc: `{"uris":[],"plugins":{}}`, want: `invalid configuration: property "uris" validation failed: expect array to have at least 1 items`},
		{name: "a unknown method", doc: `{"uri":"/a","plugins":{},"methods":["BREW"]}`, want: `invalid configuration: property "methods" validation failed: failed to validate item 1: matches none of the enum values`},
		{name: "a host with a space", doc: `{"uri":"/a","plugins":{},"host":"a b"}`, want: `invalid configuration: property "host" validation failed: failed to match pattern ` + hostPattern + ` with "a b"`},
		{name: "host beside hosts, before the schema", doc: `{"uri":5,"host":"a","hosts":["b"]}`, want: `only one of host or hosts is allowed`},
		{name: "remote_addr beside remote_addrs", doc: `{"uri":"/a","remote_addr":"10.0.0.1","remote_addrs":["10.0.0.1"]}`, want: `only one of remote_addr or remote_addrs is allowed`},
		{name: "an address that is a name", doc: `{"uri":"/a","plugins":{},"remote_addr":"localhost"}`, want: `invalid configuration: property "remote_addr" validation failed: object matches none of the required`},
		{name: "a prefix too long", doc: `{"uri":"/a","plugins":{},"remote_addrs":["10.0.0.0/33"]}`, want: `invalid configuration: property "remote_addrs" validation failed: failed to validate item 1: object matches none of the required`},
		{name: "an address that only looks like one", doc: `{"uri":"/a","plugins":{},"remote_addr":"1:2/64"}`, want: `invalid remote_addr: 1:2/64`},
		{name: "half a timeout", doc: `{"uri":"/a","plugins":{},"timeout":{"connect":1,"send":1}}`, want: `invalid configuration: property "timeout" validation failed: property "read" is required`},
		{name: "a timeout of zero", doc: `{"uri":"/a","plugins":{},"timeout":{"connect":0,"send":1,"read":1}}`, want: `invalid configuration: property "timeout" validation failed: property "connect" validation failed: expected 0 to be greater than 0`},
		{name: "an id with a space", doc: `{"id":"a b","uri":"/a","plugins":{}}`, want: `invalid configuration: property "id" validation failed: object matches none of the required`},
		{name: "an id of zero", doc: `{"id":0,"uri":"/a","plugins":{}}`, want: `invalid configuration: property "id" validation failed: object matches none of the required`},
		{name: "a label with a space", doc: `{"uri":"/a","plugins":{},"labels":{"a":"x y"}}`, want: `invalid configuration: property "labels" validation failed: failed to validate a (matching ".*"): failed to match pattern "^\\S+$" with "x y"`},
		{name: "an id that is looked up", doc: `{"id":"$env://ID","uri":"/a","plugins":{}}`, want: `invalid configuration: property "id" validation failed: a reference cannot name an item`},
		{name: "an unknown member", doc: `{"uri":"/a","plugins":{},"maple":1}`, want: `invalid configuration: additional properties forbidden, found maple`},
		{name: "null", doc: `{"uri":"/a","plugins":{},"desc":null}`, want: `invalid configuration: property "desc" validation failed: wrong type: expected string, got userdata`},
		{name: "a filter function that is none", doc: `{"uri":"/a","plugins":{},"filter_func":"return 12345"}`, want: `invalid configuration: property "filter_func" validation failed: failed to match pattern "^function" with "return 12345"`},
		{name: "a filter function", doc: `{"uri":"/a","plugins":{},"filter_func":"function() return true end"}`, want: `filter_func is not supported: Lua in configuration is refused`},
		{name: "a script", doc: `{"uri":"/a","script":"local m = {} return m"}`, want: `script is not supported: Lua in configuration is refused`},
		{name: "a script beside plugins", doc: `{"uri":"/a","plugins":{},"script":"local m = {} return m"}`, want: `invalid configuration: value wasn't supposed to match schema`},
		{name: "an upstream that is a number", doc: `{"uri":"/a","upstream":5}`, want: `invalid configuration: property "upstream" validation failed: wrong type: expected object, got number`},
		{name: "an upstream without nodes", doc: `{"uri":"/a","upstream":{}}`, want: `invalid configuration: property "upstream" validation failed: value should match only one schema, but matches none`},
		{name: "an upstream with a bad hash key", doc: `{"uri":"/a","upstream":{"nodes":{"a:1":1},"type":"chash"}}`, want: `missing key`},
	})
}

func TestValidateService(t *testing.T) {
	testVerdicts(t, "services", []verdict{
		{name: "an empty one", doc: `{}`},
		{name: "everything at once", doc: `{"id":1,"name":"n","desc":"","labels":{},"plugins":{},"upstream":{"nodes":[]},"upstream_id":"u","enable_websocket":false,"hosts":["a.test"]}`},
		{name: "a bad host", doc: `{"hosts":["x y"]}`, want: `invalid configuration: property "hosts" validation failed: failed to validate item 1: failed to match pattern ` + hostPattern + ` with "x y"`},
		{name: "enable_websocket as a number", doc: `{"enable_websocket":1}`, want: `invalid configuration: property "enable_websocket" validation failed: wrong type: expected boolean, got number`},
		{name: "an upstream that rewrites to nothing", doc: `{"upstream":{"nodes":{"a:1":1},"pass_host":"rewrite"}}`, want: "`upstream_host` can't be empty when `pass_host` is `rewrite`"},
		{name: "a script", doc: `{"script":"local m = {} return m"}`, want: `script is not supported: Lua in configuration is refused`},
	})
}

func TestValidateUpstream(t *testing.T) {
	cert, key := newPair(t)
	_, otherKey := newPair(t)
	tls := func(cert, key string) string {
		doc, err := json.Marshal(map[string]any{"nodes": map[string]any{}, "tls": map[string]any{"client_cert": cert, "client_key": key}})
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	const inNodes = `invalid configuration: property "nodes" validation failed: object matches none of the required`
	testVerdicts(t, "upstreams", []verdict{
		{name: "nodes as an object", doc: `{"nodes":{"a.test:80":1,"b.test":0,"[::1]:80":3,"[::2]":1}}`},
		{name: "nodes as a list", doc: `{"nodes":[{"host":"127.0.0.1","port":80,"weight":1,"priority":-1,"metadata":{"z":1},"colour":"red"},{"host":"[::1]","weight":1}]}`},
		{name: "no nodes yet", doc: `{"nodes":[]}`},
		{name: "service discovery", doc: `{"service_name":"a","discovery_type":"carrier-pigeon","discovery_args":{"group_name":"g"}}`},
		{name: "half of service discovery", doc: `{"service_name":"a"}`, want: `invalid configuration: value should match only one schema, but matches none`},
		{name: "nodes beside service discovery", doc: `{"nodes":[],"service_name":"a","discovery_type":"dns"}`, want: `invalid configuration: value should match only one schema, but matches both schemas 1 and 2`},
		{name: "nodes as a string", doc: `{"nodes":"a:1"}`, want: inNodes},
		{name: "a node without a weight", doc: `{"nodes":[{"host":"a"}]}`, want: inNodes},
		{name: "a node with a negative weight", doc: `{"nodes":{"a:1":-1}}`, want: inNodes},
		{name: "a listed port too high", doc: `{"nodes":[{"host":"a","port":65536,"weight":1}]}`, want: inNodes},
		{name: "a port too high in a key", doc: `{"nodes":{"a.test:65536":1}}`, want: `invalid port 65536`},
		{name: "a port of zero in a key", doc: `{"nodes":{"a.test:0":1}}`, want: `invalid port 0`},
		{name: "a port that is a word", doc: `{"nodes":{"a.test:http":1}}`, want: `invalid port http`},
		{name: "a listed IPv6 address without brackets", doc: `{"nodes":[{"host":"::1","port":80,"weight":1}]}`, want: `invalid configuration: IPv6 address must be enclosed with '[' and ']'`},
		{name: "a scheme that is none", doc: `{"nodes":[],"scheme":"gopher"}`, want: `invalid configuration: property "scheme" validation failed: matches none of the enum values`},
		{name: "a negative number of retries", doc: `{"nodes":[],"retries":-1}`, want: `invalid configuration: property "retries" validation failed: expected -1 to be at least 0`},
		{name: "an idle pool of size zero", doc: `{"nodes":[],"keepalive_pool":{"size":0}}`, want: `invalid configuration: property "keepalive_pool" validation failed: property "size" validation failed: expected 0 to be at least 1`},
		{name: "rewrite without a host", doc: `{"nodes":[],"pass_host":"rewrite"}`, want: "`upstream_host` can't be empty when `pass_host` is `rewrite`"},
		{name: "hashing without a key", doc: `{"nodes":[],"type":"chash"}`, want: `missing key`},
		{name: "hashing by consumer needs no key", doc: `{"nodes":[],"type":"chash","hash_on":"consumer"}`},
		{name: "hashing by an argument", doc: `{"nodes":[],"type":"chash","key":"arg_a"}`},
		{name: "hashing by an unknown variable", doc: `{"nodes":[],"type":"chash","key":"cookie_sid"}`, want: `invalid configuration: failed to match pattern "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$" with "cookie_sid"`},
		{name: "hashing by a bad header", doc: `{"nodes":[],"type":"chash","hash_on":"header","key":"x seat"}`, want: `invalid configuration: failed to match pattern "^[a-zA-Z0-9-_]+$" with "x seat"`},
		{name: "hashing by a combination", doc: `{"nodes":[],"type":"chash","hash_on":"vars_combinations","key":"$uri$arg_a"}`},
		{name: "another balancer does not look at the key", doc: `{"nodes":[],"type":"ewma","hash_on":"cookie"}`},
		{name: "checks without any", doc: `{"nodes":[],"checks":{}}`, want: `invalid configuration: property "checks" validation failed: object matches none of the required: ["active"] or ["active","passive"]`},
		{name: "passive checks alone", doc: `{"nodes":[],"checks":{"passive":{}}}`, want: `invalid configuration: property "checks" validation failed: object matches none of the required: ["active"] or ["active","passive"]`},
		{name: "checks", doc: `{"nodes":[],"checks":{"active":{"concurrency":0,"http_path":"/live","healthy":{"interval":2}},"passive":{"unhealthy":{"timeouts":0}}}}`},
		{name: "too many successes", doc: `{"nodes":[],"checks":{"active":{"healthy":{"successes":255}}}}`, want: `invalid configuration: property "checks" validation failed: property "active" validation failed: property "healthy" validation failed: property "successes" validation failed: expected 255 to be at most 254`},
		{name: "a client certificate", doc: tls(cert, key)},
		{name: "a client certificate by reference", doc: tls("$env://CERT", "$secret://vault/1/k")},
		{name: "a client certificate without a key", doc: `{"nodes":[],"tls":{"client_cert":"` + strings.Repeat("w", 200) + `"}}`, want: `invalid configuration: property "tls" validation failed: failed to validate dependent schema for "client_cert": property "client_key" is required`},
		{name: "a client certificate beside the id of one", doc: `{"nodes":[],"tls":{"client_cert_id":"1","client_cert":"` + strings.Repeat("w", 200) + `","client_key":"` + strings.Repeat("w", 200) + `"}}`, want: `invalid configuration: property "tls" validation failed: failed to validate dependent schema for "client_cert_id": value wasn't supposed to match schema`},
		{name: "a client certificate that is none", doc: tls(strings.Repeat("w", 200), key), want: `failed to parse cert: PEM_read_bio_X509_AUX() failed`},
		{name: "a client key that is none", doc: tls(cert, strings.Repeat("w", 200)), want: `failed to decrypt previous encrypted key`},
		{name: "a client key of another certificate", doc: tls(cert, otherKey), want: `the key does not belong to the certificate`},
	})
}

func TestValidateConsumer(t *testing.T) {
	testVerdicts(t, "consumers", []verdict{
		{name: "a name alone", doc: `{"username":"wren-bird_1"}`},
		{name: "everything at once", doc: `{"username":"wren","desc":"d","labels":{"a":"b"},"group_id":1,"plugins":{"key-auth":{"key":"k"}}}`},
		{name: "no name", doc: `{}`, want: `invalid configuration: property "username" is required`},
		{name: "a name with a space", doc: `{"username":"wren bird"}`, want: `invalid configuration: property "username" validation failed: failed to match pattern "^[a-zA-Z0-9_\\-]+$" with "wren bird"`},
		{name: "a name that ends a line", doc: `{"username":"wren\n"}`, want: "invalid configuration: property \"username\" validation failed: failed to match pattern \"^[a-zA-Z0-9_\\\\-]+$\" with \"wren\\\n\""},
		{name: "a name that is looked up", doc: `{"username":"$secret://a/credentials/c1"}`, want: `invalid configuration: property "username" validation failed: a reference cannot name an item`},
		{name: "a bad group", doc: `{"username":"wren","group_id":"a b"}`, want: `invalid configuration: property "group_id" validation failed: object matches none of the required`},
	})
	testVerdicts(t, "credentials", []verdict{
		{name: "a credential without plugins", id: "jack/credentials/c1", doc: `{}`},
		{name: "a credential with its own id", id: "jack/credentials/c1", doc: `{"id":"c1","name":"n","plugins":{"key-auth":{"key":"k"}}}`},
		{name: "a credential with its full id", id: "jack/credentials/c1", doc: `{"id":"jack/credentials/c1"}`},
		{name: "a credential with two plugins", id: "jack/credentials/c1", doc: `{"plugins":{"a":{},"b":{}}}`, want: `invalid configuration: property "plugins" validation failed: expect object to have at most 1 properties`},
		{name: "a credential with a bad id", id: "jack/credentials/a b", doc: `{}`, want: `invalid configuration: property "id" validation failed: value should match only one schema, but matches none`},
	})
}

func TestValidatePluginSets(t *testing.T) {
	for _, kind := range []string{"consumer_groups", "plugin_configs", "global_rules"} {
		testVerdicts(t, kind, []verdict{
			{name: kind + ": the id comes from the path", doc: `{"plugins":{}}`},
			{name: kind + ": no plugins", doc: `{}`, want: `invalid configuration: property "plugins" is required`},
			{name: kind + ": plugins in a list", doc: `{"plugins":[1]}`, want: `invalid configuration: property "plugins" validation failed: wrong type: expected object, got table`},
			{name: kind + ": a list", doc: `[]`, want: `invalid configuration: property "plugins" is required`},
			{name: kind + ": an id too long", id: strings.Repeat("i", 65), doc: `{"plugins":{}}`, want: `invalid configuration: property "id" validation failed: object matches none of the required`},
			{name: kind + ": an unknown member", doc: `{"plugins":{},"uri":"/x"}`, want: `invalid configuration: additional properties forbidden, found uri`},
		})
	}
	testVerdicts(t, "plugin_configs", []verdict{{name: "labels of a plugin config", doc: `{"plugins":{},"labels":{"k":"v"},"desc":"d"}`}})
	testVerdicts(t, "global_rules", []verdict{
		{name: "labels of a global rule", doc: `{"plugins":{},"labels":{"k":"v"}}`, want: `invalid configuration: additional properties forbidden, found labels`},
	})
	testVerdicts(t, "plugin_metadata", []verdict{
		{name: "metadata is anything", id: "http-logger", doc: `{"log_format":{"a":"b"}}`},
		{name: "metadata is an object", id: "http-logger", doc: `"x"`, want: `invalid configuration: wrong type: expected object, got string`},
	})
}

func TestValidateSSL(t *testing.T) {
	cert, key := newPair(t)
	cert2, key2 := newPair(t)
	noPEM := strings.Repeat("w", 200)
	doc := func(members ...any) string {
		m := map[string]any{}
		for i := 0; i < len(members); i += 2 {
			m[members[i].(string)] = members[i+1]
		}
		p, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	list := func(items ...string) []string { return items }
	testVerdicts(t, "ssls", []verdict{
		{name: "a pair", doc: doc("cert", cert, "key", key, "sni", "*.heron.test")},
		{name: "a pair for several names", doc: doc("cert", cert, "key", key, "snis", list("heron.test", "*.heron.test"), "status", 0, "ssl_protocols", list("TLSv1.2", "TLSv1.3"))},
		{name: "two pairs", doc: doc("cert", cert, "key", key, "sni", "heron.test", "certs", list(cert2), "keys", list(key2))},
		{name: "a client pair", doc: doc("cert", cert, "key", key, "type", "client")},
		{name: "references", doc: doc("cert", "$env://C", "key", "$secret://vault/1/k", "sni", "heron.test", "certs", list("$ENV://C"), "keys", list("$env://K"), "client", map[string]any{"ca": "$env://CA"})},
		{name: "mutual TLS", doc: doc("cert", cert, "key", key, "sni", "heron.test", "client", map[string]any{"ca": cert2, "depth": 2, "skip_mtls_uri_regex": list("^/a")})},
		{name: "a pattern of paths that is none", doc: doc("cert", cert, "key", key, "sni", "heron.test", "client", map[string]any{"ca": cert2, "skip_mtls_uri_regex": list("^/a", "(")}), want: "client.skip_mtls_uri_regex[1]: invalid regular expression \"(\": error parsing regexp: missing closing ) in `(`"},
		{name: "no key", doc: doc("cert", cert, "sni", "heron.test"), want: `invalid configuration: then clause did not match`},
		{name: "no certificate", doc: doc("key", key, "sni", "heron.test"), want: `invalid configuration: then clause did not match`},
		{name: "no name", doc: doc("cert", cert, "key", key), want: `invalid configuration: then clause did not match`},
		{name: "one name and several", doc: doc("cert", cert, "key", key, "sni", "a.test", "snis", list("b.test")), want: `invalid configuration: then clause did not match`},
		{name: "a client certificate without a key", doc: doc("cert", cert, "type", "client"), want: `invalid configuration: else clause did not match`},
		{name: "an unknown type", doc: doc("cert", cert, "key", key, "sni", "a.test", "type", "peer"), want: `invalid configuration: property "type" validation failed: matches none of the enum values`},
		{name: "a certificate too short", doc: doc("cert", "abc", "key", key, "sni", "a.test"), want: `invalid configuration: property "cert" validation failed: string too short, expected at least 128, got 3`},
		{name: "a key too short", doc: doc("cert", cert, "key", "abc", "sni", "a.test"), want: `invalid configuration: property "key" validation failed: string too short, expected at least 64, got 3`},
		{name: "a certificate that is none", doc: doc("cert", noPEM, "key", key, "sni", "a.test"), want: `failed to parse cert: PEM_read_bio_X509_AUX() failed`},
		{name: "a certificate that is cut inside", doc: doc("cert", strings.Replace(cert, cert[100:200], "", 1), "key", key, "sni", "a.test"), want: `failed to parse cert: PEM_read_bio_X509_AUX() failed`},
		{name: "a key that is none", doc: doc("cert", cert, "key", noPEM, "sni", "a.test"), want: `failed to decrypt previous encrypted key`},
		{name: "a key that is cut", doc: doc("cert", cert, "key", key[:100], "sni", "a.test"), want: `failed to parse key: PEM_read_bio_PrivateKey() failed`},
		{name: "a key of another kind", doc: doc("cert", cert, "key", strings.Replace(cert, "CERTIFICATE", "PRIVATE KEY", 2), "sni", "a.test"), want: `failed to parse key: PEM_read_bio_PrivateKey() failed`},
		{name: "a chain", doc: doc("cert", cert+cert2, "key", key, "sni", "a.test")},
		{name: "a chain whose leaf comes last", doc: doc("cert", cert2+cert, "key", key, "sni", "a.test"), want: `the key does not belong to the certificate`},
		{name: "a chain with a certificate that is none", doc: doc("cert", cert+strings.Replace(key, "PRIVATE KEY", "CERTIFICATE", 2), "key", key, "sni", "a.test"), want: `failed to parse cert: x509: malformed tbs certificate`},
		{name: "a further key of another certificate", doc: doc("cert", cert, "key", key, "sni", "a.test", "certs", list(cert, cert2), "keys", list(key, key)), want: `failed to handle cert-key pair[2]: the key does not belong to the certificate`},
		{name: "more keys than certificates", doc: doc("cert", cert, "key", key, "sni", "a.test", "keys", list(key2)), want: `mismatched number of certs and keys`},
		{name: "further pairs of a client certificate are not used", doc: doc("cert", cert, "key", key, "type", "client", "certs", list(cert2))},
		{name: "a protocol that is too old", doc: doc("cert", cert, "key", key, "sni", "a.test", "ssl_protocols", list("TLSv1.0")), want: `invalid configuration: property "ssl_protocols" validation failed: failed to validate item 1: matches none of the enum values`},
		{name: "a protocol twice", doc: doc("cert", cert, "key", key, "sni", "a.test", "ssl_protocols", list("TLSv1.2", "TLSv1.2")), want: `invalid configuration: property "ssl_protocols" validation failed: expected unique items but items 1 and 2 are equal`},
		{name: "a negative depth", doc: doc("cert", cert, "key", key, "sni", "a.test", "client", map[string]any{"ca": cert2, "depth": -1}), want: `invalid configuration: property "client" validation failed: property "depth" validation failed: expected -1 to be at least 0`},
		{name: "a key of another certificate", doc: doc("cert", cert, "key", key2, "sni", "a.test"), want: `the key does not belong to the certificate`},
		{name: "more certificates than keys", doc: doc("cert", cert, "key", key, "sni", "a.test", "certs", list(cert2)), want: `mismatched number of certs and keys`},
		{name: "a further pair that is none", doc: doc("cert", cert, "key", key, "sni", "a.test", "certs", list(noPEM), "keys", list(key2)), want: `failed to handle cert-key pair[1]: failed to parse cert: PEM_read_bio_X509_AUX() failed`},
		{name: "mutual TLS without an authority", doc: doc("cert", cert, "key", key, "sni", "a.test", "client", map[string]any{"depth": 1}), want: `invalid configuration: property "client" validation failed: property "ca" is required`},
		{name: "mutual TLS with an authority that is none", doc: doc("cert", cert, "key", key, "sni", "a.test", "client", map[string]any{"ca": noPEM}), want: `failed to validate client_cert: failed to parse cert: PEM_read_bio_X509_AUX() failed`},
		{name: "an unknown member", doc: doc("cert", cert, "key", key, "sni", "a.test", "ocsp", 1), want: `invalid configuration: additional properties forbidden, found ocsp`},
	})
}

func TestValidateSecret(t *testing.T) {
	testVerdicts(t, "secrets", []verdict{
		{name: "vault", id: "vault/1", doc: `{"uri":"http://127.0.0.1:8200","prefix":"kv/geese","token":"tok","more":1}`},
		{name: "vault with a token from elsewhere", id: "vault/1", doc: `{"uri":"$env://VAULT","prefix":"kv","token":"$env://TOKEN"}`},
		{name: "vault without a token", id: "vault/1", doc: `{"uri":"http://a","prefix":"kv"}`, want: `invalid configuration: property "token" is required`},
		{name: "aws", id: "aws/1", doc: `{"access_key_id":"a","secret_access_key":"b"}`},
		{name: "gcp with a file", id: "gcp/1", doc: `{"auth_file":"/f"}`},
		{name: "gcp with nothing", id: "gcp/1", doc: `{}`, want: `invalid configuration: value should match only one schema, but matches none`},
		{name: "an unknown manager", id: "safe/1", doc: `{}`, want: `invalid secret manager: safe`},
		{name: "no manager", id: "/1", doc: `{}`, want: `missing secret type`},
	})
}

func TestValidateProtoAndDecoration(t *testing.T) {
	testVerdicts(t, "protos", []verdict{
		{name: "a definition", doc: `{"content":"syntax = \"proto3\";"}`},
		{name: "no definition", doc: `{}`, want: `invalid configuration: property "content" is required`},
		{name: "an empty definition", doc: `{"content":""}`, want: `invalid configuration: property "content" validation failed: string too short, expected at least 1, got 0`},
	})
	testVerdicts(t, "graphql_cost_decorations", []verdict{
		{name: "a decoration", id: "s1/graphql_cost_decorations/d1", doc: `{"field_path":"Query.users","mul_arguments":["first"]}`},
		{name: "a decoration with a negative cost", id: "s1/graphql_cost_decorations/d1", doc: `{"field_path":"Query","add_value":-1}`, want: `invalid configuration: property "add_value" validation failed: expected -1 to be at least 0`},
	})
}

func TestValidateStreamRoute(t *testing.T) {
	testVerdicts(t, "stream_routes", []verdict{
		{name: "an empty one", doc: `{}`},
		{name: "everything at once", doc: `{"remote_addr":"10.0.0.0/8","server_addr":"127.0.0.1","server_port":9100,"sni":"a.test","upstream":{"nodes":{"a:1":1}},"service_id":1,"plugins":{},"protocol":{"name":"redis","superior_id":"s","conf":{},"logger":[{"name":"syslog","conf":{}}]}}`},
		{name: "a port too high", doc: `{"server_port":65536}`, want: `invalid configuration: property "server_port" validation failed: expected 65536 to be at most 65535`},
		{name: "a protocol without a name", doc: `{"protocol":{}}`, want: `invalid configuration: property "protocol" validation failed: property "name" is required`},
		{name: "an address that only looks like one", doc: `{"server_addr":"1:2/64"}`, want: `invalid server_addr: 1:2/64`},
		{name: "an address that has no number", doc: `{"remote_addr":":/8"}`, want: `invalid remote_addr: :/8`},
		{name: "a network longer than an address", doc: `{"remote_addr":"::1/200"}`, want: `invalid remote_addr: ::1/200`},
		{name: "an address that is a name", doc: `{"remote_addr":"localhost"}`, want: `invalid configuration: property "remote_addr" validation failed: object matches none of the required`},
		{name: "an address that is a number", doc: `{"server_addr":1}`, want: `invalid configuration: property "server_addr" validation failed: wrong type: expected string, got number`},
		{name: "a logger without a configuration", doc: `{"protocol":{"name":"x","logger":[{"name":"syslog"}]}}`, want: `invalid configuration: property "protocol" validation failed: property "logger" validation failed: failed to validate item 1: property "conf" is required when "name" is set`},
		{name: "its own superior by another name", doc: `{"id":7,"protocol":{"name":"x","superior_id":"7"}}`, want: `stream route can not set itself as superior_id`},
		{name: "its own superior", doc: `{"protocol":{"name":"x","superior_id":"t1"}}`, want: `stream route can not set itself as superior_id`},
	})
}

// newPair makes a certificate and its key, in PEM.
func newPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"heron.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

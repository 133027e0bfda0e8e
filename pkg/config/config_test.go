package config

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func none(string) (string, bool) { return "", false }

const documented = "../../conf/config.yaml"

func TestTheDocumentedFileIsTheDefaults(t *testing.T) {
	c, notices, err := Load(documented, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(notices) > 0 {
		t.Errorf("got notices %v, want none", notices)
	}
	if diff := cmp.Diff(Default(), c, secrets); diff != "" {
		t.Error(diff)
	}
}

// secrets compares what a Secret does not show.
var secrets = cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })

// keysOf lists the keys below a node as paths does.
func keysOf(n *yaml.Node, path string, keys map[string]*yaml.Node) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			keysOf(item, path+"[]", keys)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			full := join(path, n.Content[i].Value)
			keys[full] = n.Content[i]
			keysOf(n.Content[i+1], full, keys)
		}
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	inFile := map[string]*yaml.Node{}
	keysOf(doc.Content[0], "", inFile)
	inCode := paths(reflect.TypeFor[Config](), "")
	for _, path := range inCode {
		if path == "apisix.status.ip" || path == "apisix.status.port" {
			// Without a default there is no status section; its comment names the members.
			if comment := inFile["apisix.status"].HeadComment; !strings.Contains(comment, "{ip, port}") {
				t.Errorf("%s: the comment on apisix.status does not name %s: %s", documented, path, comment)
			}
			continue
		}
		if inFile[path] == nil {
			t.Errorf("%s: %s is missing", documented, path)
		}
	}
	for path := range inFile {
		if !slices.Contains(inCode, path) {
			t.Errorf("%s: %s is no setting", documented, path)
		}
	}
	for name := range otherNames {
		if last := name[strings.LastIndex(name, ".")+1:]; !strings.Contains(string(raw), last) {
			t.Errorf("%s: %s is not mentioned", documented, name)
		}
	}
}

func TestAFileOfTheReferenceIsAccepted(t *testing.T) {
	c, notices, err := Load("testdata/reference.yaml", none)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(ProgramGosix); err != nil {
		t.Error(err)
	}
	said := map[string]int{}
	for _, n := range notices {
		key, _, found := strings.Cut(string(n), ": is ignored, ")
		if !found {
			t.Errorf("%s: it is neither obeyed nor ignored", n)
		}
		said[element.ReplaceAllString(key[strings.LastIndex(key, " ")+1:], "[]")]++
	}
	for key := range ignored {
		if n := said[key]; n != 1 {
			t.Errorf("%s is named %d times, want once", key, n)
		}
	}
}

func TestNoKeyIsInTwoTables(t *testing.T) {
	tables := map[string]int{}
	for _, path := range paths(reflect.TypeFor[Config](), "") {
		tables[path]++
	}
	for path := range ignored {
		tables[path]++
	}
	for path := range fixed {
		tables[path]++
	}
	for path, o := range otherNames {
		tables[path]++
		if tables[o.own] == 0 {
			t.Errorf("%s stands for %s, which is no setting", path, o.own)
		}
	}
	for path, n := range tables {
		if n > 1 {
			t.Errorf("%s stands in %d tables, want 1", path, n)
		}
	}
}

func TestEveryNumberOfATimeOrSizeHasItsUnit(t *testing.T) {
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch unit := f.Tag.Get("unit"); {
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type)
			case f.Type.Kind() == reflect.Float64 && unit != "seconds", f.Type.Kind() == reflect.Int64 && unit != "bytes":
				t.Errorf("%s.%s: got unit %q", typ.Name(), f.Name, unit)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestLoad(t *testing.T) {
	vars := map[string]string{
		"PORT": "9999", "KEY": "secret-of-many-letters", "DIGITS": "0123456789012345", "YES": "true", "NAME": "server_header", "TIME": "1.5", "EMPTY": "",
	}
	env := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	tests := map[string]struct {
		text string
		want func(*Config)
	}{
		"nothing is the defaults":          {"", func(*Config) {}},
		"a comment is the defaults":        {"# nothing\n", func(*Config) {}},
		"null is the defaults":             {"null", func(*Config) {}},
		"an empty section is its defaults": {"apisix:\ndeployment:\n  etcd:\n", func(*Config) {}},
		"one port":                         {"apisix: {node_listen: 8080}", func(c *Config) { c.Apisix.NodeListen = Listens{{Port: 8080, HTTP2: true}} }},
		"one address":                      {"apisix: {node_listen: {ip: \"::1\", port: 8080}}", func(c *Config) { c.Apisix.NodeListen = Listens{{IP: "::1", Port: 8080, HTTP2: true}} }},
		"a list of ports and addresses":    {"apisix: {node_listen: [8080, {ip: 127.0.0.1, port: 0, enable_http2: false}]}", func(c *Config) { c.Apisix.NodeListen = Listens{{Port: 8080, HTTP2: true}, {IP: "127.0.0.1"}} }},
		"a listener follows enable_http2": {"apisix: {enable_http2: false, node_listen: [1, {port: 2, enable_http2: true}]}", func(c *Config) {
			c.Apisix.HTTP2, c.Apisix.NodeListen = false, Listens{{Port: 1}, {Port: 2, HTTP2: true}}
			c.Apisix.SSL.Listen[0].HTTP2 = false
		}},
		"the default listeners follow, too": {"apisix: {enable_http2: false}", func(c *Config) {
			c.Apisix.HTTP2, c.Apisix.NodeListen[0].HTTP2, c.Apisix.SSL.Listen[0].HTTP2 = false, false, false
		}},
		"one port for TLS": {"apisix: {ssl: {listen: 8443}}", func(c *Config) { c.Apisix.SSL.Listen[0].Port = 8443 }},
		"ports for TLS": {"apisix: {ssl: {listen: [0, {ip: 127.0.0.1}, {port: 0, enable_http2: false}]}}", func(c *Config) {
			c.Apisix.SSL.Listen = SSLListens{{HTTP2: true}, {IP: "127.0.0.1", Port: 9443, HTTP2: true}, {}}
		}},
		"no TLS":                           {"apisix: {ssl: {enable: false, listen: []}}", func(c *Config) { c.Apisix.SSL.Enable, c.Apisix.SSL.Listen = false, SSLListens{} }},
		"objects merge":                    {"apisix: {control: {port: 1}}", func(c *Config) { c.Apisix.Control.Port = 1 }},
		"lists replace":                    {"deployment: {admin: {allow_admin: [10.0.0.0/8]}}", func(c *Config) { c.Deployment.Admin.Allow = []string{"10.0.0.0/8"} }},
		"null takes a list away":           {"deployment: {admin: {allow_admin: null}}", func(c *Config) { c.Deployment.Admin.Allow = nil }},
		"null takes a number away":         {"apisix: {limits: {uri_bytes: null}}", func(c *Config) { c.Apisix.Limits.URI = 0 }},
		"an empty list is not unset":       {"apisix: {trusted_addresses: []}", func(c *Config) { c.Apisix.Trusted = []string{} }},
		"an empty list of plugins is none": {"plugins: []", func(c *Config) { c.Plugins = []string{} }},
		"an empty status is no listener":   {"apisix: {status: {}}", func(*Config) {}},
		"a status port has an address":     {"apisix: {status: {port: 1}}", func(c *Config) { c.Apisix.Status = &Address{"127.0.0.1", 1} }},
		"a status address has a port":      {"apisix: {status: {ip: 127.0.0.2}}", func(c *Config) { c.Apisix.Status = &Address{"127.0.0.2", 7085} }},
		"a variable becomes a number":      {"apisix:\n  control:\n    port: ${{PORT}}", func(c *Config) { c.Apisix.Control.Port = 9999 }},
		"a variable becomes a fraction":    {"apisix:\n  drain_timeout: ${{ TIME }}", func(c *Config) { c.Apisix.DrainTimeout = 1.5 }},
		"a variable becomes a boolean":     {"apisix:\n  show_upstream_status_in_response_header: \"${{YES}}\"", func(c *Config) { c.Apisix.ShowStatus = true }},
		"a variable is a part of a text":   {"apisix:\n  server_header: a-${{PORT}}-b", func(c *Config) { c.Apisix.ServerHeader = "a-9999-b" }},
		"a variable is a key":              {"apisix:\n  ${{NAME}}: a", func(c *Config) { c.Apisix.ServerHeader = "a" }},
		"a variable has a default":         {"apisix: {control: {port: \"${{NONE:=7}}\"}}", func(c *Config) { c.Apisix.Control.Port = 7 }},
		"a default may be empty":           {"apisix: {server_header: \"${{NONE:=}}\"}", func(*Config) {}},
		"an empty variable is set":         {"apisix: {server_header: \"${{EMPTY:=x}}\"}", func(*Config) {}},
		"a key of digits stays a text":     {"apisix: {data_encryption: {keyring: [\"${{DIGITS}}\"]}}", func(c *Config) { c.Apisix.DataEncryption.Keyring = []Secret{"0123456789012345"} }},
		"one key of a keyring":             {"apisix: {data_encryption: {keyring: 0123456789abcdef}}", func(c *Config) { c.Apisix.DataEncryption.Keyring = []Secret{"0123456789abcdef"} }},
		"one etcd host":                    {"deployment: {etcd: {host: \"http://a:1\"}}", func(c *Config) { c.Deployment.Etcd.Host = []string{"http://a:1"} }},
		"a time with a unit":               {"deployment: {etcd: {timeout: 1500ms}}", func(c *Config) { c.Deployment.Etcd.Timeout = 1.5 }},
		"sizes with units":                 {"nginx_config: {http: {client_max_body_size: 10m}}\napisix: {limits: {ai_body_bytes: 1G}}", func(c *Config) { c.Nginx.HTTP.MaxBody, c.Apisix.Limits.AIBody = 10<<20, 1<<30 }},
		"the reference's names of timeouts": {"nginx_config: {http: {client_header_timeout: 1s, client_body_timeout: 2, keepalive_timeout: \"3\", send_timeout: 4s}}", func(c *Config) {
			l := &c.Apisix.Limits
			l.HeaderTime, l.BodyTime, l.IdleTime, l.SendTime = 1, 2, 3, 4
		}},
		"both names of a timeout alike": {"nginx_config: {http: {send_timeout: 9s}}\napisix: {limits: {send_timeout: 9}}", func(c *Config) { c.Apisix.Limits.SendTime = 9 }},
		"keys of the reference pass":    {"apisix: {enable_ipv6: true}\ndiscovery: {dns: {}}\nnginx_config: {worker_processes: 4}", func(*Config) {}},
		"its only values pass":          {"apisix: {enable_admin: true, router: {ssl: radixtree_sni}}\ndeployment: {role_traditional: {config_provider: etcd}}", func(*Config) {}},
		"a key with a role":             {"deployment: {admin: {admin_key: [{name: a, key: \"${{KEY}}\", role: viewer}]}}", func(c *Config) { c.Deployment.Admin.Keys = []AdminKey{{"a", "secret-of-many-letters", "viewer"}} }},
		"settings of a plugin are JSON": {"plugin_attr: {a: {n: 1, f: 1.5, t: 2020-01-01, l: [null, true], o: {x: \"y\"}}, b: null}", func(c *Config) {
			c.PluginAttr["a"] = json.RawMessage(`{"f":1.5,"l":[null,true],"n":1,"o":{"x":"y"},"t":"2020-01-01"}`)
		}},
		"an anchor is repeated by its alias": {"apisix: {trusted_addresses: &n [10.0.0.0/8]}\ndeployment: {admin: {allow_admin: *n}}", func(c *Config) {
			c.Apisix.Trusted, c.Deployment.Admin.Allow = []string{"10.0.0.0/8"}, []string{"10.0.0.0/8"}
		}},
		"a merged object gives way": {"apisix:\n  status: &a {ip: 127.0.0.9, port: 1}\n  control: {<<: *a, port: 2}", func(c *Config) { c.Apisix.Status, c.Apisix.Control = &Address{"127.0.0.9", 1}, Address{"127.0.0.9", 2} }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := Default()
			tt.want(want)
			got, _, err := Decode("conf.yaml", []byte(tt.text), env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, secrets); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	admin := func(text string) string { return "deployment: {admin: {" + text + "}}" }
	etcd := func(text string) string { return "deployment: {etcd: {" + text + "}}" }
	tests := map[string]struct{ text, want string }{
		"an unknown key and its nearest":         {"apisix:\n  node_lisen: 1", `conf.yaml:2: apisix.node_lisen: unknown key (did you mean "node_listen"?)`},
		"an unknown key near an ignored one":     {"apisix: {enable_ipv: true}", `conf.yaml:1: apisix.enable_ipv: unknown key (did you mean "enable_ipv6"?)`},
		"an unknown key that stands elsewhere":   {"admin_key: []", `conf.yaml:1: admin_key: unknown key (did you mean "deployment.admin.admin_key"?)`},
		"an unknown key far from any":            {"zebra: 1", `conf.yaml:1: zebra: unknown key`},
		"an unknown key in a list":               {admin("admin_key: [{nam: a}]"), `conf.yaml:1: deployment.admin.admin_key[0].nam: unknown key (did you mean "name"?)`},
		"an unknown key of an address":           {"apisix: {node_listen: [{prt: 1}]}", `conf.yaml:1: apisix.node_listen[0].prt: unknown key (did you mean "port"?)`},
		"an unknown key beside a provider":       {"deployment: {role_data_plane: {config_provder: etcd}}", `conf.yaml:1: deployment.role_data_plane.config_provder: unknown key (did you mean "config_provider"?)`},
		"two mistakes are both told":             {"apisix:\n  drain_timeout: x\n  proxy_mod: http", "conf.yaml:2: failed to merge, path[apisix->drain_timeout] expect: number, but got: string\nconf.yaml:3: apisix.proxy_mod: unknown key (did you mean \"proxy_mode\"?)"},
		"a key that stands there twice":          {"plugins: []\nplugins: []", `conf.yaml:2: "plugins" stands here and at line 1`},
		"a key that is no text":                  {"[1]: 2", "conf.yaml:1: a key must be a text, not array"},
		"an object for a number":                 {"apisix: {drain_timeout: {}}", "conf.yaml:1: failed to merge, path[apisix->drain_timeout] expect: number, but got: object"},
		"a number for an object":                 {"apisix: {control: 5}", "conf.yaml:1: failed to merge, path[apisix->control] expect: object, but got: number"},
		"a text for a status":                    {"apisix: {status: x}", "conf.yaml:1: failed to merge, path[apisix->status] expect: object, but got: string"},
		"a text for a boolean":                   {"apisix: {enable_control: \"yes\"}", "conf.yaml:1: failed to merge, path[apisix->enable_control] expect: boolean, but got: string"},
		"a number for a text":                    {"apisix: {server_header: 1}", "conf.yaml:1: failed to merge, path[apisix->server_header] expect: string, but got: number"},
		"a fraction for a whole number":          {"apisix: {limits: {uri_bytes: 1.5}}", "conf.yaml:1: failed to merge, path[apisix->limits->uri_bytes] expect: integer, but got: number"},
		"a text for a list":                      {"plugins: ai-proxy", "conf.yaml:1: failed to merge, path[plugins] expect: array, but got: string"},
		"a text for plugin_attr":                 {"plugin_attr: x", "conf.yaml:1: failed to merge, path[plugin_attr] expect: object, but got: string"},
		"a null in a list":                       {"plugins: [null]", "conf.yaml:1: plugins[0]: is null"},
		"an empty name in a list":                {"plugins: [\"\"]", "conf.yaml:1: plugins[0]: is empty"},
		"infinity where JSON has no word for it": {"plugin_attr: {a: {b: .inf}}", "conf.yaml:1: plugin_attr.a.b: .inf is no number in JSON"},
		"a time that is no number":               {"apisix: {drain_timeout: .nan}", "conf.yaml:1: apisix.drain_timeout: .nan is not between 0 and"},
		"a time below zero":                      {"apisix: {drain_timeout: -1}", "conf.yaml:1: apisix.drain_timeout: -1 is not between 0 and"},
		"a size below zero":                      {"apisix: {limits: {uri_bytes: -1}}", "conf.yaml:1: apisix.limits.uri_bytes: -1 is not between 0 and"},
		"a size beyond reason":                   {"nginx_config: {http: {client_max_body_size: 99999999999999999999g}}", "conf.yaml:1: nginx_config.http.client_max_body_size: 99999999999999999999g is above"},
		"a number beyond reason":                 {"nginx_config: {http: {client_max_body_size: 99999999999999999999}}", "conf.yaml:1:"},
		"a unit that does not exist":             {"nginx_config: {http: {client_max_body_size: 1x}}", "conf.yaml:1: failed to merge, path[nginx_config->http->client_max_body_size] expect: integer, but got: string"},
		"a variable that is not set":             {"apisix: {server_header: \"${{NONE}}\"}", "conf.yaml:1: failed to handle configuration: can't find environment variable NONE"},
		"two names of a timeout that differ":     {"nginx_config: {http: {send_timeout: 9s}}\napisix: {limits: {send_timeout: 8}}", "conf.yaml:1: nginx_config.http.send_timeout: 9 seconds, and apisix.limits.send_timeout says 8; they are one setting"},
		"another provider than etcd":             {"deployment: {role_data_plane: {config_provider: yaml}}", `conf.yaml:1: deployment.role_data_plane.config_provider: "yaml" is not supported, only "etcd" is`},
		"an Admin API switched off":              {"apisix: {enable_admin: false}", `conf.yaml:1: apisix.enable_admin: "false" is not supported, only "true" is: deployment.role data_plane`},
		"text that is no YAML":                   {"a: b\nc: [\n", "conf.yaml:"},
		"a tab before a key":                     {"a:\n\tb: 1", "conf.yaml:2: invalid YAML: "},
		"bytes that are no text":                 {"a: \xff", "conf.yaml: invalid YAML: "},
		"a second document":                      {"plugins: []\n---\nplugins: []\n", "a second document begins"},
		"a list at the top":                      {"[1]", "conf.yaml:1: settings must be an object, not array"},
		"a router that does not exist":           {"apisix:\n  router:\n    http: tree", `conf.yaml:3: apisix.router.http: "tree" is not one of`},
		"a router that is taken away":            {"apisix: {router: {http: null}}", `conf.yaml:1: apisix.router.http: "" is not one of`},
		"a proxy mode that does not exist":       {"apisix: {proxy_mode: tcp}", `apisix.proxy_mode: "tcp" is not one of`},
		"a third way with unknown plugins":       {"apisix: {unknown_plugins: ask}", `apisix.unknown_plugins: "ask" is not one of fail, skip`},
		"an encryption that does not exist":      {"apisix: {data_encryption: {format: rot13}}", `apisix.data_encryption.format: "rot13" is not one of gcm, cbc`},
		"a level that does not exist":            {"nginx_config: {error_log_level: loud}", `conf.yaml:1: nginx_config.error_log_level: "loud" is not one of`},
		"an escape that does not exist":          {"nginx_config: {http: {access_log_format_escape: xml}}", `conf.yaml:1: nginx_config.http.access_log_format_escape: "xml" is not one of`},
		"an access log without a path":           {"nginx_config: {http: {access_log: \"\"}}", "nginx_config.http.access_log: is empty"},
		"no listener":                            {"apisix: {node_listen: []}", "conf.yaml:1: apisix.node_listen: names no address"},
		"a listener twice":                       {"apisix: {node_listen: [1, 1]}", "conf.yaml:1: apisix.node_listen[1]: is the same address as apisix.node_listen[0]"},
		"a port that is none":                    {"apisix: {node_listen: 70000}", "conf.yaml:1: apisix.node_listen[0].port: 70000 is no port (0 to 65535)"},
		"no listener for TLS":                    {"apisix: {ssl: {listen: []}}", "conf.yaml:1: apisix.ssl.listen: names no address; enable: false switches TLS off"},
		"a listener for TLS twice":               {"apisix: {ssl: {listen: [1, 1]}}", "conf.yaml:1: apisix.ssl.listen[1]: is the same address as apisix.ssl.listen[0]"},
		"a port for TLS that is none":            {"apisix: {ssl: {listen: 70000}}", "conf.yaml:1: apisix.ssl.listen[0].port: 70000 is no port (0 to 65535)"},
		"an unknown key of TLS":                  {"apisix: {ssl: {fallbck_sni: a}}", `apisix.ssl.fallbck_sni: unknown key (did you mean "fallback_sni"?)`},
		"an unknown key of a listener for TLS":   {"apisix: {ssl: {listen: [{enable_http4: true}]}}", `apisix.ssl.listen[0].enable_http4: unknown key (did you mean "enable_http2"?)`},
		"a version that is none":                 {"apisix: {ssl: {ssl_protocols: TLSv1.2 SSLv3}}", `conf.yaml:1: apisix.ssl.ssl_protocols: "SSLv3" is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3`},
		"no version":                             {"apisix: {ssl: {ssl_protocols: \"\"}}", `apisix.ssl.ssl_protocols: "" names no version`},
		"suites by a rule":                       {"apisix: {ssl: {ssl_ciphers: \"ECDHE-RSA-AES128-GCM-SHA256:!SHA1\"}}", `apisix.ssl.ssl_ciphers: "!SHA1" is a rule; name the suites that are allowed`},
		"suites that are not built":              {"apisix: {ssl: {ssl_ciphers: \"HIGH\"}}", `apisix.ssl.ssl_ciphers: "HIGH" names no suite that is built`},
		"an address that is none":                {"apisix: {control: {ip: here}}", `conf.yaml:1: apisix.control.ip: "here" is no IP address`},
		"a status address that is none":          {"apisix: {status: {ip: here}}", `conf.yaml:1: apisix.status.ip: "here" is no IP address`},
		"a header with a line break":             {"apisix: {server_header: \"a\\nb\"}", "apisix.server_header"},
		"a network that is none":                 {admin("allow_admin: [x]"), `conf.yaml:1: deployment.admin.allow_admin[0]: "x" is neither an address nor a network`},
		"a trusted network that is none":         {"apisix: {trusted_addresses: [10.0.0.0/33]}", `conf.yaml:1: apisix.trusted_addresses[0]: "10.0.0.0/33" is neither`},
		"a keyring key of another length":        {"apisix: {data_encryption: {keyring: [short]}}", "conf.yaml:1: apisix.data_encryption.keyring[0]: 5 bytes, must be 16 or 32"},
		"a role that does not exist":             {"deployment: {role: king}", `conf.yaml:1: deployment.role: "king" is not one of`},
		"no data directory":                      {"deployment: {data_dir: \"\"}", "conf.yaml:1: deployment.data_dir: is empty"},
		"an admin key without a role":            {admin("admin_key: [{name: a, key: b}]"), `conf.yaml:1: deployment.admin.admin_key[0].role: "" is not one of admin, viewer`},
		"a viewer's key that is empty":           {admin("admin_key: [{role: viewer}]"), "conf.yaml:1: deployment.admin.admin_key[0].key: is empty"},
		"one admin key twice":                    {admin("admin_key: [{key: b, role: admin}, {key: b, role: viewer}]"), "conf.yaml:1: deployment.admin.admin_key[1].key: is the same as that of deployment.admin.admin_key[0]"},
		"an admin key with a space":              {admin("admin_key: [{key: b c, role: admin}]"), "conf.yaml:1: deployment.admin.admin_key[0].key: holds a character"},
		"a place for the key that is none":       {admin("admin_key_in: [body]"), `conf.yaml:1: deployment.admin.admin_key_in[0]: "body" is not one of header, query, cookie`},
		"no place for the key":                   {admin("admin_key_in: []"), "conf.yaml:1: deployment.admin.admin_key_in: names no place"},
		"the version of before":                  {admin("admin_api_version: v2"), `deployment.admin.admin_api_version: "v2" is not one of v3`},
		"TLS without a certificate":              {admin("https_admin: true"), "conf.yaml:1: deployment.admin.https_admin: needs admin_api_mtls.admin_ssl_cert"},
		"client certificates without TLS":        {admin("admin_api_mtls: {admin_ssl_ca_cert: x}"), "deployment.admin.admin_api_mtls.admin_ssl_ca_cert: needs https_admin: true"},
		"a prefix with a slash at the end":       {etcd("prefix: /a/"), `conf.yaml:1: deployment.etcd.prefix: "/a/" must begin`},
		"an etcd host without a scheme":          {etcd("host: \"a:1\""), "conf.yaml:1: deployment.etcd.host[0]: must be http:// or https://"},
		"an etcd host with a user":               {etcd("host: \"http://u:p4ss@a:1\""), "conf.yaml:1: deployment.etcd.host[0]: names a user"},
		"an etcd host with a path":               {etcd("host: \"http://a:1/v3\""), `deployment.etcd.host[0]: "http://a:1/v3" must end after the port`},
		"an etcd host with a bad port":           {etcd("host: \"http://a:99999\""), `deployment.etcd.host[0]: "99999" is no port`},
		"etcd hosts of two kinds":                {etcd("host: [\"http://a:1\", \"https://b:1\"]"), `deployment.etcd.host[1]: "https://b:1": all hosts must be http://`},
		"a certificate without a key":            {etcd("tls: {cert: a}"), "conf.yaml:1: deployment.etcd.tls: cert and key need each other"},
		"a user without a password":              {etcd("user: a"), "conf.yaml:1: deployment.etcd: user and password need each other"},
		"an embedded etcd for everyone":          {etcd("listen: \"0.0.0.0:1\""), `conf.yaml:1: deployment.etcd.listen: "0.0.0.0:1" must be a loopback address`},
		"an embedded etcd at a bad port":         {etcd("listen: \"127.0.0.1:x\""), `conf.yaml:1: deployment.etcd.listen: "x" is no port`},
		"an alias that names itself":             {"plugin_attr: {a: &a [*a, *a]}", "nested more than 64 deep"},
		"a merge that names itself":              {"apisix: &a {<<: *a}", "merges nested more than 8 deep"},
		"a merge of what is no object":           {"apisix: {<<: 1}", "conf.yaml:1: <<: must name objects"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := Decode("conf.yaml", []byte(tt.text), nil)
			if err == nil || !strings.HasPrefix(err.Error(), "conf.yaml") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "p4ss") {
				t.Errorf("%v shows a password", err)
			}
		})
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	if _, _, err := Load(path, none); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error with the path", err)
	}
}

func TestNoFileIsTheDefaults(t *testing.T) {
	c, notices, err := Load("", nil)
	if err != nil || len(notices) > 0 {
		t.Fatal(notices, err)
	}
	if diff := cmp.Diff(Default(), c, secrets); diff != "" {
		t.Error(diff)
	}
}

func TestTheEnvironmentReplacesTheEtcdHosts(t *testing.T) {
	tests := map[string]struct {
		value        string
		want         []string
		notice, fail string
	}{
		"a list":                 {`["http://b:2","http://c:3"]`, []string{"http://b:2", "http://c:3"}, "", ""},
		"what is no JSON stays":  {`http://b:2`, []string{"http://a:1"}, "parse ${APISIX_DEPLOYMENT_ETCD_HOST} failed, error: ", ""},
		"what is no list stays":  {`"http://b:2"`, []string{"http://a:1"}, "parse ${APISIX_DEPLOYMENT_ETCD_HOST} failed, error: ", ""},
		"null stays":             {`null`, []string{"http://a:1"}, "parse ${APISIX_DEPLOYMENT_ETCD_HOST} failed, error: ", ""},
		"a host that is no host": {`["b"]`, nil, "", "conf.yaml: deployment.etcd.host[0]: must be http:// or https://"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, notices, err := Decode("conf.yaml", []byte("apisix: {data_encryption: {enable_encrypt_fields: false}}\ndeployment: {etcd: {host: [\"http://a:1\"]}}"),
				func(name string) (string, bool) { return tt.value, name == "APISIX_DEPLOYMENT_ETCD_HOST" })
			if tt.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("got %v, want %s", err, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.Deployment.Etcd.Host); diff != "" {
				t.Error(diff)
			}
			if all := fmt.Sprint(notices); !strings.Contains(all, tt.notice) || tt.notice == "" && len(notices) > 0 {
				t.Errorf("got notices %v, want %q", notices, tt.notice)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	tests := map[string]struct {
		text string
		want []Notice
	}{
		"an ignored key of the reference":      {"apisix:\n  enable_ipv6: true", []Notice{"conf.yaml:2: apisix.enable_ipv6: is ignored, IPv4 and IPv6 are both used"}},
		"HTTP/3":                               {"apisix: {ssl: {listen: [{port: 1, enable_http3: true}]}}", []Notice{"conf.yaml:1: apisix.ssl.listen[0].enable_http3: is ignored, HTTP/3 is not built"}},
		"a suite that is not built":            {"apisix: {ssl: {ssl_ciphers: \"ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256\"}}", []Notice{`conf.yaml:1: apisix.ssl.ssl_ciphers: "DHE-RSA-AES128-GCM-SHA256" is ignored, a suite of that name is not built for TLS 1.2`}},
		"an old version":                       {"apisix: {ssl: {ssl_protocols: TLSv1.1 TLSv1.2}}", []Notice{"conf.yaml:1: apisix.ssl.ssl_protocols: TLSv1.1 is broken, and nobody needs it"}},
		"a whole section is told once":         {"discovery: {dns: {servers: [a]}}", []Notice{"conf.yaml:1: discovery: is ignored, service discovery is not built"}},
		"any key under nginx_config":           {"nginx_config: {event: {worker_connections: 1}, http: {upstream: {}}}", []Notice{"conf.yaml:1: nginx_config.event: is ignored, there is no nginx", "conf.yaml:1: nginx_config.http.upstream: is ignored, there is no nginx"}},
		"an ignored key that is null":          {"discovery: null", nil},
		"an Admin API for everyone":            {"deployment: {admin: {admin_listen: {ip: 0.0.0.0}, allow_admin: []}}", []Notice{"conf.yaml:1: deployment.admin.admin_listen: the Admin API listens on 0.0.0.0:9180 without TLS", "conf.yaml:1: deployment.admin.allow_admin: is empty, everyone may connect to the Admin API"}},
		"an Admin API with TLS":                {"deployment: {admin: {admin_listen: {ip: 0.0.0.0}, https_admin: true, admin_api_mtls: {admin_ssl_cert: a, admin_ssl_cert_key: b}}}", nil},
		"an Admin API without a key":           {"deployment: {admin: {admin_key_required: false}}", []Notice{"conf.yaml:1: deployment.admin.admin_key_required: Admin key is bypassed! The Admin API asks for no key"}},
		"a short key, which is not shown":      {"deployment: {admin: {admin_key: [{key: tiny, role: admin}]}}", []Notice{"conf.yaml:1: deployment.admin.admin_key[0].key: is shorter than 16 characters"}},
		"an etcd and no keyring":               {"deployment: {etcd: {host: \"http://a:1\"}}", []Notice{"apisix.data_encryption.keyring: is empty, secrets are stored as they are"}},
		"an etcd that is not verified":         {"apisix: {data_encryption: {enable_encrypt_fields: false}}\ndeployment: {etcd: {host: \"https://a:1\", tls: {verify: false}}}", []Notice{"conf.yaml:2: deployment.etcd.tls.verify: is false, anyone can pose as etcd"}},
		"a control API for everyone":           {"apisix: {control: {ip: \"\"}}", []Notice{"conf.yaml:1: apisix.control: the control API listens on :9090 and asks for no key"}},
		"stream routes that nothing serves":    {"apisix: {proxy_mode: stream}", []Notice{"conf.yaml:1: apisix.proxy_mode: stream routes may be written, but nothing serves them"}},
		"plugin_attr takes any key in silence": {"plugin_attr: {zebra: {a: 1}}", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, got, err := Decode("conf.yaml", []byte(tt.text), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPublishedKeysAreToldByTheirSum(t *testing.T) {
	for _, sum := range published {
		if len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" {
			t.Errorf("got %q, want a SHA-256 sum", sum)
		}
	}
	if isPublished("") || isPublished("a key of one's own") {
		t.Error("a key that nobody published is taken for one")
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		program Program
		change  func(*Config)
		want    string // "": no error
	}{
		"the defaults suit gosix":             {ProgramGosix, func(*Config) {}, ""},
		"admin needs an etcd":                 {ProgramAdmin, func(*Config) {}, "deployment.etcd.host: is required, admin has no etcd of its own"},
		"gateway needs an etcd":               {ProgramGateway, func(*Config) {}, "deployment.etcd.host: is required, gateway has no etcd of its own"},
		"gateway needs no admin key":          {ProgramGateway, func(c *Config) { c.Deployment.Etcd.Host = []string{"http://a:1"} }, ""},
		"an external etcd needs an admin key": {ProgramGosix, func(c *Config) { c.Deployment.Etcd.Host = []string{"http://a:1"} }, "deployment.admin.admin_key[0].key: is empty"},
		"no admin key at all":                 {ProgramAdmin, func(c *Config) { c.Deployment.Etcd.Host, c.Deployment.Admin.Keys = []string{"http://a:1"}, nil }, "deployment.admin.admin_key: missing valid Admin API token"},
		"no admin key where none is asked for": {ProgramAdmin, func(c *Config) {
			c.Deployment.Etcd.Host, c.Deployment.Admin.KeyRequired = []string{"http://a:1"}, false
		}, ""},
		"gateway is no control plane":         {ProgramGateway, func(c *Config) { c.Deployment.Role = "control_plane" }, `deployment.role: "control_plane" is not what gateway does`},
		"admin is no data plane":              {ProgramAdmin, func(c *Config) { c.Deployment.Role = "data_plane" }, `deployment.role: "data_plane" is not what admin does`},
		"a data plane reads another's etcd":   {ProgramGosix, func(c *Config) { c.Deployment.Role = "data_plane" }, "deployment.etcd.host: is required, a data_plane"},
		"a control plane that nobody reaches": {ProgramGosix, func(c *Config) { c.Deployment.Role = "control_plane" }, "deployment.etcd.host: is required, or deployment.etcd.listen"},
		"a control plane with a fixed etcd":   {ProgramGosix, func(c *Config) { c.Deployment.Role, c.Deployment.Etcd.Listen = "control_plane", "127.0.0.1:2379" }, ""},
		"admin takes the gateway's port":      {ProgramGosix, func(c *Config) { c.Deployment.Admin.Listen.Port = 9080 }, "deployment.admin.admin_listen: port 9080 is taken by apisix.node_listen[0]"},
		"admin takes the gateway's TLS port":  {ProgramGosix, func(c *Config) { c.Deployment.Admin.Listen.Port = 9443 }, "deployment.admin.admin_listen: port 9443 is taken by apisix.ssl.listen[0]"},
		"TLS is off and leaves its port":      {ProgramGosix, func(c *Config) { c.Apisix.SSL.Enable, c.Deployment.Admin.Listen.Port = false, 9443 }, ""},
		"one port at two addresses":           {ProgramGosix, func(c *Config) { c.Deployment.Admin.Listen = Address{"127.0.0.2", 9090} }, ""},
		"free ports do not clash":             {ProgramGosix, func(c *Config) { c.Apisix.Control.Port, c.Deployment.Admin.Listen.Port = 0, 0 }, ""},
		"what a caller changed is checked":    {ProgramGosix, func(c *Config) { c.Apisix.ProxyMode = "x" }, "apisix.proxy_mode"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Default()
			tt.change(c)
			err := c.Validate(tt.program)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSecretsDoNotShowThemselves(t *testing.T) {
	c := Default()
	c.Deployment.Etcd.Password = "p4ssw0rd"
	c.Deployment.Admin.Keys = []AdminKey{{Key: "p4ssw0rd"}}
	c.Apisix.DataEncryption.Keyring = []Secret{"p4ssw0rd"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, value := range []any{c, *c, c.Deployment.Etcd, c.Deployment.Etcd.Password, c.Deployment.Admin.Keys} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "p4ssw0rd") || strings.Contains(text, fmt.Sprintf("%x", "p4ssw0rd")) {
				t.Errorf("%s shows it: %s", verb, text)
			}
		}
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(c.Deployment)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(asJSON)+string(asYAML), "p4ssw0rd") {
		t.Errorf("an encoding shows it: %s%s", asJSON, asYAML)
	}
	if got := c.Deployment.Etcd.Password.Reveal(); got != "p4ssw0rd" {
		t.Errorf("got %q from Reveal, want the secret", got)
	}
}

func TestDefaultIsNewEachTime(t *testing.T) {
	Default().Deployment.Admin.Allow[0] = "changed"
	Default().PluginAttr["changed"] = nil
	if c := Default(); c.Deployment.Admin.Allow[0] == "changed" || len(c.PluginAttr) > 0 {
		t.Error("a change to one result shows in the next")
	}
}

// FuzzDecode holds that no text makes Decode panic or go on for ever, and that what it
// accepts passes its own checks.
func FuzzDecode(f *testing.F) {
	f.Add("apisix: {node_listen: [1, {port: 2}], limits: {uri_bytes: 8k}}")
	f.Add("plugin_attr: {a: &a {b: [1, *a]}}")
	f.Add("apisix: &a {<<: [*a, *a]}")
	f.Add("plugins: ${{Y:=[}}")
	f.Add("nginx_config: {http: {send_timeout: 1m}}\n---\n")
	f.Add("deployment: {role_data_plane: {config_provider: {}}, etcd: {host: \"http://[::1]:1\"}}")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := Decode("fuzz", []byte(text), none)
		if err == nil && len(c.check()) > 0 {
			t.Errorf("accepted, and refused by check: %v", c.check())
		}
	})
}

func TestSuitesAndVersionsForHandshakes(t *testing.T) {
	s := Default().Apisix.SSL
	if diff := cmp.Diff([]uint16{tls.VersionTLS12, tls.VersionTLS13}, Versions(s.Protocols)); diff != "" {
		t.Error(diff)
	}
	if got := Suites(s.Ciphers); len(got) != 6 || got[0] != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
		t.Errorf("got %x", got)
	}
	s = SSL{Protocols: " TLSv1.3  TLSv1.1 TLSv1.3", Ciphers: "ECDHE-RSA-AES128-GCM-SHA256, RC4-SHA"}
	if diff := cmp.Diff([]uint16{tls.VersionTLS11, tls.VersionTLS13}, Versions(s.Protocols)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, Suites(s.Ciphers)); diff != "" {
		t.Error(diff)
	}
}

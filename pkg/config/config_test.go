package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

func none(string) (string, bool) { return "", false }

const documented = "../../conf/config.yaml"

var equal = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreTypes(yaml.Node{})}

func TestTheDocumentedFileIsTheDefaults(t *testing.T) {
	c, notices, err := Load(documented, none)
	if err != nil {
		t.Fatal(err)
	}
	if len(notices) > 0 {
		t.Errorf("notices: %v", notices)
	}
	if diff := cmp.Diff(Default(), c, equal); diff != "" {
		t.Error(diff)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, typ reflect.Type, v any)
	compare = func(path string, typ reflect.Type, v any) {
		if list, ok := v.([]any); ok && typ.Kind() == reflect.Slice && len(list) > 0 {
			compare(path+"[]", typ.Elem(), list[0])
			return
		}
		object, ok := v.(map[string]any)
		if typ.Kind() != reflect.Struct || !ok {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" {
				t.Errorf("%s.%s has no name in the file", path, f.Name)
				continue
			}
			member, there := object[name]
			if !there {
				t.Errorf("%s does not document %s.%s", documented, path, name)
				continue
			}
			compare(strings.TrimPrefix(path+"."+name, "."), f.Type, member)
		}
	}
	compare("", reflect.TypeFor[Config](), doc)
}

func TestLoad(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"PORT": "9999", "KEY": "secret-of-many-letters", "YES": "true", "HOSTS": "x"}[name]
		return v, ok
	}
	tests := map[string]struct {
		text string
		want func(*Config)
	}{
		"nothing is the defaults":       {"", func(*Config) {}},
		"one port":                      {"apisix: {node_listen: 8080}", func(c *Config) { c.Apisix.NodeListen = Listens{{Port: 8080}} }},
		"a list of ports and addresses": {"apisix: {node_listen: [8080, {ip: 127.0.0.1, port: 0, enable_http2: true}]}", func(c *Config) { c.Apisix.NodeListen = Listens{{Port: 8080}, {IP: "127.0.0.1", HTTP2: true}} }},
		"objects merge":                 {"apisix: {control: {port: 1}}", func(c *Config) { c.Apisix.Control.Port = 1 }},
		"lists replace":                 {"deployment: {admin: {allow_admin: [10.0.0.0/8]}}", func(c *Config) { c.Deployment.Admin.Allow = []string{"10.0.0.0/8"} }},
		"null takes a default away":     {"deployment: {admin: {allow_admin: null}}", func(c *Config) { c.Deployment.Admin.Allow = nil }},
		"a variable becomes a number":   {"apisix:\n  control:\n    port: ${{PORT}}", func(c *Config) { c.Apisix.Control.Port = 9999 }},
		"a variable becomes a boolean":  {"apisix:\n  enable_control: ${{YES}}", func(c *Config) { c.Apisix.EnableControl = true }},
		"a variable has a default":      {"apisix: {control: {port: \"${{NONE:=7}}\"}}", func(c *Config) { c.Apisix.Control.Port = 7 }},
		"one etcd host":                 {"deployment: {etcd: {host: \"http://a:1\"}}", func(c *Config) { c.Deployment.Etcd.Host = Hosts{"http://a:1"} }},
		"keys of the reference pass":    {"apisix: {enable_ipv6: true}\ndiscovery: {dns: {}}\nnginx_config: {worker_processes: 4}", func(*Config) {}},
		"a key with a role":             {"deployment: {admin: {admin_key: [{name: a, key: \"${{KEY}}\", role: viewer}]}}", func(c *Config) { c.Deployment.Admin.Keys = []AdminKey{{"a", "secret-of-many-letters", "viewer"}} }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := Default()
			tt.want(want)
			got, _, err := Decode("conf.yaml", []byte(tt.text), env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, equal); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("the environment replaces the etcd hosts", func(t *testing.T) {
		c, _, err := Decode("conf.yaml", []byte("deployment: {etcd: {host: [\"http://a:1\"]}}"), func(name string) (string, bool) {
			return `["http://b:2"]`, name == "APISIX_DEPLOYMENT_ETCD_HOST"
		})
		if err != nil || len(c.Deployment.Etcd.Host) != 1 || c.Deployment.Etcd.Host[0] != "http://b:2" {
			t.Errorf("got %v, %v", c.Deployment.Etcd.Host, err)
		}
	})
}

func TestErrors(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"an unknown key and its nearest":   {"apisix:\n  node_lisen: 1", `conf.yaml:2: apisix.node_lisen: unknown key (did you mean "node_listen"?)`},
		"an unknown key far from any":      {"zebra: 1", `conf.yaml:1: zebra: unknown key`},
		"another shape":                    {"apisix: {control: 5}", "conf.yaml:1: failed to merge, path[apisix->control] expect: object, but got: number"},
		"another type":                     {"apisix: {enable_control: \"yes\"}", "conf.yaml:1: failed to merge, path[apisix->enable_control] expect: boolean, but got: string"},
		"a variable that is not set":       {"apisix: {server_header: \"${{NONE}}\"}", "conf.yaml:1: failed to handle configuration: can't find environment variable NONE"},
		"a router that does not exist":     {"apisix: {router: {http: tree}}", `apisix.router.http: "tree" is not one of`},
		"a port that is none":              {"apisix: {node_listen: 70000}", "apisix.node_listen[0]: 70000 is no port (0 to 65535)"},
		"a network that is none":           {"deployment: {admin: {allow_admin: [x]}}", `deployment.admin.allow_admin[0]: "x" is neither an address nor a network`},
		"a key of another length":          {"apisix: {data_encryption: {keyring: [short]}}", "apisix.data_encryption.keyring[0]: 5 bytes, must be 16 or 32"},
		"a role that does not exist":       {"deployment: {role: king}", `deployment.role: "king" is not one of`},
		"text that is no YAML":             {"a: [", "conf.yaml: yaml"},
		"a list at the top":                {"[1]", "conf.yaml:1: settings must be an object"},
		"a time below zero":                {"apisix: {drain_timeout: -1}", "apisix.drain_timeout: -1 is below 0"},
		"a prefix with a slash at the end": {"deployment: {etcd: {prefix: /a/}}", "deployment.etcd.prefix"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := Decode("conf.yaml", []byte(tt.text), none)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	if _, _, err := Load("does/not/exist.yaml", none); err == nil {
		t.Error("a file that does not exist is read")
	}
}

func TestWarnings(t *testing.T) {
	_, notices, err := Decode("conf.yaml", []byte("deployment: {admin: {admin_listen: {ip: 0.0.0.0}, admin_key: [{name: a, key: short, role: admin}]}, etcd: {host: [\"http://a:1\"]}}"), none)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprint(notices)
	for _, want := range []string{"without TLS", "shorter than 16", "secrets are stored as they are"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s: no notice in %s", want, all)
		}
	}
	if strings.Contains(all, "short ") {
		t.Errorf("a notice shows the key: %s", all)
	}
}

func TestSecretsDoNotShowThemselves(t *testing.T) {
	c := Default()
	c.Deployment.Etcd.Password = "p4ssw0rd"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, c); strings.Contains(text, "p4ssw0rd") {
			t.Errorf("%s shows it", verb)
		}
	}
	if c.Deployment.Etcd.Password.Reveal() != "p4ssw0rd" {
		t.Error("it cannot be read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("apisix: {node_listen: [1, {port: 2}]}")
	f.Add("plugin_attr: {a: {b: [1]}}")
	f.Add("x: ${{Y:=1}}")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _, _ = Decode("fuzz", []byte(text), none)
	})
}

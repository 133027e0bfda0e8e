package stage

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/lua"
	"github.com/gosix/gosix/t/blocktest/nginx"
)

func TestLinesOfGosixAreThoseOfAnErrorLog(t *testing.T) {
	for _, tt := range []struct{ name, raw, level, line string }{
		{"a message", `{"level":"warn","time":"now","message":"it is late"}`, "warn", "it is late"},
		{"fields come in the order of their names", `{"level":"info","b":2,"a":"x","message":"m"}`, "info", "m, a: x, b: 2"},
		{"text that is no JSON is an error", `panic: nil`, "error", "panic: nil"},
		{"no message", `{"level":"error","error":"e"}`, "error", ", error: e"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if level, line := translate([]byte(tt.raw)); level != tt.level || line != tt.line {
				t.Errorf("got %q, %q; want %q, %q", level, line, tt.level, tt.line)
			}
		})
	}
}

func TestAJournalKeepsWhatABlockHasSaid(t *testing.T) {
	var j journal
	j.add("warn", "before")
	j.begin()
	if got := j.block(); got != "" {
		t.Errorf("a block that said nothing has %q", got)
	}
	j.add("error", "first")
	j.raw("second")
	got := j.block()
	if strings.Contains(got, "before") || !strings.HasSuffix(got, " [error] 1#1: first\nsecond\n") {
		t.Errorf("got %q", got)
	}
}

// at follows a path of names in a YAML document.
func at(t *testing.T, doc, path string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(path, ".") {
		o, _ := v.(tree)
		v = o[name]
	}
	return v
}

func TestSettingsAreTheBlocksAndWhatSuitesTakeForGranted(t *testing.T) {
	listen := func(ip string, port int) tree { return tree{"ip": ip, "port": port} }
	own := []any{tree{"name": "a", "key": "k", "role": "admin"}}
	for _, tt := range []struct {
		name     string
		sections map[string]string
		ipv6     bool
		path     string
		want     any
	}{
		{"the gateway keeps its port on another address", nil, false, "apisix.node_listen", []any{listen(gatewayHost, 1984)}},
		{"and has one of IPv6", nil, true, "apisix.node_listen", []any{listen(gatewayHost, 1984), listen(gatewayHost6, 1984)}},
		{"a port", map[string]string{"yaml_config": "apisix: {node_listen: 9080}"}, false, "apisix.node_listen", []any{listen(gatewayHost, 9080)}},
		{
			"ports in any form",
			map[string]string{"yaml_config": "apisix: {node_listen: [\"1\", {port: 2, enable_http2: true}]}"},
			false, "apisix.node_listen",
			[]any{listen(gatewayHost, 1), tree{"ip": gatewayHost, "port": 2, "enable_http2": true}},
		},
		{"the name of the reference", nil, false, "apisix.server_header", "APISIX/3.18.0"},
		{"a name of its own", map[string]string{"yaml_config": "apisix: {server_header: x}"}, false, "apisix.server_header", "x"},
		{"plugins that are not built are passed over", nil, false, "apisix.unknown_plugins", "skip"},
		{"extra settings stand behind", map[string]string{"extra_yaml_config": "plugins: [a]"}, false, "plugins", []any{"a"}},
		{"etcd is the runner's", map[string]string{"yaml_config": "deployment: {etcd: {host: [http://other:1]}}"}, false, "deployment.etcd.host", []any{"http://" + etcdAddr}},
		{"without a word of keys everybody may", nil, false, "deployment.admin.admin_key_required", false},
		{
			"a deployment without keys has one that nobody knows",
			map[string]string{"yaml_config": "deployment: {role: traditional}"},
			false, "deployment.admin.admin_key",
			[]any{tree{"name": "admin", "key": unknownKey, "role": "admin"}},
		},
		{"null is no key", map[string]string{"yaml_config": "deployment: {admin: {admin_key: null}}"}, false, "deployment.admin.admin_key_required", false},
		{"keys of its own", map[string]string{"yaml_config": "deployment: {admin: {admin_key: [{name: a, key: k, role: admin}]}}"}, false, "deployment.admin.admin_key", own},
		{"keys are taken from anywhere", nil, false, "deployment.admin.admin_key_in", []any{"header", "query", "cookie"}},
		{"a key where the reference reads none", map[string]string{"yaml_config": "apisix: {admin_key: null}"}, false, "apisix.admin_key", nil},
		{"etcd as the provider", map[string]string{"yaml_config": "deployment: {role: data_plane, role_data_plane: {config_provider: etcd}}"}, false, "deployment.role", "data_plane"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := settings(prepared(tt.sections), "/dir", tt.ipv6)
			if err != nil {
				t.Fatal(err)
			}
			if v := at(t, got, tt.path); !reflect.DeepEqual(v, tt.want) {
				t.Errorf("%s is %#v, want %#v", tt.path, v, tt.want)
			}
		})
	}
}

func TestSettingsThatGosixHasNotAreUnsupported(t *testing.T) {
	for name, sections := range map[string]map[string]string{
		"a file of routes":          {"apisix_yaml": "routes: []"},
		"one in JSON":               {"apisix_json": "{}"},
		"a provider that is a file": {"yaml_config": "deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}"},
		"text that is no YAML":      {"yaml_config": "a: ["},
		"an address that is none":   {"yaml_config": "apisix: {node_listen: x}"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := settings(prepared(sections), "/dir", false)
			var staged *blocktest.StageError
			if !errors.As(err, &staged) || staged.Verdict != blocktest.Unsupported {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTheServersOfABlock(t *testing.T) {
	sections := map[string]string{
		"config":      "location /t { return 200 a; }",
		"http_config": "server { listen 1986; return 200 b; }",
		"exec":        "echo ]] ]=]", "stdin": "in",
		"extra_init_by_lua": "x = 1", "extra_init_worker_by_lua": "y = 1",
		"upstream_server_config": "location /own { return 200 c; }", "listen_ipv6": "1",
	}
	// With a checkout there are the servers that every suite takes for granted.
	home := t.TempDir()
	for _, h := range []string{"", home} {
		src, err := source(prepared(sections), h)
		if err != nil {
			t.Fatal(err)
		}
		servers := 0
		for _, d := range src.HTTP {
			if d.Name == "server" {
				servers++
			}
		}
		if want := map[string]int{"": 1, home: 3}[h]; servers != want || len(src.Server) != 2 {
			t.Errorf("%q: %d servers, want %d; %d directives of its own", h, servers, want, len(src.Server))
		}
	}
	if _, err := nginx.Load(must(source(prepared(sections), "")), nginx.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := source(prepared(map[string]string{"config": "location {"}), ""); err == nil {
		t.Error("a block that does not end is no error")
	}
}

func must(src nginx.Source, err error) nginx.Source {
	if err != nil {
		panic(err)
	}
	return src
}

func TestALongBracketIsLongEnough(t *testing.T) {
	for text, want := range map[string]string{"a": "[[\na]]", "a]]b": "[=[\na]]b]=]", "]] ]=]": "[==[\n]] ]=]]==]"} {
		if got := long(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCertificatesOfACheckoutStandBesideTheConfiguration(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "t/certs/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.crt", "sub/b.key"} {
		if err := os.WriteFile(filepath.Join(home, "t/certs", name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := certificates(home, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.crt", "b.key"} {
		if _, err := os.Stat(filepath.Join(dir, "conf/cert", name)); err != nil {
			t.Error(err)
		}
	}
	if err := certificates("", dir); err != nil {
		t.Errorf("without a checkout: %v", err)
	}
	if err := certificates(filepath.Join(home, "none"), t.TempDir()); err == nil {
		t.Error("a checkout without certificates is no error")
	}
}

func TestWhatErrorsMakeOfABlock(t *testing.T) {
	plain := errors.New("x")
	for _, tt := range []struct {
		name string
		err  error
		want blocktest.Verdict
	}{
		{"a script that goes inside", &lua.WhiteBoxError{What: "x"}, blocktest.WhiteBox},
		{"a name that scripts have not", &lua.UnsupportedError{What: "x"}, blocktest.Unsupported},
		{"a directive that is not offered", &nginx.UnsupportedError{Directive: "x"}, blocktest.Unsupported},
		{"a configuration that nginx refuses", &nginx.ConfigError{Directive: "x"}, blocktest.Unsupported},
		{"any other is the runner's", plain, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var staged *blocktest.StageError
			got := staging(tt.err)
			if errors.As(got, &staged) != (tt.want != "") || staged != nil && staged.Verdict != tt.want {
				t.Errorf("got %v, want %q", got, tt.want)
			}
		})
	}
	died := &blocktest.DiedError{Code: 1, Why: "bad"}
	if _, ok := refused(prepared(nil), died).(*blocktest.StageError); !ok {
		t.Error("a configuration that gosix refuses is not unsupported")
	}
	if err := refused(prepared(map[string]string{"must_die": ""}), died); err != error(died) {
		t.Errorf("where it is to die: %v", err)
	}
	if err := refused(prepared(nil), plain); err != plain {
		t.Errorf("got %v", err)
	}
}

func TestAddressesWithTLSAreTheGateways(t *testing.T) {
	for config, want := range map[string]struct {
		addrs []string
		left  int // directives
	}{
		"location / { }":                    {nil, 1},
		"listen 1994;":                      {nil, 1},
		"# listen 1994 ssl;":                {nil, 0},
		"listen 1994 ssl; location / { }":   {[]string{"1994"}, 1},
		"listen unix:/a ssl; listen b ssl;": {[]string{"unix:/a", "b"}, 0},
	} {
		src, err := source(prepared(map[string]string{"config": config}), "")
		if err != nil {
			t.Fatal(err)
		}
		if addrs, err := withTLS(&src); err != nil || !slices.Equal(addrs, want.addrs) || len(src.Server) != want.left {
			t.Errorf("%q: got %q, %v and %d directives left", config, addrs, err, len(src.Server))
		}
	}
}

func TestAGosixThatEndsTellsWhy(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("it needs a shell")
	}
	for _, tt := range []struct{ script, want string }{
		{"echo 'gosix: bad' >&2; exit 3", "bad"},
		{"exec sleep 3600", ""},
	} {
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if tt.want == "" { // it says nothing: the block's time ends it
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(ctx)
			cancel()
		}
		var log journal
		_, err := launch(ctx, program, dir, "x", "", &log)
		var died *blocktest.DiedError
		if errors.As(err, &died) != (tt.want != "") || err == nil {
			t.Fatalf("%s: %v", tt.script, err)
		}
		if died != nil && (died.Code != 3 || !strings.Contains(died.Why, tt.want)) {
			t.Errorf("%+v", died)
		}
	}
}

func TestTheGatewaysAddressDependsOnTheClient(t *testing.T) {
	s := &Stage{ipv6: true}
	four, six := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv6loopback}
	for _, tt := range []struct {
		client net.Addr
		ipv6   bool
		addr   string
		from   string
	}{
		{four, true, "127.0.0.2:1984", "127.0.0.1"},
		{six, true, "[fd00::1984]:1984", "::1"},
		{six, false, "127.0.0.2:1984", "127.0.0.1"},
		{nil, true, "127.0.0.2:1984", "127.0.0.1"},
	} {
		s.ipv6 = tt.ipv6
		addr, from := s.gateway(tt.client)
		if addr != tt.addr || from.(*net.TCPAddr).IP.String() != tt.from {
			t.Errorf("%v, IPv6 %v: %s from %v", tt.client, tt.ipv6, addr, from)
		}
	}
	for path, want := range map[string]string{"/apisix/admin/routes": adminAddr, "/v1/config": controlAddr} {
		if addr, _ := s.relay(path, six); addr != want {
			t.Errorf("%s goes to %s, want %s", path, addr, want)
		}
	}
}

func TestWhomAGatewayTrusts(t *testing.T) {
	for _, tt := range []struct {
		name, home string
		sections   map[string]string
		want       string
	}{
		{"the system's authorities without a checkout", "", nil, ""},
		{"the suites' own certificate", "/home", nil, "/dir/conf/cert/apisix.crt"},
		{"what a block names", "/home", map[string]string{"custom_trusted_cert": "cert/other.crt\n"}, "/dir/conf/cert/other.crt"},
		{"a file of the system", "", map[string]string{"custom_trusted_cert": "/etc/ca.crt"}, "/etc/ca.crt"},
	} {
		s := &Stage{o: Options{Home: tt.home}, dir: "/dir"}
		if got := s.trusts(prepared(tt.sections)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWhoseThePathsBelowV1Are(t *testing.T) {
	off := map[string]string{"TEST_ENABLE_CONTROL_API_V1": "0"}
	on := map[string]string{"TEST_ENABLE_CONTROL_API_V1": "1"}
	for name, tt := range map[string]struct {
		p    blocktest.Prepared
		want string
	}{
		"the control API's":                {blocktest.Prepared{Settings: &blocktest.Settings{}}, controlAddr},
		"the control API's, if it is said": {blocktest.Prepared{Settings: &blocktest.Settings{Env: on}}, controlAddr},
		"the gateway's, if it is said":     {blocktest.Prepared{Settings: &blocktest.Settings{Env: off}}, "127.0.0.2:1984"},
		"the gateway's in our own suites":  {blocktest.Prepared{Own: true}, "127.0.0.2:1984"},
	} {
		s := &Stage{all: providersPaths(&tt.p), etcdAway: true} // with etcd away nothing is waited for
		if addr, _ := s.relay("/v1/responses", nil); addr != tt.want {
			t.Errorf("%s: goes to %s, want %s", name, addr, tt.want)
		}
		if addr, _ := s.relay("/v1/config", nil); addr != controlAddr {
			t.Errorf("%s: /v1/config goes to %s", name, addr)
		}
	}
}

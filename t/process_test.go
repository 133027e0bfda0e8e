package t

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStartUpErrorsAreOneClearLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	replaced := func(old, new string) string { return strings.Replace(settings("DIR", ""), old, new, 1) }
	tests := map[string]struct {
		program, conf string
		want          []string
	}{
		"a gateway port in use": {
			"gosix", replaced("node_listen: [{ip: 127.0.0.1, port: 0", fmt.Sprintf("node_listen: [{ip: 127.0.0.1, port: %d", port)),
			[]string{"apisix.node_listen[0]", fmt.Sprint(port), "in use"},
		},
		"an admin port in use": {
			"gosix", replaced("admin_listen: {ip: 127.0.0.1, port: 0", fmt.Sprintf("admin_listen: {ip: 127.0.0.1, port: %d", port)),
			[]string{"deployment.admin.admin_listen", fmt.Sprint(port), "in use"},
		},
		"an unknown setting":                    {"gosix", "apisix:\n  node_lisen: 1\n", []string{`conf.yaml:2: apisix.node_lisen: unknown key (did you mean "node_listen"?)`}},
		"text that is no YAML":                  {"gosix", "a: [", []string{"conf.yaml"}},
		"a gateway without an etcd":             {"gateway", settings("DIR", ""), []string{"deployment.etcd.host: is required"}},
		"an external etcd without an admin key": {"admin", "deployment: {data_dir: DIR, etcd: {host: [\"http://127.0.0.1:1\"]}}", []string{"deployment.admin.admin_key"}},
		"a role that the program does not play": {"admin", "deployment: {data_dir: DIR, role: data_plane}", []string{`deployment.role: "data_plane"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := launch(t, tt.program, tt.conf)
			n.ended()
			if n.err == nil {
				t.Fatal("it ended without an error")
			}
			last := ""
			for line := range strings.Lines(n.log.String()) {
				if strings.HasPrefix(line, tt.program+": ") {
					last = line
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(last, want) {
					t.Errorf("got %q, want %q in it", last, want)
				}
			}
			if _, err := os.Stat(filepath.Join(n.dir, "ports.json")); err == nil {
				t.Error("ports.json was written")
			}
		})
	}
}

func TestAKeyIsMadeAndKept(t *testing.T) {
	conf := strings.Split(settings("DIR", ""), "    admin_key:")[0]
	n := start(t, "gosix", conf)
	file := filepath.Join(n.dir, "admin.key")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key file: %v, %v", info, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n.key = strings.TrimSpace(string(raw))
	if len(n.key) != 32 {
		t.Errorf("the key has %d letters", len(n.key))
	}
	if a := n.admin("GET", "/routes", ""); a.StatusCode != 200 {
		t.Errorf("it does not open the Admin API: %d", a.StatusCode)
	}
	if strings.Contains(n.log.String(), n.key) {
		t.Error("the log shows the key")
	}
	// They come behind ports.json, by a pipe of their own.
	eventually(t, "the lines for people are there", func() bool { return strings.Count(n.out.String(), "\n") >= 7 })
	if lines := strings.Count(n.out.String(), "\n"); lines != 7 {
		t.Errorf("%d lines for people, want 7:\n%s", lines, n.out)
	}
}

func TestVersionAndCheck(t *testing.T) {
	n := launch(t, "gosix", "", "check")
	n.ended()
	if n.err != nil || !strings.Contains(n.out.String(), "settings: ok") {
		t.Errorf("check: %v %s %s", n.err, n.out, n.log)
	}
}

func TestSecretsAreSealedInTheStore(t *testing.T) {
	dir := t.TempDir()
	etcdServer := etcd(t, dir, "")
	defer etcdServer.Close()
	conf := settings("DIR", etcdServer.Endpoint()) + "\n"
	conf = strings.Replace(conf, "apisix:\n", "apisix:\n  data_encryption: {keyring: [0123456789abcdef]}\n", 1)
	n := start(t, "gosix", conf)
	n.must("PUT", "/consumers", `{"username":"ann","plugins":{"key-auth":{"key":"key-of-ann"}}}`)
	n.must("PUT", "/routes/1", `{"uri":"/x","plugins":{"key-auth":{},"ai-proxy":{"provider":"openai","auth":{"header":{"Authorization":"Bearer hush"}}}}}`)
	n.must("PATCH", "/routes/1", `{"desc":"changed"}`)
	stored := list(t, etcdServer.Endpoint())
	for _, secret := range []string{"key-of-ann", "hush"} {
		if strings.Contains(stored, secret) {
			t.Errorf("etcd holds %q as it is", secret)
		}
	}
	if a := n.admin("GET", "/routes/1", ""); !strings.Contains(a.Text, `"Authorization":"Bearer hush"`) {
		t.Errorf("a GET shows %s", a.Text)
	}
	if a := n.ask("GET", "/x", "", "apikey", "key-of-ann"); a.StatusCode == 401 {
		t.Errorf("the node does not know the key: %d %s", a.StatusCode, a.Text)
	}
	if strings.Contains(n.log.String(), "hush") || strings.Contains(n.log.String(), "key-of-ann") {
		t.Error("the log shows a secret")
	}
}

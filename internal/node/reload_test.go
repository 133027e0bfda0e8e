package node

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

const reloadKey = "a-key-for-the-tests-of-reloads"

// admin makes a call of the Admin API that listens there.
func (p *process) admin(method, at, path, body string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+at+"/apisix/admin"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", reloadKey)
	return p.do(req)
}

func (p *process) get(url string) int {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	status, _ := p.do(req)
	return status
}

func (p *process) do(req *http.Request) (int, string) {
	p.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// One node has the Admin API and the gateway, another, over the same etcd, the gateway
// alone. Both do what the settings of the first say.
func TestPluginsAreReloaded(t *testing.T) {
	now := atomic.Pointer[config.Config]{}
	var refused error
	c := settings(t)
	c.Deployment.Admin.Keys = []config.AdminKey{{Name: "a", Key: reloadKey, Role: "admin"}}
	p := beginWith(t, Options{Program: config.ProgramGosix, Config: c, Settings: func() (*config.Config, error) { return now.Load(), refused }})
	ports := p.ports()

	other := settings(t)
	other.Deployment.Role = "data_plane"
	other.Deployment.Etcd.Host = []string{"http://" + ports.Etcd}
	q := begin(t, config.ProgramGateway, other)
	remote := q.ports()

	must := func(status int, method, path, body string) string {
		t.Helper()
		got, text := p.admin(method, ports.Admin, path, body)
		if got != status {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, got, text, status)
		}
		return text
	}
	const route = `{"uri":"/door","plugins":{"key-auth":{}},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}}}`
	must(201, "PUT", "/routes/1", route)
	serve := func(status int) {
		t.Helper()
		for _, node := range []struct {
			*process
			ports Ports
		}{{p, ports}, {q, remote}} {
			node.eventually(http.StatusText(status), func() bool { return node.get("http://"+node.ports.Gateway[0]+"/door") == status })
		}
	}
	serve(401)

	if text := must(405, "GET", "/plugins/reload", ""); text != `{"error_msg":"please use PUT method to reload the plugins, GET method is not allowed."}`+"\n" {
		t.Errorf("got %s", text)
	}
	refused = errors.New("config.yaml:3: no such setting")
	if text := must(503, "PUT", "/plugins/reload", ""); text != refused.Error() {
		t.Errorf("got %s", text)
	}
	refused = nil
	serve(401) // nothing has changed

	next := settings(t)
	next.Plugins, next.StreamPlugins = []string{"ai-proxy", "limit-count"}, []string{"mqtt-proxy"}
	now.Store(next)
	if text := must(200, "PUT", "/plugins/reload", ""); text != "done" {
		t.Errorf("got %s", text)
	}
	if text := must(200, "GET", "/plugins/list", ""); text != `["ai-proxy"]`+"\n" {
		t.Errorf("got %s", text)
	}
	must(400, "PUT", "/routes/2", route)
	if status := p.get("http://" + ports.Gateway[0] + "/door"); status != 503 {
		t.Errorf("right after the answer: got %d, want 503", status)
	}
	serve(503)
	if got := stored(t, c, ports, "/apisix/plugins"); got != `[{"name":"ai-proxy"},{"name":"limit-count"},{"name":"mqtt-proxy","stream":true}]` {
		t.Errorf("stored is %s", got)
	}

	now.Store(settings(t)) // without a list: every plugin
	must(200, "PUT", "/plugins/reload", "")
	must(201, "PUT", "/routes/2", route)
	serve(401)
	if got := stored(t, c, ports, "/apisix/plugins"); !strings.Contains(got, `{"name":"key-auth"}`) {
		t.Errorf("stored is %s", got)
	}
}

func TestAProcessWithoutSettingsDoesNotReload(t *testing.T) {
	c := settings(t)
	c.Deployment.Admin.Keys = []config.AdminKey{{Name: "a", Key: reloadKey, Role: "admin"}}
	p := begin(t, config.ProgramGosix, c)
	ports := p.ports()
	if status, text := p.admin("PUT", ports.Admin, "/plugins/reload", ""); status != 503 || text != "there are no settings to read again" {
		t.Errorf("got %d %s", status, text)
	}
}

// A stored list of an earlier run gives way to that of the process that starts.
func TestTheStoredListOfPluginsIsCorrectedAtTheStart(t *testing.T) {
	c := settings(t)
	c.Plugins = []string{"key-auth"}
	p := begin(t, config.ProgramGosix, c)
	ports := p.ports()
	if got := stored(t, c, ports, "/apisix/plugins"); got != "" {
		t.Errorf("stored is %s, want no list where there was none", got)
	}
	put(t, c, ports, "/apisix/plugins", `[{"name":"ai-proxy"}]`)
	dir := c.Deployment.DataDir
	p.stop()

	if err := os.Remove(filepath.Join(dir, "ports.json")); err != nil {
		t.Fatal(err)
	}
	again := settings(t)
	again.Deployment.DataDir, again.Plugins = dir, []string{"key-auth"}
	p = begin(t, config.ProgramGosix, again)
	ports = p.ports()
	st := client(t, again, ports)
	defer func() { _ = st.Close() }()
	p.eventually("the list is corrected", func() bool {
		item, _, err := st.Get(t.Context(), "/apisix/plugins")
		return err == nil && string(item.Value) == `[{"name":"key-auth"}]`
	})
}

func TestMainReadsItsFileAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("plugins: [ai-proxy]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := again(path)()
	if err != nil || len(c.Plugins) != 1 {
		t.Errorf("got %+v %v", c, err)
	}
	if err := os.WriteFile(path, []byte("plugin: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := again(path)(); err == nil {
		t.Error("got no error")
	}
}

// client opens the etcd of a process.
func client(t *testing.T, c *config.Config, ports Ports) *etcdstore.Store {
	t.Helper()
	own := *c
	own.Deployment.Etcd.Host = []string{"http://" + ports.Etcd}
	st, err := openStore(&own, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// stored is what stands under a key, "" if nothing does.
func stored(t *testing.T, c *config.Config, ports Ports, key string) string {
	t.Helper()
	st := client(t, c, ports)
	defer func() { _ = st.Close() }()
	item, _, err := st.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return string(item.Value)
}

func put(t *testing.T, c *config.Config, ports Ports, key, value string) {
	t.Helper()
	st := client(t, c, ports)
	defer func() { _ = st.Close() }()
	if _, err := st.Commit(t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

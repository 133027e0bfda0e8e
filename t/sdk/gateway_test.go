package sdk

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

const adminKey = "sdk-admin-key-of-no-value-000001"

// gateway is the gosix that all tests talk to, and the fake provider behind it.
var gateway struct {
	Gateway []string `json:"gateway"`
	Admin   string   `json:"admin"`
	Control string   `json:"control"`

	llm      *fakellm.Server
	provider string // host:port of it
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gosix-sdk")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "gosix"), "./cmd/gosix")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	conf := fmt.Sprintf(`apisix:
  node_listen: [{ip: 127.0.0.1, port: 0, enable_http2: true}]
  ssl: {enable: false}
  control: {port: 0}
%snginx_config: {http: {access_log: %q}}
deployment:
  data_dir: %q
  etcd: {timeout: 20}
  admin:
    admin_listen: {ip: 127.0.0.1, port: 0}
    admin_key: [{name: admin, key: %s, role: admin}]
`, engine(), filepath.Join(dir, "access.log"), dir, adminKey)
	file := filepath.Join(dir, "conf.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		panic(err)
	}
	cmd := exec.Command(filepath.Join(dir, "gosix"), "run", "-c", file)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	ports := filepath.Join(dir, "ports.json")
	if !await(func() bool {
		raw, err := os.ReadFile(ports)
		return err == nil && json.Unmarshal(raw, &gateway) == nil
	}) {
		fmt.Fprintln(os.Stderr, "gosix does not listen")
		return 1
	}
	gateway.llm = fakellm.New("owl")
	web := httptest.NewServer(gateway.llm)
	defer web.Close()
	gateway.provider = strings.TrimPrefix(web.URL, "http://")
	return m.Run()
}

// await waits until ok holds; false if it does not come to pass.
func await(ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}

// provider is an account at a provider, as a route's plugin configures it. %s is where the
// endpoint goes.
type provider struct{ name, conf string }

const bearer = `"auth": {"header": {"Authorization": "Bearer secret"}}`

// chatProviders are reached by whoever speaks openai-chat.
var chatProviders = []provider{
	{"openai", `"provider": "openai-compatible", ` + bearer + `, "override": {"endpoint": "%s"}`},
	{"openai over responses", `"provider": "openai", "provider_conf": {"protocol": "openai-responses"}, ` + bearer + `, "override": {"endpoint": "%s"}`},
	{"anthropic", `"provider": "anthropic", "auth": {"header": {"x-api-key": "secret"}}, "override": {"endpoint": "%s"}`},
	{"anthropic over messages", `"provider": "anthropic", "provider_conf": {"protocol": "anthropic-messages"}, "auth": {"header": {"x-api-key": "secret"}}, "override": {"endpoint": "%s"}`},
	{"gemini over its own protocol", `"provider": "gemini", "provider_conf": {"protocol": "gemini-generate"}, "auth": {"header": {"x-goog-api-key": "secret"}}, "override": {"endpoint": "%s"}`},
	{"bedrock", `"provider": "bedrock", "provider_conf": {"region": "eu-west-1"}, "auth": {"aws": {"access_key_id": "AKID", "secret_access_key": "secret"}}, "override": {"endpoint": "%s"}`},
}

// embedders are reached by whoever wants embeddings.
var embedders = []provider{
	{"openai", `"provider": "openai-compatible", ` + bearer + `, "override": {"endpoint": "%s"}`},
	{"vertex", `"provider": "vertex-ai", "provider_conf": {"project_id": "p", "region": "eu"}, ` + bearer + `, "override": {"endpoint": "%s"}`},
}

// route makes a route to a provider that follows a script, and returns the base URL for a
// client, without a path. It is gone when the test has ended.
func route(t *testing.T, p provider, script string) string {
	t.Helper()
	endpoint := "http://" + gateway.provider
	if script != "" {
		endpoint += "?" + script
	}
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	conf := fmt.Sprintf(p.conf, endpoint)
	admin(t, http.MethodPut, "/apisix/admin/routes/"+id, `{"uri": "/*", "host": "`+id+`.test", "plugins": {"ai-proxy": {`+conf+`}}}`)
	t.Cleanup(func() { admin(t, http.MethodDelete, "/apisix/admin/routes/"+id, "") })
	return id + ".test"
}

// admin makes a call to the Admin API and waits until its outcome is in force.
func admin(t *testing.T, method, path, body string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+gateway.Admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", adminKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, raw)
	}
	revision, err := strconv.ParseInt(res.Header.Get("X-Gosix-Revision"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if !await(func() bool {
		res, err := http.Get("http://" + gateway.Control + "/v1/config")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		var now struct{ Revision int64 }
		return json.NewDecoder(res.Body).Decode(&now) == nil && now.Revision >= revision
	}) {
		t.Fatalf("revision %d is not in force", revision)
	}
}

// engine is the setting for the engine that the tests are to run over, if one is named.
func engine() string {
	if name := os.Getenv("GOSIX_ENGINE"); name != "" {
		return "  http_engine: " + name + "\n"
	}
	return ""
}

// client is what an SDK sends with: to the gateway, for that host.
func client(host string) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &http.Client{Transport: hosted{transport, host}}
}

type hosted struct {
	next *http.Transport
	host string
}

func (h hosted) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Host = h.host
	return h.next.RoundTrip(req)
}

func base() string { return "http://" + gateway.Gateway[0] }

// Package t holds the black-box tests: the programs are built and run as a user runs them,
// and only HTTP, files and logs are looked at.
package t

import (
	"context"
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

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// programs is where the programs were built to, and the one that runs suites.
var programs string

func TestMain(m *testing.M) {
	if os.Getenv(inCluster) != "" {
		os.Exit(m.Run()) // what it needs is built
	}
	dir, err := os.MkdirTemp("", "gosix-t")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-o", dir+"/", "../cmd/...", "./prove")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long a test waits for what must come: nobody waits for it unless something
// is wrong.
const patience = time.Minute

var eventually = timetest.Until

// node is a running program.
type node struct {
	t        *testing.T
	dir      string
	key      string
	out, log *logtest.Log
	cmd      *exec.Cmd
	exited   chan struct{}
	err      error

	Gateway    []string `json:"gateway"`
	GatewayTLS []string `json:"gateway_tls"`
	Admin      string   `json:"admin"`
	Control    string   `json:"control"`
	Status     string   `json:"status"`
	Metrics    string   `json:"metrics"`
	Etcd       string   `json:"etcd"`
}

const testKey = "test-admin-key-of-no-value-00001"

// settings are those of every test: free ports, a known key; etcd is empty for an embedded
// one. An etcd that the machine has no processor for is waited for: a write is refused in the
// tests that are about that.
func settings(dir, etcd string) string {
	host := storeTimeout
	if etcd != "" {
		host += ", host: [" + etcd + "]"
	}
	return fmt.Sprintf(`apisix:
  node_listen: [{ip: 127.0.0.1, port: 0, enable_http2: true}]
  ssl: {listen: [{ip: 127.0.0.1, port: 0}]}
  control: {port: 0}
  status: {ip: 127.0.0.1, port: 0}
  lame_duck: 0
%snginx_config: {http: {access_log: %q}}
plugin_attr: {prometheus: {export_addr: {port: 0}}}
deployment:
  data_dir: %q
  admin:
    admin_listen: {ip: 127.0.0.1, port: 0}
    admin_key:
      - {name: admin, key: %s, role: admin}
      - {name: viewer, key: %s, role: viewer}
  etcd: {%s}
`, engineSetting(), filepath.Join(dir, "access.log"), dir, testKey, "viewer-"+testKey, host)
}

// storeTimeout is the time of a call of the store.
const storeTimeout = "timeout: 20"

// engineSetting is the setting for the engine that the tests are to run over, if one is named.
func engineSetting() string {
	if name := os.Getenv("GOSIX_ENGINE"); name != "" {
		return "  http_engine: " + name + "\n"
	}
	return ""
}

// start runs a program and waits until it listens.
func start(t *testing.T, program, conf string, args ...string) *node {
	t.Helper()
	n := launch(t, program, conf, args...)
	eventually(t, program+" listens", func() bool {
		select {
		case <-n.exited:
			t.Fatalf("%s ended: %v\n%s", program, n.err, n.log)
		default:
		}
		return readPorts(n)
	})
	return n
}

// readPorts reports whether the program has written where it listens.
func readPorts(n *node) bool {
	raw, err := os.ReadFile(filepath.Join(n.dir, "ports.json"))
	return err == nil && json.Unmarshal(raw, n) == nil
}

// raw writes into etcd past the Admin API.
func raw(t *testing.T, endpoint, key, value string) (revision int64) {
	t.Helper()
	s, err := etcdstore.New(etcdstore.Config{Endpoints: []string{endpoint}, Timeout: patience, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r, err := s.Commit(t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Revision
}

// rawRoutes writes that many routes into etcd past the Admin API.
func rawRoutes(t *testing.T, endpoint string, number int, upstream string) {
	t.Helper()
	s, err := etcdstore.New(etcdstore.Config{Endpoints: []string{endpoint}, Timeout: patience, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := 0; i < number; {
		var ops []store.Op
		for ; i < number && len(ops) < 100; i++ {
			id := strconv.Itoa(i)
			ops = append(ops, store.Op{Key: "/apisix/routes/r" + id, Value: []byte(`{"id":"r` + id + `","uri":"/r/` + id + `","upstream":{"type":"roundrobin","nodes":{"` + upstream + `":1}},"create_time":1700000000,"update_time":1700000000}`)})
		}
		if _, err := s.Commit(t.Context(), nil, ops); err != nil {
			t.Fatal(err)
		}
	}
}

// launch runs a program and does not wait.
func launch(t *testing.T, program, conf string, args ...string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), key: testKey, out: &logtest.Log{}, log: &logtest.Log{}, exited: make(chan struct{})}
	if strings.Contains(conf, "DIR") {
		conf = strings.ReplaceAll(conf, "DIR", n.dir)
	}
	file := filepath.Join(n.dir, "conf.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if program == "gosix" && len(args) == 0 {
		args = []string{"run"}
	}
	n.cmd = exec.Command(filepath.Join(programs, program), append(args, "-c", file)...)
	n.cmd.Dir = n.dir
	n.begin(program)
	return n
}

// begin starts the command of a program, and ends it with the test.
func (n *node) begin(program string) {
	n.t.Helper()
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.exited)
	}()
	n.t.Cleanup(func() {
		n.stop(os.Interrupt)
		if strings.Contains(n.log.String(), "panic") {
			n.t.Errorf("%s panicked:\n%s", program, n.log)
		}
		if n.t.Failed() {
			n.t.Logf("%s:\n%s%s", program, n.out, n.log)
		}
	})
}

// stop sends a signal and waits for the end.
func (n *node) stop(sig os.Signal) {
	_ = n.cmd.Process.Signal(sig)
	select {
	case <-n.exited:
	case <-time.After(patience):
		_ = n.cmd.Process.Kill()
		n.t.Errorf("the program did not end on %v", sig)
		<-n.exited
	}
}

// ended waits until the program has ended by itself.
func (n *node) ended() {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Fatalf("the program did not end\n%s", n.log)
	}
}

// gosix runs everything in one process.
func gosix(t *testing.T) *node {
	t.Helper()
	return start(t, "gosix", settings("DIR", ""))
}

// etcd runs an etcd beside the programs.
func etcd(t *testing.T, dir, listen string) *embedetcd.Server {
	t.Helper()
	s, err := embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is a whole answer.
type answer struct {
	*http.Response
	Text string
	Err  error // of reading the body
}

func do(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return answer{res, string(text), err}
}

// admin makes a call of the Admin API.
func (n *node) admin(method, path, body string) answer {
	n.t.Helper()
	return do(n.t, method, "http://"+n.Admin+"/apisix/admin"+path, body, "X-API-KEY", n.key)
}

// must makes a call that has to succeed, and waits until the nodes have applied it; none
// means n itself.
func (n *node) must(method, path, body string, nodes ...*node) answer {
	n.t.Helper()
	a := n.admin(method, path, body)
	if a.StatusCode >= 300 {
		n.t.Fatalf("%s %s: %d %s", method, path, a.StatusCode, a.Text)
	}
	revision, err := strconv.ParseInt(a.Header.Get("X-Gosix-Revision"), 10, 64)
	if err != nil {
		n.t.Fatalf("%s %s: X-Gosix-Revision: %v", method, path, err)
	}
	if len(nodes) == 0 && n.Control != "" {
		nodes = []*node{n}
	}
	for _, node := range nodes {
		eventually(n.t, "the revision is in force", func() bool { return node.config().Revision >= revision })
	}
	return a
}

type inForce struct {
	Revision, Observed int64
	Digest             string
	Rejected           int
	Staleness          float64 `json:"staleness_s"`
	Node               string
}

func (n *node) config() (c inForce) {
	n.t.Helper()
	a := do(n.t, "GET", "http://"+n.Control+"/v1/config", "")
	if err := json.Unmarshal([]byte(a.Text), &c); err != nil {
		n.t.Fatalf("/v1/config: %v: %s", err, a.Text)
	}
	return c
}

func (n *node) url(path string) string { return "http://" + n.Gateway[0] + path }

// ask sends a request to the gateway.
func (n *node) ask(method, path, body string, header ...string) answer {
	n.t.Helper()
	return do(n.t, method, n.url(path), body, header...)
}

// serve runs a handler as an upstream and returns host:port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// list is everything that is stored, as text.
func list(t *testing.T, endpoint string) string {
	t.Helper()
	s, err := etcdstore.New(etcdstore.Config{Endpoints: []string{endpoint}, Timeout: patience, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	items, _, err := s.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, it := range items {
		all.WriteString(it.Key + " " + string(it.Value) + "\n")
	}
	return all.String()
}

func accessLog(t *testing.T, n *node) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(raw)
}

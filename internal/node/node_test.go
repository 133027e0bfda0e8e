package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/store/embedetcd"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func ownEtcd(dir, listen string, log zerolog.Logger) (string, func(), error) {
	s, err := embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: log})
	if err != nil {
		return "", nil, err
	}
	return s.Endpoint(), s.Close, nil
}

// TestAdmin is the Admin API of the tests. They cannot name it: its package imports this one.
var TestAdmin Admin

// process is a Run of a test.
type process struct {
	t        *testing.T
	c        *config.Config
	out, log logtest.Log
	end      context.CancelFunc
	done     chan struct{}
	err      error
}

// settings are those of a process of its own: free ports, a new directory.
func settings(t *testing.T) *config.Config {
	c := config.Default()
	c.Apisix.NodeListen = config.Listens{{IP: "127.0.0.1"}}
	c.Apisix.SSL.Listen = config.SSLListens{{IP: "127.0.0.1", HTTP2: true}}
	c.Apisix.Control.Port = 0
	c.PluginAttr["prometheus"] = []byte(`{"export_addr":{"port":0}}`)
	c.Apisix.Status = &config.Address{IP: "127.0.0.1"}
	c.Nginx.HTTP.EnableAccessLog = false
	c.Deployment.DataDir = t.TempDir()
	c.Deployment.Admin.Listen.Port = 0
	c.Deployment.Etcd.Timeout = 10 // more than a call takes on a busy machine
	return c
}

// nobody is an address that refuses connections: its port is none that a system gives away, as
// it may do with one that was closed.
const nobody = "http://127.0.0.1:1"

// vacant is a port at which nobody listens yet. It is none of those that systems, as a rule, give
// to whoever asks for any.
func vacant(t *testing.T) int {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
}

// etcdAgain starts an etcd at an address that another one had, whose port somebody else may have
// got meanwhile.
func etcdAgain(t *testing.T, dir, listen string) (s *embedetcd.Server) {
	t.Helper()
	timetest.Until(t, "the address is free", func() bool {
		var err error
		if s, err = embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: zerolog.Nop()}); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	return s
}

// begin starts a process, which ends with the test.
func begin(t *testing.T, program config.Program, c *config.Config) *process {
	t.Helper()
	return beginWith(t, Options{Program: program, Config: c})
}

// beginWith is begin with more options.
func beginWith(t *testing.T, o Options) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{t: t, c: o.Config, end: cancel, done: make(chan struct{})}
	o.Parts, o.Out, o.Log = Parts{Etcd: ownEtcd, Admin: TestAdmin}, &p.out, zerolog.New(&p.log)
	go func() {
		defer close(p.done)
		p.err = Run(ctx, o)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s\n%s", &p.out, &p.log)
		}
	})
	return p
}

func (p *process) stop() {
	p.end()
	<-p.done
}

// ports waits until the process has written where it listens.
func (p *process) ports() (ports Ports) {
	p.t.Helper()
	p.eventually("ports.json is written", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("it ended: %v", p.err)
		default:
		}
		raw, err := os.ReadFile(filepath.Join(p.c.Deployment.DataDir, "ports.json"))
		return err == nil && json.Unmarshal(raw, &ports) == nil
	})
	return ports
}

func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	timetest.Until(p.t, what, ok)
}

func TestANewKeyIsShownOnceAndKept(t *testing.T) {
	c := settings(t)
	dir := c.Deployment.DataDir
	first := begin(t, config.ProgramGosix, c)
	first.ports()
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := os.ReadFile(filepath.Join(dir, "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	first.eventually("the lines are printed", func() bool { return strings.Count(first.out.String(), "\n") == 7 })
	first.stop()
	text := strings.TrimSpace(string(key))
	if !strings.Contains(first.out.String(), text) {
		t.Errorf("the first start does not show the key:\n%s", &first.out)
	}

	c = settings(t)
	c.Deployment.DataDir = dir
	second := begin(t, config.ProgramGosix, c)
	second.eventually("the lines are printed", func() bool { return strings.Count(second.out.String(), "\n") == 7 })
	second.stop()
	for name, want := range map[string][]byte{"admin.key": key, "keyring": ring} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another one after a restart: %v", name, err)
		}
	}
	if all := first.log.String() + second.out.String() + second.log.String(); strings.Contains(all, text) {
		t.Errorf("the key is shown again, or in the log:\n%s", all)
	}
}

func TestASecondProcessLeavesTheFirstOneAlone(t *testing.T) {
	c := settings(t)
	first := begin(t, config.ProgramGosix, c)
	want := first.ports()
	again := settings(t)
	again.Deployment.DataDir = c.Deployment.DataDir
	second := begin(t, config.ProgramGosix, again)
	<-second.done
	if !errors.Is(second.err, embedetcd.ErrInUse) {
		t.Errorf("got %v, want %v", second.err, embedetcd.ErrInUse)
	}
	if got := first.ports(); got.Admin != want.Admin {
		t.Errorf("ports.json says %+v, want %+v", got, want)
	}
}

func TestAPortInUseNamesItsSetting(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	tests := map[string]func(*config.Config){
		"apisix.node_listen[0]": func(c *config.Config) { c.Apisix.NodeListen[0].Port = port },
		"apisix.ssl.listen[0]":  func(c *config.Config) { c.Apisix.SSL.Listen[0].Port = port },
		"apisix.control":        func(c *config.Config) { c.Apisix.Control.Port = port },
		"plugin_attr.prometheus.export_addr": func(c *config.Config) {
			c.PluginAttr["prometheus"] = fmt.Appendf(nil, `{"export_addr":{"port":%d}}`, port)
		},
		"apisix.status":                 func(c *config.Config) { c.Apisix.Status.Port = port },
		"deployment.admin.admin_listen": func(c *config.Config) { c.Deployment.Admin.Listen.Port = port },
		"deployment.etcd.listen":        func(c *config.Config) { c.Deployment.Etcd.Listen = taken.Addr().String() },
	}
	for setting, change := range tests {
		t.Run(setting, func(t *testing.T) {
			c := settings(t)
			change(c)
			p := begin(t, config.ProgramGosix, c)
			<-p.done
			if p.err == nil || !strings.HasPrefix(p.err.Error(), setting+": ") ||
				!strings.Contains(p.err.Error(), fmt.Sprintf("127.0.0.1:%d", port)) || !errors.Is(p.err, syscall.EADDRINUSE) {
				t.Errorf("got %v", p.err)
			}
		})
	}
}

func TestTheProxyPortIsClosedBeforeTheFirstFullState(t *testing.T) {
	c := settings(t)
	c.Deployment.Etcd.Host = []string{nobody}
	c.Apisix.NodeListen[0].Port, c.Apisix.Status.Port = vacant(t), vacant(t)
	p := begin(t, config.ProgramGateway, c)
	status := "http://" + c.Apisix.Status.String()
	var ready *http.Response
	p.eventually("the status API answers", func() bool {
		var err error
		ready, err = http.Get(status + "/status/ready")
		if err == nil {
			_ = ready.Body.Close()
		}
		return err == nil
	})
	if ready.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a state the node is ready: %d", ready.StatusCode)
	}
	if conn, err := net.Dial("tcp", c.Apisix.NodeListen[0].String()); err == nil {
		_ = conn.Close()
		t.Error("without a state the proxy port is open")
	}
	p.stop()
	if p.err != nil {
		t.Errorf("asked to end while it waits: %v", p.err)
	}
	if p.out.String() != "" || strings.Contains(p.log.String(), "is running") {
		t.Errorf("it never ran, and says so:\n%s%s", &p.out, &p.log)
	}
	if _, err := os.Stat(filepath.Join(c.Deployment.DataDir, "ports.json")); err == nil {
		t.Error("it never ran, and wrote ports.json")
	}
}

// As on a full disk, which a test cannot have.
func TestANodeServesWherePortsJSONCannotBeWritten(t *testing.T) {
	c := settings(t)
	etcd := fmt.Sprint("127.0.0.1:", vacant(t))
	c.Deployment.Etcd.Host = []string{"http://" + etcd}
	p := begin(t, config.ProgramGateway, c)
	p.eventually("it waits for etcd", func() bool { return strings.Contains(p.log.String(), "nothing to start from") })
	if err := os.MkdirAll(filepath.Join(c.Deployment.DataDir, "ports.json", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer etcdAgain(t, t.TempDir(), etcd).Close()
	p.eventually("it runs", func() bool {
		select {
		case <-p.done:
			t.Fatalf("it ended: %v", p.err)
		default:
		}
		return strings.Contains(p.log.String(), "is running")
	})
	p.eventually("the log says that ports.json is missing", func() bool { return strings.Contains(p.log.String(), "ports.json cannot be written") })
	p.stop()
	if p.err != nil {
		t.Error(p.err)
	}
}

func TestAnOrderlyEndMissesNothing(t *testing.T) {
	p := begin(t, config.ProgramGosix, settings(t))
	p.ports()
	p.stop()
	if p.err != nil || strings.Contains(p.log.String(), "store is away") {
		t.Errorf("%v\n%s", p.err, &p.log)
	}
}

func TestTheAdminAPIOverTLS(t *testing.T) {
	cert, key := certtest.Files(t, "127.0.0.1")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	tests := map[string]struct {
		ca     string
		client []tls.Certificate
		status int // 0: no answer
	}{
		"a client shows no certificate":            {"", nil, http.StatusUnauthorized},
		"a client must show a certificate":         {cert, nil, 0},
		"a client shows the certificate asked for": {cert, []tls.Certificate{pair}, http.StatusUnauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := settings(t)
			c.Deployment.Admin.HTTPS = true
			c.Deployment.Admin.MTLS = config.AdminTLS{Cert: cert, CertKey: key, CA: tt.ca}
			p := begin(t, config.ProgramGosix, c)
			ports := p.ports()
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: tt.client}}
			defer transport.CloseIdleConnections()
			res, err := (&http.Client{Transport: transport}).Get("https://" + ports.Admin + "/apisix/admin/routes")
			if err != nil {
				if tt.status != 0 {
					t.Fatal(err)
				}
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("got %d, want %d", res.StatusCode, tt.status)
			}
		})
	}
}

func TestCheckFindsWhatRunWouldRefuse(t *testing.T) {
	cert, key := certtest.Files(t, "127.0.0.1")
	tests := map[string]struct {
		conf, want string // "": nothing
	}{
		"the defaults": {"{}", ""},
		"two listeners of one port": {
			"deployment: {admin: {admin_listen: {port: 9080}}}", "deployment.admin.admin_listen: port 9080 is taken by apisix.node_listen[0]",
		},
		"an external etcd without an admin key": {`deployment: {etcd: {host: "http://127.0.0.1:1"}}`, "deployment.admin.admin_key[0].key: is empty"},
		"a certificate that is not there": {
			"deployment: {admin: {https_admin: true, admin_api_mtls: {admin_ssl_cert: /none, admin_ssl_cert_key: /none}}}",
			"deployment.admin.admin_api_mtls: open /none: no such file or directory",
		},
		"an authority that is none": {
			fmt.Sprintf("deployment: {admin: {https_admin: true, admin_api_mtls: {admin_ssl_cert: %s, admin_ssl_cert_key: %s, admin_ssl_ca_cert: %s}}}", cert, key, key),
			"holds no certificate",
		},
		"trusted authorities that are not there": {"apisix: {ssl: {ssl_trusted_certificate: /none}}", "apisix.ssl.ssl_trusted_certificate: open /none: no such file or directory"},
		"trusted authorities that are none": {
			fmt.Sprintf("apisix: {ssl: {enable: false, ssl_trusted_certificate: %s}}", key), "apisix.ssl.ssl_trusted_certificate: " + key + " holds no certificate",
		},
		"an authority of etcd that is not there": {
			`deployment: {admin: {admin_key_required: false}, etcd: {host: "https://127.0.0.1:1", tls: {ca: /none}}}`,
			"deployment.etcd.tls.ca: open /none: no such file or directory",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "conf.yaml")
			if err := os.WriteFile(file, []byte(tt.conf), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := Check(file, false, &out)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q\n%s", err, tt.want, &out)
			}
		})
	}
}

func TestGreetingSuitsTheSettings(t *testing.T) {
	tests := map[string]struct {
		change func(*node)
		want   string // of the last line
	}{
		"a key that was made":          {func(n *node) { n.key.file = "data/admin.key" }, `curl -H "X-API-KEY: $(cat data/admin.key)" http://a:1/apisix/admin/routes`},
		"a path that a shell splits":   {func(n *node) { n.key.file = "my data/it's" }, `curl -H "X-API-KEY: $(cat 'my data/it'\''s')" http://a:1/apisix/admin/routes`},
		"a key that is configured":     {func(*node) {}, `curl -H "X-API-KEY: $ADMIN_KEY" http://a:1/apisix/admin/routes`},
		"no key is asked for":          {func(n *node) { n.c.Deployment.Admin.KeyRequired = false }, "curl http://a:1/apisix/admin/routes"},
		"an Admin API that speaks TLS": {func(n *node) { n.c.Deployment.Admin.HTTPS = true }, `curl -H "X-API-KEY: $ADMIN_KEY" https://a:1/apisix/admin/routes`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := &node{Options: Options{Out: &out}, c: config.Default(), ports: Ports{Gateway: []string{"a:3"}, Admin: "a:1", Control: "a:2"}}
			tt.change(n)
			n.greet()
			got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if len(got) != 5 || got[4] != "try      "+tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnAddressInPortsJSONCanBeReached(t *testing.T) {
	for in, want := range map[string]string{"0.0.0.0": "127.0.0.1:80", "::": "127.0.0.1:80", "127.0.0.2": "127.0.0.2:80", "::1": "[::1]:80"} {
		if got := reachable(&net.TCPAddr{IP: net.ParseIP(in), Port: 80}); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestAKeyFileOfAnotherLengthIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin.key")
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := generated(file); err == nil || !strings.Contains(err.Error(), "holds 5 characters, want 32") {
		t.Errorf("got %v", err)
	}
}

func TestVersionComesFromTheBuild(t *testing.T) {
	revision := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}
	tests := map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"a tag":                     {debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: revision}, "1.2.3"},
		"a revision and no tag":     {debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: revision}, "0.0.0-0123456789ab"},
		"nothing but the source":    {debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "0.0.0-dev"},
		"a build that says nothing": {debug.BuildInfo{}, "0.0.0-dev"},
	}
	for name, tt := range tests {
		if got := version(&tt.info); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestSettingsNameTheServer(t *testing.T) {
	tests := map[string]struct {
		header string
		tokens bool
		want   string
	}{
		"as it calls itself":  {"", true, "gosix/1.0"},
		"without its version": {"", false, "gosix"},
		"as it is told":       {"mine", true, "mine"},
	}
	for name, tt := range tests {
		c := config.Default()
		c.Apisix.ServerHeader, c.Apisix.ServerTokens = tt.header, tt.tokens
		if got := serverHeader(c, "gosix/1.0"); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestALevelByItsNameInNginx(t *testing.T) {
	for name, want := range map[string]string{
		"debug": "debug info warn error", "info": "info warn error", "notice": "info warn error", "warn": "warn error",
		"error": "error", "crit": "", "alert": "", "emerg": "",
	} {
		var out strings.Builder
		log := zerolog.New(&out).Level(levelOf(name))
		log.Debug().Msg("debug")
		log.Info().Msg("info")
		log.Warn().Msg("warn")
		log.Error().Msg("error")
		var got []string
		for _, level := range []string{"debug", "info", "warn", "error"} {
			if strings.Contains(out.String(), `"message":"`+level+`"`) {
				got = append(got, level)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

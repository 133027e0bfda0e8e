// Package node assembles the parts of one process from its settings, runs them and ends
// them in order. The three programs are this package with different parts switched on. It
// does not know how any part works, nor where an etcd of its own comes from.
package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/adminapi"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/builtin"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/gateway"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/store/etcdstore"
	"github.com/gosix/gosix/pkg/upstream"
)

// Etcd starts an etcd of the process's own in dir and returns its endpoint and what ends it.
type Etcd func(dir, listen string, log zerolog.Logger) (endpoint string, stop func(), err error)

// Parts says what a process consists of.
type Parts struct {
	Gateway, Admin bool
	Etcd           Etcd // used when no host is configured; nil: a host must be
}

// Ports is where a process listens, as written to ports.json.
type Ports struct {
	Gateway []string `json:"gateway,omitempty"`
	Admin   string   `json:"admin,omitempty"`
	Control string   `json:"control,omitempty"`
	Status  string   `json:"status,omitempty"`
	Etcd    string   `json:"etcd,omitempty"`
}

// Version is the program's, from the build: a tag, or the revision it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := strings.TrimPrefix(info.Main.Version, "v")
	if version != "" && version != "(devel)" {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "0.0.0-" + s.Value[:12]
		}
	}
	return "0.0.0-dev"
}

// referenceVersion is the release of the reference whose Admin API this one speaks.
const referenceVersion = "3.18.0"

// Node is one process.
type Node struct {
	c      *config.Config
	parts  Parts
	out    io.Writer // for people
	log    zerolog.Logger
	ports  Ports
	engine []*gateway.Std
	https  []*http.Server // admin, control and status
	ends   []func()       // in reverse order
	group  sync.WaitGroup
	errs   chan error
	access *gateway.AccessLog
}

// Run runs a process until ctx ends or a part of it fails. It returns nil after an orderly
// end.
func Run(ctx context.Context, c *config.Config, parts Parts, out io.Writer, log zerolog.Logger, hup <-chan os.Signal) error {
	n := &Node{c: c, parts: parts, out: out, log: log, errs: make(chan error, 1)}
	defer n.end()
	if err := n.start(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return n.drain()
		case err := <-n.errs:
			return err
		case <-hup:
			if n.access != nil {
				n.access.Reopen()
			}
		}
	}
}

func (n *Node) end() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, e := range n.engine {
		_ = e.Shutdown(over) // nothing is left after drain; after a failure nothing may stay
	}
	for _, s := range n.https {
		_ = s.Close()
	}
	for i := len(n.ends) - 1; i >= 0; i-- {
		n.ends[i]()
	}
	n.group.Wait()
}

func (n *Node) onEnd(f func()) { n.ends = append(n.ends, f) }

// fail ends the process because of a part.
func (n *Node) fail(err error) {
	select {
	case n.errs <- err:
	default:
	}
}

// start brings the parts up: the store, then what tells about the node, then the gateway
// once it has something to serve. ports.json comes last of all.
func (n *Node) start(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.onEnd(stop)
	generated, err := n.embed()
	if err != nil {
		return err
	}
	st, err := n.store()
	if err != nil {
		return err
	}
	n.onEnd(func() { _ = st.Close() })
	ring, err := n.ring()
	if err != nil {
		return err
	}
	client := upstream.NewClient(upstream.Options{})
	n.onEnd(client.Close)
	pickers := balancer.NewCache(0)
	registry, err := Registry(n.c, client, pickers, n.log)
	if err != nil {
		return err
	}
	for _, name := range registry.Missing() {
		n.log.Warn().Str("plugin", name).Msg("plugin is configured and not built")
	}
	if n.parts.Admin {
		if err := n.startAdmin(background, st, registry, ring); err != nil {
			return err
		}
	}
	if n.parts.Gateway {
		syncer := route.NewSyncer(st, n.env(registry, ring, pickers), n.log)
		if err := n.startGateway(ctx, background, syncer, client); err != nil {
			return err
		}
	}
	if err := n.writePorts(); err != nil {
		return err
	}
	n.greet(generated)
	n.log.Info().Str("version", Version()).Str("role", n.c.Deployment.Role).Any("ports", n.ports).Msg("gosix is running")
	return nil
}

func (n *Node) data(name string) string { return filepath.Join(n.c.Deployment.DataDir, name) }

// embed starts the process's own etcd if no other is configured, and makes what such a
// process needs and nobody configured: an admin key and a keyring.
func (n *Node) embed() (keyFile string, err error) {
	d := &n.c.Deployment
	if err := os.MkdirAll(d.DataDir, 0o755); err != nil {
		return "", fmt.Errorf("deployment.data_dir: %w", err)
	}
	// A file of an earlier run would tell ports that nobody listens on.
	_ = os.Remove(n.data("ports.json"))
	if len(d.Etcd.Host) > 0 {
		return "", n.requireKey()
	}
	if n.parts.Etcd == nil {
		return "", errors.New("deployment.etcd.host: is required, this program has no etcd of its own")
	}
	endpoint, stop, err := n.parts.Etcd(n.data("etcd"), d.Etcd.Listen, n.log)
	if err != nil {
		return "", err
	}
	n.onEnd(stop)
	d.Etcd.Host = []string{endpoint}
	n.ports.Etcd = strings.TrimPrefix(endpoint, "http://")
	if n.c.Apisix.DataEncryption.Enable && len(n.c.Apisix.DataEncryption.Keyring) == 0 {
		key, _, err := n.generated("keyring", 32)
		if err != nil {
			return "", err
		}
		n.c.Apisix.DataEncryption.Keyring = []config.Secret{config.Secret(key)}
	}
	if !d.Admin.KeyRequired || !n.parts.Admin {
		return "", nil
	}
	if len(d.Admin.Keys) == 0 {
		d.Admin.Keys = []config.AdminKey{{Name: "admin", Role: adminapi.RoleAdmin}}
	}
	for i := range d.Admin.Keys {
		if d.Admin.Keys[i].Key == "" {
			key, _, err := n.generated("admin.key", 32)
			if err != nil {
				return "", err
			}
			d.Admin.Keys[i].Key = config.Secret(key)
			keyFile = n.data("admin.key")
		}
	}
	return keyFile, nil
}

func (n *Node) requireKey() error {
	a := n.c.Deployment.Admin
	if !n.parts.Admin || !a.KeyRequired {
		return nil
	}
	if len(a.Keys) == 0 {
		return errors.New("deployment.admin.admin_key: missing valid Admin API token")
	}
	for i, k := range a.Keys {
		if k.Key == "" {
			return fmt.Errorf("deployment.admin.admin_key[%d].key: is empty; with an external etcd it must be configured", i)
		}
	}
	return nil
}

// generated returns the secret kept in a file of the data directory, made when it is not
// there yet.
func (n *Node) generated(name string, length int) (secret string, fresh bool, err error) {
	path := n.data(name)
	raw, err := os.ReadFile(path)
	if err == nil {
		if secret = strings.TrimSpace(string(raw)); len(secret) == length {
			return secret, false, nil
		}
		return "", false, fmt.Errorf("%s: holds %d characters, want %d", path, len(secret), length)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", false, err
	}
	secret = letters(length)
	return secret, true, writeFile(path, []byte(secret+"\n"), 0o600)
}

// letters returns random letters: 5.7 bits each.
func letters(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // documented never to fail
		for _, c := range b {
			// 208 is four times the alphabet: above it a remainder would favour some.
			if c < 208 && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// writeFile writes a file in one step: whoever reads it sees all or nothing.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := errors.Join(write(tmp, data, mode), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func write(f *os.File, data []byte, mode os.FileMode) error {
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

func (n *Node) store() (*etcdstore.Store, error) {
	return Store(n.c, n.log)
}

// Store opens the configured etcd.
func Store(c *config.Config, log zerolog.Logger) (*etcdstore.Store, error) {
	e := c.Deployment.Etcd
	cfg := etcdstore.Config{
		Endpoints: e.Host, Username: e.User, Password: e.Password.Reveal(), Timeout: config.Seconds(e.Timeout), Log: log,
	}
	if strings.HasPrefix(e.Host[0], "https://") {
		t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.TLS.SNI, InsecureSkipVerify: !e.TLS.Verify} //nolint:gosec // deployment.etcd.tls.verify
		if e.TLS.Cert != "" {
			pair, err := tls.LoadX509KeyPair(e.TLS.Cert, e.TLS.Key)
			if err != nil {
				return nil, fmt.Errorf("deployment.etcd.tls: %w", err)
			}
			t.Certificates = []tls.Certificate{pair}
		}
		if e.TLS.CA != "" {
			pem, err := os.ReadFile(e.TLS.CA)
			if err != nil {
				return nil, fmt.Errorf("deployment.etcd.tls.ca: %w", err)
			}
			t.RootCAs = x509.NewCertPool()
			if !t.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("deployment.etcd.tls.ca: %s holds no certificate", e.TLS.CA)
			}
		}
		cfg.TLS = t
	}
	return etcdstore.New(cfg)
}

func (n *Node) ring() (*seal.Ring, error) { return Ring(n.c) }

// Ring is the keyring of the settings.
func Ring(c *config.Config) (*seal.Ring, error) {
	e := c.Apisix.DataEncryption
	if !e.Enable {
		return nil, nil
	}
	keys := make([]string, len(e.Keyring))
	for i, k := range e.Keyring {
		keys[i] = k.Reveal()
	}
	ring, err := seal.New(keys, e.Format)
	if err != nil {
		return nil, fmt.Errorf("apisix.data_encryption.%w", err)
	}
	return ring, nil
}

// Registry is the plugins of this program under the settings.
func Registry(c *config.Config, client *upstream.Client, pickers *balancer.Cache, log zerolog.Logger) (*plugin.Registry, error) {
	attr, err := c.Attr()
	if err != nil {
		return nil, err
	}
	deps := aiproxy.Deps{
		Client: client, Drivers: builtin.Drivers(), Pickers: pickers, Depth: c.Apisix.Limits.JSONDepth, MaxBody: c.Apisix.Limits.AIBody,
	}
	return plugin.NewRegistry(plugin.Settings{Enabled: c.Plugins, Attr: attr, Log: log}, builtin.Plugins(deps)...), nil
}

func (n *Node) env(registry *plugin.Registry, ring *seal.Ring, pickers *balancer.Cache) route.Env {
	return Env(n.c, registry, ring, pickers, n.log)
}

// Env is what stored configuration is compiled with.
func Env(c *config.Config, registry *plugin.Registry, ring *seal.Ring, pickers *balancer.Cache, log zerolog.Logger) route.Env {
	env := route.Env{
		Registry: registry, Prefix: c.Deployment.Etcd.Prefix, Router: c.Apisix.Router.HTTP,
		SkipUnknown: c.Apisix.UnknownPlugins == "skip", Pickers: pickers, Log: log,
	}
	if ring != nil {
		env.Decrypt = func(key string, doc []byte) ([]byte, error) {
			kind, _, ok := resource.Locate(key)
			if !ok {
				return doc, nil
			}
			return adminapi.OpenItem(ring, registry, key, kind, doc)
		}
	}
	return env
}

// listen opens an address; an error names the setting.
func listen(setting, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", setting, addr, errors.Unwrap(err))
	}
	return l, nil
}

// serve runs one of the small servers on a listener.
func (n *Node) serve(l net.Listener, h http.Handler) {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 60 * time.Second, IdleTimeout: 60 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	n.https = append(n.https, s)
	n.group.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.fail(err)
		}
	})
}

func (n *Node) startAdmin(ctx context.Context, st *etcdstore.Store, registry *plugin.Registry, ring *seal.Ring) error {
	a := n.c.Deployment.Admin
	allow, err := config.Prefixes("deployment.admin.allow_admin", a.Allow)
	if err != nil {
		return err
	}
	o := adminapi.Options{
		Store: st, Registry: registry, Ring: ring, Prefix: n.c.Deployment.Etcd.Prefix, KeyRequired: a.KeyRequired, KeyIn: a.KeyIn,
		Allow: allow, CORS: a.CORS, Stream: n.c.Apisix.ProxyMode != "http", BodyLimit: n.c.Apisix.Limits.AdminBody,
		Depth: n.c.Apisix.Limits.JSONDepth, Server: n.serverName("APISIX/" + referenceVersion + " gosix/" + Version()), Log: n.log,
	}
	for _, k := range a.Keys {
		o.Keys = append(o.Keys, adminapi.Key{Name: k.Name, Value: k.Key.Reveal(), Role: k.Role})
	}
	api := adminapi.New(o)
	l, err := listen("deployment.admin.admin_listen", a.Listen.String())
	if err != nil {
		return err
	}
	n.ports.Admin = l.Addr().String()
	n.serve(l, api)
	n.group.Go(func() {
		// Nobody here needs the markers, so that an etcd that is away holds nothing up.
		for api.Init(ctx) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	return nil
}

func (n *Node) serverName(own string) string {
	switch {
	case n.c.Apisix.ServerHeader != "":
		return n.c.Apisix.ServerHeader
	case !n.c.Apisix.ServerTokens:
		name, _, _ := strings.Cut(own, "/")
		return name
	}
	return own
}

func (n *Node) startGateway(ctx, background context.Context, syncer *route.Syncer, client *upstream.Client) error {
	a := n.c.Apisix
	trusted, err := config.Prefixes("apisix.trusted_addresses", a.Trusted)
	if err != nil {
		return err
	}
	if err := n.openAccessLog(background); err != nil {
		return err
	}
	g := gateway.New(gateway.Options{
		Server: n.serverName("gosix/" + Version()), ShowStatus: a.ShowStatus, Trusted: trusted, TrustedSet: a.Trusted != nil,
		DeleteTail: a.DeleteTail, ServletPaths: a.ServletPaths, KeepSlashes: a.KeepSlashes, PostLimit: postLimit(a.MaxPostArgs),
		MaxBody: n.c.Nginx.HTTP.MaxBody, AccessLog: n.access, Log: n.log, Client: client, Router: syncer.Router(),
	})
	// All addresses are taken before anything is served: one in use must not show late.
	listeners := make([]net.Listener, len(a.NodeListen))
	for i, l := range a.NodeListen {
		if listeners[i], err = listen(fmt.Sprintf("apisix.node_listen[%d]", i), l.String()); err != nil {
			for _, open := range listeners[:i] {
				_ = open.Close()
			}
			return err
		}
	}
	closeAll := func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	if a.EnableControl {
		l, err := listen("apisix.control", a.Control.String())
		if err != nil {
			closeAll()
			return err
		}
		n.ports.Control = l.Addr().String()
		n.serve(l, gateway.Control(syncer.Router(), syncer))
	}
	if a.Status != nil {
		l, err := listen("apisix.status", a.Status.String())
		if err != nil {
			closeAll()
			return err
		}
		n.ports.Status = l.Addr().String()
		n.serve(l, gateway.Status(syncer.Ready()))
	}
	n.group.Go(func() { syncer.Run(background) })
	// Nothing is answered before the first full state: a route that exists must not be a 404.
	for waiting := true; waiting; {
		select {
		case <-syncer.Ready():
			waiting = false
		case <-ctx.Done():
			closeAll()
			return nil
		case <-time.After(10 * time.Second):
			n.log.Warn().Strs("etcd", n.c.Deployment.Etcd.Host).Msg("no configuration yet, the gateway does not serve")
		}
	}
	limits := gateway.Limits{
		URIBytes: a.Limits.URI, HeaderBytes: a.Limits.Header, HeaderFields: a.Limits.HeaderFields, HeaderRead: config.Seconds(a.Limits.HeaderTime),
		BodyRead: config.Seconds(a.Limits.BodyTime), Idle: config.Seconds(a.Limits.IdleTime), WriteStall: config.Seconds(a.Limits.SendTime),
	}
	for i, l := range listeners {
		e := gateway.NewStd(g, limits, a.NodeListen[i].HTTP2, n.log)
		n.engine = append(n.engine, e)
		n.ports.Gateway = append(n.ports.Gateway, reachable(l.Addr()))
		n.group.Go(func() {
			if err := e.Serve(l); err != nil {
				n.fail(err)
			}
		})
	}
	return nil
}

// postLimit is the setting in MiB as bytes; 0 in the settings is no limit, below it is to
// the variables.
func postLimit(mib int) int64 {
	if mib == 0 {
		return -1
	}
	return int64(mib) << 20
}

// reachable is an address that a client on this machine can use.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", t.Port)
}

func (n *Node) openAccessLog(ctx context.Context) error {
	h := n.c.Nginx.HTTP
	if !h.EnableAccessLog {
		return nil
	}
	path := h.AccessLog
	if path == "/dev/stdout" {
		path = ""
	} else if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("nginx_config.http.access_log: %w", err)
	}
	var err error
	n.access, err = gateway.NewAccessLog(path, os.Stdout, h.Format, h.Escape == "json")
	if err != nil {
		return fmt.Errorf("nginx_config.http.access_log: %w", err)
	}
	// It outlives the requests: its context ends after they have.
	n.group.Go(func() { n.access.Run(ctx) })
	return nil
}

func (n *Node) writePorts() error {
	raw, err := json.MarshalIndent(n.ports, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(n.data("ports.json"), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("deployment.data_dir: %w", err)
	}
	return nil
}

// greet tells a person at the terminal where things are.
func (n *Node) greet(keyFile string) {
	if n.out == nil {
		return
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(n.out, format+"\n", args...) }
	if len(n.ports.Gateway) > 0 {
		say("gateway  http://%s", strings.Join(n.ports.Gateway, " http://"))
	}
	if n.ports.Control != "" {
		say("control  http://%s/v1/config", n.ports.Control)
	}
	if n.ports.Admin == "" {
		return
	}
	say("admin    http://%s/apisix/admin", n.ports.Admin)
	key := "$ADMIN_KEY"
	if keyFile != "" {
		say("key      %s", keyFile)
		key = "$(cat " + keyFile + ")"
	}
	say(`try      curl -H "X-API-KEY: %s" http://%s/apisix/admin/routes`, key, n.ports.Admin)
}

// drain stops accepting and lets what runs finish, for as long as the settings say.
func (n *Node) drain() error {
	limit := config.Seconds(n.c.Apisix.DrainTimeout)
	n.log.Info().Dur("limit_ms", limit).Msg("gosix is ending")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var group sync.WaitGroup
	for _, e := range n.engine {
		group.Go(func() {
			if err := e.Shutdown(ctx); err != nil {
				n.log.Warn().Err(err).Msg("requests were broken off")
			}
		})
	}
	for _, s := range n.https {
		group.Go(func() {
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		})
	}
	group.Wait()
	return nil
}

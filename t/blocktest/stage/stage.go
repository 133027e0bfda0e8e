// Package stage is where suites for the reference run: an etcd, gosix as a user starts it,
// the servers that a block declares and the test servers that every suite takes for granted.
// It knows the ports and settings that the suites assume. What a block's sections mean, how
// nginx and Lua work, it does not know.
package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/pkg/store/etcdstore"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/lua"
	"github.com/gosix/gosix/t/blocktest/nginx"
)

// Options are what a Stage works with.
type Options struct {
	Program string // the gosix to test
	Home    string // a checkout of the reference; empty: none
	// Restart starts gosix for each block of a suite for the reference, as the reference's
	// runner does: what it only remembers is gone. Otherwise it runs as long as it may.
	Restart bool
}

// A Stage is a blocktest.World. Its etcd lives as long as it does, so that a block finds
// what the one before it wrote.
type Stage struct {
	o       Options
	dir     string
	log     journal
	access  journal
	etcd    *embedetcd.Server
	store   *etcdstore.Store
	gosix   *process
	host    *nginx.Host
	scripts *scripts
	fronts  []*nginx.Front
	secure  []*nginx.Front // for TLS, of the block
	client  *upstream.Client
	events  *http.Server
	control *http.Client // of gosix's control API
	ipv6    bool         // the gateway has an address there

	read int // bytes of gosix's access log that were there when the block began

	places    []string // names of upstreams, in the order of their ports
	upstreams map[string]*upstreamServer

	mu       sync.Mutex
	fault    error // what a script could not do
	etcdAway bool  // a block killed it
	all      bool  // paths below /v1/ are the gateway's, too

	unreached []blocktest.Unreachable // by scripts of the block
}

// New starts an empty etcd and the front. The rest starts with the first block.
func New(o Options) (*Stage, error) {
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		return nil, err
	}
	s := &Stage{o: o, dir: dir, control: &http.Client{Transport: &http.Transport{}}}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stage) open() (err error) {
	if err := s.openEtcd(); err != nil {
		return err
	}
	s.store, err = etcdstore.New(etcdstore.Config{Endpoints: []string{s.etcd.Endpoint()}, Timeout: patience, Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	if err := errors.Join(certificates(s.o.Home, s.dir), os.MkdirAll(filepath.Join(s.dir, "html"), 0o755)); err != nil {
		return err
	}
	if s.events, err = serveEvents(); err != nil {
		return err
	}
	s.client = upstream.NewClient(upstream.Options{})
	s.scripts = &scripts{options: lua.Options{
		Home: s.o.Home, Log: s.log.add, Plugins: newPlugins(s.client), Etcd: s.etcd.Endpoint(), Prefix: "/apisix",
		Dial: s.dial,
		Env:  map[string]string{"TEST_NGINX_HTML_DIR": filepath.Join(s.dir, "html")},
	}}
	s.host = nginx.NewHost(nginx.Runtime{
		Scripts: s.scripts, Log: s.log.add, Report: s.report,
		Access: func(file, line string) {
			if strings.HasSuffix(file, "logs/access.log") {
				s.access.raw(line)
			}
		},
	})
	s.ipv6 = canListen(gatewayHost6)
	for _, addr := range []string{s.Addr(), "[::1]:1984"} {
		front, err := nginx.NewFront(addr, s.host, s.relay)
		if err != nil {
			if len(s.fronts) > 0 {
				break // a machine without IPv6
			}
			return err
		}
		s.fronts = append(s.fronts, front)
	}
	front, err := nginx.NewFront(fmt.Sprintf("%s:%d", frontHost, securePort), nil, s.relayTLS)
	if err != nil {
		return err
	}
	s.fronts = append(s.fronts, front)
	return nil
}

// Root is where the servers have their files.
func (s *Stage) Root() string { return s.dir }

// Addr is where requests go.
func (s *Stage) Addr() string { return fmt.Sprintf("%s:%d", frontHost, frontPort) }

// canListen says whether this machine has an address.
func canListen(host string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

// relay sends what the suite does not answer itself to gosix: its Admin API, its control
// API, its gateway. A request must see what was written before it.
func (s *Stage) relay(path string, client net.Addr) (string, net.Addr) {
	from := &net.TCPAddr{IP: net.ParseIP(frontHost)}
	s.mu.Lock()
	all, away := s.all, s.etcdAway
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(path, "/apisix/admin"):
		return adminAddr, from
	case strings.HasPrefix(path, "/v1/config"), strings.HasPrefix(path, "/v1/") && !all:
		return controlAddr, from
	case away:
		return fmt.Sprintf("%s:%d", gatewayHost, frontPort), from
	}
	if err := s.settle(context.Background()); err != nil {
		s.log.add("warn", "gosix does not keep up: "+err.Error())
	}
	return s.gateway(client)
}

// relayTLS sends connections with TLS to gosix as they are: their certificates are its to
// choose. A handshake must see what was written before it.
func (s *Stage) relayTLS(string, net.Addr) (string, net.Addr) {
	s.mu.Lock()
	away := s.etcdAway
	s.mu.Unlock()
	if !away {
		if err := s.settle(context.Background()); err != nil {
			s.log.add("warn", "gosix does not keep up: "+err.Error())
		}
	}
	return fmt.Sprintf("%s:%d", gatewayHost, securePort), &net.TCPAddr{IP: net.ParseIP(frontHost)}
}

// listenTLS opens where a block wants the gateway to listen with TLS, beside its usual port,
// in place of where the last block wanted it.
func (s *Stage) listenTLS(addrs []string) error {
	s.closeTLS()
	for _, addr := range addrs {
		if addr == strconv.Itoa(securePort) {
			continue
		}
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			_ = os.Remove(path)
		} else if !strings.Contains(addr, ":") {
			addr = frontHost + ":" + addr
		}
		front, err := nginx.NewFront(addr, nil, s.relayTLS)
		if err != nil {
			return err
		}
		s.secure = append(s.secure, front)
	}
	return nil
}

func (s *Stage) closeTLS() {
	for _, f := range s.secure {
		_ = f.Close()
	}
	s.secure = nil
}

// providersPaths says whether a suite has routes below /v1/, where providers of language
// models have their paths, and not the control API: the project's own, and those of the
// reference that say so.
func providersPaths(p *blocktest.Prepared) bool {
	return p.Own || p.Settings != nil && p.Settings.Env["TEST_ENABLE_CONTROL_API_V1"] == "0"
}

// gateway is where gosix serves a client, and where that seems to come from: a client of IPv6
// stays one where gosix has an address of that kind.
func (s *Stage) gateway(client net.Addr) (string, net.Addr) {
	host, from := gatewayHost, &net.TCPAddr{IP: net.ParseIP(frontHost)}
	if tcp, ok := client.(*net.TCPAddr); ok && tcp.IP.To4() == nil && s.ipv6 {
		host, from = gatewayHost6, &net.TCPAddr{IP: tcp.IP}
	}
	return net.JoinHostPort(host, strconv.Itoa(frontPort)), from
}

// settle waits until the gateway serves what is stored. The store's own revision is no measure
// of that: what lies beside the configuration, as the records of nodes, moves it, too. So it
// writes what is there anyway, a marker of the Admin API.
func (s *Stage) settle(ctx context.Context) error {
	res, err := s.store.Commit(ctx, nil, []store.Op{{Key: "/apisix/routes/", Value: []byte("init_dir")}})
	if err != nil {
		return err
	}
	return applied(ctx, s.control, res.Revision)
}

// report keeps the first thing that a script could not do.
func (s *Stage) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		s.fault = err
	}
}

// Stage makes the world what a block asks for.
func (s *Stage) Stage(ctx context.Context, p *blocktest.Prepared) error {
	for _, name := range notStaged {
		if v, ok := p.Get(name); ok && strings.TrimSpace(v) != "" {
			return unsupported(name)
		}
	}
	conf, err := settings(p, s.dir, s.ipv6)
	if err != nil {
		return err
	}
	if err := s.openEtcd(); err != nil {
		return err
	}
	s.log.begin()
	s.access.begin()
	if before, err := os.Stat(filepath.Join(s.dir, "access.log")); err == nil {
		s.read = int(before.Size())
	}
	s.mu.Lock()
	s.fault, s.unreached, s.all = nil, nil, providersPaths(p)
	s.mu.Unlock()
	if err := s.run(ctx, conf, s.trusts(p), p.Own || !s.o.Restart); err != nil {
		return refused(p, err)
	}
	return s.serve(ctx, p)
}

// refused tells what a gateway that ended instead of serving makes of a block: what it
// does not accept, the runner cannot stage, unless that is what the block is about.
func refused(p *blocktest.Prepared, err error) error {
	var died *blocktest.DiedError
	if _, expected := p.Get("must_die"); !expected && errors.As(err, &died) {
		return unsupported("gosix refused its configuration: " + died.Why)
	}
	return err
}

// notStaged are the sections that ask for what gosix or the runner has not.
var notStaged = []string{
	"stream_enable", "stream_conf_enable", "stream_request", "stream_request2", "stream_request3", "stream_tls_request",
	"extra_stream_config", "stream_server_config", "stream_server_config2", "stream_server_config3", "debug_config",
	"post_main_config", "extra_init_by_lua_start", "lua_deps_path", "server_name", "user_files",
	"log_stream_response", "steam_listen_option", "steam_listen_option2", "steam_listen_option3",
	"stream_upstream_code", "stream_sni", "stream_session_reuse", "stream_init_by_lua_block",
	"stream_extra_init_by_lua", "stream_extra_init_by_lua_start", "stream_extra_init_worker_by_lua",
}

// withoutEffect are the sections about what the runner has not, and blocks do not miss: a
// limit of what a command may print, a pause for etcd.
var withoutEffect = []string{"max_size", "wait_etcd_sync"}

// run has gosix run with conf; one that does already is kept, if keep says so. The reference's
// runner starts one for each block, so that the block sees the lines of the start: they are
// repeated.
func (s *Stage) run(ctx context.Context, conf, trusts string, keep bool) (err error) {
	if keep && s.gosix != nil && s.gosix.conf == conf && s.gosix.trusts == trusts && s.gosix.alive() {
		if lines := beginning(s.gosix.tail.block()); lines != "" {
			s.log.raw(strings.TrimSuffix(lines, "\n"))
		}
		return nil
	}
	if s.gosix != nil {
		s.gosix.stop()
		s.gosix = nil
	}
	s.gosix, err = launch(ctx, s.o.Program, s.dir, conf, trusts, &s.log)
	return err
}

// beginning is what a gateway wrote until it served.
func beginning(log string) string {
	serves := strings.Index(log, "gosix is running")
	if serves < 0 {
		return ""
	}
	end := strings.IndexByte(log[serves:], '\n')
	return log[:serves+end+1]
}

// Stop ends the block's gateway, so that the log has its last words.
func (s *Stage) Stop(context.Context) error {
	if s.gosix != nil {
		s.gosix.stop()
		s.gosix = nil
	}
	return nil
}

// Renew ends what a block has left running, wherever it hangs: the gateway, the servers with
// their connections, the scripts. What is stored stays.
func (s *Stage) Renew(ctx context.Context) error {
	if s.gosix != nil {
		s.gosix.kill()
		s.gosix = nil
	}
	return s.host.Apply(ctx, &nginx.Config{}, true)
}

// serve puts the block's servers and the usual ones up, with scripts that remember nothing
// of the block before.
func (s *Stage) serve(ctx context.Context, p *blocktest.Prepared) error {
	src, err := source(p, s.o.Home)
	if err != nil {
		return staging(err)
	}
	addrs, err := withTLS(&src)
	if err != nil {
		return err
	}
	if err := s.listenTLS(addrs); err != nil {
		return staging(err)
	}
	config, err := nginx.Load(src, nginx.Options{Root: s.root()})
	if err != nil {
		return staging(err)
	}
	if err := s.host.Apply(ctx, config, true); err != nil {
		return staging(err)
	}
	return nil
}

// root is what relative paths of a configuration begin at.
func (s *Stage) root() string {
	if s.o.Home != "" {
		return s.o.Home
	}
	return s.dir
}

// staging turns what servers and scripts do not offer into a verdict.
func staging(err error) error {
	if v, why := verdict(err); v != "" {
		return &blocktest.StageError{Verdict: v, Why: why}
	}
	return err
}

// verdict tells what an error of a server or script makes of a block; "" leaves it to the
// sections.
func verdict(err error) (blocktest.Verdict, string) {
	var white *lua.WhiteBoxError
	var script *lua.UnsupportedError
	var directive *nginx.UnsupportedError
	var syntax *nginx.SyntaxError
	var config *nginx.ConfigError
	switch {
	case errors.As(err, &white):
		return blocktest.WhiteBox, white.Error()
	case errors.As(err, &script), errors.As(err, &directive), errors.As(err, &syntax), errors.As(err, &config):
		return blocktest.Unsupported, err.Error()
	}
	return "", ""
}

// Logs returns what the logs have gained since the block began.
func (s *Stage) Logs() (errorLog, accessLog string) {
	lines, err := s.written()
	if err != nil {
		s.report(err)
	}
	return s.log.block(), s.access.block() + lines
}

// written returns the lines of gosix's access log, which it writes now and then, since the
// block began.
func (s *Stage) written() (string, error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, "access.log"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(raw[min(s.read, len(raw)):]), nil
}

// Verdict tells whether a script went where it cannot.
func (s *Stage) Verdict() (blocktest.Verdict, string) {
	if err := s.scripts.fault(); err != nil {
		s.report(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		return "", ""
	}
	if v, why := verdict(s.fault); v != "" {
		return v, why
	}
	return blocktest.NotOK, s.fault.Error()
}

// Close ends everything.
func (s *Stage) Close() error {
	var errs []error
	s.closeTLS()
	for _, f := range slices.Backward(s.fronts) {
		errs = append(errs, f.Close())
	}
	if s.host != nil {
		errs = append(errs, s.host.Close())
	}
	if s.scripts != nil {
		s.scripts.close()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.events != nil {
		errs = append(errs, s.events.Close())
	}
	s.closeUpstreams()
	if s.gosix != nil {
		s.gosix.stop()
	}
	s.control.CloseIdleConnections()
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// Package embedetcd is a real etcd of one member inside the process, for `gosix run`
// and for tests. It starts and ends it; what is stored, and how it is read, it does not
// know.
package embedetcd

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config is what a server is started with.
type Config struct {
	Dir    string // where the data is; made, for its owner alone, if it does not exist
	Listen string // host:port of a loopback address; empty: 127.0.0.1; port 0: a free one
	Log    zerolog.Logger
	// QuotaBytes is the size above which nothing more is stored; 0: etcd's default, 2 GiB.
	QuotaBytes int64
	// PasswordCost is bcrypt's, 4 to 31, for passwords of etcd's users; 0: etcd's default, 10.
	PasswordCost uint
}

// Server is a running etcd.
type Server struct {
	etcd    *embed.Etcd
	calls   server
	lock    *os.File
	closing *atomic.Bool // also seen by the bridge of the log
}

// server is what Close needs of the server of calls inside etcd.
type server interface {
	GracefulStop()
	Stop()
}

const (
	name = "gosix"
	// peer is what the one member calls itself in its data. Nobody dials it: another
	// address would make the data look like another member's after a restart.
	peer = "http://127.0.0.1:2380"
	// maxRequestBytes leaves room around the largest body that the Admin API takes.
	maxRequestBytes = 4 << 20
	startTimeout    = 30 * time.Second
	// grace is for how long calls may go on when the server is closed.
	grace     = 500 * time.Millisecond
	bindTries = 10
	data      = "member-data" // below Config.Dir
)

// ErrInUse is a data directory that another process works on.
var ErrInUse = errors.New("another process uses this directory")

// Start returns when the server answers.
func Start(c Config) (*Server, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if err := loopback(c.Listen); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd data: %w", err)
	}
	// etcd itself would wait without end for a lock that another process holds.
	lock, err := os.OpenFile(filepath.Join(c.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("etcd data: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("etcd data %s: %w", c.Dir, ErrInUse)
	}
	s, err := open(c)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// open starts the server, on a free port if none is given.
func open(c Config) (*Server, error) {
	if err := unused(filepath.Join(c.Dir, data, "member", "snap", "db")); err != nil {
		return nil, fmt.Errorf("etcd data %s: %w", c.Dir, err)
	}
	_, port, _ := net.SplitHostPort(c.Listen)
	if port != "0" {
		return start(c)
	}
	// etcd itself could take any port, but would tell its clients that it is reached at
	// port 0. So one is looked for first, which somebody else may take in between.
	for try := 1; ; try++ {
		free, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		given := c
		given.Listen = free.Addr().String()
		_ = free.Close()
		s, err := start(given)
		if err == nil || try == bindTries || !errors.Is(err, syscall.EADDRINUSE) {
			return s, err
		}
	}
}

// unused finds an etcd that was not started here: it locks its database alone, and another
// one waits for that without end.
func unused(db string) error {
	f, err := os.OpenFile(db, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // and with it the lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return ErrInUse
	}
	return nil
}

func loopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("deployment.etcd.listen: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("deployment.etcd.listen: %q is no loopback address; the embedded etcd has no authentication", host)
	}
	return nil
}

func start(c Config) (*Server, error) {
	cfg := embed.NewConfig()
	cfg.Name = name
	cfg.Dir = filepath.Join(c.Dir, data)
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: c.Listen}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	self, err := url.Parse(peer)
	if err != nil {
		return nil, err
	}
	cfg.AdvertisePeerUrls = []url.URL{*self}
	cfg.InitialCluster = name + "=" + peer
	// Of new data it makes the cluster's id, by which watchers know a store from another.
	cfg.InitialClusterToken = rand.Text()
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "1h"
	cfg.MaxRequestBytes = maxRequestBytes
	cfg.QuotaBackendBytes = c.QuotaBytes
	if c.PasswordCost != 0 {
		cfg.BcryptCost = c.PasswordCost
	}
	closing := new(atomic.Bool)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge{log: c.Log, quiet: closing}))
	serving := make(chan server, 1)
	onServer(&cfg.ServiceRegister, func(calls server) { serving <- calls })
	e, err := embed.StartEtcd(cfg)
	var taken *net.OpError
	switch {
	case errors.As(err, &taken) && taken.Op == "listen":
		return nil, fmt.Errorf("deployment.etcd.listen: cannot listen on %s: %w", c.Listen, taken.Err)
	case err != nil:
		return nil, fmt.Errorf("etcd: %w", err)
	}
	select {
	case calls := <-serving: // it is asked for when the member is ready
		return &Server{etcd: e, calls: calls, closing: closing}, nil
	case err := <-e.Err():
		e.Close()
		return nil, fmt.Errorf("etcd: %w", err)
	case <-time.After(startTimeout):
		e.Close()
		return nil, fmt.Errorf("etcd: not ready after %v", startTimeout)
	}
}

// Endpoint is where clients reach the server: "http://127.0.0.1:2379".
func (s *Server) Endpoint() string { return "http://" + s.etcd.Clients[0].Addr().String() }

// onServer sets a hook that gets etcd's server of calls. Its type is left to inference, so
// that this package needs no RPC library for the two methods.
func onServer[S server](hook *func(S), got func(server)) {
	*hook = func(calls S) { got(calls) }
}

// Close ends the server, with the watches that clients have, and lets go of its directory.
// Once is enough; more often is no mistake.
func (s *Server) Close() {
	// What follows makes etcd complain that its listeners are closed.
	if s.closing.Swap(true) {
		return
	}
	// etcd itself would wait seven seconds for watches to end, and they do not.
	hurry := time.AfterFunc(grace, s.calls.Stop)
	s.calls.GracefulStop()
	hurry.Stop()
	s.etcd.Close()
	_ = s.lock.Close()
}

// bridge hands etcd's warnings and errors to our log; the rest is of no use to a person.
type bridge struct {
	log    zerolog.Logger
	quiet  *atomic.Bool
	fields []zapcore.Field
}

func (b bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel && !b.quiet.Load() }

// meant tells the warnings of every start about what is so on purpose: one port, and no
// users on a loopback address.
func meant(message string) bool {
	return strings.HasPrefix(message, "Running http and grpc server on single port") ||
		message == "simple token is not cryptographically signed"
}

// early tells what etcd says of data that nothing was written to yet, when its monitor of
// versions comes by in the first moments.
func early(facts map[string]any) bool {
	text, _ := facts["error"].(string)
	return strings.HasSuffix(text, "missing term information")
}

func (b bridge) With(f []zapcore.Field) zapcore.Core {
	b.fields = append(b.fields[:len(b.fields):len(b.fields)], f...)
	return b
}

func (b bridge) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) && !meant(e.Message) {
		return c.AddCore(e, b)
	}
	return c
}

func (b bridge) Write(e zapcore.Entry, f []zapcore.Field) error {
	facts := zapcore.NewMapObjectEncoder()
	for _, field := range append(b.fields[:len(b.fields):len(b.fields)], f...) {
		field.AddTo(facts)
	}
	if early(facts.Fields) {
		return nil
	}
	event := b.log.Warn()
	if e.Level >= zapcore.ErrorLevel {
		event = b.log.Error()
	}
	event.Str("part", "etcd").Fields(facts.Fields).Msg(e.Message)
	return nil
}

func (b bridge) Sync() error { return nil }

// Package node assembles the parts of one process from its settings, runs them and ends
// them in order. The three programs are this package with different parts switched on. It
// does not know how any part works, nor where an etcd of its own comes from.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/gateway"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/lastgood"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// Etcd starts an etcd of the process's own in dir and returns its endpoint and what ends it.
type Etcd func(dir, listen string, log zerolog.Logger) (endpoint string, stop func(), err error)

// Admin makes the Admin API of a process: what it returns is called for each registry that is
// in force in turn.
type Admin func(AdminParts) func(*plugin.Registry) AdminAPI

// AdminParts are the parts of a process that its Admin API works with.
type AdminParts struct {
	Config  *config.Config
	Store   store.Store
	Cluster *cluster.Registry
	Ring    *seal.Ring // nil: secrets are stored plain
	// Reload puts the plugins in force that the settings name now.
	Reload func() (revision int64, err error)
	// Snapshot is the gateway's, nil where there is none in the process.
	Snapshot func() *route.Snapshot
	Allow    []netip.Prefix // peers that may connect; empty: all
	Server   string         // value of the Server header
	Log      zerolog.Logger
}

// AdminAPI serves the Admin API. Init writes what the store lacks.
type AdminAPI interface {
	http.Handler
	Init(ctx context.Context) error
}

// Parts are what only some of the programs have. A program hands them in, so that the others
// do not link them: what is linked is memory of every process, used or not.
type Parts struct {
	Etcd  Etcd  // used when no host is configured; nil where one must be
	Admin Admin // nil where the settings allow none
}

// Options is what a process is made of.
type Options struct {
	Parts
	Program config.Program
	Config  *config.Config // changed: what is generated is filled in
	Out     io.Writer      // gets the lines for people
	Log     zerolog.Logger
	// Settings reads the settings again, for a reload of the plugins; nil: they cannot be.
	Settings func() (*config.Config, error)
	Reopen   <-chan os.Signal // each says that the access log was moved away; nil: never
	Now      context.Context  // ends when the process is to wait for nothing any more; nil: never
}

// node is one process.
type node struct {
	Options
	c              *config.Config
	gateway, admin bool // which parts it has
	ports          Ports
	key            adminKey
	loaded         loaded
	cluster        membership
	churn          churn

	source  *lastgood.Source // of the gateway's configuration
	holding atomic.Int64     // newest revision of what is held back and not in force yet, 0: nothing
	engines []gateway.Engine
	metrics *prometheus.Metrics
	served  served         // what metrics tell of the gateway
	api     []*smallServer // the Admin API
	about   []*smallServer // control, status and metrics: what tells of the node, to its end
	leaving chan struct{}  // closed when the node is to get no new clients
	access  *gateway.AccessLog

	background context.Context // of what goes on until no request is left
	stop       context.CancelFunc
	running    sync.WaitGroup
	ends       []func() // of what was opened, in that order
	failed     chan error
}

// ErrTerminated is the cause of Run's context where others are to notice that the process
// ends before it stops accepting: a balancer in front of it.
var ErrTerminated = errors.New("terminated")

// Run runs a process until ctx ends or a part of it fails. It returns nil after an orderly
// end, which begins with the lame duck if the cause of ctx is ErrTerminated.
func Run(ctx context.Context, o Options) error {
	if err := o.Config.Validate(o.Program); err != nil {
		return err
	}
	n := &node{Options: o, c: o.Config, failed: make(chan error, 1), leaving: make(chan struct{})}
	if n.Now == nil {
		n.Now = context.Background()
	}
	n.gateway, n.admin = o.Config.Runs(o.Program)
	if n.admin && o.Admin == nil {
		return fmt.Errorf("%s: has no Admin API", o.Program)
	}
	n.background, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer n.end()
	if err := n.start(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return n.drain(0) // asked to end before all of it ran
		}
		return err
	}
	for {
		select {
		case <-ctx.Done():
			lame := time.Duration(0)
			if errors.Is(context.Cause(ctx), ErrTerminated) {
				lame = config.Seconds(n.c.Apisix.LameDuck)
			}
			return n.drain(lame)
		case err := <-n.failed:
			return err
		case <-o.Reopen:
			if n.access != nil {
				n.access.Reopen()
			}
		}
	}
}

// start brings the parts up: the store, then what tells about the node, then the gateway
// once it has something to serve. ports.json comes last of all.
func (n *node) start(ctx context.Context) error {
	if err := n.prepare(); err != nil {
		return err
	}
	st, err := openStore(n.c, n.Log)
	if err != nil {
		return err
	}
	n.onEnd(func() { _ = st.Close() })
	if err := n.openCluster(); err != nil {
		return err
	}
	ring, err := keyring(n.c)
	if err != nil {
		return err
	}
	roots, err := trusted(n.c)
	if err != nil {
		return err
	}
	client := upstream.NewClient(upstream.Options{Roots: roots})
	n.onEnd(client.Close)
	source := tokens(client, n.Log)
	n.onEnd(source.Close)
	pickers, checker := balancer.NewCache(0), n.health(client)
	accounts := aiproxy.Deps{Client: client, Tokens: source, Pickers: pickers, Health: checker}
	if n.metrics, err = metrics(n.c); err != nil {
		return err
	}
	n.loaded.store = st
	secure := handshakes(n.c) // once: whoever reloads plugins keeps the keys of sessions
	n.loaded.env = func(r *plugin.Registry) route.Env {
		env := environment(n.c, r, ring, pickers, checker, n.Log)
		env.TLS = secure
		return env
	}
	n.loaded.registry = func(list resource.PluginList) *plugin.Registry {
		c := *n.c
		c.Plugins = list.HTTP
		registry := plugins(&c, accounts, n.metrics, n.Log)
		for _, name := range registry.Missing() {
			n.Log.Warn().Str("plugin", name).Msg("plugin is configured and not built")
		}
		return registry
	}
	registry := n.loaded.registry(pluginList(n.c))
	n.loaded.list = named(pluginList(n.c), registry)
	if n.gateway {
		if n.source, err = n.lastGood(st); err != nil {
			return err
		}
		n.loaded.syncer = route.NewSyncer(n.source, n.loaded.env(registry), n.Log)
		n.follows(n.loaded.syncer)
	}
	if n.admin {
		if err := n.startAdmin(st, registry, ring); err != nil {
			return err
		}
	}
	if n.gateway {
		if !n.admin {
			n.loaded.syncer.Follow = n.follow
		}
		if err := n.startGateway(ctx, n.loaded.syncer, client, checker); err != nil {
			return err
		}
		n.join()
	}
	if err := n.writePorts(); err != nil {
		// It is for those who look. A full disk is no reason not to serve.
		n.Log.Warn().Err(err).Msg("ports.json cannot be written")
	}
	n.running.Go(func() { tidy(n.background) })
	n.greet()
	n.Log.Info().Str("version", Version()).Str("role", n.c.Deployment.Role).Any("ports", n.ports).Msg("gosix is running")
	return nil
}

// health starts what probes servers, nil where nothing is to be probed.
func (n *node) health(client *upstream.Client) *health.Checker {
	switch {
	case !n.gateway:
		return nil
	case n.c.Apisix.NoHealthChecks:
		n.Log.Info().Msg("healthchecker won't be created: disabled upstream healthcheck") // the reference's words
		return nil
	}
	checker := health.NewChecker(health.Options{Client: client, Log: n.Log})
	n.running.Go(func() { checker.Run(n.background) })
	return checker
}

func (n *node) onEnd(f func()) { n.ends = append(n.ends, f) }

// fail ends the process because of a part.
func (n *node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

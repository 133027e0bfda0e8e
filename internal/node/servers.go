package node

import (
	"context"
	"crypto/tls"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/gateway"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/store/etcdstore"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// Limits of the small servers. That of an answer counts from the head of its request, so it
// has room for a slow body; a client that does not read must not keep a list in memory.
const (
	smallHead   = 10 * time.Second
	smallBody   = 60 * time.Second
	smallAnswer = 120 * time.Second
	smallIdle   = 60 * time.Second
	smallHeader = 32 << 10 // bytes
)

// small is a server of the admin, control or status API, or of metrics.
func small(h http.Handler, log zerolog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: smallHead, ReadTimeout: smallBody, WriteTimeout: smallAnswer, IdleTimeout: smallIdle,
		MaxHeaderBytes: smallHeader, ErrorLog: stdlog.New(log.With().Str("level", "warn").Logger(), "", 0),
	}
}

// smallServer is one that ends in order.
type smallServer struct {
	*http.Server
	drain *drain.Server
}

// end lets what runs finish until ctx ends.
func (s *smallServer) end(ctx context.Context) {
	if s.drain.Shutdown(ctx) != nil {
		_ = s.Close()
	}
}

// serve runs one of the small servers, over TLS unless secure is nil.
func (n *node) serve(l net.Listener, secure *tls.Config, h http.Handler) *smallServer {
	s := &smallServer{Server: small(h, n.Log)}
	s.drain = drain.Attach(s.Server)
	s.Handler = s.drain.Handler(h)
	n.running.Go(func() {
		if err := s.drain.Serve(l, secure); err != nil {
			n.fail(err)
		}
	})
	return s
}

func (n *node) startAdmin(st *etcdstore.Store, registry *plugin.Registry, ring *seal.Ring) error {
	a := &n.c.Deployment.Admin
	allow, err := config.Prefixes("deployment.admin.allow_admin", a.Allow)
	if err != nil {
		return err
	}
	secure, err := adminTLS(a)
	if err != nil {
		return err
	}
	parts := AdminParts{
		Config: n.c, Store: st, Cluster: n.cluster.registry, Ring: ring, Reload: n.reload, Allow: allow,
		Server: serverHeader(n.c, "APISIX/"+referenceVersion+" gosix/"+Version()), Log: n.Log,
	}
	if s := n.loaded.syncer; s != nil {
		parts.Snapshot = s.Router().Snapshot
	}
	n.loaded.admin = n.Admin(parts)
	api := n.loaded.admin(registry)
	n.loaded.current.Store(&api)
	l, err := listen("deployment.admin.admin_listen", a.Listen.String())
	if err != nil {
		return err
	}
	n.ports.Admin = reachable(l.Addr())
	n.api = append(n.api, n.serve(l, secure, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*n.loaded.current.Load()).ServeHTTP(w, r)
	})))
	n.running.Go(func() {
		// Nobody here needs the markers, so that an etcd that is away holds nothing up.
		for api.Init(n.background) != nil || n.correctPlugins(n.background) != nil {
			select {
			case <-n.background.Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	return nil
}

func (n *node) startGateway(ctx context.Context, syncer *route.Syncer, client *upstream.Client, checker *health.Checker) error {
	loaded := loading()
	defer n.churn.begin()
	defer loaded()
	n.onEnd(n.churn.stop)
	a := &n.c.Apisix
	trusted, err := config.Prefixes("apisix.trusted_addresses", a.Trusted)
	if err != nil {
		return err
	}
	if err := n.openAccessLog(); err != nil {
		return err
	}
	// The ports open late, but one that is in use shows at once.
	if err := closeAll(n.openGateway()); err != nil {
		return err
	}
	if a.EnableControl {
		l, err := listen("apisix.control", a.Control.String())
		if err != nil {
			return err
		}
		n.ports.Control = reachable(l.Addr())
		n.about = append(n.about, n.serve(l, nil, gateway.Control(syncer.Router(), following{syncer, n.source}, n.cluster.id)))
	}
	if a.Status != nil {
		l, err := listen("apisix.status", a.Status.String())
		if err != nil {
			return err
		}
		n.ports.Status = reachable(l.Addr())
		n.about = append(n.about, n.serve(l, nil, gateway.Status(syncer.Ready(), n.leaving)))
	}
	if err := n.startMetrics(syncer, checker); err != nil {
		return err
	}
	n.running.Go(func() { syncer.Run(n.background) })
	if err := n.await(ctx, syncer.Ready()); err != nil {
		return err
	}
	g := gateway.New(gateway.Options{
		Server: serverHeader(n.c, "gosix/"+Version()), ShowStatus: a.ShowStatus, Trusted: trusted, TrustedSet: a.Trusted != nil,
		DeleteTail: a.DeleteTail, ServletPaths: a.ServletPaths, KeepSlashes: a.KeepSlashes, PostLimit: postLimit(a.MaxPostArgs), GraphQLLimit: n.c.GraphQL.MaxSize,
		MaxBody: n.c.Nginx.HTTP.MaxBody, MinRevision: a.MinRevision, Held: n.held, AccessLog: n.access, Log: n.Log, Client: client, Router: syncer.Router(),
	})
	limits := gateway.Limits{
		URIBytes: a.Limits.URI, HeaderBytes: a.Limits.Header, HeaderFields: a.Limits.HeaderFields, HeaderRead: config.Seconds(a.Limits.HeaderTime),
		BodyRead: config.Seconds(a.Limits.BodyTime), Idle: config.Seconds(a.Limits.IdleTime), WriteStall: config.Seconds(a.Limits.SendTime),
	}
	doors, err := n.openGateway()
	if err != nil {
		return err
	}
	for _, d := range doors {
		n.engines = append(n.engines, gateway.NewEngine(a.Engine, g, limits, d.http2 && !d.tls, n.Log))
	}
	n.served.set(g, n.engines)
	for i, d := range doors {
		e := n.engines[i]
		if d.tls {
			n.ports.GatewayTLS = append(n.ports.GatewayTLS, reachable(d.Addr()))
		} else {
			n.ports.Gateway = append(n.ports.Gateway, reachable(d.Addr()))
		}
		n.running.Go(func() {
			if err := n.serveDoor(e, d); err != nil {
				n.fail(err)
			}
		})
	}
	return nil
}

// await returns once the first full state is applied. Nothing is served before: a route
// that exists must not be a 404.
func (n *node) await(ctx context.Context, ready <-chan struct{}) error {
	remind := time.NewTicker(time.Minute)
	defer remind.Stop()
	for {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case err := <-n.failed:
			return err
		case <-remind.C:
			n.Log.Warn().Strs("etcd", n.c.Deployment.Etcd.Host).Str("reason", n.source.Status().Waiting).Msg("no configuration yet, the gateway does not serve")
		}
	}
}

// door is where the gateway listens.
type door struct {
	net.Listener
	http2, tls bool
}

// openGateway opens every address of the gateway, or none.
func (n *node) openGateway() ([]door, error) {
	var doors []door
	for i, a := range n.c.Apisix.NodeListen {
		l, err := listen(fmt.Sprintf("apisix.node_listen[%d]", i), a.String())
		if err != nil {
			return nil, closeAll(doors, err)
		}
		doors = append(doors, door{Listener: l, http2: a.HTTP2})
	}
	secure, err := n.openTLS()
	if err != nil {
		return nil, closeAll(doors, err)
	}
	return append(doors, secure...), nil
}

// closeAll closes listeners and returns err.
func closeAll(doors []door, err error) error {
	for _, d := range doors {
		_ = d.Close()
	}
	return err
}

// postLimit is the setting in MiB as bytes; 0 in the settings is no limit, below it is to
// the variables.
func postLimit(mib int) int64 {
	if mib == 0 {
		return -1
	}
	return int64(mib) << 20
}

func (n *node) openAccessLog() error {
	h := &n.c.Nginx.HTTP
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
	n.running.Go(func() { n.access.Run(n.background) })
	return nil
}

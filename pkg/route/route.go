// Package route turns stored configuration into something requests are matched against:
// an immutable [Snapshot] of every route in force at one revision, and the [Syncer] that
// follows a store and swaps snapshots. A change costs what it touches, an item that is
// bad keeps its last good version and harms no other.
//
// The package does not know which store the bytes come from, how requests arrive, in
// which order phases run or how a request is carried to an upstream: that is the
// gateway's. It compiles plugins through their registry and knows none of them.
package route

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// The values of Env.Router, as `apisix.router.http` names them.
const (
	HostURI      = "radixtree_host_uri" // the default
	URI          = "radixtree_uri"
	URIWithParam = "radixtree_uri_with_parameter"
)

// Env is what compiling depends on beside the stored items. It is a value: a Syncer that
// is given another one builds everything anew.
type Env struct {
	Registry *plugin.Registry
	Prefix   string // of every key in the store, "/apisix"
	Router   string // one of HostURI, URI and URIWithParam; empty: HostURI
	// SkipUnknown leaves out plugins that this program does not have, with a warning;
	// else what names one is answered 503 (spec/00 19).
	SkipUnknown bool
	// Pickers keeps pickers whose configuration went away and may come back; nil: none.
	Pickers *balancer.Cache
	// Health probes the nodes of upstreams with checks; nil: nothing is checked, and every
	// node counts as healthy.
	Health *health.Checker
	Log    zerolog.Logger
	// Decrypt opens the secret members of a stored document. key is below the prefix,
	// without a leading slash. nil: documents are taken as they are. It is called
	// concurrently.
	Decrypt func(key string, doc []byte) ([]byte, error)
	// TLS is what the node gives every certificate that is shown to clients.
	TLS certificate.Settings
	// Roots verify https upstreams with `tls.verify`; nil: the system's.
	Roots *x509.CertPool
}

// Route is one route under one of its patterns and hosts, compiled and immutable.
type Route struct {
	Labels plugin.Labels // its id and name, and those of its service
	Chain  *plugin.Chain // service, plugin_config and route merged; nil: no plugins
	// Upstream is nil if neither the route nor its service has one.
	Upstream *Upstream
	// Status is the bare answer that every request gets, 0: none. 503: the plugin_config
	// is missing or a plugin unknown; 404: the service is missing; 502: the upstream is
	// missing, which a plugin that answers by itself does not mind. Broken says why.
	Status    int
	Broken    error
	Websocket bool
	// Pattern is the `uri` that matched and Host the `host`, as configured; Host is
	// empty for a route without hosts.
	Pattern, Host string

	timeouts *upstream.Timeouts
}

// Timeouts limit the parts of a try: the route's own, else its upstream's.
func (r *Route) Timeouts() upstream.Timeouts {
	switch {
	case r.timeouts != nil:
		return *r.timeouts
	case r.Upstream != nil:
		return r.Upstream.Timeouts
	}
	return upstream.Timeouts{}
}

// Upstream is where a route's requests go, compiled and immutable but for its picker.
// Routes that name the same upstream share it.
type Upstream struct {
	// Ref is the item that carries the upstream: itself, or the route or service in
	// which it is inline.
	Ref   plugin.Ref
	Nodes []Node
	// Picker chooses among Nodes by index; nil with fewer than two nodes.
	Picker balancer.Picker
	// HashKey is the text to hash for a balancer that hashes, nil for the others.
	HashKey      func(*exchange.Exchange) string
	Retries      int           // further tries after the first
	RetryTimeout time.Duration // no retry after it, 0: no limit
	Timeouts     upstream.Timeouts
	PassHost     string // pass, node or rewrite
	UpstreamHost string // with rewrite
	Scheme       string // http, https, …
	// Health is what is known of Nodes; nil: nothing is checked. Down starts it.
	Health *health.Group
	// Unsupported is why no request can be sent, nil if it can; UnsupportedStatus is
	// the answer then.
	Unsupported error

	checker *health.Checker

	names  string // how nodes are chosen: of equal ones the picker is kept
	ssl    string // key of the certificate that it names, empty: none
	status int
}

// uses are the keys of what it is built from.
func (u *Upstream) uses() []string {
	if u.ssl == "" {
		return nil
	}
	return []string{u.ssl}
}

// Down is the set of the nodes that are unhealthy, nil if none is checked. From the first
// call on they are probed. It must not be changed.
func (u *Upstream) Down() *balancer.Set {
	if u.Health == nil {
		return nil
	}
	u.Health.Use(u.checker)
	return u.Health.Down()
}

// UnsupportedStatus is the status that goes with Unsupported.
func (u *Upstream) UnsupportedStatus() int { return u.status }

func (u *Upstream) unsupported(status int, format string, args ...any) *Upstream {
	u.status, u.Unsupported = status, fmt.Errorf(format, args...)
	return u
}

// Node is one server of an upstream.
type Node struct {
	// Target is what is dialled, its Addr host:port. Its SNI is empty when the name follows
	// the client's Host (pass_host "pass"): see TargetFor.
	Target *upstream.Target
	Host   string // as configured; IPv6 addresses in brackets
	Port   int    // the scheme's default if none is configured
	// PortText is Port, written out for variables.
	PortText string
	// HostHeader is the Host of requests with pass_host "node": the port is left out
	// when it is the scheme's.
	HostHeader string
}

// TargetFor returns the target of a request that is sent with that Host: over TLS the
// server is asked for it by name unless the configuration fixes one (spec/05 §7).
func (n *Node) TargetFor(host string) *upstream.Target {
	if n.Target.TLS == nil || n.Target.SNI != "" {
		return n.Target
	}
	name := serverName(host)
	if name == "" {
		return n.Target
	}
	named := *n.Target
	named.SNI = name
	return &named
}

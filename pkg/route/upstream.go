package route

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"weak"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
	"github.com/gosix/gosix/pkg/variable"
)

// compileUpstreams compiles the stale upstreams that routes share: those of their own
// and those inline in services.
func (w *build) compileUpstreams() {
	keys := slices.Concat(w.stale["upstreams"], w.stale["services"])
	if len(keys) == 0 {
		return
	}
	made := make([]*Upstream, len(keys))
	w.parallel(len(keys), func(i int) {
		o, ok := w.next.objects.get(keys[i])
		if !ok {
			return
		}
		var conf *resource.Upstream
		switch d := o.doc.(type) {
		case *resource.Upstream:
			conf = d
		case *resource.Service:
			conf = d.Upstream
		}
		if conf == nil {
			return
		}
		prev, _ := w.prev.upstreams.get(keys[i])
		if err := w.guarded(func() error {
			made[i] = w.compileUpstream(o, conf, prev)
			return nil
		}); err != nil {
			made[i] = (&Upstream{Ref: o.ref()}).unsupported(http.StatusInternalServerError, "upstream: %w", err)
		}
	})
	all := w.prev.upstreams.edit()
	for i, rest := range keys {
		var was, is []string
		if prev, ok := all.get(rest); ok {
			was = prev.uses()
		}
		if made[i] == nil {
			all.del(rest)
		} else {
			all.set(rest, made[i])
			is = made[i].uses()
		}
		w.link(rest, was, is)
	}
	w.next.upstreams = all.commit()
}

// compileUpstream compiles the upstream that o carries. It cannot fail: what is wrong
// with it is what its requests are answered with. prev is its compiled form so far,
// whose picker is taken over.
func (w *build) compileUpstream(o *object, conf *resource.Upstream, prev *Upstream) *Upstream {
	u := &Upstream{
		Ref: o.ref(), PassHost: conf.PassHost, UpstreamHost: conf.UpstreamHost, Scheme: conf.Scheme,
		RetryTimeout: seconds(conf.RetryTimeout),
		Retries:      max(0, len(conf.Nodes)-1),
	}
	u.Timeouts = timeoutsOf(&resource.Timeout{Connect: 60, Send: 60, Read: 60})
	if conf.Timeout != nil {
		u.Timeouts = timeoutsOf(conf.Timeout)
	}
	if conf.Retries != nil {
		u.Retries = *conf.Retries
	}
	if conf.DiscoveryType != "" || conf.ServiceName != "" {
		return u.unsupported(http.StatusServiceUnavailable, "service discovery %q is not supported", conf.DiscoveryType)
	}
	port := 0
	switch conf.Scheme {
	case "http":
		port = 80
	case "https":
		port = 443
	default:
		return u.unsupported(http.StatusServiceUnavailable, "upstream scheme %q is not supported", conf.Scheme)
	}
	shared, class, err := w.upstreamTLS(u, conf)
	if err != nil {
		return u.unsupported(http.StatusBadGateway, "upstream: %w", err)
	}
	u.Nodes = make([]Node, len(conf.Nodes))
	for i, n := range conf.Nodes {
		u.Nodes[i] = nodeOf(u, conf, n, port)
		u.Nodes[i].Target.TLS, u.Nodes[i].Target.Class = shared, class
	}
	w.choose(u, conf, prev)
	if err := w.check(u, conf, prev); err != nil {
		return u.unsupported(http.StatusInternalServerError, "upstream: %w", err)
	}
	return u
}

// check sets the health of the nodes. Of one node it does not matter: that is used
// whatever it is (spec/05 §3).
func (w *build) check(u *Upstream, conf *resource.Upstream, prev *Upstream) error {
	if conf.Checks == nil || len(u.Nodes) < 2 || w.env.Health == nil {
		return nil
	}
	check, err := health.Parse(conf.Checks)
	if err != nil {
		return err
	}
	targets := make([]health.Target, len(u.Nodes))
	for i := range u.Nodes {
		n := &u.Nodes[i]
		targets[i] = health.Target{Server: n.Target, Check: check, Host: u.UpstreamHost}
		if u.PassHost != "rewrite" {
			targets[i].Host = ""
			if serverName(n.Host) != "" {
				targets[i].Host = n.HostHeader // a name; an address gives way to the check's
			}
		}
	}
	var before *health.Group
	if prev != nil {
		before = prev.Health
	}
	u.checker = w.env.Health
	u.Health = health.NewGroup(w.env.Prefix+"/"+u.Ref.Kind+"/"+u.Ref.ID, targets, before)
	return nil
}

func nodeOf(u *Upstream, conf *resource.Upstream, n resource.Node, schemePort int) Node {
	port := cmp.Or(n.Port, schemePort)
	addr := n.Host + ":" + strconv.Itoa(port)
	host, portText := addr[:len(n.Host)], addr[len(n.Host)+1:] // one text for all of them
	out := Node{Host: host, Port: port, PortText: portText, HostHeader: addr, Target: &upstream.Target{Addr: addr}}
	if port == schemePort {
		out.HostHeader = host
	}
	if pool := conf.KeepalivePool; pool != nil {
		out.Target.MaxIdle, out.Target.MaxRequests = pool.Size, pool.Requests
		// The target's zero means the default; a configured zero means to keep nothing.
		out.Target.IdleTimeout = seconds(pool.IdleTimeout)
		out.Target.NoKeepAlive = pool.IdleTimeout == 0
	}
	if u.Scheme == "https" {
		switch u.PassHost {
		case "rewrite":
			out.Target.SNI = serverName(u.UpstreamHost)
		case "node":
			out.Target.SNI = serverName(n.Host)
		}
	}
	return out
}

// serverName is a host without port; an address is no name (RFC 6066 §3).
func serverName(host string) string {
	host = variable.Host(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ""
	}
	return host
}

// choose sets the picker and what it hashes.
func (w *build) choose(u *Upstream, conf *resource.Upstream, prev *Upstream) {
	if len(u.Nodes) < 2 {
		return // there is nothing to choose (spec/05 §3)
	}
	targets := make([]balancer.Target, len(u.Nodes))
	var names strings.Builder
	names.WriteString(conf.Type)
	for i, n := range conf.Nodes {
		targets[i] = balancer.Target{ID: u.Nodes[i].Target.Addr, Weight: n.Weight, Priority: n.Priority}
		fmt.Fprintf(&names, " %s=%d/%d", u.Nodes[i].Target.Addr, n.Weight, n.Priority)
	}
	u.names = names.String()
	if conf.Type == "chash" {
		u.HashKey = variable.HashKey(conf.HashOn, conf.Key)
	}
	cacheKey := u.Ref.Kind + "/" + u.Ref.ID + " " + u.names
	var before balancer.Picker
	if prev != nil {
		if before = prev.Picker; before != nil && prev.names == u.names {
			u.Picker = before
			return
		}
		if before != nil && w.env.Pickers != nil {
			w.env.Pickers.Put(u.Ref.Kind+"/"+u.Ref.ID+" "+prev.names, before)
		}
	}
	if w.env.Pickers != nil {
		if kept, ok := w.env.Pickers.Get(cacheKey); ok {
			u.Picker = kept
			return
		}
	}
	picker, err := balancer.New(balancer.Config{Algorithm: conf.Type, Targets: targets}, before)
	if err != nil {
		u.unsupported(http.StatusInternalServerError, "upstream: %w", err)
		return
	}
	u.Picker = picker
}

// upstreamTLS returns the TLS configuration of an https upstream, nil for others, and
// what tells its connections from those with other credentials.
func (w *build) upstreamTLS(u *Upstream, conf *resource.Upstream) (shared *tls.Config, class string, err error) {
	settings := conf.TLS
	if settings == nil {
		settings = &resource.UpstreamTLS{}
	}
	cert, key := settings.ClientCert, settings.ClientKey
	if id := settings.ClientCertID; id != "" {
		u.ssl = "ssls/" + id
		o := w.objectAt("ssls", id)
		if o == nil {
			return nil, "", fmt.Errorf("failed to find client cert by id: %s", id)
		}
		s := o.doc.(*resource.SSL)
		if s.Type != "client" {
			return nil, "", fmt.Errorf("ssl %q is of type %q, must be client", id, s.Type)
		}
		cert, key = s.Cert, s.Key
	}
	if conf.Scheme != "https" {
		return nil, "", nil
	}
	if schema.IsReference(cert) || schema.IsReference(key) {
		return nil, "", fmt.Errorf("the client certificate is a reference that is not resolved")
	}
	if cert != "" {
		sum := sha256.Sum256([]byte(cert + "\x00" + key))
		class = hex.EncodeToString(sum[:8])
	}
	return w.next.tls.get(fmt.Sprintf("%s %t", class, settings.Verify), class, func() (*tls.Config, error) {
		c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.env.Roots, InsecureSkipVerify: !settings.Verify}
		if cert != "" {
			pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
			if err != nil {
				return nil, fmt.Errorf("client certificate: %w", err)
			}
			c.Certificates = []tls.Certificate{pair}
		}
		return c, nil
	})
}

// tlsConfigs shares equal configurations, since connections are told apart by them: a
// new one for every snapshot would empty all pools. It is safe for concurrent use and
// keeps nothing alive.
type tlsConfigs struct {
	mu     sync.Mutex
	byName map[string]weak.Pointer[tls.Config]
}

func (t *tlsConfigs) get(name, class string, make func() (*tls.Config, error)) (*tls.Config, string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.byName[name].Value(); c != nil {
		return c, class, nil
	}
	c, err := make()
	if err != nil {
		return nil, "", err
	}
	maps.DeleteFunc(t.byName, func(_ string, p weak.Pointer[tls.Config]) bool { return p.Value() == nil })
	t.byName[name] = weak.Make(c)
	return c, class, nil
}

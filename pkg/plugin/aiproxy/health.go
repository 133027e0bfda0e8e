package aiproxy

import (
	"net/netip"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// checks compiles the health checks of the instances. One instance is used whatever its
// health is, so that it is not asked about (spec/06 §A8).
func (p *proxy) checks(c *conf) error {
	if len(p.instances) < 2 {
		return nil
	}
	p.targeted = make([]health.Target, len(p.instances))
	for n := range c.Instances {
		i, out := &c.Instances[n], p.instances[n]
		if len(i.Checks) == 0 || out.Unreachable != nil {
			continue
		}
		check, err := health.Parse(i.Checks)
		if err != nil {
			return err
		}
		t := health.Target{Server: out.Target, Host: out.Host, Check: check, Resolve: true, Header: credentialsOf(i.Auth.Header), Query: encoded(i.Auth.Query)}
		if isAddress(out.Host) {
			t.Host = "" // then the check's, if it has one
		}
		p.targeted[n] = t
	}
	return nil
}

// credentialsOf are the configured headers that have a value.
func credentialsOf(header ordered) (list []exchange.Field) {
	for _, f := range header {
		if f.Value != "" {
			list = append(list, f)
		}
	}
	return list
}

func encoded(query ordered) string {
	var pairs []string
	for _, f := range query {
		pairs = append(pairs, escape(f.Name)+"="+escape(f.Value))
	}
	return strings.Join(pairs, "&")
}

// isAddress reports whether a host, with or without port, is an address and no name.
func isAddress(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// watch has the instances probed, from the first request on.
func (p *proxy) watch() {
	if g := p.state.health; g != nil {
		g.Use(p.checker)
	}
}

// locate sends a request to an address of its instance that is healthy, where several are
// known. Name and certificate stay the instance's.
func (p *proxy) locate(i int, req *upstream.Request) {
	if p.state == nil || p.state.health == nil {
		return
	}
	if at := p.state.health.Server(i); at != nil {
		req.Target = at
	}
}

package stage

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/t/blocktest"
)

// dial is a script's way to other servers. It notes the hosts that no way leads to.
func (s *Stage) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		return c, nil
	}
	var dns *net.DNSError
	host, _, split := net.SplitHostPort(addr)
	away := errors.As(err, &dns) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH)
	if split == nil && away && outside(host) {
		s.mu.Lock()
		s.unreached = append(s.unreached, blocktest.Unreachable{Host: host})
		s.mu.Unlock()
	}
	return nil, err
}

// outside reports whether a host is not this machine.
func outside(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err != nil && host != "localhost" || err == nil && !addr.IsLoopback() && !addr.IsUnspecified()
}

// gaveUp finds, in a line about a request that gosix answered by itself, the host because of
// which, and the status.
var gaveUp = regexp.MustCompile(`: connect (\S+):\d+: dial tcp(?:: lookup | \S+: connect: (?:network is unreachable|no route to host)).*, request: [0-9a-f]{32}, .*\bstatus: (\d{3})\b`)

// Unreachable returns the hosts outside that scripts and gosix could not reach since the
// block began.
func (s *Stage) Unreachable() []blocktest.Unreachable {
	s.mu.Lock()
	all := append([]blocktest.Unreachable(nil), s.unreached...)
	s.mu.Unlock()
	lines := gaveUp.FindAllStringSubmatch(s.log.block(), -1)
	if len(lines) == 0 {
		return all
	}
	alone := s.leadsOutside()
	for _, m := range lines {
		if status, err := strconv.Atoi(m[2]); err == nil && outside(m[1]) {
			all = append(all, blocktest.Unreachable{Host: m[1], Status: status, Alone: alone})
		}
	}
	return all
}

// thisMachine finds the names of servers on this machine.
var thisMachine = regexp.MustCompile(`\b127\.\d+\.\d+\.\d+\b|\blocalhost\b|\[::1\]|"::1"`)

// leadsOutside reports whether nothing that is stored leads to a server of this machine.
func (s *Stage) leadsOutside() bool {
	items, _, err := s.store.List(context.Background(), "/apisix/")
	return err == nil && !slices.ContainsFunc(items, func(i store.Item) bool { return thisMachine.Match(i.Value) })
}

// Package health finds out which servers had better not be asked: it probes them in the
// background and listens to what requests meet (spec/05 §8). It knows addresses, probes
// and counters; who is asked instead, and what a request is, it does not know.
//
// A [Group] is the health of the servers of one list; requests read it without a lock. A
// [Checker] probes for all groups of a process. It begins with a group when the first
// request uses it, and holds none of them: one that no configuration has any more is
// probed until the garbage collector finds it, which is a matter of minutes.
package health

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

// Target is one server of a group.
type Target struct {
	// Server is where requests go; its address is that of the probes, but for the port if
	// the check has one.
	Server *upstream.Target
	// Host is the name for Host and TLS; empty: the check's, else the address.
	Host  string
	Check *Check // nil: it always counts as healthy
	// Resolve takes a name for all its addresses: each is probed by itself, the target is
	// healthy when one is, and Group.Server chooses among those.
	Resolve bool
	// Header and Query go along with every probe.
	Header []exchange.Field
	Query  string
}

// Group is the health of the targets of one list. It is safe for concurrent use.
type Group struct {
	watched []*watched // by target; nil: nothing is checked
	former  []*watched // of the group before that this one has no more
	used    atomic.Bool
	down    atomic.Pointer[verdicts]
}

// verdicts are what was known at some moment.
type verdicts struct {
	flips uint64
	set   balancer.Set
}

// flips counts the changes of any server's state in this process: while it stands, what a
// group has worked out of its targets holds.
var flips atomic.Uint64

// NewGroup returns the health of targets, nil if none of them is checked. name is for
// logs. What prev, which may be nil, knows of targets that are equal is taken over, with
// their probes. It starts nothing.
func NewGroup(name string, targets []Target, prev *Group) *Group {
	g := &Group{watched: make([]*watched, len(targets))}
	known := map[string]*watched{}
	if prev != nil {
		for _, w := range prev.watched {
			if w != nil {
				known[w.key()] = w
			}
		}
	}
	checked := false
	for i := range targets {
		if targets[i].Check == nil {
			continue
		}
		checked = true
		w := newWatched(name, &targets[i])
		if before := known[w.key()]; before != nil {
			delete(known, w.key())
			w = before
		}
		g.watched[i] = w
	}
	if !checked {
		return nil
	}
	for _, w := range known {
		g.former = append(g.former, w)
	}
	return g
}

// Use says that a request is about to choose. The first one makes c probe the targets,
// each for the first time after its interval.
func (g *Group) Use(c *Checker) {
	if c != nil && !g.used.Load() && g.used.CompareAndSwap(false, true) {
		for _, w := range g.former {
			w.retired.Store(true)
		}
		for _, w := range g.watched {
			if w != nil {
				c.watch(w)
			}
		}
	}
}

// Down is the set of the targets that are unhealthy. It must not be changed.
func (g *Group) Down() *balancer.Set {
	now := flips.Load()
	if v := g.down.Load(); v != nil && v.flips == now {
		return &v.set
	}
	v := &verdicts{flips: now}
	for i, w := range g.watched {
		if w != nil && w.isDown() {
			v.set.Add(i)
		}
	}
	g.down.Store(v)
	return &v.set
}

// Server is a healthy address of target i, chosen at random; nil: the target as it is.
func (g *Group) Server(i int) *upstream.Target {
	w := g.watched[i]
	if w == nil {
		return nil
	}
	list := w.servers.Load()
	if list == nil || len(*list) == 0 {
		return nil
	}
	return (*list)[rand.IntN(len(*list))]
}

// Report tells what a request met at target i: a status, or an error that was not the
// client's fault. It counts where the check has a passive part.
func (g *Group) Report(i, status int, err error) {
	w := g.watched[i]
	if w == nil || w.Check.passive == nil {
		return
	}
	o := outcomeOf(err)
	if err == nil {
		o = w.Check.passive.judge(status)
	}
	for _, e := range *w.endpoints.Load() {
		w.count(e, o, w.Check.passive)
	}
}

// watched is a target that is checked. Groups that follow each other share it.
type watched struct {
	Target
	name       string // of the group
	host, port string // of the server's address
	endpoints  atomic.Pointer[[]*endpoint]
	servers    atomic.Pointer[[]*upstream.Target] // the healthy ones of several addresses
	retired    atomic.Bool
	log        atomic.Pointer[zerolog.Logger]

	seen bool // a checker has it; that checker's own
}

// endpoint is the state of one address.
type endpoint struct {
	addr  string // what requests dial
	probe string // what probes dial
	down  atomic.Bool
	dirty atomic.Bool // some failure was counted
	last  time.Time   // when it was probed last; the checker's own

	mu     sync.Mutex
	counts [outcomes]int
}

func newWatched(name string, t *Target) *watched {
	w := &watched{Target: *t, name: name}
	w.host, w.port, _ = net.SplitHostPort(t.Server.Addr)
	list := []*endpoint{w.endpoint(w.host)}
	w.endpoints.Store(&list)
	return w
}

func (w *watched) endpoint(host string) *endpoint {
	e := &endpoint{addr: net.JoinHostPort(host, w.port)}
	e.probe = e.addr
	if w.Check.active.port != "" {
		e.probe = net.JoinHostPort(host, w.Check.active.port)
	}
	return e
}

// key tells targets apart: of equal ones the state is kept.
func (w *watched) key() string {
	return fmt.Sprintf("%s %s %s %s %v %v %p", w.Server.Addr, w.Host, w.Query, w.Check.raw, w.Header, w.Resolve, w.Server.TLS)
}

func (w *watched) isDown() bool {
	for _, e := range *w.endpoints.Load() {
		if !e.down.Load() {
			return false
		}
	}
	return true
}

// literal reports whether the host is an address already.
func (w *watched) literal() bool {
	_, err := netip.ParseAddr(w.host)
	return err == nil
}

// located takes in what the host's name resolves to. What is known of an address that
// stays is kept.
func (w *watched) located(addrs []string) {
	before := *w.endpoints.Load()
	slices.Sort(addrs)
	now := make([]*endpoint, 0, len(addrs))
	for _, host := range slices.Compact(addrs) {
		fresh := w.endpoint(host)
		if i := slices.IndexFunc(before, func(e *endpoint) bool { return e.addr == fresh.addr }); i >= 0 {
			fresh = before[i]
		}
		now = append(now, fresh)
	}
	if slices.Equal(before, now) {
		return
	}
	w.endpoints.Store(&now)
	w.changed()
}

// changed brings up to date what follows from the endpoints.
func (w *watched) changed() {
	if w.Resolve && !w.literal() {
		list := []*upstream.Target{}
		for _, e := range *w.endpoints.Load() {
			if !e.down.Load() && e.addr != w.Server.Addr {
				one := *w.Server
				one.Addr = e.addr
				list = append(list, &one)
			}
		}
		w.servers.Store(&list)
	}
	flips.Add(1)
}

// count takes in one outcome. A failure undoes the successes so far, a success the
// failures; at its limit a state changes.
func (w *watched) count(e *endpoint, o outcome, l *limits) {
	if o == nothing || o == success && !e.dirty.Load() {
		return // most of what there is to count
	}
	flipped := false
	e.mu.Lock()
	down, limit := e.down.Load(), l.of(o)
	switch {
	case o == success:
		n := e.counts[success] + 1
		e.counts = [outcomes]int{success: n}
		if !down {
			e.dirty.Store(false)
			break
		}
		w.say(e, "healthy", o, n, limit)
		if limit > 0 && n >= limit {
			e.counts = [outcomes]int{}
			e.down.Store(false)
			e.dirty.Store(false)
			flipped = true
		}
	case down:
		e.counts[success] = 0
	case limit > 0:
		e.counts[success] = 0
		e.counts[o]++
		e.dirty.Store(true)
		w.say(e, "unhealthy", o, e.counts[o], limit)
		if e.counts[o] >= limit {
			e.down.Store(true)
			flipped = true
		}
	}
	e.mu.Unlock()
	if flipped {
		w.changed()
	}
}

// say logs a step towards another state, in the words that the reference's users look for.
func (w *watched) say(e *endpoint, state string, o outcome, n, limit int) {
	log := w.log.Load()
	if log == nil {
		return
	}
	host := w.Check.active.host
	if host == "" {
		host = w.host
	}
	log.Warn().Str("upstream", w.name).Str("addr", e.addr).
		Msgf("(upstream#%s) %s %s increment (%d/%d) for '%s(%s)'", w.name, state, outcomeWords[o], n, limit, host, e.probe)
}

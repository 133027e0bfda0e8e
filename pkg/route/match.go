package route

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/variable"
)

// rule is what a route asks of a request beside host and path. All candidates of a
// route share it.
type rule struct {
	object   *object // the route; for ties
	priority int
	methods  uint16 // one bit each, 0: all
	addrs    []netip.Prefix
	vars     *expr.Expr
}

// candidate is a route under one of its patterns and one of its hosts.
type candidate struct {
	Route
	rule  *rule
	order int // position among the candidates of its route
	path  pathPattern
	host  hostPattern
}

// compare orders a list of candidates: the first that matches wins (spec/03 §4,
// spec/00 18).
func (c *candidate) compare(d *candidate) int {
	switch {
	case c.rule.priority != d.rule.priority:
		return sign(c.rule.priority > d.rule.priority)
	case len(c.Pattern) != len(d.Pattern):
		return sign(len(c.Pattern) > len(d.Pattern))
	case c.rule.object.item.CreateRevision != d.rule.object.item.CreateRevision:
		return sign(c.rule.object.item.CreateRevision < d.rule.object.item.CreateRevision)
	case c.rule.object.rest != d.rule.object.rest:
		return sign(c.rule.object.rest < d.rule.object.rest)
	}
	return c.order - d.order
}

func sign(first bool) int {
	if first {
		return -1
	}
	return 1
}

// hostPattern is a route's `host`, taken apart (spec/03 §4.1).
type hostPattern struct {
	text string // lower-case, without the leading star
	wild bool
	raw  bool // holds a port: compared with the Host header as received
	any  bool // the route has no hosts
}

func compileHost(host string) hostPattern {
	p := hostPattern{text: strings.ToLower(host), raw: strings.Contains(host, ":")}
	p.text, p.wild = strings.CutPrefix(p.text, "*")
	return p
}

func (p *hostPattern) match(q *query) bool {
	if p.any {
		return true
	}
	host := q.x.Request.Host
	if !p.raw {
		host = q.hostName()
	}
	switch {
	case len(host) < len(p.text) || !p.wild && len(host) != len(p.text):
		return false
	}
	return strings.EqualFold(host[len(host)-len(p.text):], p.text)
}

var methods = [...]string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"}

// methodBit is the bit of a method; one that no route can name has a bit of its own.
func methodBit(method string) uint16 {
	for i := range methods {
		if methods[i] == method {
			return 1 << i
		}
	}
	return 1 << len(methods)
}

// leaf is what hangs at one text of a path tree.
type leaf struct {
	exact, prefix []*candidate // each in order
}

// hostLeaf is what hangs at one reversed host name.
type hostLeaf struct {
	exact, wild tree[*leaf]
}

// matcher is all candidates in the order of spec/03 §4. It never changes.
type matcher struct {
	byHost bool           // radixtree_host_uri
	hosts  tree[hostLeaf] // by reversed host; empty unless byHost
	paths  tree[*leaf]    // of routes without hosts; of all routes unless byHost
}

// query is one request being matched. It stays on the stack. What only some routes ask for is
// made when the first does.
type query struct {
	x      *exchange.Exchange
	path   string
	host   string // see hostName
	method uint16 // see methodBit
	hosted bool   // host is there
	byHost bool
}

// hostName is the host that is asked for.
func (q *query) hostName() string {
	if !q.hosted {
		q.host, q.hosted = variable.Host(q.x.Request.Host), true
	}
	return q.host
}

func (q *query) methodBit() uint16 {
	if q.method == 0 {
		q.method = methodBit(q.x.Request.Method)
	}
	return q.method
}

func (m *matcher) match(x *exchange.Exchange) *Route {
	q := query{x: x, path: x.Request.Path, byHost: m.byHost}
	if m.byHost && m.hosts.root != nil {
		if r := q.underHost(m.hosts.root, q.hostName()); r != nil {
			return r
		}
	}
	return q.underPath(m.paths.root, q.path)
}

// underHost tries the longest host first: the host itself, then ever shorter suffixes.
// left is what remains of the host; the tree's keys are reversed, so it is read from
// its end.
func (q *query) underHost(n *node[hostLeaf], left string) *Route {
	for i := range len(n.prefix) {
		if len(left) == 0 || left[len(left)-1] != n.prefix[i] {
			return nil
		}
		left = left[:len(left)-1]
	}
	if left == "" {
		if r := q.underPath(n.value.exact.root, q.path); r != nil {
			return r
		}
	} else if c := n.child(left[len(left)-1]); c != nil {
		if r := q.underHost(c, left); r != nil {
			return r
		}
	}
	return q.underPath(n.value.wild.root, q.path)
}

// underPath tries the exact path, then prefixes, the longest first.
func (q *query) underPath(n *node[*leaf], left string) *Route {
	if n == nil || !strings.HasPrefix(left, n.prefix) {
		return nil
	}
	left = left[len(n.prefix):]
	if left == "" {
		if n.has {
			if r := q.first(n.value.exact); r != nil {
				return r
			}
		}
	} else if c := n.child(left[0]); c != nil {
		if r := q.underPath(c, left); r != nil {
			return r
		}
	}
	if n.has {
		return q.first(n.value.prefix)
	}
	return nil
}

func (q *query) first(list []*candidate) *Route {
	for _, c := range list {
		if c.match(q) {
			return &c.Route
		}
	}
	return nil
}

// match asks the conditions in the order of spec/03 §4.4.
func (c *candidate) match(q *query) bool {
	r := c.rule
	if r.methods != 0 && r.methods&q.methodBit() == 0 {
		return false
	}
	if len(r.addrs) > 0 {
		addr := q.x.Request.Remote.Addr().Unmap()
		if !slices.ContainsFunc(r.addrs, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return false
		}
	}
	if !q.byHost && !c.host.match(q) {
		return false
	}
	if r.vars != nil && !r.vars.Match(q.x) {
		return false
	}
	if c.path.shape == nil {
		return true
	}
	f := &q.x.Facts
	params, ok := c.path.shape.match(q.path, f.Params[:0])
	if ok {
		f.Params = params
	}
	return ok
}

// matcherEdit collects changes and makes them at once, so that a list of candidates is
// copied and sorted once however many of its members change.
type matcherEdit struct {
	matcher
	changes map[place]*leafChange
}

// place is where a candidate hangs.
type place struct {
	host    string // reversed
	wild    bool
	anyHost bool
	path    string
	prefix  bool
}

type leafChange struct {
	add, drop []*candidate
	one       [2]*candidate // for add and drop: most often there is one of each
}

// edit begins a change of about so many routes.
func (m matcher) edit(routes int) *matcherEdit {
	return &matcherEdit{matcher: m, changes: make(map[place]*leafChange, routes)}
}

func (e *matcherEdit) change(c *candidate) *leafChange {
	p := place{path: c.path.text, prefix: c.path.prefix, anyHost: true}
	if e.byHost && !c.host.any {
		p.anyHost, p.wild, p.host = false, c.host.wild, reverse(c.host.text)
	}
	l := e.changes[p]
	if l == nil {
		l = &leafChange{}
		l.add, l.drop = l.one[0:0:1], l.one[1:1:2]
		e.changes[p] = l
	}
	return l
}

func (e *matcherEdit) add(c *candidate) {
	l := e.change(c)
	l.add = append(l.add, c)
}

func (e *matcherEdit) drop(c *candidate) {
	l := e.change(c)
	l.drop = append(l.drop, c)
}

func (e *matcherEdit) commit() matcher {
	type subtree struct {
		host string
		wild bool
	}
	paths, hosts := e.paths.edit(), e.hosts.edit()
	below := map[subtree]*editor[*leaf]{}
	for p, change := range e.changes {
		if p.anyHost {
			change.apply(&paths, p)
			continue
		}
		at := subtree{p.host, p.wild}
		if below[at] == nil {
			l, _ := hosts.get(p.host)
			edit := l.exact.edit()
			if p.wild {
				edit = l.wild.edit()
			}
			below[at] = &edit
		}
		change.apply(below[at], p)
	}
	for at, edit := range below {
		l, _ := hosts.get(at.host)
		if at.wild {
			l.wild = edit.commit()
		} else {
			l.exact = edit.commit()
		}
		if l.exact.size == 0 && l.wild.size == 0 {
			hosts.del(at.host)
		} else {
			hosts.set(at.host, l)
		}
	}
	clear(e.changes)
	e.paths, e.hosts = paths.commit(), hosts.commit()
	return e.matcher
}

func (l *leafChange) apply(paths *editor[*leaf], p place) {
	var now leaf
	if old, ok := paths.get(p.path); ok {
		now = *old
	}
	if p.prefix {
		now.prefix = l.merge(now.prefix)
	} else {
		now.exact = l.merge(now.exact)
	}
	if len(now.exact) == 0 && len(now.prefix) == 0 {
		paths.del(p.path)
		return
	}
	paths.set(p.path, &now)
}

func (l *leafChange) merge(old []*candidate) []*candidate {
	list := make([]*candidate, 0, max(len(old)+len(l.add)-len(l.drop), 0))
	gone := l.gone()
	for _, c := range old {
		if _, dropped := gone[c]; dropped || gone == nil && slices.Contains(l.drop, c) {
			continue
		}
		list = append(list, c)
	}
	if len(l.add) == 1 {
		i, _ := slices.BinarySearchFunc(list, l.add[0], (*candidate).compare)
		return slices.Insert(list, i, l.add[0])
	}
	list = append(list, l.add...)
	slices.SortFunc(list, (*candidate).compare)
	return list
}

// gone is drop as a set, nil while it is better to look at each.
func (l *leafChange) gone() map[*candidate]struct{} {
	const few = 8
	if len(l.drop) <= few {
		return nil
	}
	all := make(map[*candidate]struct{}, len(l.drop))
	for _, c := range l.drop {
		all[c] = struct{}{}
	}
	return all
}

func reverse(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

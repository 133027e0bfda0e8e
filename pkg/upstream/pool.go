package upstream

import (
	"crypto/tls"
	"hash/maphash"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/socket"
)

const (
	shardCount    = 32
	sweepInterval = 5 * time.Second
	poolLifetime  = time.Minute // of a pool without connections

	defaultMaxIdle     = 320
	defaultIdleTimeout = 60 * time.Second
	defaultMaxRequests = 1000
)

// poolKey is everything that tells connections apart.
type poolKey struct {
	addr, sni, class string
	tls              *tls.Config
}

func keyOf(t *Target) poolKey { return poolKey{t.Addr, t.SNI, t.Class, t.TLS} }

// is reports whether k is the key of t. That is quick where the strings are the same ones.
func (k *poolKey) is(t *Target) bool {
	return k.addr == t.Addr && k.sni == t.SNI && k.class == t.Class && k.tls == t.TLS
}

// A shard has the pools of some targets, so that requests to different targets seldom
// share a lock.
type shard struct {
	mu    sync.Mutex
	pools map[poolKey]*pool
}

// pool is the idle connections of one target, the one used last on top. Its shard's lock
// guards it.
type pool struct {
	key   poolKey
	home  *shard
	owner *Client
	idle  []*conn
	tls   *tls.Config // with the server name in it; nil: not built yet
	used  moment
	gone  bool // forgotten: not in its shard
}

func (c *Client) shard(k poolKey) *shard {
	return &c.shards[maphash.Comparable(c.seed, k)%shardCount]
}

// Bind has a target know its pool, so that its requests need not look for it. It is for the
// time of loading: nothing may use the target yet. A copy of the target that goes elsewhere is
// bound to nothing, and neither is the target at another client.
func (c *Client) Bind(t *Target) {
	if t.NoKeepAlive {
		return // no pool
	}
	t.pool, _ = c.open(t)
	t.pool.home.mu.Unlock()
	c.arm()
}

// find returns the pool of a target, nil if there is none. Its shard is locked then.
func (c *Client) find(t *Target) (*pool, *shard) {
	if p := c.bound(t); p != nil {
		p.home.mu.Lock()
		if p.gone {
			return p.home.pools[p.key], p.home
		}
		return p, p.home
	}
	key := keyOf(t)
	s := c.shard(key)
	s.mu.Lock()
	return s.pools[key], s
}

// open is find with a new pool if there is none.
func (c *Client) open(t *Target) (*pool, *shard) {
	p, s := c.find(t)
	if p == nil {
		if p = c.bound(t); p == nil {
			key := keyOf(t)
			key.sni = strings.Clone(key.sni) // it may be a part of a request, which ends before
			p = &pool{key: key, home: s, owner: c, gone: true}
		}
		p = p.here()
	}
	p.used = now()
	return p, s
}

// bound returns the pool that the target knows, nil if that is not its own here.
func (c *Client) bound(t *Target) *pool {
	if p := t.pool; p != nil && p.owner == c && p.key.is(t) {
		return p
	}
	return nil
}

// here returns the pool that has the place of p: if p was forgotten, it comes back or another
// has it. The shard is locked.
func (p *pool) here() *pool {
	if !p.gone {
		return p
	}
	if another := p.home.pools[p.key]; another != nil {
		return another
	}
	p.gone = false
	p.home.pools[p.key] = p
	return p
}

// take returns an idle connection of the target that is not too old at that moment, which is
// when the request begins; nil if there is none.
func (c *Client) take(t *Target, at moment) *conn {
	for {
		var k *conn
		p, s := c.find(t)
		if p != nil {
			if n := len(p.idle); n > 0 {
				k = p.idle[n-1]
				p.idle[n-1] = nil
				p.idle = p.idle[:n-1]
			}
		}
		s.mu.Unlock()
		if k == nil {
			return nil
		}
		if k.taken = at; k.young(at) {
			return k
		}
		_ = k.Conn.Close()
	}
}

// young reports whether a connection was idle for less than its limit, at that moment. A request
// may have begun before that: even then a limit that allows no idleness allows none.
func (k *conn) young(at moment) bool { return max(at-k.idleSince, 1) < moment(k.idleLimit) }

// alive reports whether an idle connection can be used: it is neither too old, nor did the
// server close it or send what nobody asked for.
func (k *conn) alive(at moment) bool { return k.young(at) && k.look() == socket.Quiet }

// put keeps a connection for the next request to its target.
func (c *Client) put(k *conn, t *Target) {
	limit := t.MaxIdle
	if limit <= 0 {
		limit = defaultMaxIdle
	}
	// An answer that came with its head was over by then.
	if k.idleSince = k.heard; k.heard == 0 {
		k.idleSince = now()
	}
	s := k.pool.home
	over := k
	s.mu.Lock()
	if !c.closed.Load() {
		p := k.pool.here()
		k.pool = p
		p.used = k.idleSince
		over = nil
		if len(p.idle) >= limit {
			over = p.idle[0] // the coldest
			p.idle = append(p.idle[:0], p.idle[1:]...)
		}
		p.idle = append(p.idle, k)
	}
	s.mu.Unlock()
	if over != nil {
		_ = over.Conn.Close()
	}
	c.arm()
}

// house gives a new connection to the target its pool.
func (c *Client) house(k *conn, t *Target) {
	p, s := c.open(t)
	k.pool = p
	s.mu.Unlock()
	c.arm()
}

// tlsConfig returns the configuration for connections to the target, which its pool keeps
// so that sessions are resumed.
func (c *Client) tlsConfig(t *Target) *tls.Config {
	p, s := c.open(t)
	if p.tls == nil {
		p.tls = t.TLS.Clone()
		p.tls.NextProtos = []string{"http/1.1"}
		// Small records at first are for browsers, which show what they have so far; a
		// request is of use when it is whole, and each record is a call of the kernel.
		p.tls.DynamicRecordSizingDisabled = true
		if p.tls.RootCAs == nil {
			p.tls.RootCAs = c.o.Roots
		}
		if p.key.sni != "" {
			p.tls.ServerName = p.key.sni
		}
		if p.tls.ServerName == "" {
			p.tls.ServerName, _, _ = net.SplitHostPort(t.Addr)
		}
		if p.tls.ClientSessionCache == nil {
			p.tls.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		}
	}
	config := p.tls
	s.mu.Unlock()
	c.arm()
	return config
}

// arm starts the timer of the next sweep, unless it runs.
func (c *Client) arm() {
	if c.armed.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed.Load() || c.armed.Load():
	case c.timer == nil:
		c.armed.Store(true)
		c.timer = time.AfterFunc(sweepInterval, c.sweep)
	default:
		c.armed.Store(true)
		c.timer.Reset(sweepInterval)
	}
}

func (c *Client) sweep() {
	// Before looking: what is put behind our back starts the timer again.
	c.armed.Store(false)
	if c.purge(now()) {
		c.arm()
	}
}

// purge closes connections that were idle for too long or that the server closed, and
// forgets pools that nobody uses. It reports whether any pool is left.
func (c *Client) purge(at moment) (left bool) {
	var gone []*conn
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for key, p := range s.pools {
			kept := p.idle[:0]
			for _, k := range p.idle {
				if k.alive(at) {
					kept = append(kept, k)
				} else {
					gone = append(gone, k)
				}
			}
			clear(p.idle[len(kept):])
			p.idle = kept
			if len(kept) == 0 && at-p.used >= moment(poolLifetime) {
				p.gone = true
				delete(s.pools, key)
			}
		}
		left = left || len(s.pools) > 0
		s.mu.Unlock()
	}
	for _, k := range gone {
		_ = k.Conn.Close()
	}
	return left
}

// CloseIdle closes the connections that nobody uses.
func (c *Client) CloseIdle() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, p := range s.pools {
			for _, k := range p.idle {
				_ = k.Conn.Close()
			}
			clear(p.idle)
			p.idle = p.idle[:0]
		}
		s.mu.Unlock()
	}
}

// Close closes idle connections now and those in use when their answer ends.
func (c *Client) Close() {
	c.closed.Store(true)
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.CloseIdle()
}

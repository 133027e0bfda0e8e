package airatelimiting

import (
	"crypto/sha256"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/gosix/gosix/pkg/plugin"
)

// counter counts within a window that begins when it is first asked, and again with the
// first question after its end. The zero value is ready; it is safe for concurrent use and
// has no lock.
type counter struct{ now atomic.Pointer[window] }

// window is a span of time and what was used within it.
type window struct {
	end  time.Time
	used atomic.Int64 // tokens
}

// longest bounds a window; beyond it durations overflow.
const longest = 100 * 365 * 24 * time.Hour

// at returns the window in force, a new one of that many seconds if there is none.
func (c *counter) at(now time.Time, seconds int64) *window {
	for {
		w := c.now.Load()
		if w != nil && now.Before(w.end) {
			return w
		}
		length := longest
		if seconds < int64(longest/time.Second) {
			length = time.Duration(seconds) * time.Second
		}
		fresh := &window{end: now.Add(length)}
		if c.now.CompareAndSwap(w, fresh) {
			return fresh
		}
	}
}

// add counts tokens. What is spent many times over is not counted further, so that no sum
// can overflow.
func (w *window) add(tokens int64) {
	if w.used.Load() < 1<<62-maxCost {
		w.used.Add(tokens)
	}
}

// A table holds the counters of keys that clients may choose. So many are kept, shared out
// over so many locks, each held for a look into a map.
const (
	shards   = 64
	perShard = 1024
)

type table struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu   sync.RWMutex
	keys map[string]*counter
	_    [32]byte // shards do not share a cache line
}

// longKey is the length in bytes from which a key is kept as its digest.
const longKey = 128

// find returns the counter of a key. When there is no room it takes that of another: one
// whose window is over, else the one of a few that is used least.
func (t *table) find(key string, now time.Time) *counter {
	if len(key) > longKey {
		sum := sha256.Sum256([]byte(key))
		key = string(sum[:])
	}
	s := &t.shards[maphash.String(t.seed, key)%shards]
	s.mu.RLock()
	c := s.keys[key]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.keys[key]; c != nil {
		return c
	}
	if s.keys == nil {
		s.keys = map[string]*counter{}
	}
	if len(s.keys) >= perShard {
		s.makeRoom(now)
	}
	c = &counter{}
	s.keys[strings.Clone(key)] = c // it is the request's
	return c
}

func (s *shard) makeRoom(now time.Time) {
	const looks = 8
	least, victim, n := int64(0), "", 0
	for key, c := range s.keys {
		w := c.now.Load()
		if w == nil || !now.Before(w.end) {
			victim = key
			break
		}
		if used := w.used.Load(); n == 0 || used < least {
			least, victim = used, key
		}
		if n++; n == looks {
			break
		}
	}
	delete(s.keys, victim)
}

// counters are all counters of one configuration.
type counters struct {
	rules []table

	mu        sync.Mutex
	instances map[string]*counter
}

func newCounters(rules int) *counters {
	n := &counters{instances: map[string]*counter{}, rules: make([]table, rules)}
	for i := range n.rules {
		n.rules[i].seed = maphash.MakeSeed()
	}
	return n
}

// of returns an instance's counter. Requests ask for it once per configuration and instance.
func (n *counters) of(instance string) *counter {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.instances[instance]
	if c == nil {
		c = &counter{}
		n.instances[instance] = c
	}
	return c
}

// shelf is where a configuration finds the counters that another node of the same snapshot
// has already: a service's are shared by all its routes. It is used at load time only and
// keeps nothing alive.
type shelf struct {
	mu    sync.Mutex
	kept  map[place]weak.Pointer[counters]
	prune int // length at which what is dead is thrown out
}

// place names a configuration: what carries it, and what it says.
type place struct{ kind, id, digest string }

// take returns the counters of a configuration. Those of the configuration that it
// replaces are forgotten.
func (s *shelf) take(b *plugin.Build, rules int) *counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := place{b.Parent.Kind, b.Parent.ID, b.Digest}
	if before, ok := b.Prev.(*limiter); ok {
		s.kept[at] = weak.Make(before.counters)
		return before.counters
	}
	if before, ok := b.Before.(*limiter); ok {
		delete(s.kept, before.place)
	}
	if n := s.kept[at].Value(); n != nil {
		return n
	}
	if len(s.kept) >= s.prune {
		for at, n := range s.kept {
			if n.Value() == nil {
				delete(s.kept, at)
			}
		}
		s.prune = 64 + 2*len(s.kept)
	}
	n := newCounters(rules)
	s.kept[at] = weak.Make(n)
	return n
}

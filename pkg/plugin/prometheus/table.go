package prometheus

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map that many read at once without a lock and without allocating, and to which
// few add. What was added lately is found behind a lock until the map is published anew.
// The zero value is ready.
type table[K comparable, V any] struct {
	published atomic.Pointer[map[K]V]
	pending   atomic.Bool // something came since
	size      atomic.Int64

	mu    sync.Mutex
	all   map[K]V // published and what came since; nil: nothing came
	asked int     // how often something behind the lock was looked for
}

// get returns the value of a key, which is not kept.
func (t *table[K, V]) get(k *K) (v V, ok bool) {
	if m := t.published.Load(); m != nil {
		if v, ok = (*m)[*k]; ok {
			return v, true
		}
	}
	if !t.pending.Load() {
		return v, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil { // another published it just now
		if m := t.published.Load(); m != nil {
			v, ok = (*m)[*k]
		}
		return v, ok
	}
	v, ok = t.all[*k]
	// A copy for each new key would cost the square of their number.
	if t.asked++; t.asked >= len(t.all) {
		t.publish()
	}
	return v, ok
}

// put sets the value of a key.
func (t *table[K, V]) put(k K, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.published.Load()
	if t.all == nil {
		t.all = map[K]V{}
		if m != nil {
			maps.Copy(t.all, *m)
		}
	}
	t.all[k] = v
	t.size.Store(int64(len(t.all)))
	t.pending.Store(true)
	if m != nil {
		if _, known := (*m)[k]; known { // or the old value would go on being found
			t.publish()
		}
	}
}

func (t *table[K, V]) publish() {
	m := t.all
	t.published.Store(&m)
	t.all, t.asked = nil, 0
	t.pending.Store(false)
}

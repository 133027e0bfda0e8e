package route

import (
	"context"
	"sync"
	"sync/atomic"
)

// Router holds the snapshot in force. A Syncer makes it and keeps it up to date. It is
// safe for concurrent use.
type Router struct {
	current atomic.Pointer[Snapshot]

	mu      sync.Mutex // of those who wait and of the syncer; a request that need not wait passes by it
	waiting map[*waiter]struct{}
}

// waiter waits for a revision.
type waiter struct {
	revision int64
	reached  chan *Snapshot // has room for the one that it waits for
}

// Snapshot returns the snapshot in force, never nil. A request takes it once.
func (r *Router) Snapshot() *Snapshot { return r.current.Load() }

// Reach returns a snapshot of that revision or a later one, as soon as one is in force. When
// ctx ends before, it is the one that is in force then, whose revision is lower.
func (r *Router) Reach(ctx context.Context, revision int64) *Snapshot {
	if s := r.current.Load(); s.revision >= revision {
		return s
	}
	w := &waiter{revision, make(chan *Snapshot, 1)}
	r.mu.Lock()
	if s := r.current.Load(); s.revision >= revision {
		r.mu.Unlock()
		return s
	}
	if r.waiting == nil {
		r.waiting = map[*waiter]struct{}{}
	}
	r.waiting[w] = struct{}{}
	r.mu.Unlock()
	select {
	case s := <-w.reached: // which may have gone out of force since: a store was restored
		return s
	case <-ctx.Done():
		r.mu.Lock()
		delete(r.waiting, w)
		r.mu.Unlock()
	}
	return r.current.Load()
}

// swap puts a snapshot in force and wakes those who wait for it.
func (r *Router) swap(s *Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.Store(s)
	for w := range r.waiting {
		if w.revision <= s.revision {
			w.reached <- s
			delete(r.waiting, w)
		}
	}
}

// Package memstore is a configuration store in memory, with the revisions, leases and
// watches of a real one. Tests use it, and can take it away, compact it and restore it.
// It does not know how to keep anything.
package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// Store is a store in memory. Use New. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	items    map[string]store.Item
	log      []store.Batch // since compacted, one batch per revision
	revision int64
	cluster  uint64
	era      int // grows with each Restore
	cause    store.Cause
	down     bool
	since    time.Time     // of the change to or from down
	changed  chan struct{} // closed and replaced at every change
	timers   map[string]*time.Timer
	leases   map[store.LeaseID]*lease
	granted  store.LeaseID // the last
}

// lease is a lease that is kept alive.
type lease struct {
	ttl   time.Duration
	timer *time.Timer
	keys  map[string]int64 // what goes with it, by the revision of its put
}

// New returns an empty store.
func New() *Store {
	return &Store{
		items: map[string]store.Item{}, timers: map[string]*time.Timer{}, leases: map[store.LeaseID]*lease{},
		revision: 1, cluster: 1, changed: make(chan struct{}), since: time.Now(),
	}
}

// Close stops the timers of leases.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimers()
	return nil
}

func (s *Store) stopTimers() {
	for _, t := range s.timers {
		t.Stop()
	}
	clear(s.timers)
	for _, l := range s.leases {
		l.timer.Stop()
	}
	clear(s.leases)
}

// SetDown makes the store fail until it is called with false; watches stand still.
func (s *Store) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != down {
		s.down, s.since = down, time.Now()
	}
	s.wake()
}

// Direct is the same store for somebody whom SetDown does not concern: another node, which
// goes on changing what this one cannot see.
func (s *Store) Direct() store.Store { return direct{s} }

type direct struct{ s *Store }

func (d direct) Get(ctx context.Context, key string) (store.Item, int64, error) {
	return d.s.get(ctx, key, true)
}

func (d direct) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	return d.s.list(ctx, prefix, true)
}

func (d direct) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	return d.s.commit(ctx, when, then, true)
}

func (d direct) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	return d.s.watch(ctx, prefix, true)
}

// Compact forgets the history; watchers that are behind begin anew.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
	s.wake()
}

// Restore replaces the content and the revision: with a lower one as if from a backup, else
// as if another cluster had taken the place of this one.
func (s *Store) Restore(items []store.Item, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimers()
	clear(s.items)
	for _, it := range items {
		s.items[it.Key] = it
	}
	s.cause = store.WentBack
	if revision >= s.revision {
		s.cause = store.OtherCluster
		s.cluster++
	}
	s.log, s.revision = nil, revision
	s.era++
	s.wake()
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Item, int64, error) {
	return s.get(ctx, key, false)
}

func (s *Store) get(ctx context.Context, key string, always bool) (store.Item, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return store.Item{}, 0, err
	}
	it, ok := s.items[key]
	if !ok {
		return store.Item{}, s.revision, store.ErrNotFound
	}
	return it, s.revision, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	return s.list(ctx, prefix, false)
}

func (s *Store) list(ctx context.Context, prefix string, always bool) ([]store.Item, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return nil, 0, err
	}
	return s.under(prefix), s.revision, nil
}

func (s *Store) fails(ctx context.Context, always bool) error {
	if s.down && !always {
		return store.ErrUnavailable
	}
	return ctx.Err()
}

func (s *Store) under(prefix string) []store.Item {
	var list []store.Item
	for key, it := range s.items {
		if strings.HasPrefix(key, prefix) {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	return s.commit(ctx, when, then, false)
}

func (s *Store) commit(ctx context.Context, when []store.Cond, then []store.Op, always bool) (store.Result, error) {
	if err := sound(then); err != nil {
		return store.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return store.Result{}, err
	}
	for _, c := range when {
		if !s.holds(c) {
			return store.Result{}, &store.ConflictError{Cond: c}
		}
	}
	for _, op := range then {
		if _, lives := s.leases[op.Lease]; op.Lease != 0 && !op.Delete && !lives {
			return store.Result{}, store.ErrNoLease
		}
	}
	next := s.revision + 1
	var events []store.Event
	res := store.Result{Prev: make([][]store.Item, len(then))}
	for i, op := range then {
		switch {
		case op.Delete && op.Prefix:
			for _, it := range s.under(op.Key) {
				res.Prev[i] = append(res.Prev[i], it)
				events = append(events, s.remove(it.Key, next))
			}
		case op.Delete:
			if it, ok := s.items[op.Key]; ok {
				res.Prev[i] = []store.Item{it}
				events = append(events, s.remove(op.Key, next))
			}
		default:
			it := store.Item{Key: op.Key, Value: append([]byte(nil), op.Value...), CreateRevision: next, Revision: next}
			if before, ok := s.items[op.Key]; ok {
				res.Prev[i] = []store.Item{before}
				it.CreateRevision = before.CreateRevision
			}
			s.stopTimer(op.Key)
			s.items[op.Key] = it
			if l := s.leases[op.Lease]; l != nil {
				l.keys[op.Key] = next
			} else if op.TTL > 0 {
				s.timers[op.Key] = time.AfterFunc(op.TTL, func() { s.expire(op.Key, it.Revision) })
			}
			events = append(events, store.Event{Item: it})
		}
	}
	if len(events) > 0 {
		s.revision = next
		s.log = append(s.log, store.Batch{Events: events, Revision: next, ClusterID: s.cluster})
		s.wake()
	}
	res.Revision = s.revision
	return res, nil
}

func (s *Store) holds(c store.Cond) bool {
	if !c.Prefix {
		return s.items[c.Key].Revision == c.Revision
	}
	for key, it := range s.items {
		if it.Revision > c.Revision && strings.HasPrefix(key, c.Key) {
			return false
		}
	}
	return true
}

// sound refuses what etcd refuses.
func sound(then []store.Op) error {
	for i, put := range then {
		if put.Key == "" && !put.Prefix {
			return errors.New("an operation has no key")
		}
		if put.Delete {
			continue
		}
		for j, op := range then {
			if i != j && (op.Key == put.Key || op.Delete && op.Prefix && strings.HasPrefix(put.Key, op.Key)) {
				return fmt.Errorf("%s is changed twice", put.Key)
			}
		}
	}
	return nil
}

func (s *Store) remove(key string, revision int64) store.Event {
	s.stopTimer(key)
	delete(s.items, key)
	return store.Event{Item: store.Item{Key: key, Revision: revision}, Delete: true}
}

func (s *Store) stopTimer(key string) {
	if t := s.timers[key]; t != nil {
		t.Stop()
		delete(s.timers, key)
	}
}

func (s *Store) expire(key string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[key].Revision != revision {
		return
	}
	s.revision++
	s.log = append(s.log, store.Batch{Events: []store.Event{s.remove(key, s.revision)}, Revision: s.revision, ClusterID: s.cluster})
	s.wake()
}

// Grant implements store.Leases.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	return s.grant(ctx, ttl, false)
}

func (d direct) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	return d.s.grant(ctx, ttl, true)
}

func (s *Store) grant(ctx context.Context, ttl time.Duration, always bool) (store.LeaseID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return 0, err
	}
	s.granted++
	id := s.granted
	s.leases[id] = &lease{ttl: ttl, keys: map[string]int64{}, timer: time.AfterFunc(ttl, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end(id)
	})}
	return id, nil
}

// Renew implements store.Leases.
func (s *Store) Renew(ctx context.Context, id store.LeaseID) error { return s.renew(ctx, id, false) }

func (d direct) Renew(ctx context.Context, id store.LeaseID) error { return d.s.renew(ctx, id, true) }

func (s *Store) renew(ctx context.Context, id store.LeaseID, always bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return err
	}
	l := s.leases[id]
	if l == nil {
		return store.ErrNoLease
	}
	l.timer.Reset(l.ttl)
	return nil
}

// Revoke implements store.Leases.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error { return s.revoke(ctx, id, false) }

func (d direct) Revoke(ctx context.Context, id store.LeaseID) error {
	return d.s.revoke(ctx, id, true)
}

func (s *Store) revoke(ctx context.Context, id store.LeaseID, always bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(ctx, always); err != nil {
		return err
	}
	s.end(id)
	return nil
}

// end ends a lease and what goes with it.
func (s *Store) end(id store.LeaseID) {
	l := s.leases[id]
	if l == nil {
		return
	}
	l.timer.Stop()
	delete(s.leases, id)
	var events []store.Event
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		// What was put again since then belongs to another lease, or to none.
		if s.items[key].Revision == l.keys[key] {
			events = append(events, s.remove(key, s.revision+1))
		}
	}
	if len(events) > 0 {
		s.revision++
		s.log = append(s.log, store.Batch{Events: events, Revision: s.revision, ClusterID: s.cluster})
		s.wake()
	}
}

// Watch implements store.Source.
func (s *Store) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	return s.watch(ctx, prefix, false)
}

func (s *Store) watch(ctx context.Context, prefix string, always bool) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		at, era, cause := int64(0), 0, store.Start
		for {
			s.mu.Lock()
			changed := s.changed
			var batches []store.Batch
			if !s.down || always {
				batches = s.missed(prefix, at, era, cause)
				at, era = s.revision, s.era
				cause = store.NoCause
			}
			s.mu.Unlock()
			for _, b := range batches {
				select {
				case out <- b:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// missed returns what a watcher at that revision has missed.
func (s *Store) missed(prefix string, at int64, era int, cause store.Cause) []store.Batch {
	switch {
	case cause == store.Start:
	case era != s.era:
		cause = s.cause
	case at == s.revision:
		return nil
	case len(s.log) == 0 || s.log[0].Revision > at+1:
		cause = store.Compacted
	default:
		var batches []store.Batch
		for _, b := range s.log {
			if b.Revision <= at {
				continue
			}
			var events []store.Event
			for _, e := range b.Events {
				if strings.HasPrefix(e.Item.Key, prefix) {
					events = append(events, e)
				}
			}
			if len(events) > 0 {
				batches = append(batches, store.Batch{Events: events, Revision: b.Revision, ClusterID: b.ClusterID})
			}
		}
		return batches
	}
	all := s.under(prefix)
	b := store.Batch{Reset: true, Cause: cause, Revision: s.revision, ClusterID: s.cluster, Events: make([]store.Event, len(all))}
	for i, it := range all {
		b.Events[i] = store.Event{Item: it}
	}
	return []store.Batch{b}
}

// State tells how watches stand.
func (s *Store) State() store.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.State{Connected: !s.down, Since: s.since, Revision: s.revision, Observed: s.revision, Endpoint: "memory", ClusterID: s.cluster}
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Leases = (*Store)(nil)
	_ store.Leases = direct{}
)

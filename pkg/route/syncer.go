package route

import (
	"bytes"
	"context"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store"
)

// Syncer follows a store and keeps the snapshot in force up to date. Its methods are
// safe for concurrent use; Run is called once.
type Syncer struct {
	// OnApplied is called after each swap, by Run's goroutine; nil for nothing. It is
	// set before Run.
	OnApplied func(*Snapshot, Report)
	// Follow returns the environment for the stored list of plugins, nil if none is
	// stored; with an error the one in use stays. A nil Follow leaves the list alone. It is
	// called by Run's goroutine and set before Run.
	Follow func(list []byte) (Env, error)

	source   store.Source
	env      Env    // Run's own
	list     []byte // of plugins, which env is for; Run's own
	next     chan environment
	log      zerolog.Logger
	router   Router
	ready    chan struct{}
	observed atomic.Int64
	panics   atomic.Int64
	pace     pace // Run's own
}

// NewSyncer returns a syncer whose router holds an empty snapshot until Run has applied
// the first full state.
func NewSyncer(source store.Source, env Env, log zerolog.Logger) *Syncer {
	s := &Syncer{source: source, env: env, log: log, ready: make(chan struct{}), next: make(chan environment)}
	s.router.current.Store(Empty(env))
	return s
}

// Router holds the snapshot in force.
func (s *Syncer) Router() *Router { return &s.router }

// Ready is closed once the first full state was applied.
func (s *Syncer) Ready() <-chan struct{} { return s.ready }

// stater is a source that tells how its watch stands.
type stater interface{ State() store.State }

// Observed is the revision of the newest configuration that has come from the store, in force
// or not yet: once nothing is pending or held back, it is that of the snapshot. What else is
// kept in the store does not move it.
func (s *Syncer) Observed() int64 {
	seen := s.observed.Load()
	if source, ok := s.source.(stater); ok {
		return max(seen, source.State().Arrived)
	}
	return seen
}

// StoreRevision is the newest revision that the store is known to have. It grows with
// everything that is kept there, records of nodes among it.
func (s *Syncer) StoreRevision() int64 {
	seen := s.Observed()
	if source, ok := s.source.(stater); ok {
		return max(seen, source.State().Observed)
	}
	return seen
}

// Behind is how long the store has been out of reach, 0 while it is in reach or when the
// source cannot tell.
func (s *Syncer) Behind() time.Duration {
	source, ok := s.source.(stater)
	if !ok {
		return 0
	}
	state := source.State()
	if state.Connected || state.Since.IsZero() {
		return 0
	}
	return time.Since(state.Since)
}

// Panics is the number of panics while applying since the start: each cost an item or a
// batch, none the node.
func (s *Syncer) Panics() int64 { return s.panics.Load() }

// environment is an Env on its way to Run.
type environment struct {
	env  Env
	done chan struct{} // closed when it is in force
}

// Use makes Run build everything anew in another environment, with the same prefix and
// router. It returns once that is in force, or with ctx's error: then it may not be.
func (s *Syncer) Use(ctx context.Context, env Env) error {
	e := environment{env, make(chan struct{})}
	select {
	case s.next <- e:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-e.done
	return nil
}

// Run applies what the source reports until ctx ends.
func (s *Syncer) Run(ctx context.Context) {
	batches := s.source.Watch(ctx, s.env.Prefix+"/")
	for {
		select {
		case e := <-s.next:
			s.env = e.env
			s.apply(s.everything(store.Batch{Revision: s.router.Snapshot().revision}), applyAnew)
			close(e.done)
		case b, ok := <-batches:
			if !ok {
				return
			}
			s.observe(b)
			if b, ok = s.drain(ctx, batches, b); !ok {
				continue
			}
			if s.follow(b) {
				s.apply(s.everything(b), applyAnew)
			} else {
				s.apply(b, apply)
			}
		}
	}
}

// follow reports whether b brings another list of plugins, whose environment is then used.
func (s *Syncer) follow(b store.Batch) bool {
	if s.Follow == nil {
		return false
	}
	list := s.list
	if b.Reset {
		list = nil
	}
	for i := range b.Events {
		if e := &b.Events[i]; e.Item.Key == s.env.Prefix+"/plugins" {
			list = e.Item.Value
			if e.Delete {
				list = nil
			}
		}
	}
	if bytes.Equal(list, s.list) {
		return false
	}
	env, err := s.Follow(list)
	if err != nil {
		s.log.Warn().Err(err).Msg("stored list of plugins is not followed")
		return false
	}
	s.list, s.env = bytes.Clone(list), env
	return true
}

// everything is b with whatever is stored before it.
func (s *Syncer) everything(b store.Batch) store.Batch {
	if b.Reset {
		return b
	}
	var events []store.Event
	s.router.Snapshot().stored.walk("", func(_ string, item *store.Item) bool {
		events = append(events, store.Event{Item: *item})
		return true
	})
	b.Events = append(events, b.Events...)
	return b
}

func (s *Syncer) observe(b store.Batch) {
	// A store that was restored from a backup stands lower than before.
	if b.Reset || b.Revision > s.observed.Load() {
		s.observed.Store(b.Revision)
	}
}

// drain adds to b whatever is waiting, and under churn whatever comes until the next
// build is due: building once for many changes is cheaper than once for each. It
// reports false when ctx ended.
func (s *Syncer) drain(ctx context.Context, batches <-chan store.Batch, b store.Batch) (store.Batch, bool) {
	b.Events = slices.Clip(b.Events) // what is appended must not end up in the source's array
	wait := s.pace.wait(time.Now())
	var due <-chan time.Time
	if wait > 0 {
		// Under churn each gap gathers about as much as the one before.
		b.Events = append(make([]store.Event, 0, len(b.Events)+min(s.pace.changes, mostRoom)), b.Events...)
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	for {
		select {
		case more, ok := <-batches:
			if !ok {
				return b, ctx.Err() == nil
			}
			s.observe(more)
			b = join(b, more)
			continue
		default:
		}
		if due == nil {
			return b, true
		}
		select {
		case more, ok := <-batches:
			if !ok {
				return b, ctx.Err() == nil
			}
			s.observe(more)
			b = join(b, more)
		case <-due:
			due = nil
		case <-ctx.Done():
			return b, false
		}
	}
}

// mostRoom is for how many events room is made before they come.
const mostRoom = 8192

// join makes one batch of two that follow each other. The events of a are clipped, or
// this function's own.
func join(a, b store.Batch) store.Batch {
	if b.Reset {
		b.Events = slices.Clip(b.Events)
		return b
	}
	a.Events = append(a.Events, b.Events...)
	a.Revision = b.Revision
	return a
}

// applier is apply or applyAnew.
type applier func(prev *Snapshot, b store.Batch, env Env) (*Snapshot, Report)

// apply builds the next snapshot and swaps it in.
func (s *Syncer) apply(b store.Batch, build applier) {
	prev, begin := s.router.Snapshot(), time.Now()
	next, report, err := s.try(prev, b, build)
	if err {
		next, report = s.oneByOne(prev, b, build)
	}
	s.router.swap(next)
	s.pace.built(begin, time.Now(), len(b.Events))
	s.tell(next, b, report)
	select {
	case <-s.ready:
	default:
		if b.Reset {
			close(s.ready)
		}
	}
	if s.OnApplied != nil {
		s.OnApplied(next, report)
	}
}

func (s *Syncer) try(prev *Snapshot, b store.Batch, build applier) (next *Snapshot, r Report, failed bool) {
	defer func() {
		if v := recover(); v != nil {
			s.panics.Add(1)
			s.log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Int64("revision", b.Revision).
				Msg("applying configuration panicked")
			failed = true
		}
	}()
	next, r = build(prev, b, s.env)
	s.panics.Add(int64(r.Panics))
	return next, r, false
}

// oneByOne applies a batch that panicked as a whole item by item, so that one of them
// is left out and not all. What a Reset no longer has stays: nothing is known to be
// right enough for taking it away.
func (s *Syncer) oneByOne(prev *Snapshot, b store.Batch, build applier) (*Snapshot, Report) {
	sum := Report{Revision: b.Revision, Reset: b.Reset}
	now := prev
	for i := range b.Events {
		e := &b.Events[i]
		next, r, failed := s.try(now, store.Batch{Events: b.Events[i : i+1], Revision: b.Revision}, build)
		if failed {
			quarantined := *now
			rejected := now.rejected.edit()
			bad := Rejected{Key: e.Item.Key, Refused: e.Item.Revision, Reason: "applying it panicked"}
			rest, ok := below(s.env.Prefix, e.Item.Key)
			if !ok {
				rest = e.Item.Key
			}
			if o, ok := now.objects.get(rest); ok {
				bad.InForce = o.item.Revision
			}
			rejected.set(rest, bad)
			quarantined.rejected = rejected.commit()
			now = &quarantined
			sum.Rejected = append(sum.Rejected, bad)
			continue
		}
		now = next
		sum.Changed += r.Changed
		sum.Compiled += r.Compiled
		sum.Rejected = append(sum.Rejected, r.Rejected...)
		sum.Accepted = append(sum.Accepted, r.Accepted...)
		sum.Warnings = append(sum.Warnings, r.Warnings...)
	}
	last := *now
	last.revision = b.Revision
	return &last, sum
}

func (s *Syncer) tell(next *Snapshot, b store.Batch, r Report) {
	for _, item := range r.Rejected {
		s.log.Warn().Str("key", item.Key).Int64("refused", item.Refused).Int64("in_force", item.InForce).
			Str("reason", item.Reason).Msg("item rejected")
	}
	for _, key := range r.Accepted {
		s.log.Info().Str("key", key).Msg("item no longer rejected")
	}
	for _, w := range r.Warnings {
		s.log.Warn().Str("key", w.Key).Msg(w.Text)
	}
	if b.Reset {
		s.log.Info().Int64("revision", r.Revision).Int("items", next.objects.size).Int("changed", r.Changed).
			Int("rejected", next.rejected.size).Msg("full state applied")
	}
}

package lastgood

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is how long a test waits for what must come, never what it must not.
const patience = timetest.Patience

// around is a store whose watches go through a source each, with a directory of its own.
type around struct {
	*memstore.Store
	t *testing.T
}

func (a around) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	s, err := New(Options{Source: a.Store, Dir: a.t.TempDir(), Keys: []string{testSecret}, Wait: time.Millisecond, Get: a.Get, Log: zerolog.Nop()})
	if err != nil {
		a.t.Fatal(err)
	}
	// The last file is written after a test has stopped reading.
	var ending sync.WaitGroup
	a.t.Cleanup(ending.Wait)
	out := make(chan store.Batch)
	batches := s.Watch(ctx, prefix)
	ending.Go(func() {
		defer close(out)
		for b := range batches {
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	})
	return out
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, storetest.Faults) {
		s := memstore.New()
		t.Cleanup(func() { _ = s.Close() })
		return around{s, t}, storetest.Faults{Direct: s.Direct(), Cut: s.SetDown, Compact: s.Compact}
	})
}

// world is a store, and the node before it that is started and stopped.
type world struct {
	t     *testing.T
	store *memstore.Store
	dir   string
	log   *logtest.Log
	// change is what differs in the options.
	change func(*Options)
	// journals are kept, however small files are.
	journals bool

	source  *Source
	batches <-chan store.Batch
	cancel  context.CancelFunc
	// force is what a node that applies the batches has in force.
	force map[string]string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: memstore.New(), dir: filepath.Join(t.TempDir(), "snapshots"), log: &logtest.Log{}}
	t.Cleanup(func() {
		w.stop()
		_ = w.store.Close()
		if t.Failed() {
			t.Log(w.log)
		}
	})
	return w
}

// start starts a node. Files are written at once, and nothing waits for the store but as
// long as change says.
func (w *world) start() {
	w.t.Helper()
	o := Options{Source: w.store, Dir: w.dir, Keys: []string{testSecret}, Get: w.store.Get, Log: zerolog.New(w.log)}
	if w.change != nil {
		w.change(&o)
	}
	s, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	s.settle, s.writeGap, s.pollGap, s.writeShare = 0, 0, time.Millisecond, 0
	if w.journals {
		s.folder.journalFrom = 1
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	w.source, w.cancel, w.force = s, cancel, map[string]string{}
	w.batches = s.Watch(ctx, testPrefix)
}

// patient is a node that waits for the store as long as it takes.
func patient(o *Options) { o.Wait = time.Hour }

// stop ends the node in order.
func (w *world) stop() {
	if w.cancel == nil {
		return
	}
	w.cancel()
	for range w.batches { //nolint:revive // until it is closed
	}
	w.cancel = nil
}

func (w *world) next() store.Batch {
	w.t.Helper()
	b := storetest.Next(w.t, w.batches)
	if b.Reset {
		clear(w.force)
	}
	for _, e := range b.Events {
		if e.Delete {
			delete(w.force, e.Item.Key)
		} else {
			w.force[e.Item.Key] = string(e.Item.Value)
		}
	}
	return b
}

// reset is the next batch, a Reset of that cause.
func (w *world) reset(cause store.Cause, items int) store.Batch {
	w.t.Helper()
	b := w.next()
	if b.Cause != cause || len(b.Events) != items {
		w.t.Fatalf("got %d items because of %q at %d, want %d because of %q", len(b.Events), b.Cause, b.Revision, items, cause)
	}
	return b
}

func (w *world) commit(ops ...store.Op) store.Result {
	w.t.Helper()
	res, err := w.store.Direct().Commit(w.t.Context(), nil, ops)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func set(key, value string) store.Op {
	return store.Op{Key: testPrefix + key, Value: []byte(value)}
}

func del(key string) store.Op { return store.Op{Key: testPrefix + key, Delete: true} }

// fill puts directory markers, as an Admin API does, and n routes.
func (w *world) fill(n int) {
	w.t.Helper()
	w.commit(set("routes/", "init_dir"))
	w.commit(set("upstreams/", "init_dir"))
	for i := range n {
		w.commit(set(fmt.Sprintf("routes/%d", i), fmt.Sprintf(`{"uri":"/%d"}`, i)))
	}
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			w.t.Fatalf("it did not come to pass: %s", what)
		}
	}
}

// held waits until something is held.
func (w *world) held() Held {
	w.t.Helper()
	w.until("it is held", func() bool { return w.source.Status().Held != nil })
	return *w.source.Status().Held
}

// quiet checks that nothing was delivered so far.
func (w *world) quiet() {
	w.t.Helper()
	select {
	case b := <-w.batches:
		w.t.Fatalf("got %+v, want nothing", b)
	default:
	}
}

func (w *world) accept(revision int64) Held {
	w.t.Helper()
	got := make(chan Held, 1)
	failed := make(chan error, 1)
	go func() {
		h, err := w.source.Accept(context.Background(), revision)
		got <- h
		failed <- err
	}()
	w.next()
	if err := <-failed; err != nil {
		w.t.Fatal(err)
	}
	return <-got
}

// served is a node that has n routes in force from the store.
func served(t *testing.T, n int) *world {
	w := newWorld(t)
	w.change = patient
	w.fill(n)
	w.start()
	w.reset(store.Start, n+2)
	return w
}

func TestANodeStartsWithoutTheStore(t *testing.T) {
	w := served(t, 5)
	w.commit(set("routes/0", "changed"))
	w.next()
	w.commit(del("routes/4"))
	last := w.next()
	want := fmt.Sprint(w.force)
	w.stop()

	w.store.SetDown(true)
	w.change = nil
	w.start()
	b := w.reset(store.Disk, 6)
	if b.Revision != last.Revision || b.ClusterID != last.ClusterID || fmt.Sprint(w.force) != want {
		t.Errorf("got %v at %d of cluster %d, want %v at %d of %d", w.force, b.Revision, b.ClusterID, want, last.Revision, last.ClusterID)
	}
	if st := w.source.Status(); st.Origin != OfDisk || st.Saved.IsZero() {
		t.Errorf("got %+v, want it to come from disk", st)
	}
	if st := w.source.State(); st.Connected || st.Since.IsZero() || st.Revision != last.Revision {
		t.Errorf("got %+v, want a store that is away, and revision %d", st, last.Revision)
	}
	w.commit(set("routes/9", "new"))
	w.store.SetDown(false)
	w.reset(store.Start, 7)
	if st := w.source.Status(); st.Origin != OfStore || !w.source.State().Connected {
		t.Errorf("got %+v, want it to come from the store", st)
	}
}

func TestAStoreThatAnswersInTimeComesFirst(t *testing.T) {
	w := served(t, 3)
	w.stop()
	w.commit(set("routes/3", "new"))
	w.start()
	if b := w.reset(store.Start, 6); b.Revision != 7 {
		t.Errorf("got revision %d, want 7", b.Revision)
	}
}

func TestNothingToStartFromIsToldAndWaited(t *testing.T) {
	damaged := func(w *world) {
		w.fill(2)
		w.start()
		w.reset(store.Start, 4)
		w.stop()
		files, _ := filepath.Glob(filepath.Join(w.dir, "*"))
		for _, f := range files {
			if err := os.Truncate(f, 90); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		before func(*world)
		change func(*Options)
		want   string
	}{
		"there is no file":     {func(*world) {}, nil, "has no snapshot"},
		"no file is good":      {damaged, nil, "no snapshot is good: "},
		"none are to be kept":  {func(*world) {}, func(o *Options) { o.Dir = "" }, "no snapshots are kept"},
		"another key is known": {damaged, func(o *Options) { o.Keys = []string{"one-more-key-001"} }, "no snapshot is good: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.before(w)
			w.store.SetDown(true)
			w.change = tt.change
			w.start()
			w.until("it says why", func() bool { return w.source.Status().Waiting != "" })
			if st := w.source.Status(); !strings.Contains(st.Waiting, tt.want) || st.Origin != OfNothing {
				t.Errorf("got %+v, want %q", st, tt.want)
			}
			w.until("the log says why", func() bool { return strings.Contains(w.log.String(), tt.want) })
			w.quiet()
			w.store.SetDown(false)
			if b := w.next(); b.Cause != store.Start {
				t.Errorf("got %+v, want the store's content", b)
			}
			w.until("it waits no more", func() bool { st := w.source.Status(); return st.Waiting == "" && st.Origin == OfStore })
		})
	}
}

func TestADiskThatTakesNothingHarmsNothing(t *testing.T) {
	w := newWorld(t)
	// A file where the directory should be.
	if err := os.WriteFile(w.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.fill(1)
	w.start()
	if b := w.next(); len(b.Events) != 3 {
		t.Fatalf("got %+v", b)
	}
	for i := range 100 {
		w.commit(set("routes/x", fmt.Sprint(i)))
		w.next()
	}
	w.until("errors are counted", func() bool { return w.source.Status().WriteErrors > 1 })
	w.stop()
	if n := strings.Count(w.log.String(), "snapshot cannot be written"); n != 1 || w.force["/apisix/routes/x"] != "99" {
		t.Errorf("%d lines, want 1; %v is in force\n%s", n, w.force, w.log)
	}
	if err := os.Remove(w.dir); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.next()
	w.until("it is written once that works", func() bool { return w.source.Status().Writes > 0 })
}

func TestAContentThatIsOnDiskIsNotWrittenAgain(t *testing.T) {
	w := served(t, 2)
	w.stop()
	w.start()
	w.reset(store.Start, 4)
	w.stop()
	if n := w.source.Status().Writes; n != 0 {
		t.Errorf("it was written %d times", n)
	}
	w.start()
	w.reset(store.Start, 4)
	w.commit(set("routes/0", "other"))
	w.next()
	w.stop()
	if n := w.source.Status().Writes; n != 1 {
		t.Errorf("after a change it was written %d times, want once", n)
	}
}

func TestALostContentIsHeld(t *testing.T) {
	item := func(key string, at int64) store.Item {
		return store.Item{Key: testPrefix + key, Value: []byte("{}"), CreateRevision: at, Revision: at}
	}
	var other []store.Item
	for i := range 10 {
		other = append(other, item(fmt.Sprintf("services/%d", i), int64(i+2)))
	}
	wipe := store.Op{Key: testPrefix, Delete: true, Prefix: true}
	tests := map[string]struct {
		happen func(w *world)
		cause  store.Cause
	}{
		"the store was wiped":                         {func(w *world) { w.store.Restore(nil, 1) }, store.WentBack},
		"it was wiped, and an Admin API came up":      {func(w *world) { w.store.Restore([]store.Item{item("routes/", 2)}, 2) }, store.WentBack},
		"it was wiped and has grown past what we saw": {func(w *world) { w.store.Restore([]store.Item{item("routes/9", 5)}, 900) }, store.OtherCluster},
		"a part of it came back": {func(w *world) {
			w.store.Restore([]store.Item{item("routes/0", 2), item("routes/1", 3)}, 3)
		}, store.WentBack},
		"another cluster, as full of other things": {func(w *world) { w.store.Restore(other, 900) }, store.OtherCluster},
		"everything was removed at once":           {func(w *world) { w.commit(wipe) }, store.Emptied},
		"everything was removed at once, unseen": {func(w *world) {
			w.store.SetDown(true)
			w.commit(wipe)
			w.store.Compact()
			w.store.SetDown(false)
		}, store.Compacted},
		"everything was removed while the node was down": {func(w *world) {
			w.stop()
			w.commit(wipe)
			w.start()
			w.reset(store.Disk, 7)
		}, store.Start},
		"it was wiped while the node was down": {func(w *world) {
			w.stop()
			w.store.Restore(nil, 1)
			w.start()
			w.reset(store.Disk, 7)
		}, store.Start},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := served(t, 5)
			before := fmt.Sprint(w.force)
			tt.happen(w)
			h := w.held()
			if h.Cause != tt.cause || h.InForce != 5 || h.Since.IsZero() {
				t.Errorf("got %+v, want 5 objects in force and %q", h, tt.cause)
			}
			w.quiet()
			if got := fmt.Sprint(w.force); got != before {
				t.Errorf("got %v in force, want %v", got, before)
			}
			w.until("the alarm is raised", func() bool { return strings.Contains(w.log.String(), "has lost most") })
			// What is accepted is the newest.
			newest := w.commit(set("routes/new", "{}"))
			w.until("it is followed", func() bool { return w.source.Status().Held.Revision == newest.Revision })
			if _, err := w.source.Accept(t.Context(), newest.Revision+1); err == nil || !errors.As(err, new(*RevisionError)) {
				t.Errorf("a revision that was never held: got %v", err)
			}
			got := w.accept(newest.Revision)
			if got.Revision != newest.Revision || got.Cause != tt.cause || w.force["/apisix/routes/new"] == "" || len(w.force) > 11 || w.force["/apisix/routes/3"] != "" {
				t.Errorf("accepted %+v, in force: %v", got, w.force)
			}
			if st := w.source.Status(); st.Held != nil || st.Origin != OfStore {
				t.Errorf("got %+v, want nothing held", st)
			}
			if n := strings.Count(w.log.String(), "has lost most"); n != 1 {
				t.Errorf("%d lines of the alarm, want 1\n%s", n, w.log)
			}
			next := w.commit(set("routes/more", "{}"))
			if b := w.next(); b.Reset || b.Revision != next.Revision {
				t.Errorf("after it: got %+v", b)
			}
		})
	}
}

func TestWhatIsNotLostIsNotHeld(t *testing.T) {
	tests := map[string]struct {
		objects int
		happen  func(w *world)
		left    int // objects
	}{
		"a backup that has most of it": {10, func(w *world) {
			items, _, _ := w.store.List(w.t.Context(), testPrefix)
			w.store.Restore(items[:8], 5) // one of them is a marker
		}, 7},
		"half of it is gone": {10, func(w *world) {
			items, _, _ := w.store.List(w.t.Context(), testPrefix)
			w.store.Restore(items[:6], 5)
		}, 5},
		"one object after the other is removed": {6, func(w *world) {
			for i := range 6 {
				w.commit(del(fmt.Sprintf("routes/%d", i)))
			}
		}, 0},
		"one after the other, while the node was away": {6, func(w *world) {
			w.store.SetDown(true)
			for i := range 6 {
				w.commit(del(fmt.Sprintf("routes/%d", i)))
			}
			w.store.Compact()
			w.store.SetDown(false)
		}, 0},
		"one after the other, while the node was down": {6, func(w *world) {
			w.stop()
			for i := range 6 {
				w.commit(del(fmt.Sprintf("routes/%d", i)))
			}
			w.start()
		}, 0},
		"several at once, with what belongs to them": {6, func(w *world) {
			var ops []store.Op
			for i := range 6 {
				ops = append(ops, del(fmt.Sprintf("routes/%d", i)))
			}
			w.commit(ops...)
		}, 0},
		"nothing was in force": {0, func(w *world) { w.store.Restore(nil, 1) }, 0},
		"the guard is off": {6, func(w *world) {
			w.stop()
			w.change = func(o *Options) { patient(o); o.Trust = true }
			w.start()
			w.reset(store.Start, 8)
			w.store.Restore(nil, 1)
		}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := served(t, tt.objects)
			tt.happen(w)
			last := w.commit(set("the-end", ""))
			for {
				if b := w.next(); b.Revision == last.Revision {
					break
				}
			}
			objects := 0
			for key := range w.force {
				if isObject(key) {
					objects++
				}
			}
			if objects != tt.left+1 || w.source.Status().Held != nil {
				t.Errorf("got %v in force and %+v held, want %d objects", w.force, w.source.Status().Held, tt.left)
			}
			if _, err := w.source.Accept(t.Context(), 0); !errors.Is(err, ErrNothingHeld) {
				t.Errorf("accept: got %v, want %v", err, ErrNothingHeld)
			}
		})
	}
}

func TestAContentWithoutMarkersIsHeldWhenSeveralObjectsGoAtOnce(t *testing.T) {
	for objects, want := range map[int]bool{1: false, 2: true} {
		w := newWorld(t)
		w.change = patient
		for i := range objects {
			w.commit(set(fmt.Sprint(i), "{}"))
		}
		w.start()
		w.reset(store.Start, objects)
		w.commit(store.Op{Key: testPrefix, Delete: true, Prefix: true})
		if want {
			w.held()
		} else if b := w.next(); len(b.Events) != objects {
			t.Errorf("of %d objects: got %+v", objects, b)
		}
		w.stop()
	}
}

func TestAHoldSurvivesARestart(t *testing.T) {
	w := served(t, 5)
	w.store.Restore(nil, 1)
	w.held()
	w.stop()
	w.start()
	w.reset(store.Disk, 7)
	if h := w.held(); h.InForce != 5 || h.Cause != store.Start {
		t.Errorf("got %+v", h)
	}
	w.accept(0)
	w.stop()
	w.start()
	w.reset(store.Start, 0)
	if st := w.source.Status(); st.Held != nil {
		t.Errorf("what was accepted is held after a restart: %+v", st.Held)
	}
}

func TestAHoldEndsWhenTheStoreHasItAgain(t *testing.T) {
	w := served(t, 5)
	w.store.Restore(nil, 1)
	w.held()
	w.commit(set("services/1", "{}"), set("services/2", "{}"), set("services/3", "{}"))
	w.commit(set("routes/0", "{}"), set("routes/1", "{}"))
	w.commit(del("routes/1"))
	w.commit(set("routes/1", "{}"))
	last := w.commit(set("routes/3", "{}"))
	b := w.reset(store.WentBack, 6)
	if h := w.source.Status().Held; b.Revision != last.Revision || h != nil && h.Revision != last.Revision {
		t.Errorf("got revision %d, want %d", b.Revision, last.Revision)
	}
	w.commit(set("routes/4", "{}"))
	if b := w.next(); b.Reset || len(b.Events) != 1 {
		t.Errorf("after it: got %+v", b)
	}
}

func TestAHoldEndsWithTheRightBackup(t *testing.T) {
	w := served(t, 5)
	backup, at, err := w.store.List(t.Context(), testPrefix)
	if err != nil {
		t.Fatal(err)
	}
	w.store.Restore(nil, 1)
	w.held()
	w.store.Restore(backup, at)
	w.reset(store.OtherCluster, 7)
}

func TestAWipeAmongOtherChangesIsHeldWhereItHappened(t *testing.T) {
	w := served(t, 3)
	feed := make(chan store.Batch)
	w.stop()
	w.change = func(o *Options) { patient(o); o.Source = fed(feed) }
	w.start()
	event := func(key string, revision int64, gone bool) store.Event {
		return store.Event{Item: store.Item{Key: testPrefix + key, Revision: revision, CreateRevision: revision}, Delete: gone}
	}
	feed <- store.Batch{Reset: true, Cause: store.Start, Revision: 3, ClusterID: 1, Events: []store.Event{
		event("routes/", 1, false), event("routes/0", 2, false), event("routes/1", 3, false), event("routes/2", 3, false),
	}}
	w.reset(store.Start, 4)
	feed <- store.Batch{Revision: 7, ClusterID: 1, Events: []store.Event{
		event("routes/5", 4, false), event("routes/0", 5, true),
		event("routes/", 6, true), event("routes/1", 6, true), event("routes/2", 6, true), event("routes/5", 6, true),
		event("services/1", 7, false),
	}}
	if b := w.next(); b.Reset || b.Revision != 5 || len(b.Events) != 2 {
		t.Errorf("before the wipe: got %+v", b)
	}
	if h := w.held(); h.First != 6 || h.InForce != 3 {
		t.Errorf("got %+v", h)
	}
	w.until("what came after it is known", func() bool { return w.source.Status().Held.Revision == 7 })
	w.accept(0)
	if len(w.force) != 1 {
		t.Errorf("got %v in force, want what came after the wipe", w.force)
	}
}

// fed is a source that a test drives.
type fed chan store.Batch

func (f fed) Watch(ctx context.Context, _ string) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for {
			select {
			case b := <-f:
				select {
				case out <- b:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func TestTheMarkerKeyAcceptsWhatItNames(t *testing.T) {
	const marker = "/apisix-nodes/accept"
	put := func(value string) func(*world) {
		return func(w *world) { w.commit(store.Op{Key: marker, Value: []byte(value)}) }
	}
	wiped := func(w *world) { w.store.Restore(nil, 1) }
	moved := func(w *world) { w.store.Restore(nil, 500) } // another cluster, the second
	tests := map[string]struct {
		before, happen, mark func(*world)
		want                 bool
	}{
		"the revision of the store":                {nil, wiped, put("1"), true},
		"with a line feed, as a shell has it":      {nil, wiped, put("1\n"), true},
		"a revision that the store had before":     {nil, wiped, put("0"), false},
		"a revision that it does not have yet":     {nil, wiped, put("99"), false},
		"the id of a cluster that stayed the same": {nil, wiped, put("0000000000000001"), false},
		"another cluster's id":                     {nil, moved, put("0000000000000003"), false},
		"the id of the cluster that it moved to":   {nil, moved, put("0000000000000002"), true},
		"the id of the cluster that it came from":  {nil, moved, put("0000000000000001"), false},
		"something else":                           {nil, wiped, put("yes"), false},
		"a revision from before the wipe": {
			put("8"), func(w *world) { w.commit(store.Op{Key: testPrefix, Delete: true, Prefix: true}) }, func(*world) {}, false,
		},
		"a revision from before what a backup has": {nil, func(w *world) {
			w.store.Restore([]store.Item{{Key: marker, Value: []byte("2"), CreateRevision: 3, Revision: 3}, {Key: testPrefix + "routes/0", CreateRevision: 4, Revision: 4}}, 5)
		}, func(*world) {}, false},
		"the cluster id, put where the store moves to": {nil, func(w *world) {
			w.store.Restore([]store.Item{{Key: marker, Value: []byte("0000000000000002"), CreateRevision: 400, Revision: 400}}, 500)
		}, func(*world) {}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := served(t, 5)
			if tt.before != nil {
				tt.before(w)
			}
			tt.happen(w)
			if tt.want {
				tt.mark(w)
				if b := w.next(); !b.Reset || len(b.Events) > 1 {
					t.Errorf("got %+v, want what the store holds", b)
				}
				return
			}
			w.held()
			tt.mark(w)
			w.until("the marker is refused", func() bool { return strings.Contains(w.log.String(), "does not name what is held") })
			w.quiet()
			if w.source.Status().Held == nil {
				t.Error("it is not held any more")
			}
		})
	}
}

func TestAKeyIsNeeded(t *testing.T) {
	if _, err := New(Options{Source: memstore.New(), Dir: t.TempDir()}); err == nil {
		t.Error("files would be sealed without a key")
	}
}

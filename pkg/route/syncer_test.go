package route

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
)

// feed is a source that a test drives.
type feed struct{ batches chan store.Batch }

func (f feed) Watch(ctx context.Context, _ string) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for {
			select {
			case b := <-f.batches:
				select {
				case out <- b:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

type running struct {
	*Syncer
	feed    feed
	applied chan Report
	stop    func()
}

func run(t *testing.T, env Env, log zerolog.Logger) *running {
	t.Helper()
	source := feed{make(chan store.Batch, 1000)}
	r := runFrom(t, source, env, log)
	r.feed = source
	return r
}

func runFrom(t *testing.T, source store.Source, env Env, log zerolog.Logger) *running {
	t.Helper()
	return start(t, NewSyncer(source, env, log))
}

// runFollowing runs a syncer that follows the stored list of plugins.
func runFollowing(t *testing.T, env Env, follow func(list []byte) (Env, error)) *running {
	t.Helper()
	source := feed{make(chan store.Batch, 1000)}
	s := NewSyncer(source, env, zerolog.Nop())
	s.Follow = follow
	r := start(t, s)
	r.feed = source
	return r
}

func start(t *testing.T, s *Syncer) *running {
	t.Helper()
	r := &running{Syncer: s, applied: make(chan Report, 1000)}
	r.OnApplied = func(_ *Snapshot, report Report) { r.applied <- report }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			<-done
		})
	}
	t.Cleanup(func() {
		r.stop()
		leaktest.None(t)
	})
	return r
}

// until waits for the report of that revision and returns how many came up to it.
func (r *running) until(t *testing.T, revision int64) (builds int, last Report) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case last = <-r.applied:
			builds++
			if last.Revision >= revision {
				return builds, last
			}
		case <-deadline:
			t.Fatalf("revision %d was not applied", revision)
		}
	}
}

func TestSyncerIsReadyAfterTheFirstFullState(t *testing.T) {
	w := newWorld()
	r := run(t, testEnv(HostURI), zerolog.Nop())
	if s := r.Router().Snapshot(); s == nil || s.Revision() != 0 || s.Match(exchangeOf("GET h/a")) != nil {
		t.Errorf("got snapshot %+v before anything came, want an empty one", s)
	}
	select {
	case <-r.Ready():
		t.Error("got ready before the first full state")
	default:
	}
	w.put("routes/a", uri("/a"))
	r.feed.batches <- w.reset()
	<-r.Ready()
	if got := idOf(r.Router().Snapshot().Match(exchangeOf("GET h/a"))); got != "a" {
		t.Errorf("got route %q, want a", got)
	}
	r.until(t, w.revision)
	r.feed.batches <- w.batch(w.put("routes/b", uri("/b")))
	r.until(t, w.revision)
	if got := idOf(r.Router().Snapshot().Match(exchangeOf("GET h/b"))); got != "b" || r.Observed() != w.revision {
		t.Errorf("got route %q at %d observed, want b at %d", got, r.Observed(), w.revision)
	}
}

func TestSyncerFollowsAStore(t *testing.T) {
	db := memstore.New()
	t.Cleanup(func() { _ = db.Close() })
	put := func(key, value string) int64 {
		t.Helper()
		result, err := db.Commit(t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}})
		if err != nil {
			t.Fatal(err)
		}
		return result.Revision
	}
	put("/apisix/routes/a", uri("/a"))
	put("/apisix2/routes/b", uri("/b")) // another cluster's, in the same store
	r := runFrom(t, db, testEnv(HostURI), zerolog.Nop())
	<-r.Ready()
	r.until(t, put("/apisix/routes/c", uri("/c")))
	s := r.Router().Snapshot()
	for request, want := range map[string]string{"GET h/a": "a", "GET h/b": "", "GET h/c": "c"} {
		if got := idOf(s.Match(exchangeOf(request))); got != want {
			t.Errorf("%q got route %q, want %q", request, got, want)
		}
	}
	if r.Behind() != 0 || r.Observed() != s.Revision() {
		t.Errorf("got %v behind, %d observed, want nothing behind and %d", r.Behind(), r.Observed(), s.Revision())
	}
}

// stating is a feed that tells how its watch stands.
type stating struct {
	feed
	state atomic.Pointer[store.State]
}

func (f *stating) State() store.State { return *f.state.Load() }

// What moves the store and is no configuration is nothing that could be pending.
func TestWhatIsObservedIsTheConfiguration(t *testing.T) {
	w := newWorld()
	source := &stating{feed: feed{make(chan store.Batch, 1000)}}
	source.state.Store(&store.State{})
	r := runFrom(t, source, testEnv(HostURI), zerolog.Nop())
	w.put("routes/a", uri("/a"))
	source.batches <- w.reset()
	r.until(t, w.revision)
	for _, test := range []struct{ arrived, of, observed int64 }{
		{arrived: 1, of: 1, observed: 1},
		{arrived: 1, of: 90, observed: 1},   // records of nodes
		{arrived: 91, of: 91, observed: 91}, // a change that is not taken yet, or held back
	} {
		source.state.Store(&store.State{Connected: true, Arrived: test.arrived, Observed: test.of})
		if got := r.Observed(); got != test.observed || r.StoreRevision() != test.of {
			t.Errorf("got %d observed of %d, want %d of %d", got, r.StoreRevision(), test.observed, test.of)
		}
	}
	w.revision = 90
	source.batches <- w.batch(w.put("routes/a", uri("/b")))
	r.until(t, 91)
	if got := r.Router().Snapshot().Revision(); got != r.Observed() {
		t.Errorf("got revision %d, %d observed", got, r.Observed())
	}
}

func TestSyncerJoinsWhatIsPending(t *testing.T) {
	w := newWorld()
	r := run(t, testEnv(HostURI), zerolog.Nop())
	r.feed.batches <- w.reset()
	<-r.Ready()
	const changes = 500
	for range changes {
		r.feed.batches <- w.batch(w.put("routes/a", uri("/a")))
	}
	builds, last := r.until(t, w.revision)
	if builds > changes/10 || last.Revision != w.revision {
		t.Errorf("got %d builds for %d changes, want few", builds, changes)
	}
}

func TestSyncerFollowsAStoreThatWentBack(t *testing.T) {
	w := newWorld()
	r := run(t, testEnv(HostURI), zerolog.Nop())
	w.revision = 100
	w.put("routes/a", uri("/a"))
	r.feed.batches <- w.reset()
	r.until(t, 101)
	old := newWorld()
	old.put("routes/b", uri("/b"))
	b := old.reset()
	b.Cause = store.WentBack
	r.feed.batches <- b
	r.until(t, 1)
	s := r.Router().Snapshot()
	if s.Revision() != 1 || r.Observed() != 1 || idOf(s.Match(exchangeOf("GET h/b"))) != "b" || s.Match(exchangeOf("GET h/a")) != nil {
		t.Errorf("got revision %d, observed %d, want what the restored store holds", s.Revision(), r.Observed())
	}
}

func TestSyncerSurvivesAPanicAndLogsEachRejectionOnce(t *testing.T) {
	var log bytes.Buffer
	w := newWorld()
	r := run(t, testEnv(HostURI), zerolog.New(&log))
	w.put("routes/boom", routeDoc(`"uri":"/boom","plugins":{"boom":{}}`))
	w.put("routes/a", uri("/a"))
	r.feed.batches <- w.reset()
	r.until(t, w.revision)
	r.feed.batches <- w.batch(w.put("routes/b", uri("/b")))
	r.until(t, w.revision)
	r.stop()
	s := r.Router().Snapshot()
	if idOf(s.Match(exchangeOf("GET h/b"))) != "b" || idOf(s.Match(exchangeOf("GET h/a"))) != "a" || s.Match(exchangeOf("GET h/boom")) != nil {
		t.Error("got neighbours that suffer from a panic")
	}
	if r.Panics() != 1 || s.Rejections() != 1 {
		t.Errorf("got %d panics and %d rejections, want one each", r.Panics(), s.Rejections())
	}
	if n := strings.Count(log.String(), "item rejected"); n != 1 {
		t.Errorf("got %d lines about the rejection, want one:\n%s", n, log.String())
	}
}

func TestABatchThatPanicsIsAppliedItemByItem(t *testing.T) {
	w := newWorld()
	s := NewSyncer(nil, testEnv(HostURI), zerolog.Nop())
	w.put("routes/a", uri("/a"))
	s.apply(w.reset(), apply)
	bad := w.put("routes/bad", uri("/bad"))
	next, report := s.oneByOne(s.router.Snapshot(), w.batch(bad, w.put("routes/c", uri("/c"))), apply)
	if len(report.Rejected) != 0 || idOf(next.Match(exchangeOf("GET h/c"))) != "c" || next.Revision() != w.revision {
		t.Errorf("got %+v at %d, want every item", report, next.Revision())
	}
	// Nothing outside the guard of an item is known to panic; a snapshot that is not whole
	// makes it.
	broken := *s.router.Snapshot()
	broken.counts = nil
	s.router.current.Store(&broken)
	s.apply(w.batch(w.put("routes/d", uri("/d"))), apply)
	now := s.router.Snapshot()
	if list := now.Rejected(); len(list) != 1 || list[0].Key != "/apisix/routes/d" || s.Panics() != 2 {
		t.Errorf("got rejected %+v and %d panics, want the item in quarantine", list, s.Panics())
	}
	if idOf(now.Match(exchangeOf("GET h/a"))) != "a" {
		t.Error("got no route a after the panic, want what was in force")
	}
}

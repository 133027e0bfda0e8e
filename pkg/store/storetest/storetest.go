// Package storetest is the contract of a configuration store as a test suite. Every
// implementation's test calls Run. It knows no implementation.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// Faults is what can be done to a store under test.
type Faults struct {
	Direct  store.Store    // reaches the same content, whatever is cut off
	Cut     func(cut bool) // cuts the store off from the content, or joins it again
	Compact func()         // makes the content forget its history
}

// Away is the name of the test that waits for the time of a store's calls, several times.
const Away = "a store out of reach is not available"

// Run tests stores that open makes, each empty under the prefix "/t/".
func Run(t *testing.T, open func(t *testing.T) (store.Store, Faults)) {
	tests := map[string]func(*testing.T, store.Store){
		"what was put is read back with its revisions":         putAndGet,
		"a list is in key order and knows its revision":        list,
		"an empty prefix is everything":                        everything,
		"a condition that fails is named and changes nothing":  conflicts,
		"a condition on a prefix is about what was put below":  prefixConflicts,
		"of many that create a key one succeeds":               createOnly,
		"a commit is all or nothing":                           atomic,
		"a commit changes a key once":                          twice,
		"a deletion tells what it removed":                     deletions,
		"a key with a time to live goes by itself":             ttl,
		"a key that is put again lives on":                     ttlEnds,
		"keys go with their lease, at once when it is revoked": leaseRevoked,
		"a lease that is not renewed ends with its keys":       leaseEnds,
		"a lease that is renewed keeps its keys":               leaseRenewed,
		"a key that is put again leaves its lease":             leaseLeft,
		"nothing is put with a lease that has ended":           leaseGone,
		"a watch begins with everything there is":              watchStart,
		"a watch delivers changes in order":                    watchChanges,
		"a commit is one batch":                                watchAtomic,
		"a put beside the start of a watch is not lost":        watchRace,
		"a watch ends when its context does":                   watchEnd,
		"a watch ends though nobody reads it":                  watchUnread,
		"a call ends when its context does":                    callEnd,
		"a long list is complete":                              longList,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := open(t)
			test(t, s)
		})
	}
	faults := map[string]func(*testing.T, store.Store, Faults){
		Away: away,
		"what a watch missed it delivers later, no more":               resume,
		"a watch whose history is gone begins anew":                    compacted,
		"a compaction does not concern a watch that is not behind":     compactedInTime,
		"a watch begun while the store is away begins when it is back": startAway,
	}
	for name, test := range faults {
		t.Run(name, func(t *testing.T) {
			s, f := open(t)
			test(t, s, f)
		})
	}
}

func commit(t *testing.T, s store.Store, ops ...store.Op) store.Result {
	t.Helper()
	res, err := s.Commit(t.Context(), nil, ops)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func put(key, value string) store.Op { return store.Op{Key: "/t/" + key, Value: []byte(value)} }

func everything(t *testing.T, s store.Store) {
	commit(t, s, put("a", "1"), store.Op{Key: "/other", Value: []byte("0")})
	items, _, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := Next(t, s.Watch(ctx, ""))
	if len(items) < 2 || len(first.Events) != len(items) {
		t.Errorf("%d items in the list and %d in a watch, want the same, and all", len(items), len(first.Events))
	}
}

func putAndGet(t *testing.T, s store.Store) {
	if _, _, err := s.Get(t.Context(), "/t/a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("before the put: got %v, want %v", err, store.ErrNotFound)
	}
	first := commit(t, s, put("a", "1"))
	if len(first.Prev) != 1 || len(first.Prev[0]) != 0 {
		t.Errorf("a new key replaced %v", first.Prev)
	}
	second := commit(t, s, put("a", "2"))
	if len(second.Prev[0]) != 1 || string(second.Prev[0][0].Value) != "1" {
		t.Errorf("the second put replaced %v", second.Prev)
	}
	it, revision, err := s.Get(t.Context(), "/t/a")
	if err != nil {
		t.Fatal(err)
	}
	want := store.Item{Key: "/t/a", Value: []byte("2"), CreateRevision: first.Revision, Revision: second.Revision}
	if diff := cmp.Diff(want, it); diff != "" || revision < second.Revision {
		t.Errorf("revision %d: %s", revision, diff)
	}
}

func list(t *testing.T, s store.Store) {
	commit(t, s, put("b", "2"), put("a/x", "3"), put("a", "1"))
	last := commit(t, s, store.Op{Key: "/other", Value: []byte("0")})
	items, revision, err := s.List(t.Context(), "/t/")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, it := range items {
		keys = append(keys, it.Key)
	}
	if diff := cmp.Diff([]string{"/t/a", "/t/a/x", "/t/b"}, keys); diff != "" {
		t.Error(diff)
	}
	if revision < last.Revision {
		t.Errorf("revision %d, want at least %d", revision, last.Revision)
	}
}

func conflicts(t *testing.T, s store.Store) {
	at := commit(t, s, put("a", "1")).Revision
	exists := store.Cond{Key: "/t/a", Revision: at}
	for name, cond := range map[string]store.Cond{
		"create only, but it exists": {Key: "/t/a"},
		"another revision":           {Key: "/t/a", Revision: at + 100},
		"a key that is not there":    {Key: "/t/none", Revision: at},
	} {
		_, err := s.Commit(t.Context(), []store.Cond{exists, cond}, []store.Op{put("a", "2")})
		var conflict *store.ConflictError
		if !errors.Is(err, store.ErrConflict) || !errors.As(err, &conflict) || conflict.Cond != cond {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if it, _, _ := s.Get(t.Context(), "/t/a"); string(it.Value) != "1" {
		t.Errorf("the value is %s, want 1", it.Value)
	}
	if _, err := s.Commit(t.Context(), []store.Cond{exists, {Key: "/t/b"}}, []store.Op{put("b", "1")}); err != nil {
		t.Errorf("conditions that hold: %v", err)
	}
}

func prefixConflicts(t *testing.T, s store.Store) {
	at := commit(t, s, put("p/a", "1"), put("p/b", "1"), put("other", "1")).Revision
	below := store.Cond{Key: "/t/p/", Revision: at, Prefix: true}
	try := func(state string, cond store.Cond, holds bool) {
		t.Helper()
		_, err := s.Commit(t.Context(), []store.Cond{{Key: "/t/none"}, cond}, []store.Op{put("x", "1")})
		var conflict *store.ConflictError
		if holds && err != nil || !holds && (!errors.As(err, &conflict) || conflict.Cond != cond) {
			t.Errorf("%s: got %v", state, err)
		}
	}
	try("as it was", below, true)
	try("nothing below", store.Cond{Key: "/t/q/", Prefix: true}, true)
	try("something below, though never seen", store.Cond{Key: "/t/p/", Prefix: true}, false)
	commit(t, s, put("other", "2"), store.Op{Key: "/t/p/b", Delete: true})
	try("after a put elsewhere and a deletion below", below, true)
	commit(t, s, put("p/c", "1"))
	try("after a put below", below, false)
	commit(t, s, store.Op{Key: "/t/p/c", Delete: true})
	try("after that was removed", below, true)
}

func createOnly(t *testing.T, s store.Store) {
	const writers = 8
	errs := make(chan error, writers)
	for i := range writers {
		go func() {
			_, err := s.Commit(context.WithoutCancel(t.Context()), []store.Cond{{Key: "/t/a"}}, []store.Op{put("a", fmt.Sprint(i))})
			errs <- err
		}()
	}
	created := 0
	for range writers {
		switch err := <-errs; {
		case err == nil:
			created++
		case !errors.Is(err, store.ErrConflict):
			t.Errorf("got %v, want %v", err, store.ErrConflict)
		}
	}
	if created != 1 {
		t.Errorf("%d of %d created the key, want 1", created, writers)
	}
}

func twice(t *testing.T, s store.Store) {
	before := commit(t, s, put("p/a", "0")).Revision
	for name, ops := range map[string][]store.Op{
		"two puts":                  {put("p/a", "1"), put("p/a", "2")},
		"a put and a deletion":      {put("p/a", "1"), {Key: "/t/p/a", Delete: true}},
		"a put below what is going": {put("p/b", "1"), {Key: "/t/p/", Delete: true, Prefix: true}},
		"a put without a key":       {{Value: []byte("1")}},
	} {
		if _, err := s.Commit(t.Context(), nil, ops); err == nil || errors.Is(err, store.ErrUnknownOutcome) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	items, _, err := s.List(t.Context(), "/t/")
	if err != nil || len(items) != 1 || items[0].Revision != before {
		t.Errorf("got %v, %v, want what was there before", items, err)
	}
}

func atomic(t *testing.T, s store.Store) {
	res := commit(t, s, put("a", "1"), put("b", "1"))
	for _, key := range []string{"/t/a", "/t/b"} {
		if it, _, err := s.Get(t.Context(), key); err != nil || it.Revision != res.Revision {
			t.Errorf("%s is at %d (%v), want %d", key, it.Revision, err, res.Revision)
		}
	}
	if _, err := s.Commit(t.Context(), []store.Cond{{Key: "/t/a"}}, []store.Op{put("c", "1"), put("d", "1")}); err == nil {
		t.Fatal("the commit went through")
	}
	if items, _, _ := s.List(t.Context(), "/t/"); len(items) != 2 {
		t.Errorf("%d items after a refused commit, want 2", len(items))
	}
}

func deletions(t *testing.T, s store.Store) {
	commit(t, s, put("p", "0"), put("p/a", "1"), put("p/b", "2"), put("q", "3"))
	res := commit(t, s,
		store.Op{Key: "/t/p/", Delete: true, Prefix: true}, store.Op{Key: "/t/p", Delete: true}, store.Op{Key: "/t/none", Delete: true})
	if len(res.Prev[0]) != 2 || len(res.Prev[1]) != 1 || len(res.Prev[2]) != 0 {
		t.Errorf("removed %d, %d and %d, want 2, 1 and 0", len(res.Prev[0]), len(res.Prev[1]), len(res.Prev[2]))
	}
	if items, _, _ := s.List(t.Context(), "/t/"); len(items) != 1 || items[0].Key != "/t/q" {
		t.Errorf("left: %v", items)
	}
}

func ttl(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	commit(t, s, store.Op{Key: "/t/a", Value: []byte("1"), TTL: time.Second})
	if e := w.event(t); e.Delete || e.Item.Key != "/t/a" {
		t.Fatalf("got %v, want the put", e)
	}
	if e := w.event(t); !e.Delete || e.Item.Key != "/t/a" {
		t.Fatalf("got %v, want the deletion", e)
	}
}

func ttlEnds(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	commit(t, s, store.Op{Key: "/t/a", Value: []byte("1"), TTL: time.Second})
	second := commit(t, s, put("a", "2")) // for which a second may be too short
	commit(t, s, store.Op{Key: "/t/b", Value: []byte("1"), TTL: time.Second})
	for {
		e := w.event(t)
		if e.Delete && e.Item.Key == "/t/a" && e.Item.Revision > second.Revision {
			t.Fatal("the time to live of the first put ended the second")
		}
		if e.Delete && e.Item.Key == "/t/b" {
			break // which came later
		}
	}
	if _, _, err := s.Get(t.Context(), "/t/a"); err != nil {
		t.Error(err)
	}
}

// leases of a store: every one has them.
func leases(t *testing.T, s store.Store, ttl time.Duration) (store.Leases, store.LeaseID) {
	t.Helper()
	l, ok := s.(store.Leases)
	if !ok {
		t.Fatalf("%T has no leases", s)
	}
	id, err := l.Grant(t.Context(), ttl)
	if err != nil || id == 0 {
		t.Fatalf("got lease %d, %v", id, err)
	}
	return l, id
}

func leaseRevoked(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	l, id := leases(t, s, time.Hour)
	commit(t, s, store.Op{Key: "/t/a", Value: []byte("1"), Lease: id}, store.Op{Key: "/t/b", Value: []byte("1"), Lease: id})
	commit(t, s, put("c", "1"))
	for range 3 {
		if e := w.event(t); e.Delete {
			t.Fatalf("got %v, want the puts", e)
		}
	}
	if err := l.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e := w.event(t); !e.Delete || e.Item.Key == "/t/c" {
			t.Errorf("got %v, want the deletions of what went with the lease", e)
		}
	}
	if _, _, err := s.Get(t.Context(), "/t/c"); err != nil {
		t.Error(err)
	}
	if err := l.Revoke(t.Context(), id); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func leaseEnds(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	grantAndPut(t, s, "a", time.Second)
	if e := w.event(t); e.Delete {
		t.Fatalf("got %v, want the put", e)
	}
	if e := w.event(t); !e.Delete || e.Item.Key != "/t/a" {
		t.Fatalf("got %v, want the deletion", e)
	}
}

func leaseRenewed(t *testing.T, s store.Store) {
	// On a busy machine a lease may end before its renewal comes.
	timetest.Stretch(t, 2*time.Second, func(ttl time.Duration) error { return renewedFor(t, s, ttl) })
}

// renewedFor renews a lease of ttl beside one that ends.
func renewedFor(t *testing.T, s store.Store, ttl time.Duration) error {
	w := watch(t, s)
	w.next(t)
	// Without renewals it ends before what is granted later, and lasts longer. The keys are this
	// try's own: what an earlier one has left ends meanwhile.
	kept, other := "kept-"+ttl.String(), "other-"+ttl.String()
	id, err := leaseFor(t, s, kept, ttl)
	if err != nil {
		return err
	}
	l, _ := s.(store.Leases)
	ctx, cancel := context.WithCancel(t.Context())
	renewed := make(chan error, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := l.Renew(ctx, id); err != nil && ctx.Err() == nil {
				renewed <- err
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				renewed <- nil
				return
			}
		}
	}()
	defer cancel()
	if _, err := leaseFor(t, s, other, ttl*3/2); err != nil {
		return err
	}
	for {
		e := w.event(t)
		if e.Delete && e.Item.Key == "/t/"+kept {
			return errors.New("a lease that was renewed ended")
		}
		if e.Delete && e.Item.Key == "/t/"+other {
			break
		}
	}
	cancel()
	if err := <-renewed; err != nil {
		return err
	}
	_, _, err = s.Get(t.Context(), "/t/"+kept)
	return err
}

// grantAndPut puts a key with a lease of its own.
func grantAndPut(t *testing.T, s store.Store, key string, ttl time.Duration) (id store.LeaseID) {
	t.Helper()
	timetest.Stretch(t, ttl, func(ttl time.Duration) (err error) {
		id, err = leaseFor(t, s, key, ttl)
		return err
	})
	return id
}

// leaseFor is grantAndPut that gives up where the lease ended before the key was put.
func leaseFor(t *testing.T, s store.Store, key string, ttl time.Duration) (store.LeaseID, error) {
	t.Helper()
	_, id := leases(t, s, ttl)
	_, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/" + key, Value: []byte("1"), Lease: id}})
	return id, err
}

func leaseLeft(t *testing.T, s store.Store) {
	first, second := grantAndPut(t, s, "a", time.Hour), grantAndPut(t, s, "b", time.Hour)
	commit(t, s, store.Op{Key: "/t/a", Value: []byte("2"), Lease: second}, put("b", "2"))
	l, _ := s.(store.Leases)
	if err := l.Revoke(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "/t/a"); err != nil {
		t.Errorf("a key went with the lease that it had before: %v", err)
	}
	if err := l.Revoke(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "/t/a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a key outlived its lease: %v", err)
	}
	if _, _, err := s.Get(t.Context(), "/t/b"); err != nil {
		t.Errorf("a key that was put without a lease went with one: %v", err)
	}
}

func leaseGone(t *testing.T, s store.Store) {
	l, id := leases(t, s, time.Hour)
	if err := l.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	_, before, _ := s.Get(t.Context(), "/t/a")
	if _, err := s.Commit(t.Context(), nil, []store.Op{put("b", "1"), {Key: "/t/a", Value: []byte("1"), Lease: id}}); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("a put got %v, want %v", err, store.ErrNoLease)
	}
	if _, after, err := s.Get(t.Context(), "/t/b"); !errors.Is(err, store.ErrNotFound) || after != before {
		t.Errorf("it changed something: revision %d to %d, %v", before, after, err)
	}
	if err := l.Renew(t.Context(), id); !errors.Is(err, store.ErrNoLease) {
		t.Errorf("a renewal got %v, want %v", err, store.ErrNoLease)
	}
}

// watched is a watch under "/t/".
type watched struct {
	batches <-chan store.Batch
	cancel  context.CancelFunc
	events  []store.Event
	last    int64
}

func watch(t *testing.T, s store.Source) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{batches: s.Watch(ctx, "/t/"), cancel: cancel}
	t.Cleanup(func() {
		cancel()
		for range w.batches { //nolint:revive // until it is closed
		}
	})
	return w
}

// Next waits for a batch of a watch, for tests of single implementations.
func Next(t *testing.T, batches <-chan store.Batch) store.Batch {
	t.Helper()
	select {
	case b, open := <-batches:
		if !open {
			t.Fatal("the watch ended")
		}
		return b
	case <-time.After(patience):
		t.Fatal("no batch came")
	}
	return store.Batch{}
}

// next is the next batch, which must be what the contract says of every batch.
func (w *watched) next(t *testing.T) store.Batch {
	t.Helper()
	b := Next(t, w.batches)
	if b.Reset != (b.Cause != store.NoCause) {
		t.Errorf("reset %v because of %q", b.Reset, b.Cause)
	}
	if b.ClusterID == 0 {
		t.Error("a batch without a cluster id")
	}
	if !b.Reset {
		if len(b.Events) == 0 {
			t.Fatal("a batch of nothing")
		}
		at := w.last + 1
		for _, e := range b.Events {
			if e.Item.Revision < at {
				t.Errorf("%s of revision %d came after %d", e.Item.Key, e.Item.Revision, at)
			}
			at = e.Item.Revision
		}
		if b.Revision < at {
			t.Errorf("a batch of revision %d has an event of %d", b.Revision, at)
		}
	}
	w.last = b.Revision
	return b
}

func (w *watched) event(t *testing.T) store.Event {
	t.Helper()
	for len(w.events) == 0 {
		b := w.next(t)
		if b.Reset {
			t.Fatalf("a reset came: %v", b.Cause)
		}
		w.events = b.Events
	}
	e := w.events[0]
	w.events = w.events[1:]
	return e
}

func watchStart(t *testing.T, s store.Store) {
	first := watch(t, s).next(t)
	if !first.Reset || first.Cause != store.Start || len(first.Events) != 0 {
		t.Errorf("of an empty store: %+v", first)
	}
	commit(t, s, put("a", "1"), put("b", "2"))
	last := commit(t, s, store.Op{Key: "/other", Value: []byte("0")})
	b := watch(t, s).next(t)
	if !b.Reset || len(b.Events) != 2 || b.Revision < last.Revision || b.ClusterID == 0 {
		t.Errorf("got %+v", b)
	}
	if b.Events[0].Item.Key != "/t/a" || string(b.Events[1].Item.Value) != "2" || b.Events[0].Item.CreateRevision == 0 {
		t.Errorf("got %+v", b.Events)
	}
}

func watchChanges(t *testing.T, s store.Store) {
	one, two := watch(t, s), watch(t, s)
	one.next(t)
	two.next(t)
	created := commit(t, s, put("a", "1"))
	changed := commit(t, s, put("a", "2"), put("b", "1"))
	removed := commit(t, s, store.Op{Key: "/t/a", Delete: true})
	want := []string{
		fmt.Sprintf("/t/a=1@%d/%d", created.Revision, created.Revision),
		fmt.Sprintf("/t/a=2@%d/%d", created.Revision, changed.Revision),
		fmt.Sprintf("/t/b=1@%d/%d", changed.Revision, changed.Revision),
		fmt.Sprintf("-/t/a@%d", removed.Revision),
	}
	for _, w := range []*watched{one, two} {
		var got []string
		for range want {
			e := w.event(t)
			if e.Delete {
				got = append(got, fmt.Sprintf("-%s@%d", e.Item.Key, e.Item.Revision))
			} else {
				got = append(got, fmt.Sprintf("%s=%s@%d/%d", e.Item.Key, e.Item.Value, e.Item.CreateRevision, e.Item.Revision))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func watchAtomic(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	res := commit(t, s, put("c", "1"), put("a", "1"), put("b", "1"))
	b := w.next(t)
	if len(b.Events) != 3 || b.Revision != res.Revision {
		t.Errorf("got %d events and revision %d, want 3 and %d", len(b.Events), b.Revision, res.Revision)
	}
}

func watchRace(t *testing.T, s store.Store) {
	const puts = 40
	started := make(chan struct{})
	go func() {
		close(started)
		for i := range puts {
			_, _ = s.Commit(context.Background(), nil, []store.Op{put(fmt.Sprintf("k%02d", i), "1")})
		}
	}()
	<-started
	w := watch(t, s)
	seen := map[string]bool{}
	for len(seen) < puts {
		for _, e := range w.next(t).Events {
			if seen[e.Item.Key] {
				t.Errorf("%s came twice", e.Item.Key)
			}
			seen[e.Item.Key] = true
		}
	}
}

func watchEnd(t *testing.T, s store.Store) {
	w := watch(t, s)
	w.next(t)
	w.cancel()
	select {
	case _, open := <-w.batches:
		if open {
			t.Error("a batch came after the end")
		}
	case <-time.After(patience):
		t.Error("the channel stays open")
	}
}

func watchUnread(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	batches := s.Watch(ctx, "/t/")
	commit(t, s, put("a", "1"))
	cancel()
	end := time.After(patience)
	for {
		select {
		case _, open := <-batches:
			if !open {
				return
			}
		case <-end:
			t.Fatal("the channel stays open")
		}
	}
}

func callEnd(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, getErr := s.Get(ctx, "/t/a")
	_, _, listErr := s.List(ctx, "/t/")
	_, commitErr := s.Commit(ctx, nil, []store.Op{put("a", "1")})
	for name, err := range map[string]error{"get": getErr, "list": listErr, "commit": commitErr} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
}

func away(t *testing.T, s store.Store, f Faults) {
	before := commit(t, s, put("a", "1"))
	f.Cut(true)
	_, _, getErr := s.Get(t.Context(), "/t/a")
	_, _, listErr := s.List(t.Context(), "/t/")
	_, commitErr := s.Commit(t.Context(), nil, []store.Op{put("a", "2")})
	for name, err := range map[string]error{"get": getErr, "list": listErr, "commit": commitErr} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", name, err, store.ErrUnavailable)
		}
	}
	// The reads before it have shown that the store is away: nothing was sent.
	if errors.Is(commitErr, store.ErrUnknownOutcome) {
		t.Errorf("commit: got %v, want certainty", commitErr)
	}
	f.Cut(false)
	it, _, err := s.Get(t.Context(), "/t/a")
	if err != nil || it.Revision != before.Revision {
		t.Errorf("after it: got %+v, %v, want revision %d", it, err, before.Revision)
	}
}

func resume(t *testing.T, s store.Store, f Faults) {
	commit(t, s, put("a", "0"), put("b", "0"))
	w := watch(t, s)
	w.next(t)
	f.Cut(true)
	var want, got []string
	for i := range 20 {
		commit(t, f.Direct, put("a", fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("/t/a=%d", i))
	}
	commit(t, f.Direct, store.Op{Key: "/t/b", Delete: true})
	want = append(want, "/t/b=")
	f.Cut(false)
	for range want {
		e := w.event(t)
		got = append(got, fmt.Sprintf("%s=%s", e.Item.Key, e.Item.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func compacted(t *testing.T, s store.Store, f Faults) {
	commit(t, s, put("a", "1"), put("b", "1"))
	w := watch(t, s)
	w.next(t)
	f.Cut(true)
	commit(t, f.Direct, store.Op{Key: "/t/b", Delete: true})
	last := commit(t, f.Direct, put("a", "2"))
	commit(t, f.Direct, store.Op{Key: "/other", Value: []byte("0")})
	f.Compact()
	f.Cut(false)
	b := w.next(t)
	if b.Cause != store.Compacted || len(b.Events) != 1 || string(b.Events[0].Item.Value) != "2" || b.Revision < last.Revision {
		t.Errorf("got %+v, want a reset because of %q", b, store.Compacted)
	}
	next := commit(t, f.Direct, put("c", "1"))
	if e := w.event(t); e.Item.Key != "/t/c" || e.Item.Revision != next.Revision {
		t.Errorf("after it: got %+v", e)
	}
}

func compactedInTime(t *testing.T, s store.Store, f Faults) {
	w := watch(t, s)
	w.next(t)
	commit(t, f.Direct, put("a", "1"))
	w.event(t)
	f.Compact()
	commit(t, f.Direct, put("b", "1"))
	if e := w.event(t); e.Item.Key != "/t/b" {
		t.Errorf("got %+v", e)
	}
}

func startAway(t *testing.T, s store.Store, f Faults) {
	f.Cut(true)
	w := watch(t, s)
	commit(t, f.Direct, put("a", "1"))
	f.Cut(false)
	if b := w.next(t); b.Cause != store.Start || len(b.Events) != 1 {
		t.Errorf("got %+v, want everything", b)
	}
}

func longList(t *testing.T, s store.Store) {
	const n = 2500
	value := strings.Repeat("v", 100)
	for from := 0; from < n; from += 100 {
		var ops []store.Op
		for i := from; i < from+100; i++ {
			ops = append(ops, put(fmt.Sprintf("k%04d", i), value))
		}
		commit(t, s, ops...)
	}
	items, _, err := s.List(t.Context(), "/t/")
	if err != nil || len(items) != n {
		t.Errorf("%d items, %v", len(items), err)
	}
	if b := watch(t, s).next(t); len(b.Events) != n {
		t.Errorf("a watch begins with %d items", len(b.Events))
	}
}

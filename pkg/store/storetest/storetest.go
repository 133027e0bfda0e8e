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

	"github.com/gosix/gosix/pkg/store"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// Run tests stores that open makes, each empty under the prefix "/t/".
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := map[string]func(*testing.T, store.Store){
		"what was put is read back with its revisions":        putAndGet,
		"a list is in key order and knows its revision":       list,
		"a condition that fails is named and changes nothing": conflicts,
		"a commit is all or nothing":                          atomic,
		"a deletion tells what it removed":                    deletions,
		"a key with a time to live goes by itself":            ttl,
		"a watch begins with everything there is":             watchStart,
		"a watch delivers changes in order":                   watchChanges,
		"a put beside the start of a watch is not lost":       watchRace,
		"a watch ends when its context does":                  watchEnd,
		"a long list is complete":                             longList,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
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

// watched is a watch under "/t/".
type watched struct {
	batches <-chan store.Batch
	cancel  context.CancelFunc
	events  []store.Event
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

func (w *watched) next(t *testing.T) store.Batch {
	t.Helper()
	return Next(t, w.batches)
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

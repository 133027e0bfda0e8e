package memstore

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *Store {
	s := New()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t) })
}

func TestFaults(t *testing.T) {
	set := func(t *testing.T, s *Store, key string) {
		t.Helper()
		if _, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/" + key, Value: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a watcher that lags behind a compaction begins anew", func(t *testing.T) {
		s := open(t)
		w := s.Watch(t.Context(), "/t/")
		storetest.Next(t, w)
		s.SetDown(true)
		s.SetDown(false)
		s.mu.Lock() // nothing is seen between the two
		s.log = append(s.log, store.Batch{Revision: 2})
		s.revision, s.log = 3, nil
		s.items["/t/a"] = store.Item{Key: "/t/a", CreateRevision: 3, Revision: 3}
		s.wake()
		s.mu.Unlock()
		if b := storetest.Next(t, w); !b.Reset || b.Cause != store.Compacted || len(b.Events) != 1 {
			t.Errorf("got %+v", b)
		}
	})
	t.Run("a restored store is delivered whole", func(t *testing.T) {
		s := open(t)
		set(t, s, "a")
		set(t, s, "b")
		w := s.Watch(t.Context(), "/t/")
		storetest.Next(t, w)
		s.Restore([]store.Item{{Key: "/t/a", CreateRevision: 2, Revision: 2}}, 2)
		if b := storetest.Next(t, w); !b.Reset || b.Cause != store.WentBack || len(b.Events) != 1 {
			t.Errorf("got %+v", b)
		}
	})
	t.Run("what is down fails and comes back", func(t *testing.T) {
		s := open(t)
		w := s.Watch(t.Context(), "/t/")
		storetest.Next(t, w)
		s.SetDown(true)
		if _, _, err := s.List(t.Context(), "/t/"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		s.SetDown(false)
		set(t, s, "a")
		if b := storetest.Next(t, w); len(b.Events) != 1 {
			t.Errorf("got %+v", b)
		}
	})
}

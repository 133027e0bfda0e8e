package memstore

import (
	"testing"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, storetest.Faults) {
		s := New()
		t.Cleanup(func() { _ = s.Close() })
		return s, storetest.Faults{Direct: s.Direct(), Cut: s.SetDown, Compact: s.Compact}
	})
}

func TestARestoredStoreIsDeliveredWhole(t *testing.T) {
	backup := store.Item{Key: "/t/a", Value: []byte("1"), CreateRevision: 2, Revision: 2}
	tests := map[string]struct {
		revision int64
		want     store.Cause
	}{
		"a lower revision is a backup":          {revision: 2, want: store.WentBack},
		"the same revision is another cluster":  {revision: 3, want: store.OtherCluster},
		"a higher revision is another cluster":  {revision: 9, want: store.OtherCluster},
		"a revision of nothing is a new backup": {revision: 1, want: store.WentBack},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := New()
			defer func() { _ = s.Close() }()
			for _, key := range []string{"/t/a", "/t/b"} {
				if _, err := s.Commit(t.Context(), nil, []store.Op{{Key: key}}); err != nil {
					t.Fatal(err)
				}
			}
			w := s.Watch(t.Context(), "/t/")
			first := storetest.Next(t, w)
			s.Restore([]store.Item{backup}, test.revision)
			b := storetest.Next(t, w)
			if !b.Reset || b.Cause != test.want || len(b.Events) != 1 || b.Revision != test.revision {
				t.Errorf("got %+v, want a reset because of %q at %d", b, test.want, test.revision)
			}
			if got, want := b.ClusterID != first.ClusterID, test.want == store.OtherCluster; got != want {
				t.Errorf("the cluster id changed: %v, want %v", got, want)
			}
		})
	}
}

package route

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestARevisionIsReachedWithItsSwap(t *testing.T) {
	var r Router
	at := func(revision int64) *Snapshot { return &Snapshot{revision: revision} }
	r.swap(at(5))
	for _, revision := range []int64{0, 4, 5} {
		if got := r.Reach(t.Context(), revision).Revision(); got != 5 {
			t.Errorf("of %d in force: got %d", revision, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	got := make([]int64, 10) // of who waits for 6 to 15
	for i := range got {
		group.Go(func() { got[i] = r.Reach(ctx, int64(6+i)).Revision() })
	}
	waiting := func(n int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; {
			r.mu.Lock()
			now := len(r.waiting)
			r.mu.Unlock()
			if now == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d wait, want %d", now, n)
			}
		}
	}
	waiting(10)
	r.swap(at(8))
	waiting(7)
	r.swap(at(3)) // a store that was restored
	r.swap(at(10))
	waiting(5)
	cancel()
	group.Wait()
	waiting(0)
	for i, revision := range got {
		if want := int64(6 + i); want <= 10 && revision < want || want > 10 && revision != 10 {
			t.Errorf("who waited for %d got %d", want, revision)
		}
	}
}

func BenchmarkReachInForce(b *testing.B) {
	var r Router
	r.swap(&Snapshot{revision: 5})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Reach(b.Context(), 5)
		}
	})
}

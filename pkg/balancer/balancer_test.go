package balancer

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func picker(t testing.TB, algorithm string, targets ...Target) Picker {
	t.Helper()
	p, err := New(Config{algorithm, targets}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoundRobinShares(t *testing.T) {
	tests := map[string]struct {
		targets []Target
		down    []int
		picks   int
		want    map[string]int
	}{
		"shares follow weight over each cycle":      {[]Target{{ID: "a", Weight: 4}, {ID: "b", Weight: 1}}, nil, 10, map[string]int{"a": 8, "b": 2}},
		"a common divisor shortens the cycle":       {[]Target{{ID: "a", Weight: 200}, {ID: "b", Weight: 100}}, nil, 3, map[string]int{"a": 2, "b": 1}},
		"weight zero gets nothing":                  {[]Target{{ID: "a", Weight: 1}, {ID: "b"}}, nil, 6, map[string]int{"a": 6}},
		"all zero is equal":                         {[]Target{{ID: "a"}, {ID: "b"}}, nil, 6, map[string]int{"a": 3, "b": 3}},
		"what is down gets nothing, others exactly": {[]Target{{ID: "a", Weight: 2}, {ID: "b", Weight: 1}, {ID: "c", Weight: 7}}, []int{2}, 9, map[string]int{"a": 6, "b": 3}},
		"all down means all are used":               {[]Target{{ID: "a", Weight: 2}, {ID: "b", Weight: 1}}, []int{0, 1}, 6, map[string]int{"a": 4, "b": 2}},
		"a higher priority takes all":               {[]Target{{ID: "a", Weight: 1}, {ID: "b", Weight: 1, Priority: 1}, {ID: "c", Weight: 1, Priority: 1}}, nil, 6, map[string]int{"b": 3, "c": 3}},
		"a group that is down is passed over":       {[]Target{{ID: "a", Weight: 1}, {ID: "b", Weight: 1, Priority: 1}}, []int{1}, 4, map[string]int{"a": 4}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := picker(t, "roundrobin", tt.targets...)
			for cycle := range 3 {
				got := map[string]int{}
				for range tt.picks {
					var a Attempt
					for _, i := range tt.down {
						a.Down.Add(i)
					}
					i, err := p.Pick(&a)
					if err != nil {
						t.Fatal(err)
					}
					got[tt.targets[i].ID]++
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("cycle %d: %s", cycle, diff)
				}
			}
		})
	}
}

func TestRoundRobinIsExactUnderConcurrency(t *testing.T) {
	p := picker(t, "roundrobin", Target{ID: "a", Weight: 3}, Target{ID: "b", Weight: 1})
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := [2]int{}
	for range 8 {
		wg.Go(func() {
			for range 500 {
				i, _ := p.Pick(&Attempt{})
				mu.Lock()
				got[i]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got != [2]int{3000, 1000} {
		t.Errorf("got %v, want [3000 1000]", got)
	}
}

// The vectors of spec/05 §4.2.
func TestRingIsTheReferences(t *testing.T) {
	ai := picker(t, "chash", Target{ID: "openai", Weight: 4}, Target{ID: "deepseek", Weight: 1}).(*ring)
	if len(ai.points) != 800 {
		t.Errorf("%d points, want 800", len(ai.points))
	}
	for n, want := range []uint32{2454595, 2508567, 14423991} {
		if p := ai.points[n]; p.hash != want || p.target != 0 {
			t.Errorf("point %d is %v, want %d of openai", n, p, want)
		}
	}
	for n, want := range []int{0, 1, 0, 1, 0, 0, 0, 0, 0, 0} {
		key := fmt.Sprintf("index=%d", n+1)
		if got, _ := ai.Pick(&Attempt{Hash: Hash(key)}); got != want {
			t.Errorf("%s goes to %d, want %d", key, got, want)
		}
	}

	nodes := picker(t, "chash", Target{ID: "127.0.0.1:1980", Weight: 1}, Target{ID: "127.0.0.1:1981", Weight: 1}, Target{ID: "127.0.0.1:1982", Weight: 1}).(*ring)
	for n, want := range []point{{0x373c92, 2}, {0x475ccd, 0}, {0x47d461, 0}, {0xa7f6b6, 1}} {
		if nodes.points[n] != want {
			t.Errorf("point %d is %v, want %v", n, nodes.points[n], want)
		}
	}
	for key, want := range map[string]int{"a": 1, "b": 1, "c": 0, "/hello": 1, "jack": 1, "127.0.0.1": 2} {
		if got, _ := nodes.Pick(&Attempt{Hash: Hash(key)}); got != want {
			t.Errorf("%s goes to %d, want %d", key, got, want)
		}
	}
}

func TestRingKeepsTheKeysOfTheOthers(t *testing.T) {
	p := picker(t, "chash", Target{ID: "a", Weight: 1}, Target{ID: "b", Weight: 1}, Target{ID: "c", Weight: 1})
	for n := range 500 {
		hash := Hash(fmt.Sprint("key", n))
		before, _ := p.Pick(&Attempt{Hash: hash})
		a := Attempt{Hash: hash}
		a.Down.Add(1)
		after, _ := p.Pick(&a)
		if before != 1 && after != before || after == 1 {
			t.Fatalf("key %d moved from %d to %d when 1 went down", n, before, after)
		}
	}
}

// What holds for every algorithm.
func TestContract(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			for _, n := range []int{1, 2, 5, 70} {
				targets := make([]Target, n)
				for i := range targets {
					targets[i] = Target{ID: fmt.Sprint("t", i), Weight: 1 + i%3, Priority: i % 2}
				}
				p := picker(t, algorithm, targets...)
				a := Attempt{Hash: 12345}
				last := 1
				for range n {
					i, err := p.Pick(&a)
					if err != nil {
						t.Fatal(err)
					}
					if a.Tried.Has(i) {
						t.Fatalf("%d was picked twice", i)
					}
					if targets[i].Priority > last {
						t.Fatalf("priority %d came after %d", targets[i].Priority, last)
					}
					last = targets[i].Priority
					a.Tried.Add(i)
					p.Done(i, Outcome{Failed: true})
				}
				if _, err := p.Pick(&a); !errors.Is(err, ErrExhausted) {
					t.Errorf("after all were tried: got %v, want %v", err, ErrExhausted)
				}
				if a.Tried.Len() != n {
					t.Errorf("%d tried, want %d", a.Tried.Len(), n)
				}
			}
			p := picker(t, algorithm, Target{ID: "a", Weight: 1}, Target{ID: "b", Weight: 2, Priority: 1})
			var a Attempt // behind an interface it is on the heap; callers keep it with the request
			if n := testing.AllocsPerRun(100, func() {
				a = Attempt{Hash: 7}
				i, _ := p.Pick(&a)
				a.Tried.Add(i)
				_, _ = p.Pick(&a)
			}); n != 0 {
				t.Errorf("a pick allocates %v times", n)
			}
		})
	}
}

func TestNew(t *testing.T) {
	if _, err := New(Config{Algorithm: "dice"}, nil); !errors.Is(err, ErrUnknownAlgorithm) {
		t.Errorf("got %v, want %v", err, ErrUnknownAlgorithm)
	}
	if _, err := picker(t, "chash", Target{ID: "a"}, Target{ID: "b"}).Pick(&Attempt{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("a ring without weights: got %v, want %v", err, ErrExhausted)
	}
	if _, err := picker(t, "roundrobin").Pick(&Attempt{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("no targets: got %v, want %v", err, ErrExhausted)
	}
	t.Run("an equal configuration goes on where the last one stood", func(t *testing.T) {
		targets := []Target{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}}
		before := picker(t, "roundrobin", targets...)
		first, _ := before.Pick(&Attempt{})
		after, err := New(Config{"roundrobin", targets}, before)
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := after.Pick(&Attempt{}); second == first {
			t.Errorf("both picks are %d", first)
		}
	})
}

func TestCache(t *testing.T) {
	c := NewCache(1)
	p := picker(t, "roundrobin", Target{ID: "a", Weight: 1})
	c.Put("a", p)
	if got, ok := c.Get("a"); !ok || got != p {
		t.Errorf("got %v, %v", got, ok)
	}
	c.Put("b", p)
	if _, ok := c.Get("a"); ok {
		t.Error("the oldest is still there")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, algorithm := range Algorithms() {
		b.Run(algorithm, func(b *testing.B) {
			p := picker(b, algorithm, Target{ID: "a", Weight: 4}, Target{ID: "b", Weight: 1}, Target{ID: "c", Weight: 2})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var a Attempt
				for pb.Next() {
					a = Attempt{Hash: 77}
					if _, err := p.Pick(&a); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

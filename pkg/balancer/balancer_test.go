package balancer

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

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

// weighted returns targets a, b, c … of those weights.
func weighted(weights ...int) []Target {
	targets := make([]Target, len(weights))
	for i, w := range weights {
		targets[i] = Target{ID: string(rune('a' + i)), Weight: w}
	}
	return targets
}

func set(indices ...int) (s Set) {
	for _, i := range indices {
		s.Add(i)
	}
	return s
}

// picks returns how often each of n targets comes when a picker is asked that often.
func picks(t *testing.T, p Picker, n, times int, tried, down Set) []int {
	t.Helper()
	got := make([]int, n)
	for range times {
		i, err := p.Pick(&Attempt{Tried: tried, Down: down})
		if err != nil {
			t.Fatal(err)
		}
		p.Done(i, Outcome{})
		got[i]++
	}
	return got
}

func TestRoundRobinShares(t *testing.T) {
	prioritized := func(weights, levels []int) []Target {
		targets := weighted(weights...)
		for i := range targets {
			targets[i].Priority = levels[i]
		}
		return targets
	}
	tests := map[string]struct {
		targets     []Target
		tried, down Set
		want        []int // of one cycle
	}{
		"shares follow weight":                                {weighted(4, 1), Set{}, Set{}, []int{4, 1}},
		"a common divisor shortens the cycle":                 {weighted(200, 100), Set{}, Set{}, []int{2, 1}},
		"weights without a common divisor":                    {weighted(97, 89, 3), Set{}, Set{}, []int{97, 89, 3}},
		"equal weights":                                       {weighted(7, 7, 7), Set{}, Set{}, []int{1, 1, 1}},
		"weight zero gets nothing":                            {weighted(1, 0), Set{}, Set{}, []int{1, 0}},
		"a negative weight gets nothing":                      {weighted(-3, 2), Set{}, Set{}, []int{0, 1}},
		"all zero is equal":                                   {weighted(0, 0), Set{}, Set{}, []int{1, 1}},
		"the only target is used whatever its weight":         {weighted(0), Set{}, Set{}, []int{1}},
		"what is down gets nothing, the others exact shares":  {weighted(2, 1, 7), Set{}, set(2), []int{2, 1, 0}},
		"what is left has a divisor of its own":               {weighted(2, 4, 7), Set{}, set(2), []int{1, 2, 0}},
		"all are down, so all are used":                       {weighted(2, 1), Set{}, set(0, 1), []int{2, 1}},
		"all that have weight are down":                       {weighted(2, 1, 0), Set{}, set(0, 1), []int{2, 1, 0}},
		"what was tried is left out":                          {weighted(2, 1, 3), set(0), Set{}, []int{0, 1, 3}},
		"tried and down are left out":                         {weighted(2, 1, 3), set(0), set(1), []int{0, 0, 1}},
		"all are down and one was tried":                      {weighted(2, 1, 3), set(2), set(0, 1, 2), []int{2, 1, 0}},
		"down says something of targets that are not there":   {weighted(2, 1), Set{}, set(5, 80), []int{2, 1}},
		"a higher priority takes all":                         {prioritized([]int{1, 1, 1}, []int{0, 1, 1}), Set{}, Set{}, []int{0, 1, 1}},
		"a priority below zero is lowest":                     {prioritized([]int{1, 1}, []int{-1, 0}), Set{}, Set{}, []int{0, 1}},
		"a group that was tried is left":                      {prioritized([]int{2, 1, 1}, []int{0, 0, 1}), set(2), Set{}, []int{2, 1, 0}},
		"a group that is down is passed over":                 {prioritized([]int{2, 1, 1}, []int{0, 0, 1}), Set{}, set(2), []int{2, 1, 0}},
		"a group that is down in part keeps its place":        {prioritized([]int{1, 1, 1}, []int{0, 1, 1}), Set{}, set(1), []int{0, 0, 1}},
		"all groups are down, so the highest is used":         {prioritized([]int{1, 2, 1}, []int{0, 1, 1}), Set{}, set(0, 1, 2), []int{0, 2, 1}},
		"a group without weight is no group":                  {prioritized([]int{2, 1, 0}, []int{0, 0, 1}), Set{}, Set{}, []int{2, 1, 0}},
		"groups without any weight are equal inside":          {prioritized([]int{0, 0, 0}, []int{0, 1, 1}), Set{}, Set{}, []int{0, 1, 1}},
		"a group of which one is down and one without weight": {prioritized([]int{1, 1, 0}, []int{0, 1, 1}), Set{}, set(1), []int{1, 0, 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := picker(t, "roundrobin", tt.targets...)
			cycle := 0
			for _, n := range tt.want {
				cycle += n
			}
			for n := range 3 {
				if diff := cmp.Diff(tt.want, picks(t, p, len(tt.want), cycle, tt.tried, tt.down)); diff != "" {
					t.Errorf("cycle %d: %s", n, diff)
				}
			}
		})
	}
}

func TestRoundRobinIsExactInEveryWindow(t *testing.T) {
	for _, weights := range [][]int{{4, 1}, {5, 1, 1}, {3, 2, 2}, {1, 1, 1, 1}, {10, 7, 3, 1}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			p := picker(t, "roundrobin", weighted(weights...)...)
			cycle := 0
			for _, w := range weights {
				cycle += w
			}
			var order []int
			for range 4 * cycle {
				i, err := p.Pick(&Attempt{})
				if err != nil {
					t.Fatal(err)
				}
				order = append(order, i)
			}
			for from := range 3 * cycle {
				got := make([]int, len(weights))
				for _, i := range order[from : from+cycle] {
					got[i]++
				}
				if diff := cmp.Diff(weights, got); diff != "" {
					t.Fatalf("picks %v from %d on: %s", order, from, diff)
				}
			}
		})
	}
}

func TestRoundRobinSpreadsTheTurnsOfTheHeavy(t *testing.T) {
	p := picker(t, "roundrobin", weighted(10, 10, 1)...)
	row, last := 0, -1
	for range 42 {
		i, err := p.Pick(&Attempt{})
		if err != nil {
			t.Fatal(err)
		}
		if i != last {
			row, last = 0, i
		}
		if row++; row > 2 {
			t.Fatalf("target %d comes more than twice in a row", i)
		}
	}
}

func TestRoundRobinGoesRoundEqualWeightsInTheirOrder(t *testing.T) {
	p := picker(t, "roundrobin", weighted(1, 1, 1)...)
	for n := range 9 {
		if i, err := p.Pick(&Attempt{}); err != nil || i != n%3 {
			t.Errorf("pick %d: got %d, %v, want %d", n, i, err, n%3)
		}
	}
}

// Other picks between those of a cycle do not count in it.
func TestRoundRobinCyclesDoNotDisturbEachOther(t *testing.T) {
	p := picker(t, "roundrobin", weighted(3, 2, 1)...)
	whole, healthy, retries := make([]int, 3), make([]int, 3), make([]int, 3)
	count := func(got []int, a Attempt) {
		i, err := p.Pick(&a)
		if err != nil {
			t.Fatal(err)
		}
		got[i]++
	}
	for n := range 12 {
		count(whole, Attempt{})
		if n < 10 {
			count(healthy, Attempt{Down: set(2)})
		}
		if n%3 == 0 {
			count(retries, Attempt{Tried: set(1)})
		}
	}
	if diff := cmp.Diff([][]int{{6, 4, 2}, {6, 4, 0}, {3, 0, 1}}, [][]int{whole, healthy, retries}); diff != "" {
		t.Error(diff)
	}
}

func TestRoundRobinKeepsAFewCycles(t *testing.T) {
	p := picker(t, "roundrobin", weighted(make([]int, 10)...)...).(*roundRobin)
	for n := range 1 << 9 {
		var down Set
		for i := range 9 {
			if n>>i&1 == 1 {
				down.Add(i)
			}
		}
		picks(t, p, 10, 3, Set{}, down)
		if list := p.partial.Load(); list != nil && len(*list) > maxPartial {
			t.Fatalf("%d cycles are kept, want at most %d", len(*list), maxPartial)
		}
	}
}

func TestRoundRobinIsExactUnderConcurrency(t *testing.T) {
	tests := map[string]struct {
		down Set
		want []int
	}{
		"all are up":  {Set{}, []int{3000, 1000, 4000}},
		"one is down": {set(2), []int{6000, 2000, 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := picker(t, "roundrobin", weighted(3, 1, 4)...)
			each := make([][]int, 8)
			var wg sync.WaitGroup
			for n := range each {
				wg.Go(func() { each[n] = picks(t, p, 3, 1000, Set{}, tt.down) })
			}
			wg.Wait()
			got := make([]int, 3)
			for _, one := range each {
				for i, n := range one {
					got[i] += n
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The vectors of spec/05 §4.2.
func TestRingIsTheReferences(t *testing.T) {
	ai := picker(t, "chash", Target{ID: "openai", Weight: 4}, Target{ID: "deepseek", Weight: 1}).(*ring)
	if len(ai.points) != 800 {
		t.Errorf("got %d points, want 800", len(ai.points))
	}
	for n, want := range []uint32{2454595, 2508567, 14423991} {
		if p := ai.points[n]; p.hash() != want || p.target() != 0 {
			t.Errorf("point %d: got %d of %d, want %d of openai", n, p.hash(), p.target(), want)
		}
	}
	for n, want := range []int{0, 1, 0, 1, 0, 0, 0, 0, 0, 0} {
		key := fmt.Sprintf("index=%d", n+1)
		if got, err := ai.Pick(&Attempt{Hash: Hash(key)}); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", key, got, err, want)
		}
	}

	nodes := picker(t, "chash", Target{ID: "127.0.0.1:1980", Weight: 1}, Target{ID: "127.0.0.1:1981", Weight: 1}, Target{ID: "127.0.0.1:1982", Weight: 1}).(*ring)
	if len(nodes.points) != 480 {
		t.Errorf("got %d points, want 480", len(nodes.points))
	}
	for n, want := range []point{0x373c92<<32 | 2, 0x475ccd << 32, 0x47d461 << 32, 0xa7f6b6<<32 | 1} {
		if nodes.points[n] != want {
			t.Errorf("point %d: got %x, want %x", n, nodes.points[n], want)
		}
	}
	for key, want := range map[string]int{"a": 1, "b": 1, "c": 0, "/hello": 1, "jack": 1, "127.0.0.1": 2} {
		if got, err := nodes.Pick(&Attempt{Hash: Hash(key)}); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", key, got, err, want)
		}
	}
}

func TestRingWeights(t *testing.T) {
	tests := map[string]struct {
		weights []int
		want    []int
	}{
		"the common divisor is taken out":     {[]int{300, 100}, []int{3, 1}},
		"one target has one unit":             {[]int{70000}, []int{1}},
		"the largest ring that is not scaled": {[]int{maxUnits - 1, 1}, []int{maxUnits - 1, 1}},
		"weights beyond it are scaled down":   {[]int{7 * maxUnits, 3*maxUnits + 1}, []int{maxUnits * 7 / 10, maxUnits * 3 / 10}},
		"and each keeps at least a unit":      {[]int{maxWeight, 1}, []int{maxUnits - 1, 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, sum := unitsOf(Config{"chash", weighted(tt.weights...)}.members())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			for _, n := range got {
				sum -= n
			}
			if sum != 0 {
				t.Errorf("the sum is %d too high", sum)
			}
		})
	}
	r := picker(t, "chash", weighted(300, 0, 100)...).(*ring)
	points := make([]int, 3)
	for _, p := range r.points {
		points[p.target()]++
	}
	if diff := cmp.Diff([]int{480, 0, 160}, points); diff != "" {
		t.Error(diff)
	}
}

func TestRingGoesRound(t *testing.T) {
	p := picker(t, "chash", weighted(1, 1)...).(*ring)
	first, last := p.points[0], p.points[len(p.points)-1]
	for hash, want := range map[uint32]int{0: first.target(), first.hash(): first.target(), last.hash(): last.target(), last.hash() + 1: first.target(), 1<<32 - 1: first.target()} {
		if got, err := p.Pick(&Attempt{Hash: hash}); got != want || err != nil {
			t.Errorf("hash %x: got %d, %v, want %d", hash, got, err, want)
		}
	}
}

func TestRingKeepsTheKeysOfTheOthers(t *testing.T) {
	p := picker(t, "chash", weighted(1, 1, 1)...)
	for n := range 500 {
		hash := Hash(fmt.Sprint("key", n))
		before, _ := p.Pick(&Attempt{Hash: hash})
		down, _ := p.Pick(&Attempt{Hash: hash, Down: set(1)})
		tried, _ := p.Pick(&Attempt{Hash: hash, Tried: set(1)})
		if before != 1 && down != before || down == 1 || tried != down {
			t.Fatalf("key %d moved from %d to %d when 1 went down and to %d when it was tried", n, before, down, tried)
		}
	}
}

// What holds for every algorithm.
func TestContract(t *testing.T) {
	for _, algorithm := range Algorithms() {
		for _, n := range []int{1, 2, 5, 64, 65, 200} {
			t.Run(fmt.Sprintf("%s of %d", algorithm, n), func(t *testing.T) {
				targets := make([]Target, n)
				for i := range targets {
					targets[i] = Target{ID: fmt.Sprint("t", i), Weight: 1 + i%3, Priority: i % 2}
				}
				p := picker(t, algorithm, targets...)
				t.Run("each is tried once, by priority", func(t *testing.T) { eachOnce(t, p, targets, Set{}) })
				var down Set
				for i := range targets {
					down.Add(i)
				}
				t.Run("all down is none down", func(t *testing.T) { eachOnce(t, p, targets, down) })
				t.Run("what is down is not picked", func(t *testing.T) {
					a := Attempt{Hash: 99, Down: set(0, n-1)}
					healthy := n - a.Down.Len()
					if healthy <= 0 {
						return // then none counts as down
					}
					for range healthy {
						i, err := p.Pick(&a)
						if err != nil {
							t.Fatal(err)
						}
						if a.Tried.Has(i) || a.Down.Has(i) {
							t.Errorf("%d is picked", i)
						}
						a.Tried.Add(i)
					}
					if i, err := p.Pick(&a); !errors.Is(err, ErrExhausted) {
						t.Errorf("got %d, %v, want %v", i, err, ErrExhausted)
					}
				})
				t.Run("many at once", func(t *testing.T) {
					var wg sync.WaitGroup
					for g := range 4 {
						wg.Go(func() { eachOnce(t, p, targets[:n], set(g%n)) })
					}
					wg.Wait()
				})
			})
		}
	}
}

// eachOnce picks until nobody is left.
func eachOnce(t *testing.T, p Picker, targets []Target, down Set) {
	want := len(targets)
	if down.Len() < want {
		want -= down.Len()
	}
	a := Attempt{Hash: 12345, Down: down}
	level := 1
	for range want {
		i, err := p.Pick(&a)
		if err != nil {
			t.Errorf("after %d picks: %v", a.Tried.Len(), err)
			return
		}
		if a.Tried.Has(i) {
			t.Errorf("%d is picked twice", i)
		}
		if targets[i].Priority > level {
			t.Errorf("priority %d comes after %d", targets[i].Priority, level)
		}
		level = targets[i].Priority
		a.Tried.Add(i)
		p.Done(i, Outcome{Failed: true})
	}
	if _, err := p.Pick(&a); !errors.Is(err, ErrExhausted) {
		t.Errorf("after all were tried: got %v, want %v", err, ErrExhausted)
	}
	if a.Tried.Len() != want {
		t.Errorf("got %d tried, want %d", a.Tried.Len(), want)
	}
}

func TestAPickDoesNotAllocate(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			targets := make([]Target, 64)
			for i := range targets {
				targets[i] = Target{ID: fmt.Sprint("t", i), Weight: 1 + i%3, Priority: i / 60}
			}
			p := picker(t, algorithm, targets...)
			var a Attempt // behind an interface it is on the heap; callers keep it with the request
			if n := testing.AllocsPerRun(100, func() {
				a = Attempt{Hash: 7}
				a.Down.Add(60)
				for _, tried := range []int{61, 62, 63} {
					i, err := p.Pick(&a)
					if err != nil {
						t.Fatal(err)
					}
					p.Done(i, Outcome{})
					a.Tried.Add(tried)
				}
				a.Down = Set{}
				_, _ = p.Pick(&a)
			}); n != 0 {
				t.Errorf("got %v allocations, want none", n)
			}
		})
	}
}

func TestNew(t *testing.T) {
	if p, err := New(Config{Algorithm: "dice", Targets: weighted(1)}, nil); !errors.Is(err, ErrUnknownAlgorithm) || p != nil {
		t.Errorf("got %v, %v, want %v", p, err, ErrUnknownAlgorithm)
	}
	if i, err := picker(t, "chash", weighted(0, 0)...).Pick(&Attempt{}); !errors.Is(err, ErrExhausted) {
		t.Errorf("a ring without weights: got %d, %v, want %v", i, err, ErrExhausted)
	}
	for _, algorithm := range Algorithms() {
		p := picker(t, algorithm)
		p.Done(0, Outcome{})
		if i, err := p.Pick(&Attempt{}); !errors.Is(err, ErrExhausted) {
			t.Errorf("%s of no targets: got %d, %v, want %v", algorithm, i, err, ErrExhausted)
		}
	}
}

func TestNewAfterAnother(t *testing.T) {
	targets := func(s string) (list []Target) {
		for _, id := range s {
			list = append(list, Target{ID: string(id), Weight: 1})
		}
		return list
	}
	lower := func(list []Target, i int) []Target {
		list[i].Priority = -1
		return list
	}
	tests := map[string]struct {
		before, after []Target
		picks         int
		want          string // the next IDs
	}{
		"an equal configuration goes on":                    {targets("abc"), targets("abc"), 1, "bcabc"},
		"a list in another order goes on":                   {targets("abc"), targets("cba"), 1, "bcabc"},
		"a new target has its turn last":                    {targets("ab"), targets("xab"), 1, "bxabx"},
		"a target that is gone has none":                    {targets("abc"), targets("ac"), 2, "acac"},
		"other targets do not begin with the first":         {targets("ab"), targets("xy"), 1, "yxyx"},
		"a group of lower priority is added":                {targets("abc"), lower(targets("abcd"), 3), 1, "bcabc"},
		"a group of lower priority is removed":              {lower(targets("abcd"), 3), targets("abc"), 1, "bcabc"},
		"of two groups that stay both go on":                {lower(targets("abcd"), 3), lower(targets("abcd"), 3), 1, "bcabc"},
		"two groups are followed by others":                 {lower(targets("abc"), 0), lower(targets("cba"), 2), 1, "cbcb"},
		"nobody is followed by somebody, from the first on": {nil, targets("ab"), 0, "abab"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := picker(t, "roundrobin", tt.before...)
			if tt.picks > 0 {
				picks(t, before, len(tt.before), tt.picks, Set{}, Set{})
			}
			p, err := New(Config{"roundrobin", tt.after}, before)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for range tt.want {
				i, err := p.Pick(&Attempt{})
				if err != nil {
					t.Fatal(err)
				}
				got += tt.after[i].ID
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("a ring that stays is not made again", func(t *testing.T) {
		before := picker(t, "chash", targets("abc")...)
		same, err := New(Config{"chash", targets("abc")}, before)
		if err != nil || same != before {
			t.Errorf("got another, %v", err)
		}
		other, err := New(Config{"chash", targets("abd")}, before)
		if err != nil || other == before {
			t.Errorf("got the same, %v", err)
		}
	})
	t.Run("another algorithm begins anew", func(t *testing.T) {
		before := picker(t, "chash", targets("abc")...)
		p, err := New(Config{"roundrobin", targets("abc")}, before)
		if err != nil {
			t.Fatal(err)
		}
		if i, err := p.Pick(&Attempt{}); i != 0 || err != nil {
			t.Errorf("got %d, %v, want 0", i, err)
		}
	})
}

func TestSet(t *testing.T) {
	s := set(0, 5, 63, 64, 130, 5)
	for i := range 300 {
		want := i == 0 || i == 5 || i == 63 || i == 64 || i == 130
		if got := s.Has(i); got != want {
			t.Errorf("%d: got %v, want %v", i, got, want)
		}
	}
	if s.Len() != 5 {
		t.Errorf("got length %d, want 5", s.Len())
	}
	var small Set
	if n := testing.AllocsPerRun(10, func() {
		small = Set{}
		for i := range 64 {
			small.Add(i)
		}
	}); n != 0 || small.Len() != 64 {
		t.Errorf("64 targets: got %v allocations and length %d, want 0 and 64", n, small.Len())
	}
}

func TestCache(t *testing.T) {
	c := NewCache(2)
	a, b := picker(t, "roundrobin", weighted(1)...), picker(t, "chash", weighted(1)...)
	c.Put("a", a)
	c.Put("b", b)
	if got, ok := c.Get("a"); !ok || got != a {
		t.Errorf("got %v, %v, want the one that was put", got, ok)
	}
	c.Put("c", a)
	if _, ok := c.Get("b"); ok {
		t.Error("the one that was used longest ago is still there")
	}
	if _, ok := c.Get("a"); !ok {
		t.Error("the one that was used last is gone")
	}
	d := NewCache(0)
	for i := range DefaultCacheSize + 1 {
		d.Put(fmt.Sprint(i), a)
	}
	if _, ok := d.Get("1"); !ok {
		t.Errorf("less than %d are kept", DefaultCacheSize)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, algorithm := range Algorithms() {
		for name, down := range map[string]Set{"all": {}, "one down": set(1)} {
			b.Run(algorithm+"/"+name, func(b *testing.B) {
				p := picker(b, algorithm, weighted(4, 1, 2)...)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					var a Attempt
					for hash := uint32(1); pb.Next(); hash *= 2654435761 {
						a = Attempt{Hash: hash, Down: down}
						i, err := p.Pick(&a)
						if err != nil {
							b.Error(err)
						}
						p.Done(i, Outcome{FirstByte: time.Millisecond})
					}
				})
			})
		}
	}
}

func BenchmarkCacheGet(b *testing.B) {
	c := NewCache(0)
	p := picker(b, "roundrobin", weighted(1, 1)...)
	keys := make([]string, DefaultCacheSize)
	for i := range keys {
		keys[i] = fmt.Sprint("route/", i, "#1")
		c.Put(keys[i], p)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok := c.Get(keys[i%len(keys)]); !ok {
				b.Error("it is not kept")
			}
		}
	})
}

func BenchmarkNewRing(b *testing.B) {
	targets := []Target{{ID: "openai", Weight: 4}, {ID: "deepseek", Weight: 1}}
	for b.Loop() {
		if _, err := New(Config{"chash", targets}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

package balancer

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// take picks n times and ends nothing.
func take(t *testing.T, p Picker, n int, down Set) (got []int) {
	t.Helper()
	for range n {
		i, err := p.Pick(&Attempt{Down: down})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i)
	}
	return got
}

func counted(picks []int, n int) []int {
	sum := make([]int, n)
	for _, i := range picks {
		sum[i]++
	}
	return sum
}

func TestLeastConnFillsByWeight(t *testing.T) {
	tests := map[string]struct {
		weights []int
		down    Set
		picks   int
		want    []int // in flight
	}{
		"equal weights":                         {[]int{1, 1, 1}, Set{}, 30, []int{10, 10, 10}},
		"shares follow weight":                  {[]int{4, 1}, Set{}, 50, []int{40, 10}},
		"weight zero gets nothing":              {[]int{2, 0, 1}, Set{}, 30, []int{20, 0, 10}},
		"no weight at all is equal":             {[]int{0, 0}, Set{}, 20, []int{10, 10}},
		"what is down gets nothing":             {[]int{1, 1, 2}, set(2), 20, []int{10, 10, 0}},
		"all are down, so all are used":         {[]int{1, 1}, set(0, 1), 20, []int{10, 10}},
		"the first goes to the heaviest":        {[]int{2, 1}, Set{}, 1, []int{1, 0}},
		"weights as large as they may be":       {[]int{maxWeight, maxWeight, 1}, Set{}, 1000, []int{500, 500, 0}},
		"a single target takes all there is":    {[]int{7}, Set{}, 5, []int{5}},
		"the order of 3 to 2 is 0, 1, 0, 1, 0":  {[]int{3, 2}, Set{}, 5, []int{3, 2}},
		"a light one waits until it is its due": {[]int{10, 1}, Set{}, 9, []int{9, 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := picker(t, "least_conn", weighted(tt.weights...)...)
			got := counted(take(t, p, tt.picks, tt.down), len(tt.weights))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLeastConnSeesWhoIsDone(t *testing.T) {
	p := picker(t, "least_conn", weighted(1, 1, 1)...)
	take(t, p, 6, Set{}) // two each
	p.Done(1, Outcome{})
	p.Done(1, Outcome{})
	if diff := cmp.Diff([]int{1, 1}, take(t, p, 2, Set{})); diff != "" {
		t.Error(diff)
	}
}

func TestLeastConnSpreadsWhatComesOneByOne(t *testing.T) {
	p := picker(t, "least_conn", weighted(1, 1, 1)...)
	if got := picks(t, p, 3, 3000, Set{}, Set{}); got[0] == 0 || got[1] == 0 || got[2] == 0 {
		t.Errorf("among idle equals some get nothing: %v", got)
	}
}

func TestLeastConnCountsOnOverAChange(t *testing.T) {
	level := func(priority int, targets ...Target) []Target {
		for i := range targets {
			targets[i].Priority = priority
		}
		return targets
	}
	tests := map[string]struct {
		before, after []Target
		want          []int // that the next pick goes to
	}{
		"another order":   {weighted(1, 1), []Target{{ID: "b", Weight: 1}, {ID: "a", Weight: 1}}, []int{0, 0, 0}},
		"a new target":    {weighted(1), weighted(1, 1), []int{1, 1, 1}},
		"another weight":  {weighted(1, 1), weighted(1, 3), []int{1, 1, 1}},
		"priorities come": {weighted(1, 1), append(level(1, Target{ID: "a", Weight: 1}, Target{ID: "b", Weight: 1}), Target{ID: "c", Weight: 1}), []int{1, 1, 1}},
		"priorities go":   {append(level(1, Target{ID: "a", Weight: 1}), Target{ID: "b", Weight: 1}), weighted(1, 1), []int{1, 1, 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := picker(t, "least_conn", tt.before...)
			a := Attempt{Tried: set(1)}
			for range 4 { // all on the target a
				if i, err := before.Pick(&a); i != 0 || err != nil {
					t.Fatalf("got %d, %v", i, err)
				}
			}
			after, err := New(Config{"least_conn", tt.after}, before)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, take(t, after, 3, Set{})); diff != "" {
				t.Error(diff)
			}
			for range 4 { // those that began before the change end
				before.Done(0, Outcome{})
			}
			at := 0
			for i, target := range tt.after {
				if target.ID == "a" {
					at = i
				}
			}
			if got := take(t, after, 1, Set{}); got[0] != at {
				t.Errorf("an idle target is not seen: got %v, want %d", got, at)
			}
		})
	}
}

func TestLeastConnIsExactUnderConcurrency(t *testing.T) {
	p := picker(t, "least_conn", weighted(3, 1)...)
	each := make([][]int, 8)
	var wg sync.WaitGroup
	for n := range each {
		wg.Go(func() { each[n] = take(t, p, 500, Set{}) })
	}
	wg.Wait()
	sum := []int{0, 0}
	for _, one := range each {
		for i, n := range counted(one, 2) {
			sum[i] += n
		}
	}
	if diff := cmp.Diff([]int{3000, 1000}, sum); diff != "" {
		t.Error(diff)
	}
}

// clocked returns an ewma picker whose time a test moves.
func clocked(t *testing.T, targets ...Target) (Picker, *time.Duration) {
	t.Helper()
	p := picker(t, "ewma", targets...)
	now := time.Hour
	for _, q := range groupsOf(p) {
		q.(*ewma).now = func() time.Duration { return now }
	}
	return p, &now
}

func TestEWMATakesTheFasterOfTwo(t *testing.T) {
	const fast, slow = 10 * time.Millisecond, 50 * time.Millisecond
	tests := map[string]struct {
		do   func(p Picker, now *time.Duration)
		want int
	}{
		"the faster": {func(p Picker, _ *time.Duration) {
			p.Done(0, Outcome{FirstByte: slow})
			p.Done(1, Outcome{FirstByte: fast})
		}, 1},
		"the unknown": {func(p Picker, _ *time.Duration) { p.Done(1, Outcome{FirstByte: fast}) }, 0},
		"one that says nothing stays unknown": {func(p Picker, _ *time.Duration) {
			p.Done(1, Outcome{FirstByte: fast})
			p.Done(0, Outcome{})
		}, 0},
		"who was not asked for a minute is unknown": {func(p Picker, now *time.Duration) {
			p.Done(0, Outcome{FirstByte: slow})
			*now += ewmaKeep + time.Second
			p.Done(1, Outcome{FirstByte: fast})
		}, 0},
		"an average fades": {func(p Picker, now *time.Duration) {
			p.Done(0, Outcome{FirstByte: slow})
			*now += 20 * time.Second // slow is 6.8 ms now
			p.Done(1, Outcome{FirstByte: fast})
		}, 0},
		"a new sample counts by what has faded": {func(p Picker, now *time.Duration) {
			p.Done(0, Outcome{FirstByte: fast})
			p.Done(1, Outcome{FirstByte: slow})
			*now += ewmaDecay
			p.Done(0, Outcome{FirstByte: 3 * fast}) // 10/e + 30(1-1/e) = 22.6 ms against 50/e = 18.4
		}, 1},
		"a sample of the same moment counts nothing": {func(p Picker, _ *time.Duration) {
			p.Done(0, Outcome{FirstByte: fast})
			p.Done(1, Outcome{FirstByte: 2 * fast})
			p.Done(0, Outcome{FirstByte: slow})
		}, 0},
		"who fails at once is not fast": {func(p Picker, _ *time.Duration) {
			p.Done(0, Outcome{FirstByte: slow})
			p.Done(1, Outcome{Failed: true, FirstByte: time.Microsecond})
		}, 0},
		"each failure weighs more": {func(p Picker, now *time.Duration) {
			p.Done(0, Outcome{FirstByte: 3 * time.Second})
			p.Done(1, Outcome{Failed: true})
			p.Done(1, Outcome{Failed: true})
			p.Done(1, Outcome{Failed: true})
			*now += time.Second
		}, 0},
		"weights are not asked": {func(p Picker, _ *time.Duration) {
			p.Done(0, Outcome{FirstByte: fast})
			p.Done(1, Outcome{FirstByte: slow})
		}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, now := clocked(t, weighted(1, 1000)...)
			tt.do(p, now)
			for range 20 {
				if got := take(t, p, 1, Set{}); got[0] != tt.want {
					t.Fatalf("got %d, want %d", got[0], tt.want)
				}
			}
		})
	}
}

func TestEWMAKnowsItsTargetsOverAChange(t *testing.T) {
	before, now := clocked(t, weighted(1, 1)...)
	before.Done(0, Outcome{FirstByte: time.Second})
	before.Done(1, Outcome{FirstByte: 2 * time.Second})
	*now += time.Second
	after, err := New(Config{"ewma", []Target{{ID: "b", Weight: 1}, {ID: "a", Weight: 1, Priority: 0}}}, before)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := take(t, after, 1, Set{}); got[0] != 1 {
			t.Fatalf("got %d, want the faster one", got[0])
		}
	}
}

func TestEWMAWithoutWeightsTakesAll(t *testing.T) {
	p := picker(t, "ewma", weighted(0, 0)...)
	if got := picks(t, p, 2, 200, Set{}, Set{}); got[0] == 0 || got[1] == 0 {
		t.Errorf("got %v", got)
	}
	p = picker(t, "ewma", weighted(1, 0)...)
	if got := picks(t, p, 2, 200, Set{}, Set{}); got[1] != 0 {
		t.Errorf("a target without weight gets %v", got)
	}
}

func TestEWMAAsksAllTargets(t *testing.T) {
	p, _ := clocked(t, weighted(1, 1, 1, 1, 1)...)
	for i := range 5 {
		p.Done(i, Outcome{FirstByte: time.Duration(i+1) * time.Second})
	}
	got := counted(take(t, p, 5000, Set{}), 5)
	if got[4] != 0 {
		t.Errorf("the slowest is never the faster of two, got %v", got)
	}
	for i := range 3 {
		if got[i] <= got[i+1] {
			t.Errorf("the faster of two gets more, got %v", got)
		}
	}
}

func TestUnionSharesNothing(t *testing.T) {
	down := set(1, 70)
	for name, s := range map[string]Set{"an empty set": {}, "a larger one": set(3, 200), "a smaller one": set(3)} {
		want := s.Len() + 2
		s.Union(&down)
		s.Add(71)
		if !s.Has(1) || !s.Has(70) || s.Len() != want+1 || down.Has(71) {
			t.Errorf("%s: got %d indices, and the other set has %v", name, s.Len(), down.Has(71))
		}
	}
}

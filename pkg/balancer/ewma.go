package balancer

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// ewma asks two targets at random and takes the one that was faster of late (spec/05
// §4.4): its average of the time to the first byte, in which older samples count less and
// which fades when nothing new comes. A target of which nothing is known counts as the
// fastest, so that it becomes known. Weights decide nothing but that a target without one
// gets nothing.
type ewma struct {
	members []member
	pool    Set
	scores  []*score    // of the members, in their order
	places  map[int]int // in members, by index
	now     func() time.Duration
}

const (
	ewmaDecay = 10 * time.Second // after it a sample counts 1/e
	ewmaKeep  = 60 * time.Second // after it a target is unknown again
	// ewmaFailure is the least that a failure counts: who refuses at once must not look
	// fast.
	ewmaFailure = time.Second
)

// score is a target's average and when it was last touched, in one word so that they
// change together: seconds as a float in the upper half, ticks in the lower; 0: unknown.
type score struct {
	packed atomic.Uint64
	_      [56]byte
}

// ewmaTick is the unit of time in a score: it lasts for more than a year, and is
// restarted by one.
const ewmaTick = 10 * time.Millisecond

var ewmaEpoch = time.Now().Add(-ewmaTick) // so that no tick is 0

func newEWMA(members []member, prev Picker) Picker {
	p := &ewma{
		members: members, pool: poolOf(members), scores: make([]*score, len(members)), places: placesOf(members),
		now: func() time.Duration { return time.Since(ewmaEpoch) },
	}
	known := map[string]*score{}
	for _, q := range groupsOf(prev) {
		if before, ok := q.(*ewma); ok {
			p.now = before.now
			for i, m := range before.members {
				known[m.id] = before.scores[i]
			}
		}
	}
	for i, m := range members {
		if p.scores[i] = known[m.id]; p.scores[i] == nil {
			p.scores[i] = new(score)
		}
	}
	return p
}

// read returns the average as it is now, in seconds.
func (s *score) read(now time.Duration) float64 { return faded(s.packed.Load(), now) }

// faded is a packed average after the time since it was touched.
func faded(packed uint64, now time.Duration) float64 {
	w := fade(packed, now)
	if w == 0 {
		return 0
	}
	return float64(math.Float32frombits(uint32(packed>>32))) * w
}

// fade is what is left of an average, 0 to 1.
func fade(packed uint64, now time.Duration) float64 {
	if packed == 0 {
		return 0
	}
	since := time.Duration(uint32(now/ewmaTick)-uint32(packed)) * ewmaTick
	switch {
	case since > math.MaxUint32/2*ewmaTick:
		return 1 // touched by somebody whose clock was read later
	case since > ewmaKeep:
		return 0
	}
	return math.Exp(-since.Seconds() / ewmaDecay.Seconds())
}

// add takes a sample in.
func (s *score) add(now time.Duration, o Outcome) {
	sample := o.FirstByte
	if sample == 0 {
		sample = o.Duration
	}
	for {
		before := s.packed.Load()
		w, rtt := fade(before, now), sample.Seconds()
		old := faded(before, now)
		after := old + rtt*(1-w)
		if o.Failed {
			// Not an average with what went before: a target that begins to fail is bad
			// now, and twice as bad at each failure.
			after = max(rtt, 2*old, ewmaFailure.Seconds())
		}
		next := uint64(math.Float32bits(float32(min(after, 3600))))<<32 | uint64(uint32(now/ewmaTick))
		if s.packed.CompareAndSwap(before, next) {
			return
		}
	}
}

func (p *ewma) Pick(a *Attempt) (int, error) {
	b := a.bars(&p.pool)
	left := 0
	for i := range p.members {
		if !b.has(p.members[i].index) {
			left++
		}
	}
	switch left {
	case 0:
		return 0, ErrExhausted
	case 1:
		return p.members[p.nth(b, 0)].index, nil
	}
	first := int(rand.Uint32N(uint32(left)))
	second := int(rand.Uint32N(uint32(left - 1)))
	if second >= first {
		second++
	}
	first, second = p.nth(b, first), p.nth(b, second)
	if now := p.now(); p.scores[second].read(now) < p.scores[first].read(now) {
		first = second
	}
	return p.members[first].index, nil
}

// nth returns the place of the n-th member that is not barred.
func (p *ewma) nth(b barred, n int) int {
	for i := range p.members {
		if !b.has(p.members[i].index) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return 0 // there are that many
}

func (p *ewma) Done(i int, o Outcome) {
	if o.FirstByte == 0 && o.Duration == 0 && !o.Failed {
		return // it says nothing
	}
	if at, ok := p.places[i]; ok {
		p.scores[at].add(p.now(), o)
	}
}

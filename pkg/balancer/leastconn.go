package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// leastConn picks the target with the lowest (attempts in flight + 1) / weight (spec/05
// §4.3). An attempt is in flight from its pick until it is done. The counts belong to the
// targets, not to the picker: the next one goes on with them, and attempts that outlive a
// change of configuration end where they began.
type leastConn struct {
	members []member
	pool    Set
	gauges  []*gauge    // of the members, in their order
	places  map[int]int // in members, by index
}

// gauge counts the attempts in flight on one target. Gauges lie on cache lines of their
// own, so that requests to different targets do not disturb each other.
type gauge struct {
	n atomic.Int64
	_ [56]byte
}

// newLeastConn takes over what any picker in prev counted of a target, of whatever
// priority the target was.
func newLeastConn(members []member, prev Picker) Picker {
	p := &leastConn{members: members, pool: poolOf(members), gauges: make([]*gauge, len(members)), places: placesOf(members)}
	known := map[string]*gauge{}
	for _, q := range groupsOf(prev) {
		if before, ok := q.(*leastConn); ok {
			for i, m := range before.members {
				known[m.id] = before.gauges[i]
			}
		}
	}
	for i, m := range members {
		if p.gauges[i] = known[m.id]; p.gauges[i] == nil {
			p.gauges[i] = new(gauge)
		}
	}
	return p
}

// Pick looks at every count and raises the lowest, if it is still what was seen: of two
// requests at once the second sees the first. It begins to look at a random place, or
// among equals the first would always win.
func (p *leastConn) Pick(a *Attempt) (int, error) {
	b := a.bars(&p.pool)
	for {
		best, seen := -1, int64(0)
		at := int(rand.Uint32N(uint32(len(p.members))))
		for range p.members {
			if m := &p.members[at]; !b.has(m.index) {
				n := p.gauges[at].n.Load()
				if best < 0 || (n+1)*int64(p.members[best].weight) < (seen+1)*int64(m.weight) {
					best, seen = at, n
				}
			}
			if at++; at == len(p.members) {
				at = 0
			}
		}
		if best < 0 {
			return 0, ErrExhausted
		}
		if p.gauges[best].n.CompareAndSwap(seen, seen+1) {
			return p.members[best].index, nil
		}
	}
}

func (p *leastConn) Done(i int, _ Outcome) {
	if at, ok := p.places[i]; ok {
		p.gauges[at].n.Add(-1)
	}
}

// placesOf says where in members each index stands.
func placesOf(members []member) map[int]int {
	places := make(map[int]int, len(members))
	for at, m := range members {
		places[m.index] = at
	}
	return places
}

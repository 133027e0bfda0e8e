package balancer

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// roundRobin gives each target exactly its share of any whole cycle, which is as many
// picks as the weights sum to when their common divisor is taken out (spec/00 9). A pick
// is a ticket, drawn with one atomic addition; what it is worth is computed, so that
// nothing is locked.
//
// A cycle is exact only among picks that have the same choice. Those that have not,
// because targets are down or were tried, draw from cycles of their own: the shares stay
// exact over the healthy (spec/00 26), and retries do not disturb those of first tries.
type roundRobin struct {
	members []member // in the order of their turns
	pool    Set
	all     *cycle

	mu      sync.Mutex // is held to change partial
	partial atomic.Pointer[[]*cycle]
}

// maxPartial is how many cycles over parts of the targets are kept. When there are more
// the old ones are dropped, and each part that is still in use begins a new cycle.
const maxPartial = 32

func newRoundRobin(members []member, prev Picker) Picker {
	p := &roundRobin{members: members, pool: poolOf(members)}
	before, ok := prev.(*roundRobin)
	if ok {
		if slices.Equal(before.members, members) {
			return before
		}
		p.members = before.order(members)
	}
	p.all = newCycle(p.members, Set{})
	if ok {
		// Else every change of configuration would send the next request to the first.
		p.all.next.Store(before.all.next.Load())
	}
	return p
}

// order returns members in the order of p's, with new ones at the end: a list that merely
// comes in another order has the same turns.
func (p *roundRobin) order(members []member) []member {
	place := make(map[string]int, len(p.members))
	for i, m := range p.members {
		place[m.id] = i
	}
	of := func(m member) int {
		if i, ok := place[m.id]; ok {
			return i
		}
		return len(place)
	}
	ordered := slices.Clone(members)
	slices.SortStableFunc(ordered, func(a, b member) int { return of(a) - of(b) })
	return ordered
}

func (p *roundRobin) Pick(a *Attempt) (int, error) {
	b := a.bars(&p.pool)
	c := p.find(b)
	if c == nil {
		if b.all(&p.pool) {
			return 0, ErrExhausted
		}
		c = p.begin(b)
	}
	return c.draw(), nil
}

// find returns the cycle over what is not barred, if there is one.
func (p *roundRobin) find(b barred) *cycle {
	if b.are(&p.all.out, &p.pool) {
		return p.all
	}
	if list := p.partial.Load(); list != nil {
		for _, c := range *list {
			if b.are(&c.out, &p.pool) {
				return c
			}
		}
	}
	return nil
}

// begin makes the cycle over what is not barred.
func (p *roundRobin) begin(b barred) *cycle {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(b); c != nil {
		return c
	}
	var out Set
	var left []member
	for _, m := range p.members {
		if b.has(m.index) {
			out.Add(m.index)
		} else {
			left = append(left, m)
		}
	}
	c := newCycle(left, out)
	list := []*cycle{c}
	if old := p.partial.Load(); old != nil && len(*old) < maxPartial {
		list = append(slices.Clone(*old), c)
	}
	p.partial.Store(&list)
	return c
}

func (p *roundRobin) Done(int, Outcome) {}

// cycle is a schedule that repeats. Its turns lie on a line, as many in a row for each
// target as it has weight; tickets step over the line in strides that share no divisor
// with its length, and so meet each turn once before they meet one again.
type cycle struct {
	out     Set // what the cycle leaves out
	targets []int
	ends    []uint64 // where each target's turns end; the last is the length
	stride  uint64

	_    [64]byte // or each draw would take the cache line of the above from other cores
	next atomic.Uint64
}

func newCycle(members []member, out Set) *cycle {
	c := &cycle{out: out, targets: make([]int, len(members)), ends: make([]uint64, len(members))}
	d, length := divisor(members), uint64(0)
	for i, m := range members {
		length += uint64(m.weight / d)
		c.targets[i], c.ends[i] = m.index, length
	}
	c.stride = stride(length)
	if length == uint64(len(members)) {
		c.stride = 1 // equal weights go round in their order
	}
	return c
}

// stride returns the first number from length divided by the golden ratio upwards that has
// no divisor in common with length. Steps of that size spread the turns of each target
// evenly, instead of picking a heavy one many times in a row.
func stride(length uint64) uint64 {
	const golden = 11400714819323198485 // 2^64 divided by the golden ratio
	s, _ := bits.Mul64(length, golden)
	for s = max(s, 1); ; s++ {
		a, b := length, s
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return s
		}
	}
}

// draw takes the next ticket and returns the target whose turn it is.
func (c *cycle) draw() int {
	ticket := c.next.Add(1) - 1
	if len(c.targets) == 1 {
		return c.targets[0]
	}
	length := c.ends[len(c.ends)-1]
	turn := ticket % length
	if c.stride != 1 {
		hi, lo := bits.Mul64(turn, c.stride)
		turn = bits.Rem64(hi, lo, length)
	}
	i, _ := slices.BinarySearch(c.ends, turn+1) // the first that ends behind the turn
	return c.targets[i]
}

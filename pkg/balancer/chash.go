package balancer

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
)

// ring is consistent hashing, point for point the ring of the reference, so that a mixed
// cluster sends a key to one target (spec/05 §4.2). It always holds every target: which
// of them are tried or down is asked at the pick, so that the keys of the others stay.
type ring struct {
	members []member
	pool    Set
	points  []point // sorted
}

// point is a place on the ring: its hash in the upper half, so that points sort by it, and
// the index of its target in the lower.
type point uint64

func (p point) hash() uint32 { return uint32(p >> 32) }
func (p point) target() int  { return int(uint32(p)) }

const pointsPerUnit = 160

// maxUnits bounds a ring to about four million points, 32 MB. Weights that sum to more
// when their common divisor is taken out are scaled down to it. Such a ring is another
// than the reference's, which has no bound.
const maxUnits = 1 << 22 / pointsPerUnit

func newRing(members []member, prev Picker) Picker {
	if before, ok := prev.(*ring); ok && slices.Equal(before.members, members) {
		return before
	}
	r := &ring{members: members, pool: poolOf(members)}
	units, sum := unitsOf(members)
	r.points = make([]point, 0, pointsPerUnit*sum)
	for i, m := range members {
		r.add(m, pointsPerUnit*units[i])
	}
	slices.Sort(r.points)
	return r
}

// unitsOf returns the weights with their common divisor taken out, and their sum.
func unitsOf(members []member) (units []int, sum int) {
	d, whole := divisor(members), uint64(0)
	for _, m := range members {
		whole += uint64(m.weight / d)
	}
	units = make([]int, len(members))
	for i, m := range members {
		units[i] = m.weight / d
		if whole > maxUnits {
			units[i] = max(1, int(uint64(units[i])*maxUnits/whole))
		}
		sum += units[i]
	}
	return units, sum
}

// add puts n points of a target on the ring, each the hash of its name and of the point
// before.
func (r *ring) add(m member, n int) {
	name := crc32.ChecksumIEEE([]byte(strings.ReplaceAll(m.id, ":", "\x00")))
	var last [4]byte
	for range n {
		h := crc32.Update(name, crc32.IEEETable, last[:])
		r.points = append(r.points, point(h)<<32|point(m.index))
		binary.LittleEndian.PutUint32(last[:], h)
	}
}

// Pick goes clockwise from the key's place to the first point whose target may be picked.
func (r *ring) Pick(a *Attempt) (int, error) {
	b := a.bars(&r.pool)
	if b.all(&r.pool) {
		return 0, ErrExhausted // also keeps the walk below finite
	}
	i, _ := slices.BinarySearch(r.points, point(a.Hash)<<32)
	for ; ; i++ {
		if i == len(r.points) {
			i = 0
		}
		if t := r.points[i].target(); !b.has(t) {
			return t, nil
		}
	}
}

func (r *ring) Done(int, Outcome) {}

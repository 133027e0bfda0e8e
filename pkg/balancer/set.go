package balancer

import "math/bits"

// Set is a set of target indices. The zero value is empty. Up to 64 targets it does not
// allocate; beyond, a copy shares memory with its original, and only one of them may be
// added to. It is not safe for concurrent change.
type Set struct {
	low  uint64   // 0 to 63
	high []uint64 // 64 and up
}

// Has reports whether i, which is not negative, is in the set.
func (s *Set) Has(i int) bool { return s.word(i/64)>>(i%64)&1 == 1 }

// Add puts i, which is not negative, into the set.
func (s *Set) Add(i int) {
	if i < 64 {
		s.low |= 1 << i
		return
	}
	w := i/64 - 1
	for len(s.high) <= w {
		s.high = append(s.high, 0)
	}
	s.high[w] |= 1 << (i % 64)
}

// Union puts all of o into the set. It does not share memory with o.
func (s *Set) Union(o *Set) {
	s.low |= o.low
	if len(o.high) == 0 {
		return
	}
	grown := make([]uint64, max(len(s.high), len(o.high)))
	copy(grown, s.high)
	for w, bits := range o.high {
		grown[w] |= bits
	}
	s.high = grown
}

// Len is the number of indices in the set.
func (s *Set) Len() int {
	n := bits.OnesCount64(s.low)
	for _, w := range s.high {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s *Set) words() int { return 1 + len(s.high) }

func (s *Set) word(w int) uint64 {
	if w == 0 {
		return s.low
	}
	if w > len(s.high) {
		return 0
	}
	return s.high[w-1]
}

// covers reports whether all of pool is in the set.
func (s *Set) covers(pool *Set) bool {
	for w := range pool.words() {
		if pool.word(w)&^s.word(w) != 0 {
			return false
		}
	}
	return true
}

// barred is what an attempt must not pick.
type barred struct{ tried, down *Set }

// bars returns what a, which picks from pool, must not. When all of pool is down nothing
// counts as down (spec/00 26): a guess about health must not refuse every request.
func (a *Attempt) bars(pool *Set) barred {
	b := barred{&a.Tried, &a.Down}
	if b.down.covers(pool) {
		b.down = b.tried
	}
	return b
}

func (b barred) has(i int) bool { return b.tried.Has(i) || b.down.Has(i) }

// in is the part of pool that is barred.
func (b barred) in(pool *Set, word int) uint64 {
	return (b.tried.word(word) | b.down.word(word)) & pool.word(word)
}

// all reports whether all of pool is barred.
func (b barred) all(pool *Set) bool {
	for w := range pool.words() {
		if b.in(pool, w) != pool.word(w) {
			return false
		}
	}
	return true
}

// are reports whether exactly the indices in out are barred of pool.
func (b barred) are(out, pool *Set) bool {
	for w := range pool.words() {
		if b.in(pool, w) != out.word(w) {
			return false
		}
	}
	return true
}

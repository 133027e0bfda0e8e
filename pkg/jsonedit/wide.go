package jsonedit

import "math/bits"

const blockSize = 64

// block is what is in some bytes of a string: a bit for each, the first one in the lowest.
type block struct {
	carry    uint64 // 1: the first byte of the next block is escaped
	before   uint64 // not 0: there were backslashes in the blocks that were passed
	quotes   uint64 // that are not escaped
	slashes  uint64 // backslashes
	controls uint64
	broken   uint64 // what is before them does not go on so in UTF-8
	odd      uint64 // escaped, and not by a short sequence
}

// longBegins is the least offset of a string that long scans: characters are seen by up to three
// bytes before them.
const longBegins = 3

// long scans the rest of a string, a block at a time, from behind its quote on. What costs in
// words is the guess where the next escape sequence stands; here none is made, since what is
// escaped in a block is computed for all of it at once. -1: the string is not a good one, and
// words finds out why.
func (s *scanner) long(i int) (end int) {
	var b block
	pair := 0 // where the second half of a surrogate pair stands
	s.escaped = false
	for p := s.p; i < len(p); i += blockSize {
		if n := (len(p) - i) / blockSize; n > 0 {
			passed := pass(&p[i], n, &b)
			if i += passed * blockSize; passed == n {
				i -= blockSize
				s.escaped = s.escaped || b.before != 0
				continue
			}
		} else {
			last(p[i-longBegins:], &b)
		}
		inside := ^b.quotes & (b.quotes - 1) // all bytes before the first quote
		s.escaped = s.escaped || b.before|b.slashes&inside != 0
		if b.controls&inside != 0 || b.broken&(b.quotes^(b.quotes-1)) != 0 {
			return -1
		}
		if odd := b.odd & inside; odd != 0 {
			if pair = s.unicode(i, odd, pair); pair < 0 {
				return -1
			}
		}
		if b.quotes != 0 {
			if end = i + bits.TrailingZeros64(b.quotes); end >= len(p) {
				return -1
			}
			return end + 1
		}
	}
	return -1
}

// last is pass for less than a block at the end of a document, with what is before it. Behind it
// quotes are seen.
func last(p []byte, b *block) {
	var text [longBegins + blockSize]byte
	for n := copy(text[:], p); n < len(text); n++ {
		text[n] = '"'
	}
	pass(&text[longBegins], 1, b)
}

// unicode checks the escape sequences of the block at i of which odd marks the letters. pair is
// where there may be one of a second half, whose first half was seen; what is returned is where
// the next one may be, or -1 if one is wrong.
func (s *scanner) unicode(i int, odd uint64, pair int) int {
	for ; odd != 0; odd &= odd - 1 {
		at := i + bits.TrailingZeros64(odd)
		if at == pair {
			continue
		}
		n, problem := escape(s.p[at-1:])
		if problem != "" {
			return -1
		}
		if n > len(`\u0000`) {
			pair = at + len(`\u0000`)
		}
	}
	return pair
}

// Package jsonedit reads and edits JSON text without decoding it: one strict scan
// validates a document and finds its top-level members, and edits are splices that keep
// every byte they do not name. For who needs the values there is Decode, by the same scan.
// The package does not know what a document means, and it never turns a number into one of
// Go's.
package jsonedit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"unicode/utf8"
)

// Kind is what a JSON value is. The zero value is Invalid: no value at all.
type Kind uint8

// The kinds of values.
const (
	Invalid Kind = iota
	Object
	Array
	String
	Number
	Bool
	Null
)

// Options tell a scan how strict to be. The zero value allows 64 levels and members that
// occur twice.
type Options struct {
	MaxDepth   int  // containers inside one another; 0: 64
	Duplicates bool // refuse a member that occurs twice, in any object at any level
}

const defaultDepth = 64

// SyntaxError is text that is not JSON. Its words are those of the reference's parser
// (spec/00 23); what only this scanner refuses has its own.
type SyntaxError struct {
	Message string
	Offset  int // of what is wrong, in bytes from 0; in Message it is counted from 1
}

func (e *SyntaxError) Error() string { return e.Message }

// DuplicateError is an object that has a member twice (spec/00 7). Names are compared
// after unescaping.
type DuplicateError struct {
	Member string // unescaped
	Offset int    // of the second name, in bytes from 0
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("duplicate member %q at character %d", e.Member, e.Offset+1)
}

// Check validates a whole document: grammar, UTF-8, depth and, if asked for, duplicates.
// The error is a *SyntaxError or a *DuplicateError.
func Check(p []byte, o Options) error {
	s := newScanner(p, o)
	s.document(nil)
	return s.err
}

// scanner walks over a document once. Its methods take the offset where something begins
// and return the one behind it, or -1 when err says why not: an error is rare, and passing
// it up through every level costs more than the scan of what is between.
type scanner struct {
	p       []byte
	max     int
	dups    bool
	escaped bool  // the last string that was scanned has an escape sequence
	named   bool  // the name that member scanned last has one
	keys    []key // names in the objects that are open, innermost last; only with dups
	err     error
}

// key is a member's name in the text, with its quotes.
type key struct {
	Span
	escaped bool
}

func (o *Options) depth() int {
	if o.MaxDepth == 0 {
		return defaultDepth
	}
	return o.MaxDepth
}

func newScanner(p []byte, o Options) scanner {
	s := scanner{p: p, max: o.depth(), dups: o.Duplicates}
	if s.dups {
		s.keys = make([]key, 0, 16)
	}
	return s
}

// document scans one value and what may follow it: nothing. With d the members of a
// top-level object are noted there.
func (s *scanner) document(d *Doc) Kind {
	kind, end := s.value(s.space(0), 0, d)
	if end < 0 {
		return Invalid
	}
	if end = s.space(end); end < len(s.p) {
		s.unexpected("the end", end)
		return Invalid
	}
	return kind
}

func (s *scanner) space(i int) int {
	for i < len(s.p) {
		if c := s.p[i]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return i
		}
		i++
	}
	return i
}

// value scans the value that begins at i.
func (s *scanner) value(i, depth int, d *Doc) (kind Kind, end int) {
	if i >= len(s.p) {
		return Invalid, s.unexpected("value", i)
	}
	switch c := s.p[i]; c {
	case '"':
		end, problem := s.text(i)
		if problem != "" {
			return Invalid, s.fail("value", problem, end)
		}
		return String, end
	case '{':
		return Object, s.object(i, depth+1, d)
	case '[':
		return Array, s.array(i, depth+1, d)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if end = number(s.p, i); end < 0 {
			return Invalid, s.fail("value", invalidNumber, i)
		}
		return Number, end
	case 't':
		if s.word(i, "true") {
			return Bool, i + len("true")
		}
	case 'f':
		if s.word(i, "false") {
			return Bool, i + len("false")
		}
	case 'n':
		if s.word(i, "null") {
			return Null, i + len("null")
		}
	}
	return Invalid, s.unexpected("value", i)
}

// word reports whether w stands at i. What follows is not looked at: to the reference's
// parser "nullx" is a null and then a bad token.
func (s *scanner) word(i int, w string) bool {
	return len(s.p)-i >= len(w) && string(s.p[i:i+len(w)]) == w
}

// tooDeep is the error of the container at i when it is one too many inside others.
func (s *scanner) tooDeep(i, depth int) int {
	s.err = &SyntaxError{fmt.Sprintf("Found too many nested data structures (%d) at character %d", depth, i+1), i}
	return -1
}

func (s *scanner) object(i, depth int, d *Doc) int {
	if depth > s.max {
		return s.tooDeep(i, depth)
	}
	i = s.space(i + 1)
	if i < len(s.p) && s.p[i] == '}' {
		return i + 1
	}
	mark := len(s.keys)
	var seen *nameSet
	var likely uint64 // a bit for each name that was seen
	for {
		if i >= len(s.p) || s.p[i] != '"' {
			return s.unexpected("object key string", i)
		}
		name := key{Span: Span{Start: i}}
		end, problem := s.text(i)
		if problem != "" {
			return s.fail("object key string", problem, end)
		}
		name.End, name.escaped = end, s.escaped
		if s.dups {
			bit := uint64(1) << ((end - i ^ int(s.p[i+1])<<1 ^ int(s.p[end-2])) & 63)
			if name.escaped {
				bit = ^uint64(0)
			}
			if likely&bit == 0 && len(s.keys)-mark < manyKeys {
				s.keys = append(s.keys, name) // no other has its length and ends
			} else if seen = s.unique(name, mark, seen); s.err != nil {
				return -1
			}
			likely |= bit
		}
		if i = s.space(end); i >= len(s.p) || s.p[i] != ':' {
			return s.unexpected("colon", i)
		}
		i = s.space(i + 1)
		kind, end := String, 0
		if i < len(s.p) && s.p[i] == '"' { // most are, and value costs a call more
			if end, problem = s.text(i); problem != "" {
				return s.fail("value", problem, end)
			}
		} else if kind, end = s.value(i, depth, nil); end < 0 {
			return -1
		}
		if d != nil {
			d.members = append(d.members, Member{Name: view(s.name(name)), Key: name.Span, Value: Span{i, end}, Kind: kind})
		}
		i = s.space(end)
		if i < len(s.p) {
			switch s.p[i] {
			case ',':
				i = s.space(i + 1)
				continue
			case '}':
				s.keys = s.keys[:mark]
				return i + 1
			}
		}
		return s.unexpected("comma or object end", i)
	}
}

// member scans a member that begins at i: its name ends at from, its value is what is
// between value and end.
func (s *scanner) member(i int) (from, value int, kind Kind, end int) {
	if i >= len(s.p) || s.p[i] != '"' {
		return 0, 0, Invalid, s.unexpected("object key string", i)
	}
	from, problem := s.text(i)
	if problem != "" {
		return 0, 0, Invalid, s.fail("object key string", problem, from)
	}
	s.named = s.escaped
	if i = s.space(from); i >= len(s.p) || s.p[i] != ':' {
		return 0, 0, Invalid, s.unexpected("colon", i)
	}
	value = s.space(i + 1)
	kind, end = s.value(value, 1, nil)
	return from, value, kind, end
}

func (s *scanner) array(i, depth int, d *Doc) int {
	if depth > s.max {
		return s.tooDeep(i, depth)
	}
	i = s.space(i + 1)
	if i < len(s.p) && s.p[i] == ']' {
		return i + 1
	}
	for {
		_, end := s.value(i, depth, nil)
		if end < 0 {
			return -1
		}
		if d != nil {
			d.elements++
		}
		i = s.space(end)
		if i < len(s.p) {
			switch s.p[i] {
			case ',':
				i = s.space(i + 1)
				continue
			case ']':
				return i + 1
			}
		}
		return s.unexpected("comma or array end", i)
	}
}

// manyKeys is from where on comparing a name with every other costs more than a set.
const manyKeys = 24

// nameSet holds the hashes of an object's names. Names themselves would be copies of what
// the document already has.
type nameSet struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

// unique notes a name of the object whose names begin at mark; one that is there already
// is an error.
func (s *scanner) unique(k key, mark int, seen *nameSet) *nameSet {
	if seen == nil || seen.add(s.name(k)) {
		// With a set this is a duplicate, or a collision of hashes.
		for _, other := range s.keys[mark:] {
			if s.same(k, other) {
				s.err = &DuplicateError{string(s.name(k)), k.Start}
				return nil
			}
		}
	}
	s.keys = append(s.keys, k)
	if seen == nil && len(s.keys)-mark > manyKeys {
		seen = &nameSet{maphash.MakeSeed(), make(map[uint64]struct{}, 4*manyKeys)}
		for _, other := range s.keys[mark:] {
			seen.add(s.name(other))
		}
	}
	return seen
}

func (n *nameSet) add(name []byte) (had bool) {
	h := maphash.Bytes(n.seed, name)
	if _, had = n.hashes[h]; !had {
		n.hashes[h] = struct{}{}
	}
	return had
}

// same reports whether two names are equal after unescaping.
func (s *scanner) same(a, b key) bool {
	if !a.escaped && !b.escaped {
		return a.End-a.Start == b.End-b.Start && string(s.p[a.Start:a.End]) == string(s.p[b.Start:b.End])
	}
	return bytes.Equal(s.name(a), s.name(b))
}

// name is a name unescaped; without escapes it aliases the document.
func (s *scanner) name(k key) []byte {
	raw := s.p[k.Start+1 : k.End-1]
	if !k.escaped {
		return raw
	}
	return appendUnescaped(make([]byte, 0, len(raw)), raw)
}

const (
	endOfString    = "unexpected end of string"
	invalidToken   = "invalid token"
	invalidNumber  = "invalid number"
	invalidEscape  = "invalid escape code"
	invalidUnicode = "invalid unicode escape code"
	invalidUTF8    = "invalid utf-8"
)

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// special marks, in the high bit of each of eight bytes, those that end a run of plain
// text: quote, backslash, control character. Marks above the lowest may be wrong, since
// the subtractions borrow. One comparison finds both quotes and control characters: with
// this bit turned they are what is below '!'.
func special(w uint64) uint64 {
	const bit = '"' ^ ' '
	slash := w ^ (ones * '\\')
	return (((w^(ones*bit))-ones*'!')&^w | (slash-ones)&^slash) & highs
}

// shortText is up to where a string is looked at eight bytes at a time before it counts as a
// long one: names hardly ever have more.
const shortText = 32

// text scans the string that begins at i. If there is a problem, end is where.
func (s *scanner) text(i int) (end int, problem string) {
	p, before := s.p, uint64(0)
	for at, last := i+1, min(i+1+shortText, len(p))-8; at <= last; at += 8 {
		w := binary.LittleEndian.Uint64(p[at : at+8])
		m := special(w)
		if m == 0 {
			before |= w
			continue
		}
		n := bits.TrailingZeros64(m) >> 3
		switch c := p[at+n]; {
		case c == '"' && (before|w&(1<<(8*n&63)-1))&highs == 0:
			s.escaped = false
			return at + n + 1, "" // most are short and plain
		case c == '\\':
			return s.rest(i)
		}
		return s.words(i)
	}
	return s.rest(i)
}

// rest is text for what is not short and plain.
func (s *scanner) rest(i int) (end int, problem string) {
	if wide && i+1 >= longBegins && len(s.p)-i > shortText {
		if end = s.long(i + 1); end > 0 {
			return end, ""
		}
	}
	return s.words(i)
}

// words is text, eight bytes at a time.
func (s *scanner) words(i int) (end int, problem string) {
	p, start := s.p, i
	s.escaped = false
	var all uint64 // all bytes of the string or-ed: is there one beyond ASCII?
	for i++; ; {
		for len(p)-i >= 8 {
			w := binary.LittleEndian.Uint64(p[i : i+8])
			m := special(w)
			if m == 0 {
				all |= w
				i += 8
				continue
			}
			n := bits.TrailingZeros64(m) >> 3
			all |= w & (1<<(8*n&63) - 1)
			if i += n; p[i] != '\\' || i+1 >= len(p) || !isShortEscape(p[i+1]) {
				break
			}
			s.escaped = true
			i += 2
		}
		if i >= len(p) {
			return i, endOfString
		}
		switch c := p[i]; {
		case c == '"':
			if all&highs != 0 && !utf8.Valid(p[start:i]) {
				return start + validPrefix(p[start:i]), invalidUTF8
			}
			return i + 1, ""
		case c == '\\':
			s.escaped = true
			if i+1 < len(p) && isShortEscape(p[i+1]) {
				i += 2
				continue
			}
			n, problem := escape(p[i:])
			if problem != "" {
				return i, problem
			}
			i += n
		case c < ' ':
			return i, invalidToken
		default: // one of the last seven bytes of the document
			all |= uint64(c)
			i++
		}
	}
}

// validPrefix is the length of what is UTF-8 at the start of p.
func validPrefix(p []byte) (n int) {
	for n < len(p) {
		r, size := utf8.DecodeRune(p[n:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		n += size
	}
	return n
}

// isShortEscape reports whether a backslash and c are an escape sequence. Prose is full of
// them, hence no switch: c is looked up among the 64 letters it can be.
func isShortEscape(c byte) bool {
	const low uint64 = 1<<'"' | 1<<'/'
	const high uint64 = 1<<('\\'-64) | 1<<('b'-64) | 1<<('f'-64) | 1<<('n'-64) | 1<<('r'-64) | 1<<('t'-64)
	if c < 64 {
		return low>>c&1 == 1
	}
	return c < 128 && high>>(c-64)&1 == 1
}

// escape returns the length of the escape sequence at the start of p, or what is wrong
// with it. Half of a surrogate pair is no character and is refused, as by the reference.
func escape(p []byte) (n int, problem string) {
	if len(p) < 2 {
		return 0, invalidEscape
	}
	switch {
	case isShortEscape(p[1]):
		return 2, ""
	case p[1] == 'u':
		high, ok := hex4(p[2:])
		if ok && high&0xf800 != 0xd800 {
			return 6, ""
		}
		if !ok || high&0x400 != 0 || len(p) < 12 || p[6] != '\\' || p[7] != 'u' {
			return 0, invalidUnicode
		}
		if low, ok := hex4(p[8:]); !ok || low&0xfc00 != 0xdc00 {
			return 0, invalidUnicode
		}
		return 12, ""
	}
	return 0, invalidEscape
}

func hex4(p []byte) (v rune, ok bool) {
	if len(p) < 4 {
		return 0, false
	}
	for _, c := range p[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

// number returns the end of the number at i by the grammar of RFC 8259, or -1. Where the
// reference's parser sees a whole number and then a bad token ("1x", "1e"), so do we;
// what it takes for a number and JSON does not ("01", "0x1", "1.") is an invalid one.
func number(p []byte, i int) (end int) {
	if p[i] == '-' {
		i++
	}
	switch {
	case i >= len(p) || p[i] < '0' || p[i] > '9':
		return -1
	case p[i] != '0':
		i = digits(p, i)
	case i+1 < len(p) && ('0' <= p[i+1] && p[i+1] <= '9' || p[i+1]|0x20 == 'x'):
		return -1
	default:
		i++
	}
	if i < len(p) && p[i] == '.' {
		fraction := i + 1
		if i = digits(p, fraction); i == fraction {
			return -1
		}
	}
	if i < len(p) && p[i]|0x20 == 'e' {
		exponent := i + 1
		if exponent < len(p) && (p[exponent] == '+' || p[exponent] == '-') {
			exponent++
		}
		if end = digits(p, exponent); end > exponent {
			return end
		}
	}
	return i
}

func digits(p []byte, i int) int {
	for i < len(p) && '0' <= p[i] && p[i] <= '9' {
		i++
	}
	return i
}

// unexpected is the error for whatever token stands at i.
func (s *scanner) unexpected(expected string, i int) int {
	what, at := s.token(i)
	return s.fail(expected, what, at)
}

func (s *scanner) fail(expected, found string, i int) int {
	message := fmt.Sprintf("Expected %s but found %s at character %d", expected, found, i+1)
	if found == invalidUTF8 { // the reference does not look for it and has no words
		message = fmt.Sprintf("%s at character %d", found, i+1)
	}
	s.err = &SyntaxError{message, i}
	return -1
}

// token names what stands at i as the reference's parser does. A string that is broken is
// reported where it breaks, all else where it begins.
func (s *scanner) token(i int) (name string, at int) {
	if i >= len(s.p) {
		return "T_END", i
	}
	switch c := s.p[i]; {
	case c == '{':
		return "T_OBJ_BEGIN", i
	case c == '}':
		return "T_OBJ_END", i
	case c == '[':
		return "T_ARR_BEGIN", i
	case c == ']':
		return "T_ARR_END", i
	case c == ':':
		return "T_COLON", i
	case c == ',':
		return "T_COMMA", i
	case c == '"':
		if end, problem := s.text(i); problem != "" {
			return problem, end
		}
		return "T_STRING", i
	case c == '-' || '0' <= c && c <= '9':
		end := number(s.p, i)
		switch {
		case end < 0:
			return invalidNumber, i
		case bytes.ContainsAny(s.p[i:end], ".eE"):
			return "T_NUMBER", i
		}
		return "T_INTEGER", i
	case s.word(i, "true"), s.word(i, "false"):
		return "T_BOOLEAN", i
	case s.word(i, "null"):
		return "T_NULL", i
	}
	return invalidToken, i
}

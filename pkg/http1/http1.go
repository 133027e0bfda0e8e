// Package http1 reads the wire of HTTP/1.1 in place: where a head ends, what its lines say,
// how a body is framed. It is strict, since two readers of one message that disagree about
// its end are how a request is smuggled: lines end with CR LF, names are tokens, a length is
// said once. It knows neither connections nor limits of time, nor what a header means beyond
// the framing.
package http1

import (
	"bytes"
	"math/bits"
	"strconv"
	"strings"
)

// Error is a message that is not HTTP/1.1, or leaves its end open to doubt.
type Error string

func (e Error) Error() string { return string(e) }

const (
	errBareLineFeed = Error("line without carriage return")
	errLength       = Error("Content-Length")
)

// Token reports whether s is one (RFC 9110 §5.6.2), as names and methods are.
func Token[T string | []byte](s T) bool { return len(s) > 0 && tokenEnd(s, 0) == len(s) }

// Value reports whether s may stand as a header's value: no control characters but tabs.
func Value(s string) bool { return valueEnd(s, 0) == len(s) }

// Visible reports whether s has neither spaces nor control characters.
func Visible(s string) bool { return visibleEnd(s, 0) == len(s) }

// tokenEnd returns where the token ends that begins at i; len(p): it may go on.
func tokenEnd[T string | []byte](p T, i int) int {
	for i < len(p) && class[p[i]]&isToken != 0 {
		i++
	}
	return i
}

// valueEnd returns where the first byte from i on is that may stand in no value; len(s): there is
// none.
func valueEnd[T string | []byte](s T, i int) int {
	for i+8 <= len(s) {
		odd := below(word(s[i:i+8]), ' ')
		if odd == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(odd) / 8
		if s[i] != '\t' {
			return i
		}
		i++
	}
	for i < len(s) && class[s[i]]&isValue != 0 {
		i++
	}
	return i
}

// visibleEnd returns where the first byte from i on is that is a space or a control character;
// len(s): there is none.
func visibleEnd[T string | []byte](s T, i int) int {
	for i+8 <= len(s) {
		if odd := below(word(s[i:i+8]), ' '+1); odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
		i += 8
	}
	for i < len(s) && s[i] > ' ' && s[i] != 0x7f {
		i++
	}
	return i
}

// word is the first eight bytes of s, the first the lowest.
func word[T string | []byte](s T) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// below marks those of eight bytes that are below c, which is at most 0x80, or are 0x7f, with their
// highest bits. Of those behind the first, others may be marked.
func below(w, c uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	del := w ^ ones*0x7f
	return ((w-ones*c)&^w | (del-ones)&^del) & highs
}

// host reports whether s may stand in Host. It is lax, as net/http is: names of all kinds,
// addresses, ports.
func host[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&isHost == 0 {
			return false
		}
	}
	return true
}

const (
	isToken = 1 << iota
	isValue
	isHost
)

var class = func() (t [256]uint8) {
	mark := func(set string, as uint8) {
		for i := 0; i < len(set); i++ {
			t[set[i]] |= as
		}
	}
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	mark(alphanumeric+"!#$%&'*+-.^_`|~", isToken)
	mark(alphanumeric+"!$%&'()*+,-.:;=[]_~", isHost)
	for c := ' '; c <= 0xff; c++ {
		t[c] |= isValue
	}
	t['\t'] |= isValue
	t[0x7f] &^= isValue
	return t
}()

// A Scan finds the end of a head in bytes that come in pieces. The zero value is at the
// beginning of one.
type Scan struct {
	line, looked int // where the current line begins, and what was searched
}

// End returns the size of the head at the beginning of p, with its empty line; 0 if p ends
// before. p is all that came so far: what was there at the last call is not searched again.
// A line feed without a carriage return is an error, as soon as it shows.
func (s *Scan) End(p []byte) (int, error) {
	for {
		i := bytes.IndexByte(p[s.looked:], '\n')
		if i < 0 {
			s.looked = len(p)
			return 0, nil
		}
		end := s.looked + i
		if end == s.line || p[end-1] != '\r' {
			return 0, errBareLineFeed
		}
		if end-1 == s.line {
			return end + 1, nil
		}
		s.line, s.looked = end+1, end+1
	}
}

// FirstLine reports whether the head's first line is there.
func (s *Scan) FirstLine() bool { return s.line > 0 }

// Length reads a Content-Length: digits and nothing else, no sign, no list.
func Length[T string | []byte](s T) (n int64, err error) {
	if len(s) == 0 || len(s) > 18 {
		return 0, errLength
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, errLength
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, nil
}

// Options reads a Connection field.
func Options(value string) (closes, keeps bool) {
	for rest := value; rest != ""; {
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		switch option = strings.Trim(option, " \t"); {
		case strings.EqualFold(option, "close"):
			closes = true
		case strings.EqualFold(option, "keep-alive"):
			keeps = true
		}
	}
	return closes, keeps
}

// AppendChunkHead appends the line that begins a chunk of size bytes.
func AppendChunkHead(b []byte, size int) []byte {
	return append(strconv.AppendUint(b, uint64(size), 16), '\r', '\n')
}

// LastChunk ends a chunked body without trailers.
const LastChunk = "0\r\n\r\n"

package jsonedit

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// What is scanned a block at a time is what is scanned eight bytes at a time, wherever in a block
// something stands.
func TestBlocksAreReadAsWords(t *testing.T) {
	if !wide {
		t.Skip("this processor looks at no blocks")
	}
	pieces := []string{
		"a", "plain text ", `\\`, `\"`, `\n`, `\/`, `\u00e9`, `\uD83d\uDE42`, "é", "€", "🙂", "敏捷的棕色狐狸跳过了懒狗然后回家了",
		`\\\\\\\\\\\\\\\\`, strings.Repeat("x", 61), `"`, `":"`,
	}
	broken := []string{
		"\x1f", "\n", `\q`, `\`, `\u12`, `\u00g0`, `\ud83d`, `\ude42`, `\ud83d\u0041`, "\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x99", "\xc0\xaf",
		"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff",
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		var b strings.Builder
		b.WriteByte('"')
		for range r.IntN(12) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		if r.IntN(2) == 0 {
			b.WriteString(broken[r.IntN(len(broken))])
			for range r.IntN(6) {
				b.WriteString(pieces[r.IntN(len(pieces))])
			}
		}
		if r.IntN(4) > 0 {
			b.WriteByte('"')
		}
		b.WriteString(strings.Repeat(pieces[r.IntN(len(pieces))], r.IntN(20)))
		agree(t, b.String())
	}
}

func agree(t *testing.T, text string) {
	t.Helper()
	text = "[ " + text
	s, w := newScanner([]byte(text), Options{}), newScanner([]byte(text), Options{})
	end := s.long(3)
	want, problem := w.words(2)
	if problem != "" {
		want = -1
	}
	if end != want || end > 0 && s.escaped != w.escaped {
		t.Fatalf("%q: got %d, escaped %v, want %d, %v (%s)", text, end, s.escaped, want, w.escaped, problem)
	}
}

func FuzzBlocksAreReadAsWords(f *testing.F) {
	if !wide {
		f.Skip("this processor looks at no blocks")
	}
	for _, text := range texts {
		f.Add(`"`+text+`"`, uint(0))
		f.Add(`"`+text+text+`"`, uint(61))
	}
	for _, text := range seeds {
		f.Add(`"`+text, uint(7))
	}
	f.Fuzz(func(t *testing.T, text string, shift uint) {
		agree(t, `"`+strings.Repeat("x", int(shift%blockSize))+text)
	})
}

func TestEveryByteIsSeenInABlock(t *testing.T) {
	if !wide {
		t.Skip("this processor looks at no blocks")
	}
	for c := range 256 {
		for at := range blockSize {
			for _, escaped := range []bool{false, at > 0} {
				// Into the second of two blocks.
				text, bit := bytes.Repeat([]byte{'a'}, longBegins+2*blockSize), uint64(1)<<at
				text[longBegins+blockSize+at] = byte(c)
				var want, got block
				if escaped {
					text[longBegins+blockSize+at-1] = '\\'
					want.slashes = bit >> 1
				}
				switch {
				case c == '\\' && escaped:
					want.slashes |= bit
				case c == '\\':
					want.slashes, want.odd, want.carry = bit, bit<<1, bit>>(blockSize-1)
				case c == '"' && !escaped:
					want.quotes = bit
				case c < ' ':
					want.controls = bit
				case c >= 0xc0: // more should follow
					want.broken = bit << 1
				case c >= 0x80:
					want.broken = bit
				}
				if escaped && !isShortEscape(byte(c)) {
					want.odd = bit
				}
				seen := want.quotes|want.controls|want.broken|want.odd != 0
				if !seen {
					want.before, want.slashes = want.slashes, 0
				}
				passed := pass(&text[longBegins], 2, &got)
				got.broken &= -got.broken // where it begins
				if (passed == 1) != seen || got != want {
					t.Fatalf("%#x at %d, escaped %v: passed %d, got %+v, want %+v", c, at, escaped, passed, got, want)
				}
			}
		}
	}
}

package lua

import (
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"what has nothing to change stays", "local a = {1, 2}", "local a = {1, 2}"},
		{"hexadecimal escapes become decimal", `"\x41\x0a"`, `"A\010"`},
		{"single quotes too", `'\x27"'`, `"'\034"`},
		{"plain strings are not touched", `'a"b'`, `'a"b'`},
		{"comments are not read", "-- '\\x41\nx", "-- '\\x41\nx"},
		{"long comments are not read", "--[==[ \"\\x41 ]] ]==] '\\x41'", "--[==[ \"\\x41 ]] ]==] \"A\""},
		{"long strings are not read", `[[\x41]] "\x41"`, `[[\x41]] "A"`},
		{"a quote in a long string opens nothing", `[=[ " ]=] '\x41'`, `[=[ " ]=] "A"`},
		{"escaped line ends keep their lines", "'a\\\nb' c", "\"a\\010b\"\n c"},
		{"a z escape keeps its lines", "'a\\z\n\n  b' c", "\"ab\"\n\n c"},
		{"code points become UTF-8", `"\u{e9}"`, `"é"`},
		{"suffixes of numbers go", "x = 0xFFULL + 1ll + 0x1L", "x = 0xFF + 1 + 0x1L"},
		{"names that end like suffixes stay", `local ULL = "\65"`, `local ULL = "A"`},
		{"a range is not a number", `a = 1 .. "\65"`, `a = 1 .. "A"`},
		{"an open string is left to the compiler", "a = '\\x41", "a = '\\x41"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := rewrite(c.src); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// Whatever the source, tokens stay on their lines, and a second pass finds no escape to
// change.
func FuzzRewrite(f *testing.F) {
	for _, s := range []string{"a = '\\x41\\z\n b' -- c", "[==[ ]] ]==]", "1ULL..'\\u{41}'", "'\\\r\n'", "--[[", "'\\300'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		once := rewrite(src)
		if strings.Count(once, "\n") != strings.Count(src, "\n") && !strings.Contains(src, "\r") {
			t.Errorf("%q has other lines than %q", once, src)
		}
		if strings.ContainsAny(src, "lL") {
			return // 0LLLL loses a suffix in each pass
		}
		if twice := rewrite(once); twice != once {
			t.Errorf("%q became %q", once, twice)
		}
	})
}

// No pattern makes the matcher fail in another way than with one of its errors.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"abc", "(a)%1?"}, {"a b", "%f[%w]%w+"}, {"f(a(b))", "%b()"}, {"x", "[^%]x-z]*"}, {"", "%"}, {"a", "[a"}, {"a", "()"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, src, pat string) {
		if len(pat) > 12 || len(src) > 24 {
			return
		}
		m := matcher{src: src, pat: pat}
		end, err := m.match(0)
		switch err {
		case nil, errPatternEnd, errPatternBracket, errPatternBalance, errPatternFrontier, errCapture, errPatternCapture, errTooMany, errTooDeep:
		default:
			t.Errorf("%q over %q: %v", pat, src, err)
		}
		if end > len(src) {
			t.Errorf("%q over %q ended at %d", pat, src, end)
		}
	})
}

package lua

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// rewrite turns the source of LuaJIT into that of the embedded interpreter, which reads
// "\x41", "\z" and "\u{41}" as other strings and does not know 1ULL. It changes nothing
// else, and every token stays on its line. Source that it cannot read is left as it is
// from there on: the compiler says what is wrong with it.
func rewrite(src string) string {
	if !strings.ContainsAny(src, `\Ll`) {
		return src
	}
	s := scanner{src: src}
	s.out.Grow(len(src) + 16)
	for s.pos < len(src) {
		if !s.token() {
			s.out.WriteString(src[s.pos:])
			break
		}
	}
	return s.out.String()
}

type scanner struct {
	src string
	pos int
	out strings.Builder
}

// token copies one token, a comment or a byte between tokens; false when it is not closed.
func (s *scanner) token() bool {
	c := s.src[s.pos]
	rest := s.src[s.pos:]
	switch {
	case strings.HasPrefix(rest, "--"):
		if n := LongBracket(rest[2:]); n != 0 {
			return s.long(2, n)
		}
		end := strings.IndexByte(rest, '\n')
		if end < 0 {
			end = len(rest)
		}
		s.copy(end)
	case c == '[':
		if n := LongBracket(rest); n != 0 {
			return s.long(0, n)
		}
		s.copy(1)
	case c == '"' || c == '\'':
		return s.short(c)
	case isDigit(c):
		s.number()
	case isNameByte(c):
		n := 1
		for n < len(rest) && isNameByte(rest[n]) {
			n++
		}
		s.copy(n)
	default:
		s.copy(1)
	}
	return true
}

// long copies long brackets of n bytes, and what stands before them.
func (s *scanner) long(before, n int) bool {
	if n < 0 {
		return false
	}
	s.copy(before + n)
	return true
}

func (s *scanner) copy(n int) {
	s.out.WriteString(s.src[s.pos : s.pos+n])
	s.pos += n
}

// LongBracket returns the length of the text in long brackets, "[[…]]" or "[=[…]=]", that s
// begins with: 0 when it begins with none, -1 when it is not closed.
func LongBracket(s string) int {
	if !strings.HasPrefix(s, "[") {
		return 0
	}
	level := 0
	for level+1 < len(s) && s[level+1] == '=' {
		level++
	}
	if level+1 >= len(s) || s[level+1] != '[' {
		return 0
	}
	end := strings.Index(s[level+2:], "]"+strings.Repeat("=", level)+"]")
	if end < 0 {
		return -1
	}
	return level + 2 + end + level + 2
}

// number drops the suffix of a 64-bit literal.
func (s *scanner) number() {
	rest := s.src[s.pos:]
	hex := strings.HasPrefix(rest, "0x") || strings.HasPrefix(rest, "0X")
	n := 1
	for n < len(rest) {
		c := rest[n]
		sign := (c == '+' || c == '-') && !hex && (rest[n-1] == 'e' || rest[n-1] == 'E')
		if !isNameByte(c) && !sign && !(c == '.' && !strings.HasPrefix(rest[n:], "..")) {
			break
		}
		n++
	}
	text := rest[:n]
	upper := strings.ToUpper(text)
	for _, suffix := range []string{"ULL", "LL"} {
		if strings.HasSuffix(upper, suffix) {
			text = text[:n-len(suffix)]
			break
		}
	}
	s.out.WriteString(text)
	s.pos += n
}

var simpleEscapes = map[byte]byte{
	'a': 7, 'b': 8, 'f': 12, 'n': 10, 'r': 13, 't': 9, 'v': 11,
	'\\': '\\', '"': '"', '\'': '\'', '\n': '\n',
}

// short rewrites a quoted string when it has escapes.
func (s *scanner) short(quote byte) bool {
	value := make([]byte, 0, 64)
	lines := 0
	escaped := false
	i := s.pos + 1
	for {
		if i >= len(s.src) || s.src[i] == '\n' {
			return false
		}
		c := s.src[i]
		if c == quote {
			i++
			break
		}
		if c != '\\' {
			value = append(value, c)
			i++
			continue
		}
		escaped = true
		n, newlines, ok := appendEscape(&value, s.src[i+1:])
		if !ok {
			return false
		}
		i += 1 + n
		lines += newlines
	}
	if !escaped {
		s.copy(i - s.pos)
		return true
	}
	s.out.WriteByte('"')
	for _, c := range value {
		if c == '"' || c == '\\' || c < ' ' || c == 127 {
			fmt.Fprintf(&s.out, "\\%03d", c)
		} else {
			s.out.WriteByte(c)
		}
	}
	s.out.WriteByte('"')
	s.out.WriteString(strings.Repeat("\n", lines))
	s.pos = i
	return true
}

// appendEscape decodes what stands after a backslash: how long it is and how many lines
// it takes.
func appendEscape(value *[]byte, s string) (n, lines int, ok bool) {
	if s == "" {
		return 0, 0, false
	}
	c := s[0]
	switch {
	case isDigit(c):
		code := 0
		for n < 3 && n < len(s) && isDigit(s[n]) {
			code = code*10 + int(s[n]-'0')
			n++
		}
		*value = append(*value, byte(code))
		return n, 0, code < 256
	case c == 'x':
		if len(s) < 3 || !isHex(s[1]) || !isHex(s[2]) {
			return 0, 0, false
		}
		*value = append(*value, unhex(s[1])<<4|unhex(s[2]))
		return 3, 0, true
	case c == 'z':
		n = 1
		for n < len(s) && isSpace(s[n]) {
			if s[n] == '\n' {
				lines++
			}
			n++
		}
		return n, lines, true
	case c == 'u':
		end := strings.IndexByte(s, '}')
		if end < 3 || s[1] != '{' {
			return 0, 0, false
		}
		var code rune
		for _, h := range []byte(s[2:end]) {
			if !isHex(h) || code > utf8.MaxRune {
				return 0, 0, false
			}
			code = code<<4 | rune(unhex(h))
		}
		*value = utf8.AppendRune(*value, code)
		return end + 1, 0, true
	case c == '\r':
		*value = append(*value, '\n')
		if strings.HasPrefix(s, "\r\n") {
			return 2, 1, true
		}
		return 1, 1, true
	}
	plain, known := simpleEscapes[c]
	if !known {
		plain = c
	}
	if c == '\n' {
		lines = 1
	}
	*value = append(*value, plain)
	return 1, lines, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isNameByte(c byte) bool { return isAlpha(c) || isDigit(c) || c == '_' || c >= 0x80 }

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

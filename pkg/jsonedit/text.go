package jsonedit

import (
	"bytes"
	"unicode/utf8"
)

// Unquote returns the text of a JSON string, given with its quotes and nothing around
// them. Anything else is a *SyntaxError.
func Unquote(raw []byte) (string, error) {
	s := newScanner(raw, Options{})
	if len(raw) == 0 || raw[0] != '"' {
		s.unexpected("value", 0)
		return "", s.err
	}
	end, problem := s.text(0)
	switch {
	case problem != "":
		s.fail("value", problem, end)
		return "", s.err
	case end < len(raw):
		s.unexpected("the end", end)
		return "", s.err
	}
	return unescape(raw[1 : end-1]), nil
}

// unescape returns what stands between the quotes of a valid string.
func unescape(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	return string(appendUnescaped(make([]byte, 0, len(raw)), raw))
}

// appendUnescaped appends what stands between the quotes of a valid string, which is
// never longer than raw.
func appendUnescaped(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		raw = raw[i:]
		n := 2
		switch c := raw[1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			n = 6
			r, _ := hex4(raw[2:])
			if r&0xf800 == 0xd800 { // the first half of a pair: the scan saw the second
				n = 12
				low, _ := hex4(raw[8:])
				r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
			}
			dst = utf8.AppendRune(dst, r)
		default: // quote, backslash, slash
			dst = append(dst, c)
		}
		raw = raw[n:]
	}
}

// AppendQuote appends s as a JSON string. Only what must be escaped is; a byte that is
// not UTF-8 becomes the replacement character.
func AppendQuote(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0 // s[plain:i] is to be copied as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[plain:i]...), "\uFFFD"...)
				plain = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[plain:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		plain = i
	}
	return append(append(dst, s[plain:]...), '"')
}

package nginx

import (
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// lua reads a block of Lua up to the brace that closes it. Braces count but for those in
// Lua's strings and comments.
func (l *lexer) lua() (string, error) {
	start, depth := l.at, 1
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		n := 1
		switch c := rest[0]; {
		case c == '{':
			depth++
		case c == '}':
			depth--
			if depth == 0 {
				text := l.src[start:l.at]
				l.at++
				return text, nil
			}
		case c == '"' || c == '\'':
			n = luaString(rest)
		case strings.HasPrefix(rest, "--"):
			n = luaComment(rest)
		case c == '[':
			if long := lua.LongBracket(rest); long != 0 {
				n = long
			}
		}
		if n < 0 {
			return "", l.errorf("unexpected end of file in a Lua string or comment")
		}
		l.advance(n)
	}
	return "", l.errorf(`unexpected end of file, expecting "}" to end a block of Lua`)
}

// luaString returns the length of the quoted string at the beginning of s, -1 when it
// does not end. A string that its line does not end, without a backslash, is Lua's to
// refuse; here it ends with the line.
func luaString(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\n':
			return i
		case s[0]:
			return i + 1
		}
	}
	return -1
}

func luaComment(s string) int {
	switch n := lua.LongBracket(s[2:]); {
	case n > 0:
		return n + 2
	case n < 0:
		return -1
	}
	if end := strings.IndexByte(s, '\n'); end >= 0 {
		return end
	}
	return len(s)
}

package nginx

import (
	"fmt"
	"strings"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenSemicolon
	tokenOpen
	tokenClose
)

type token struct {
	kind tokenKind
	text string
	line int
}

// A lexer cuts a configuration into words and signs.
type lexer struct {
	src  string
	at   int
	line int
}

func (l *lexer) errorf(format string, args ...any) error {
	return &SyntaxError{Line: l.line, What: fmt.Sprintf(format, args...)}
}

// signs are the bytes that are a token by themselves where a word could begin.
var signs = map[byte]tokenKind{';': tokenSemicolon, '{': tokenOpen, '}': tokenClose}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// advance goes n bytes on and counts the lines.
func (l *lexer) advance(n int) {
	l.line += strings.Count(l.src[l.at:l.at+n], "\n")
	l.at += n
}

func (l *lexer) next() (token, error) {
	l.skip()
	if l.at >= len(l.src) {
		return token{kind: tokenEnd, line: l.line}, nil
	}
	c := l.src[l.at]
	if kind, ok := signs[c]; ok {
		l.at++
		return token{kind: kind, text: string(c), line: l.line}, nil
	}
	if c == '"' || c == '\'' {
		return l.quoted(c)
	}
	return l.word()
}

// skip passes white space and comments; a comment begins only where a word could.
func (l *lexer) skip() {
	for l.at < len(l.src) {
		switch c := l.src[l.at]; {
		case isSpace(c):
			l.advance(1)
		case c == '#':
			end := strings.IndexByte(l.src[l.at:], '\n')
			if end < 0 {
				end = len(l.src) - l.at
			}
			l.advance(end)
		default:
			return
		}
	}
}

func (l *lexer) quoted(quote byte) (token, error) {
	line, start := l.line, l.at+1
	for i := start; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			i++
		case quote:
			text := unescape(l.src[start:i])
			l.advance(i + 1 - l.at)
			if l.at < len(l.src) {
				if c := l.src[l.at]; !isSpace(c) && c != ';' && c != '{' && c != ')' {
					return token{}, l.errorf("unexpected %q after a quoted word", c)
				}
			}
			return token{tokenWord, text, line}, nil
		}
	}
	return token{}, l.errorf("unexpected end of file in a quoted word")
}

func (l *lexer) word() (token, error) {
	line, start := l.line, l.at
	i := start
scan:
	for ; i < len(l.src); i++ {
		switch c := l.src[i]; {
		case c == '\\':
			i++
		case c == '$' && i+1 < len(l.src) && l.src[i+1] == '{':
			i++ // ${name} opens no block
		case isSpace(c) || c == ';' || c == '{':
			break scan
		}
	}
	i = min(i, len(l.src))
	text := unescape(l.src[start:i])
	l.advance(i - l.at)
	return token{tokenWord, text, line}, nil
}

// escapes are the sequences that nginx knows in words; any other keeps its backslash.
var escapes = map[byte]byte{'"': '"', '\'': '\'', '\\': '\\', 't': '\t', 'r': '\r', 'n': '\n'}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if c, ok := escapes[s[i+1]]; ok {
				b.WriteByte(c)
				i++
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

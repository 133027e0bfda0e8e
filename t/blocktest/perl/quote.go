package perl

import (
	"strings"
	"unicode/utf8"
)

// A text literal is read in two steps: its raw text up to the closing delimiter, then the
// parts of it that are variables, escapes and plain bytes.

// quoteMode says what a literal's text means.
type quoteMode int

const (
	stringText  quoteMode = iota // escapes and variables
	patternText                  // variables; escapes belong to the pattern
)

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isNameStart(c byte) bool { return isWordByte(c) && (c < '0' || c > '9') }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func parseHex(s string) (n int, ok bool) {
	for i := range len(s) {
		c := s[i]
		switch {
		case isDigit(c):
			n = n<<4 | int(c-'0')
		case isHex(c):
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return 0, false
		}
		if n > utf8.MaxRune {
			return 0, false
		}
	}
	return n, true
}

// closing returns what ends a literal that begins with a delimiter.
func closing(open byte) byte {
	if i := strings.IndexByte("([{<", open); i >= 0 {
		return ")]}>"[i]
	}
	return open
}

// delimited reads from behind the opening delimiter to the closing one. Brackets nest.
// A backslash before a delimiter is dropped when that delimiter is no bracket.
func (p *parser) delimited(open byte) string {
	end, depth, line := closing(open), 1, p.line
	var raw strings.Builder
	for p.at < len(p.src) {
		c := p.src[p.at]
		switch {
		case c == '\\' && p.at+1 < len(p.src):
			if n := p.src[p.at+1]; n == open && open == end {
				// The pattern of m{…} may need its backslashes; that of m#…# may not see them.
				if strings.IndexByte(`/"'`+"`"+`#,!~%@&;:=`, open) < 0 {
					raw.WriteByte('\\')
				}
				raw.WriteByte(n)
			} else {
				raw.WriteByte('\\')
				p.newline(n)
				raw.WriteByte(n)
			}
			p.at += 2
			continue
		case c == end && depth == 1:
			p.at++
			return raw.String()
		case c == end:
			depth--
		case c == open:
			depth++
		}
		p.newline(c)
		raw.WriteByte(c)
		p.at++
	}
	p.line = line
	p.syntax("a text without its closing %c", end)
	return ""
}

// newline counts a line inside a literal. One that crosses the line of a here-document
// would have to leave its body out.
func (p *parser) newline(c byte) {
	if c != '\n' {
		return
	}
	if p.heredocEnd > 0 {
		unsupported(p.line, "a literal that goes on behind a here-document")
	}
	p.line++
}

// single is the text of '…' and q(…): only the delimiter and the backslash are escaped.
func single(raw string) string {
	return strings.ReplaceAll(raw, `\\`, `\`)
}

// interpolate makes a node of the raw text of a literal.
func (p *parser) interpolate(raw string, mode quoteMode, line int) node {
	q := &quoted{p: p.sub(raw, line), mode: mode}
	q.run()
	q.flush()
	if len(q.parts) == 1 {
		if c, ok := q.parts[0].(constant); ok {
			return c
		}
	}
	return &concat{parts: q.parts}
}

// quoted reads the inside of a literal. It uses a parser of its own over the raw text, for
// the variables and the expressions in @{[ … ]}.
type quoted struct {
	p     *parser
	mode  quoteMode
	text  strings.Builder
	parts []node
	// \Q, \U and \L hold until \E; \u and \l for one character.
	casing   []caseMark
	nextCase byte
}

type caseMark struct {
	letter byte
	from   int // in parts
}

func (q *quoted) flush() {
	if q.text.Len() > 0 {
		q.parts = append(q.parts, constant{q.text.String()})
		q.text.Reset()
	}
}

func (q *quoted) run() {
	p := q.p
	for p.at < len(p.src) {
		c := p.src[p.at]
		switch {
		case c == '\\' && p.at+1 < len(p.src):
			q.escape()
		case c == '$' && q.mode == stringText && p.lastIndexFollows():
			q.add(p.lastIndexTerm())
		case c == '$' && q.variableFollows():
			q.add(p.interpolatedScalar(q.mode))
		case c == '@' && q.arrayFollows():
			q.add(&joined{p.interpolatedArray()})
		default:
			if c == '\n' {
				p.line++
			}
			q.byte(c)
			p.at++
		}
	}
	for len(q.casing) > 0 {
		q.endCase()
	}
}

func (q *quoted) byte(c byte) {
	if q.nextCase != 0 {
		q.text.WriteString(applyCase(q.nextCase, string(c)))
		q.nextCase = 0
		return
	}
	q.text.WriteByte(c)
}

func (q *quoted) add(n node) {
	q.flush()
	if q.nextCase != 0 {
		n = &cased{q.nextCase, n}
		q.nextCase = 0
	}
	q.parts = append(q.parts, n)
}

func (q *quoted) endCase() {
	q.flush()
	mark := q.casing[len(q.casing)-1]
	q.casing = q.casing[:len(q.casing)-1]
	inner := append([]node(nil), q.parts[mark.from:]...)
	q.parts = append(q.parts[:mark.from], &cased{mark.letter, &concat{parts: inner}})
}

// variableFollows says whether the $ at hand begins a variable.
func (q *quoted) variableFollows() bool {
	n := q.p.peekAt(1)
	if isWordByte(n) || n == '{' && q.p.peekAt(2) != '}' || n == ':' && q.p.peekAt(2) == ':' && isNameStart(q.p.peekAt(3)) {
		return q.mode == stringText || n != '{' || !isDigit(q.p.peekAt(2))
	}
	if n == '$' {
		return isNameStart(q.p.peekAt(2)) || q.p.peekAt(2) == '{'
	}
	return n == '&' || n == '@' && q.mode == stringText || n == '!' && q.mode == stringText || n == '/' && q.mode == stringText
}

func (q *quoted) arrayFollows() bool {
	n := q.p.peekAt(1)
	return isNameStart(n) || n == '{' || n == '$' || n == ':' && q.p.peekAt(2) == ':'
}

func (q *quoted) escape() {
	p := q.p
	c := p.src[p.at+1]
	switch c {
	case 'Q', 'U', 'L', 'F':
		q.flush()
		q.casing = append(q.casing, caseMark{c, len(q.parts)})
		p.at += 2
		return
	case 'E':
		if len(q.casing) > 0 {
			q.endCase()
		}
		p.at += 2
		return
	case 'u', 'l':
		q.nextCase = c
		p.at += 2
		return
	}
	p.at += 2
	if c == '\n' {
		p.line++
	}
	if q.mode == patternText {
		q.text.WriteByte('\\')
		q.text.WriteByte(c)
		return
	}
	q.text.WriteString(p.stringEscape(c))
}

var simpleEscapes = map[byte]string{
	'n': "\n", 't': "\t", 'r': "\r", 'a': "\a", 'e': "\x1b", 'f': "\f", 'b': "\b",
}

// stringEscape is the text of \c…, whose letter was read.
func (p *parser) stringEscape(c byte) string {
	if s, ok := simpleEscapes[c]; ok {
		return s
	}
	switch {
	case c == 'x':
		return p.hexEscape()
	case c >= '0' && c <= '7':
		n := int(c - '0')
		for i := 0; i < 2 && p.peekAt(0) >= '0' && p.peekAt(0) <= '7'; i++ {
			n = n<<3 | int(p.peekAt(0)-'0')
			p.at++
		}
		return character(n)
	case c == 'c' && p.at < len(p.src):
		p.at++
		upper := strings.ToUpper(string(p.src[p.at-1]))[0]
		return string([]byte{upper ^ 0x40})
	case c == 'N' || c == 'o':
		end := strings.IndexByte(p.src[p.at:], '}')
		code := ""
		if end > 0 {
			code = p.src[p.at : p.at+end]
		}
		n, ok := parseHex(strings.TrimPrefix(code, "{U+"))
		if c == 'o' || !strings.HasPrefix(code, "{U+") || !ok {
			unsupported(p.line, `\%c%s}`, c, code)
		}
		p.at += end + 1
		return string(rune(n))
	}
	return string([]byte{c})
}

func (p *parser) hexEscape() string {
	if p.peekAt(0) == '{' {
		end := strings.IndexByte(p.src[p.at:], '}')
		if end < 0 {
			p.syntax(`\x{ without }`)
		}
		n, ok := parseHex(strings.TrimSpace(p.src[p.at+1 : p.at+end]))
		if !ok {
			p.syntax(`\x{%s}`, p.src[p.at+1:p.at+end])
		}
		p.at += end + 1
		return character(n)
	}
	digits := ""
	for len(digits) < 2 && isHex(p.peekAt(0)) {
		digits += string(p.src[p.at])
		p.at++
	}
	n, _ := parseHex(digits)
	return character(n)
}

// character is the bytes that a character is sent as: itself up to 0xff, else UTF-8.
func character(n int) string {
	if n <= 0xff {
		return string([]byte{byte(n)})
	}
	return string(rune(n))
}

func applyCase(letter byte, s string) string {
	switch letter {
	case 'Q':
		return QuoteMeta(s)
	case 'U':
		return strings.ToUpper(s)
	case 'L', 'F':
		return strings.ToLower(s)
	case 'u':
		if s != "" {
			return strings.ToUpper(s[:1]) + s[1:]
		}
	case 'l':
		if s != "" {
			return strings.ToLower(s[:1]) + s[1:]
		}
	}
	return s
}

// QuoteMeta puts a backslash before every byte of ASCII that is not of a word, as \Q does.
func QuoteMeta(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x80 && !isWordByte(c) {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// interpolatedScalar reads $x, ${x}, ${ … }, $x[1], $x{k}, $x->[1], $x->{k}, $$x at the $.
func (p *parser) interpolatedScalar(mode quoteMode) node {
	n := p.scalarTerm()
	for {
		switch c := p.peekAt(0); {
		case c == '-' && p.peekAt(1) == '>' && (p.peekAt(2) == '[' || p.peekAt(2) == '{'):
			p.at += 2
			n = p.subscript(n)
			continue
		case (c == '[' || c == '{') && isElement(n):
			n = p.subscript(n)
			continue
		case c == '[' && p.indexFollows(), c == '{' && (mode == stringText || isNameStart(p.peekAt(1))):
			if v, ok := n.(*scalarVar); ok {
				n = p.directSubscript(v)
				continue
			}
		}
		return n
	}
}

// indexFollows tells $x[1] and $x[$i] from a class of a pattern, or a bracket of a text.
func (p *parser) indexFollows() bool {
	end := strings.IndexByte(p.src[p.at:], ']')
	if end < 2 {
		return false
	}
	index := strings.TrimPrefix(strings.TrimPrefix(p.src[p.at+1:p.at+end], "-"), "$")
	for i := range len(index) {
		if !isWordByte(index[i]) {
			return false
		}
	}
	return index != "" && (isDigit(index[0]) || p.src[p.at+1] == '$')
}

// interpolatedArray reads @x, @$x and @{ … } at the @.
func (p *parser) interpolatedArray() node {
	n := p.arrayTerm()
	if c := p.peekAt(0); c == '[' || c == '{' {
		unsupported(p.line, "a slice inside a text")
	}
	return n
}

package perl

import (
	"fmt"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// matchTimeout bounds one match: a pattern of a suite may be of the kind that never ends.
const matchTimeout = 5 * time.Second

// A Regexp is what qr/…/ is. It is safe for concurrent use.
type Regexp struct {
	Source string // after interpolation
	Flags  string // of "imsx", sorted
	re     *regexp2.Regexp
}

// Compile compiles a pattern with flags of "imsxgo…"; those that are no matter of the
// pattern are left out. Bytes are matched one by one, and classes such as \w are those of
// ASCII, as Perl has it for texts that are bytes.
func Compile(source, flags string) (*Regexp, error) {
	re := &Regexp{Source: source}
	opts := regexp2.RegexOptions(0)
	for _, f := range []struct {
		letter string
		option regexp2.RegexOptions
	}{
		{"i", regexp2.IgnoreCase},
		{"m", regexp2.Multiline},
		{"s", regexp2.Singleline},
		{"x", regexp2.IgnorePatternWhitespace},
	} {
		if strings.Contains(flags, f.letter) {
			re.Flags += f.letter
			opts |= f.option
		}
	}
	translated, err := translate(source, strings.Contains(flags, "x"))
	if err != nil {
		return nil, err
	}
	if strings.Contains(flags, "i") && !ascii(source) {
		return nil, &UnsupportedError{What: "a pattern with /i and bytes that are not ASCII"}
	}
	re.re, err = regexp2.Compile(translated, opts)
	if err != nil {
		return nil, &DieError{Text: fmt.Sprintf("%v in regex m/%s/\n", err, source)}
	}
	re.re.MatchTimeout = matchTimeout
	return re, nil
}

// String is how Perl writes a qr// where a text is wanted.
func (re *Regexp) String() string { return "(?^" + re.Flags + ":" + re.Source + ")" }

// Match is one match: the byte offsets of the whole and of each group, -1 for a group that
// took no part.
type Match struct {
	Groups [][2]int
	Names  map[string]int
}

// Find returns the first match at or after the byte offset from, or nil.
func (re *Regexp) Find(s string, from int) (*Match, error) {
	m, err := re.re.FindRunesMatchStartingAt(runes(s), from)
	if err != nil {
		return nil, &UnsupportedError{What: fmt.Sprintf("a match of /%s/ that takes more than %v", re.Source, matchTimeout)}
	}
	if m == nil {
		return nil, nil
	}
	out := &Match{Names: map[string]int{}}
	for i, g := range m.Groups() {
		at := [2]int{-1, -1}
		if len(g.Captures) > 0 {
			at = [2]int{g.Index, g.Index + g.Length}
		}
		out.Groups = append(out.Groups, at)
		if g.Name != fmt.Sprint(i) {
			out.Names[g.Name] = i
		}
	}
	return out, nil
}

// Matches says whether the pattern matches anywhere.
func (re *Regexp) Matches(s string) (bool, error) {
	m, err := re.Find(s, 0)
	return m != nil, err
}

// runes makes a rune of each byte, so that regexp2 counts as Perl does.
func runes(s string) []rune {
	out := make([]rune, len(s))
	for i := range len(s) {
		out[i] = rune(s[i])
	}
	return out
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// classes are Perl's for bytes, written so that they also stand inside [ ].
var classes = map[byte]string{
	'd': `0-9`,
	'D': `\x00-\x2f\x3a-\xff`,
	'w': `0-9A-Z_a-z`,
	'W': `\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\xff`,
	's': `\t-\r\x20`,
	'S': `\x00-\x08\x0e-\x1f\x21-\xff`,
	'h': `\t\x20`,
	'H': `\x00-\x08\x0a-\x1f\x21-\xff`,
	'v': `\n-\r`,
	'V': `\x00-\x09\x0e-\xff`,
	'N': `\x00-\x09\x0b-\xff`,
}

var posixClasses = map[string]string{
	"alnum": `0-9A-Za-z`, "alpha": `A-Za-z`, "digit": `0-9`, "lower": `a-z`, "upper": `A-Z`,
	"space": `\t-\r\x20`, "blank": `\t\x20`, "word": `0-9A-Z_a-z`, "xdigit": `0-9A-Fa-f`,
	"punct": `!-/:-@\[-\x60{-~`, "cntrl": `\x00-\x1f\x7f`, "print": `\x20-~`, "graph": `!-~`,
}

const (
	boundary    = `(?:(?<=[0-9A-Z_a-z])(?![0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?=[0-9A-Z_a-z]))`
	notBoundary = `(?:(?<=[0-9A-Z_a-z])(?=[0-9A-Z_a-z])|(?<![0-9A-Z_a-z])(?![0-9A-Z_a-z]))`
)

// translate writes a pattern of Perl in the words of regexp2, whose dialect is .NET's.
func translate(src string, extended bool) (string, error) {
	t := &translator{src: src, extended: extended}
	for t.at < len(src) {
		if err := t.next(); err != nil {
			return "", err
		}
	}
	if t.named && t.numbered {
		return "", &UnsupportedError{What: "a pattern with named and numbered groups"}
	}
	return t.out.String(), nil
}

type translator struct {
	src             string
	at              int
	out             strings.Builder
	extended        bool
	named, numbered bool
	quantified      bool // what was written last is a quantifier
}

func (t *translator) peek(n int) byte {
	if t.at+n < len(t.src) {
		return t.src[t.at+n]
	}
	return 0
}

func (t *translator) unsupported(what string) error {
	return &UnsupportedError{What: what + " in the pattern /" + t.src + "/"}
}

func (t *translator) next() error {
	c := t.src[t.at]
	wasQuantifier := t.quantified
	t.quantified = false
	switch {
	case c == '\\':
		return t.escape(false)
	case c == '[':
		return t.class()
	case c == '(':
		return t.group()
	case c == '#' && t.extended:
		for t.at < len(t.src) && t.src[t.at] != '\n' {
			t.at++
		}
		return nil
	case c == '+' && wasQuantifier:
		return t.unsupported("a possessive quantifier")
	case c == '*' || c == '+' || c == '?' || c == '}':
		// `a+?` is lazy and may not be followed by a +, which is an error in Perl too.
		t.quantified = true
	}
	t.literal(c)
	t.at++
	return nil
}

func (t *translator) literal(c byte) {
	if c >= 0x80 {
		fmt.Fprintf(&t.out, `\x%02x`, c)
		return
	}
	t.out.WriteByte(c)
}

// escape handles \x at t.at, inside or outside a class.
func (t *translator) escape(inClass bool) error {
	c := t.peek(1)
	if t.at+1 >= len(t.src) {
		return &DieError{Text: "Trailing \\ in regex m/" + t.src + "/\n"}
	}
	t.at += 2
	if set, ok := classes[c]; ok {
		if c == 'N' && t.peek(0) == '{' {
			return t.unsupported(`\N{…}`)
		}
		if !inClass {
			set = "[" + set + "]"
		}
		t.out.WriteString(set)
		return nil
	}
	switch c {
	case 'b', 'B':
		if inClass {
			t.out.WriteString(`\x08`)
		} else if t.peek(0) == '{' {
			return t.unsupported(`\b{…}`)
		} else if c == 'b' {
			t.out.WriteString(boundary)
		} else {
			t.out.WriteString(notBoundary)
		}
	case 'x':
		return t.hex()
	case 'R', 'X', 'K', 'p', 'P', 'G', 'o', 'g', 'k', 'C':
		return t.unsupported(`\` + string(c))
	case 'Q', 'E', 'l', 'u', 'L', 'U', 'F':
		// Only a text that was never interpolated still holds these.
		return t.unsupported(`\` + string(c))
	case 'A', 'z', 'Z', 't', 'n', 'r', 'f', 'a', 'e', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'c':
		t.out.WriteByte('\\')
		t.out.WriteByte(c)
	default:
		// A letter or byte that has no meaning stands for itself.
		if c < 0x80 && !isWordByte(c) {
			t.out.WriteByte('\\')
		}
		t.literal(c)
	}
	return nil
}

func (t *translator) hex() error {
	digits := ""
	if t.peek(0) == '{' {
		end := strings.IndexByte(t.src[t.at:], '}')
		if end < 0 {
			return t.unsupported(`\x{`)
		}
		digits = strings.TrimSpace(t.src[t.at+1 : t.at+end])
		t.at += end + 1
	} else {
		for len(digits) < 2 && isHex(t.peek(0)) {
			digits += string(t.peek(0))
			t.at++
		}
	}
	n, ok := parseHex(digits)
	if !ok || n > 0xff {
		return t.unsupported(`\x{` + digits + `}`)
	}
	fmt.Fprintf(&t.out, `\x%02x`, n)
	return nil
}

func (t *translator) class() error {
	t.out.WriteByte('[')
	t.at++
	if t.peek(0) == '^' {
		t.out.WriteByte('^')
		t.at++
	}
	for first := true; ; first = false {
		if t.at >= len(t.src) {
			return &DieError{Text: "Unmatched [ in regex m/" + t.src + "/\n"}
		}
		c := t.src[t.at]
		switch {
		case c == ']' && !first:
			t.out.WriteByte(']')
			t.at++
			return nil
		case c == '[' && t.peek(1) == ':':
			name, _, _ := strings.Cut(t.src[t.at+2:], ":]")
			set, ok := posixClasses[name]
			if !ok {
				return t.unsupported("[:")
			}
			t.out.WriteString(set)
			t.at += len("[:") + len(name) + len(":]")
		case c == '\\':
			if err := t.escape(true); err != nil {
				return err
			}
		case c == '[' || c == ']':
			// .NET takes `-[` for the difference of two classes.
			t.out.WriteByte('\\')
			t.out.WriteByte(c)
			t.at++
		default:
			t.literal(c)
			t.at++
		}
	}
}

func (t *translator) group() error {
	rest := t.src[t.at:]
	if strings.HasPrefix(rest, "(*") {
		return t.unsupported("a verb")
	}
	if !strings.HasPrefix(rest, "(?") {
		t.numbered = true
		t.out.WriteByte('(')
		t.at++
		return nil
	}
	after := byte(0)
	if len(rest) > 2 {
		after = rest[2]
	}
	switch {
	case strings.HasPrefix(rest, "(?#"):
		end := strings.IndexByte(rest, ')')
		if end < 0 {
			return t.unsupported("(?#")
		}
		t.at += end + 1
		return nil
	case strings.HasPrefix(rest, "(?<=") || strings.HasPrefix(rest, "(?<!") || after == ':' || after == '=' || after == '!' || after == '>':
	case after == '^':
		return t.freshFlags(rest)
	case after == '<' || after == '\'':
		t.named = true
	case strings.HasPrefix(rest, "(?P<"):
		t.named = true
		t.out.WriteString("(?<")
		t.at += len("(?P<")
		return nil
	case strings.IndexByte("imsx-", after) >= 0:
		return t.flags(rest)
	default:
		return t.unsupported(rest[:min(len(rest), 4)])
	}
	t.out.WriteString("(?")
	t.at += 2
	// What follows are the marks of the group, not a quantifier.
	for t.at < len(t.src) && strings.IndexByte("<=!>:", t.src[t.at]) >= 0 {
		t.out.WriteByte(t.src[t.at])
		t.at++
		if t.src[t.at-1] == ':' || t.src[t.at-1] == '=' || t.src[t.at-1] == '!' || t.src[t.at-1] == '>' {
			break
		}
	}
	return nil
}

// freshFlags translates `(?^i:`, how a qr// looks inside another pattern.
func (t *translator) freshFlags(rest string) error {
	end := strings.IndexByte(rest, ':')
	if end < 0 || strings.Trim(rest[3:end], "imsx") != "" {
		return t.unsupported("(?^")
	}
	on, off := rest[3:end], ""
	for _, f := range "imsx" {
		if !strings.ContainsRune(on, f) {
			off += string(f)
		}
	}
	if strings.Contains(on, "x") != t.extended {
		// translate has to know where comments are.
		return t.unsupported("a pattern inside a pattern with another /x")
	}
	t.out.WriteString("(?" + on)
	if off != "" {
		t.out.WriteString("-" + off)
	}
	t.out.WriteByte(':')
	t.at += end + 1
	return nil
}

func (t *translator) flags(rest string) error {
	end := strings.IndexAny(rest, ":)")
	if end < 0 || strings.Trim(rest[2:end], "imsx-") != "" {
		return t.unsupported(rest[:min(len(rest), 4)])
	}
	flags := rest[2 : end+1]
	if strings.Contains(flags, "x") {
		return t.unsupported("(?x)")
	}
	t.out.WriteString("(?" + flags)
	t.at += end + 1
	return nil
}

package lua

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	glua "github.com/yuin/gopher-lua"
)

var reFuncs = funcs{"match": reMatch, "find": reFind, "gmatch": reGmatch, "sub": reSub, "gsub": reGsub}

// regex is a compiled pattern. Subjects are bytes: without the flag u each byte is one
// character, and those above 0x7f are moved to where no class of letters reaches.
type regex struct {
	re    *regexp2.Regexp
	names map[string][]int // of groups
	count int              // of groups
	utf8  bool
}

const highBytes = 0xE000

func (r *regex) runes(s string) []rune {
	if r.utf8 {
		return []rune(s)
	}
	out := make([]rune, len(s))
	for i := 0; i < len(s); i++ {
		out[i] = rune(s[i])
		if s[i] >= 0x80 {
			out[i] += highBytes
		}
	}
	return out
}

// span is a group in bytes; start is -1 when it took no part.
type span struct{ start, end int }

// subject is a text being matched.
type subject struct {
	re    *regex
	text  string
	runes []rune
	bytes []int // byte offset of each rune, with flag u
}

func (r *regex) over(s string) *subject {
	sub := &subject{re: r, text: s, runes: r.runes(s)}
	if r.utf8 {
		sub.bytes = make([]int, 0, len(sub.runes)+1)
		for i := range s {
			sub.bytes = append(sub.bytes, i)
		}
		sub.bytes = append(sub.bytes, len(s))
	}
	return sub
}

func (s *subject) byteAt(rune int) int {
	if s.bytes == nil {
		return rune
	}
	return s.bytes[rune]
}

// find matches at or after a byte; nil when there is none.
func (s *subject) find(from int) ([]span, error) {
	at := from
	if s.bytes != nil {
		at = utf8.RuneCountInString(s.text[:from])
	}
	if at > len(s.runes) {
		return nil, nil
	}
	m, err := s.re.re.FindRunesMatchStartingAt(s.runes, at)
	if err != nil {
		return nil, fmt.Errorf("pcre_exec() failed: %d", -8)
	}
	if m == nil {
		return nil, nil
	}
	spans := make([]span, s.re.count+1)
	for i := range spans {
		spans[i] = span{-1, -1}
		if g := m.GroupByNumber(i); g != nil && len(g.Captures) > 0 {
			spans[i] = span{s.byteAt(g.Index), s.byteAt(g.Index + g.Length)}
		}
	}
	return spans, nil
}

var regexFlags = map[rune]regexp2.RegexOptions{
	'i': regexp2.IgnoreCase, 's': regexp2.Singleline, 'm': regexp2.Multiline, 'x': regexp2.IgnorePatternWhitespace,
}

func compileRegex(pattern, flags string) (*regex, error) {
	r := &regex{names: map[string][]int{}}
	var options regexp2.RegexOptions
	anchored := false
	for _, f := range flags {
		switch f {
		case 'j', 'o', 'J':
		case 'u', 'U':
			r.utf8 = true
		case 'a':
			anchored = true
		case 'D':
		default:
			option, ok := regexFlags[f]
			if !ok {
				return nil, fmt.Errorf("unknown flag %q (flags %q)", string(f), flags)
			}
			options |= option
		}
	}
	source := r.number(pattern)
	if !r.utf8 {
		source = string(r.runes(source))
	}
	if anchored {
		source = `\G(?:` + source + `)`
	}
	re, err := regexp2.Compile(source, options)
	if err != nil {
		text := err.Error()
		if i := strings.Index(text, ": "); i >= 0 {
			text = text[i+2:]
		}
		return nil, fmt.Errorf("pcre_compile() failed: %s in %q", text, pattern)
	}
	re.MatchTimeout = 5 * time.Second
	r.re = re
	return r, nil
}

// number writes named groups as plain ones: the library numbers named groups behind all
// others, PCRE where they stand.
func (r *regex) number(p string) string {
	var out strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		rest := p[i:]
		switch {
		case c == '\\' && i+1 < len(p):
			if name, n := backReference(rest); n > 0 {
				if numbers := r.names[name]; len(numbers) > 0 {
					fmt.Fprintf(&out, `(?:\%d)`, numbers[0])
					i += n - 1
					continue
				}
			}
			switch p[i+1] {
			case 'h': // a blank, which the library does not know
				out.WriteString(map[bool]string{true: ` \t`, false: `[ \t]`}[inClass])
			case 'R':
				out.WriteString(`(?:\r\n|\n|\r|\f|\v)`)
			default:
				out.WriteString(rest[:2])
			}
			i++
		case inClass:
			inClass = c != ']'
			if strings.HasPrefix(rest, "[:") {
				if class, n := posixClass(rest); n > 0 {
					out.WriteString(class)
					i += n - 1
					inClass = true
					continue
				}
				out.WriteByte('\\')
			} else if c == '[' {
				out.WriteByte('\\')
			}
			out.WriteByte(c)
		case c == '[':
			inClass = true
			out.WriteByte(c)
			// A bracket right at the start stands for itself.
			if strings.HasPrefix(rest, "[^]") {
				out.WriteString(`^\]`)
				i += 2
			} else if strings.HasPrefix(rest, "[]") {
				out.WriteString(`\]`)
				i++
			}
		case c == '(':
			if strings.HasPrefix(rest, "(?P=") {
				if end := strings.IndexByte(rest, ')'); end > 0 {
					if numbers := r.names[rest[4:end]]; len(numbers) > 0 {
						fmt.Fprintf(&out, `(?:\%d)`, numbers[0])
						i += end
						continue
					}
				}
			}
			if name, n := groupName(rest); n > 0 {
				r.count++
				r.names[name] = append(r.names[name], r.count)
				out.WriteByte('(')
				i += n - 1
				continue
			}
			if !strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(*") {
				r.count++
			}
			out.WriteByte(c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// groupName reads "(?<name>", "(?P<name>" and "(?'name'".
func groupName(s string) (name string, n int) {
	for _, open := range []string{"(?P<", "(?<", "(?'"} {
		rest, ok := strings.CutPrefix(s, open)
		if !ok || rest == "" || !isAlpha(rest[0]) && rest[0] != '_' {
			continue
		}
		if end := strings.IndexAny(rest, ">'"); end > 0 {
			return rest[:end], len(open) + end + 1
		}
	}
	return "", 0
}

// backReference reads \k<name>, \k{name} and \k'name'.
func backReference(s string) (name string, n int) {
	if len(s) < 4 || s[1] != 'k' || strings.IndexByte("<{'", s[2]) < 0 {
		return "", 0
	}
	end := strings.IndexAny(s[3:], ">}'")
	if end < 0 {
		return "", 0
	}
	return s[3 : 3+end], 3 + end + 1
}

var posixClasses = map[string]string{
	"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z",
	"space": `\s`, "blank": ` \t`, "punct": "!-/:-@\\[-`{-~", "xdigit": "0-9A-Fa-f", "word": "A-Za-z0-9_",
	"cntrl": `\x00-\x1f\x7f`, "print": ` -~`, "graph": "!-~",
}

func posixClass(s string) (class string, n int) {
	end := strings.Index(s, ":]")
	if end < 0 {
		return "", 0
	}
	class, ok := posixClasses[s[2:end]]
	if !ok {
		return "", 0
	}
	return class, end + 2
}

// regexArgs reads subject, pattern and flags.
func regexArgs(L *glua.LState, flagsAt int) (*subject, error) {
	s, pattern := checkText(L, 1), checkText(L, 2)
	flags := optText(L, flagsAt, "")
	re, err := compileRegex(pattern, flags)
	if err != nil {
		return nil, err
	}
	return re.over(s), nil
}

// position reads the field pos of a context, 0-based.
func position(ctx glua.LValue) int {
	if n, ok := field(ctx, "pos").(glua.LNumber); ok {
		return max(int(n)-1, 0)
	}
	return 0
}

func setPosition(ctx glua.LValue, spans []span) {
	if t, ok := ctx.(*glua.LTable); ok {
		t.RawSetString("pos", num(spans[0].end+1))
	}
}

// group is what a match has in place i: false when the group took no part.
func (s *subject) group(sp span) glua.LValue {
	if sp.start < 0 {
		return glua.LFalse
	}
	return str(s.text[sp.start:sp.end])
}

func (s *subject) table(L *glua.LState, t *glua.LTable, spans []span) *glua.LTable {
	if t == nil {
		t = L.NewTable()
	}
	for i, sp := range spans {
		t.RawSetInt(i, s.group(sp))
	}
	for name, numbers := range s.re.names {
		v := glua.LValue(glua.LFalse)
		for _, n := range numbers {
			if g := s.group(spans[n]); g != glua.LFalse {
				v = g
				break
			}
		}
		t.RawSetString(name, v)
	}
	return t
}

func reMatch(L *glua.LState) int {
	s, err := regexArgs(L, 3)
	if err != nil {
		return fail(L, err.Error())
	}
	ctx := L.Get(4)
	spans, err := s.findFrom(position(ctx))
	if err != nil {
		return fail(L, err.Error())
	}
	if spans == nil {
		return ret(L, glua.LNil)
	}
	setPosition(ctx, spans)
	t, _ := L.Get(5).(*glua.LTable)
	return ret(L, s.table(L, t, spans))
}

func (s *subject) findFrom(at int) ([]span, error) {
	if at > len(s.text) {
		return nil, nil
	}
	return s.find(at)
}

func reFind(L *glua.LState) int {
	s, err := regexArgs(L, 3)
	if err != nil {
		return ret(L, glua.LNil, glua.LNil, str(err.Error()))
	}
	ctx, nth := L.Get(4), L.OptInt(5, 0)
	spans, err := s.findFrom(position(ctx))
	if err != nil {
		return ret(L, glua.LNil, glua.LNil, str(err.Error()))
	}
	if spans == nil {
		return ret(L, glua.LNil)
	}
	if nth < 0 || nth >= len(spans) {
		return ret(L, glua.LNil, glua.LNil, str("nth out of bound"))
	}
	setPosition(ctx, spans)
	if spans[nth].start < 0 {
		return ret(L, glua.LNil, glua.LNil)
	}
	return ret(L, num(spans[nth].start+1), num(spans[nth].end))
}

// after is where to look on behind a match; an empty one moves by a character.
func (s *subject) after(sp span) int {
	if sp.end > sp.start {
		return sp.end
	}
	if s.bytes != nil && sp.end < len(s.text) {
		_, n := utf8.DecodeRuneInString(s.text[sp.end:])
		return sp.end + n
	}
	return sp.end + 1
}

func reGmatch(L *glua.LState) int {
	s, err := regexArgs(L, 3)
	if err != nil {
		return fail(L, err.Error())
	}
	pos := position(L.Get(4))
	return ret(L, L.NewFunction(func(L *glua.LState) int {
		spans, err := s.findFrom(pos)
		if err != nil {
			return fail(L, err.Error())
		}
		if spans == nil {
			pos = len(s.text) + 1
			return ret(L, glua.LNil)
		}
		pos = s.after(spans[0])
		return ret(L, s.table(L, nil, spans))
	}))
}

func reSub(L *glua.LState) int  { return substitute(L, 1) }
func reGsub(L *glua.LState) int { return substitute(L, -1) }

func substitute(L *glua.LState, limit int) int {
	s, err := regexArgs(L, 4)
	if err != nil {
		return ret(L, glua.LNil, glua.LNil, str(err.Error()))
	}
	repl := L.Get(3)
	fn, isFn := repl.(*glua.LFunction)
	var out strings.Builder
	done, n, pos := 0, 0, 0
	for n != limit {
		spans, err := s.findFrom(pos)
		if err != nil {
			return ret(L, glua.LNil, glua.LNil, str(err.Error()))
		}
		if spans == nil {
			break
		}
		n++
		out.WriteString(s.text[done:spans[0].start])
		if isFn {
			r, ok := text(callOne(L, fn, s.table(L, nil, spans)))
			if !ok {
				L.RaiseError("bad argument #3 to 'gsub' (string or number expected to be returned by the replace function)")
			}
			out.WriteString(r)
		} else {
			r, err := s.expand(checkText(L, 3), spans)
			if err != nil {
				return ret(L, glua.LNil, glua.LNil, str(err.Error()))
			}
			out.WriteString(r)
		}
		done = spans[0].end
		pos = s.after(spans[0])
	}
	out.WriteString(s.text[done:])
	return ret(L, str(out.String()), num(n))
}

// expand fills $0, $1, ${1} and $$ in.
func (s *subject) expand(template string, spans []span) (string, error) {
	var out strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '$' || i+1 == len(template) {
			out.WriteByte(template[i])
			continue
		}
		i++
		if template[i] == '$' {
			out.WriteByte('$')
			continue
		}
		braced := template[i] == '{'
		if braced {
			i++
		}
		start := i
		for i < len(template) && isDigit(template[i]) {
			i++
		}
		if start == i || braced && (i == len(template) || template[i] != '}') {
			return "", fmt.Errorf("failed to compile the replacement template: %q", template)
		}
		n, _ := parseNumber(template[start:i]).(glua.LNumber)
		if int(n) < len(spans) && spans[int(n)].start >= 0 {
			out.WriteString(s.text[spans[int(n)].start:spans[int(n)].end])
		}
		if !braced {
			i--
		}
	}
	return out.String(), nil
}

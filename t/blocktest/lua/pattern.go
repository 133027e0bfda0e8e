package lua

import (
	"errors"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// Patterns of Lua 5.1 with LuaJIT's %f and zero bytes, over bytes.

const (
	maxCaptures  = 32
	maxRecursion = 200000
)

var (
	errPatternEnd      = errors.New("malformed pattern (ends with '%')")
	errPatternBracket  = errors.New("malformed pattern (missing ']')")
	errPatternBalance  = errors.New("unbalanced pattern")
	errPatternFrontier = errors.New("missing '[' after '%f' in pattern")
	errCapture         = errors.New("invalid capture index")
	errPatternCapture  = errors.New("invalid pattern capture")
	errTooMany         = errors.New("too many captures")
	errTooDeep         = errors.New("pattern too complex")
)

const (
	capOpen     = -1
	capPosition = -2
)

type capture struct{ start, len int }

// matcher matches one pattern at one place. Errors of the pattern are panics of the
// errors above, which match turns back.
type matcher struct {
	src, pat string
	caps     []capture
	depth    int
}

// match tries the pattern at position at of src: the end of the match, -1 for none.
func (m *matcher) match(at int) (end int, err error) {
	defer func() {
		if e, ok := recover().(error); ok {
			end, err = -1, e
		}
	}()
	m.caps = m.caps[:0]
	m.depth = 0
	return m.do(at, 0), nil
}

// do matches the pattern from p on at position s.
func (m *matcher) do(s, p int) int {
	if m.depth++; m.depth > maxRecursion {
		panic(errTooDeep)
	}
	defer func() { m.depth-- }()
	for p < len(m.pat) {
		switch m.pat[p] {
		case '(':
			if strings.HasPrefix(m.pat[p:], "()") {
				return m.open(s, p+2, capPosition)
			}
			return m.open(s, p+1, capOpen)
		case ')':
			return m.close(s, p+1)
		case '$':
			if p+1 == len(m.pat) {
				if s == len(m.src) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 < len(m.pat) {
				switch c := m.pat[p+1]; {
				case c == 'b':
					if s = m.balance(s, p+2); s < 0 {
						return -1
					}
					p += 4
					continue
				case c == 'f':
					q := p + 2
					if q >= len(m.pat) || m.pat[q] != '[' {
						panic(errPatternFrontier)
					}
					end := m.classEnd(q)
					var before, here byte
					if s > 0 {
						before = m.src[s-1]
					}
					if s < len(m.src) {
						here = m.src[s]
					}
					if m.inSet(before, q, end-1) || !m.inSet(here, q, end-1) {
						return -1
					}
					p = end
					continue
				case isDigit(c):
					if s = m.again(s, c); s < 0 {
						return -1
					}
					p += 2
					continue
				}
			}
		}
		end := m.classEnd(p)
		one := func(s int) bool { return s < len(m.src) && m.single(m.src[s], p, end) }
		var suffix byte
		if end < len(m.pat) {
			suffix = m.pat[end]
		}
		switch suffix {
		case '?':
			if one(s) {
				if e := m.do(s+1, end+1); e >= 0 {
					return e
				}
			}
			p = end + 1
		case '*', '+':
			n := 0
			for one(s + n) {
				n++
			}
			least := 0
			if suffix == '+' {
				least = 1
			}
			for ; n >= least; n-- {
				if e := m.do(s+n, end+1); e >= 0 {
					return e
				}
			}
			return -1
		case '-':
			for {
				if e := m.do(s, end+1); e >= 0 {
					return e
				}
				if !one(s) {
					return -1
				}
				s++
			}
		default:
			if !one(s) {
				return -1
			}
			s++
			p = end
		}
	}
	return s
}

func (m *matcher) open(s, p, what int) int {
	if len(m.caps) >= maxCaptures {
		panic(errTooMany)
	}
	m.caps = append(m.caps, capture{s, what})
	n := len(m.caps)
	e := m.do(s, p)
	if e < 0 {
		m.caps = m.caps[:n-1]
	}
	return e
}

func (m *matcher) close(s, p int) int {
	for i := len(m.caps) - 1; i >= 0; i-- {
		if m.caps[i].len != capOpen {
			continue
		}
		m.caps[i].len = s - m.caps[i].start
		e := m.do(s, p)
		if e < 0 {
			m.caps[i].len = capOpen
		}
		return e
	}
	panic(errPatternCapture)
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		panic(errPatternBalance)
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	open, shut, depth := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		switch m.src[i] {
		case shut:
			if depth--; depth == 0 {
				return i + 1
			}
		case open:
			depth++
		}
	}
	return -1
}

func (m *matcher) again(s int, digit byte) int {
	i := int(digit - '1')
	if i < 0 || i >= len(m.caps) || m.caps[i].len == capOpen {
		panic(errCapture)
	}
	c := m.caps[i]
	if c.len >= 0 && strings.HasPrefix(m.src[s:], m.src[c.start:c.start+c.len]) {
		return s + c.len
	}
	return -1
}

func (m *matcher) classEnd(p int) int {
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			panic(errPatternEnd)
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p >= len(m.pat) || m.pat[p] != ']'; first = false {
			if p >= len(m.pat) {
				panic(errPatternBracket)
			}
			if m.pat[p] == '%' {
				p++
			}
			p++
		}
		return p + 1
	}
	return p
}

func (m *matcher) single(c byte, p, end int) bool {
	switch m.pat[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.pat[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	}
	return m.pat[p] == c
}

// inSet tells whether the set that opens at p and closes at end has c.
func (m *matcher) inSet(c byte, p, end int) bool {
	is := true
	p++
	if m.pat[p] == '^' {
		is = false
		p++
	}
	for ; p < end; p++ {
		switch {
		case m.pat[p] == '%':
			p++
			if inClass(c, m.pat[p]) {
				return is
			}
		case p+2 < end && m.pat[p+1] == '-':
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return is
			}
			p += 2
		case m.pat[p] == c:
			return is
		}
	}
	return !is
}

func inClass(c, class byte) bool {
	var in bool
	switch class | 0x20 {
	case 'a':
		in = isAlpha(c)
	case 'c':
		in = c < ' ' || c == 127
	case 'd':
		in = isDigit(c)
	case 'g':
		in = '!' <= c && c <= '~'
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = '!' <= c && c <= '~' && !isAlpha(c) && !isDigit(c)
	case 's':
		in = isSpace(c)
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = isAlpha(c) || isDigit(c)
	case 'x':
		in = isHex(c)
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if !isAlpha(class) {
		return class == c
	}
	return in != ('A' <= class && class <= 'Z')
}

func (m *matcher) value(i, start, end int) glua.LValue {
	if i >= len(m.caps) {
		if i == 0 {
			return glua.LString(m.src[start:end])
		}
		panic(errCapture)
	}
	c := m.caps[i]
	switch c.len {
	case capPosition:
		return glua.LNumber(c.start + 1)
	case capOpen:
		panic(errors.New("unfinished capture"))
	}
	return glua.LString(m.src[c.start : c.start+c.len])
}

// values are the captures, or the whole match when there are none and whole is set.
func (m *matcher) values(start, end int, whole bool) []glua.LValue {
	n := len(m.caps)
	if n == 0 && whole {
		n = 1
	}
	out := make([]glua.LValue, n)
	for i := range out {
		out[i] = m.value(i, start, end)
	}
	return out
}

// search finds the first match at or after init.
func (m *matcher) search(L *glua.LState, init int) (start, end int) {
	anchored := strings.HasPrefix(m.pat, "^")
	if anchored {
		m.pat = m.pat[1:]
	}
	for s := init; s <= len(m.src); s++ {
		end, err := m.match(s)
		if err != nil {
			L.RaiseError("%s", err.Error())
		}
		if end >= 0 {
			return s, end
		}
		if anchored {
			break
		}
	}
	return -1, -1
}

// startOf is the 0-based position of the optional argument init, -1 when it lies behind
// the string.
func startOf(L *glua.LState, n, length int) int {
	init := 1
	if L.Get(n) != glua.LNil {
		init = int(L.CheckNumber(n))
	}
	if init < 0 {
		init += length + 1
	}
	init = max(init, 1)
	if init > length+1 {
		return -1
	}
	return init - 1
}

func stringFind(L *glua.LState) int {
	src, pat := checkText(L, 1), checkText(L, 2)
	init := startOf(L, 3, len(src))
	if init < 0 {
		return ret(L, glua.LNil)
	}
	if glua.LVAsBool(L.Get(4)) || !strings.ContainsAny(pat, "^$*+?.([%-") {
		at := strings.Index(src[init:], pat)
		if at < 0 {
			return ret(L, glua.LNil)
		}
		return ret(L, glua.LNumber(init+at+1), glua.LNumber(init+at+len(pat)))
	}
	m := matcher{src: src, pat: pat}
	start, end := m.search(L, init)
	if start < 0 {
		return ret(L, glua.LNil)
	}
	return ret(L, append([]glua.LValue{glua.LNumber(start + 1), glua.LNumber(end)}, m.values(start, end, false)...)...)
}

func stringMatch(L *glua.LState) int {
	src := checkText(L, 1)
	m := matcher{src: src, pat: checkText(L, 2)}
	init := startOf(L, 3, len(src))
	if init < 0 {
		return ret(L, glua.LNil)
	}
	start, end := m.search(L, init)
	if start < 0 {
		return ret(L, glua.LNil)
	}
	return ret(L, m.values(start, end, true)...)
}

func stringGmatch(L *glua.LState) int {
	m := matcher{src: checkText(L, 1), pat: checkText(L, 2)}
	pos := 0
	return ret(L, L.NewFunction(func(L *glua.LState) int {
		for ; pos <= len(m.src); pos++ {
			end, err := m.match(pos)
			if err != nil {
				L.RaiseError("%s", err.Error())
			}
			if end < 0 {
				continue
			}
			values := m.values(pos, end, true)
			if end == pos {
				end++
			}
			pos = end
			return ret(L, values...)
		}
		return ret(L, glua.LNil)
	}))
}

func stringGsub(L *glua.LState) int {
	src, pat := checkText(L, 1), checkText(L, 2)
	repl := L.Get(3)
	switch repl.(type) {
	case glua.LString, glua.LNumber, *glua.LTable, *glua.LFunction:
	default:
		L.ArgError(3, "string/function/table expected, got "+repl.Type().String())
	}
	limit := len(src) + 1
	if L.Get(4) != glua.LNil {
		limit = L.CheckInt(4)
	}
	anchored := strings.HasPrefix(pat, "^")
	m := matcher{src: src, pat: strings.TrimPrefix(pat, "^")}
	var out strings.Builder
	n, pos := 0, 0
	for n < limit {
		end, err := m.match(pos)
		if err != nil {
			L.RaiseError("%s", err.Error())
		}
		if end >= 0 {
			n++
			out.WriteString(m.replacement(L, repl, pos, end))
		}
		switch {
		case end > pos:
			pos = end
		case pos < len(src):
			out.WriteByte(src[pos])
			pos++
		default:
			pos++
		}
		if pos > len(src) || anchored {
			break
		}
	}
	if pos < len(src) {
		out.WriteString(src[pos:])
	}
	return ret(L, glua.LString(out.String()), glua.LNumber(n))
}

func (m *matcher) replacement(L *glua.LState, repl glua.LValue, start, end int) string {
	var v glua.LValue
	switch r := repl.(type) {
	case *glua.LTable:
		v = L.GetTable(r, m.value(0, start, end))
	case *glua.LFunction:
		// The function may use patterns itself: the captures are read before.
		args := m.values(start, end, true)
		v = callOne(L, r, args...)
	default:
		s, _ := text(repl)
		return m.expand(L, s, start, end)
	}
	if !glua.LVAsBool(v) {
		return m.src[start:end]
	}
	s, ok := text(v)
	if !ok {
		L.RaiseError("invalid replacement value (a %s)", v.Type().String())
	}
	return s
}

func (m *matcher) expand(L *glua.LState, repl string, start, end int) string {
	if !strings.Contains(repl, "%") {
		return repl
	}
	var out strings.Builder
	for i := 0; i < len(repl); i++ {
		if repl[i] != '%' || i+1 == len(repl) {
			out.WriteByte(repl[i])
			continue
		}
		i++
		switch c := repl[i]; {
		case c == '0':
			out.WriteString(m.src[start:end])
		case isDigit(c):
			n := int(c - '1')
			if n > 0 && n >= len(m.caps) {
				L.RaiseError("%s", errCapture.Error())
			}
			s, _ := text(m.value(n, start, end))
			out.WriteString(s)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

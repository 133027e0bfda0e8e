package perl

import (
	"strconv"
	"strings"
)

// compileNode makes the Regexp of a pattern's parts. A qr// alone keeps its own flags.
func compileNode(f *frame, pattern node, flags string, line int) *Regexp {
	v := pattern.scalar(f)
	if c, ok := pattern.(*concat); ok && len(c.parts) == 1 && strings.Trim(flags, "goc") == "" {
		if re, ok := c.parts[0].scalar(f).(*Regexp); ok {
			return re
		}
	}
	if re, ok := v.(*Regexp); ok {
		return re
	}
	re, err := Compile(Text(v), flags)
	if err != nil {
		f.in.failHost(line, err)
	}
	return re
}

// compiled is qr/…/.
type compiled struct {
	pattern node
	flags   string
	line    int
}

func (n *compiled) scalar(f *frame) Value { return compileNode(f, n.pattern, n.flags, n.line) }
func (n *compiled) list(f *frame) []Value { return one(n.scalar(f)) }

// match is … =~ m/…/.
type match struct {
	target  node // nil: $_
	pattern node
	flags   string
	negate  bool
	line    int
}

func (n *match) subject(f *frame) string {
	if n.target == nil {
		return Text(f.in.globals["$_"].(*cell).v)
	}
	return Text(n.target.scalar(f))
}

func (f *frame) matchAt(re *Regexp, s string, from, line int) *Match {
	m, err := re.Find(s, from)
	if err != nil {
		f.in.failHost(line, err)
	}
	return m
}

// capture sets $&, $1, $2 … and %+.
func (in *Interp) capture(m *Match, s string) {
	for i := 1; ; i++ {
		name := "$" + strconv.Itoa(i)
		if _, ok := in.globals[name]; !ok && i >= len(m.Groups) {
			break
		}
		in.globals[name] = &cell{}
	}
	for i, at := range m.Groups {
		name := "$" + strconv.Itoa(i)
		if i == 0 {
			name = "$&"
		}
		in.globals[name] = &cell{v: group(at, s)}
	}
	named := NewHash()
	for name, i := range m.Names {
		named.Set(name, group(m.Groups[i], s))
	}
	in.globals["%+"] = named
}

func group(at [2]int, s string) Value {
	if at[0] < 0 {
		return nil
	}
	return s[at[0]:at[1]]
}

func (n *match) scalar(f *frame) Value {
	s := n.subject(f)
	re := compileNode(f, n.pattern, n.flags, n.line)
	if strings.Contains(n.flags, "g") {
		unsupported(n.line, "a match with /g in scalar context")
	}
	m := f.matchAt(re, s, 0, n.line)
	if m != nil {
		f.in.capture(m, s)
	}
	return boolean((m != nil) != n.negate)
}

func (n *match) list(f *frame) []Value {
	if n.negate {
		return one(n.scalar(f))
	}
	s := n.subject(f)
	re := compileNode(f, n.pattern, n.flags, n.line)
	global := strings.Contains(n.flags, "g")
	var out []Value
	for at := 0; at <= len(s); {
		m := f.matchAt(re, s, at, n.line)
		if m == nil {
			break
		}
		f.in.step(n.line)
		f.in.capture(m, s)
		for _, g := range m.Groups[1:] {
			out = append(out, group(g, s))
		}
		if len(m.Groups) == 1 {
			if !global {
				return one(boolean(true))
			}
			out = append(out, group(m.Groups[0], s))
		}
		if !global {
			break
		}
		at = after(m)
	}
	return out
}

// after is where the search for the next match begins: an empty one takes a step.
func after(m *Match) int {
	if m.Groups[0][0] == m.Groups[0][1] {
		return m.Groups[0][1] + 1
	}
	return m.Groups[0][1]
}

// substitute is … =~ s/…/…/.
type substitute struct {
	target  place // nil: $_
	pattern node
	replace node
	flags   string
	negate  bool
	line    int
}

func (n *substitute) scalar(f *frame) Value {
	target := n.target
	if target == nil {
		target = &scalarVar{name: "_", line: n.line}
	}
	s := Text(target.scalar(f))
	re := compileNode(f, n.pattern, n.flags, n.line)
	var out strings.Builder
	count, done := 0, 0
	for at := 0; at <= len(s); {
		m := f.matchAt(re, s, at, n.line)
		if m == nil {
			break
		}
		f.in.step(n.line)
		f.in.capture(m, s)
		out.WriteString(s[done:m.Groups[0][0]])
		out.WriteString(Text(n.replace.scalar(f)))
		if out.Len() > maxString {
			unsupported(n.line, "a text of %d bytes", out.Len())
		}
		count, done, at = count+1, m.Groups[0][1], after(m)
		if !strings.Contains(n.flags, "g") {
			break
		}
	}
	if strings.Contains(n.flags, "r") {
		return out.String() + s[done:]
	}
	if count > 0 {
		target.set(f, out.String()+s[done:])
	}
	if n.negate {
		return boolean(count == 0)
	}
	if count == 0 {
		return ""
	}
	return float64(count)
}
func (n *substitute) list(f *frame) []Value { return one(n.scalar(f)) }

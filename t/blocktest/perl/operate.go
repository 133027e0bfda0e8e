package perl

import (
	"math"
	"os"
	"path/filepath"
	"strings"
)

type not struct{ x node }

func (n *not) scalar(f *frame) Value { return boolean(!Truth(n.x.scalar(f))) }
func (n *not) list(f *frame) []Value { return one(n.scalar(f)) }

// logical is && || // and or xor. Both sides are evaluated in the context of the whole but
// for the left one, which is asked for its truth.
type logical struct {
	op          string
	left, right node
}

func (n *logical) decided(v Value) bool {
	switch n.op {
	case "&&", "and":
		return !Truth(v)
	case "||", "or":
		return Truth(v)
	}
	return v != nil // "//"
}

func (n *logical) scalar(f *frame) Value {
	v := n.left.scalar(f)
	switch {
	case n.op == "xor":
		return boolean(Truth(v) != Truth(n.right.scalar(f)))
	case n.decided(v):
		return v
	}
	return n.right.scalar(f)
}

func (n *logical) list(f *frame) []Value {
	if n.op == "xor" {
		return one(n.scalar(f))
	}
	if v := n.left.scalar(f); n.decided(v) {
		return one(v)
	}
	return n.right.list(f)
}

type ternary struct{ test, yes, no node }

func (n *ternary) branch(f *frame) node {
	if Truth(n.test.scalar(f)) {
		return n.yes
	}
	return n.no
}
func (n *ternary) scalar(f *frame) Value { return n.branch(f).scalar(f) }
func (n *ternary) list(f *frame) []Value { return n.branch(f).list(f) }

type between struct {
	from, to node
	line     int
}

func (n *between) list(f *frame) []Value {
	from, to := n.from.scalar(f), n.to.scalar(f)
	if s, ok := from.(string); ok && s != "" && strings.Trim(s, "-0123456789") != "" {
		unsupported(n.line, "a range of texts")
	}
	low, high := math.Trunc(Number(from)), math.Trunc(Number(to))
	if high-low > 1<<20 {
		unsupported(n.line, "a range of %g items", high-low)
	}
	var out []Value
	for ; low <= high; low++ {
		out = append(out, low)
	}
	return out
}

func (n *between) scalar(*frame) Value {
	unsupported(n.line, "a flip-flop")
	return nil
}

type compare struct {
	op          string
	left, right node
}

func (n *compare) scalar(f *frame) Value {
	a, b := n.left.scalar(f), n.right.scalar(f)
	switch n.op {
	case "==", "!=", "<", ">", "<=", ">=", "<=>":
		x, y := Number(a), Number(b)
		return compared(n.op, x < y, x == y)
	}
	x, y := Text(a), Text(b)
	return compared(n.op, x < y, x == y)
}
func (n *compare) list(f *frame) []Value { return one(n.scalar(f)) }

func compared(op string, less, equal bool) Value {
	switch op {
	case "==", "eq":
		return boolean(equal)
	case "!=", "ne":
		return boolean(!equal)
	case "<", "lt":
		return boolean(less)
	case ">", "gt":
		return boolean(!less && !equal)
	case "<=", "le":
		return boolean(less || equal)
	case ">=", "ge":
		return boolean(!less)
	}
	switch { // <=> and cmp
	case less:
		return float64(-1)
	case equal:
		return float64(0)
	}
	return float64(1)
}

// arith is the operators that make a number or a text of two.
type arith struct {
	op          string
	left, right node
	line        int
}

func (n *arith) scalar(f *frame) Value {
	f.in.step(n.line)
	return f.in.operate(n.op, n.left.scalar(f), n.right.scalar(f), n.line)
}

func (n *arith) list(f *frame) []Value {
	if l, ok := n.left.(*list); ok && n.op == "x" && l.parens {
		items := l.list(f)
		count := max(int(Number(n.right.scalar(f))), 0)
		if len(items)*count > 1<<20 {
			unsupported(n.line, "a list of %d items", len(items)*count)
		}
		var out []Value
		for range count {
			out = append(out, items...)
		}
		return out
	}
	return one(n.scalar(f))
}

func (in *Interp) operate(op string, a, b Value, line int) Value {
	switch op {
	case ".":
		s := Text(a) + Text(b)
		if len(s) > maxString {
			unsupported(line, "a text of %d bytes", len(s))
		}
		return s
	case "x":
		s, count := Text(a), Number(b)
		if float64(len(s))*count > maxString {
			unsupported(line, "a text of %g bytes", float64(len(s))*count)
		}
		return strings.Repeat(s, max(int(count), 0))
	}
	x, y := Number(a), Number(b)
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "/":
		if y == 0 {
			in.die(line, "Illegal division by zero")
		}
		return x / y
	case "**":
		return math.Pow(x, y)
	case "%":
		if y = math.Trunc(y); y == 0 {
			in.die(line, "Illegal modulus zero")
		}
		m := math.Mod(math.Trunc(x), y)
		if m != 0 && (m < 0) != (y < 0) {
			m += y
		}
		return m
	}
	unsupported(line, "the operator %s", op)
	return nil
}

// assign is = and its kin, ++ and --.
type assign struct {
	op   string // "" for =
	to   place
	from node
	post bool // $x++
	line int
}

func (n *assign) scalar(f *frame) Value {
	switch n.op {
	case "":
		v := n.from.scalar(f)
		n.to.set(f, v)
		return v
	case "||", "&&", "//":
		old := n.to.scalar(f)
		if (&logical{op: n.op}).decided(old) {
			return old
		}
		v := n.from.scalar(f)
		n.to.set(f, v)
		return v
	}
	old := n.to.scalar(f)
	v := f.in.operate(n.op, old, n.from.scalar(f), n.line)
	n.to.set(f, v)
	if n.post {
		return old
	}
	return v
}
func (n *assign) list(f *frame) []Value { return one(n.scalar(f)) }

// set lets (my $x = …) =~ s/…/…/ change $x.
func (n *assign) set(f *frame, v Value) {
	if d, ok := n.to.(*declare); ok {
		f.need(d.names[0], n.line).(*cell).v = v
		return
	}
	n.to.set(f, v)
}

// assignList gives each variable on the left its share of a list.
type assignList struct {
	to   []node
	from node
	line int
}

func (n *assignList) list(f *frame) []Value {
	values := n.from.list(f)
	rest := values
	for _, to := range n.to {
		rest = n.give(f, to, rest)
	}
	return values
}

// scalar is how many values there were, as in `if ((my @x = f()) …)`.
func (n *assignList) scalar(f *frame) Value { return float64(len(n.list(f))) }

// give assigns what a node takes and returns the rest.
func (n *assignList) give(f *frame, to node, values []Value) []Value {
	switch to := to.(type) {
	case *declare:
		to.declare(f)
		for _, name := range to.names {
			values = give(name, f, values)
		}
		return values
	case *arrayVar, *derefArray:
		arrayOf(f, to).Elems = append([]Value(nil), values...)
		return nil
	case *hashVar, *derefHash:
		h := hashOf(f, to)
		clear(h.m)
		fill(h, values)
		return nil
	case place:
		to.set(f, first(values))
	case *builtinCall: // undef
		if to.name != "undef" || to.args != nil {
			unsupported(n.line, "an assignment to %s", to.name)
		}
	default:
		unsupported(n.line, "an assignment to what is no variable")
	}
	return values[min(1, len(values)):]
}

func give(name string, f *frame, values []Value) []Value {
	if name != "" {
		switch v := f.find(name).(type) {
		case *cell:
			v.v = first(values)
		case *Array:
			v.Elems = append([]Value(nil), values...)
			return nil
		case *Hash:
			clear(v.m)
			fill(v, values)
			return nil
		}
	}
	return values[min(1, len(values)):]
}

func first(values []Value) Value {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}

// fileTest is -f, -x and the like.
type fileTest struct {
	op   byte
	path node
	line int
}

func (n *fileTest) scalar(f *frame) Value {
	path := Text(n.path.scalar(f))
	info, err := os.Stat(f.in.path(path, n.line))
	if err != nil {
		return boolean(false)
	}
	switch n.op {
	case 'e':
		return boolean(true)
	case 'f':
		return boolean(info.Mode().IsRegular())
	case 'd':
		return boolean(info.IsDir())
	case 'x':
		return boolean(info.Mode()&0o111 != 0)
	case 's':
		if info.Size() > 0 {
			return float64(info.Size())
		}
		return boolean(false)
	}
	unsupported(n.line, "-%c", n.op)
	return nil
}
func (n *fileTest) list(f *frame) []Value { return one(n.scalar(f)) }

// path is where a program's path leads.
func (in *Interp) path(path string, line int) string {
	if filepath.IsAbs(path) {
		return path
	}
	if in.opts.Home == "" {
		unsupported(line, "the file %s without a home directory", path)
	}
	return filepath.Join(in.opts.Home, path)
}

// command is `…`.
type command struct {
	text node
	line int
}

func (n *command) scalar(f *frame) Value {
	text := Text(n.text.scalar(f))
	if f.in.opts.Command != nil {
		if out, ok := f.in.opts.Command(text); ok {
			return out
		}
	}
	unsupported(n.line, "the command `%s`", text)
	return nil
}
func (n *command) list(f *frame) []Value { return one(n.scalar(f)) }

// readHandle is <$fh>: a line, all lines, or with $/ undefined the rest.
type readHandle struct {
	handle node
	line   int
}

func (n *readHandle) next(f *frame) Value {
	h, ok := n.handle.scalar(f).(*handle)
	if !ok {
		unsupported(n.line, "reading from what is no file")
	}
	rest := h.data[h.at:]
	if len(rest) == 0 {
		return nil
	}
	if separator := f.in.globals["$/"].(*cell).v; separator != nil {
		if Text(separator) != "\n" {
			unsupported(n.line, "$/")
		}
		line, _, found := strings.Cut(string(rest), "\n")
		if found {
			line += "\n"
		}
		h.at += len(line)
		return line
	}
	h.at = len(h.data)
	return string(rest)
}

func (n *readHandle) scalar(f *frame) Value { return n.next(f) }

func (n *readHandle) list(f *frame) []Value {
	var out []Value
	for v := n.next(f); v != nil; v = n.next(f) {
		out = append(out, v)
	}
	return out
}

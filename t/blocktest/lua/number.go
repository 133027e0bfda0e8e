package lua

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// formatNumber is C's %.14g, as Lua prints numbers.
func formatNumber(n glua.LNumber) string {
	f := float64(n)
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == math.Trunc(f) && math.Abs(f) < 1e14:
		if f == 0 && math.Signbit(f) {
			return "-0"
		}
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', 14, 64)
}

// text is a string or a number as lua_tolstring gives it.
func text(v glua.LValue) (string, bool) {
	switch v := v.(type) {
	case glua.LString:
		return string(v), true
	case glua.LNumber:
		return formatNumber(v), true
	}
	return "", false
}

// checkText is the string argument n.
func checkText(L *glua.LState, n int) string {
	s, ok := text(L.Get(n))
	if !ok {
		L.TypeError(n, glua.LTString)
	}
	return s
}

func optText(L *glua.LState, n int, def string) string {
	if L.Get(n) == glua.LNil {
		return def
	}
	return checkText(L, n)
}

// tostring is Lua's.
func tostring(L *glua.LState, v glua.LValue) string {
	if s, ok := text(v); ok {
		return s
	}
	if ud, ok := v.(*glua.LUserData); ok && ud == runtimeOf(L).null {
		return "userdata: NULL"
	}
	if m := L.GetMetaField(v, "__tostring"); m != glua.LNil {
		L.Push(m)
		L.Push(v)
		L.Call(1, 1)
		s, _ := text(L.Get(-1))
		L.Pop(1)
		return s
	}
	if fn, ok := v.(*glua.LFunction); ok && fn.IsG {
		return strings.Replace(v.String(), "function: ", "function: builtin: ", 1)
	}
	return v.String()
}

// stringFormat is string.format with the corners of C's printf.
func stringFormat(L *glua.LState) int {
	format := checkText(L, 1)
	var out strings.Builder
	arg := 1
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out.WriteByte(format[i])
			continue
		}
		i++
		start := i
		for i < len(format) && strings.IndexByte("-+ #0123456789.", format[i]) >= 0 {
			i++
		}
		if i >= len(format) {
			L.RaiseError("invalid option '%%' to 'format'")
		}
		spec, verb := format[start:i], format[i]
		if verb == '%' {
			out.WriteByte('%')
			continue
		}
		arg++
		if arg > L.GetTop() {
			L.ArgError(arg, "no value")
		}
		out.WriteString(formatOne(L, spec, verb, arg))
	}
	return ret(L, glua.LString(out.String()))
}

func formatOne(L *glua.LState, spec string, verb byte, arg int) string {
	switch verb {
	case 'd', 'i':
		return fmt.Sprintf("%"+spec+"d", int64(L.CheckNumber(arg)))
	case 'u', 'x', 'X', 'o':
		if verb == 'u' {
			verb = 'd'
		}
		n := float64(L.CheckNumber(arg))
		if n < 0 {
			return fmt.Sprintf("%"+spec+string(verb), uint64(int64(n)))
		}
		return fmt.Sprintf("%"+spec+string(verb), uint64(n))
	case 'c':
		return string([]byte{byte(L.CheckInt(arg))})
	case 'e', 'E', 'f', 'F', 'g', 'G', 'a', 'A':
		return formatFloat(spec, verb, float64(L.CheckNumber(arg)))
	case 'q':
		return quoteLua(checkText(L, arg))
	case 's':
		return fmt.Sprintf("%"+spec+"s", bytesOf(tostring(L, L.Get(arg))))
	}
	L.RaiseError("invalid option '%%%c' to 'format'", verb)
	return ""
}

// bytesOf makes fmt count bytes, not runes.
type bytesOf string

// Format pads and cuts by bytes.
func (b bytesOf) Format(f fmt.State, _ rune) {
	s := string(b)
	if p, ok := f.Precision(); ok && p < len(s) {
		s = s[:p]
	}
	pad := ""
	if w, ok := f.Width(); ok && w > len(s) {
		pad = strings.Repeat(" ", w-len(s))
	}
	if f.Flag('-') {
		s += pad
	} else {
		s = pad + s
	}
	_, _ = f.Write([]byte(s))
}

func formatFloat(spec string, verb byte, n float64) string {
	if math.IsInf(n, 0) || math.IsNaN(n) {
		return fmt.Sprintf("%"+strings.NewReplacer("0", "", ".", "").Replace(spec)+"s", bytesOf(formatNumber(glua.LNumber(n))))
	}
	switch verb {
	case 'a', 'A':
		verb = verb - 'a' + 'x'
	case 'g', 'G':
		// C's %g has six digits, Go's as many as it takes.
		if !strings.Contains(spec, ".") {
			spec += ".6"
		} else if strings.HasSuffix(spec, ".0") {
			spec = strings.TrimSuffix(spec, "0") + "1"
		}
	}
	return fmt.Sprintf("%"+spec+string(verb), n)
}

func quoteLua(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			out.WriteByte('\\')
			out.WriteByte(c)
		case '\r':
			out.WriteString(`\r`)
		case 0:
			out.WriteString(`\0`)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// parseNumber is tonumber: nil for what is not a number.
func parseNumber(s string) glua.LValue {
	s = strings.TrimFunc(s, func(r rune) bool { return r < 0x80 && isSpace(byte(r)) })
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	if hex, ok := cutHex(digits); ok {
		n, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			return glua.LNil
		}
		if negative {
			return glua.LNumber(-float64(n))
		}
		return glua.LNumber(n)
	}
	if digits == "" || strings.Trim(digits, "0123456789.eE+-") != "" {
		return glua.LNil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(n, 0) {
		return glua.LNil
	}
	return glua.LNumber(n)
}

func cutHex(s string) (string, bool) {
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
		return s[2:], true
	}
	return s, false
}

func parseBase(s string, base int) glua.LValue {
	if base == 16 {
		s, _ = cutHex(s)
	}
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		u, err := strconv.ParseUint(s, base, 64)
		if err != nil {
			return glua.LNil
		}
		return glua.LNumber(u)
	}
	return glua.LNumber(n)
}

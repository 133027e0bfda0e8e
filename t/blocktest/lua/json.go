package lua

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	glua "github.com/yuin/gopher-lua"
)

// jsonCodec is one instance of cjson with its settings.
type jsonCodec struct {
	rt            *Runtime
	emptyArray    *glua.LUserData
	arrayMT       *glua.LTable
	emptyArrayMT  *glua.LTable
	emptyAsObject bool
	escapeSlash   bool
	decodeArrayMT bool
	sparseConvert bool
	sparseRatio   int
	sparseSafe    int
	maxDepth      int
	decodeDepth   int
	precision     int
	invalid       string // "false", "true", "null"
	sortKeys      bool
	indent        string
}

func (rt *Runtime) newJSON(like *jsonCodec) *jsonCodec {
	c := &jsonCodec{
		rt: rt, emptyAsObject: true, escapeSlash: true,
		sparseRatio: 2, sparseSafe: 10, maxDepth: 1000, decodeDepth: 1000, precision: 14, invalid: "false",
	}
	if like != nil {
		c.emptyArray, c.arrayMT, c.emptyArrayMT = like.emptyArray, like.arrayMT, like.emptyArrayMT
		return c
	}
	c.emptyArray = userdata(nil)
	c.arrayMT = rt.state.NewTable()
	c.emptyArrayMT = rt.state.NewTable()
	return c
}

// cjson makes the module; safe is how cjson.safe reports errors.
func (c *jsonCodec) cjson(safe bool) *glua.LTable {
	L := c.rt.state
	give := func(L *glua.LState, v glua.LValue, err error) int {
		if err == nil {
			return ret(L, v)
		}
		if safe {
			return fail(L, err.Error())
		}
		L.RaiseError("%s", err.Error())
		return 0
	}
	m := module(L, funcs{
		"encode": func(L *glua.LState) int {
			s, err := c.encode(L.Get(1))
			return give(L, str(s), err)
		},
		"decode": func(L *glua.LState) int {
			s, ok := text(L.Get(1))
			if !ok {
				return give(L, nil, fmt.Errorf("bad argument #1 to 'decode' (string expected, got %s)", typeName(L, 1)))
			}
			v, err := c.decode(s)
			return give(L, v, err)
		},
		"new":                                 func(L *glua.LState) int { return ret(L, c.rt.newJSON(c).cjson(safe)) },
		"encode_empty_table_as_object":        setting(&c.emptyAsObject),
		"encode_escape_forward_slash":         setting(&c.escapeSlash),
		"decode_array_with_array_mt":          setting(&c.decodeArrayMT),
		"encode_keep_buffer":                  func(L *glua.LState) int { return ret(L, glua.LTrue) },
		"decode_invalid_numbers":              func(L *glua.LState) int { return ret(L, glua.LTrue) },
		"encode_skip_unsupported_value_types": func(L *glua.LState) int { unsupported(L, "cjson.encode_skip_unsupported_value_types"); return 0 },
		"encode_max_depth":                    intSetting(&c.maxDepth),
		"decode_max_depth":                    intSetting(&c.decodeDepth),
		"encode_number_precision":             intSetting(&c.precision),
		"encode_indent": func(L *glua.LState) int {
			c.indent = optText(L, 1, "")
			return ret(L, str(c.indent))
		},
		"encode_invalid_numbers": func(L *glua.LState) int {
			if v := L.Get(1); v != glua.LNil {
				c.invalid = tostring(L, v)
			}
			return ret(L, str(c.invalid))
		},
		"encode_sparse_array": func(L *glua.LState) int {
			if v := L.Get(1); v != glua.LNil {
				c.sparseConvert = glua.LVAsBool(v)
			}
			c.sparseRatio, c.sparseSafe = L.OptInt(2, c.sparseRatio), L.OptInt(3, c.sparseSafe)
			return ret(L, glua.LBool(c.sparseConvert), num(c.sparseRatio), num(c.sparseSafe))
		},
	})
	m.RawSetString("null", c.rt.null)
	m.RawSetString("empty_array", c.emptyArray)
	m.RawSetString("array_mt", c.arrayMT)
	m.RawSetString("empty_array_mt", c.emptyArrayMT)
	m.RawSetString("_NAME", str("cjson"))
	m.RawSetString("_VERSION", str("2.1.0.14"))
	return m
}

func typeName(L *glua.LState, n int) string {
	if n > L.GetTop() {
		return "no value"
	}
	return L.Get(n).Type().String()
}

func setting(b *bool) glua.LGFunction {
	return func(L *glua.LState) int {
		if L.GetTop() > 0 {
			*b = glua.LVAsBool(L.Get(1))
		}
		return ret(L, glua.LBool(*b))
	}
}

func intSetting(n *int) glua.LGFunction {
	return func(L *glua.LState) int {
		*n = L.OptInt(1, *n)
		return ret(L, num(*n))
	}
}

func (c *jsonCodec) encode(v glua.LValue) (string, error) {
	var out strings.Builder
	err := c.write(&out, v, 1)
	return out.String(), err
}

func (c *jsonCodec) write(out *strings.Builder, v glua.LValue, depth int) error {
	switch v := v.(type) {
	case *glua.LNilType:
		out.WriteString("null")
	case glua.LBool:
		out.WriteString(v.String())
	case glua.LNumber:
		return c.writeNumber(out, v)
	case glua.LString:
		c.writeString(out, string(v))
	case *glua.LTable:
		return c.writeTable(out, v, depth)
	default:
		switch v {
		case c.rt.null:
			out.WriteString("null")
		case c.emptyArray:
			out.WriteString("[]")
		default:
			return said("Cannot serialise %s: type not supported", v.Type())
		}
	}
	return nil
}

func (c *jsonCodec) writeNumber(out *strings.Builder, n glua.LNumber) error {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		switch c.invalid {
		case "null":
			out.WriteString("null")
			return nil
		case "true":
			out.WriteString(formatNumber(n))
			return nil
		}
		return said("Cannot serialise number: must not be NaN or Infinity")
	}
	if c.precision == 14 {
		out.WriteString(formatNumber(n))
	} else {
		out.WriteString(strconv.FormatFloat(f, 'g', c.precision, 64))
	}
	return nil
}

var jsonEscapes = map[byte]string{
	'"': `\"`, '\\': `\\`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`, 127: `\u007f`,
}

func (c *jsonCodec) writeString(out *strings.Builder, s string) {
	out.WriteByte('"')
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case b == '/' && c.escapeSlash:
			out.WriteString(`\/`)
		case b < ' ' || b == '"' || b == '\\' || b == 127:
			if e, ok := jsonEscapes[b]; ok {
				out.WriteString(e)
			} else {
				fmt.Fprintf(out, `\u%04x`, b)
			}
		default:
			out.WriteByte(b)
		}
	}
	out.WriteByte('"')
}

func (c *jsonCodec) writeTable(out *strings.Builder, t *glua.LTable, depth int) error {
	if depth > c.maxDepth {
		return said("Cannot serialise, excessive depth (%d)", depth)
	}
	if t.Metatable == c.arrayMT {
		return c.writeArray(out, t, t.MaxN(), depth)
	}
	n, err := c.arrayLength(t)
	switch {
	case err != nil:
		return err
	case n > 0 || n == 0 && (!c.emptyAsObject || t.Metatable == c.emptyArrayMT):
		return c.writeArray(out, t, n, depth)
	}
	return c.writeObject(out, t, depth)
}

// arrayLength is -1 for an object.
func (c *jsonCodec) arrayLength(t *glua.LTable) (int, error) {
	most, items, object := 0, 0, false
	each(t, func(k, _ glua.LValue) {
		n, ok := k.(glua.LNumber)
		if !ok || n < 1 || n != glua.LNumber(math.Trunc(float64(n))) {
			object = true
			return
		}
		most = max(most, int(n))
		items++
	})
	if object {
		return -1, nil
	}
	if c.sparseRatio > 0 && most > items*c.sparseRatio && most > c.sparseSafe {
		if !c.sparseConvert {
			return 0, said("Cannot serialise table: excessively sparse array")
		}
		return -1, nil
	}
	return most, nil
}

func (c *jsonCodec) newline(out *strings.Builder, depth int) {
	if c.indent != "" {
		out.WriteByte('\n')
		out.WriteString(strings.Repeat(c.indent, depth))
	}
}

func (c *jsonCodec) writeArray(out *strings.Builder, t *glua.LTable, n, depth int) error {
	out.WriteByte('[')
	for i := 1; i <= n; i++ {
		if i > 1 {
			out.WriteByte(',')
		}
		c.newline(out, depth)
		if err := c.write(out, t.RawGetInt(i), depth+1); err != nil {
			return err
		}
	}
	if n > 0 {
		c.newline(out, depth-1)
	}
	out.WriteByte(']')
	return nil
}

func (c *jsonCodec) writeObject(out *strings.Builder, t *glua.LTable, depth int) error {
	type member struct {
		key   string
		value glua.LValue
	}
	var members []member
	var err error
	each(t, func(k, v glua.LValue) {
		key, ok := text(k)
		if !ok {
			err = said("Cannot serialise table: table key must be a number or string")
		}
		members = append(members, member{key, v})
	})
	if err != nil {
		return err
	}
	if c.sortKeys {
		sort.Slice(members, func(i, j int) bool { return members[i].key < members[j].key })
	}
	out.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			out.WriteByte(',')
		}
		c.newline(out, depth)
		c.writeString(out, m.key)
		out.WriteByte(':')
		if c.indent != "" {
			out.WriteByte(' ')
		}
		if err := c.write(out, m.value, depth+1); err != nil {
			return err
		}
	}
	if len(members) > 0 {
		c.newline(out, depth-1)
	}
	out.WriteByte('}')
	return nil
}

// Tokens, by the names that messages have for them.
const (
	tObjBegin = "T_OBJ_BEGIN"
	tObjEnd   = "T_OBJ_END"
	tArrBegin = "T_ARR_BEGIN"
	tArrEnd   = "T_ARR_END"
	tString   = "T_STRING"
	tNumber   = "T_NUMBER"
	tInteger  = "T_INTEGER"
	tBoolean  = "T_BOOLEAN"
	tNull     = "T_NULL"
	tColon    = "T_COLON"
	tComma    = "T_COMMA"
	tEnd      = "T_END"
)

var jsonPunctuation = map[byte]string{
	'{': tObjBegin, '}': tObjEnd, '[': tArrBegin, ']': tArrEnd, ':': tColon, ',': tComma,
}

// jsonParser reads what cjson reads, with its messages.
type jsonParser struct {
	c     *jsonCodec
	lax   bool // reads what dkjson reads beside: a comma before the end, comments
	src   string
	pos   int
	kind  string // of the token, or what is wrong with it
	at    int    // where it begins
	value glua.LValue
	depth int
}

func (c *jsonCodec) decode(src string) (glua.LValue, error) {
	p := &jsonParser{c: c, src: src}
	p.next()
	v, err := p.parse()
	if err != nil {
		return nil, err
	}
	p.next()
	if p.kind != tEnd {
		return nil, p.expected("the end")
	}
	return v, nil
}

func (p *jsonParser) expected(what string) error {
	return said("Expected %s but found %s at character %d", what, p.kind, p.at+1)
}

func (p *jsonParser) next() {
	p.space()
	p.at = p.pos
	if p.pos == len(p.src) {
		p.kind = tEnd
		return
	}
	c := p.src[p.pos]
	if kind, ok := jsonPunctuation[c]; ok {
		p.kind = kind
		p.pos++
		return
	}
	switch {
	case c == '"':
		p.readString()
	case c == '-' || isDigit(c):
		p.readNumber()
	case p.word("true"):
		p.kind, p.value = tBoolean, glua.LTrue
	case p.word("false"):
		p.kind, p.value = tBoolean, glua.LFalse
	case p.word("null"):
		p.kind, p.value = tNull, p.c.rt.null
	default:
		p.kind = "invalid token"
	}
}

// space skips what stands between tokens.
func (p *jsonParser) space() {
	for p.pos < len(p.src) {
		rest := p.src[p.pos:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			p.pos++
			continue
		case p.lax && strings.HasPrefix(rest, "//"):
			if end := strings.IndexAny(rest, "\r\n"); end >= 0 {
				p.pos += end
				continue
			}
		case p.lax && strings.HasPrefix(rest, "/*"):
			if end := strings.Index(rest, "*/"); end >= 0 {
				p.pos += end + len("*/")
				continue
			}
		}
		return
	}
}

func (p *jsonParser) word(w string) bool {
	if !strings.HasPrefix(p.src[p.pos:], w) {
		return false
	}
	p.pos += len(w)
	return true
}

func (p *jsonParser) readNumber() {
	end := p.pos + 1
	for end < len(p.src) && isDigit(p.src[end]) {
		end++
	}
	p.kind = tInteger
	if end < len(p.src) && strings.IndexByte(".eExX", p.src[end]) >= 0 || end == p.pos+1 && p.src[p.pos] == '-' {
		p.kind = tNumber
		for end < len(p.src) && (isHex(p.src[end]) || strings.IndexByte(".+-xX", p.src[end]) >= 0) {
			end++
		}
	}
	// strtod takes the longest prefix that is a number.
	for ; end > p.pos; end-- {
		if v := parseNumber(p.src[p.pos:end]); v != glua.LNil {
			p.value, p.pos = v, end
			return
		}
	}
	p.kind = "invalid number"
}

func (p *jsonParser) readString() {
	var out strings.Builder
	p.pos++
	for {
		if p.pos >= len(p.src) {
			p.kind, p.at = "unexpected end of string", p.pos
			return
		}
		c := p.src[p.pos]
		switch c {
		case '"':
			p.pos++
			p.kind, p.value = tString, str(out.String())
			return
		case '\\':
			if !p.readEscape(&out) {
				p.at = p.pos
				return
			}
		default:
			out.WriteByte(c)
			p.pos++
		}
	}
}

var jsonUnescapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r'}

func (p *jsonParser) readEscape(out *strings.Builder) bool {
	if p.pos+1 >= len(p.src) {
		p.kind = "invalid escape code"
		return false
	}
	c := p.src[p.pos+1]
	if c != 'u' {
		plain, ok := jsonUnescapes[c]
		if !ok {
			p.kind = "invalid escape code"
			return false
		}
		out.WriteByte(plain)
		p.pos += 2
		return true
	}
	r, n, ok := p.codepoint()
	if !ok {
		p.kind = "invalid unicode escape code"
		return false
	}
	p.pos += n
	out.WriteString(string(utf8.AppendRune(nil, r)))
	return true
}

// codepoint reads \uXXXX or a pair of surrogates.
func (p *jsonParser) codepoint() (r rune, n int, ok bool) {
	high, ok := hex4(p.src[p.pos+2:])
	if !ok || high&0xFC00 == 0xDC00 {
		return 0, 0, false
	}
	if high&0xF800 != 0xD800 {
		return high, 6, true
	}
	rest := p.src[p.pos+6:]
	if !strings.HasPrefix(rest, `\u`) {
		return 0, 0, false
	}
	low, ok := hex4(rest[2:])
	if !ok || low&0xFC00 != 0xDC00 {
		return 0, 0, false
	}
	return (high&0x3FF)<<10 + low&0x3FF + 0x10000, 12, true
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 32)
	return rune(n), err == nil
}

func (p *jsonParser) parse() (glua.LValue, error) {
	switch p.kind {
	case tString, tNumber, tInteger, tBoolean, tNull:
		return p.value, nil
	case tObjBegin, tArrBegin:
		p.depth++
		defer func() { p.depth-- }()
		if p.depth > p.c.decodeDepth {
			return nil, said("Found too many nested data structures (%d) at character %d", p.depth, p.pos)
		}
		if p.kind == tObjBegin {
			return p.object()
		}
		return p.array()
	}
	return nil, p.expected("value")
}

func (p *jsonParser) object() (glua.LValue, error) {
	t := p.c.rt.state.NewTable()
	p.next()
	if p.kind == tObjEnd {
		return t, nil
	}
	for {
		if p.kind != tString {
			return nil, p.expected("object key string")
		}
		key := p.value
		p.next()
		if p.kind != tColon {
			return nil, p.expected("colon")
		}
		p.next()
		v, err := p.parse()
		if err != nil {
			return nil, err
		}
		t.RawSet(key, v)
		p.next()
		if p.kind == tObjEnd {
			return t, nil
		}
		if p.kind != tComma {
			return nil, p.expected("comma or object end")
		}
		p.next()
		if p.lax && p.kind == tObjEnd {
			return t, nil
		}
	}
}

func (p *jsonParser) array() (glua.LValue, error) {
	t := p.c.rt.state.NewTable()
	if p.c.decodeArrayMT {
		t.Metatable = p.c.arrayMT
	}
	p.next()
	if p.kind == tArrEnd {
		return t, nil
	}
	for i := 1; ; i++ {
		v, err := p.parse()
		if err != nil {
			return nil, err
		}
		t.RawSetInt(i, v)
		p.next()
		if p.kind == tArrEnd {
			return t, nil
		}
		if p.kind != tComma {
			return nil, p.expected("comma or array end")
		}
		p.next()
		if p.lax && p.kind == tArrEnd {
			return t, nil
		}
	}
}

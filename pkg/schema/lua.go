package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// TypeName is the word that the reference has for the type of v, a decoded JSON value:
// "table" for objects and arrays, "userdata" for null.
func TypeName(v any) string {
	switch v.(type) {
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number, float64:
		return "number"
	case map[string]any, []any:
		return "table"
	}
	return "userdata" // null
}

// luaNumber writes f as Lua does, that is as C's "%.14g".
func luaNumber(f float64) string { return strconv.FormatFloat(f, 'g', 14, 64) }

// quote writes s as LuaJIT's "%q".
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\' || c == '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			code := strconv.Itoa(int(c))
			if i+1 < len(s) && '0' <= s[i+1] && s[i+1] <= '9' {
				code = strings.Repeat("0", 3-len(code)) + code
			}
			b.WriteByte('\\')
			b.WriteString(code)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func joined(words []string) string { return strings.Join(words, ", ") }

// jsonList writes words as a compact JSON array.
func jsonList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = string(appendString(nil, w))
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// canonical appends a text to b that is the same for equal values only: numbers by value,
// members by name, an empty object as an empty array.
func canonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendString(b, v)
	case json.Number, float64:
		return strconv.AppendFloat(b, number(v)+0, 'g', -1, 64)
	case []any:
		b = append(b, '[')
		for _, item := range v {
			b = append(canonical(b, item), ',')
		}
		return append(b, ']')
	case map[string]any:
		if len(v) == 0 {
			return append(b, "[]"...)
		}
		b = append(b, '{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b = append(appendString(b, name), ':')
			b = append(canonical(b, v[name]), ',')
		}
		return append(b, '}')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return strconv.AppendQuote(b, s)
}

package lua

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"hash/crc32"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// asText is the string argument n as nginx's own functions take it: nil is empty.
func asText(L *glua.LState, n int) string {
	switch v := L.Get(n).(type) {
	case *glua.LNilType:
		return ""
	case glua.LBool:
		return v.String()
	}
	return checkText(L, n)
}

func onText(f func(string) glua.LValue) glua.LGFunction {
	return func(L *glua.LState) int { return ret(L, f(asText(L, 1))) }
}

var codecFuncs = funcs{
	"md5":         onText(func(s string) glua.LValue { h := md5.Sum([]byte(s)); return str(hex.EncodeToString(h[:])) }),
	"md5_bin":     onText(func(s string) glua.LValue { h := md5.Sum([]byte(s)); return str(string(h[:])) }),
	"sha1_bin":    onText(func(s string) glua.LValue { h := sha1.Sum([]byte(s)); return str(string(h[:])) }),
	"crc32_short": onText(func(s string) glua.LValue { return num(crc32.ChecksumIEEE([]byte(s))) }),
	"crc32_long":  onText(func(s string) glua.LValue { return num(crc32.ChecksumIEEE([]byte(s))) }),
	"hmac_sha1": func(L *glua.LState) int {
		h := hmac.New(sha1.New, []byte(checkText(L, 1)))
		h.Write([]byte(checkText(L, 2)))
		return ret(L, str(string(h.Sum(nil))))
	},
	"encode_base64": func(L *glua.LState) int {
		enc := base64.StdEncoding
		if glua.LVAsBool(L.Get(2)) {
			enc = base64.RawStdEncoding
		}
		return ret(L, str(enc.EncodeToString([]byte(asText(L, 1)))))
	},
	"decode_base64": func(L *glua.LState) int {
		s, ok := L.Get(1).(glua.LString)
		if !ok {
			L.RaiseError("bad argument #1 to 'decode_base64' (string expected, got %s)", L.Get(1).Type().String())
		}
		return ret(L, decodeBase64(string(s), base64.RawStdEncoding))
	},
	"escape_uri": func(L *glua.LState) int {
		if L.OptInt(2, 2) == 0 {
			return ret(L, str(escapeBytes(asText(L, 1), uriByte)))
		}
		return ret(L, str(escapeURI(asText(L, 1))))
	},
	"unescape_uri": onText(func(s string) glua.LValue { return str(unescapeURI(s)) }),
	"encode_args":  func(L *glua.LState) int { return ret(L, str(encodeArgs(L, L.CheckTable(1)))) },
	"decode_args": func(L *glua.LState) int {
		return argsTable(L, checkText(L, 1), L.OptInt(2, 100))
	},
	"quote_sql_str": onText(func(s string) glua.LValue {
		return str("'" + sqlQuotes.Replace(s) + "'")
	}),
}

var sqlQuotes = strings.NewReplacer("\x00", `\0`, "\b", `\b`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\x1a", `\Z`, `\`, `\\`, `'`, `\'`, `"`, `\"`)

// decodeBase64 is nil for what is not base64. Padding may be missing.
func decodeBase64(s string, enc *base64.Encoding) glua.LValue {
	b, err := enc.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return glua.LNil
	}
	return str(string(b))
}

// escapeURI leaves what encodeURIComponent leaves.
func escapeURI(s string) string {
	return escapeBytes(s, func(c byte) bool { return isAlpha(c) || isDigit(c) || strings.IndexByte("-._~!'()*", c) >= 0 })
}

// uriByte is what may stand in a path.
func uriByte(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`"#%<>?\^`+"`{|}", c) < 0
}

func escapeBytes(s string, plain func(byte) bool) string {
	var out strings.Builder
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; plain(c) {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return out.String()
}

// unescapeURI decodes %XX and turns + into a space; what is not an escape stays.
func unescapeURI(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			out.WriteByte(' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// encodeArgs is a query of a table.
func encodeArgs(L *glua.LState, t *glua.LTable) string {
	var parts []string
	add := func(k string, v glua.LValue) {
		switch v := v.(type) {
		case glua.LBool:
			if v {
				parts = append(parts, escapeURI(k))
			}
		default:
			s, ok := text(v)
			if !ok {
				L.RaiseError("attempt to use %s as query arg value", v.Type().String())
			}
			parts = append(parts, escapeURI(k)+"="+escapeURI(s))
		}
	}
	each(t, func(k, v glua.LValue) {
		key, ok := text(k)
		if !ok {
			L.RaiseError("attempt to use a non-string key in the \"args\" option table")
		}
		if values, ok := v.(*glua.LTable); ok {
			for i := 1; i <= values.Len(); i++ {
				add(key, values.RawGetInt(i))
			}
			return
		}
		add(key, v)
	})
	return strings.Join(parts, "&")
}

// argsText is a query that is given as a text or a table.
func argsText(L *glua.LState, v glua.LValue) string {
	if t, ok := v.(*glua.LTable); ok {
		return encodeArgs(L, t)
	}
	s, ok := text(v)
	if !ok {
		L.RaiseError("bad argument (string, number, or table expected, but got %s)", v.Type().String())
	}
	return s
}

// argsTable returns the fields of a query and "truncated" when there are more than limit.
func argsTable(L *glua.LState, query string, limit int) int {
	t := L.NewTable()
	n := 0
	for _, part := range strings.Split(query, "&") {
		if part == "" || part[0] == '=' {
			continue
		}
		if limit > 0 && n >= limit {
			return ret(L, t, str("truncated"))
		}
		n++
		k, v, valued := strings.Cut(part, "=")
		if !valued {
			addValue(L, t, unescapeURI(k), glua.LTrue)
			continue
		}
		addValue(L, t, unescapeURI(k), str(unescapeURI(v)))
	}
	return ret(L, t)
}

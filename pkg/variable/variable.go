// Package variable compiles the names of variables (spec/03 §6) to getters over an
// exchange. Route conditions, filters, hash keys, templates and the access log all use
// them. It does not know who asks, nor what a route or plugin is: what those found out
// stands in the exchange's facts.
package variable

import (
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
)

// Getter reads a variable of one exchange.
type Getter func(*exchange.Exchange) Value

// Compile returns the getter of a variable; false if there is no such variable, which
// then has no value in any exchange.
func Compile(name string) (Getter, bool) {
	if g, ok := plain[name]; ok {
		return g, true
	}
	if name == "hostname" {
		return hostname(), true
	}
	for _, f := range families {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok && rest != "" {
			g, err := f.compile(rest)
			return g, err == nil
		}
	}
	return nil, false
}

// Check says what is wrong with a name that can never be one of a variable: a path of
// post_arg. that is no JSONPath. Names that are merely unknown are nil: a plugin that is
// not here may know them.
func Check(name string) error {
	path, ok := strings.CutPrefix(name, postPrefix)
	if !ok || path == "" {
		return nil
	}
	_, err := postPath(path)
	return err
}

// Names lists the variables that stand alone, sorted. Families such as arg_NAME are not
// among them.
func Names() []string {
	names := make([]string, 0, len(plain)+1)
	for name := range plain {
		names = append(names, name)
	}
	names = append(names, "hostname")
	slices.Sort(names)
	return names
}

// families are the variables that take the rest of the name as what to look for.
var families = []struct {
	prefix  string
	compile func(rest string) (Getter, error)
}{
	{postPrefix, postPath},
	{"post_arg_", postForm},
	{"graphql_", graphql},
	{"arg_", arg},
	{"cookie_", cookie},
	{"uri_param_", param},
	{"sent_http_", sentHeader},
	{"http_", header},
}

func arg(name string) (Getter, error) {
	return func(x *exchange.Exchange) Value { return QueryValue(x.Request.RawQuery, name) }, nil
}

// QueryValue returns the first value of an argument in a query or form, decoded; it
// allocates only if there is something to decode. Nothing if there is no such argument.
func QueryValue(query, name string) Value {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if key == name || escaped(key) && unescape(key) == name {
			if escaped(value) {
				value = unescape(value)
			}
			return Text(value)
		}
	}
	return Value{}
}

func escaped(s string) bool { return strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0 }

// unescape decodes what is right and leaves the rest, as the reference does: a client
// cannot hide an argument behind a broken escape.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && hex(s[i+1]) < 16 && hex(s[i+2]) < 16:
			b = append(b, hex(s[i+1])<<4|hex(s[i+2]))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// hex returns the value of a hexadecimal digit, 16 of anything else.
func hex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// ofHeader returns NAME of http_NAME.
func ofHeader(variable string) (name string, ok bool) {
	name, ok = strings.CutPrefix(variable, "http_")
	return name, ok && name != ""
}

func header(name string) (Getter, error) {
	name, separator := headerNamed(name)
	if name == "host" {
		return plain["http_host"], nil
	}
	return func(x *exchange.Exchange) Value { return fields(&x.Request.Header, name, separator) }, nil
}

// headerNamed returns the name as variables spell it, and what stands between values.
func headerNamed(name string) (spelling, separator string) {
	if spelling = underscored(name); spelling == "cookie" {
		return spelling, "; "
	}
	return spelling, ", "
}

func sentHeader(name string) (Getter, error) {
	name = underscored(name)
	length := name == "content_length"
	return func(x *exchange.Exchange) Value {
		r := &x.Response
		if length && r.Length >= 0 && r.Status != 0 {
			return digits(r.Length)
		}
		return fields(&r.Header, name, ", ")
	}, nil
}

// underscored is a header's name as variables spell it.
func underscored(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "-", "_")
}

// fields returns the values of all fields whose underscored name is name.
func fields(h *exchange.Header, name, separator string) Value {
	all, n := together(h, name, separator)
	if n == 0 {
		return Value{}
	}
	return Text(all)
}

// together is fields as a text, and how many there are.
func together(h *exchange.Header, name, separator string) (all string, n int) {
	list := h.Fields()
	for i := range list {
		f := &list[i]
		if len(f.Name) != len(name) || !spelled(f.Name, name) { // most differ by their length alone
			continue
		}
		if n++; n == 1 {
			all = f.Value
		} else {
			all += separator + f.Value
		}
	}
	return all, n
}

// spelled reports whether underscored(field), which has the length of name, is name, without
// making it.
func spelled(field, name string) bool {
	for i := range len(field) {
		c := field[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '-':
			c = '_'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

func cookie(name string) (Getter, error) {
	return func(x *exchange.Exchange) Value {
		for _, f := range x.Request.Header.Fields() {
			if !exchange.EqualName(f.Name, "Cookie") {
				continue
			}
			for rest := f.Value; rest != ""; {
				var pair string
				pair, rest, _ = strings.Cut(rest, ";")
				key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
				if ok && key == name {
					return Text(value)
				}
			}
		}
		return Value{}
	}, nil
}

func param(name string) (Getter, error) {
	return func(x *exchange.Exchange) Value {
		for _, p := range x.Facts.Params {
			if p.Name == name {
				return Text(p.Value)
			}
		}
		return Value{}
	}, nil
}

// Host is the host of a Host header: without its port, in lower case. It allocates only
// when there are upper-case letters.
func Host(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && i > strings.LastIndexByte(h, ']') {
		h = h[:i]
	}
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

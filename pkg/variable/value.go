package variable

import (
	"errors"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// Value is what a variable holds: nothing, a text, a number, a boolean, a list or an
// object. The zero value is nothing. Texts that are made of numbers, times and addresses
// (a port, a duration, the client's address) are written out only when somebody asks for
// them, so that comparing them costs no allocation. A Value is valid as long as the
// exchange it was read from.
type Value struct {
	kind kind
	text string
	num  float64
	list *[]Value
	addr netip.Addr
	line *exchange.Request
}

type kind uint8

const (
	isNil kind = iota
	isText
	isDigits // a text: num as an integer
	isMillis // a text: num milliseconds as seconds with three decimals
	isAddr   // a text: addr
	isLine   // a text: the request line of line
	isNumber
	isBool
	isList
	isObject
)

// Text returns a text value.
func Text(s string) Value { return Value{kind: isText, text: s} }

// Some returns a text value, nothing if s is empty.
func Some(s string) Value {
	if s == "" {
		return Value{}
	}
	return Text(s)
}

// Num returns a number.
func Num(f float64) Value { return Value{kind: isNumber, num: f} }

// Boolean returns a boolean.
func Boolean(b bool) Value {
	v := Value{kind: isBool}
	if b {
		v.num = 1
	}
	return v
}

// List returns a list. The slice belongs to the value from then on.
func List(l []Value) Value { return Value{kind: isList, list: &l} }

// Object returns the value that stands for a JSON object: it is something, but equal to
// nothing, and has no text.
func Object() Value { return Value{kind: isObject} }

// digits returns the text of an integer.
func digits(n int64) Value { return Value{kind: isDigits, num: float64(n)} }

// millis returns the text of a duration: seconds with three decimals.
func millis(d time.Duration) Value {
	return Value{kind: isMillis, num: float64(max(d.Milliseconds(), 0))}
}

// address returns the text of an address, nothing if there is none.
func address(a netip.Addr) Value {
	if !a.IsValid() {
		return Value{}
	}
	return Value{kind: isAddr, addr: a.Unmap()}
}

// IsNil reports whether there is no value.
func (v Value) IsNil() bool { return v.kind == isNil }

// IsText reports whether the value is a text.
func (v Value) IsText() bool { return v.kind >= isText && v.kind <= isLine }

// IsNumber reports whether the value is a number, not a text that reads as one.
func (v Value) IsNumber() bool { return v.kind == isNumber }

// IsBool reports whether the value is a boolean.
func (v Value) IsBool() bool { return v.kind == isBool }

// IsList reports whether the value is a list.
func (v Value) IsList() bool { return v.kind == isList }

// True reports whether the value is the boolean true.
func (v Value) True() bool { return v.kind == isBool && v.num == 1 }

// List returns the elements of a list, nil of anything else.
func (v Value) List() []Value {
	if v.list == nil {
		return nil
	}
	return *v.list
}

// Number returns the value as a number: of a text what it reads as (ParseNumber). Other
// values than numbers and texts are none.
func (v Value) Number() (float64, bool) {
	switch v.kind {
	case isNumber, isDigits:
		return v.num, true
	case isMillis:
		return v.num / 1000, true
	case isText:
		return ParseNumber(v.text)
	case isLine:
		return ParseNumber(v.String())
	}
	return 0, false
}

// Addr returns the value as an address, with IPv4 in its own form and without a zone.
func (v Value) Addr() (netip.Addr, bool) {
	a := v.addr
	if v.kind == isText || v.kind == isLine {
		var err error
		if a, err = netip.ParseAddr(v.String()); err != nil {
			return netip.Addr{}, false
		}
	}
	return a.Unmap().WithZone(""), a.IsValid()
}

// ParseNumber reads a text as a number the way conditions of the reference do: white
// space around it does not count, hexadecimal is allowed.
func ParseNumber(s string) (float64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	unsigned := s
	if s != "" && (s[0] == '+' || s[0] == '-') {
		unsigned = s[1:]
	}
	if len(unsigned) > 2 && unsigned[0] == '0' && unsigned[1]|0x20 == 'x' {
		if strings.IndexByte(s, '_') >= 0 {
			return 0, false
		}
		if !strings.ContainsAny(s, "pP") {
			s += "p0" // strconv wants an exponent
		}
	} else {
		// Words such as "inf" are none here, and most texts are words: they are told
		// apart before strconv makes an error of them.
		digit := false
		for i := range len(unsigned) {
			switch c := unsigned[i]; {
			case '0' <= c && c <= '9':
				digit = true
			case c != '.' && c|0x20 != 'e' && c != '+' && c != '-':
				return 0, false
			}
		}
		if !digit {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

// String is the value as text; a list shows its elements with commas between them.
func (v Value) String() string {
	switch v.kind {
	case isText:
		return v.text
	case isNil, isObject:
		return ""
	case isBool:
		return strconv.FormatBool(v.num == 1)
	}
	var b [48]byte
	return string(v.Append(b[:0]))
}

// Append appends the text of String.
func (v Value) Append(b []byte) []byte {
	switch v.kind {
	case isText:
		return append(b, v.text...)
	case isDigits:
		return strconv.AppendInt(b, int64(v.num), 10)
	case isMillis:
		return appendMillis(b, int64(v.num))
	case isAddr:
		return v.addr.AppendTo(b)
	case isLine:
		q := v.line
		return append(append(append(append(append(b, q.Method...), ' '), q.Target...), ' '), q.Proto...)
	case isNumber:
		return appendNumber(b, v.num)
	case isBool:
		return strconv.AppendBool(b, v.num == 1)
	case isList:
		for i, e := range v.List() {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = e.Append(b)
		}
	}
	return b
}

// appendMillis writes milliseconds as seconds with three decimals.
func appendMillis(b []byte, ms int64) []byte {
	if ms < 10 { // as of most answers out of memory
		return append(b, '0', '.', '0', '0', '0'+byte(ms))
	}
	b = append(strconv.AppendInt(b, ms/1000, 10), '.')
	return append(b, '0'+byte(ms/100%10), '0'+byte(ms/10%10), '0'+byte(ms%10))
}

// appendNumber writes a number with up to 14 significant digits, as the reference turns
// numbers into texts.
func appendNumber(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1e14 {
		return strconv.AppendInt(b, int64(f), 10)
	}
	return strconv.AppendFloat(b, f, 'g', 14, 64)
}

// Equal reports whether two values are the same without any conversion. Lists and
// objects are equal to nothing (spec/03 §5: plain equality).
func (v Value) Equal(o Value) bool {
	switch v.kind {
	case isNil:
		return o.kind == isNil
	case isNumber, isBool:
		return v.kind == o.kind && v.num == o.num
	case isList, isObject:
		return false
	}
	if !o.IsText() {
		return false
	}
	if v.kind == isText && o.kind == isText {
		return v.text == o.text
	}
	if v.kind == isText {
		v, o = o, v
	}
	var b [48]byte
	if o.kind == isText {
		return string(v.Append(b[:0])) == o.text
	}
	var c [48]byte
	return string(v.Append(b[:0])) == string(o.Append(c[:0]))
}

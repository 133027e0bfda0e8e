// Package variable compiles the names of variables (spec/03 §6) to getters over an
// exchange. Route conditions, filters, hash keys, templates and the access log all use
// them. It does not know who asks, nor what a route or plugin is: what those found out
// stands in the exchange's facts.
package variable

import (
	"math"
	"strconv"
	"strings"
)

// Value is what a variable holds: nothing, a text, a number, a boolean or a list. The
// zero value is nothing.
type Value struct {
	kind kind
	text string
	num  float64
	list []Value
}

type kind uint8

const (
	isNil kind = iota
	isText
	isNumber
	isBool
	isList
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

// List returns a list.
func List(l []Value) Value { return Value{kind: isList, list: l} }

// IsNil reports whether there is no value.
func (v Value) IsNil() bool { return v.kind == isNil }

// IsText reports whether the value is a text.
func (v Value) IsText() bool { return v.kind == isText }

// IsBool reports whether the value is a boolean.
func (v Value) IsBool() bool { return v.kind == isBool }

// IsNumber reports whether the value is a number.
func (v Value) IsNumber() bool { return v.kind == isNumber }

// Elements returns the elements of a list, nil of anything else.
func (v Value) Elements() []Value { return v.list }

// IsList reports whether the value is a list.
func (v Value) IsList() bool { return v.kind == isList }

// True reports whether the value is the boolean true.
func (v Value) True() bool { return v.kind == isBool && v.num == 1 }

// Number returns the value as a number: of a text what it reads as, white space around
// it ignored, hexadecimal allowed.
func (v Value) Number() (float64, bool) {
	switch v.kind {
	case isNumber:
		return v.num, true
	case isText:
		return ParseNumber(v.text)
	}
	return 0, false
}

// ParseNumber reads a text as a number, as conditions of the reference do.
func ParseNumber(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	sign := 1.0
	if digits := strings.TrimLeft(s, "+-"); len(digits) > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		if s[0] == '-' {
			sign = -1
		}
		n, err := strconv.ParseUint(digits[2:], 16, 64)
		return sign * float64(n), err == nil
	}
	switch s[len(s)-1] {
	case 'f', 'F', 'n', 'N', 'y', 'Y':
		return 0, false // inf and nan are words, not numbers
	}
	if strings.IndexByte(s, '_') >= 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// String is the value as text; a list shows its elements joined by commas.
func (v Value) String() string {
	switch v.kind {
	case isText:
		return v.text
	case isNumber:
		return FormatNumber(v.num)
	case isBool:
		return strconv.FormatBool(v.num == 1)
	case isList:
		parts := make([]string, len(v.list))
		for i, e := range v.list {
			parts[i] = e.String()
		}
		return strings.Join(parts, ", ")
	}
	return ""
}

// FormatNumber writes a number with up to 14 significant digits, integers without point.
func FormatNumber(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', 14, 64)
}

// Equal reports whether two values are the same without any conversion.
func (v Value) Equal(o Value) bool {
	if v.kind != o.kind || v.text != o.text || v.num != o.num || len(v.list) != len(o.list) {
		return false
	}
	for i := range v.list {
		if !v.list[i].Equal(o.list[i]) {
			return false
		}
	}
	return true
}

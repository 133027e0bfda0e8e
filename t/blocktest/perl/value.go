package perl

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// A Value is nil (undef), a string, a float64, an *Array, a *Hash, a *Code, a *Regexp or an
// Object. Arrays and hashes are references: a list is a []Value.
type Value any

// An Array is what [ … ] and @x are.
type Array struct{ Elems []Value }

// A Hash is what { … } and %x are. Keys are sorted where Perl has no order.
type Hash struct{ m map[string]Value }

// NewHash returns an empty hash.
func NewHash() *Hash { return &Hash{m: map[string]Value{}} }

// Get returns the value of a key.
func (h *Hash) Get(key string) (Value, bool) {
	v, ok := h.m[key]
	return v, ok
}

// Set sets the value of a key.
func (h *Hash) Set(key string, v Value) { h.m[key] = v }

// Keys returns the keys, sorted.
func (h *Hash) Keys() []string {
	keys := make([]string, 0, len(h.m))
	for k := range h.m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// An Object is a value of the host whose methods a program may call.
type Object interface {
	Call(method string, args []Value) ([]Value, error)
}

// A Code is a sub.
type Code struct {
	name string
	body *block
	env  *frame // what it closes over
}

// A cell is a scalar variable.
type cell struct{ v Value }

// A handle is an open file: its content, and how much of it was read.
type handle struct {
	data []byte
	at   int
}

// Truth says whether Perl takes a value for true.
func Truth(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != "" && v != "0"
	case float64:
		return v != 0
	}
	return true
}

// Text is a value as a text.
func Text(v Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return number(v)
	case *Regexp:
		return v.String()
	case *Array:
		return fmt.Sprintf("ARRAY(%p)", v)
	case *Hash:
		return fmt.Sprintf("HASH(%p)", v)
	case *Code:
		return fmt.Sprintf("CODE(%p)", v)
	}
	return fmt.Sprintf("%T(%p)", v, v)
}

// number prints as Perl does, with 15 significant digits.
func number(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	case math.IsNaN(f):
		return "NaN"
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.FormatFloat(f+0, 'f', -1, 64)
	}
	s := strconv.FormatFloat(f, 'g', 15, 64)
	mantissa, exp, scientific := strings.Cut(s, "e")
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	if !scientific {
		return mantissa
	}
	return mantissa + "e" + exp
}

// Number is a value as a number: as much of its beginning as reads like one, else 0.
func Number(v Value) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case string:
		return leadingNumber(v)
	case nil:
		return 0
	}
	return 1
}

func leadingNumber(s string) float64 {
	s = strings.TrimLeft(s, " \t\r\n\f")
	end := 0
	if end < len(s) && (s[end] == '+' || s[end] == '-') {
		end++
	}
	digits := func() {
		for end < len(s) && s[end] >= '0' && s[end] <= '9' {
			end++
		}
	}
	digits()
	if end < len(s) && s[end] == '.' {
		end++
		digits()
	}
	if mantissa := end; end < len(s) && (s[end] == 'e' || s[end] == 'E') {
		end++
		if end < len(s) && (s[end] == '+' || s[end] == '-') {
			end++
		}
		from := end
		if digits(); end == from {
			end = mantissa
		}
	}
	f, err := strconv.ParseFloat(s[:end], 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0
	}
	return f
}

// kind is what ref returns.
func kind(v Value) string {
	switch v.(type) {
	case *Array:
		return "ARRAY"
	case *Hash:
		return "HASH"
	case *Code:
		return "CODE"
	case *Regexp:
		return "Regexp"
	case *handle:
		return "GLOB"
	case Object:
		return "Test::Base::Block"
	}
	return ""
}

func boolean(b bool) Value {
	if b {
		return float64(1)
	}
	return ""
}

// last is a list in scalar context, as the comma operator has it.
func last(list []Value) Value {
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

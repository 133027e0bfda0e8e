package variable_test

import (
	"math"
	"testing"

	"github.com/gosix/gosix/pkg/variable"
)

func TestParseNumber(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       float64
		ok         bool
	}{
		{"an integer", "7", 7, true},
		{"a fraction", "7.50", 7.5, true},
		{"a fraction without an integer part", ".5", 0.5, true},
		{"a fraction without digits after the point", "5.", 5, true},
		{"an exponent", "1e3", 1000, true},
		{"a sign", "-7", -7, true},
		{"a plus", "+7", 7, true},
		{"white space around it", " \t7\r\n", 7, true},
		{"hexadecimal", "0x1F", 31, true},
		{"hexadecimal with a sign", "-0x10", -16, true},
		{"hexadecimal that ends in f", "0xff", 255, true},
		{"hexadecimal above 64 bits", "0x10000000000000000", 18446744073709551616, true},
		{"too large is infinite", "1e999", math.Inf(1), true},
		{"nothing", "", 0, false},
		{"white space only", "  ", 0, false},
		{"a word", "x", 0, false},
		{"digits and a word", "7x", 0, false},
		{"two numbers", "7 8", 0, false},
		{"two signs", "--7", 0, false},
		{"two signs before hexadecimal", "--0x7", 0, false},
		{"a sign only", "-", 0, false},
		{"a point only", ".", 0, false},
		{"infinity as a word", "inf", 0, false},
		{"nan as a word", "nan", 0, false},
		{"an underscore", "1_000", 0, false},
		{"an underscore in hexadecimal", "0x1_0", 0, false},
		{"a prefix only", "0x", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := variable.ParseNumber(tt.text); got != tt.want || ok != tt.ok {
				t.Errorf("ParseNumber(%q): got %v, %v, want %v, %v", tt.text, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestValuesAsText(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    variable.Value
		want string
	}{
		{"nothing is empty", variable.Value{}, ""},
		{"a text is itself", variable.Text("a"), "a"},
		{"an integer has no point", variable.Num(5), "5"},
		{"a large integer has its digits", variable.Num(99999999999999), "99999999999999"},
		{"a larger one has 14 digits", variable.Num(123456789012345678), "1.2345678901235e+17"},
		{"a negative number", variable.Num(-2), "-2"},
		{"a fraction", variable.Num(0.1), "0.1"},
		{"a fraction has at most 14 digits", variable.Num(1.0 / 3), "0.33333333333333"},
		{"a boolean", variable.Boolean(true), "true"},
		{"a list has commas", variable.List([]variable.Value{variable.Text("a"), variable.Num(1)}), "a, 1"},
		{"an object has no text", variable.Object(), ""},
		{"no text is nothing", variable.Some(""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.v.String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEquality(t *testing.T) {
	x := request()
	addr, port := value(t, x, "remote_addr"), value(t, x, "server_port")
	list := variable.List([]variable.Value{variable.Text("a")})
	for _, tt := range []struct {
		name string
		a, b variable.Value
		want bool
	}{
		{"nothing equals nothing", variable.Value{}, variable.Value{}, true},
		{"nothing is not an empty text", variable.Value{}, variable.Text(""), false},
		{"texts", variable.Text("a"), variable.Text("a"), true},
		{"different texts", variable.Text("a"), variable.Text("A"), false},
		{"a text is no number", variable.Text("1"), variable.Num(1), false},
		{"numbers", variable.Num(1), variable.Num(1), true},
		{"a number is no boolean", variable.Num(1), variable.Boolean(true), false},
		{"booleans", variable.Boolean(true), variable.Boolean(true), true},
		{"different booleans", variable.Boolean(true), variable.Boolean(false), false},
		{"lists are never equal", list, list, false},
		{"objects are never equal", variable.Object(), variable.Object(), false},
		{"an object is not nothing", variable.Object(), variable.Value{}, false},
		{"an address and its text", addr, variable.Text("10.1.2.3"), true},
		{"a text and its address", variable.Text("10.1.2.3"), addr, true},
		{"an address and another text", addr, variable.Text("10.1.2.4"), false},
		{"a port and its text", port, variable.Text("9080"), true},
		{"a port is a text, not a number", port, variable.Num(9080), false},
		{"a port and an address", port, addr, false},
		{"a port and itself", port, port, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Equal(tt.b); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAddressOfValues(t *testing.T) {
	for _, tt := range []struct {
		v    variable.Value
		want string
	}{
		{variable.Text("10.0.0.1"), "10.0.0.1"},
		{variable.Text("::ffff:10.0.0.1"), "10.0.0.1"},
		{variable.Text("fe80::1%eth0"), "fe80::1"},
		{value(t, request(), "remote_addr"), "10.1.2.3"},
		{variable.Text("x"), ""},
		{variable.Text(""), ""},
		{variable.Num(1), ""},
		{variable.Value{}, ""},
	} {
		got, ok := tt.v.Addr()
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("%q: got %v, %v, want %q", tt.v.String(), got, ok, tt.want)
		}
	}
}

func TestFromJSON(t *testing.T) {
	for raw, want := range map[string]variable.Value{
		`"a\n"`: variable.Text("a\n"), ` 1.5 `: variable.Num(1.5), `true`: variable.Boolean(true),
		`false`: variable.Boolean(false), `null`: {}, ``: {}, `nope`: {},
	} {
		if got := variable.FromJSON([]byte(raw)); !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", raw, got, want)
		}
	}
	if got := variable.FromJSON([]byte(`["a",[1],{}]`)); got.String() != "a, 1, " || len(got.List()) != 3 {
		t.Errorf("a list: got %q", got.String())
	}
}

func FuzzParseNumber(f *testing.F) {
	for _, s := range []string{"7", "0x1f", "-1e5", "0x", "1_0", "..", "+-1", "0x1p4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := variable.ParseNumber(s)
		if !ok && n != 0 {
			t.Errorf("%q: no number, yet %v", s, n)
		}
		if padded, okToo := variable.ParseNumber(" " + s + "\n"); okToo != ok || padded != n {
			t.Errorf("%q: white space made %v, %v of %v, %v", s, padded, okToo, n, ok)
		}
	})
}

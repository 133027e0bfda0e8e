package airatelimiting

import (
	"strings"
	"testing"
)

func TestCost(t *testing.T) {
	usage := [][]byte{
		[]byte(`{"input_tokens":50,"output_tokens":1,"cache_read_input_tokens":200,"service_tier":"x","prompt_tokens_details":{"cached_tokens":7}}`),
		[]byte(`{"output_tokens":30,"half":0.5}`),
	}
	tests := map[string]struct {
		text string
		want int64
	}{
		"a number":                              {"12", 12},
		"hexadecimal and exponents":             {"0x10 + 1e1 + 2.5E+1", 51},
		"a later object wins":                   {"input_tokens + output_tokens", 80},
		"what is not told is 0":                 {"nonexistent + output_tokens", 30},
		"a text is no number":                   {"service_tier", 0},
		"a member of a member":                  {"input_tokens - prompt_tokens_details.cached_tokens", 43},
		"a member of what is not told":          {"other_details.x + 1", 1},
		"weights":                               {"input_tokens + cache_read_input_tokens * 0.1", 70},
		"halves are rounded up":                 {"half", 1},
		"below 0 is 0":                          {"input_tokens - cache_read_input_tokens", 0},
		"products come before sums":             {"1 + 2 * 3 - 4 / 2", 5},
		"to the left":                           {"20 - 5 - 3", 12},
		"powers to the right":                   {"2 ^ 3 ^ 2", 512},
		"a power comes before its sign":         {"10 - -2 ^ 2", 14},
		"a sign of an exponent":                 {"8 * 2 ^ -1", 4},
		"the rest has the sign of the divisor":  {"-1 % 3", 2},
		"parentheses":                           {"(1 + 2) * 3", 9},
		"functions":                             {"abs(-3) + ceil(1.2) + floor(1.8) + max(1, 4, 2) + min(3, 2)", 12},
		"functions of math":                     {"math.max(1, 2) + math.sqrt(9) + math.pow(2, 3) + math.fmod(7, 4) + math.log(1) + math.exp(0)", 17},
		"a constant":                            {"math.floor(math.pi * 100)", 314},
		"one of two":                            {"input_tokens > 40 and input_tokens * 2 or 1", 100},
		"the other":                             {"input_tokens <= 40 and 1 or 7", 7},
		"0 is not false":                        {"0 and 3 or 4", 3},
		"not":                                   {"not (1 == 1) and 1 or 2", 2},
		"equal and not":                         {"(1 ~= 2 and 1 or 0) + (1 >= 1 and 1 or 0) + (1 < 2 and 1 or 0)", 3},
		"more than can be counted":              {"1e300", maxCost},
		"names that no function takes with it":  {"sqrt + 1", 1},
		"a name that begins as a word of logic": {"order + notes + 3", 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := compileCost(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.of(usage); err != nil || got != tt.want {
				t.Errorf("got %d (%v), want %d", got, err, tt.want)
			}
		})
	}
}

func TestCostsThatAreNone(t *testing.T) {
	for text, want := range map[string]error{
		"1 / 0": errInfinite, "0 / 0": errInfinite, "math.huge": errInfinite, "1 > 0": errNoNumber, "(1 > 0) + 1": errInfinite,
	} {
		c, err := compileCost(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.of(nil); err != want {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "unexpected end",
		"1 +":                           "unexpected end",
		"(1":                            "unexpected end",
		"1 2":                           `unexpected "2" at character 3`,
		"invalid $$$ syntax %%%":        `unexpected "$" at character 9`,
		"a --b":                         `unexpected "--" at character 3`,
		"end":                           `unexpected "end" at character 1`,
		"a.and":                         `unexpected "and" at character 3`,
		"1x":                            `"1x" is no number`,
		"1.2.3":                         `"1.2.3" is no number`,
		"os.exit()":                     "there is no function os.exit",
		"sqrt(4)":                       "there is no function sqrt",
		"math.random()":                 "there is no function math.random",
		"math":                          "there is no function math",
		"a.b.c":                         "a.b.c is deeper than two names",
		"abs":                           "unexpected end",
		"abs()":                         `unexpected ")" at character 5`,
		"abs(1, 2)":                     "abs cannot have 2 arguments",
		"math.pow(1)":                   "math.pow cannot have 1 arguments",
		"a = 1":                         `unexpected "=" at character 3`,
		strings.Repeat("(", 101) + "1":  "deeper than 100",
		strings.Repeat("-", 4097):       "longer than 4096 bytes",
		strings.Repeat("- ", 101) + "1": "deeper than 100",
	} {
		if _, err := compileCost(text); err == nil || err.Error() != want {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzCost(f *testing.F) {
	for _, text := range []string{
		"input_tokens + cache_read_input_tokens * 0.1", "max(a, b.c) ^ 2 % 3", "a > 1 and b or not c and 2", "-(1) .5 0x1F 1e+3",
		"math.floor(x / 3)", "((", "a..b", "--", "1 or", "\x00",
	} {
		f.Add(text)
	}
	usage := [][]byte{[]byte(`{"a":1,"b":{"c":2.5},"input_tokens":1e300}`)}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := compileCost(text)
		if err != nil {
			return
		}
		if got, err := c.of(usage); got < 0 || got > maxCost || err != nil && got != 0 {
			t.Errorf("%q costs %d (%v)", text, got, err)
		}
		if len(c.names) > maxText {
			t.Errorf("%q has %d names", text, len(c.names))
		}
	})
}

func BenchmarkCost(b *testing.B) {
	c, err := compileCost("input_tokens + cache_read_input_tokens * 0.1 + cache_creation_input_tokens * 1.25 + output_tokens")
	if err != nil {
		b.Fatal(err)
	}
	usage := [][]byte{[]byte(`{"input_tokens":50,"output_tokens":30,"cache_read_input_tokens":200,"cache_creation_input_tokens":100,"service_tier":"standard"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if n, err := c.of(usage); n != 225 || err != nil {
			b.Fatal(n, err)
		}
	}
}

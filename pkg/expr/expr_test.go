package expr_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/expr"
)

// get returns a request with that query.
func get(query string) *exchange.Exchange {
	x := new(exchange.Exchange)
	x.Reset(context.Background(), nil)
	x.Request.Method, x.Request.Path, x.Request.RawQuery = "GET", "/fox", query
	x.Request.Remote = netip.MustParseAddrPort("127.0.0.1:40000")
	x.Request.Local = netip.MustParseAddrPort("127.0.0.1:9080")
	return x
}

// post returns a request with a JSON body.
func post(body string) *exchange.Exchange {
	x := get("")
	x.Request.Method = "POST"
	x.Request.Header.Add("Content-Type", "application/json")
	x.Request.Body.Set([]byte(body))
	return x
}

func compile(t testing.TB, vars string) *expr.Expr {
	t.Helper()
	e, err := expr.Compile([]byte(vars))
	if err != nil {
		t.Fatalf("Compile(%s): %v", vars, err)
	}
	return e
}

// A question is one request and whether it matches.
type question struct {
	x    *exchange.Exchange
	want bool
}

func yes(query string) question    { return question{get(query), true} }
func no(query string) question     { return question{get(query), false} }
func yesBody(body string) question { return question{post(body), true} }
func noBody(body string) question  { return question{post(body), false} }

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		name, vars string
		ask        []question
	}{
		// Equality.
		{"== compares texts", `[["arg_n","==","7"]]`, []question{yes("n=7"), no("n=8"), no("n=7.0"), no("")}},
		{"== with a number converts", `[["arg_n","==",7]]`, []question{yes("n=7"), yes("n=7.0"), yes("n=0x7"), yes("n=%207"), no("n=x"), no("")}},
		{"== with null is true of what is absent", `[["arg_n","==",null]]`, []question{yes(""), no("n=1"), no("n=")}},
		{"== with an empty text is false of what is absent", `[["arg_n","==",""]]`, []question{no(""), yes("n=")}},
		{"== with a boolean wants one", `[["post_arg.b","==",true]]`, []question{yesBody(`{"b":true}`), noBody(`{"b":false}`), noBody(`{"b":"true"}`), noBody(`{"b":1}`)}},
		{"== of a number with a text is false", `[["post_arg.n","==","1"]]`, []question{noBody(`{"n":1}`), yesBody(`{"n":"1"}`)}},
		{"== of null in a body with null", `[["post_arg.n","==",null]]`, []question{yesBody(`{"n":null}`), yesBody(`{}`), noBody(`{"n":{}}`)}},
		{"== of a list is false", `[["post_arg.n","==",["a"]]]`, []question{noBody(`{"n":["a"]}`)}},
		{"== of an object is false", `[["post_arg.n","==",{}]]`, []question{noBody(`{"n":{}}`), noBody(`{}`)}},
		{"~= compares texts", `[["arg_n","~=","7"]]`, []question{no("n=7"), yes("n=8"), yes("")}},
		{"~= with a number converts", `[["arg_n","~=",7]]`, []question{no("n=7.0"), yes("n=8"), yes("n=x"), yes("")}},
		{"~= with null is true of what is there", `[["arg_n","~=",null]]`, []question{no(""), yes("n=")}},

		// Order.
		{"> compares numbers", `[["arg_n",">",7]]`, []question{yes("n=8"), no("n=7"), no("n=6"), no("n=x"), no("")}},
		{">= compares numbers", `[["arg_n",">=",7]]`, []question{yes("n=7"), no("n=6")}},
		{"< converts both sides", `[["arg_n","<","7"]]`, []question{yes("n=6"), no("n=7"), no(""), yes("n=-10")}},
		{"<= compares numbers", `[["arg_n","<=",7]]`, []question{yes("n=7"), no("n=8")}},
		{"order with what is no number is false", `[["arg_n","<","x"]]`, []question{no("n=1"), no("n=a"), no("")}},
		{"order with null is false", `[["arg_n","<",null]]`, []question{no("n=1"), no("")}},
		{"> of a number or a text in a body", `[["post_arg.num",">",3]]`, []question{yesBody(`{"num":4}`), yesBody(`{"num":"5"}`), noBody(`{"num":2}`), noBody(`{nope`), noBody(`{"num":true}`)}},

		// Patterns.
		{"~~ searches", `[["arg_n","~~","b+"]]`, []question{yes("n=abbc"), no("n=aBBc"), no("n=ac"), no("")}},
		{"~~ with anchors", `[["query_string","~~","^a=1"]]`, []question{yes("a=1&b=2"), no("b=2"), no("")}},
		{"~* ignores case", `[["arg_n","~*","^[a-c]+$"]]`, []question{yes("n=ABC"), no("n=abd"), no("")}},
		{"~* ignores case looking ahead", `[["arg_n","~*","^(?!admin)[a-z]+$"]]`, []question{no("n=ADMIN"), yes("n=Bob")}},
		{"~~ looks ahead", `[["arg_n","~~","^(?!admin)"]]`, []question{no("n=admin1"), yes("n=bob")}},
		{"~~ looks back at a group", `[["arg_n","~~","^(a+)-\\1$"]]`, []question{yes("n=aa-aa"), no("n=aa-a")}},
		{"~~ knows named groups", `[["arg_n","~~","^(?P<x>a)(?=b)"]]`, []question{yes("n=ab"), no("n=ac")}},
		{"~~ lets a dollar stand before the last line break", `[["arg_n","~~","^admin$"]]`, []question{yes("n=admin"), yes("n=admin%0A"), no("n=admin%0Ax"), no("n=admin%0A%0A")}},
		{"~~ lets a dollar stand there looking ahead too", `[["arg_n","~~","^(?=a)admin$"]]`, []question{yes("n=admin%0A"), no("n=admin%0Ax")}},
		{"~~ takes the very end at its word", `[["arg_n","~~","^admin\\z"]]`, []question{yes("n=admin"), no("n=admin%0A")}},
		{"~~ knows digits of ASCII only", `[["arg_n","~~","^\\d(?=.)"]]`, []question{yes("n=1x"), no("n=%D9%A3x")}},
		{"~~ searches numbers and booleans as text", `[["post_arg.n","~~","^(4|true)$"]]`, []question{yesBody(`{"n":4}`), yesBody(`{"n":true}`), noBody(`{"n":["4"]}`), noBody(`{"n":{}}`)}},
		{"~~ takes a number for a pattern", `[["arg_n","~~",4]]`, []question{yes("n=142"), no("n=1")}},

		// Lists.
		{"in finds a text", `[["arg_n","in",["1","2"]]]`, []question{yes("n=2"), no("n=3"), no("")}},
		{"in converts nothing", `[["arg_n","in",[1,2]]]`, []question{no("n=2")}},
		{"in finds a number of a body", `[["post_arg.n","in",[1,2]]]`, []question{yesBody(`{"n":2}`), noBody(`{"n":"2"}`)}},
		{"in wants a list", `[["arg_n","in","2"]]`, []question{no("n=2")}},
		{"in of an empty list is false", `[["arg_n","in",[]]]`, []question{no("n=2"), no("")}},
		{"has finds an element", `[["post_arg.messages[*].role","has","system"]]`, []question{
			yesBody(`{"messages":[{"role":"user"},{"role":"system"}]}`), noBody(`{"messages":[{"role":"user"}]}`), noBody(`{}`),
		}},
		{"has finds an element of a plain list", `[["post_arg.l","has",2]]`, []question{yesBody(`{"l":[1,2]}`), noBody(`{"l":["2"]}`)}},
		{"has of what is no list is false", `[["arg_n","has","2"]]`, []question{no("n=2"), no("")}},

		// Addresses.
		{"ipmatch with a list", `[["remote_addr","ipmatch",["10.0.0.0/8","127.0.0.1"]]]`, []question{yes("")}},
		{"ipmatch with a text", `[["remote_addr","ipmatch","10.0.0.0/8"]]`, []question{no("")}},
		{"ipmatch of any text", `[["arg_n","ipmatch","10.0.0.0/8"]]`, []question{yes("n=10.1.2.3"), no("n=11.1.2.3"), no("n=x"), no("")}},
		{"ipmatch of IPv6", `[["arg_n","ipmatch",["2001:db8::/32","::1"]]]`, []question{yes("n=2001:db8::5"), yes("n=::1"), no("n=::2"), no("n=10.0.0.1")}},
		{"ipmatch of IPv4 written as IPv6", `[["arg_n","ipmatch","10.0.0.0/8"]]`, []question{yes("n=::ffff:10.0.0.1")}},
		{"ipmatch with IPv4 written as IPv6", `[["arg_n","ipmatch",["::ffff:10.0.0.1","::ffff:11.0.0.0/104"]]]`, []question{yes("n=10.0.0.1"), yes("n=11.9.9.9"), no("n=10.0.0.2")}},
		{"ipmatch ignores bits behind the prefix", `[["arg_n","ipmatch","10.1.2.3/8"]]`, []question{yes("n=10.9.9.9")}},
		{"ipmatch with no address is false", `[["arg_n","ipmatch",[]]]`, []question{no("n=10.0.0.1")}},

		// Forms and logic.
		{"an empty list is always true", `[]`, []question{yes("")}},
		{"conditions in a list must all hold", `[["arg_a","==","1"],["arg_b","==","2"]]`, []question{yes("a=1&b=2"), no("a=1"), no("b=2")}},
		{"a value alone means equality", `[["arg_n","1"]]`, []question{yes("n=1"), no("n=2")}},
		{"a number alone means equality", `[["arg_n",1]]`, []question{yes("n=1.0"), no("n=2")}},
		{"an exclamation mark negates", `[["arg_n","!","==","1"]]`, []question{no("n=1"), yes("n=2"), yes("")}},
		{"an exclamation mark negates in", `[["arg_n","!","in",["1"]]]`, []question{no("n=1"), yes("n=2")}},
		{"an exclamation mark negates ipmatch", `[["remote_addr","!","ipmatch","10.0.0.0/8"]]`, []question{yes("")}},
		{"operators in capitals", `[["arg_n","IN",["1"]],["remote_addr","IpMatch","127.0.0.1"]]`, []question{yes("n=1"), no("n=2")}},
		{"AND", `["AND",["arg_a","==","1"],["arg_b","==","2"]]`, []question{yes("a=1&b=2"), no("a=1")}},
		{"OR", `["OR",["arg_a","==","1"],["arg_b","==","2"]]`, []question{yes("b=2"), yes("a=1"), no("a=2")}},
		{"!AND", `["!AND",["arg_a","==","1"],["arg_b","==","2"]]`, []question{no("a=1&b=2"), yes("a=1"), yes("")}},
		{"!OR", `["!OR",["arg_a","==","1"],["arg_b","==","2"]]`, []question{no("a=1"), no("b=2"), yes("")}},
		{"logic in small letters", `["or",["arg_a","==","1"],["arg_b","==","2"]]`, []question{yes("b=2"), no("")}},
		{"logic in logic", `["AND",["arg_a","==","1"],["OR",["arg_b","==","2"],["arg_c","~~","^z"]]]`, []question{
			yes("a=1&c=zed"), yes("a=1&b=2"), no("a=1"), no("b=2"),
		}},
		{"logic in a list", `[["arg_a","1"],["!or",["arg_b","2"],["arg_c","3"]]]`, []question{yes("a=1"), no("a=1&c=3"), no("")}},
		{"a list in logic", `["OR",[["arg_a","1"],["arg_b","2"]],["arg_c","3"]]`, []question{yes("a=1&b=2"), yes("c=3"), no("a=1")}},
		{"path and method", `[["uri","==","/fox"],["request_method","==","GET"]]`, []question{yes(""), noBody(`{}`)}},
		{"an unknown variable is absent", `[["nope","==",null]]`, []question{yes("")}},
		{"a number on the left has no value", `[[1,"==",1]]`, []question{no("")}},
		{"a port compares as a number", `[["server_port","==",9080]]`, []question{yes("")}},
		{"a port compares as a text", `[["server_port","==","9080"]]`, []question{yes("")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := compile(t, tt.vars)
			for _, q := range tt.ask {
				if got := e.Match(q.x); got != q.want {
					body, _ := q.x.Request.Body.Bytes(0)
					t.Errorf("%s of ?%s %s: got %v, want %v", tt.vars, q.x.Request.RawQuery, body, got, q.want)
				}
			}
		})
	}
}

func TestWhatDoesNotCompile(t *testing.T) {
	for _, tt := range []struct{ name, vars, want string }{
		{"a bare condition", `["arg_n","==","1"]`, "rule should be wrapped inside brackets"},
		{"a word that is no logic", `["XOR",["arg_a","==","1"],["arg_b","==","1"]]`, "rule should be wrapped inside brackets"},
		{"a list of scalars", `[1,"==",1]`, "rule should be wrapped inside brackets"},
		{"an object for a condition", `[{}]`, "rule should be wrapped inside brackets"},
		{"an object for everything", `{}`, "rule should be wrapped inside brackets"},
		{"a text among operands", `["OR",["arg_a","1"],"x"]`, "rule should be wrapped inside brackets"},
		{"an empty condition", `[[]]`, "rule too short"},
		{"logic without operands", `["OR"]`, "rule too short"},
		{"logic with one operand", `["!AND",["arg_a","==","1"]]`, "rule too short"},
		{"nested logic with one operand", `[["OR",["arg_a","==","1"]]]`, "rule too short"},
		{"a variable alone", `[["arg_n"]]`, "invalid expression"},
		{"an operator without a value", `[["arg_n","=="]]`, "invalid expression"},
		{"five elements", `[["arg_n","!","==","1","2"]]`, "invalid expression"},
		{"null on the left", `[[null,"==",1]]`, "invalid expression"},
		{"four elements without negation", `[["arg_n","==","1","2"]]`, "bad 'not' expression"},
		{"a number for negation", `[["arg_n",1,"==","2"]]`, "bad 'not' expression"},
		{"negation without an operator", `[["arg_n","!","1"]]`, "invalid operator '!'"},
		{"an operator that is none", `[["arg_n","=~","1"]]`, "invalid operator '=~'"},
		{"an operator that is none, negated", `[["arg_n","!","=~","1"]]`, "invalid operator '=~'"},
		{"a number for an operator", `[["arg_n",5,"1"]]`, "invalid operator '5'"},
		{"an empty operator", `[["arg_n","","1"]]`, "invalid operator ''"},
		{"an operator in capitals keeps them", `[["arg_n","LIKE","1"]]`, "invalid operator 'LIKE'"},
		{"an address that is none", `[["remote_addr","ipmatch","nonsense"]]`, "invalid ip address: nonsense"},
		{"an address that is none, in a list", `[["remote_addr","ipmatch",["10.0.0.1","10.0.0.0/33"]]]`, "invalid ip address: 10.0.0.0/33"},
		{"a number for an address", `[["remote_addr","ipmatch",10]]`, "invalid ip address: 10"},
		{"null for an address", `[["remote_addr","ipmatch",null]]`, "invalid ip address: "},
		{"a pattern that is none", `[["arg_n","~~","("]]`, `invalid regular expression "("`},
		{"a pattern that is none, ignoring case", `[["arg_n","~*","(?<"]]`, `invalid regular expression "(?<"`},
		{"a list for a pattern", `[["arg_n","~~",["a"]]]`, "invalid regular expression"},
		{"a path that is no JSONPath", `[["post_arg.a[","==","1"]]`, `invalid expression "$.a["`},
		{"no JSON", `[["arg_n"`, "Expected comma or array end but found T_END at character 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := expr.Compile([]byte(tt.vars))
			if err == nil {
				t.Fatalf("Compile(%s): got no error, want %q", tt.vars, tt.want)
			}
			// What follows the texts of our own is the parser's.
			if own := strings.HasPrefix(tt.want, "invalid regular") || strings.HasPrefix(tt.want, "invalid expression \""); own && strings.HasPrefix(err.Error(), tt.want) {
				return
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("Compile(%s): got %q, want %q", tt.vars, got, tt.want)
			}
		})
	}
}

func TestAPatternThatTakesTooLongMatchesNothing(t *testing.T) {
	// The group that looks back keeps it from the engine that is linear.
	const slow = `^(?:(a+)+\\1)+$`
	x := get("n=" + strings.Repeat("a", 64) + "!")
	for _, tt := range []struct{ name, vars string }{
		{"by itself", `[["arg_n","~~","` + slow + `"]]`},
		{"negated", `[["arg_n","!","~~","` + slow + `"]]`},
		{"in a negated group", `["!OR",["arg_n","~~","` + slow + `"],["arg_m","==","1"]]`},
		{"beside what holds", `["OR",["arg_n","~~","` + slow + `"],["uri","==","/fox"]]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := compile(t, tt.vars)
			if e.Match(x) {
				t.Error("Match: got true, want false")
			}
			if ok, err := e.Eval(x); ok || err == nil {
				t.Errorf("Eval: got %v, %v, want an error", ok, err)
			}
		})
	}
}

func TestExpressionsThatAreNotThereMatch(t *testing.T) {
	var none *expr.Expr
	if !none.Match(get("")) || !new(expr.Expr).Match(get("")) || none.Reads() != nil {
		t.Error("an expression that is not there does not match")
	}
}

func TestReads(t *testing.T) {
	e := compile(t, `["OR",["uri","/b"],["AND",["arg_n","1"],["uri","/a"]],["post_arg.a","!","in",[]]]`)
	if got, want := e.Reads(), []string{"arg_n", "post_arg.a", "uri"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x := get("a=1&n=7")
	x.Request.Header.Add("X-Tier", "gold")
	for _, vars := range []string{
		`[["arg_n","==",7],["http_x_tier","in",["silver","gold"]]]`,
		`[["remote_addr","ipmatch",["10.0.0.0/8","127.0.0.0/8"]],["uri","~~","^/f"]]`,
		`["!OR",["arg_n",">",9],["cookie_x","==","1"],["server_port","==","80"]]`,
		`[["remote_addr","==","127.0.0.1"],["arg_a","~=","x"]]`,
	} {
		e := compile(t, vars)
		if !e.Match(x) {
			t.Errorf("%s does not match", vars)
		}
		if got := testing.AllocsPerRun(100, func() { e.Match(x) }); got != 0 {
			t.Errorf("%s: got %v allocations, want none", vars, got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`[]`, `[["arg_n","==","7"]]`, `["OR",["uri","~~","^/a"],["arg_n","!","in",["1"]]]`, `[[]]`, `[[[]]]`,
		`[["remote_addr","ipmatch",["10.0.0.0/8"]]]`, `[["post_arg.a[*].b","has","x"]]`, `[["arg_n","~*","(a)\\1"]]`,
		`[1,"==",1]`, `[[1,"==",1]]`, `{}`, `["AND"]`, `[["a","!","~=",null]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, vars []byte) {
		e, err := expr.Compile(vars)
		if err != nil {
			return
		}
		e.Match(get("n=7&a=b"))
		e.Match(post(`{"a":[{"b":"x"}]}`))
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, bb := range []struct{ name, vars string }{
		{"two conditions", `[["arg_n","==",7],["http_x_tier","==","gold"]]`},
		{"a pattern", `[["uri","~~","^/f[a-z]+$"]]`},
		{"an address", `[["remote_addr","ipmatch",["10.0.0.0/8","127.0.0.0/8"]]]`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			e := compile(b, bb.vars)
			x := get("a=1&n=7")
			x.Request.Header.Add("User-Agent", "bench")
			x.Request.Header.Add("X-Tier", "gold")
			b.ReportAllocs()
			for b.Loop() {
				if !e.Match(x) {
					b.Fatal("no match")
				}
			}
		})
	}
}

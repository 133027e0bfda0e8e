package variable_test

import (
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/variable"
)

func TestGraphQL(t *testing.T) {
	const repo = `{"query":"query repo{owner{name}}"}`
	deep := "{" + strings.Repeat("a{", 30_000)
	for _, tt := range []struct {
		name, method, query, contentType, body string
		limit                                  int64
		operation, called, fields, misread     string
	}{
		{"an operation with a name", "POST", "", "", "query repo { owner { name } }", 0, "query", "repo", "owner", ""},
		{"a mutation with variables", "POST", "", "", "mutation m($a: B!, $c: [D!] = []) { e(a: $a) { f } g: h }", 0, "mutation", "m", "e, h", ""},
		{"a subscription", "POST", "", "", "subscription { a }", 0, "subscription", "", "a", ""},
		{"the short form", "POST", "", "", "{ a b }", 0, "query", "", "a, b", ""},
		{"of many operations the first", "POST", "", "", "query a { b } query c { d }", 0, "query", "a", "b", "Multiple operations are not supported. Only the first one is handled"},
		{"fields of fragments", "POST", "", "", "{ ...f ... on T { c } ...f ...none } fragment f on T { a ...f }", 0, "query", "", "a, c", ""},
		{"JSON", "POST", "", jsonType, repo, 0, "query", "repo", "owner", ""},
		{"JSON with a charset", "POST", "", jsonType + "; charset=utf-8", repo, 0, "query", "repo", "owner", ""},
		{"an argument", "GET", "query=query%20repo{owner{name}}&query={x}", "", "", 0, "query", "repo", "owner", ""},

		{"no argument", "GET", "q=1", "", "", 0, absent, absent, absent, "failed to read graphql data, args[query] is nil"},
		{"no body", "POST", "query={a}", "", "", 0, absent, absent, absent, "failed to read graphql data, request body has zero size"},
		{"JSON without a query", "POST", "", jsonType, "{}", 0, absent, absent, absent, "failed to read graphql data, json body[query] is nil"},
		{"JSON with a query that is no text", "POST", "", jsonType, `{"query":1}`, 0, absent, absent, absent, "failed to read graphql data, json body[query] is nil"},
		{"JSON with two queries", "POST", "", jsonType, `{"query":"{a}","query":"{b}"}`, 0, absent, absent, absent, `failed to read graphql data, duplicate member "query" at character 16`},
		{"a body above the limit", "POST", "", "", "query { owner }", 5, absent, absent, absent, "failed to read graphql data, request size 15 is greater than the maximum size 5 allowed"},
		{"another method", "PUT", "query={a}", "", "{ a }", 0, absent, absent, absent, "failed to read graphql data, graphql not support `PUT` request"},
		{"what is no document", "POST", "", "", "AA", 0, absent, absent, absent, "failed to parse graphql: Syntax error near line 1 body: AA"},
		{"what is no document, further down", "POST", "", "", "{\n a\n", 0, absent, absent, absent, "failed to parse graphql: Syntax error near line 3 body: {\n a\n"},
		{"a document that asks for nothing", "POST", "", "", " # a comment", 0, absent, absent, absent, "empty graphql"},
		{"fragments alone", "POST", "", "", "fragment f on T { a }", 0, absent, absent, absent, "empty graphql"},
		{"a document that nests too deep", "POST", "", "", deep, 0, absent, absent, absent, "failed to parse graphql: Syntax error near line 1 body: " + deep[:64] + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := post(tt.contentType, tt.body)
			x.Request.Method, x.Request.RawQuery, x.Request.GraphQLLimit = tt.method, tt.query, tt.limit
			for range 2 { // what is kept of the first reading, too
				check(t, x, "graphql_operation", tt.operation)
				check(t, x, "graphql_name", tt.called)
				check(t, x, "graphql_root_fields", tt.fields)
			}
			misread := ""
			if err := x.Request.Misread; err != nil {
				misread = err.Error()
			}
			if misread != tt.misread {
				t.Errorf("got the reason %q, want %q", misread, tt.misread)
			}
		})
	}
}

func TestWhyABodyHasNoMembers(t *testing.T) {
	const supported = ", supported types are: application/json, application/x-www-form-urlencoded, multipart/form-data"
	for _, tt := range []struct {
		name, contentType, body string
		limit                   int64
		want                    string
	}{
		{"another type", "text/plain", "a", 0, "unsupported content-type: text/plain" + supported},
		{"no type, and no JSON", "", "a", 0, "unsupported content-type: " + supported},
		{"no type, and JSON", "", `{"a":[1]}`, 0, ""},
		{"broken JSON", jsonType, `{"a":[1]`, 0, "could not parse JSON request body: Expected comma or object end but found T_END at character 9"},
		{"a body above the limit", jsonType, `{"a":[1]}`, 3, "could not get body: request size 9 is greater than the maximum size 3 allowed"},
		{"no body", "text/plain", "", 0, ""},
		{"a form", formType, "b=1", 0, ""},
	} {
		for _, name := range []string{"post_arg.a", "post_arg.a[0]"} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				x := post(tt.contentType, tt.body)
				if tt.body == "" {
					x.Request.Body.SetSource(nil, 0)
				}
				x.Request.PostLimit = tt.limit
				_ = value(t, x, name)
				got := ""
				if err := x.Request.Misread; err != nil {
					got = err.Error()
				}
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func FuzzGraphQL(f *testing.F) {
	f.Add("query a($b: C = {d: [1]}) @e { f: g(h: \"i\") { ...j } } fragment j on K { l }")
	f.Add("{ ... on A { b } \"\"\"c\"\"\" }")
	f.Add("{a")
	var getters []variable.Getter
	for _, name := range []string{"graphql_root_fields", "graphql_name", "graphql_operation"} {
		get, _ := variable.Compile(name)
		getters = append(getters, get)
	}
	f.Fuzz(func(t *testing.T, body string) {
		x := post("", body)
		if operation := getters[2](x); operation.IsNil() != (x.Request.GraphQL.Operation == "") {
			t.Errorf("got the operation %q of %+v", operation.String(), x.Request.GraphQL)
		}
		for _, get := range getters {
			_ = get(x).String()
		}
	})
}

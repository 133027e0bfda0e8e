package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/jsonedit"
)

func decoded(t testing.TB, doc string) any {
	t.Helper()
	v, err := Decode([]byte(doc))
	if err != nil {
		t.Fatalf("decode %s: %v", doc, err)
	}
	return v
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name, schema, value, want string
	}{
		{"a wrong type is named in Lua's words", `{"type":"integer"}`, `"x"`, `wrong type: expected integer, got string`},
		{"null is userdata", `{"type":"string"}`, `null`, `wrong type: expected string, got userdata`},
		{"an array is a table", `{"type":"object"}`, `["a"]`, `wrong type: expected object, got table`},
		{"a boolean is a boolean", `{"type":"array"}`, `true`, `wrong type: expected array, got boolean`},
		{"several types are listed", `{"type":["integer","boolean"]}`, `{"a":1}`, `wrong type: expected one of integer, boolean, got table`},
		{"a number with a fraction is no integer", `{"type":"integer"}`, `1.5`, `wrong type: expected integer, got number`},
		{"a number with a zero fraction is an integer", `{"type":"integer"}`, `1.0`, ``},
		{"a number beyond all bounds is no integer", `{"type":"integer"}`, `1e999`, `wrong type: expected integer, got number`},
		{"an empty array is an object", `{"type":"object"}`, `[]`, ``},
		{"an empty object is an array", `{"type":"array"}`, `{}`, ``},
		{"an empty object is too short an array", `{"type":"array","minItems":1}`, `{}`, `expect array to have at least 1 items`},
		{"an empty array lacks members", `{"type":"object","required":["a"]}`, `[]`, `property "a" is required`},
		{"a missing member is named", `{"required":["uri"]}`, `{}`, `property "uri" is required`},
		{"missing members go before wrong ones", `{"properties":{"a":{"type":"string"}},"required":["b"]}`, `{"a":1}`, `property "b" is required`},
		{
			"members are judged in the order of the schema", `{"properties":{"z":{"type":"string"},"a":{"type":"string"}}}`, `{"a":1,"z":1}`,
			`property "z" validation failed: wrong type: expected string, got number`,
		},
		{
			"inner errors nest", `{"properties":{"a":{"properties":{"b":{"minimum":1}}}}}`, `{"a":{"b":0}}`,
			`property "a" validation failed: property "b" validation failed: expected 0 to be at least 1`,
		},
		{"a member too many is named", `{"additionalProperties":false,"properties":{"a":{}}}`, `{"a":1,"y":1,"x":2}`, `additional properties forbidden, found x`},
		{
			"other members have a schema", `{"additionalProperties":{"type":"string"}}`, `{"x":1}`,
			`failed to validate additional property x: wrong type: expected string, got number`,
		},
		{
			"members are matched by pattern", `{"patternProperties":{".*":{"type":"string"}}}`, `{"x":1}`,
			`failed to validate x (matching ".*"): wrong type: expected string, got number`,
		},
		{"a matched member is not one too many", `{"patternProperties":{"^x":{}},"additionalProperties":false}`, `{"x1":1}`, ``},
		{"too few members", `{"minProperties":2}`, `{"a":1}`, `expect object to have at least 2 properties`},
		{"too many members", `{"maxProperties":1}`, `{"a":1,"b":2}`, `expect object to have at most 1 properties`},
		{"a member asks for another", `{"dependencies":{"a":["b"]}}`, `{"a":1}`, `property "b" is required when "a" is set`},
		{
			"a member asks for a schema", `{"dependencies":{"a":{"required":["b"]}}}`, `{"a":1}`,
			`failed to validate dependent schema for "a": property "b" is required`,
		},
		{"items count from one", `{"items":{"type":"string"}}`, `["a",1]`, `failed to validate item 2: wrong type: expected string, got number`},
		{"a tuple has a schema for each item", `{"items":[{"type":"string"},{"type":"number"}]}`, `["a","b"]`, `failed to validate item 2: wrong type: expected number, got string`},
		{"a closed tuple has no more items", `{"items":[{}],"additionalItems":false}`, `[1,2]`, `found unexpected extra items in array`},
		{
			"further items of a tuple have a schema", `{"items":[{}],"additionalItems":{"type":"string"}}`, `[1,2]`,
			`failed to validate additional item 2: wrong type: expected string, got number`,
		},
		{"too many items", `{"maxItems":1}`, `[1,2]`, `expect array to have at most 1 items`},
		{"equal items are named", `{"uniqueItems":true}`, `["q","r","q"]`, `expected unique items but items 1 and 3 are equal`},
		{"equal numbers may look different", `{"uniqueItems":true}`, `[1,1.0]`, `expected unique items but items 1 and 2 are equal`},
		{"equal objects have their members in any order", `{"uniqueItems":true}`, `[{"a":1,"b":2},{"b":2,"a":1}]`, `expected unique items but items 1 and 2 are equal`},
		{"a text is not the number it looks like", `{"uniqueItems":true}`, `[1,"1"]`, ``},
		{"a string too short", `{"minLength":3}`, `"木木"`, `string too short, expected at least 3, got 2`},
		{"length counts characters, not bytes", `{"maxLength":2}`, `"木木"`, ``},
		{"a string too long", `{"maxLength":1}`, `"ab"`, `string too long, expected at most 1, got 2`},
		{"a pattern is quoted as Lua does", `{"pattern":"^\\S+$"}`, `"x y"`, `failed to match pattern "^\\S+$" with "x y"`},
		{"quotes and control characters are escaped", `{"pattern":"^a$"}`, `"\"\n\r1"`, "failed to match pattern \"^a$\" with \"\\\"\\\n\\0131\""},
		{"a pattern may look ahead", `{"pattern":"^(?!x)"}`, `"xy"`, `failed to match pattern "^(?!x)" with "xy"`},
		{"a pattern that looks ahead matches", `{"pattern":"^(?!x)"}`, `"yx"`, ``},
		{"a pattern that backtracks without end does not match", `{"pattern":"^(?=a)(a+)+$"}`, `"` + strings.Repeat("a", 40) + `!"`, `failed to match pattern "^(?=a)(a+)+$" with "` + strings.Repeat("a", 40) + `!"`},
		{"names are matched by patterns that look ahead", `{"patternProperties":{"^(?!x)":{"type":"string"}}}`, `{"x":1,"a":"b"}`, ``},
		{"too small", `{"minimum":0.5}`, `-1`, `expected -1 to be at least 0.5`},
		{"too large", `{"maximum":65535}`, `1e20`, `expected 1e+20 to be at most 65535`},
		{"not above", `{"exclusiveMinimum":0}`, `0`, `expected 0 to be greater than 0`},
		{"not below", `{"exclusiveMaximum":1}`, `1.0`, `expected 1 to be smaller than 1`},
		{"numbers have fourteen digits", `{"maximum":0}`, `0.1234567890123456`, `expected 0.12345678901235 to be at most 0`},
		{"not a multiple", `{"multipleOf":2}`, `3`, `expected 3 to be a multiple of 2`},
		{"a value outside a list", `{"enum":["a",1]}`, `"b"`, `matches none of the enum values`},
		{"a value of a list by another spelling", `{"enum":["a",1]}`, `1.0`, ``},
		{"not the constant", `{"const":5}`, `6`, `failed to check const value`},
		{"one of all", `{"allOf":[{},{"type":"string"}]}`, `1`, `allOf 2 failed: wrong type: expected string, got number`},
		{
			"none of any, with what they require", `{"anyOf":[{"required":["a","b"]},{"type":"string"},{"required":["c"]}]}`, `{}`,
			`object matches none of the required: ["a","b"] or ["c"]`,
		},
		{"none of any", `{"anyOf":[{"type":"string"},{"type":"boolean"}]}`, `1`, `object matches none of the required`},
		{"none of one", `{"oneOf":[{"type":"string"}]}`, `1`, `value should match only one schema, but matches none`},
		{"two of one", `{"oneOf":[{"type":"string"},{"type":"number"},{"minimum":1}]}`, `1`, `value should match only one schema, but matches both schemas 2 and 3`},
		{"the condition holds", `{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"a":1}`, `then clause did not match`},
		{"the condition does not hold", `{"if":{"required":["a"]},"else":{"required":["b"]}}`, `{}`, `else clause did not match`},
		{"a condition without a branch", `{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{}`, ``},
		{"what must not match", `{"not":{"type":"string"}}`, `"a"`, `value wasn't supposed to match schema`},
		{"a format", `{"format":"ipv4"}`, `"10.0.0.300"`, `expect valid ipv4 format but got: 10.0.0.300`},
		{"a schema that is false", `{"properties":{"a":false}}`, `{"a":1}`, `property "a" validation failed: expect false always`},
		{"a reference is followed", `{"definitions":{"id":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/id"}}}`, `{"a":1}`, `property "a" validation failed: wrong type: expected string, got number`},
		{"a schema may refer to itself", `{"properties":{"next":{"$ref":"#"}},"additionalProperties":false}`, `{"next":{"next":{"x":1}}}`, `property "next" validation failed: property "next" validation failed: additional properties forbidden, found x`},
		{"a secret stands for any string", `{"properties":{"k":{"type":"string","minLength":64,"pattern":"^a$","enum":["b"]}}}`, `{"k":"$secret://vault/1/k"}`, ``},
		{"an environment variable in any case stands for a string", `{"type":"string","maxLength":1}`, `"$EnV://N"`, ``},
		{"a reference is no number", `{"type":"integer"}`, `"$env://PORT"`, `wrong type: expected integer, got string`},
		{"a secret in capitals is a plain string", `{"type":"string","maxLength":1}`, `"$SECRET://x"`, `string too long, expected at most 1, got 11`},
		{
			"conditions see defaults", `{"properties":{"p":{"default":"local"}},"if":{"properties":{"p":{"enum":["redis"]}}},"then":{"required":["host"]}}`,
			`{}`, ``,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := Compile("test", []byte(test.schema))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := s.Check(decoded(t, test.value)); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFillAddsDefaultsOfAbsentMembers(t *testing.T) {
	tests := []struct {
		name, schema, value, want string
	}{
		{"at the top", `{"properties":{"a":{"default":1},"b":{"default":[2]}}}`, `{"b":null}`, `{"a":1,"b":null}`},
		{"inside members that are there", `{"properties":{"a":{"properties":{"b":{"default":1}}}}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{"not inside members that are absent", `{"properties":{"a":{"properties":{"b":{"default":1}}}}}`, `{}`, `{}`},
		{"inside items", `{"items":{"properties":{"b":{"default":1}}}}`, `[{"b":2},{},3]`, `[{"b":2},{"b":1},3]`},
		{"inside matched members", `{"patternProperties":{"^x":{"properties":{"b":{"default":1}}}}}`, `{"x":{},"y":{}}`, `{"x":{"b":1},"y":{}}`},
		{"inside other members", `{"additionalProperties":{"properties":{"b":{"default":1}}}}`, `{"x":{}}`, `{"x":{"b":1}}`},
		{"of the branch that matches", `{"oneOf":[{"required":["a"],"properties":{"x":{"default":1}}},{"required":["b"],"properties":{"y":{"default":1}}}]}`, `{"b":0}`, `{"b":0,"y":1}`},
		{"of the first branch that matches", `{"anyOf":[{"properties":{"x":{"default":1}}},{"properties":{"y":{"default":1}}}]}`, `{}`, `{"x":1}`},
		{"of all branches", `{"allOf":[{"properties":{"x":{"default":1}}},{"properties":{"y":{"default":1}}}]}`, `{}`, `{"x":1,"y":1}`},
		{"of the chosen clause", `{"if":{"required":["a"]},"then":{"properties":{"x":{"default":1}}},"else":{"properties":{"y":{"default":1}}}}`, `{"a":0}`, `{"a":0,"x":1}`},
		{"of a dependent schema", `{"dependencies":{"a":{"properties":{"x":{"default":1}}}}}`, `{"a":0}`, `{"a":0,"x":1}`},
		{"where an empty array stands for an object", `{"type":"object","properties":{"a":{"default":1}}}`, `[]`, `{"a":1}`},
		{"and keeps an empty array otherwise", `{"type":"object"}`, `[]`, `[]`},
		{"even if they do not match their own schema", `{"properties":{"a":{"type":"string","default":1}}}`, `{}`, `{"a":1}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, before := decoded(t, test.value), decoded(t, test.value)
			got, err := MustCompile("test", []byte(test.schema)).Fill(v)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, test.want), got); diff != "" {
				t.Errorf("filled value (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, v); diff != "" {
				t.Errorf("the argument was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestFillDoesNotShareDefaults(t *testing.T) {
	s := MustCompile("test", []byte(`{"properties":{"a":{"default":{"b":[1]}}}}`))
	first, err := s.Fill(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	first.(map[string]any)["a"].(map[string]any)["b"].([]any)[0] = "changed"
	second, err := s.Fill(map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": map[string]any{"b": []any{json.Number("1")}}}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Errorf("default after a change of another copy (-want +got):\n%s", diff)
	}
}

func TestCompileRefuses(t *testing.T) {
	tests := []struct {
		name, schema, want string
	}{
		{"an unknown keyword", `{"properties":{"a":{"minLenght":1}}}`, `#/properties/a/minLenght: unsupported keyword`},
		{"an unknown keyword in a branch", `{"oneOf":[{"requires":["a"]}]}`, `#/oneOf/0/requires: unsupported keyword`},
		{"an unknown format", `{"format":"colour"}`, `format "colour" is not supported`},
		{"a member twice", `{"type":"object","type":"array"}`, `member "type" stands twice in one object`},
		{"a keyword of the wrong type", `{"minLength":"1"}`, `minLength`},
		{"a pattern that is none", `{"pattern":"("}`, `pattern "("`},
		{"a reference out of the document", `{"$ref":"https://schema.test/a"}`, `must be a path within the document`},
		{"a reference into the void", `{"$ref":"#/definitions/a"}`, `leads nowhere`},
		{"a reference to what is no schema", `{"default":{"pattern":"("},"$ref":"#/default"}`, `does not lead to a schema`},
		{"a reference that goes in a circle", `{"definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}},"$ref":"#/definitions/a"}`, `loop`},
		{"text after the schema", `{} {}`, `data after the JSON value`},
		{"a schema that is a number", `5`, `#: a schema is an object or a boolean`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Compile("test", []byte(test.schema))
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(test.want)) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestLaterCompilesOnceAtTheFirstUse(t *testing.T) {
	made := 0
	s := Later("test", func() []byte { made++; return []byte(`{"type":"string"}`) })
	if made != 0 {
		t.Error("it was compiled before anybody asked")
	}
	for range 2 {
		if s.Check("x") != nil || s.Check(true) == nil || string(s.Raw()) != `{"type":"string"}` {
			t.Error("it is not what was compiled")
		}
	}
	if made != 1 {
		t.Errorf("compiled %d times", made)
	}
	defer func() {
		if recover() == nil {
			t.Error("a bad one does not panic")
		}
	}()
	_ = Later("bad", func() []byte { return []byte(`{"type":1}`) }).Check("x")
}

func TestRawIsTheDocumentAsGiven(t *testing.T) {
	const doc = `{ "type" : "object", "pattern":"^(?!x)" }`
	if got := string(MustCompile("test", []byte(doc)).Raw()); got != doc {
		t.Errorf("got %s, want %s", got, doc)
	}
}

func TestDecodeRefusesTrailingData(t *testing.T) {
	if _, err := Decode([]byte(`{} 1`)); err == nil {
		t.Error("got no error, want one")
	}
}

// What is no UTF-8, or half a character, is read as encoding/json reads it, and what it
// refuses is refused in its words.
func TestDecodeIsEncodingJSONs(t *testing.T) {
	for _, doc := range []string{
		`{"a":[1,"x",null,true,{}],"b":1e2}`, "\"\xff\"", `"\ud800"`, `{"a":1,"a":{"b":2}}`, `init_dir`, `{"a":1`, ``,
		strings.Repeat("[", 9999) + strings.Repeat("]", 9999), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
	} {
		var want any
		d := json.NewDecoder(strings.NewReader(doc))
		d.UseNumber()
		wantErr := d.Decode(&want)
		got, err := Decode([]byte(doc))
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%.20q: got %.50v, %v, want %.50v, %v", doc, got, err, want, wantErr)
		}
	}
}

func TestAMemberTwiceIsRefusedOnDemand(t *testing.T) {
	for doc, want := range map[string]string{
		`{"a":{"b":1,"\u0062":2}}`: `duplicate member "b" at character 13`,
		`{"a":1,"b":[{"a":1}]}`:    `<nil>`,
		`{"a":1`:                   `unexpected EOF`,
	} {
		if _, err := DecodeUnambiguous([]byte(doc), jsonedit.Known{}); fmt.Sprint(err) != want {
			t.Errorf("%s: got %v, want %s", doc, err, want)
		}
	}
}

// Alternatives that lack a member are passed over, unless something would fill it in.
func TestAnAlternativeMayFillInWhatItNeeds(t *testing.T) {
	filling := `{"properties":{"a":{"default":1}},"anyOf":[{"required":["a"]}]}`
	for _, test := range []struct {
		name, schema string
		good         bool
	}{
		{"anyOf", `{"anyOf":[` + filling + `]}`, true},
		{"oneOf", `{"oneOf":[{"required":["c"]},` + filling + `]}`, true},
		{"not", `{"not":` + filling + `}`, false},
		{"if", `{"if":` + filling + `,"then":false}`, false},
		{"a dependency", `{"anyOf":[{"dependencies":{"b":{"properties":{"a":{"default":1}}}},"anyOf":[{"required":["a"]}]}]}`, true},
		{"another alternative of an alternative", `{"anyOf":[{"allOf":[{"properties":{"a":{"default":1}}}],"anyOf":[{"required":["a"]}]}]}`, true},
		{"a member that nothing fills in", `{"anyOf":[{"anyOf":[{"required":["a"]},{"required":["b","c"]}]}]}`, false},
		{"not what lacks one", `{"not":{"anyOf":[{"required":["a"]},{"required":["b","c"]}]}}`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Compile("test", []byte(test.schema))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(map[string]any{"b": json.Number("1")}); (err == nil) != test.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestIsReference(t *testing.T) {
	for s, want := range map[string]bool{
		"$secret://vault/1/k": true, "$env://A": true, "$ENV://A": true,
		"$Secret://x": false, "$env:/A": false, "": false, "$env": false, "x$env://A": false,
	} {
		if got := IsReference(s); got != want {
			t.Errorf("IsReference(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestUniqueItemsOfLongListsIsFast(t *testing.T) {
	long := make([]any, 200_000)
	for i := range long {
		long[i] = float64(i)
	}
	if err := MustCompile("test", []byte(`{"uniqueItems":true}`)).Check(long); err != nil {
		t.Error(err)
	}
}

package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// FuzzVerdict holds the walker's verdict to the library's own, where the dialects agree:
// values without empty containers, references and numbers that a float64 rounds, schemas
// without defaults.
func FuzzVerdict(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"],"additionalProperties":false}`, `{"a":1}`},
		{`{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1,"b":2}`},
		{`{"anyOf":[{"type":"string","pattern":"^a+$"},{"type":"array","items":{"enum":[1,"x",null]},"uniqueItems":true}]}`, `[1,"x"]`},
		{`{"if":{"properties":{"p":{"const":"r"}}},"then":{"required":["h"]},"else":{"not":{"required":["h"]}}}`, `{"p":"r"}`},
		{`{"dependencies":{"a":["b"],"c":{"maxProperties":1}},"patternProperties":{"^x":{"type":"boolean"}}}`, `{"a":1,"b":2,"x1":true}`},
		{`{"items":[{"type":"string"}],"additionalItems":{"type":"number","exclusiveMinimum":0,"multipleOf":2},"maxItems":3}`, `["a",2,4]`},
		{`{"definitions":{"n":{"properties":{"next":{"$ref":"#/definitions/n"}},"minProperties":1}},"$ref":"#/definitions/n"}`, `{"next":{"v":1}}`},
		{`{"allOf":[{"minLength":2},{"maxLength":3}],"format":"ipv4"}`, `"1.1.1.1"`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, doc, value string) {
		v, err := Decode([]byte(value))
		if err != nil || !portable(v) || strings.Contains(doc, "default") || strings.Contains(doc, "multipleOf") && strings.Contains(doc+value, ".") {
			t.Skip()
		}
		s, err := Compile("fuzz", []byte(doc))
		if err != nil {
			t.Skip()
		}
		if root, err := Decode([]byte(doc)); err != nil || !exact(root) {
			t.Skip()
		}
		reference, err := library(doc)
		if err != nil {
			t.Skip() // a pattern that Go's regexp does not compile
		}
		want, got := reference.Validate(v), s.Check(v)
		if (want == nil) != (got == nil) {
			t.Errorf("%s against %s: got %v, want %v", value, doc, got, want)
		}
	})
}

func library(doc string) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft7
	if err := c.AddResource("schema:///library", strings.NewReader(doc)); err != nil {
		return nil, err
	}
	return c.Compile("schema:///library")
}

// What the library refuses by the schema of schemas is refused, and what stands next to it is
// not.
func TestKeywordsHaveTheirShapes(t *testing.T) {
	for _, test := range []struct{ bad, good string }{
		{`{"type":"text"}`, `{"type":"string"}`},
		{`{"type":[]}`, `{"type":["string","null"]}`},
		{`{"type":["string","string"]}`, `{"type":["string"]}`},
		{`{"enum":1}`, `{"enum":[1]}`},
		{`{"required":"a"}`, `{"required":["a"]}`},
		{`{"required":["a","a"]}`, `{"required":[]}`},
		{`{"required":[1]}`, `{"required":["1"]}`},
		{`{"minProperties":-1}`, `{"minProperties":0}`},
		{`{"maxItems":1.5}`, `{"maxItems":1.0}`},
		{`{"minLength":"1"}`, `{"minLength":1}`},
		{`{"minimum":"1"}`, `{"minimum":-1.5}`},
		{`{"multipleOf":0}`, `{"multipleOf":0.5}`},
		{`{"uniqueItems":1}`, `{"uniqueItems":false}`},
		{`{"pattern":1}`, `{"pattern":"1"}`},
		{`{"pattern":"("}`, `{"pattern":"()"}`},
		{`{"format":1}`, `{"format":"ipv4"}`},
		{`{"properties":[]}`, `{"properties":{}}`},
		{`{"properties":{"a":1}}`, `{"properties":{"a":true}}`},
		{`{"patternProperties":{"(":{}}}`, `{"patternProperties":{"a":{}}}`},
		{`{"additionalProperties":1}`, `{"additionalProperties":{}}`},
		{`{"dependencies":{"a":"b"}}`, `{"dependencies":{"a":["b"]}}`},
		{`{"dependencies":{"a":["b","b"]}}`, `{"dependencies":{"a":{}}}`},
		{`{"items":1}`, `{"items":true}`},
		{`{"items":[1]}`, `{"items":[{}]}`},
		{`{"additionalItems":"x"}`, `{"additionalItems":true}`},
		{`{"allOf":[]}`, `{"allOf":[true]}`},
		{`{"anyOf":{}}`, `{"anyOf":[{}]}`},
		{`{"oneOf":[1]}`, `{"oneOf":[false]}`},
		{`{"not":1}`, `{"not":{}}`},
		{`{"if":[]}`, `{"if":true}`},
		{`{"definitions":{"a":1}}`, `{"definitions":{"a":{}}}`},
		{`{"$ref":1}`, `{"$ref":"#/definitions/a","definitions":{"a":{}}}`},
		{`{"title":1}`, `{"title":"1"}`},
		{`{"description":[]}`, `{"description":""}`},
		{`{"examples":{}}`, `{"examples":[{}]}`},
		{`{"readOnly":"yes"}`, `{"readOnly":true}`},
		{`{"$ref":"#"}`, `{"properties":{"a":{"$ref":"#"}}}`},
		{`{"allOf":[{"not":{"$ref":"#"}}]}`, `{"items":{"$ref":"#"}}`},
		{`{"$schema":"http://json-schema.org/draft-99/schema#"}`, `{"$schema":"http://json-schema.org/draft-07/schema#"}`},
	} {
		for doc, good := range map[string]bool{test.bad: false, test.good: true} {
			_, err := Compile("test", []byte(doc))
			if (err == nil) != good {
				t.Errorf("%s: got %v", doc, err)
			}
			if _, err := library(doc); (err == nil) != good {
				t.Errorf("%s: the library says %v", doc, err)
			}
		}
	}
}

// TestVerdictOnRandomSchemas does what FuzzVerdict does with schemas that are all good,
// since mutated ones seldom are.
func TestVerdictOnRandomSchemas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	good := 0
	for range 5000 {
		p, err := json.Marshal(randomSchema(r, 3))
		if err != nil {
			t.Fatal(err)
		}
		doc := string(p)
		s, err := Compile("random", p)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		reference, err := library(doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		for range 10 {
			v := randomValue(r, 3)
			want, got := reference.Validate(v), s.Check(v)
			if (want == nil) != (got == nil) {
				t.Fatalf("%v against %s: got %v, want %v", v, doc, got, want)
			}
			if got == nil {
				good++
			}
		}
	}
	if good < 5000 || good > 45000 {
		t.Errorf("%d of 50000 values are good: that compares little", good)
	}
}

// TestCompleteIsFill holds the way that changes objects in place to the one that copies them,
// in what it returns and in its words.
func TestCompleteIsFill(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	filled := 0
	for range 5000 {
		p, err := json.Marshal(withDefaults(r, map[string]any{
			"properties": map[string]any{"a": randomSchema(r, 2), "b": randomSchema(r, 2)},
			"allOf":      []any{randomSchema(r, 3)},
		}))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Compile("random", p)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for range 10 {
			v := randomValue(r, 3)
			want, wantErr := s.Fill(clone(v))
			got, gotErr := s.Complete(clone(v))
			if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || wantErr == nil && !reflect.DeepEqual(got, want) {
				t.Fatalf("%v against %s: got %v, %v, want %v, %v", v, p, got, gotErr, want, wantErr)
			}
			if wantErr == nil && !reflect.DeepEqual(want, v) {
				filled++
			}
		}
	}
	if filled < 1000 {
		t.Errorf("%d of 50000 values were filled in: that compares little", filled)
	}
}

// withDefaults gives properties defaults, at all levels.
func withDefaults(r *rand.Rand, tree any) any {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			withDefaults(r, item)
		}
	case map[string]any:
		for name, member := range tree {
			withDefaults(r, member)
			if properties, ok := member.(map[string]any); ok && name == "properties" {
				for _, p := range properties {
					if p, ok := p.(map[string]any); ok && r.IntN(2) == 0 {
						p["default"] = pick[any](r, 1, "a", []any{1, 2}, map[string]any{"a": 1})
					}
				}
			}
		}
	}
	return tree
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomSchema(r *rand.Rand, depth int) any {
	s := map[string]any{}
	sub := func() any { return randomSchema(r, depth-1) }
	subs := func() any { return []any{sub(), sub()} }
	keywords := map[string]func() any{
		"type": func() any {
			return pick[any](r, "object", "array", "string", "integer", "number", []string{"object", "string", "null"})
		},
		"enum":             func() any { return []any{pick[any](r, 1, "a", nil), pick[any](r, 2, "b", true)} },
		"const":            func() any { return pick[any](r, 1, "a", nil, []any{1}) },
		"minimum":          func() any { return r.IntN(3) },
		"maximum":          func() any { return r.IntN(3) },
		"exclusiveMinimum": func() any { return r.IntN(3) },
		"multipleOf":       func() any { return 2 },
		"minLength":        func() any { return r.IntN(3) },
		"maxLength":        func() any { return r.IntN(3) },
		"pattern":          func() any { return pick(r, "^a", "b$", ".") },
		"required":         func() any { return []string{pick(r, "a", "b", "c")} },
		"minProperties":    func() any { return r.IntN(3) },
		"maxProperties":    func() any { return r.IntN(3) },
		"minItems":         func() any { return r.IntN(3) },
		"maxItems":         func() any { return 1 + r.IntN(3) },
		"uniqueItems":      func() any { return true },
	}
	if depth > 0 {
		keywords["properties"] = func() any { return map[string]any{"a": sub(), "b": sub()} }
		keywords["patternProperties"] = func() any { return map[string]any{"^[ac]": sub()} }
		keywords["additionalProperties"] = func() any { return pick(r, any(false), sub()) }
		keywords["dependencies"] = func() any { return map[string]any{"a": pick(r, any([]string{"b"}), sub())} }
		keywords["items"] = func() any { return pick(r, sub(), subs()) }
		keywords["additionalItems"] = func() any { return pick(r, any(false), sub()) }
		keywords["allOf"], keywords["anyOf"], keywords["oneOf"] = subs, subs, subs
		keywords["not"], keywords["if"], keywords["then"], keywords["else"] = sub, sub, sub, sub
	}
	names := slices.Sorted(maps.Keys(keywords))
	for range r.IntN(4) {
		name := pick(r, names...)
		s[name] = keywords[name]()
	}
	return s
}

// randomValue returns a value without empty containers.
func randomValue(r *rand.Rand, depth int) any {
	kind := r.IntN(7)
	if depth == 0 {
		kind = r.IntN(5)
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return json.Number(pick(r, "0", "1", "2", "1.0", "1.5", "-1"))
	case 3, 4:
		return pick(r, "", "a", "ab", "木b", "b")
	case 5:
		list := make([]any, 1+r.IntN(3))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	}
	m := map[string]any{pick(r, "a", "b"): randomValue(r, depth-1)}
	for range r.IntN(3) {
		m[pick(r, "a", "b", "c", "d")] = randomValue(r, depth-1)
	}
	return m
}

// portable reports whether v means the same in both dialects.
func portable(v any) bool {
	switch v := v.(type) {
	case string:
		return !IsReference(v)
	case map[string]any:
		for _, member := range v {
			if !portable(member) {
				return false
			}
		}
		return len(v) > 0
	case []any:
		for _, item := range v {
			if !portable(item) {
				return false
			}
		}
		return len(v) > 0
	}
	return exact(v)
}

// exact reports whether no number in v is rounded by a float64.
func exact(v any) bool {
	switch v := v.(type) {
	case json.Number:
		return len(v) <= 15 && !strings.ContainsAny(string(v), "eE")
	case map[string]any:
		for _, member := range v {
			if !exact(member) {
				return false
			}
		}
	case []any:
		for _, item := range v {
			if !exact(item) {
				return false
			}
		}
	}
	return true
}

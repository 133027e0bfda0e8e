package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestYAMLBecomesJSON(t *testing.T) {
	tests := map[string]struct{ yaml, want, fails string }{
		"objects, lists and scalars":       {"a:\n  - 1\n  - 2.5\n  - true\n  - null\n  - '3'\n  - x\n", `{"a":[1,2.5,true,null,"3","x"]}`, ""},
		"a date stays text":                {"d: 2020-01-02", `{"d":"2020-01-02"}`, ""},
		"JSON is YAML":                     {`{"b":1,"a":[]}`, `{"a":[],"b":1}`, ""},
		"what an alias names is copied":    {"a: &x {k: 1}\nb: *x", `{"a":{"k":1},"b":{"k":1}}`, ""},
		"a merge comes last":               {"a: &x {k: 1, j: 2}\nb: {<<: *x, k: 3}", `{"a":{"j":2,"k":1},"b":{"j":2,"k":3}}`, ""},
		"nothing is nothing":               {"# only a comment", "", ""},
		"a variable is text":               {"a: ${{HOME}}", `{"a":"${{HOME}}"}`, ""},
		"a scalar is itself":               {"5", "5", ""},
		"what is no YAML":                  {"a: [", "", ErrYAML.Error()},
		"a second document":                {"a: 1\n---\nb: 1", "", ErrYAML.Error()},
		"a name twice":                     {"a: 1\na: 2", "", `yaml:2: "a" stands here and at line 1`},
		"a number that JSON has not":       {"a: .nan", "", "yaml:1: body.a: .nan is no number in JSON"},
		"a key that is no text":            {"[1]: 2", "", "yaml:1: a key must be a text, not array"},
		"more levels than are allowed":     {"a: [[[[]]]]", "", "yaml:1: body.a[0][0][0]: nested more than 4 deep"},
		"aliases that stand for very much": {bomb(), "", "body"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := JSON([]byte(tt.yaml), 4)
			if string(got) != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("got %s %v, want %s %s", got, err, tt.want, tt.fails)
			}
		})
	}
}

// bomb is a short text that unfolds into 10⁹ values.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		name, below := string(rune('0'+i)), string(rune('0'+i-1))
		b.WriteString("a" + name + ": &a" + name + " [" + strings.Repeat("*a"+below+",", 10) + "]\n")
	}
	return b.String()
}

func FuzzYAMLBecomesJSON(f *testing.F) {
	f.Add("a: [1, x]\nb: &c {d: 2}\ne: *c")
	f.Add("<<: {a: 1}")
	f.Add(bomb())
	f.Fuzz(func(t *testing.T, text string) {
		got, err := JSON([]byte(text), 64)
		if err != nil {
			if got != nil {
				t.Fatalf("an error and a value: %s", got)
			}
			if !errors.Is(err, ErrYAML) && !strings.HasPrefix(err.Error(), "yaml:") {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		if got != nil && !json.Valid(got) {
			t.Fatalf("no JSON: %s", got)
		}
	})
}

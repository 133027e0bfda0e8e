package builtin

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/plugin/aiproxy"
)

// attributes says, of a README's tables of attributes in their order, where in which schemas
// their names begin.
var attributes = map[string][][]root{
	"aipromptdecorator": {{{"ai-prompt-decorator", ""}}},
	"aipromptguard":     {{{"ai-prompt-guard", ""}}},
	"aiprompttemplate":  {{{"ai-prompt-template", ""}}},
	"aiproxy": {
		{{"ai-proxy", ""}, {"ai-proxy-multi", "instances[]."}},
		{{"ai-proxy-multi", "instances[]."}},
		{{"ai-proxy", ""}, {"ai-proxy-multi", ""}},
		{{"ai-proxy-multi", ""}},
		{{"ai-proxy-multi", "instances[].checks.active."}},
		{{"ai-proxy-multi", "semantic_opts."}},
		{{"ai-proxy-multi", ""}},
		{{"ai-proxy" + ofSeed, ""}, {"ai-proxy-multi" + ofSeed, ""}},
	},
	"airatelimiting": {{{"ai-rate-limiting", ""}}},
	"keyauth":        {{{"key-auth", ""}}, {{"key-auth" + ofConsumers, ""}}},
	"prometheus":     {{{"prometheus", ""}}, {{"prometheus" + ofMetadata, ""}}},
}

const (
	ofSeed      = " (seed generation)"
	ofConsumers = " (consumers)"
	ofMetadata  = " (metadata)"
)

// root is a place in a plugin's schema.
type root struct{ schema, prefix string }

// schemas are the members of all schemas of all plugins.
func schemas(t *testing.T) map[string]map[string]node {
	t.Helper()
	all := map[string]map[string]node{}
	for _, d := range Plugins(aiproxy.Deps{Drivers: Drivers()}, metrics(t)) {
		all[d.Name] = members(t, d.Schema)
		if d.ConsumerSchema != nil {
			all[d.Name+ofConsumers] = members(t, d.ConsumerSchema)
		}
		if d.MetadataSchema != nil {
			all[d.Name+ofMetadata] = members(t, d.MetadataSchema)
		}
		if d.SchemaFor == nil {
			continue
		}
		for _, conf := range []string{`{"model":{"provider":"openai","name":"m"}}`, `{"providers":[{"name":"openai","model":"m"}]}`} {
			if seed, err := d.SchemaFor([]byte(conf)); err == nil && seed != nil {
				all[d.Name+ofSeed] = members(t, seed)
			}
		}
	}
	return all
}

// Tables of attributes are true both ways: they name what the schemas have, with types,
// defaults, bounds and choices and what is required, and nothing else.
func TestAttributesOfREADMEsAreThoseOfTheSchemas(t *testing.T) {
	all := schemas(t)
	told := map[string]map[string]bool{}
	for name := range all {
		told[name] = map[string]bool{}
	}
	files, err := filepath.Glob("../plugin/*/README.md")
	if err != nil || len(files) != len(attributes) {
		t.Fatalf("there are %d READMEs (%v), want %d", len(files), err, len(attributes))
	}
	for _, file := range files {
		roots := attributes[filepath.Base(filepath.Dir(file))]
		var found [][][]string
		for _, table := range tables(t, file) {
			if strings.HasPrefix(table[0][0], "Name") && slices.Contains(table[0], "Type") && slices.Contains(table[0], "Default") {
				found = append(found, table)
			}
		}
		if len(found) != len(roots) {
			t.Errorf("%s has %d tables of attributes, want %d", file, len(found), len(roots))
			continue
		}
		for i, table := range found {
			for _, row := range table[1:] {
				tellRow(t, table[0], row, roots[i], all, told)
			}
		}
	}
	for name, list := range all {
		for path := range list {
			if !told[name][path] && !strings.Contains(path, "^") {
				t.Errorf("no README tells %s of %s", path, name)
			}
		}
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// codes are the words of a text that are set as code.
func codes(text string) (list []string) {
	for _, found := range quoted.FindAllStringSubmatch(text, -1) {
		list = append(list, found[1])
	}
	return list
}

// tellRow compares a row with what it names in schemas, and notes that this is told.
func tellRow(t *testing.T, head, row []string, roots []root, schemas map[string]map[string]node, told map[string]map[string]bool) {
	t.Helper()
	cell := func(name string) string {
		if i := slices.Index(head, name); i >= 0 {
			return row[i]
		}
		return ""
	}
	text := strings.Join(row, " | ")
	elsewhere := strings.Contains(text, "as above")
	names := codes(row[0])
	for _, name := range names {
		known := false
		for _, root := range roots {
			path := root.prefix + name
			n, ok := schemas[root.schema][path]
			if !ok {
				// What a table is about has it, but for the seed's, which is about both plugins.
				if !strings.HasSuffix(root.schema, ofSeed) {
					t.Errorf("the README tells %s, which is not in %s", path, root.schema)
				}
				continue
			}
			known = true
			for up := path; up != ""; up = parent(up) {
				told[root.schema][strings.TrimSuffix(up, "[]")] = true // what it is in is told with it
			}
			for other, member := range schemas[root.schema] {
				if parent(other) == path && (slices.Contains(codes(text), last(other)) || strings.Contains(text, "by metric")) ||
					strings.HasPrefix(other, path+".") && elsewhere {
					told[root.schema][other] = true
					// A member without a row has its bounds behind its name.
					if low, high := member.Minimum, member.Maximum; low != nil && high != nil && !elsewhere &&
						!strings.Contains(text, code(last(other))+" "+number(*low)+"–"+number(*high)) {
						t.Errorf("%s of %s is %s–%s; the README says %s", other, root.schema, number(*low), number(*high), text)
					}
				}
			}
			if elsewhere {
				continue
			}
			wrong := n.differs(cell("Type"), cell("Type")+" "+cell("Description"), cell("Default"))
			if wrong == "" && len(names) == 1 {
				wrong = n.differsAlone(schemas[root.schema], path, cell("Default"))
			}
			if wrong == "" {
				wrong = n.requires(slices.Contains(head, "Required"), cell("Required"), text)
			}
			if wrong != "" {
				t.Errorf("%s of %s: %s; the README says %s", path, root.schema, wrong, text)
			}
		}
		if !known {
			t.Errorf("the README tells %s, which is in no schema of %v", name, roots)
		}
	}
}

// parent is the path of what a member is in; empty: it is at the top.
func parent(path string) string { return path[:max(strings.LastIndexByte(path, '.'), 0)] }

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// node is a member of a schema.
type node struct {
	Type             string
	Default          json.RawMessage
	Minimum          *float64
	Maximum          *float64
	ExclusiveMinimum *float64
	MaxLength        *int
	MaxItems         *int
	Enum             []string
	Items            *node
	OneOf, AnyOf     []node

	required bool // in what it is in
}

// differs says what of a node a row does not tell; empty: nothing.
func (n node) differs(kind, about, def string) string {
	if d := strings.Trim(string(n.Default), `"`); len(n.Default) > 0 && n.Default[0] != '{' {
		if n.Items != nil {
			d = strings.NewReplacer("[ ", "[", " ]", "]").Replace(strings.Join(strings.Fields(d), " "))
		}
		if d == "" {
			d = "none"
		}
		if !slices.Contains(codes(def), d) && d != "none" || d == "none" && !strings.Contains(def, d) {
			return "its default is " + d
		}
	}
	choices := n.Enum
	if n.Items != nil {
		choices = n.Items.Enum
	}
	for _, choice := range choices {
		if !slices.Contains(codes(about), choice) {
			return fmt.Sprintf("%q is one of its choices", choice)
		}
	}
	if n.Type != "" && n.Enum == nil && !strings.Contains(kind, n.Type) &&
		(n.Type != "array" || !strings.Contains(kind, "strings")) && (n.Type != "string" || codes(kind) == nil) {
		return "its type is " + n.Type
	}
	for _, way := range append(n.OneOf, n.AnyOf...) {
		if wrong := way.differs(kind, about, def); wrong != "" {
			return wrong
		}
	}
	if n.MaxLength != nil && !strings.Contains(kind, fmt.Sprintf("–%d characters", *n.MaxLength)) {
		return fmt.Sprintf("it has at most %d characters", *n.MaxLength)
	}
	if n.MaxItems != nil && !strings.Contains(kind, fmt.Sprintf("–%d ", *n.MaxItems)) {
		return fmt.Sprintf("it has at most %d elements", *n.MaxItems)
	}
	bounds := n
	if n.Items != nil {
		bounds = *n.Items
	}
	if low := bounds.ExclusiveMinimum; low != nil && bounds.Type == "integer" {
		bounds.Minimum = new(float64)
		*bounds.Minimum = *low + 1
	}
	switch low, high := bounds.Minimum, bounds.Maximum; {
	case low != nil && high != nil:
		if want := number(*low) + "–" + number(*high); !strings.Contains(about, want) {
			return "it is " + want
		}
	case low != nil:
		if want := "≥ " + number(*low); !strings.Contains(about, want) {
			return "it is " + want
		}
	}
	return ""
}

func number(f float64) string {
	return strings.Replace(strconv.FormatFloat(f, 'f', -1, 64), "-", "−", 1)
}

// differsAlone says what is wrong with a default that a row tells of this node alone.
func (n node) differsAlone(schema map[string]node, path, def string) string {
	told := codes(def)
	if len(told) != 1 || def != code(told[0]) || n.Default != nil {
		return ""
	}
	if _, member := schema[told[0]]; member { // its default is what that is
		return ""
	}
	var inherited map[string]any
	if in := schema[parent(path)].Default; in != nil && json.Unmarshal(in, &inherited) == nil && inherited[last(path)] == told[0] {
		return ""
	}
	return "it has no default"
}

// requires says what is wrong with how a row tells whether the node is required.
func (n node) requires(column bool, told, text string) string {
	switch {
	case n.required && column && told == "", n.required && !column && !strings.Contains(text, "required"):
		return "it is required"
	case !n.required && told == "yes":
		return "it is not required"
	}
	return ""
}

// members are the members of a schema by their paths.
func members(t *testing.T, schema []byte) map[string]node {
	t.Helper()
	all := map[string]node{}
	var walk func(raw json.RawMessage, path string, required bool)
	walk = func(raw json.RawMessage, path string, required bool) {
		var s struct {
			node
			Required          []string
			Properties        map[string]json.RawMessage
			PatternProperties map[string]json.RawMessage
			Items             json.RawMessage
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if s.Items != nil {
			s.node.Items = &node{}
			if err := json.Unmarshal(s.Items, s.node.Items); err != nil {
				t.Fatal(err)
			}
			walk(s.Items, path+"[]", false)
		}
		if path != "" && !strings.HasSuffix(path, "[]") {
			s.required = required
			all[path] = s.node
		}
		for _, members := range []map[string]json.RawMessage{s.Properties, s.PatternProperties} {
			for name, member := range members {
				at := name
				if path != "" {
					at = path + "." + name
				}
				walk(member, at, slices.Contains(s.Required, name))
			}
		}
	}
	walk(schema, "", false)
	return all
}

// Package schema checks decoded JSON against JSON Schema (draft 7) in the dialect and the
// words of the reference's validator (spec/01 §4.2), and fills in defaults on the way.
//
// The jsonschema library parses, resolves and meta-checks the schemas; the verdict and
// its wording come from one walker of this package over what the library compiled.
//
// The package does not know which schemas there are, what they describe or where the
// values come from: kinds of stored things are pkg/resource's, plugins pkg/plugin's.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// Schema is a compiled schema. It is immutable and safe for concurrent use.
type Schema struct {
	raw  []byte
	root *node
}

// Compile compiles a draft 7 schema; name appears in errors only. References must stay
// within the document. A keyword which the walker does not know is an error, since a
// misspelt one would otherwise accept everything.
func Compile(name string, doc []byte) (*Schema, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	portable, err := vetDocument(tree)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	text, err := json.Marshal(portable)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}

	location := "schema:///" + url.PathEscape(name)
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft7
	c.LoadURL = func(string) (io.ReadCloser, error) {
		return nil, errors.New("references must stay within the document")
	}
	if err := c.AddResource(location, bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	compiled, err := c.Compile(location)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}

	b := builder{root: tree, nodes: map[*jsonschema.Schema]*node{}}
	root, err := b.build(compiled, tree)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	return &Schema{raw: bytes.Clone(doc), root: root}, nil
}

// MustCompile is Compile for schemas that are part of the program; it panics on an error.
func MustCompile(name string, doc []byte) *Schema {
	s, err := Compile(name, doc)
	if err != nil {
		panic(err)
	}
	return s
}

// Raw returns the document as it was given. The caller must not change it.
func (s *Schema) Raw() []byte { return s.raw }

// Check judges v, a decoded JSON value (map[string]any, []any, string, json.Number or
// float64, bool, nil). It leaves v alone. The verdict is that of Fill: conditions see
// the defaults of absent members, as they do in the reference.
func (s *Schema) Check(v any) error {
	_, err := s.root.walk(v)
	return err
}

// Fill judges v as Check does and returns it with the defaults of absent members filled
// in. v itself is not modified: objects that gain members are copied, others are shared
// with the result.
func (s *Schema) Fill(v any) (any, error) {
	return s.root.walk(v)
}

// deepest is how deep encoding/json reads.
const deepest = 10_000

// Decode decodes exactly one JSON value; numbers become json.Number, so that they keep
// their digits.
func Decode(p []byte) (any, error) {
	if v, err := jsonedit.Decode(p, jsonedit.Options{MaxDepth: deepest}); err == nil {
		return v, nil
	}
	// The library also takes text that is not UTF-8, and what it refuses is told in its words.
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON value")
	}
	return v, nil
}

// IsReference reports whether s stands for a value that is looked up when it is used:
// "$secret://…", or "$env://…" in any letter case (spec/01 §4.2).
func IsReference(s string) bool {
	const env = "$env://"
	return strings.HasPrefix(s, "$secret://") || len(s) >= len(env) && strings.EqualFold(s[:len(env)], env)
}

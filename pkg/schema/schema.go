// Package schema checks decoded JSON against JSON Schema (draft 7) in the dialect and the
// words of the reference's validator (spec/01 §4.2), and fills in defaults on the way.
//
// Schemas are part of the program; tests hold what is compiled, and the verdicts, to the
// jsonschema library, which no program links.
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
	"strings"
	"sync"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// Schema is a compiled schema, or one that its first use compiles. It is immutable otherwise
// and safe for concurrent use.
type Schema struct {
	compiled func() compiled
}

type compiled struct {
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
	root, err := build(tree)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	c := compiled{raw: bytes.Clone(doc), root: root}
	return &Schema{func() compiled { return c }}, nil
}

// Later is MustCompile at the first use: most processes see few kinds of things and few
// plugins, and starting costs each of them what it compiles. Since a mistake in the document
// panics as late, a test has to use every one of them.
func Later(name string, doc func() []byte) *Schema {
	return &Schema{sync.OnceValue(func() compiled { return MustCompile(name, doc()).compiled() })}
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
func (s *Schema) Raw() []byte { return s.compiled().raw }

// Check judges v, a decoded JSON value (map[string]any, []any, string, json.Number or
// float64, bool, nil). It leaves v alone. The verdict is that of Fill: conditions see
// the defaults of absent members, as they do in the reference.
func (s *Schema) Check(v any) error {
	_, err := s.compiled().root.walk(v, false)
	return err
}

// Fill judges v as Check does and returns it with the defaults of absent members filled
// in. v itself is not modified: objects that gain members are copied, others are shared
// with the result.
func (s *Schema) Fill(v any) (any, error) {
	return s.compiled().root.walk(v, false)
}

// Complete is Fill for who gives v away, as who has just decoded it does: objects that gain
// members are not copied. After an error v is of no use.
func (s *Schema) Complete(v any) (any, error) {
	return s.compiled().root.walk(v, true)
}

// deepest is how deep encoding/json reads.
const deepest = 10_000

// Decode decodes exactly one JSON value; numbers become json.Number, so that they keep
// their digits.
func Decode(p []byte) (any, error) { return decode(p, false, jsonedit.Known{}) }

// DecodeUnambiguous is Decode, and refuses an object that has a member twice: which of the
// two counts depends on who reads it (spec/00 7). The error is a *jsonedit.DuplicateError.
// What is known of the document is not read; its value is a Judged.
func DecodeUnambiguous(p []byte, known jsonedit.Known) (any, error) { return decode(p, true, known) }

// Judged stands for a part of a value that was judged before, and well. Every schema takes it.
type Judged struct{ Value any }

func decode(p []byte, unambiguous bool, known jsonedit.Known) (any, error) {
	v, err := jsonedit.DecodeKnown(p, jsonedit.Options{MaxDepth: deepest, Duplicates: unambiguous}, known)
	if err == nil {
		return v, nil
	}
	if _, twice := err.(*jsonedit.DuplicateError); twice {
		return nil, err
	}
	// The library also takes text that is not UTF-8, and what it refuses is told in its words.
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	v = nil
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

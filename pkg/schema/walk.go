package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// walk judges v and returns it with defaults filled in. It copies what it changes, so
// that branches which do not match leave no trace; where nothing but the verdict depends on
// it, an object that is the walker's own is changed itself. The order of the checks is the
// reference's; members are visited in the order of the schema, the others by name.
func (n *node) walk(v any, own bool) (any, error) {
	if _, known := v.(Judged); known {
		return v, nil
	}
	if n.always != nil {
		if *n.always {
			return v, nil
		}
		return v, errors.New("expect false always")
	}
	if n.ref != nil {
		return n.ref.walk(v, own)
	}
	if s, ok := v.(string); ok && n.text && IsReference(s) {
		return v, nil
	}
	if err := n.checkType(v); err != nil {
		return v, err
	}
	v, err := n.walkContainer(v, own)
	if err != nil {
		return v, err
	}
	switch x := v.(type) {
	case string:
		err = n.checkString(x)
	case json.Number, float64:
		err = n.checkNumber(x)
	}
	if err != nil {
		return v, err
	}
	if err := n.checkValues(v); err != nil {
		return v, err
	}
	return n.walkCompound(v, own)
}

func (n *node) checkType(v any) error {
	if len(n.types) == 0 || slices.ContainsFunc(n.types, func(t string) bool { return isType(v, t) }) {
		return nil
	}
	if len(n.types) == 1 {
		return fmt.Errorf("wrong type: expected %s, got %s", n.types[0], TypeName(v))
	}
	return fmt.Errorf("wrong type: expected one of %s, got %s", joined(n.types), TypeName(v))
}

// isType takes an empty array for an object and an empty object for an array: in the
// reference both are the same empty table.
func isType(v any, t string) bool {
	switch x := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case json.Number, float64:
		return t == "number" || t == "integer" && isInteger(number(x))
	case map[string]any:
		return t == "object" || t == "array" && len(x) == 0
	case []any:
		return t == "array" || t == "object" && len(x) == 0
	}
	return false
}

func (n *node) walkContainer(v any, own bool) (any, error) {
	switch x := v.(type) {
	case map[string]any:
		if len(x) == 0 && n.arrayOnly() {
			_, err := n.walkArray(nil, own)
			return v, err
		}
		return n.walkObject(x, own)
	case []any:
		if len(x) > 0 || n.arrayOnly() {
			return n.walkArray(x, own)
		}
		if len(n.types) == 0 || slices.Contains(n.types, "array") {
			if _, err := n.walkArray(x, own); err != nil {
				return v, err
			}
		}
		out, err := n.walkObject(nil, own)
		if err != nil || len(out) == 0 {
			return v, err
		}
		return out, nil
	}
	return v, nil
}

func (n *node) arrayOnly() bool {
	return len(n.types) > 0 && !slices.Contains(n.types, "object")
}

func (n *node) walkObject(m map[string]any, own bool) (map[string]any, error) {
	for _, name := range n.required {
		if _, ok := m[name]; !ok {
			return m, fmt.Errorf("property %s is required", quote(name))
		}
	}
	out := edit{to: m, own: own}
	others := len(m) // members that are no properties
	for i := range n.properties {
		p := &n.properties[i]
		v, ok := m[p.name]
		if !ok {
			if p.hasDefault {
				out.set(p.name, clone(p.def))
			}
			continue
		}
		others--
		filled, err := p.node.walk(v, own)
		if err != nil {
			return m, fmt.Errorf("property %s validation failed: %w", quote(p.name), err)
		}
		out.replace(p.name, v, filled)
	}
	if err := n.walkDependencies(&out); err != nil {
		return m, err
	}
	if others > 0 || len(n.patterns)+len(n.dependencies) > 0 {
		if err := n.walkOthers(&out); err != nil {
			return m, err
		}
	}
	if n.minProperties >= 0 && len(out.to) < n.minProperties {
		return m, fmt.Errorf("expect object to have at least %d properties", n.minProperties)
	}
	if n.maxProperties >= 0 && len(out.to) > n.maxProperties {
		return m, fmt.Errorf("expect object to have at most %d properties", n.maxProperties)
	}
	return out.to, nil
}

func (n *node) walkDependencies(out *edit) error {
	for i := range n.dependencies {
		d := &n.dependencies[i]
		if _, ok := out.to[d.name]; !ok {
			continue
		}
		for _, need := range d.needs {
			if _, ok := out.to[need]; !ok {
				return fmt.Errorf("property %s is required when %s is set", quote(need), quote(d.name))
			}
		}
		if d.node == nil {
			continue
		}
		filled, err := d.node.walk(out.to, out.own)
		if err != nil {
			return fmt.Errorf("failed to validate dependent schema for %s: %w", quote(d.name), err)
		}
		if m, ok := filled.(map[string]any); ok {
			out.to = m
		}
	}
	return nil
}

// walkOthers visits the members that patternProperties and additionalProperties speak of.
func (n *node) walkOthers(out *edit) error {
	if len(n.patterns) == 0 && !n.closed && n.additional == nil {
		return nil
	}
	var names []string
	for name := range out.to {
		if len(n.patterns) > 0 || !n.named[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		matched := n.named[name]
		for _, p := range n.patterns {
			if !p.pattern.match(name) {
				continue
			}
			matched = true
			v := out.to[name]
			filled, err := p.node.walk(v, out.own)
			if err != nil {
				return fmt.Errorf("failed to validate %s (matching %s): %w", name, quote(p.pattern.source), err)
			}
			out.replace(name, v, filled)
		}
		if matched {
			continue
		}
		if n.closed {
			return fmt.Errorf("additional properties forbidden, found %s", name)
		}
		if n.additional != nil {
			v := out.to[name]
			filled, err := n.additional.walk(v, out.own)
			if err != nil {
				return fmt.Errorf("failed to validate additional property %s: %w", name, err)
			}
			out.replace(name, v, filled)
		}
	}
	return nil
}

func (n *node) walkArray(list []any, own bool) ([]any, error) {
	if n.minItems >= 0 && len(list) < n.minItems {
		return list, fmt.Errorf("expect array to have at least %d items", n.minItems)
	}
	if n.maxItems >= 0 && len(list) > n.maxItems {
		return list, fmt.Errorf("expect array to have at most %d items", n.maxItems)
	}
	own = own && !n.uniqueItems // which is asked of items as they came
	out := list
	for i, v := range list {
		item, text := n.items, "failed to validate item %d: %w"
		switch {
		case i < len(n.tuple):
			item = n.tuple[i]
		case n.tuple != nil && n.tupleClosed:
			return list, errors.New("found unexpected extra items in array")
		case n.tuple != nil:
			item, text = n.tupleRest, "failed to validate additional item %d: %w"
		}
		if item == nil {
			continue
		}
		filled, err := item.walk(v, own)
		if err != nil {
			return list, fmt.Errorf(text, i+1, err)
		}
		if isContainer(v) && !same(v, filled) {
			if !own && &out[0] == &list[0] {
				out = slices.Clone(list)
			}
			out[i] = filled
		}
	}
	if n.uniqueItems {
		// Compared by their canonical text: pairwise comparison of a long list takes minutes.
		seen := make(map[string]int, len(list))
		for i, v := range list {
			key := string(canonical(nil, v))
			if first, ok := seen[key]; ok {
				return list, fmt.Errorf("expected unique items but items %d and %d are equal", first, i+1)
			}
			seen[key] = i + 1
		}
	}
	return out, nil
}

func (n *node) checkString(s string) error {
	if n.minLength > 0 || n.maxLength >= 0 {
		length := utf8.RuneCountInString(s)
		if length < n.minLength {
			return fmt.Errorf("string too short, expected at least %d, got %d", n.minLength, length)
		}
		if n.maxLength >= 0 && length > n.maxLength {
			return fmt.Errorf("string too long, expected at most %d, got %d", n.maxLength, length)
		}
	}
	if n.pattern != nil && !n.pattern.match(s) {
		return fmt.Errorf("failed to match pattern %s with %s", quote(n.pattern.source), quote(s))
	}
	if n.format != nil && !n.format(s) {
		return fmt.Errorf("expect valid %s format but got: %s", n.formatName, s)
	}
	return nil
}

func (n *node) checkNumber(v any) error {
	f := number(v)
	switch {
	case n.minimum != nil && f < *n.minimum:
		return fmt.Errorf("expected %s to be at least %s", luaNumber(f), luaNumber(*n.minimum))
	case n.above != nil && f <= *n.above:
		return fmt.Errorf("expected %s to be greater than %s", luaNumber(f), luaNumber(*n.above))
	case n.maximum != nil && f > *n.maximum:
		return fmt.Errorf("expected %s to be at most %s", luaNumber(f), luaNumber(*n.maximum))
	case n.below != nil && f >= *n.below:
		return fmt.Errorf("expected %s to be smaller than %s", luaNumber(f), luaNumber(*n.below))
	case n.multipleOf != nil && !isInteger(f / *n.multipleOf):
		return fmt.Errorf("expected %s to be a multiple of %s", luaNumber(f), luaNumber(*n.multipleOf))
	}
	return nil
}

func (n *node) checkValues(v any) error {
	if n.enum != nil && !slices.ContainsFunc(n.enum, func(e any) bool { return equal(e, v) }) {
		return errors.New("matches none of the enum values")
	}
	if len(n.constant) > 0 && !equal(n.constant[0], v) {
		return errors.New("failed to check const value")
	}
	return nil
}

func (n *node) walkCompound(v any, own bool) (_ any, err error) {
	for i, sub := range n.allOf {
		if v, err = sub.walk(v, own); err != nil {
			return v, fmt.Errorf("allOf %d failed: %w", i+1, err)
		}
	}
	if len(n.anyOf) > 0 {
		if v, err = n.walkAnyOf(v); err != nil {
			return v, err
		}
	}
	if len(n.oneOf) > 0 {
		if v, err = n.walkOneOf(v); err != nil {
			return v, err
		}
	}
	if n.not != nil && !n.not.hopeless(v) {
		if _, err := n.not.walk(v, false); err == nil {
			return v, errors.New("value wasn't supposed to match schema")
		}
	}
	if n.cond == nil {
		return v, nil
	}
	branch, text := n.then, "then clause did not match"
	refused := n.cond.hopeless(v)
	if !refused {
		_, err := n.cond.walk(v, false)
		refused = err != nil
	}
	if refused {
		branch, text = n.otherwise, "else clause did not match"
	}
	if branch == nil {
		return v, nil
	}
	filled, err := branch.walk(v, own)
	if err != nil {
		return v, errors.New(text)
	}
	return filled, nil
}

func (n *node) walkAnyOf(v any) (any, error) {
	for _, sub := range n.anyOf {
		if sub.hopeless(v) {
			continue
		}
		if filled, err := sub.walk(v, false); err == nil {
			return filled, nil
		}
	}
	text, sep := "object matches none of the required", ": "
	for _, sub := range n.anyOf {
		if len(sub.required) > 0 {
			text += sep + jsonList(sub.required)
			sep = " or "
		}
	}
	return v, errors.New(text)
}

func (n *node) walkOneOf(v any) (any, error) {
	match, result := 0, v
	for i, sub := range n.oneOf {
		if sub.hopeless(v) {
			continue
		}
		filled, err := sub.walk(v, false)
		if err != nil {
			continue
		}
		if match > 0 {
			return v, fmt.Errorf("value should match only one schema, but matches both schemas %d and %d", match, i+1)
		}
		match, result = i+1, filled
	}
	if match == 0 {
		return v, errors.New("value should match only one schema, but matches none")
	}
	return result, nil
}

// hopeless tells of what alternatives mostly fail on, members that are missing, that walk
// would refuse v. It makes no error, whose text nobody would read.
func (n *node) hopeless(v any) bool {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 || n.always != nil || n.ref != nil {
		return false
	}
	for _, name := range n.required {
		if _, ok := m[name]; !ok {
			return true
		}
	}
	if len(n.anyOf) == 0 || len(n.properties)+len(n.patterns)+len(n.dependencies)+len(n.allOf) > 0 || n.additional != nil {
		return false // or something may fill in what is missing
	}
	for _, sub := range n.anyOf {
		if !sub.hopeless(v) {
			return false
		}
	}
	return true
}

// edit is an object on its way from what came to what is returned; it is copied at the
// first change, unless it is the walker's own.
type edit struct {
	to          map[string]any
	own, copied bool
}

func (e *edit) set(name string, v any) {
	if !e.own && !e.copied {
		e.to, e.copied = maps.Clone(e.to), true
	}
	if e.to == nil {
		e.to = map[string]any{}
	}
	e.to[name] = v
}

func (e *edit) replace(name string, before, after any) {
	if isContainer(before) && !same(before, after) {
		e.set(name, after)
	}
}

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// same reports whether two containers are one and the same in memory.
func same(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.Kind() == y.Kind() && x.Len() == y.Len() && x.UnsafePointer() == y.UnsafePointer()
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, member := range v {
			m[name] = clone(member)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = clone(item)
		}
		return list
	}
	return v
}

// number is the value of a JSON number; beyond the range of float64 it is infinite.
func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil && !math.IsInf(f, 0) {
			return math.NaN()
		}
		return f
	}
	return math.NaN()
}

func isInteger(f float64) bool { return f == math.Trunc(f) && !math.IsInf(f, 0) }

func equal(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	}
	return string(canonical(nil, a)) == string(canonical(nil, b))
}

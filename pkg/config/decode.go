package config

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds that no sensible setting reaches; beyond them arithmetic would overflow.
const (
	maxSeconds  = 1e8 // three years
	maxBytes    = 1 << 50
	maxMiB      = 1 << 20
	maxCount    = 1<<31 - 1
	maxNodes    = 100_000
	maxDepth    = 64
	maxIndirect = 8 // aliases to aliases, merges of merges
)

// set puts what n says into v. Objects merge, everything else replaces, null leaves a
// list, text, number or boolean unset and an object as it was (spec/08 §6).
func (l *loader) set(n *yaml.Node, v reflect.Value, path, unit string) {
	n = target(n)
	if path != "" {
		l.at[path] = n.Line
	}
	if n.ShortTag() == "!!null" {
		if v.Kind() != reflect.Struct {
			v.SetZero()
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind == yaml.ScalarNode && (v.Type() == reflect.TypeFor[Listen]() || v.Type() == reflect.TypeFor[SSLListen]()) {
			l.set(n, v.FieldByName("Port"), path, "")
			l.at[join(path, "port")] = n.Line
			return
		}
		l.setStruct(n, v, path)
	case reflect.Pointer:
		switch {
		case n.Kind != yaml.MappingNode:
			l.conflict(n, path, "object")
		case len(n.Content) == 0:
			v.SetZero() // an empty section is a missing one (spec/08 §2)
		default:
			v.Set(reflect.New(v.Type().Elem()))
			l.setStruct(n, v.Elem(), path)
		}
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			l.conflict(n, path, "array")
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if target(item).ShortTag() == "!!null" {
				l.fail(item.Line, "%s: is null", at)
				continue
			}
			l.set(item, list.Index(i), at, "")
		}
		v.Set(list)
	case reflect.Map:
		l.setAttr(n, v, path)
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			l.conflict(n, path, "boolean")
			return
		}
		var b bool
		if err := n.Decode(&b); err != nil {
			l.conflict(n, path, "boolean")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		if i, ok := l.whole(n, path, unit); ok {
			if v.OverflowInt(i) {
				l.fail(n.Line, "%s: %d is too large", path, i)
				return
			}
			v.SetInt(i)
		}
	case reflect.Float64:
		if f, ok := l.seconds(n, path); ok {
			v.SetFloat(f)
		}
	case reflect.String:
		// A key that comes from a variable may consist of digits alone.
		if tag := n.ShortTag(); n.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!timestamp" && !l.substituted[n] {
			l.conflict(n, path, "string")
			return
		}
		v.SetString(n.Value)
	}
}

func (l *loader) setStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		l.conflict(n, path, "object")
		return
	}
	for _, p := range l.pairs(n, 0) {
		key := p.key.Value
		full := join(path, key)
		field, ok := fieldOf(v.Type(), key)
		switch {
		case ok:
			value := target(p.value)
			if field.Tag.Get("list") == "single" && value.Kind != yaml.SequenceNode && value.ShortTag() != "!!null" {
				value = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: value.Line, Content: []*yaml.Node{value}}
			}
			l.set(value, v.FieldByIndex(field.Index), full, field.Tag.Get("unit"))
		case l.otherName(full, p):
		default:
			l.noField(p, v.Type(), full, path)
		}
	}
}

// setAttr converts each member of an object to JSON.
func (l *loader) setAttr(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		l.conflict(n, path, "object")
		return
	}
	attr := map[string]json.RawMessage{}
	for _, p := range l.pairs(n, 0) {
		full := join(path, p.key.Value)
		l.at[full] = p.key.Line
		value := l.plain(p.value, full, 1)
		if value == nil {
			continue // null removes
		}
		raw, err := json.Marshal(value)
		if err != nil {
			l.fail(p.key.Line, "%s: %v", full, err)
			continue
		}
		attr[p.key.Value] = raw
	}
	v.Set(reflect.ValueOf(attr))
}

// plain returns what JSON can say of n. Text that YAML would take for a date stays text.
func (l *loader) plain(n *yaml.Node, path string, depth int) any {
	n = target(n)
	// Aliases let a short file stand for an endless one.
	if l.nodes++; l.nodes == maxNodes {
		l.fail(n.Line, "%s: more than %d values", path, maxNodes)
	}
	if depth > l.depth {
		l.fail(n.Line, "%s: nested more than %d deep", path, l.depth)
		l.nodes = maxNodes // one such message is enough
	}
	if l.nodes >= maxNodes {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		object := map[string]any{}
		for _, p := range l.pairs(n, 0) {
			object[p.key.Value] = l.plain(p.value, join(path, p.key.Value), depth+1)
		}
		return object
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = l.plain(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		return list
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		var value any
		if err := n.Decode(&value); err != nil {
			return n.Value
		}
		if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			l.fail(n.Line, "%s: %s is no number in JSON", path, n.Value)
			return nil
		}
		return value
	}
	return n.Value
}

// target follows aliases.
func target(n *yaml.Node) *yaml.Node {
	for range maxIndirect {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}
		n = n.Alias
	}
	return n
}

type pair struct{ key, value *yaml.Node }

// pairs returns the members of an object. Those that it merges in (<<) come where it has
// none of the name itself; a name that stands there twice is a mistake.
func (l *loader) pairs(n *yaml.Node, depth int) []pair {
	if depth > maxIndirect {
		l.nodes = maxNodes // merges of one object several times over would repeat this without end
		l.fail(n.Line, "merges nested more than %d deep", maxIndirect)
		return nil
	}
	var own, merged []pair
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := target(n.Content[i]), n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			l.fail(key.Line, "a key must be a text, not %s", shape(key))
		case key.ShortTag() == "!!merge":
			sources := []*yaml.Node{target(value)}
			if sources[0].Kind == yaml.SequenceNode {
				sources = sources[0].Content
			}
			for _, s := range sources {
				if l.nodes++; l.nodes >= maxNodes {
					if l.nodes == maxNodes {
						l.fail(value.Line, "more than %d values", maxNodes)
					}
					break
				}
				if s = target(s); s.Kind != yaml.MappingNode {
					l.fail(value.Line, "<<: must name objects")
					continue
				}
				merged = append(merged, l.pairs(s, depth+1)...)
			}
		case lines[key.Value] > 0:
			l.fail(key.Line, "%q stands here and at line %d", key.Value, lines[key.Value])
		default:
			lines[key.Value] = key.Line
			own = append(own, pair{key, value})
		}
	}
	for _, p := range merged {
		if lines[p.key.Value] == 0 {
			lines[p.key.Value] = p.key.Line
			own = append(own, p)
		}
	}
	return own
}

var size = regexp.MustCompile(`^([0-9]+)([kKmMgG])?$`)

// whole reads a number without a fraction that is not below 0.
func (l *loader) whole(n *yaml.Node, path, unit string) (int64, bool) {
	limit := int64(maxCount)
	switch unit {
	case "bytes":
		limit = maxBytes
	case "MiB":
		limit = maxMiB
	}
	var value int64
	if n.ShortTag() == "!!int" {
		var err error
		if value, err = strconv.ParseInt(n.Value, 10, 64); err != nil && n.Decode(&value) != nil {
			l.fail(n.Line, "%s: %s is too large", path, n.Value)
			return 0, false
		}
	} else {
		m := size.FindStringSubmatch(n.Value)
		if unit != "bytes" || n.ShortTag() != "!!str" || m == nil {
			l.conflict(n, path, "integer")
			return 0, false
		}
		shift := 10 * (1 + strings.Index("kmg", strings.ToLower(m[2])))
		if m[2] == "" {
			shift = 0
		}
		var err error
		if value, err = strconv.ParseInt(m[1], 10, 64); err != nil || value > limit>>shift {
			l.fail(n.Line, "%s: %s is above %d", path, n.Value, limit)
			return 0, false
		}
		value <<= shift
	}
	if value < 0 || value > limit {
		l.fail(n.Line, "%s: %s is not between 0 and %d", path, n.Value, limit)
		return 0, false
	}
	return value, true
}

// seconds reads a time: a number of seconds, or a text with units.
func (l *loader) seconds(n *yaml.Node, path string) (float64, bool) {
	var value float64
	switch tag := n.ShortTag(); {
	case tag == "!!int" || tag == "!!float" || tag == "!!str" && decimal.MatchString(n.Value):
		if err := n.Decode(&value); err != nil {
			var perr error
			if value, perr = strconv.ParseFloat(n.Value, 64); perr != nil {
				l.conflict(n, path, "number")
				return 0, false
			}
		}
	case tag == "!!str":
		d, err := time.ParseDuration(n.Value)
		if err != nil {
			l.conflict(n, path, "number")
			return 0, false
		}
		value = d.Seconds()
	default:
		l.conflict(n, path, "number")
		return 0, false
	}
	// Written so that NaN fails, too.
	if !(value >= 0 && value <= maxSeconds) {
		l.fail(n.Line, "%s: %s is not between 0 and %.0f seconds", path, n.Value, float64(maxSeconds))
		return 0, false
	}
	return value, true
}

// conflict reports a value of another type, in the reference's words (spec/08 §6).
func (l *loader) conflict(n *yaml.Node, path, expected string) {
	l.fail(n.Line, "failed to merge, path[%s] expect: %s, but got: %s", strings.ReplaceAll(path, ".", "->"), expected, shape(n))
}

func shape(n *yaml.Node) string {
	switch n = target(n); n.Kind {
	case yaml.MappingNode:
		return "object"
	case yaml.SequenceNode:
		return "array"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	case "!!null":
		return "null"
	}
	return "string"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldOf returns the field that a key of the file names.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

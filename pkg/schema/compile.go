package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// patternTimeout bounds one match of a pattern that backtracks.
const patternTimeout = 100 * time.Millisecond

// The keywords of draft 7 that are supported, by what stands under them.
var (
	schemaKeywords = []string{"not", "if", "then", "else", "additionalProperties", "additionalItems"}
	listKeywords   = []string{"allOf", "anyOf", "oneOf"}
	mapKeywords    = []string{"properties", "definitions"}
	valueKeywords  = []string{
		"type", "enum", "const", "default", "required", "format",
		"minProperties", "maxProperties", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength",
		"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
		// Annotations. encrypt_fields is the reference's; plugins show it in their schema.
		"$schema", "$comment", "title", "description", "examples", "readOnly", "writeOnly", "encrypt_fields",
	}
)

// vetter refuses what the walker would not see and what the library would choke on.
type vetter struct {
	root any
	seen map[*object]bool // the schemas of the document
	refs []string
}

// vetDocument returns the document as the library may read it: without the patterns that
// Go's regexp does not compile.
func vetDocument(tree any) (any, error) {
	v := vetter{root: tree, seen: map[*object]bool{}}
	portable, err := v.schema(tree, "#")
	if err != nil {
		return nil, err
	}
	for _, ref := range v.refs {
		target, err := resolve(tree, ref)
		if err != nil {
			return nil, err
		}
		// What stands elsewhere, in a default say, has not been vetted.
		if o, ok := target.(*object); ok && !v.seen[o] {
			return nil, fmt.Errorf("reference %q does not lead to a schema", ref)
		}
	}
	return portable, nil
}

func (v *vetter) schema(tree any, at string) (any, error) {
	if always, ok := tree.(bool); ok {
		return always, nil
	}
	o, ok := tree.(*object)
	if !ok {
		return nil, fmt.Errorf("%s: a schema is an object or a boolean", at)
	}
	v.seen[o] = true
	out := make(map[string]any, len(o.names))
	for _, keyword := range o.names {
		value, at := o.values[keyword], at+"/"+keyword
		var err error
		switch {
		case slices.Contains(valueKeywords, keyword):
			out[keyword] = plain(value)
		case slices.Contains(schemaKeywords, keyword):
			out[keyword], err = v.schema(value, at)
		case slices.Contains(listKeywords, keyword):
			out[keyword], err = v.list(value, at)
		case slices.Contains(mapKeywords, keyword):
			out[keyword], err = v.members(value, at, func(name string) string { return name })
		case keyword == "$ref":
			ref, ok := value.(string)
			if !ok {
				return nil, fmt.Errorf("%s: must be a string", at)
			}
			v.refs = append(v.refs, ref)
			out[keyword] = ref
		case keyword == "patternProperties":
			out[keyword], err = v.members(value, at, portablePattern)
		case keyword == "dependencies":
			out[keyword], err = v.dependencies(value, at)
		case keyword == "items":
			if _, tuple := value.([]any); tuple {
				out[keyword], err = v.list(value, at)
			} else {
				out[keyword], err = v.schema(value, at)
			}
		case keyword == "pattern":
			if p, ok := value.(string); !ok || portablePattern(p) == p {
				out[keyword] = plain(value)
			}
		default:
			err = fmt.Errorf("%s: unsupported keyword", at)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *vetter) list(value any, at string) (any, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: must be a list of schemas", at)
	}
	out := make([]any, len(list))
	for i, s := range list {
		var err error
		if out[i], err = v.schema(s, at+"/"+strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (v *vetter) members(value any, at string, rename func(string) string) (any, error) {
	o, ok := value.(*object)
	if !ok {
		return nil, fmt.Errorf("%s: must be an object of schemas", at)
	}
	out := make(map[string]any, len(o.names))
	for _, name := range o.names {
		s, err := v.schema(o.values[name], at+"/"+name)
		if err != nil {
			return nil, err
		}
		out[rename(name)] = s
	}
	return out, nil
}

func (v *vetter) dependencies(value any, at string) (any, error) {
	o, ok := value.(*object)
	if !ok {
		return nil, fmt.Errorf("%s: must be an object", at)
	}
	out := make(map[string]any, len(o.names))
	for _, name := range o.names {
		if list, ok := o.values[name].([]any); ok {
			out[name] = list
			continue
		}
		s, err := v.schema(o.values[name], at+"/"+name)
		if err != nil {
			return nil, err
		}
		out[name] = s
	}
	return out, nil
}

// portablePattern returns the pattern itself if Go's regexp compiles it, else one that
// stands for it in the library's map of patterns.
func portablePattern(pattern string) string {
	if _, err := regexp.Compile(pattern); err == nil {
		return pattern
	}
	return regexp.QuoteMeta(pattern)
}

// node is a compiled schema made ready for the walker: what the library keeps in maps is
// in the order of the document, patterns and bounds are prepared, defaults are at hand.
type node struct {
	*jsonschema.Schema

	ref          *node
	text         bool // describes strings, so a reference may stand in their place
	properties   []property
	named        map[string]bool
	patterns     []patternProperty
	closed       bool  // additionalProperties: false
	additional   *node // additionalProperties: a schema
	dependencies []dependency
	items        *node
	tuple        []*node
	tupleClosed  bool
	tupleRest    *node
	pattern      *pattern
	minimum      *float64
	maximum      *float64
	above        *float64 // exclusiveMinimum
	below        *float64 // exclusiveMaximum
	multipleOf   *float64
	format       func(any) bool
	allOf        []*node
	anyOf        []*node
	oneOf        []*node
	not          *node
	cond         *node
	then         *node
	otherwise    *node
}

type property struct {
	name       string
	node       *node
	def        any
	hasDefault bool
}

type patternProperty struct {
	pattern *pattern
	node    *node
}

type dependency struct {
	name  string
	needs []string
	node  *node
}

// builder pairs the library's schemas with the document they came from.
type builder struct {
	root  any
	nodes map[*jsonschema.Schema]*node
}

func (b *builder) build(s *jsonschema.Schema, tree any) (*node, error) {
	if s == nil {
		return nil, nil
	}
	if n, ok := b.nodes[s]; ok {
		return n, nil
	}
	n := &node{Schema: s}
	b.nodes[s] = n // before the children: a schema may refer to itself
	o, ok := tree.(*object)
	if !ok {
		return n, nil
	}
	if s.Ref != nil {
		target, err := resolve(b.root, o.values["$ref"].(string))
		if err != nil {
			return nil, err
		}
		n.ref, err = b.build(s.Ref, target)
		return n, err
	}
	n.text = slices.Contains(s.Types, "string") || len(s.Types) == 0 && (s.MinLength >= 0 || s.MaxLength >= 0 || o.values["pattern"] != nil)
	for _, step := range []func(*node, *object) error{b.object, b.array, b.scalar, b.compound} {
		if err := step(n, o); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// resolve follows a reference like "#/definitions/id".
func resolve(root any, ref string) (any, error) {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok || path != "" && path[0] != '/' {
		return nil, fmt.Errorf("reference %q must be a path within the document", ref)
	}
	v := root
	for _, step := range strings.Split(path, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch at := v.(type) {
		case *object:
			if v, ok = at.values[step]; !ok {
				return nil, fmt.Errorf("reference %q leads nowhere", ref)
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(at) {
				return nil, fmt.Errorf("reference %q leads nowhere", ref)
			}
			v = at[i]
		default:
			return nil, fmt.Errorf("reference %q leads nowhere", ref)
		}
	}
	return v, nil
}

func (b *builder) object(n *node, o *object) error {
	if props := o.object("properties"); props != nil {
		n.named = make(map[string]bool, len(props.names))
		for _, name := range props.names {
			child, err := b.build(n.Properties[name], props.values[name])
			if err != nil {
				return err
			}
			p := property{name: name, node: child}
			if member, ok := props.values[name].(*object); ok {
				var def any
				def, p.hasDefault = member.values["default"]
				p.def = plain(def)
			}
			n.properties = append(n.properties, p)
			n.named[name] = true
		}
	}
	if patterns := o.object("patternProperties"); patterns != nil {
		compiled := make(map[string]*jsonschema.Schema, len(n.PatternProperties))
		for re, s := range n.PatternProperties {
			compiled[re.String()] = s
		}
		for _, source := range patterns.names {
			p, err := compilePattern(source)
			if err != nil {
				return err
			}
			child, err := b.build(compiled[portablePattern(source)], patterns.values[source])
			if err != nil {
				return err
			}
			n.patterns = append(n.patterns, patternProperty{p, child})
		}
	}
	switch a := n.AdditionalProperties.(type) {
	case bool:
		n.closed = !a
	case *jsonschema.Schema:
		var err error
		if n.additional, err = b.build(a, o.values["additionalProperties"]); err != nil {
			return err
		}
	}
	if deps := o.object("dependencies"); deps != nil {
		for _, name := range deps.names {
			d := dependency{name: name}
			switch on := n.Dependencies[name].(type) {
			case []string:
				d.needs = on
			case *jsonschema.Schema:
				var err error
				if d.node, err = b.build(on, deps.values[name]); err != nil {
					return err
				}
			}
			n.dependencies = append(n.dependencies, d)
		}
	}
	return nil
}

func (b *builder) array(n *node, o *object) (err error) {
	switch items := n.Items.(type) {
	case *jsonschema.Schema:
		n.items, err = b.build(items, o.values["items"])
	case []*jsonschema.Schema:
		n.tuple, err = b.list(items, o.values["items"])
	}
	if err != nil {
		return err
	}
	switch rest := n.AdditionalItems.(type) {
	case bool:
		n.tupleClosed = !rest
	case *jsonschema.Schema:
		n.tupleRest, err = b.build(rest, o.values["additionalItems"])
	}
	return err
}

func (b *builder) scalar(n *node, o *object) error {
	if source, ok := o.values["pattern"].(string); ok {
		var err error
		if n.pattern, err = compilePattern(source); err != nil {
			return err
		}
	}
	for keyword, bound := range map[string]**float64{
		"minimum": &n.minimum, "maximum": &n.maximum, "exclusiveMinimum": &n.above,
		"exclusiveMaximum": &n.below, "multipleOf": &n.multipleOf,
	} {
		if number, ok := o.values[keyword].(json.Number); ok {
			f, err := number.Float64()
			if err != nil {
				return fmt.Errorf("%s: %w", keyword, err)
			}
			*bound = &f
		}
	}
	if n.Format != "" {
		check, ok := jsonschema.Formats[n.Format]
		if !ok {
			return fmt.Errorf("format %q is not supported", n.Format)
		}
		n.format = check
	}
	return nil
}

func (b *builder) compound(n *node, o *object) error {
	var errs [7]error
	n.allOf, errs[0] = b.list(n.AllOf, o.values["allOf"])
	n.anyOf, errs[1] = b.list(n.AnyOf, o.values["anyOf"])
	n.oneOf, errs[2] = b.list(n.OneOf, o.values["oneOf"])
	n.not, errs[3] = b.build(n.Not, o.values["not"])
	n.cond, errs[4] = b.build(n.If, o.values["if"])
	n.then, errs[5] = b.build(n.Then, o.values["then"])
	n.otherwise, errs[6] = b.build(n.Else, o.values["else"])
	return errors.Join(errs[:]...)
}

func (b *builder) list(schemas []*jsonschema.Schema, tree any) ([]*node, error) {
	trees, _ := tree.([]any)
	nodes := make([]*node, len(schemas))
	for i, s := range schemas {
		var err error
		if nodes[i], err = b.build(s, trees[i]); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// pattern is a regular expression: Go's engine, which is linear, where it understands the
// expression, else one that backtracks like PCRE, with a limit on its time.
type pattern struct {
	source string
	linear *regexp.Regexp
	pcre   *regexp2.Regexp
}

func compilePattern(source string) (*pattern, error) {
	if re, err := regexp.Compile(source); err == nil {
		return &pattern{source: source, linear: re}, nil
	}
	// The option RE2 keeps \d, \s and \w to ASCII, as they are in PCRE.
	re, err := regexp2.Compile(source, regexp2.RE2)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", source, err)
	}
	re.MatchTimeout = patternTimeout
	return &pattern{source: source, pcre: re}, nil
}

// match reports false also when the time is up: a value that cannot be judged is refused.
func (p *pattern) match(s string) bool {
	if p.linear != nil {
		return p.linear.MatchString(s)
	}
	ok, err := p.pcre.MatchString(s)
	return ok && err == nil
}

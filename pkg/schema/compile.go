package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// patternTimeout bounds one match of a pattern that backtracks.
const patternTimeout = 100 * time.Millisecond

// node is a compiled schema made ready for the walker: members in the order of the document,
// patterns and bounds prepared, defaults at hand.
type node struct {
	always   *bool // the schema is true or false
	types    []string
	enum     []any // nil: none
	constant []any // empty: none
	required []string

	// -1: none
	minProperties, maxProperties int
	minItems, maxItems           int
	minLength, maxLength         int

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
	uniqueItems  bool
	pattern      *pattern
	minimum      *float64
	maximum      *float64
	above        *float64 // exclusiveMinimum
	below        *float64 // exclusiveMaximum
	multipleOf   *float64
	formatName   string
	format       func(string) bool // nil: none
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

// formats are those that our schemas use.
var formats = map[string]func(string) bool{
	"ipv4": func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4()
	},
	"ipv6": func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6() && a.Zone() == ""
	},
}

// builder makes nodes of the schemas of a document.
type builder struct {
	root  any
	nodes map[*object]*node
	refs  []reference
}

// reference is a node that is to stand for another.
type reference struct {
	node *node
	to   string
}

// build compiles a document.
func build(tree any) (*node, error) {
	b := builder{root: tree, nodes: map[*object]*node{}}
	root, err := b.schema(tree, "#")
	if err != nil {
		return nil, err
	}
	for _, r := range b.refs {
		target, err := resolve(tree, r.to)
		if err != nil {
			return nil, err
		}
		switch target := target.(type) {
		case *object:
			// What stands elsewhere, in a default say, is no schema.
			if r.node.ref = b.nodes[target]; r.node.ref == nil {
				return nil, fmt.Errorf("reference %q does not lead to a schema", r.to)
			}
		case bool:
			r.node.ref = &node{always: &target}
		default:
			return nil, fmt.Errorf("reference %q does not lead to a schema", r.to)
		}
	}
	seen := map[*node]bool{}
	for _, n := range b.nodes {
		if n.loops(seen) {
			return nil, errors.New("a schema refers to itself in an infinite loop")
		}
	}
	return root, nil
}

// loops reports whether judging a value by n would come back to judging the same value by n.
// seen has the nodes that were looked at: true while that goes on.
func (n *node) loops(seen map[*node]bool) bool {
	if n == nil {
		return false
	}
	if open, known := seen[n]; known {
		return open
	}
	seen[n] = true
	for _, list := range [][]*node{{n.ref, n.not, n.cond, n.then, n.otherwise}, n.allOf, n.anyOf, n.oneOf} {
		for _, sub := range list {
			if sub.loops(seen) {
				return true
			}
		}
	}
	for _, d := range n.dependencies {
		if d.node.loops(seen) {
			return true
		}
	}
	seen[n] = false
	return false
}

// keyword takes the value of a keyword, which stands at a path in the document, into a node.
type keyword func(b *builder, n *node, value any, at string) error

// keywords are those of draft 7 that the walker knows. Any other is refused: a misspelt one
// would accept everything.
var keywords map[string]keyword

func init() {
	keywords = map[string]keyword{
		"type":                 takeTypes,
		"enum":                 takeEnum,
		"const":                func(_ *builder, n *node, v any, _ string) error { n.constant = []any{plain(v)}; return nil },
		"required":             takes(names, func(n *node) *[]string { return &n.required }),
		"minProperties":        takes(count, func(n *node) *int { return &n.minProperties }),
		"maxProperties":        takes(count, func(n *node) *int { return &n.maxProperties }),
		"minItems":             takes(count, func(n *node) *int { return &n.minItems }),
		"maxItems":             takes(count, func(n *node) *int { return &n.maxItems }),
		"minLength":            takes(count, func(n *node) *int { return &n.minLength }),
		"maxLength":            takes(count, func(n *node) *int { return &n.maxLength }),
		"minimum":              takes(bound, func(n *node) **float64 { return &n.minimum }),
		"maximum":              takes(bound, func(n *node) **float64 { return &n.maximum }),
		"exclusiveMinimum":     takes(bound, func(n *node) **float64 { return &n.above }),
		"exclusiveMaximum":     takes(bound, func(n *node) **float64 { return &n.below }),
		"multipleOf":           takes(factor, func(n *node) **float64 { return &n.multipleOf }),
		"uniqueItems":          takes(boolean, func(n *node) *bool { return &n.uniqueItems }),
		"pattern":              takes(regular, func(n *node) **pattern { return &n.pattern }),
		"format":               takeFormat,
		"properties":           takeProperties,
		"patternProperties":    takePatternProperties,
		"additionalProperties": takeRest(func(n *node) *bool { return &n.closed }, func(n *node) **node { return &n.additional }),
		"dependencies":         takeDependencies,
		"items":                takeItems,
		"additionalItems":      takeRest(func(n *node) *bool { return &n.tupleClosed }, func(n *node) **node { return &n.tupleRest }),
		"allOf":                takeList(func(n *node) *[]*node { return &n.allOf }),
		"anyOf":                takeList(func(n *node) *[]*node { return &n.anyOf }),
		"oneOf":                takeList(func(n *node) *[]*node { return &n.oneOf }),
		"not":                  takeSchema(func(n *node) **node { return &n.not }),
		"if":                   takeSchema(func(n *node) **node { return &n.cond }),
		"then":                 takeSchema(func(n *node) **node { return &n.then }),
		"else":                 takeSchema(func(n *node) **node { return &n.otherwise }),
		"definitions":          takeDefinitions,
		"$ref":                 takeRef,
		"$schema":              takeDialect,
		// Annotations. A default is taken where the member is that it belongs to.
		// encrypt_fields is the reference's; plugins show it in their schema.
		"default": annotation(anything), "examples": annotation(list), "encrypt_fields": annotation(anything),
		"$comment": annotation(str), "title": annotation(str), "description": annotation(str),
		"readOnly": annotation(boolean), "writeOnly": annotation(boolean),
	}
}

// schema makes the node of a schema and of those below it.
func (b *builder) schema(tree any, at string) (*node, error) {
	if always, ok := tree.(bool); ok {
		return &node{always: &always}, nil
	}
	o, ok := tree.(*object)
	if !ok {
		return nil, fmt.Errorf("%s: a schema is an object or a boolean", at)
	}
	n := &node{minProperties: -1, maxProperties: -1, minItems: -1, maxItems: -1, minLength: -1, maxLength: -1}
	b.nodes[o] = n
	for _, name := range o.names {
		at := at + "/" + name
		take, known := keywords[name]
		if !known {
			return nil, fmt.Errorf("%s: unsupported keyword", at)
		}
		if err := take(b, n, o.values[name], at); err != nil {
			return nil, err
		}
	}
	n.text = slices.Contains(n.types, "string") || len(n.types) == 0 && (n.minLength >= 0 || n.maxLength >= 0 || n.pattern != nil)
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

// takes is a keyword whose value is read alone and kept in a member of the node.
func takes[T any](read func(any) (T, error), member func(*node) *T) keyword {
	return func(_ *builder, n *node, value any, at string) error {
		v, err := read(value)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		*member(n) = v
		return nil
	}
}

// annotation is a keyword that says nothing of values.
func annotation[T any](read func(any) (T, error)) keyword {
	return func(_ *builder, _ *node, value any, at string) error {
		if _, err := read(value); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		return nil
	}
}

func anything(v any) (any, error) { return v, nil }

// typed reads a value of one type; what names it for people.
func typed[T any](v any, what string) (T, error) {
	t, ok := v.(T)
	if !ok {
		return t, errors.New("must be " + what)
	}
	return t, nil
}

func boolean(v any) (bool, error) { return typed[bool](v, "a boolean") }
func str(v any) (string, error)   { return typed[string](v, "a string") }
func list(v any) ([]any, error)   { return typed[[]any](v, "a list") }

// names reads a list of strings that differ.
func names(v any) ([]string, error) {
	items, err := list(v)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(items))
	for i, item := range items {
		if out[i], err = str(item); err != nil {
			return nil, fmt.Errorf("%d: %w", i, err)
		}
		if slices.Contains(out[:i], out[i]) {
			return nil, fmt.Errorf("%q stands there twice", out[i])
		}
	}
	return out, nil
}

// count reads a number of things.
func count(v any) (int, error) {
	if n, ok := v.(json.Number); ok {
		if f, err := n.Float64(); err == nil && f >= 0 && f <= math.MaxInt32 && isInteger(f) {
			return int(f), nil
		}
	}
	return 0, errors.New("must be an integer that is not negative")
}

func bound(v any) (*float64, error) {
	n, err := typed[json.Number](v, "a number")
	if err != nil {
		return nil, err
	}
	f, err := n.Float64()
	return &f, err
}

func factor(v any) (*float64, error) {
	f, err := bound(v)
	if err == nil && *f <= 0 {
		err = errors.New("must be above 0")
	}
	return f, err
}

func regular(v any) (*pattern, error) {
	source, err := str(v)
	if err != nil {
		return nil, err
	}
	return compilePattern(source)
}

var typeNames = []string{"null", "boolean", "object", "array", "number", "string", "integer"}

func takeTypes(_ *builder, n *node, value any, at string) (err error) {
	if one, ok := value.(string); ok {
		value = []any{one}
	}
	if n.types, err = names(value); err == nil && len(n.types) == 0 {
		err = errors.New("is empty")
	}
	for _, t := range n.types {
		if err == nil && !slices.Contains(typeNames, t) {
			err = fmt.Errorf("%q is no type", t)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

func takeEnum(_ *builder, n *node, value any, at string) error {
	items, err := list(plain(value))
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	n.enum = items
	return nil
}

func takeFormat(_ *builder, n *node, value any, at string) (err error) {
	if n.formatName, err = str(value); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if n.format = formats[n.formatName]; n.format == nil {
		return fmt.Errorf("%s: format %q is not supported", at, n.formatName)
	}
	return nil
}

// takeDialect refuses schemas that want to be read in another way.
func takeDialect(_ *builder, _ *node, value any, at string) error {
	if value != "http://json-schema.org/draft-07/schema#" && value != "http://json-schema.org/draft-07/schema" {
		return fmt.Errorf("%s: %v is not draft 7", at, value)
	}
	return nil
}

func takeSchema(member func(*node) **node) keyword {
	return func(b *builder, n *node, value any, at string) (err error) {
		*member(n), err = b.schema(value, at)
		return err
	}
}

func takeList(member func(*node) *[]*node) keyword {
	return func(b *builder, n *node, value any, at string) (err error) {
		*member(n), err = b.list(value, at)
		return err
	}
}

// list makes the nodes of a list, which must not be empty, of schemas.
func (b *builder) list(value any, at string) ([]*node, error) {
	items, err := list(value)
	if err == nil && len(items) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	out := make([]*node, len(items))
	for i, item := range items {
		if out[i], err = b.schema(item, at+"/"+strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// members calls f for the node of each schema of an object of schemas, in its order.
func (b *builder) members(value any, at string, f func(name string, tree any, n *node) error) error {
	o, ok := value.(*object)
	if !ok {
		return fmt.Errorf("%s: must be an object of schemas", at)
	}
	for _, name := range o.names {
		n, err := b.schema(o.values[name], at+"/"+name)
		if err == nil {
			err = f(name, o.values[name], n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func takeDefinitions(b *builder, _ *node, value any, at string) error {
	return b.members(value, at, func(string, any, *node) error { return nil })
}

func takeProperties(b *builder, n *node, value any, at string) error {
	n.named = map[string]bool{}
	return b.members(value, at, func(name string, tree any, child *node) error {
		p := property{name: name, node: child}
		if member, ok := tree.(*object); ok {
			var def any
			def, p.hasDefault = member.values["default"]
			p.def = plain(def)
		}
		n.properties = append(n.properties, p)
		n.named[name] = true
		return nil
	})
}

func takePatternProperties(b *builder, n *node, value any, at string) error {
	return b.members(value, at, func(source string, _ any, child *node) error {
		p, err := compilePattern(source)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		n.patterns = append(n.patterns, patternProperty{p, child})
		return nil
	})
}

// takeRest is a keyword for what others leave: true, false or a schema.
func takeRest(closed func(*node) *bool, rest func(*node) **node) keyword {
	return func(b *builder, n *node, value any, at string) (err error) {
		if open, ok := value.(bool); ok {
			*closed(n) = !open
			return nil
		}
		*rest(n), err = b.schema(value, at)
		return err
	}
}

func takeDependencies(b *builder, n *node, value any, at string) error {
	o, ok := value.(*object)
	if !ok {
		return fmt.Errorf("%s: must be an object", at)
	}
	for _, name := range o.names {
		d, at := dependency{name: name}, at+"/"+name
		var err error
		if _, needs := o.values[name].([]any); needs {
			if d.needs, err = names(o.values[name]); err != nil {
				err = fmt.Errorf("%s: %w", at, err)
			}
		} else {
			d.node, err = b.schema(o.values[name], at)
		}
		if err != nil {
			return err
		}
		n.dependencies = append(n.dependencies, d)
	}
	return nil
}

func takeItems(b *builder, n *node, value any, at string) (err error) {
	if _, tuple := value.([]any); tuple {
		n.tuple, err = b.list(value, at)
	} else {
		n.items, err = b.schema(value, at)
	}
	return err
}

func takeRef(b *builder, n *node, value any, at string) error {
	to, err := str(value)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	b.refs = append(b.refs, reference{n, to})
	return nil
}

// pattern is a regular expression: Go's engine, which is linear, where it understands the
// expression, else one that backtracks like PCRE, with a limit on its time.
type pattern struct {
	source string
	every  bool // matches whatever there is
	linear *regexp.Regexp
	pcre   *regexp2.Regexp
}

func compilePattern(source string) (*pattern, error) {
	if re, err := regexp.Compile(source); err == nil {
		return &pattern{source: source, every: source == ".*", linear: re}, nil
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
	if p.every {
		return true
	}
	if p.linear != nil {
		return p.linear.MatchString(s)
	}
	ok, err := p.pcre.MatchString(s)
	return ok && err == nil
}

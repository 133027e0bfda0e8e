package plugin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/schema"
)

// UnknownError is a configuration that names a plugin this program does not have. Nodes
// answer 503 for what carries it (spec/00 19).
type UnknownError struct{ Plugin string }

func (e *UnknownError) Error() string { return "unknown plugin [" + e.Plugin + "]" }

// Settings are what a registry is given beside the definitions.
type Settings struct {
	Enabled []string // names from the program's settings; nil: every definition
	Attr    map[string]json.RawMessage
	Log     zerolog.Logger
	Clock   Clock // nil: SystemClock
}

// Registry is the set of plugins that this program has. It is immutable and safe for
// concurrent use.
type Registry struct {
	byName   map[string]*entry
	ordered  []*entry // descending priority, then name
	settings Settings
}

type entry struct {
	Definition
	schema, consumer, metadata *schema.Schema // with `_meta`, as clients see them; but for metadata
}

const metaSchema = `{"type":"object","additionalProperties":false,"properties":{` +
	`"disable":{"type":"boolean"},` +
	`"error_response":{"oneOf":[{"type":"string"},{"type":"object"}]},` +
	`"priority":{"type":"integer"},` +
	`"filter":{"type":"array"},` +
	`"pre_function":{"type":"string"}}}`

const injectedMark = `"this is a mark for our injected plugin schema"`

// NewRegistry returns the registry of defs. It panics on mistakes in our own program text: a
// name used twice. A schema that does not compile is one, too, and panics when it is needed.
func NewRegistry(s Settings, defs ...Definition) *Registry {
	if s.Clock == nil {
		s.Clock = SystemClock{}
	}
	r := &Registry{byName: map[string]*entry{}, settings: s}
	enabled := map[string]bool{}
	for _, name := range s.Enabled {
		enabled[name] = true
	}
	seen := map[string]bool{}
	for _, d := range defs {
		if seen[d.Name] {
			panic(fmt.Sprintf("plugin: %s is defined twice", d.Name))
		}
		seen[d.Name] = true
		if s.Enabled != nil && !enabled[d.Name] {
			continue
		}
		e := &entry{Definition: d}
		e.schema = schema.Later("plugin "+d.Name, func() []byte { return withMeta(d.Name, d.Schema) })
		if d.ConsumerSchema != nil {
			e.consumer = schema.Later("consumer of "+d.Name, func() []byte { return withMeta(d.Name, d.ConsumerSchema) })
		}
		if d.MetadataSchema != nil {
			e.metadata = schema.Later("metadata of "+d.Name, func() []byte { return d.MetadataSchema })
		}
		r.byName[d.Name] = e
		r.ordered = append(r.ordered, e)
	}
	sort.Slice(r.ordered, func(i, j int) bool {
		a, b := r.ordered[i], r.ordered[j]
		if a.Priority != b.Priority {
			return a.Priority > b.Priority
		}
		return a.Name < b.Name
	})
	return r
}

// withMeta adds what every plugin's schema has (spec/04 §1).
func withMeta(name string, doc []byte) []byte {
	out, err := jsonedit.SetPath(doc, []string{"properties", "_meta"}, []byte(metaSchema))
	if err == nil {
		out, err = jsonedit.SetPath(out, []string{"$comment"}, []byte(injectedMark))
	}
	if err != nil {
		panic(fmt.Sprintf("plugin: schema of %s: %v", name, err))
	}
	return out
}

// Missing returns the names of the settings' list that no definition has, in its order.
func (r *Registry) Missing() (names []string) {
	for _, name := range r.settings.Enabled {
		if r.byName[name] == nil {
			names = append(names, name)
		}
	}
	return names
}

// Names lists the plugins in the order of descending priority.
func (r *Registry) Names() []string {
	names := make([]string, len(r.ordered))
	for i, e := range r.ordered {
		names[i] = e.Name
	}
	return names
}

// Definition returns a plugin's definition.
func (r *Registry) Definition(name string) (Definition, bool) {
	e := r.byName[name]
	if e == nil {
		return Definition{}, false
	}
	return e.Definition, true
}

// PublishedSchema is the schema as clients see it, with `_meta`; nil if there is no such plugin.
func (r *Registry) PublishedSchema(name string) []byte {
	if e := r.byName[name]; e != nil {
		return e.schema.Raw()
	}
	return nil
}

// A Source is one plugin configuration and what carries it.
type Source struct {
	Name   string
	Conf   json.RawMessage // as stored
	Parent Ref
}

// Digest names a configuration: equal bytes have equal digests. It is the plugin conf
// version by which state survives unrelated edits.
func Digest(conf []byte) string {
	sum := sha256.Sum256(conf)
	return hex.EncodeToString(sum[:16])
}

// Meta is a configuration's `_meta` (spec/04 §3).
type Meta struct {
	Disable       bool            `json:"disable"`
	Filter        json.RawMessage `json:"filter"`
	Priority      *int            `json:"priority"`
	ErrorResponse json.RawMessage `json:"error_response"`
	PreFunction   *string         `json:"pre_function"`
}

// Compiled is one configuration of one plugin, ready to run. It is immutable.
type Compiled struct {
	Name     string
	Digest   string
	Parent   Ref
	Auth     bool
	Prefer   bool // run_policy prefer_route
	Disabled bool
	Phases   Phases

	priority      int
	filter        *expr.Expr
	errorResponse any // nil: none
}

// Check judges a configuration of a route, service, plugin_config, consumer group or
// global rule, in the words of spec/04 and spec/01 §4.1. What it accepts, Compile
// compiles: they are the same step.
func (r *Registry) Check(s Source) error {
	_, err := r.Compile(s, Labels{}, nil, nil)
	return err
}

// CheckStream judges a configuration of a stream route. No plugin is for streams yet, so
// that none is known there.
func (r *Registry) CheckStream(s Source) error { return unknown(s) }

// unknown is the verdict on a configuration of a plugin that this program does not have.
// That it has the shape of one comes first.
func unknown(s Source) error {
	if _, err := shaped(s.Name, s.Conf); err != nil {
		return err
	}
	return &UnknownError{Plugin: s.Name}
}

// shaped decodes a configuration, which must be an object; an empty list is one.
func shaped(name string, conf []byte) (any, error) {
	value, err := schema.Decode(conf)
	if err != nil {
		return nil, checkFailed(name, err)
	}
	switch value.(type) {
	case map[string]any, []any:
		return value, nil
	}
	shown := string(bytes.TrimSpace(conf))
	if value == nil {
		shown = `"userdata: NULL"`
	}
	return nil, fmt.Errorf("invalid plugin conf %s for plugin [%s]", shown, name)
}

// Compile compiles one configuration. metadata is the plugin's metadata, nil if none is
// stored; prev is the chain that carried the plugin before this change and hands over
// its state, nil if there was none.
func (r *Registry) Compile(s Source, l Labels, metadata json.RawMessage, prev *Chain) (*Compiled, error) {
	e := r.byName[s.Name]
	if e == nil {
		return nil, unknown(s)
	}
	filled, meta, err := e.judge(e.schema, s.Conf, true)
	if err != nil {
		return nil, err
	}
	c := &Compiled{
		Name: e.Name, Digest: Digest(s.Conf), Parent: s.Parent, Auth: e.Auth, Prefer: e.PreferRoute,
		Disabled: meta.Disable, priority: e.Priority,
	}
	if err := c.applyMeta(meta); err != nil {
		return nil, err
	}
	if c.Disabled || e.New == nil {
		return c, nil
	}
	b := &Build{
		Conf: filled, Metadata: metadata, Attr: r.settings.Attr[e.Name], Digest: c.Digest,
		Parent: s.Parent, Labels: l, Log: r.settings.Log, Clock: r.settings.Clock,
	}
	if before := prev.Find(e.Name); before != nil && before.Parent.Kind == s.Parent.Kind && before.Parent.ID == s.Parent.ID {
		b.Before = before.Phases.State
		if before.Digest == c.Digest {
			b.Prev = b.Before
		}
	}
	c.Phases, err = e.New(b)
	if err != nil {
		return nil, checkFailed(e.Name, err)
	}
	return c, nil
}

// judge runs the schema and the plugin's own check and returns the configuration with
// its defaults filled in.
func (e *entry) judge(sch *schema.Schema, conf []byte, own bool) (json.RawMessage, Meta, error) {
	var meta Meta
	value, err := shaped(e.Name, conf)
	if err != nil {
		return nil, meta, err
	}
	if object, ok := value.(map[string]any); ok && object["_meta"] != nil {
		// The verdict on `_meta` is the schema's; here a wrong shape just means nothing.
		raw, _ := json.Marshal(object["_meta"])
		_ = Decode(raw, &meta)
	}
	if own && e.SchemaFor != nil {
		doc, err := e.SchemaFor(conf)
		if err != nil {
			return nil, meta, checkFailed(e.Name, err)
		}
		if doc != nil {
			if sch, err = schema.Compile("plugin "+e.Name, withMeta(e.Name, doc)); err != nil {
				return nil, meta, checkFailed(e.Name, err)
			}
		}
	}
	filled, err := sch.Fill(value)
	var raw json.RawMessage
	if err == nil {
		raw, err = encode(filled)
	}
	if err == nil && own && e.Check != nil {
		err = e.Check(raw)
	}
	if err != nil {
		if meta.Disable {
			return raw, meta, nil // spec/01 §4.1: what is switched off need not be right
		}
		return nil, meta, checkFailed(e.Name, err)
	}
	return raw, meta, nil
}

func checkFailed(name string, err error) error {
	return fmt.Errorf("failed to check the configuration of plugin %s err: %w", name, err)
}

func (c *Compiled) applyMeta(m Meta) error {
	if m.Filter != nil {
		filter, err := expr.Compile(m.Filter)
		if err != nil {
			return fmt.Errorf("failed to validate the 'vars' expression: %w", err)
		}
		c.filter = filter
	}
	if m.PreFunction != nil {
		return fmt.Errorf("failed to load _meta.pre_function in plugin %s: lua is not supported", c.Name)
	}
	if m.Priority != nil {
		c.priority = *m.Priority
	}
	if m.ErrorResponse != nil {
		var text string
		if Decode(m.ErrorResponse, &text) == nil {
			c.errorResponse = text
		} else {
			c.errorResponse = m.ErrorResponse
		}
	}
	return nil
}

// ConsumerConf is an auth plugin's configuration at a consumer or credential.
type ConsumerConf struct {
	Plugin string
	Conf   json.RawMessage // defaults filled in
	Key    string          // by which the consumer is found; "" if the plugin has no such member
}

// CompileConsumer judges what a consumer or credential configures for plugin s.Name. An
// auth plugin yields a ConsumerConf, any other a Compiled for the consumer's chain.
func (r *Registry) CompileConsumer(s Source, metadata json.RawMessage, prev *Chain) (*ConsumerConf, *Compiled, error) {
	e := r.byName[s.Name]
	if e == nil {
		return nil, nil, unknown(s)
	}
	if !e.Auth {
		c, err := r.Compile(s, Labels{}, metadata, prev)
		return nil, c, err
	}
	if e.consumer == nil {
		return nil, nil, fmt.Errorf("plugin %s has no consumer schema", s.Name)
	}
	filled, _, err := e.judge(e.consumer, s.Conf, false)
	if err != nil {
		return nil, nil, err
	}
	conf := &ConsumerConf{Plugin: e.Name, Conf: filled}
	if e.ConsumerKey != "" {
		members := map[string]json.RawMessage{}
		_ = Decode(filled, &members)
		_ = Decode(members[e.ConsumerKey], &conf.Key)
	}
	return conf, nil, nil
}

// ErrNotAuth is a credential with a plugin that identifies nobody.
var ErrNotAuth = errors.New("only supports auth type plugins in consumer credential")

// CheckMetadata judges a plugin's metadata. Plugins without a schema for it accept anything.
func (r *Registry) CheckMetadata(name string, doc []byte) error {
	e := r.byName[name]
	if e == nil {
		return &UnknownError{Plugin: name}
	}
	if e.metadata == nil {
		return nil
	}
	value, err := schema.Decode(doc)
	if err != nil {
		return err
	}
	return e.metadata.Check(value)
}

// encode writes JSON without escaping what is only special in HTML: members of a
// configuration end up in requests to providers.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// Package resource is what is stored: the kinds of things the Admin API writes and the
// gateway reads, their keys, their schemas, what they refer to, and their typed forms
// (spec/01 §3 and §4, spec/02 §1 and §2, spec/05 §1 and §2).
//
// The package does no I/O and knows no plugins: it says where plugin configurations
// stand, not whether they are good. It does not know the etcd client, HTTP, encryption or
// how requests are matched.
package resource

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/schema"
)

// IDSource says where the id of an item comes from (spec/01 §3).
type IDSource int

// Sources of ids.
const (
	IDFromPathOrBody IDSource = iota // path, else the body's member "id"; POST generates one
	IDFromUsername                   // the body's member "username"
	IDFromPath                       // the path alone
	IDFromManager                    // two path segments, manager/id
)

// Flavour says by which of a plugin's schemas a configuration is judged.
type Flavour string

// Flavours of plugin configurations.
const (
	FlavourNormal     Flavour = "normal"
	FlavourConsumer   Flavour = "consumer"   // auth plugins by their consumer schema, others as normal
	FlavourCredential Flavour = "credential" // auth plugins only
	FlavourMetadata   Flavour = "metadata"   // the whole document is the configuration, the id the plugin's name
	FlavourStream     Flavour = "stream"
)

// PluginMember is a member that holds plugin configurations by plugin name. An empty Path
// is the document itself.
type PluginMember struct {
	Path    string
	Flavour Flavour
}

// Each calls f for every plugin configuration that stands there in a document, in its order.
func (m PluginMember) Each(raw []byte, f func(name string, conf []byte) error) error {
	plugins, kind, ok, err := jsonedit.Find(raw, m.Path)
	if err != nil || !ok || kind != jsonedit.Object {
		return err
	}
	return jsonedit.Members(plugins, func(name string, conf []byte, _ jsonedit.Kind) error { return f(name, conf) })
}

// Kind is one kind of stored thing. Kinds are immutable and shared.
type Kind struct {
	Name         string         // directory and path: "routes"
	Word         string         // in messages: "route", "consumer group"
	Schema       *schema.Schema // nil for secrets, whose schema depends on the id: see SchemaOf
	SchemaName   string         // in /schema/{name}: "route"
	Parent       string         // kind below whose items this kind lives: "consumers" for credentials
	ParentMember string         // where an item says whom it lives below; set from the path; "": nowhere
	Verbs        []string       // methods of the Admin API that are implemented
	IDFrom       IDSource
	Times        bool     // create_time and update_time are kept in the document
	Marker       bool     // the directory has a marker key (spec/02 §1)
	Refs         []Ref    // members that name other items
	UsedBy       []Use    // what forbids a deletion
	Secrets      []string // dotted paths encrypted at rest, beside those of plugins
	// OwnSecrets are dotted paths encrypted at rest in the format of our own alone: the
	// reference stores and shows them plain, and would not open them (spec/00 6).
	OwnSecrets    []string
	Redact        []string       // members left out of every read
	PluginMembers []PluginMember // where plugin configurations stand
	// Check says what a schema cannot, in the reference's words, about a document with its
	// defaults filled in. It is nil if there is nothing to say.
	Check func(doc any) error

	early func(doc any) error // like Check, but judged before the schema
}

// Kinds returns all kinds, parents before what lives below them. The caller must not
// change them.
func Kinds() []*Kind { return table().kinds }

// ByName returns the kind of a directory ("routes", "credentials"), nil if there is none.
func ByName(name string) *Kind { return table().byName[name] }

// Schemas returns the JSON schema called name, as GET /schema/{name} shows it.
func Schemas(name string) (raw []byte, ok bool) {
	s, ok := schemas()[name]
	if !ok {
		return nil, false
	}
	return s.Raw(), true
}

// Locate tells what a key stands for; rest is what follows the prefix and its slash:
// "consumers/jack/credentials/c1" is the credential "jack/credentials/c1". Markers and
// keys that are no item are not ok.
func Locate(rest string) (k *Kind, id string, ok bool) {
	dir, id, found := strings.Cut(rest, "/")
	k = ByName(dir)
	if !found || k == nil || k.Parent != "" {
		return nil, "", false
	}
	first, below, deep := strings.Cut(id, "/")
	second, third, deeper := strings.Cut(below, "/")
	if first == "" || deep && second == "" || deeper && (third == "" || strings.Contains(third, "/")) {
		return nil, "", false
	}
	switch {
	case k.IDFrom == IDFromManager:
		return k, id, deep && !deeper
	case !deep:
		return k, id, true
	case deeper:
		child := ByName(second)
		return child, id, child != nil && child.Parent == k.Name
	}
	return nil, "", false
}

// Key returns the store key of an item, the inverse of Locate: "/apisix/routes/1".
func (k *Kind) Key(prefix, id string) string {
	if k.Parent != "" {
		return prefix + "/" + k.Parent + "/" + id
	}
	return prefix + "/" + k.Name + "/" + id
}

// ChildID returns the id of an item that lives below another: ChildID("jack", "c1") is
// "jack/credentials/c1". Kinds without a parent return id.
func (k *Kind) ChildID(parent, id string) string {
	if k.Parent == "" {
		return id
	}
	return parent + "/" + k.Name + "/" + id
}

// Allows reports whether the Admin API implements the method for this kind.
func (k *Kind) Allows(method string) bool { return slices.Contains(k.Verbs, method) }

// SchemaOf returns the schema that judges the item with this id: for secrets that of the
// manager named in the id, else Schema.
func (k *Kind) SchemaOf(id string) (*schema.Schema, error) {
	if k.IDFrom != IDFromManager {
		return k.Schema, nil
	}
	manager, _, _ := strings.Cut(id, "/")
	if manager == "" {
		return nil, errors.New("missing secret type")
	}
	s, ok := schemas()["secret_"+manager]
	if !ok {
		return nil, fmt.Errorf("invalid secret manager: %s", manager)
	}
	return s, nil
}

// Validate judges a decoded document completely but for references to other items, plugin
// configurations and vars, and returns it with defaults filled in; doc is left alone. The
// id is that of Locate; a document without the member "id" is judged as if it had it.
// The error is what the Admin API answers (spec/01 §4).
func (k *Kind) Validate(id string, doc any) (any, error) {
	return k.judge(id, k.identified(id, doc), (*schema.Schema).Fill)
}

// judge is Validate for a document that has its id.
func (k *Kind) judge(id string, doc any, fill func(*schema.Schema, any) (any, error)) (any, error) {
	s, err := k.SchemaOf(id)
	if err != nil {
		return nil, err
	}
	if k.early != nil {
		if err := k.early(doc); err != nil {
			return nil, err
		}
	}
	if err := k.refuseReference(doc); err != nil {
		return nil, err
	}
	if err := k.checkManaged(id); err != nil {
		return nil, err
	}
	filled, err := fill(s, doc)
	if err != nil {
		return nil, fmt.Errorf("invalid configuration: %w", err)
	}
	if k.Check != nil {
		if err := k.Check(filled); err != nil {
			return nil, err
		}
	}
	return filled, nil
}

// identified returns a copy of doc with the id that the Admin API adds before it looks at
// the schema. Adding it makes an object of a list, whose members are then numbers.
func (k *Kind) identified(id string, doc any) any {
	own := k.missingID(id, object(doc))
	if own == "" {
		return doc
	}
	var m map[string]any
	switch v := doc.(type) {
	case map[string]any:
		m = maps.Clone(v)
	case []any:
		m = make(map[string]any, len(v)+1)
		for i, item := range v {
			m[strconv.Itoa(i+1)] = item
		}
	default:
		return doc
	}
	m["id"] = own
	return m
}

// missingID is the id that the Admin API would add to an object, "" if none.
func (k *Kind) missingID(id string, m map[string]any) string {
	if _, given := m["id"]; given || k.IDFrom != IDFromPathOrBody {
		return ""
	}
	return id[strings.LastIndexByte(id, '/')+1:]
}

// refuseReference refuses "$env://…" where the name of the item is meant: it passes the
// schema as any string does, and its slashes would lead to the key of something else.
func (k *Kind) refuseReference(doc any) error {
	member := "id"
	switch k.IDFrom {
	case IDFromPathOrBody:
	case IDFromUsername:
		member = "username"
	default:
		return nil
	}
	if schema.IsReference(text(object(doc)[member])) {
		return fmt.Errorf("invalid configuration: property %q validation failed: a reference cannot name an item", member)
	}
	return nil
}

// checkManaged holds the id below a manager to what the schemas of other kinds ask of an id,
// and in their words; those of secrets do not look at it (spec/01 §3.1).
func (k *Kind) checkManaged(id string) error {
	if k.IDFrom != IDFromManager {
		return nil
	}
	_, own, _ := strings.Cut(id, "/")
	if err := schemas()["id_schema"].Check(own); err != nil {
		return fmt.Errorf("invalid configuration: property %q validation failed: %w", "id", err)
	}
	return nil
}

// CheckTimes refuses the members that only the Admin API may set, in bodies of PUT and
// POST (spec/01 §3.1).
func (k *Kind) CheckTimes(doc any) error {
	m := object(doc)
	for _, parent := range []string{"", "upstream", "plugins"} {
		at, path := m, ""
		if parent != "" {
			at, path = object(m[parent]), parent+"."
		}
		for _, name := range []string{"create_time", "update_time"} {
			if _, ok := at[name]; ok {
				// Two spaces: the reference's clients compare the text.
				return fmt.Errorf("the property is forbidden:  %s%s", path, name)
			}
		}
	}
	return nil
}

type kindTable struct {
	kinds  []*Kind
	byName map[string]*Kind
}

// Both are built at their first use and never change.
var (
	schemas = sync.OnceValue(loadSchemas)
	table   = sync.OnceValue(func() kindTable {
		t := kindTable{kinds: allKinds(), byName: map[string]*Kind{}}
		for _, k := range t.kinds {
			k.Schema = schemas()[k.SchemaName]
			t.byName[k.Name] = k
		}
		return t
	})
)

package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/schema"
)

// The accessors below read a checked document. An absent member and an empty container
// of the other kind are the zero value: stored documents write {} for an empty list.

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func texts(v any) []string {
	items := list(v)
	if len(items) == 0 {
		return nil
	}
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = text(item)
	}
	return out
}

func lowered(words []string) []string {
	for i, w := range words {
		words[i] = strings.ToLower(w)
	}
	return words
}

func labels(v any) map[string]string {
	m := object(v)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for name, value := range m {
		out[name] = text(value)
	}
	return out
}

func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case json.Number:
		// Out of range leaves the infinity that the schema has already judged.
		f, _ := strconv.ParseFloat(string(v), 64)
		return f
	}
	return 0
}

// integer is the whole number v, limited to what a float64 holds exactly: 1e300 is a
// whole number too, and converting it to int is undefined.
func integer(v any) int {
	const limit = 1 << 53
	return int(max(-limit, min(limit, number(v))))
}

func boolPointer(v any) *bool {
	if b, ok := v.(bool); ok {
		return &b
	}
	return nil
}

func id(v any) string {
	s, _ := IDText(v)
	return s
}

// A document is a stored item, checked, with defaults filled in.
type document struct {
	members map[string]any
	stored  []byte
}

// raw returns a member as it is stored, nil if there is none.
func (d *document) raw(name string) (json.RawMessage, error) {
	if _, ok := d.members[name]; !ok {
		return nil, nil
	}
	if value, _, _, err := jsonedit.Find(d.stored, name); err == nil {
		return value, nil
	}
	members, err := rawMembers(d.stored)
	return members[name], err
}

// plugins decodes the member "plugins".
func (d *document) plugins() (Plugins, error) {
	raw, err := d.raw("plugins")
	if err != nil {
		return nil, err
	}
	return decodePlugins(raw)
}

// rawMembers are the members of an object as they are stored; they alias p.
func rawMembers(p []byte) (members map[string]json.RawMessage, err error) {
	index, err := jsonedit.IndexTrusted(p)
	if err != nil || index.Kind() != jsonedit.Object {
		// Text that is not UTF-8 is stored JSON, too; of what is none it knows the words.
		err = json.Unmarshal(p, &members)
		return members, err
	}
	members = make(map[string]json.RawMessage, index.Len())
	for _, m := range index.Members() {
		members[m.Name] = p[m.Value.Start:m.Value.End:m.Value.End]
	}
	return members, nil
}

// load checks a stored item of kind k as a node does when it reads it (spec/02 §2). One that
// has a member twice is refused, at whatever level.
func load(kind, itemID string, p []byte) (document, error) {
	return loadKnown(kind, itemID, p, jsonedit.Known{})
}

// loadKnown is load for who knows a part of the item.
func loadKnown(kind, itemID string, p []byte, known jsonedit.Known) (document, error) {
	k := ByName(kind)
	v, err := schema.DecodeUnambiguous(p, known)
	if err != nil {
		return document{}, err
	}
	m, ok := v.(map[string]any)
	if l, isList := v.([]any); isList && len(l) == 0 {
		m, ok, p = map[string]any{}, true, []byte("{}")
	}
	if !ok {
		return document{}, errors.New("it should be an object")
	}
	bracketHosts(m)
	if own := k.missingID(itemID, m); own != "" {
		m["id"] = own
	}
	filled, err := k.judge(itemID, m, (*schema.Schema).Complete)
	if err != nil {
		return document{}, err
	}
	return document{members: object(filled), stored: p}, nil
}

// PluginConf is the configuration of one plugin: compact JSON, otherwise as it was stored.
type PluginConf struct {
	Name string
	Conf json.RawMessage
}

// Plugins are the plugin configurations of one document, in the order of their names.
type Plugins []PluginConf

// Get returns the configuration of a plugin, nil if there is none.
func (p Plugins) Get(name string) json.RawMessage {
	i, ok := slices.BinarySearchFunc(p, name, func(c PluginConf, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return nil
	}
	return p[i].Conf
}

func decodePlugins(raw json.RawMessage) (Plugins, error) {
	if raw == nil || raw[0] == '[' {
		return nil, nil
	}
	confs, err := rawMembers(raw)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	plugins := make(Plugins, 0, len(confs))
	for _, name := range slices.Sorted(maps.Keys(confs)) {
		conf, err := compact(confs[name])
		if err != nil {
			return nil, fmt.Errorf("plugins: %s: %w", name, err)
		}
		plugins = append(plugins, PluginConf{Name: name, Conf: conf})
	}
	return plugins, nil
}

func compact(raw json.RawMessage) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// sortedKeys are the names of an object in their order.
func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

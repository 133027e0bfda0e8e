package resource

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/gosix/gosix/pkg/schema"
)

// PluginList is the list of plugins to load, as it stands under the one key "plugins"
// (spec/02 §1), which is of no kind. It is a value.
type PluginList struct {
	HTTP, Stream []string // names
}

// listedPlugin is one name of the list as it is stored.
type listedPlugin struct {
	Name   string `json:"name"`
	Stream bool   `json:"stream,omitempty"`
}

// CheckPluginList judges a decoded list of plugins.
func CheckPluginList(v any) error {
	if err := schemas()["plugins"].Check(v); err != nil {
		return fmt.Errorf("invalid configuration: %w", err)
	}
	return nil
}

// DecodePluginList checks and decodes a stored list of plugins. Its lists are not nil.
func DecodePluginList(p []byte) (PluginList, error) {
	list := PluginList{HTTP: []string{}, Stream: []string{}}
	v, err := schema.Decode(p)
	if err == nil {
		err = CheckPluginList(v)
	}
	if err != nil {
		return PluginList{}, err
	}
	if _, empty := v.(map[string]any); empty {
		return list, nil // the other way to write an empty list
	}
	var items []listedPlugin
	if err := json.Unmarshal(p, &items); err != nil {
		return PluginList{}, err
	}
	for _, item := range items {
		if item.Stream {
			list.Stream = append(list.Stream, item.Name)
		} else {
			list.HTTP = append(list.HTTP, item.Name)
		}
	}
	return list, nil
}

// Encode is the inverse of DecodePluginList.
func (l PluginList) Encode() ([]byte, error) {
	items := make([]listedPlugin, 0, len(l.HTTP)+len(l.Stream))
	for _, name := range l.HTTP {
		items = append(items, listedPlugin{Name: name})
	}
	for _, name := range l.Stream {
		items = append(items, listedPlugin{name, true})
	}
	return json.Marshal(items)
}

// Equal reports whether both name the same plugins, in whatever order.
func (l PluginList) Equal(other PluginList) bool {
	return maps.Equal(set(l.HTTP), set(other.HTTP)) && maps.Equal(set(l.Stream), set(other.Stream))
}

func set(names []string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}

package resource

import (
	"encoding/json"
	"errors"
	"strings"
)

// Consumer is a decoded consumer, immutable.
type Consumer struct {
	Username string
	GroupID  string
	Plugins  Plugins
	Labels   map[string]string
	Desc     string
}

// DecodeConsumer checks and decodes a stored consumer.
func DecodeConsumer(itemID string, p []byte) (*Consumer, error) {
	d, err := load("consumers", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	c := &Consumer{
		Username: text(m["username"]), GroupID: id(m["group_id"]),
		Labels: labels(m["labels"]), Desc: text(m["desc"]),
	}
	c.Plugins, err = d.plugins()
	return c, err
}

// Credential is a decoded credential of a consumer, immutable.
type Credential struct {
	ID       string // without the consumer: "c1"
	Consumer string // username
	Name     string
	Labels   map[string]string
	Plugins  Plugins // at most one
}

// DecodeCredential checks and decodes a stored credential; id is
// "username/credentials/credential".
func DecodeCredential(itemID string, p []byte) (*Credential, error) {
	username, rest, _ := strings.Cut(itemID, "/")
	_, own, ok := strings.Cut(rest, "/")
	if !ok {
		return nil, errors.New("missing consumer name")
	}
	d, err := load("credentials", itemID, p)
	if err != nil {
		return nil, err
	}
	c := &Credential{ID: own, Consumer: username, Name: text(d.members["name"]), Labels: labels(d.members["labels"])}
	c.Plugins, err = d.plugins()
	return c, err
}

// ConsumerGroup is a decoded group: plugins that its consumers share. Immutable.
type ConsumerGroup struct {
	ID         string
	Name, Desc string
	Labels     map[string]string
	Plugins    Plugins
}

// DecodeConsumerGroup checks and decodes a stored consumer group.
func DecodeConsumerGroup(itemID string, p []byte) (*ConsumerGroup, error) {
	d, err := load("consumer_groups", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	g := &ConsumerGroup{ID: itemID, Name: text(m["name"]), Desc: text(m["desc"]), Labels: labels(m["labels"])}
	g.Plugins, err = d.plugins()
	return g, err
}

// PluginConfig is a decoded set of plugins that routes share, immutable.
type PluginConfig struct {
	ID      string
	Desc    string
	Labels  map[string]string
	Plugins Plugins
}

// DecodePluginConfig checks and decodes a stored plugin config.
func DecodePluginConfig(itemID string, p []byte) (*PluginConfig, error) {
	d, err := load("plugin_configs", itemID, p)
	if err != nil {
		return nil, err
	}
	c := &PluginConfig{ID: itemID, Desc: text(d.members["desc"]), Labels: labels(d.members["labels"])}
	c.Plugins, err = d.plugins()
	return c, err
}

// GlobalRule is a decoded set of plugins that run for every request, immutable.
type GlobalRule struct {
	ID      string
	Plugins Plugins
}

// DecodeGlobalRule checks and decodes a stored global rule.
func DecodeGlobalRule(itemID string, p []byte) (*GlobalRule, error) {
	d, err := load("global_rules", itemID, p)
	if err != nil {
		return nil, err
	}
	g := &GlobalRule{ID: itemID}
	g.Plugins, err = d.plugins()
	return g, err
}

// PluginMetadata is what all configurations of one plugin share, immutable.
type PluginMetadata struct {
	Name string // of the plugin
	Conf json.RawMessage
}

// DecodePluginMetadata checks and decodes stored metadata. Conf keeps the member "id".
func DecodePluginMetadata(itemID string, p []byte) (*PluginMetadata, error) {
	if _, err := load("plugin_metadata", itemID, p); err != nil {
		return nil, err
	}
	conf, err := compact(p)
	if err != nil {
		return nil, err
	}
	return &PluginMetadata{Name: itemID, Conf: conf}, nil
}

// Secret is a decoded access to a secret manager, immutable.
type Secret struct {
	Manager string // vault, aws or gcp
	ID      string // without the manager
	Conf    json.RawMessage
}

// DecodeSecret checks and decodes a stored secret manager; id is "manager/id". Conf has
// its defaults filled in.
func DecodeSecret(itemID string, p []byte) (*Secret, error) {
	manager, own, ok := strings.Cut(itemID, "/")
	if !ok {
		return nil, errors.New("no secret id")
	}
	d, err := load("secrets", itemID, p)
	if err != nil {
		return nil, err
	}
	conf, err := json.Marshal(d.members)
	if err != nil {
		return nil, err
	}
	return &Secret{Manager: manager, ID: own, Conf: conf}, nil
}

// Proto is a decoded protocol buffers definition, immutable. Whether it compiles the Admin API
// has judged: it says nothing to a node.
type Proto struct {
	ID      string
	Content string
}

// DecodeProto checks and decodes a stored definition.
func DecodeProto(itemID string, p []byte) (*Proto, error) {
	d, err := load("protos", itemID, p)
	if err != nil {
		return nil, err
	}
	return &Proto{ID: itemID, Content: text(d.members["content"])}, nil
}

// DefinitionOf is the content of a checked proto.
func DefinitionOf(doc any) string { return text(object(doc)["content"]) }

// Package config is the settings of a process: their defaults, the file they are read
// from, and what is wrong with them. Names are the reference's (spec/08 §6). It does not
// know what the settings do, and nothing of what is stored in etcd.
package config

import (
	"encoding/json"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is everything that config.yaml may say. Decode fills it; it is then only read.
type Config struct {
	Apisix     Apisix               `yaml:"apisix"`
	Nginx      Nginx                `yaml:"nginx_config"`
	Plugins    []string             `yaml:"plugins"`     // names of the plugins to load; null: every one that is built
	PluginAttr map[string]yaml.Node `yaml:"plugin_attr"` // per plugin, whatever it reads
	Deployment Deployment           `yaml:"deployment"`
}

// Apisix is the data plane.
type Apisix struct {
	NodeListen     Listens        `yaml:"node_listen"`
	Router         Router         `yaml:"router"`
	ProxyMode      string         `yaml:"proxy_mode"` // "http"; "stream" and "http&stream" let stream routes be written
	EnableControl  bool           `yaml:"enable_control"`
	Control        Address        `yaml:"control"`
	Status         *Address       `yaml:"status"` // null: no listener
	ServerHeader   string         `yaml:"server_header"`
	ServerTokens   bool           `yaml:"enable_server_tokens"`
	UnknownPlugins string         `yaml:"unknown_plugins"` // "fail" or "skip"
	Trusted        []string       `yaml:"trusted_addresses"`
	ShowStatus     bool           `yaml:"show_upstream_status_in_response_header"`
	DeleteTail     bool           `yaml:"delete_uri_tail_slash"`
	ServletPaths   bool           `yaml:"normalize_uri_like_servlet"`
	KeepSlashes    bool           `yaml:"match_uri_encoded_slash"`
	MaxPostArgs    int            `yaml:"max_post_args_readable_size"` // MiB
	DrainTimeout   float64        `yaml:"drain_timeout"`               // seconds
	DataEncryption DataEncryption `yaml:"data_encryption"`
	Limits         Limits         `yaml:"limits"`
}

// Router selects the matcher.
type Router struct {
	HTTP string `yaml:"http"`
}

// Address is where something listens. Port 0 is a free one.
type Address struct {
	IP   string `yaml:"ip"`
	Port int    `yaml:"port"`
}

func (a Address) String() string { return joinHostPort(a.IP, a.Port) }

// Listen is an address of the gateway.
type Listen struct {
	IP    string `yaml:"ip"`
	Port  int    `yaml:"port"`
	HTTP2 bool   `yaml:"enable_http2"` // HTTP/2 with prior knowledge on plain connections
}

func (l Listen) String() string { return joinHostPort(l.IP, l.Port) }

// Listens is node_listen: one port, or a list of ports and addresses.
type Listens []Listen

// DataEncryption is how secrets are kept in etcd.
type DataEncryption struct {
	Enable  bool     `yaml:"enable_encrypt_fields"`
	Keyring []Secret `yaml:"keyring"` // of 16 or 32 bytes each; the first encrypts, all decrypt
	Format  string   `yaml:"format"`  // "gcm" or "cbc"
}

// Limits are on by default (spec/00 13); 0 switches one off.
type Limits struct {
	URI          int     `yaml:"uri_bytes"`
	Header       int     `yaml:"header_bytes"`
	HeaderFields int     `yaml:"header_fields"`
	AdminBody    int64   `yaml:"admin_body_bytes"`
	JSONDepth    int     `yaml:"json_depth"`
	AIBody       int64   `yaml:"ai_body_bytes"`
	HeaderTime   float64 `yaml:"header_timeout"` // seconds, for a whole head
	BodyTime     float64 `yaml:"body_timeout"`   // seconds between two reads of a body
	IdleTime     float64 `yaml:"idle_timeout"`   // seconds between two requests of a connection
	SendTime     float64 `yaml:"send_timeout"`   // seconds that a write to a client may take
}

// Nginx is what of nginx_config has a meaning here; every other key under it is accepted.
type Nginx struct {
	HTTP NginxHTTP `yaml:"http"`
}

// NginxHTTP is the access log and the size of request bodies.
type NginxHTTP struct {
	EnableAccessLog bool   `yaml:"enable_access_log"`
	AccessLog       string `yaml:"access_log"` // a path; "/dev/stdout" for standard output
	Format          string `yaml:"access_log_format"`
	Escape          string `yaml:"access_log_format_escape"` // "default" or "json"
	MaxBody         int64  `yaml:"client_max_body_size"`     // bytes; 0: no limit
}

// Deployment is the control plane and the store.
type Deployment struct {
	Role    string `yaml:"role"` // "traditional", "control_plane", "data_plane"
	DataDir string `yaml:"data_dir"`
	Admin   Admin  `yaml:"admin"`
	Etcd    Etcd   `yaml:"etcd"`
}

// Admin is the Admin API.
type Admin struct {
	KeyRequired bool       `yaml:"admin_key_required"`
	Keys        []AdminKey `yaml:"admin_key"`
	KeyIn       []string   `yaml:"admin_key_in"`
	CORS        bool       `yaml:"enable_admin_cors"`
	Allow       []string   `yaml:"allow_admin"`
	Listen      Address    `yaml:"admin_listen"`
	Version     string     `yaml:"admin_api_version"`
}

// AdminKey opens the Admin API.
type AdminKey struct {
	Name string `yaml:"name"`
	Key  Secret `yaml:"key"`
	Role string `yaml:"role"` // "admin" or "viewer"
}

// Etcd is the configuration store. Without a host `gosix run` starts one of its own.
type Etcd struct {
	Host     Hosts   `yaml:"host"`
	Prefix   string  `yaml:"prefix"`
	Timeout  float64 `yaml:"timeout"` // seconds for a call, over all hosts
	User     string  `yaml:"user"`
	Password Secret  `yaml:"password"`
	TLS      EtcdTLS `yaml:"tls"`
	Listen   string  `yaml:"listen"` // of the embedded one; empty: 127.0.0.1 and a free port
}

// EtcdTLS is how etcd is spoken to over TLS.
type EtcdTLS struct {
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	CA     string `yaml:"ca"`
	Verify bool   `yaml:"verify"`
	SNI    string `yaml:"sni"`
}

// Hosts is one address or a list of them.
type Hosts []string

// Secret is a text that does not show itself: whatever prints it prints stars.
type Secret string

const hidden = "***"

func (s Secret) String() string { return hidden }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return hidden }

// MarshalJSON hides the secret from JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// MarshalText hides the secret from text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Default returns the settings of an empty file.
func Default() *Config {
	return &Config{
		Apisix: Apisix{
			NodeListen:     Listens{{Port: 9080}},
			Router:         Router{HTTP: "radixtree_host_uri"},
			ProxyMode:      "http",
			EnableControl:  true,
			Control:        Address{"127.0.0.1", 9090},
			ServerTokens:   true,
			UnknownPlugins: "fail",
			MaxPostArgs:    64,
			DrainTimeout:   30,
			DataEncryption: DataEncryption{Enable: true, Format: "gcm"},
			Limits: Limits{
				URI: 8 << 10, Header: 32 << 10, HeaderFields: 100, AdminBody: 1536 << 10, JSONDepth: 64, AIBody: 64 << 20,
				HeaderTime: 60, BodyTime: 60, IdleTime: 60, SendTime: 60,
			},
		},
		Nginx: Nginx{HTTP: NginxHTTP{EnableAccessLog: true, AccessLog: "logs/access.log", Escape: "default"}},
		Deployment: Deployment{
			Role:    "traditional",
			DataDir: "./data",
			Admin: Admin{
				KeyRequired: true, KeyIn: []string{"header"}, CORS: true, Allow: []string{"127.0.0.0/24"},
				Listen: Address{"127.0.0.1", 9180}, Version: "v3",
			},
			Etcd: Etcd{Prefix: "/apisix", Timeout: 2, TLS: EtcdTLS{Verify: true}},
		},
	}
}

// Seconds turns a setting in seconds into a duration.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Attr returns what plugin_attr says of each plugin, as JSON.
func (c *Config) Attr() (map[string]json.RawMessage, error) {
	attr := make(map[string]json.RawMessage, len(c.PluginAttr))
	for name, node := range c.PluginAttr {
		var v any
		if err := node.Decode(&v); err != nil {
			return nil, fmt.Errorf("plugin_attr.%s: %w", name, err)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("plugin_attr.%s: %w", name, err)
		}
		attr[name] = raw
	}
	return attr, nil
}

// Package config is the settings of a process: their defaults, the file they are read
// from, and what is wrong with them. Names are the reference's (spec/08 §6). It does not
// know what the settings do, opens nothing but the one file, and knows nothing of what is
// stored in etcd. Other YAML is read here, too, but only as what it is in JSON.
package config

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Config is everything that config.yaml may say. Load makes it; it is then only read, by
// any number of goroutines. conf/config.yaml describes every setting for people.
//
// The unit of a number stands in its unit tag: "seconds" may also be written as 500ms, 60s
// or 1h30m, "bytes" as 64k, 10m or 1g; "MiB" is a plain number, as a number without a
// unit is. A list tagged "single" may be written as its only element.
type Config struct {
	Apisix        Apisix                     `yaml:"apisix"`
	Nginx         Nginx                      `yaml:"nginx_config"`
	Plugins       []string                   `yaml:"plugins"`        // names of the plugins to load; nil: every one that is built
	StreamPlugins []string                   `yaml:"stream_plugins"` // names of those for streams, which nodes of the reference may load
	GraphQL       GraphQL                    `yaml:"graphql"`
	PluginAttr    map[string]json.RawMessage `yaml:"plugin_attr"` // per plugin, whatever it reads; may hold secrets
	Deployment    Deployment                 `yaml:"deployment"`
}

// Apisix is the data plane.
type Apisix struct {
	ID             string         `yaml:"id"` // of the node; empty: the one kept in the data directory
	NodeListen     Listens        `yaml:"node_listen" list:"single"`
	HTTP2          bool           `yaml:"enable_http2"` // of each node_listen and ssl.listen that does not say itself
	SSL            SSL            `yaml:"ssl"`
	Engine         string         `yaml:"http_engine"` // "fast" or "std"
	Router         Router         `yaml:"router"`
	ProxyMode      string         `yaml:"proxy_mode"` // "http"; "stream" and "http&stream" let stream routes be written
	EnableControl  bool           `yaml:"enable_control"`
	Control        Address        `yaml:"control"`
	Status         *Address       `yaml:"status"`        // nil: no listener; 127.0.0.1 and 7085 where only the other is said
	ServerHeader   string         `yaml:"server_header"` // empty: the program's own (spec/00 10)
	ServerTokens   bool           `yaml:"enable_server_tokens"`
	UnknownPlugins string         `yaml:"unknown_plugins"`   // "fail" or "skip" (spec/00 19)
	Trusted        []string       `yaml:"trusted_addresses"` // networks; nil: unset, which spec/05 §7 tells from an empty list
	ShowStatus     bool           `yaml:"show_upstream_status_in_response_header"`
	NoHealthChecks bool           `yaml:"disable_upstream_healthcheck"`
	DeleteTail     bool           `yaml:"delete_uri_tail_slash"`
	ServletPaths   bool           `yaml:"normalize_uri_like_servlet"`
	KeepSlashes    bool           `yaml:"match_uri_encoded_slash"`
	MaxPostArgs    int            `yaml:"max_post_args_readable_size" unit:"MiB"`
	LameDuck       float64        `yaml:"lame_duck" unit:"seconds"` // after SIGTERM; 0: none
	DrainTimeout   float64        `yaml:"drain_timeout" unit:"seconds"`
	MinRevision    bool           `yaml:"min_revision_header"`
	DataEncryption DataEncryption `yaml:"data_encryption"`
	Limits         Limits         `yaml:"limits"`
}

// GraphQL is how the variables graphql_* read requests.
type GraphQL struct {
	MaxSize int64 `yaml:"max_size" unit:"bytes"` // of a body, above 0
}

// Router selects the matcher.
type Router struct {
	HTTP string `yaml:"http"` // "radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"
}

// Address is where something listens. An empty IP is every address of the machine, port 0
// a free port.
type Address struct {
	IP   string `yaml:"ip"`
	Port int    `yaml:"port"`
}

// String returns the address as net.Listen takes it.
func (a Address) String() string { return joinHostPort(a.IP, a.Port) }

// Listen is an address of the gateway, read as Address is.
type Listen struct {
	IP    string `yaml:"ip"`
	Port  int    `yaml:"port"`
	HTTP2 bool   `yaml:"enable_http2"` // HTTP/2 with prior knowledge on plain connections
}

// String returns the address as net.Listen takes it.
func (l Listen) String() string { return joinHostPort(l.IP, l.Port) }

// Listens is node_listen: ports and addresses, at least one.
type Listens []Listen

// SSL is the gateway over TLS. Its certificates are stored (ssls).
type SSL struct {
	Enable    bool       `yaml:"enable"`
	Listen    SSLListens `yaml:"listen" list:"single"`
	Protocols string     `yaml:"ssl_protocols"`       // names with spaces between: "TLSv1.2 TLSv1.3"
	Ciphers   string     `yaml:"ssl_ciphers"`         // of TLS 1.2 and older, OpenSSL's names with colons between
	Tickets   bool       `yaml:"ssl_session_tickets"` // whether clients may resume sessions
	Fallback  string     `yaml:"fallback_sni"`        // the name of clients that say none; empty: they are refused
	// Trusted is a PEM file with the authorities of every server that is spoken to, whether or
	// not TLS is on; "system" or empty: the system's.
	Trusted string `yaml:"ssl_trusted_certificate"`
}

// SSLListen is an address of the gateway with TLS, read as Address is; the port is 9443
// unless said.
type SSLListen struct {
	IP    string `yaml:"ip"`
	Port  int    `yaml:"port"`
	HTTP2 bool   `yaml:"enable_http2"`
}

// String returns the address as net.Listen takes it.
func (l SSLListen) String() string { return joinHostPort(l.IP, l.Port) }

// SSLListens is ssl.listen: ports and addresses, at least one where TLS is on.
type SSLListens []SSLListen

// DataEncryption is how secrets are kept in etcd (spec/00 6).
type DataEncryption struct {
	Enable  bool     `yaml:"enable_encrypt_fields"`
	Keyring []Secret `yaml:"keyring" list:"single"` // of 16 or 32 bytes each; the first encrypts, all decrypt
	Format  string   `yaml:"format"`                // "gcm" or "cbc"
}

// Limits are on by default (spec/00 13); 0 switches one off. The four timeouts may also be
// set by the reference's names under nginx_config.http.
type Limits struct {
	URI          int     `yaml:"uri_bytes" unit:"bytes"`
	Header       int     `yaml:"header_bytes" unit:"bytes"` // all header fields together
	HeaderFields int     `yaml:"header_fields"`
	AdminBody    int64   `yaml:"admin_body_bytes" unit:"bytes"`
	JSONDepth    int     `yaml:"json_depth"`
	AIBody       int64   `yaml:"ai_body_bytes" unit:"bytes"`
	HeaderTime   float64 `yaml:"header_timeout" unit:"seconds"` // for a whole head
	BodyTime     float64 `yaml:"body_timeout" unit:"seconds"`   // between two reads of a body
	IdleTime     float64 `yaml:"idle_timeout" unit:"seconds"`   // between two requests of a connection
	SendTime     float64 `yaml:"send_timeout" unit:"seconds"`   // that a write to a client may take
}

// Nginx is what of nginx_config has a meaning here; every other key under it is accepted.
type Nginx struct {
	// LogLevel is the lowest that is logged, by nginx's names: "debug" to "emerg".
	LogLevel string    `yaml:"error_log_level"`
	HTTP     NginxHTTP `yaml:"http"`
}

// NginxHTTP is the access log and the size of request bodies.
type NginxHTTP struct {
	EnableAccessLog bool   `yaml:"enable_access_log"`
	AccessLog       string `yaml:"access_log"`                        // a path; "/dev/stdout" for standard output
	Format          string `yaml:"access_log_format"`                 // empty: the format of spec/08 §5
	Escape          string `yaml:"access_log_format_escape"`          // "default" or "json"
	MaxBody         int64  `yaml:"client_max_body_size" unit:"bytes"` // 0: no limit
}

// Deployment is the control plane and the store.
type Deployment struct {
	Role    string `yaml:"role"`     // "traditional", "control_plane", "data_plane"
	DataDir string `yaml:"data_dir"` // a path, relative to the working directory

	LastGood LastGood `yaml:"last_good"`
	Admin    Admin    `yaml:"admin"`
	Etcd     Etcd     `yaml:"etcd"`
}

// LastGood is what a gateway does without etcd, and with one that lost its content.
type LastGood struct {
	Snapshots bool    `yaml:"snapshots"`           // whether the content is kept in <data_dir>/snapshots
	Wait      float64 `yaml:"wait" unit:"seconds"` // for etcd at the start, before the snapshot is served
	Guard     bool    `yaml:"guard"`               // whether an etcd that lost most of what is in force is held
}

// Admin is the Admin API.
type Admin struct {
	KeyRequired bool       `yaml:"admin_key_required"`
	Keys        []AdminKey `yaml:"admin_key"`
	KeyIn       []string   `yaml:"admin_key_in"` // of "header", "query", "cookie" (spec/00 5)
	CORS        bool       `yaml:"enable_admin_cors"`
	Allow       []string   `yaml:"allow_admin"` // networks that may connect; empty: all
	Listen      Address    `yaml:"admin_listen"`
	HTTPS       bool       `yaml:"https_admin"` // needs the certificate and key of MTLS
	MTLS        AdminTLS   `yaml:"admin_api_mtls"`
	Version     string     `yaml:"admin_api_version"` // "v3"
}

// AdminTLS is the certificate of the Admin API: PEM files.
type AdminTLS struct {
	Cert    string `yaml:"admin_ssl_cert"`
	CertKey string `yaml:"admin_ssl_cert_key"`
	CA      string `yaml:"admin_ssl_ca_cert"` // set: clients must show a certificate that it signed
}

// AdminKey opens the Admin API.
type AdminKey struct {
	Name string `yaml:"name"`
	Key  Secret `yaml:"key"`  // empty: generated by a process with an etcd of its own
	Role string `yaml:"role"` // "admin" or "viewer"
}

// Etcd is the configuration store. Without a host `gosix run` starts one of its own.
type Etcd struct {
	Host     []string `yaml:"host" list:"single"` // http:// or https:// each, all alike
	Prefix   string   `yaml:"prefix"`
	Timeout  float64  `yaml:"timeout" unit:"seconds"` // for a call, over all hosts
	User     string   `yaml:"user"`
	Password Secret   `yaml:"password"`
	TLS      EtcdTLS  `yaml:"tls"`
	Listen   string   `yaml:"listen"` // loopback host:port of the embedded one; empty: 127.0.0.1 and a free port
}

// EtcdTLS is how etcd is spoken to over TLS: PEM files.
type EtcdTLS struct {
	Cert   string `yaml:"cert"`
	Key    string `yaml:"key"`
	CA     string `yaml:"ca"` // empty: apisix.ssl.ssl_trusted_certificate
	Verify bool   `yaml:"verify"`
	SNI    string `yaml:"sni"` // empty: the host's name
}

// Secret is a text that does not show itself: whatever prints it prints stars.
type Secret string

const hidden = "***"

// String hides the secret.
func (s Secret) String() string { return hidden }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return hidden }

// Format hides the secret from every verb: fmt prints the text itself where a verb, such
// as %d, does not fit a string.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalJSON hides the secret from JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText hides the secret from text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Default returns the settings of an empty file. Every call returns a new value.
func Default() *Config {
	return &Config{
		Apisix: Apisix{
			NodeListen: Listens{{Port: 9080, HTTP2: true}},
			HTTP2:      true,
			SSL: SSL{
				Enable: true, Listen: SSLListens{{Port: sslPort, HTTP2: true}}, Protocols: "TLSv1.2 TLSv1.3",
				Ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" +
					"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
				Trusted: "system",
			},
			Engine:         "fast",
			Router:         Router{HTTP: "radixtree_host_uri"},
			ProxyMode:      "http",
			EnableControl:  true,
			Control:        Address{"127.0.0.1", 9090},
			ServerTokens:   true,
			UnknownPlugins: "fail",
			MaxPostArgs:    64,
			LameDuck:       5,
			DrainTimeout:   30,
			DataEncryption: DataEncryption{Enable: true, Keyring: []Secret{}, Format: "gcm"},
			Limits: Limits{
				URI: 8 << 10, Header: 32 << 10, HeaderFields: 100, AdminBody: 1536 << 10, JSONDepth: 64, AIBody: 64 << 20,
				HeaderTime: 60, BodyTime: 60, IdleTime: 60, SendTime: 60,
			},
		},
		Nginx:      Nginx{LogLevel: "info", HTTP: NginxHTTP{EnableAccessLog: true, AccessLog: "logs/access.log", Escape: "default"}},
		GraphQL:    GraphQL{MaxSize: 1 << 20},
		PluginAttr: map[string]json.RawMessage{},
		Deployment: Deployment{
			Role:     "traditional",
			DataDir:  "./data",
			LastGood: LastGood{Snapshots: true, Wait: 0.5, Guard: true},
			Admin: Admin{
				KeyRequired: true, Keys: []AdminKey{{Name: "admin", Role: "admin"}}, KeyIn: []string{"header"}, CORS: true,
				Allow: []string{"127.0.0.0/24"}, Listen: Address{"127.0.0.1", 9180}, Version: "v3",
			},
			Etcd: Etcd{
				Host: []string{}, Prefix: "/apisix", Timeout: 2, TLS: EtcdTLS{Verify: true},
			},
		},
	}
}

const sslPort = 9443

// Seconds turns a setting in seconds into a duration.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func joinHostPort(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

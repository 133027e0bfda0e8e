package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/schema"
)

// Node is one target of an upstream.
type Node struct {
	Host     string // name or address; IPv6 addresses are in brackets
	Port     int    // 0: the scheme's
	Weight   int    // ≥ 0
	Priority int    // higher is tried first
}

// KeepalivePool bounds the idle connections to an upstream.
type KeepalivePool struct {
	Size        int
	IdleTimeout float64 // seconds
	Requests    int     // per connection
}

// UpstreamTLS is how the gateway shows itself to an upstream.
type UpstreamTLS struct {
	ClientCert, ClientKey string // PEM or a reference
	ClientCertID          string // of an ssl of type client
	Verify                bool
}

// Upstream is a decoded upstream, inline or of its own, immutable (spec/05 §1).
type Upstream struct {
	ID string // empty if inline
	// Nodes are in the order of the list, or of the keys if they were written as an
	// object. They are nil under service discovery.
	Nodes         []Node
	Type          string // of the balancer
	HashOn        string
	Key           string
	Scheme        string
	Retries       *int     // nil: one less than there are nodes
	RetryTimeout  float64  // seconds; 0: no limit
	Timeout       *Timeout // nil: 60 s each
	PassHost      string   // pass, node or rewrite
	UpstreamHost  string
	KeepalivePool *KeepalivePool  // nil if absent
	TLS           *UpstreamTLS    // nil if absent
	Checks        json.RawMessage // with defaults filled in; nil if absent
	DiscoveryType string
	ServiceName   string
}

// DecodeUpstream checks and decodes a stored upstream.
func DecodeUpstream(itemID string, p []byte) (*Upstream, error) {
	d, err := load("upstreams", itemID, p)
	if err != nil {
		return nil, err
	}
	u, err := upstreamOf(d.members)
	if err != nil {
		return nil, err
	}
	u.ID = itemID
	return u, nil
}

func inlineUpstream(m map[string]any) (*Upstream, error) {
	inline, ok := m["upstream"]
	if !ok {
		return nil, nil
	}
	if known, ok := inline.(schema.Judged); ok {
		return known.Value.(*Upstream), nil
	}
	u, err := upstreamOf(object(inline))
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	u.ID = ""
	return u, nil
}

func upstreamOf(m map[string]any) (*Upstream, error) {
	u := &Upstream{
		Type: text(m["type"]), HashOn: text(m["hash_on"]), Key: text(m["key"]), Scheme: text(m["scheme"]),
		RetryTimeout: number(m["retry_timeout"]),
		Timeout:      decodeTimeout(m["timeout"]),
		PassHost:     text(m["pass_host"]), UpstreamHost: text(m["upstream_host"]),
		DiscoveryType: text(m["discovery_type"]), ServiceName: text(m["service_name"]),
	}
	var err error
	if u.Nodes, err = nodesOf(m["nodes"]); err != nil {
		return nil, err
	}
	if v, ok := m["retries"]; ok {
		n := integer(v)
		u.Retries = &n
	}
	if pool := object(m["keepalive_pool"]); len(pool) > 0 {
		u.KeepalivePool = &KeepalivePool{
			Size: integer(pool["size"]), IdleTimeout: number(pool["idle_timeout"]), Requests: integer(pool["requests"]),
		}
	}
	if tls := object(m["tls"]); len(tls) > 0 {
		verify, _ := tls["verify"].(bool)
		u.TLS = &UpstreamTLS{
			ClientCert: text(tls["client_cert"]), ClientKey: text(tls["client_key"]),
			ClientCertID: id(tls["client_cert_id"]), Verify: verify,
		}
	}
	if checks, ok := m["checks"]; ok {
		if u.Checks, err = json.Marshal(checks); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func nodesOf(v any) ([]Node, error) {
	switch v := v.(type) {
	case map[string]any:
		nodes := make([]Node, 0, len(v))
		for _, key := range sortedKeys(v) {
			host, port, err := splitNode(key)
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, Node{Host: host, Port: port, Weight: integer(v[key])})
		}
		return nodes, nil
	case []any:
		nodes := make([]Node, len(v))
		for i, item := range v {
			m := object(item)
			nodes[i] = Node{
				Host: text(m["host"]), Port: integer(m["port"]),
				Weight: integer(m["weight"]), Priority: integer(m["priority"]),
			}
			// A port that stands in the host counts before the other, as nginx reads it. What
			// is no port stays: no connection can be made.
			if host, port, err := splitNode(nodes[i].Host); err == nil && port != 0 {
				nodes[i].Host, nodes[i].Port = host, port
			}
		}
		return nodes, nil
	}
	return nil, nil
}

// splitNode reads the key of a node: host, host:port, [v6], [v6]:port (spec/05 §2).
func splitNode(key string) (host string, port int, err error) {
	if isIPv6(key) {
		return "[" + key + "]", 0, nil
	}
	i := strings.LastIndexByte(key, ':')
	if i < 0 || strings.HasSuffix(key, "]") {
		return key, 0, nil
	}
	port, err = strconv.Atoi(key[i+1:])
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("invalid port %s", key[i+1:])
	}
	return key[:i], port, nil
}

func isIPv6(host string) bool {
	if strings.Count(host, ":") < 2 { // as most are; the error of the parser costs more
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Is6()
}

// bracketHosts puts brackets around bare IPv6 hosts of listed nodes, as a node does with
// what it reads (spec/02 §2); the Admin API refuses to write them.
func bracketHosts(m map[string]any) {
	for _, u := range []map[string]any{m, object(m["upstream"])} {
		for _, item := range list(u["nodes"]) {
			if node := object(item); isIPv6(text(node["host"])) {
				node["host"] = "[" + text(node["host"]) + "]"
			}
		}
	}
}

func checkInlineUpstream(m map[string]any) error {
	u, ok := m["upstream"]
	if _, known := u.(schema.Judged); !ok || known {
		return nil
	}
	return checkUpstream(u)
}

func checkUpstream(doc any) error {
	m := object(doc)
	for _, item := range list(m["nodes"]) {
		if isIPv6(text(object(item)["host"])) {
			return errors.New("invalid configuration: IPv6 address must be enclosed with '[' and ']'")
		}
	}
	for key := range object(m["nodes"]) {
		if _, _, err := splitNode(key); err != nil {
			_, err = nodesOf(m["nodes"]) // of several faults always the same
			return err
		}
	}
	if tls := object(m["tls"]); text(tls["client_cert"]) != "" {
		if err := checkPair(text(tls["client_cert"]), text(tls["client_key"])); err != nil {
			return err
		}
	}
	if text(m["pass_host"]) == "rewrite" && text(m["upstream_host"]) == "" {
		return errors.New("`upstream_host` can't be empty when `pass_host` is `rewrite`")
	}
	return checkHashKey(m)
}

// checkHashKey holds the key of chash to what hash_on allows.
func checkHashKey(m map[string]any) error {
	hashOn := text(m["hash_on"])
	if text(m["type"]) != "chash" || hashOn == "consumer" {
		return nil
	}
	key, ok := m["key"]
	if !ok {
		return errors.New("missing key")
	}
	var rule *schema.Schema
	switch hashOn {
	case "vars":
		rule = schemas()["upstream_hash_vars_schema"]
	case "header", "cookie":
		rule = schemas()["upstream_hash_header_schema"]
	default: // a combination of variables is any text
		return nil
	}
	if err := rule.Check(key); err != nil {
		return fmt.Errorf("invalid configuration: %w", err)
	}
	return nil
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Notice is something that a person should know of a file that was accepted.
type Notice string

// Load reads the settings at path, or only the defaults when path is empty. env looks
// environment variables up. An error names the file, the line and the key.
func Load(path string, env func(string) (string, bool)) (*Config, []Notice, error) {
	if path == "" {
		return Decode("defaults", nil, env)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	return Decode(path, text, env)
}

// Decode is Load of a text; name stands in errors.
func Decode(name string, text []byte, env func(string) (string, bool)) (*Config, []Notice, error) {
	l := &loader{name: name, env: env}
	c := Default()
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Content) > 0 {
		root := doc.Content[0]
		if err := l.substitute(root); err != nil {
			return nil, nil, err
		}
		if root.Kind != yaml.MappingNode && root.Tag != "!!null" {
			return nil, nil, fmt.Errorf("%s:%d: settings must be an object", name, root.Line)
		}
		if err := l.check(root, reflect.TypeOf(*c), ""); err != nil {
			return nil, nil, err
		}
		if err := root.Decode(c); err != nil {
			return nil, nil, fmt.Errorf("%s: %s", name, plainError(err))
		}
	}
	if raw, set := env("APISIX_DEPLOYMENT_ETCD_HOST"); set {
		var hosts []string
		if err := json.Unmarshal([]byte(raw), &hosts); err != nil {
			l.note("APISIX_DEPLOYMENT_ETCD_HOST is ignored, it is no JSON array of strings: %v", err)
		} else {
			c.Deployment.Etcd.Host = hosts
		}
	}
	if err := c.validate(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	l.warn(c)
	return c, l.notices, nil
}

type loader struct {
	name    string
	env     func(string) (string, bool)
	notices []Notice
}

func (l *loader) note(format string, args ...any) {
	l.notices = append(l.notices, Notice(fmt.Sprintf(format, args...)))
}

var variable = regexp.MustCompile(`\$\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?::=(.*?))?\s*\}\}`)

// substitute fills ${{NAME}} and ${{NAME:=default}} into keys and values. A value that is
// then a number or boolean is one.
func (l *loader) substitute(n *yaml.Node) error {
	for _, child := range n.Content {
		if err := l.substitute(child); err != nil {
			return err
		}
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${{") {
		return nil
	}
	var missing string
	n.Value = variable.ReplaceAllStringFunc(n.Value, func(m string) string {
		parts := variable.FindStringSubmatch(m)
		if v, set := l.env(parts[1]); set {
			return v
		}
		if !strings.Contains(m, ":=") {
			missing = parts[1]
		}
		return parts[2]
	})
	if missing != "" {
		return fmt.Errorf("%s:%d: failed to handle configuration: can't find environment variable %s", l.name, n.Line, missing)
	}
	n.Tag, n.Style = "", 0
	if _, err := strconv.ParseFloat(n.Value, 64); err != nil && n.Value != "true" && n.Value != "false" {
		n.Tag = "!!str"
	}
	return nil
}

// check refuses keys that do not exist and values of another shape.
func (l *loader) check(n *yaml.Node, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Tag == "!!null" {
		return nil
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.Unmarshaler]()) {
		return nil // its own errors say more
	}
	switch t.Kind() {
	case reflect.Struct:
		if t == reflect.TypeFor[yaml.Node]() {
			return nil
		}
		return l.checkStruct(n, t, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return l.conflict(n, path, "array")
		}
		for i, item := range n.Content {
			if err := l.check(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			return l.conflict(n, path, "object")
		}
	case reflect.Bool:
		if n.Tag != "!!bool" && n.ShortTag() != "!!bool" {
			return l.conflict(n, path, "boolean")
		}
	case reflect.Int, reflect.Int64:
		if n.ShortTag() != "!!int" {
			return l.conflict(n, path, "integer")
		}
	case reflect.Float64:
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" {
			return l.conflict(n, path, "number")
		}
	case reflect.String:
		if n.Kind != yaml.ScalarNode {
			return l.conflict(n, path, "string")
		}
	}
	return nil
}

func (l *loader) checkStruct(n *yaml.Node, t reflect.Type, path string) error {
	if n.Kind != yaml.MappingNode {
		return l.conflict(n, path, "object")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		if f, ok := fieldOf(t, key.Value); ok {
			if err := l.check(value, f.Type, full); err != nil {
				return err
			}
			continue
		}
		switch {
		case strings.HasPrefix(full, "nginx_config."):
			l.note("%s:%d: %s has no meaning here and is ignored", l.name, key.Line, full)
		case slices.Contains(ignored, full) || slices.Contains(ignored, strings.SplitN(full, ".", 2)[0]):
			l.note("%s:%d: %s has no meaning here and is ignored", l.name, key.Line, full)
		default:
			return fmt.Errorf("%s:%d: %s: unknown key%s", l.name, key.Line, full, suggestion(key.Value, t))
		}
	}
	return nil
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func (l *loader) conflict(n *yaml.Node, path, expected string) error {
	return fmt.Errorf("%s:%d: failed to merge, path[%s] expect: %s, but got: %s", l.name, n.Line,
		strings.ReplaceAll(path, ".", "->"), expected, shape(n))
}

func shape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "object"
	case yaml.SequenceNode:
		return "array"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	}
	return "string"
}

// ignored are keys of the reference that mean nothing here. A name without a dot covers
// everything below it.
var ignored = []string{
	"discovery", "ext-plugin", "wasm", "xrpc", "graphql", "stream_plugins", "etcd",
	"apisix.ssl", "apisix.enable_admin", "apisix.enable_ipv6", "apisix.enable_http2", "apisix.enable_reuseport",
	"apisix.enable_dev_mode", "apisix.enable_debug", "apisix.enable_heartbeat", "apisix.enable_resolv_search_opt",
	"apisix.dns_resolver", "apisix.dns_resolver_valid", "apisix.resolver_timeout", "apisix.disable_sync_configuration_during_start",
	"apisix.worker_startup_time_threshold", "apisix.disable_upstream_healthcheck", "apisix.lru", "apisix.tracing", "apisix.events",
	"apisix.proxy_cache", "apisix.proxy_protocol", "apisix.stream_proxy", "apisix.extra_lua_path", "apisix.extra_lua_cpath",
	"apisix.lua_module_hook", "apisix.id", "apisix.router.ssl",
	"deployment.config_provider", "deployment.role_traditional", "deployment.role_data_plane", "deployment.role_control_plane",
	"deployment.certs",
	"deployment.admin.enable_admin_ui", "deployment.admin.https_admin", "deployment.admin.admin_api_mtls",
	"deployment.etcd.watch_timeout", "deployment.etcd.startup_retry", "deployment.etcd.resync_delay",
	"deployment.etcd.health_check_timeout", "deployment.etcd.health_check_retry", "deployment.etcd.use_grpc",
}

// suggestion names the key that was probably meant.
func suggestion(key string, t reflect.Type) string {
	best, distance := "", 4
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		if d := levenshtein(key, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func plainError(err error) string {
	var t *yaml.TypeError
	if errors.As(err, &t) {
		return strings.Join(t.Errors, "; ")
	}
	return err.Error()
}

// UnmarshalYAML reads one port, or a list of ports and addresses.
func (l *Listens) UnmarshalYAML(n *yaml.Node) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	*l = (*l)[:0]
	for _, item := range items {
		var one Listen
		switch item.Kind {
		case yaml.MappingNode:
			for i := 0; i < len(item.Content); i += 2 {
				key := item.Content[i].Value
				if _, ok := fieldOf(reflect.TypeFor[Listen](), key); !ok {
					return fmt.Errorf("line %d: apisix.node_listen: unknown key %q", item.Content[i].Line, key)
				}
			}
			if err := item.Decode(&one); err != nil {
				return err
			}
		default:
			if err := item.Decode(&one.Port); err != nil {
				return fmt.Errorf("line %d: apisix.node_listen: %q is no port", item.Line, item.Value)
			}
		}
		*l = append(*l, one)
	}
	return nil
}

// UnmarshalYAML reads one address or a list of them.
func (h *Hosts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*h = Hosts{n.Value}
		return nil
	}
	var list []string
	if err := n.Decode(&list); err != nil {
		return fmt.Errorf("line %d: deployment.etcd.host: must be an address or a list of addresses", n.Line)
	}
	*h = list
	return nil
}

func joinHostPort(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

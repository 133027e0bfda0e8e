package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ignored are keys of the reference that mean nothing here, with the reason. Everything
// below one is accepted with it. Those of the elements of a list have [].
var ignored = map[string]string{
	"discovery":                                      "service discovery is not built",
	"ext-plugin":                                     "external plugin runners are not built",
	"wasm":                                           "Wasm plugins are not built",
	"xrpc":                                           "xRPC is not built",
	"apisix.ssl.ssl_cert":                            "certificates are stored",
	"apisix.ssl.ssl_cert_key":                        "certificates are stored",
	"apisix.ssl.key_encrypt_salt":                    "apisix.data_encryption.keyring does",
	"apisix.ssl.listen[].enable_http3":               "HTTP/3 is not built",
	"apisix.ssl.listen[].enable_quic":                "HTTP/3 is not built",
	"apisix.ssl.listen_port":                         "apisix.ssl.listen does",
	"apisix.ssl.enable_http2":                        "apisix.enable_http2 does",
	"apisix.stream_proxy":                            "stream listeners are not built",
	"apisix.proxy_protocol":                          "the PROXY protocol is not built",
	"apisix.proxy_cache":                             "the proxy cache is not built",
	"apisix.enable_ipv6":                             "IPv4 and IPv6 are both used",
	"apisix.enable_reuseport":                        "one process accepts all connections",
	"apisix.enable_dev_mode":                         "there are no worker processes",
	"apisix.enable_debug":                            "there is no debug mode",
	"apisix.enable_heartbeat":                        "nothing is sent anywhere",
	"apisix.enable_resolv_search_opt":                "names are resolved by the system",
	"apisix.dns_resolver":                            "names are resolved by the system",
	"apisix.dns_resolver_valid":                      "names are resolved by the system",
	"apisix.resolver_timeout":                        "names are resolved by the system",
	"apisix.extra_lua_path":                          "there is no Lua",
	"apisix.extra_lua_cpath":                         "there is no Lua",
	"apisix.lua_module_hook":                         "there is no Lua",
	"apisix.events":                                  "there are no worker processes",
	"apisix.worker_startup_time_threshold":           "there are no worker processes",
	"apisix.disable_sync_configuration_during_start": "the proxy port opens after the first full state",
	"apisix.lru":                                     "caches size themselves",
	"apisix.tracing":                                 "tracing is not built",
	"deployment.certs":                               "only deployment.etcd.tls is used",
	"deployment.admin.enable_admin_ui":               "the dashboard is not built",
	"deployment.etcd.watch_timeout":                  "a watch that is silent for three seconds is opened again",
	"deployment.etcd.startup_retry":                  "a node tries until etcd answers",
	"deployment.etcd.resync_delay":                   "what failed is tried again at once, then with growing pauses",
	"deployment.etcd.health_check_timeout":           "a call asks the next host when one is slow or fails",
	"deployment.etcd.health_check_retry":             "a call asks the next host when one is slow or fails",
	"deployment.etcd.use_grpc":                       "etcd is always spoken to over gRPC",
}

// fixed are settings of the reference that have one value here: that one is accepted,
// another would not be obeyed and is refused with the reason.
var fixed = map[string]struct{ value, why string }{
	"apisix.enable_admin":                           {"true", "deployment.role data_plane runs without the Admin API"},
	"apisix.router.ssl":                             {"radixtree_sni", "there is no other"},
	"deployment.config_provider":                    {"etcd", "configuration comes from etcd alone"},
	"deployment.role_traditional.config_provider":   {"etcd", "configuration comes from etcd alone"},
	"deployment.role_control_plane.config_provider": {"etcd", "configuration comes from etcd alone"},
	"deployment.role_data_plane.config_provider":    {"etcd", "configuration comes from etcd alone"},
}

// otherNames are the reference's names of settings that have a name of their own here.
var otherNames = map[string]struct {
	own   string
	field func(*Config) *float64 // in seconds
}{
	"nginx_config.http.client_header_timeout": {"apisix.limits.header_timeout", func(c *Config) *float64 { return &c.Apisix.Limits.HeaderTime }},
	"nginx_config.http.client_body_timeout":   {"apisix.limits.body_timeout", func(c *Config) *float64 { return &c.Apisix.Limits.BodyTime }},
	"nginx_config.http.keepalive_timeout":     {"apisix.limits.idle_timeout", func(c *Config) *float64 { return &c.Apisix.Limits.IdleTime }},
	"nginx_config.http.send_timeout":          {"apisix.limits.send_timeout", func(c *Config) *float64 { return &c.Apisix.Limits.SendTime }},
}

// otherUse is a setting that the file calls by the reference's name.
type otherUse struct {
	key   string
	value float64
}

// otherName reads a key that is the other name of a setting, and tells if it is one.
func (l *loader) otherName(full string, p pair) bool {
	if _, ok := otherNames[full]; !ok {
		return false
	}
	value := target(p.value)
	l.at[full] = p.key.Line
	if value.ShortTag() == "!!null" {
		return true
	}
	if seconds, ok := l.seconds(value, full); ok {
		l.other = append(l.other, otherUse{full, seconds})
	}
	return true
}

// otherNames puts what was said by other names into its place.
func (l *loader) otherNames(c *Config) {
	for _, use := range l.other {
		o := otherNames[use.key]
		field := o.field(c)
		if _, both := l.at[o.own]; both && *field != use.value {
			l.fail(l.at[use.key], "%s: %v seconds, and %s says %v; they are one setting", use.key, use.value, o.own, *field)
			continue
		}
		*field = use.value
	}
}

// noField deals with a key that t, the struct at path, has no field for.
func (l *loader) noField(p pair, t reflect.Type, full, path string) {
	l.at[full] = p.key.Line
	value := target(p.value)
	if f, ok := fixed[full]; ok {
		switch {
		case value.ShortTag() == "!!null" || value.Kind == yaml.ScalarNode && value.Value == f.value:
		case value.Kind == yaml.ScalarNode:
			l.fail(p.key.Line, "%s: %q is not supported, only %q is: %s", full, value.Value, f.value, f.why)
		default:
			l.fail(p.key.Line, "%s: only %q is supported: %s", full, f.value, f.why)
		}
		return
	}
	if within(full) {
		if value.Kind != yaml.MappingNode {
			if value.ShortTag() != "!!null" {
				l.conflict(value, full, "object")
			}
			return
		}
		for _, child := range l.pairs(value, 0) {
			l.noField(child, reflect.TypeFor[struct{}](), join(full, child.key.Value), full)
		}
		return
	}
	why, ok := ignored[element.ReplaceAllString(full, "[]")]
	if !ok && strings.HasPrefix(full, "nginx_config.") {
		why, ok = "there is no nginx", true
	}
	switch {
	case !ok:
		l.fail(p.key.Line, "%s: unknown key%s", full, suggestion(p.key.Value, t, path))
	case value.ShortTag() != "!!null":
		l.noteKey(full, "is ignored, %s", why)
	}
}

var element = regexp.MustCompile(`\[[0-9]+\]`)

// within tells whether path is an object that only holds fixed settings.
func within(path string) bool {
	for key := range fixed {
		if strings.HasPrefix(key, path+".") {
			return true
		}
	}
	return false
}

// suggestion names the key that was probably meant: a similar one in the same place, or
// else the same one elsewhere.
func suggestion(key string, t reflect.Type, path string) string {
	var near []string
	for i := range t.NumField() {
		near = append(near, t.Field(i).Tag.Get("yaml"))
	}
	for _, table := range [][]string{slices.Sorted(maps.Keys(ignored)), slices.Sorted(maps.Keys(fixed)), slices.Sorted(maps.Keys(otherNames))} {
		for _, full := range table {
			below, ok := strings.CutPrefix(full, join(element.ReplaceAllString(path, "[]"), ""))
			if path == "" {
				below, ok = full, true
			}
			if ok {
				name, _, _ := strings.Cut(below, ".")
				near = append(near, name)
			}
		}
	}
	best, distance := "", len(key)/2+1
	for _, name := range near {
		if d := levenshtein(key, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		for _, full := range paths(reflect.TypeFor[Config](), "") {
			if full == key || strings.HasSuffix(full, "."+key) {
				best = full
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// paths lists every key below a struct, the outer before the inner. An element of a list is
// written as [].
func paths(t reflect.Type, path string) []string {
	var all, inner []string
	for i := range t.NumField() {
		f := t.Field(i)
		full, ft := join(path, f.Tag.Get("yaml")), f.Type
		all = append(all, full)
		switch {
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			full, ft = full+"[]", ft.Elem()
		case ft.Kind() == reflect.Pointer:
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			inner = append(inner, paths(ft, full)...)
		}
	}
	return append(all, inner...)
}

// levenshtein counts the bytes to insert, delete or replace between two keys.
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

package stage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gosix/gosix/t/blocktest"
)

// Where things are. Ports are the suites' own and never rewritten: ids of hash rings and
// texts of logs hang on them. The gateway keeps its port on another address of loopback, so
// that the runner can answer for the locations that a suite declares.
const (
	frontHost   = "127.0.0.1"
	gatewayHost = "127.0.0.2"
	// gatewayHost6 is for clients of IPv6, in a network of the runner's own.
	gatewayHost6 = "fd00::1984"
	frontPort    = 1984
	securePort   = 1994 // with TLS
	adminAddr    = "127.0.0.1:9180"
	controlAddr  = "127.0.0.1:9090"
	etcdAddr     = "127.0.0.1:2379"

	firstUpstream = 18001 // of those that a suite scripts
)

// A tree is a YAML object.
type tree = map[string]any

// settings turns a block's config.yaml, written for the reference, into gosix's: what it
// says, and beside it what the suites take for granted. ipv6 has the gateway listen there,
// too.
func settings(p *blocktest.Prepared, dir string, ipv6 bool) (string, error) {
	text, given := p.Get("yaml_config")
	for _, file := range []string{"apisix_yaml", "apisix_json"} {
		if _, ok := p.Get(file); ok && !given {
			return "", unsupported(file + ": gosix reads its configuration from etcd alone")
		}
	}
	if extra, ok := p.Get("extra_yaml_config"); ok {
		text = strings.TrimRight(text, "\n") + "\n" + extra
	}
	var root tree
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return "", unsupported("yaml_config: " + err.Error())
	}
	if root == nil {
		root = tree{}
	}
	_, deployed := root["deployment"]
	if !given {
		suppose(root)
	}
	if err := fromEtcd(root); err != nil {
		return "", err
	}
	if err := place(root, dir, ipv6); err != nil {
		return "", err
	}
	keys(object(object(root, "deployment"), "admin"), deployed)
	out, err := yaml.Marshal(root)
	return string(out), err
}

// suppose is what a block without a yaml_config of its own runs with.
func suppose(root tree) {
	apisix := object(root, "apisix")
	set(apisix, "proxy_mode", "http&stream")
	set(apisix, "trusted_addresses", []any{"127.0.0.1"})
}

// fromEtcd refuses what does not keep its configuration in etcd.
func fromEtcd(root tree) error {
	d := object(root, "deployment")
	for _, role := range []string{"role_traditional", "role_data_plane", "role_control_plane"} {
		if provider, ok := object(d, role)["config_provider"]; ok && provider != "etcd" {
			return unsupported(fmt.Sprintf("config_provider: %v: gosix reads its configuration from etcd alone", provider))
		}
	}
	return nil
}

// serverHeader is the reference's name, with its version unless the block hides it.
func serverHeader(apisix tree) string {
	if apisix["enable_server_tokens"] == false {
		return "APISIX"
	}
	return "APISIX/3.18.0"
}

// place puts the parts where the runner looks for them, and adds what the suites assume:
// keys in any place, the reference's name, its keyring and its leniency.
func place(root tree, dir string, ipv6 bool) error {
	apisix, deployment := object(root, "apisix"), object(root, "deployment")
	listen, err := listens(apisix["node_listen"])
	if err != nil {
		return err
	}
	if ipv6 {
		listen = append(listen, tree{"ip": gatewayHost6, "port": frontPort})
	}
	apisix["node_listen"] = listen
	ssl := object(apisix, "ssl")
	ssl["listen"] = []any{tree{"ip": gatewayHost, "port": securePort}}
	ssl["ssl_protocols"] = "TLSv1.1 TLSv1.2 TLSv1.3"
	delete(ssl, "ssl_trusted_certificate") // see trusts
	apisix["control"] = address(controlAddr)
	apisix["status"] = address("127.0.0.1:7085")
	delete(apisix, "enable_admin")
	// Suites still say what the reference itself has not read since its version 3.
	delete(apisix, "admin_key")
	delete(apisix, "admin_api_version")
	set(apisix, "server_header", serverHeader(apisix))
	set(apisix, "unknown_plugins", "skip")
	// One may be named for all suites.
	if engine := os.Getenv("GOSIX_ENGINE"); engine != "" {
		set(apisix, "http_engine", engine)
	}
	encryption := object(apisix, "data_encryption")
	delete(encryption, "enable")
	set(encryption, "keyring", []any{"qeddd145sfvddff3", "edd1c9f0985e76a2"})
	set(encryption, "format", "cbc")

	deployment["data_dir"] = dir
	etcd := object(deployment, "etcd")
	etcd["host"] = []any{"http://" + etcdAddr}
	set(etcd, "timeout", 10) // of a machine that has other work, too
	admin := object(deployment, "admin")
	admin["admin_listen"] = address(adminAddr)
	set(admin, "allow_admin", []any{})
	set(admin, "admin_key_in", []any{"header", "query", "cookie"})

	nginx := object(root, "nginx_config")
	nginx["error_log_level"] = "debug" // whatever a block looks for is there
	http := object(nginx, "http")
	http["access_log"] = dir + "/access.log"
	set(http, "access_log_format", accessLogFormat)
	return nil
}

// accessLogFormat is that of the reference's test server: the fields of its release, then what
// is known of a model's answer. Suites match whole lines.
const accessLogFormat = `$remote_addr - $remote_user [$time_local] $http_host "$request_line" $status $body_bytes_sent $request_time ` +
	`"$http_referer" "$http_user_agent" $upstream_addr $upstream_status $apisix_upstream_response_time ` +
	`"$upstream_scheme://$upstream_host$upstream_uri" $request_llm_model $llm_model $llm_time_to_first_token ` +
	`$llm_prompt_tokens $llm_completion_tokens $llm_total_tokens $llm_stream $llm_has_tool_calls $llm_tool_count ` +
	`$llm_end_user_id $llm_cache_read_input_tokens $llm_cache_creation_input_tokens $llm_reasoning_tokens ` +
	`"$rate_limiting_info" unresolved_host=$upstream_unresolved_host`

// keys says who may call the Admin API: everybody where the block does not say how it is
// deployed or its list is null; nobody, as with the reference's default of an empty key,
// where it says so and has no list.
func keys(admin tree, deployed bool) {
	if list, ok := admin["admin_key"]; !deployed || ok && list == nil {
		delete(admin, "admin_key")
		admin["admin_key_required"] = false
	}
	set(admin, "admin_key", []any{tree{"name": "admin", "key": unknownKey, "role": "admin"}})
}

// unknownKey is the key of a block that configures none: no suite knows it.
const unknownKey = "a-key-that-no-suite-knows-0000001"

// listens moves node_listen, in any of its forms, to the gateway's address.
func listens(v any) ([]any, error) {
	switch v := v.(type) {
	case nil:
		return []any{tree{"ip": gatewayHost, "port": frontPort}}, nil
	case []any:
		var all []any
		for _, one := range v {
			l, err := listens(one)
			if err != nil {
				return nil, err
			}
			all = append(all, l...)
		}
		return all, nil
	case int:
		return []any{tree{"ip": gatewayHost, "port": v}}, nil
	case string:
		if port, err := strconv.Atoi(v); err == nil {
			return listens(port)
		}
	case tree:
		v["ip"] = gatewayHost
		return []any{v}, nil
	}
	return nil, unsupported(fmt.Sprintf("apisix.node_listen: %v", v))
}

// object returns a member that is an object, made if it is missing.
func object(parent tree, name string) tree {
	if o, ok := parent[name].(tree); ok {
		return o
	}
	o := tree{}
	parent[name] = o
	return o
}

// set gives a member a value unless it has one.
func set(o tree, name string, value any) {
	if _, ok := o[name]; !ok {
		o[name] = value
	}
}

func address(addr string) tree {
	host, port, _ := strings.Cut(addr, ":")
	n, _ := strconv.Atoi(port)
	return tree{"ip": host, "port": n}
}

func unsupported(why string) error {
	return &blocktest.StageError{Verdict: blocktest.Unsupported, Why: why}
}

// trusts is the file of authorities that a gateway of the suites trusts: the certificate of
// their own servers, unless a block names another.
func (s *Stage) trusts(p *blocktest.Prepared) string {
	name, ok := p.Get("custom_trusted_cert")
	switch name = strings.TrimSpace(name); {
	case !ok && s.o.Home == "":
		return ""
	case !ok:
		name = "cert/apisix.crt"
	}
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, "conf", name)
}

package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// validate refuses values that no program could work with.
func (c *Config) validate() error {
	oneOf := func(key, value string, allowed ...string) error {
		if slices.Contains(allowed, value) {
			return nil
		}
		return fmt.Errorf("%s: %q is not one of %s", key, value, strings.Join(allowed, ", "))
	}
	a, d := &c.Apisix, &c.Deployment
	errs := []error{
		oneOf("apisix.router.http", a.Router.HTTP, "radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"),
		oneOf("apisix.proxy_mode", a.ProxyMode, "http", "stream", "http&stream"),
		oneOf("apisix.unknown_plugins", a.UnknownPlugins, "fail", "skip"),
		oneOf("apisix.data_encryption.format", a.DataEncryption.Format, "gcm", "cbc"),
		oneOf("nginx_config.http.access_log_format_escape", c.Nginx.HTTP.Escape, "default", "json"),
		oneOf("deployment.role", d.Role, "traditional", "control_plane", "data_plane"),
		oneOf("deployment.admin.admin_api_version", d.Admin.Version, "v3"),
	}
	for i, l := range a.NodeListen {
		errs = append(errs, port(fmt.Sprintf("apisix.node_listen[%d]", i), l.Port), ip(fmt.Sprintf("apisix.node_listen[%d].ip", i), l.IP))
	}
	if len(a.NodeListen) == 0 {
		errs = append(errs, fmt.Errorf("apisix.node_listen: names no address"))
	}
	errs = append(errs, port("apisix.control.port", a.Control.Port), port("deployment.admin.admin_listen.port", d.Admin.Listen.Port),
		ip("apisix.control.ip", a.Control.IP), ip("deployment.admin.admin_listen.ip", d.Admin.Listen.IP))
	if a.Status != nil {
		errs = append(errs, port("apisix.status.port", a.Status.Port), ip("apisix.status.ip", a.Status.IP))
	}
	for i, k := range a.DataEncryption.Keyring {
		if len(k) != 16 && len(k) != 32 {
			errs = append(errs, fmt.Errorf("apisix.data_encryption.keyring[%d]: %d bytes, must be 16 or 32", i, len(k)))
		}
	}
	for i, k := range d.Admin.Keys {
		key := fmt.Sprintf("deployment.admin.admin_key[%d]", i)
		errs = append(errs, oneOf(key+".role", k.Role, "admin", "viewer"))
		if k.Key == "" && k.Role == "viewer" {
			errs = append(errs, fmt.Errorf("%s.key: is empty", key))
		}
	}
	for _, place := range d.Admin.KeyIn {
		errs = append(errs, oneOf("deployment.admin.admin_key_in", place, "header", "query", "cookie"))
	}
	_, err := Prefixes("deployment.admin.allow_admin", d.Admin.Allow)
	errs = append(errs, err)
	_, err = Prefixes("apisix.trusted_addresses", a.Trusted)
	errs = append(errs, err)
	for key, v := range map[string]float64{
		"apisix.drain_timeout": a.DrainTimeout, "deployment.etcd.timeout": d.Etcd.Timeout, "apisix.limits.header_timeout": a.Limits.HeaderTime,
		"apisix.limits.body_timeout": a.Limits.BodyTime, "apisix.limits.idle_timeout": a.Limits.IdleTime, "apisix.limits.send_timeout": a.Limits.SendTime,
		"apisix.limits.uri_bytes": float64(a.Limits.URI), "apisix.limits.header_bytes": float64(a.Limits.Header),
		"apisix.limits.header_fields": float64(a.Limits.HeaderFields), "apisix.limits.admin_body_bytes": float64(a.Limits.AdminBody),
		"apisix.limits.json_depth": float64(a.Limits.JSONDepth), "apisix.limits.ai_body_bytes": float64(a.Limits.AIBody),
		"apisix.max_post_args_readable_size": float64(a.MaxPostArgs), "nginx_config.http.client_max_body_size": float64(c.Nginx.HTTP.MaxBody),
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is below 0", key, v))
		}
	}
	if !strings.HasPrefix(d.Etcd.Prefix, "/") || strings.HasSuffix(d.Etcd.Prefix, "/") {
		errs = append(errs, fmt.Errorf("deployment.etcd.prefix: %q must begin with a slash and not end with one", d.Etcd.Prefix))
	}
	for i, h := range d.Etcd.Host {
		if !strings.HasPrefix(h, "http://") && !strings.HasPrefix(h, "https://") {
			errs = append(errs, fmt.Errorf("deployment.etcd.host[%d]: %q must begin with http:// or https://", i, h))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func port(key string, n int) error {
	if n < 0 || n > 65535 {
		return fmt.Errorf("%s: %d is no port (0 to 65535)", key, n)
	}
	return nil
}

func ip(key, s string) error {
	if s == "" || net.ParseIP(strings.Trim(s, "[]")) != nil || s == "localhost" {
		return nil
	}
	return fmt.Errorf("%s: %q is no IP address", key, s)
}

// Prefixes parses addresses and networks; key stands in the error.
func Prefixes(key string, list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fmt.Errorf("%s[%d]: %q is neither an address nor a network", key, i, s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

// shortKey is the length below which a key can be guessed.
const shortKey = 16

// warn notes what works and is unwise.
func (l *loader) warn(c *Config) {
	admin := c.Deployment.Admin
	if a, err := netip.ParseAddr(admin.Listen.IP); admin.Listen.IP != "localhost" && (err != nil || !a.IsLoopback()) {
		l.note("deployment.admin.admin_listen: the Admin API listens on %s without TLS", admin.Listen)
	}
	if !admin.KeyRequired {
		l.note("deployment.admin.admin_key_required: the Admin API asks for no key")
	}
	for i, k := range admin.Keys {
		if k.Key != "" && len(k.Key) < shortKey {
			l.note("deployment.admin.admin_key[%d].key: is shorter than %d characters", i, shortKey)
		}
	}
	if len(c.Deployment.Etcd.Host) > 0 && c.Apisix.DataEncryption.Enable && len(c.Apisix.DataEncryption.Keyring) == 0 {
		l.note("apisix.data_encryption.keyring: is empty, secrets are stored as they are")
	}
}

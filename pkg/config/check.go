package config

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/tlsname"
)

// Program is one of the three programs that share the settings.
type Program string

// The programs. ProgramGosix is the one with an etcd of its own.
const (
	ProgramGosix   Program = "gosix"
	ProgramAdmin   Program = "admin"
	ProgramGateway Program = "gateway"
)

// issue is something wrong with the setting at path.
type issue struct{ path, text string }

type issues []issue

func (is *issues) add(path, format string, args ...any) {
	*is = append(*is, issue{path, fmt.Sprintf(format, args...)})
}

// Runs says which parts program p has under deployment.role.
func (c *Config) Runs(p Program) (gateway, admin bool) {
	role := c.Deployment.Role
	return p != ProgramAdmin && role != "control_plane", p != ProgramGateway && role != "data_plane"
}

// Validate says whether program p can work with the settings: Load's checks once more, for
// a caller that changed some, and those that depend on the program. Its error has one line
// for each mistake.
func (c *Config) Validate(p Program) error {
	is := c.check()
	d := &c.Deployment
	runsGateway, runsAdmin := c.Runs(p)
	if !runsAdmin && !runsGateway {
		is.add("deployment.role", "%q is not what %s does", d.Role, p)
	}
	external := len(d.Etcd.Host) > 0
	switch {
	case external:
	case p != ProgramGosix:
		is.add("deployment.etcd.host", "is required, %s has no etcd of its own", p)
	case d.Role == "data_plane":
		is.add("deployment.etcd.host", "is required, a data_plane reads what others write")
	case d.Role == "control_plane" && d.Etcd.Listen == "":
		is.add("deployment.etcd.host", "is required, or deployment.etcd.listen: a control_plane writes what others read")
	}
	if runsAdmin && external && d.Admin.KeyRequired {
		if len(d.Admin.Keys) == 0 {
			is.add("deployment.admin.admin_key", "missing valid Admin API token")
		}
		for i, k := range d.Admin.Keys {
			if k.Key == "" {
				is.add(fmt.Sprintf("deployment.admin.admin_key[%d].key", i), "is empty; with an external etcd it must be configured")
			}
		}
	}
	c.checkClash(&is, runsAdmin, runsGateway)
	errs := make([]error, len(is))
	for i, one := range is {
		errs[i] = fmt.Errorf("%s: %s", one.path, one.text)
	}
	return errors.Join(errs...)
}

// checkClash finds listeners of one process that cannot both have their port.
func (c *Config) checkClash(is *issues, runsAdmin, runsGateway bool) {
	type listener struct{ path, ip string }
	taken := map[int][]listener{}
	take := func(path, ip string, port int) {
		if port == 0 {
			return
		}
		if ip == "" {
			ip = "0.0.0.0"
		}
		for _, other := range taken[port] {
			if ip == other.ip || everyAddress(ip) || everyAddress(other.ip) {
				is.add(path, "port %d is taken by %s", port, other.path)
				return
			}
		}
		taken[port] = append(taken[port], listener{path, ip})
	}
	if runsGateway {
		for i, l := range c.Apisix.NodeListen {
			take(fmt.Sprintf("apisix.node_listen[%d]", i), l.IP, l.Port)
		}
		if c.Apisix.SSL.Enable {
			for i, l := range c.Apisix.SSL.Listen {
				take(fmt.Sprintf("apisix.ssl.listen[%d]", i), l.IP, l.Port)
			}
		}
		if c.Apisix.EnableControl {
			take("apisix.control", c.Apisix.Control.IP, c.Apisix.Control.Port)
		}
		if s := c.Apisix.Status; s != nil {
			take("apisix.status", s.IP, s.Port)
		}
	}
	if runsAdmin {
		take("deployment.admin.admin_listen", c.Deployment.Admin.Listen.IP, c.Deployment.Admin.Listen.Port)
	}
}

func everyAddress(ip string) bool {
	a, err := netip.ParseAddr(strings.Trim(ip, "[]"))
	return err == nil && a.IsUnspecified()
}

// check finds values that no program could work with.
func (c *Config) check() issues {
	var is issues
	c.checkApisix(&is)
	c.checkAdmin(&is)
	c.checkEtcd(&is)
	oneOf(&is, "nginx_config.error_log_level", c.Nginx.LogLevel, "debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
	oneOf(&is, "nginx_config.http.access_log_format_escape", c.Nginx.HTTP.Escape, "default", "json")
	if c.Nginx.HTTP.EnableAccessLog && c.Nginx.HTTP.AccessLog == "" {
		is.add("nginx_config.http.access_log", "is empty; enable_access_log: false switches the log off")
	}
	return is
}

func (c *Config) checkApisix(is *issues) {
	a := &c.Apisix
	oneOf(is, "apisix.http_engine", a.Engine, "fast", "std")
	oneOf(is, "apisix.router.http", a.Router.HTTP, "radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter")
	oneOf(is, "apisix.proxy_mode", a.ProxyMode, "http", "stream", "http&stream")
	oneOf(is, "apisix.unknown_plugins", a.UnknownPlugins, "fail", "skip")
	oneOf(is, "apisix.data_encryption.format", a.DataEncryption.Format, "gcm", "cbc")
	if len(a.NodeListen) == 0 {
		is.add("apisix.node_listen", "names no address")
	}
	for i, l := range a.NodeListen {
		path := fmt.Sprintf("apisix.node_listen[%d]", i)
		address(is, path, l.IP, l.Port)
		for j, other := range a.NodeListen[:i] {
			if l.Port != 0 && l.Port == other.Port && l.IP == other.IP {
				is.add(path, "is the same address as apisix.node_listen[%d]", j)
			}
		}
	}
	c.checkSSL(is)
	address(is, "apisix.control", a.Control.IP, a.Control.Port)
	if a.Status != nil {
		address(is, "apisix.status", a.Status.IP, a.Status.Port)
	}
	if strings.ContainsAny(a.ServerHeader, "\r\n\x00") {
		is.add("apisix.server_header", "%q holds a character that no header can carry", a.ServerHeader)
	}
	for i, k := range a.DataEncryption.Keyring {
		if len(k) != 16 && len(k) != 32 {
			is.add(fmt.Sprintf("apisix.data_encryption.keyring[%d]", i), "%d bytes, must be 16 or 32", len(k))
		}
	}
	if c.GraphQL.MaxSize <= 0 {
		is.add("graphql.max_size", "%d must be above 0", c.GraphQL.MaxSize)
	}
	prefixes(is, "apisix.trusted_addresses", a.Trusted)
	for i, name := range c.Plugins {
		if name == "" {
			is.add(fmt.Sprintf("plugins[%d]", i), "is empty")
		}
	}
}

func (c *Config) checkSSL(is *issues) {
	s := &c.Apisix.SSL
	if !s.Enable {
		return
	}
	if len(s.Listen) == 0 {
		is.add("apisix.ssl.listen", "names no address; enable: false switches TLS off")
	}
	for i, l := range s.Listen {
		path := fmt.Sprintf("apisix.ssl.listen[%d]", i)
		address(is, path, l.IP, l.Port)
		for j, other := range s.Listen[:i] {
			if l.Port != 0 && l.Port == other.Port && l.IP == other.IP {
				is.add(path, "is the same address as apisix.ssl.listen[%d]", j)
			}
		}
	}
	for _, name := range strings.Fields(s.Protocols) {
		if _, ok := tlsname.Version(name); !ok {
			is.add("apisix.ssl.ssl_protocols", "%q is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3", name)
		}
	}
	if len(Versions(s.Protocols)) == 0 {
		is.add("apisix.ssl.ssl_protocols", "%q names no version", s.Protocols)
	}
	for _, name := range cipherNames(s.Ciphers) {
		// What is taken away again, or a rule for all: to leave it out would allow more.
		if strings.ContainsAny(name[:1], "!-+@") {
			is.add("apisix.ssl.ssl_ciphers", "%q is a rule; name the suites that are allowed", name)
		}
	}
	if len(Suites(s.Ciphers)) == 0 {
		is.add("apisix.ssl.ssl_ciphers", "%q names no suite that is built", s.Ciphers)
	}
}

func (c *Config) checkAdmin(is *issues) {
	d := &c.Deployment
	oneOf(is, "deployment.role", d.Role, "traditional", "control_plane", "data_plane")
	if d.DataDir == "" {
		is.add("deployment.data_dir", "is empty")
	}
	a := &d.Admin
	oneOf(is, "deployment.admin.admin_api_version", a.Version, "v3")
	for i, k := range a.Keys {
		path := fmt.Sprintf("deployment.admin.admin_key[%d]", i)
		oneOf(is, path+".role", k.Role, "admin", "viewer")
		if k.Key == "" && k.Role == "viewer" {
			is.add(path+".key", "is empty")
		}
		if strings.ContainsFunc(k.Key.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			is.add(path+".key", "holds a character that is no visible ASCII")
		}
		for j, other := range a.Keys[:i] {
			if k.Key == other.Key {
				is.add(path+".key", "is the same as that of deployment.admin.admin_key[%d]", j)
			}
		}
	}
	if len(a.KeyIn) == 0 && a.KeyRequired {
		is.add("deployment.admin.admin_key_in", "names no place, must be one of header, query, cookie")
	}
	for i, place := range a.KeyIn {
		oneOf(is, fmt.Sprintf("deployment.admin.admin_key_in[%d]", i), place, "header", "query", "cookie")
	}
	prefixes(is, "deployment.admin.allow_admin", a.Allow)
	address(is, "deployment.admin.admin_listen", a.Listen.IP, a.Listen.Port)
	if a.HTTPS && (a.MTLS.Cert == "" || a.MTLS.CertKey == "") {
		is.add("deployment.admin.https_admin", "needs admin_api_mtls.admin_ssl_cert and admin_api_mtls.admin_ssl_cert_key")
	}
	if !a.HTTPS && a.MTLS.CA != "" {
		is.add("deployment.admin.admin_api_mtls.admin_ssl_ca_cert", "needs https_admin: true")
	}
}

func (c *Config) checkEtcd(is *issues) {
	e := &c.Deployment.Etcd
	if !strings.HasPrefix(e.Prefix, "/") || strings.HasSuffix(e.Prefix, "/") {
		is.add("deployment.etcd.prefix", "%q must begin with a slash and not end with one", e.Prefix)
	}
	scheme := ""
	for i, h := range e.Host {
		path := fmt.Sprintf("deployment.etcd.host[%d]", i)
		// What is no URL is not repeated: it may hold a password.
		u, err := url.Parse(h)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
			is.add(path, "must be http:// or https://, a host and a port")
		case u.User != nil:
			is.add(path, "names a user; deployment.etcd.user and password do")
		case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
			is.add(path, "%q must end after the port", h)
		case scheme != "" && u.Scheme != scheme:
			is.add(path, "%q: all hosts must be %s:// as the first is", h, scheme)
		default:
			scheme = u.Scheme
			if p := u.Port(); p != "" {
				checkPort(is, path, p)
			}
		}
	}
	if (e.TLS.Cert == "") != (e.TLS.Key == "") {
		is.add("deployment.etcd.tls", "cert and key need each other")
	}
	if (e.User == "") != (e.Password == "") {
		is.add("deployment.etcd", "user and password need each other")
	}
	if e.Listen != "" {
		host, port, err := net.SplitHostPort(e.Listen)
		a, aerr := netip.ParseAddr(host)
		if err != nil || host != "localhost" && (aerr != nil || !a.IsLoopback()) {
			is.add("deployment.etcd.listen", "%q must be a loopback address and a port", e.Listen)
		} else {
			checkPort(is, "deployment.etcd.listen", port)
		}
	}
}

func oneOf(is *issues, path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		is.add(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func address(is *issues, path, ip string, port int) {
	if port < 0 || port > 65535 {
		is.add(path+".port", "%d is no port (0 to 65535)", port)
	}
	if ip != "" && ip != "localhost" && net.ParseIP(ip) == nil {
		is.add(path+".ip", "%q is no IP address", ip)
	}
}

func checkPort(is *issues, path, port string) {
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		is.add(path, "%q is no port (0 to 65535)", port)
	}
}

func prefixes(is *issues, path string, list []string) {
	for i, s := range list {
		if _, err := prefix(s); err != nil {
			is.add(fmt.Sprintf("%s[%d]", path, i), "%v", err)
		}
	}
}

// Prefixes parses addresses and networks; key stands in the error.
func Prefixes(key string, list []string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for i, s := range list {
		p, err := prefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", key, i, err)
		}
		nets = append(nets, p)
	}
	return nets, nil
}

// Versions are the TLS versions that ssl_protocols names, ascending.
func Versions(protocols string) []uint16 {
	var all []uint16
	for _, name := range strings.Fields(protocols) {
		if v, ok := tlsname.Version(name); ok {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Suites are the cipher suites before TLS 1.3 that ssl_ciphers names; those that are not
// built are left out.
func Suites(ciphers string) []uint16 {
	var all []uint16
	for _, name := range cipherNames(ciphers) {
		if id, ok := tlsname.Suite(name); ok {
			all = append(all, id)
		}
	}
	return all
}

// cipherNames takes OpenSSL's list of suites apart.
func cipherNames(ciphers string) []string {
	return strings.FieldsFunc(ciphers, func(r rune) bool { return r == ':' || r == ',' || r == ' ' })
}

func prefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// shortKey is the length below which a key can be guessed.
const shortKey = 16

// published are the SHA-256 sums of keys that the reference ships with: two of its Admin
// API and two of its keyring. Everybody has them.
var published = []string{
	"477a2767fa27931db11a3581100a4124b5720f6b6468ddd64062170cec157185",
	"228ab1b6080ec4178302ba76f9fa4af4f2dc14fc105a364b324bdb9045af03a1",
	"44198af75ac07a3f545a23f81f708c92a15044853b06f4e32e4c0b693fa82c32",
	"c3f522fa1b7d6c062e2627bc377aed23d70a7befd90410cd3949fb06e3148416",
}

func isPublished(s Secret) bool {
	sum := sha256.Sum256([]byte(s.Reveal()))
	return slices.Contains(published, hex.EncodeToString(sum[:]))
}

// warn notes what works and is unwise.
func (l *loader) warn(c *Config) {
	a, admin, etcd := &c.Apisix, &c.Deployment.Admin, &c.Deployment.Etcd
	if !loopback(admin.Listen.IP) {
		if !admin.HTTPS {
			l.noteKey("deployment.admin.admin_listen", "the Admin API listens on %s without TLS", admin.Listen)
		}
		if len(admin.Allow) == 0 {
			l.noteKey("deployment.admin.allow_admin", "is empty, everyone may connect to the Admin API")
		}
	}
	if !admin.KeyRequired {
		l.noteKey("deployment.admin.admin_key_required", "Admin key is bypassed! The Admin API asks for no key")
	}
	for i, k := range admin.Keys {
		path := fmt.Sprintf("deployment.admin.admin_key[%d].key", i)
		switch {
		case k.Key == "":
		case len(k.Key) < shortKey:
			l.noteKey(path, "is shorter than %d characters", shortKey)
		case isPublished(k.Key):
			l.noteKey(path, "is a published key of the reference, everybody knows it")
		}
	}
	if len(c.StreamPlugins) > 0 {
		l.noteKey("stream_plugins", "is ignored, stream listeners are not built; its names are passed on to nodes of the reference")
	}
	l.warnSSL(&a.SSL)
	for i, k := range a.DataEncryption.Keyring {
		if isPublished(k) {
			l.noteKey(fmt.Sprintf("apisix.data_encryption.keyring[%d]", i), "is a published key of the reference, everybody knows it")
		}
	}
	if len(etcd.Host) > 0 {
		if a.DataEncryption.Enable && len(a.DataEncryption.Keyring) == 0 {
			l.noteKey("apisix.data_encryption.keyring", "is empty, secrets are stored as they are")
		}
		if strings.HasPrefix(etcd.Host[0], "https://") && !etcd.TLS.Verify {
			l.noteKey("deployment.etcd.tls.verify", "is false, anyone can pose as etcd")
		}
	}
	if a.EnableControl && !loopback(a.Control.IP) {
		l.noteKey("apisix.control", "the control API listens on %s and asks for no key", a.Control)
	}
	if a.ProxyMode != "http" {
		l.noteKey("apisix.proxy_mode", "stream routes may be written, but nothing serves them")
	}
}

func (l *loader) warnSSL(s *SSL) {
	if !s.Enable {
		return
	}
	for _, name := range cipherNames(s.Ciphers) {
		if _, ok := tlsname.Suite(name); !ok {
			l.noteKey("apisix.ssl.ssl_ciphers", "%q is ignored, a suite of that name is not built for TLS 1.2", name)
		}
	}
	for _, v := range Versions(s.Protocols) {
		if name := tlsname.OfVersion(v); v < tls.VersionTLS12 {
			l.noteKey("apisix.ssl.ssl_protocols", "%s is broken, and nobody needs it", name)
		}
	}
}

func loopback(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return ip == "localhost" || err == nil && a.IsLoopback()
}

package nginx

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/tlsname"
	"github.com/gosix/gosix/t/blocktest/lua"
)

// builtins are nginx's variables with one name. false: it has no value now.
var builtins map[string]func(r *request) (string, bool)

func always(f func(r *request) string) func(*request) (string, bool) {
	return func(r *request) (string, bool) { return f(r), true }
}

func nonEmpty(f func(r *request) string) func(*request) (string, bool) {
	return func(r *request) (string, bool) {
		v := f(r)
		return v, v != ""
	}
}

func init() {
	builtins = map[string]func(r *request) (string, bool){
		"uri":                       always(func(r *request) string { return r.URI }),
		"document_uri":              always(func(r *request) string { return r.URI }),
		"request_uri":               always(func(r *request) string { return r.main().Target }),
		"args":                      nonEmpty(func(r *request) string { return r.Args }),
		"query_string":              nonEmpty(func(r *request) string { return r.Args }),
		"is_args":                   always(func(r *request) string { return strings.Repeat("?", min(1, len(r.Args))) }),
		"host":                      always((*request).host),
		"hostname":                  always(func(*request) string { name, _ := os.Hostname(); return strings.ToLower(name) }),
		"server_name":               always(func(r *request) string { return r.server.name() }),
		"server_port":               always(func(r *request) string { return strconv.Itoa(int(r.Local.Port())) }),
		"server_addr":               always(func(r *request) string { return addrText(r.Local.Addr()) }),
		"server_protocol":           always(func(r *request) string { return r.Proto }),
		"remote_addr":               always(func(r *request) string { return addrText(r.Remote.Addr()) }),
		"remote_port":               nonEmpty(func(r *request) string { return portText(r.Remote.Port()) }),
		"realip_remote_addr":        always(func(r *request) string { return addrText(r.peer.Addr()) }),
		"realip_remote_port":        nonEmpty(func(r *request) string { return portText(r.peer.Port()) }),
		"remote_user":               nonEmpty((*request).user),
		"proxy_protocol_addr":       nonEmpty(func(r *request) string { return r.conn.proxied }),
		"scheme":                    always(func(r *request) string { return r.Scheme }),
		"https":                     nonEmpty(func(r *request) string { return map[string]string{"https": "on"}[r.Scheme] }),
		"http2":                     nonEmpty(func(r *request) string { return r.conn.h2Name() }),
		"request":                   always(func(r *request) string { return r.main().line() }),
		"request_method":            always(func(r *request) string { return r.Method }),
		"request_body":              nonEmpty(func(r *request) string { return string(r.bodyRead) }),
		"request_length":            always(func(r *request) string { return strconv.FormatInt(r.received, 10) }),
		"request_id":                always((*request).identity),
		"request_time":              always(func(r *request) string { return seconds(time.Since(r.started)) }),
		"request_filename":          always(func(r *request) string { return r.file(r.URI) }),
		"document_root":             always(func(r *request) string { return r.loc.settings.root.expand(r) }),
		"request_completion":        nonEmpty(func(r *request) string { return map[bool]string{true: "OK"}[r.answer.ended] }),
		"content_type":              nonEmpty(func(r *request) string { return r.header("Content-Type") }),
		"content_length":            nonEmpty(func(r *request) string { return r.header("Content-Length") }),
		"status":                    always(func(r *request) string { return fmt.Sprintf("%03d", r.answer.status()) }),
		"body_bytes_sent":           always(func(r *request) string { return strconv.FormatInt(r.answer.bodySent, 10) }),
		"bytes_sent":                always(func(r *request) string { return strconv.FormatInt(r.answer.wire.sent(), 10) }),
		"connection":                always(func(r *request) string { return strconv.FormatUint(r.Connection, 10) }),
		"connection_requests":       always(func(r *request) string { return strconv.Itoa(r.Requests) }),
		"pid":                       always(func(*request) string { return strconv.Itoa(os.Getpid()) }),
		"pipe":                      always(func(*request) string { return "." }),
		"msec":                      always(func(*request) string { return seconds(time.Duration(time.Now().UnixNano())) }),
		"time_local":                always(func(*request) string { return time.Now().Format("02/Jan/2006:15:04:05 -0700") }),
		"time_iso8601":              always(func(*request) string { return time.Now().Format("2006-01-02T15:04:05-07:00") }),
		"nginx_version":             always(func(*request) string { return nginxVersion }),
		"proxy_add_x_forwarded_for": always((*request).forwardedFor),
		"proxy_host":                nonEmpty(func(r *request) string { return r.upstream.host }),
		"upstream_addr":             nonEmpty(func(r *request) string { return r.upstream.addr }),
		"upstream_status":           nonEmpty(func(r *request) string { return r.upstream.statusText() }),
		"upstream_response_time":    nonEmpty(func(r *request) string { return r.upstream.timeText(r.upstream.took) }),
		"upstream_header_time":      nonEmpty(func(r *request) string { return r.upstream.timeText(r.upstream.headTook) }),
		"upstream_connect_time":     nonEmpty(func(r *request) string { return r.upstream.timeText(r.upstream.connectTook) }),
		"upstream_response_length":  nonEmpty(func(r *request) string { return r.upstream.lengthText() }),
		"ssl_server_name":           nonEmpty(func(r *request) string { return r.tls().ServerName }),
		"ssl_protocol":              nonEmpty(func(r *request) string { return tlsname.OfVersion(r.tls().Version) }),
		"ssl_cipher":                nonEmpty(func(r *request) string { return tlsCipherName(r.tls()) }),
		"ssl_session_reused":        nonEmpty(func(r *request) string { return tlsReused(r.tls()) }),
		"ssl_client_verify":         nonEmpty(func(r *request) string { return tlsVerified(r.tls()) }),
		"ssl_client_s_dn":           nonEmpty(func(r *request) string { return tlsSubject(r.tls()) }),
		"ssl_client_i_dn":           nonEmpty(func(r *request) string { return tlsIssuer(r.tls()) }),
		"ssl_client_serial":         nonEmpty(func(r *request) string { return tlsSerial(r.tls()) }),
		"ssl_client_raw_cert":       nonEmpty(func(r *request) string { return tlsClientCert(r.tls()) }),
	}
}

// nginxVersion is the release whose behaviour this package follows.
const nginxVersion = "1.27.1"

// A family is the variables that share a prefix.
type family struct {
	prefix string
	value  func(r *request, rest string) (string, bool)
}

var families = []family{
	{"arg_", func(r *request, rest string) (string, bool) { return argument(r.Args, rest) }},
	{"http_", func(r *request, rest string) (string, bool) { return joined(r.Header, rest) }},
	{"cookie_", (*request).cookie},
	{"sent_http_", func(r *request, rest string) (string, bool) { return joined(r.answer.fields, rest) }},
	{"upstream_http_", func(r *request, rest string) (string, bool) { return joined(r.upstream.fields, rest) }},
}

// variable reads $name: what the configuration or a script set, then captures, then
// nginx's own.
func (r *request) variable(name string) (string, bool) {
	if v, ok := r.Vars[name]; ok {
		return v, true
	}
	return r.ownVariable(name)
}

func (r *request) ownVariable(name string) (string, bool) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < len(r.captures) {
			return r.captures[n], true
		}
		return "", false
	}
	if f, ok := builtins[name]; ok {
		return f(r)
	}
	if m, ok := r.config.maps[name]; ok {
		return m.value(r)
	}
	for _, f := range families {
		if rest, ok := strings.CutPrefix(name, f.prefix); ok {
			return f.value(r, rest)
		}
	}
	return "", false
}

// capture makes $1… and the named groups of a match known.
func (r *request) capture(re *regexp.Regexp, m []string) {
	r.captures = m
	for i, name := range re.SubexpNames() {
		if name != "" {
			r.Vars[name] = m[i]
		}
	}
}

func argument(args, name string) (string, bool) {
	for _, pair := range strings.Split(args, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok && strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

// joined finds a header by its variable's form, with _ for -, and joins what occurs twice.
func joined(fields []lua.Field, name string) (string, bool) {
	var values []string
	for _, f := range fields {
		if strings.EqualFold(strings.ReplaceAll(f.Name, "-", "_"), name) {
			values = append(values, f.Value)
		}
	}
	sep := ", "
	if strings.EqualFold(name, "cookie") {
		sep = "; "
	}
	return strings.Join(values, sep), len(values) > 0
}

func (r *request) cookie(name string) (string, bool) {
	for _, f := range r.Header {
		if !strings.EqualFold(f.Name, "Cookie") {
			continue
		}
		for _, pair := range strings.Split(f.Value, ";") {
			if k, v, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && k == name {
				return v, true
			}
		}
	}
	return "", false
}

// host is the target's host, else the Host header's, else the server's name.
func (r *request) host() string {
	if rest, ok := cutScheme(r.Target); ok {
		host, _, _ := strings.Cut(rest, "/")
		return strings.ToLower(hostOnly(host))
	}
	if h := r.header("Host"); h != "" {
		return strings.ToLower(hostOnly(h))
	}
	return r.server.name()
}

func (r *request) user() string {
	req := http.Request{Header: http.Header{"Authorization": {r.header("Authorization")}}}
	user, _, _ := req.BasicAuth()
	return user
}

func (r *request) forwardedFor() string {
	addr := addrText(r.Remote.Addr())
	if before, ok := joined(r.Header, "x_forwarded_for"); ok {
		return before + ", " + addr
	}
	return addr
}

// seconds writes a time as nginx does, with milliseconds.
func seconds(d time.Duration) string {
	ms := d.Milliseconds()
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}

// A variableMap is a map block.
type variableMap struct {
	source   template
	exact    map[string]template // in lower case
	patterns []mapPattern
	fallback template
}

type mapPattern struct {
	re    *regexp.Regexp
	value template
}

func loadMap(s *scope, d *Directive) error {
	name, ok := strings.CutPrefix(d.Args[1], "$")
	if !ok {
		return d.refuse("invalid variable name %q", d.Args[1])
	}
	source, err := compile(d.Args[0])
	m := &variableMap{source: source, exact: map[string]template{}}
	s.config.maps[name] = m
	for _, entry := range d.Block {
		if err == nil {
			err = m.entry(entry)
		}
	}
	return err
}

func (m *variableMap) entry(d *Directive) error {
	switch d.Name {
	case "volatile":
		return nil
	case "hostnames", "include":
		return d.unsupported("in map")
	}
	if len(d.Args) != 1 {
		return d.refuse("invalid number of map parameters")
	}
	value, err := compile(d.Args[0])
	if err != nil {
		return err
	}
	if pattern, ok := strings.CutPrefix(d.Name, "~"); ok {
		pattern, ignoreCase := strings.CutPrefix(pattern, "*")
		re, err := compileRegexp(d, pattern, ignoreCase)
		m.patterns = append(m.patterns, mapPattern{re, value})
		return err
	}
	if d.Name == "default" {
		m.fallback = value
		return nil
	}
	m.exact[strings.ToLower(strings.TrimPrefix(d.Name, `\`))] = value
	return nil
}

func (m *variableMap) value(r *request) (string, bool) {
	source := m.source.expand(r)
	if v, ok := m.exact[strings.ToLower(source)]; ok {
		return v.expand(r), true
	}
	for _, p := range m.patterns {
		if groups := p.re.FindStringSubmatch(source); groups != nil {
			r.capture(p.re, groups)
			return p.value.expand(r), true
		}
	}
	return m.fallback.expand(r), true
}

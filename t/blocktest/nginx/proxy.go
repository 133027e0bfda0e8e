package nginx

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A proxyPass is where a location sends its requests.
type proxyPass struct {
	line     int
	url      template
	variable bool // the URL has variables; what follows is made for each request then
	target   proxyTarget
	prefix   string // of the location, replaced by the target's path
}

// A proxyTarget is a proxy_pass URL, taken apart.
type proxyTarget struct {
	scheme string
	host   string // as written: host, host:port or an upstream's name
	uri    string
	hasURI bool
	group  *upstreamGroup // nil: host itself
}

// An upstreamGroup is an upstream block. Its servers take turns.
type upstreamGroup struct {
	servers []string
	backups []string
	next    atomic.Uint64
}

type proxyHeader struct {
	name  string
	value template
}

// proxyTLS are the proxy_ssl_* directives.
type proxyTLS struct {
	serverName bool
	name       template
	pair       [2]string
	verify     bool
	trusted    string
}

type timeouts struct{ connect, read time.Duration }

// defaultTimeouts are nginx's.
func defaultTimeouts() timeouts { return timeouts{60 * time.Second, 60 * time.Second} }

func proxyRules() map[string]rule {
	setTime := func(field func(*timeouts) *time.Duration) func(*scope, *Directive) error {
		return func(s *scope, d *Directive) error {
			wait, err := parseTime(d.Args[0])
			if s.stream != nil {
				*field(&s.stream.wait) = wait
			} else {
				*field(&s.loc.settings.proxyWait) = wait
			}
			return err
		}
	}
	return map[string]rule{
		"proxy_pass":                    {inLocation | inIf | inStreamServer, 1, 1, statement, loadProxyPass},
		"proxy_set_header":              {inAnyHTTP, 2, 2, statement, loadProxyHeader},
		"proxy_http_version":            {inAnyHTTP, 1, 1, statement, loadProxyVersion},
		"proxy_connect_timeout":         {inAnyHTTP | inStreamServer, 1, 1, statement, setTime(func(t *timeouts) *time.Duration { return &t.connect })},
		"proxy_read_timeout":            {inAnyHTTP, 1, 1, statement, setTime(func(t *timeouts) *time.Duration { return &t.read })},
		"proxy_send_timeout":            {inAnyHTTP, 1, 1, statement, func(_ *scope, d *Directive) error { _, err := parseTime(d.Args[0]); return err }},
		"proxy_timeout":                 {inStreamServer, 1, 1, statement, setTime(func(t *timeouts) *time.Duration { return &t.read })},
		"proxy_ssl_server_name":         {inAnyHTTP, 1, 1, statement, setFlag(func(s *settings) *bool { return &s.proxyTLS.serverName })},
		"proxy_ssl_verify":              {inAnyHTTP, 1, 1, statement, setFlag(func(s *settings) *bool { return &s.proxyTLS.verify })},
		"proxy_ssl_name":                {inAnyHTTP, 1, 1, statement, loadProxySSLName},
		"proxy_ssl_certificate":         {inAnyHTTP, 1, 1, statement, setProxyFile(func(t *proxyTLS) *string { return &t.pair[0] })},
		"proxy_ssl_certificate_key":     {inAnyHTTP, 1, 1, statement, setProxyFile(func(t *proxyTLS) *string { return &t.pair[1] })},
		"proxy_ssl_trusted_certificate": {inAnyHTTP, 1, 1, statement, setProxyFile(func(t *proxyTLS) *string { return &t.trusted })},
	}
}

func setProxyFile(field func(*proxyTLS) *string) func(*scope, *Directive) error {
	return func(s *scope, d *Directive) error {
		*field(&s.loc.settings.proxyTLS) = s.options.path(d.Args[0])
		return nil
	}
}

func loadProxySSLName(s *scope, d *Directive) (err error) {
	s.loc.settings.proxyTLS.name, err = compile(d.Args[0])
	return err
}

func loadProxyHeader(s *scope, d *Directive) error {
	value, err := compile(d.Args[1])
	add(s, d.Name, &s.loc.settings.proxyHeaders, proxyHeader{d.Args[0], value})
	return err
}

func loadProxyVersion(s *scope, d *Directive) error {
	if d.Args[0] != "1.0" && d.Args[0] != "1.1" {
		return d.refuse("invalid value %q", d.Args[0])
	}
	s.loc.settings.proxy11 = d.Args[0] == "1.1"
	return nil
}

func loadProxyPass(s *scope, d *Directive) error {
	if s.stream != nil {
		s.stream.target = d.Args[0]
		return nil
	}
	url, err := compile(d.Args[0])
	if err != nil {
		return err
	}
	p := &proxyPass{line: d.Line, url: url, variable: strings.Contains(d.Args[0], "$")}
	if s.loc.kind == matchPrefix || s.loc.kind == matchFinal || s.loc.kind == matchExact {
		p.prefix = s.loc.path
	}
	if !p.variable {
		if p.target, err = splitProxyURL(d.Args[0]); err != nil {
			return d.refuse("%v", err)
		}
		if p.target.hasURI && p.prefix == "" {
			return d.refuse(`it cannot have URI part in location given by regular expression, or inside named location, or inside "if" statement`)
		}
	}
	s.loc.proxy = p
	return nil
}

var errProxyURL = errors.New("invalid URL prefix")

func splitProxyURL(s string) (proxyTarget, error) {
	var t proxyTarget
	scheme, rest, ok := strings.Cut(s, "://")
	t.scheme = strings.ToLower(scheme)
	if !ok || t.scheme != "http" && t.scheme != "https" || strings.HasPrefix(rest, "unix:") {
		return t, errProxyURL
	}
	at := strings.IndexAny(rest, "/?")
	if at < 0 {
		at = len(rest)
	}
	t.host, t.uri = rest[:at], rest[at:]
	t.hasURI = t.uri != ""
	if t.host == "" {
		return t, errProxyURL
	}
	return t, nil
}

// resolve finds the upstream block that the URL names.
func (p *proxyPass) resolve(c *Config) error {
	if !p.variable {
		p.target.group = c.upstreams[p.target.host]
	}
	return nil
}

func loadUpstream(s *scope, d *Directive) error {
	g := &upstreamGroup{}
	s.config.upstreams[d.Args[0]] = g
	child := &scope{loader: s.loader, in: inUpstream, upstream: g}
	return child.load(d.Block)
}

func loadUpstreamServer(s *scope, d *Directive) error {
	if len(d.Args) == 0 {
		return d.refuse("invalid number of arguments")
	}
	addr := withPort(d.Args[0], "80")
	list := &s.upstream.servers
	for _, a := range d.Args[1:] {
		switch name, _, _ := strings.Cut(a, "="); name {
		case "backup":
			list = &s.upstream.backups
		case "down":
			return nil
		case "weight", "max_fails", "fail_timeout", "max_conns", "resolve":
		default:
			return d.refuse("invalid parameter %q", a)
		}
	}
	*list = append(*list, addr)
	return nil
}

func withPort(host, port string) string {
	if strings.HasPrefix(host, "unix:") {
		return host
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// addrs are the addresses to try, in order.
func (t proxyTarget) addrs() []string {
	if t.group == nil {
		return []string{withPort(t.host, map[string]string{"http": "80", "https": "443"}[t.scheme])}
	}
	n := len(t.group.servers)
	if n == 0 {
		return t.group.backups
	}
	first := int((t.group.next.Add(1) - 1) % uint64(n))
	out := append(append([]string(nil), t.group.servers[first:]...), t.group.servers[:first]...)
	return append(out, t.group.backups...)
}

// upstreamFacts are what $upstream_… say.
type upstreamFacts struct {
	url, host, addr             string
	status                      int
	length                      int64
	fields                      []lua.Field
	began                       time.Time
	connectTook, headTook, took time.Duration
}

func (u *upstreamFacts) statusText() string {
	if u.status == 0 {
		return ""
	}
	return strconv.Itoa(u.status)
}

func (u *upstreamFacts) timeText(d time.Duration) string {
	if u.addr == "" {
		return ""
	}
	return seconds(d)
}

func (u *upstreamFacts) lengthText() string {
	if u.addr == "" {
		return ""
	}
	return strconv.FormatInt(u.length, 10)
}

// proxied sends the request on and its answer back.
func (r *request) proxied(p *proxyPass) error {
	t := p.target
	if p.variable {
		var err error
		if t, err = splitProxyURL(p.url.expand(r)); err != nil {
			r.logError("error", "invalid URL prefix in %q", p.url.expand(r))
			return &lua.ExitError{Status: 500}
		}
		t.group = r.config.upstreams[t.host]
	}
	return r.forward(t, r.proxyURI(p, t))
}

// proxyURI is the target to ask the upstream for.
func (r *request) proxyURI(p *proxyPass, t proxyTarget) string {
	switch {
	case p.variable && t.hasURI:
		return t.uri
	case t.hasURI && !r.rewritten:
		uri := t.uri + escapePath(strings.TrimPrefix(r.URI, p.prefix))
		return withArgs(uri, r.Args)
	case r.rewritten || r.internal || r.Target == "":
		return withArgs(escapePath(r.URI), r.Args)
	}
	if _, args, _ := strings.Cut(r.Target, "?"); args != r.Args {
		return withArgs(escapePath(r.URI), r.Args) // a script changed them
	}
	return r.Target
}

func withArgs(uri, args string) string {
	switch {
	case args == "":
		return uri
	case strings.Contains(uri, "?"):
		return uri + "&" + args
	}
	return uri + "?" + args
}

// upstreamError maps a failure to nginx's status.
func upstreamError(err error) int {
	var wait net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &wait) && wait.Timeout() {
		return 504
	}
	return 502
}

package nginx

import (
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A Source is what a block declares, parsed section by section. Any field may be empty.
type Source struct {
	Main         []*Directive // main_config: env, and whole http or stream blocks
	HTTP         []*Directive // http_config
	Server       []*Directive // config: inside the server that requests go to
	Stream       []*Directive // stream_config
	StreamServer []*Directive // stream_server_config: inside its server on port 1985
}

// Options say where a configuration stands.
type Options struct {
	// Root is a checkout of the reference. Relative paths are taken as if the
	// configuration lay in its t/servroot/conf; cert/… there is its t/certs/….
	Root string
	// Bind is the address of `listen PORT`. Empty is 127.0.0.1, where nginx takes every
	// address of the machine.
	Bind string
}

// A Config is a loaded configuration. It does not change.
type Config struct {
	// Front is the server of Source.Server. It listens where a listen directive of its
	// own says, and nowhere when there is none: its port is the Front's.
	Front *Server
	// Env holds the env directives that have a value, EnvNames those that only pass a
	// variable on.
	Env      map[string]string
	EnvNames []string

	servers    []*Server // Front included
	streams    []*streamServer
	upstreams  map[string]*upstreamGroup
	maps       map[string]*variableMap
	formats    map[string]*logFormat
	shared     []string
	init       *script
	initWorker *script
}

// A Server is one server block of http.
type Server struct {
	Line    int
	listens []*listen
	names   []serverName
	http2   bool
	tls     *tlsSettings
	scope   *location // of what stands outside every location
	named   map[string]*location
}

// A script is a chunk of Lua and where it stands.
type script struct {
	name  string // as Lua's messages cite it: "content_by_lua(nginx.conf:12)"
	chunk string
}

// A listen is one listen directive.
type listen struct {
	directive     string // as written, for errors
	network       string // "tcp", "unix"
	addr          string
	ssl           bool
	http2         bool
	proxyProtocol bool
	isDefault     bool
}

func (l *listen) key() string { return l.network + " " + l.addr }

// A serverName is one name of a server_name directive.
type serverName struct {
	text string // in lower case
	re   *regexp.Regexp
}

// The ranks of a match, best first, in the order that nginx tries them.
const (
	rankExact = 4 - iota
	rankLeading
	rankTrailing
	rankRegexp
	rankNone
)

func (n serverName) rank(host string) int {
	switch {
	case n.re != nil:
		if n.re.MatchString(host) {
			return rankRegexp
		}
	case strings.HasPrefix(n.text, "*."):
		if strings.HasSuffix(host, n.text[1:]) {
			return rankLeading
		}
	case strings.HasPrefix(n.text, "."):
		if host == n.text[1:] {
			return rankExact
		}
		if strings.HasSuffix(host, n.text) {
			return rankLeading
		}
	case strings.HasSuffix(n.text, ".*"):
		if strings.HasPrefix(host, n.text[:len(n.text)-1]) {
			return rankTrailing
		}
	case n.text == host:
		return rankExact
	}
	return rankNone
}

// name is the first name of the server, for log lines and $server_name.
func (s *Server) name() string {
	if len(s.names) == 0 {
		return ""
	}
	return s.names[0].text
}

func (s *Server) rank(host string) int {
	best := rankNone
	for _, n := range s.names {
		best = max(best, n.rank(host))
	}
	return best
}

// pick finds the server for a host among those of one address.
func pick(servers []*Server, key, host string) *Server {
	host = strings.ToLower(hostOnly(host))
	var best, fallback *Server
	rank := rankNone
	for _, s := range servers {
		if r := s.rank(host); r > rank && host != "" {
			best, rank = s, r
		}
		if fallback == nil || s.isDefaultOn(key) && !fallback.isDefaultOn(key) {
			fallback = s
		}
	}
	if best != nil {
		return best
	}
	return fallback
}

func (s *Server) isDefaultOn(key string) bool {
	for _, l := range s.listens {
		if l.key() == key && l.isDefault {
			return true
		}
	}
	return false
}

// hostOnly takes the port off a Host header.
func hostOnly(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return strings.Trim(s, "[]")
}

// tlsSettings are the ssl_* directives of a server.
type tlsSettings struct {
	pairs      [][2]string // certificate and key, in order
	config     *tls.Config
	clientCA   string
	verify     tls.ClientAuthType
	required   bool // ssl_verify_client on
	minVersion uint16
	maxVersion uint16
	script     *script // ssl_certificate_by_lua
}

// An UnsupportedError is a directive, or a form of one, that this package does not offer.
type UnsupportedError struct {
	Directive string
	Line      int
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("line %d: directive %s is not supported", e.Line, e.Directive)
}

// A ConfigError is a directive that nginx would refuse.
type ConfigError struct {
	Directive string
	Line      int
	What      string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Directive, e.What)
}

// settings are what a location has and what it inherits from the scopes around it.
type settings struct {
	scripts map[lua.Phase]*script

	defaultType  template
	addHeaders   []addHeader
	outHeaders   []headerEdit // more_set_headers, more_clear_headers
	inHeaders    []headerEdit // more_set_input_headers, …
	expires      template
	errorPages   map[int]errorPage
	rules        []accessRule
	realIP       realIP
	accessLogs   []accessLog
	maxBody      int64
	underscores  bool
	proxyHeaders []proxyHeader
	proxyTLS     proxyTLS
	proxy11      bool
	proxyWait    timeouts
	gzip         gzipSettings
	root         template
	index        []string
}

package nginx

import (
	"net"
	"regexp"
	"strconv"
	"strings"
)

func defaultSettings() settings {
	return settings{
		defaultType: template{{text: "text/plain"}},
		maxBody:     1 << 20,
		proxyWait:   defaultTimeouts(),
		index:       []string{"index.html"},
		accessLogs:  []accessLog{{file: "logs/access.log", format: "combined"}},
	}
}

// blockRules are the directives that open blocks, and env.
func blockRules() map[string]rule {
	return map[string]rule{
		"http":      {inMain, 0, 0, block, func(s *scope, d *Directive) error { return s.http(d.Block, nil) }},
		"stream":    {inMain, 0, 0, block, func(s *scope, d *Directive) error { return s.loader.stream(d.Block, nil) }},
		"lua":       {inMain, 0, 0, block, func(s *scope, d *Directive) error { return s.load(d.Block) }},
		"events":    {inMain, 0, 0, block, func(*scope, *Directive) error { return nil }},
		"env":       {inMain, 1, 1, statement, loadEnv},
		"server":    {inHTTP | inUpstream | inStream, 0, -1, either, loadAnyServer},
		"location":  {inServer | inLocation, 1, 2, block, loadLocation},
		"if":        {inServer | inLocation, 1, -1, block, loadIf},
		"upstream":  {inHTTP | inStream, 1, 1, block, loadUpstream},
		"map":       {inHTTP, 2, 2, block, loadMap},
		"internal":  {inLocation, 0, 0, statement, func(s *scope, _ *Directive) error { s.loc.internal = true; return nil }},
		"keepalive": {inUpstream, 1, 1, statement, func(*scope, *Directive) error { return nil }},
	}
}

func loadEnv(s *scope, d *Directive) error {
	name, value, ok := strings.Cut(d.Args[0], "=")
	if s.config.EnvNames = append(s.config.EnvNames, name); ok {
		s.config.Env[name] = value
	}
	return nil
}

func (s *scope) loadServer(list []*Directive, line int) (*Server, error) {
	loc := &location{kind: matchNone}
	child := s.child(inServer, loc)
	child.server = &Server{Line: line, scope: loc, named: map[string]*location{}}
	if err := child.load(list); err != nil {
		return nil, err
	}
	s.config.servers = append(s.config.servers, child.server)
	return child.server, child.server.finishTLS(line)
}

func loadLocation(s *scope, d *Directive) error {
	loc, err := newLocation(d)
	if err != nil {
		return err
	}
	if loc.kind == matchNone {
		if s.in != inServer {
			return d.refuse("named locations are on the server level only")
		}
		s.server.named[loc.path] = loc
	} else {
		for _, c := range s.loc.children {
			if c.kind == loc.kind && c.path == loc.path {
				return d.refuse("duplicate location %q", loc.path)
			}
		}
		s.loc.children = append(s.loc.children, loc)
	}
	s.later = append(s.later, func() error { return s.child(inLocation, loc).load(d.Block) })
	return nil
}

var matchSigns = map[string]matchKind{"=": matchExact, "^~": matchFinal, "~": matchRegexp, "~*": matchRegexp}

// newLocation reads a location's arguments; sign and path may be one word ("=/t").
func newLocation(d *Directive) (*location, error) {
	sign, path := "", d.Args[0]
	if len(d.Args) == 2 {
		sign, path = d.Args[0], d.Args[1]
		if _, ok := matchSigns[sign]; !ok {
			return nil, d.refuse("invalid location modifier %q", sign)
		}
	} else {
		for _, s := range []string{"=", "^~", "~*", "~"} {
			if rest, ok := strings.CutPrefix(path, s); ok {
				sign, path = s, rest
				break
			}
		}
	}
	loc := &location{path: path, kind: matchSigns[sign]}
	switch {
	case loc.kind == matchRegexp:
		loc.path = sign + path // for the look at duplicates
		re, err := compileRegexp(d, path, sign == "~*")
		loc.re = re
		return loc, err
	case sign == "" && strings.HasPrefix(path, "@"):
		loc.kind = matchNone
	}
	return loc, nil
}

// compileRegexp compiles what both Perl's engine and Go's understand alike.
func compileRegexp(d *Directive, pattern string, ignoreCase bool) (*regexp.Regexp, error) {
	source := pattern
	if ignoreCase {
		source = "(?i)" + source
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, d.unsupported("with the pattern " + strconv.Quote(pattern))
	}
	return re, nil
}

// serverRules are the directives of a server's address and name.
func serverRules() map[string]rule {
	return map[string]rule{
		"listen":      {inServer | inStreamServer, 1, -1, statement, loadListen},
		"server_name": {inServer, 1, -1, statement, loadServerName},
		"http2": {inHTTP | inServer, 1, 1, statement, func(s *scope, d *Directive) error {
			if s.server == nil {
				return d.unsupported("in http")
			}
			on, err := d.flag()
			s.server.http2 = on
			return err
		}},
	}
}

// flag reads on or off.
func (d *Directive) flag() (bool, error) {
	switch d.Args[0] {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, d.refuse("invalid value %q, it must be on or off", d.Args[0])
}

// setFlag is a rule's load for a switch among the settings.
func setFlag(field func(*settings) *bool) func(*scope, *Directive) error {
	return func(s *scope, d *Directive) error {
		on, err := d.flag()
		*field(&s.loc.settings) = on
		return err
	}
}

func loadListen(s *scope, d *Directive) error {
	l, err := newListen(d, s.options.Bind)
	if l == nil || err != nil {
		return err // over UDP: nothing is lost but HTTP/3
	}
	if s.stream != nil {
		s.stream.listens = append(s.stream.listens, l)
	} else {
		s.server.listens = append(s.server.listens, l)
	}
	return nil
}

// newListen reads a listen directive; nil is one for QUIC, which a TCP listener stands
// beside.
func newListen(d *Directive, bind string) (*listen, error) {
	l := &listen{directive: "listen " + strings.Join(d.Args, " "), network: "tcp"}
	for _, a := range d.Args[1:] {
		name, _, _ := strings.Cut(a, "=")
		switch name {
		case "ssl":
			l.ssl = true
		case "http2":
			l.http2 = true
		case "proxy_protocol":
			l.proxyProtocol = true
		case "default_server", "default":
			l.isDefault = true
		case "quic":
			return nil, nil
		case "reuseport", "backlog", "rcvbuf", "sndbuf", "deferred", "bind", "ipv6only", "so_keepalive", "fastopen":
		case "udp":
			return nil, d.unsupported("udp")
		default:
			return nil, d.refuse("invalid parameter %q", a)
		}
	}
	addr, err := listenAddr(d, d.Args[0], bind)
	l.addr = addr
	if strings.HasPrefix(d.Args[0], "unix:") {
		l.network = "unix"
	}
	return l, err
}

func listenAddr(d *Directive, s, bind string) (string, error) {
	if bind == "" {
		bind = "127.0.0.1"
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return path, nil
	}
	host, port := "", s
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", d.refuse("invalid address %q", s)
		}
	} else if _, err := strconv.Atoi(s); err != nil {
		host, port = s, "80"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", d.refuse("invalid port in %q", s)
	}
	switch host {
	case "", "*", "0.0.0.0":
		host = bind
	case "localhost":
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func loadServerName(s *scope, d *Directive) error {
	for _, a := range d.Args {
		n := serverName{text: strings.ToLower(a)}
		if pattern, ok := strings.CutPrefix(a, "~"); ok {
			re, err := compileRegexp(d, pattern, true)
			if err != nil {
				return err
			}
			n.re = re
		}
		s.server.names = append(s.server.names, n)
	}
	return nil
}

// loadAnyServer loads the server of http and of stream, which is a block, and that of an
// upstream, which is not.
func loadAnyServer(s *scope, d *Directive) error {
	switch {
	case s.in == inUpstream && !d.Braces:
		return loadUpstreamServer(s, d)
	case s.in == inUpstream || !d.Braces || len(d.Args) > 0:
		return d.refuse("invalid form")
	case s.in == inStream:
		s.later = append(s.later, func() error { return s.loadStreamServer(d.Block, d.Line) })
	default:
		s.later = append(s.later, func() error { _, err := s.loadServer(d.Block, d.Line); return err })
	}
	return nil
}

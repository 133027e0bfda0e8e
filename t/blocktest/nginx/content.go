package nginx

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func contentRules() map[string]rule {
	return map[string]rule{
		"root":                 {inAnyHTTP, 1, 1, statement, loadRoot},
		"alias":                {inLocation, 1, 1, statement, loadAlias},
		"index":                {inAnyHTTP, 1, -1, statement, loadIndex},
		"try_files":            {inServer | inLocation, 2, -1, statement, loadTryFiles},
		"echo":                 {inLocation | inIf, 0, -1, statement, loadEcho},
		"error_page":           {inAnyHTTP | inIf, 2, -1, statement, loadErrorPage},
		"client_max_body_size": {inAnyHTTP, 1, 1, statement, loadMaxBody},
		"allow":                {inAnyHTTP, 1, 1, statement, loadAccess},
		"deny":                 {inAnyHTTP, 1, 1, statement, loadAccess},
		"gzip":                 {inAnyHTTP | inIf, 1, 1, statement, setFlag(func(s *settings) *bool { return &s.gzip.on })},
		"gzip_types":           {inAnyHTTP, 1, -1, statement, loadGzipTypes},
		"gzip_min_length":      {inAnyHTTP, 1, 1, statement, loadGzipMin},
	}
}

func loadRoot(s *scope, d *Directive) (err error) {
	s.loc.settings.root, err = compile(s.options.prefixed(d.Args[0]))
	return err
}

func loadAlias(s *scope, d *Directive) (err error) {
	if s.loc.kind == matchRegexp {
		return d.unsupported("in a location with a regular expression")
	}
	s.loc.alias, err = compile(s.options.prefixed(d.Args[0]))
	return err
}

func loadIndex(s *scope, d *Directive) error {
	s.loc.settings.index = d.Args
	return nil
}

func loadTryFiles(s *scope, d *Directive) (err error) {
	s.loc.tryFiles, err = compileAll(d.Args)
	return err
}

func loadEcho(s *scope, d *Directive) error {
	if len(d.Args) > 0 && strings.HasPrefix(d.Args[0], "-") {
		return d.unsupported(d.Args[0])
	}
	line, err := compile(strings.Join(d.Args, " ") + "\n")
	extend(&s.loc.echo, line)
	return err
}

// An errorPage is where an error_page directive sends a status.
type errorPage struct {
	to     template
	status int // 0: what the page says itself ("="); -1: the error's own
}

func loadErrorPage(s *scope, d *Directive) error {
	last := len(d.Args) - 1
	codes, page := d.Args[:last], errorPage{status: -1}
	if over, ok := strings.CutPrefix(codes[len(codes)-1], "="); ok {
		codes, page.status = codes[:len(codes)-1], 0
		if over != "" {
			n, err := strconv.Atoi(over)
			if err != nil {
				return d.refuse("invalid status %q", over)
			}
			page.status = n
		}
	}
	to, err := compile(d.Args[last])
	if err != nil {
		return err
	}
	page.to = to
	pages := map[int]errorPage{}
	if s.own[d.Name] {
		pages = s.loc.settings.errorPages
	} else if s.own == nil {
		s.own = map[string]bool{}
	}
	s.own[d.Name], s.loc.settings.errorPages = true, pages
	for _, code := range codes {
		n, err := strconv.Atoi(code)
		if err != nil || n < 300 || n > 599 {
			return d.refuse("invalid status %q, it must be between 300 and 599", code)
		}
		pages[n] = page
	}
	return nil
}

func loadMaxBody(s *scope, d *Directive) (err error) {
	s.loc.settings.maxBody, err = parseSize(d.Args[0])
	return err
}

// An accessRule is an allow or a deny.
type accessRule struct {
	allow bool
	all   bool
	unix  bool
	from  netip.Prefix
}

func loadAccess(s *scope, d *Directive) error {
	a := accessRule{allow: d.Name == "allow"}
	switch arg := d.Args[0]; {
	case arg == "all":
		a.all = true
	case arg == "unix:":
		a.unix = true
	default:
		p, err := netip.ParsePrefix(arg)
		if err != nil {
			addr, err := netip.ParseAddr(arg)
			if err != nil {
				return d.refuse("invalid address %q", arg)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		a.from = p.Masked()
	}
	add(s, "access rules", &s.loc.settings.rules, a)
	return nil
}

// allows asks the first rule that is about the address.
func (s *settings) allows(addr netip.Addr) bool {
	for _, a := range s.rules {
		if a.all || a.unix && !addr.IsValid() || a.from.IsValid() && a.from.Contains(addr) {
			return a.allow
		}
	}
	return true
}

// gzipSettings are the gzip directives.
type gzipSettings struct {
	on    bool
	types []string // besides text/html; "*" is any
	min   int64
}

func loadGzipTypes(s *scope, d *Directive) error {
	s.loc.settings.gzip.types = d.Args
	return nil
}

func loadGzipMin(s *scope, d *Directive) (err error) {
	s.loc.settings.gzip.min, err = parseSize(d.Args[0])
	return err
}

func (g gzipSettings) takes(contentType string) bool {
	contentType, _, _ = strings.Cut(contentType, ";")
	contentType = strings.TrimSpace(contentType)
	for _, t := range append([]string{"text/html"}, g.types...) {
		if t == "*" || strings.EqualFold(t, contentType) {
			return true
		}
	}
	return false
}

// minLength is gzip_min_length, 20 when there is none.
func (g gzipSettings) minLength() int64 {
	if g.min == 0 {
		return 20
	}
	return g.min
}

// echoed is what a location's echo directives say.
func (r *request) echoed(lines []template) error {
	for _, l := range lines {
		if _, err := fmt.Fprint(r.Out, l.expand(r)); err != nil {
			return err
		}
	}
	return nil
}

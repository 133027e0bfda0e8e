package nginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// An addHeader is an add_header directive.
type addHeader struct {
	name   string
	value  template
	always bool
}

// A headerEdit is one header of more_set_headers and its like.
type headerEdit struct {
	name     string
	value    template
	clear    bool
	onlyIf   bool  // -r: the header is there already
	statuses []int // -s; empty: any
}

func headerRules() map[string]rule {
	return map[string]rule{
		"default_type":             {inAnyHTTP, 1, 1, statement, loadDefaultType},
		"add_header":               {inAnyHTTP | inIf, 2, 3, statement, loadAddHeader},
		"expires":                  {inAnyHTTP | inIf, 1, 1, statement, loadExpires},
		"more_set_headers":         {inAnyHTTP | inIf, 1, -1, statement, loadEdits(func(s *settings) *[]headerEdit { return &s.outHeaders }, false)},
		"more_clear_headers":       {inAnyHTTP | inIf, 1, -1, statement, loadEdits(func(s *settings) *[]headerEdit { return &s.outHeaders }, true)},
		"more_set_input_headers":   {inAnyHTTP | inIf, 1, -1, statement, loadEdits(func(s *settings) *[]headerEdit { return &s.inHeaders }, false)},
		"more_clear_input_headers": {inAnyHTTP | inIf, 1, -1, statement, loadEdits(func(s *settings) *[]headerEdit { return &s.inHeaders }, true)},
		"underscores_in_headers":   {inHTTP | inServer, 1, 1, statement, setFlag(func(s *settings) *bool { return &s.underscores })},
		"set_real_ip_from":         {inAnyHTTP, 1, 1, statement, loadRealIPFrom},
		"real_ip_header":           {inAnyHTTP, 1, 1, statement, loadRealIPHeader},
	}
}

func loadDefaultType(s *scope, d *Directive) (err error) {
	s.loc.settings.defaultType, err = compile(d.Args[0])
	return err
}

func loadExpires(s *scope, d *Directive) (err error) {
	s.loc.settings.expires, err = compile(d.Args[0])
	return err
}

func loadAddHeader(s *scope, d *Directive) error {
	value, err := compile(d.Args[1])
	h := addHeader{name: d.Args[0], value: value}
	if len(d.Args) == 3 {
		if d.Args[2] != "always" {
			return d.refuse("invalid parameter %q", d.Args[2])
		}
		h.always = true
	}
	add(s, d.Name, &s.loc.settings.addHeaders, h)
	return err
}

// loadEdits reads `[-s statuses] [-r] 'Name: value'…`.
func loadEdits(list func(*settings) *[]headerEdit, clearing bool) func(*scope, *Directive) error {
	return func(s *scope, d *Directive) error {
		var common headerEdit
		var edits []headerEdit
		for i := 0; i < len(d.Args); i++ {
			switch a := d.Args[i]; {
			case a == "-r":
				common.onlyIf = true
			case a == "-s" && i+1 < len(d.Args):
				i++
				for _, code := range strings.Fields(d.Args[i]) {
					n, err := strconv.Atoi(code)
					if err != nil {
						return d.refuse("invalid status %q", code)
					}
					common.statuses = append(common.statuses, n)
				}
			case strings.HasPrefix(a, "-"):
				return d.unsupported(a)
			default:
				name, value, ok := strings.Cut(a, ":")
				compiled, err := compile(strings.TrimSpace(value))
				if err != nil {
					return err
				}
				edits = append(edits, headerEdit{name: strings.TrimSpace(name), value: compiled, clear: clearing || !ok})
			}
		}
		for _, e := range edits {
			e.onlyIf, e.statuses = common.onlyIf, common.statuses
			extend(list(&s.loc.settings), e)
		}
		return nil
	}
}

// matches says whether a header is the edit's: "X-*" clears by prefix.
func (e headerEdit) matches(name string) bool {
	if prefix, ok := strings.CutSuffix(e.name, "*"); ok && e.clear {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	return strings.EqualFold(e.name, name)
}

func (e headerEdit) apply(r *request, fields []lua.Field, status int) []lua.Field {
	if len(e.statuses) > 0 && !slices.Contains(e.statuses, status) {
		return fields
	}
	at := slices.IndexFunc(fields, func(f lua.Field) bool { return e.matches(f.Name) })
	if e.onlyIf && at < 0 {
		return fields
	}
	fields = slices.DeleteFunc(slices.Clone(fields), func(f lua.Field) bool { return e.matches(f.Name) })
	value := e.value.expand(r)
	if e.clear || value == "" {
		return fields
	}
	if at < 0 {
		at = len(fields)
	}
	return slices.Insert(fields, min(at, len(fields)), lua.Field{Name: e.name, Value: value})
}

// withAdded puts in what add_header and expires ask for.
func (s *settings) withAdded(r *request, fields []lua.Field, status int) []lua.Field {
	ordinary := slices.Contains([]int{200, 201, 204, 206, 301, 302, 303, 304, 307, 308}, status)
	if ordinary {
		fields = s.withExpires(r, fields)
	}
	for _, h := range s.addHeaders {
		if value := h.value.expand(r); value != "" && (ordinary || h.always) {
			fields = append(fields, lua.Field{Name: h.name, Value: value})
		}
	}
	return fields
}

func (s *settings) withExpires(r *request, fields []lua.Field) []lua.Field {
	value := s.expires.expand(r)
	var control, at string
	switch value {
	case "", "off":
		return fields
	case "epoch":
		control, at = "no-cache", "Thu, 01 Jan 1970 00:00:01 GMT"
	case "max":
		control, at = "max-age=315360000", "Thu, 31 Dec 2037 23:55:55 GMT"
	default:
		wait, err := parseTime(value)
		if err != nil {
			return fields // as nginx does with a variable's value
		}
		at = time.Now().Add(wait).UTC().Format(httpTime)
		control = "no-cache"
		if wait >= 0 {
			control = fmt.Sprintf("max-age=%d", int(wait.Seconds()))
		}
	}
	return append(fields, lua.Field{Name: "Expires", Value: at}, lua.Field{Name: "Cache-Control", Value: control})
}

// httpTime is the form of dates in headers.
const httpTime = "Mon, 02 Jan 2006 15:04:05 GMT"

// realIP is whom to believe which header about the client's address.
type realIP struct {
	from   []netip.Prefix
	unix   bool
	header string
}

func loadRealIPFrom(s *scope, d *Directive) error {
	if d.Args[0] == "unix:" {
		s.loc.settings.realIP.unix = true
		return nil
	}
	p, err := netip.ParsePrefix(d.Args[0])
	if err != nil {
		addr, err := netip.ParseAddr(d.Args[0])
		if err != nil {
			return d.unsupported(d.Args[0])
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	add(s, d.Name, &s.loc.settings.realIP.from, p.Masked())
	return nil
}

func loadRealIPHeader(s *scope, d *Directive) error {
	if d.Args[0] == "proxy_protocol" {
		return d.unsupported("proxy_protocol")
	}
	s.loc.settings.realIP.header = d.Args[0]
	return nil
}

// apply changes the client's address when a trusted peer names another.
func (p realIP) apply(r *request) {
	header := p.header
	if header == "" {
		header = "X-Real-IP"
	}
	addr := r.Remote.Addr()
	trusted := p.unix && !addr.IsValid()
	for _, prefix := range p.from {
		trusted = trusted || prefix.Contains(addr)
	}
	value := r.header(header)
	if !trusted || value == "" {
		return
	}
	if strings.EqualFold(header, "X-Forwarded-For") {
		value = strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
	}
	if to, err := netip.ParseAddrPort(value); err == nil {
		r.Remote = to
	} else if to, err := netip.ParseAddr(value); err == nil {
		r.Remote = netip.AddrPortFrom(to, 0)
	}
}

package nginx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A place is a kind of block that a directive may stand in. Places are bits.
type place uint16

const (
	inMain place = 1 << iota
	inHTTP
	inServer
	inLocation
	inIf
	inUpstream
	inStream
	inStreamServer

	inAnyHTTP = inHTTP | inServer | inLocation
	inRewrite = inServer | inLocation | inIf
)

// A rule is how one directive is loaded.
type rule struct {
	in       place
	min, max int // arguments; max < 0: any number
	form     form
	load     func(s *scope, d *Directive) error
}

// A form is how a directive ends.
type form int

const (
	statement form = iota // with a semicolon
	block                 // with a block
	either                // as its load sees fit
)

// A scope is a block that is being loaded.
type scope struct {
	*loader
	in       place
	server   *Server
	loc      *location // its settings are what the block's directives change
	upstream *upstreamGroup
	stream   *streamServer

	own   map[string]bool // lists that this block has begun, and no longer inherits
	later []func() error  // blocks inside, loaded when this one's settings are complete
}

type loader struct {
	config  *Config
	options Options
	rules   map[string]rule
}

// Load reads a configuration. Its errors are *UnsupportedError and *ConfigError.
func Load(src Source, o Options) (*Config, error) {
	l := &loader{
		options: o,
		config: &Config{
			Env:       map[string]string{},
			upstreams: map[string]*upstreamGroup{},
			maps:      map[string]*variableMap{},
			formats:   map[string]*logFormat{"combined": combinedFormat()},
		},
		rules: map[string]rule{},
	}
	for _, group := range []map[string]rule{
		blockRules(), serverRules(), rewriteRules(), contentRules(), headerRules(),
		scriptRules(), proxyRules(), logRules(), tlsRules(), withoutEffect(),
	} {
		maps.Copy(l.rules, group)
	}
	if err := checkVariables(src); err != nil {
		return nil, err
	}
	main := &scope{loader: l, in: inMain}
	if err := main.load(src.Main); err != nil {
		return nil, err
	}
	if err := l.http(src.HTTP, src.Server); err != nil {
		return nil, err
	}
	if err := l.stream(src.Stream, src.StreamServer); err != nil {
		return nil, err
	}
	return l.config, l.check()
}

// http loads the inside of an http block, and front, if not nil, as one more server of it.
func (l *loader) http(list, front []*Directive) error {
	s := &scope{loader: l, in: inHTTP, loc: &location{kind: matchNone, settings: defaultSettings()}}
	if front != nil {
		// It is loaded with the others, after all that stands in http itself.
		s.later = append(s.later, func() error {
			server, err := s.loadServer(front, 1)
			l.config.Front = server
			return err
		})
	}
	return s.load(list)
}

// load runs the statements of a block, then the blocks inside.
func (s *scope) load(list []*Directive) error {
	for _, d := range list {
		if err := s.statement(d); err != nil {
			return err
		}
	}
	for _, f := range s.later {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) statement(d *Directive) error {
	r, ok := s.rules[d.Name]
	switch {
	case !ok:
		return &UnsupportedError{Directive: d.Name, Line: d.Line}
	case r.in&s.in == 0:
		return d.refuse("it is not allowed here")
	case len(d.Args) < r.min, r.max >= 0 && len(d.Args) > r.max:
		return d.refuse("invalid number of arguments")
	case r.form == block && !d.Braces:
		return d.refuse("it has no opening brace")
	case r.form == statement && d.Braces:
		return d.refuse("it is not terminated by a semicolon")
	}
	err := r.load(s, d)
	var known *ConfigError
	var unsupported *UnsupportedError
	if err == nil || errors.As(err, &known) || errors.As(err, &unsupported) {
		return err
	}
	return d.refuse("%v", err)
}

func (d *Directive) refuse(format string, args ...any) error {
	return &ConfigError{Directive: d.Name, Line: d.Line, What: fmt.Sprintf(format, args...)}
}

// unsupported names the form of the directive that is not offered.
func (d *Directive) unsupported(form string) error {
	return &UnsupportedError{Directive: strings.TrimSpace(d.Name + " " + form), Line: d.Line}
}

// child is the scope of a block inside, which begins with the settings of this one.
func (s *scope) child(in place, loc *location) *scope {
	loc.settings = s.loc.settings
	loc.settings.scripts = maps.Clone(s.loc.settings.scripts)
	return &scope{loader: s.loader, in: in, server: s.server, loc: loc}
}

// add appends to a list that a block replaces as a whole when it names any entry.
func add[T any](s *scope, name string, list *[]T, v T) {
	if !s.own[name] {
		if s.own == nil {
			s.own = map[string]bool{}
		}
		s.own[name], *list = true, nil
	}
	*list = append(*list, v)
}

// extend appends to a list that a block adds to.
func extend[T any](list *[]T, v ...T) { *list = append(slices.Clip(*list), v...) }

// compile compiles every argument.
func compileAll(args []string) ([]template, error) {
	out := make([]template, len(args))
	for i, a := range args {
		var err error
		if out[i], err = compile(a); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// check looks for names that no directive has declared.
func (l *loader) check() error {
	for _, s := range l.config.servers {
		if err := l.checkLocation(s.scope); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) checkLocation(loc *location) error {
	if p := loc.proxy; p != nil {
		if err := p.resolve(l.config); err != nil {
			return err
		}
	}
	for _, a := range loc.settings.accessLogs {
		if l.config.formats[a.format] == nil {
			return &ConfigError{Directive: "access_log", Line: a.line, What: fmt.Sprintf("unknown log format %q", a.format)}
		}
	}
	for _, c := range loc.children {
		if err := l.checkLocation(c); err != nil {
			return err
		}
	}
	return nil
}

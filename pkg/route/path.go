package route

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
)

// pathPattern is a route's `uri`, taken apart (spec/03 §3).
type pathPattern struct {
	text   string // exact path, or what every matching path starts with
	prefix bool
	shape  shape // what the whole path must look like beyond text; nil: nothing
}

// shape judges a whole path whose start is known to be right. What it captures it
// appends to params, and returns them; on false they are returned as they came.
type shape interface {
	match(path string, params []exchange.Param) ([]exchange.Param, bool)
}

var errEmptyPattern = errors.New("empty uri")

// compilePattern takes a pattern apart. params switches on what only
// radixtree_uri_with_parameter knows.
func compilePattern(uri string, params bool) (pathPattern, error) {
	if uri == "" {
		return pathPattern{}, errEmptyPattern
	}
	stop := "*"
	if params {
		stop = "*:"
	}
	i := strings.IndexAny(uri, stop)
	if i < 0 {
		return pathPattern{text: uri}, nil
	}
	p := pathPattern{text: uri[:i], prefix: true}
	var err error
	if params {
		p.shape, err = compileParams(uri)
	} else if i > 0 && uri[i-1] == '/' && i < len(uri)-1 {
		p.shape = compileGlob(uri)
	}
	return p, err
}

// glob is the text between stars that start a segment: `/a/*/b` is "/a/" and "/b". A
// star stands for anything, slashes included.
type glob []string

func compileGlob(uri string) shape {
	var g glob
	literal := ""
	for i, segment := range strings.Split(uri, "/") {
		if i > 0 {
			literal += "/"
		}
		switch at := strings.IndexByte(segment, '*'); {
		case at < 0:
			literal += segment
		case at == 0:
			g = append(g, literal)
			literal = ""
		default:
			// A star inside a segment ends what is looked at, as it does in `/a*b`.
			return append(g, literal+segment[:at], "")
		}
	}
	return append(g, literal)
}

func (g glob) match(path string, params []exchange.Param) ([]exchange.Param, bool) {
	rest, ok := strings.CutPrefix(path, g[0])
	if !ok {
		return params, false
	}
	for _, part := range g[1 : len(g)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return params, false
		}
		rest = rest[i+len(part):]
	}
	return params, strings.HasSuffix(rest, g[len(g)-1])
}

// segments is a pattern with parameters and at most one star: what stands before the
// star is matched from the left, what stands after it from the right, so that neither
// backtracking nor memory is needed.
type segments struct {
	left, right []segment
	star        bool
	name        string // of the star
}

type segment struct {
	text  string // regular expression text whose only operator is the dot
	param bool
	name  string
}

// rest is the name of a star that has none.
const restName = ":ext"

func compileParams(uri string) (shape, error) {
	var s segments
	stars, params, plain := 0, 0, true
	for _, text := range strings.Split(uri, "/") {
		switch {
		case strings.HasPrefix(text, "*"):
			stars++
			s.star, s.name = true, text[1:]
			if s.name == "" {
				s.name = restName
			}
			continue
		case strings.HasPrefix(text, ":"):
			params++
			text = text[1:]
			s.add(segment{param: true, name: text})
			continue
		}
		plain = plain && !strings.ContainsAny(text, `\+*?()|[]{}^$`)
		s.add(segment{text: text})
	}
	switch {
	case stars+params == 0:
		return nil, nil // `/a*b`, `/a:b`: the text before is all that counts
	case stars > 1 || !plain:
		return compileRegexp(uri)
	}
	return &s, nil
}

func (s *segments) add(g segment) {
	if s.star {
		s.right = append(s.right, g)
	} else {
		s.left = append(s.left, g)
	}
}

func (s *segments) match(path string, params []exchange.Param) ([]exchange.Param, bool) {
	before := len(params)
	rest := path
	for i, g := range s.left {
		if i > 0 {
			if rest == "" || rest[0] != '/' {
				return params[:before], false
			}
			rest = rest[1:]
		}
		n := len(g.text)
		if g.param {
			if n = strings.IndexByte(rest, '/'); n < 0 {
				n = len(rest)
			}
			if n == 0 {
				return params[:before], false
			}
			params = append(params, exchange.Param{Name: g.name, Value: rest[:n]})
		} else if n > len(rest) || !equalDots(g.text, rest[:n]) {
			return params[:before], false
		}
		rest = rest[n:]
	}
	if !s.star {
		return keep(params, before, rest == "")
	}
	// The slash before the star; before the slash there is always a segment, if only
	// the empty one at the start of the path.
	if rest == "" || rest[0] != '/' {
		return params[:before], false
	}
	rest = rest[1:]
	star := len(params)
	params = append(params, exchange.Param{Name: s.name})
	for i := len(s.right) - 1; i >= 0; i-- {
		g := s.right[i]
		n := len(g.text)
		if g.param {
			if n = len(rest) - 1 - strings.LastIndexByte(rest, '/'); n == 0 {
				return params[:before], false
			}
		}
		at := len(rest) - n
		if at < 1 || rest[at-1] != '/' || !g.param && !equalDots(g.text, rest[at:]) {
			return params[:before], false
		}
		if g.param {
			params = append(params, exchange.Param{Name: g.name, Value: rest[at:]})
		}
		rest = rest[:at-1]
	}
	params[star].Value = rest
	return params, true
}

func keep(params []exchange.Param, before int, ok bool) ([]exchange.Param, bool) {
	if !ok {
		params = params[:before]
	}
	return params, ok
}

// equalDots compares with text in which a dot stands for any byte but a newline.
func equalDots(text, s string) bool {
	for i := range len(text) {
		if text[i] != s[i] && (text[i] != '.' || s[i] == '\n') {
			return false
		}
	}
	return true
}

// expression is a pattern whose segments are regular expression text, or which has
// several stars.
type expression struct {
	re    *regexp.Regexp
	names []string // of the groups, "" for those that the configured text brought along
}

func compileRegexp(uri string) (shape, error) {
	var b strings.Builder
	names := map[string]string{}
	for i, text := range strings.Split(uri, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		group := "segment" + strconv.Itoa(i)
		switch {
		case strings.HasPrefix(text, ":"):
			names[group] = text[1:]
			b.WriteString("(?P<" + group + ">[^/]+)")
		case strings.HasPrefix(text, "*"):
			names[group] = text[1:]
			if names[group] == "" {
				names[group] = restName
			}
			b.WriteString("(?P<" + group + ">(?s:.*))")
		default:
			b.WriteString(text)
		}
	}
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, fmt.Errorf("uri %q: %w", uri, err)
	}
	e := &expression{re: re}
	for _, group := range re.SubexpNames() {
		e.names = append(e.names, names[group])
	}
	return e, nil
}

func (e *expression) match(path string, params []exchange.Param) ([]exchange.Param, bool) {
	// The expression is not anchored and the first match alone is asked whether it is
	// the whole path: in `/x/a|/x/ab` the second choice is never reached (spec/03 §3).
	at := e.re.FindStringSubmatchIndex(path)
	if at == nil || at[0] != 0 || at[1] != len(path) {
		return params, false
	}
	for i, name := range e.names {
		if name != "" && at[2*i] >= 0 {
			params = append(params, exchange.Param{Name: name, Value: path[at[2*i]:at[2*i+1]]})
		}
	}
	return params, true
}

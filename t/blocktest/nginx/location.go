package nginx

import (
	"regexp"
	"strings"
)

// A matchKind is the sign before a location's path.
type matchKind int

const (
	matchPrefix matchKind = iota
	matchFinal            // ^~: a prefix that ends the search
	matchExact            // =
	matchRegexp           // ~ and ~*
	matchNone             // a server's scope, an if's, a @named one
)

// A location is a scope that a request can be in: of a server, a location block or an if.
type location struct {
	kind     matchKind
	path     string
	re       *regexp.Regexp
	internal bool
	children []*location
	program  []operation // of the rewrite phase, in order

	// Content: at most one of them.
	content  *script
	proxy    *proxyPass
	echo     []template
	alias    template
	tryFiles []template

	settings settings
}

// find returns the location for a decoded path, nil when none matches: the exact one, else
// the first regular expression unless the longest prefix forbids it, else the longest
// prefix. Nested locations are searched when their parent is the longest prefix.
func (l *location) find(path string) (found *location, captures []string) {
	var longest *location
	for _, c := range l.children {
		switch c.kind {
		case matchExact:
			if c.path == path {
				return c, nil
			}
		case matchPrefix, matchFinal:
			if strings.HasPrefix(path, c.path) && (longest == nil || len(c.path) > len(longest.path)) {
				longest = c
			}
		}
	}
	if longest != nil {
		final := longest.kind == matchFinal
		if inner, captures := longest.find(path); inner != nil && inner.kind != matchPrefix {
			return inner, captures
		} else if inner != nil {
			longest = inner
		}
		if final {
			return longest, nil
		}
	}
	for _, c := range l.children {
		if c.kind != matchRegexp {
			continue
		}
		if m := c.re.FindStringSubmatch(path); m != nil {
			if inner, innerCaptures := c.find(path); inner != nil {
				return inner, innerCaptures
			}
			return c, m
		}
	}
	return longest, nil
}

// Declares says whether one of the server's locations takes a request target, a path
// with or without a query.
func (s *Server) Declares(target string) bool {
	if s == nil {
		return false
	}
	path, _, ok := splitTarget(target)
	if !ok {
		return false
	}
	loc, _ := s.scope.find(path)
	return loc != nil && !loc.internal
}

package nginx

import (
	"regexp"
	"slices"
	"strings"
)

// expanding are the directives whose arguments are templates. A log format's and a map's
// are not among them: they may name what the gateway's own locations set.
var expanding = strings.Fields(`
set return rewrite if add_header more_set_headers more_set_input_headers expires
default_type proxy_pass proxy_set_header proxy_ssl_name root alias try_files echo
error_page`)

// groupName finds the named groups of a regular expression.
var groupName = regexp.MustCompile(`\(\?P?<(\w+)>`)

// checkVariables looks for a variable that nothing declares. It may be one of nginx's that
// this package does not offer, so that the answer is an *UnsupportedError.
func checkVariables(src Source) error {
	c := variableCheck{declared: map[string]bool{}}
	lists := [][]*Directive{src.Main, src.HTTP, src.Server}
	for _, list := range lists {
		c.declare(list)
	}
	for _, list := range lists {
		if err := c.check(list); err != nil {
			return err
		}
	}
	return nil
}

type variableCheck struct{ declared map[string]bool }

func (c variableCheck) declare(list []*Directive) {
	for _, d := range list {
		switch {
		case d.Name == "set" && len(d.Args) > 0:
			c.declared[strings.TrimPrefix(d.Args[0], "$")] = true
		case d.Name == "map" && len(d.Args) == 2:
			c.declared[strings.TrimPrefix(d.Args[1], "$")] = true
		}
		for _, a := range append([]string{d.Name}, d.Args...) {
			for _, m := range groupName.FindAllStringSubmatch(a, -1) {
				c.declared[m[1]] = true
			}
		}
		c.declare(d.Block)
	}
}

func (c variableCheck) check(list []*Directive) error {
	for _, d := range list {
		if err := c.check(d.Block); err != nil {
			return err
		}
		if !slices.Contains(expanding, d.Name) {
			continue
		}
		args := d.Args
		if d.Name == "rewrite" && len(args) > 0 {
			args = args[1:]
		}
		for _, a := range args {
			if name := c.unknown(a); name != "" {
				return &UnsupportedError{Directive: d.Name + " with the variable $" + name, Line: d.Line}
			}
		}
	}
	return nil
}

// unknown returns the first variable of a text that nobody knows. What is no template,
// such as a regular expression of an if, is left to whoever loads it.
func (c variableCheck) unknown(text string) string {
	t, err := compile(strings.Trim(text, "()"))
	if err != nil {
		return ""
	}
	for _, p := range t {
		if p.variable != "" && !c.declared[p.variable] && !isBuiltin(p.variable) {
			return p.variable
		}
	}
	return ""
}

func isBuiltin(name string) bool {
	if _, ok := builtins[name]; ok || strings.Trim(name, "0123456789") == "" {
		return true
	}
	return slices.ContainsFunc(families, func(f family) bool { return strings.HasPrefix(name, f.prefix) })
}

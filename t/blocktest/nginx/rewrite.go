package nginx

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// An operation is a directive of the rewrite phase.
type operation interface {
	// run does it. stop ends the operations of this scope. An error ends the request: an
	// *lua.ExitError with the status, or what a broken template says.
	run(r *request) (stop bool, err error)
}

func rewriteRules() map[string]rule {
	return map[string]rule{
		"set":     {inRewrite, 2, 2, statement, loadSet},
		"return":  {inRewrite, 1, 2, statement, loadReturn},
		"rewrite": {inRewrite, 2, 3, statement, loadRewrite},
		"break":   {inRewrite, 0, 0, statement, func(s *scope, _ *Directive) error { extend[operation](&s.loc.program, breakOp{}); return nil }},
	}
}

// runProgram runs the operations of a scope.
func runProgram(r *request, program []operation) (stop bool, err error) {
	for _, op := range program {
		if stop, err = op.run(r); stop || err != nil {
			return stop, err
		}
	}
	return false, nil
}

type setOp struct {
	name  string
	value template
}

func loadSet(s *scope, d *Directive) error {
	name, ok := strings.CutPrefix(d.Args[0], "$")
	if !ok || name == "" {
		return d.refuse("invalid variable name %q", d.Args[0])
	}
	value, err := compile(d.Args[1])
	extend[operation](&s.loc.program, setOp{name, value})
	return err
}

func (o setOp) run(r *request) (bool, error) {
	r.Vars[o.name] = o.value.expand(r)
	return false, nil
}

type breakOp struct{}

func (breakOp) run(*request) (bool, error) { return true, nil }

// A returnOp is `return code`, `return code text` and `return url`.
type returnOp struct {
	status int
	text   template
	isText bool
}

func loadReturn(s *scope, d *Directive) error {
	var o returnOp
	status, err := strconv.Atoi(d.Args[0])
	switch {
	case err == nil && status >= 0 && status <= 999:
		o.status = status
		if len(d.Args) == 2 {
			o.isText = true
			o.text, err = compile(d.Args[1])
		}
	case len(d.Args) == 2:
		return d.refuse("invalid return code %q", d.Args[0])
	default:
		o.status, o.isText = 302, true
		o.text, err = compile(d.Args[0])
	}
	extend[operation](&s.loc.program, operation(o))
	return err
}

func (o returnOp) run(r *request) (bool, error) {
	if !o.isText {
		return true, &lua.ExitError{Status: o.status}
	}
	text := o.text.expand(r)
	switch o.status {
	case 301, 302, 303, 307, 308:
		return true, r.redirect(o.status, text)
	}
	return true, r.fixed(o.status, text)
}

// redirect answers with nginx's page for the status and a Location, made absolute when it
// is a path.
func (r *request) redirect(status int, to string) error {
	if strings.HasPrefix(to, "/") {
		host := r.header("Host")
		if host == "" {
			host, _ = r.variable("host")
		}
		to = r.Scheme + "://" + host + to
	}
	r.OutHeader = append(r.OutHeader, lua.Field{Name: "Location", Value: to})
	return &lua.ExitError{Status: status}
}

// A rewriteOp is `rewrite regex replacement [flag]`.
type rewriteOp struct {
	re   *regexp.Regexp
	to   template
	flag string
}

func loadRewrite(s *scope, d *Directive) error {
	o := rewriteOp{}
	var err error
	if o.re, err = compileRegexp(d, d.Args[0], false); err != nil {
		return err
	}
	if len(d.Args) == 3 {
		o.flag = d.Args[2]
	}
	switch o.flag {
	case "", "last", "break", "redirect", "permanent":
	default:
		return d.refuse("invalid parameter %q", o.flag)
	}
	to := d.Args[1]
	if _, absolute := cutScheme(to); (absolute || strings.HasPrefix(to, "$scheme")) && o.flag != "permanent" {
		o.flag = "redirect"
	}
	o.to, err = compile(to)
	extend[operation](&s.loc.program, operation(o))
	return err
}

func (o rewriteOp) run(r *request) (bool, error) {
	m := o.re.FindStringSubmatch(r.URI)
	if m == nil {
		return false, nil
	}
	r.capture(o.re, m)
	to := o.to.expand(r)
	uri, args, hasArgs := strings.Cut(to, "?")
	switch { // a ? at the end drops the request's own arguments
	case hasArgs && strings.HasSuffix(to, "?"):
	case r.Args == "":
	case args == "":
		args = r.Args
	default:
		args += "&" + r.Args
	}
	switch o.flag {
	case "redirect", "permanent":
		status := 302
		if o.flag == "permanent" {
			status = 301
		}
		if args != "" {
			uri += "?" + args
		}
		return true, r.redirect(status, uri)
	}
	r.URI, r.Args = uri, args
	r.moved = o.flag != "break"
	return o.flag != "", nil
}

// An ifOp is an if block. Directives of it other than those of the rewrite phase make it
// the request's location when its condition holds.
type ifOp struct {
	left    template
	holds   func(r *request, left string) bool
	program *location // the block
	content bool
}

func loadIf(s *scope, d *Directive) error {
	loc := &location{kind: matchNone, path: s.loc.path}
	o := &ifOp{program: loc}
	if err := o.condition(d); err != nil {
		return err
	}
	for _, b := range d.Block {
		if _, rewrite := rewriteRules()[b.Name]; !rewrite {
			o.content = true
		}
	}
	extend[operation](&s.loc.program, operation(o))
	outer := s.loc
	s.later = append(s.later, func() error {
		err := s.child(inIf, loc).load(d.Block)
		if loc.content == nil && loc.proxy == nil && loc.echo == nil {
			loc.content, loc.proxy, loc.echo = outer.content, outer.proxy, outer.echo
		}
		loc.alias, loc.tryFiles, loc.children = outer.alias, outer.tryFiles, outer.children
		return err
	})
	return nil
}

// condition reads ($a), ($a = b), ($a != b), and ~, ~*, !~, !~*.
func (o *ifOp) condition(d *Directive) error {
	words := append([]string(nil), d.Args...)
	last := len(words) - 1
	if !strings.HasPrefix(words[0], "(") || !strings.HasSuffix(words[last], ")") {
		return d.refuse("invalid condition")
	}
	words[last] = strings.TrimSuffix(words[last], ")")
	words[0] = strings.TrimPrefix(words[0], "(")
	if words[0] == "" && len(words) > 1 {
		words = words[1:]
	}
	if n := len(words); n == 4 && words[3] == "" || n == 2 && words[1] == "" {
		words = words[:n-1] // the parenthesis stood alone
	}
	if !strings.HasPrefix(words[0], "$") {
		return d.unsupported("with the condition " + strings.Join(d.Args, " "))
	}
	left, err := compile(words[0])
	o.left = left
	switch {
	case err != nil:
		return err
	case len(words) == 1:
		o.holds = func(_ *request, left string) bool { return left != "" && left != "0" }
		return nil
	case len(words) != 3:
		return d.refuse("invalid condition")
	}
	return o.comparison(d, words[1], words[2])
}

func (o *ifOp) comparison(d *Directive, operator, right string) error {
	sign, negated := strings.CutPrefix(operator, "!")
	switch sign {
	case "=":
		value, err := compile(right)
		o.holds = func(r *request, left string) bool { return (left == value.expand(r)) != negated }
		return err
	case "~", "~*":
		re, err := compileRegexp(d, right, sign == "~*")
		o.holds = func(r *request, left string) bool {
			m := re.FindStringSubmatch(left)
			if m != nil {
				r.capture(re, m)
			}
			return (m != nil) != negated
		}
		return err
	}
	return d.refuse("unexpected %q in condition", operator)
}

func (o *ifOp) run(r *request) (bool, error) {
	if !o.holds(r, o.left.expand(r)) {
		return false, nil
	}
	if o.content {
		r.loc = o.program
	}
	return runProgram(r, o.program.program)
}

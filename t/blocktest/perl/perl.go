// Package perl evaluates the part of Perl that test suites in the notation of Test::Nginx
// are written with: prologues that set variables, read files and register preprocessors,
// and sections whose value is an expression. It is no Perl: what it does not know is an
// UnsupportedError with its line, never a guess. It runs no commands and writes no files.
//
// Texts are bytes, as they are in Perl for a source without `use utf8`. Regular expressions
// run on regexp2 with a match timeout, see Compile.
package perl

import (
	"errors"
	"fmt"
	"maps"
	"strings"
)

// UnsupportedError is an idiom that this package does not offer. Perl's eval does not catch
// it.
type UnsupportedError struct {
	What string
	Line int // 0: unknown
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("line %d: %s is not supported", e.Line, e.What)
}

// DieError is Perl's own exception: die, or what Perl refuses at run time. eval catches it.
type DieError struct {
	Text string // ends like Perl's: "… at FILE line N.\n", or as the program worded it
	Line int
}

func (e *DieError) Error() string { return strings.TrimSuffix(e.Text, "\n") }

// A Func is a function that the host offers to programs.
type Func func(args []Value) ([]Value, error)

// Options are what a program may reach. The zero value reaches nothing.
type Options struct {
	// Name is what error texts call the source.
	Name string
	// Home is where relative paths begin. Empty: files cannot be read.
	Home string
	// Env is the environment; the program's changes go to a copy, see Env.
	Env map[string]string
	// Funcs are the functions of imported modules, by the name they are called with
	// ("repeat_each", "t::APISIX::read_file").
	Funcs map[string]Func
	// Use is told of each module that is used, with the values after its name. Nil: every
	// module is taken.
	Use func(module string, args []Value) error
	// Command answers a command in backticks; false: it is not supported. Nil: none is.
	Command func(command string) (string, bool)
}

// An Interp holds the package variables and subs of one program. It is used by one
// goroutine at a time.
type Interp struct {
	opts    Options
	globals map[string]any // "$x" -> *cell, "@x" -> *Array, "%x" -> *Hash
	subs    map[string]*Code
	env     *Hash
	depth   int
	steps   int
	strict  bool // undeclared variables are errors
}

// Limits keep a program that does not end, or grows without bound, from taking the runner
// along. Suites stay far below them.
const (
	maxSteps  = 5_000_000
	maxDepth  = 500
	maxString = 64 << 20
)

// New returns an interpreter.
func New(opts Options) *Interp {
	in := &Interp{opts: opts, globals: map[string]any{}, subs: map[string]*Code{}, env: NewHash()}
	for k, v := range opts.Env {
		in.env.Set(k, v)
	}
	in.globals["%ENV"] = in.env
	in.globals["$/"] = &cell{v: "\n"}
	in.globals["$@"] = &cell{v: ""}
	in.globals["$0"] = &cell{v: opts.Name}
	in.globals["$!"] = &cell{v: ""}
	in.globals["$_"] = &cell{}
	in.globals["$|"] = &cell{v: float64(0)}
	in.globals["$,"] = &cell{}
	return in
}

// Env returns the environment as the program has left it.
func (in *Interp) Env() map[string]string {
	out := map[string]string{}
	for k, v := range maps.All(in.env.m) {
		if v != nil {
			out[k] = Text(v)
		}
	}
	return out
}

// Run runs a program in package main. line is the number of its first line. It becomes
// strict with the first module it uses that is more than a helper of its own.
func (in *Interp) Run(src string, line int) (err error) {
	in.strict = false
	_, err = in.run(src, line)
	return err
}

// Eval evaluates a text as eval does in list context: the value of its last statement. It
// sees the package variables of what Run ran, not its lexical ones.
func (in *Interp) Eval(src string, line int) ([]Value, error) {
	in.strict = true
	return in.run(src, line)
}

func (in *Interp) run(src string, line int) (out []Value, err error) {
	defer in.catch(&err)
	in.steps = 0
	body := parse(src, line, in)
	f := &frame{in: in, vars: map[string]any{}, list: true}
	for _, n := range body.list { // subs are there before the program begins
		if d, ok := n.(*define); ok {
			d.scalar(f)
		}
	}
	return body.run(f), nil
}

// Call calls a sub with those arguments, in list context.
func (in *Interp) Call(c *Code, args ...Value) (out []Value, err error) {
	defer in.catch(&err)
	in.steps = 0
	return in.call(c, args, true, 0), nil
}

// catch turns a failure that went up as a panic into the error of an exported function.
func (in *Interp) catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case *failure:
		*err = p.err
	case *returned:
		*err = nil
	case loopExit:
		*err = &UnsupportedError{What: p.word + " outside a loop", Line: p.line}
	default:
		panic(p)
	}
}

// A failure carries an error from deep inside to the exported function, as text/template
// does: each node may fail, and none can go on.
type failure struct{ err error }

func fail(err error) {
	panic(&failure{err})
}

func unsupported(line int, format string, args ...any) {
	fail(&UnsupportedError{What: fmt.Sprintf(format, args...), Line: line})
}

// die raises Perl's exception. A text without a newline at its end gets the place.
func (in *Interp) die(line int, text string) {
	if !strings.HasSuffix(text, "\n") {
		text += fmt.Sprintf(" at %s line %d.\n", in.opts.Name, line)
	}
	fail(&DieError{Text: text, Line: line})
}

// failHost raises what a host's function returned. Errors of this package go up as they
// are, others are exceptions of Perl.
func (in *Interp) failHost(line int, err error) {
	var u *UnsupportedError
	if errors.As(err, &u) {
		if u.Line == 0 {
			u = &UnsupportedError{What: u.What, Line: line}
		}
		fail(u)
	}
	var d *DieError
	if errors.As(err, &d) {
		fail(d)
	}
	var stop *StopError
	if errors.As(err, &stop) {
		fail(stop)
	}
	in.die(line, err.Error())
}

// StopError is how a host's function ends the program, as exit does.
type StopError struct{ Why string }

func (e *StopError) Error() string { return e.Why }

func (in *Interp) step(line int) {
	if in.steps++; in.steps > maxSteps {
		unsupported(line, "a program of more than %d steps", maxSteps)
	}
}

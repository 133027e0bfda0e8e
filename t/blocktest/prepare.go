package blocktest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// Settings are what a prologue asked for.
type Settings struct {
	Repeat   int    // of repeat_each, at least 1
	LogLevel string // of log_level
	// Calls are the functions of Test::Nginx that were called and whose effect is on the
	// servers (workers, worker_connections, master_on, use_hup, env_to_nginx …), with
	// their arguments as texts.
	Calls map[string][]string
	// Env is the environment as the prologue left it.
	Env map[string]string

	reference bool   // it uses t::APISIX, which has defaults of its own
	skipAll   string // why no block is to run
	ran       bool   // run_tests was called
}

// recorded are the functions that only leave a note. What they change is the reference's
// own process, or how it prints.
var recorded = []string{
	"no_long_string", "no_root_location", "no_shuffle", "no_diff", "worker_connections", "workers",
	"master_on", "master_off", "master_process_enabled", "use_hup", "no_nginx_manager",
	"env_to_nginx", "check_accum_error_log", "add_cleanup_handler", "add_test_cleanup_handler",
	"server_name", "timeout", "is_str", "no_diag_on_only",
}

// A program is the prologue of a file after it ran.
type program struct {
	in            *perl.Interp
	settings      *Settings
	preprocessors []*perl.Code // in the order they are to run
}

// runPrologue evaluates a suite's prologue. home is the checkout that its paths begin at,
// root where the servers have their files.
func runPrologue(s *Suite, home, root string) (*program, error) {
	p := &program{settings: &Settings{Repeat: 1, LogLevel: "warn", Calls: map[string][]string{}}}
	env := map[string]string{
		"PATH":                   os.Getenv("PATH"),
		"TEST_NGINX_SERVER_PORT": "1984",
		"TEST_NGINX_SERVER_ROOT": root,
		"TEST_NGINX_HTML_DIR":    filepath.Join(root, "html"),
	}
	p.in = perl.New(perl.Options{
		Name: s.Path, Home: home, Env: env,
		Funcs: p.functions(home, root), Use: p.use, Command: answer,
	})
	err := p.in.Run(s.Prologue, 1)
	var stop *perl.StopError
	if errors.As(err, &stop) {
		p.settings.skipAll, err = stop.Why, nil
	}
	if err != nil {
		return nil, err
	}
	p.settings.Env = p.in.Env()
	return p, nil
}

// answer knows what prologues ask the reference's server: how it was built.
func answer(command string) (string, bool) {
	fields := strings.Fields(command)
	if len(fields) >= 2 && strings.HasSuffix(fields[0], "nginx") && fields[1] == "-V" {
		return "nginx version: openresty/" + nginxVersion + "\nconfigure arguments: --add-module=../apisix-nginx-module\n", true
	}
	return "", false
}

func (p *program) use(module string, args []perl.Value) error {
	switch module {
	case "t::APISIX":
		p.settings.reference = true
		p.settings.LogLevel = "info"
	case "lib", "Cwd", "strict", "warnings", "utf8", "vars":
	default:
		if !strings.HasPrefix(module, "Test::Nginx") && !strings.HasPrefix(module, "Test::Base") {
			return &perl.UnsupportedError{What: "use " + module}
		}
	}
	if module == "utf8" {
		return &perl.UnsupportedError{What: "use utf8"}
	}
	return p.plan(args)
}

// plan is told of the number of tests, or that there are to be none.
func (p *program) plan(args []perl.Value) error {
	if len(args) > 1 && perl.Text(args[0]) == "skip_all" {
		return &perl.StopError{Why: perl.Text(args[1])}
	}
	return nil
}

func (p *program) functions(home, root string) map[string]perl.Func {
	funcs := map[string]perl.Func{
		"plan":                   func(args []perl.Value) ([]perl.Value, error) { return nil, p.plan(args) },
		"repeat_each":            p.repeatEach,
		"log_level":              p.logLevel,
		"add_block_preprocessor": p.addPreprocessor,
		"run_tests": func([]perl.Value) ([]perl.Value, error) {
			p.settings.ran = true
			return nil, nil
		},
		"blocks":      func([]perl.Value) ([]perl.Value, error) { return text("1"), nil },
		"cwd":         func([]perl.Value) ([]perl.Value, error) { return text(home), nil },
		"html_dir":    func([]perl.Value) ([]perl.Value, error) { return text(filepath.Join(root, "html")), nil },
		"server_root": func([]perl.Value) ([]perl.Value, error) { return text(root), nil },
		"server_port": func([]perl.Value) ([]perl.Value, error) { return text("1984"), nil },
		"server_addr": func([]perl.Value) ([]perl.Value, error) { return text("127.0.0.1"), nil },
		"t::APISIX::read_file": func(args []perl.Value) ([]perl.Value, error) {
			return readFile(home, args)
		},
	}
	for _, name := range recorded {
		funcs[name] = func(args []perl.Value) ([]perl.Value, error) {
			texts := []string{}
			for _, a := range args {
				texts = append(texts, perl.Text(a))
			}
			p.settings.Calls[name] = texts
			return nil, nil
		}
	}
	return funcs
}

func text(s string) []perl.Value { return []perl.Value{s} }

func readFile(home string, args []perl.Value) ([]perl.Value, error) {
	if len(args) != 1 {
		return nil, &perl.UnsupportedError{What: "read_file without a path"}
	}
	data, err := os.ReadFile(filepath.Join(home, perl.Text(args[0])))
	if err != nil {
		return nil, fmt.Errorf("cannot open %s for reading", perl.Text(args[0]))
	}
	return text(string(data)), nil
}

func (p *program) repeatEach(args []perl.Value) ([]perl.Value, error) {
	if len(args) > 0 {
		p.settings.Repeat = max(int(perl.Number(args[0])), 1)
	}
	return []perl.Value{float64(p.settings.Repeat)}, nil
}

func (p *program) logLevel(args []perl.Value) ([]perl.Value, error) {
	if len(args) > 0 {
		p.settings.LogLevel = perl.Text(args[0])
	}
	return text(p.settings.LogLevel), nil
}

// addPreprocessor puts a sub before those that were there: the last one runs first.
func (p *program) addPreprocessor(args []perl.Value) ([]perl.Value, error) {
	var code *perl.Code
	if len(args) == 1 {
		code, _ = args[0].(*perl.Code)
	}
	if code == nil {
		return nil, &perl.UnsupportedError{What: "a preprocessor that is no sub"}
	}
	p.preprocessors = slices.Insert(p.preprocessors, 0, code)
	return nil, nil
}

// evalText evaluates Perl; an exception is worth its text.
func evalText(in *perl.Interp, src string, line int) ([]perl.Value, error) {
	values, err := in.Eval(src, line)
	var died *perl.DieError
	if errors.As(err, &died) {
		return text(died.Text), nil
	}
	return values, err
}

// sections are the values of a block. A section that is absent has no entry; one without
// a value has an empty one.
type sections struct {
	values map[string][]perl.Value
	// asked are the names that the prologue read or set: they mean something to it.
	asked map[string]bool
	// counts are how many values the filters made of each section that is written.
	counts map[string]int
	name   string
}

// Call makes sections what a prologue knows as its block.
func (s *sections) Call(method string, args []perl.Value) ([]perl.Value, error) {
	switch method {
	case "set_value":
		if len(args) == 0 {
			return nil, &perl.UnsupportedError{What: "set_value without a name"}
		}
		name := perl.Text(args[0])
		s.asked[name] = true
		s.values[name] = slices.Clone(args[1:])
		return nil, nil
	case "name":
		return text(s.name), nil
	}
	if reservedNames[method] || method == "can" || len(args) > 0 {
		return nil, &perl.UnsupportedError{What: "the method " + method + " of a block"}
	}
	s.asked[method] = true
	return s.values[method], nil
}

// get returns what an accessor of the block does; nil is undef.
func (s *sections) get(name string) perl.Value {
	if v := s.values[name]; len(v) > 0 {
		return v[0]
	}
	return nil
}

func (s *sections) has(name string) bool { return s.get(name) != nil }

func (s *sections) set(name, value string) { s.values[name] = text(value) }

// filterSections evaluates the sections of a block. A section that is written over by a
// later one of its name is filtered like Test::Base does it, value by value.
func (p *program) filterSections(b *Block) (*sections, error) {
	s := &sections{values: map[string][]perl.Value{}, asked: map[string]bool{}, counts: map[string]int{}, name: b.Name}
	latest := map[string]*Section{}
	for _, sec := range b.Sections {
		latest[sec.Name] = sec
		s.values[sec.Name] = text(sec.Raw)
	}
	for _, sec := range b.Sections {
		values, err := filterValue(p.in, latest[sec.Name], s.values[sec.Name])
		if err != nil {
			return nil, err
		}
		s.values[sec.Name] = values
		s.counts[sec.Name] = len(values)
		if len(values) == 1 && values[0] == nil {
			s.counts[sec.Name] = 0
		}
	}
	return s, nil
}

// prepare evaluates a block and lets the preprocessors at it.
func (p *program) prepare(b *Block) (*Prepared, error) {
	s, err := p.filterSections(b)
	if err != nil {
		return nil, err
	}
	for _, code := range p.preprocessors {
		if _, err := p.in.Call(code, s); err != nil {
			return nil, fmt.Errorf("preprocessor: %w", err)
		}
	}
	if p.settings.reference {
		referenceDefaults(s)
	}
	if err := streamDefaults(s); err != nil {
		return nil, err
	}
	prep := &Prepared{Block: b, Values: map[string]string{}, LogLevel: p.settings.LogLevel, Settings: p.settings, sections: s}
	if level := perl.Text(s.get("log_level")); level != "" {
		prep.LogLevel = strings.TrimSpace(level)
	}
	for name := range s.values {
		if v := s.get(name); v != nil {
			if prep.Values[name], err = expand(name, flat(v), p.settings.Env); err != nil {
				return nil, err
			}
		}
	}
	return prep, nil
}

// referenceDefaults are what the reference's own preprocessor, which runs behind those of
// the file, sets for the runner. What it does for the servers is the World's business.
func referenceDefaults(s *sections) {
	if !s.has("timeout") {
		s.set("timeout", "5")
	}
	if perl.Truth(s.get("stream_tls_request")) {
		s.set("stream_conf_enable", "1")
		delete(s.values, "stream_enable")
		s.set("request", "GET /stream_tls_request")
	}
	if perl.Truth(s.get("exec")) {
		s.set("request", "GET /exec_request")
	}
	if !s.has("error_log") && !s.has("no_error_log") && !s.has("grep_error_log") && !s.has("ignore_error_log") {
		s.set("no_error_log", "[error]")
	}
}

// streamDefaults are what Test::Nginx itself sets last: a stream server is spoken to through
// a location.
func streamDefaults(s *sections) error {
	stream := s.has("stream_enable") || s.has("stream_request") || s.has("stream_config") || s.has("stream_server_config")
	if stream && !s.has("request") {
		s.set("request", "GET /t\n")
	}
	for from, to := range map[string]string{"stream_response": "response_body", "stream_response_like": "response_body_like"} {
		if !s.has(from) {
			continue
		}
		if s.has(to) {
			return fmt.Errorf("the sections %s and %s are the same one", from, to)
		}
		s.values[to] = s.values[from]
	}
	return nil
}

// flat is a value as a text: the texts of an array one below the other.
func flat(v perl.Value) string {
	a, ok := v.(*perl.Array)
	if !ok {
		return perl.Text(v)
	}
	texts := make([]string, len(a.Elems))
	for i, e := range a.Elems {
		texts[i] = perl.Text(e)
	}
	return strings.Join(texts, "\n")
}

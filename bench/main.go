//go:build linux

// Command bench measures what gosix costs per request beside other gateways, on one machine
// and in the same minutes: README.md says what is measured, and how far to trust it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosix/gosix/internal/porttest"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// settings are the flags.
type settings struct {
	work, root, results, profile string
	only, body, engine, parts    []string
	count                        int // rounds
	warm, window                 time.Duration
	connections                  int
	smoke                        bool
	judged                       string
}

// bench is a run.
type bench struct {
	settings
	self     string
	cpus     [2]int // of gateways, and of everything else
	choice   bool   // gosix lets one choose an engine
	shipped  string // the engine that is judged
	etcd     string
	store    *etcdstore.Store
	filled   map[string]int64 // prefixes of the store, by the revision at which all is there
	upstream string
	targets  []*target
	musts    []must
	ends     []func()
	out      io.Writer
}

// parts are what can be measured.
var parts = []struct {
	name, usage string
	run         func(*bench, context.Context) error
}{
	{"cost", "CPU time per request at full load", (*bench).cost},
	{"latency", "waiting at a steady rate", (*bench).latency},
	{"allocations", "what a request leaves to the collector", (*bench).allocations},
	{"streams", "200 streams at once, 9000 idle ones", (*bench).streams},
	{"idle", "idle connections", (*bench).idle},
	{"routes", "1, 1,000 and 100,000 routes", func(b *bench, ctx context.Context) error {
		return b.many(ctx, "routes", []int{1, 1000, 100_000}, manyRoutes)
	}},
	{"consumers", "1 and 10,000 consumers", func(b *bench, ctx context.Context) error {
		return b.many(ctx, "consumers", []int{1, 10_000}, manyConsumers)
	}},
	{"cold", "from the start to the first answer", (*bench).cold},
	{"memory", "of a gateway: idle, with routes, after large bodies", (*bench).memory},
}

// target is something that answers chats.
type target struct {
	name        string
	route       string // of gosix; empty: it is another gateway
	pid         int    // 0: its time is not asked for
	stop        func()
	addr        string
	path        string
	streamPath  string // empty: path
	headers     []string
	allocations string // where they are told, by the window; empty: they are not asked for
	profiles    string // where profiles are taken; empty: nowhere
	log         string // a file that grows with every request
}

func main() {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			if err := runRole(role, os.Args[2:]); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
				os.Exit(1)
			}
			return
		}
	}
	s, err := readFlags(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, s)
		stop()
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func readFlags(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	list := func(name, standard, usage string) func() []string {
		value := flags.String(name, standard, usage)
		return func() []string {
			return strings.FieldsFunc(*value, func(r rune) bool { return r == ',' })
		}
	}
	var names []string
	usage := "what is measured:"
	for _, p := range parts {
		names = append(names, p.name)
		usage += "\n" + p.name + ": " + p.usage
	}
	flags.StringVar(&s.work, "work", "", "directory for programs, logs and data")
	flags.StringVar(&s.root, "root", ".", "directory of the project")
	flags.StringVar(&s.results, "results", "", "file to which the tables are written; empty: none")
	flags.StringVar(&s.profile, "profile", "", "directory for profiles of gosix's processor time, one for each target and body of the part cost")
	only := list("only", "", "targets by name: direct, a folder of bench/gateways, plain, ai, ai-multi, or one of these with an engine as ai@std; nginx always takes part; empty: all")
	sizes := list("body", "1k,16k,128k,sse", "bodies of the part cost")
	engine := list("engine", "std,fast", "engines of gosix; one that it does not have is passed over")
	flags.StringVar(&s.judged, "judged", "", "engine that has to reach the lines at the end; empty: the one that gosix has unless told otherwise")
	what := list("parts", strings.Join(names, ","), usage)
	quick := flags.Bool("quick", false, "two minutes: the parts cost, for 1k and sse, and latency, of nginx and gosix, three short rounds")
	flags.BoolVar(&s.smoke, "smoke", false, "some seconds: everything is started and answers; no figure means anything")
	flags.IntVar(&s.count, "rounds", 5, "times that everything is measured, in turns")
	flags.DurationVar(&s.warm, "warm", 500*time.Millisecond, "time before anything counts")
	flags.DurationVar(&s.window, "window", 2*time.Second, "time in which requests and CPU count")
	flags.IntVar(&s.connections, "connections", 64, "connections, each with one request under way")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	s.only, s.body, s.engine, s.parts = only(), sizes(), engine(), what()
	if *quick {
		s.only, s.body, s.parts = []string{"direct", "plain", "ai-multi"}, []string{"1k", "sse"}, []string{"cost", "latency"}
		s.count, s.warm, s.window = 3, 200*time.Millisecond, 500*time.Millisecond
	}
	if s.smoke {
		s.parts = []string{"cost", "latency", "allocations", "streams", "cold"}
		s.count, s.warm, s.window, s.connections = 1, 50*time.Millisecond, 200*time.Millisecond, 16
	}
	if s.work == "" {
		return s, errors.New("-work: no directory is named")
	}
	for _, name := range s.body {
		if !slices.ContainsFunc(bodies, func(b body) bool { return b.name == name }) {
			return s, fmt.Errorf("-body: %q is none of 1k, 16k, 128k, sse", name)
		}
	}
	for _, name := range s.parts {
		if !slices.Contains(names, name) {
			return s, fmt.Errorf("-parts: %q is none of %s", name, strings.Join(names, ", "))
		}
	}
	for _, p := range []*string{&s.work, &s.root} {
		if *p, err = filepath.Abs(*p); err != nil {
			return s, err
		}
	}
	return s, nil
}

// later is called at the end, the last one first.
func (b *bench) later(f func()) { b.ends = append(b.ends, f) }

func run(ctx context.Context, s settings) (err error) {
	b := &bench{settings: s, filled: map[string]int64{}, out: os.Stdout}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	defer func() {
		for _, f := range slices.Backward(b.ends) {
			f()
		}
	}()
	if b.results != "" {
		file, err := os.Create(b.results)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		b.out = io.MultiWriter(os.Stdout, file)
	}
	if err := b.prepare(); err != nil {
		return err
	}
	if err := b.startProvider(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.out, "# Results\n\n%s; gosix %s, of which the engine %s is judged; %s.\n%d rounds of %v after %v, %d connections. Medians, with the least and the greatest in brackets.\n",
		machine(), b.version(ctx), b.shipped, b.others(ctx), b.count, b.window, b.warm, b.connections)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if !slices.Contains(b.parts, p.name) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if b.smoke || len(b.musts) == 0 {
		return nil
	}
	return b.show(b.verdicts())
}

// prepare finds out on what is measured.
func (b *bench) prepare() error {
	if err := os.RemoveAll(filepath.Join(b.work, "etcd")); err != nil {
		return err
	}
	if err := b.prepareCPUs(); err != nil {
		return err
	}
	conf, err := os.ReadFile(filepath.Join(b.root, "conf/config.yaml"))
	if err != nil {
		return err
	}
	b.shipped = "std"
	// A gosix of before there was a choice has the one engine, and no such setting.
	if engine := after(string(conf), "  http_engine:"); engine != "" {
		b.choice, b.shipped = true, strings.Fields(engine)[0]
	}
	if b.judged != "" {
		b.shipped = b.judged
	}
	return nil
}

// prepareCPUs chooses the processors of gateways and of everything else.
func (b *bench) prepareCPUs() error {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return err
	}
	var cpus []int
	for i := 0; len(cpus) < 2 && i < 1024; i++ {
		if may.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) < 2 {
		if !b.smoke {
			return errors.New("a gateway and what measures it need two processors")
		}
		cpus = []int{cpus[0], cpus[0]}
	}
	b.cpus = [2]int(cpus)
	return nil
}

func (b *bench) note(text string) { _, _ = fmt.Fprintln(os.Stderr, "bench:", text) }

func (b *bench) show(t *table) error { return t.write(b.out) }

// ours tells whether a target is a route of gosix.
func (b *bench) ours(t *target) bool { return t.route != "" }

// version is the commit that is measured.
func (b *bench) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "-C", b.root, "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "of an unknown commit"
	}
	if changed, err := exec.CommandContext(ctx, "git", "-C", b.root, "status", "--porcelain", "--untracked-files=no").Output(); err != nil || len(changed) > 0 {
		return trim(out) + " with changes"
	}
	return trim(out)
}

// others are the versions of the gateways of Debian.
func (b *bench) others(ctx context.Context) string {
	var list []string
	for name, command := range map[string]string{"nginx": "exec nginx -v", "HAProxy": "exec haproxy -v"} {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		cmd.Env = b.environment()
		out, err := cmd.CombinedOutput()
		if first, _, _ := strings.Cut(string(out), "\n"); err == nil {
			first = strings.TrimPrefix(strings.TrimPrefix(first, "nginx version: nginx/"), "HAProxy version ")
			first, _, _ = strings.Cut(strings.TrimSpace(first), " ")
			list = append(list, name+" "+first)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (b *bench) startProvider(ctx context.Context) error {
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		return err
	}
	b.upstream = fmt.Sprintf("127.0.0.1:%d", port)
	p, err := b.start("provider", b.cpus[1], b.work, []string{"GOMAXPROCS=1"}, b.self, "provider", "-listen", b.upstream)
	if err != nil {
		return err
	}
	return p.listens(ctx, b.upstream)
}

// wanted tells whether a target is to be measured.
func (b *bench) wanted(name string) bool {
	route, _, _ := strings.Cut(name, "@")
	// Ratios are to nginx.
	return len(b.only) == 0 || name == "nginx" || slices.Contains(b.only, name) || slices.Contains(b.only, route)
}

// everybody starts everything that is to be measured, once.
func (b *bench) everybody(ctx context.Context) ([]*target, error) {
	if b.targets != nil {
		return b.targets, nil
	}
	var list []*target
	if b.wanted("direct") {
		list = append(list, &target{name: "direct", addr: b.upstream, path: "/v1/chat/completions"})
	}
	folders, err := filepath.Glob(filepath.Join(b.root, "bench/gateways/*/start"))
	if err != nil {
		return nil, err
	}
	for _, start := range folders {
		name := filepath.Base(filepath.Dir(start))
		if !b.wanted(name) {
			continue
		}
		t, err := b.startFolder(ctx, name, name)
		if err != nil {
			b.note(fmt.Sprintf("%s is not measured: %v", name, err))
			continue
		}
		list = append(list, t)
	}
	for _, engine := range b.engine {
		names := slices.DeleteFunc(slices.Clone(gosixRoutes), func(route string) bool { return !b.wanted(route + "@" + engine) })
		if len(names) == 0 {
			continue
		}
		if err := b.fill(ctx, prefix, b.routesOfOurs); err != nil {
			return nil, err
		}
		g, err := b.startGosix(ctx, "gosix-"+engine, engine, prefix, b.profile != "")
		if err != nil {
			if b.passedOver(err) {
				continue
			}
			return nil, err
		}
		for _, name := range names {
			list = append(list, g.target(name))
		}
	}
	b.targets = list
	return list, nil
}

// fresh starts a target again, beside the one that others measure: one that has served nothing.
func (b *bench) fresh(ctx context.Context, t *target) (*target, error) {
	if t.route == "" {
		return b.startFolder(ctx, t.name, "fresh-"+t.name)
	}
	_, engine, _ := strings.Cut(t.name, "@")
	g, err := b.startGosix(ctx, "fresh-"+engine, engine, prefix, false)
	if err != nil {
		return nil, err
	}
	return g.target(t.route), nil
}

// startFolder starts another gateway, as its folder says. Its directory and log have a name of
// their own.
func (b *bench) startFolder(ctx context.Context, name, as string) (*target, error) {
	start := filepath.Join(b.root, "bench/gateways", name, "start")
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	env := []string{fmt.Sprintf("BENCH_PORT=%d", port), "BENCH_UPSTREAM=" + b.upstream, "GOMAXPROCS=1"}
	t := &target{name: name, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	if t.path, t.headers, err = b.readURL(filepath.Join(filepath.Dir(start), "url"), t.addr, port); err != nil {
		return nil, err
	}
	if file := filepath.Join(filepath.Dir(start), "stream-url"); exists(file) {
		if t.streamPath, _, err = b.readURL(file, t.addr, port); err != nil {
			return nil, err
		}
	}
	p, err := b.start(as, b.cpus[0], filepath.Join(b.work, as), env, start)
	if err != nil {
		return nil, err
	}
	t.pid, t.stop = p.pid(), p.stop
	return t, p.listens(ctx, t.addr)
}

// readURL reads where a gateway answers, and the headers that it wants, one on each further line.
func (b *bench) readURL(file, addr string, port int) (path string, headers []string, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	text := os.Expand(strings.TrimSpace(string(raw)), func(name string) string {
		if name == "BENCH_PORT" {
			return fmt.Sprint(port)
		}
		return os.Getenv(name)
	})
	lines := strings.Split(text, "\n")
	u, err := url.Parse(lines[0])
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	if u.Host != addr {
		return "", nil, fmt.Errorf("%s: %s is not at 127.0.0.1:$BENCH_PORT", file, lines[0])
	}
	return u.RequestURI(), lines[1:], nil
}

// measure sends a body to a target, for a window.
func (b *bench) measure(ctx context.Context, t *target, what body, rate float64, connections int, warm, window time.Duration) (r measured, err error) {
	if t.log != "" {
		_ = os.Truncate(t.log, 0)
	}
	path := t.path
	if what.events > 0 && t.streamPath != "" {
		path = t.streamPath
	}
	in, err := json.Marshal(task{
		Addr: t.addr, Path: path, Headers: t.headers, Body: what.name, Bytes: what.bytes, Lead: what.lead, Events: what.events,
		Connections: connections, Rate: rate, Warm: warm, Window: window, PID: t.pid, Processor: b.cpus[0], Allocations: t.allocations,
	})
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, b.self, "load")
	var out, wrong bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &wrong
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := pinned(b.cpus[1], cmd.Start); err != nil {
		return r, err
	}
	if err := cmd.Wait(); err != nil {
		return r, fmt.Errorf("%s, %s: %w: %s", t.name, what.name, err, trim(wrong.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, err
	}
	if r.Requests == 0 && r.Failed == 0 && window < 10*time.Second {
		return b.measure(ctx, t, what, rate, connections, warm, 2*window) // a busy machine
	}
	// What other gateways break is a note: it says nothing about this checkout.
	if other := t.route == "" && t.name != "direct"; b.smoke && r.Failed > 0 && !other {
		return r, failed(t, r.Result)
	}
	if r.Requests == 0 {
		return r, fmt.Errorf("%s, %s: %w: %s", t.name, what.name, errNoAnswer, r.Why)
	}
	return r, nil
}

// takeProfile keeps a profile of the next window.
func (b *bench) takeProfile(ctx context.Context, t *target, name string) error {
	if err := pause(ctx, b.warm); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", t.profiles, max(1, int(b.window.Seconds()))), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(b.profile, name+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, res.Body)
	return errors.Join(err, file.Close())
}

// after is the rest of the line that begins with a name.
func after(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Trim(rest, "\t :\n")
		}
	}
	return ""
}

func trim(text []byte) string { return string(bytes.TrimSpace(text)) }

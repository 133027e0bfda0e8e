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

	"github.com/gosix/gosix/bench/load"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// settings are the flags.
type settings struct {
	work, root, results, profile string
	only, body, engine, parts    []string
	rounds                       int
	warm, window                 time.Duration
	connections                  int
}

// bench is a run.
type bench struct {
	settings
	self     string
	cpus     [2]int // of gateways, and of everything else
	engines  bool   // gosix lets one choose
	etcd     string
	store    *etcdstore.Store
	upstream string
	ends     []func()
	out      io.Writer
}

// target is something that answers chats.
type target struct {
	name       string
	pid        int // 0: its time is not asked for
	addr       string
	path       string
	streamPath string // empty: path
	headers    []string
	profiles   string // where profiles are taken; empty: nowhere
	log        string // a file that grows with every request
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
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func readFlags(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	list := func(name, standard, usage string) func() []string {
		value := flags.String(name, standard, usage)
		return func() []string {
			return strings.FieldsFunc(*value, func(r rune) bool { return r == ',' })
		}
	}
	flags.StringVar(&s.work, "work", "", "directory for programs, logs and data")
	flags.StringVar(&s.root, "root", ".", "of the project")
	flags.StringVar(&s.results, "results", "", "file to which the tables are written; empty: none")
	flags.StringVar(&s.profile, "profile", "", "directory for profiles of gosix's processor time, one for each target and body")
	only := list("only", "", "what is measured, by name: direct, a folder of bench/gateways, plain, ai, ai-multi, or one with an engine as ai@std; empty: all")
	sizes := list("body", "1k,16k,128k,sse", "bodies of the table of costs")
	engine := list("engine", "std,fast", "of gosix; one that it does not have is passed over")
	parts := list("parts", "cost", "what is measured")
	flags.IntVar(&s.rounds, "rounds", 5, "times that everything is measured, in turns")
	flags.DurationVar(&s.warm, "warm", 500*time.Millisecond, "before anything counts")
	flags.DurationVar(&s.window, "window", 2*time.Second, "in which requests and time count")
	flags.IntVar(&s.connections, "connections", 64, "of clients, each with one request under way")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	s.only, s.body, s.engine, s.parts = only(), sizes(), engine(), parts()
	if s.work == "" {
		return s, errors.New("-work: no directory is named")
	}
	for _, name := range s.body {
		if !slices.ContainsFunc(bodies, func(b body) bool { return b.name == name }) {
			return s, fmt.Errorf("-body: %q is none of 1k, 16k, 128k, sse", name)
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

func run(ctx context.Context, s settings) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{settings: s, self: self, cpus: [2]int{0, 1}, out: os.Stdout}
	defer func() {
		for _, f := range slices.Backward(b.ends) {
			f()
		}
	}()
	if err := os.RemoveAll(filepath.Join(b.work, "etcd")); err != nil {
		return err
	}
	conf, err := os.ReadFile(filepath.Join(b.root, "conf/config.yaml"))
	if err != nil {
		return err
	}
	b.engines = bytes.Contains(conf, []byte("http_engine:"))
	if err := b.startProvider(ctx); err != nil {
		return err
	}
	targets, notes, err := b.targets(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(b.out, "%s; %d rounds of %v, %d connections\n", machine(), b.rounds, b.window, b.connections)
	for _, n := range notes {
		_, _ = fmt.Fprintln(b.out, "note:", n)
	}
	return b.cost(ctx, targets)
}

func (b *bench) startProvider(ctx context.Context) error {
	port, err := freePort()
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

// targets starts everything that is to be measured.
func (b *bench) targets(ctx context.Context) (list []*target, notes []string, err error) {
	if b.wanted("direct") {
		list = append(list, &target{name: "direct", addr: b.upstream, path: "/v1/chat/completions"})
	}
	folders, err := filepath.Glob(filepath.Join(b.root, "bench/gateways/*/start"))
	if err != nil {
		return nil, nil, err
	}
	for _, start := range folders {
		name := filepath.Base(filepath.Dir(start))
		if !b.wanted(name) {
			continue
		}
		t, err := b.startFolder(ctx, name, start)
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s is not measured: %v", name, err))
			continue
		}
		list = append(list, t)
	}
	if !slices.ContainsFunc([]string{"plain", "ai", "ai-multi"}, func(route string) bool {
		return slices.ContainsFunc(b.engine, func(e string) bool { return b.wanted(route + "@" + e) })
	}) {
		return list, notes, nil
	}
	if err := b.startStore(ctx); err != nil {
		return nil, nil, err
	}
	const prefix = "/bench"
	if err := b.put(ctx, prefix, b.routes()); err != nil {
		return nil, nil, err
	}
	_, revision, err := b.store.List(ctx, prefix)
	if err != nil {
		return nil, nil, err
	}
	for _, engine := range b.engine {
		g, err := b.startGosix(ctx, "gosix-"+engine, engine, prefix, b.profile != "")
		if refused := (*refusedError)(nil); errors.As(err, &refused) {
			notes = append(notes, refused.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if err := g.serves(ctx, revision); err != nil {
			return nil, nil, err
		}
		for _, t := range g.targets() {
			if b.wanted(t.name) {
				list = append(list, t)
			}
		}
	}
	return list, notes, nil
}

// startFolder starts another gateway, as its folder says.
func (b *bench) startFolder(ctx context.Context, name, start string) (*target, error) {
	port, err := freePort()
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
	p, err := b.start(name, b.cpus[0], filepath.Join(b.work, name), env, start)
	if err != nil {
		return nil, err
	}
	t.pid = p.pid()
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
func (b *bench) measure(ctx context.Context, t *target, what body, rate float64, connections int, warm, window time.Duration) (r load.Result, err error) {
	if t.log != "" {
		_ = os.Truncate(t.log, 0)
	}
	path := t.path
	if what.events > 0 && t.streamPath != "" {
		path = t.streamPath
	}
	in, err := json.Marshal(task{
		Addr: t.addr, Path: path, Headers: t.headers, Body: what.name, Bytes: what.bytes, Lead: what.lead, Events: what.events,
		Connections: connections, Rate: rate, Warm: warm, Window: window, PID: t.pid, Processor: b.cpus[0],
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
	if r.Requests == 0 {
		return r, fmt.Errorf("%s, %s: %w: %s", t.name, what.name, errNoAnswer, r.Why)
	}
	return r, nil
}

// takeProfile keeps a profile of the time to come.
func (b *bench) takeProfile(ctx context.Context, t *target, name string, wait, window time.Duration) error {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", t.profiles, max(1, int(window.Seconds()))), nil)
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

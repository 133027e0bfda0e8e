package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Lab is what the scenarios of a run share: the programs, the work directory, and the list of
// everything that has to be ended and removed.
type Lab struct {
	Work string
	Long bool
	Keep bool
	Busy bool // others use the machine
	Rate int  // requests a second of the load driver
	Out  io.Writer

	Root string // of the checkout
	Code string // which code is tested: a commit, and whether files were changed
	Self string // this program

	mu    sync.Mutex
	undo  []func()
	procs []*Process // of the scenario
	lines sync.Mutex
}

// Prepare builds what is started later.
func (l *Lab) Prepare(ctx context.Context) error {
	var err error
	if l.Self, err = os.Executable(); err != nil {
		return err
	}
	if l.Root, err = checkout(); err != nil {
		return err
	}
	if l.Work, err = filepath.Abs(l.Work); err != nil {
		return err
	}
	if err := os.MkdirAll(l.bin(), 0o755); err != nil {
		return err
	}
	l.Code = version(ctx, l.Root)
	fmt.Fprintf(l.Out, "faultlab: code %s, work directory %s\n", l.Code, l.Work)
	if err := l.build(ctx, l.Root, "./cmd/gateway", "./cmd/admin"); err != nil {
		return err
	}
	// The etcd under test is older than the client that gosix is built with, and no module can
	// have both.
	tools := filepath.Join(l.Root, "t/faultlab/etcd")
	for name, path := range map[string]string{"etcd": "go.etcd.io/etcd/server/v3", "etcdutl": "go.etcd.io/etcd/etcdutl/v3"} {
		if _, err := os.Stat(l.program(name)); err == nil {
			continue
		}
		fmt.Fprintf(l.Out, "faultlab: building %s\n", name)
		if err := l.goBuild(ctx, tools, l.program(name), path); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) bin() string                { return filepath.Join(l.Work, "bin") }
func (l *Lab) program(name string) string { return filepath.Join(l.bin(), name) }

func (l *Lab) build(ctx context.Context, dir string, paths ...string) error {
	for _, p := range paths {
		if err := l.goBuild(ctx, dir, l.program(filepath.Base(p)), p); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) goBuild(ctx context.Context, dir, out, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", out, path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", path, err, text)
	}
	return nil
}

// checkout finds the main module above the working directory.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(raw, []byte("module github.com/gosix/gosix\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside a checkout of gosix")
		}
	}
}

// version names the code: results of other code are not taken for this one's.
func version(ctx context.Context, root string) string {
	git := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	commit := git("rev-parse", "--short=12", "HEAD")
	if commit == "" {
		return "unknown"
	}
	if changed := git("diff", "HEAD"); changed != "" {
		h := fnv.New32a()
		_, _ = h.Write([]byte(changed))
		return fmt.Sprintf("%s+%08x", commit, h.Sum32())
	}
	return commit
}

// Later keeps f for the end of the run, or of the scenario that asked for it. What is returned
// runs it now, and once.
func (l *Lab) Later(f func()) (now func()) {
	once := sync.OnceFunc(f)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.undo = append(l.undo, once)
	return once
}

// started has a process end with the scenario.
func (l *Lab) started(p *Process) {
	l.Later(func() { p.Stop(10 * time.Second) })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs = append(l.procs, p)
}

// End ends and removes everything that is left, newest first.
func (l *Lab) End() { l.endFrom(0) }

func (l *Lab) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.undo)
}

func (l *Lab) endFrom(n int) {
	l.mu.Lock()
	list := l.undo[n:]
	l.undo = l.undo[:n]
	procs := l.procs
	l.procs = nil
	l.mu.Unlock()
	// All at once, since each takes its time. An etcd takes the most, and for nothing.
	for _, p := range procs {
		if strings.HasPrefix(p.Name, "etcd-") {
			p.Signal(syscall.SIGKILL)
		}
		p.ending()
	}
	for i := len(list) - 1; i >= 0; i-- {
		list[i]()
	}
}

// Do runs a unit and says how it went.
func (l *Lab) Do(ctx context.Context, u Unit) (o Outcome) {
	begin, others := time.Now(), machineLoad()
	timesBefore, stolenBefore := processorTime()
	h := fnv.New64a()
	_, _ = h.Write([]byte(u.ID()))
	r := &Run{
		Lab: l, Unit: u, Rand: rand.New(rand.NewPCG(uint64(u.Seed), h.Sum64())),
		Dir: filepath.Join(l.Work, "run", strings.ReplaceAll(u.ID(), "/", "-")),
	}
	l.say("\n%s  %s (seed %d)", u.ID(), u.Scenario.about, u.Seed)
	if u.Found != "" {
		l.say("%s once found: %s", u.ID(), u.Found)
	}
	mark := l.mark()
	err := errors.Join(os.RemoveAll(r.Dir), os.MkdirAll(r.Dir, 0o755))
	if err == nil {
		err = u.Scenario.run(ctx, r)
	}
	l.endFrom(mark)
	times, stolen := processorTime()
	o = Outcome{
		Unit: u.ID(), Scenario: u.Scenario.name, Seed: u.Seed, Code: l.Code, Long: l.Long, Rate: l.Rate, Time: begin.UTC().Truncate(time.Second),
		CPUs: runtime.NumCPU(), Machine: others, Stolen: (stolen - stolenBefore) / max(times-timesBefore, 1),
		Seconds: time.Since(begin).Seconds(), Lines: r.lines, Verdict: Held,
	}
	var absent *absentError
	switch {
	case errors.As(err, &absent):
		o.Verdict, o.Reason = absent.verdict, absent.Error()
	case err != nil:
		o.Verdict, o.Reason = Failed, err.Error()
	}
	for _, line := range r.lines {
		if line.Verdict == Failed {
			o.Verdict = Failed
		}
	}
	if o.Reason != "" {
		l.say("%s %s: %s", u.ID(), o.Verdict, o.Reason)
	}
	if o.Stolen >= 0.01 {
		l.say("%s the machine was without %.0f %% of its processors' time: other machines of its host had it", u.ID(), 100*o.Stolen)
	}
	if o.Verdict != Failed && !l.Keep {
		_ = os.RemoveAll(r.Dir)
	}
	return o
}

// machineLoad is the system's load over the last minute; 0 where it does not tell.
func machineLoad() float64 {
	raw, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(raw), " ")
	n, _ := strconv.ParseFloat(one, 64)
	return n
}

// processorTime is what has gone by of all processors' time since the machine started, and how
// much of that a virtual machine wanted and did not get, in the same unit; 0 where the system
// does not tell.
func processorTime() (all, stolen float64) {
	const steal = 7 // among user, nice, system, idle, iowait, irq, softirq, steal
	raw, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu ")) {
		n, _ := strconv.ParseFloat(field, 64)
		if i <= steal {
			all += n
		}
		if i == steal {
			stolen = n
		}
	}
	return all, stolen
}

func (l *Lab) say(format string, args ...any) {
	l.lines.Lock()
	defer l.lines.Unlock()
	fmt.Fprintf(l.Out, format+"\n", args...)
}

// absentError ends a scenario that cannot be judged: it is neither held nor failed.
type absentError struct {
	verdict Verdict
	why     string
}

func (e *absentError) Error() string { return e.why }

// notBuilt is for what this checkout of gosix does not have.
func notBuilt(what string) error { return &absentError{NotBuilt, what} }

// notRun is for what this machine does not have.
func notRun(why string) error { return &absentError{NotRun, why} }

// pause waits, or ends with the run.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// within waits until ok holds and returns how long that took; an error after the limit.
func within(ctx context.Context, limit time.Duration, what string, ok func() bool) (time.Duration, error) {
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			return time.Since(begin), fmt.Errorf("%s: not within %v", what, limit)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

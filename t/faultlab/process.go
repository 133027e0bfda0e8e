package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that the lab started. It is only ever ended by its own id.
type Process struct {
	Name string
	Log  *Log

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the end; to be read once exited is closed
}

// LogLine is a line of a program, with the time at which it was read.
type LogLine struct {
	At   time.Time
	Text string
}

// Log keeps what a program writes, and writes it to a file as well. It is safe for concurrent
// use.
type Log struct {
	mu    sync.Mutex
	file  *os.File
	rest  []byte
	lines []LogLine
	drop  bool // only the file
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(p)
	if l.drop {
		return n, err
	}
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return n, err
		}
		l.lines = append(l.lines, LogLine{time.Now(), string(l.rest[:i])})
		l.rest = l.rest[i+1:]
	}
}

// Since returns the lines after a time that contain text.
func (l *Log) Since(at time.Time, text string) (found []LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line.At.After(at) && strings.Contains(line.Text, text) {
			found = append(found, line)
		}
	}
	return found
}

// Tail is the end of what was written.
func (l *Log) Tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range l.lines[max(0, len(l.lines)-12):] {
		b.WriteString("\n  " + line.Text)
	}
	return b.String()
}

// Start runs a program in a network namespace; "" is the lab's own. It ends with the scenario
// at the latest, and with the lab if that is killed.
func (r *Run) Start(name, namespace string, keepLines bool, argv ...string) (*Process, error) {
	return r.startIn(r.Dir, name, namespace, keepLines, argv...)
}

// startIn is Start in a directory.
func (r *Run) startIn(dir, name, namespace string, keepLines bool, argv ...string) (*Process, error) {
	if namespace != "" {
		// ip executes the program in its own place, so that the process id is the program's.
		argv = append([]string{"ip", "netns", "exec", namespace}, argv...)
	}
	file, err := os.OpenFile(filepath.Join(r.Dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, Log: &Log{file: file, drop: !keepLines}, exited: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	// A group of its own: an interrupt at the terminal is the lab's to pass on.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		_ = file.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = file.Close()
		close(p.exited)
	}()
	r.started(p)
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal. To a process that ended it does nothing.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.exited: // the id may be somebody else's by now
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// Kill ends the process without its doing, and waits.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// ending begins the end of a process that somebody will wait for. SIGINT asks gosix to hurry.
func (p *Process) ending() {
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGINT)
}

// Stop asks the process to end, waits for so long, and then kills it.
func (p *Process) Stop(limit time.Duration) {
	p.ending()
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.Kill()
	}
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *Process) endError() error {
	if !p.Ended() {
		return nil
	}
	return fmt.Errorf("it ended: %w", errors.Join(p.err, errEnded))
}

// ExitCode is that of a process that ended; -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// RSS is the memory that the process has, in bytes; 0 if it is gone.
func (p *Process) RSS() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// Peak is the most memory that the process ever had, in bytes; 0 if the system does not tell.
func (p *Process) Peak() int64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// CPU is the time that the process has had of a processor; 0 if the system does not tell. A
// thread that ended is not in it, but Go keeps its own.
func (p *Process) CPU() (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.PID()))
	for _, task := range tasks {
		raw, _ := os.ReadFile(task)
		if fields := strings.Fields(string(raw)); len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// Threads and open files of a process, for leaks.
func (p *Process) openFiles() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	return len(entries)
}

// command runs a program to its end.
func command(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Namespace is a network of its own with two cables to the lab's: what goes over one can be
// cut while the other works.
type Namespace struct {
	Name         string
	Inside       string // address of what runs in it, for clients
	Outside      string // address of the lab on the cable of clients
	StoreOutside string // address of the lab on the cable to the store

	cable string // the lab's end of the cable to the store
}

// NewNamespace makes a network, which is removed with the scenario.
func (r *Run) NewNamespace(ctx context.Context) (*Namespace, error) {
	if os.Geteuid() != 0 {
		return nil, notRun("network namespaces need root")
	}
	if command(ctx, "ip", "netns", "list") != nil {
		return nil, notRun("the command ip is missing")
	}
	id := os.Getpid() % 30000
	net := func(n int) string { return fmt.Sprintf("10.%d.%d", 200+n, id%250) }
	ns := &Namespace{
		Name: fmt.Sprintf("faultlab-%d", id), Inside: net(0) + ".2", Outside: net(0) + ".1",
		StoreOutside: net(1) + ".1", cable: fmt.Sprintf("fl%ds", id),
	}
	// The cables go with the namespace.
	r.Later(func() { _ = command(context.Background(), "ip", "netns", "delete", ns.Name) })
	steps := [][]string{{"ip", "netns", "add", ns.Name}, {"ip", "-n", ns.Name, "link", "set", "lo", "up"}}
	for n, out := range []string{fmt.Sprintf("fl%dc", id), ns.cable} {
		in := out + "i"
		steps = append(
			steps,
			[]string{"ip", "link", "add", out, "type", "veth", "peer", "name", in, "netns", ns.Name},
			[]string{"ip", "address", "add", net(n) + ".1/30", "dev", out},
			[]string{"ip", "link", "set", out, "up"},
			[]string{"ip", "-n", ns.Name, "address", "add", net(n) + ".2/30", "dev", in},
			[]string{"ip", "-n", ns.Name, "link", "set", in, "up"},
		)
	}
	for _, s := range steps {
		if err := command(ctx, s...); err != nil {
			return nil, notRun("network namespaces: " + err.Error())
		}
	}
	return ns, nil
}

// Cut takes down the far end of the cable to the store, as seen from the namespace: what is sent
// there is lost without a word. Taking down the near end would take the route away, too.
func (ns *Namespace) Cut(ctx context.Context) error {
	return command(ctx, "ip", "link", "set", ns.cable, "down")
}

// Heal undoes Cut.
func (ns *Namespace) Heal(ctx context.Context) error {
	return command(ctx, "ip", "link", "set", ns.cable, "up")
}

var errEnded = errors.New("a node does not end by itself")

//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program that the benchmark started. It is only ever ended by its own id.
type process struct {
	name   string
	log    string // file
	cmd    *exec.Cmd
	exited chan struct{}
}

// start runs a program on one processor, cpu; -1: on any. It ends with the benchmark.
func (b *bench) start(name string, cpu int, dir string, env []string, argv ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log := filepath.Join(b.work, name+".log")
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	p := &process{name: name, log: log, exited: make(chan struct{}), cmd: exec.Command(argv[0], argv[1:]...)}
	p.cmd.Dir, p.cmd.Env = dir, append(b.environment(), env...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := pinned(cpu, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	b.later(p.stop)
	return p, nil
}

// pinned calls start with the calling thread, and so what it starts, on one processor.
func pinned(cpu int, start func() error) error {
	if cpu < 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("processor %d: %w", cpu, err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return start()
}

// environment is what programs are started with: Debian's packages come first.
func (b *bench) environment() []string {
	env := append(os.Environ(), "BENCH_PROGRAM="+b.self)
	if deb := filepath.Join(b.work, "debian"); exists(deb) {
		libs, _ := filepath.Glob(filepath.Join(deb, "usr/lib/*-linux-gnu*"))
		env = append(
			env,
			"PATH="+filepath.Join(deb, "usr/sbin")+":"+filepath.Join(deb, "usr/bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin",
			"LD_LIBRARY_PATH="+strings.Join(libs, ":"),
		)
	} else {
		env = append(env, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	}
	return env
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() {
	if p.ended() {
		return
	}
	// gosix hurries for SIGINT.
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// tail is the end of what the process wrote.
func (p *process) tail() string {
	raw, _ := os.ReadFile(p.log)
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n  ")))
}

// listens waits until somebody accepts connections at addr.
func (p *process) listens(ctx context.Context, addr string) error {
	return p.until(ctx, "listens on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// until waits for something that the process is to do.
func (p *process) until(ctx context.Context, what string, done func() bool) error {
	for end := time.Now().Add(2 * time.Minute); ; {
		if done() {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not do this: %s: %s", p.name, what, p.tail())
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/t/blocktest"
)

// patience bounds waits for what must come.
const patience = time.Minute

// A journal is the error log of a block: gosix's lines and the runner's, as nginx would have
// written them, in the order they came. It is safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
	from int // where the block began
}

func (j *journal) add(level, line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintf(&j.text, "%s [%s] 1#1: %s\n", time.Now().Format("2006/01/02 15:04:05"), level, line)
}

// raw adds a line of an access log.
func (j *journal) raw(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.WriteString(line + "\n")
}

func (j *journal) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.from = j.text.Len()
}

func (j *journal) block() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()[j.from:]
}

// process is a running gosix.
type process struct {
	dir    string
	conf   string
	trusts string
	cmd    *exec.Cmd
	exited chan struct{}
	tail   journal // for the error of a start that failed
}

// launch starts program with conf and waits until it serves. trusts is a file with the only
// authorities that it trusts; empty: the system's.
func launch(ctx context.Context, program, dir, conf, trusts string, log *journal) (*process, error) {
	file := filepath.Join(dir, "gosix.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	// A file left by the gateway before would tell of a start that has not happened.
	if err := os.Remove(filepath.Join(dir, "ports.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	p := &process{dir: dir, conf: conf, trusts: trusts, exited: make(chan struct{})}
	p.cmd = exec.Command(program, "run", "-c", file)
	p.cmd.Dir = dir
	if trusts != "" {
		p.cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+trusts, "SSL_CERT_DIR="+filepath.Join(dir, "none"))
	}
	leash(p.cmd)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.follow(stderr, log)
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.ready(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// ready waits for ports.json, which comes last of all.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(p.dir, "ports.json")); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return &blocktest.DiedError{Code: p.cmd.ProcessState.ExitCode(), Why: strings.TrimSpace(p.tail.block())}
		case <-ctx.Done():
			return fmt.Errorf("gosix did not start: %w\n%s", ctx.Err(), p.tail.block())
		}
	}
}

// follow turns gosix's log into lines of the journal.
func (p *process) follow(r io.Reader, log *journal) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		level, line := translate(s.Bytes())
		log.add(level, line)
		p.tail.add(level, line)
	}
}

// translate makes a line of nginx's error log of an event of gosix: the message, then its
// fields in the order of their names.
func translate(raw []byte) (level, line string) {
	var event map[string]any
	if json.Unmarshal(raw, &event) != nil {
		return "error", string(raw)
	}
	level, _ = event["level"].(string)
	line, _ = event["message"].(string)
	delete(event, "level")
	delete(event, "message")
	delete(event, "time")
	names := make([]string, 0, len(event))
	for name := range event {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		line += fmt.Sprintf(", %s: %v", name, event[name])
	}
	return level, line
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the process as a machine does that loses its power.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop ends the process, which may say its last words.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
	}
}

// applied waits until the gateway serves what the store held at a revision.
func applied(ctx context.Context, client *http.Client, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		now, err := inForce(ctx, client)
		if err == nil && now >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("revision %d is not in force", revision), ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func inForce(ctx context.Context, client *http.Client) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+controlAddr+"/v1/config", nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var c struct{ Revision int64 }
	return c.Revision, json.NewDecoder(res.Body).Decode(&c)
}

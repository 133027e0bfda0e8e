package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/stage"
)

// What bounds a run beside the time of a block: a file, and what a child may take longer than
// a block before it is ended. The second is longer than the child's own waits, which end a
// block in an orderly way.
const (
	fileTime = 20 * time.Minute
	grace    = 30 * time.Second
)

// runFiles runs each file in processes of its own and returns the results in the order of
// the files. Files run at once only where each has its own network: ports are never
// rewritten.
func runFiles(ctx context.Context, o options, files []string, p *printer) []blocktest.Result {
	jobs := max(o.jobs, 1)
	if !stage.Isolate(new(exec.Cmd)) {
		jobs = 1
	}
	byFile := make([][]blocktest.Result, len(files))
	next := make(chan int)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for i := range next {
				byFile[i] = runFile(ctx, o, files[i])
				p.file(label(o.home, files[i]), byFile[i])
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	workers.Wait()
	var all []blocktest.Result
	for _, results := range byFile {
		all = append(all, results...)
	}
	return all
}

// label is a file's name in results: below the checkout, if it is there, so that a report
// can be compared with that of another checkout.
func label(home, file string) string {
	abs, err := filepath.Abs(file)
	if err != nil || home == "" {
		return file
	}
	if rel, err := filepath.Rel(home, abs); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return file
}

// runFile runs one file and gives each of its blocks a verdict. A child that crashes or hangs
// costs the block that it is at; another child, with an empty etcd, goes on behind that.
func runFile(ctx context.Context, o options, file string) []blocktest.Result {
	name := label(o.home, file)
	left, err := planned(file, o.block)
	if err != nil {
		return broken(name, err.Error())
	}
	if len(left) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	var results []blocktest.Result
	verdict := func(b *blocktest.Block, v blocktest.Verdict, why string) {
		results = append(results, blocktest.Result{Suite: name, Number: b.Number, Name: b.Name, Line: b.Line, Verdict: v, Why: why})
	}
	rest := func(v blocktest.Verdict, why string) []blocktest.Result {
		for _, b := range left {
			verdict(b, v, why)
		}
		return results
	}
	for {
		c := runChild(limited, o, file, left[0].Number)
		for i := range c.results {
			c.results[i].Suite = name
		}
		results = append(results, c.results...)
		left = left[min(len(c.results), len(left)):]
		switch {
		case len(left) == 0 && c.why != "" && ctx.Err() == nil:
			return append(results, broken(name, c.why)...)
		case len(left) == 0:
			return results
		case ctx.Err() != nil:
			return rest(blocktest.Skipped, "interrupted")
		}
		at := left[0]
		if c.why == "" {
			c.why = "the runner ended before its last block"
		}
		if limited.Err() != nil {
			c.why = fmt.Sprintf("the file takes longer than %v", fileTime)
		}
		verdict(at, blocktest.NotOK, c.why)
		left = left[1:]
		first, _, _ := strings.Cut(c.why, "\n")
		switch {
		case len(left) == 0:
			return results
		case o.failFast:
			return rest(blocktest.Skipped, fmt.Sprintf("block %d is not ok", at.Number))
		case limited.Err() != nil || c.began != at.Number: // the next child would not come further
			return rest(blocktest.Skipped, fmt.Sprintf("the file ended at block %d: %s", at.Number, first))
		}
	}
}

// planned lists the blocks of a file that are to have results.
func planned(file, block string) ([]*blocktest.Block, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	suite, err := blocktest.Parse(file, src)
	if err != nil {
		return nil, err
	}
	pick, err := selection(block, 0)
	if err != nil {
		return nil, err
	}
	var picked []*blocktest.Block
	for _, b := range suite.Blocks {
		if pick(b) {
			picked = append(picked, b)
		}
	}
	if len(picked) == 0 && block == "" {
		return nil, errors.New("it has no blocks")
	}
	return picked, nil
}

// A line is what a child says: that a block begins, or what became of it.
type line struct {
	Begin  int               `json:"begin,omitempty"`
	Result *blocktest.Result `json:"result,omitempty"`
}

// An ending is what came of a child.
type ending struct {
	results []blocktest.Result
	began   int    // the block that it was at last; 0: none
	why     string // it did not end well
}

// runChild runs the blocks of a file from a number on.
func runChild(ctx context.Context, o options, file string, from int) (e ending) {
	fail := func(err error) ending { e.why = err.Error(); return e }
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	// What a child that is killed leaves behind goes with it.
	dir, err := os.MkdirTemp("", "prove")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := []string{
		"-child", file, "-from", strconv.Itoa(from), "-apisix-home", o.home, "-gosix", o.program,
		"-block", o.block, "-block-time", o.blockTime.String(), "-log-grace", o.logGrace.String(),
	}
	if o.failFast {
		args = append(args, "-fail-fast")
	}
	if o.restart {
		args = append(args, "-restart")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	stage.Isolate(cmd)
	errs := head{limit: 16 << 10}
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	late := o.blockTime + grace
	var hung atomic.Bool
	watch := time.AfterFunc(late, func() {
		hung.Store(true)
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it tells where it is
		time.AfterFunc(grace/6, func() { _ = cmd.Process.Kill() })
	})
	err = follow(out, &e, func() { watch.Reset(late) })
	watch.Stop()
	if err != nil {
		_ = cmd.Process.Kill()
	}
	switch ended := cmd.Wait(); {
	case hung.Load():
		e.why = fmt.Sprintf("the runner hung for %v and was ended\n%s", late, errs.text)
	case err != nil:
		e.why = fmt.Sprintf("%v\n%s", err, errs.text)
	case ended != nil:
		e.why = fmt.Sprintf("the runner ended: %v\n%s", ended, errs.text)
	case e.began == 0 || len(e.results) == 0 || e.results[len(e.results)-1].Number != e.began:
		e.why = "the runner ended before the block did"
	}
	return e
}

// follow reads what a child says up to its end.
func follow(out io.Reader, e *ending, progress func()) error {
	s := bufio.NewScanner(out)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		progress()
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return fmt.Errorf("the runner said %q: %w", s.Text(), err)
		}
		switch {
		case l.Result != nil && l.Result.Number == e.began:
			e.results = append(e.results, *l.Result)
		case l.Result == nil && l.Begin > e.began:
			e.began = l.Begin
		default:
			return fmt.Errorf("the runner said %q out of turn", s.Text())
		}
	}
	return s.Err()
}

// A head keeps the beginning of what is written: a crash says first what it is.
type head struct {
	limit int
	text  []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), h.limit-len(h.text))]...)
	return len(p), nil
}

// broken is the result of a file that did not run to its end.
func broken(file, why string) []blocktest.Result {
	return []blocktest.Result{{Suite: file, Name: "the file runs to its end", Verdict: blocktest.NotOK, Why: why}}
}

// child runs one file here.
func child(ctx context.Context, o options) error {
	if os.Geteuid() == 0 {
		if err := stage.Loopback(); err != nil {
			return err
		}
	}
	src, err := os.ReadFile(o.child)
	if err != nil {
		return err
	}
	suite, err := blocktest.Parse(o.child, src)
	if err != nil {
		return err
	}
	world, err := stage.New(stage.Options{Program: o.program, Home: o.home, Restart: o.restart})
	if err != nil {
		return err
	}
	pick, err := selection(o.block, o.from)
	if err != nil {
		return err
	}
	// Scripts name files from where the reference's runner is started.
	if o.home != "" {
		if err := os.Chdir(o.home); err != nil {
			return err
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	var failed error
	blocktest.Run(ctx, suite, o.home, world, blocktest.RunOptions{
		Select: pick, FailFast: o.failFast, Root: world.Root(), BlockTime: o.blockTime, LogGrace: o.logGrace,
		// A child that is cut off has told what it did.
		OnBlock:  func(b *blocktest.Block) { failed = errors.Join(failed, encoder.Encode(line{Begin: b.Number})) },
		OnResult: func(r blocktest.Result) { failed = errors.Join(failed, encoder.Encode(line{Result: &r})) },
	})
	return errors.Join(failed, world.Close())
}

// selection picks blocks by their number or by a pattern of their name, all when it is
// empty, from a number on.
func selection(block string, from int) (func(*blocktest.Block) bool, error) {
	pick := func(*blocktest.Block) bool { return true }
	if n, err := strconv.Atoi(block); err == nil {
		pick = func(b *blocktest.Block) bool { return b.Number == n }
	} else if block != "" {
		name, err := regexp.Compile(block)
		if err != nil {
			return nil, fmt.Errorf("-block: %w", err)
		}
		pick = func(b *blocktest.Block) bool { return name.MatchString(b.Name) }
	}
	return func(b *blocktest.Block) bool { return b.Number >= from && pick(b) }, nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/stage"
)

// fileTime bounds one file.
const fileTime = 20 * time.Minute

// runFiles runs each file in a process of its own and returns the results in the order of
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
				p.file(files[i], byFile[i])
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

// runFile runs one file in a child. A child that ends before its last block leaves a result
// that says so: nothing that was not judged is passed over.
func runFile(ctx context.Context, o options, file string) []blocktest.Result {
	ctx, cancel := context.WithTimeout(ctx, fileTime)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return broken(file, err.Error())
	}
	args := []string{"-child", file, "-apisix-home", o.home, "-gosix", o.program, "-block", o.block}
	if o.failFast {
		args = append(args, "-fail-fast")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	stage.Isolate(cmd)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var results []blocktest.Result
	for s := lines(&out); s.Scan(); {
		var r blocktest.Result
		if bad := json.Unmarshal(s.Bytes(), &r); bad != nil {
			return append(results, broken(file, bad.Error()+": "+s.Text())...)
		}
		results = append(results, r)
	}
	if err != nil {
		results = append(results, broken(file, fmt.Sprintf("%v\n%s", err, errs.String()))...)
	}
	return results
}

func lines(b *bytes.Buffer) *bufio.Scanner {
	s := bufio.NewScanner(b)
	s.Buffer(nil, 64<<20)
	return s
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
	world, err := stage.New(stage.Options{Program: o.program, Home: o.home})
	if err != nil {
		return err
	}
	pick, err := selection(o.block)
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
		Select: pick, FailFast: o.failFast, Root: world.Root(),
		// A file that is cut off has told what it did.
		OnResult: func(r blocktest.Result) { failed = errors.Join(failed, encoder.Encode(r)) },
	})
	return errors.Join(failed, world.Close())
}

// selection picks blocks by their number or by a pattern of their name; all when it is
// empty.
func selection(block string) (func(*blocktest.Block) bool, error) {
	if block == "" {
		return nil, nil
	}
	if n, err := strconv.Atoi(block); err == nil {
		return func(b *blocktest.Block) bool { return b.Number == n }, nil
	}
	name, err := regexp.Compile(block)
	if err != nil {
		return nil, fmt.Errorf("-block: %w", err)
	}
	return func(b *blocktest.Block) bool { return name.MatchString(b.Name) }, nil
}

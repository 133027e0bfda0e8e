// Command prove runs test suites in the notation of Test::Nginx, the project's own or those
// of an unmodified checkout of the reference, against gosix. It needs neither Perl nor
// nginx. t/README.md says what it understands, and what its verdicts mean.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest"
)

// options are the flags.
type options struct {
	home     string
	only     string
	block    string
	json     string
	baseline string
	program  string
	child    string
	from     int // of the child: the first block
	jobs     int
	// blockTime bounds one block.
	blockTime time.Duration
	// logGrace is how much longer than Test::Nginx what logs and upstreams have may take.
	logGrace time.Duration
	tap      bool
	verbose  bool
	failFast bool
	restart  bool
}

func main() {
	var o options
	flag.StringVar(&o.home, "apisix-home", "", "a `directory` with a checkout of the reference, for its t/lib, t/certs and t/assets")
	flag.StringVar(&o.only, "only", "", "run only files whose path matches this `pattern`")
	flag.StringVar(&o.block, "block", "", "run only blocks of this number, or whose name matches this `pattern`")
	flag.StringVar(&o.json, "json", "", "write every result to this `file` (- for standard output, and people's to standard error)")
	flag.StringVar(&o.baseline, "baseline", "", "fail only on blocks that are worse than in this `file`, written by -json before")
	flag.StringVar(&o.program, "gosix", "", "the gosix `program` to test (default: built from this checkout)")
	flag.BoolVar(&o.restart, "restart", false, "start gosix for each block of a suite for the reference, whose blocks may rely on counters that begin anew")
	flag.IntVar(&o.jobs, "j", runtime.NumCPU(), "files at once, where each can have a network of its own")
	flag.DurationVar(&o.blockTime, "block-time", blocktest.BlockTime, "how long a block may take")
	flag.DurationVar(&o.logGrace, "log-grace", time.Second, "how much longer than with Test::Nginx a wanted line of a log, or request of an upstream, may take")
	flag.BoolVar(&o.tap, "tap", false, "print TAP")
	flag.BoolVar(&o.verbose, "v", false, "print every block, and the whole of what failed")
	flag.BoolVar(&o.failFast, "fail-fast", false, "stop a file at its first block that is not ok")
	flag.StringVar(&o.child, "child", "", "run this one file here and print results as JSON lines (used by prove itself)")
	flag.IntVar(&o.from, "from", 0, "with -child, begin at the block of this number (used by prove itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		code = 2
	}
	os.Exit(code)
}

func run(ctx context.Context, o options, paths []string) (int, error) {
	if o.child != "" {
		return 0, child(ctx, o)
	}
	if len(paths) == 0 {
		return 0, errors.New("which files? give suites or directories of them")
	}
	if _, err := selection(o.block, 0); err != nil {
		return 0, err
	}
	files, err := suites(paths, o.only)
	if err != nil {
		return 0, err
	}
	before, err := readReport(o.baseline)
	if err != nil {
		return 0, err
	}
	if o.home != "" {
		if o.home, err = filepath.Abs(o.home); err != nil {
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("", "prove")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.program == "" {
		o.program, err = build(ctx, dir)
	} else {
		o.program, err = filepath.Abs(o.program) // it is started in another directory
	}
	if err != nil {
		return 0, err
	}
	p := &printer{out: os.Stdout, verbose: o.verbose, tap: o.tap}
	if o.json == "-" { // a program reads it
		p.out = os.Stderr
	}
	results := runFiles(ctx, o, files, p)
	if o.json != "" {
		if err := writeReport(o.json, results); err != nil {
			return 0, err
		}
	}
	p.summary(results)
	bad := count(results)[blocktest.NotOK]
	if o.baseline != "" {
		worse := worsened(before, results, o.block == "")
		for _, w := range worse {
			p.say("worse: %s", w)
		}
		bad = len(worse)
	}
	switch {
	case ctx.Err() != nil:
		return 0, errors.New("interrupted")
	case len(results) == 0:
		return 0, fmt.Errorf("no block matches -block %s", o.block)
	case bad > 0:
		return 1, nil
	}
	return 0, nil
}

// suites lists the .t files at and below paths, in order.
func suites(paths []string, only string) ([]string, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	var files []string
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.IsDir() && strings.HasSuffix(file, ".t") && match.MatchString(file) {
				files = append(files, file)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no .t file in %s", strings.Join(paths, ", "))
	}
	return files, nil
}

// build makes the program under test from the checkout that the working directory is in.
func build(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "gosix")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/gosix/gosix/cmd/gosix")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

func readReport(file string) ([]blocktest.Result, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var results []blocktest.Result
	if err := json.Unmarshal(raw, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return results, nil
}

func writeReport(file string, results []blocktest.Result) error {
	raw, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if file == "-" {
		_, err = os.Stdout.Write(raw)
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

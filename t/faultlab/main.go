// Command faultlab runs gosix as a cluster of processes, does to its etcd and to its own
// processes what happens to them in practice, and checks what gosix promises. It records every
// request, every write and every state of every node, and judges from these records alone. It
// runs on Linux, wants root for network namespaces, and does not know gosix from the inside: it
// sees HTTP, logs, files and etcd.
//
//	go run . -short                 every scenario for some seconds, and the regressions
//	go run . -long -resume          the figures of docs/reliability.md; goes on where it was stopped
//	go run . -short -only T3 -seed 7,8
//	go run . -table results.jsonl   the worst figures of a file of results, as Markdown
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == upstreamCommand {
		serveUpstream(os.Args[2:])
		return
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faultlab:", err)
	}
	os.Exit(code)
}

// run returns the exit code: 0 when every line that was judged held, 1 when one did not, 2 when
// the lab itself could not do its work.
func run() (int, error) {
	seed := flag.String("seed", "1", "what all chance is drawn from; several, as 1,2,3, are run one after the other")
	short := flag.Bool("short", false, "every scenario for some seconds (the default)")
	long := flag.Bool("long", false, "every scenario at its full length")
	only := flag.String("only", "", "scenarios, by their names: T1,T3; T5 is also T5-wipe")
	work := flag.String("work", filepath.Join(os.TempDir(), "gosix-faultlab"), "directory for programs, data and results")
	results := flag.String("results", "", "file that results are appended to; empty: results.jsonl in the work directory")
	resume := flag.Bool("resume", false, "leave out what the results say was done with this code and seed")
	again := flag.Bool("again", false, "others use the machine: give a scenario that failed by limits of time alone a second and a third run, and figures of speed wider limits")
	keep := flag.Bool("keep", false, "keep the data and the logs of scenarios that held, too")
	list := flag.Bool("list", false, "list the scenarios")
	table := flag.String("table", "", "print the worst figures in files of results, as a.jsonl,b.jsonl, and run nothing")
	into := flag.String("into", "", "with -table: put them into a document, between the comments figures and /figures")
	rate := flag.Int("rate", 0, "requests a second, for all gateways together; 0: 300, or 1000 with -long")
	flag.Parse()
	if *short && *long || flag.NArg() > 0 || *into != "" && *table == "" {
		flag.Usage()
		return 2, nil
	}
	if *list {
		for _, s := range scenarios {
			fmt.Printf("%-10s %s\n", s.name, s.about)
		}
		return 0, nil
	}
	if *table != "" {
		return 0, printTable(os.Stdout, *table, *into)
	}
	seeds, err := parseSeeds(*seed)
	if err != nil {
		return 2, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	lab := &Lab{Work: *work, Long: *long, Keep: *keep, Busy: *again, Rate: *rate, Out: os.Stdout}
	if lab.Rate == 0 {
		lab.Rate = 300
		if lab.Long {
			lab.Rate = 1000
		}
	}
	defer lab.End()
	if err := lab.Prepare(ctx); err != nil {
		return 2, err
	}
	if *results == "" {
		*results = filepath.Join(*work, "results.jsonl")
	}
	book, err := openBook(*results)
	if err != nil {
		return 2, err
	}
	defer func() { _ = book.Close() }()
	units := plan(scenarios, regressions, seeds, *long, strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }))
	if len(units) == 0 {
		return 2, fmt.Errorf("-only %s: no such scenario", *only)
	}
	var done []Outcome
	for _, u := range units {
		if *resume {
			if before, ok := book.Held(u, lab.Code, lab.Long); ok {
				before.Reused = true
				done = append(done, before)
				continue
			}
		}
		o := lab.Do(ctx, u)
		for runs := 1; *again && o.Late() && runs < 3 && ctx.Err() == nil; runs++ {
			if err := book.Append(o); err != nil {
				return 2, err
			}
			fmt.Printf("%s was late; once more, in case others had the machine\n", u.ID())
			o = lab.Do(ctx, u)
			o.Again = true
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			fmt.Println("interrupted; run again with -resume")
			return 2, nil
		}
		if err := book.Append(o); err != nil {
			return 2, err
		}
		done = append(done, o)
	}
	code := summary(os.Stdout, done)
	if len(seeds) > 1 {
		worstOf(os.Stdout, done)
	}
	return code, nil
}

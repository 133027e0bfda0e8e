package main

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/gosix/gosix/t/blocktest"
)

// A printer tells people. It is safe for concurrent use.
type printer struct {
	mu      sync.Mutex
	out     io.Writer
	verbose bool
	tap     bool
	tests   int
}

func (p *printer) say(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format+"\n", args...) }

// file prints what became of one file.
func (p *printer) file(name string, results []blocktest.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tap {
		for _, r := range results {
			p.tapLine(r)
		}
		return
	}
	p.say("%-60s %s", name, tally(results))
	for _, r := range results {
		if p.verbose || r.Verdict == blocktest.NotOK || len(r.Ignored) > 0 {
			p.block(r)
		}
	}
}

// block prints one result.
func (p *printer) block(r blocktest.Result) {
	p.say("  %-11s %s (line %d)", r.Verdict, title(r), r.Line)
	for _, text := range reasons(r) {
		p.say("      %s", p.cut(text))
	}
	if len(r.Ignored) > 0 {
		p.say("      sections that nobody knows: %s", strings.Join(r.Ignored, ", "))
	}
}

// reasons are a result's texts, each once: why it is what it is, and what else failed.
func reasons(r blocktest.Result) []string {
	if r.Why == "" || len(r.Failures) > 0 && r.Failures[0] == r.Why {
		return r.Failures
	}
	return append([]string{r.Why}, r.Failures...)
}

// title is a block's number and name; by custom the name begins with the number.
func title(r blocktest.Result) string {
	number := fmt.Sprintf("TEST %d: ", r.Number)
	return number + strings.TrimPrefix(r.Name, number)
}

// cut shortens a text unless all of it is wanted.
func (p *printer) cut(text string) string {
	const limit = 600 // bytes
	if !p.verbose && len(text) > limit {
		text = text[:limit] + "…"
	}
	return strings.ReplaceAll(text, "\n", "\n      ")
}

// tapLine prints one result of the Test Anything Protocol. What was not judged is a TODO or a
// SKIP, never an ok.
func (p *printer) tapLine(r blocktest.Result) {
	p.tests++
	name := r.Suite + " " + strings.ReplaceAll(title(r), "#", "\\#")
	if len(r.Ignored) > 0 {
		p.say("# %s: sections that nobody knows: %s", name, strings.Join(r.Ignored, ", "))
	}
	switch r.Verdict {
	case blocktest.OK:
		p.say("ok %d - %s", p.tests, name)
	case blocktest.NotOK:
		p.say("not ok %d - %s", p.tests, name)
		for _, text := range reasons(r) {
			p.say("# %s", strings.ReplaceAll(text, "\n", "\n# "))
		}
	case blocktest.Skipped:
		p.say("ok %d - %s # SKIP %s", p.tests, name, oneLine(r.Why))
	default:
		p.say("not ok %d - %s # TODO %s: %s", p.tests, name, r.Verdict, oneLine(r.Why))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// summary is the last line, which counts every block once.
func (p *printer) summary(results []blocktest.Result) {
	if p.tap {
		p.say("1..%d", p.tests)
		return
	}
	p.say("%s", tally(results))
}

func tally(results []blocktest.Result) string {
	n := count(results)
	return fmt.Sprintf("%d passed, %d failed, %d white-box, %d unsupported, %d skipped",
		n[blocktest.OK], n[blocktest.NotOK], n[blocktest.WhiteBox], n[blocktest.Unsupported], n[blocktest.Skipped])
}

func count(results []blocktest.Result) map[blocktest.Verdict]int {
	n := map[blocktest.Verdict]int{}
	for _, r := range results {
		n[r.Verdict]++
	}
	return n
}

// worsened lists the blocks that were ok before and are no longer, and those that fail now
// and did not before. A block of a file that was run whole and has no result is worse, too.
func worsened(before, now []blocktest.Result, whole bool) (list []string) {
	type id struct {
		suite  string
		number int
	}
	was, is, ran := map[id]blocktest.Verdict{}, map[id]bool{}, map[string]bool{}
	for _, r := range before {
		was[id{r.Suite, r.Number}] = r.Verdict
	}
	for _, r := range now {
		key := id{r.Suite, r.Number}
		is[key], ran[r.Suite] = true, true
		old := was[key]
		if r.Verdict != old && (old == blocktest.OK || r.Verdict == blocktest.NotOK) {
			list = append(list, fmt.Sprintf("%s %s: %q, was %q", r.Suite, title(r), r.Verdict, old))
		}
	}
	for _, r := range before {
		if whole && ran[r.Suite] && r.Verdict == blocktest.OK && !is[id{r.Suite, r.Number}] {
			list = append(list, fmt.Sprintf("%s %s: it is gone, was %q", r.Suite, title(r), r.Verdict))
		}
	}
	return list
}

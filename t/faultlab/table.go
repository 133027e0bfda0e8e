package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Row is a line of a scenario over all the runs of it.
type Row struct {
	Scenario string
	What     string
	Limit    string
	Worst    string
	Verdict  Verdict
	Runs     int

	line Line // the worst
}

// everywhere are the lines by which all scenarios are judged. A table has them once.
var everywhere = []string{"same revision, other digest", "revision went back", "nodes that panicked or ended"}

// number is what tells nodes of a kind apart: the worst of them counts.
var number = regexp.MustCompile(`\b(gateway|admin)-\d+`)

// rows merges the lines of runs, in the order in which they were first printed.
func rows(done []Outcome) (merged []*Row) {
	find := func(scenario, what string) *Row {
		for _, r := range merged {
			if r.Scenario == scenario && r.What == what {
				return r
			}
		}
		return nil
	}
	var all []*Row
	for _, o := range done {
		if o.Verdict == NotBuilt || o.Verdict == NotRun || o.Reason != "" {
			merged = append(merged, &Row{Scenario: o.Scenario, What: "seed " + strconv.FormatInt(o.Seed, 10), Worst: o.Reason, Verdict: o.Verdict, Runs: 1})
		}
		for _, l := range o.Lines {
			scenario, what := o.Scenario, number.ReplaceAllString(l.What, "a $1")
			if slices.Contains(everywhere, what) {
				scenario = "all"
			}
			r := find(scenario, what)
			if r == nil {
				r = &Row{Scenario: scenario, What: what, line: l}
				merged = append(merged, r)
			} else {
				r.line = worse(r.line, l)
			}
			r.Runs++
		}
	}
	for _, r := range merged {
		if r.Worst == "" {
			r.Limit, r.Worst, r.Verdict = r.line.Limit, r.line.Got, r.line.Verdict
			if r.line.Of > 0 {
				r.Worst = thousands(int(r.line.Value)) + " of " + thousands(r.line.Of)
			}
		}
		if r.Scenario == "all" {
			all = append(all, r)
		}
	}
	merged = slices.DeleteFunc(merged, func(r *Row) bool { return r.Scenario == "all" })
	return append(merged, all...)
}

// worse is the worse of two lines; what was counted is added up.
func worse(a, b Line) Line {
	if a.Of > 0 && b.Of > 0 {
		a.Value, a.Of = a.Value+b.Value, a.Of+b.Of
		if b.Verdict == Failed {
			a.Verdict = Failed
		}
		return a
	}
	switch {
	case a.Verdict != b.Verdict && (a.Verdict == Failed || b.Verdict == Failed):
		if b.Verdict == Failed {
			return b
		}
	case b.Value > a.Value:
		return b
	case a.Value == 0 && b.Value == 0 && !strings.Contains(a.Got, b.Got) && strings.Count(a.Got, "; ") < 2:
		a.Got += "; " + b.Got // of which none is the worst
	}
	return a
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// worstOf prints the worst figures of several seeds for a terminal.
func worstOf(out io.Writer, done []Outcome) {
	fmt.Fprintf(out, "\nthe worst of all seeds\n")
	for _, r := range rows(done) {
		if r.Verdict != Noted {
			fmt.Fprintf(out, "%-12s %-9s %s: %s%s\n", r.Scenario, r.Verdict, r.What, r.Worst, limit(r.Limit))
		}
	}
}

func limit(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// latest leaves of every unit and seed what was found last.
func latest(all []Outcome) (last []Outcome) {
	at := map[string]int{}
	for _, o := range all {
		key := bookKey(o.Unit, o.Seed, "", o.Long)
		if i, ok := at[key]; ok {
			last[i] = o
			continue
		}
		at[key] = len(last)
		last = append(last, o)
	}
	return last
}

// markdown writes the worst figures as tables, one of the short runs and one of the long, each
// with the conditions under which they were measured.
func markdown(out io.Writer, all []Outcome) {
	for _, long := range []bool{false, true} {
		of := slices.DeleteFunc(latest(all), func(o Outcome) bool { return o.Long != long })
		if len(of) == 0 {
			continue
		}
		order := map[string]int{}
		for i, s := range scenarios {
			order[s.name] = i
		}
		slices.SortStableFunc(of, func(a, b Outcome) int { return order[a.Scenario] - order[b.Scenario] })
		title := "Short runs"
		if long {
			title = "Long runs"
		}
		fmt.Fprintf(out, "**%s.** %s\n\n", title, conditions(of))
		fmt.Fprintf(out, "| | What | Measured | Limit |\n|---|---|---|---|\n")
		before := ""
		for _, r := range rows(of) {
			name := r.Scenario
			if name == before {
				name = ""
			}
			before = r.Scenario
			text := cell(r.Worst)
			switch r.Verdict {
			case Failed, NotRun, NotBuilt:
				text = "**" + string(r.Verdict) + "** " + text
			}
			fmt.Fprintf(out, "| %s | %s | %s | %s |\n", name, cell(r.What), text, cell(r.Limit))
		}
		fmt.Fprintln(out)
	}
}

// cell is a text that does not end a cell of a table.
func cell(text string) string {
	return strings.TrimSpace(strings.NewReplacer("|", `\|`, "\n", " ", "<", `\<`, "*", `\*`, "_", `\_`).Replace(text))
}

// conditions says how something was measured.
func conditions(of []Outcome) string {
	var seeds []int64
	var codes, again []string
	rate, cpus, low, high := 0, 0, of[0].Machine, of[0].Machine
	first, last := of[0].Time, of[0].Time
	stolen := 0.0
	for _, o := range of {
		if !slices.Contains(seeds, o.Seed) {
			seeds = append(seeds, o.Seed)
		}
		if !slices.Contains(codes, o.Code) {
			codes = append(codes, o.Code)
		}
		if o.Again {
			again = append(again, fmt.Sprintf("%s with seed %d", o.Unit, o.Seed))
		}
		rate, cpus = max(rate, o.Rate), max(cpus, o.CPUs)
		low, high = min(low, o.Machine), max(high, o.Machine)
		stolen = max(stolen, o.Stolen)
		if o.Time.Before(first) {
			first = o.Time
		}
		if o.Time.After(last) {
			last = o.Time
		}
	}
	slices.Sort(seeds)
	text := fmt.Sprintf("Seeds %s, the worst of them, counts added up; %d requests a second; %d processors, whose load was %.1f to %.1f when a scenario began; code %s, %s",
		strings.Trim(strings.Join(strings.Fields(fmt.Sprint(seeds)), ", "), "[]"), rate, cpus, low, high, strings.Join(codes, ", "), first.Format("2006-01-02"))
	if a, b := first.Format("2006-01-02"), last.Format("2006-01-02"); a != b {
		text += " to " + b
	}
	if stolen >= 0.01 {
		text += fmt.Sprintf("; other machines of the host had up to %.0f %% of the processors' time", 100*stolen)
	}
	if len(again) > 0 {
		text += "; in a further run, because it was late before: " + strings.Join(again, ", ")
	}
	return text + "."
}

const (
	figuresBegin = "<!-- figures -->"
	figuresEnd   = "<!-- /figures -->"
)

// printTable writes the tables of files of results to out, or into a document.
func printTable(out io.Writer, results, into string) error {
	var all []Outcome
	for _, file := range strings.Split(results, ",") {
		some, err := readBook(file)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b Outcome) int { return a.Time.Compare(b.Time) })
	if into == "" {
		markdown(out, all)
		return nil
	}
	doc, err := os.ReadFile(into)
	if err != nil {
		return err
	}
	from, to := bytes.Index(doc, []byte(figuresBegin)), bytes.Index(doc, []byte(figuresEnd))
	if from < 0 || to < from {
		return fmt.Errorf("%s: there is no %s with a %s behind it", into, figuresBegin, figuresEnd)
	}
	var b bytes.Buffer
	b.Write(doc[:from])
	b.WriteString(figuresBegin + "\n\n")
	markdown(&b, all)
	b.Write(doc[to:])
	return os.WriteFile(into, b.Bytes(), 0o644)
}

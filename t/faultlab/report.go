package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// Verdict is what became of a line or a unit.
type Verdict string

// The verdicts. Only Failed makes a run fail; only Held is a pass.
const (
	Held     Verdict = "ok"
	Failed   Verdict = "FAILED"
	Noted    Verdict = "note"      // a figure that nothing is promised about
	NotBuilt Verdict = "not built" // gosix does not have what is tested
	NotRun   Verdict = "not run"   // the machine does not have what the test needs
)

// Line is one thing that had to hold, with the figure that was measured.
type Line struct {
	What    string  `json:"what"`
	Got     string  `json:"got"`
	Limit   string  `json:"limit,omitempty"`
	Verdict Verdict `json:"verdict"`
	Timed   bool    `json:"timed,omitempty"` // the limit is one that a busy machine may miss
	// Value is what was measured, where it is a number of which more is worse: seconds, or how
	// many of Of were bad.
	Value float64 `json:"value,omitempty"`
	Of    int     `json:"of,omitempty"`
}

func (l Line) String() string {
	s := l.What
	if l.Got != "" {
		s += " " + l.Got
	}
	if l.Limit != "" {
		s += " (" + l.Limit + ")"
	}
	return s + " " + string(l.Verdict)
}

// Outcome is a unit as it stands in the file of results, one JSON object a line.
type Outcome struct {
	Unit     string    `json:"unit"`
	Scenario string    `json:"scenario"`
	Seed     int64     `json:"seed"`
	Long     bool      `json:"long"`
	Rate     int       `json:"rate,omitempty"` // requests a second
	Code     string    `json:"code"`
	Time     time.Time `json:"time"`
	Seconds  float64   `json:"seconds"`
	CPUs     int       `json:"cpus,omitempty"`
	Machine  float64   `json:"machine,omitempty"` // load of the machine before, as the system counts it
	Stolen   float64   `json:"stolen,omitempty"`  // share of the processors' time that the machine wanted and did not get
	Verdict  Verdict   `json:"verdict"`
	Reason   string    `json:"reason,omitempty"`
	Lines    []Line    `json:"lines"`
	Again    bool      `json:"again,omitempty"` // a further run of a unit that was late
	Reused   bool      `json:"-"`               // from the file
}

// Late tells whether a unit failed by nothing but limits of time, as it does on a machine that
// others use.
func (o *Outcome) Late() bool {
	late := false
	for _, l := range o.Lines {
		if l.Verdict == Failed {
			if !l.Timed {
				return false
			}
			late = true
		}
	}
	return late && o.Reason == ""
}

// Run is a scenario while it runs.
type Run struct {
	*Lab
	Unit Unit
	Rand *rand.Rand
	Dir  string

	lines []Line
}

func (r *Run) line(l Line) {
	r.lines = append(r.lines, l)
	r.say("%s %s", r.Unit.ID(), l)
}

func verdict(ok bool) Verdict {
	if ok {
		return Held
	}
	return Failed
}

// Check is something that holds or does not.
func (r *Run) Check(what, got, limit string, ok bool) {
	r.line(Line{What: what, Got: got, Limit: limit, Verdict: verdict(ok)})
}

// AtMost is a time with a limit.
func (r *Run) AtMost(what string, got, limit time.Duration) {
	r.line(Line{What: what, Got: seconds(got), Limit: "≤ " + seconds(limit), Verdict: verdict(got <= limit), Timed: true, Value: got.Seconds()})
}

// Quick is AtMost for a limit that says how fast gosix is, not how soon it does what it must.
// Where others use the machine it says little about gosix, and the limit is busy.
func (r *Run) Quick(what string, got, limit, busy time.Duration) {
	if r.Busy {
		limit = busy
	}
	r.AtMost(what, got, limit)
}

// Most is a figure with a limit, and one for where others use the machine, printed as format
// says.
func (r *Run) Most(what, format string, got, limit, busy float64) {
	if r.Busy {
		limit = busy
	}
	r.line(Line{What: what, Got: fmt.Sprintf(format, got), Limit: "≤ " + fmt.Sprintf(format, limit), Verdict: verdict(got <= limit), Timed: true, Value: got})
}

// None is a number of things that must not have happened, out of many.
func (r *Run) None(what string, bad []string, of int) {
	got := fmt.Sprintf("%d of %d", len(bad), of)
	if len(bad) > 0 {
		got += ": " + strings.Join(bad[:min(len(bad), 5)], "; ")
	}
	// Out of nothing, nothing bad is no news.
	r.line(Line{What: what, Got: got, Limit: "0", Verdict: verdict(len(bad) == 0 && of > 0), Value: float64(len(bad)), Of: of})
}

// Note is a figure without a limit.
func (r *Run) Note(what, got string) { r.line(Line{What: what, Got: got, Verdict: Noted}) }

func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// summary prints the table and returns the exit code.
func summary(out io.Writer, done []Outcome) int {
	code := 0
	fmt.Fprintf(out, "\n%-14s %6s %8s  %-9s %s\n", "scenario", "seed", "seconds", "verdict", "lines")
	for _, o := range done {
		held, judged := 0, 0
		for _, l := range o.Lines {
			if l.Verdict == Held {
				held++
			}
			if l.Verdict != Noted {
				judged++
			}
		}
		text := fmt.Sprintf("%d of %d held", held, judged)
		if o.Reason != "" {
			text += "; " + o.Reason
		}
		if o.Again {
			text += "; in a further run, since it was late before"
		}
		if o.Reused {
			text += "; from the results"
		}
		fmt.Fprintf(out, "%-14s %6d %8.1f  %-9s %s\n", o.Unit, o.Seed, o.Seconds, o.Verdict, text)
		if o.Verdict == Failed {
			code = 1
		}
	}
	return code
}

// Book is the file of results.
type Book struct {
	file *os.File
	held map[string]Outcome
}

func bookKey(unit string, seed int64, code string, long bool) string {
	return fmt.Sprint(unit, " ", seed, " ", code, " ", long)
}

func openBook(path string) (*Book, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	b := &Book{file: f, held: map[string]Outcome{}}
	all, err := outcomes(f)
	for _, o := range all {
		if o.Verdict == Held {
			b.held[bookKey(o.Unit, o.Seed, o.Code, o.Long)] = o
		}
	}
	return b, err
}

// readBook reads a file of results that is not written to.
func readBook(path string) ([]Outcome, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return outcomes(f)
}

// outcomes reads results, the oldest first.
func outcomes(from io.Reader) (all []Outcome, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var o Outcome
		// A line that was cut by a crash is of a unit that is run again.
		if json.Unmarshal(lines.Bytes(), &o) == nil {
			all = append(all, o)
		}
	}
	return all, lines.Err()
}

// Held returns what was found when the unit held, with the same code and the same seed.
func (b *Book) Held(u Unit, code string, long bool) (Outcome, bool) {
	o, ok := b.held[bookKey(u.ID(), u.Seed, code, long)]
	return o, ok
}

// Append writes an outcome down, so that it is there after a power cut.
func (b *Book) Append(o Outcome) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	// In front as well: the line before may have been cut.
	if _, err := b.file.Write(append(append([]byte("\n"), raw...), '\n')); err != nil {
		return err
	}
	return b.file.Sync()
}

// Close closes the file.
func (b *Book) Close() error { return b.file.Close() }

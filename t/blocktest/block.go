// Package blocktest reads test suites in the notation of Test::Nginx and judges their
// blocks: it makes the requests that a block describes and compares every section that it
// knows with what came back. Where blocks run (which servers, which gateway, which logs)
// is a World's business.
package blocktest

import "context"

// A Suite is one file.
type Suite struct {
	Path     string
	Prologue string // Perl, up to __DATA__
	Blocks   []*Block
	// Own is a suite of the project's own: it has no prologue, and further sections.
	Own bool
}

// A Block is one test.
type Block struct {
	Name     string
	Number   int // from 1, in the file
	Line     int // of its === line
	Sections []*Section
}

// A Section is one `--- name filters` of a block.
type Section struct {
	Name    string
	Filters []string // "eval", "chomp", …
	Raw     string   // as written
	Line    int
}

// A Verdict says what became of a block.
type Verdict string

// The verdicts. A block is OK only when every section that Test::Nginx knows was checked.
const (
	OK          Verdict = "ok"
	NotOK       Verdict = "not ok"
	WhiteBox    Verdict = "white-box"   // it reaches into what only the reference has
	Unsupported Verdict = "unsupported" // it uses what the runner does not offer
	Skipped     Verdict = "skipped"     // it needs what is absent, or says so itself
)

// A Result is a judged block.
type Result struct {
	Suite    string   `json:"suite"`
	Number   int      `json:"number"`
	Name     string   `json:"name"`
	Line     int      `json:"line"`
	Verdict  Verdict  `json:"verdict"`
	Why      string   `json:"why,omitempty"`      // for every verdict but OK
	Failures []string `json:"failures,omitempty"` // got and want, for NotOK
	Ignored  []string `json:"ignored,omitempty"`  // section names that Test::Nginx does not know
	TookMS   int64    `json:"took_ms"`
}

// Prepared is a block with its sections evaluated and the file's preprocessors applied:
// what a World needs to set the stage. Values are texts; a section that is absent is
// missing from the map, one that is empty is there. An array's texts stand one below the
// other.
type Prepared struct {
	Block    *Block
	Values   map[string]string
	LogLevel string // of the prologue's log_level, or the block's
	Settings *Settings
	Own      bool // it is one of the project's own suites

	sections *sections
}

// Get returns a section's text.
func (p *Prepared) Get(name string) (string, bool) {
	v, ok := p.Values[name]
	return v, ok
}

// A World is where the blocks of one file run, one after another. It is used by one
// goroutine at a time.
type World interface {
	// Stage makes the servers and the gateway be what the block asks for. Its errors are
	// *StageError or *DiedError, or they end the file.
	Stage(ctx context.Context, p *Prepared) error
	// Addr is where requests go, host:port.
	Addr() string
	// Logs returns what the error log and the access log have gained since the block's
	// Stage, the gateway's and the runner's own lines in the order they came.
	Logs() (errorLog, accessLog string)
	// Verdict is asked after the requests: a script that went where it cannot turns the
	// block into WhiteBox or Unsupported, with the reason; "" leaves the judgement to the
	// sections.
	Verdict() (v Verdict, why string)
	// Close ends everything that the World started.
	Close() error
}

// StageError is a block that cannot be staged, with the verdict it gets.
type StageError struct {
	Verdict Verdict
	Why     string
}

func (e *StageError) Error() string { return string(e.Verdict) + ": " + e.Why }

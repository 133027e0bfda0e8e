package blocktest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Unreachable is a host outside this machine that a block addressed and that no way leads
// to from here.
type Unreachable struct {
	Host string
	// Status is that of the gateway's answer to the request because of which it addressed the
	// host; 0: a script addressed it.
	Status int
	// Alone says that nothing which is stored leads to a server of this machine, so that the
	// gateway had no other place to go.
	Alone bool
}

// An Observer is a World that sees which hosts outside could not be reached for the current
// block.
type Observer interface {
	Unreachable() []Unreachable
}

// excuse makes a failed block Skipped when it is shown that it needs what this machine has
// not, a host outside or a command, and that the failure comes of it. A gateway may go to the
// wrong host: that it went there shows nothing unless the block names the host, or there was
// no other. The project's own suites need nothing from outside: a host that is not found there
// is one that should not have been asked.
func (r *runner) excuse(b *Block, res *Result) {
	if r.suite.Own {
		return
	}
	if command := absentCommand(res.Failures); command != "" {
		res.Verdict, res.Why = Skipped, "command: "+command
		return
	}
	w, ok := r.world.(Observer)
	if !ok {
		return
	}
	for _, u := range w.Unreachable() {
		if (u.Status == 0 || u.Alone || b.names(u.Host)) && u.told(res.Failures) {
			res.Verdict, res.Why = Skipped, "network: "+u.Host
			return
		}
	}
}

// names reports whether a section holds a text.
func (b *Block) names(text string) bool {
	return slices.ContainsFunc(b.Sections, func(s *Section) bool { return strings.Contains(s.Raw, text) })
}

// told reports whether failures tell of a host: an answer names it, or is the gateway's
// because of it. An error in the log that does not name it is another failure.
func (u Unreachable) told(failures []string) (told bool) {
	status := strconv.Itoa(u.Status)
	for _, f := range failures {
		if strings.HasPrefix(f, "no_error_log:") && !strings.Contains(f, u.Host) {
			return false
		}
		got := gotten(f)
		told = told || strings.Contains(got, u.Host) || u.Status != 0 && containsNumber(got, status)
	}
	return told
}

// gotten is what a failure says that came, without what was wanted.
func gotten(failure string) string {
	_, got, ok := strings.Cut(failure, ": got ")
	if !ok {
		return ""
	}
	if i := strings.LastIndex(got, ", want "); i >= 0 {
		got = got[:i]
	}
	return got
}

// containsNumber reports whether a number stands in a text by itself.
func containsNumber(text, number string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], number)
		if i < 0 {
			return false
		}
		at += i
		end := at + len(number)
		if (at == 0 || !isDigit(text[at-1])) && (end == len(text) || !isDigit(text[end])) {
			return true
		}
		at = end
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// shellMisses is what a shell says of a command that the machine does not have.
var shellMisses = regexp.MustCompile(`\bsh: (?:\d+: |line \d+: )?([\w./-]+): (?:command )?not found`)

func absentCommand(failures []string) string {
	for _, f := range failures {
		if m := shellMisses.FindStringSubmatch(gotten(f)); m != nil {
			return m[1]
		}
	}
	return ""
}

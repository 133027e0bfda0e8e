package blocktest

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// settle is how long the logs are left alone behind a request: lines are written when its
// connection is already closed.
const settle = 45 * time.Millisecond

// A logReader hands out the lines of the error log once: each check sees what came since
// the one before, or, if the prologue asks for it, since the block began.
type logReader struct {
	world World
	grace time.Duration // how much longer than settle a wanted line may take
	whole bool
	at    int
}

// next returns the new lines as soon as enough is content with them, or the grace is over.
func (l *logReader) next(ctx context.Context, enough func(lines []string) bool) ([]string, error) {
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	for end := time.Now().Add(l.grace); ; {
		all, _ := l.world.Logs()
		lines := logLines(all[min(l.at, len(all)):])
		if enough(lines) || time.Now().After(end) {
			if !l.whole {
				l.at = len(all)
			}
			return lines, nil
		}
		if err := pause(ctx, settle/3); err != nil {
			return nil, err
		}
	}
}

func logLines(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// linePatterns are what a section of log lines looks for: its lines as plain texts, or the
// elements of an array, which may be regular expressions.
func linePatterns(v perl.Value) []perl.Value {
	switch v := v.(type) {
	case nil:
		return nil
	case *perl.Array:
		var out []perl.Value
		for _, e := range v.Elems {
			if e != nil {
				out = append(out, e)
			}
		}
		return out
	case *perl.Regexp:
		return []perl.Value{v}
	}
	var out []perl.Value
	for _, line := range splitLines(strings.TrimSuffix(perl.Text(v), "\n")) {
		out = append(out, line)
	}
	return out
}

// findIn returns the part of a line that a pattern matches.
func findIn(pattern perl.Value, line string) (part string, found bool, err error) {
	if re, ok := pattern.(*perl.Regexp); ok {
		m, err := re.Find(line, 0)
		if err != nil || m != nil {
			if m != nil {
				part = line[m.Groups[0][0]:m.Groups[0][1]]
			}
			return part, m != nil, err
		}
	}
	s := perl.Text(pattern)
	return s, strings.Contains(line, s), nil
}

// firstMatch returns the first line that a pattern matches.
func (j *judge) firstMatch(section string, pattern perl.Value, lines []string) (string, bool) {
	for _, line := range lines {
		if _, found, err := findIn(pattern, line); err != nil {
			j.fail(section, "%v", err)
			return "", false
		} else if found {
			return line, true
		}
	}
	return "", false
}

// wantLines reports the patterns of a section that match no line.
func (j *judge) wantLines(section string, lines []string) {
	for _, p := range linePatterns(j.get(section)) {
		if _, found := j.firstMatch(section, p, lines); !found {
			j.fail(section, "no line matches %s", quote(perl.Text(p)))
		}
	}
}

// refuseLines reports the patterns of a section that match a line.
func (j *judge) refuseLines(section string, lines []string) {
	for _, p := range linePatterns(j.get(section)) {
		if line, found := j.firstMatch(section, p, lines); found {
			j.fail(section, "%s matches %s", quote(perl.Text(p)), quote(strings.TrimSuffix(line, "\n")))
		}
	}
}

var assertion = regexp.MustCompile(`\bAssertion .*?failed\b`)

// checkErrorLog judges the lines that came since the last time. repeated is the round of
// repeat_each.
func (j *judge) checkErrorLog(ctx context.Context, logs *logReader, repeated int) error {
	lines, err := logs.next(ctx, func(lines []string) bool {
		quiet := &judge{sections: j.sections, env: j.env, failures: new([]string)}
		quiet.wantLines("error_log", lines)
		quiet.checkGrep(lines, repeated)
		return len(*quiet.failures) == 0
	})
	if err != nil {
		return err
	}
	j.wantLines("error_log", lines)
	j.refuseLines("no_error_log", lines)
	j.checkGrep(lines, repeated)
	for _, line := range lines {
		if assertion.MatchString(line) {
			j.fail("error_log", "%s", quote(line))
		}
	}
	return nil
}

// ofRound picks the element of an array that belongs to a round of repeat_each.
func ofRound(v perl.Value, round int) perl.Value {
	a, ok := v.(*perl.Array)
	if !ok {
		return v
	}
	if round < len(a.Elems) {
		return a.Elems[round]
	}
	return nil
}

// checkGrep compares what grep_error_log finds, line by line, with grep_error_log_out.
func (j *judge) checkGrep(lines []string, repeated int) {
	pattern := ofRound(j.get("grep_error_log"), repeated)
	if !j.has("grep_error_log") {
		if j.has("grep_error_log_out") {
			j.fail("grep_error_log_out", "there is no grep_error_log")
		}
		return
	}
	if !j.has("grep_error_log_out") {
		j.fail("grep_error_log", "there is no grep_error_log_out")
		return
	}
	want := ofRound(j.get("grep_error_log_out"), repeated)
	if pattern == nil || want == nil {
		j.fail("grep_error_log", "nothing is expected of round %d", repeated+1)
		return
	}
	var got strings.Builder
	for _, line := range lines {
		part, found, err := findIn(pattern, line)
		if err != nil {
			j.fail("grep_error_log", "%v", err)
			return
		}
		if found && !strings.Contains(part, "\n") {
			got.WriteString(part + "\n")
		}
	}
	if re, ok := want.(*perl.Regexp); ok {
		j.like("grep_error_log_out", got.String(), re, "", true)
		return
	}
	text, err := expand("grep_error_log_out", perl.Text(want), j.env)
	if err != nil {
		j.fail("grep_error_log_out", "%v", err)
	} else if got.String() != text {
		j.fail("grep_error_log_out", "%s", difference(got.String(), text))
	}
}

// checkAccessLog judges all lines of the access log.
func (j *judge) checkAccessLog(ctx context.Context, logs *logReader) error {
	if !j.has("access_log") && !j.has("no_access_log") {
		return nil
	}
	for end := time.Now().Add(logs.grace); ; {
		if err := pause(ctx, settle); err != nil {
			return err
		}
		_, all := logs.world.Logs()
		lines := logLines(all)
		quiet := &judge{sections: j.sections, failures: new([]string)}
		quiet.wantLines("access_log", lines)
		if len(*quiet.failures) == 0 || time.Now().After(end) {
			j.wantLines("access_log", lines)
			j.refuseLines("no_access_log", lines)
			return nil
		}
	}
}

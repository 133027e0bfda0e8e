package blocktest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// The versions that the reference's release is built with: what skip_nginx and its like
// are measured against.
const (
	nginxVersion   = "1.27.1"
	opensslVersion = "3.4.1"
)

var (
	skipEval    = regexp.MustCompile(`(?s)^\s*(\d+)\s*:\s*(.*)`)
	skipVersion = regexp.MustCompile(`^\s*(?:\d+\s*:\s*)?([<>]=?)\s*(\d+)\.(\d+)\.(\d+)[a-z]?(?:\s*:\s*(.*))?\s*$`)
	skipTwo     = regexp.MustCompile(`^\s*\d+\s*:\s*([<>]=?)\s*(\d+)\.(\d+)\.(\d+)\s*(or|and)\s*([<>]=?)\s*(\d+)\.(\d+)\.(\d+)(?:\s*:\s*(.*))?\s*$`)
)

// skipped says whether a block asks not to be run, and why.
func (p *program) skipped(s *sections) (why string, skip bool, err error) {
	if m := skipEval.FindStringSubmatch(perl.Text(s.get("skip_eval"))); m != nil {
		values, err := p.in.Eval(m[2], 1)
		if err != nil {
			return "", false, fmt.Errorf("section skip_eval: %w", err)
		}
		if len(values) > 0 && perl.Truth(values[len(values)-1]) {
			return "skip_eval", true, nil
		}
	}
	for _, c := range []struct{ name, version string }{
		{"skip_nginx", nginxVersion}, {"skip_openssl", opensslVersion}, {"todo_nginx", nginxVersion},
	} {
		if !s.has(c.name) {
			continue
		}
		m := skipVersion.FindStringSubmatch(perl.Text(s.get(c.name)))
		if m == nil {
			return "", false, fmt.Errorf("section %s: %q names no version", c.name, perl.Text(s.get(c.name)))
		}
		if compareVersion(c.version, m[1], m[2:5]) {
			return c.name + " " + strings.TrimSpace(perl.Text(s.get(c.name))), true, nil
		}
	}
	if s.has("skip_nginx2") {
		m := skipTwo.FindStringSubmatch(perl.Text(s.get("skip_nginx2")))
		if m == nil {
			return "", false, fmt.Errorf("section skip_nginx2: %q names no versions", perl.Text(s.get("skip_nginx2")))
		}
		a, b := compareVersion(nginxVersion, m[1], m[2:5]), compareVersion(nginxVersion, m[6], m[7:10])
		if m[5] == "or" && (a || b) || a && b {
			return "skip_nginx2 " + strings.TrimSpace(m[0]), true, nil
		}
	}
	if s.has("todo") {
		return "todo " + strings.TrimSpace(perl.Text(s.get("todo"))), true, nil
	}
	return "", false, nil
}

// compareVersion says whether `version op want` holds.
func compareVersion(version, op string, want []string) bool {
	diff := 0
	for i, part := range strings.Split(version, ".") {
		have, _ := strconv.Atoi(part)
		other, _ := strconv.Atoi(want[i])
		if diff == 0 {
			diff = have - other
		}
	}
	switch op {
	case "<":
		return diff < 0
	case "<=":
		return diff <= 0
	case ">":
		return diff > 0
	}
	return diff >= 0
}

package expr

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/gosix/gosix/pkg/variable"
)

// matchTimeout bounds a pattern over one value.
const matchTimeout = 100 * time.Millisecond

var errPattern = errors.New("invalid regular expression: it must be a string")

// matches searches for a pattern.
func matches(right variable.Value, ignoreCase bool) (test, error) {
	if !right.IsText() && !right.IsNumber() {
		return nil, errPattern
	}
	source := right.String()
	find, err := CompilePattern(source, ignoreCase)
	if err != nil {
		return nil, fmt.Errorf("invalid regular expression %q: %w", source, err)
	}
	return func(left variable.Value) (bool, error) {
		if !left.IsText() && !left.IsNumber() && !left.IsBool() {
			return false, nil
		}
		return find(left.String())
	}, nil
}

// CompilePattern compiles a regular expression, which is Perl's, to a search. What the
// standard library understands runs there, in linear time; what looks around or back needs
// an engine that backtracks, and gets a time limit for each text, which ends in an error.
// The search is safe for concurrent use.
func CompilePattern(source string, ignoreCase bool) (find func(string) (bool, error), err error) {
	search, err := compilePattern(source, ignoreCase)
	// Perl's "$" also matches before a line break at the very end, and both engines' does
	// not: a path that ends in one must not slip past "^/admin$".
	if err != nil || !strings.Contains(source, "$") || strings.Contains(source, `\z`) {
		return search, err
	}
	return func(s string) (bool, error) {
		if found, err := search(s); found || err != nil {
			return found, err
		}
		if strings.HasSuffix(s, "\n") {
			return search(s[:len(s)-1])
		}
		return false, nil
	}, nil
}

func compilePattern(source string, ignoreCase bool) (func(string) (bool, error), error) {
	flags, options := "", regexp2.RegexOptions(regexp2.RE2)
	if ignoreCase {
		flags, options = "(?i)", regexp2.RE2|regexp2.IgnoreCase
	}
	if re, err := regexp.Compile(flags + source); err == nil {
		return func(s string) (bool, error) { return re.MatchString(s), nil }, nil
	}
	re, err := regexp2.Compile(source, options)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = matchTimeout
	return re.MatchString, nil
}

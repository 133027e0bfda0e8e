package blocktest

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// A filter turns a section's values into others. arg is what stands behind its =.
type filter func(in *perl.Interp, values []perl.Value, arg string, line int) ([]perl.Value, error)

// each makes a filter of what happens to one text.
func each(do func(s, arg string) string) filter {
	return func(_ *perl.Interp, values []perl.Value, arg string, _ int) ([]perl.Value, error) {
		out := make([]perl.Value, len(values))
		for i, v := range values {
			out[i] = do(perl.Text(v), arg)
		}
		return out, nil
	}
}

var (
	leadingBlank  = regexp.MustCompile(`\A([ \t]*\n)+`)
	escapedLetter = regexp.MustCompile(`\\[a-z]`)
)

// filters are those of Test::Base that change a value without leaving the file: what reads
// the network, runs programs or writes files is not among them.
var filters = map[string]filter{
	"eval":          evalFilter,
	"chomp":         each(func(s, _ string) string { return strings.TrimSuffix(s, "\n") }),
	"chop":          each(func(s, _ string) string { return s[:max(len(s)-1, 0)] }),
	"unchomp":       each(func(s, _ string) string { return s + "\n" }),
	"trim":          each(func(s, _ string) string { return trimBlank(s) }),
	"norm":          each(func(s, _ string) string { return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s) }),
	"append":        each(func(s, arg string) string { return s + arg }),
	"prepend":       each(func(s, arg string) string { return arg + s }),
	"base64_encode": each(func(s, _ string) string { return base64Lines(s) }),
	"base64_decode": each(base64Text),
	"lines":         linesFilter,
	"array":         arrayFilter,
	"join":          joinFilter,
	"reverse":       reverseFilter,
	"regexp":        regexpFilter,
	"split":         splitFilter,
}

// trimBlank drops the blank lines before a value, and what is blank behind its last line.
func trimBlank(s string) string {
	s = leadingBlank.ReplaceAllString(s, "")
	end := strings.TrimRight(s, " \t\r\n\f\v")
	if i := strings.IndexByte(s[len(end):], '\n'); i >= 0 {
		return s[:len(end)+i+1]
	}
	return s
}

func base64Lines(s string) string {
	encoded := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(encoded) > 76 {
		b.WriteString(encoded[:76] + "\n")
		encoded = encoded[76:]
	}
	if encoded != "" {
		b.WriteString(encoded + "\n")
	}
	return b.String()
}

func base64Text(s, _ string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", r) {
			return r
		}
		return -1
	}, s)
	out, err := base64.RawStdEncoding.DecodeString(clean)
	if err != nil {
		return ""
	}
	return string(out)
}

// evalFilter evaluates a value. A program that dies is worth its error text, as it is in
// Test::Base; one that is not understood is an error.
func evalFilter(in *perl.Interp, values []perl.Value, _ string, line int) ([]perl.Value, error) {
	if len(values) != 1 {
		return nil, &perl.UnsupportedError{What: "eval of a list", Line: line}
	}
	return evalText(in, perl.Text(values[0]), line)
}

func linesFilter(_ *perl.Interp, values []perl.Value, _ string, _ int) ([]perl.Value, error) {
	var out []perl.Value
	for _, v := range values {
		for _, l := range strings.SplitAfter(perl.Text(v), "\n") {
			if l != "" {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

func arrayFilter(_ *perl.Interp, values []perl.Value, _ string, _ int) ([]perl.Value, error) {
	return []perl.Value{&perl.Array{Elems: values}}, nil
}

func joinFilter(_ *perl.Interp, values []perl.Value, arg string, _ int) ([]perl.Value, error) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = perl.Text(v)
	}
	return []perl.Value{strings.Join(texts, arg)}, nil
}

func reverseFilter(_ *perl.Interp, values []perl.Value, _ string, _ int) ([]perl.Value, error) {
	out := slices.Clone(values)
	slices.Reverse(out)
	return out, nil
}

func regexpFilter(_ *perl.Interp, values []perl.Value, arg string, line int) ([]perl.Value, error) {
	if len(values) != 1 {
		return nil, &perl.UnsupportedError{What: "regexp of a list", Line: line}
	}
	text := perl.Text(values[0])
	if strings.Contains(strings.TrimSuffix(text, "\n"), "\n") {
		if arg == "" {
			arg = "xism"
		}
	} else {
		text = strings.TrimSuffix(text, "\n")
	}
	re, err := perl.Compile(text, arg)
	if err != nil {
		return nil, err
	}
	return []perl.Value{re}, nil
}

func splitFilter(_ *perl.Interp, values []perl.Value, arg string, line int) ([]perl.Value, error) {
	if len(values) != 1 || arg != "" {
		return nil, &perl.UnsupportedError{What: "split with a separator", Line: line}
	}
	var out []perl.Value
	for _, w := range strings.Fields(perl.Text(values[0])) {
		out = append(out, w)
	}
	return out, nil
}

// filterValue runs the filters of a section over a value: norm and trim first, then those
// it names. `-name` takes one away, `+name` puts one behind all others.
func filterValue(in *perl.Interp, s *Section, values []perl.Value) ([]perl.Value, error) {
	names, appended := []string{"norm", "trim"}, []string(nil)
	for _, name := range s.Filters {
		if taken, ok := strings.CutPrefix(name, "-"); ok {
			names = slices.DeleteFunc(names, func(n string) bool { return n == taken })
		} else if late, ok := strings.CutPrefix(name, "+"); ok {
			appended = append(appended, late)
		} else {
			names = append(names, name)
		}
	}
	for _, spec := range append(names, appended...) {
		name, arg, _ := strings.Cut(spec, "=")
		run, ok := filters[name]
		if !ok {
			return nil, &perl.UnsupportedError{What: "the filter " + name, Line: s.Line}
		}
		var err error
		if values, err = run(in, values, filterArgument(arg), s.Line+1); err != nil {
			return nil, fmt.Errorf("section %s: %w", s.Name, err)
		}
	}
	return values, nil
}

// filterArgument reads the escapes that an argument may have, which cannot hold a blank.
func filterArgument(arg string) string {
	arg = strings.ReplaceAll(arg, `\s`, " ")
	return escapedLetter.ReplaceAllStringFunc(arg, func(e string) string {
		return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r").Replace(e)
	})
}

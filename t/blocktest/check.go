package blocktest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// A judge compares one answer with the sections of its block. Where Test::Nginx looks at
// one of two sections only (error_code_like before error_code, response_headers before
// response_headers_like, response_body before response_body_like before …_unlike), the
// judge looks at all that are there.
type judge struct {
	*sections
	env      map[string]string
	resp     *response
	index    int  // of the request
	many     bool // there are several requests: expectations are arrays
	failures *[]string
}

func (j *judge) fail(section, format string, args ...any) {
	where := section
	if j.many {
		where = fmt.Sprintf("%s (request %d)", section, j.index+1)
	}
	*j.failures = append(*j.failures, where+": "+fmt.Sprintf(format, args...))
}

// expected returns what a section wants of this request; false: there is no such section,
// or it was reported.
func (j *judge) expected(section string) (perl.Value, bool) {
	v := j.get(section)
	if v == nil {
		return nil, false
	}
	a, ok := v.(*perl.Array)
	switch {
	case ok && j.index < len(a.Elems) && a.Elems[j.index] != nil:
		return a.Elems[j.index], true
	case ok:
		j.fail(section, "nothing is expected of this request")
		return nil, false
	case j.many:
		j.fail(section, "several requests need an array")
		return nil, false
	}
	return v, true
}

// pattern makes a regular expression of what a section wants: a qr// as it is, a text with
// flags.
func (j *judge) pattern(section string, v perl.Value, flags string) *perl.Regexp {
	if re, ok := v.(*perl.Regexp); ok {
		return re
	}
	re, err := perl.Compile(perl.Text(v), flags)
	if err != nil {
		j.fail(section, "%v", err)
		return nil
	}
	return re
}

// like reports a text that a pattern does not match, unlike one that it does.
func (j *judge) like(section, got string, v perl.Value, flags string, want bool) {
	re := j.pattern(section, v, flags)
	if re == nil {
		return
	}
	matches, err := re.Matches(got)
	switch {
	case err != nil:
		j.fail(section, "%v", err)
	case matches && !want:
		j.fail(section, "got %s, want nothing like %s", quote(got), re)
	case !matches && want:
		j.fail(section, "got %s, want something like %s", quote(got), re)
	}
}

// checks are the checks of an answer, in the order they are made: response_body_filters
// change what those behind it see.
var checks = []func(*judge){
	(*judge).checkCode, (*judge).checkRawHeaders, (*judge).checkHeaders, (*judge).checkHeadersLike,
	(*judge).filterBody, (*judge).checkBody, (*judge).checkBodyEval, (*judge).checkBodyLike,
}

func (j *judge) checkAnswer() {
	for _, check := range checks {
		check(j)
	}
}

func (j *judge) checkCode() {
	if !j.has("error_code") && !j.has("error_code_like") {
		if j.resp.code != "200" {
			j.fail("error_code", "got %q, want \"200\"", j.resp.code)
		}
		return
	}
	if want, ok := j.expected("error_code"); ok && perl.Text(want) != j.resp.code {
		j.fail("error_code", "got %q, want %q", j.resp.code, perl.Text(want))
	}
	if want, ok := j.expected("error_code_like"); ok {
		j.like("error_code_like", j.resp.code, want, "sm", true)
	}
}

func (j *judge) checkRawHeaders() {
	for section, want := range map[string]bool{"raw_response_headers_like": true, "raw_response_headers_unlike": false} {
		if v, ok := j.expected(section); ok {
			j.like(section, j.resp.rawHeaders, v, "s", want)
		}
	}
}

var headerColon = regexp.MustCompile(`\s*:\s*`)

// A wantedHeader is a line of response_headers. absent is how `!Name` reads, and a line
// without a colon.
type wantedHeader struct {
	name, value string
	absent      bool
}

// parseHeaders reads such lines; a later one of the same name counts.
func parseHeaders(s string) []wantedHeader {
	var out []wantedHeader
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		h := wantedHeader{name: strings.TrimSpace(line), absent: true}
		if h.name == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(h.name, "!"); ok {
			h.name = strings.TrimLeft(rest, " \t")
		} else if parts := headerColon.Split(h.name, 2); len(parts) == 2 {
			h.name, h.value, h.absent = parts[0], parts[1], false
		}
		replaced := false
		for i := range out {
			if out[i].name == h.name {
				out[i], replaced = h, true
			}
		}
		if !replaced {
			out = append(out, h)
		}
	}
	return out
}

func (j *judge) checkHeaders() {
	v, ok := j.expected("response_headers")
	if !ok {
		return
	}
	for _, h := range parseHeaders(perl.Text(v)) {
		if h.absent {
			present := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(h.name) + `\s*:`)
			if present.MatchString(j.resp.rawHeaders) {
				j.fail("response_headers", "%s is there and should not be", h.name)
			}
			continue
		}
		want := serverPort.ReplaceAllString(h.value, port)
		if got, _ := j.resp.field(h.name); got != want {
			j.fail("response_headers", "%s: got %q, want %q", h.name, got, want)
		}
	}
}

func (j *judge) checkHeadersLike() {
	v, ok := j.expected("response_headers_like")
	if !ok {
		return
	}
	for _, h := range parseHeaders(perl.Text(v)) {
		got, _ := j.resp.field(h.name)
		j.like("response_headers_like", got, "^"+h.value+"$", "", true)
	}
}

// serverPort is how expectations name the port that the servers listen on.
var serverPort = regexp.MustCompile(`\$ServerPort(?:ForClient)?\b`)

const port = "1984"

func (j *judge) checkBody() {
	v, ok := j.expected("response_body")
	if !ok {
		return
	}
	if re, ok := v.(*perl.Regexp); ok {
		j.like("response_body", j.resp.body, re, "", true)
		return
	}
	want, err := expand("response_body", serverPort.ReplaceAllString(perl.Text(v), port), j.env)
	if err != nil {
		j.fail("response_body", "%v", err)
	} else if j.resp.body != want {
		j.fail("response_body", "%s", difference(j.resp.body, want))
	}
}

// checkBodyEval is the old way to say response_body eval; runBlock has evaluated it.
func (j *judge) checkBodyEval() {
	v, ok := j.expected("response_body_eval")
	if re, is := v.(*perl.Regexp); ok && is {
		j.like("response_body_eval", j.resp.body, re, "", true)
	} else if ok && perl.Text(v) != j.resp.body {
		j.fail("response_body_eval", "%s", difference(j.resp.body, perl.Text(v)))
	}
}

func (j *judge) checkBodyLike() {
	for section, want := range map[string]bool{"response_body_like": true, "response_body_unlike": false} {
		v, ok := j.expected(section)
		if !ok {
			continue
		}
		if s, ok := v.(string); ok {
			v = serverPort.ReplaceAllString(s, port)
		}
		j.like(section, j.resp.body, v, "s", want)
	}
}

// quote shows a text in a message, the middle of a long one left out.
func quote(s string) string {
	const most = 400
	if len(s) > most {
		return fmt.Sprintf("%q … %q (%d bytes)", s[:most/2], s[len(s)-most/2:], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// difference shows two texts, long ones from where they begin to differ.
func difference(got, want string) string {
	same := 0
	for same < len(got) && same < len(want) && got[same] == want[same] {
		same++
	}
	if same < 60 {
		return "got " + quote(got) + ", want " + quote(want)
	}
	from := same - 30
	return fmt.Sprintf("from byte %d on: got %s, want %s", from, quote(got[from:]), quote(want[from:]))
}

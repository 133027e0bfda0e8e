package blocktest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// sectionsOf writes the sections of a block one a line.
func sectionsOf(b *Block) []string {
	var out []string
	for _, s := range b.Sections {
		out = append(out, fmt.Sprintf("%d %s %v %q", s.Line, s.Name, s.Filters, s.Raw))
	}
	return out
}

func TestParseReadsTheNotation(t *testing.T) {
	s, err := Parse("a.t", []byte(`use t::APISIX;
run_tests;

__DATA__

what stands before the first block is nothing

=== TEST 1: a name
a description

--- request
GET /t

--- error_code: 404
--- response_body eval chomp
"a"
---
- a list of YAML
--- yaml_config eval: $::yaml
--- more_headers



=== TEST 2
--- ONLY
--- (old) lines
x
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Prologue != "use t::APISIX;\nrun_tests;\n\n" {
		t.Errorf("prologue %q", s.Prologue)
	}
	if len(s.Blocks) != 2 {
		t.Fatalf("%d blocks", len(s.Blocks))
	}
	first, second := s.Blocks[0], s.Blocks[1]
	if first.Name != "TEST 1: a name" || first.Number != 1 || first.Line != 8 || second.Number != 2 || second.Line != 24 {
		t.Errorf("%+v, %+v", first, second)
	}
	want := []string{
		`11 request [] "GET /t\n\n"`,
		`14 error_code [] "404"`,
		`15 response_body [eval chomp] "\"a\"\n---\n- a list of YAML\n"`,
		`19 yaml_config [eval] "$::yaml"`,
		`20 more_headers [] "\n\n\n"`,
	}
	if diff := cmp.Diff(want, sectionsOf(first)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{`25 ONLY [] ""`, `26 old [lines] "x\n"`}, sectionsOf(second)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestALastLineThatNothingEndsCounts(t *testing.T) {
	s, err := Parse("a.t", []byte("run_tests;\n__DATA__\n=== A\n--- request\nGET /t\n--- error_code: 404"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`4 request [] "GET /t\n"`, `6 error_code [] "404"`}, sectionsOf(s.Blocks[0])); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestParseRefusesWhatTestBaseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"__DATA__\n=== A\n--- name\nx\n":          "line 3: name cannot name a section",
		"__DATA__\n=== A\n--- _x\nx\n":            "line 3: _x cannot name a section",
		"__DATA__\n=== A\n--- wait: 1\nleft\n":    "line 3: section wait has a value behind its name and lines below it",
		"__DATA__\n=== A\n--- wait\n1\n\n\n\n===": "line 8: a block that ends behind its ===",
	} {
		if _, err := Parse("a.t", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestAFileWithoutDataHasNoBlocks(t *testing.T) {
	for _, text := range []string{"", "use t::APISIX;\n", "x\n__DATA__\n", "x\n__END__\nnothing\n"} {
		if s, err := Parse("a.t", []byte(text)); err != nil || len(s.Blocks) != 0 {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}

func TestFiltersChangeValues(t *testing.T) {
	for _, tt := range []struct{ name, filters, raw, want string }{
		{"blank lines around a value go", "", "\n  \n  a\n\nb\n\n \n", `["  a\n\nb\n"]`},
		{"a line without its newline keeps what is behind it", "", "a ", `["a "]`},
		{"carriage returns go", "", "a\r\nb\rc\n", `["a\nb\nc\n"]`},
		{"norm can be taken away", "-norm", "a\r\n", `["a\r\n"]`},
		{"trim can be taken away", "-trim", "\na\n\n", `["\na\n\n"]`},
		{"chomp", "chomp", "a\n\n", `["a"]`},
		{"chop", "chop", "ab", `["a"]`},
		{"unchomp", "unchomp", "a", `["a\n"]`},
		{"eval", "eval", `"a\tb" . (1 + 1)`, `["a\tb2"]`},
		{"eval of an exception is its text", "eval", `die "no\n"`, `["no\n"]`},
		{"eval of a list", "eval", `(1, 2)`, `["1" "2"]`},
		{"+ puts a filter last", "+chomp unchomp", "a\n", `["a\n"]`},
		{"lines", "lines", "a\nb\n", `["a\n" "b\n"]`},
		{"join", "lines chomp join=,", "a\nb\n", `["a,b"]`},
		{"append with an escape", `chomp append=\n\s.`, "a", `["a\n ."]`},
		{"prepend", "prepend=>", "a", `[">a"]`},
		{"reverse", "lines reverse", "a\nb\n", `["b\n" "a\n"]`},
		{"split", "split", "a  b\n", `["a" "b"]`},
		{"base64_encode", "chomp base64_encode", "hello\n", `["aGVsbG8=\n"]`},
		{"base64_decode", "base64_decode", "aGVs\nbG8=\n", `["hello"]`},
		{"regexp", "regexp=i", "a.b\n", `["(?^i:a.b)"]`},
		{"regexp of several lines is /xism", "regexp", "a\nb\n", `["(?^imsx:a\nb\n)"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := perl.New(perl.Options{Name: "a.t"})
			s := &Section{Name: "x", Filters: strings.Fields(tt.filters), Raw: tt.raw}
			values, err := filterValue(in, s, text(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			texts := []string{}
			for _, v := range values {
				texts = append(texts, perl.Text(v))
			}
			if got := fmt.Sprintf("%q", texts); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(prologue + "=== TEST 1: a\n--- request eval chomp\nGET /\n--- wait: 1\n--- (x) y\n\n"))
	f.Add([]byte("__DATA__\n===\n=== \n--- a:\n--- b :c\n---\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := Parse("a.t", src)
		if err != nil {
			return
		}
		lines := strings.Count(string(src), "\n") + 1
		for i, b := range s.Blocks {
			if b.Number != i+1 || b.Line < 1 || b.Line > lines {
				t.Errorf("block %d is number %d on line %d of %d", i, b.Number, b.Line, lines)
			}
			for _, sec := range b.Sections {
				if sec.Line <= b.Line && sec.Line > lines {
					t.Errorf("section %s on line %d of %d", sec.Name, sec.Line, lines)
				}
			}
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n"), false)
	f.Add([]byte("200 OK\nA: b\n c\n\nbody"), true)
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		r, err := parseResponse(raw, head)
		if err == nil && len(r.body)+len(r.left) > len(raw) {
			t.Errorf("%q: a body of %d and %d bytes behind it", raw, len(r.body), len(r.left))
		}
	})
}

package blocktest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// valuesOf evaluates sections that are written as Perl.
func valuesOf(t *testing.T, programs map[string]string) *sections {
	t.Helper()
	s := &sections{values: map[string][]perl.Value{}, asked: map[string]bool{}}
	for name, program := range programs {
		v, err := perl.New(perl.Options{}).Eval(program, 1)
		if err != nil {
			t.Fatal(err)
		}
		s.values[name] = v
	}
	return s
}

func TestRequestsAreSentAsTestNginxSendsThem(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	for _, tt := range []struct {
		name     string
		sections map[string]string
		want     []string // the packets of the requests, a - before each but the first of one
	}{
		{"a line", map[string]string{"request": `"GET /t\n"`}, []string{"GET /t" + head + "\r\n"}},
		{"a method alone asks for /", map[string]string{"request": `"GET\n"`}, []string{"GET /" + head + "\r\n"}},
		{"comments and blanks before it go", map[string]string{"request": `"# one\n  # two\n  GET /t\n"`}, []string{"GET /t" + head + "\r\n"}},
		{"a protocol of its own", map[string]string{"request": `"GET /t HTTP/1.0"`}, []string{"GET /t HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"}},
		{"a body has a length and no blanks around", map[string]string{"request": `"POST /t\n ab\ncd\n\n"`}, []string{"POST /t" + head + "Content-Length: 5\r\n\r\nab\ncd"}},
		{"a length of its own leaves the body alone", map[string]string{"request": `"POST /t\n ab\n"`, "more_headers": `"Content-Length: 9"`}, []string{"POST /t" + head + "Content-Length: 9\r\n\r\n ab\n"}},
		{"chunked leaves the body alone", map[string]string{"request": `"POST /t\n2\r\nab\r\n0\r\n\r\n"`, "more_headers": `"Transfer-Encoding: chunked"`}, []string{"POST /t" + head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"}},
		{"Host and Connection can be said", map[string]string{"request": `"GET /t"`, "more_headers": `"host: a\nConnection: keep-alive\n#Not: this\nEmpty\n"`}, []string{"GET /t HTTP/1.1\r\nhost: a\r\nConnection: keep-alive\r\nEmpty: \r\n\r\n"}},
		{"several", map[string]string{"request": `["GET /a", "GET /b"]`, "more_headers": `["A: 1", "B: 2"]`}, []string{"GET /a" + head + "A: 1\r\n\r\n", "GET /b" + head + "B: 2\r\n\r\n"}},
		{"packets", map[string]string{"request": `[["POST /a\nab", {value => "cd", delay_before => 2}]]`}, []string{"POST /a" + head + "Content-Length: 4\r\n\r\nab-cd"}},
		{"raw", map[string]string{"raw_request": `"GET / HTTP/1.0\r\n\r\n"`}, []string{"GET / HTTP/1.0\r\n\r\n"}},
		{"raw packets", map[string]string{"raw_request": `["GET /", " HTTP/1.0\r\n\r\n"]`}, []string{"GET /- HTTP/1.0\r\n\r\n"}},
		{"pipelined", map[string]string{"pipelined_requests": `["GET /a", "GET /b"]`}, []string{"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\nGET /b" + head + "\r\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reqs, err := valuesOf(t, tt.sections).requests(nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range reqs {
				var parts []string
				for _, p := range r.packets {
					parts = append(parts, p.data)
				}
				got = append(got, strings.Join(parts, "-"))
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestRequestsThatAreNotValid(t *testing.T) {
	for _, sections := range []map[string]string{
		{},
		{"request": `[]`},
		{"request": `"GET /a b c d"`},
		{"request": `["GET /", "GET /"]`, "more_headers": `["A: 1"]`},
		{"pipelined_requests": `"GET /"`},
		{"request": `"GET /"`, "raw_request_middle_delay": `"soon"`},
	} {
		if reqs, err := valuesOf(t, sections).requests(nil); err == nil {
			t.Errorf("%v: got %v", sections, reqs)
		}
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[string]time.Duration{"5": 5 * time.Second, "0.5": 500 * time.Millisecond, "10s": 10 * time.Second, "300ms": 300 * time.Millisecond, "2\n": 2 * time.Second} {
		if got, err := seconds(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "soon", "-1"} {
		if got, err := seconds(s); err == nil {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestResponsesAreReadAsTestNginxReadsThem(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	for _, tt := range []struct{ name, raw, code, body, left, err string }{
		{"nothing", "", "", "", "", ""},
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", "200", "ab", "c", ""},
		{"up to the end", "HTTP/1.1 201 Created\r\nA: b\r\n\r\nabc", "201", "abc", "", ""},
		{"less than the length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "200", "abc", "", ""},
		{"chunks", chunked + "\r\n2\r\nab\r\n1 \r\nc\r\n0\r\n\r\nrest", "200", "abc", "rest", ""},
		{"a trailer that was announced", chunked + "Trailer: A\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n", "200", "a", "", ""},
		{"no last chunk", chunked + "\r\n2\r\nab\r\n", "200", "ab", "", "without its last chunk"},
		{"half a chunk", chunked + "\r\n5\r\nab", "200", "", "", "fewer bytes"},
		{"no chunk at all", chunked + "\r\nhello", "200", "", "", "goes on with"},
		{"what is no status", "hello there\r\n\r\n", "", "", "", ""},
		{"HTTP/2 as curl prints it", "HTTP/2 404 \r\na: b\r\n\r\nx", "404", "x", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseResponse([]byte(tt.raw), false)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if r.code != tt.code || r.body != tt.body || string(r.left) != tt.left {
				t.Errorf("got %q, %q, %q", r.code, r.body, r.left)
			}
		})
	}
}

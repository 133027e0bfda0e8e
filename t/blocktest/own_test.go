package blocktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// directed is a scripted World for the project's own sections.
type directed struct {
	*scripted
	script *Script
	broken []Fault
	got    []Received
}

func (w *directed) Place(name string) string { return name + ".test:80" }

func (w *directed) Direct(_ context.Context, s *Script) error {
	w.script = s
	return nil
}

func (w *directed) Break(_ context.Context, f Fault) error {
	w.broken = append(w.broken, f)
	return nil
}

func (w *directed) Received(string) []Received { return w.got }

func TestOwnSectionsBecomeAScript(t *testing.T) {
	w := &directed{scripted: newWorld(t), got: []Received{{Method: "GET", Target: "/"}}}
	results := runText(t, w, `Prose.

=== TEST 1: everything
--- upstream a
status: 429
header: X-Kind: plain
delay_ms: 20
then:
gap_ms: 3
cut_after_bytes: 9

data: 1

data: 2
--- upstream b
tls: true
model: owl
--- upstream c
refuse: true
--- admin
PUT /apisix/admin/routes/1
{"nodes": {"$node_a": 1}, "endpoint": "$upstream_b/x", "log": "$upstream_addr"}

DELETE /apisix/admin/routes/2
--- etcd
/apisix/routes/3 {"uri": 5}
/apisix/routes/4
--- kill
etcd
upstream c before request 2
--- request
2 * GET /hello?who=$node_c
--- response_body lines array
hello c.test:80
hello c.test:80
--- upstream_request a: none
--- no_upstream_request
--- upstream_request b
GET /
`, RunOptions{})
	if got := results[0]; got.Verdict != NotOK || len(got.Failures) != 1 || got.Failures[0] != "upstream_request a: got 1 requests, want 0" {
		t.Errorf("%+v", got)
	}
	if got := results[0].Ignored; len(got) != 1 || got[0] != "no_upstream_request" {
		t.Errorf("ignored: %v", got)
	}
	want := &Script{
		Upstreams: []Upstream{
			{Name: "a", Answers: []Answer{
				{Status: 429, Header: [][2]string{{"X-Kind", "plain"}}, Body: "a\n", Delay: 20 * time.Millisecond, Cut: -1},
				{Status: 200, Header: [][2]string{{"Content-Type", "text/event-stream"}}, Body: "data: 1\n\ndata: 2\n\n", Gap: 3 * time.Millisecond, Cut: 9},
			}},
			{Name: "b", TLS: true, Model: "owl", Answers: []Answer{{Status: 200, Body: "b\n", Cut: -1}}},
			{Name: "c", Refuse: true, Answers: []Answer{{Status: 200, Body: "c\n", Cut: -1}}},
		},
		Calls: []Call{
			{"PUT", "/apisix/admin/routes/1", `{"nodes": {"a.test:80": 1}, "endpoint": "https://b.test:80/x", "log": "$upstream_addr"}`},
			{"DELETE", "/apisix/admin/routes/2", ""},
		},
		Writes: []Write{{Key: "/apisix/routes/3", Value: `{"uri": 5}`}, {Key: "/apisix/routes/4", Delete: true}},
	}
	if diff := cmp.Diff(want, w.script); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]Fault{{What: "etcd"}, {What: "upstream", Upstream: "c", Before: 1}}, w.broken); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestOwnSectionsThatCannotBeReadAreNotOK(t *testing.T) {
	for name, tt := range map[string]struct{ block, why string }{
		"an upstream without a name":        {"--- upstream\nstatus: 1", `"" behind its name`},
		"an upstream with two names":        {"--- upstream a b", `"a b" behind its name`},
		"an upstream that is there twice":   {"--- upstream a\n--- upstream a", "twice"},
		"a status that is no number":        {"--- upstream a\nstatus: x", `status: x: strconv`},
		"a header without a colon":          {"--- upstream a\nheader: x", `"x" is no header`},
		"a fixture outside of its folder":   {"--- upstream a\nfixture: ../own.go", "leaves the folder"},
		"a fixture and a body":              {"--- upstream a\nfixture: a.json\n\nbody", "a fixture and a body"},
		"an argument where there is none":   {"--- admin a\nGET /x", `"a" behind its name`},
		"calls that are made several times": {"--- admin\n2 * GET /x", "made once"},
		"a header without an empty line":    {"--- upstream a\n--- upstream_request a\nGET /x\n{}", "no empty line before the body"},
		"an upstream_request of nothing":    {"--- upstream a\n--- upstream_request a\nsome", "neither none nor what request"},
		"a fault of nobody":                 {"--- kill: upstream z", "no block has an upstream z"},
		"a fault behind the last request":   {"--- kill: etcd before request 2", "there is no request 2"},
		"a stream of several requests":      {"--- request\n2 * GET /hello\n--- stream\ndata: 1", "one request"},
		"a request that is none":            {"--- request\nGET /hello\n\nGET http://a/hello", `"GET http://a/hello" behind an empty line`},
		"a request with a version":          {"--- request\nGET /hello\n\nGET /hello HTTP/1.0", "behind an empty line"},
		"a request of no times":             {"--- request\nGET /hello\n\n0 * GET /hello", "behind an empty line"},
		"a call that is none":               {"--- admin\nPUT /x\n{}\n\nDELETE x", "behind an empty line"},
		"an expected request of no times":   {"--- upstream a\n--- upstream_request a\nGET /x\n\n0 * GET /y", "behind an empty line"},
		"a node that nobody is":             {"--- upstream a\n--- admin\nPUT /x\n{\"nodes\": {\"$node_b\": 1}}", "$node_b: no block has an upstream of that name"},
		"a cut behind the end":              {"--- upstream a\ncut_after_bytes: 5\n\nabc", "5 of a body of 4"},
		"a model that is told what to say":  {"--- upstream a\nmodel: owl\nstatus: 500", "in its own way"},
		"a model with a body":               {"--- upstream a\nmodel: owl\n\nhoo", "in its own way"},
		"something behind the cut":          {"--- stream\n(cut)\ndata: 1", "(cut) is the last line"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &directed{scripted: newWorld(t)}
			text := "=== TEST 1\n" + tt.block + "\n"
			if !strings.Contains(text, "--- request") {
				text += "--- request\nGET /hello\n"
			}
			got := runText(t, w, text, RunOptions{})[0]
			if got.Verdict != NotOK || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want not ok because of %q", got, tt.why)
			}
		})
	}
}

// isolated is a directed World with a host that it cannot reach.
type isolated struct{ *directed }

func (isolated) Unreachable() []Unreachable { return []Unreachable{{Host: "far.test"}} }

func TestNoHostOutsideExcusesAnOwnSuite(t *testing.T) {
	const block = "=== TEST 1\n--- request\nGET /hello?who=far.test\n--- response_body\nhello near.test\n"
	w := isolated{&directed{scripted: newWorld(t)}}
	if got := runText(t, w, prologue+block, RunOptions{})[0]; got.Verdict != Skipped {
		t.Errorf("a suite of others: %+v", got)
	}
	if got := runText(t, w, block, RunOptions{})[0]; got.Verdict != NotOK {
		t.Errorf("an own suite: %+v", got)
	}
}

func TestAWorldThatIsNoDirectorDoesNotRunOwnSuites(t *testing.T) {
	got := runText(t, newWorld(t), "=== TEST 1\n--- request\nGET /hello\n", RunOptions{})[0]
	if got.Verdict != Unsupported {
		t.Errorf("%+v", got)
	}
}

func TestOwnSectionsMeanNothingToTheReferencesSuites(t *testing.T) {
	w := &directed{scripted: newWorld(t)}
	got := runText(t, w, prologue+"=== TEST 1\n--- request\nGET /hello\n--- kill: etcd\n--- stream\ndata: 1\n", RunOptions{})[0]
	if got.Verdict != OK || fmt.Sprint(got.Ignored) != "[kill stream]" || w.broken != nil {
		t.Errorf("%+v", got)
	}
}

func TestFixturesAreFoundBesideASuiteOrItsFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"fixtures/far.json", "suites/fixtures/near.sse"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("data: "+name+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	d := &direction{folder: filepath.Join(dir, "suites")}
	for name, want := range map[string]string{"far.json": "data: fixtures/far.json\n", "near.sse": "data: suites/fixtures/near.sse\n"} {
		if got, err := d.fixture(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func FuzzOwnSections(f *testing.F) {
	f.Add("upstream", "status: 200\nthen:\n\nbody")
	f.Add("upstream_request", "2 * GET /x\nA: b\nC ~ d\n!E\n(gone)\n\n~ body")
	f.Add("admin", "PUT /x\n{}\n\nDELETE /y")
	f.Add("etcd", "/a {}\n/b")
	f.Add("kill", "upstream a before request 99999999999999999999")
	f.Add("stream", "+10ms data: 1\n~ x\n(cut)")
	f.Fuzz(func(t *testing.T, section, text string) {
		d := &direction{folder: t.TempDir()}
		if section == "stream" {
			_, _, _ = expectedEvents(text)
		} else if read := ownSections[section]; read != nil && read(d, "a", text) == nil {
			for _, e := range d.expected {
				e.differences([]Received{{Method: "GET", Target: "/x"}})
			}
			_ = d.late(1)
		}
	})
}

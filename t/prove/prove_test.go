package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/blocktest"
)

func TestMain(m *testing.M) {
	if how := os.Getenv("PROVE_TEST_CHILD"); how != "" && slices.Contains(os.Args, "-child") {
		fakeChild(how)
		os.Exit(0)
	}
	// The children need not wait for the reports of the race detector.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fakeChild is what this program is when a test has it run itself: every block from -from to
// 4 is ok, but for one, at which it does as told: "crash 2".
func fakeChild(how string) {
	from := 0
	_, _ = fmt.Sscan(os.Args[slices.Index(os.Args, "-from")+1], &from)
	var what string
	var at int
	_, _ = fmt.Sscan(how, &what, &at)
	say := func(l line) { _ = json.NewEncoder(os.Stdout).Encode(l) }
	for n := from; n <= 4; n++ {
		if n == at && what == "stop" {
			return
		}
		if n == at && what == "leave" {
			os.Exit(3)
		}
		say(line{Begin: n})
		if n == at {
			switch what {
			case "crash":
				panic("here it is")
			case "hang":
				select {}
			case "exit":
				os.Exit(0)
			case "chatter":
				fmt.Println("no line of JSON")
			}
		}
		say(line{Result: &blocktest.Result{Number: n, Verdict: blocktest.OK, Name: fmt.Sprint("TEST ", n, ": x")}})
	}
	if what == "close" {
		fmt.Fprintln(os.Stderr, "prove: it does not close")
		os.Exit(2)
	}
}

// suite writes a file of four blocks.
func suite(t *testing.T) string {
	t.Helper()
	text := "use t::APISIX;\nrun_tests;\n__DATA__\n"
	for n := range 4 {
		text += fmt.Sprintf("\n=== TEST %d: x\n--- request\nGET /\n", n+1)
	}
	file := filepath.Join(t.TempDir(), "four.t")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func verdicts(results []blocktest.Result) string {
	var out []string
	for _, r := range results {
		out = append(out, fmt.Sprintf("%d %s", r.Number, r.Verdict))
	}
	return strings.Join(out, ", ")
}

func TestEveryBlockHasAVerdictWhateverTheChildDoes(t *testing.T) {
	for _, tt := range []struct {
		name, how string
		failFast  bool
		want, why string
	}{
		{"it does well", "well 0", false, "1 ok, 2 ok, 3 ok, 4 ok", ""},
		{"it crashes", "crash 2", false, "1 ok, 2 not ok, 3 ok, 4 ok", "panic: here it is"},
		{"it crashes at the first block", "crash 1", false, "1 not ok, 2 ok, 3 ok, 4 ok", "panic: here it is"},
		{"it crashes at the last block", "crash 4", false, "1 ok, 2 ok, 3 ok, 4 not ok", "panic: here it is"},
		{"it ends without a word", "exit 2", false, "1 ok, 2 not ok, 3 ok, 4 ok", "the runner ended before the block did"},
		{"it ends between two blocks", "stop 3", false, "1 ok, 2 ok, 3 not ok, 4 skipped", "ended"},
		{"it does not begin", "leave 1", false, "1 not ok, 2 skipped, 3 skipped, 4 skipped", "exit status 3"},
		{"it says what it must not", "chatter 2", false, "1 ok, 2 not ok, 3 ok, 4 ok", "no line of JSON"},
		{"it fails behind the last block", "close 0", false, "1 ok, 2 ok, 3 ok, 4 ok, 0 not ok", "it does not close"},
		{"it crashes, and that is enough", "crash 2", true, "1 ok, 2 not ok, 3 skipped, 4 skipped", "panic: here it is"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PROVE_TEST_CHILD", tt.how)
			got := runFile(t.Context(), options{blockTime: time.Minute, failFast: tt.failFast}, suite(t))
			if verdicts(got) != tt.want {
				t.Errorf("got %s, want %s", verdicts(got), tt.want)
			}
			for _, r := range got {
				if r.Verdict == blocktest.NotOK && !strings.Contains(r.Why, tt.why) {
					t.Errorf("block %d is not ok because of %q, want %q", r.Number, r.Why, tt.why)
				}
				if !strings.HasSuffix(r.Suite, "four.t") {
					t.Errorf("block %d is of %q", r.Number, r.Suite)
				}
			}
		})
	}
}

func TestAChildThatHangsIsEnded(t *testing.T) {
	t.Setenv("PROVE_TEST_CHILD", "hang 2")
	// The grace is over soon: it has to be long enough for a child to begin.
	got := runFile(t.Context(), options{blockTime: -grace + 8*time.Second}, suite(t))
	if verdicts(got) != "1 ok, 2 not ok, 3 ok, 4 ok" || !strings.Contains(got[1].Why, "hung") || !strings.Contains(got[1].Why, "fakeChild") {
		t.Errorf("%+v", got)
	}
}

func TestAnInterruptedFileSaysSo(t *testing.T) {
	t.Setenv("PROVE_TEST_CHILD", "well 0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := runFile(ctx, options{blockTime: time.Minute}, suite(t))
	if verdicts(got) != "1 skipped, 2 skipped, 3 skipped, 4 skipped" || got[0].Why != "interrupted" {
		t.Errorf("%+v", got)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.t")
	if err := os.WriteFile(empty, []byte("run_tests;\n__DATA__\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, filepath.Join(t.TempDir(), "none.t")} {
		got := runFile(t.Context(), options{blockTime: time.Minute}, file)
		if verdicts(got) != "0 not ok" {
			t.Errorf("%s: %+v", file, got)
		}
	}
	if got := runFile(t.Context(), options{block: "nothing is called so"}, suite(t)); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSelection(t *testing.T) {
	blocks := []*blocktest.Block{{Number: 1, Name: "TEST 1: one"}, {Number: 2, Name: "TEST 2: two"}, {Number: 3, Name: "TEST 3: two"}}
	for _, tt := range []struct {
		block string
		from  int
		want  string
	}{{"", 0, "123"}, {"2", 0, "2"}, {"two$", 0, "23"}, {"two", 3, "3"}, {"", 2, "23"}, {"1", 2, ""}} {
		pick, err := selection(tt.block, tt.from)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, b := range blocks {
			if pick(b) {
				got += fmt.Sprint(b.Number)
			}
		}
		if got != tt.want {
			t.Errorf("%q from %d: got %q, want %q", tt.block, tt.from, got, tt.want)
		}
	}
	if _, err := selection("(", 0); err == nil {
		t.Error("a pattern that is none was taken")
	}
}

func TestSuites(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.t", "a.t", "sub/c.t", "sub/d.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ path, only, want string }{
		{"", "", "a.t b.t sub/c.t"},
		{"", `/(b|c)\.t$`, "b.t sub/c.t"},
		{"sub", "", "sub/c.t"},
		{"a.t", "", "a.t"},
		{"none", "", ""},
		{"", "(", ""},
		{"", `/xyz\.t$`, ""},
		{"sub/d.txt", "", ""},
	} {
		got, err := suites([]string{filepath.Join(dir, tt.path)}, tt.only)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], dir+"/")
		}
		if strings.Join(got, " ") != tt.want || (err == nil) == (tt.want == "") {
			t.Errorf("%q, only %q: %q, %v", tt.path, tt.only, got, err)
		}
	}
}

func TestLabel(t *testing.T) {
	for _, tt := range []struct{ home, file, want string }{
		{"/home", "/home/t/a.t", "t/a.t"}, {"/home", "/other/a.t", "/other/a.t"}, {"", "t/a.t", "t/a.t"}, {"/home/t", "/home/a.t", "/home/a.t"},
	} {
		if got := label(tt.home, tt.file); got != tt.want {
			t.Errorf("%s in %s: got %s, want %s", tt.file, tt.home, got, tt.want)
		}
	}
}

func TestWhatPeopleRead(t *testing.T) {
	results := []blocktest.Result{
		{Suite: "a.t", Number: 1, Name: "TEST 1: good", Verdict: blocktest.OK, Ignored: []string{"odd"}},
		{Suite: "a.t", Number: 2, Name: "TEST 2: bad # it is", Line: 7, Verdict: blocktest.NotOK, Why: "got 1\nwant 2", Failures: []string{"got 1\nwant 2", "no line"}},
		{Suite: "a.t", Number: 3, Name: "late", Verdict: blocktest.NotOK, Why: "it took longer", Failures: nil},
		{Suite: "a.t", Number: 4, Name: "TEST 4: inside", Verdict: blocktest.WhiteBox, Why: "upvalues"},
		{Suite: "a.t", Number: 5, Name: "TEST 5: odd", Verdict: blocktest.Unsupported, Why: "section\nx"},
		{Suite: "a.t", Number: 6, Name: "TEST 6: away", Verdict: blocktest.Skipped, Why: "network"},
	}
	const summary = "1 passed, 2 failed, 1 white-box, 1 unsupported, 1 skipped\n"
	for _, tt := range []struct {
		name string
		p    *printer
		want string
	}{
		{"a table of what failed", &printer{}, fmt.Sprintf("%-60s %s", "a.t", summary) +
			"  ok          TEST 1: good (line 0)\n      sections that nobody knows: odd\n" +
			"  not ok      TEST 2: bad # it is (line 7)\n      got 1\n      want 2\n      no line\n" +
			"  not ok      TEST 3: late (line 0)\n      it took longer\n" + summary},
		{"TAP", &printer{tap: true}, "# a.t TEST 1: good: sections that nobody knows: odd\nok 1 - a.t TEST 1: good\n" +
			"not ok 2 - a.t TEST 2: bad \\# it is\n# got 1\n# want 2\n# no line\n" +
			"not ok 3 - a.t TEST 3: late\n# it took longer\n" +
			"not ok 4 - a.t TEST 4: inside # TODO white-box: upvalues\n" +
			"not ok 5 - a.t TEST 5: odd # TODO unsupported: section x\n" +
			"ok 6 - a.t TEST 6: away # SKIP network\n1..6\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tt.p.out = &out
			tt.p.file("a.t", results)
			tt.p.summary(results)
			if out.String() != tt.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), tt.want)
			}
		})
	}
	var out bytes.Buffer
	p := &printer{out: &out, verbose: true}
	p.file("a.t", results)
	for _, want := range []string{"TEST 1: good", "nobody knows: odd", "upvalues"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("-v does not print %q:\n%s", want, out.String())
		}
	}
}

func TestBaseline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "before.json")
	result := func(n int, v blocktest.Verdict) blocktest.Result {
		return blocktest.Result{Suite: "a.t", Number: n, Name: "x", Verdict: v}
	}
	before := []blocktest.Result{
		result(1, blocktest.OK), result(2, blocktest.OK), result(3, blocktest.NotOK), result(4, blocktest.Unsupported),
		result(5, blocktest.OK), result(6, blocktest.WhiteBox),
		{Suite: "b.t", Number: 1, Verdict: blocktest.OK},
	}
	if err := writeReport(file, before); err != nil {
		t.Fatal(err)
	}
	read, err := readReport(file)
	if err != nil || fmt.Sprint(read) != fmt.Sprint(before) {
		t.Fatalf("%v, %v", read, err)
	}
	now := []blocktest.Result{
		result(1, blocktest.OK), result(2, blocktest.Unsupported), result(3, blocktest.NotOK), result(4, blocktest.NotOK),
		result(6, blocktest.OK), result(7, blocktest.NotOK),
	}
	want := `a.t TEST 2: x: "unsupported", was "ok"; a.t TEST 4: x: "not ok", was "unsupported"; a.t TEST 7: x: "not ok", was ""`
	if got := strings.Join(worsened(read, now, false), "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := strings.Join(worsened(read, now, true), "; "); got != want+`; a.t TEST 5: x: it is gone, was "ok"` {
		t.Errorf("of whole files: %s", got)
	}
	if none, err := readReport(""); none != nil || err != nil {
		t.Error(none, err)
	}
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), suite(t)} {
		if _, err := readReport(bad); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestTheExitCodeSaysWhetherAllIsWell(t *testing.T) {
	dir := t.TempDir()
	report := filepath.Join(dir, "report.json")
	t.Setenv("PROVE_TEST_CHILD", "exit 2")
	o := options{program: "none", json: report, blockTime: time.Minute}
	file := suite(t)
	if code, err := run(t.Context(), o, []string{file}); code != 1 || err != nil {
		t.Errorf("with a block that is not ok: %d, %v", code, err)
	}
	o.baseline = report
	if code, err := run(t.Context(), o, []string{file}); code != 0 || err != nil {
		t.Errorf("with a baseline where it was not ok: %d, %v", code, err)
	}
	t.Setenv("PROVE_TEST_CHILD", "exit 3")
	if code, err := run(t.Context(), o, []string{file}); code != 1 || err != nil {
		t.Errorf("with a baseline where it was ok: %d, %v", code, err)
	}
	if _, err := run(t.Context(), options{}, nil); err == nil {
		t.Error("no files are no error")
	}
	for _, block := range []string{"99", "["} {
		if _, err := run(t.Context(), options{program: "none", blockTime: time.Minute, block: block}, []string{file}); err == nil || !strings.Contains(err.Error(), "-block") {
			t.Errorf("-block %s: %v", block, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, options{program: "none", blockTime: time.Minute}, []string{file}); err == nil {
		t.Error("an interrupted run is no error")
	}
}

func TestAReportOnStandardOutputIsAlone(t *testing.T) {
	t.Setenv("PROVE_TEST_CHILD", "exit 3")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func(before *os.File) { os.Stdout = before }(os.Stdout)
	os.Stdout = out
	if _, err := run(t.Context(), options{program: "none", json: "-", blockTime: time.Minute}, []string{suite(t)}); err != nil {
		t.Fatal(err)
	}
	if results, err := readReport(out.Name()); err != nil || len(results) == 0 {
		t.Errorf("%v, %v", results, err)
	}
}

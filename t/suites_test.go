package t

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/stage"
)

// folders hold the project's own suites.
var folders = []string{"admin", "router", "node", "plugin"}

// The suites, each file a test, each block a test of it:
// go test ./t -run 'TestSuites/plugin/ai-proxy.t/TEST_1'.
func TestSuites(t *testing.T) {
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			for _, file := range suitesIn(t, folder) {
				t.Run(filepath.Base(file), func(t *testing.T) {
					blocks := prove(t, file, patience/2)
					for _, r := range blocks {
						t.Run(r.Name, func(t *testing.T) {
							if r.Verdict != blocktest.OK {
								t.Errorf("%s:%d: %s: %s\n%s", file, r.Line, r.Verdict, r.Why, strings.Join(r.Failures, "\n"))
							}
							if len(r.Ignored) > 0 {
								t.Errorf("%s:%d: sections that nobody knows: %s", file, r.Line, strings.Join(r.Ignored, ", "))
							}
						})
					}
				})
			}
		})
	}
}

// The runner is believed only as far as it says no. In these suites, blocks called "right:"
// have to be ok, and those called "wrong:" not ok because of the section that they name.
func TestAWrongExpectationIsNeverOK(t *testing.T) {
	for _, file := range suitesIn(t, "mustfail") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, r := range prove(t, file, 3*time.Second) {
				t.Run(r.Name, func(t *testing.T) {
					want := blocktest.OK
					subject, wrong := strings.CutPrefix(r.Name, "wrong: ")
					if wrong {
						want = blocktest.NotOK
					}
					if r.Verdict != want || wrong && !blames(r, subject) {
						t.Errorf("%s:%d: got %s: %s %q, want %s", file, r.Line, r.Verdict, r.Why, r.Failures, want)
					}
				})
			}
		})
	}
}

// reportedAs are the sections whose work another one does.
var reportedAs = map[string]string{
	"http09": "response_body_like", "stream_response": "response_body", "stream_response_like": "response_body_like",
}

// blames reports whether what was said of a block begins with the section that its name
// begins with, or with "section NAME" where the section could not be read.
func blames(r blocktest.Result, subject string) bool {
	words := strings.SplitN(subject, " ", 3)
	section := words[0]
	if section == "section" && len(words) > 1 {
		section += " " + words[1]
	}
	if other := reportedAs[section]; other != "" {
		section = other
	}
	for _, said := range append(r.Failures, r.Why) {
		if strings.HasPrefix(said, section+" ") || strings.HasPrefix(said, section+":") {
			return true
		}
	}
	return false
}

func TestEverySectionThatIsCheckedHasASuiteThatMustFail(t *testing.T) {
	has := map[string]bool{}
	for _, file := range suitesIn(t, "mustfail") {
		for _, b := range parsed(t, file).Blocks {
			kind, subject, _ := strings.Cut(b.Name, ": ")
			section, _, _ := strings.Cut(subject, " ")
			has[kind+" "+section] = true
		}
	}
	for _, name := range blocktest.Checked() {
		for _, kind := range []string{"right", "wrong"} {
			if !has[kind+" "+name] {
				t.Errorf("no block is called %q", kind+": "+name)
			}
		}
	}
}

// What t/README.md shows has to be what it says.
func TestTheExampleOfTheReadmeRuns(t *testing.T) {
	text := between(t, "README.md", "```perl\n", "```")
	file := filepath.Join(t.TempDir(), "example.t")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := prove(t, file, patience/2); len(got) < 2 || got[0].Verdict != blocktest.OK || got[1].Verdict != blocktest.OK {
		t.Errorf("got %+v", got)
	}
}

// between returns what stands between two marks of a file.
func between(t *testing.T, file, begin, end string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(raw), begin)
	text, _, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %q … %q", file, begin, end)
	}
	return text
}

func suitesIn(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.t"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no suite in %s (%v)", folder, err)
	}
	return files
}

func parsed(t *testing.T, file string) *blocktest.Suite {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := blocktest.Parse(file, raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// prove runs a suite as a user does. What logs and upstreams have may take the grace, which
// blocks that are to fail take to its end. Suites have fixed ports: where each can have a network
// of its own, they run beside each other; else one after another, if the ports are free.
func prove(t *testing.T, file string, grace time.Duration) []blocktest.Result {
	t.Helper()
	if stage.Isolate(new(exec.Cmd)) {
		t.Parallel()
	} else {
		for _, addr := range []string{"127.0.0.1:1984", "127.0.0.2:1984", "127.0.0.1:9180", "127.0.0.1:9090", "127.0.0.1:9091", "127.0.0.1:2379"} {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Skipf("a suite needs its ports, and cannot have a network of its own: %v", err)
			}
			_ = l.Close()
		}
	}
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "prove"),
		"-gosix", filepath.Join(programs, "gosix"), "-log-grace", grace.String(), "-json", report, file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("prove: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var results []blocktest.Result
	if err := json.Unmarshal(raw, &results); err != nil {
		t.Fatal(err)
	}
	if want := len(parsed(t, file).Blocks); len(results) != want {
		t.Fatalf("%d results of %d blocks\n%s", len(results), want, out)
	}
	return results
}

package t

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gosix/gosix/t/fakellm"
)

// Every curl of the README is run, in order, against a fresh gosix; only addresses and the
// key file are put in.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl on this machine")
	}
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	n := gosix(t)
	llm := fakellm.New("readme")
	llmAddr := serve(t, llm)
	if err := os.MkdirAll(filepath.Join(n.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "data/admin.key"), []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put := strings.NewReplacer("127.0.0.1:9180", n.Admin, "127.0.0.1:9080", n.Gateway[0], "127.0.0.1:9090", n.Control, "127.0.0.1:9091", n.Metrics,
		"127.0.0.1:8000", llmAddr)
	// What each curl must answer, by a part of its line.
	expect := []struct{ line, want string }{
		{"routes/hello", `"key":"/apisix/routes/hello"`},
		{"$GATEWAY/apisix/admin/routes", "401 Unauthorized"},
		{"routes/chat\" -H \"X-API-KEY: $KEY\" -d '{\n  \"uri\"", `"key":"/apisix/routes/chat"`},
		{"application/json\" -d '{\"messages\"", "I am readme"},
		{`"stream": true`, "data: [DONE]"},
		{"consumers", `"username": "ann"`},
		{"-X PATCH", `"key-auth":`},
		{"-i \"$GATEWAY/v1", "401 Unauthorized"},
		{"apikey: key-of-ann", "I am readme"},
		{"/v1/config\n", `"digest":`},
		{"/v1/config/rejected", "[]"},
		{"global_rules/metrics", `"key":"/apisix/global_rules/metrics"`},
		{"$GATEWAY/apisix/admin/routes", "401 Unauthorized"},
		{"prometheus/metrics", `apisix_http_status{code="401",route="hello"`},
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(raw), -1)
	preamble, next := "set -eu\n", 0
	for _, block := range blocks {
		for _, command := range commands(block[1]) {
			command = put.Replace(command)
			if !strings.HasPrefix(command, "curl ") {
				preamble += command
				continue
			}
			if next == len(expect) {
				t.Fatalf("the README has a curl that this test does not know: %s", command)
			}
			want := expect[next]
			next++
			if !strings.Contains(command, put.Replace(want.line)) {
				t.Fatalf("the README's order changed: %s", command)
			}
			cmd := exec.Command("sh", "-c", preamble+"curl -s -D headers --max-time 20 "+strings.TrimPrefix(command, "curl "))
			cmd.Dir = n.dir
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want.want) {
				t.Errorf("%s\nprints (%v)\n%s\nwant %q in it", command, err, out, want.want)
			}
			head, err := os.ReadFile(filepath.Join(n.dir, "headers"))
			if err != nil {
				t.Fatal(err)
			}
			if found := writtenAt.FindSubmatch(head); found != nil {
				at, _ := strconv.ParseInt(string(found[1]), 10, 64)
				eventually(t, "the write is in force", func() bool { return n.config().Revision >= at })
			}
		}
	}
	if next != len(expect) {
		t.Errorf("the README has %d curls, want %d", next, len(expect))
	}
}

var writtenAt = regexp.MustCompile(`X-Gosix-Revision: (\d+)`)

// commands splits a shell block: a command ends at a line end outside single quotes.
func commands(block string) (list []string) {
	current, quoted := "", false
	for line := range strings.Lines(block) {
		current += line
		if strings.Count(line, "'")%2 == 1 {
			quoted = !quoted
		}
		if !quoted && strings.TrimSpace(current) != "" {
			list = append(list, current)
			current = ""
		}
	}
	return list
}

package t

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

// Every curl of the README is run, in order, against a fresh gosix; only addresses and the
// key file are put in.
func TestReadme(t *testing.T) {
	one, _ := readme(t)
	n := gosix(t)
	keyFile(t, n)
	put := addresses(n, serve(t, fakellm.New("readme")))
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
		{"wait=applied", "X-Gosix-Applied: 1/1"},
		{"$ADMIN/nodes", `"live":true`},
		{"global_rules/metrics", `"key":"/apisix/global_rules/metrics"`},
		{"$GATEWAY/apisix/admin/routes", "401 Unauthorized"},
		{"prometheus/metrics", `apisix_http_status{code="401",route="hello"`},
	}
	preamble, next := "set -eu\n", 0
	for _, block := range one {
		for _, command := range commands(put.Replace(block)) {
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
			// What a node tells of itself follows what it does by a moment.
			got := curl(t, n, preamble, command)
			for end := time.Now().Add(patience); !strings.Contains(got, want.want); got = curl(t, n, preamble, command) {
				if time.Now().After(end) {
					t.Fatalf("%s\nprints\n%s\nwant %q in it", command, got, want.want)
				}
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

// keyFile puts the key where the documents say that it is.
func keyFile(t *testing.T, n *node) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(n.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "data/admin.key"), []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// addresses replaces the addresses of documents by those of a node, and of a provider.
func addresses(n *node, provider string) *strings.Replacer {
	return strings.NewReplacer("127.0.0.1:9180", n.Admin, "127.0.0.1:9080", n.Gateway[0], "127.0.0.1:9090", n.Control,
		"127.0.0.1:9091", n.Metrics, "127.0.0.1:8000", provider)
}

// curl runs a curl behind other commands of the shell, and returns what it prints. The head
// of the answer is in the file headers.
func curl(t *testing.T, n *node, preamble, command string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl on this machine")
	}
	cmd := exec.Command("sh", "-c", preamble+"curl -s -D headers --max-time 20 "+strings.TrimPrefix(command, "curl "))
	cmd.Dir = n.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v", command, err)
	}
	return string(out)
}

// readme returns the README's blocks of commands: those for one gosix, and those for a cluster.
func readme(t *testing.T) (one, cluster []string) {
	t.Helper()
	inside := false
	for _, b := range blocks(t, "../README.md", "sh") {
		for _, heading := range regexp.MustCompile(`(?m)^## .*$`).FindAllString(b.before, -1) {
			inside = heading == "## A cluster to try"
		}
		if inside {
			cluster = append(cluster, b.text)
		} else {
			one = append(one, b.text)
		}
	}
	if len(cluster) == 0 {
		t.Fatal("the README has no commands under \"A cluster to try\"")
	}
	return one, cluster
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

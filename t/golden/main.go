// Command golden replays exchanges that were recorded from the reference against a
// gosix of its own and compares. The corpus and the tool that replays it are not part of
// this repository; given their folder, the command starts gosix, runs the sequences that
// need only plugins which are built, and holds what fails against t/golden.skip: a
// failure that is not listed there, or a listed one that passes, is an error.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

func main() {
	binary := flag.String("gosix", "bin/gosix", "the program to test")
	corpus := flag.String("corpus", "", "folder with golden.py and open/*.jsonl")
	areas := flag.String("areas", "routing,admin,ai", "areas to replay, by comma")
	skip := flag.String("skip", "t/golden.skip", "known failures, one a line: name, white space, cause")
	verbose := flag.Bool("v", false, "print every failure")
	flag.Parse()
	if err := run(*binary, *corpus, strings.Split(*areas, ","), *skip, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "golden:", err)
		os.Exit(1)
	}
}

const (
	adminKey  = "golden-admin-key-of-no-value-0001"
	viewerKey = "golden-viewer-key-of-no-value-001"
)

// settings is what the corpus asks of a gateway: a viewer's key, encryption, no stream.
const settings = `apisix:
  node_listen: [{ip: 127.0.0.1, port: 0}]
  ssl: {enable: false}
  control: {port: 0}
  data_encryption: {keyring: ["golden-keyring-1", "golden-keyring-2"]}
%snginx_config: {http: {enable_access_log: false}}
plugin_attr: {prometheus: {export_addr: {port: 0}}}
deployment:
  data_dir: %q
  etcd: {timeout: 20}
  admin:
    admin_listen: {ip: 127.0.0.1, port: 0}
    admin_key:
      - {name: admin, key: %s, role: admin}
      - {name: viewer, key: %s, role: viewer}
`

// engine is the setting for the engine to replay over, if one is named.
func engine() string {
	if name := os.Getenv("GOSIX_ENGINE"); name != "" {
		return "  http_engine: " + name + "\n"
	}
	return ""
}

func run(binary, corpus string, areas []string, skipFile string, verbose bool) error {
	dir, err := os.MkdirTemp("", "golden")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	node, err := start(binary, dir)
	if err != nil {
		return err
	}
	defer node.stop()

	built, err := node.plugins()
	if err != nil {
		return err
	}
	known, err := readSkips(skipFile)
	if err != nil {
		return err
	}
	bad := 0
	for _, area := range areas {
		file := filepath.Join(corpus, "open", area+".jsonl")
		names, left, err := sequences(file, built)
		if err != nil {
			return err
		}
		failed, passed, err := node.replay(corpus, file, names)
		if err != nil {
			return err
		}
		// A replay waits some seconds for what it has written, which a busy machine may take.
		var late []string
		for _, name := range sorted(failed) {
			if known[name] == "" {
				late = append(late, name)
			}
		}
		if len(late) > 0 {
			again, right, err := node.replay(corpus, file, late)
			if err != nil {
				return err
			}
			for _, name := range late {
				if again[name] == "" {
					fmt.Printf("once more: %s passes; before: %s\n", name, failed[name])
					delete(failed, name)
				}
			}
			passed += right
		}
		surprises := 0
		for _, name := range sorted(failed) {
			if verbose || known[name] == "" {
				fmt.Printf("FAIL %s %s\n", name, failed[name])
			}
			if known[name] == "" {
				surprises++
			}
		}
		for _, name := range names {
			if known[name] != "" && failed[name] == "" {
				fmt.Printf("FAIL %s passes; take it out of %s\n", name, skipFile)
				surprises++
			}
		}
		fmt.Printf("%s: %d of %d sequences pass (%.1f %%), %d known failures, %d need plugins that are not built\n",
			area, passed, len(names), 100*float64(passed)/float64(max(1, len(names))), len(failed)-min(len(failed), surprises), left)
		bad += surprises
	}
	if bad > 0 {
		return fmt.Errorf("%d sequences behave otherwise than %s says", bad, skipFile)
	}
	return nil
}

type node struct {
	cmd            *exec.Cmd
	admin, gateway string
}

type ports struct {
	Admin   string   `json:"admin"`
	Gateway []string `json:"gateway"`
}

func start(binary, dir string) (*node, error) {
	conf := filepath.Join(dir, "conf.yaml")
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(conf, fmt.Appendf(nil, settings, engine(), data, adminKey, viewerKey), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "run", "-c", conf)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-exited:
			return nil, fmt.Errorf("gosix ended: %w\n%s", err, log.String())
		case <-deadline:
			_ = cmd.Process.Kill()
			return nil, fmt.Errorf("gosix did not start\n%s", log.String())
		case <-tick.C:
		}
		raw, err := os.ReadFile(filepath.Join(data, "ports.json"))
		if err != nil {
			continue
		}
		var p ports
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("ports.json: %w", err)
		}
		if len(p.Gateway) == 0 {
			return nil, errors.New("ports.json names no gateway address")
		}
		return &node{cmd: cmd, admin: "http://" + p.Admin, gateway: "http://" + p.Gateway[0]}, nil
	}
}

func (n *node) stop() { _ = n.cmd.Process.Signal(os.Interrupt) }

func (n *node) plugins() (map[string]bool, error) {
	req, err := http.NewRequest(http.MethodGet, n.admin+"/apisix/admin/plugins/list", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-API-KEY", adminKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	var names []string
	if err := json.NewDecoder(res.Body).Decode(&names); err != nil {
		return nil, err
	}
	built := map[string]bool{}
	for _, name := range names {
		built[name] = true
	}
	return built, nil
}

// sequences lists those of a file that configure only plugins which are built, and
// counts the others. A plugin that no gateway has is part of the test.
func sequences(file string, built map[string]bool) (names []string, left int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var s struct {
				Name  string
				Steps []struct {
					Admin *struct{ Body any }
				}
			}
			if err := json.Unmarshal(line, &s); err != nil {
				return nil, 0, fmt.Errorf("%s: %w", file, err)
			}
			needs := map[string]bool{}
			for _, step := range s.Steps {
				if step.Admin != nil {
					configured(step.Admin.Body, needs)
				}
			}
			missing := false
			for name := range needs {
				missing = missing || !built[name] && name != "teleport"
			}
			if missing {
				left++
			} else {
				names = append(names, s.Name)
			}
		}
		if errors.Is(err, io.EOF) {
			return names, left, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// configured collects the names under every member "plugins" of a body.
func configured(v any, names map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if plugins, ok := member.(map[string]any); ok && key == "plugins" {
				for name := range plugins {
					names[name] = true
				}
			}
			configured(member, names)
		}
	case []any:
		for _, e := range v {
			configured(e, names)
		}
	}
}

// replay runs the named sequences of a file and returns what failed, with the reason.
func (n *node) replay(corpus, file string, names []string) (failed map[string]string, passed int, err error) {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", filepath.Join(corpus, "golden.py"), "replay",
		"--admin", n.admin, "--gateway", n.gateway, "--key", adminKey, "--viewer-key", viewerKey,
		"--only", "^("+strings.Join(quoted, "|")+")$", file)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, 0, err
	}
	failed = map[string]string{}
	for line := range strings.Lines(string(out)) {
		verdict, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		name, reason, _ := strings.Cut(rest, " ")
		switch verdict {
		case "ok", "dev":
			passed++
		case "FAIL":
			failed[name] = reason
		}
	}
	if passed+len(failed) == 0 {
		return nil, 0, fmt.Errorf("the replay of %s printed no verdict:\n%s", file, out)
	}
	return failed, passed, nil
}

func readSkips(file string) (map[string]string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, cause, _ := strings.Cut(line, " ")
		if cause = strings.TrimSpace(cause); cause == "" {
			return nil, fmt.Errorf("%s: %s has no cause", file, name)
		}
		known[name] = cause
	}
	return known, nil
}

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Command demo shows the main job: it starts a fake provider and gosix, creates a route over
// two instances through the Admin API, and prints a curl and its streamed answer.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

func main() {
	binary := flag.String("gosix", "bin/gosix", "the program")
	flag.Parse()
	if err := run(*binary); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const settings = `apisix:
  node_listen: [{ip: 127.0.0.1, port: 0}]
  ssl: {enable: false}
  control: {port: 0}
nginx_config: {http: {enable_access_log: false}}
plugin_attr: {prometheus: {export_addr: {port: 0}}}
deployment:
  data_dir: %q
  admin: {admin_listen: {ip: 127.0.0.1, port: 0}}
  etcd: {timeout: 20}
`

const route = `{
  "uri": "/v1/chat/completions",
  "plugins": {
    "ai-proxy-multi": {
      "fallback_strategy": ["http_429", "http_5xx"],
      "instances": [
        {"name": "busy", "provider": "openai-compatible", "weight": 1, "priority": 1,
         "auth": {"header": {"Authorization": "Bearer one"}},
         "override": {"endpoint": "http://%[1]s/v1/chat/completions?status=429"}},
        {"name": "free", "provider": "openai-compatible", "weight": 1,
         "auth": {"header": {"Authorization": "Bearer two"}},
         "override": {"endpoint": "http://%[1]s/v1/chat/completions?gap_ms=120"}}
      ]
    }
  }
}`

func run(binary string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	llm := &http.Server{Handler: fakellm.New("a fake model"), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = llm.Serve(l) }()
	defer func() { _ = llm.Close() }()

	dir, err := os.MkdirTemp("", "gosix-demo")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	conf := filepath.Join(dir, "conf.yaml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, settings, dir), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(binary, "run", "-c", conf)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}()
	var ports struct {
		Gateway []string
		Admin   string
	}
	if err := wait(func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "ports.json"))
		return err == nil && json.Unmarshal(raw, &ports) == nil
	}); err != nil {
		return fmt.Errorf("gosix did not start: %w\n%s", err, log.String())
	}
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		return err
	}
	body := fmt.Sprintf(route, l.Addr())
	fmt.Printf("$ curl -X PUT http://%s/apisix/admin/routes/demo -H \"X-API-KEY: ...\" -d '%s'\n", ports.Admin, body)
	req, err := http.NewRequest(http.MethodPut, "http://"+ports.Admin+"/apisix/admin/routes/demo", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-KEY", strings.TrimSpace(string(key)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("the route was not created: %s", res.Status)
	}
	fmt.Println(res.Status)

	url := "http://" + ports.Gateway[0] + "/v1/chat/completions"
	const chat = `{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hello there"}]}`
	fmt.Printf("\n$ curl -N %s -H \"Content-Type: application/json\" -d '%s'\n", url, chat)
	var answer *http.Response
	if err := wait(func() bool {
		if answer, err = http.Post(url, "application/json", strings.NewReader(chat)); err != nil {
			return true
		}
		if answer.StatusCode == http.StatusNotFound { // the route is on its way to the node
			_ = answer.Body.Close()
			return false
		}
		return true
	}); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	var seen bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(os.Stdout, &seen), answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || !strings.HasSuffix(seen.String(), "data: [DONE]\n\n") {
		return errors.New("the stream is not complete: " + answer.Status)
	}
	fmt.Println("The first instance answered 429; the second one, of lower priority, took over before the client saw anything.")
	return nil
}

var errNever = errors.New("it did not come to pass in 30 s")

func wait(ok func() bool) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if ok() {
			return nil
		}
		<-time.After(20 * time.Millisecond)
	}
	return errNever
}

package t

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/t/blocktest/stage"
)

// composition is docker-compose.yml. A key that stands in none of these types is an error:
// an engine would heed it and the test would not.
type composition struct {
	Name      string
	Services  map[string]*service
	Volumes   map[string]*struct{}
	Templates map[string]any `yaml:",inline"` // x-…, which services take over
}

// service is a part of it. What only an engine can do stands here to be compared: restart,
// cap_drop (a process of another user has no capabilities anyway) and security_opt.
type service struct {
	Image           string
	PullPolicy      string `yaml:"pull_policy"`
	Build           *struct{ Context, Target string }
	Command         []string
	Environment     map[string]string
	Ports           []string                              // address:port:port of the container
	Volumes         []string                              // name or ./path:place[:ro]
	DependsOn       map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck     healthcheck
	Restart         string
	ReadOnly        bool          `yaml:"read_only"`
	CapDrop         []string      `yaml:"cap_drop"`
	SecurityOpt     []string      `yaml:"security_opt"`
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
}

// healthcheck is how a service is asked. The test asks more often than the interval.
type healthcheck struct {
	Test        []string
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration `yaml:"start_period"`
	Retries     int
}

// volume is a part of a container's files that is not of its image.
type volume struct {
	from, to string
	readOnly bool
}

func (s *service) places() (list []volume) {
	for _, v := range s.Volumes {
		from, to, _ := strings.Cut(v, ":")
		to, readOnly := strings.CutSuffix(to, ":ro")
		list = append(list, volume{from, to, readOnly})
	}
	return list
}

// published are the addresses of the machine that lead to ports of the service.
func (s *service) published() map[string]string {
	ports := map[string]string{}
	for _, p := range s.Ports {
		if cut := strings.LastIndexByte(p, ':'); cut >= 0 {
			ports[p[:cut]] = p[cut+1:]
		}
	}
	return ports
}

func composeText(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var interpolated = regexp.MustCompile(`\$\{(\w+):\?([^}]*)\}`)

// readCompose reads a compose file with the variables that it asks for.
func readCompose(text string, env map[string]string) (*composition, error) {
	var missing error
	text = interpolated.ReplaceAllStringFunc(text, func(m string) string {
		parts := interpolated.FindStringSubmatch(m)
		if env[parts[1]] == "" && missing == nil {
			missing = fmt.Errorf("%s is missing: %s", parts[1], parts[2])
		}
		return env[parts[1]]
	})
	if missing != nil {
		return nil, missing
	}
	if strings.Contains(text, "$") {
		return nil, fmt.Errorf("this test knows ${NAME:?why} only")
	}
	c := &composition{}
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		return nil, err
	}
	for key := range c.Templates {
		if !strings.HasPrefix(key, "x-") {
			return nil, fmt.Errorf("field %s not found", key)
		}
	}
	return c, nil
}

var composeKeys = map[string]string{"GOSIX_ADMIN_KEY": testKey, "GOSIX_KEYRING": "0123456789abcdef0123456789abcdef"}

// inCluster is set, to the folder of what was built, in the process that runs the cluster.
const inCluster = "GOSIX_TEST_CLUSTER"

// The cluster of docker-compose.yml, without a container engine: engine says what stands for
// what. Everything that it makes belongs to the namespaces of one process, and
// goes with it however it ends.
func TestCompose(t *testing.T) {
	if dir := os.Getenv(inCluster); dir != "" {
		runReadme(t, dir)
		return
	}
	file, err := readCompose(composeText(t), composeKeys)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	images := buildImages(t, dir)
	checkCompose(t, file, images)
	if t.Failed() {
		return
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", os.Args[0],
		"-test.run=^TestCompose$", "-test.v", "-test.timeout=15m")
	if !stage.Isolate(cmd) {
		t.Skipf("to run the cluster takes Linux and root, this is %s and user %d; the files are as they should be", runtime.GOOS, os.Geteuid())
	}
	for _, tool := range []string{"ip", "unshare", "mount", "curl", "od"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("to run the cluster takes %s (Debian: iproute2, util-linux, curl); the files are as they should be", tool)
		}
	}
	cmd.Env = append(os.Environ(), inCluster+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestCompose")) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("in namespaces of its own:\n%s", out)
	}
}

// checkCompose compares what the file says with what it promises and what images hold.
func checkCompose(t *testing.T, file *composition, images map[string]*image) {
	t.Helper()
	built, used, ports := map[string]*image{}, map[string]string{}, map[string]string{}
	for name, s := range file.Services {
		if s.Build != nil {
			if s.Build.Context != "." || images[s.Build.Target] == nil || built[s.Image] != nil {
				t.Errorf("%s: build %+v: want ., a stage of the Dockerfile, and once for each image", name, *s.Build)
			}
			built[s.Image] = images[s.Build.Target]
		}
	}
	counts := map[string]int{}
	for name, s := range file.Services {
		i := built[s.Image]
		if i == nil {
			t.Errorf("%s: no service builds the image %s", name, s.Image)
			continue
		}
		if s.PullPolicy != "never" || s.Restart != "unless-stopped" || !s.ReadOnly ||
			!slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: want never pulled, restarted, read-only, without capabilities and new privileges: %+v", name, *s)
		}
		h := s.Healthcheck
		if len(h.Test) < 2 || h.Test[0] != "CMD" || h.Interval <= 0 || h.Timeout <= 0 || h.StartPeriod <= 0 || h.Retries <= 0 {
			t.Errorf("%s: its health check is not complete: %+v", name, h)
			continue
		}
		counts[s.Command[0]]++
		for _, program := range []string{s.Command[0], h.Test[1]} {
			info, err := os.Stat(filepath.Join(i.root, "usr/local/bin", program))
			if err != nil || info.Mode().Perm()&0o111 != 0o111 {
				t.Errorf("%s: %s is no program of its image: %v", name, program, err)
			}
		}
		for from := range s.published() {
			if host, _, err := net.SplitHostPort(from); err != nil || host != "127.0.0.1" || ports[from] != "" {
				t.Errorf("%s: publishes %s: want an address of the loopback, and each once", name, from)
			}
			ports[from] = name
		}
		if len(s.published()) != len(s.Ports) {
			t.Errorf("%s: ports %v: want address:port:port", name, s.Ports)
		}
		for on, how := range s.DependsOn {
			if file.Services[on] == nil || how.Condition != "service_healthy" {
				t.Errorf("%s: depends_on %s %+v", name, on, how)
			}
		}
		for _, p := range s.places() {
			path, inCheckout := strings.CutPrefix(p.from, "./")
			_, declared := file.Volumes[p.from]
			switch {
			case inCheckout:
				if _, err := os.Stat(filepath.Join("..", path)); err != nil || !p.readOnly {
					t.Errorf("%s: %s: want it there and :ro: %v", name, p.from, err)
				}
			case !declared || p.readOnly || used[p.from] != "":
				t.Errorf("%s: volume %s: want it declared, writable, and of one service", name, p.from)
			default:
				used[p.from] = name
			}
		}
		for n, a := range s.Command {
			if a == "-c" {
				checkSettings(t, name, s, s.Command[n+1])
			}
		}
	}
	if want := map[string]int{"etcd": 3, "admin": 2, "gateway": 2, "fakellm": 1}; !maps.Equal(counts, want) {
		t.Errorf("the cluster is %v, want %v", counts, want)
	}
	if len(used) != len(file.Volumes) {
		t.Errorf("%d volumes are declared, %d are used", len(file.Volumes), len(used))
	}
}

// checkSettings reads the settings of a service as it will read them.
func checkSettings(t *testing.T, name string, s *service, path string) {
	t.Helper()
	for _, p := range s.places() {
		below, ok := strings.CutPrefix(path, p.to+"/")
		if !ok {
			continue
		}
		file := filepath.Join("..", p.from, below)
		c, notices, err := config.Load(file, func(key string) (string, bool) {
			v, ok := s.Environment[key]
			return v, ok
		})
		// The container's network is theirs alone, so that TLS may wait.
		notices = slices.DeleteFunc(notices, func(n config.Notice) bool { return strings.HasSuffix(string(n), "without TLS") })
		if err != nil || len(notices) > 0 {
			t.Errorf("%s: %v %v", name, err, notices)
			return
		}
		// What comes before the drain takes a few seconds.
		if least := config.Seconds(c.Apisix.DrainTimeout) + 10*time.Second; s.StopGracePeriod < least {
			t.Errorf("%s: stop_grace_period is %v; requests may go on for %v, and want %v", name, s.StopGracePeriod, c.Apisix.DrainTimeout, least)
		}
		check := exec.Command(filepath.Join(programs, "gosix"), "check", "-c", file)
		for key, value := range s.Environment {
			check.Env = append(check.Env, key+"="+value)
		}
		if out, err := check.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("settings: ok")) {
			t.Errorf("%s: gosix check: %v\n%s", name, err, out)
		}
		return
	}
	t.Errorf("%s: %s is in none of its volumes", name, path)
}

// What the test does not know must not pass it.
func TestComposeRefusesWhatItDoesNotKnow(t *testing.T) {
	text := composeText(t)
	tests := map[string]struct {
		old, new string
		env      map[string]string
		want     string
	}{
		"a key of a service":    {"  read_only: true\n", "  read_only: true\n  privileged: true\n", composeKeys, "field privileged not found"},
		"a key at the top":      {"\nvolumes:\n", "\nsecrets: {}\nvolumes:\n", composeKeys, "field secrets not found"},
		"a key of a check":      {"  retries: 5\n", "  retries: 5\n  start_interval: 1s\n", composeKeys, "field start_interval not found"},
		"another interpolation": {"name: gosix", "name: ${NAME:-gosix}", composeKeys, "${NAME:?why} only"},
		"no key for the admins": {"", "", map[string]string{"GOSIX_KEYRING": "x"}, "GOSIX_ADMIN_KEY is missing"},
		"no key for secrets":    {"", "", map[string]string{"GOSIX_ADMIN_KEY": "x"}, "GOSIX_KEYRING is missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := readCompose(strings.Replace(text, tt.old, tt.new, 1), tt.env)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// runReadme does what the README tells a user to do with the cluster, and looks in between
// at what it does not show.
func runReadme(t *testing.T, dir string) {
	c := newEngine(t, dir)
	_, blocks := readme(t)
	expect := []struct{ line, want string }{
		{"9180/apisix/admin/routes/chat", `"key":"/apisix/routes/chat"`},
		{"9080/v1/chat", "I am fakellm"},
		{"9081/v1/chat", "data: [DONE]"},
		{"9181/apisix/admin/routes/again", `"key":"/apisix/routes/again"`},
		{"9081/again/v1/chat", "I am fakellm"},
	}
	var guests *visitors
	preamble, next := "set -eu\n", 0
	for _, command := range slices.Concat(commands(blocks[0]), commands(blocks[1])) {
		line := strings.TrimSpace(command)
		switch words := strings.Fields(line); {
		case words[0] == ".":
			preamble += command
		case words[0] == "curl":
			if next == len(expect) || !strings.Contains(command, expect[next].line) {
				t.Fatalf("the README has a curl that this test does not expect here: %s", command)
			}
			c.until(t, preamble+"curl -s --max-time 20 "+strings.TrimPrefix(command, "curl "), expect[next].want)
			next++
		case line == "docker compose up --build --wait":
			c.up(t)
		case line == "docker compose kill etcd2 admin1":
			c.chat(t, "/v1/chat/completions")
			guests = c.visit(t, "/v1/chat/completions")
			c.kill("etcd2", "admin1")
		case line == "docker compose up --wait":
			c.chat(t, "/again/v1/chat/completions")
			c.up(t)
			c.put(t, "admin1", "/routes/third", route("/third/*"))
			c.chat(t, "/third/v1/chat/completions")
			if sent, failed := guests.leave(); failed != nil || sent == 0 {
				t.Errorf("of %d requests while the cluster was ill, one failed: %v", sent, failed)
			} else {
				t.Logf("%d requests while the cluster was ill, none failed", sent)
			}
		case line == "docker compose down":
			c.down(t)
		case words[0] == "docker":
			t.Fatalf("this test does not know %s", line)
		default:
			c.until(t, command, "")
		}
	}
	if next != len(expect) || guests == nil {
		t.Errorf("the README has %d curls, want %d; and commands that kill and end", next, len(expect))
	}
	t.Run("the programs' image alone", func(t *testing.T) { alone(t, dir) })
}

func route(uri string) string {
	return fmt.Sprintf(`{"uri":%q,"plugins":{"ai-proxy-multi":{"instances":[{"name":"fake","provider":"openai-compatible","weight":1,
		"auth":{"header":{"Authorization":"Bearer one"}},"override":{"endpoint":"http://fakellm:8000"}}]}}}`, uri)
}

// until runs a command of the README until it succeeds with want in what it prints: a write
// takes a moment to be in force.
func (c *engine) until(t *testing.T, command, want string) {
	t.Helper()
	var out []byte
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("%s\nprints (%v)\n%s", command, err, out)
		}
	}()
	eventually(t, fmt.Sprintf("%q from %s", want, command), func() bool {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = c.work
		out, err = cmd.CombinedOutput()
		return err == nil && bytes.Contains(out, []byte(want))
	})
}

// put writes through an admin.
func (c *engine) put(t *testing.T, admin, path, body string) {
	t.Helper()
	for address := range c.file.Services[admin].published() {
		n := &node{t: t, key: c.env["GOSIX_ADMIN_KEY"], Admin: address}
		eventually(t, fmt.Sprintf("PUT %s through %s", path, admin), func() bool {
			a := n.admin("PUT", path, body)
			if a.StatusCode >= 300 && a.StatusCode != http.StatusServiceUnavailable && a.StatusCode != http.StatusGatewayTimeout {
				t.Fatalf("%d %s", a.StatusCode, a.Text)
			}
			return a.StatusCode < 300 // else etcd has had no time for it
		})
	}
}

const (
	hello         = `{"messages":[{"role":"user","content":"hi"}]}`
	helloStreamed = `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`
)

// chat asks both gateways for an answer, whole and streamed.
func (c *engine) chat(t *testing.T, path string) {
	t.Helper()
	for _, address := range c.gateways() {
		ask := func(body string) answer {
			return do(t, "POST", "http://"+address+path, body, "Content-Type", "application/json")
		}
		eventually(t, path+" is in force at "+address, func() bool { return ask(hello).StatusCode == 200 })
		if a := ask(hello); a.StatusCode != 200 || a.Err != nil || !strings.Contains(a.Text, "I am fakellm") {
			t.Errorf("%s at %s: %d %s %v", path, address, a.StatusCode, a.Text, a.Err)
		}
		if a := ask(helloStreamed); a.StatusCode != 200 || a.Err != nil || !strings.Contains(a.Text, "data: [DONE]") {
			t.Errorf("%s at %s, streamed: %d %s %v", path, address, a.StatusCode, a.Text, a.Err)
		}
	}
}

func (c *engine) gateways() (list []string) {
	for _, s := range c.file.Services {
		if s.Command[0] == "gateway" {
			list = slices.AppendSeq(list, maps.Keys(s.published()))
		}
	}
	slices.Sort(list)
	return list
}

// visitors send one request after another to each gateway.
type visitors struct {
	stop   chan struct{}
	group  sync.WaitGroup
	mu     sync.Mutex
	sent   int
	failed error // the first
}

func (c *engine) visit(t *testing.T, path string) *visitors {
	t.Helper()
	v := &visitors{stop: make(chan struct{})}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	for _, address := range c.gateways() {
		v.group.Go(func() {
			for {
				select {
				case <-v.stop:
					return
				case <-time.After(10 * time.Millisecond): // a visitor's pace
				}
				err := visit(client, "http://"+address+path)
				v.mu.Lock()
				v.sent++
				if v.failed == nil {
					v.failed = err
				}
				v.mu.Unlock()
			}
		})
	}
	t.Cleanup(client.CloseIdleConnections)
	return v
}

func visit(client *http.Client, url string) error {
	res, err := client.Post(url, "application/json", strings.NewReader(hello))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var whole struct{ Choices []any }
	if err := json.NewDecoder(res.Body).Decode(&whole); err != nil || res.StatusCode != 200 || len(whole.Choices) == 0 {
		return fmt.Errorf("%s: %s: %v", url, res.Status, err)
	}
	return nil
}

// leave ends the visits and tells how many there were, and why the first failed of those
// that did.
func (v *visitors) leave() (sent int, failed error) {
	close(v.stop)
	v.group.Wait()
	return v.sent, v.failed
}

// alone runs the image of the programs, as it is without any arguments.
func alone(t *testing.T, dir string) {
	c := newContainer(t, dir, "alone", &service{Volumes: []string{"alone:/var/lib/gosix"}}, readDockerfile(t, dir, func(string, string) {})["gosix"], nil)
	c.start(t, c.image.cmd)
	eventually(t, "it runs", func() bool {
		select {
		case <-c.node.exited:
			t.Fatalf("it ended: %v", c.node.err)
		default:
		}
		return strings.Contains(c.node.log.String(), "gosix is running")
	})
	eventually(t, "its Admin API answers inside", func() bool {
		return c.command([]string{"gosix", "health", "-I", "http://127.0.0.1:9180/apisix/admin"}).Run() == nil
	})
	// What holds for every container, seen from outside.
	if err := os.WriteFile(filepath.Join(c.root, "etc/more"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing to its root: %v, want that it is read-only", err)
	}
	info, err := os.Stat(filepath.Join(dir, "volumes/alone/data/admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; fmt.Sprint(owner) != c.image.user {
		t.Errorf("the user %d wrote its key, want %s", owner, c.image.user)
	}
	c.node.stop(syscall.SIGTERM)
	if c.node.err != nil {
		t.Errorf("it ended with %v", c.node.err)
	}
}

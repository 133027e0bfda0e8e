package t

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/t/blocktest/stage"
)

// engine stands for a container engine that runs docker-compose.yml. It is in the first
// process of namespaces for processes, mounts and network that nobody else has.
//
//	a container        a process that is the first of its own, in a network and a root of its own
//	its root           the files of its image, mounted read-only, with its volumes in them
//	its user           the one that the image names
//	a named volume     a folder that begins as a copy of what the image has there
//	the network        a bridge; /etc/hosts knows the services
//	a published port   what listens there passes bytes on, as the engine's proxy does
type engine struct {
	dir, work  string // of everything; where the user is
	env        map[string]string
	file       *composition
	containers map[string]*container
}

// container is a service that runs, or has run.
type container struct {
	*service
	name    string
	image   *image
	root    string
	address string
	env     []string
	node    *node // nil before the first start
}

const bridge = "172.28.0.1"

// newCluster makes the network; dir has the images.
func newEngine(t *testing.T, dir string) *engine {
	t.Helper()
	if err := stage.Loopback(); err != nil {
		t.Fatal(err)
	}
	c := &engine{dir: dir, work: filepath.Join(dir, "work"), containers: map[string]*container{}}
	if err := os.Mkdir(c.work, 0o755); err != nil {
		t.Fatal(err)
	}
	// ip keeps the names of networks in /run/netns: ours are nobody else's business.
	must(t, "mount", "-t", "tmpfs", "gosix", "/run")
	must(t, "ip", "link", "add", "hub", "type", "bridge")
	must(t, "ip", "address", "add", bridge+"/24", "dev", "hub")
	must(t, "ip", "link", "set", "hub", "up")
	return c
}

// must runs a command that has to succeed.
func must(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// up is `docker compose up --wait`: what does not run is started, after what it depends on
// is healthy, and in the end everything is.
func (c *engine) up(t *testing.T) {
	t.Helper()
	if c.file == nil {
		c.create(t)
	}
	healthy := map[string]bool{}
	for len(healthy) < len(c.containers) {
		var wave []*container
		for _, name := range slices.Sorted(maps.Keys(c.containers)) {
			one := c.containers[name]
			waits := slices.ContainsFunc(slices.Collect(maps.Keys(one.DependsOn)), func(on string) bool { return !healthy[on] })
			if healthy[name] || waits {
				continue
			}
			wave = append(wave, one)
			if !one.running() {
				one.start(t, one.Command)
			}
		}
		if len(wave) == 0 {
			t.Fatal("services depend on each other in a circle")
		}
		for _, one := range wave {
			one.healthy(t)
			healthy[one.name] = true
		}
	}
}

// create reads the compose file with the user's .env and makes a container of each service.
func (c *engine) create(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.work, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	c.env = map[string]string{}
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		c.env[key] = value
	}
	if c.file, err = readCompose(composeText(t), c.env); err != nil {
		t.Fatal(err)
	}
	images := readDockerfile(t, c.dir, func(string, string) {})
	built := map[string]*image{}
	hosts := "127.0.0.1 localhost\n"
	names := slices.Sorted(maps.Keys(c.file.Services))
	for n, name := range names {
		if s := c.file.Services[name]; s.Build != nil {
			built[s.Image] = images[s.Build.Target]
		}
		hosts += fmt.Sprintf("172.28.0.%d %s\n", n+2, name)
	}
	for _, i := range built {
		if err := os.WriteFile(filepath.Join(i.root, "etc/hosts"), []byte(hosts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for n, name := range names {
		s := c.file.Services[name]
		one := newContainer(t, c.dir, name, s, built[s.Image], s.Environment)
		one.address = fmt.Sprintf("172.28.0.%d", n+2)
		must(t, "ip", "link", "add", fmt.Sprintf("port%d", n), "type", "veth", "peer", "name", "eth0", "netns", name)
		must(t, "ip", "link", "set", fmt.Sprintf("port%d", n), "master", "hub", "up")
		must(t, "ip", "-n", name, "address", "add", one.address+"/24", "dev", "eth0")
		must(t, "ip", "-n", name, "link", "set", "eth0", "up")
		for from, port := range s.published() {
			publish(t, from, net.JoinHostPort(one.address, port))
		}
		c.containers[name] = one
	}
}

// publish passes on what connects to an address of the machine.
func publish(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			outside, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = outside.Close() }()
				inside, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = inside.Close() }()
				go func() {
					_, _ = io.Copy(inside, outside)
					_ = inside.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(outside, inside)
			}()
		}
	}()
}

// newContainer makes a network and a root for a service; they are still to be connected.
func newContainer(t *testing.T, dir, name string, s *service, i *image, env map[string]string) *container {
	t.Helper()
	one := &container{service: s, name: name, image: i, root: filepath.Join(dir, "roots", name), env: slices.Clone(i.env)}
	for key, value := range env {
		one.env = append(one.env, key+"="+value)
	}
	must(t, "ip", "netns", "add", name)
	must(t, "ip", "-n", name, "link", "set", "lo", "up")
	must(t, "mkdir", "-p", one.root, filepath.Join(dir, "volumes"))
	must(t, "mount", "--bind", i.root, one.root)
	for _, p := range s.places() {
		to := filepath.Join(one.root, p.to)
		must(t, "mkdir", "-p", to)
		if below, ok := strings.CutPrefix(p.from, "./"); ok {
			must(t, "mount", "--bind", filepath.Join("..", below), to)
			must(t, "mount", "-o", "remount,bind,ro", to)
			continue
		}
		volume := filepath.Join(dir, "volumes", p.from)
		must(t, "cp", "-a", to, volume)
		must(t, "mount", "--bind", volume, to)
	}
	must(t, "mount", "-o", "remount,bind,ro", one.root)
	return one
}

// command is a command inside the container.
func (c *container) command(words []string) *exec.Cmd {
	unshare, _ := exec.LookPath("unshare") // by its path: PATH is the container's
	cmd := exec.Command("ip", append([]string{
		"netns", "exec", c.name, unshare, "--root=" + c.root, "--wd=" + c.image.workdir,
		"--setgid=" + c.image.group, "--setuid=" + c.image.user,
	}, words...)...)
	cmd.Env = slices.Clone(c.env)
	return cmd
}

// start runs the container's command, for the first time or again.
func (c *container) start(t *testing.T, words []string) {
	t.Helper()
	c.node = &node{t: t, out: &logtest.Log{}, log: &logtest.Log{}, exited: make(chan struct{}), cmd: c.command(words)}
	if !stage.Isolate(c.node.cmd) {
		t.Fatal("a process cannot be the first of its own here")
	}
	c.node.begin(c.name)
}

func (c *container) running() bool {
	if c.node == nil {
		return false
	}
	select {
	case <-c.node.exited:
		return false
	default:
		return true
	}
}

// healthy waits until the health check says so.
func (c *container) healthy(t *testing.T) {
	t.Helper()
	begin := time.Now()
	var said []byte
	defer func() {
		if t.Failed() {
			t.Logf("%s: the health check said %s", c.name, said)
		}
	}()
	eventually(t, c.name+" is healthy", func() bool {
		if !c.running() {
			t.Fatalf("%s ended: %v", c.name, c.node.err)
		}
		check := c.command(c.Healthcheck.Test[1:])
		late := time.AfterFunc(c.Healthcheck.Timeout, func() { _ = check.Process.Kill() })
		defer late.Stop()
		var err error
		said, err = check.CombinedOutput()
		return err == nil
	})
	t.Logf("%s is healthy after %v", c.name, time.Since(begin).Round(time.Millisecond))
}

// kill is `docker compose kill`.
func (c *engine) kill(names ...string) {
	for _, name := range names {
		c.containers[name].node.stop(syscall.SIGKILL)
	}
}

// down is `docker compose down`: what depends on others ends before them, and everything in
// the time that it has and with 0.
func (c *engine) down(t *testing.T) {
	t.Helper()
	gone := map[string]bool{}
	for len(gone) < len(c.containers) {
		needed := map[string]bool{}
		for name, one := range c.containers {
			for on := range one.DependsOn {
				needed[on] = needed[on] || !gone[name]
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.containers)) {
			one := c.containers[name]
			if needed[name] || gone[name] {
				continue
			}
			gone[name] = true
			begin := time.Now()
			one.node.stop(syscall.SIGTERM)
			if took := time.Since(begin); one.node.err != nil || took > one.StopGracePeriod {
				t.Errorf("%s ended with %v after %v", name, one.node.err, took)
			}
			for _, secret := range c.env {
				if strings.Contains(one.node.out.String()+one.node.log.String(), secret) {
					t.Errorf("%s: its log shows a key", name)
				}
			}
			if one.Command[0] == "gateway" && !strings.Contains(one.node.out.String(), `"POST /again/v1/chat/completions`) {
				t.Errorf("%s: standard output has no access log", name)
			}
		}
	}
}

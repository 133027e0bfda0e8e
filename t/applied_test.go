package t

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// agree checks what must hold always: nodes at one revision have one digest.
func agree(t *testing.T, nodes ...*node) {
	t.Helper()
	digests := map[int64]string{}
	for _, n := range nodes {
		c := n.config()
		if other, seen := digests[c.Revision]; seen && other != c.Digest {
			t.Errorf("revision %d has the digests %s and %s", c.Revision, other, c.Digest)
		}
		digests[c.Revision] = c.Digest
	}
}

// listed is what the Admin API tells of the nodes.
type listed struct {
	Newest int64
	List   []struct {
		ID              string
		Live            bool
		Lag             int64
		DigestDiffers   bool `json:"digest_differs"`
		RejectedDiffers bool `json:"rejected_differs"`
	}
}

func (n *node) nodes() (all listed) {
	n.t.Helper()
	a := n.admin("GET", "/nodes", "")
	if err := json.Unmarshal([]byte(a.Text), &all); err != nil || a.StatusCode != 200 {
		n.t.Fatalf("/nodes: %d %v: %s", a.StatusCode, err, a.Text)
	}
	for _, l := range all.List {
		if l.DigestDiffers {
			n.t.Errorf("%s has another digest than a node at the same revision: %s", l.ID, a.Text)
		}
	}
	return all
}

// gateways starts some over an etcd, and waits until the admin knows them.
func gateways(t *testing.T, endpoint string, control *node, number int) (nodes []*node) {
	t.Helper()
	for range number {
		nodes = append(nodes, start(t, "gateway", settings("DIR", endpoint)))
	}
	eventually(t, "the nodes are registered", func() bool { return len(control.nodes().List) == number })
	return nodes
}

// amount is how much of something a test does: what is usual, or what the environment says for
// a measurement.
func amount(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A write that was waited for is in force on every node, each time.
func TestWhatWasWaitedForIsInForceEverywhere(t *testing.T) {
	store := etcd(t, t.TempDir(), "")
	defer store.Close()
	up := text(t, "up")
	rawRoutes(t, store.Endpoint(), amount(t, "GOSIX_ROUTES", 500), up)
	control := start(t, "admin", settings("DIR", store.Endpoint()))
	nodes := gateways(t, store.Endpoint(), control, 3)
	var took []time.Duration
	before := ""
	for i := range amount(t, "GOSIX_CYCLES", 200) {
		path := fmt.Sprintf("/cycle/%d", i)
		begin := time.Now()
		a := control.admin("PUT", "/routes/cycle?wait=applied&timeout=30s", plainRoute(path, up))
		took = append(took, time.Since(begin))
		if a.StatusCode > 201 || a.Header.Get("X-Gosix-Applied") != "3/3" {
			t.Fatalf("cycle %d: %d %q %s", i, a.StatusCode, a.Header.Get("X-Gosix-Applied"), a.Text)
		}
		for j, n := range nodes {
			if got := n.ask("GET", path, "").StatusCode; got != 200 {
				t.Fatalf("cycle %d: node %d answers %d", i, j, got)
			}
			if before != "" {
				if got := n.ask("GET", before, "").StatusCode; got != 404 {
					t.Fatalf("cycle %d: node %d answers %d for what is gone", i, j, got)
				}
			}
		}
		before = path
		if i%50 == 0 {
			agree(t, nodes...)
		}
	}
	slices.Sort(took)
	t.Logf("%d cycles: answered after %v at the median, %v at the 99th percentile, %v at most", len(took),
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	agree(t, nodes...)
	for _, n := range nodes {
		// Their records in the store are no configuration that would be missing.
		if c := n.config(); c.Observed != c.Revision {
			t.Errorf("%d is observed and %d in force, although all is done", c.Observed, c.Revision)
		}
	}
	for _, l := range control.nodes().List {
		if !l.Live || l.Lag != 0 || l.RejectedDiffers {
			t.Errorf("got %+v", l)
		}
	}
}

func TestManyWaitAtOnce(t *testing.T) {
	store := etcd(t, t.TempDir(), "")
	defer store.Close()
	control := start(t, "admin", settings("DIR", store.Endpoint()))
	nodes := gateways(t, store.Endpoint(), control, 2)
	up := text(t, "up")
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 10 {
				id := fmt.Sprintf("w%d", w)
				path := fmt.Sprintf("/%s/%d", id, i)
				req, _ := http.NewRequest("PUT", "http://"+control.Admin+"/apisix/admin/routes/"+id+"?wait=applied&timeout=30s", strings.NewReader(plainRoute(path, up)))
				req.Header.Set("X-API-KEY", testKey)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if got := res.Header.Get("X-Gosix-Applied"); got != "2/2" || res.StatusCode > 201 {
					t.Errorf("%s: got %d %q", path, res.StatusCode, got)
				}
				for _, n := range nodes {
					if res, err := http.Get(n.url(path)); err != nil || res.StatusCode != 200 {
						t.Errorf("%s: got %v %v", path, res, err)
					} else {
						_ = res.Body.Close()
					}
				}
			}
		})
	}
	writers.Wait()
	agree(t, nodes...)
}

func TestNodesComeAndGo(t *testing.T) {
	store := etcd(t, t.TempDir(), "")
	defer store.Close()
	control := start(t, "admin", settings("DIR", store.Endpoint()))
	nodes := gateways(t, store.Endpoint(), control, 3)
	up := text(t, "up")
	put := func(path, want string) answer {
		t.Helper()
		a := control.admin("PUT", "/routes/1?wait=applied&timeout=300ms", plainRoute(path, up))
		for end := time.Now().Add(patience); a.Header.Get("X-Gosix-Applied") != want; { // a busy machine
			if time.Now().After(end) {
				t.Fatalf("got %q, want %q: %s", a.Header.Get("X-Gosix-Applied"), want, a.Text)
			}
			a = control.admin("PUT", "/routes/1?wait=applied&timeout=300ms", plainRoute(path, up))
		}
		return a
	}
	put("/a", "3/3")
	// One that ends in order is not waited for.
	nodes[2].stop(syscall.SIGTERM)
	live := func() (n int) {
		for _, l := range control.nodes().List {
			if l.Live {
				n++
			}
		}
		return n
	}
	put("/b", "2/2")
	if got := live(); got != 2 {
		t.Errorf("%d nodes are live after one ended", got)
	}
	// One that hangs is, until its lease has ended.
	_ = nodes[1].cmd.Process.Signal(syscall.SIGSTOP)
	a := put("/c", "1/2")
	_ = nodes[1].cmd.Process.Signal(syscall.SIGCONT)
	if a.StatusCode != 202 || !strings.Contains(a.Text, `"in_force":false`) || !strings.Contains(a.Text, `"uri":"/c"`) {
		t.Errorf("got %d %s", a.StatusCode, a.Text)
	}
	put("/d", "2/2")
	if got := nodes[1].ask("GET", "/d", "").StatusCode; got != 200 {
		t.Errorf("the node that hung answers %d", got)
	}
	agree(t, nodes[:2]...)
	// A node that refuses something does not have it in force.
	raw(t, store.Endpoint(), "/apisix/routes/bad", `{"uri":5}`)
	eventually(t, "the bad item is listed", func() bool { return nodes[0].config().Rejected == 1 && nodes[1].config().Rejected == 1 })
	put("/e", "2/2")
	for _, l := range control.nodes().List {
		if l.Live && l.RejectedDiffers {
			t.Errorf("got %+v", l)
		}
	}
	// Killed and started again on its data, a node has the same id.
	id := nodes[1].config().Node
	_ = nodes[1].cmd.Process.Kill()
	<-nodes[1].exited
	again := launch(t, "gateway", strings.ReplaceAll(settings("OLD", store.Endpoint()), "OLD", nodes[1].dir))
	again.dir = nodes[1].dir
	eventually(t, "it listens again", func() bool { return strings.Contains(again.log.String(), "gosix is running") && readPorts(again) })
	if got := again.config().Node; got != id || id == "" {
		t.Errorf("got id %q, want %q", got, id)
	}
	put("/f", "2/2")
	agree(t, nodes[0], again)
}

func TestARevisionCanBeAskedFor(t *testing.T) {
	conf := strings.Replace(settings("DIR", ""), "apisix:\n", "apisix:\n  min_revision_header: true\n  id: the-one\n", 1)
	n := start(t, "gosix", conf)
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("X-Gosix-Min-Revision")))
	}))
	for i := range 20 {
		a := n.admin("PUT", "/routes/1", plainRoute(fmt.Sprintf("/%d", i), up))
		var got answer
		eventually(t, "the revision is reached", func() bool { // the node waits a second for it
			asked := time.Now()
			got = n.ask("GET", fmt.Sprintf("/%d", i), "", "X-Gosix-Min-Revision", a.Header.Get("X-Gosix-Revision"))
			return got.StatusCode != 503 || time.Since(asked) < time.Second
		})
		if got.StatusCode != 200 || got.Text != "" {
			t.Fatalf("got %d %q", got.StatusCode, got.Text)
		}
	}
	if got := n.ask("GET", "/19", "", "X-Gosix-Min-Revision", "1000000"); got.StatusCode != 503 || got.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d %v", got.StatusCode, got.Header)
	}
	if got := n.ask("GET", "/19", "", "X-Gosix-Min-Revision", "x"); got.StatusCode != 400 {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := n.config().Node; got != "the-one" {
		t.Errorf("got id %q", got)
	}
	if a := n.admin("PUT", "/plugins/reload?wait=applied&timeout=20s", ""); a.StatusCode != 200 || a.Header.Get("X-Gosix-Applied") != "1/1" {
		t.Errorf("a reload: got %d %v %s", a.StatusCode, a.Header, a.Text)
	}
}

// What a node costs that has many routes, and what one change of them costs it: the figures are
// logged, for GOSIX_ROUTES routes and GOSIX_CHANGES changes, of which one comes every
// GOSIX_PACE milliseconds. With that what the node does when nothing changes is taken off.
func TestANodeLoadsManyRoutes(t *testing.T) {
	store := etcd(t, t.TempDir(), "")
	defer store.Close()
	number := amount(t, "GOSIX_ROUTES", 2000)
	rawRoutes(t, store.Endpoint(), number, text(t, "up"))
	control := start(t, "admin", settings("DIR", store.Endpoint()))
	begin := time.Now()
	n := start(t, "gateway", settings("DIR", store.Endpoint()))
	t.Logf("%d routes are served %v after the start, for %v of a processor and %s", number, time.Since(begin), processor(n), memory(n))
	if got := n.ask("GET", fmt.Sprintf("/r/%d", number-1), "").StatusCode; got != 200 {
		t.Errorf("the last route answers %d", got)
	}
	// The file that follows a start is no part of what a change costs.
	eventually(t, "what is in force is on disk", func() bool {
		files, err := filepath.Glob(filepath.Join(n.dir, "snapshots", "*.sealed"))
		return err == nil && len(files) == 1
	})
	changes, pace := amount(t, "GOSIX_CHANGES", 50), time.Duration(amount(t, "GOSIX_PACE", 0))*time.Millisecond
	for _, how := range []struct{ query, text string }{
		{"?wait=applied&timeout=30s", "a change that is waited for"}, {"", "a change"},
	} {
		begin, before := time.Now(), processor(n)
		last := int64(0)
		for i := range changes {
			if pace > 0 {
				<-time.After(time.Until(begin.Add(time.Duration(i) * pace)))
			}
			a := control.admin("PUT", fmt.Sprintf("/routes/r%d%s", i, how.query), plainRoute(fmt.Sprintf("/changed/%d/%d", i, len(how.query)), "127.0.0.1:1"))
			if a.StatusCode != 200 || how.query != "" && a.Header.Get("X-Gosix-Applied") != "1/1" {
				t.Fatalf("got %d %q %s", a.StatusCode, a.Header.Get("X-Gosix-Applied"), a.Text)
			}
			last, _ = strconv.ParseInt(a.Header.Get("X-Gosix-Revision"), 10, 64)
		}
		eventually(t, "the last change is in force", func() bool { return n.config().Revision >= last })
		took, spent, idle := time.Since(begin), processor(n)-before, time.Duration(0)
		if pace > 0 {
			before = processor(n)
			<-time.After(took)
			idle = processor(n) - before
		}
		t.Logf("%s costs the node %v: %d in %v cost %v, no change in that time %v; then it has %s",
			how.text, (spent-idle)/time.Duration(changes), changes, took, spent, idle, memory(n))
	}
}

// memory is how much of it a process has, and had at most, as the system tells; "" where it
// does not.
func memory(n *node) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	var found []string
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(found, ", ")
}

// processor is the time that a process has had of it, 0 where the system does not tell.
func processor(n *node) time.Duration {
	var sum time.Duration
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", n.cmd.Process.Pid))
	for _, task := range tasks {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", n.cmd.Process.Pid, task.Name()))
		if fields := strings.Fields(string(raw)); len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

package t

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/porttest"
)

// text is an upstream that answers with itself.
func text(t *testing.T, s string) string {
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }))
}

func plainRoute(uri, addr string) string {
	return fmt.Sprintf(`{"uri":%q,"upstream":{"type":"roundrobin","nodes":{%q:1}}}`, uri, addr)
}

// An etcd, one admin and two gateways, each a process of its own.
func TestCluster(t *testing.T) {
	dir := t.TempDir()
	port, err := porttest.Free("127.0.0.1") // it comes back to it
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	store := etcd(t, dir, listen)
	defer func() { store.Close() }()
	control := start(t, "admin", strings.Replace(settings("DIR", store.Endpoint()), storeTimeout, "timeout: 5", 1))
	nodes := []*node{start(t, "gateway", settings("DIR", store.Endpoint())), start(t, "gateway", settings("DIR", store.Endpoint()))}
	if control.Gateway != nil || nodes[0].Admin != "" {
		t.Errorf("the control plane listens at %v, a gateway's Admin API at %q", control.Gateway, nodes[0].Admin)
	}
	up := text(t, "up")
	served := func(n *node, path string) bool { return n.ask("GET", path, "").StatusCode == 200 }

	// Once is enough: a machine that is busy may take its time.
	eventually(t, "a route is served by both within a second of its PUT", func() bool {
		begin := time.Now()
		control.must("PUT", "/routes/1", plainRoute("/one", up), nodes...)
		for i, n := range nodes {
			if !served(n, "/one") {
				t.Errorf("gateway %d does not serve the route", i)
			}
		}
		took := time.Since(begin)
		t.Logf("served by both %v after its PUT", took)
		return took < time.Second
	})
	agree(t, nodes...)
	if a, b := nodes[0].config(), nodes[1].config(); a.Revision != b.Revision {
		t.Errorf("the nodes disagree: %+v, %+v", a, b)
	}

	store.Close()
	begin := time.Now()
	a := control.admin("PUT", "/routes/2", plainRoute("/two", up))
	if a.StatusCode != 503 {
		t.Errorf("a write without etcd: %d %s", a.StatusCode, a.Text)
	}
	t.Logf("a write without etcd was refused after %v", time.Since(begin))
	for range 50 {
		for i, n := range nodes {
			if !served(n, "/one") {
				t.Fatalf("gateway %d stopped serving", i)
			}
		}
	}

	store = etcd(t, dir, listen)
	eventually(t, "the Admin API writes again", func() bool {
		return control.admin("PUT", "/routes/2", plainRoute("/two", up)).StatusCode < 300
	})
	for _, n := range nodes {
		eventually(t, "a new route arrives", func() bool { return served(n, "/two") })
	}
	agree(t, nodes...)
	if a, b := nodes[0].config(), nodes[1].config(); a.Digest != b.Digest {
		t.Errorf("the nodes disagree: %+v, %+v", a, b)
	}
}

func TestKilledAndStartedAgain(t *testing.T) {
	conf := settings("DIR", "")
	n := start(t, "gosix", conf)
	up := text(t, "up")
	n.must("PUT", "/routes/1", plainRoute("/one", up))
	_ = n.cmd.Process.Kill()
	<-n.exited
	// The data directory is the first one's: its name stands in the settings.
	again := start2(t, n)
	if again.ask("GET", "/one", "").StatusCode != 200 {
		t.Error("the route is gone")
	}
}

// start2 runs a program again on the data of one that ended.
func start2(t *testing.T, old *node) *node {
	t.Helper()
	n := launch(t, "gosix", strings.ReplaceAll(settings("OLD", ""), "OLD", old.dir))
	n.dir = old.dir
	eventually(t, "the program listens again", func() bool {
		select {
		case <-n.exited:
			t.Fatalf("it ended: %v\n%s", n.err, n.log)
		default:
		}
		return strings.Contains(n.log.String(), "gosix is running") && readPorts(n)
	})
	return n
}

func TestABadItemHarmsNobody(t *testing.T) {
	dir := t.TempDir()
	store := etcd(t, dir, "")
	defer store.Close()
	control := start(t, "admin", settings("DIR", store.Endpoint()))
	n := start(t, "gateway", settings("DIR", store.Endpoint()))
	up := text(t, "up")
	control.must("PUT", "/routes/good", plainRoute("/good", up), n)
	control.must("PUT", "/routes/bad", plainRoute("/bad", up), n)

	raw(t, store.Endpoint(), "/apisix/routes/bad", `{"uri":5}`)
	raw(t, store.Endpoint(), "/apisix/routes/new", `not json`)
	raw(t, store.Endpoint(), "/apisix/routes/closed", `{"uri":"/closed","plugins":{"of-tomorrow":{}},"upstream":{"nodes":{"`+up+`":1}}}`)
	eventually(t, "the bad items are listed", func() bool { return n.config().Rejected == 3 })
	for path, want := range map[string]int{"/good": 200, "/bad": 200, "/closed": 503} {
		if got := n.ask("GET", path, "").StatusCode; got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	list := do(t, "GET", "http://"+n.Control+"/v1/config/rejected", "").Text
	for _, want := range []string{"/apisix/routes/bad", "expected string, got number", "unknown plugin [of-tomorrow]", "/apisix/routes/new"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list of rejected items lacks %q: %s", want, list)
		}
	}
	eventually(t, "a check finds them too", func() bool { // it has its own limit for the store's answer
		check := launch(t, "gosix", settings("DIR", store.Endpoint()), "check", "--etcd")
		check.ended()
		t.Logf("check: %v\n%s", check.err, check.out)
		return check.err != nil && strings.Contains(check.out.String(), "rejected: /apisix/routes/bad")
	})
	control.must("PUT", "/routes/bad", plainRoute("/better", up), n)
	if got := n.ask("GET", "/better", "").StatusCode; got != 200 || n.config().Rejected != 2 {
		t.Errorf("after the repair: %d, %d rejected", got, n.config().Rejected)
	}
}

func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	n := gosix(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	up := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = w.Write([]byte("late"))
	}))
	n.must("PUT", "/routes/1", plainRoute("/slow", up))
	got := make(chan answer, 1)
	go func() {
		defer close(got) // the call ends this goroutine when it fails
		got <- n.ask("GET", "/slow", "")
	}()
	<-entered
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "it stops accepting", func() bool {
		res, err := http.Get(n.url("/other"))
		if err == nil {
			_ = res.Body.Close()
		}
		return err != nil
	})
	close(leave)
	if a, ok := <-got; !ok {
		t.Fatal("the request in flight got no answer")
	} else if a.StatusCode != 200 || a.Text != "late" {
		t.Errorf("the request in flight got %d %q", a.StatusCode, a.Text)
	}
	n.ended()
	if n.err != nil {
		t.Errorf("it ended with %v", n.err)
	}
	if !strings.Contains(accessLog(t, n), `"GET /slow HTTP/1.1" 200 4`) {
		t.Errorf("the access log was not flushed: %s", accessLog(t, n))
	}
}

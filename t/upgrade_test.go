package t

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// balancer is what stands in front of gateways: it passes connections on, in turn, to those
// that said they are ready when it asked last, and refused nothing since. It leaves no node
// for being slow, so that a busy machine takes none away.
type balancer struct {
	net.Listener
	running sync.WaitGroup
	stop    chan struct{}

	mu    sync.Mutex
	nodes map[*node]string // why it is not ready; "": it is
	order []*node
	next  int
	conns map[net.Conn]bool
	none  []string // for each time that the last one ready was so no more, why none is
}

// checks is how often it asks.
const checks = 500 * time.Millisecond

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{Listener: l, stop: make(chan struct{}), nodes: map[*node]string{}, conns: map[net.Conn]bool{}}
	b.running.Go(func() {
		for {
			conn, err := b.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.carry(conn) })
		}
	})
	b.running.Go(b.check)
	t.Cleanup(func() {
		close(b.stop)
		_ = b.Close()
		b.mu.Lock()
		for c := range b.conns {
			_ = c.Close()
		}
		b.mu.Unlock()
		b.running.Wait()
	})
	return b
}

// add makes a node known; it gets clients once it is found ready.
func (b *balancer) add(n *node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[n] = "it was not asked yet"
	b.order = append(b.order, n)
}

func (b *balancer) ready(n *node) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes[n] == ""
}

// found takes note of what a node said, and of a moment in which none is ready: a client that
// comes then waits for the next check, and sees nothing of it.
func (b *balancer) found(n *node, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.nodes[n]
	b.nodes[n] = why
	if was != "" || why == "" {
		return
	}
	var all []string
	for _, n := range b.order {
		if b.nodes[n] == "" {
			return
		}
		all = append(all, n.Status+": "+b.nodes[n])
	}
	b.none = append(b.none, strings.Join(all, "; "))
}

func (b *balancer) check() {
	client := &http.Client{Timeout: checks, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(checks)
	defer tick.Stop()
	for {
		b.mu.Lock()
		nodes := append([]*node(nil), b.order...)
		b.mu.Unlock()
		for _, n := range nodes {
			res, err := client.Get("http://" + n.Status + "/status/ready")
			if os.IsTimeout(err) {
				continue
			}
			why := ""
			if err != nil {
				why = err.Error()
			} else if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
				why = res.Status
			}
			b.found(n, why)
		}
		select {
		case <-tick.C:
		case <-b.stop:
			return
		}
	}
}

// pick returns the next node that is ready. It waits for one; nil: the balancer ends.
func (b *balancer) pick() *node {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if n := b.nextReady(); n != nil {
			return n
		}
		select {
		case <-tick.C:
		case <-b.stop:
			return nil
		}
	}
}

func (b *balancer) nextReady() *node {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.order {
		n := b.order[b.next%len(b.order)]
		b.next++
		if b.nodes[n] == "" {
			return n
		}
	}
	return nil
}

func (b *balancer) keep(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = true
}

// carry passes a connection on. A node that refuses it has had no byte of it, so that
// another may get it.
func (b *balancer) carry(client net.Conn) {
	b.keep(client)
	defer func() { _ = client.Close() }()
	for n := b.pick(); n != nil; n = b.pick() {
		select {
		case <-b.stop:
			return
		default:
		}
		server, err := net.DialTimeout("tcp", n.Gateway[0], checks)
		if os.IsTimeout(err) {
			continue
		}
		if err != nil {
			b.found(n, err.Error())
			continue
		}
		b.keep(server)
		defer func() { _ = server.Close() }()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(client, server)
		_ = client.Close()
		<-done
		return
	}
}

// Three gateways behind a balancer are replaced one after another, and back, while clients
// send: nothing fails. What is stored changes meanwhile, with a field that one version alone
// would not need to know.
func TestARollingUpgradeBreaksNothing(t *testing.T) {
	s := sizes()
	c := newCluster(t)
	b := newBalancer(t)
	versions := []string{"", "  server_header: of-tomorrow\n"}
	const lame = 2
	begin := func(version int) *node {
		n := c.gateway(lame, versions[version%2])
		b.add(n)
		eventually(t, "the balancer has found the node", func() bool { return b.ready(n) })
		return n
	}
	nodes := []*node{begin(0), begin(0), begin(0)}
	crowd := newCrowd(t, b.Addr().String(), lame, s.pause)
	for range s.posts {
		crowd.clients.Go(func() { crowd.keepAlive(shortChat) })
	}
	for range s.h2 {
		crowd.clients.Go(crowd.http2)
	}
	for range s.streams / 4 {
		crowd.clients.Go(func() { crowd.keepAlive(longChat) })
	}
	eventually(t, "every client has had something", func() bool { return crowd.begun.Load() == int64(s.posts+s.h2+s.streams/4) })

	turns := 1
	if s.rounds > 3 {
		turns = 2 // there and back
	}
	replaced := 0
	var ended []*node
	for version := 1; version <= turns; version++ {
		for i, old := range nodes {
			_ = old.cmd.Process.Signal(syscall.SIGTERM)
			c.control.must("PATCH", "/routes/short", `{"labels":{"by":"`+strings.Repeat("x", replaced+1)+`"}}`)
			old.ended()
			if old.err != nil {
				t.Errorf("a node ended with %v", old.err)
			}
			ended = append(ended, old)
			nodes[i] = begin(version)
			replaced++
		}
	}
	before := crowd.answered.Load()
	eventually(t, "the new ones are at work", func() bool { return crowd.answered.Load() > before+100 })
	close(crowd.over)
	crowd.clients.Wait()
	// One of three is replaced at a time, and the others have nothing to say no for.
	b.mu.Lock()
	none := b.none
	b.mu.Unlock()
	if len(none) > 0 {
		t.Errorf("no node was ready, %d times, at first since %s", len(none), none[0])
	}

	digests := map[string]bool{}
	c.control.must("PATCH", "/routes/short", `{"desc":"seen by all"}`, nodes...)
	for _, n := range nodes {
		digests[n.config().Digest] = true
		if server := n.ask("GET", "/none", "").Header.Get("Server"); (server == "of-tomorrow") != (turns%2 == 1) {
			t.Errorf("a node calls itself %s", server)
		}
		if list := n.config().Rejected; list != 0 {
			t.Errorf("a node rejects %d items", list)
		}
	}
	if len(digests) != 1 {
		t.Errorf("the nodes disagree: %v", digests)
	}
	var logged int64
	for _, n := range nodes {
		n.stop(syscall.SIGTERM)
	}
	for _, n := range append(ended, nodes...) {
		logged += int64(strings.Count(accessLog(t, n), `" 200 `))
	}
	if got := crowd.answered.Load(); logged != got {
		t.Errorf("the access logs have %d answers, the clients have %d", logged, got)
	}
	crowd.report(fmt.Sprintf("rolling upgrade, %d nodes replaced", replaced))
}

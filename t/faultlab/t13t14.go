package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ending is T13: a node is told to end while all kinds of clients use it.
func ending(ctx context.Context, r *Run) error {
	if !r.has("lame_duck") {
		return notBuilt("a node ends without a lame duck: there is no setting apisix.lame_duck")
	}
	rounds, posts, multi, streams, duck := 2, 60, 15, 60, 2
	if r.Long {
		rounds, posts, multi, streams, duck = 20, 200, 50, 200, 5
	}
	const limit = 30
	w, err := r.NewWorld(ctx, Shape{
		Etcds: 1, Gateways: 1, Admins: 1, NoLoad: true, AccessLog: true,
		Settings: fmt.Sprintf("lame_duck: %d\ndrain_timeout: %d\n", duck, limit),
	})
	if err != nil {
		return err
	}
	if err := w.Put(ctx, "/routes/long", fmt.Sprintf(`{"uri":"/long","plugins":{"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer none"}},`+
		`"override":{"endpoint":"http://%s/v1/chat/completions?words=60&gap_ms=50"}}}}`, w.Upstream)); err != nil {
		return err
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	g := w.Gateways[0]
	var broken, codes, unlogged []string
	var slowest time.Duration
	requests, late := 0, int64(0)
	for round := range rounds {
		log := filepath.Join(g.dir, "access.log")
		_ = os.Truncate(log, 0)
		c := newCrowd(g.Gateway, time.Duration(duck)*time.Second/2)
		c.start(posts, multi, streams)
		if err := pause(ctx, r.between(2, 4)); err != nil {
			return err
		}
		c.leaving.Store(true)
		at := time.Now()
		g.Process.Signal(syscall.SIGTERM)
		select {
		case <-g.Process.exited:
		case <-time.After(time.Duration(duck+limit+10) * time.Second):
			g.Process.Kill()
		case <-ctx.Done():
			return ctx.Err()
		}
		slowest = max(slowest, time.Since(at))
		c.stop()
		late += c.late.Load()
		records, answered := c.records, 0
		for i := range records {
			requests++
			if records[i].Failed() {
				broken = append(broken, records[i].String())
			}
			if records[i].Status != 0 {
				answered++
			}
		}
		if code := g.Process.ExitCode(); code != 0 {
			codes = append(codes, fmt.Sprintf("round %d: %d", round, code))
		}
		raw, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if n := bytes.Count(raw, []byte("\n")); n != answered {
			unlogged = append(unlogged, fmt.Sprintf("round %d: %d answers, %d lines", round, answered, n))
		}
		if err := g.Start(); err != nil {
			return err
		}
		if err := g.Listens(ctx, settling); err != nil {
			return err
		}
	}
	r.None(fmt.Sprintf("broken requests of %d clients that POST, %d over HTTP/2, %d streams, at %d ends", posts, multi, streams, rounds), broken, requests)
	if late > 0 {
		r.Note("requests that met the end of a silent connection", fmt.Sprint(late))
	}
	r.AtMost("slowest end", slowest, time.Duration(duck+limit+2)*time.Second)
	r.None("exit codes other than 0", codes, rounds)
	r.None("ends after which the access log lacks a request", unlogged, rounds)
	w.Finish(ctx)
	return nil
}

// crowd is a number of clients, each with a connection of its own.
type crowd struct {
	addr    string
	leaving atomic.Bool   // the node was told to end: that nobody listens any more is no fault
	silence time.Duration // a node that ends closes a connection over which nothing came for so long
	late    atomic.Int64  // requests that met the end of such a connection, which no server can help
	done    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	records []Record
}

func newCrowd(addr string, silence time.Duration) *crowd {
	return &crowd{addr: addr, silence: silence, done: make(chan struct{})}
}

func (c *crowd) start(posts, multi, streams int) {
	for i := range posts {
		c.running.Go(func() { c.client(i, newClient(), kindPost, time.Duration(20+i%150)*time.Millisecond) })
	}
	for i := range multi {
		client := newClient()
		t := client.Transport.(*http.Transport)
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
		c.running.Go(func() { c.client(i, client, kindMulti, time.Duration(20+i%150)*time.Millisecond) })
	}
	for i := range streams {
		c.running.Go(func() { c.client(i, newClient(), kindStream, 0) })
	}
}

// kind is what a client of a crowd does.
type kind int

const (
	kindPost   kind = iota // over HTTP/1.1
	kindMulti              // over HTTP/2
	kindStream             // of events
)

// client sends one request after the other until nobody takes them any more.
func (c *crowd) client(n int, client *http.Client, does kind, think time.Duration) {
	defer client.CloseIdleConnections()
	for i := 0; ; i++ {
		r := Record{ID: uint64(n)<<32 | uint64(i), At: time.Now(), Node: c.addr, Stream: does == kindStream}
		if does == kindStream {
			send(client, &r, "http://"+c.addr+"/long", fmt.Sprintf(chatBody, i))
		} else {
			send(client, &r, "http://"+c.addr+"/plain", fmt.Sprint(n, "-", i))
		}
		r.Latency = time.Since(r.At)
		if c.leaving.Load() && r.Status == 0 && r.refused {
			return // as a balancer it would have gone elsewhere: nothing was sent
		}
		if does == kindMulti && r.Status == 0 && r.unsent && c.leaving.Load() {
			// A GOAWAY came after net/http had chosen the connection and before it opened a
			// stream. It takes another one by itself then, but for requests that it may not
			// send twice: those it does not send even once.
			continue
		}
		if c.leaving.Load() && r.silent >= c.silence {
			c.late.Add(1)
		} else {
			c.mu.Lock()
			c.records = append(c.records, r)
			c.mu.Unlock()
		}
		select {
		case <-c.done:
			return
		case <-time.After(think):
		}
	}
}

func (c *crowd) stop() {
	close(c.done)
	c.running.Wait()
}

// upgrade is T14: three nodes behind a balancer are replaced one after the other.
func upgrade(ctx context.Context, r *Run) error {
	if !r.has("lame_duck") {
		return notBuilt("a node ends without a lame duck: there is no setting apisix.lame_duck")
	}
	rounds := 1
	if r.Long {
		rounds = 3
	}
	const duck = 2
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1, NoLoad: true, Settings: fmt.Sprintf("lame_duck: %d\n", duck)})
	if err != nil {
		return err
	}
	b, err := r.NewBalancer(w.Gateways)
	if err != nil {
		return err
	}
	if _, err := within(ctx, settling, "the balancer has nodes", func() bool { return len(b.healthy()) == 3 }); err != nil {
		return err
	}
	load := NewLoad(Target{"balancer", b.Addr})
	load.silence = duck * time.Second / 2
	load.Start(r.Rate, uint64(r.Unit.Seed))
	r.Later(func() { load.Stop() })
	for round := range 2 * rounds {
		for _, g := range w.Gateways {
			// What is written by one version is read by the other.
			path := fmt.Sprintf("/up-%d-%s", round, g.Name)
			if err := w.Put(ctx, "/routes"+path, w.route(path, "")); err != nil {
				return err
			}
			load.ends.Add(1)
			g.Process.Signal(syscall.SIGTERM)
			select {
			case <-g.Process.exited:
			case <-time.After(60 * time.Second):
				return fmt.Errorf("%s does not end", g.Name)
			case <-ctx.Done():
				return ctx.Err()
			}
			load.ends.Add(1)
			if err := g.configure("max_post_args_readable_size: 64\n", "max_post_args_readable_size: 32\n"); err != nil {
				return err
			}
			if err := g.Start(); err != nil {
				return err
			}
			if err := g.Listens(ctx, settling); err != nil {
				return err
			}
			if _, err := within(ctx, settling, "the balancer takes "+g.Name, func() bool { return slices.Contains(b.healthy(), g) }); err != nil {
				return err
			}
		}
	}
	r.Note("nodes replaced under load", fmt.Sprint(6*rounds))
	var rejected []string
	for _, g := range w.Gateways {
		rejected = append(rejected, w.rejections(ctx, g)...)
	}
	r.None("items that a node rejects", rejected, len(w.Gateways))
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
	w.FinishWith(ctx, load)
	return nil
}

// configure toggles a setting under apisix, for the next start.
func (n *Node) configure(one, other string) error {
	file := filepath.Join(n.dir, "conf.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	with, without := "apisix:\n  "+one, "apisix:\n  "+other
	switch {
	case bytes.Contains(raw, []byte(with)):
		raw = bytes.Replace(raw, []byte(with), []byte(without), 1)
	case bytes.Contains(raw, []byte(without)):
		raw = bytes.Replace(raw, []byte(without), []byte(with), 1)
	default:
		raw = bytes.Replace(raw, []byte("apisix:\n"), []byte(without), 1)
	}
	return os.WriteFile(file, raw, 0o600)
}

// Balancer passes connections on to nodes that say that they are ready, which it asks every
// half second. It knows nothing of HTTP.
type Balancer struct {
	Addr  string
	nodes []*Node
	next  atomic.Int64
	well  []atomic.Bool // of the nodes
}

// NewBalancer starts one, which ends with the scenario.
func (r *Run) NewBalancer(nodes []*Node) (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{Addr: l.Addr().String(), nodes: nodes, well: make([]atomic.Bool, len(nodes))}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, n := range nodes {
		running.Go(func() { // a node that is slow to say how it is keeps none of the others
			for {
				b.well[i].Store(ready(n.Status))
				if pause(ctx, 500*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(ctx, conn)
		}
	})
	r.Later(func() {
		cancel()
		_ = l.Close()
		running.Wait()
	})
	return b, nil
}

func (b *Balancer) healthy() (nodes []*Node) {
	for i, n := range b.nodes {
		if b.well[i].Load() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// pass takes the next node that listens.
func (b *Balancer) pass(ctx context.Context, in net.Conn) {
	defer func() { _ = in.Close() }()
	var out net.Conn
	err := errors.New("no node is ready")
	first := int(b.next.Add(1))
	for i := range len(b.nodes) {
		well := b.healthy()
		if len(well) == 0 {
			return
		}
		n := well[(first+i)%len(well)]
		if out, err = net.DialTimeout("tcp", n.Gateway, time.Second); err == nil {
			break
		}
	}
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	defer stop()
	var both sync.WaitGroup
	// What one side ends, the other is told to end, with what is under way passed on first.
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { one(out, in) })
	both.Go(func() { one(in, out) })
	both.Wait()
}

package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// tunnel connects client and server after a switch of protocols, until either side ends or
// no byte came from either for the time of idle, as with nginx's proxy_read_timeout. The
// upgraded connection is never used again.
func (g *Gateway) tunnel(c *plugin.Context, res *upstream.Response, idle time.Duration) {
	upgrade := res.Header.Get("Upgrade")
	c.Response.Header.Set("Connection", "Upgrade")
	c.Response.Header.Set("Upgrade", upgrade)
	c.BeforeHead()
	client, rw, err := c.Response.Hijack()
	if err != nil {
		answer(c, http.StatusInternalServerError, err)
		return
	}
	defer func() { _ = client.Close() }()
	server, early := res.Conn()
	defer func() { _ = server.Close() }()
	alive := pulse{client: client, server: server, idle: idle}
	alive.beat()

	head := []byte("HTTP/1.1 101 Switching Protocols\r\n")
	for _, f := range c.Response.Header.Fields() {
		head = append(append(append(append(head, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	if _, err := client.Write(append(append(head, "\r\n"...), early...)); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Bytes that the engine had read ahead come first.
		_, _ = io.Copy(server, pulsing{rw, alive})
		// The other direction ends when its reads fail; there is nothing to wait for
		// on a connection whose client is gone.
		_ = server.Close()
	}()
	n, _ := io.Copy(client, pulsing{server, alive})
	c.Response.Sent = n
	_ = client.Close()
	<-done
}

// pulse ends a tunnel in which nothing moves: a byte from either side gives both another
// while, for reading and for writing.
type pulse struct {
	client, server net.Conn
	idle           time.Duration // 0: no limit
}

func (p pulse) beat() {
	if p.idle <= 0 {
		return
	}
	at := time.Now().Add(p.idle)
	_ = p.client.SetDeadline(at)
	_ = p.server.SetDeadline(at)
}

// pulsing is one side of a tunnel.
type pulsing struct {
	from io.Reader
	pulse
}

func (p pulsing) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if n > 0 {
		p.beat()
	}
	return n, err
}

// tunnels are the connections of clients that an engine gave away and whose requests still
// run. net/http knows them no more, and would not wait for them. The zero value is ready.
type tunnels struct {
	mu    sync.Mutex
	count int // with those that are about to be given away
	open  map[net.Conn]bool
	cut   bool          // what is given away from now on is closed
	left  chan struct{} // tells that count fell; nil until somebody waits
}

// expect announces a tunnel, so that no wait ends between giving a connection away and
// knowing it.
func (t *tunnels) expect() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
}

// add makes a connection known.
func (t *tunnels) add(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[net.Conn]bool{}
	}
	t.open[c] = true
	if t.cut {
		_ = c.Close()
	}
}

// done ends what expect announced; c is nil if no connection came of it.
func (t *tunnels) done(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	delete(t.open, c)
	if t.left != nil {
		close(t.left)
		t.left = nil
	}
}

// number is how many tunnels there are.
func (t *tunnels) number() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.count)
}

// wait returns when no tunnel is left, or with the error of ctx.
func (t *tunnels) wait(ctx context.Context) error {
	for {
		t.mu.Lock()
		if t.count == 0 {
			t.mu.Unlock()
			return nil
		}
		if t.left == nil {
			t.left = make(chan struct{})
		}
		left := t.left
		t.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// close cuts every tunnel.
func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cut = true
	for c := range t.open {
		_ = c.Close()
	}
}

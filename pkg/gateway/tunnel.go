package gateway

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
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
	if _, err := client.Write(append(head, "\r\n"...)); err != nil {
		return
	}
	out := &farewell{Conn: client, silent: !exchange.EqualName(upgrade, "websocket")}
	if _, err := out.Write(early); err != nil {
		return
	}
	ctx := c.Context() // what waits for its end may outlive the exchange
	defer context.AfterFunc(ctx, func() {
		if exchange.Ending(ctx) {
			out.say()
			_ = client.Close()
		}
	})()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Bytes that the engine had read ahead come first.
		_, _ = io.Copy(server, pulsing{rw, alive})
		// The other direction ends when its reads fail; there is nothing to wait for
		// on a connection whose client is gone.
		_ = server.Close()
	}()
	n, _ := io.Copy(out, pulsing{server, alive})
	c.Response.Sent = n
	_ = client.Close()
	<-done
}

// goingAway is the frame with which a server that ends closes a WebSocket (RFC 6455 §7.4.1).
var goingAway = []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}

// farewell is the way to a client, on which goingAway can be said between two frames.
type farewell struct {
	net.Conn
	silent bool // another protocol than WebSocket: nothing is known of it

	mu   sync.Mutex
	head [14]byte // of the frame that is being written
	got  int      // bytes in head; 0 between frames and while there is something left
	left uint64   // bytes of the frame's payload to come
}

// Write implements net.Conn.
func (f *farewell) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.Conn.Write(p)
	if !f.silent {
		f.follow(p[:n])
	}
	return n, err
}

func (f *farewell) follow(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.got] = p[0]
		f.got++
		p = p[1:]
		if size, payload := frameHead(&f.head, f.got); f.got == size {
			f.left, f.got = payload, 0
		}
	}
}

// frameHead returns the size of the head of a WebSocket frame of which got bytes are there,
// 0 while it is not known, and when all of it is there the size of the payload.
func frameHead(head *[14]byte, got int) (size int, payload uint64) {
	if got < 2 {
		return 0, 0
	}
	size = 2
	switch n := head[1] & 0x7f; n {
	case 126:
		size, payload = 4, uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size, payload = 10, binary.BigEndian.Uint64(head[2:])
	default:
		payload = uint64(n)
	}
	if head[1]&0x80 != 0 {
		size += 4 // a mask, which servers do not send
	}
	return size, payload
}

// say says goingAway where a frame has ended; inside one there is no way to say it. The write
// that is under way may end a frame; a client that does not read is not waited for longer than
// it would be for this frame.
func (f *farewell) say() {
	if f.silent {
		return
	}
	// A deadline would not do: what comes from either side gives both another while.
	late := time.AfterFunc(lingerTime/2, func() { _ = f.Conn.Close() })
	defer late.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.got == 0 && f.left == 0 {
		_, _ = f.Conn.Write(goingAway)
	}
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

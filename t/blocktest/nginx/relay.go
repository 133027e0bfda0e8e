package nginx

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// gateways are the connections that the requests of one client take: one for each address,
// kept as long as the gateway keeps it, so that it sees as many connections as there are
// clients.
type gateways struct {
	front  *Front
	client *connection
	to     map[string]*gatewayConn
	wait   sync.WaitGroup

	active atomic.Pointer[gatewayConn] // whose answer the client waits for
	over   atomic.Bool                 // the client was told that no more answers come
}

// close ends what is left.
func (g *gateways) close() {
	for _, up := range g.to {
		_ = up.conn.Close()
	}
	g.wait.Wait()
}

// serveOne has the client's next request answered, here or by the gateway. It says whether
// another may follow.
func (g *gateways) serveOne() bool {
	f, c := g.front, g.client
	target, ok := peekTarget(c.in)
	cfg := f.host.Config()
	switch {
	case ok && cfg.Front.Declares(target):
		e := &endpoint{config: cfg, listen: &listen{}, servers: []*Server{cfg.Front}}
		return c.serveOne(f.ctx, func() *endpoint { return e })
	case g.over.Load(), !ok && (c.requests > 0 || len(g.to) > 0) && c.in.Buffered() == 0:
		return false // the gateway has closed, or the client is done
	}
	head, whole := peekHead(c.in)
	h := readHead(head)
	if !ok || !whole || h.odd {
		// Where this ends is the gateway's to say.
		if c.out.Flush() == nil {
			f.pass(&bufferedConn{Conn: c.Conn, in: c.in}, target)
		}
		return false
	}
	if c.out.Flush() != nil {
		return false
	}
	up, err := g.connection(target)
	if err != nil {
		reset(c.Conn)
		return false
	}
	g.active.Store(up)
	defer g.active.Store(nil)
	return up.exchange(len(head), h) && !g.over.Load()
}

// connection returns the connection for a target, a new one if there is none yet.
func (g *gateways) connection(target string) (*gatewayConn, error) {
	path, _, _ := strings.Cut(target, "?")
	addr, local := g.front.relay(path, g.client.RemoteAddr())
	if up := g.to[addr]; up != nil {
		select {
		case <-up.gone: // while another answered
			_ = up.conn.Close()
		default:
			return up, nil
		}
	}
	conn, err := g.front.dialAddr(addr, local)
	if err != nil {
		return nil, err
	}
	up := &gatewayConn{
		all: g, conn: conn, in: bufio.NewReaderSize(conn, headLimit), client: g.client,
		asked: make(chan headFields, 1), answered: make(chan outcome, 1), gone: make(chan struct{}),
	}
	if g.to == nil {
		g.to = map[string]*gatewayConn{}
	}
	g.to[addr] = up
	stop := context.AfterFunc(g.front.ctx, func() { _ = conn.Close() })
	g.wait.Go(func() {
		defer stop()
		defer close(up.gone)
		for up.answerOne() {
		}
	})
	return up, nil
}

// A gatewayConn carries requests to the gateway, one after another. Its goroutine carries
// the answers.
type gatewayConn struct {
	all      *gateways
	conn     net.Conn
	in       *bufio.Reader
	client   *connection
	asked    chan headFields // of the request whose answer is to come
	answered chan outcome
	gone     chan struct{} // closed when there will be no more answers
}

// An outcome is how an answer ended.
type outcome int

const (
	another  outcome = iota // the connection serves on
	last                    // the gateway ends it
	upgraded                // it is no HTTP any more
	broken                  // the client's connection is closed already
)

// exchange passes on a request whose head, of n bytes, is read ahead, and waits for the end
// of its answer.
func (up *gatewayConn) exchange(n int, h headFields) bool {
	c := up.client
	up.asked <- h
	p, _ := c.in.Peek(n)
	_, err := up.conn.Write(p)
	_, _ = c.in.Discard(n)
	body := h.requestBody()
	if err == nil {
		err = copyFramed(up.conn, c.in, &body)
	}
	var gateway *writeError
	switch {
	case err == nil, errors.As(err, &gateway): // it may have answered before it read everything
	case errors.Is(err, io.ErrUnexpectedEOF):
		_ = closeWrite(up.conn)
	case errors.Is(err, errFraming):
		// The gateway reads the same and refuses it.
		_, _ = io.Copy(up.conn, c.in)
		_ = closeWrite(up.conn)
	default:
		reset(up.conn)
	}
	switch up.await() {
	case another:
		return body.done() && err == nil // false also when the client has ended its half
	case upgraded:
		if _, err := io.Copy(up.conn, c.in); err != nil {
			reset(up.conn)
		} else {
			_ = closeWrite(up.conn)
		}
		<-up.gone
	}
	return false
}

// await waits for the end of the answer, and meanwhile for the end of the client.
func (up *gatewayConn) await() (end outcome) {
	c := up.client
	over := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			n := c.in.Buffered()
			if n == c.in.Size() {
				return
			}
			_, err := c.in.Peek(n + 1)
			select {
			case <-over:
				return
			default:
			}
			switch {
			case err == nil: // the next request; it waits
			case errors.Is(err, io.EOF):
				if n == 0 { // else more requests are to go there
					_ = closeWrite(up.conn)
				}
				return
			case errors.Is(err, os.ErrDeadlineExceeded):
				return
			default:
				reset(up.conn)
				return
			}
		}
	}()
	select {
	case end = <-up.answered:
	case <-up.gone:
		select {
		case end = <-up.answered:
		default:
			end = broken
		}
	}
	close(over)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	<-watched
	_ = c.SetReadDeadline(time.Time{})
	return end
}

// answerOne waits for an answer and passes it on. false: it was the last.
func (up *gatewayConn) answerOne() bool {
	if _, err := up.in.Peek(1); err != nil {
		up.ended(err)
		return false
	}
	var h headFields
	select {
	case h = <-up.asked:
	default:
		// It says what nobody asked for, as a server does before it closes.
		_, err := io.Copy(up.client.Conn, up.in)
		up.ended(err)
		return false
	}
	end, err := up.answer(h)
	if err != nil {
		up.ended(err)
		return false
	}
	up.answered <- end
	switch end {
	case last:
		up.wake() // the client may still owe a body that nobody wants
		return false
	case upgraded:
		if _, err := io.Copy(up.client.Conn, up.in); err != nil {
			up.ended(err)
		} else {
			_ = closeWrite(up.client.Conn)
		}
		return false
	}
	return true
}

// wake has whoever reads from the client stop.
func (up *gatewayConn) wake() {
	up.all.over.Store(true)
	_ = up.client.SetReadDeadline(time.Unix(1, 0))
}

// answer passes on one answer, with those of status 1xx before it.
func (up *gatewayConn) answer(asked headFields) (outcome, error) {
	method, _, _ := strings.Cut(asked.line, " ")
	for {
		head, whole := peekHead(up.in)
		h := readHead(head)
		status := h.status()
		if !whole || status == 0 || h.odd {
			_, err := io.Copy(up.client.Conn, up.in)
			return last, err
		}
		if _, err := up.client.Conn.Write(head); err != nil {
			return broken, err
		}
		_, _ = up.in.Discard(len(head))
		switch {
		case status == 101, method == "CONNECT" && status < 300:
			return upgraded, nil
		case status < 200:
			continue
		}
		body, more := h.answerBody(method)
		if err := copyFramed(up.client.Conn, up.in, &body); err != nil {
			return broken, err
		}
		if !more {
			return last, nil
		}
		return another, nil
	}
}

// ended passes the gateway's end on to the client: a reset as a reset.
func (up *gatewayConn) ended(err error) {
	if active := up.all.active.Load(); active != nil && active != up {
		return // this one was not in use
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		reset(up.conn)
		reset(up.client.Conn)
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		_ = closeWrite(up.client.Conn)
		up.wake()
	default:
		_ = up.client.Conn.Close()
	}
}

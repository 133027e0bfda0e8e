package nginx

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A Relay says where a request goes that is not the suite's. path is the request's, "" for a
// connection that does not speak HTTP/1; client is who sent it, nil for a subrequest. local is
// the address to come from; nil lets the system choose.
type Relay func(path string, client net.Addr) (addr string, local net.Addr)

// A Front is the listener that a suite's requests come to. A request for a location that
// the suite's server declares (Config.Front) is answered here; every other one is passed to
// the gateway byte for byte, and so is its answer. What is not HTTP/1 takes its connection
// along: all that follows is the gateway's.
type Front struct {
	net.Listener
	host  *Host
	relay Relay

	ctx         context.Context
	cancel      context.CancelFunc
	connections tracker
}

// NewFront listens on addr, a port or "unix:" and a path. Without a host nothing is answered here: connections are
// relayed as they are, TLS too.
func NewFront(addr string, host *Host, relay Relay) (*Front, error) {
	network, where := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, where = "unix", path
	}
	ln, err := net.Listen(network, where)
	if err != nil {
		return nil, &ListenError{Directive: "front", Addr: addr, Err: err}
	}
	f := &Front{Listener: ln, host: host, relay: relay}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if host != nil {
		host.gateway.Store(&relay)
	}
	f.connections.wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.connections.run(c, func() { f.serve(c) })
		}
	})
	return f, nil
}

// Close ends the listener and all connections, and waits for them.
func (f *Front) Close() error {
	err := f.Listener.Close()
	f.cancel()
	f.connections.close()
	return err
}

func (f *Front) serve(raw net.Conn) {
	if f.host == nil {
		f.pass(raw, "")
		return
	}
	c := newConnection(f.host, raw)
	g := &gateways{front: f, client: c}
	defer g.close()
	for g.serveOne() {
	}
	if !c.hijacked.Load() {
		c.close()
	}
}

// peekTarget reads the next request's target and leaves it unread. false: there is none,
// or what comes is not HTTP/1.
func peekTarget(in *bufio.Reader) (string, bool) {
	for {
		p, _ := in.Peek(in.Buffered())
		if line, _, ok := strings.Cut(strings.TrimLeft(string(p), "\r\n"), "\n"); ok {
			return targetOf(strings.TrimSuffix(line, "\r"))
		}
		if len(p) >= headLimit || len(p) > 0 && p[0] == recordHandshake {
			return "", false
		}
		// One byte more than is there waits for the client.
		if _, err := in.Peek(len(p) + 1); err != nil {
			return "", false
		}
	}
}

func targetOf(line string) (string, bool) {
	x := &lua.Exchange{}
	if err := parseRequestLine(x, line); err != nil || line == strings.TrimRight(preface[:16], "\r\n") {
		return "", false
	}
	return x.Target, true
}

// dial opens a connection to where a request goes.
func (f *Front) dial(target string, client net.Addr) (net.Conn, error) {
	path, _, _ := strings.Cut(target, "?")
	addr, local := f.relay(path, client)
	return f.dialAddr(addr, local)
}

func (f *Front) dialAddr(addr string, local net.Addr) (net.Conn, error) {
	d := net.Dialer{LocalAddr: local}
	up, err := d.DialContext(f.ctx, "tcp", addr)
	if err != nil && f.host != nil {
		f.host.log("error", "front: "+err.Error())
	}
	return up, err
}

// pass relays the rest of a connection.
func (f *Front) pass(c net.Conn, target string) {
	up, err := f.dial(target, c.RemoteAddr())
	if err != nil {
		reset(c)
		return
	}
	stop := context.AfterFunc(f.ctx, func() { _ = up.Close() })
	defer stop()
	splice(c, up)
}

// splice copies both ways until both have ended. An end of one half is passed on as such,
// a reset as a reset.
func splice(a, b net.Conn) {
	var wait sync.WaitGroup
	one := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		switch {
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			reset(a)
			reset(b)
		case err != nil:
			_ = a.Close()
			_ = b.Close()
		default:
			_ = closeWrite(to)
		}
	}
	wait.Go(func() { one(b, a) })
	one(a, b)
	wait.Wait()
	_ = a.Close()
	_ = b.Close()
}

// reset closes a connection so that the peer sees a reset.
func reset(c net.Conn) {
	for {
		switch inner := c.(type) {
		case *bufferedConn:
			c = inner.Conn
			continue
		case *tls.Conn: // whose own Close says goodbye
			c = inner.NetConn()
			continue
		case *net.TCPConn:
			_ = inner.SetLinger(0)
		}
		_ = c.Close()
		return
	}
}

// relayed asks the gateway for a subrequest whose location the suite does not declare.
func (r *request) relayed() error {
	addr, _ := (*r.runtime.gateway.Load())(r.URI, nil)
	r.loc = r.server.scope
	t := proxyTarget{scheme: "http", host: addr, uri: "", hasURI: false}
	if err := r.forward(t, withArgs(escapePath(r.URI), r.Args)); err != nil {
		return err
	}
	return errAnswered
}

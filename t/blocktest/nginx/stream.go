package nginx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A streamServer is one server block of stream: a script that answers, or an address that
// connections are passed on to.
type streamServer struct {
	line    int
	listens []*listen
	tls     *tlsSettings
	content *script
	target  string
	group   *upstreamGroup
	wait    timeouts
}

func (s *streamServer) ssl() *tlsSettings {
	if s.tls == nil {
		s.tls = (&Server{}).ssl()
	}
	return s.tls
}

// streamPort is where Test::Nginx has the server of stream_server_config.
const streamPort = "1985"

// stream loads the inside of a stream block, and one more server of it if it is not nil.
func (l *loader) stream(list, server []*Directive) error {
	s := &scope{loader: l, in: inStream}
	if server != nil {
		s.later = append(s.later, func() error {
			own := &Directive{Name: "listen", Args: []string{streamPort}, Line: 1}
			return s.loadStreamServer(append([]*Directive{own}, server...), 1)
		})
	}
	return s.load(list)
}

func (s *scope) loadStreamServer(list []*Directive, line int) error {
	server := &streamServer{line: line, wait: timeouts{60 * time.Second, 10 * time.Minute}}
	child := &scope{loader: s.loader, in: inStreamServer, stream: server}
	if err := child.load(list); err != nil {
		return err
	}
	if server.tls != nil {
		config, err := server.tls.build()
		if err != nil {
			return &ConfigError{Directive: "ssl_certificate", Line: line, What: err.Error()}
		}
		server.tls.config = config
	}
	for _, l := range server.listens {
		if l.ssl && server.tls == nil {
			return &ConfigError{Directive: l.directive, Line: line, What: `no "ssl_certificate" is defined`}
		}
	}
	server.group = s.config.upstreams[server.target]
	s.config.streams = append(s.config.streams, server)
	return nil
}

func (s *streamServer) serve(ctx context.Context, cfg *Config, c *connection) {
	if s.content != nil {
		s.script(ctx, c)
		return
	}
	if s.target == "" {
		return
	}
	addrs := proxyTarget{host: s.target, group: s.group}.addrs()
	for _, addr := range addrs {
		d := net.Dialer{Timeout: s.wait.connect}
		up, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			c.host.log("error", fmt.Sprintf("*%d connect() failed (%v) while connecting to upstream, client: %s, upstream: %q",
				c.id, err, addrText(c.remote.Addr()), addr))
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = up.Close() })
		splice(&bufferedConn{Conn: c.Conn, in: c.in}, up)
		stop()
		return
	}
}

// script runs content_by_lua, whose output is the connection itself.
func (s *streamServer) script(ctx context.Context, c *connection) {
	if c.host.Scripts == nil {
		c.host.report(&lua.UnsupportedError{What: s.content.name})
		return
	}
	x := &lua.Exchange{
		Scheme: "stream", Proto: "TCP", Remote: c.remote, Local: c.local, TLS: c.tls, Connection: c.id, Requests: 1,
		Vars: map[string]string{}, Out: streamWriter{c}, Sent: true, Status: 200,
		Body:  func() ([]byte, error) { return nil, nil },
		Conn:  func() (net.Conn, error) { return &bufferedConn{Conn: c.Conn, in: c.in}, c.out.Flush() },
		Abort: func() { reset(c.Conn) },
	}
	if c.tls != nil {
		x.ServerName = c.tls.ServerName
	}
	err := c.host.Scripts.Run(ctx, lua.Content, s.content.name, s.content.chunk, x, nil)
	var exit *lua.ExitError
	if err != nil && !errors.As(err, &exit) && !interrupted(err) && !c.host.report(err) {
		c.host.log("error", fmt.Sprintf("*%d stream lua entry thread aborted: runtime error: %v, client: %s, server: %s",
			c.id, err, addrText(c.remote.Addr()), c.LocalAddr()))
	}
	c.close()
}

// A streamWriter writes to a connection without any framing.
type streamWriter struct{ c *connection }

func (w streamWriter) Write(p []byte) (int, error) {
	n, err := w.c.out.Write(p)
	return n, errors.Join(err, w.c.out.Flush())
}

func (w streamWriter) Flush() error { return w.c.out.Flush() }

func (w streamWriter) EOF() error { return errors.Join(w.c.out.Flush(), closeWrite(w.c.Conn)) }

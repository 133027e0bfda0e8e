package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/variable"
)

// TLS is how an engine speaks it on one listener.
type TLS struct {
	HTTP2    bool   // for clients that choose it
	Fallback string // the name of clients that say none; empty: they are refused
}

// ServeTLS is Serve for clients that speak TLS. A handshake takes its certificate from the
// snapshot in force then, by the name that the client asks for; it has the time that a head
// has. Connections keep what they began with.
func (e *Std) ServeTLS(l net.Listener, o TLS) error { return e.Serve(l, e.greeting(o)) }

// greeting is what every handshake begins with.
func (e *Std) greeting(o TLS) *tls.Config {
	o.Fallback = serverName(o.Fallback)
	return &tls.Config{
		MinVersion:         tls.VersionTLS12, // that in force is the one of the certificate
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return e.greeted(hello, o), nil },
	}
}

// nobody has no certificate, which crypto/tls tells the client by the alert for unknown
// names. With an error it would be told that something is wrong here.
var nobody = &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}

// greeted chooses what a client is shown and notes it with the connection.
func (e *Std) greeted(hello *tls.ClientHelloInfo, o TLS) *tls.Config {
	name := serverName(hello.ServerName)
	if name == "" {
		name = o.Fallback
	}
	s := e.gateway.o.Router.Snapshot().Certificate(name)
	c, ok := hello.Context().Value(connKey{}).(*connection)
	if s == nil || !ok {
		e.strangers.refuse(e.log, name)
		return nobody
	}
	c.server, c.name = s, name
	return s.Config(hello.SupportedVersions, o.HTTP2)
}

// serverName is a name as snapshots know it.
func serverName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// strangers are clients that asked for a name without a certificate. There may be any number
// of them, so that the log has one line a minute.
type strangers struct{ number, next atomic.Int64 }

func (s *strangers) refuse(log zerolog.Logger, name string) {
	s.number.Add(1)
	now, next := time.Now().UnixNano(), s.next.Load()
	if now < next || !s.next.CompareAndSwap(next, now+int64(time.Minute)) {
		return
	}
	said := "failed to match any SSL certificate by SNI" // the reference's words, as the other
	if name == "" {
		said = "failed to find SNI: please check if the client requests via IP or uses an outdated protocol"
	}
	log.Warn().Str("sni", name).Int64("refused", s.number.Swap(0)).Msg(said)
}

// verdict is what became of a client's certificate with those who ask for it.
type verdict struct {
	asking *certificate.Client
	err    error
}

// verify says why the client of a connection has not shown what c asks for.
func (n *connection) verify(c *certificate.Client, s *tls.ConnectionState) error {
	if own := n.server.Client; own != nil && !own.Lenient() && own.Asks(c) {
		return nil // or there would be no connection
	}
	if v := n.verdict.Load(); v != nil && v.asking.Asks(c) {
		return v.err
	}
	err := c.Verify(s.PeerCertificates)
	if err != nil && len(s.PeerCertificates) > 0 {
		err = failedError{err}
	}
	n.verdict.Store(&verdict{c, err})
	return err
}

// clientVerify is the variable $ssl_client_verify.
func (n *connection) clientVerify(s *tls.ConnectionState) string {
	if n.server == nil || n.server.Client == nil {
		return "NONE"
	}
	if err := n.verify(n.server.Client, s); err != nil {
		if failed, ok := err.(failedError); ok {
			return "FAILED:" + failed.error.Error()
		}
		return "NONE"
	}
	return "SUCCESS"
}

// failedError is a certificate that was shown and does not do.
type failedError struct{ error }

func (e failedError) Error() string {
	return "client certificate verification is not passed: FAILED:" + e.error.Error()
}

func (e failedError) Unwrap() error { return e.error }

// checkClient says why a request may not pass for what its client did not show: to the name
// of the connection, or to the host that it asks for on it. The reference's rules, but that
// a connection from before a change is judged by what is in force now.
func (g *Gateway) checkClient(c *plugin.Context, snap *route.Snapshot) error {
	r := &c.Request
	n, ok := c.Context().Value(connKey{}).(*connection)
	if !ok || n.server == nil {
		return fmt.Errorf("the connection has no certificate") // never of an engine of ours
	}
	if own := n.server.Client; own != nil && own.Lenient() && !own.Open(r.Path) {
		if err := n.verify(own, r.TLS); err != nil {
			return err
		}
	}
	host := variable.Host(r.Host)
	asking := snap.Asking(host)
	if asking == nil {
		return nil
	}
	if n.name != host {
		return fmt.Errorf("client certificate verified with SNI %s, but the host is %s", n.name, host)
	}
	if asking.Open(r.Path) {
		return nil
	}
	return n.verify(asking, r.TLS)
}

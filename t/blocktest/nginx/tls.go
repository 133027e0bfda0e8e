package nginx

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gosix/gosix/pkg/tlsname"
	"github.com/gosix/gosix/t/blocktest/lua"
)

func tlsRules() map[string]rule {
	return map[string]rule{
		"ssl_certificate":        {inServer | inStreamServer, 1, 1, statement, loadCertificate},
		"ssl_certificate_key":    {inServer | inStreamServer, 1, 1, statement, loadCertificateKey},
		"ssl_verify_client":      {inServer, 1, 1, statement, loadVerifyClient},
		"ssl_client_certificate": {inServer, 1, 1, statement, loadClientCA},
		"ssl_protocols":          {inServer | inStreamServer, 1, -1, statement, loadProtocols},
	}
}

// ssl returns the server's settings, made on the first call.
func (s *Server) ssl() *tlsSettings {
	if s.tls == nil {
		s.tls = &tlsSettings{minVersion: tls.VersionTLS12, maxVersion: tls.VersionTLS13}
	}
	return s.tls
}

func (s *scope) ssl() *tlsSettings {
	if s.stream != nil {
		return s.stream.ssl()
	}
	return s.server.ssl()
}

func loadCertificate(s *scope, d *Directive) error {
	t := s.ssl()
	t.pairs = append(t.pairs, [2]string{s.options.path(d.Args[0])})
	return nil
}

// loadCertificateKey gives a key to the first certificate that has none.
func loadCertificateKey(s *scope, d *Directive) error {
	t := s.ssl()
	for i := range t.pairs {
		if t.pairs[i][1] == "" {
			t.pairs[i][1] = s.options.path(d.Args[0])
			return nil
		}
	}
	return d.unsupported("before its ssl_certificate")
}

func loadVerifyClient(s *scope, d *Directive) error {
	kinds := map[string]tls.ClientAuthType{
		"off": tls.NoClientCert, "on": tls.VerifyClientCertIfGiven, "optional": tls.VerifyClientCertIfGiven,
		"optional_no_ca": tls.RequestClientCert,
	}
	kind, ok := kinds[d.Args[0]]
	if !ok {
		return d.refuse("invalid value %q", d.Args[0])
	}
	t := s.server.ssl()
	t.verify, t.required = kind, d.Args[0] == "on"
	return nil
}

func loadClientCA(s *scope, d *Directive) error {
	s.server.ssl().clientCA = s.options.path(d.Args[0])
	return nil
}

func loadProtocols(s *scope, d *Directive) error {
	t := s.ssl()
	t.minVersion, t.maxVersion = tls.VersionTLS13, 0
	for _, a := range d.Args {
		v, ok := tlsname.Version(a)
		if !ok {
			return d.unsupported(a)
		}
		t.minVersion, t.maxVersion = min(t.minVersion, v), max(t.maxVersion, v)
	}
	return nil
}

// finishTLS reads the files that the server names.
func (s *Server) finishTLS(line int) error {
	if s.tls == nil {
		return nil
	}
	config, err := s.tls.build()
	if err != nil {
		return &ConfigError{Directive: "ssl_certificate", Line: line, What: err.Error()}
	}
	s.tls.config = config
	return nil
}

func (t *tlsSettings) build() (*tls.Config, error) {
	c := &tls.Config{MinVersion: t.minVersion, MaxVersion: t.maxVersion, ClientAuth: t.verify}
	for _, p := range t.pairs {
		if p[1] == "" {
			return nil, fmt.Errorf("no ssl_certificate_key for %s", p[0])
		}
		pair, err := tls.LoadX509KeyPair(p[0], p[1])
		if err != nil {
			return nil, err
		}
		c.Certificates = append(c.Certificates, pair)
	}
	if t.clientCA != "" {
		text, err := os.ReadFile(t.clientCA)
		if err != nil {
			return nil, err
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate", t.clientCA)
		}
	}
	return c, nil
}

// handshakeTimeout is nginx's client_header_timeout, which bounds handshakes too.
const handshakeTimeout = 60 * time.Second

// handshake makes the connection a TLS one. false: it is over.
func (c *connection) handshake(ctx context.Context, e *endpoint) bool {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	first, err := c.in.Peek(1)
	if err != nil {
		return false
	}
	if first[0] != recordHandshake {
		if e.stream == nil {
			c.plainOnTLS(ctx, e)
		}
		return false
	}
	t := tls.Server(&bufferedConn{Conn: c.Conn, in: c.in}, c.tlsConfig(ctx, e))
	if err := t.HandshakeContext(ctx); err != nil {
		c.host.log("info", fmt.Sprintf("*%d SSL_do_handshake() failed: %v while SSL handshaking, client: %s, server: %s",
			c.id, err, addrText(c.remote.Addr()), c.Conn.LocalAddr()))
		return false
	}
	_ = c.SetDeadline(time.Time{})
	state := t.ConnectionState()
	c.tls, c.Conn = &state, t
	// New ones: the TLS connection reads from the old.
	c.in, c.out = bufio.NewReaderSize(t, headLimit), bufio.NewWriterSize(t, 16<<10)
	return true
}

// recordHandshake is the first byte of a TLS client.
const recordHandshake = 0x16

// tlsConfig chooses the server by the client's name.
func (c *connection) tlsConfig(ctx context.Context, e *endpoint) *tls.Config {
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if e.stream != nil {
			return e.stream.tls.config, nil
		}
		s := pick(e.servers, e.listen.key(), hello.ServerName)
		if s.tls == nil || s.tls.config == nil {
			return nil, errors.New(`no "ssl_certificate" is defined in server`)
		}
		if s.tls.script != nil {
			if err := c.certificateScript(ctx, e, s, hello.ServerName); err != nil {
				return nil, err
			}
		}
		config := s.tls.config.Clone()
		config.NextProtos = []string{"http/1.1"}
		if e.http2() {
			config.NextProtos = []string{"h2", "http/1.1"}
		}
		return config, nil
	}}
}

func (c *connection) certificateScript(ctx context.Context, e *endpoint, s *Server, name string) error {
	x := &lua.Exchange{ServerName: name, Remote: c.remote, Local: c.local, Connection: c.id, Scheme: "https"}
	x.TLS = &tls.ConnectionState{ServerName: name} // what is known of it so far
	r := newRequest(ctx, c, e.config, s, x, &discardWire{})
	err := r.run(lua.SSLCert, s.tls.script, nil)
	var exit *lua.ExitError
	if errors.As(err, &exit) && exit.Status == 0 {
		return nil
	}
	return err
}

// plainOnTLS answers a client that speaks HTTP where TLS is spoken.
func (c *connection) plainOnTLS(ctx context.Context, e *endpoint) {
	x, body, err := c.readRequest()
	var bad *badRequest
	if err != nil && !errors.As(err, &bad) {
		return
	}
	w := &http1Wire{c: c}
	r := newRequest(ctx, c, e.config, pick(e.servers, e.listen.key(), ""), x, w)
	w.r, r.body, r.keepAlive = r, body, false
	what := "The plain HTTP request was sent to HTTPS port"
	r.Status = 400
	r.OutHeader = []lua.Field{{Name: "Content-Type", Value: "text/html"}}
	_ = r.whole([]byte(htmlPage("400 "+what, "400 Bad Request", "<center>"+what+"</center>\r\n")))
	c.close()
}

// verifyClient is the check of ssl_verify_client after the handshake, which nginx answers
// with a page and not with an alert.
func (r *request) verifyClient() (page string) {
	t := r.server.tls
	if r.TLS == nil || t == nil || !t.required || len(r.TLS.VerifiedChains) > 0 {
		return ""
	}
	what := "No required SSL certificate was sent"
	return htmlPage("400 "+what, "400 Bad Request", "<center>"+what+"</center>\r\n")
}

func tlsCipherName(t *tls.ConnectionState) string {
	if t.Version == 0 {
		return ""
	}
	return tlsname.OfSuite(t.CipherSuite)
}

func tlsReused(t *tls.ConnectionState) string {
	switch {
	case t.Version == 0:
		return ""
	case t.DidResume:
		return "r"
	}
	return "."
}

func tlsVerified(t *tls.ConnectionState) string {
	switch {
	case t.Version == 0:
		return ""
	case len(t.PeerCertificates) == 0:
		return "NONE"
	case len(t.VerifiedChains) == 0:
		return "FAILED"
	}
	return "SUCCESS"
}

func peerCert(t *tls.ConnectionState) *x509.Certificate {
	if len(t.PeerCertificates) == 0 {
		return &x509.Certificate{}
	}
	return t.PeerCertificates[0]
}

func tlsSubject(t *tls.ConnectionState) string { return peerCert(t).Subject.String() }

func tlsIssuer(t *tls.ConnectionState) string { return peerCert(t).Issuer.String() }

func tlsSerial(t *tls.ConnectionState) string {
	if n := peerCert(t).SerialNumber; n != nil {
		return fmt.Sprintf("%X", n)
	}
	return ""
}

func tlsClientCert(t *tls.ConnectionState) string {
	raw := peerCert(t).Raw
	if raw == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

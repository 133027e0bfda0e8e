package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
)

// ErrNoCertificate is a client that showed no certificate where one is asked for.
var ErrNoCertificate = errors.New("client certificate was not present") // the reference's words

// Client is what clients of a server have to show. It is immutable and safe for concurrent
// use.
type Client struct {
	roots *x509.CertPool
	depth int
	skip  []func(string) (bool, error)
	key   string // of the authorities and the depth
}

func compileClient(c *resource.SSLClient) (*Client, error) {
	if schema.IsReference(c.CA) {
		return nil, errors.New("client.ca: a reference that is not resolved")
	}
	out := &Client{
		roots: parse(c.CA), depth: c.Depth,
		key: fmt.Sprintf("%d %x", c.Depth, sha256.Sum256([]byte(c.CA))),
	}
	for i, source := range c.SkipMTLSURIRegex {
		match, err := expr.CompilePattern(source, false)
		if err != nil {
			return nil, fmt.Errorf("client.skip_mtls_uri_regex[%d]: %w", i, err)
		}
		out.skip = append(out.skip, match)
	}
	return out, nil
}

// ask makes a handshake ask for a certificate. Where some paths need none, it is the
// request that is refused, not the handshake.
func (c *Client) ask(config *tls.Config) {
	config.ClientCAs = c.roots
	if c.Lenient() {
		config.ClientAuth = tls.RequestClientCert
		return
	}
	// Verified here and not by crypto/tls, which has no limit of depth and believes sessions
	// that are resumed.
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(s tls.ConnectionState) error { return c.Verify(s.PeerCertificates) }
}

// Lenient tells whether some paths are open to clients without a certificate, so that a
// handshake shows nothing about the client.
func (c *Client) Lenient() bool { return len(c.skip) > 0 }

// Open tells whether a path needs no certificate. path is decoded and cleaned. A pattern
// that takes too long opens nothing.
func (c *Client) Open(path string) bool {
	for _, match := range c.skip {
		if ok, err := match(path); ok && err == nil {
			return true
		}
	}
	return false
}

// Asks tells whether c asks for the same authorities and depth as other does.
func (c *Client) Asks(other *Client) bool { return other != nil && c.key == other.key }

// Verify says why the certificates that a client showed, its own first, do not do.
func (c *Client) Verify(shown []*x509.Certificate) error {
	if len(shown) == 0 {
		return ErrNoCertificate
	}
	between := x509.NewCertPool()
	for _, cert := range shown[1:] {
		between.AddCert(cert)
	}
	chains, err := shown[0].Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	for _, chain := range chains {
		// The depth counts neither the client's own certificate nor the authority.
		if len(chain)-2 <= c.depth {
			return nil
		}
	}
	return fmt.Errorf("certificate chain too long: more than %d between the client and its authority", c.depth)
}

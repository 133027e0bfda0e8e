package resource

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/schema"
)

// The texts of the reference's library, for whatever it cannot read. What stands behind the
// first certificate it does not look at.
var (
	errNoCert = errors.New("PEM_read_bio_X509_AUX() failed")
	errNoKey  = errors.New("PEM_read_bio_PrivateKey() failed")
)

// ErrSealed is a key that is neither PEM nor was opened before the document came here. The
// reference takes such a text for one that it encrypted before.
var ErrSealed = errors.New("failed to decrypt previous encrypted key")

// SSL is a decoded certificate with its keys, immutable. Certificates and keys are PEM or
// a reference; keys must have been decrypted before decoding.
type SSL struct {
	ID          string
	Type        string // server or client
	Labels      map[string]string
	SNIs        []string // of sni or snis, in lower case, without a dot at the end
	Cert, Key   string
	Certs, Keys []string   // further pairs
	Client      *SSLClient // nil: clients need no certificate
	Status      int        // 1: in force, 0: switched off
	Protocols   []string   // none: the node's default
}

// SSLClient is what a client must show.
type SSLClient struct {
	CA               string // PEM or a reference
	Depth            int
	SkipMTLSURIRegex []string
}

// DecodeSSL checks and decodes a stored certificate.
func DecodeSSL(itemID string, p []byte) (*SSL, error) {
	d, err := load("ssls", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	s := &SSL{
		ID: itemID, Type: text(m["type"]), Labels: labels(m["labels"]),
		SNIs: serverNames(oneOrMany(m, "sni", "snis")),
		Cert: text(m["cert"]), Key: text(m["key"]), Certs: texts(m["certs"]), Keys: texts(m["keys"]),
		Status: integer(m["status"]), Protocols: texts(m["ssl_protocols"]),
	}
	if client := object(m["client"]); len(client) > 0 {
		s.Client = &SSLClient{
			CA: text(client["ca"]), Depth: integer(client["depth"]), SkipMTLSURIRegex: texts(client["skip_mtls_uri_regex"]),
		}
	}
	return s, nil
}

// serverNames are names as clients say them.
func serverNames(names []string) []string {
	names = lowered(names)
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".")
	}
	return names
}

func checkSSL(doc any) error {
	m := object(doc)
	if err := checkPair(text(m["cert"]), text(m["key"])); err != nil {
		return err
	}
	if text(m["type"]) == "client" {
		return nil // it is shown to upstreams, and only the one pair is
	}
	certs, keys := texts(m["certs"]), texts(m["keys"])
	if len(certs) != len(keys) {
		return errors.New("mismatched number of certs and keys")
	}
	for i := range certs {
		if err := checkPair(certs[i], keys[i]); err != nil {
			return fmt.Errorf("failed to handle cert-key pair[%d]: %w", i+1, err)
		}
	}
	if client := object(m["client"]); len(client) > 0 && !schema.IsReference(text(client["ca"])) {
		if _, err := parseCert(text(client["ca"])); err != nil {
			return fmt.Errorf("failed to validate client_cert: %w", err)
		}
	}
	for i, source := range texts(object(m["client"])["skip_mtls_uri_regex"]) {
		if _, err := expr.CompilePattern(source, false); err != nil {
			return fmt.Errorf("client.skip_mtls_uri_regex[%d]: invalid regular expression %q: %w", i, source, err)
		}
	}
	return nil
}

// checkPair judges a certificate and its key. References are judged when they are used.
func checkPair(cert, key string) error {
	var leaf *x509.Certificate
	if !schema.IsReference(cert) {
		var err error
		if leaf, err = parseCert(cert); err != nil {
			return err
		}
	}
	if schema.IsReference(key) {
		return nil
	}
	private, err := parseKey(key)
	switch {
	case errors.Is(err, errNoKey) && !strings.HasPrefix(key, "---"):
		return ErrSealed
	case err != nil:
		return fmt.Errorf("failed to parse key: %w", err)
	}
	if leaf == nil {
		return nil
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return errors.New("the key does not belong to the certificate")
	}
	return nil
}

// parseCert returns the first certificate of a chain, all of which must be one.
func parseCert(text string) (first *x509.Certificate, err error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil && first == nil {
			err = errNoCert
		}
		if err != nil {
			return nil, fmt.Errorf("failed to parse cert: %w", err)
		}
		if first == nil {
			first = cert
		}
	}
	if first == nil {
		return nil, fmt.Errorf("failed to parse cert: %w", errNoCert)
	}
	return first, nil
}

func parseKey(text string) (crypto.Signer, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errNoKey
		}
		// The parameters of a curve may stand before the key.
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		return parseDER(block.Bytes)
	}
}

func parseDER(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errNoKey
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// Package certtest makes certificates for tests. It does not know who shows them.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Pair returns a certificate that signs itself, for an hour, and its key, both in PEM. It is
// for servers and clients. names are DNS names and addresses; the first is the subject's.
func Pair(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	return pair(t, elliptic256(t), names)
}

// PairRSA is Pair with a key of RSA; that of Pair is one of ECDSA.
func PairRSA(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, private, names)
}

func pair(t testing.TB, private crypto.Signer, names []string) (cert, key []byte) {
	t.Helper()
	template := described(names)
	template.IsCA, template.BasicConstraintsValid = true, true
	return signed(t, template, template, private, private), keyPEM(t, private)
}

// Authority signs the certificates of others, for an hour.
type Authority struct {
	Cert  []byte // its own, in PEM
	Chain []byte // the authorities between it and the one that signs itself, in PEM, it first
	own   *x509.Certificate
	key   crypto.Signer
}

// NewAuthority returns one that signs itself.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{own: described([]string{name}), key: elliptic256(t)}
	a.own.IsCA, a.own.BasicConstraintsValid, a.own.ExtKeyUsage = true, true, nil
	a.Cert = signed(t, a.own, a.own, a.key, a.key)
	return a
}

// Authority returns one that a signs.
func (a *Authority) Authority(t testing.TB, name string) *Authority {
	t.Helper()
	below := &Authority{own: described([]string{name}), key: elliptic256(t)}
	below.own.IsCA, below.own.BasicConstraintsValid, below.own.ExtKeyUsage = true, true, nil
	below.Cert = signed(t, below.own, a.own, below.key, a.key)
	below.Chain = append(append([]byte{}, below.Cert...), a.Chain...)
	return below
}

// Pair returns a certificate as the function Pair does, signed by a and followed by the
// authorities between.
func (a *Authority) Pair(t testing.TB, names ...string) (cert, key []byte) {
	t.Helper()
	private := elliptic256(t)
	return append(signed(t, described(names), a.own, private, a.key), a.Chain...), keyPEM(t, private)
}

var serials atomic.Int64

func described(names []string) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

func signed(t testing.TB, template, parent *x509.Certificate, own, by crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func elliptic256(t testing.TB) crypto.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func keyPEM(t testing.TB, private crypto.Signer) []byte {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// Files is Pair in two files, which go with the test.
func Files(t testing.TB, names ...string) (cert, key string) {
	t.Helper()
	certPEM, keyPEM := Pair(t, names...)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

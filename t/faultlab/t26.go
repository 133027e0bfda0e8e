package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

// rotation is T26's part of certificates: they are replaced again and again under load.
func rotation(ctx context.Context, r *Run) error {
	rounds := 30
	if r.Long {
		rounds = 500
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1, NoLoad: true, TLS: true})
	if err != nil {
		return err
	}
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	const exact, wild = "one.lab.example", "*.lab.example"
	// rotate stores a new certificate and waits until it is in force everywhere.
	rotate := func(id, name string) (serial *big.Int, applied bool, err error) {
		doc, serial, err := ca.sign(name)
		if err != nil {
			return nil, false, err
		}
		a := w.Write(ctx, "/ssls/"+id+"?wait=applied&timeout=30s", doc)
		if a.Err != nil || a.Status/100 != 2 {
			return nil, false, fmt.Errorf("PUT /ssls/%s: %d %s: %w", id, a.Status, a.Body, a.Err)
		}
		return serial, a.Applied == "3/3", nil
	}
	for id, name := range map[string]string{"exact": exact, "wild": wild} {
		if _, _, err := rotate(id, name); err != nil {
			return err
		}
	}
	// One driver whose connections live long, over HTTP/2 as it is offered, and one that shakes
	// hands for every request.
	targets := w.targets()
	for i, g := range w.Gateways {
		targets[i] = Target{g.Name, "https://" + g.TLS}
	}
	steady, fresh := NewLoad(targets...), NewLoad(targets...)
	for i, l := range []*Load{steady, fresh} {
		t := l.client.Transport.(*http.Transport)
		t.TLSClientConfig = &tls.Config{RootCAs: ca.pool, ServerName: []string{exact, "two.lab.example"}[i]}
		t.ForceAttemptHTTP2 = l == steady
		t.DisableKeepAlives = l == fresh
		l.Start([]int{r.Rate * 2 / 3, r.Rate / 3}[i], uint64(r.Unit.Seed))
		r.Later(func() { l.Stop() })
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	var old, unapplied []string
	shown := 0
	for round := range rounds {
		id, stored, asked := "exact", exact, exact
		if round%2 == 1 {
			id, stored, asked = "wild", wild, "two.lab.example"
		}
		serial, applied, err := rotate(id, stored)
		if err != nil {
			return err
		}
		if !applied {
			unapplied = append(unapplied, fmt.Sprintf("round %d", round))
		}
		for _, g := range w.Gateways {
			got, err := shownBy(ctx, g.TLS, &tls.Config{RootCAs: ca.pool, ServerName: asked})
			if err != nil {
				return fmt.Errorf("round %d: %s: %w", round, g.Name, err)
			}
			if shown++; got.Cmp(serial) != 0 {
				old = append(old, fmt.Sprintf("round %d: %s shows %x for %s, want %x", round, g.Name, got, asked, serial))
			}
		}
		if err := pause(ctx, time.Duration(r.Rand.IntN(200))*time.Millisecond); err != nil {
			return err
		}
	}
	r.None(fmt.Sprintf("handshakes after %d rotations that show another certificate than the new one", rounds), old, shown)
	r.None("rotations that are not in force on 3 nodes when they are answered", unapplied, rounds)
	records := fresh.Stop()
	f := figures(records, time.Time{}, time.Now().Add(time.Hour))
	r.None("failed requests, each on a connection of its own", f.Failed, f.Requests)
	w.FinishWith(ctx, steady)
	return nil
}

// shownBy shakes hands and returns the serial number of the certificate that was shown.
func shownBy(ctx context.Context, addr string, config *tls.Config) (*big.Int, error) {
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: settling}, Config: config}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// authority signs certificates that only the lab believes.
type authority struct {
	pool   *x509.CertPool
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fault lab"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{pool: x509.NewCertPool(), key: key, serial: 1}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.pool.AddCert(a.cert)
	return a, nil
}

// sign makes a certificate for a name with a key of its own, as it is stored.
func (a *authority) sign(name string) (doc string, serial *big.Int, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return "", nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, err
	}
	raw, err := json.Marshal(map[string]any{
		"snis": []string{name},
		"cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
	})
	return string(raw), template.SerialNumber, err
}

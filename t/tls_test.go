package t

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/certtest"
)

// ssl is a stored certificate for names that an authority signs; extra are members that it
// has besides, or instead.
func ssl(t *testing.T, by *certtest.Authority, extra map[string]any, names ...string) string {
	t.Helper()
	cert, key := by.Pair(t, names...)
	m := map[string]any{"cert": string(cert), "key": string(key), "snis": names}
	for name, v := range extra {
		m[name] = v
	}
	doc, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// shake makes a connection to the node as a client that believes an authority, and returns
// what was agreed on.
func (n *node) shake(config *tls.Config, by *certtest.Authority) (tls.ConnectionState, error) {
	n.t.Helper()
	config.RootCAs = x509.NewCertPool()
	config.RootCAs.AppendCertsFromPEM(by.Cert)
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: config}).Dial("tcp", n.GatewayTLS[0])
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// The tickets of TLS 1.3 come behind the handshake.
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", config.ServerName); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = conn.Read(make([]byte, 1))
	return conn.(*tls.Conn).ConnectionState(), err
}

// The whole way: a key that is encrypted in etcd, two nodes, and a rotation.
func TestTLS(t *testing.T) {
	store := etcd(t, t.TempDir(), "")
	defer store.Close()
	const keyring = "apisix:\n  data_encryption: {keyring: [a-keyring-of-32-letters-00000001]}\n"
	conf := strings.Replace(settings("DIR", store.Endpoint()), "apisix:\n", keyring, 1)
	with := func(ssl string) string { return strings.Replace(conf, "ssl: {", "ssl: {"+ssl+", ", 1) }
	control := start(t, "admin", conf)
	nodes := []*node{
		start(t, "gateway", with("ssl_session_tickets: true, fallback_sni: a.test")),
		start(t, "gateway", with("ssl_protocols: TLSv1.2, ssl_ciphers: ECDHE-ECDSA-AES256-GCM-SHA384, ssl_session_tickets: true")),
	}
	ca := certtest.NewAuthority(t, "authority")
	control.must("PUT", "/routes/1", plainRoute("/*", text(t, "up")), nodes...)
	doc := ssl(t, ca, nil, "a.test", "127.0.0.1")
	control.must("PUT", "/ssls/1", doc, nodes...)
	if all := list(t, store.Endpoint()); strings.Contains(all, "PRIVATE KEY") || !strings.Contains(all, "/ssls/1 ") {
		t.Error("the key is not encrypted in etcd")
	}

	cache := tls.NewLRUClientSessionCache(4)
	config := &tls.Config{ServerName: "a.test", ClientSessionCache: cache}
	if s, err := nodes[0].shake(config, ca); err != nil || s.Version != tls.VersionTLS13 || s.DidResume {
		t.Errorf("got %v, %s, resumed %v", err, tls.VersionName(s.Version), s.DidResume)
	}
	if s, err := nodes[0].shake(config, ca); err != nil || !s.DidResume {
		t.Errorf("got %v, resumed %v", err, s.DidResume)
	}
	if s, err := nodes[1].shake(&tls.Config{ServerName: "a.test"}, ca); err != nil || s.Version != tls.VersionTLS12 || s.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
		t.Errorf("got %v, %s, %s, want what the settings say", err, tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
	}
	// A name that is an address is not asked for.
	if _, err := nodes[0].shake(&tls.Config{ServerName: "127.0.0.1"}, ca); err != nil {
		t.Errorf("a client without a name, where the settings have one: %v", err)
	}
	if _, err := nodes[1].shake(&tls.Config{ServerName: "127.0.0.1"}, ca); err == nil {
		t.Error("a client without a name, where the settings have none, is let in")
	}

	last := ""
	for range 3 {
		control.must("PUT", "/ssls/1", ssl(t, ca, nil, "a.test", "127.0.0.1"), nodes...)
		for i, n := range nodes {
			s, err := n.shake(&tls.Config{ServerName: "a.test"}, ca)
			if err != nil {
				t.Fatal(err)
			}
			serial := s.PeerCertificates[0].SerialNumber.String()
			if i == 0 && serial == last || i > 0 && serial != last {
				t.Errorf("node %d shows a certificate that was replaced", i)
			}
			last = serial
		}
	}
	if s, err := nodes[0].shake(config, ca); err != nil || s.DidResume {
		t.Errorf("got %v, and a session of a certificate that was replaced is resumed: %v", err, s.DidResume)
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "a.test"}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("https://" + nodes[0].GatewayTLS[0] + "/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("got %d %s", res.StatusCode, res.Proto)
	}
	control.must("DELETE", "/ssls/1", "", nodes...)
	for i, n := range nodes {
		if _, err := n.shake(&tls.Config{ServerName: "a.test"}, ca); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("node %d, once the certificate is gone: got %v", i, err)
		}
	}
}

// What the Admin API accepts the nodes show, and what it refuses they refuse in its words,
// should it come to the store past it.
func TestCertificatesAreJudgedOnce(t *testing.T) {
	n := gosix(t)
	ca := certtest.NewAuthority(t, "authority")
	other, otherKey := ca.Pair(t, "other.test")
	junk := strings.Repeat("w", 200)
	for name, extra := range map[string]map[string]any{
		"one pair":                   nil,
		"two pairs":                  {"certs": []string{string(other)}, "keys": []string{string(otherKey)}},
		"clients have to show one":   {"client": map[string]any{"ca": string(ca.Cert)}},
		"versions with a gap":        {"ssl_protocols": []string{"TLSv1.1", "TLSv1.3"}},
		"open paths":                 {"client": map[string]any{"ca": string(ca.Cert), "skip_mtls_uri_regex": []string{"(?<!x)y"}}},
		"a certificate that is none": {"cert": junk},
		"a key that is none":         {"key": junk},
		"a key of another":           {"key": string(otherKey)},
		"a pair without a key":       {"certs": []string{string(other)}},
		"a second key of another":    {"certs": []string{string(ca.Cert)}, "keys": []string{string(otherKey)}},
		"an authority that is none":  {"client": map[string]any{"ca": junk}},
		"a pattern that is none":     {"client": map[string]any{"ca": string(ca.Cert), "skip_mtls_uri_regex": []string{"("}}},
		"a version that is none":     {"ssl_protocols": []string{"SSLv3"}},
	} {
		doc := ssl(t, ca, extra, "a.test")
		a := n.admin("PUT", "/ssls/1", doc)
		var refusal struct {
			Message string `json:"error_msg"`
		}
		if a.StatusCode == 400 {
			if err := json.Unmarshal([]byte(a.Text), &refusal); err != nil {
				t.Fatal(err)
			}
		}
		revision := raw(t, "http://"+n.Etcd, "/apisix/ssls/2", doc)
		eventually(t, "the node has judged it", func() bool { return n.config().Revision >= revision })
		var rejected []struct{ Key, Reason string }
		if err := json.Unmarshal([]byte(do(t, "GET", "http://"+n.Control+"/v1/config/rejected", "").Text), &rejected); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.StatusCode < 300 && len(rejected) > 0:
			t.Errorf("%s: the Admin API accepts it, the node says %+v", name, rejected)
		case a.StatusCode >= 300 && (len(rejected) != 1 || rejected[0].Reason != refusal.Message):
			t.Errorf("%s: the Admin API says %s, the node %+v", name, a.Text, rejected)
		}
	}
}

// Whom a server's certificate has to be signed by is a setting.
func TestTrustedAuthorities(t *testing.T) {
	cert, key := certtest.Files(t, "up.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up")) }))
	up.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.StartTLS()
	t.Cleanup(up.Close)
	route := fmt.Sprintf(`{"uri":"/*","upstream":{"scheme":"https","type":"roundrobin","pass_host":"rewrite","upstream_host":"up.test","tls":{"verify":true},"nodes":{%q:1}}}`,
		strings.TrimPrefix(up.URL, "https://"))
	for setting, want := range map[string]int{"": 502, "ssl_trusted_certificate: " + cert + ", ": 200} {
		n := start(t, "gosix", strings.Replace(settings("DIR", ""), "ssl: {", "ssl: {"+setting, 1))
		n.must("PUT", "/routes/1", route)
		if a := n.ask("GET", "/", ""); a.StatusCode != want {
			t.Errorf("%q: got %d, want %d", setting, a.StatusCode, want)
		}
	}
}

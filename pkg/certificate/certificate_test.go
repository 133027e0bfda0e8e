package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/pkg/resource"
)

// stored returns an item as it is stored, decoded.
func stored(t *testing.T, members map[string]any) *resource.SSL {
	t.Helper()
	for name, v := range members {
		if p, ok := v.([]byte); ok {
			members[name] = string(p)
		}
	}
	doc, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	s, err := resource.DecodeSSL("1", doc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compiled(t *testing.T, members map[string]any, set Settings) *Server {
	t.Helper()
	s, err := Compile(stored(t, members), set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake makes a connection between two configurations and returns what each side saw of it.
func shake(t *testing.T, s *Server, client *tls.Config) (ours, theirs tls.ConnectionState, ourErr, theirErr error) {
	t.Helper()
	a, b := connected(t)
	deadline := time.Now().Add(20 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	server := tls.Server(a, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return s.Config(hello.SupportedVersions, true), nil
	}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if ourErr = server.Handshake(); ourErr == nil {
			_, ourErr = server.Write([]byte("x")) // behind the tickets of TLS 1.3
		}
		ours = server.ConnectionState()
		_ = a.Close()
	}()
	c := tls.Client(b, client)
	if theirErr = c.Handshake(); theirErr == nil {
		var p [1]byte
		_, theirErr = c.Read(p[:])
	}
	theirs = c.ConnectionState()
	_ = b.Close()
	<-done
	return ours, theirs, ourErr, theirErr
}

// connected returns two ends of a connection. Those of net.Pipe hold nothing, so that both
// sides would wait for each other.
func connected(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if b, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func insecure(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10} //nolint:gosec // what is shown is looked at
}

func der(cert []byte) []byte {
	block, _ := pem.Decode(cert)
	return block.Bytes
}

func TestAClientIsShownTheCertificateItCanWorkWith(t *testing.T) {
	const name = "another.test" // which no certificate here is made out to
	ecdsa, ecdsaKey := certtest.Pair(t, "ecdsa.test")
	rsa, rsaKey := certtest.PairRSA(t, "rsa.test")
	later, laterKey := certtest.PairRSA(t, "later.test")
	s := compiled(t, map[string]any{
		"sni": name, "cert": rsa, "key": rsaKey,
		"certs": []string{string(ecdsa), string(later)}, "keys": []string{string(ecdsaKey), string(laterKey)},
	}, Settings{})
	tests := map[string]struct {
		suites []uint16
		want   []byte
	}{
		"ECDSA where both will do":                 {nil, ecdsa},
		"ECDSA alone":                              {[]uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, ecdsa},
		"RSA alone, of two the one that was added": {[]uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, later},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			config := insecure(name)
			config.MaxVersion, config.CipherSuites = tls.VersionTLS12, tt.suites
			_, theirs, _, err := shake(t, s, config)
			if err != nil {
				t.Fatal(err)
			}
			if got := theirs.PeerCertificates[0]; !bytes.Equal(got.Raw, der(tt.want)) {
				t.Errorf("got the certificate of %s", got.Subject)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	tests := map[string]struct {
		names    []string
		node     []uint16
		min, max uint16 // of the client
		want     uint16 // 0: no connection
	}{
		"1.3 unless something is said":            {nil, nil, tls.VersionTLS10, tls.VersionTLS13, tls.VersionTLS13},
		"1.2 as well":                             {nil, nil, tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS12},
		"nothing older unless something is said":  {nil, nil, tls.VersionTLS10, tls.VersionTLS11, 0},
		"the node's":                              {nil, []uint16{tls.VersionTLS12}, tls.VersionTLS10, tls.VersionTLS13, tls.VersionTLS12},
		"the item's own before the node's":        {[]string{"TLSv1.3"}, []uint16{tls.VersionTLS12}, tls.VersionTLS10, tls.VersionTLS12, 0},
		"old ones where they are asked for":       {[]string{"TLSv1.2", "TLSv1.1"}, nil, tls.VersionTLS11, tls.VersionTLS11, tls.VersionTLS11},
		"a gap: the newest":                       {[]string{"TLSv1.1", "TLSv1.3"}, nil, tls.VersionTLS10, tls.VersionTLS13, tls.VersionTLS13},
		"a gap: the oldest":                       {[]string{"TLSv1.1", "TLSv1.3"}, nil, tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS11},
		"a gap: a client that could do the other": {[]string{"TLSv1.1", "TLSv1.3"}, nil, tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS11},
		"a gap: a client that speaks nothing else": {
			[]string{"TLSv1.1", "TLSv1.3"}, nil, tls.VersionTLS12, tls.VersionTLS12, 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			members := map[string]any{"sni": "a.test", "cert": cert, "key": key}
			if tt.names != nil {
				members["ssl_protocols"] = tt.names
			}
			config := insecure("a.test")
			config.MinVersion, config.MaxVersion = tt.min, tt.max
			_, theirs, _, err := shake(t, compiled(t, members, Settings{Versions: tt.node}), config)
			switch {
			case tt.want == 0 && (err == nil || !strings.Contains(err.Error(), "protocol version")):
				t.Errorf("got %v, want a refusal of the version", err)
			case tt.want != 0 && err != nil:
				t.Error(err)
			case tt.want != 0 && theirs.Version != tt.want:
				t.Errorf("got %s", tls.VersionName(theirs.Version))
			}
		})
	}
}

func TestHTTP2IsTheClientsChoiceWhereItIsOffered(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	s := compiled(t, map[string]any{"sni": "a.test", "cert": cert, "key": key}, Settings{})
	versions := []uint16{tls.VersionTLS12}
	if diff := cmp.Diff([]string{"h2", "http/1.1"}, s.Config(versions, true).NextProtos); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"http/1.1"}, s.Config(versions, false).NextProtos); diff != "" {
		t.Error(diff)
	}
}

func TestAReferenceIsNoCertificate(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	for want, members := range map[string]map[string]any{
		"cert, key: a reference":         {"sni": "a.test", "cert": "$env://C", "key": key},
		"certs[0], keys[0]: a reference": {"sni": "a.test", "cert": cert, "key": key, "certs": []string{string(cert)}, "keys": []string{"$secret://vault/1/k"}},
		"client.ca: a reference":         {"sni": "a.test", "cert": cert, "key": key, "client": map[string]any{"ca": "$env://CA"}},
	} {
		if _, err := Compile(stored(t, members), Settings{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestClients(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	root := certtest.NewAuthority(t, "root")
	between := root.Authority(t, "between").Authority(t, "further between")
	foreign := certtest.NewAuthority(t, "root")
	pair := func(cert, key []byte) []tls.Certificate {
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	tests := map[string]struct {
		client map[string]any
		shown  []tls.Certificate
		want   string // in the server's error; "": none
	}{
		"one that the authority signed":              {map[string]any{"ca": string(root.Cert)}, pair(root.Pair(t, "c")), ""},
		"none":                                       {map[string]any{"ca": string(root.Cert)}, nil, "didn't provide a certificate"},
		"one of another authority":                   {map[string]any{"ca": string(root.Cert)}, pair(foreign.Pair(t, "c")), "unknown authority"},
		"one of two authorities":                     {map[string]any{"ca": string(root.Cert) + string(foreign.Cert)}, pair(foreign.Pair(t, "c")), ""},
		"more between than the default of one":       {map[string]any{"ca": string(root.Cert)}, pair(between.Pair(t, "c")), "certificate chain too long"},
		"as many between as are allowed":             {map[string]any{"ca": string(root.Cert), "depth": 2}, pair(between.Pair(t, "c")), ""},
		"none between":                               {map[string]any{"ca": string(root.Cert), "depth": 0}, pair(root.Pair(t, "c")), ""},
		"none, where some paths are open":            {map[string]any{"ca": string(root.Cert), "skip_mtls_uri_regex": []string{"^/open"}}, nil, ""},
		"a wrong one, where some paths are open":     {map[string]any{"ca": string(root.Cert), "skip_mtls_uri_regex": []string{"^/open"}}, pair(foreign.Pair(t, "c")), ""},
		"one that is not asked for and never looked": {nil, pair(foreign.Pair(t, "c")), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			members := map[string]any{"sni": "a.test", "cert": cert, "key": key}
			if tt.client != nil {
				members["client"] = tt.client
			}
			s := compiled(t, members, Settings{})
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				config := insecure("a.test")
				config.MaxVersion = version
				// Shown whichever authorities the server names.
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if tt.shown == nil {
						return new(tls.Certificate), nil
					}
					return &tt.shown[0], nil
				}
				_, _, err, theirs := shake(t, s, config)
				if tt.want == "" && (err != nil || theirs != nil) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || theirs == nil) {
					t.Errorf("%s: got %v, and %v on the client's side, want %q", tls.VersionName(version), err, theirs, tt.want)
				}
			}
		})
	}
}

func TestSomePathsNeedNoCertificate(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	c := compiled(t, map[string]any{
		"sni": "a.test", "cert": cert, "key": key,
		"client": map[string]any{"ca": string(cert), "skip_mtls_uri_regex": []string{"^/open$", `(?<!x)/later`, `^(a+)+$`}},
	}, Settings{}).Client
	for path, want := range map[string]bool{
		"/open": true, "/opened": false, "/y/later": true, "/x/later": false, strings.Repeat("a", 5000) + "!": false,
	} {
		if got := c.Open(path); got != want {
			t.Errorf("%.20s: got %v, want %v", path, got, want)
		}
	}
	if !c.Lenient() {
		t.Error("the handshake would refuse clients for paths that are open")
	}
}

func TestWhoAsksForTheSame(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	other, _ := certtest.Pair(t, "b.test")
	client := func(ca []byte, depth int) *Client {
		return compiled(t, map[string]any{"sni": "a.test", "cert": cert, "key": key, "client": map[string]any{"ca": string(ca), "depth": depth}}, Settings{}).Client
	}
	c := client(cert, 1)
	if !c.Asks(client(cert, 1)) || c.Asks(client(cert, 2)) || c.Asks(client(other, 1)) || c.Asks(nil) {
		t.Error("what is asked for is not told from what others ask for")
	}
}

// session is a client that resumes what it can and, as an attacker would, offers the session
// whatever the name is that it was made under.
func session(name string, cache tls.ClientSessionCache, version uint16, shown []tls.Certificate) *tls.Config {
	config := insecure(name)
	config.MinVersion, config.MaxVersion = version, version
	config.ClientSessionCache, config.Certificates = anyName{cache}, shown
	return config
}

type anyName struct{ tls.ClientSessionCache }

func (c anyName) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("") }
func (c anyName) Put(_ string, s *tls.ClientSessionState)    { c.ClientSessionCache.Put("", s) }

func TestASessionIsResumedWhereItWasMade(t *testing.T) {
	cert, key := certtest.Pair(t, "*.test")
	root, foreign := certtest.NewAuthority(t, "root"), certtest.NewAuthority(t, "root")
	clientCert, clientKey := root.Pair(t, "c")
	p, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	shown := []tls.Certificate{p}
	doc := func(ca *certtest.Authority, lenient bool) map[string]any {
		members := map[string]any{"sni": "*.test", "cert": cert, "key": key}
		if ca != nil {
			client := map[string]any{"ca": string(ca.Cert)}
			if lenient {
				client["skip_mtls_uri_regex"] = []string{"^/open"}
			}
			members["client"] = client
		}
		return members
	}
	tickets := Settings{Tickets: new(Tickets)}
	first := compiled(t, doc(root, false), tickets)
	open := compiled(t, doc(nil, false), tickets)
	tests := map[string]struct {
		from, to *Server
		name     string
		resumed  bool
		refused  bool
	}{
		"the same server":                             {first, first, "a.test", true, false},
		"the same server, as nobody asks for more":    {open, open, "a.test", true, false},
		"the same item, compiled again":               {first, compiled(t, doc(root, false), tickets), "a.test", true, false},
		"the same server under another name":          {first, first, "b.test", false, false},
		"a server that asks for another authority":    {first, compiled(t, doc(foreign, false), tickets), "a.test", false, true},
		"a server that asks, from one that does not":  {open, first, "a.test", false, false},
		"a server that asks now as it did not before": {open, compiled(t, doc(foreign, false), tickets), "a.test", false, true},
		"a server that asks of some paths alone":      {open, compiled(t, doc(root, true), tickets), "a.test", false, false},
		"a server that does not ask any more":         {first, open, "a.test", false, false},
		"a node that gives no tickets":                {compiled(t, doc(root, false), Settings{}), compiled(t, doc(root, false), Settings{}), "a.test", false, false},
	}
	for what, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(what+", "+tls.VersionName(version), func(t *testing.T) {
				cache := tls.NewLRUClientSessionCache(1)
				if _, _, ours, theirs := shake(t, tt.from, session("a.test", cache, version, shown)); ours != nil || theirs != nil {
					t.Fatal(ours, theirs)
				}
				state, _, err, _ := shake(t, tt.to, session(tt.name, cache, version, shown))
				if (err != nil) != tt.refused {
					t.Fatalf("got %v, want a refusal: %v", err, tt.refused)
				}
				if state.DidResume != tt.resumed {
					t.Errorf("got resumed %v, want %v", state.DidResume, tt.resumed)
				}
			})
		}
	}
}

// A certificate that is not good any more does not live on in a session.
func TestAResumedClientIsVerifiedAgain(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	root := certtest.NewAuthority(t, "root")
	s := compiled(t, map[string]any{"sni": "a.test", "cert": cert, "key": key, "client": map[string]any{"ca": string(root.Cert)}}, Settings{Tickets: new(Tickets)})
	p, err := tls.X509KeyPair(root.Pair(t, "c"))
	if err != nil {
		t.Fatal(err)
	}
	cache := tls.NewLRUClientSessionCache(1)
	config := session("a.test", cache, tls.VersionTLS13, []tls.Certificate{p})
	if _, _, err, _ := shake(t, s, config); err != nil {
		t.Fatal(err)
	}
	s.Client.roots = x509.NewCertPool()
	if state, _, err, _ := shake(t, s, config); err == nil || !state.DidResume {
		t.Errorf("got %v, resumed %v, want a refusal of a session", err, state.DidResume)
	}
}

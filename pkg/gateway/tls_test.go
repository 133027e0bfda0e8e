package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
)

// secure makes the world listen with TLS, too, and returns where.
func (w *world) secure(o TLS) (addr string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.engine.ServeTLS(l, o)
	}()
	w.t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// ssl is a stored certificate that an authority signs for the names; extra are members that
// it has besides.
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

// browser is a client over TLS that believes one authority.
type browser struct {
	*http.Client
	tls *tls.Config
}

// browse returns a client whose connections all go to addr; name is what it asks for.
func browse(t *testing.T, addr, name string, by *certtest.Authority, http2 bool) *browser {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(by.Cert)
	b := &browser{tls: &tls.Config{ServerName: name, RootCAs: roots}}
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		TLSClientConfig: b.tls, Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	b.Client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return b
}

// shows makes a client show a certificate that an authority signed.
func (b *browser) shows(t *testing.T, by *certtest.Authority) *browser {
	t.Helper()
	pair, err := tls.X509KeyPair(by.Pair(t, "client"))
	if err != nil {
		t.Fatal(err)
	}
	b.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return b
}

func (b *browser) get(url string) (*http.Response, string, error) {
	res, err := b.Get(url)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func serialOf(res *http.Response) string { return res.TLS.PeerCertificates[0].SerialNumber.String() }

func TestTLSWithTheCertificateOfTheName(t *testing.T) {
	ca := certtest.NewAuthority(t, "authority")
	w := newWorld(t, nil)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-Port"))
	})
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(up)+`}`)
	w.put("routes/2", `{"uri":"/secret","priority":1,"vars":[["scheme","==","https"],["ssl_server_name","==","a.test"],["ssl_client_verify","==","NONE"]],"upstream":`+nodes(backend(t, hello))+`}`)
	w.put("ssls/a", ssl(t, ca, nil, "a.test"))
	w.put("ssls/wild", ssl(t, ca, nil, "*.test"))
	addr := w.secure(TLS{HTTP2: true})
	_, port, _ := net.SplitHostPort(addr)
	for _, http2 := range []bool{false, true} {
		for name, issued := range map[string]string{"a.test": "a.test", "b.test": "*.test"} {
			res, body, err := browse(t, addr, name, ca, http2).get("https://" + name + "/")
			if err != nil {
				t.Fatal(err)
			}
			if got := res.TLS.PeerCertificates[0].DNSNames[0]; got != issued {
				t.Errorf("%s: got the certificate of %s", name, got)
			}
			if res.StatusCode != 200 || body != "https "+port || (res.ProtoMajor == 2) != http2 {
				t.Errorf("%s: got %d %s %q", name, res.StatusCode, res.Proto, body)
			}
		}
		if _, body, err := browse(t, addr, "a.test", ca, http2).get("https://a.test/secret"); err != nil || body != "hello" {
			t.Errorf("variables: got %q, %v", body, err)
		}
	}
	plain := w.secure(TLS{})
	if res, _, err := browse(t, plain, "a.test", ca, false).get("https://a.test/"); err != nil || res.TLS.NegotiatedProtocol == "h2" {
		t.Errorf("a listener without HTTP/2: %v", err)
	}
}

func TestAClientWithoutAKnownNameIsRefused(t *testing.T) {
	ca := certtest.NewAuthority(t, "authority")
	w := newWorld(t, nil)
	w.put("ssls/a", ssl(t, ca, nil, "a.test", "127.0.0.1"))
	tests := map[string]struct {
		name, fallback string
		refused        bool
	}{
		"a name that nobody has":              {"c.test", "", true},
		"none":                                {"127.0.0.1", "", true},
		"none, and the node has one for such": {"127.0.0.1", "A.test.", false},
		"one that nobody has, though there is that":  {"c.test", "a.test", true},
		"none, and what the node has is nobody's":    {"127.0.0.1", "c.test", true},
		"one in upper case":                          {"A.TEST", "", false},
		"a name that nobody has and no sane one has": {strings.Repeat("x.", 200) + "test", "", true},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			conn, err := net.Dial("tcp", w.secure(TLS{Fallback: tt.fallback}))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			// crypto/tls sends no name that is an address.
			err = tls.Client(conn, &tls.Config{ServerName: tt.name, InsecureSkipVerify: true}).Handshake() //nolint:gosec // a test's own server
			if tt.refused && (err == nil || !strings.Contains(err.Error(), "unrecognized name")) || !tt.refused && err != nil {
				t.Errorf("got %v, want a refusal of the name: %v", err, tt.refused)
			}
		})
	}
}

func TestRefusedNamesDoNotFillTheLog(t *testing.T) {
	var out logtest.Log
	log := zerolog.New(&out)
	var s strangers
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				s.refuse(log, "x.test")
			}
		})
	}
	all.Wait()
	if got := strings.Count(out.String(), "\n"); got != 1 || !strings.Contains(out.String(), `"sni":"x.test"`) {
		t.Errorf("got %d lines: %s", got, &out)
	}
	s.next.Store(0)
	s.refuse(log, "y.test")
	lines, sum := strings.Split(strings.TrimSpace(out.String()), "\n"), 0
	for _, line := range lines {
		var told struct{ Refused int }
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatal(err)
		}
		sum += told.Refused
	}
	if len(lines) != 2 || sum != 8*500+1 {
		t.Errorf("got %d refused in %d lines: %s", sum, len(lines), &out)
	}
}

func TestAHandshakeHasTheTimeOfAHead(t *testing.T) {
	w := newLimitedWorld(t, Limits{HeaderRead: 50 * time.Millisecond}, nil)
	conn, err := net.Dial("tcp", w.secure(TLS{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.Copy(io.Discard, conn); err != nil || n != 0 {
		t.Errorf("got %d bytes and %v, want an end", n, err)
	}
}

func TestPlainHTTPOnAPortForTLSIsToldSo(t *testing.T) {
	w := newWorld(t, nil)
	res, err := http.Get("http://" + w.secure(TLS{}) + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", res.StatusCode)
	}
}

// A rotation is a write like any other: nothing that is under way or begins meanwhile fails.
func TestCertificatesAreSwappedUnderLoad(t *testing.T) {
	const swaps = 12
	ca := certtest.NewAuthority(t, "authority")
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	w.put("ssls/a", ssl(t, ca, nil, "a.test"))
	addr := w.secure(TLS{HTTP2: true})
	early := browse(t, addr, "a.test", ca, true)
	first, _, err := early.get("https://a.test/")
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var requests, handshakes atomic.Int64
	var load sync.WaitGroup
	for i := range 6 {
		http2, fresh := i%2 == 0, i < 4
		load.Go(func() {
			b := browse(t, addr, "a.test", ca, http2)
			for !stop.Load() {
				res, body, err := b.get("https://a.test/x")
				if err != nil || res.StatusCode != 200 || body != "hello" {
					t.Errorf("a request failed: %v", err)
					return
				}
				requests.Add(1)
				if fresh {
					handshakes.Add(1)
					b.CloseIdleConnections()
				}
			}
		})
	}
	var last string
	for range swaps {
		before := requests.Load()
		w.put("ssls/a", ssl(t, ca, nil, "a.test"))
		res, _, err := browse(t, addr, "a.test", ca, false).get("https://a.test/")
		if err != nil {
			t.Fatal(err)
		}
		if serialOf(res) == last || serialOf(res) == serialOf(first) {
			t.Error("a new connection is shown a certificate that was replaced")
		}
		last = serialOf(res)
		for end := time.Now().Add(20 * time.Second); requests.Load() < before+20 && time.Now().Before(end) && !t.Failed(); {
			<-time.After(time.Millisecond)
		}
	}
	stop.Store(true)
	load.Wait()
	again, _, err := early.get("https://a.test/")
	if err != nil || serialOf(again) != serialOf(first) {
		t.Errorf("the connection from before did not go on: %v", err)
	}
	t.Logf("%d swaps: %d requests and %d handshakes, none failed", swaps, requests.Load(), handshakes.Load())
}

func TestWhatClientsMustShow(t *testing.T) {
	ca, clients, others := certtest.NewAuthority(t, "authority"), certtest.NewAuthority(t, "clients"), certtest.NewAuthority(t, "others")
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	asks := func(by *certtest.Authority, open ...string) map[string]any {
		client := map[string]any{"ca": string(by.Cert)}
		if len(open) > 0 {
			client["skip_mtls_uri_regex"] = open
		}
		return map[string]any{"client": client}
	}
	w.put("ssls/free", ssl(t, ca, nil, "free.test"))
	w.put("ssls/asks", ssl(t, ca, asks(clients), "asks.test", "*.asks.test"))
	w.put("ssls/some", ssl(t, ca, asks(clients, "^/open"), "some.test"))
	tests := map[string]struct {
		name, host, path string
		shows            *certtest.Authority // nil: nothing
		status           int                 // 0: no connection
	}{
		"nothing where nothing is asked for":               {"free.test", "free.test", "/", nil, 200},
		"what is asked for":                                {"asks.test", "asks.test", "/", clients, 200},
		"nothing where something is asked for":             {"asks.test", "asks.test", "/", nil, 0},
		"something else":                                   {"asks.test", "asks.test", "/", others, 0},
		"a host that asks, by way of one that does not":    {"free.test", "asks.test", "/", clients, 400},
		"the same, and the host in other letters":          {"free.test", "ASKS.test.:443", "/", nil, 400},
		"a host that does not ask, by way of one that did": {"asks.test", "free.test", "/", clients, 200},
		"another host under the same wildcard":             {"x.asks.test", "y.asks.test", "/", clients, 400},
		"the host of the wildcard's name":                  {"x.asks.test", "x.asks.test", "/", clients, 200},
		"a host below the wildcard that has no name":       {"free.test", "x.y.asks.test", "/", nil, 400},
		"a host that nobody has a certificate for":         {"free.test", "c.test", "/", nil, 200},
		"nothing for an open path":                         {"some.test", "some.test", "/open", nil, 200},
		"something else for an open path":                  {"some.test", "some.test", "/open", others, 200},
		"nothing for a path that is not open":              {"some.test", "some.test", "/closed", nil, 400},
		"nothing for a path that only looks open":          {"some.test", "some.test", "/open/../closed", nil, 400},
		"the same in other letters":                        {"some.test", "some.test", "/open%2f..%2Fclosed", nil, 400},
		"something else for a path that is not open":       {"some.test", "some.test", "/closed", others, 400},
		"what is asked for on some paths":                  {"some.test", "some.test", "/closed", clients, 200},
		"an open path by way of another host":              {"free.test", "some.test", "/open", nil, 400},
		"another host by way of one with open paths":       {"some.test", "free.test", "/closed", nil, 400},
	}
	addr := w.secure(TLS{HTTP2: true})
	for what, tt := range tests {
		for _, http2 := range []bool{false, true} {
			b := browse(t, addr, tt.name, ca, http2)
			if tt.shows != nil {
				b.shows(t, tt.shows)
			}
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://any.test"+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			res, err := b.Do(req)
			if err != nil {
				if tt.status != 0 {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			_ = res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("%s, HTTP/2 %v: got %d, want %d", what, http2, res.StatusCode, tt.status)
			}
			if res.StatusCode == 400 && !http2 && !res.Close {
				t.Errorf("%s: the connection is left open for another try, which must fail too", what)
			}
		}
	}
}

// A connection is not cut when what is asked for changes, but its next request is judged by it.
func TestAnOpenConnectionIsJudgedByWhatIsInForce(t *testing.T) {
	ca, clients, others := certtest.NewAuthority(t, "authority"), certtest.NewAuthority(t, "clients"), certtest.NewAuthority(t, "others")
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/*","upstream":`+nodes(backend(t, hello))+`}`)
	asks := func(cas ...*certtest.Authority) map[string]any {
		var all []byte
		for _, a := range cas {
			all = append(all, a.Cert...)
		}
		return map[string]any{"client": map[string]any{"ca": string(all)}}
	}
	addr := w.secure(TLS{})
	tests := map[string]struct {
		before, after map[string]any
		status        int
	}{
		"nothing was asked for, and now something is": {nil, asks(clients), 400},
		"another authority":                           {asks(clients), asks(others), 400},
		"one authority more":                          {asks(clients), asks(others, clients), 200},
		"a new certificate of the server":             {asks(clients), asks(clients), 200},
		"nothing is asked for any more":               {asks(clients), nil, 200},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			w.put("ssls/a", ssl(t, ca, tt.before, "a.test"))
			conn, err := tls.Dial("tcp", addr, browse(t, addr, "a.test", ca, false).shows(t, clients).tls)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(timetest.Patience))
			c := &client{t, conn, bufio.NewReader(conn)}
			if first, _ := c.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); first.StatusCode != 200 {
				t.Fatalf("got %d", first.StatusCode)
			}
			w.put("ssls/a", ssl(t, ca, tt.after, "a.test"))
			second, _ := c.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if second.StatusCode != tt.status {
				t.Errorf("got %d, want %d", second.StatusCode, tt.status)
			}
		})
	}
}

func TestTheAccessLogKnowsTheClient(t *testing.T) {
	ca, clients := certtest.NewAuthority(t, "authority"), certtest.NewAuthority(t, "clients")
	var lines bytes.Buffer
	log, err := NewAccessLog("", &lines, "$ssl_client_verify $ssl_client_s_dn $ssl_protocol $server_protocol", false)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) { o.AccessLog = log })
	w.log, w.lines = log, &lines
	w.put("ssls/a", ssl(t, ca, map[string]any{"client": map[string]any{"ca": string(clients.Cert), "skip_mtls_uri_regex": []string{"."}}}, "a.test"))
	addr := w.secure(TLS{HTTP2: true})
	for want, b := range map[string]*browser{
		"SUCCESS CN=client TLSv1.3 HTTP/2.0": browse(t, addr, "a.test", ca, true).shows(t, clients),
		"NONE - TLSv1.3 HTTP/1.1":            browse(t, addr, "a.test", ca, false),
		"FAILED:x509: certificate signed by": browse(t, addr, "a.test", ca, false).shows(t, ca),
	} {
		if _, _, err := b.get("https://a.test/"); err != nil {
			t.Fatal(err)
		}
		w.logs(want)
	}
}

// The certificate that an upstream is shown is one of the stored ones, too.
func TestAnUpstreamIsShownAStoredCertificate(t *testing.T) {
	ours, others := certtest.NewAuthority(t, "ours"), certtest.NewAuthority(t, "others")
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	up.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	up.TLS.ClientCAs.AppendCertsFromPEM(ours.Cert)
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.StartTLS()
	t.Cleanup(up.Close)
	w := newWorld(t, nil)
	client := func(by *certtest.Authority, name string) string {
		return ssl(t, by, map[string]any{"type": "client"}, name)
	}
	w.put("routes/1", `{"uri":"/*","upstream":{"scheme":"https","type":"roundrobin","tls":{"client_cert_id":"c"},"nodes":{"`+strings.TrimPrefix(up.URL, "https://")+`":1}}}`)
	for _, tt := range []struct {
		what, stored string
		status       int
		body         string // "": any
	}{
		{"none is stored", "", 502, ""},
		{"the one that is asked for", client(ours, "first"), 200, "first"},
		{"another one in its place", client(ours, "second"), 200, "second"},
		{"one of somebody else", client(others, "third"), 502, ""},
		{"one that is for clients of ours", ssl(t, ours, nil, "a.test"), 502, ""},
	} {
		if tt.stored != "" {
			w.put("ssls/c", tt.stored)
		}
		if res, body := w.do("GET", "/", ""); res.StatusCode != tt.status || tt.body != "" && body != tt.body {
			t.Errorf("%s: got %d %q, want %d %q", tt.what, res.StatusCode, body, tt.status, tt.body)
		}
	}
}

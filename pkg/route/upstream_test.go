package route

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/balancer"
)

// upstreamOf compiles an upstream as the route "a" sees it.
func upstreamOf(t *testing.T, f *follower, w *world, doc string) *Upstream {
	t.Helper()
	f.apply(w.batch(w.put("upstreams/u", doc), w.put("routes/a", `{"uri":"/a","upstream_id":"u"}`)))
	r := f.ask("GET h/a")
	if r == nil || r.Upstream == nil {
		t.Fatalf("got route %+v, rejected %+v, want an upstream", r, f.snap.Rejected())
	}
	return r.Upstream
}

func TestNodes(t *testing.T) {
	type seen struct{ Addr, HostHeader, SNI string }
	tests := map[string]struct {
		doc  string
		want []seen
	}{
		"a port is taken as configured":                  {`{"nodes":{"n.test:8080":1}}`, []seen{{"n.test:8080", "n.test:8080", ""}}},
		"a missing port is that of http":                 {`{"nodes":[{"host":"n.test","weight":1}]}`, []seen{{"n.test:80", "n.test", ""}}},
		"a port may stand in the host":                   {`{"nodes":[{"host":"10.0.0.1:8080","weight":1},{"host":"[::1]:81","port":9,"weight":1}]}`, []seen{{"10.0.0.1:8080", "10.0.0.1:8080", ""}, {"[::1]:81", "[::1]:81", ""}}},
		"a port in the host counts before the other":     {`{"nodes":[{"host":"n.test:8080","port":9,"weight":1}]}`, []seen{{"n.test:8080", "n.test:8080", ""}}},
		"what stands in the host and is no port is kept": {`{"nodes":[{"host":"n.test:x","weight":1}]}`, []seen{{"n.test:x:80", "n.test:x", ""}}},
		"a missing port is that of https": {
			`{"scheme":"https","pass_host":"node","nodes":{"n.test":1}}`, []seen{{"n.test:443", "n.test", "n.test"}},
		},
		"the scheme's own port is no part of the Host header": {
			`{"scheme":"https","pass_host":"node","nodes":{"n.test:443":1,"m.test:8443":1}}`,
			[]seen{{"m.test:8443", "m.test:8443", "m.test"}, {"n.test:443", "n.test", "n.test"}},
		},
		"an address is no server name":        {`{"scheme":"https","pass_host":"node","nodes":{"10.0.0.1:443":1}}`, []seen{{"10.0.0.1:443", "10.0.0.1", ""}}},
		"IPv6 keeps its brackets":             {`{"nodes":{"[::1]:80":1}}`, []seen{{"[::1]:80", "[::1]", ""}}},
		"a rewritten host is the server name": {`{"scheme":"https","pass_host":"rewrite","upstream_host":"x.test:8443","nodes":{"n.test":1}}`, []seen{{"n.test:443", "n.test", "x.test"}}},
		"a passed host leaves it open":        {`{"scheme":"https","nodes":{"n.test":1}}`, []seen{{"n.test:443", "n.test", ""}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := upstreamOf(t, follow(t, testEnv(HostURI)), newWorld(), tt.doc)
			var got []seen
			for _, n := range u.Nodes {
				got = append(got, seen{n.Target.Addr, n.HostHeader, n.Target.SNI})
				if (n.Target.TLS != nil) != (u.Scheme == "https") {
					t.Errorf("got target %+v of node %+v", n.Target, n)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("nodes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAServerIsAskedForByTheHostThatIsSent(t *testing.T) {
	f, w := follow(t, testEnv(HostURI)), newWorld()
	passed := &upstreamOf(t, f, w, `{"scheme":"https","nodes":{"n.test":1}}`).Nodes[0]
	for host, want := range map[string]string{"Client.test:8443": "client.test", "10.0.0.1": "", "[::1]:443": ""} {
		if got := passed.TargetFor(host); got.SNI != want || got.Addr != "n.test:443" || got.TLS != passed.Target.TLS {
			t.Errorf("got %+v for host %q, want server name %q", got, host, want)
		}
	}
	fixed := &upstreamOf(t, f, w, `{"scheme":"https","pass_host":"node","nodes":{"n.test":1}}`).Nodes[0]
	if got := fixed.TargetFor("client.test"); got != fixed.Target {
		t.Errorf("got %+v, want the node's own target", got)
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	two := `"nodes":{"a:1":1,"b:1":1}`
	tests := map[string]struct {
		doc  string
		want int
	}{
		"an unknown balancer is 500":           {`{"type":"nosuch",` + two + `}`, 500},
		"unless there is nothing to choose":    {`{"type":"nosuch","nodes":{"a:1":1}}`, 0},
		"service discovery is 503":             {`{"service_name":"x","discovery_type":"dns"}`, 503},
		"gRPC is 503":                          {`{"scheme":"grpc",` + two + `}`, 503},
		"a missing client certificate is 502":  {`{"scheme":"https","tls":{"client_cert_id":"x"},` + two + `}`, 502},
		"no nodes are the gateway's to answer": {`{"nodes":[]}`, 0},
		"plain http is fine":                   {`{` + two + `}`, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := upstreamOf(t, follow(t, testEnv(HostURI)), newWorld(), tt.doc)
			if u.UnsupportedStatus() != tt.want || (u.Unsupported != nil) != (tt.want != 0) {
				t.Errorf("got %d, %v, want %d", u.UnsupportedStatus(), u.Unsupported, tt.want)
			}
		})
	}
}

func TestRetriesAndLimits(t *testing.T) {
	f, w := follow(t, testEnv(HostURI)), newWorld()
	u := upstreamOf(t, f, w, `{"nodes":{"a:1":1,"b:1":1,"c:1":1},"retry_timeout":1.5,"keepalive_pool":{"size":4,"idle_timeout":2,"requests":9}}`)
	if u.Retries != 2 || u.RetryTimeout != 1500*time.Millisecond {
		t.Errorf("got %d retries within %v, want 2 within 1.5s", u.Retries, u.RetryTimeout)
	}
	if n := u.Nodes[0].Target; n.MaxIdle != 4 || n.IdleTimeout != 2*time.Second || n.MaxRequests != 9 || n.NoKeepAlive {
		t.Errorf("got pool %+v, want 4 connections, 2 s, 9 requests", n)
	}
	u = upstreamOf(t, f, w, `{"nodes":{"a:1":1,"b:1":1},"retries":0,"keepalive_pool":{"size":4,"idle_timeout":0}}`)
	if u.Retries != 0 || !u.Nodes[0].Target.NoKeepAlive {
		t.Errorf("got %d retries and pool %+v, want none and no keep-alive", u.Retries, u.Nodes[0].Target)
	}
}

func TestHashKey(t *testing.T) {
	tests := map[string]struct{ members, want string }{
		"an argument":                            {`"key":"arg_k"`, "v"},
		"a header":                               {`"hash_on":"header","key":"X-Session"`, "s"},
		"a cookie":                               {`"hash_on":"cookie","key":"c"`, "crumb"},
		"the consumer":                           {`"hash_on":"consumer"`, "jack"},
		"several variables":                      {`"hash_on":"vars_combinations","key":"$arg_k-${http_x_session}-$arg_nosuch"`, "v-s-"},
		"a missing argument is the address":      {`"key":"arg_nosuch"`, "10.0.0.9"},
		"a missing header is the address":        {`"hash_on":"header","key":"nosuch"`, "10.0.0.9"},
		"only missing variables are the address": {`"hash_on":"vars_combinations","key":"x$arg_nosuch"`, "10.0.0.9"},
		"the address itself":                     {`"key":"remote_addr"`, "10.0.0.9"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := upstreamOf(t, follow(t, testEnv(HostURI)), newWorld(), `{"type":"chash","nodes":{"a:1":1,"b:1":1},`+tt.members+`}`)
			x := exchangeOf("GET h/a?k=v from 10.0.0.9")
			x.Request.Header.Add("X-Session", "s")
			x.Request.Header.Add("Cookie", "a=b; c=crumb")
			x.Facts.ConsumerName = "jack"
			if u.HashKey == nil {
				t.Fatal("got an upstream that does not hash")
			}
			if got := u.HashKey(x); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPickersComeBackFromTheCache(t *testing.T) {
	env := testEnv(HostURI)
	env.Pickers = balancer.NewCache(0)
	f, w := follow(t, env), newWorld()
	doc := func(port int) string { return fmt.Sprintf(`{"nodes":{"a:%d":1,"b:1":1}}`, port) }
	first := upstreamOf(t, f, w, doc(1)).Picker
	second := upstreamOf(t, f, w, doc(2)).Picker
	if first == second {
		t.Error("got the same picker for other nodes")
	}
	if again := upstreamOf(t, f, w, doc(1)).Picker; again != first {
		t.Error("got a new picker for a configuration that came back, want the old one")
	}
}

func TestClientCertificates(t *testing.T) {
	cert, key := selfSigned(t)
	f, w := follow(t, testEnv(HostURI)), newWorld()
	ssl, err := json.Marshal(map[string]any{"type": "client", "cert": cert, "key": key})
	if err != nil {
		t.Fatal(err)
	}
	doc := `{"scheme":"https","tls":{"client_cert_id":"c"},"nodes":{"a:1":1}}`
	if u := upstreamOf(t, f, w, doc); u.UnsupportedStatus() != 502 {
		t.Errorf("got %d before the certificate is there, want 502", u.UnsupportedStatus())
	}
	f.apply(w.batch(w.put("ssls/c", string(ssl))))
	u := f.ask("GET h/a").Upstream
	if u.Unsupported != nil || len(u.Nodes[0].Target.TLS.Certificates) != 1 || u.Nodes[0].Target.Class == "" {
		t.Fatalf("got %v, rejected %+v, want the certificate", u.Unsupported, f.snap.Rejected())
	}
	before := u.Nodes[0].Target.TLS
	u = upstreamOf(t, f, w, `{"desc":"edited","scheme":"https","tls":{"client_cert_id":"c"},"nodes":{"a:1":1,"b:1":1}}`)
	if u.Nodes[1].Target.TLS != before {
		t.Error("got another TLS configuration for the same certificate: its connections would not be used again")
	}
	f.apply(w.batch(w.del("ssls/c")))
	if u := f.ask("GET h/a").Upstream; u.UnsupportedStatus() != 502 {
		t.Errorf("got %d after the deletion, want 502", u.UnsupportedStatus())
	}
}

func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

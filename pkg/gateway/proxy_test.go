package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// refusing is an address at which nobody listens: its port is none that a system gives away,
// as it may do with one that was closed.
const refusing = "127.0.0.1:1"

func TestABodyFollowsItsRequestToTheNextServer(t *testing.T) {
	w := newWorld(t, nil)
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}
	w.put("routes/1", `{"uri":"/refused","upstream":`+nodes(refusing, backend(t, echo))+`}`)
	dying := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	w.put("routes/2", `{"uri":"/dying","upstream":`+nodes(dying, backend(t, echo))+`}`)
	small, large := "body", strings.Repeat("0123456789", 1<<16)
	for _, tt := range []struct {
		name, method, path, body string
		statuses                 []int // over two requests, one of which meets the bad server first
	}{
		{"POST that was refused", "POST", "/refused", small, []int{200, 200}},
		{"large POST that was refused", "POST", "/refused", large, []int{200, 200}},
		{"POST that a server broke off", "POST", "/dying", small, []int{200, 502}},
		{"PUT that a server broke off", "PUT", "/dying", small, []int{200, 200}},
		{"large PUT that a server broke off", "PUT", "/dying", large, []int{200, 502}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, framing := range []string{"by length", "in chunks"} {
				var got []int
				for range 2 {
					var body io.Reader = strings.NewReader(tt.body)
					if framing == "in chunks" {
						body = struct{ io.Reader }{body}
					}
					req, err := http.NewRequestWithContext(t.Context(), tt.method, w.url+tt.path, body)
					if err != nil {
						t.Fatal(err)
					}
					res, err := w.clients.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if got = append(got, res.StatusCode); res.StatusCode == 200 && string(text) != tt.body {
						t.Errorf("%s: got %d bytes, want %d", framing, len(text), len(tt.body))
					}
				}
				if slices.Sort(got); !slices.Equal(got, tt.statuses) {
					t.Errorf("%s: got %v, want %v", framing, got, tt.statuses)
				}
			}
		})
	}
}

func TestHTTP2IsNotTunnelled(t *testing.T) {
	w := newWorld(t, nil)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Upgrade")+r.Header.Get("Http2-Settings"))
	})
	w.put("routes/1", `{"uri":"/ws","enable_websocket":true,"upstream":`+nodes(up)+`}`)
	for _, upgrade := range []string{"h2c", "H2C", "websocket, h2c", "HTTP/2.0", "h2"} {
		res, body := w.dial().ask("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade +
			"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
		if res.StatusCode != 200 || body != "" {
			t.Errorf("%s: got %d, and the server was asked for %q", upgrade, res.StatusCode, body)
		}
	}
}

func TestAClientCannotTakeItsIdentityAway(t *testing.T) {
	w := newWorld(t, nil)
	g := New(Options{Router: w.syncer.Router()})
	x := new(exchange.Exchange)
	x.Reset(t.Context(), nil)
	h := &x.Request.Header
	h.Add("Connection", "close, X-Consumer-Username, X-Credential-Identifier, X-Other")
	h.Add("X-Other", "1")
	c := new(plugin.Context)
	c.Begin(x, w.syncer.Router().Snapshot(), nil, g.o.Log)
	c.Attach(&plugin.Identity{Consumer: &plugin.Consumer{Name: "jack"}, Credential: "one"})
	var out exchange.Header
	g.forward(x, &out)
	if out.Get("X-Consumer-Username") != "jack" || out.Get("X-Credential-Identifier") != "one" || out.Has("X-Other") {
		t.Errorf("the upstream is told %v", out.Fields())
	}
}

func TestANameWithoutAnAddressIsLeftOut(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		var dialer net.Dialer
		o.Client = upstream.NewClient(upstream.Options{Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "nowhere") {
				return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}}
			}
			return dialer.DialContext(ctx, network, addr)
		}})
		t.Cleanup(o.Client.Close)
	})
	w.put("routes/1", `{"uri":"/none","upstream":`+nodes("nowhere.test:80", "nowhere2.test:80")+`}`)
	w.put("routes/2", `{"uri":"/one","upstream":`+nodes("nowhere.test:80", backend(t, hello))+`}`)
	w.put("routes/3", `{"uri":"/bad","upstream":`+nodes("nowhere.test:80", refusing)+`}`)
	for path, want := range map[string]struct {
		status int
		header string
	}{
		"/none": {503, ""},
		"/one":  {200, ""},
		"/bad":  {502, "502"},
	} {
		for range 2 { // either node may come first
			res, _ := w.do("GET", path, "")
			if got := res.Header.Get("X-Apisix-Upstream-Status"); res.StatusCode != want.status || got != want.header {
				t.Errorf("%s: got %d, upstream status %q, want %d, %q", path, res.StatusCode, got, want.status, want.header)
			}
		}
	}
}

package nginx

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gosix/gosix/internal/certtest"
)

func speakTLS(t *testing.T, addr, text string, config *tls.Config) (string, *tls.ConnectionState) {
	t.Helper()
	config.InsecureSkipVerify = true
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	return string(answer), &state
}

const getOnce = "GET /t HTTP/1.1\r\nHost: b.com\r\nConnection: close\r\n\r\n"

func TestTLSServersByTheClientsName(t *testing.T) {
	s := newStage(t)
	var config string
	for _, name := range []string{"a.com", "b.com"} {
		cert, key := certtest.Files(t, name)
		config += fmt.Sprintf(`server { listen 127.0.0.1:0 ssl; server_name %s; ssl_certificate %s; ssl_certificate_key %s;
			ssl_certificate_by_lua_block { server name } location / { echo "$ssl_server_name $ssl_protocol $scheme $server_name"; } }`, name, cert, key)
	}
	addr := s.apply(t, load(t, config, ""))
	answer, state := speakTLS(t, addr, getOnce, &tls.Config{ServerName: "b.com", MaxVersion: tls.VersionTLS12})
	if !strings.Contains(answer, "b.com TLSv1.2 https b.com\n") || state.PeerCertificates[0].Subject.CommonName != "b.com" {
		t.Error(answer)
	}
}

func TestTLSClientCertificates(t *testing.T) {
	s := newStage(t)
	cert, key := certtest.Files(t, "a.com")
	clientCert, clientKey := certtest.Files(t, "client")
	addr := s.apply(t, load(t, fmt.Sprintf(`server { listen 127.0.0.1:0 ssl; ssl_certificate %s; ssl_certificate_key %s;
		ssl_client_certificate %s; ssl_verify_client on; location / { echo "$ssl_client_verify $ssl_client_s_dn"; } }`, cert, key, clientCert), ""))
	answer, _ := speakTLS(t, addr, getOnce, &tls.Config{})
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "No required SSL certificate was sent") {
		t.Errorf("without a certificate: %q", answer)
	}
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ = speakTLS(t, addr, getOnce, &tls.Config{Certificates: []tls.Certificate{pair}})
	if !strings.Contains(answer, "SUCCESS CN=client\n") {
		t.Errorf("with one: %q", answer)
	}
}

func TestPlainHTTPWhereTLSIsSpoken(t *testing.T) {
	s := newStage(t)
	cert, key := certtest.Files(t, "a.com")
	addr := s.apply(t, load(t, fmt.Sprintf("server { listen 127.0.0.1:0 ssl; ssl_certificate %s; ssl_certificate_key %s; return 200; }", cert, key), ""))
	got := speak(t, "tcp", addr, get)
	if !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") || !strings.Contains(got, "The plain HTTP request was sent to HTTPS port") {
		t.Error(got)
	}
}

func TestHTTP2(t *testing.T) {
	s := newStage(t)
	cert, key := certtest.Files(t, "a.com")
	const locations = `http2 on; more_clear_headers Date; location / { echo "$http2 $request_method $uri $args $host $http_x_a"; }
		location /body { content_by_lua_block { body } } location /gone { content_by_lua_block { exit 444 } }`
	plainAddr, tlsAddr := free(t), free(t)
	s.apply(t, load(t, fmt.Sprintf("server { listen %s; %s } server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; %s }",
		plainAddr, locations, tlsAddr, cert, key, locations), ""))
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for base, name := range map[string]string{"http://" + plainAddr: "h2c", "https://" + tlsAddr: "h2"} {
		req, err := http.NewRequest(http.MethodGet, base+"/p?a=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-A", "b")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := name + " GET /p a=1 127.0.0.1 b\n"; err != nil || string(text) != want || res.ProtoMajor != 2 {
			t.Errorf("got %q over %s, %v; want %q", text, res.Proto, err, want)
		}
		if res.Header.Get("Server") != "openresty" || res.Header.Get("Date") != "" || res.Header.Get("Content-Type") != "text/plain" {
			t.Error(res.Header)
		}
		res, err = client.Post(base+"/body", "text/plain", strings.NewReader("abc"))
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(text) != "got abc" {
			t.Errorf("got %q, %v", text, err)
		}
		if res, err := client.Get(base + "/gone"); err == nil {
			res.Body.Close()
			t.Error("a connection that was to be ended answered")
		}
	}
}

func TestHTTP1WhereHTTP2IsOffered(t *testing.T) {
	s := newStage(t)
	addr := s.apply(t, load(t, "server { listen 127.0.0.1:0; http2 on; return 200 ok; }", ""))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := ask(t, c, bufio.NewReader(c), "/"); got != "ok" {
		t.Error(got)
	}
}

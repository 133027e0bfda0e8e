package t

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/certtest"
)

// engines are those that the suite runs over; the word is that of apisix.http_engine.
var engines = []string{"std", "fast"}

// engineLine is the setting that chooses an engine. There is none while there is no choice.
func engineLine(engine string) string {
	if len(engines) < 2 {
		return ""
	}
	return "  http_engine: " + engine + "\n"
}

// What arrives at the provider is what the gateway looked at, request by request: no client
// can make two of one, hide a header or a body from a plugin, or get another's answer. The
// clients here write bytes, the provider takes nothing but what RFC 9112 says, and the
// access log is what the gateway saw.
func TestWire(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			w := newWireWorld(t, engine)
			t.Run("requests", func(t *testing.T) { w.on(t).cases() })
			t.Run("requests over TLS", func(t *testing.T) { w.on(t).overTLS().table("tls") })
			t.Run("pairs", func(t *testing.T) { w.on(t).pairs() })
			t.Run("downgrade", func(t *testing.T) { w.on(t).downgrade() })
			t.Run("life", func(t *testing.T) { w.on(t).life() })
			t.Run("ceilings", func(t *testing.T) { w.on(t).ceilings() })
			w.on(t).settle()
		})
	}
}

// wireWorld is a gateway before a strict provider.
type wireWorld struct {
	t      *testing.T
	engine string
	node   *node
	up     *strict
	certs  *certtest.Authority
	secure *tls.Config // over TLS; nil: clients do not speak it
}

// wireFormat is what the access log has of a request: what routes and plugins decide by.
const wireFormat = "wire $request_method $request_uri $http_host $http_x_tag $status $upstream_addr"

func wireSettings(engine, more string) string {
	conf := settings("DIR", "")
	conf = strings.Replace(conf, "nginx_config: {http: {", `nginx_config: {http: {access_log_format: "`+wireFormat+`", `, 1)
	conf = regexp.MustCompile(`(?m)^  http_engine: .*\n`).ReplaceAllString(conf, "") // that of the other tests
	return strings.Replace(conf, "  lame_duck: 0\n", "  lame_duck: 0\n"+engineLine(engine)+more, 1)
}

func newWireWorld(t *testing.T, engine string) *wireWorld {
	t.Helper()
	w := &wireWorld{t: t, engine: engine, up: newStrict(t), certs: certtest.NewAuthority(t, "authority")}
	w.node = start(t, "gosix", wireSettings(engine, ""))
	w.node.must("PUT", "/ssls/wire", ssl(t, w.certs, nil, "wire.test"))
	w.routes(w.node)
	return w
}

func (w *wireWorld) routes(n *node) {
	up := `"upstream":{"nodes":{"` + w.up.addr + `":1}}`
	n.must("PUT", "/routes/wire", `{"uri":"/wire/*",`+up+`}`)
	n.must("PUT", "/routes/policy", `{"uri":"`+pathPolicy+`","vars":[["post_arg.model","==","allowed"]],`+up+`}`)
	n.must("PUT", "/routes/ai", `{"uri":"/ai","vars":[["post_arg.model","==","allowed"]],"plugins":{"ai-proxy":{"provider":"openai-compatible",
		"auth":{"header":{"Authorization":"Bearer provider"}},"override":{"endpoint":"http://`+w.up.addr+`/v1/chat/completions"}}}}`)
}

// on is w for another test.
func (w *wireWorld) on(t *testing.T) *wireWorld {
	other := *w
	other.t = t
	return &other
}

// overTLS is w with clients that speak HTTP/1.1 over TLS.
func (w *wireWorld) overTLS() *wireWorld {
	other, roots := *w, x509.NewCertPool()
	roots.AppendCertsFromPEM(w.certs.Cert)
	other.secure = &tls.Config{RootCAs: roots, ServerName: "wire.test"}
	return &other
}

// settle ends the gateway, so that nothing is on its way any more, and compares what the
// provider parsed with what the gateway saw.
func (w *wireWorld) settle() {
	w.t.Helper()
	w.node.stop(os.Interrupt)
	w.up.conns.Wait()
	for _, c := range w.up.complaints() {
		w.t.Error(c)
	}
	saw := map[string]int{}
	for line := range strings.SplitSeq(accessLog(w.t, w.node), "\n") {
		f := strings.Fields(line)
		if len(f) >= 7 && f[0] == "wire" && f[6] != "-" {
			// An AI route says another path to its provider than it was asked for.
			saw[strings.Join([]string{f[1], strings.Replace(f[2], "/ai", "/v1/chat/completions", 1), f[4]}, " ")]++
		}
	}
	got := map[string]int{}
	for tag, all := range w.up.took {
		for _, q := range all {
			if tag == "" {
				tag = "-"
			}
			got[strings.Join([]string{q.method, strings.ReplaceAll(q.target, "\xe9", `\xE9`), tag}, " ")]++
		}
	}
	if len(got) == 0 {
		w.t.Error("the provider was asked for nothing")
	}
	for what, n := range got {
		if saw[what] != n {
			w.t.Errorf("%q: the provider parsed %d requests, the gateway saw %d", what, n, saw[what])
		}
	}
}

// dialWire returns a connection that is written to by hand, and closed with the test.
func (w *wireWorld) dial() *wire {
	w.t.Helper()
	return w.dialTo(w.node)
}

func (w *wireWorld) dialTo(n *node) *wire {
	w.t.Helper()
	dialer := &net.Dialer{Timeout: patience}
	var conn net.Conn
	var err error
	if w.secure != nil {
		conn, err = tls.DialWithDialer(dialer, "tcp", n.GatewayTLS[0], w.secure)
	} else {
		conn, err = dialer.Dial("tcp", n.Gateway[0])
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &wire{conn, bufio.NewReader(conn)}
}

// endedBy reports whether an error of reading is the end of a connection: over TLS without a
// farewell, if something was left unread.
func endedBy(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}

// wireAnswer is one answer on a connection.
type wireAnswer struct {
	status int
	to     string // the tag of the request that the provider answered; empty: it is the gateway's
	body   string
	closes bool // it says that the connection ends
}

func (a wireAnswer) String() string {
	return fmt.Sprintf("%d to %q, closing %v", a.status, a.to, a.closes)
}

// next reads one answer to a request with that method.
func (c *wire) next(method string) (wireAnswer, error) {
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return wireAnswer{}, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.Close && res.ContentLength < 0 && endedBy(err) {
		err = nil // it ends with the connection, on which something was left unread
	}
	return wireAnswer{res.StatusCode, res.Header.Get("X-Answer-To"), string(body), res.Close}, err
}

// rest reads answers until the connection ends, which it has to.
func (c *wire) rest() (all []wireAnswer, err error) {
	for {
		if _, err := c.r.Peek(1); err != nil {
			if endedBy(err) {
				return all, nil
			}
			return all, fmt.Errorf("the connection stays open: %w", err)
		}
		a, err := c.next(http.MethodGet)
		if err != nil {
			return all, err
		}
		all = append(all, a)
	}
}

// write sends bytes while answers may come; a gateway that reads no more is no error.
func (c *wire) write(text string) *sync.WaitGroup {
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = io.WriteString(c, text) })
	return &sent
}

// exchange sends bytes on a new connection and returns all that is answered until it ends.
func (w *wireWorld) exchange(text string) ([]wireAnswer, error) {
	c := w.dial()
	defer func() { _ = c.Close() }()
	sent := c.write(text)
	all, err := c.rest()
	_ = c.Close()
	sent.Wait()
	return all, err
}

// last are requests behind one that is judged: they are answered, or they are never seen,
// and the connection ends with them. What swallows a part of the first ends at the second.
func last(tag string) string {
	return "GET /wire/last HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag + ".last\r\n\r\n" +
		"GET /wire/end HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag + ".end\r\nConnection: close\r\n\r\n"
}

// refusals are the statuses that say that a request was not taken.
var refusals = []int{400, 405, 413, 414, 431, 501}

// sound says what does not hold and has to, whatever was sent as the first request under a
// tag, with last behind it: each answer is that of its own request, in order, a refusal ends
// the connection, and the provider has no more and no other requests than were answered.
func (w *wireWorld) sound(tag string, answers []wireAnswer, err error, also ...int) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if err != nil {
		fault("%v", err)
	}
	order := []string{tag, tag + ".last", tag + ".end"}
	answered := map[string]int{}
	for i, a := range answers {
		switch {
		case a.status == http.StatusContinue:
			continue
		case a.to != "":
			at := slices.Index(order, a.to)
			if at < 0 {
				fault("answer %d is to %q, which was not asked here, or not then", i, a.to)
				continue
			}
			order = order[at+1:]
			answered[a.to]++
		case slices.Contains(refusals, a.status) || slices.Contains(also, a.status):
			if !a.closes || i < len(answers)-1 {
				fault("answer %d, %v, refuses and does not close", i, a)
			}
		case a.status == http.StatusNotFound: // the gateway saw it, and has no route
		default:
			fault("answer %d is %v", i, a)
		}
	}
	if len(answers) == 0 {
		fault("there is no answer")
	}
	for _, one := range []string{tag, tag + ".last", tag + ".end"} {
		if took := len(w.up.tagged(one)); took != answered[one] {
			fault("%s: the provider took %d requests, the client has %d answers", one, took, answered[one])
		}
	}
	return append(faults, w.up.complaints()...)
}

// report fails with what does not hold.
func (w *wireWorld) report(faults []string, text string, answers []wireAnswer) {
	w.t.Helper()
	if len(faults) > 0 {
		w.t.Errorf("%s\nsent %q\ngot %v", strings.Join(faults, "\n"), clipped(text), answers)
	}
}

func clipped(s string) string {
	if len(s) > 1500 {
		return s[:1000] + " ... " + s[len(s)-500:]
	}
	return s
}

// well asks for something on a connection of its own, as any other client.
func (w *wireWorld) well(tag string) {
	w.t.Helper()
	c := w.dial()
	defer func() { _ = c.Close() }()
	w.check(c, tag)
}

// check asks for something on a new connection, and checks that the answer is to that.
func (w *wireWorld) check(conn net.Conn, tag string) {
	w.t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &wire{conn, bufio.NewReader(conn)}
	if _, err := io.WriteString(c, "POST /wire/well HTTP/1.1\r\nHost: wire.test\r\nX-Tag: "+tag+"\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		w.t.Errorf("%s: another client could not ask: %v", tag, err)
		return
	}
	if a, err := c.next("POST"); err != nil || a.status != 200 || a.to != tag || a.body != digest("POST", "/wire/well", "hello") {
		w.t.Errorf("%s: another client got %v %q, %v", tag, a, a.body, err)
	}
}

// alive checks that the program has not ended.
func (n *node) alive() {
	n.t.Helper()
	select {
	case <-n.exited:
		n.t.Fatalf("the program ended: %v", n.err)
	default:
	}
}

// resident is the memory that the program has had at the most, in bytes; 0: unknown.
func (n *node) resident() (bytesMax int64) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(raw) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			_, _ = fmt.Sscan(string(rest), &bytesMax)
		}
	}
	return bytesMax << 10
}

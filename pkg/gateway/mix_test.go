package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/airatelimiting"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/upstream"
)

// What of a request names it: everywhere the same text of that size, which is no other's.
const tagForm = "t%09de"

var tagPattern = regexp.MustCompile(`t[0-9]{9}e`)

// filled is size bytes that are the tag again and again.
func filled(tag string, size int) string {
	return strings.Repeat(tag, size/len(tag)+1)[:size]
}

// alien returns the first tag in text that is not own, "" if there is none.
func alien(own, text string) string {
	if own != "" {
		text = strings.ReplaceAll(text, own, "")
	}
	return tagPattern.FindString(text)
}

// mix is a gateway between clients and servers that look at every byte.
type mix struct {
	t       *testing.T
	w       *world
	secure  string // where it speaks TLS
	roots   *x509.CertPool
	last    atomic.Int64 // number of the newest tag
	got     atomic.Int64 // whole answers
	refused atomic.Int64 // answers of the gateway itself
	calls   atomic.Int64 // of servers
}

// server is an upstream: it breaks off now and then, takes its time, and answers before it
// has read when it is asked to. What is wrong with a request, the test hears.
func (m *mix) server() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.calls.Add(1)
		tag, q := r.Header.Get("X-Tag"), r.URL.Query()
		var head bytes.Buffer
		_ = r.Header.Write(&head)
		if all := r.RequestURI + " " + r.Host + head.String(); alien(tag, all) != "" || q.Get("tag") != tag || r.UserAgent() != tag {
			m.t.Errorf("request %s came with the head %q", tag, all)
		}
		if r.TLS != nil && r.TLS.ServerName != r.Host {
			m.t.Errorf("the server was asked for %q by a request for %q", r.TLS.ServerName, r.Host)
		}
		if r.ContentLength == 0 && rand.N(20) == 0 {
			panic(http.ErrAbortHandler) // the gateway asks again
		}
		size, _ := strconv.Atoi(q.Get("size"))
		want, _ := strconv.Atoi(q.Get("sent"))
		if q.Get("early") != "" {
			_ = http.NewResponseController(w).EnableFullDuplex()
		} else {
			body, err := io.ReadAll(r.Body)
			if string(body) != filled(tag, min(want, len(body))) || err == nil && len(body) < want {
				m.t.Errorf("request %s came with another body: %d bytes, want %d; %v", tag, len(body), want, err)
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if rand.N(8) == 0 {
			<-time.After(rand.N(5 * time.Millisecond)) // a slow one
		}
		w.Header().Set("X-Tag", tag)
		if q.Get("announced") != "" {
			w.Header().Set("Content-Length", q.Get("size"))
		}
		status, _ := strconv.Atoi(q.Get("status"))
		w.WriteHeader(status)
		for text := filled(tag, size); text != ""; {
			n := min(len(text), 1+rand.N(20000))
			if _, err := io.WriteString(w, text[:n]); err != nil {
				return
			}
			if text = text[n:]; rand.N(3) == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
		if q.Get("early") != "" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
}

// said is what the provider answers.
func said(tag string, stream bool) string {
	if !stream {
		return `{"id":"` + tag + `","object":"chat.completion","model":"` + tag + `","choices":[{"index":0,"message":{"role":"assistant","content":"` +
			filled(tag, 3000) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`
	}
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, "data: {\"id\":%q,\"object\":\"chat.completion.chunk\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s %d\"}}]}\n\n", tag, tag, tag, i)
	}
	return b.String() + "data: [DONE]\n\n"
}

// provider is a language model, as moody as server.
func (m *mix) provider() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.calls.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		var asked struct {
			User     string
			Stream   bool
			Messages []struct{ Content string }
		}
		if err := json.Unmarshal(body, &asked); err != nil || len(asked.Messages) != 1 {
			m.t.Errorf("the provider got %.200q: %v", body, err)
			panic(http.ErrAbortHandler)
		}
		tag, content := asked.User, asked.Messages[0].Content
		if content != filled(tag, len(content)) || alien(tag, string(body)) != "" {
			m.t.Errorf("the call for %s has another's content: %.200q", tag, body)
		}
		switch rand.N(10) {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":{"message":"`+tag+`"}}`)
			return
		case 1:
			panic(http.ErrAbortHandler)
		case 2, 3:
			<-time.After(rand.N(30 * time.Millisecond)) // slow enough for a second call
		}
		text, kind := said(tag, asked.Stream), "application/json"
		if asked.Stream {
			kind = "text/event-stream"
		}
		w.Header().Set("Content-Type", kind)
		for text != "" {
			n := min(len(text), 1+rand.N(800))
			if _, err := io.WriteString(w, text[:n]); err != nil {
				return
			}
			if text = text[n:]; rand.N(2) == 0 {
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
}

// question is a request, and what is right to come back.
type question struct {
	tag, method string
	wire        string
	status      int
	body        string
}

// question makes up a request.
func (m *mix) question() (q question) {
	q = question{tag: fmt.Sprintf(tagForm, m.last.Add(1)), method: "GET", status: 200}
	host, body, path := "plain.test", "", ""
	field := func(name, value string) string { return name + ": " + value + "\r\n" }
	header := field("X-Tag", q.tag) + field("User-Agent", q.tag) + field("X-"+q.tag, filled(q.tag, rand.N(300)))
	switch kind := rand.N(10); {
	case kind < 4: // a language model is asked
		stream := rand.N(2) == 0
		q.method, path = "POST", "/v1/chat/completions?tag="+q.tag
		body = fmt.Sprintf(`{"model":%q,"user":%q,"stream":%v,"messages":[{"role":"user","content":%q}]}`, q.tag, q.tag, stream, filled(q.tag, sizeOf()))
		q.body = said(q.tag, stream)
		header += field("Content-Type", "application/json")
	default:
		size := sizeOf()
		q.body = filled(q.tag, size)
		path = "/plain/" + q.tag + "?tag=" + q.tag + "&size=" + strconv.Itoa(size)
		if rand.N(2) == 0 {
			path += "&announced=1"
		}
		if kind == 4 { // over TLS, to a server by the name that the client says
			host, path = fmt.Sprintf("h%d.test", rand.N(4)), strings.Replace(path, "/plain/", "/secure/", 1)
		}
		if rand.N(2) == 0 {
			q.method, body = "POST", filled(q.tag, sizeOf())
			if path += "&sent=" + strconv.Itoa(len(body)); rand.N(6) == 0 {
				path += "&early=1"
			}
		} else if rand.N(10) == 0 {
			q.method, q.body = "HEAD", ""
		}
		q.status = 200 + rand.N(2)
		path += "&status=" + strconv.Itoa(q.status)
	}
	framed := body
	switch {
	case q.method != "POST":
	case rand.N(2) == 0:
		header += field("Content-Length", strconv.Itoa(len(body)))
	default:
		header += field("Transfer-Encoding", "chunked")
		framed = ""
		for body != "" {
			n := min(len(body), 1+rand.N(9000))
			framed += fmt.Sprintf("%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		framed += "0\r\n\r\n"
	}
	q.wire = q.method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + header + "\r\n" + framed
	return q
}

// sizeOf is that of a body: mostly small, some larger than any buffer.
func sizeOf() int {
	if rand.N(12) == 0 {
		return rand.N(200 << 10)
	}
	return rand.N(6 << 10)
}

// dial opens a connection, over TLS now and then.
func (m *mix) dial() net.Conn {
	var conn net.Conn
	var err error
	if rand.N(4) == 0 {
		conn, err = tls.Dial("tcp", m.secure, &tls.Config{ServerName: "a.test", RootCAs: m.roots, NextProtos: []string{"http/1.1"}})
	} else {
		conn, err = net.Dial("tcp", strings.TrimPrefix(m.w.url, "http://"))
	}
	if err != nil {
		m.t.Error(err)
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// client asks on one connection until it is over, or the client has had enough: in the middle
// of a request, of an answer, or between the two.
func (m *mix) client() {
	conn := m.dial()
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for range 12 {
		batch := []question{m.question()}
		for rand.N(4) == 0 && len(batch) < 4 {
			batch = append(batch, m.question())
		}
		wire := ""
		for _, q := range batch {
			wire += q.wire
		}
		leaves := rand.N(12)
		if leaves == 0 {
			wire = wire[:rand.N(len(wire))]
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for wire != "" {
				n := len(wire)
				if rand.N(3) == 0 {
					n = 1 + rand.N(n)
				}
				if _, err := io.WriteString(conn, wire[:n]); err != nil {
					return // it was answered without, or the client has left
				}
				wire = wire[n:]
			}
		}()
		if leaves == 0 && rand.N(2) == 0 { // else it may leave while it sends
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(io.Discard, r)
			}()
			<-sent
			_ = conn.Close()
			<-read
			return
		}
		lasts := leaves > 1
		for _, q := range batch {
			if !lasts || !m.answer(conn, r, q) {
				lasts = false
				break
			}
		}
		if !lasts {
			if below, ok := conn.(*net.TCPConn); ok && rand.N(2) == 0 {
				_ = below.SetLinger(0)
			}
			_ = conn.Close()
			<-sent
			return
		}
		<-sent
	}
}

// answer reads one and judges it. It reports whether the connection can go on.
func (m *mix) answer(conn net.Conn, r *bufio.Reader, q question) bool {
	res, err := http.ReadResponse(r, &http.Request{Method: q.method})
	if err != nil {
		return false // a server broke off what could not be sent again
	}
	var head bytes.Buffer
	_ = res.Header.Write(&head)
	if tag := alien(q.tag, head.String()); tag != "" {
		m.t.Errorf("the answer to %s has a head of %s: %q", q.tag, tag, head.String())
	}
	if rand.N(15) == 0 { // the client has read enough
		_, _ = io.CopyN(io.Discard, res.Body, rand.N(int64(len(q.body)+1)))
		return false
	}
	body, err := io.ReadAll(res.Body)
	switch {
	case res.StatusCode >= 400:
		m.refused.Add(1)
		if tag := alien(q.tag, string(body)); tag != "" {
			m.t.Errorf("the refusal of %s speaks of %s: %q", q.tag, tag, body)
		}
	case err != nil:
		if !strings.HasPrefix(q.body, string(body)) {
			m.t.Errorf("the answer to %s began as another: %.200q", q.tag, body)
		}
	case res.StatusCode != q.status || string(body) != q.body:
		m.t.Errorf("the answer to %s is %d with %d bytes %.200q, want %d with %d bytes", q.tag, res.StatusCode, len(body), body, q.status, len(q.body))
	default:
		m.got.Add(1)
	}
	return err == nil && !res.Close
}

// Memory of one request is another's soon after it. Whatever clients and servers do, no byte of
// the one may show in what the other sends, is answered, or has in logs and metrics. With the
// tag scribble memory that was given back does not even look like a request.
func TestNothingOfOneRequestReachesAnother(t *testing.T) {
	running := goleak.IgnoreCurrent()
	m := &mix{t: t, roots: x509.NewCertPool()}
	t.Cleanup(func() { leaktest.None(t, running) })

	certified := httptest.NewTLSServer(m.server())
	t.Cleanup(certified.Close)
	errorLog, lines := &logtest.Log{}, &logtest.Log{}
	var metrics *prometheus.Metrics
	w := newWorldWith(t, Limits{HeaderRead: time.Minute, BodyRead: time.Minute, Idle: time.Minute, WriteStall: time.Minute}, func(o *Options) {
		var err error
		if o.AccessLog, err = NewAccessLog("", lines, "$http_x_tag $request_uri $http_user_agent $status $upstream_uri $request_llm_model", false); err != nil {
			t.Fatal(err)
		}
		o.Log = zerolog.New(errorLog)
	}, func(client *upstream.Client, pickers *balancer.Cache) []plugin.Definition {
		var err error
		if metrics, err = prometheus.New(json.RawMessage(`{"metrics":{"http_status":{"extra_labels":[{"tag":"$http_x_tag"}]}}}`)); err != nil {
			t.Fatal(err)
		}
		deps := aiproxy.Deps{Client: client, Drivers: drivers.NewSet(openai.Providers()), Pickers: pickers}
		return []plugin.Definition{aiproxy.Multi(deps), airatelimiting.Definition(), prometheus.Definition(metrics)}
	})
	m.w = w

	authority := certtest.NewAuthority(t, "one")
	m.roots.AppendCertsFromPEM(authority.Cert)
	w.put("ssls/1", ssl(t, authority, nil, "a.test"))
	m.secure = w.secure(TLS{})
	member := func(name string, h http.Handler) string {
		return `{"name":"` + name + `","provider":"openai-compatible","weight":1,"auth":{"header":{"Authorization":"Bearer sk-` + name + `"}},` +
			`"override":{"endpoint":"http://` + backend(t, h.ServeHTTP) + `/v1/chat/completions"}}`
	}
	w.put("routes/ai", `{"uri":"/v1/chat/completions","plugins":{"prometheus":{},`+
		`"ai-rate-limiting":{"rules":[{"count":1000000,"time_window":60,"key":"$http_x_tag"}]},`+
		`"ai-proxy-multi":{"fallback_strategy":["http_429","http_5xx"],"hedge":{"after":5,"max_percent":100},`+
		`"instances":[`+member("a", m.provider())+`,`+member("b", m.provider())+`]}}}`)
	w.put("routes/plain", `{"uri":"/plain/*","plugins":{"prometheus":{}},"upstream":`+nodes(backend(t, m.server().ServeHTTP), backend(t, m.server().ServeHTTP))+`}`)
	w.put("routes/secure", `{"uri":"/secure/*","upstream":{"type":"roundrobin","scheme":"https","pass_host":"pass","keepalive_pool":{"size":8,"idle_timeout":60,"requests":2},"nodes":{"`+
		strings.TrimPrefix(certified.URL, "https://")+`":1}}}`)

	ctx, stop := context.WithCancel(context.Background())
	var logging, clients sync.WaitGroup
	logging.Go(func() { w.log.Run(ctx) })
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	for range 8 {
		clients.Go(func() {
			for range rounds {
				m.client()
			}
		})
	}
	clients.Wait()
	over, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.engine.Shutdown(over); err != nil {
		t.Errorf("the engine ended with requests under way: %v", err)
	}
	if c := w.engine.Connections(); c.Active != 0 || c.Serving != 0 {
		t.Errorf("after the end there are %+v", c)
	}
	stop()
	logging.Wait()
	if m.got.Load() == 0 {
		t.Error("no answer was whole")
	}
	m.judge(lines.String(), errorLog.String(), metrics)
	t.Logf("%d requests, %d calls, %d whole answers, %d refusals", m.last.Load(), m.calls.Load(), m.got.Load(), m.refused.Load())
}

// judge looks at what is left of requests that are over.
func (m *mix) judge(access, errorLog string, metrics *prometheus.Metrics) {
	logged := map[string]bool{}
	for line := range strings.Lines(access) {
		tag := tagPattern.FindString(line)
		if tag == "" {
			continue // a request that was cut before it named itself
		}
		if alien(tag, line) != "" || strings.Contains(line, "##") {
			m.t.Errorf("the access log mixes requests: %q", line)
		}
		if logged[tag] {
			m.t.Errorf("request %s is logged twice", tag)
		}
		logged[tag] = true
	}
	if int64(len(logged)) < m.got.Load() {
		m.t.Errorf("of %d whole answers %d are logged", m.got.Load(), len(logged))
	}
	for line := range strings.Lines(errorLog) {
		if alien(tagPattern.FindString(line), line) != "" || strings.Contains(line, "##") || strings.Contains(line, "panic") {
			m.t.Errorf("the error log has %q", line)
		}
	}
	exposed := httptest.NewRecorder()
	metrics.Handler(prometheus.Sources{}).ServeHTTP(exposed, httptest.NewRequest("GET", metrics.Path(), nil))
	label := regexp.MustCompile(`(?:tag|llm_model)="([^"]*)"`)
	seen := label.FindAllStringSubmatch(exposed.Body.String(), -1)
	if len(seen) == 0 {
		m.t.Error("no series is there")
	}
	for _, one := range seen {
		if tag := one[1]; tag != "overflow" && tag != "" && !logged[tag] {
			m.t.Errorf("a series has the label %q, which is no request's", tag)
		}
	}
}

package nginx

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// forward asks the target's servers, one after another until one can be reached.
func (r *request) forward(t proxyTarget, uri string) error {
	r.upstream = upstreamFacts{url: t.scheme + "://" + t.host + uri, host: t.host, began: time.Now()}
	body, err := r.Body()
	if err != nil {
		return bodyError(err)
	}
	head := r.upstreamHead(uri, len(body))
	status := 502
	for _, addr := range t.addrs() {
		r.upstream.addr = addr
		r.upstream.url = t.scheme + "://" + addr + uri
		c, err := r.dialUpstream(t, addr)
		if err != nil {
			status = upstreamError(err)
			r.logError("error", "connect() failed (%v) while connecting to upstream", err)
			continue
		}
		stop := context.AfterFunc(r.ctx, func() { _ = c.Close() })
		err = r.exchange(c, append(head, body...))
		stop()
		_ = c.Close()
		return err
	}
	return &lua.ExitError{Status: status}
}

// bodyError is the answer to a request whose body could not be read.
func bodyError(err error) error {
	if errors.Is(err, errBodyTooLarge) {
		return &lua.ExitError{Status: 413}
	}
	return &lua.ExitError{Status: 400}
}

func (r *request) dialUpstream(t proxyTarget, addr string) (net.Conn, error) {
	s := &r.loc.settings
	began := time.Now()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	d := net.Dialer{Timeout: s.proxyWait.connect}
	c, err := d.DialContext(r.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if t.scheme == "https" {
		config, err := s.proxyTLS.config(r, hostOnly(t.host))
		if err == nil {
			tc := tls.Client(c, config)
			_ = c.SetDeadline(time.Now().Add(s.proxyWait.connect))
			err = tc.HandshakeContext(r.ctx)
			_ = c.SetDeadline(time.Time{})
			if err == nil {
				r.upstream.connectTook = time.Since(began)
				return tc, nil
			}
		}
		_ = c.Close()
		return nil, err
	}
	r.upstream.connectTook = time.Since(began)
	return c, nil
}

func (p *proxyTLS) config(r *request, host string) (*tls.Config, error) {
	if name := p.name.expand(r); name != "" {
		host = name
	}
	c := &tls.Config{InsecureSkipVerify: true} // nginx verifies nothing unless it is told to
	if p.serverName {
		c.ServerName = host
	}
	if p.verify {
		pem, err := os.ReadFile(p.trusted)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		c.InsecureSkipVerify, c.RootCAs, c.ServerName = false, roots, host
	}
	if p.pair[0] != "" {
		pair, err := tls.LoadX509KeyPair(p.pair[0], p.pair[1])
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// notPassed are the fields of a request that stay between the client and nginx.
var notPassed = []string{"Host", "Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade", "Expect", "Content-Length"}

// upstreamHead writes the request's head for an upstream.
func (r *request) upstreamHead(uri string, length int) []byte {
	s := &r.loc.settings
	version := "HTTP/1.0"
	if s.proxy11 {
		version = "HTTP/1.1"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", r.Method, uri, version)
	replaced := append([]string(nil), notPassed...)
	field := func(name, value string) {
		replaced = append(replaced, name)
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	given := func(name string) bool {
		return slices.ContainsFunc(s.proxyHeaders, func(h proxyHeader) bool { return strings.EqualFold(h.name, name) })
	}
	if !given("Host") {
		field("Host", r.upstream.host)
	}
	if !given("Connection") {
		field("Connection", "close")
	}
	for _, h := range s.proxyHeaders {
		field(h.name, h.value.expand(r))
	}
	if length > 0 || r.header("Content-Length") != "" {
		field("Content-Length", strconv.Itoa(length))
	}
	for _, f := range r.Header {
		if !containsFold(replaced, f.Name) {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return strings.EqualFold(e, s) })
}

// hidden are the fields of an upstream's answer that nginx keeps to itself.
var hidden = []string{
	"Date", "Server", "X-Pad", "X-Accel-Expires", "X-Accel-Redirect", "X-Accel-Limit-Rate",
	"X-Accel-Buffering", "X-Accel-Charset", "Connection", "Keep-Alive", "Transfer-Encoding",
}

// exchange writes the request and passes the answer on as it comes.
func (r *request) exchange(c net.Conn, request []byte) error {
	u := &r.upstream
	in := &waiting{Conn: c, wait: r.loc.settings.proxyWait.read}
	if _, err := c.Write(request); err != nil {
		r.logError("error", "%v while sending request to upstream", err)
		return &lua.ExitError{Status: 502}
	}
	br := bufio.NewReaderSize(in, headLimit)
	status, fields, err := readResponseHead(br)
	if err != nil {
		r.upstreamFailed(err, "reading response header from upstream")
		return &lua.ExitError{Status: upstreamError(err)}
	}
	u.status, u.fields, u.headTook = status, fields, time.Since(u.began)
	if status == 101 {
		return &lua.UnsupportedError{What: "proxy_pass with an upgrade"}
	}
	r.Status = status
	for _, f := range fields {
		if !containsFold(hidden, f.Name) {
			r.OutHeader = append(r.OutHeader, f)
		}
	}
	err = r.copyBody(responseBody(br, r.Method, status, fields))
	u.took = time.Since(u.began)
	if err != nil {
		r.upstreamFailed(err, "reading upstream")
		r.keepAlive = false
		r.answer.abort()
		return errAnswered
	}
	return nil
}

func (r *request) upstreamFailed(err error, doing string) {
	switch {
	case upstreamError(err) == 504:
		r.logError("error", "upstream timed out (110: Connection timed out) while %s", doing)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		r.logError("error", "upstream prematurely closed connection while %s", doing)
	default:
		r.logError("error", "%v while %s", err, doing)
	}
}

// copyBody sends every part when it comes.
func (r *request) copyBody(body io.Reader) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			r.upstream.length += int64(n)
			if _, err := r.Out.Write(buf[:n]); err != nil {
				return nil // the client has gone, which is no failure of the upstream
			}
			if err := r.Out.Flush(); err != nil {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readResponseHead reads the head of an answer, past those that only inform.
func readResponseHead(br *bufio.Reader) (int, []lua.Field, error) {
	for {
		left := headLimit
		line, err := readLine(br, &left)
		if err != nil {
			return 0, nil, err
		}
		version, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		status, err := strconv.Atoi(code)
		if !strings.HasPrefix(version, "HTTP/") || err != nil || status < 100 || status > 999 {
			return 0, nil, errHead
		}
		fields, err := readFields(br, &left)
		if err != nil || status >= 200 || status == 101 {
			return status, fields, err
		}
	}
}

func responseBody(br *bufio.Reader, method string, status int, fields []lua.Field) io.Reader {
	switch {
	case method == "HEAD", status == 204, status == 304:
		return strings.NewReader("")
	case strings.EqualFold(firstField(fields, "Transfer-Encoding"), "chunked"):
		return httputil.NewChunkedReader(br)
	}
	if n, err := strconv.ParseInt(firstField(fields, "Content-Length"), 10, 64); err == nil {
		return &exactly{r: br, left: n}
	}
	return br
}

// exactly reads a body of known length; an earlier end is an error.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// waiting bounds the time between two reads.
type waiting struct {
	net.Conn
	wait time.Duration
}

func (w *waiting) Read(p []byte) (int, error) {
	if w.wait > 0 {
		_ = w.SetReadDeadline(time.Now().Add(w.wait))
	}
	return w.Conn.Read(p)
}

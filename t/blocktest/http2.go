package blocktest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"
)

// sendHTTP2 makes a request over HTTP/2 without TLS and writes the answer the way curl -i
// prints it, which is what Test::Nginx reads.
func sendHTTP2(ctx context.Context, addr string, req outgoing, timeout time.Duration) (*received, error) {
	var raw strings.Builder
	for _, p := range req.packets {
		raw.WriteString(p.data)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw.String())))
	if err != nil {
		return nil, fmt.Errorf("section request: %w", err)
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		return nil, fmt.Errorf("section request: its body: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	target, err := url.ParseRequestURI(parsed.RequestURI)
	if err != nil {
		return nil, fmt.Errorf("section request: %w", err)
	}
	target.Scheme, target.Host = "http", addr
	out, err := http.NewRequestWithContext(ctx, parsed.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Host, out.Header = parsed.Host, parsed.Header
	out.Header.Del("Connection")
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", "") // none, not Go's own
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(out)
	if err != nil {
		if ctx.Err() != nil {
			return &received{timedOut: true}, nil
		}
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	got := &received{raw: printHTTP2(resp, answer)}
	if err != nil {
		got.timedOut = ctx.Err() != nil
	}
	return got, nil
}

func printHTTP2(resp *http.Response, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/2 %d \r\n", resp.StatusCode)
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, v := range resp.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", strings.ToLower(name), v)
		}
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

package blocktest

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// A packet is a part of a request that is written at once.
type packet struct {
	data  string
	delay time.Duration // before it, when it is not the first
}

// An outgoing request is its packets; pipelined requests are one with several answers.
type outgoing struct {
	packets []packet
	answers int
}

func (o outgoing) head() bool {
	var b strings.Builder
	for _, p := range o.packets {
		b.WriteString(p.data)
	}
	return headRequest.MatchString(b.String())
}

var (
	headRequest    = regexp.MustCompile(`^\s*HEAD\s+`)
	leadingComment = regexp.MustCompile(`\A(?:\s*#[^\n]+\s+|\s+)`)
	requestLine    = regexp.MustCompile(`^(\s*)(\S+)( *)(?:(\S+)( *))?(?:(\S+)( *))?(\s*)$`)
	blankLines     = regexp.MustCompile(`\n+`)
	contentLength  = regexp.MustCompile(`(?:^|\n)Content-Length:`)
	hostLine       = regexp.MustCompile(`(?i)(?:^|\n)Host:`)
	connectionLine = regexp.MustCompile(`(?i)(?:^|\n)Connection`)
	loneNewline    = regexp.MustCompile(`\r?\n`)
)

// errRequest is a request section that is not valid.
type errRequest struct{ why string }

func (e *errRequest) Error() string { return e.why }

// requests makes what is sent of a block's sections.
func (s *sections) requests(env map[string]string) ([]outgoing, error) {
	middle, err := seconds(s.get("raw_request_middle_delay"))
	if err != nil {
		return nil, &errRequest{"section raw_request_middle_delay: " + err.Error()}
	}
	switch {
	case s.has("raw_request"):
		return s.rawRequest(middle)
	case perl.Truth(s.get("pipelined_requests")):
		return s.pipelined(env)
	}
	switch r := s.get("request").(type) {
	case nil:
		return nil, &errRequest{"no section says what to request"}
	case *perl.Array:
		return s.several(r, middle)
	default:
		text := perl.Text(r)
		for leadingComment.MatchString(text) {
			text = leadingComment.ReplaceAllString(text, "")
		}
		headers, chunked, err := s.moreHeaders(0)
		if err != nil {
			return nil, err
		}
		built, err := buildRequest([]string{text}, headers, chunked, "close")
		if err != nil {
			return nil, err
		}
		return []outgoing{{packets: []packet{{data: built[0]}}, answers: 1}}, nil
	}
}

func (s *sections) rawRequest(middle time.Duration) ([]outgoing, error) {
	o := outgoing{answers: 1}
	if a, ok := s.get("raw_request").(*perl.Array); ok {
		for _, e := range a.Elems {
			o.packets = append(o.packets, packet{data: perl.Text(e), delay: middle})
		}
	} else {
		o.packets = []packet{{data: perl.Text(s.get("raw_request"))}}
	}
	if len(o.packets) == 0 {
		return nil, &errRequest{"section raw_request: it is empty"}
	}
	return []outgoing{o}, nil
}

func (s *sections) pipelined(env map[string]string) ([]outgoing, error) {
	a, ok := s.get("pipelined_requests").(*perl.Array)
	if !ok || len(a.Elems) == 0 {
		return nil, &errRequest{"section pipelined_requests: it is no array of requests"}
	}
	var all strings.Builder
	for i, e := range a.Elems {
		headers, chunked, err := s.moreHeaders(i)
		if err != nil {
			return nil, err
		}
		connection := "keep-alive"
		if i == len(a.Elems)-1 {
			connection = "close"
		}
		text, err := expand("pipelined_requests", perl.Text(e), env)
		if err != nil {
			return nil, err
		}
		built, err := buildRequest([]string{text}, headers, chunked, connection)
		if err != nil {
			return nil, err
		}
		all.WriteString(built[0])
	}
	return []outgoing{{packets: []packet{{data: all.String()}}, answers: len(a.Elems)}}, nil
}

// several makes a request of each element: a text, or an array of packets, which are texts
// or hashes of value and delay_before.
func (s *sections) several(list *perl.Array, middle time.Duration) ([]outgoing, error) {
	var out []outgoing
	for i, e := range list.Elems {
		headers, chunked, err := s.moreHeaders(i)
		if err != nil {
			return nil, err
		}
		packets, err := packetsOf(e, middle)
		if err != nil {
			return nil, err
		}
		texts := make([]string, len(packets))
		for j, p := range packets {
			texts[j] = p.data
		}
		built, err := buildRequest(texts, headers, chunked, "close")
		if err != nil {
			return nil, err
		}
		for j := range packets {
			packets[j].data = built[j]
		}
		out = append(out, outgoing{packets: packets, answers: 1})
	}
	if len(out) == 0 {
		return nil, &errRequest{"section request: it is an empty array"}
	}
	return out, nil
}

func packetsOf(v perl.Value, middle time.Duration) ([]packet, error) {
	list, ok := v.(*perl.Array)
	if !ok {
		return []packet{{data: perl.Text(v)}}, nil
	}
	var out []packet
	for _, e := range list.Elems {
		p := packet{data: perl.Text(e), delay: middle}
		if h, ok := e.(*perl.Hash); ok {
			value, _ := h.Get("value")
			p.data = perl.Text(value)
			if before, ok := h.Get("delay_before"); ok {
				p.delay = time.Duration(perl.Number(before) * float64(time.Second))
			}
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, &errRequest{"section request: a request without packets"}
	}
	return out, nil
}

// moreHeaders returns the header lines of the i-th request, each with its CRLF.
func (s *sections) moreHeaders(i int) (lines string, chunked bool, err error) {
	v := s.get("more_headers")
	if a, ok := v.(*perl.Array); ok {
		if i >= len(a.Elems) || a.Elems[i] == nil {
			return "", false, &errRequest{fmt.Sprintf("section more_headers: nothing for request %d", i)}
		}
		v = a.Elems[i]
	}
	if !perl.Truth(v) {
		return "", false, nil
	}
	for _, line := range splitLines(perl.Text(v)) {
		if strings.HasPrefix(strings.TrimLeft(line, " \t\r"), "#") {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimLeft(value, " \t\r\f")
		if strings.EqualFold(key, "transfer-encoding") && value == "chunked" {
			chunked = true
		}
		lines += key + ": " + value + "\r\n"
	}
	return lines, chunked, nil
}

// splitLines splits at runs of newlines; what is empty at the end does not count.
func splitLines(s string) []string {
	out := blankLines.Split(s, -1)
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// buildRequest completes a request: "METHOD [TARGET [PROTOCOL]]" gets its defaults, the
// header lines and, with a body, its length. The packets are cut where they were.
func buildRequest(packets []string, headers string, chunked bool, connection string) ([]string, error) {
	all := strings.Join(packets, "")
	first, body, _ := strings.Cut(all, "\n")
	m := requestLine.FindStringSubmatch(strings.TrimSuffix(first, "\r"))
	if m == nil {
		return nil, &errRequest{fmt.Sprintf("section request: its first line is %q", first)}
	}
	method, target, protocol := m[2], m[4], m[6]
	if target == "" {
		target = "/"
	}
	if protocol == "" {
		protocol = "HTTP/1.1"
	}
	length := ""
	sent := body
	if !chunked && body != "" && !contentLength.MatchString(headers) {
		sent = strings.Trim(body, " \t\r\n\f\v")
		length = fmt.Sprintf("Content-Length: %d\r\n", len(sent))
	}
	headers = loneNewline.ReplaceAllString(headers, "\r\n")
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s %s\r\n", method, target, protocol)
	if !hostLine.MatchString(headers) {
		head.WriteString("Host: localhost\r\n")
	}
	if !connectionLine.MatchString(headers) {
		head.WriteString("Connection: " + connection + "\r\n")
	}
	head.WriteString(headers + length + "\r\n")
	if len(packets) == 1 {
		return []string{head.String() + sent}, nil
	}
	return cutPackets(packets, len(all)-len(body), head.String(), body, sent)
}

// cutPackets gives the packet that ends the request line the whole head, and every packet
// its part of the body.
func cutPackets(packets []string, headLen int, head, body, sent string) ([]string, error) {
	if len(packets[0]) < headLen {
		return nil, &perl.UnsupportedError{What: "a request line in several packets"}
	}
	skip := strings.Index(body, sent)
	out := make([]string, len(packets))
	at := -headLen
	for i, p := range packets {
		from, to := max(at, 0), max(at+len(p), 0)
		at += len(p)
		from, to = min(max(from-skip, 0), len(sent)), min(max(to-skip, 0), len(sent))
		out[i] = sent[from:to]
	}
	out[0] = head + out[0]
	return out, nil
}

// seconds reads a time as Test::Nginx writes it: "5", "0.5", "5s", "300ms".
func seconds(v perl.Value) (time.Duration, error) {
	if v == nil {
		return 0, nil
	}
	s := strings.TrimSpace(perl.Text(v))
	unit := float64(time.Second)
	if number, ok := strings.CutSuffix(s, "ms"); ok {
		s, unit = number, float64(time.Millisecond)
	} else {
		s = strings.TrimSuffix(s, "s")
	}
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no time", perl.Text(v))
	}
	return time.Duration(perl.Number(s) * unit), nil
}

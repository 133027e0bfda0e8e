package t

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// strict is a provider that takes HTTP/1.1 by the letter: what is merely tolerated elsewhere
// is an error here, so that nobody can say that another server would have read it otherwise.
// It keeps what it parsed.
type strict struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	took  map[string][]taken // by tag
	wrong []string           // what it could not take, and what it should not have been given
	held  map[string]chan struct{}
	left  map[string]chan struct{}
	conns sync.WaitGroup
}

// taken is a request as a strict server reads it.
type taken struct {
	method, target string
	fields         [][2]string
	body           string
	head           string // its bytes
	chunked        bool
}

func (q *taken) all(name string) (values []string) {
	for _, f := range q.fields {
		if strings.EqualFold(f[0], name) {
			values = append(values, f[1])
		}
	}
	return values
}

func (q *taken) get(name string) string {
	if v := q.all(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// digest is what an answer says of the request that it answers.
func (q *taken) digest() string { return digest(q.method, q.target, q.body) }

func digest(method, target, body string) string {
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf("%s %s %d %s", method, target, len(body), hex.EncodeToString(sum[:8]))
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &strict{
		t: t, addr: l.Addr().String(), took: map[string][]taken{},
		held: map[string]chan struct{}{}, left: map[string]chan struct{}{},
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.serve(conn) })
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
	})
	return p
}

// tagged returns what it took under a tag.
func (p *strict) tagged(tag string) []taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]taken(nil), p.took[tag]...)
}

// complaints are what it was given and should not have been, each once.
func (p *strict) complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.wrong
	p.wrong = nil
	return all
}

func (p *strict) complain(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
}

// signal returns the channel of a tag in m, which is p.held or p.left.
func (p *strict) signal(m map[string]chan struct{}, tag string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m[tag] == nil {
		m[tag] = make(chan struct{})
	}
	return m[tag]
}

// Paths at which the provider does something else than to say what it was asked.
const (
	pathHold   = "/wire/hold" // it does not answer
	pathHalf   = "/wire/half" // it answers with a half, and no more
	pathLate   = "/wire/late" // it answers with a half, and with the rest once nobody wants it
	pathBig    = "/wire/big"  // a long answer
	pathPolicy = "/policy"    // the route looks into the body
	bigSize    = 1 << 20
)

func (p *strict) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	raw := &strings.Builder{}
	r := bufio.NewReader(io.TeeReader(conn, raw))
	for {
		q, err := readStrict(r)
		switch tag := q.get("X-Tag"); {
		case errors.Is(err, io.EOF) && q.head == "" && r.Buffered() == 0:
			return
		case errors.Is(err, errCut):
			return // whoever sent it gave it up
		case err != nil:
			p.complain("a request that is none: %v; the connection had %q", err, tail(raw.String(), 800))
			return
		default:
			p.judge(&q)
			p.mu.Lock()
			p.took[tag] = append(p.took[tag], q)
			p.mu.Unlock()
			if !p.answer(conn, r, &q, tag) {
				return
			}
		}
		if r.Buffered() == 0 {
			raw.Reset()
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// answer reports whether the connection can take another request.
func (p *strict) answer(conn net.Conn, r *bufio.Reader, q *taken, tag string) bool {
	path, _, _ := strings.Cut(q.target, "?")
	head := "HTTP/1.1 200 OK\r\nX-Answer-To: " + tag + "\r\nContent-Length: "
	text := q.digest()
	switch path {
	case pathHold, pathHalf, pathLate:
		if path != pathHold {
			_, _ = io.WriteString(conn, head+"10\r\n\r\nhello")
		}
		close(p.signal(p.held, tag))
		if path == pathLate {
			// The other half, and an answer that nobody asked for, on a connection that is
			// not to be used again.
			<-p.signal(p.left, tag)
			_, _ = io.WriteString(conn, "world"+head+"6\r\n\r\npoison")
		}
		if _, err := r.Peek(1); err == nil {
			p.complain("%s: a connection was used again whose answer nobody had read", tag)
		}
		if path != pathLate {
			close(p.signal(p.left, tag))
		}
		return false
	case pathBig:
		text = strings.Repeat("0123456789abcdef", bigSize/16)
	case "/v1/chat/completions":
		raw, _ := json.Marshal(text)
		text = `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":` + string(raw) + `}}]}`
		head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
	}
	out := head + strconv.Itoa(len(text)) + "\r\n\r\n"
	if q.method != "HEAD" {
		out += text
	}
	_, err := io.WriteString(conn, out)
	return err == nil
}

// canary is in everything that clients send and that no provider may see.
const canary = "canary"

// judge looks at a request that was taken for what should not have been sent.
func (p *strict) judge(q *taken) {
	if !strings.HasPrefix(q.target, "/wire/") && q.target != pathPolicy && q.target != "/v1/chat/completions" {
		p.complain("a request came that no route carries:\n%s", q.head)
	}
	for _, f := range q.fields {
		switch strings.ToLower(f[0]) {
		case "connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection", "proxy-authorization",
			"proxy-authenticate", "http2-settings", "expect", "x-consumer-username", "x_consumer_username",
			"x-credential-identifier":
			p.complain("%s: %s came in\n%s", f[0], f[1], q.head)
		}
		if strings.Contains(strings.ToLower(f[0]+f[1]), canary) {
			p.complain("a canary came in %s: %s of\n%s", f[0], f[1], q.head)
		}
	}
	if q.target == "/v1/chat/completions" {
		if got := q.all("Authorization"); len(got) != 1 || got[0] != "Bearer provider" {
			p.complain("Authorization is %q in\n%s", got, q.head)
		}
	}
	if q.target == pathPolicy || q.target == "/v1/chat/completions" {
		if models := modelsOf(q.body); len(models) != 1 || models[0] != "allowed" {
			p.complain("a model that the policy does not allow came in %q: %q", q.body, models)
		}
	}
}

// modelsOf returns every top-level member of a body of JSON that some reader may take for
// the model.
func modelsOf(body string) (models []string) {
	d := json.NewDecoder(strings.NewReader(body))
	depth, key := 0, true
	for {
		token, err := d.Token()
		if err != nil {
			return models
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			key = true
		case string:
			if depth == 1 && key && v == "model" {
				value, err := d.Token()
				if err != nil {
					return models
				}
				models = append(models, fmt.Sprint(value))
				continue
			}
			key = depth != 1 || !key
		default:
			key = true
		}
	}
}

// errCut is a request whose connection ended before it did.
var errCut = errors.New("the request is cut")

// readStrict reads a request as RFC 9112 says that one is written. io.EOF with an empty head
// is the end of a connection.
func readStrict(r *bufio.Reader) (q taken, err error) {
	line := func() (string, error) {
		s, err := r.ReadString('\n')
		q.head += s
		if err != nil {
			if s == "" && q.head == "" {
				return "", io.EOF
			}
			return "", errCut
		}
		text, ok := strings.CutSuffix(s, "\r\n")
		if !ok {
			return "", fmt.Errorf("line %q ends with a bare LF", s)
		}
		for i := range len(text) {
			if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
				return "", fmt.Errorf("line %q has a control character", s)
			}
		}
		return text, nil
	}
	start, err := line()
	if err != nil {
		return q, err
	}
	parts := strings.Split(start, " ")
	if len(parts) != 3 || parts[2] != "HTTP/1.1" || !isToken(parts[0]) || parts[1] == "" || strings.ContainsAny(parts[1], "\t#") {
		return q, fmt.Errorf("request line %q", start)
	}
	q.method, q.target = parts[0], parts[1]
	if q.target[0] != '/' {
		return q, fmt.Errorf("request line %q: no origin form", start)
	}
	length := -1
	for {
		field, err := line()
		if err != nil {
			return q, err
		}
		if field == "" {
			break
		}
		name, value, ok := strings.Cut(field, ":")
		if !ok || !isToken(name) {
			return q, fmt.Errorf("field line %q", field)
		}
		value = strings.Trim(value, " \t")
		q.fields = append(q.fields, [2]string{name, value})
		switch strings.ToLower(name) {
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || length >= 0 || strconv.FormatUint(n, 10) != value {
				return q, fmt.Errorf("field line %q: no length, or a second one", field)
			}
			length = int(n)
		case "transfer-encoding":
			if value != "chunked" || q.chunked {
				return q, fmt.Errorf("field line %q: an encoding that is not known, or a second one", field)
			}
			q.chunked = true
		}
	}
	if hosts := q.all("Host"); len(hosts) != 1 || strings.ContainsAny(hosts[0], " \t/@?#,") {
		return q, fmt.Errorf("hosts %q", hosts)
	}
	switch {
	case q.chunked && length >= 0:
		return q, errors.New("a length and an encoding")
	case q.chunked:
		q.body, err = readChunks(r)
	case length > 0:
		body := make([]byte, length)
		if _, err = io.ReadFull(r, body); err != nil {
			err = errCut
		}
		q.body = string(body)
	}
	return q, err
}

func readChunks(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", errCut
		}
		digits, ok := strings.CutSuffix(line, "\r\n")
		if !ok || digits == "" || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
			return "", fmt.Errorf("chunk size %q", line)
		}
		size, err := strconv.ParseUint(digits, 16, 31)
		if err != nil {
			return "", fmt.Errorf("chunk size %q", line)
		}
		if _, err := io.CopyN(&body, r, int64(size)); err != nil {
			return "", errCut
		}
		var end [2]byte
		if _, err := io.ReadFull(r, end[:]); err != nil {
			return "", errCut
		}
		if string(end[:]) != "\r\n" {
			return "", fmt.Errorf("a chunk, or the last one, ends with %q", end)
		}
		if size == 0 {
			return body.String(), nil
		}
	}
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// The judge is judged: what the suite could not see it could not find either.
func TestTheStrictProviderTakesNothingElse(t *testing.T) {
	const get = "GET /wire/x HTTP/1.1\r\nHost: a\r\n"
	for name, tt := range map[string]struct {
		text     string
		requests int
		fault    bool
	}{
		"a request":                         {get + "\r\n", 1, false},
		"two":                               {get + "\r\n" + get + "Content-Length: 2\r\n\r\nhi", 2, false},
		"chunks":                            {get + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1, false},
		"a second request behind a length":  {get + "Content-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 2, false},
		"a cut head":                        {"GET /wire/x HT", 0, true},
		"a cut body":                        {get + "Content-Length: 3\r\n\r\nhi", 0, true},
		"a cut chunk":                       {get + "Transfer-Encoding: chunked\r\n\r\n2\r\nh", 0, true},
		"two lengths":                       {get + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 0, true},
		"a length with a sign":              {get + "Content-Length: +0\r\n\r\n", 0, true},
		"a length and an encoding":          {get + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, true},
		"an encoding that it does not know": {get + "Transfer-Encoding: xchunked\r\n\r\n", 0, true},
		"a bare LF":                         {"GET /wire/x HTTP/1.1\nHost: a\r\n\r\n", 0, true},
		"a bare CR":                         {get + "X-A: 1\rX-B: 2\r\n\r\n", 0, true},
		"a folded line":                     {get + " X-A: 1\r\n\r\n", 0, true},
		"a space before the colon":          {get + "X-A : 1\r\n\r\n", 0, true},
		"no host":                           {"GET /wire/x HTTP/1.1\r\n\r\n", 0, true},
		"two hosts":                         {get + "Host: a\r\n\r\n", 0, true},
		"another version":                   {"GET /wire/x HTTP/1.0\r\nHost: a\r\n\r\n", 0, true},
		"an absolute form":                  {"GET http://a/wire/x HTTP/1.1\r\nHost: a\r\n\r\n", 0, true},
		"a chunk with an extension":         {get + "Transfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n", 0, true},
		"a trailer":                         {get + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\n\r\n", 0, true},
		"a chunk of another size":           {get + "Transfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n", 0, true},
	} {
		r := bufio.NewReader(strings.NewReader(tt.text))
		n, fault := 0, false
		for {
			q, err := readStrict(r)
			if err != nil {
				fault = err != io.EOF || q.head != ""
				break
			}
			n++
		}
		if n != tt.requests || fault != tt.fault {
			t.Errorf("%s: got %d requests, a fault %v", name, n, fault)
		}
	}
	p := &strict{took: map[string][]taken{}}
	for _, q := range []taken{
		{method: "GET", target: "/smuggled"},
		{method: "GET", target: "/wire/x", fields: [][2]string{{"X-A", "a-canary"}}},
		{method: "GET", target: "/wire/x", fields: [][2]string{{"Connection", "close"}}},
		{method: "POST", target: pathPolicy, body: `{"model":"forbidden"}`},
		{method: "POST", target: pathPolicy, body: `{"model":"allowed","a":{"model":"x"},"model":"forbidden"}`},
		{method: "POST", target: "/v1/chat/completions", body: `{"model":"allowed"}`},
	} {
		if p.judge(&q); len(p.complaints()) == 0 {
			t.Errorf("it has nothing against %+v", q)
		}
	}
	fine := taken{method: "POST", target: pathPolicy, body: `{"a":["model","forbidden"],"model":"allowed","b":{"model":"forbidden"}}`}
	if p.judge(&fine); len(p.wrong) > 0 {
		t.Errorf("it says %q", p.wrong)
	}
}

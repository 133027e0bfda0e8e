// Package fakellm is a provider of language models that has none: it answers in the shapes
// of OpenAI, Anthropic, Gemini, Vertex and Bedrock, whole or as a stream, as slowly and as
// badly as it is asked to. Tests and the demo talk to it. It does not check credentials
// unless it is told one, and does not know what is being tested.
//
// The path decides the protocol, as with the providers themselves; what is none of theirs
// is a chat. The query scripts the answer; Scenarios lists the faults:
//
//	status=N kind=K retry_after=S   an error with that status, type and header
//	reset                           the connection is reset before the head
//	silent_ms=N gap_ms=N drip_ms=N  pauses before the first byte, between events, between bytes; negative: for ever
//	words=N endless                 how long the answer is
//	cut=N cut_byte=N                the connection breaks after N events, after N bytes of the body
//	stall=N malformed=N error=N     nothing comes from the Nth event on; it is no JSON; it reports a failure
//	no_usage                        a chat's stream does not tell its usage, asked or not
//	no_end                          the stream ends without its protocol's last event
//	empty html gzip long            200 without a body, with a page, compressed, with a length that is too long
//	tool think                      the first tool that is offered is called; thoughts come first
package fakellm

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Received is a request as it came.
type Received struct {
	Method, Path, Query string
	Header              http.Header
	Body                []byte
}

// Server is the provider. It is an http.Handler and safe for concurrent use.
type Server struct {
	Name          string // how it calls itself in its answers
	Authorization string // what the header must be; empty: anything

	mu   sync.Mutex
	got  []Received
	gone chan struct{}
}

// New returns a provider of that name.
func New(name string) *Server { return &Server{Name: name, gone: make(chan struct{}, 64)} }

// Received returns the requests so far.
func (s *Server) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received(nil), s.got...)
}

// Reset forgets the requests so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = nil
}

// Gone receives a value for every request whose client left before the end.
func (s *Server) Gone() <-chan struct{} { return s.gone }

// question is what of a request the answer depends on.
type question struct {
	model   string
	stream  bool
	counted bool   // a chat's stream is asked for its usage
	last    string // the last message, as text
	tool    string // the first tool that is offered; empty: none, or its result is there
	inputs  int    // texts to be embedded
}

// reply is what is answered, in no protocol yet.
type reply struct {
	question
	words []string
	think bool
	call  bool // the tool is called, and nothing is said
	noEnd bool
}

func (r *reply) text() string { return strings.Join(r.words, " ") }

// arguments are what a tool is called with: JSON that every split cuts somewhere.
func (r *reply) arguments() string {
	p, _ := json.Marshal(map[string]string{"text": r.last})
	return string(p)
}

// tokens are the counts of every answer: of its question 7, of which 3 were cached; of its
// thoughts 2.
func (r *reply) tokens() (prompt, cached, completion, thoughts int) {
	completion = len(r.words)
	if r.think {
		thoughts = 2
	}
	return 7, 3, completion + thoughts, thoughts
}

const thought = "Let me think."

// dialect is how a protocol puts an answer.
type dialect interface {
	ask(path string, body []byte) (question, error)
	whole(r *reply) any
	// events are the parts of a stream, framed.
	events(r *reply) [][]byte
	contentType() string // of a stream
	// fail is the body of an error, broken the event of one, garbled an event that is none.
	fail(status int, kind, text string) any
	broken() []byte
	garbled() []byte
}

func dialectOf(path string) dialect {
	switch {
	case strings.HasSuffix(path, "/responses"):
		return responses{}
	case strings.HasSuffix(path, "/embeddings"):
		return embeddings{}
	case strings.HasSuffix(path, "/messages"):
		return messages{}
	case strings.HasSuffix(path, "/converse"), strings.HasSuffix(path, "/converse-stream"):
		return converse{}
	case strings.HasSuffix(path, ":generateContent"), strings.HasSuffix(path, ":streamGenerateContent"):
		return generate{}
	case strings.HasSuffix(path, ":predict"):
		return predict{}
	}
	return chat{}
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.got = append(s.got, Received{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body})
	s.mu.Unlock()
	d, a := dialectOf(r.URL.Path), answer{s: s, w: w, r: r, script: scriptOf(r.URL.Query())}
	if s.Authorization != "" && r.Header.Get("Authorization") != s.Authorization {
		a.fail(d, http.StatusUnauthorized, "Incorrect API key provided.")
		return
	}
	switch {
	case a.reset:
		a.breakOff()
		return
	case !a.wait(a.silent):
		return
	case a.status != http.StatusOK:
		a.fail(d, a.status, "scripted")
		return
	}
	q, err := d.ask(r.URL.Path, body)
	if err != nil {
		a.fail(d, http.StatusBadRequest, err.Error())
		return
	}
	a.send(d, s.reply(q, a.script))
}

// reply makes up an answer.
func (s *Server) reply(q question, do script) *reply {
	q.counted = q.counted && !do.noUsage
	out := &reply{question: q, think: do.think, noEnd: do.noEnd}
	if do.tool && q.tool != "" {
		out.call = true
		return out
	}
	out.words = strings.Fields(fmt.Sprintf("I am %s, and I hear: %s", s.Name, q.last))
	if do.words >= 0 {
		out.words = out.words[:min(len(out.words), do.words)]
		for len(out.words) < do.words {
			out.words = append(out.words, "so")
		}
	}
	return out
}

// answer is one on its way.
type answer struct {
	script
	s *Server
	w http.ResponseWriter
	r *http.Request

	sent int // bytes of the body
}

func (a *answer) fail(d dialect, status int, text string) {
	h := a.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Request-Id", "req-fake")
	if a.retryAfter != "" {
		h.Set("Retry-After", a.retryAfter)
	}
	a.w.WriteHeader(status)
	_ = json.NewEncoder(a.w).Encode(d.fail(status, a.kind, text))
}

// send answers with a reply, or with what is no answer at all.
func (a *answer) send(d dialect, r *reply) {
	kind, parts := "application/json", [][]byte(nil)
	switch {
	case a.html:
		kind, parts = "text/html", [][]byte{[]byte("<html><body>Bad luck.</body></html>\n")}
	case r.stream:
		kind, parts = d.contentType(), a.faults(d, d.events(r))
	default:
		p, _ := json.Marshal(d.whole(r))
		parts = [][]byte{append(p, '\n')}
	}
	if a.empty {
		parts = nil
	}
	if a.gzip {
		a.w.Header().Set("Content-Encoding", "gzip")
		parts = [][]byte{compressed(bytes.Join(parts, nil))}
	}
	a.w.Header().Set("Content-Type", kind)
	if a.long {
		a.w.Header().Set("Content-Length", strconv.Itoa(len(bytes.Join(parts, nil))+10))
	}
	a.w.WriteHeader(http.StatusOK)
	for n, part := range parts {
		switch {
		case a.cut == n+1:
			panic(http.ErrAbortHandler)
		case a.stall == n+1:
			a.wait(forever)
			return
		case n > 0 && !a.wait(a.gap) || !a.write(part):
			return
		}
	}
	for a.endless && r.stream && len(parts) > 2 {
		if part := parts[2]; !a.wait(a.gap) || !a.write(part) {
			return
		}
	}
	if a.long || a.cut == len(parts)+1 {
		panic(http.ErrAbortHandler)
	}
}

// faults puts what is wrong into a stream.
func (a *answer) faults(d dialect, parts [][]byte) [][]byte {
	if n := a.malformed; n > 0 && n <= len(parts) {
		parts[n-1] = d.garbled()
	}
	if n := a.broken; n > 0 && n <= len(parts) {
		parts = append(parts[:n-1:n-1], d.broken())
	}
	if a.endless {
		parts = parts[:min(len(parts), 3)]
	}
	return parts
}

// write sends a part; false if the client left.
func (a *answer) write(part []byte) bool {
	flush := a.w.(http.Flusher).Flush
	for len(part) > 0 {
		n := len(part)
		if a.drip > 0 {
			n = 1
		}
		if a.cutByte >= 0 && a.sent+n > a.cutByte {
			_, _ = a.w.Write(part[:a.cutByte-a.sent])
			flush()
			panic(http.ErrAbortHandler)
		}
		if _, err := a.w.Write(part[:n]); err != nil {
			a.left()
			return false
		}
		flush()
		a.sent += n
		if part = part[n:]; !a.wait(a.drip) {
			return false
		}
	}
	return true
}

// breakOff resets the connection.
func (a *answer) breakOff() {
	c, _, err := a.w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has streams to reset
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// wait pauses; false if the client left meanwhile.
func (a *answer) wait(d time.Duration) bool {
	if a.r.Context().Err() == nil && d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		if a.r.Context().Err() == nil {
			return true
		}
	case <-a.r.Context().Done():
	}
	a.left()
	return false
}

func (a *answer) left() {
	select {
	case a.s.gone <- struct{}{}:
	default:
	}
}

func compressed(p []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(p)
	_ = z.Close()
	return b.Bytes()
}

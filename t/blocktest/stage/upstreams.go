package stage

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/fakellm"
)

// An upstreamServer is a scripted upstream of a suite.
type upstreamServer struct {
	script blocktest.Upstream
	model  http.Handler
	server *httptest.Server // nil: nobody listens

	mu  sync.Mutex
	got []*blocktest.Received
}

// serveUpstream lets an upstream listen at addr.
func serveUpstream(addr string, script blocktest.Upstream) (*upstreamServer, error) {
	u := &upstreamServer{script: script}
	if script.Model != "" {
		u.model = fakellm.New(script.Model)
	}
	if script.Refuse {
		return u, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	u.server = &httptest.Server{Listener: l, Config: &http.Server{
		Handler: u, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0),
	}}
	if script.TLS {
		u.server.StartTLS()
	} else {
		u.server.Start()
	}
	return u, nil
}

// ServeHTTP notes a request and answers it.
func (u *upstreamServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	got := &blocktest.Received{Method: r.Method, Target: r.RequestURI, Header: r.Header.Clone(), Body: string(body)}
	got.Header["Host"] = []string{r.Host}
	if len(r.TransferEncoding) > 0 {
		got.Header["Transfer-Encoding"] = r.TransferEncoding
	} else if r.ContentLength > 0 {
		got.Header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	u.mu.Lock()
	u.got = append(u.got, got)
	a := u.script.Answers[min(len(u.got), len(u.script.Answers))-1]
	u.mu.Unlock()
	if u.model != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		u.model.ServeHTTP(w, r)
		return
	}
	if !wait(r, a.Delay) || !answer(w, r, a) {
		u.mu.Lock()
		got.Gone = true
		u.mu.Unlock()
	}
}

// answer writes an answer; false: the client left before its end.
func answer(w http.ResponseWriter, r *http.Request, a blocktest.Answer) bool {
	if a.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for _, h := range a.Header {
		w.Header().Add(h[0], h[1])
	}
	stream := strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream")
	if !stream && a.Status >= 200 && a.Status != http.StatusNoContent && a.Status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	parts := []string{a.Body}
	if stream {
		parts = strings.SplitAfter(a.Body, "\n\n")
	}
	flush := http.NewResponseController(w).Flush
	left := a.Cut // bytes, unless it is negative
	for i, part := range parts {
		if i > 0 && part != "" && !wait(r, a.Gap) {
			return false
		}
		if a.Cut >= 0 && len(part) >= left {
			_, _ = io.WriteString(w, part[:left])
			_ = flush()
			panic(http.ErrAbortHandler)
		}
		left -= len(part)
		if _, err := io.WriteString(w, part); err != nil {
			return false
		}
		if stream && flush() != nil {
			return false
		}
	}
	return true
}

// wait pauses; false: the client left meanwhile.
func wait(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (u *upstreamServer) received() []blocktest.Received {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make([]blocktest.Received, len(u.got))
	for i, g := range u.got {
		all[i] = *g
	}
	return all
}

// forget drops what was received.
func (u *upstreamServer) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = nil
}

// close ends the server and its connections.
func (u *upstreamServer) close() {
	if u.server == nil {
		return
	}
	u.server.CloseClientConnections()
	u.server.Close()
	u.server = nil
}

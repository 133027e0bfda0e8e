// Package drivertest replays recorded answers of providers through a driver and compares
// what a client would get. It knows drivers by their interface only, and neither opens
// sockets nor has recordings of its own: those stand beside the driver.
package drivertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// Recording is a provider's answer and what becomes of it.
type Recording struct {
	About   string `json:"about"`
	Path    string `json:"path"`    // of the client's request
	Request string `json:"request"` // its body
	// Answer is what came over the connection, head and all, until it was closed.
	Answer string `json:"answer"`
	// Messages follow the answer's head where it is an AWS event stream, whose bytes are no
	// text: each in a chunk of its own, and a last chunk behind them.
	Messages []Message `json:"messages"`
	// Cut is how many bytes before the end of all that the connection broke: 5 for just
	// before the last chunk.
	Cut  int    `json:"cut"`
	Want Result `json:"want"`
}

// Message is a message of an AWS event stream. Its payload is JSON.
type Message struct {
	Type    string `json:"type"`
	Kind    string `json:"kind"`
	Payload string `json:"payload"`
}

func (m Message) bytes() []byte {
	return eventstream.AppendMessage(nil, eventstream.Message{
		Type: m.Type, Kind: m.Kind, ContentType: "application/json", Payload: []byte(m.Payload),
	})
}

// wire is what comes over the connection.
func (r *Recording) wire() string {
	if len(r.Messages) == 0 {
		return r.Answer[:len(r.Answer)-r.Cut]
	}
	all := []byte(r.Answer)
	for _, m := range r.Messages {
		p := m.bytes()
		all = fmt.Appendf(all, "%x\r\n%s\r\n", len(p), p)
	}
	all = append(all, "0\r\n\r\n"...)
	return string(all[:len(all)-r.Cut])
}

// Result is what a client gets, and what is known afterwards.
type Result struct {
	Status   int           `json:"status"` // 0: nothing may go to the client
	Body     string        `json:"body"`
	Messages []Message     `json:"messages"` // instead of Body, where the client gets an AWS event stream
	Broken   bool          `json:"broken"`   // the client was made to see that the answer is not complete
	Usage    drivers.Usage `json:"usage"`
	Tools    bool          `json:"tools"`
	Complete bool          `json:"complete"`
}

// Run replays every recording in dir/*.json: in one piece, cut in two at every byte, and
// byte by byte. The result must always be the one that the recording wants.
func Run(t *testing.T, d drivers.Driver, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s (%v)", dir, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var rec Recording
		in := json.NewDecoder(bytes.NewReader(raw))
		in.DisallowUnknownFields()
		if err := in.Decode(&rec); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		t.Run(rec.About, func(t *testing.T) {
			check := func(how string, cut int, pieces ...string) {
				t.Helper()
				i := &drivers.Instance{Driver: d, Where: drivers.Where{Project: "project", Region: "region"}}
				if diff := cmp.Diff(rec.Want, Play(t, d, i, rec, pieces...)); diff != "" {
					t.Fatalf("%s %d: %s", how, cut, diff)
				}
			}
			wire := rec.wire()
			check("in pieces:", 1, wire)
			single := make([]string, 0, len(wire))
			for cut := range len(wire) {
				if cut > 0 {
					check("cut at byte", cut, wire[:cut], wire[cut:])
				}
				single = append(single, wire[cut:cut+1])
			}
			check("in pieces:", len(single), single...)
		})
	}
}

// Play sends a recording's request to a provider that answers in these pieces, and returns
// what a client gets.
func Play(t *testing.T, d drivers.Driver, i *drivers.Instance, rec Recording, pieces ...string) Result {
	t.Helper()
	i.Driver = d
	got, _ := PlayCall(t, NewCall(t, i, rec.Path, rec.Request), pieces...)
	if len(rec.Messages) > 0 {
		got.Messages, got.Body = messages(got.Body)
	}
	return got
}

// messages returns those of an AWS event stream, and what of the body is none. A message in
// other bytes than it came in counts as none.
func messages(body string) (list []Message, rest string) {
	var split eventstream.Splitter
	_, _ = split.Feed([]byte(body), func(m eventstream.Message) {
		one := Message{m.Type, m.Kind, string(m.Payload)}
		if after, same := strings.CutPrefix(body, string(one.bytes())); same {
			list, body = append(list, one), after
		}
	})
	return list, body
}

// PlayCall is Play for a call that is prepared. Where nothing may go to the client it also
// returns why.
func PlayCall(t *testing.T, call *drivers.Call, pieces ...string) (Result, error) {
	t.Helper()
	i := call.Instance
	if i.Target == nil {
		i.Target = &upstream.Target{Addr: "provider.test:80", NoKeepAlive: true}
		i.Host = "provider.test"
	}
	client := upstream.NewClient(upstream.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go serve(far, pieces)
		return near, nil
	}})
	defer client.Close()
	req, err := i.Driver.Request(call)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := drivers.Sign(ctx, call, req); err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(ctx, req)
	if err != nil {
		return Result{}, err
	}
	answer, err := reply.Begin(ctx, res, call)
	if err != nil {
		return Result{}, err
	}
	defer answer.Close()
	var s sink
	x := &exchange.Exchange{}
	x.Reset(ctx, &s)
	out, err := answer.Relay(&x.Response)
	if (err != nil) != s.aborted || out.Complete == s.aborted {
		t.Fatalf("the relay says %v, complete %v; the client sees a broken answer: %v", err, out.Complete, s.aborted)
	}
	_ = x.Response.Finish()
	return Result{
		Status: s.status, Body: s.body.String(), Broken: s.aborted, Usage: out.Usage, Tools: out.ToolCalls, Complete: out.Complete,
	}, nil
}

// NewCall returns a prepared call for a client's request with that path and body.
func NewCall(t *testing.T, i *drivers.Instance, path, body string) *drivers.Call {
	t.Helper()
	doc, err := jsonedit.Index([]byte(body), jsonedit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id, ok := protocol.Detect(path, doc)
	if !ok {
		t.Fatalf("%s %s is of no protocol", path, body)
	}
	c := &drivers.Call{
		Instance: i, Request: &exchange.Request{Method: http.MethodPost, Path: path, Target: path}, Body: doc, Protocol: id,
	}
	if err := drivers.Prepare(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// serve reads one request and answers it.
func serve(c net.Conn, pieces []string) {
	defer func() { _ = c.Close() }()
	q, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, q.Body)
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
	}
}

// sink records an answer.
type sink struct {
	status  int
	body    bytes.Buffer
	aborted bool
}

func (s *sink) WriteHead(status int, _ *exchange.Header, _ int64) error {
	s.status = status
	return nil
}
func (s *sink) Write(p []byte) (int, error) { return s.body.Write(p) }
func (s *sink) Flush() error                { return nil }
func (s *sink) Abort()                      { s.aborted = true }
func (s *sink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("there is no connection")
}

// Package exchangetest has the engine that tests use: it keeps what is answered. It does
// not know any protocol.
package exchangetest

import (
	"bufio"
	"context"
	"errors"
	"net"

	"github.com/gosix/gosix/pkg/exchange"
)

// Recorder is a sink that keeps what it is given. The zero value is ready.
type Recorder struct {
	Status  int
	Header  exchange.Header
	Body    []byte
	Flushes int
	Aborted bool
}

// WriteHead keeps the head of the answer; of informational ones nothing.
func (r *Recorder) WriteHead(status int, h *exchange.Header, _ int64) error {
	if status < 200 {
		return nil
	}
	r.Status = status
	for _, f := range h.Fields() {
		r.Header.Add(f.Name, f.Value)
	}
	return nil
}

// Write keeps a piece of the body.
func (r *Recorder) Write(p []byte) (int, error) {
	r.Body = append(r.Body, p...)
	return len(p), nil
}

// Flush counts.
func (r *Recorder) Flush() error {
	r.Flushes++
	return nil
}

// Abort notes that the answer was broken off.
func (r *Recorder) Abort() { r.Aborted = true }

// ErrNoConnection is an attempt to take the connection: there is none.
var ErrNoConnection = errors.New("a recorder has no connection")

// Hijack fails.
func (r *Recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, ErrNoConnection }

// New returns an exchange whose answer is recorded.
func New() (*exchange.Exchange, *Recorder) {
	r, x := &Recorder{}, &exchange.Exchange{}
	x.Reset(context.Background(), r)
	return x, r
}

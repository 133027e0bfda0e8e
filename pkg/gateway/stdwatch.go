package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/gosix/gosix/pkg/drain"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/socket"
)

// attendance knows which connections of net/http's server are open, and hears of clients that
// leave. net/http would find that out by a read in a goroutine for each request, which it
// starts when the request was read, and breaks off by a deadline when that is answered.
type attendance struct {
	mu         sync.Mutex
	conns      map[uint64]*heads // by token
	last       uint64            // token
	departures *socket.Departures
	blind      bool // nothing is watched any more, or nothing can be
}

// add begins to watch a connection from which nothing was read yet.
func (a *attendance) add(h *heads) {
	t, ok := drain.Unwrap(h).(*net.TCPConn)
	if !ok {
		return
	}
	raw := socket.Raw(t)
	if raw == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blind {
		return
	}
	if a.departures == nil {
		d, err := socket.NewDepartures(a.departed)
		if err != nil {
			a.blind = true
			return
		}
		a.departures, a.conns = d, map[uint64]*heads{}
	}
	a.last++
	h.probe.Init(t)
	if a.departures.Add(raw, a.last) == nil {
		h.token = a.last
		h.into, _ = h.Conn.(readerInto)
		a.conns[h.token] = h
	}
}

// remove ends the watching of a connection that was closed, or whose closing nobody waits for.
func (a *attendance) remove(h *heads) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, h.token)
}

// departed is told that a client has left.
func (a *attendance) departed(token uint64) {
	a.mu.Lock()
	h := a.conns[token]
	a.mu.Unlock()
	if h != nil {
		h.fin.Store(true)
		h.departed()
	}
}

// cut ends every request, and the waits for them beside net/http.
func (a *attendance) cut(reason error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.conns {
		if ctx := h.ctx.Load(); ctx != nil {
			ctx.Cancel(reason)
		}
		h.wake()
	}
}

// end takes down what watches. What comes later is left to net/http.
func (a *attendance) end() {
	a.mu.Lock()
	d := a.departures
	a.blind, a.departures = true, nil
	a.mu.Unlock()
	if d != nil {
		d.Close()
	}
}

// begin makes ctx end with the client. That of net/http would know nothing of a client that
// leaves a connection that is watched.
func (h *heads) begin(r *http.Request, ctx *exchange.Context) {
	h.ctx.Store(ctx)
	if all := r.Context(); all.Err() != nil { // of all requests, if it is over this early
		ctx.Cancel(context.Cause(all))
	}
	if h.broken.Load() {
		ctx.Cancel(context.Canceled)
	}
	if h.whole.Load() && h.fin.Load() {
		h.departed()
	}
}

// Value implements exchange.Values.
func (a *connection) Value(key any) any {
	if _, ok := key.(connKey); ok {
		return a
	}
	return nil
}

// departed ends a request whose client has left, if all of it was read. What the client sent
// before it left comes first.
func (h *heads) departed() {
	ctx := h.ctx.Load()
	if ctx == nil || !h.whole.Load() {
		return
	}
	h.mu.Lock()
	seen := h.probe.Look()
	h.mu.Unlock()
	if seen == socket.Gone {
		ctx.Cancel(context.Canceled)
	}
}

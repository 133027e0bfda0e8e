package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
)

// minRevision is the header by which a client asks for configuration that is no older than a
// write that it knows of. No upstream sees it.
const minRevision = "X-Gosix-Min-Revision"

// patience is how long a request waits for its revision.
const patience = time.Second

// reached returns the snapshot that a request asks for, now its own, or what it is answered
// if there is none in time.
func (g *Gateway) reached(x *exchange.Exchange, now *route.Snapshot) (*route.Snapshot, *plugin.ExitError) {
	h := &x.Request.Header
	n := h.Count(minRevision)
	if n == 0 {
		return now, nil
	}
	text := h.Get(minRevision)
	h.Del(minRevision)
	// ParseUint takes no sign, and 63 bits are a revision.
	want, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n > 1 {
		return now, plugin.Exit(http.StatusBadRequest, message{"invalid " + minRevision + ": should be one revision, a whole number"})
	}
	behind := plugin.Exit(http.StatusServiceUnavailable, message{fmt.Sprintf("revision %d is not in force yet", want)})
	behind.Header = []exchange.Field{{Name: "Retry-After", Value: "1"}}
	// What is held back, an operator releases: that is not waited for. A revision above it
	// can only be one of the history that is in force.
	if g.o.Held != nil && int64(want) <= g.o.Held() {
		return now, behind
	}
	if now.Revision() >= int64(want) {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	if now = g.o.Router.Reach(ctx, int64(want)); now.Revision() >= int64(want) {
		return now, nil
	}
	return now, behind
}

type message struct {
	Message string `json:"error_msg"`
}

// refuse answers a request that is not looked at.
func (g *Gateway) refuse(c *plugin.Context, e *plugin.ExitError) {
	defer g.recovered(c)
	if gone(c) {
		return // while it waited
	}
	e.Answer(&c.Response)
}

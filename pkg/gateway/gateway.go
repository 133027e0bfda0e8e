// Package gateway is the data plane: it takes an exchange from an engine, finds its
// route in the snapshot in force, runs the plugin chain and carries the request to the
// upstream. It holds the order of the phases (spec/04 §2) and the guard against panics.
// How configuration gets into a snapshot, it does not know.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/upstream"
)

// Options are the settings of a Gateway.
type Options struct {
	Server       string // value of the Server header
	ShowStatus   bool   // X-APISIX-Upstream-Status on every proxied answer
	Trusted      []netip.Prefix
	TrustedSet   bool // trusted_addresses is configured, if only by an empty list
	DeleteTail   bool // delete_uri_tail_slash
	ServletPaths bool // normalize_uri_like_servlet
	KeepSlashes  bool // match_uri_encoded_slash
	PostLimit    int64
	GraphQLLimit int64 // graphql.max_size in bytes
	MaxBody      int64 // client_max_body_size in bytes, 0: no limit
	MinRevision  bool  // X-Gosix-Min-Revision is heeded
	// Held is the newest revision of a store whose content is held back, so that the revision
	// in force is none of its; 0: nothing is held. nil: nothing ever is.
	Held      func() int64
	AccessLog *AccessLog
	Log       zerolog.Logger
	Client    *upstream.Client
	Router    *route.Router
}

// Gateway serves exchanges. It is safe for concurrent use.
type Gateway struct {
	o       Options
	proxies sync.Pool // *proxying
	ids     idSource
	onHead  func(*plugin.Context)
	panics  atomic.Int64
}

// request is what a request needs beside its exchange; it stays with that for the next one.
type request struct {
	plugin.Context
	id [32]byte // the exchange's ID lies here
}

// New returns a gateway that serves what o.Router has in force.
func New(o Options) *Gateway {
	g := &Gateway{o: o}
	g.proxies.New = func() any { return new(proxying) }
	g.onHead = g.lastWord
	g.ids.init()
	return g
}

// Panics is the number of requests that ended in a panic since the start.
func (g *Gateway) Panics() int64 { return g.panics.Load() }

// Requests is the number of requests since the start, those that were refused at once among
// them.
func (g *Gateway) Requests() int64 { return int64(g.ids.count.Load() - g.ids.start) }

// Serve answers one exchange: when it returns, the answer is complete or broken off,
// the log phase has run and the access log has its line.
func (g *Gateway) Serve(x *exchange.Exchange) {
	r, ok := x.Kept.(*request)
	if !ok {
		r = new(request)
		x.Kept = r
	}
	c := &r.Context
	g.ids.next(&r.id)
	x.ID = unsafe.String(&r.id[0], len(r.id)) // valid like the rest of the exchange
	x.Request.PostLimit, x.Request.GraphQLLimit = g.o.PostLimit, g.o.GraphQLLimit
	if x.Request.Method == http.MethodHead {
		x.Response.NoBody()
	}
	snap, behind := g.o.Router.Snapshot(), (*plugin.ExitError)(nil)
	if g.o.MinRevision {
		snap, behind = g.reached(x, snap)
	}
	global, err := snap.Global()
	c.Begin(x, snap, global, g.o.Log)
	c.OnHead = g.onHead
	whole := true
	if behind != nil {
		g.refuse(c, behind)
	} else {
		whole = g.guarded(c, snap, err)
	}
	g.finish(c)
	if !whole {
		x.Kept = nil // what panicked may have left a goroutine behind that uses the rooms
	}
}

// turnAway answers an exchange that is above a limit of its engine, and ends its connection.
func (g *Gateway) turnAway(x *exchange.Exchange, status int) {
	var id [32]byte
	g.ids.next(&id)
	x.ID = string(id[:])
	x.Response.Header.Set("Connection", "close")
	x.Response.Header.Set("Server", g.o.Server)
	plugin.Exit(status, nil).Answer(&x.Response)
	x.End = x.Now()
	if g.o.AccessLog != nil {
		g.o.AccessLog.Record(x)
	}
}

// guarded runs the phases; a panic costs this request and nothing else. It reports whether
// there was none.
func (g *Gateway) guarded(c *plugin.Context, snap *route.Snapshot, globalErr error) (whole bool) {
	defer g.recovered(c)
	if globalErr != nil {
		answer(c, http.StatusServiceUnavailable, globalErr)
		return true
	}
	g.serve(c, snap)
	return true
}

// recovered is deferred: it ends a request that panicked.
func (g *Gateway) recovered(c *plugin.Context) {
	v := recover()
	if v == nil {
		return
	}
	g.panics.Add(1)
	g.o.Log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Str("request", c.ID).
		Str("route", c.Route.RouteID).Msg("request panicked")
	r := &c.Response
	if r.Committed() {
		r.Abort()
		return
	}
	defer func() {
		// A filter of the body may panic about this answer too.
		if recover() != nil {
			r.Abort()
		}
	}()
	r.Header.Reset()
	r.Header.Set("Server", g.o.Server)
	plugin.Exit(http.StatusInternalServerError, nil).Answer(r)
}

// serve is the order of spec/04 §2.
func (g *Gateway) serve(c *plugin.Context, snap *route.Snapshot) {
	if !g.admit(c, snap) {
		return
	}
	r := snap.Match(c.Exchange)
	if r == nil {
		if c.Global().Run(c, plugin.Rewrite) || c.Global().Run(c, plugin.Access) {
			return
		}
		plugin.Exit(http.StatusNotFound, notFound).Answer(&c.Response)
		return
	}
	f := &c.Facts
	f.RouteID, f.RouteName, f.ServiceID, f.ServiceName = r.Labels.RouteID, r.Labels.RouteName, r.Labels.ServiceID, r.Labels.ServiceName
	f.MatchedURI, f.MatchedHost = r.Pattern, r.Host
	if r.Broken != nil && r.Status != http.StatusBadGateway {
		answer(c, r.Status, r.Broken)
		return
	}
	c.SetRoute(r.Chain, r.Labels)
	if c.Global().Run(c, plugin.Rewrite) || c.Chain().Run(c, plugin.Rewrite) || c.MergeConsumer() ||
		c.Global().Run(c, plugin.Access) || c.Chain().Run(c, plugin.Access) {
		return
	}
	if c.Bypass {
		if !c.Global().Run(c, plugin.BeforeProxy) && !c.Chain().Run(c, plugin.BeforeProxy) {
			answer(c, http.StatusInternalServerError, errNobodyAnswered)
		}
		return
	}
	g.proxy(c, r)
}

var (
	notFound = struct {
		Message string `json:"error_msg"`
	}{"404 Route Not Found"}
	errNobodyAnswered = errors.New("a plugin took over the upstream and gave no answer")
	errNoUpstream     = errors.New("missing upstream configuration in Route or Service")
	errNoNode         = errors.New("no valid upstream node")
	errAboveRoot      = errors.New("path is malformed or leads above its root")
	errMethod         = errors.New("method is none that can be sent on")
	errTarget         = errors.New("target has a space, a control character or a fragment, or is that of another method")
	errHost           = errors.New("host has a character that no host has")
	errParameters     = errors.New("failed to normalize: a dot segment or an empty one has parameters")
)

// admit refuses what no route may see and removes what only the gateway may say.
func (g *Gateway) admit(c *plugin.Context, snap *route.Snapshot) bool {
	r := &c.Request
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		sendAway(c, http.StatusMethodNotAllowed, nil)
		return false
	}
	if err := wellFormed(r); err != nil {
		sendAway(c, http.StatusBadRequest, err)
		return false
	}
	raw, ok := pathOf(r.Target)
	if ok {
		r.Path, ok = CleanPath(raw)
	}
	if !ok {
		sendAway(c, http.StatusBadRequest, errAboveRoot)
		return false
	}
	if r.TLS != nil {
		if err := g.checkClient(c, snap); err != nil {
			// The client may do better on another connection, not on this one.
			c.Response.Header.Set("Connection", "close")
			answer(c, http.StatusBadRequest, err)
			return false
		}
	}
	if g.o.KeepSlashes {
		r.Path = keepSlashes(raw, r.Path)
	}
	if g.o.ServletPaths {
		if r.Path, ok = servletPath(r.Path); !ok {
			answer(c, http.StatusBadRequest, errParameters)
			return false
		}
	}
	if g.o.DeleteTail && len(r.Path) > 1 && r.Path[len(r.Path)-1] == '/' {
		r.Path = r.Path[:len(r.Path)-1]
	}
	if g.o.MaxBody > 0 && r.Body.Length() > g.o.MaxBody {
		answer(c, http.StatusRequestEntityTooLarge, nil)
		return false
	}
	for _, f := range r.Header.Fields() {
		if f.Name != "" && f.Name[0]|0x20 == 'x' && identityTwin(f.Name) { // as all of them begin
			r.Header.DelFunc(func(f exchange.Field) bool { return identityTwin(f.Name) })
			break
		}
	}
	return true
}

// sendAway answers what no route may see. Over HTTP/1 the connection ends with it: whoever
// sends such a thing may have sent more of it.
func sendAway(c *plugin.Context, status int, cause error) {
	if c.Request.Proto != "HTTP/2.0" || c.Request.Method == "PRI" {
		c.Response.Header.Set("Connection", "close")
	}
	answer(c, status, cause)
}

// wellFormed says what is wrong with a request that HTTP/1.1 cannot say, so that it must not
// be sent on: with HTTP/2 a method, a target and a host can be any text.
func wellFormed(r *exchange.Request) error {
	switch {
	// PRI is the word that HTTP/2 begins with (RFC 9113 §11.6).
	case r.Method == "PRI" || !http1.Token(r.Method):
		return errMethod
	case !http1.Visible(r.Target) || strings.IndexByte(r.Target, '#') >= 0 || r.Target == "*" && r.Method != http.MethodOptions:
		return errTarget
	case !hostBytes(r.Host):
		return errHost
	}
	return nil
}

// inHost marks the bytes that may stand in a host.
var inHost = func() (t [256]bool) {
	for b := '!'; b < 0x7f; b++ {
		t[b] = !strings.ContainsRune(`/?#@\"<>`, b)
	}
	return t
}()

func hostBytes(s string) bool {
	for i := range len(s) {
		if !inHost[s[i]] {
			return false
		}
	}
	return true
}

// identityTwin reports whether a name with underscores reads as one of the headers by
// which the gateway tells upstreams who the client is (spec/00 17).
func identityTwin(name string) bool {
	return strings.IndexByte(name, '_') >= 0 && identity(strings.ReplaceAll(name, "_", "-"))
}

// identity reports whether a header is one by which the gateway tells upstreams who the
// client is. No client can have it taken away by naming it in Connection.
func identity(name string) bool {
	const consumer, credential = "X-Consumer-", "X-Credential-Identifier"
	return len(name) > len(consumer) && exchange.EqualName(name[:len(consumer)], consumer) || exchange.EqualName(name, credential)
}

// answer ends the request with a bare page.
func answer(c *plugin.Context, status int, cause error) {
	e := &plugin.ExitError{Status: status, Err: cause, Proxy: status == http.StatusBadGateway || status == http.StatusGatewayTimeout}
	if cause != nil {
		c.Facts.Failed = e
		c.Log.Warn().Int("status", status).Err(cause).Str("route", c.Facts.RouteID).Str("request", c.ID).
			Msg("request was answered by the gateway")
	}
	e.Answer(&c.Response)
}

// lastWord completes the head of every answer.
func (g *Gateway) lastWord(c *plugin.Context) {
	h := &c.Response.Header
	h.Set("Server", g.o.Server)
	attempts := c.Facts.Attempts
	if len(attempts) == 0 {
		return
	}
	if last := attempts[len(attempts)-1].Status; last < 500 && !g.o.ShowStatus {
		return
	}
	list := make([]byte, 0, 16)
	for i := range attempts {
		if i > 0 {
			list = append(list, ", "...)
		}
		list = strconv.AppendInt(list, int64(attempts[i].Status), 10)
	}
	h.Set("X-APISIX-Upstream-Status", string(list))
}

// finish completes the answer and runs what comes after it.
func (g *Gateway) finish(c *plugin.Context) {
	g.complete(c)
	c.End = c.Now()
	c.RunLog()
	if err := c.Request.Misread; err != nil {
		c.Log.Warn().Err(err).Str("route", c.Facts.RouteID).Str("request", c.ID).Msg("request could not be read for its variables")
	}
	if g.o.AccessLog != nil {
		g.o.AccessLog.Record(c.Exchange)
	}
}

// complete sends what is left of the answer. Filters see their last piece here, so that a
// plugin may still panic.
func (g *Gateway) complete(c *plugin.Context) {
	defer g.recovered(c)
	r := &c.Response
	switch {
	case r.Aborted():
	case gone(c) && !exchange.Ending(c.Context()) && !r.Committed():
		// Nobody reads it; the log shows what nginx would (spec/00 22).
		r.Status = statusClientGone
		r.Abort()
	default:
		_ = r.Finish()
	}
}

// statusClientGone is what the access log shows when the client left first.
const statusClientGone = 499

// gone reports whether nothing is to be done for a request any more: its client has left, or
// the process ends.
func gone(c *plugin.Context) bool {
	return errors.Is(c.Context().Err(), context.Canceled)
}

// idSource makes request ids: a random prefix of the process and a counter, 32
// hexadecimal digits, unique without asking the kernel for each.
type idSource struct {
	prefix [16]byte // digits
	start  uint64   // of count
	count  atomic.Uint64
}

func (s *idSource) init() {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // documented never to fail
	hex.Encode(s.prefix[:], seed[:8])
	for _, b := range seed[8:] {
		s.start = s.start<<8 | uint64(b)
	}
	s.count.Store(s.start)
}

func (s *idSource) next(text *[32]byte) {
	n := s.count.Add(1) * 0x9e3779b97f4a7c15 // an odd factor: a bijection that spreads the counter
	copy(text[:], s.prefix[:])
	var spread [8]byte
	binary.BigEndian.PutUint64(spread[:], n)
	hex.Encode(text[16:], spread[:])
}

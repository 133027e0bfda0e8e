package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/upstream"
)

// proxying is what one proxied request needs beside its context; pooled.
type proxying struct {
	header exchange.Header
	req    upstream.Request
	res    upstream.Response
	pick   balancer.Attempt
	picks  balancer.Picker // who waits to hear how the pick ended; nil: nobody
	picked int
	ended  balancer.Outcome // what it will hear
	body   replayed
	capped cappedReader
	begun  time.Time // the last try
	piece  *piece    // of the body that is carried: the request's first, then the answer's; nil: none was needed yet
}

// piece is memory for a part of a body. It is apart from the rest, which then lies close
// together: most bodies need none.
type piece [pieceSize]byte

const pieceSize = 32 << 10

var pieces = sync.Pool{New: func() any { return new(piece) }}

// room returns the memory for parts of the body.
func (p *proxying) room() []byte {
	if p.piece == nil {
		p.piece = pieces.Get().(*piece)
	}
	return p.piece[:]
}

// proxy carries the request to a node of the route's upstream and the answer back,
// trying other nodes as spec/05 §5 allows.
func (g *Gateway) proxy(c *plugin.Context, r *route.Route) {
	up := r.Upstream
	switch {
	case r.Status == http.StatusBadGateway:
		answer(c, r.Status, r.Broken)
		return
	case up == nil:
		answer(c, http.StatusServiceUnavailable, errNoUpstream)
		return
	case len(up.Nodes) == 0 && up.Unsupported == nil:
		answer(c, http.StatusServiceUnavailable, errNoNode)
		return
	case up.Unsupported != nil:
		answer(c, up.UnsupportedStatus(), up.Unsupported)
		return
	}
	p := g.proxies.Get().(*proxying)
	defer func() {
		p.release()                                                              // an attempt is in flight until its answer is through
		p.req, p.body, p.capped = upstream.Request{}, replayed{}, cappedReader{} // the pool keeps no client's body
		if p.piece != nil {
			pieces.Put(p.piece)
			p.piece = nil
		}
		g.proxies.Put(p)
	}()
	res, cause := g.attempts(c, r, p)
	if res == nil {
		g.failed(c, cause)
		return
	}
	defer func() { _ = res.Close() }()
	g.relay(c, r, p, res)
}

// attempts tries nodes until one answers. Between tries before_proxy runs again.
func (g *Gateway) attempts(c *plugin.Context, r *route.Route, p *proxying) (*upstream.Response, error) {
	up := r.Upstream
	pick := &p.pick
	*pick = balancer.Attempt{}
	if up.HashKey != nil {
		pick.Hash = balancer.Hash(up.HashKey(c.Exchange))
	}
	var start time.Time
	if up.RetryTimeout > 0 {
		start = time.Now()
	}
	var last error
	for try := 0; try <= up.Retries; try++ {
		if try > 0 && up.RetryTimeout > 0 && time.Since(start) > up.RetryTimeout {
			c.Log.Warn().Str("route", r.Labels.RouteID).Int("retries", try).Msg("proxy retry timeout")
			return nil, errRetryTimeout
		}
		i := 0
		// One node is used whatever became of it: there is nothing to choose
		// (spec/05 §3.3, recorded: the same node is tried again).
		if len(up.Nodes) > 1 {
			if down := up.Down(); down != nil {
				pick.Down = balancer.Set{}
				pick.Down.Union(down)
			}
			var err error
			if i, err = up.Picker.Pick(pick); err != nil {
				if last == nil {
					last = err
				}
				return nil, last
			}
			p.picks, p.picked, p.ended = up.Picker, i, balancer.Outcome{}
		}
		node := &up.Nodes[i]
		c.Facts.BalancerIP, c.Facts.BalancerPort = node.Host, node.PortText
		var res *upstream.Response
		err := errAnswered
		if !c.Global().Run(c, plugin.BeforeProxy) && !c.Chain().Run(c, plugin.BeforeProxy) {
			var took time.Duration
			res, took, err = g.attempt(c, r, p, node)
			p.ended = balancer.Outcome{Failed: err != nil, FirstByte: took}
			if up.Health != nil {
				tell(c, up, i, res, err)
			}
		}
		if err == nil {
			return res, nil
		}
		if len(up.Nodes) > 1 {
			p.release()
			pick.Tried.Add(i)
		}
		if last == nil || !unresolved(err) {
			last = err
		}
		if gone(c) || !replayable(c, p, err) {
			return nil, last
		}
	}
	return nil, last
}

// tell reports to the health checks what a request met (spec/05 §8).
func tell(c *plugin.Context, up *route.Upstream, i int, res *upstream.Response, err error) {
	if err == nil {
		up.Health.Report(i, res.Status, nil)
		return
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Client == nil && !unresolved(err) && !gone(c) {
		up.Health.Report(i, 0, err)
	}
}

// release tells the picker how the last pick ended, once.
func (p *proxying) release() {
	if p.picks != nil {
		p.picks.Done(p.picked, p.ended)
		p.picks = nil
	}
}

var (
	errAnswered     = errors.New("a plugin answered")
	errRetryTimeout = errors.New("proxy retry timeout")
)

// replayable says whether a failed try may be followed by another (spec/05 §5): an
// idempotent request whose body can be sent again, or any of which nothing left.
func replayable(c *plugin.Context, p *proxying, err error) bool {
	var e *upstream.Error
	if !errors.As(err, &e) || e.Client != nil {
		return false
	}
	if e.Wrote {
		switch c.Request.Method {
		case http.MethodPost, http.MethodPatch, "LOCK":
			return false
		}
	}
	return p.body.rewind()
}

// attempt asks one node, and says how long that took.
func (g *Gateway) attempt(c *plugin.Context, r *route.Route, p *proxying, node *route.Node) (res *upstream.Response, took time.Duration, err error) {
	up, x := r.Upstream, c.Exchange
	p.req = upstream.Request{
		Method: x.Request.Method, Path: originForm(x.Request.Target), Header: &p.header, Timeouts: r.Timeouts(),
		Response: &p.res,
	}
	switch up.PassHost {
	case "node":
		p.req.Host = node.HostHeader
	case "rewrite":
		p.req.Host = up.UpstreamHost
	default:
		p.req.Host = x.Request.Host
	}
	p.req.Target = node.TargetFor(p.req.Host)
	if r.Websocket {
		p.req.Upgrade = upgradeOf(&x.Request.Header)
	}
	g.forward(x, &p.header)
	if b := &x.Request.Body; b.Buffered() {
		if body, err := b.Bytes(0); err == nil && len(body) > 0 {
			p.req.Body = [][]byte{body}
		}
	} else {
		if p.body.source == nil {
			p.body = replayed{source: b.Reader(), body: b, kept: p.room()[:0]}
			if g.o.MaxBody > 0 && b.Length() < 0 {
				p.capped = cappedReader{r: p.body.source, left: g.o.MaxBody, max: g.o.MaxBody}
				p.body.source = &p.capped
			}
		}
		p.req.Stream, p.req.Length = &p.body, b.Length()
	}
	f := &x.Facts
	f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI, f.UpstreamUnresolvedHost = up.Scheme, p.req.Host, p.req.Path, node.Host

	p.begun = time.Now()
	res, err = g.o.Client.Do(x.Context(), &p.req)
	took = time.Since(p.begun)
	tried := exchange.Attempt{Addr: node.Target.Addr, Header: took, Response: took, Err: err}
	switch {
	case err == nil:
		tried.Status = res.Status
	default:
		tried.Status = statusOf(err)
	}
	if !unresolved(err) {
		f.Attempts = append(f.Attempts, tried)
	}
	return res, took, err
}

// statusOf is what a failed try counts as (spec/05 §6).
func statusOf(err error) int {
	var e *upstream.Error
	switch {
	case unresolved(err):
		return http.StatusServiceUnavailable
	case errors.As(err, &e) && e.Timeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// unresolved reports whether a node's name has no address, so that it is as if the node
// were not there (spec/05 §2).
func unresolved(err error) bool {
	_, is := errors.AsType[*net.DNSError](err)
	return is
}

func (g *Gateway) failed(c *plugin.Context, err error) {
	if errors.Is(err, errAnswered) || c.Response.Committed() {
		return
	}
	var e *upstream.Error
	fromClient := errors.As(err, &e) && e.Client != nil
	if fromClient {
		// To the engine a client that stalled has left; it gets its answer all the same.
		if ne, ok := errors.AsType[net.Error](e.Client); ok && ne.Timeout() {
			answer(c, http.StatusRequestTimeout, e.Client)
			return
		}
	}
	if exchange.Ending(c.Context()) {
		answer(c, http.StatusServiceUnavailable, exchange.ErrEnding)
		return
	}
	if gone(c) {
		return
	}
	status := statusOf(err)
	if fromClient {
		status = http.StatusBadRequest
		var large *exchange.TooLargeError
		if errors.As(e.Client, &large) {
			status = http.StatusRequestEntityTooLarge
		}
	}
	answer(c, status, err)
}

// originForm is the path and query to send: as they came (spec/05 §7).
func originForm(target string) string {
	if target != "" && target[0] == '/' {
		return target
	}
	path, _ := pathOf(target)
	if _, query, has := strings.Cut(target, "?"); has {
		return path + "?" + query
	}
	return path
}

// forward writes into h what the upstream is told: the client's headers without those
// of the connection, and who asked for what (spec/05 §7).
func (g *Gateway) forward(x *exchange.Exchange, h *exchange.Header) {
	in := &x.Request.Header
	h.Reset()
	trusted := g.trusts(x.Request.Remote.Addr())
	named := in.Has("Connection")
	var forwardedFor string
	for _, f := range in.Fields() {
		switch {
		case exchange.HopByHop(f.Name), exchange.EqualName(f.Name, "Host"), exchange.EqualName(f.Name, "Content-Length"),
			exchange.EqualName(f.Name, "Expect"), exchange.EqualName(f.Name, "X-Real-IP"),
			named && !identity(f.Name) && in.NamedByConnection(f.Name):
		case exchange.EqualName(f.Name, "X-Forwarded-For"):
			if forwardedFor == "" && (trusted || !g.o.TrustedSet) {
				forwardedFor = in.Joined("X-Forwarded-For")
			}
		case exchange.EqualName(f.Name, "X-Forwarded-Proto"), exchange.EqualName(f.Name, "X-Forwarded-Host"),
			exchange.EqualName(f.Name, "X-Forwarded-Port"), exchange.EqualName(f.Name, "Forwarded"):
			if trusted {
				h.Add(f.Name, f.Value)
			}
		default:
			h.Add(f.Name, f.Value)
		}
	}
	remote := x.Request.RemoteIP
	h.Add("X-Real-IP", remote)
	if forwardedFor != "" {
		remote = forwardedFor + ", " + remote
	}
	h.Add("X-Forwarded-For", remote)
	if !h.Has("X-Forwarded-Proto") {
		h.Add("X-Forwarded-Proto", x.Request.Scheme)
	}
	if !h.Has("X-Forwarded-Host") {
		h.Add("X-Forwarded-Host", x.Request.Host)
	}
	if !h.Has("X-Forwarded-Port") {
		h.Add("X-Forwarded-Port", forwardedPort(x))
	}
}

func (g *Gateway) trusts(peer netip.Addr) bool {
	for _, p := range g.o.Trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// forwardedPort is the port of the Host header, else the one that was listened on.
func forwardedPort(x *exchange.Exchange) string {
	host := x.Request.Host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		return host[i+1:]
	}
	return x.Request.LocalPort
}

// upgradeOf is the protocol that a client wants to change to. HTTP/2 is none: requests in
// such a tunnel would pass no route and no plugin.
func upgradeOf(h *exchange.Header) string {
	if !h.NamedByConnection("Upgrade") {
		return ""
	}
	asked := h.Joined("Upgrade")
	for one := range strings.SplitSeq(asked, ",") {
		one, _, _ = strings.Cut(strings.Trim(one, " \t"), "/")
		if exchange.EqualName(one, "h2c") || exchange.EqualName(one, "h2") || exchange.EqualName(one, "HTTP") {
			return ""
		}
	}
	return asked
}

// relay passes the answer on. A body is flushed whenever reading on may take time, so
// that a stream is a stream; a cut body breaks the client's connection as well.
func (g *Gateway) relay(c *plugin.Context, r *route.Route, p *proxying, res *upstream.Response) {
	out := &c.Response
	out.Status, out.Length, out.Origin = res.Status, res.Length, exchange.FromUpstream
	named := res.Header.Has("Connection")
	for _, f := range res.Header.Fields() {
		if exchange.HopByHop(f.Name) || exchange.EqualName(f.Name, "Content-Length") || exchange.EqualName(f.Name, "Server") ||
			named && res.Header.NamedByConnection(f.Name) {
			continue
		}
		out.Header.Add(f.Name, f.Value)
	}
	if res.Framing == upstream.NoBody && c.Request.Method != http.MethodHead && out.Length < 0 {
		out.Length = 0
	}
	tried := &c.Facts.Attempts[len(c.Facts.Attempts)-1]
	defer func() { tried.Response = time.Since(p.begun) }()
	if res.Status == http.StatusSwitchingProtocols {
		g.tunnel(c, res, r.Timeouts().Read)
		return
	}
	if out.Commit() != nil {
		return
	}
	var buffer []byte // none while all lies in the client's memory
	for {
		part, err := res.Next()
		if len(part) == 0 && err == nil {
			if buffer == nil {
				if res.Sending() {
					buffer = make([]byte, pieceSize) // p's may have a part of the request's body
				} else {
					buffer = p.room()
				}
			}
			var n int
			n, err = res.Read(buffer)
			part = buffer[:n]
		}
		tried.Length += int64(len(part))
		if len(part) > 0 {
			if _, werr := out.Write(part); werr != nil {
				return
			}
		}
		if err == io.EOF {
			if res.Sending() {
				_ = out.Flush() // closing waits for the rest of the request
			}
			return
		}
		if err != nil {
			tried.Err = err
			if e, ok := errors.AsType[*upstream.Error](err); !gone(c) && !(ok && e.Client != nil) {
				c.Log.Warn().Err(err).Str("route", r.Labels.RouteID).Str("upstream", tried.Addr).Str("request", c.ID).
					Msg("upstream cut its answer")
			}
			out.Abort()
			return
		}
		if res.Length < 0 || tried.Length < res.Length {
			if out.Flush() != nil {
				return
			}
		}
	}
}

// replayed is a request's body on its way to a server. What was read of it first is kept,
// so that it can be sent again: to another server when one refuses the connection, since
// the Client reads before it dials.
type replayed struct {
	source io.Reader // nil: the body is in memory, or there is none
	body   *exchange.Body
	kept   []byte // what was read so far, up to its capacity
	at     int    // in kept: what comes next
	lost   bool   // more was read than kept holds
}

func (r *replayed) Read(p []byte) (int, error) {
	if r.at < len(r.kept) {
		n := copy(p, r.kept[r.at:])
		r.at += n
		return n, nil
	}
	n, err := r.source.Read(p)
	if r.lost = r.lost || n > cap(r.kept)-len(r.kept); !r.lost {
		r.kept = append(r.kept, p[:n]...)
		r.at = len(r.kept)
	}
	return n, err
}

// Interrupt implements upstream.Interrupter.
func (r *replayed) Interrupt() { r.body.Interrupt() }

// rewind makes the body begin again, if that is possible.
func (r *replayed) rewind() bool {
	r.at = 0
	return !r.lost
}

// cappedReader refuses a body above its limit while it streams.
type cappedReader struct {
	r         io.Reader
	left, max int64
}

func (r *cappedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.left -= int64(n); r.left < 0 {
		return 0, &exchange.TooLargeError{Size: r.max - r.left, Max: r.max}
	}
	return n, err
}

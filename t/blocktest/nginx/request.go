package nginx

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A request is one exchange on its way through the phases. One goroutine uses it at a time.
type request struct {
	*lua.Exchange
	ctx     context.Context
	runtime *Host
	config  *Config
	server  *Server
	loc     *location
	conn    *connection
	parent  *request // of a subrequest
	answer  *answer

	peer      netip.AddrPort // who is connected, whatever real_ip_header says
	started   time.Time
	received  int64
	keepAlive bool
	internal  bool // by an internal redirect or as a subrequest
	moved     bool // a rewrite asks for another location
	rewritten bool // the URI is not the one that came
	captures  []string
	jumps     int
	failed    int // the status that an error_page is shown for
	body      *requestBody
	bodyRead  []byte
	upstream  upstreamFacts
	id        string
}

// maxCycles bounds rewrites and internal redirects, as in nginx.
const maxCycles = 10

// errAnswered ends a request whose answer is written.
var errAnswered = errors.New("answered")

// newRequest is a request with its Exchange wired to the server.
func newRequest(ctx context.Context, c *connection, cfg *Config, s *Server, x *lua.Exchange, w wire) *request {
	r := &request{
		Exchange: x, ctx: ctx, runtime: c.host, config: cfg, server: s, loc: s.scope, conn: c,
		peer: x.Remote, started: time.Now(), keepAlive: true,
	}
	r.answer = &answer{r: r, wire: w}
	x.Out = r.answer
	if x.Vars == nil {
		x.Vars = map[string]string{}
	}
	x.Var = r.ownVariable
	x.Capture = r.subrequest
	x.Conn = func() (net.Conn, error) { return c.hijack() }
	if conn := c.Conn; conn != nil { // a subrequest's client is the main request's
		x.Abort = func() { reset(conn) }
	}
	return r
}

// main is the request that the client sent.
func (r *request) main() *request {
	for r.parent != nil {
		r = r.parent
	}
	return r
}

func (r *request) line() string {
	if r.Proto == "" {
		return r.Method + " " + r.Target
	}
	return r.Method + " " + r.Target + " " + r.Proto
}

// header is the first value of a request header.
func (r *request) header(name string) string { return firstField(r.Header, name) }

func firstField(fields []lua.Field, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

func (r *request) tls() *tls.ConnectionState {
	if r.TLS == nil {
		return &tls.ConnectionState{}
	}
	return r.TLS
}

// identity is the request's number at random, for $request_id.
func (r *request) identity() string {
	m := r.main()
	if m.id == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		m.id = hex.EncodeToString(b[:])
	}
	return m.id
}

// logError writes a line as nginx words it, with whose request it was.
func (r *request) logError(level, format string, args ...any) {
	if r.runtime.Log == nil {
		return
	}
	m := r.main()
	line := fmt.Sprintf("*%d %s, client: %s, server: %s, request: %q", m.Connection,
		fmt.Sprintf(format, args...), addrText(m.Remote.Addr()), m.server.name(), m.line())
	if r.upstream.url != "" && r.upstream.status == 0 {
		line += fmt.Sprintf(", upstream: %q", r.upstream.url)
	}
	if host := m.header("Host"); host != "" {
		line += fmt.Sprintf(", host: %q", host)
	}
	r.runtime.Log(level, line)
}

// serve takes a request that the client sent to its end.
func (r *request) serve() {
	r.server.scope.settings.realIP.apply(r)
	r.finish(r.process())
	_ = r.runScript(lua.Log, nil) // a failure is in the log
	r.logAccess()
}

// process runs the phases up to the content. An error is how they ended early.
func (r *request) process() error {
	if page := r.verifyClient(); page != "" {
		r.Status, r.keepAlive = 400, false
		r.OutHeader = []lua.Field{{Name: "Content-Type", Value: "text/html"}}
		return r.whole([]byte(page))
	}
	if _, err := runProgram(r, r.server.scope.program); err != nil {
		return err
	}
	return r.route()
}

// route finds the location of the URI and runs it, again as often as it moves on.
func (r *request) route() error {
	for range maxCycles {
		if err := r.locate(); err != nil {
			return err
		}
		if err := r.rewritePhase(); err != nil {
			return err
		}
		if !r.moved {
			return r.locationPhases()
		}
		r.internal = true
	}
	r.logError("error", "rewrite or internal redirection cycle while processing %q", r.URI)
	return &lua.ExitError{Status: 500}
}

func (r *request) locate() error {
	r.moved = false
	loc, captures := r.server.scope.find(r.URI)
	if loc == nil {
		if r.parent != nil && r.runtime.gateway.Load() != nil && r.server == r.config.Front {
			return r.relayed()
		}
		// Without any location nginx serves files.
		return r.files(r.server.scope)
	}
	if r.loc = loc; captures != nil {
		r.capture(loc.re, captures)
	}
	if loc.internal && !r.internal {
		return &lua.ExitError{Status: 404}
	}
	return r.checkSize()
}

// checkSize refuses a body that says itself that it is too large.
func (r *request) checkSize() error {
	limit := r.loc.settings.maxBody
	if r.body == nil || r.parent != nil {
		return nil
	}
	r.body.limit = limit
	if n := r.body.length; limit > 0 && n > limit {
		r.logError("error", "client intended to send too large body: %d bytes", n)
		return &lua.ExitError{Status: 413}
	}
	return nil
}

func (r *request) rewritePhase() error {
	before := r.URI
	for _, e := range r.loc.settings.inHeaders {
		r.Header = e.apply(r, r.Header, 0)
	}
	_, err := runProgram(r, r.loc.program)
	r.rewritten = r.rewritten || r.URI != before
	if err != nil || r.moved {
		return err
	}
	return r.phase(lua.Rewrite)
}

// locationPhases are access and content.
func (r *request) locationPhases() error {
	r.loc.settings.realIP.apply(r)
	if !r.loc.settings.allows(r.Remote.Addr()) && r.parent == nil {
		r.logError("error", "access forbidden by rule")
		return &lua.ExitError{Status: 403}
	}
	if r.parent == nil {
		if err := r.phase(lua.Access); err != nil {
			return err
		}
	}
	loc := r.loc
	switch {
	case loc.tryFiles != nil:
		return r.tryFiles(loc)
	case loc.content != nil:
		r.answer.typed = true
		return r.run(lua.Content, loc.content, nil)
	case loc.proxy != nil:
		return r.proxied(loc.proxy)
	case loc.echo != nil:
		r.answer.typed = true
		return r.echoed(loc.echo)
	}
	return r.files(loc)
}

// phase runs the location's script of a phase before the content. A script that exits
// with ngx.OK, or declines, lets the request go on.
func (r *request) phase(p lua.Phase) error {
	err := r.runScript(p, nil)
	var exit *lua.ExitError
	if errors.As(err, &exit) && (exit.Status == 0 || exit.Status == declined) {
		return nil
	}
	if err == nil && r.answer.ended {
		return errAnswered
	}
	return err
}

// What ngx.exit takes besides statuses.
const (
	failed   = -1 // ngx.ERROR
	declined = -5 // ngx.DECLINED
)

func (r *request) runScript(p lua.Phase, body *lua.BodyPart) error {
	s := r.loc.settings.scripts[p]
	if s == nil {
		return nil
	}
	return r.run(p, s, body)
}

func (r *request) run(p lua.Phase, s *script, body *lua.BodyPart) error {
	if r.runtime.Scripts == nil {
		return &lua.UnsupportedError{What: s.name}
	}
	err := r.runtime.Scripts.Run(r.ctx, p, s.name, s.chunk, r.Exchange, body)
	var exec *lua.ExecError
	if err != nil && !exited(err) && !errors.As(err, &exec) {
		r.scriptFailed(p, err)
		return &scriptError{err}
	}
	return err
}

// A scriptError is a failure of a script that is in the log already.
type scriptError struct{ error }

func (e *scriptError) Unwrap() error { return e.error }

func (r *request) scriptFailed(p lua.Phase, err error) {
	if r.runtime.report(err) || interrupted(err) {
		return
	}
	switch p {
	case lua.HeaderFilter, lua.BodyFilter, lua.Log:
		r.logError("error", "failed to run %s_by_lua*: %v", p, err)
	default:
		r.logError("error", "lua entry thread aborted: runtime error: %v", err)
	}
}

// interrupted says whether a script was ended from outside.
func interrupted(err error) bool {
	var i *lua.InterruptedError
	return errors.As(err, &i)
}

// finish ends the answer, by what ended the phases.
func (r *request) finish(err error) {
	var exit *lua.ExitError
	var exec *lua.ExecError
	switch {
	case interrupted(err):
		// Nothing is answered: neither half of what the script says nor an error page is what
		// its request led to.
		if r.Abort != nil {
			r.Abort()
		}
		r.answer.abort()
	case errors.As(err, &exec):
		r.finish(r.jump(exec.URI, exec.Args))
	case r.conn.hijacked.Load():
		_ = r.answer.Flush()
	case err == nil, errors.Is(err, errAnswered):
		r.end()
	case errors.As(err, &exit):
		r.exit(exit.Status)
	default:
		var script *scriptError
		if !errors.As(err, &script) {
			r.logError("error", "%v", err)
		}
		if r.Sent && !r.answer.ended {
			// The status is gone: only an answer without an end tells the client.
			r.exit(failed)
			return
		}
		r.exit(500)
	}
}

// jump is an internal redirect, to a path or a named location.
func (r *request) jump(to, args string) error {
	if r.jumps++; r.jumps > maxCycles {
		r.logError("error", "rewrite or internal redirection cycle while internally redirecting to %q", to)
		return &lua.ExitError{Status: 500}
	}
	r.internal, r.rewritten = true, true
	if !strings.HasPrefix(to, "@") {
		r.URI, r.Args = to, args
		return r.route()
	}
	loc := r.server.named[to]
	if loc == nil {
		r.logError("error", "could not find named location %q", to)
		return &lua.ExitError{Status: 500}
	}
	r.loc = loc
	if err := r.rewritePhase(); err != nil {
		return err
	}
	return r.locationPhases()
}

func (r *request) end() {
	if err := r.answer.EOF(); err != nil {
		r.keepAlive = false
	}
}

// exit is nginx's finalize with a status.
func (r *request) exit(status int) {
	switch {
	case status == failed, status == 408, status == 444, status == 499:
		r.keepAlive = false
		r.answer.abort()
	case r.Sent:
		if status >= 300 && status != r.Status {
			r.logError("error", "attempt to set status %d via ngx.exit after sending out the response status %d", status, r.answer.status())
		}
		r.end()
	case status < 300:
		if r.Status == 0 && status >= 200 {
			r.Status = status
		}
		r.end()
	case r.answer.held.Len() > 0: // HTTP/1.0, where the body waits for its length
		if r.Status == 0 {
			r.Status = status
		}
		r.end()
	default:
		r.page(status)
	}
}

// fixed answers with a text that the configuration gives.
func (r *request) fixed(status int, text string) error {
	if text == "" && status >= 400 {
		// `return 404 ""` is an empty body, not a page.
		r.keepAlive = r.keepAlive && !closes[status]
	}
	r.Status = status
	if firstField(r.OutHeader, "Content-Type") == "" {
		r.OutHeader = append(r.OutHeader, lua.Field{Name: "Content-Type", Value: r.loc.settings.defaultType.expand(r)})
	}
	return r.whole([]byte(text))
}

// whole answers with a body whose length is known.
func (r *request) whole(body []byte) error {
	r.OutHeader = setField(r.OutHeader, "Content-Length", strconv.Itoa(len(body)))
	if err := r.answer.last(body); err != nil {
		return err
	}
	return errAnswered
}

func setField(fields []lua.Field, name, value string) []lua.Field {
	return append(dropField(fields, name), lua.Field{Name: name, Value: value})
}

func dropField(fields []lua.Field, name string) []lua.Field {
	out := make([]lua.Field, 0, len(fields)+1)
	for _, f := range fields {
		if !strings.EqualFold(f.Name, name) {
			out = append(out, f)
		}
	}
	return out
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "unix:"
	}
	return a.Unmap().String()
}

func portText(port uint16) string {
	if port == 0 {
		return ""
	}
	return strconv.Itoa(int(port))
}

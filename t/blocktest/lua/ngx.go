package lua

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// slots is what a Runtime keeps on an Exchange.
type slots struct {
	began    time.Time
	ctx      *glua.LTable // ngx.ctx
	inWrite  atomic.Bool
	writing  chan struct{} // closed when the Write in progress ends; belongs to the holder of the baton
	bodyRead bool
	body     []byte
	sent     int // bytes of the body
	id       string
}

// exchange is the request that a script serves. It waits for a Write of the same request's
// other threads, which reads the exchange too.
func exchange(L *glua.LState) (*Exchange, *slots) {
	r := fiberOf(L).req
	if r.x == nil {
		L.RaiseError("no request found")
	}
	s := r.x.Slots.(*slots)
	for !r.nested && s.writing != nil {
		done := s.writing
		r.rt.outside(L, func(context.Context) { <-done })
	}
	return r.x, s
}

// output runs what sends parts of the answer. The baton is free meanwhile: filters run
// inside, other requests beside it.
func output(L *glua.LState, f func(x *Exchange) error) error {
	x, s := exchange(L)
	if x.Out == nil {
		L.RaiseError("API disabled in the current context")
	}
	done := make(chan struct{})
	s.writing = done
	s.inWrite.Store(true)
	var err error
	rt := runtimeOf(L)
	rt.leave()
	err = f(x)
	rt.enter()
	s.inWrite.Store(false)
	s.writing = nil
	close(done)
	if err == nil {
		x.Sent = true
	}
	if cause := fiberOf(L).over(); cause != nil {
		raise(L, cause)
	}
	return err
}

var httpStatuses = map[string]int{
	"HTTP_CONTINUE": 100, "HTTP_SWITCHING_PROTOCOLS": 101, "HTTP_OK": 200, "HTTP_CREATED": 201,
	"HTTP_ACCEPTED": 202, "HTTP_NO_CONTENT": 204, "HTTP_PARTIAL_CONTENT": 206,
	"HTTP_SPECIAL_RESPONSE": 300, "HTTP_MOVED_PERMANENTLY": 301, "HTTP_MOVED_TEMPORARILY": 302,
	"HTTP_SEE_OTHER": 303, "HTTP_NOT_MODIFIED": 304, "HTTP_TEMPORARY_REDIRECT": 307,
	"HTTP_PERMANENT_REDIRECT": 308, "HTTP_BAD_REQUEST": 400, "HTTP_UNAUTHORIZED": 401,
	"HTTP_PAYMENT_REQUIRED": 402, "HTTP_FORBIDDEN": 403, "HTTP_NOT_FOUND": 404,
	"HTTP_NOT_ALLOWED": 405, "HTTP_NOT_ACCEPTABLE": 406, "HTTP_REQUEST_TIMEOUT": 408,
	"HTTP_CONFLICT": 409, "HTTP_GONE": 410, "HTTP_UPGRADE_REQUIRED": 426,
	"HTTP_TOO_MANY_REQUESTS": 429, "HTTP_CLOSE": 444, "HTTP_ILLEGAL": 451,
	"HTTP_INTERNAL_SERVER_ERROR": 500, "HTTP_NOT_IMPLEMENTED": 501,
	"HTTP_METHOD_NOT_IMPLEMENTED": 501, "HTTP_BAD_GATEWAY": 502, "HTTP_SERVICE_UNAVAILABLE": 503,
	"HTTP_GATEWAY_TIMEOUT": 504, "HTTP_VERSION_NOT_SUPPORTED": 505, "HTTP_INSUFFICIENT_STORAGE": 507,
}

// methodIDs are nginx's numbers, which scripts index tables with.
var methodIDs = map[string]int{
	"GET": 2, "HEAD": 4, "POST": 8, "PUT": 16, "DELETE": 32, "MKCOL": 64, "COPY": 128,
	"MOVE": 256, "OPTIONS": 512, "PROPFIND": 1024, "PROPPATCH": 2048, "LOCK": 4096,
	"UNLOCK": 8192, "PATCH": 16384, "TRACE": 32768,
}

// openNgx makes the table ngx. Names that it does not have end a script.
func (rt *Runtime) openNgx() {
	L := rt.state
	ngx := L.NewTable()
	for name, n := range httpStatuses {
		ngx.RawSetString(name, num(n))
	}
	for name, id := range methodIDs {
		ngx.RawSetString("HTTP_"+name, num(id))
	}
	for name, n := range map[string]int{"OK": 0, "ERROR": -1, "AGAIN": -2, "DONE": -4, "DECLINED": -5} {
		ngx.RawSetString(name, num(n))
	}
	for i, name := range levelConstants {
		ngx.RawSetString(name, num(i))
	}
	ngx.RawSetString("null", rt.null)
	for _, fs := range []funcs{outputFuncs, controlFuncs, codecFuncs, timeFuncs, logFuncs} {
		extend(L, ngx, fs)
	}
	ngx.RawSetString("req", rt.guarded("ngx.req", module(L, requestFuncs)))
	ngx.RawSetString("resp", rt.guarded("ngx.resp", module(L, responseFuncs)))
	ngx.RawSetString("header", proxy(L, headerGet, headerSet))
	ngx.RawSetString("var", proxy(L, varGet, varSet))
	ngx.RawSetString("arg", proxy(L, argGet, argSet))
	ngx.RawSetString("re", rt.guarded("ngx.re", module(L, reFuncs)))
	ngx.RawSetString("shared", proxy(L, rt.sharedGet, nil))
	ngx.RawSetString("socket", rt.guarded("ngx.socket", module(L, socketFuncs)))
	ngx.RawSetString("thread", rt.guarded("ngx.thread", module(L, funcs{
		"spawn": threadSpawn, "wait": threadWait, "kill": threadKill,
	})))
	ngx.RawSetString("timer", rt.guarded("ngx.timer", module(L, timerFuncs)))
	ngx.RawSetString("worker", rt.guarded("ngx.worker", module(L, workerFuncs)))
	ngx.RawSetString("location", rt.guarded("ngx.location", module(L, funcs{"capture": locationCapture, "capture_multi": locationCaptureMulti})))
	config := L.NewTable()
	config.RawSetString("subsystem", str("http"))
	config.RawSetString("debug", glua.LFalse)
	config.RawSetString("nginx_version", num(1027001))
	config.RawSetString("ngx_lua_version", num(10028))
	extend(L, config, funcs{
		"prefix":          func(L *glua.LState) int { return ret(L, str(rt.prefix())) },
		"nginx_configure": func(L *glua.LState) int { return ret(L, str("")) },
	})
	ngx.RawSetString("config", config)

	mt := L.NewTable()
	mt.RawSetString("__index", L.NewFunction(ngxGet))
	mt.RawSetString("__newindex", L.NewFunction(ngxSet))
	ngx.Metatable = mt
	L.G.Global.RawSetString("ngx", ngx)
	rt.loaded().RawSetString("ngx", ngx)
}

func (rt *Runtime) prefix() string {
	if rt.opts.Home == "" {
		return "/usr/local/openresty/nginx/"
	}
	return rt.opts.Home + "/t/servroot/"
}

// guarded ends scripts that read a name which the table lacks.
func (rt *Runtime) guarded(name string, t *glua.LTable) *glua.LTable {
	mt := rt.state.NewTable()
	mt.RawSetString("__index", rt.state.NewFunction(func(L *glua.LState) int {
		key, _ := text(L.Get(2))
		unsupported(L, name+"."+key)
		return 0
	}))
	t.Metatable = mt
	return t
}

func ngxGet(L *glua.LState) int {
	key, _ := text(L.Get(2))
	switch key {
	case "status":
		x, _ := exchange(L)
		return ret(L, num(x.Status))
	case "headers_sent":
		x, _ := exchange(L)
		return ret(L, glua.LBool(x.Sent))
	case "is_subrequest":
		return ret(L, glua.LFalse)
	case "ctx":
		if fiberOf(L).req.x == nil {
			return ret(L, L.NewTable())
		}
		_, s := exchange(L)
		if s.ctx == nil {
			s.ctx = L.NewTable()
		}
		return ret(L, s.ctx)
	}
	unsupported(L, "ngx."+key)
	return 0
}

func ngxSet(L *glua.LState) int {
	t := L.CheckTable(1)
	key, _ := text(L.Get(2))
	switch key {
	case "status":
		x, _ := exchange(L)
		n := int(L.CheckNumber(3))
		if x.Sent {
			logAt(L, "error", "attempt to set ngx.status after sending out response headers")
			return 0
		}
		x.Status = n
	case "ctx":
		_, s := exchange(L)
		s.ctx = L.CheckTable(3)
	default:
		t.RawSet(L.Get(2), L.Get(3))
	}
	return 0
}

// flatten is how say, print and log turn an argument into text: tables are lists of texts.
func flatten(L *glua.LState, out *strings.Builder, v glua.LValue, n int, name string) {
	switch v := v.(type) {
	case *glua.LNilType:
		out.WriteString("nil")
	case glua.LBool:
		out.WriteString(v.String())
	case *glua.LTable:
		if L.GetMetaField(v, "__tostring") != glua.LNil && name == "log" {
			out.WriteString(tostring(L, v))
			return
		}
		if name == "log" {
			L.RaiseError("bad argument #%d to 'log' (expected table to have __tostring metamethod)", n)
		}
		bad := false
		each(v, func(k, _ glua.LValue) {
			i, ok := k.(glua.LNumber)
			bad = bad || !ok || i < 1 || i != glua.LNumber(int(i))
		})
		if bad {
			L.RaiseError("bad argument #%d to '%s' (non-array table found)", n, name)
		}
		for i := 1; i <= v.MaxN(); i++ {
			flatten(L, out, v.RawGetInt(i), n, name)
		}
	case *glua.LUserData:
		if v != runtimeOf(L).null {
			L.RaiseError("bad argument #%d to '%s' (string, number, boolean, nil, ngx.null, or array table expected, but got userdata)", n, name)
		}
		out.WriteString("null")
	default:
		s, ok := text(v)
		if !ok {
			L.RaiseError("bad argument #%d to '%s' (string, number, boolean, nil, ngx.null, or array table expected, but got %s)", n, name, v.Type().String())
		}
		out.WriteString(s)
	}
}

func joined(L *glua.LState, from int, name string) string {
	var out strings.Builder
	for i := from; i <= L.GetTop(); i++ {
		flatten(L, &out, L.Get(i), i, name)
	}
	return out.String()
}

var outputFuncs = funcs{
	"say":          func(L *glua.LState) int { return send(L, joined(L, 1, "say")+"\n") },
	"print":        func(L *glua.LState) int { return send(L, joined(L, 1, "print")) },
	"flush":        func(L *glua.LState) int { return sent(L, output(L, func(x *Exchange) error { return x.Out.Flush() })) },
	"eof":          func(L *glua.LState) int { return sent(L, output(L, func(x *Exchange) error { return x.Out.EOF() })) },
	"send_headers": func(L *glua.LState) int { return sent(L, output(L, func(x *Exchange) error { return x.Out.Flush() })) },
}

func send(L *glua.LState, s string) int {
	phaseOnly(L, Rewrite, Access, Content)
	_, slot := exchange(L)
	slot.sent += len(s)
	return sent(L, output(L, func(x *Exchange) error {
		_, err := x.Out.Write([]byte(s))
		return err
	}))
}

func sent(L *glua.LState, err error) int {
	if err != nil {
		return fail(L, "nginx output filter error")
	}
	return ret(L, num(1))
}

func phaseOnly(L *glua.LState, phases ...Phase) {
	now := fiberOf(L).req.phase
	for _, p := range phases {
		if p == now {
			return
		}
	}
	L.RaiseError("API disabled in the context of %s_by_lua*", now)
}

var controlFuncs = funcs{
	"exit":      ngxExit,
	"exec":      ngxExec,
	"redirect":  ngxRedirect,
	"sleep":     ngxSleep,
	"get_phase": func(L *glua.LState) int { return ret(L, str(phaseName(fiberOf(L).req))) },
	"on_abort":  func(L *glua.LState) int { unsupported(L, "ngx.on_abort"); return 0 },
}

func phaseName(r *request) string {
	if r.timer {
		return "timer"
	}
	return string(r.phase)
}

func ngxExit(L *glua.LState) int {
	status := int(L.CheckNumber(1))
	if fiberOf(L).req.x != nil && !fiberOf(L).req.timer {
		x, _ := exchange(L)
		if x.Sent && status >= 300 {
			if x.Status != status {
				logAt(L, "error", fmt.Sprintf("attempt to set status %d via ngx.exit after sending out the response status %d", status, answered(x)))
			}
			status = 0
		} else if !x.Sent && status >= 200 && x.Status == 0 {
			x.Status = status
		}
	}
	raise(L, &ExitError{Status: status})
	return 0
}

// answered is the status that the client sees.
func answered(x *Exchange) int {
	if x.Status == 0 {
		return 200
	}
	return x.Status
}

func ngxExec(L *glua.LState) int {
	uri := checkText(L, 1)
	if uri == "" {
		L.RaiseError("The uri string is empty")
	}
	x, _ := exchange(L)
	if x.Sent {
		L.RaiseError("attempt to call ngx.exec after sending out response headers")
	}
	args := ""
	if v := L.Get(2); v != glua.LNil {
		args = argsText(L, v)
	}
	if path, query, ok := strings.Cut(uri, "?"); ok {
		uri = path
		args = strings.Trim(query+"&"+args, "&")
	}
	raise(L, &ExecError{URI: uri, Args: args})
	return 0
}

func ngxRedirect(L *glua.LState) int {
	uri := checkText(L, 1)
	status := L.OptInt(2, 302)
	switch status {
	case 301, 302, 303, 307, 308:
	default:
		L.RaiseError("only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed")
	}
	x, _ := exchange(L)
	if x.Sent {
		L.RaiseError("attempt to call ngx.redirect after sending out the headers")
	}
	setHeader(&x.OutHeader, "Location", []string{escapeControls(uri)})
	x.Status = status
	raise(L, &ExitError{Status: status})
	return 0
}

func ngxSleep(L *glua.LState) int {
	s := float64(L.CheckNumber(1))
	if s < 0 {
		L.RaiseError("invalid sleep duration %q", formatNumber(glua.LNumber(s)))
	}
	sleepFor(L, time.Duration(s*float64(time.Second)))
	return 0
}

func argGet(L *glua.LState) int {
	b := fiberOf(L).req.body
	n, _ := L.Get(2).(glua.LNumber)
	if b == nil {
		return ret(L, glua.LNil)
	}
	switch n {
	case 1:
		return ret(L, str(string(b.Data)))
	case 2:
		return ret(L, glua.LBool(b.EOF))
	}
	return ret(L, glua.LNil)
}

func argSet(L *glua.LState) int {
	b := fiberOf(L).req.body
	if b == nil {
		L.RaiseError("API disabled in the context of %s_by_lua*", fiberOf(L).req.phase)
	}
	switch n, _ := L.Get(2).(glua.LNumber); n {
	case 1:
		if v := L.Get(3); v == glua.LNil {
			b.Data = nil
		} else {
			var out strings.Builder
			flatten(L, &out, v, 1, "print")
			b.Data = []byte(out.String())
		}
	case 2:
		b.EOF = glua.LVAsBool(L.Get(3))
	default:
		L.RaiseError("bad argument #2 (1 or 2 expected)")
	}
	return 0
}

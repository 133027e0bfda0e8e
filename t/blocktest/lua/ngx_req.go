package lua

import (
	"context"
	"fmt"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

var requestFuncs = funcs{
	"get_method": func(L *glua.LState) int { x, _ := exchange(L); return ret(L, str(x.Method)) },
	"set_method": func(L *glua.LState) int {
		x, _ := exchange(L)
		id := L.CheckInt(1)
		for name, n := range methodIDs {
			if n == id {
				x.Method = name
				return 0
			}
		}
		L.RaiseError("unsupported HTTP method: %d", id)
		return 0
	},
	"get_headers": func(L *glua.LState) int {
		x, _ := exchange(L)
		return ret(L, headerTable(L, x.Header, L.Get(1), glua.LVAsBool(L.Get(2))))
	},
	"set_header": func(L *glua.LState) int {
		x, _ := exchange(L)
		setHeader(&x.Header, checkText(L, 1), headerTexts(L, L.Get(2)))
		return 0
	},
	"clear_header": func(L *glua.LState) int {
		x, _ := exchange(L)
		setHeader(&x.Header, checkText(L, 1), nil)
		return 0
	},
	"get_uri_args": func(L *glua.LState) int { x, _ := exchange(L); return argsTable(L, x.Args, L.OptInt(1, 100)) },
	"set_uri_args": func(L *glua.LState) int {
		x, _ := exchange(L)
		x.Args = strings.TrimPrefix(argsText(L, L.CheckAny(1)), "?")
		return 0
	},
	"get_post_args": func(L *glua.LState) int {
		_, s := exchange(L)
		if !s.bodyRead {
			L.RaiseError("no request body found; maybe you should turn on lua_need_request_body?")
		}
		return argsTable(L, string(s.body), L.OptInt(1, 100))
	},
	"read_body":    func(L *glua.LState) int { readBody(L); return 0 },
	"discard_body": func(L *glua.LState) int { readBody(L); return 0 },
	"get_body_data": func(L *glua.LState) int {
		_, s := exchange(L)
		if !s.bodyRead || len(s.body) == 0 {
			return ret(L, glua.LNil)
		}
		return ret(L, str(string(s.body)))
	},
	"get_body_file": func(L *glua.LState) int { return ret(L, glua.LNil) },
	"set_body_data": func(L *glua.LState) int {
		x, s := exchange(L)
		s.body, s.bodyRead = []byte(checkText(L, 1)), true
		body := s.body
		x.Body = func() ([]byte, error) { return body, nil }
		setHeader(&x.Header, "Content-Length", []string{fmt.Sprint(len(body))})
		return 0
	},
	"set_uri": func(L *glua.LState) int {
		x, _ := exchange(L)
		uri := checkText(L, 1)
		if uri == "" {
			L.RaiseError("attempt to use zero-length uri")
		}
		x.URI = uri
		if glua.LVAsBool(L.Get(2)) {
			phaseOnly(L, Rewrite)
			raise(L, &ExecError{URI: uri, Args: x.Args})
		}
		return 0
	},
	"start_time": func(L *glua.LState) int { _, s := exchange(L); return ret(L, num(seconds(s.began))) },
	"http_version": func(L *glua.LState) int {
		x, _ := exchange(L)
		v := parseNumber(strings.TrimPrefix(x.Proto, "HTTP/"))
		return ret(L, v)
	},
	"raw_header": func(L *glua.LState) int {
		x, _ := exchange(L)
		var out strings.Builder
		if !glua.LVAsBool(L.Get(1)) {
			fmt.Fprintf(&out, "%s %s %s\r\n", x.Method, x.Target, x.Proto)
		}
		for _, f := range x.Header {
			fmt.Fprintf(&out, "%s: %s\r\n", f.Name, f.Value)
		}
		if !glua.LVAsBool(L.Get(1)) {
			out.WriteString("\r\n")
		}
		return ret(L, str(out.String()))
	},
	"is_internal": func(L *glua.LState) int { return ret(L, glua.LFalse) },
	"socket":      requestSocket,
}

// readBody reads the request's body once.
func readBody(L *glua.LState) []byte {
	x, s := exchange(L)
	if s.bodyRead {
		return s.body
	}
	if x.Body != nil {
		var body []byte
		var err error
		runtimeOf(L).wait(L, func(context.Context) { body, err = x.Body() })
		if err != nil {
			raise(L, &ExitError{Status: 400})
		}
		s.body = body
	}
	s.bodyRead = true
	return s.body
}

func requestSocket(L *glua.LState) int {
	x, _ := exchange(L)
	if x.Conn == nil {
		unsupported(L, "ngx.req.socket here")
	}
	if !glua.LVAsBool(L.Get(1)) {
		// Without raw, the socket reads the body alone.
		body := readBody(L)
		if len(body) == 0 {
			return fail(L, "no body")
		}
		return ret(L, newSocket(L, &socket{network: "tcp", conn: bodyConn(body), timeouts: defaultTimeouts()}))
	}
	conn, err := x.Conn()
	if err != nil {
		return fail(L, err.Error())
	}
	x.Sent = true
	return ret(L, newSocket(L, &socket{network: "tcp", conn: newPeer(conn), timeouts: defaultTimeouts()}))
}

// locationCapture runs another location of the server and returns its answer.
func locationCapture(L *glua.LState) int {
	return ret(L, capture1(L, checkText(L, 1), L.Get(2)))
}

func locationCaptureMulti(L *glua.LState) int {
	reqs := L.CheckTable(1)
	n := reqs.Len()
	for i := 1; i <= n; i++ {
		one, ok := reqs.RawGetInt(i).(*glua.LTable)
		if !ok {
			L.ArgError(1, "list of lists expected")
		}
		uri, _ := text(one.RawGetInt(1))
		L.Push(capture1(L, uri, one.RawGetInt(2)))
	}
	return n
}

func capture1(L *glua.LState, uri string, opts glua.LValue) glua.LValue {
	x, s := exchange(L)
	if x.Capture == nil {
		unsupported(L, "ngx.location.capture here")
	}
	out := &memoryWriter{}
	path, args, _ := strings.Cut(uri, "?")
	sub := &Exchange{
		Method: "GET", Target: uri, URI: path, Args: args, Proto: x.Proto, Scheme: x.Scheme,
		Header: append([]Field(nil), x.Header...), Remote: x.Remote, Local: x.Local,
		ServerName: x.ServerName, TLS: x.TLS, Connection: x.Connection, Requests: x.Requests,
		Vars: map[string]string{}, Out: out,
	}
	if v := field(opts, "args"); v != glua.LNil {
		sub.Args = strings.Trim(sub.Args+"&"+argsText(L, v), "&")
	}
	if id, ok := field(opts, "method").(glua.LNumber); ok {
		for name, n := range methodIDs {
			if n == int(id) {
				sub.Method = name
			}
		}
	}
	body := s.body
	if v := field(opts, "body"); v != glua.LNil {
		b, _ := text(v)
		body = []byte(b)
	}
	sub.Body = func() ([]byte, error) { return body, nil }
	if field(opts, "share_all_vars") == glua.LTrue {
		sub.Vars = x.Vars
	} else if field(opts, "copy_all_vars") == glua.LTrue {
		for k, v := range x.Vars {
			sub.Vars[k] = v
		}
	}
	if vars, ok := field(opts, "vars").(*glua.LTable); ok {
		each(vars, func(k, v glua.LValue) {
			name, _ := text(k)
			sub.Vars[name], _ = text(v)
		})
	}
	var err error
	runtimeOf(L).wait(L, func(ctx context.Context) { err = x.Capture(ctx, sub) })
	if err != nil {
		L.RaiseError("failed to issue subrequest: %s", err.Error())
	}
	res := L.NewTable()
	res.RawSetString("status", num(answered(sub)))
	res.RawSetString("header", headerTable(L, sub.OutHeader, num(0), true))
	res.RawSetString("body", str(out.body.String()))
	res.RawSetString("truncated", glua.LFalse)
	return res
}

// memoryWriter keeps an answer.
type memoryWriter struct {
	body  strings.Builder
	ended bool
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	if w.ended {
		return len(p), nil
	}
	return w.body.Write(p)
}

func (w *memoryWriter) Flush() error { return nil }

func (w *memoryWriter) EOF() error { w.ended = true; return nil }

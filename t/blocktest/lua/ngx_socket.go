package lua

import (
	"bytes"
	"context"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// socket is a cosocket.
type socket struct {
	network string
	conn    *peer
	timeouts

	// A direction that failed is closed; close is still due.
	noMore, noSend bool
}

var socketFuncs = funcs{
	"tcp": func(L *glua.LState) int {
		return ret(L, newSocket(L, &socket{network: "tcp", timeouts: defaultTimeouts()}))
	},
	"stream": func(L *glua.LState) int {
		return ret(L, newSocket(L, &socket{network: "tcp", timeouts: defaultTimeouts()}))
	},
	"udp": func(L *glua.LState) int {
		rt := runtimeOf(L)
		return ret(L, object(L, rt.class("udp socket", udpMethods), &socket{network: "udp", timeouts: defaultTimeouts()}))
	},
	"connect": func(L *glua.LState) int {
		sock := newSocket(L, &socket{network: "tcp", timeouts: defaultTimeouts()})
		args := append([]glua.LValue{sock}, arguments(L, 1)...)
		values := callAll(L, L.NewFunction(socketConnect), args...)
		if values[0] == glua.LNil {
			return ret(L, values...)
		}
		return ret(L, sock)
	},
}

func newSocket(L *glua.LState, s *socket) *glua.LTable {
	return object(L, runtimeOf(L).class("tcp socket", tcpMethods), s)
}

var tcpMethods = funcs{
	"connect":        socketConnect,
	"sslhandshake":   socketHandshake,
	"send":           socketSend,
	"receive":        socketReceive,
	"receiveany":     socketReceiveAny,
	"receiveuntil":   socketReceiveUntil,
	"settimeout":     socketTimeout,
	"settimeouts":    socketTimeouts,
	"setoption":      func(L *glua.LState) int { return ret(L, num(1)) },
	"bind":           func(L *glua.LState) int { unsupported(L, "bind of a socket"); return 0 },
	"setkeepalive":   socketKeepalive,
	"getreusedtimes": socketReused,
	"close":          socketClose,
}

var udpMethods = funcs{
	"setpeername": func(L *glua.LState) int {
		s := self[*socket](L)
		network, addr := address(checkText(L, 2), L.OptInt(3, 0))
		if network == "unix" {
			network = "unixgram"
		} else {
			network = "udp"
		}
		return connected(L, s, network, addr)
	},
	"send":       socketSend,
	"receive":    socketReceiveAny,
	"settimeout": socketTimeout,
	"close":      socketClose,
}

func milliseconds(n glua.LNumber) time.Duration {
	return time.Duration(float64(n) * float64(time.Millisecond))
}

func socketTimeout(L *glua.LState) int {
	s, d := self[*socket](L), milliseconds(L.OptNumber(2, 60000))
	s.timeouts = timeouts{d, d, d}
	return 0
}

func socketTimeouts(L *glua.LState) int {
	s := self[*socket](L)
	for i, d := range []*time.Duration{&s.connect, &s.send, &s.read} {
		if n, ok := L.Get(2 + i).(glua.LNumber); ok {
			*d = milliseconds(n)
		}
	}
	return 0
}

func socketConnect(L *glua.LState) int {
	s := self[*socket](L)
	host := checkText(L, 2)
	port, opts := 0, L.Get(3)
	if !strings.HasPrefix(host, "unix:") {
		n, ok := L.Get(3).(glua.LNumber)
		if !ok {
			n, ok = parseNumber(optText(L, 3, "")).(glua.LNumber)
		}
		if !ok || n < 0 || n > 65535 {
			L.RaiseError("bad argument #3 to 'connect' (bad port number)")
		}
		port, opts = int(n), L.Get(4)
	}
	s.drop()
	network, addr := address(host, port)
	pool := stringField(opts, "pool", network+":"+addr)
	if p := runtimeOf(L).conns.take(pool); p != nil {
		s.conn = p
		return ret(L, num(1))
	}
	n := connected(L, s, network, addr)
	if s.conn != nil {
		s.conn.pool = pool
	}
	return n
}

func connected(L *glua.LState, s *socket, network, addr string) int {
	rt := runtimeOf(L)
	var err error
	rt.wait(L, func(ctx context.Context) { s.conn, err = rt.dial(ctx, network, addr, s.connect) })
	if err != nil {
		s.conn = nil
		return fail(L, socketError(err))
	}
	return ret(L, num(1))
}

func (s *socket) drop() {
	if s.conn != nil {
		_ = s.conn.conn.Close()
		s.conn = nil
	}
	s.noMore, s.noSend = false, false
}

func socketHandshake(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil {
		return fail(L, "closed")
	}
	rt := runtimeOf(L)
	name := ""
	if L.Get(3) != glua.LNil {
		name = checkText(L, 3)
	}
	session := glua.LValue(userdata("session"))
	if L.Get(2) == glua.LFalse {
		session = glua.LTrue
	}
	if s.conn.secure {
		return ret(L, session)
	}
	verify := glua.LVAsBool(L.Get(4))
	var err error
	rt.wait(L, func(ctx context.Context) { err = rt.handshake(ctx, s.conn, name, verify, s.connect) })
	if err != nil {
		s.drop()
		return fail(L, socketError(err))
	}
	return ret(L, session)
}

func socketSend(L *glua.LState) int {
	s := self[*socket](L)
	var out strings.Builder
	flatten(L, &out, L.Get(2), 2, "send")
	if s.conn == nil || s.noSend {
		return fail(L, "closed")
	}
	var err error
	p := s.conn
	runtimeOf(L).wait(L, func(ctx context.Context) { err = p.write(ctx, []byte(out.String()), s.send) })
	if err != nil {
		return failed(L, err, nil, &s.noSend)
	}
	return ret(L, num(out.Len()))
}

// failed closes a direction of a connection unless there was only no time.
func failed(L *glua.LState, err error, partial []byte, closed *bool) int {
	message := socketError(err)
	*closed = *closed || message != "timeout"
	return ret(L, glua.LNil, str(message), str(string(partial)))
}

func socketReceive(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil || s.noMore {
		return fail(L, "closed")
	}
	p := s.conn
	var read func(ctx context.Context) ([]byte, error)
	switch v := L.Get(2).(type) {
	case glua.LNumber:
		read = func(ctx context.Context) ([]byte, error) { return p.readN(ctx, int(v), s.read) }
	default:
		switch pattern := optText(L, 2, "*l"); strings.TrimPrefix(pattern, "*") {
		case "l":
			read = func(ctx context.Context) ([]byte, error) { return p.readLine(ctx, s.read) }
		case "a":
			read = func(ctx context.Context) ([]byte, error) { return p.readAll(ctx, s.read) }
		default:
			n, ok := parseNumber(pattern).(glua.LNumber)
			if !ok {
				L.RaiseError("bad argument #2 to 'receive' (bad pattern argument: %s)", pattern)
			}
			read = func(ctx context.Context) ([]byte, error) { return p.readN(ctx, int(n), s.read) }
		}
	}
	return s.received(L, read)
}

func (s *socket) received(L *glua.LState, read func(ctx context.Context) ([]byte, error)) int {
	var b []byte
	var err error
	runtimeOf(L).wait(L, func(ctx context.Context) { b, err = read(ctx) })
	if err != nil {
		return failed(L, err, b, &s.noMore)
	}
	return ret(L, str(string(b)))
}

func socketReceiveAny(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil || s.noMore {
		return fail(L, "closed")
	}
	n, p := L.OptInt(2, 65536), s.conn
	return s.received(L, func(ctx context.Context) ([]byte, error) { return p.readSome(ctx, n, s.read) })
}

// socketReceiveUntil returns an iterator over the parts before a pattern.
func socketReceiveUntil(L *glua.LState) int {
	s := self[*socket](L)
	pattern := checkText(L, 2)
	if pattern == "" {
		L.RaiseError("bad argument #2 to 'receiveuntil' (pattern is empty)")
	}
	inclusive := glua.LVAsBool(field(L.Get(3), "inclusive"))
	var held []byte
	ended := false
	return ret(L, L.NewFunction(func(L *glua.LState) int {
		size := L.OptInt(1, 0)
		if ended {
			ended = false
			return ret(L, glua.LNil, glua.LNil, glua.LNil)
		}
		if s.conn == nil || s.noMore {
			return fail(L, "closed")
		}
		p := s.conn
		var err error
		found := -1
		runtimeOf(L).wait(L, func(ctx context.Context) {
			for {
				if found = bytes.Index(held, []byte(pattern)); found >= 0 || size > 0 && len(held) >= size+len(pattern) {
					return
				}
				var b []byte
				if b, err = p.readN(ctx, 1, s.read); err != nil {
					return
				}
				held = append(held, b...)
			}
		})
		if err != nil {
			partial := held
			held = nil
			return failed(L, err, partial, &s.noMore)
		}
		if size > 0 && (found < 0 || found > size) {
			part := string(held[:size])
			held = held[size:]
			return ret(L, str(part))
		}
		end := found
		if inclusive {
			end += len(pattern)
		}
		part := string(held[:end])
		held = held[found+len(pattern):]
		ended = size > 0
		return ret(L, str(part))
	}))
}

func socketKeepalive(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil || s.noMore || s.noSend {
		return fail(L, "closed")
	}
	p := s.conn
	s.conn = nil
	if !p.quiet() {
		_ = p.conn.Close()
		return fail(L, "connection in dubious state")
	}
	runtimeOf(L).conns.put(p.pool, p, milliseconds(L.OptNumber(2, 60000)), L.OptInt(3, 30))
	return ret(L, num(1))
}

func socketReused(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil {
		return fail(L, "closed")
	}
	return ret(L, num(s.conn.reused))
}

func socketClose(L *glua.LState) int {
	s := self[*socket](L)
	if s.conn == nil || s.noMore && s.noSend {
		return fail(L, "closed")
	}
	s.drop()
	return ret(L, num(1))
}

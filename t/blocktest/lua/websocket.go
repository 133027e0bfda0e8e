package lua

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// webSocket is one end of a WebSocket; the client's end masks what it sends.
type webSocket struct {
	socket
	client bool
	fatal  bool
	closed bool
}

const (
	webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	maxFrame      = 65535
)

var opcodes = map[byte]string{0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}

func webSocketMethods() funcs {
	send := func(opcode byte) glua.LGFunction {
		return func(L *glua.LState) int { return webSocketSend(L, true, opcode, []byte(optText(L, 2, ""))) }
	}
	return funcs{
		"connect":     webSocketConnect,
		"set_timeout": func(L *glua.LState) int { return webSocketTimeout(L) },
		"recv_frame":  webSocketReceive,
		"send_text":   send(1),
		"send_binary": send(2),
		"send_ping":   send(9),
		"send_pong":   send(10),
		"send_close": func(L *glua.LState) int {
			var payload []byte
			if code, ok := L.Get(2).(glua.LNumber); ok {
				payload = binary.BigEndian.AppendUint16(nil, uint16(code))
				payload = append(payload, optText(L, 3, "")...)
			}
			return webSocketSend(L, true, 8, payload)
		},
		"send_frame": func(L *glua.LState) int {
			return webSocketSend(L, glua.LVAsBool(L.Get(2)), byte(L.CheckInt(3)), []byte(optText(L, 4, "")))
		},
		"set_keepalive": func(L *glua.LState) int { unsupported(L, "set_keepalive of a WebSocket"); return 0 },
		"close": func(L *glua.LState) int {
			w := self[*webSocket](L)
			if w.conn == nil {
				return fail(L, "not initialized")
			}
			if !w.closed {
				w.closed = true
				webSocketSend(L, true, 8, nil)
			}
			w.drop()
			return ret(L, num(1))
		},
	}
}

func (rt *Runtime) webSocketClient() *glua.LTable {
	class := rt.class("resty.websocket", webSocketMethods())
	return module(rt.state, funcs{"new": func(L *glua.LState) int {
		w := &webSocket{client: true, socket: socket{network: "tcp", timeouts: defaultTimeouts()}}
		w.setTimeout(field(L.Get(2), "timeout"))
		return ret(L, object(L, class, w))
	}})
}

func (w *webSocket) setTimeout(v glua.LValue) {
	if n, ok := v.(glua.LNumber); ok {
		d := milliseconds(n)
		w.timeouts = timeouts{d, d, d}
	}
}

func webSocketTimeout(L *glua.LState) int {
	self[*webSocket](L).setTimeout(L.Get(2))
	return ret(L, num(1))
}

func acceptKey(key string) string {
	h := sha1.Sum([]byte(key + webSocketGUID))
	return base64.StdEncoding.EncodeToString(h[:])
}

// webSocketServer takes over the connection of the request.
func (rt *Runtime) webSocketServer() *glua.LTable {
	class := rt.class("resty.websocket", webSocketMethods())
	return module(rt.state, funcs{"new": func(L *glua.LState) int {
		x, _ := exchange(L)
		key := headerValue(x.Header, "Sec-WebSocket-Key")
		switch {
		case x.Sent:
			return fail(L, "response header already sent")
		case !strings.EqualFold(headerValue(x.Header, "Upgrade"), "websocket"):
			return fail(L, "bad \"upgrade\" request header: "+nilOr(headerValue(x.Header, "Upgrade")))
		case !strings.Contains(strings.ToLower(headerValue(x.Header, "Connection")), "upgrade"):
			return fail(L, "bad \"connection\" request header")
		case key == "":
			return fail(L, "bad \"sec-websocket-key\" request header")
		case headerValue(x.Header, "Sec-WebSocket-Version") != "13":
			return fail(L, "bad \"sec-websocket-version\" request header")
		case x.Conn == nil:
			unsupported(L, "resty.websocket.server here")
		}
		conn, err := x.Conn()
		if err != nil {
			return fail(L, err.Error())
		}
		w := &webSocket{socket: socket{network: "tcp", conn: newPeer(conn), timeouts: defaultTimeouts()}}
		w.setTimeout(field(L.Get(2), "timeout"))
		x.Status, x.Sent = 101, true
		head := "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + acceptKey(key) + "\r\n"
		if p := headerValue(x.Header, "Sec-WebSocket-Protocol"); p != "" {
			head += "Sec-WebSocket-Protocol: " + p + "\r\n"
		}
		rt.wait(L, func(ctx context.Context) { err = w.conn.write(ctx, []byte(head+"\r\n"), w.send) })
		if err != nil {
			return fail(L, "failed to send response header: "+socketError(err))
		}
		return ret(L, object(L, class, w))
	}})
}

func nilOr(s string) string {
	if s == "" {
		return "nil"
	}
	return s
}

func webSocketConnect(L *glua.LState) int {
	w, uri, opts := self[*webSocket](L), checkText(L, 2), L.Get(3)
	scheme, rest, _ := strings.Cut(uri, "://")
	if scheme != "ws" && scheme != "wss" {
		return fail(L, "bad websocket uri")
	}
	_, host, port, path, query, ok := splitURI("http://" + rest)
	if !ok {
		return fail(L, "bad websocket uri")
	}
	secure := scheme == "wss"
	if port == 0 {
		port = map[bool]int{false: 80, true: 443}[secure]
	}
	if query != "" {
		path += "?" + query
	}
	if field(opts, "client_cert") != glua.LNil {
		unsupported(L, "a client certificate of a WebSocket")
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	hostHeader := stringField(opts, "host", fmt.Sprintf("%s:%d", host, port))
	head := fmt.Sprintf("GET %s HTTP/1.1\r\nUpgrade: websocket\r\nHost: %s\r\nSec-WebSocket-Key: %s\r\n", path, hostHeader, key)
	if v := field(opts, "protocols"); v != glua.LNil {
		head += "Sec-WebSocket-Protocol: " + strings.Join(plainTexts(L, v), ",") + "\r\n"
	}
	if origin := stringField(opts, "origin", ""); origin != "" {
		head += "Origin: " + origin + "\r\n"
	}
	head += "Sec-WebSocket-Version: 13\r\nConnection: Upgrade\r\n"
	if t, ok := field(opts, "headers").(*glua.LTable); ok {
		for i := 1; i <= t.Len(); i++ {
			line, _ := text(t.RawGetInt(i))
			head += line + "\r\n"
		}
	}
	rt := runtimeOf(L)
	var stage string
	var err error
	rt.wait(L, func(ctx context.Context) {
		network, addr := address(host, port)
		stage = "failed to connect: "
		if w.conn, err = rt.dial(ctx, network, addr, w.timeouts.connect); err != nil {
			return
		}
		if secure {
			stage = "ssl handshake failed: "
			name := stringField(opts, "server_name", host)
			if err = rt.handshake(ctx, w.conn, name, field(opts, "ssl_verify") == glua.LTrue, w.timeouts.connect); err != nil {
				return
			}
		}
		stage = "failed to send the handshake request: "
		if err = w.conn.write(ctx, []byte(head+"\r\n"), w.send); err != nil {
			return
		}
		stage = "failed to receive response header: "
		var answer *httpHead
		if answer, err = w.conn.readHead(ctx, w.read); err == nil && answer.status != 101 {
			stage, err = "", errors.New("bad HTTP response status line: HTTP/"+answer.version+" "+fmt.Sprint(answer.status)+" "+answer.reason)
		}
	})
	if err != nil {
		w.drop()
		return fail(L, stage+socketError(err))
	}
	return ret(L, num(1))
}

func webSocketSend(L *glua.LState, final bool, opcode byte, payload []byte) int {
	w := self[*webSocket](L)
	if w.conn == nil || w.fatal {
		return fail(L, "fatal error already happened")
	}
	frame := []byte{opcode}
	if final {
		frame[0] |= 0x80
	}
	var masked byte
	if w.client {
		masked = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, masked|byte(n))
	case n <= 65535:
		frame = binary.BigEndian.AppendUint16(append(frame, masked|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, masked|127), uint64(n))
	}
	if w.client {
		var mask [4]byte
		_, _ = rand.Read(mask[:])
		frame = append(frame, mask[:]...)
		for i, b := range payload {
			payload[i] = b ^ mask[i%4]
		}
	}
	frame = append(frame, payload...)
	var err error
	p := w.conn
	runtimeOf(L).wait(L, func(ctx context.Context) { err = p.write(ctx, frame, w.send) })
	if err != nil {
		w.fatal = true
		return fail(L, "failed to send frame: "+socketError(err))
	}
	return ret(L, num(len(frame)))
}

func webSocketReceive(L *glua.LState) int {
	w := self[*webSocket](L)
	if w.conn == nil || w.fatal {
		return ret(L, glua.LNil, glua.LNil, str("fatal error already happened"))
	}
	var payload []byte
	var opcode byte
	var final bool
	var err error
	p := w.conn
	runtimeOf(L).wait(L, func(ctx context.Context) { opcode, final, payload, err = p.readFrame(ctx, w.read) })
	if err != nil {
		w.fatal = socketError(err) != "timeout"
		return ret(L, glua.LNil, glua.LNil, str("failed to receive the first 2 bytes: "+socketError(err)))
	}
	kind := opcodes[opcode]
	if opcode == 8 && len(payload) >= 2 {
		return ret(L, str(string(payload[2:])), str(kind), num(int(binary.BigEndian.Uint16(payload))))
	}
	if !final {
		return ret(L, str(string(payload)), str(kind), str("again"))
	}
	return ret(L, str(string(payload)), str(kind))
}

func (p *peer) readFrame(ctx context.Context, timeout time.Duration) (opcode byte, final bool, payload []byte, err error) {
	head, err := p.readN(ctx, 2, timeout)
	if err != nil {
		return 0, false, nil, err
	}
	opcode, final = head[0]&15, head[0]&0x80 != 0
	size := uint64(head[1] & 0x7f)
	if more := map[uint64]int{126: 2, 127: 8}[size]; more > 0 {
		b, err := p.readN(ctx, more, timeout)
		if err != nil {
			return 0, false, nil, err
		}
		size = binary.BigEndian.Uint64(append(make([]byte, 8-more), b...))
	}
	if size > maxFrame {
		return 0, false, nil, errors.New("exceeding max payload len")
	}
	var mask []byte
	if head[1]&0x80 != 0 {
		if mask, err = p.readN(ctx, 4, timeout); err != nil {
			return 0, false, nil, err
		}
	}
	payload, err = p.readN(ctx, int(size), timeout)
	for i := range mask {
		for j := i; j < len(payload); j += 4 {
			payload[j] ^= mask[i]
		}
	}
	return opcode, final, payload, err
}

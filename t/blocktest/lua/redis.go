package lua

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// redis is resty.redis without pipelines and subscriptions: every name that is not a
// method is a command.
func (rt *Runtime) redis() *glua.LTable {
	L := rt.state
	class := rt.class("resty.redis client", redisMethods)
	// The class of other objects ends a script at a name it lacks; here it is a command.
	class.RawGetString("__index").(*glua.LTable).Metatable = module(L, funcs{"__index": func(L *glua.LState) int {
		command, _ := text(L.Get(2))
		switch command {
		case "init_pipeline", "subscribe", "psubscribe", "read_reply":
			unsupported(L, "resty.redis's "+command)
		}
		return ret(L, L.NewFunction(func(L *glua.LState) int { return redisCommand(L, command) }))
	}})
	m := module(L, funcs{"new": func(L *glua.LState) int {
		return ret(L, object(L, class, &socket{network: "tcp", timeouts: defaultTimeouts()}))
	}})
	m.RawSetString("_VERSION", str("0.30"))
	return m
}

var redisMethods = funcs{
	"connect":      socketConnect,
	"set_timeout":  func(L *glua.LState) int { return socketTimeout(L) },
	"set_timeouts": func(L *glua.LState) int { return socketTimeouts(L) },
	"set_keepalive": func(L *glua.LState) int {
		return socketKeepalive(L)
	},
	"get_reused_times": socketReused,
	"close":            socketClose,
}

func redisCommand(L *glua.LState, command string) int {
	s := self[*socket](L)
	if s.conn == nil {
		return fail(L, "not initialized")
	}
	var out strings.Builder
	args := arguments(L, 2)
	fmt.Fprintf(&out, "*%d\r\n$%d\r\n%s\r\n", len(args)+1, len(command), command)
	for _, v := range args {
		a := tostring(L, v)
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(a), a)
	}
	rt := runtimeOf(L)
	var reply any
	var err error
	p := s.conn
	rt.wait(L, func(ctx context.Context) {
		if err = p.write(ctx, []byte(out.String()), s.send); err == nil {
			reply, err = p.redisReply(ctx, s.read)
		}
	})
	var refused redisError
	switch {
	case errors.As(err, &refused):
		return ret(L, glua.LFalse, str(string(refused)))
	case err != nil:
		s.drop()
		return fail(L, socketError(err))
	}
	return ret(L, rt.redisValue(L, reply))
}

// redisError is a reply that begins with -.
type redisError string

func (e redisError) Error() string { return string(e) }

// redisReply is a string, an int64, nil or a list of replies.
func (p *peer) redisReply(ctx context.Context, timeout time.Duration) (any, error) {
	line, err := p.readLine(ctx, timeout)
	if err != nil {
		return nil, err
	}
	if len(line) == 0 {
		return nil, errors.New("unknown prefix: \"\"")
	}
	rest := string(line[1:])
	switch line[0] {
	case '+':
		return rest, nil
	case '-':
		return nil, redisError(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("unknown prefix: %q", line[:1])
	}
	switch line[0] {
	case ':':
		return n, nil
	case '$':
		if n < 0 {
			return nil, nil
		}
		b, err := p.readN(ctx, int(n)+2, timeout)
		if err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case '*':
		if n < 0 {
			return nil, nil
		}
		items := []any{}
		for range n {
			item, err := p.redisReply(ctx, timeout)
			var refused redisError
			if errors.As(err, &refused) {
				item, err = refused, nil
			}
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	}
	return nil, fmt.Errorf("unknown prefix: %q", line[:1])
}

func (rt *Runtime) redisValue(L *glua.LState, reply any) glua.LValue {
	switch v := reply.(type) {
	case string:
		return str(v)
	case int64:
		return num(v)
	case redisError:
		return list(L, glua.LFalse, str(string(v)))
	case []any:
		t := L.NewTable()
		for _, item := range v {
			t.Append(rt.redisValue(L, item))
		}
		return t
	}
	return rt.null
}

package lua

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// lruCache is resty.lrucache: values of a worker with a time to live.
type lruCache struct {
	entries map[glua.LValue]*lruEntry
	size    int
	used    uint64
}

type lruEntry struct {
	value   glua.LValue
	expires time.Time
	used    uint64
}

func (rt *Runtime) lrucache() *glua.LTable {
	class := rt.class("resty.lrucache", funcs{
		"get": func(L *glua.LState) int {
			c := self[*lruCache](L)
			e := c.entries[L.Get(2)]
			if e == nil {
				return ret(L, glua.LNil)
			}
			c.used++
			e.used = c.used
			if !e.expires.IsZero() && time.Now().After(e.expires) {
				return ret(L, glua.LNil, e.value)
			}
			return ret(L, e.value)
		},
		"set": func(L *glua.LState) int {
			c := self[*lruCache](L)
			c.used++
			c.entries[L.CheckAny(2)] = &lruEntry{value: L.Get(3), expires: expiry(L, 4), used: c.used}
			c.trim()
			return 0
		},
		"delete":    func(L *glua.LState) int { delete(self[*lruCache](L).entries, L.CheckAny(2)); return 0 },
		"flush_all": func(L *glua.LState) int { clear(self[*lruCache](L).entries); return 0 },
		"count":     func(L *glua.LState) int { return ret(L, num(len(self[*lruCache](L).entries))) },
		"capacity":  func(L *glua.LState) int { return ret(L, num(self[*lruCache](L).size)) },
	})
	return module(rt.state, funcs{"new": func(L *glua.LState) int {
		return ret(L, object(L, class, &lruCache{entries: map[glua.LValue]*lruEntry{}, size: L.CheckInt(1)}))
	}})
}

// trim drops the entry that was not used for longest.
func (c *lruCache) trim() {
	if len(c.entries) <= c.size {
		return
	}
	var oldest glua.LValue
	for k, e := range c.entries {
		if oldest == nil || e.used < c.entries[oldest].used {
			oldest = k
		}
	}
	delete(c.entries, oldest)
}

// shellModule is resty.shell.
func (rt *Runtime) shellModule() *glua.LTable {
	return rt.guarded("resty.shell", module(rt.state, funcs{"run": func(L *glua.LState) int {
		command, input := checkText(L, 1), optText(L, 2, "")
		timeout := milliseconds(L.OptNumber(3, 10000))
		var stdout, stderr bytes.Buffer
		var err error
		rt.wait(L, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
			cmd.Env = os.Environ()
			for k, v := range rt.opts.Env {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(input), &stdout, &stderr
			// What the command leaves running must not keep its pipes open for us.
			cmd.WaitDelay = time.Second
			if err = cmd.Run(); ctx.Err() != nil {
				err = ctx.Err()
			}
		})
		if errors.Is(err, context.DeadlineExceeded) {
			return ret(L, glua.LNil, str(stdout.String()), str(stderr.String()), str("timeout"))
		}
		code, reason := 0, "exit"
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			if code = exit.ExitCode(); code < 0 {
				reason = "signal"
			}
		case err != nil:
			return fail(L, err.Error())
		}
		return ret(L, glua.LBool(code == 0), str(stdout.String()), str(stderr.String()), str(reason), num(code))
	}}))
}

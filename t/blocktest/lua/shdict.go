package lua

import (
	"math"
	"sort"
	"strings"
	"sync"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// dict is a lua_shared_dict. Its capacity is not modelled: nothing is ever evicted.
type dict struct {
	mu      sync.Mutex
	entries map[string]*entry
	order   uint64
}

type entry struct {
	value   glua.LValue // a text, a number or a boolean; nil for a list
	list    []glua.LValue
	isList  bool
	flags   int
	expires time.Time // zero: never
	order   uint64
}

func newDict() *dict { return &dict{entries: map[string]*entry{}} }

func (e *entry) expired() bool { return !e.expires.IsZero() && !time.Now().Before(e.expires) }

// live returns an entry that has not expired.
func (d *dict) live(key string) *entry {
	if e := d.entries[key]; e != nil && !e.expired() {
		return e
	}
	return nil
}

func expiry(L *glua.LState, n int) time.Time {
	s, _ := L.Get(n).(glua.LNumber)
	if s < 0 {
		L.RaiseError("bad \"exptime\" argument")
	}
	if s == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(math.Max(1, float64(s)*float64(time.Second))))
}

func (d *dict) put(key string, e *entry) {
	d.order++
	e.order = d.order
	d.entries[key] = e
}

func (rt *Runtime) sharedGet(L *glua.LState) int {
	name, _ := text(L.Get(2))
	rt.dictsMu.Lock()
	d := rt.dicts[name]
	rt.dictsMu.Unlock()
	if d == nil {
		if ofReference(name) {
			whiteBox(L, "ngx.shared."+name)
		}
		return ret(L, glua.LNil)
	}
	t := object(L, rt.class("shared dict", dictMethods), d)
	L.CheckTable(1).RawSetString(name, t)
	return ret(L, t)
}

// ofReference reports whether a dictionary is one in which the reference's code keeps what it
// knows.
func ofReference(name string) bool {
	switch name {
	case "internal-status", "worker-events", "lrucache-lock", "balancer-ewma", "upstream-healthcheck", "standalone-config",
		"xds-config", "xds-config-version", "tracing_buffer", "access-tokens", "discovery", "cas_sessions", "mcp-session",
		"ocsp-stapling", "prometheus-metrics", "prometheus-cache", "kubernetes", "kubernetes-first", "consul", "nacos":
		return true
	}
	return strings.HasPrefix(name, "plugin-")
}

// dictMethod locks the dictionary and reads the key, which must be a text.
func dictMethod(f func(L *glua.LState, d *dict, key string) int) glua.LGFunction {
	return func(L *glua.LState) int {
		d := self[*dict](L)
		if L.Get(2) == glua.LNil {
			return fail(L, "nil key")
		}
		key := tostring(L, L.Get(2))
		if key == "" {
			return fail(L, "empty key")
		}
		if len(key) > 65535 {
			return fail(L, "key too long")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return f(L, d, key)
	}
}

var dictMethods = funcs{
	"get": dictMethod(func(L *glua.LState, d *dict, key string) int { return give(L, d.live(key), false) }),
	"get_stale": dictMethod(func(L *glua.LState, d *dict, key string) int {
		return give(L, d.entries[key], true)
	}),
	"set":      dictMethod(func(L *glua.LState, d *dict, key string) int { return d.store(L, key, always) }),
	"safe_set": dictMethod(func(L *glua.LState, d *dict, key string) int { return d.store(L, key, always) }),
	"add":      dictMethod(func(L *glua.LState, d *dict, key string) int { return d.store(L, key, absent) }),
	"safe_add": dictMethod(func(L *glua.LState, d *dict, key string) int { return d.store(L, key, absent) }),
	"replace":  dictMethod(func(L *glua.LState, d *dict, key string) int { return d.store(L, key, existing) }),
	"delete": dictMethod(func(L *glua.LState, d *dict, key string) int {
		delete(d.entries, key)
		return ret(L, glua.LTrue)
	}),
	"incr":   dictMethod(dictIncr),
	"ttl":    dictMethod(dictTTL),
	"expire": dictMethod(dictExpire),
	"lpush":  dictMethod(func(L *glua.LState, d *dict, key string) int { return d.push(L, key, true) }),
	"rpush":  dictMethod(func(L *glua.LState, d *dict, key string) int { return d.push(L, key, false) }),
	"lpop":   dictMethod(func(L *glua.LState, d *dict, key string) int { return d.pop(L, key, true) }),
	"rpop":   dictMethod(func(L *glua.LState, d *dict, key string) int { return d.pop(L, key, false) }),
	"llen": dictMethod(func(L *glua.LState, d *dict, key string) int {
		e := d.live(key)
		switch {
		case e == nil:
			return ret(L, num(0))
		case !e.isList:
			return fail(L, "value not a list")
		}
		return ret(L, num(len(e.list)))
	}),
	"flush_all": func(L *glua.LState) int {
		d := self[*dict](L)
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, e := range d.entries {
			e.expires = time.Now()
		}
		return 0
	},
	"flush_expired": func(L *glua.LState) int {
		d, most, n := self[*dict](L), L.OptInt(2, 0), 0
		d.mu.Lock()
		defer d.mu.Unlock()
		for k, e := range d.entries {
			if e.expired() && (most == 0 || n < most) {
				delete(d.entries, k)
				n++
			}
		}
		return ret(L, num(n))
	},
	"get_keys":   dictKeys,
	"capacity":   func(L *glua.LState) int { return ret(L, num(10<<20)) },
	"free_space": func(L *glua.LState) int { return ret(L, num(9<<20)) },
}

func dictKeys(L *glua.LState) int {
	d, most := self[*dict](L), L.OptInt(2, 1024)
	d.mu.Lock()
	defer d.mu.Unlock()
	var keys []string
	for k, e := range d.entries {
		if !e.expired() {
			keys = append(keys, k)
		}
	}
	// The newest first.
	sort.Slice(keys, func(i, j int) bool { return d.entries[keys[i]].order > d.entries[keys[j]].order })
	if most > 0 && len(keys) > most {
		keys = keys[:most]
	}
	t := L.NewTable()
	for _, k := range keys {
		t.Append(str(k))
	}
	return ret(L, t)
}

// give returns a value with its flags, and whether it is stale when that was asked.
func give(L *glua.LState, e *entry, stale bool) int {
	if e == nil {
		return ret(L, glua.LNil)
	}
	if e.isList {
		return fail(L, "value is a list")
	}
	flags := glua.LValue(glua.LNil)
	if e.flags != 0 {
		flags = num(e.flags)
	}
	if stale {
		return ret(L, e.value, flags, glua.LBool(e.expired()))
	}
	return ret(L, e.value, flags)
}

type condition int

const (
	always condition = iota
	absent
	existing
)

func (d *dict) store(L *glua.LState, key string, when condition) int {
	v := L.Get(3)
	e := d.live(key)
	switch {
	case when == absent && e != nil:
		return ret(L, glua.LFalse, str("exists"), glua.LFalse)
	case when == existing && e == nil:
		return ret(L, glua.LFalse, str("not found"), glua.LFalse)
	}
	switch v.(type) {
	case *glua.LNilType:
		if when == absent {
			return fail(L, "attempt to add or replace nil values")
		}
		delete(d.entries, key)
		return ret(L, glua.LTrue, glua.LNil, glua.LFalse)
	case glua.LString, glua.LNumber, glua.LBool:
	default:
		return fail(L, "bad value type")
	}
	d.put(key, &entry{value: v, expires: expiry(L, 4), flags: L.OptInt(5, 0)})
	return ret(L, glua.LTrue, glua.LNil, glua.LFalse)
}

func dictIncr(L *glua.LState, d *dict, key string) int {
	by := L.CheckNumber(3)
	e := d.live(key)
	if e == nil {
		init, ok := L.Get(4).(glua.LNumber)
		if !ok {
			return fail(L, "not found")
		}
		e = &entry{value: init, expires: expiry(L, 5)}
		d.put(key, e)
	}
	n, ok := e.value.(glua.LNumber)
	if !ok {
		return fail(L, "not a number")
	}
	e.value = n + by
	return ret(L, e.value, glua.LNil, glua.LFalse)
}

func dictTTL(L *glua.LState, d *dict, key string) int {
	e := d.entries[key]
	switch {
	case e == nil:
		return fail(L, "not found")
	case e.expires.IsZero():
		return ret(L, num(0))
	}
	return ret(L, num(math.Round(time.Until(e.expires).Seconds()*1000)/1000))
}

func dictExpire(L *glua.LState, d *dict, key string) int {
	e := d.live(key)
	if e == nil {
		return fail(L, "not found")
	}
	e.expires = expiry(L, 3)
	return ret(L, glua.LTrue)
}

func (d *dict) push(L *glua.LState, key string, left bool) int {
	v := L.Get(3)
	switch v.(type) {
	case glua.LString, glua.LNumber:
	default:
		return fail(L, "bad value type")
	}
	e := d.live(key)
	if e == nil {
		e = &entry{isList: true}
		d.put(key, e)
	}
	if !e.isList {
		return fail(L, "value not a list")
	}
	if left {
		e.list = append([]glua.LValue{v}, e.list...)
	} else {
		e.list = append(e.list, v)
	}
	return ret(L, num(len(e.list)))
}

func (d *dict) pop(L *glua.LState, key string, left bool) int {
	e := d.live(key)
	if e == nil {
		return ret(L, glua.LNil)
	}
	if !e.isList {
		return fail(L, "value not a list")
	}
	n := len(e.list) - 1
	v := e.list[n]
	if left {
		v, e.list = e.list[0], e.list[1:]
	} else {
		e.list = e.list[:n]
	}
	if n == 0 {
		delete(d.entries, key)
	}
	return ret(L, v)
}

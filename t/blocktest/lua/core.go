package lua

import (
	"crypto/rand"
	"fmt"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// openCore offers apisix.core as the helpers of suites use it. What it lacks is inside the
// reference.
func (rt *Runtime) openCore() {
	parts := map[string]func() *glua.LTable{
		"json": rt.coreJSON, "log": rt.coreLog, "table": rt.coreTable, "string": rt.coreString,
		"request": rt.coreRequest, "response": rt.coreResponse, "utils": rt.coreUtils,
		"etcd": rt.coreEtcd, "config_local": rt.coreConfig,
	}
	for name, make := range parts {
		rt.builtin["apisix.core."+name] = func(*glua.LState) glua.LValue { return make() }
	}
	rt.builtin["apisix.core"] = func(L *glua.LState) glua.LValue {
		require := L.GetGlobal("require")
		m := L.NewTable()
		for name := range parts {
			m.RawSetString(name, callOne(L, require, str("apisix.core."+name)))
		}
		m.RawSetString("config", m.RawGetString("config_local"))
		m.RawSetString("version", callOne(L, require, str("apisix.core.version")))
		m.RawSetString("sleep", L.NewFunction(ngxSleep))
		m.RawSetString("empty_tab", L.NewTable())
		return rt.inside("core", m)
	}
	rt.builtin["apisix.constants"] = func(L *glua.LState) glua.LValue {
		m := L.NewTable()
		if rt.opts.Home != "" {
			m.RawSetString("apisix_lua_home", str(rt.opts.Home))
		}
		return rt.inside("apisix.constants", m)
	}
	rt.builtin["apisix.core.version"] = func(L *glua.LState) glua.LValue {
		m := L.NewTable()
		m.RawSetString("VERSION", str("3.18.0"))
		return m
	}
}

// inside offers the fields of t. Every other name, and to change any, is a matter of the
// reference's insides: a change would not reach the gateway under test.
func (rt *Runtime) inside(name string, t *glua.LTable) *glua.LTable {
	key := func(L *glua.LState) string {
		s, _ := text(L.Get(2))
		return name + "." + s
	}
	return proxy(rt.state, func(L *glua.LState) int {
		v := t.RawGet(L.Get(2))
		if v == glua.LNil {
			whiteBox(L, key(L))
		}
		return ret(L, v)
	}, func(L *glua.LState) int {
		whiteBox(L, key(L)+" = …")
		return 0
	})
}

func (rt *Runtime) coreConfig() *glua.LTable {
	return rt.inside("core.config", module(rt.state, funcs{"local_conf": func(L *glua.LState) int {
		if rt.opts.LocalConf == nil {
			whiteBox(L, "core.config.local_conf")
		}
		v, err := rt.safeJSON.decode(string(rt.opts.LocalConf))
		if err != nil {
			return fail(L, err.Error())
		}
		return ret(L, v)
	}}))
}

func (rt *Runtime) coreJSON() *glua.LTable {
	L := rt.state
	encode := func(L *glua.LState, v glua.LValue, force bool) (string, error) {
		if force {
			v = serializable(L, v, map[*glua.LTable]bool{})
		}
		return rt.safeJSON.encode(v)
	}
	delayed := L.NewTable()
	delayed.RawSetString("__tostring", L.NewFunction(func(L *glua.LState) int {
		t := L.CheckTable(1)
		s, err := encode(L, t.RawGetString("data"), glua.LVAsBool(t.RawGetString("force")))
		if err != nil {
			logAt(L, "warn", "failed to encode: "+err.Error()+" force: "+t.RawGetString("force").String())
			return ret(L, glua.LNil)
		}
		return ret(L, str(s))
	}))
	m := module(L, funcs{
		"encode": func(L *glua.LState) int {
			s, err := encode(L, L.Get(1), glua.LVAsBool(L.Get(2)))
			if err != nil {
				return fail(L, err.Error())
			}
			return ret(L, str(s))
		},
		"decode": func(L *glua.LState) int {
			s, ok := text(L.Get(1))
			if !ok {
				return fail(L, fmt.Sprintf("bad argument #1 to '?' (string expected, got %s)", typeName(L, 1)))
			}
			v, err := rt.safeJSON.decode(s)
			if err != nil {
				return fail(L, err.Error())
			}
			if glua.LVAsBool(field(L.Get(2), "null_as_nil")) {
				v = rt.withoutNulls(v)
			}
			return ret(L, v)
		},
		"delay_encode": func(L *glua.LState) int {
			t := L.NewTable()
			t.RawSetString("data", L.Get(1))
			t.RawSetString("force", glua.LBool(glua.LVAsBool(L.Get(2))))
			t.Metatable = delayed
			return ret(L, t)
		},
		"canonical_encode": func(L *glua.LState) int {
			c := *rt.safeJSON
			c.sortKeys = true
			s, err := c.encode(L.Get(1))
			if err != nil {
				return fail(L, err.Error())
			}
			return ret(L, str(s))
		},
	})
	m.RawSetString("stably_encode", rt.dkjson(false).RawGetString("encode"))
	m.RawSetString("null", rt.null)
	m.RawSetString("array_mt", rt.safeJSON.arrayMT)
	return rt.inside("core.json", m)
}

func (rt *Runtime) withoutNulls(v glua.LValue) glua.LValue {
	if v == rt.null {
		return glua.LNil
	}
	if t, ok := v.(*glua.LTable); ok {
		var keys []glua.LValue
		each(t, func(k, _ glua.LValue) { keys = append(keys, k) })
		for _, k := range keys {
			t.RawSet(k, rt.withoutNulls(t.RawGet(k)))
		}
	}
	return v
}

// serializable copies a value with texts for what JSON cannot say.
func serializable(L *glua.LState, v glua.LValue, seen map[*glua.LTable]bool) glua.LValue {
	switch v := v.(type) {
	case *glua.LFunction, *glua.LUserData:
		return str(tostring(L, v))
	case *glua.LTable:
		if seen[v] {
			return str(tostring(L, v))
		}
		seen[v] = true
		t := L.NewTable()
		each(v, func(k, item glua.LValue) { t.RawSet(serializable(L, k, seen), serializable(L, item, seen)) })
		return t
	}
	return v
}

func (rt *Runtime) coreLog() *glua.LTable {
	L := rt.state
	fs := funcs{}
	for i, name := range logLevels {
		fs[name] = func(L *glua.LState) int {
			logAt(L, logLevels[i], joined(L, 1, "log"))
			return 0
		}
	}
	late := L.NewTable()
	late.RawSetString("__tostring", L.NewFunction(func(L *glua.LState) int {
		t := L.CheckTable(1)
		var args []glua.LValue
		for i := 2; i <= t.MaxN(); i++ {
			args = append(args, t.RawGetInt(i))
		}
		values := callAll(L, t.RawGetInt(1), args...)
		if len(values) == 0 {
			return ret(L, str("nil"))
		}
		return ret(L, str(tostring(L, values[0])))
	}))
	fs["delay_exec"] = func(L *glua.LState) int {
		t := list(L, arguments(L, 1)...)
		t.Metatable = late
		return ret(L, t)
	}
	return rt.inside("core.log", module(L, fs))
}

func (rt *Runtime) coreString() *glua.LTable {
	L := rt.state
	m := L.NewTable()
	each(L.G.Global.RawGetString("string").(*glua.LTable), func(k, v glua.LValue) { m.RawSet(k, v) })
	affix := func(has func(s, x string) bool) glua.LGFunction {
		return func(L *glua.LState) int {
			s, x := checkText(L, 1), checkText(L, 2)
			return ret(L, glua.LBool(has(s, x)))
		}
	}
	extend(L, m, funcs{
		"find": func(L *glua.LState) int {
			return ret(L, callAll(L, L.NewFunction(stringFind), L.Get(1), L.Get(2), num(L.OptInt(3, 1)), glua.LTrue)...)
		},
		"has_prefix": affix(strings.HasPrefix),
		"has_suffix": affix(strings.HasSuffix),
		"rfind_char": func(L *glua.LState) int {
			s, c := checkText(L, 1), checkText(L, 2)
			from := min(L.OptInt(3, len(s)), len(s))
			i := strings.LastIndex(s[:max(from, 0)], c)
			if i < 0 {
				return ret(L, glua.LNil)
			}
			return ret(L, num(i+1))
		},
		"decode_args": codecFuncs["decode_args"],
		"encode_args": codecFuncs["encode_args"],
	})
	return rt.inside("core.string", m)
}

func (rt *Runtime) coreTable() *glua.LTable {
	L := rt.state
	m := L.NewTable()
	each(L.G.Global.RawGetString("table").(*glua.LTable), func(k, v glua.LValue) { m.RawSet(k, v) })
	extend(L, m, funcs{
		"new":     func(L *glua.LState) int { return ret(L, L.NewTable()) },
		"clear":   tableClear,
		"clone":   tableClone,
		"nkeys":   func(L *glua.LState) int { return ret(L, num(countKeys(L.CheckTable(1)))) },
		"isempty": func(L *glua.LState) int { return ret(L, glua.LBool(isEmpty(L.CheckTable(1)))) },
		"insert_tail": func(L *glua.LState) int {
			t := L.CheckTable(1)
			n := t.Len()
			for i, v := range arguments(L, 2) {
				t.RawSetInt(n+i+1, v)
			}
			return ret(L, num(n+L.GetTop()-1))
		},
		"set": func(L *glua.LState) int {
			t := L.CheckTable(1)
			for i, v := range arguments(L, 2) {
				t.RawSetInt(i+1, v)
			}
			return 0
		},
		"try_read_attr": func(L *glua.LState) int {
			v := L.Get(1)
			for _, key := range arguments(L, 2) {
				t, ok := v.(*glua.LTable)
				if !ok {
					return ret(L, glua.LNil)
				}
				v = L.GetTable(t, key)
			}
			return ret(L, v)
		},
		"array_find": func(L *glua.LState) int {
			if t, ok := L.Get(1).(*glua.LTable); ok {
				for i := 1; t.RawGetInt(i) != glua.LNil; i++ {
					if L.Equal(t.RawGetInt(i), L.Get(2)) {
						return ret(L, num(i))
					}
				}
			}
			return ret(L, glua.LNil)
		},
		"deepcopy": func(L *glua.LState) int {
			if L.Get(2) != glua.LNil {
				whiteBox(L, "core.table.deepcopy with options")
			}
			return ret(L, deepCopy(L, L.Get(1), map[*glua.LTable]*glua.LTable{}))
		},
		"merge":   func(L *glua.LState) int { return ret(L, rt.merge(L.CheckTable(1), L.CheckTable(2))) },
		"deep_eq": func(L *glua.LState) int { return ret(L, glua.LBool(deepEqual(L.Get(1), L.Get(2)))) },
		"set_eq": func(L *glua.LState) int {
			a, b := L.CheckTable(1), L.CheckTable(2)
			same := countKeys(a) == countKeys(b)
			each(a, func(k, _ glua.LValue) { same = same && b.RawGet(k) != glua.LNil })
			return ret(L, glua.LBool(same))
		},
		"pick": func(L *glua.LState) int {
			out, attrs := L.NewTable(), L.CheckTable(2)
			each(L.CheckTable(1), func(k, v glua.LValue) {
				if attrs.RawGet(k) != glua.LNil {
					out.RawSet(k, v)
				}
			})
			return ret(L, out)
		},
	})
	return rt.inside("core.table", m)
}

func deepCopy(L *glua.LState, v glua.LValue, seen map[*glua.LTable]*glua.LTable) glua.LValue {
	t, ok := v.(*glua.LTable)
	if !ok {
		return v
	}
	if c := seen[t]; c != nil {
		return c
	}
	c := L.NewTable()
	seen[t] = c
	each(t, func(k, v glua.LValue) { c.RawSet(k, deepCopy(L, v, seen)) })
	c.Metatable = t.Metatable
	return c
}

// merge adds the fields of extend to origin; lists replace, null removes.
func (rt *Runtime) merge(origin, extend *glua.LTable) *glua.LTable {
	each(extend, func(k, v glua.LValue) {
		into, isTable := origin.RawGet(k).(*glua.LTable)
		from, both := v.(*glua.LTable)
		switch {
		case v == rt.null:
			origin.RawSet(k, glua.LNil)
		case isTable && both && countKeys(into) != into.Len() && countKeys(from) != from.Len():
			rt.merge(into, from)
		default:
			origin.RawSet(k, v)
		}
	})
	return origin
}

func deepEqual(a, b glua.LValue) bool {
	x, ok := a.(*glua.LTable)
	y, both := b.(*glua.LTable)
	if !ok || !both {
		return a == b
	}
	same := countKeys(x) == countKeys(y)
	each(x, func(k, v glua.LValue) { same = same && deepEqual(v, y.RawGet(k)) })
	return same
}

func (rt *Runtime) coreRequest() *glua.LTable {
	L := rt.state
	x := func(f func(*Exchange) glua.LValue) glua.LGFunction {
		return func(L *glua.LState) int { x, _ := exchange(L); return ret(L, f(x)) }
	}
	headers := func(L *glua.LState) *glua.LTable {
		x, _ := exchange(L)
		return headerTable(L, x.Header, num(0), false)
	}
	return rt.inside("core.request", module(L, funcs{
		"headers": func(L *glua.LState) int { return ret(L, headers(L)) },
		"header": func(L *glua.LState) int {
			x, _ := exchange(L)
			name, ok := text(L.Get(2))
			if !ok {
				name = checkText(L, 1)
			}
			values := headerValues(x.Header, name)
			if len(values) == 0 {
				return ret(L, glua.LNil)
			}
			return ret(L, str(values[0]))
		},
		"set_header": func(L *glua.LState) int {
			x, _ := exchange(L)
			name, value := L.Get(2), L.Get(3)
			if _, ok := L.Get(1).(glua.LString); ok {
				name, value = L.Get(1), L.Get(2)
			}
			s, _ := text(name)
			setHeader(&x.Header, s, headerTexts(L, value))
			return 0
		},
		"get_uri_args": func(L *glua.LState) int { x, _ := exchange(L); return argsTable(L, x.Args, 0) },
		"get_post_args": func(L *glua.LState) int {
			return argsTable(L, string(readBody(L)), 0)
		},
		"get_body": func(L *glua.LState) int {
			b := readBody(L)
			if len(b) == 0 {
				return ret(L, glua.LNil)
			}
			return ret(L, str(string(b)))
		},
		"get_method":             x(func(x *Exchange) glua.LValue { return str(x.Method) }),
		"get_scheme":             x(func(x *Exchange) glua.LValue { return str(x.Scheme) }),
		"get_host":               x(func(x *Exchange) glua.LValue { return str(hostOf(x)) }),
		"get_port":               x(func(x *Exchange) glua.LValue { return num(int(x.Local.Port())) }),
		"get_ip":                 x(func(x *Exchange) glua.LValue { return str(addrText(x.Remote)) }),
		"get_remote_client_ip":   x(func(x *Exchange) glua.LValue { return str(addrText(x.Remote)) }),
		"get_remote_client_port": x(func(x *Exchange) glua.LValue { return num(int(x.Remote.Port())) }),
		"get_http_version":       requestFuncs["http_version"],
	}))
}

func (rt *Runtime) coreResponse() *glua.LTable {
	L := rt.state
	set := func(add bool) glua.LGFunction {
		return func(L *glua.LState) int {
			x, _ := exchange(L)
			if x.Sent {
				L.RaiseError("headers have already been sent")
			}
			put := func(name, v glua.LValue) {
				n, _ := text(name)
				values := headerTexts(L, v)
				if !add {
					setHeader(&x.OutHeader, n, values)
					return
				}
				for _, s := range values {
					x.OutHeader = append(x.OutHeader, Field{n, s})
				}
			}
			if t, ok := L.Get(1).(*glua.LTable); ok && L.GetTop() == 1 {
				each(t, put)
				return 0
			}
			for i := 1; i <= L.GetTop(); i += 2 {
				put(L.Get(i), L.Get(i+1))
			}
			return 0
		}
	}
	return rt.inside("core.response", module(L, funcs{
		"say":        outputFuncs["say"],
		"set_header": set(false),
		"add_header": set(true),
		"exit":       coreExit,
	}))
}

// coreExit answers with a status and a body; tables go out as JSON with a newline.
func coreExit(L *glua.LState) int {
	rt := runtimeOf(L)
	args := arguments(L, 1)
	var code glua.LValue = glua.LNil
	if len(args) > 0 {
		if n, ok := args[0].(glua.LNumber); ok {
			code, args = n, args[1:]
			x, _ := exchange(L)
			x.Status = int(n)
		}
	}
	var out strings.Builder
	for i, v := range args {
		switch v := v.(type) {
		case *glua.LNilType:
		case *glua.LTable:
			s, err := rt.safeJSON.encode(v)
			if err != nil {
				L.RaiseError("failed to encode data: %s", err.Error())
			}
			out.WriteString(s + "\n")
		default:
			flatten(L, &out, v, i+1, "print")
		}
	}
	if out.Len() > 0 {
		send(L, out.String())
	}
	if code == glua.LNil {
		return 0
	}
	raise(L, &ExitError{Status: int(code.(glua.LNumber))})
	return 0
}

func (rt *Runtime) coreUtils() *glua.LTable {
	return rt.inside("core.utils", module(rt.state, funcs{
		"sleep": ngxSleep,
		"split_uri": func(L *glua.LState) int {
			return ret(L, callAll(L, L.NewFunction(reSplit), L.Get(1), str("/"))...)
		},
		"parse_addr": func(L *glua.LState) int {
			host, port := parseAddr(checkText(L, 1))
			return ret(L, str(host), port)
		},
		"uri_safe_encode": func(L *glua.LState) int {
			return ret(L, str(escapeBytes(checkText(L, 1), func(c byte) bool {
				return isAlpha(c) || isDigit(c) || strings.IndexByte("-._~/", c) >= 0
			})))
		},
		"gethostname": func(L *glua.LState) int { return ret(L, variables["hostname"](nil, nil)) },
		"get_seed_from_urandom": func(L *glua.LState) int {
			var b [8]byte
			_, _ = rand.Read(b[:])
			seed := 0.0
			for _, c := range b[:6] {
				seed = seed*256 + float64(c)
			}
			return ret(L, num(seed))
		},
		"resolve_var": func(L *glua.LState) int { whiteBox(L, "core.utils.resolve_var"); return 0 },
	}))
}

// parseAddr splits host and port; nil when there is no port.
func parseAddr(addr string) (string, glua.LValue) {
	i := strings.LastIndexByte(strings.TrimSuffix(addr, ":"), ':')
	switch {
	case strings.HasPrefix(addr, "["):
		if strings.HasSuffix(addr, "]") || i < 0 || addr[i-1] != ']' {
			return addr, glua.LNil
		}
	case i < 0, strings.Count(addr, ":") > 1 && !strings.Contains(addr, "."):
		return addr, glua.LNil
	}
	return addr[:i], parseNumber(addr[i+1:])
}

package lua

import (
	"context"
	"encoding/hex"
	"math"
	"os"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// openModules lists what require finds without a file.
func (rt *Runtime) openModules() {
	L := rt.state
	plain := rt.newJSON(nil)
	// The reference's own modules set up cjson.safe before any script runs.
	rt.safeJSON = rt.newJSON(plain)
	rt.safeJSON.escapeSlash = false
	rt.safeJSON.decodeArrayMT = true

	give := func(make func() *glua.LTable) func(*glua.LState) glua.LValue {
		return func(*glua.LState) glua.LValue { return make() }
	}
	function := func(f glua.LGFunction) func(*glua.LState) glua.LValue {
		return func(*glua.LState) glua.LValue { return L.NewFunction(f) }
	}
	global := func(name string) func(*glua.LState) glua.LValue {
		return func(*glua.LState) glua.LValue { return L.G.Global.RawGetString(name) }
	}
	rt.builtin = map[string]func(*glua.LState) glua.LValue{
		"cjson":                  give(func() *glua.LTable { return plain.cjson(false) }),
		"cjson.safe":             give(func() *glua.LTable { return rt.safeJSON.cjson(true) }),
		"dkjson":                 give(func() *glua.LTable { return rt.dkjson(false) }),
		toolkit:                  give(func() *glua.LTable { return rt.dkjson(true) }),
		"t." + toolkit:           func(L *glua.LState) glua.LValue { return callOne(L, L.GetGlobal("require"), str(toolkit)) },
		"rapidjson":              give(rt.rapidjson),
		"resty.http":             give(rt.http),
		"resty.string":           give(rt.restyString),
		"resty.random":           give(rt.random),
		"resty.hmac":             give(rt.hmac),
		"resty.aes":              give(rt.aes),
		"resty.redis":            give(rt.redis),
		"resty.lrucache":         give(rt.lrucache),
		"resty.shell":            give(rt.shellModule),
		"resty.websocket.client": give(rt.webSocketClient),
		"resty.websocket.server": give(rt.webSocketServer),
		"resty.core":             give(func() *glua.LTable { return L.NewTable() }),
		"ngx.re":                 give(func() *glua.LTable { return rt.guarded("ngx.re", module(L, funcs{"split": reSplit})) }),
		"ngx.base64":             give(rt.base64url),
		"ngx.process":            give(rt.process),
		"ngx.errlog":             give(rt.errlog),
		"ngx.ssl": give(func() *glua.LTable {
			return rt.guarded("ngx.ssl", module(L, funcs{"server_name": serverName}))
		}),
		"ngx.resp": give(func() *glua.LTable { return module(L, responseFuncs) }),
		"bit":      global("bit"),
		"inspect":  give(rt.inspect),
		"lua-utf8": give(rt.utf8),
		"socket.url": give(func() *glua.LTable {
			return rt.guarded("socket.url", module(L, funcs{
				"parse":    func(L *glua.LState) int { return ret(L, urlTable(L, checkText(L, 1))) },
				"escape":   onText(func(s string) glua.LValue { return str(escapeURI(s)) }),
				"unescape": onText(func(s string) glua.LValue { return str(unescapeURI(strings.ReplaceAll(s, "+", "%2B"))) }),
			}))
		}),
		"socket": give(func() *glua.LTable {
			return rt.guarded("socket", module(L, funcs{
				"gettime": clock(func(t time.Time) glua.LValue { return num(float64(t.UnixMicro()) / 1e6) }),
				"sleep":   ngxSleep,
			}))
		}),
		"lfs":           give(rt.lfs),
		"table.new":     function(func(L *glua.LState) int { return ret(L, L.NewTable()) }),
		"table.clear":   function(tableClear),
		"table.clone":   function(tableClone),
		"table.nkeys":   function(func(L *glua.LState) int { return ret(L, num(countKeys(L.CheckTable(1)))) }),
		"table.isempty": function(func(L *glua.LState) int { return ret(L, glua.LBool(isEmpty(L.CheckTable(1)))) }),
		"table.isarray": function(func(L *glua.LState) int {
			t := L.CheckTable(1)
			return ret(L, glua.LBool(countKeys(t) == t.Len()))
		}),
	}
	for name := range hashes {
		rt.builtin["resty."+name] = give(func() *glua.LTable { return rt.restyHash(name) })
	}
	rt.openCore()
}

func countKeys(t *glua.LTable) int {
	n := 0
	each(t, func(_, _ glua.LValue) { n++ })
	return n
}

func tableClear(L *glua.LState) int {
	t := L.CheckTable(1)
	var keys []glua.LValue
	each(t, func(k, _ glua.LValue) { keys = append(keys, k) })
	for _, k := range keys {
		t.RawSet(k, glua.LNil)
	}
	return 0
}

func tableClone(L *glua.LState) int {
	t := L.NewTable()
	each(L.CheckTable(1), func(k, v glua.LValue) { t.RawSet(k, v) })
	return ret(L, t)
}

// reSplit is ngx.re's split(subject, pattern, flags, ctx, max).
func reSplit(L *glua.LState) int {
	subject, pattern := checkText(L, 1), checkText(L, 2)
	most := L.OptInt(5, 0)
	out := L.NewTable()
	if pattern == "" {
		for i := range len(subject) {
			out.Append(str(subject[i : i+1]))
		}
		return ret(L, out)
	}
	re, err := compileRegex(pattern, optText(L, 3, ""))
	if err != nil {
		return fail(L, err.Error())
	}
	s := re.over(subject)
	done, pos := 0, position(L.Get(4))
	for most <= 0 || out.Len() < most-1 {
		spans, err := s.findFrom(pos)
		if err != nil {
			return fail(L, err.Error())
		}
		if spans == nil {
			break
		}
		pos = s.after(spans[0])
		if spans[0].end == spans[0].start && (spans[0].start == done || spans[0].start == len(subject)) {
			continue
		}
		out.Append(str(subject[done:spans[0].start]))
		for _, sp := range spans[1:] {
			if sp.start >= 0 {
				out.Append(s.group(sp))
			}
		}
		done = spans[0].end
	}
	if most > 0 || done < len(subject) {
		out.Append(str(subject[done:]))
	}
	return ret(L, out)
}

func (rt *Runtime) base64url() *glua.LTable {
	return module(rt.state, funcs{
		"encode_base64url": onText(func(s string) glua.LValue { return str(rawURLBase64.EncodeToString([]byte(s))) }),
		"decode_base64url": onText(func(s string) glua.LValue { return decodeBase64(s, rawURLBase64) }),
	})
}

func (rt *Runtime) process() *glua.LTable {
	return rt.guarded("ngx.process", module(rt.state, funcs{
		"type":           func(L *glua.LState) int { return ret(L, str("worker")) },
		"get_master_pid": func(L *glua.LState) int { return ret(L, num(os.Getppid())) },
	}))
}

func (rt *Runtime) errlog() *glua.LTable {
	return rt.guarded("ngx.errlog", module(rt.state, funcs{
		"get_sys_filter_level": func(L *glua.LState) int { return ret(L, num(len(logLevels)-1)) },
		"raw_log": func(L *glua.LState) int {
			level := L.CheckInt(1)
			if level < 0 || level >= len(logLevels) {
				L.RaiseError("bad log level")
			}
			rt.logLine(logLevels[level], checkText(L, 2), fiberOf(L).req.x)
			return 0
		},
	}))
}

func (rt *Runtime) lfs() *glua.LTable {
	return rt.guarded("lfs", module(rt.state, funcs{
		"currentdir": func(L *glua.LState) int {
			dir, err := os.Getwd()
			if err != nil {
				return fail(L, err.Error())
			}
			return ret(L, str(dir))
		},
		"mkdir": func(L *glua.LState) int {
			if err := os.Mkdir(checkText(L, 1), 0o755); err != nil {
				return fail(L, err.Error())
			}
			return ret(L, glua.LTrue)
		},
		"attributes": func(L *glua.LState) int {
			path := checkText(L, 1)
			info, err := os.Stat(path)
			if err != nil {
				return fail(L, "cannot obtain information from file '"+path+"': No such file or directory")
			}
			t := L.NewTable()
			mode := "file"
			if info.IsDir() {
				mode = "directory"
			}
			t.RawSetString("mode", str(mode))
			t.RawSetString("size", num(info.Size()))
			t.RawSetString("modification", num(info.ModTime().Unix()))
			if name, ok := text(L.Get(2)); ok {
				return ret(L, t.RawGetString(name))
			}
			return ret(L, t)
		},
		"dir": func(L *glua.LState) int {
			entries, err := os.ReadDir(checkText(L, 1))
			if err != nil {
				L.RaiseError("cannot open %s", checkText(L, 1))
			}
			names := []string{".", ".."}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return ret(L, L.NewFunction(func(L *glua.LState) int {
				if len(names) == 0 {
					return ret(L, glua.LNil)
				}
				name := names[0]
				names = names[1:]
				return ret(L, str(name))
			}))
		},
	}))
}

// rapidjson encodes as the module of that name, with its marks for lists and objects.
func (rt *Runtime) rapidjson() *glua.LTable {
	L := rt.state
	c := rt.newJSON(rt.safeJSON)
	c.escapeSlash, c.precision = false, 17
	objectMT := L.NewTable()
	mark := func(mt *glua.LTable) glua.LGFunction {
		return func(L *glua.LState) int {
			t, ok := L.Get(1).(*glua.LTable)
			if !ok {
				t = L.NewTable()
			}
			t.Metatable = mt
			return ret(L, t)
		}
	}
	m := module(L, funcs{
		"encode": func(L *glua.LState) int {
			call := *c
			call.sortKeys = glua.LVAsBool(field(L.Get(2), "sort_keys"))
			call.emptyAsObject = !glua.LVAsBool(field(L.Get(2), "empty_table_as_array"))
			if glua.LVAsBool(field(L.Get(2), "pretty")) {
				call.indent = "    "
			}
			s, err := call.encode(L.Get(1))
			if err != nil {
				return fail(L, err.Error())
			}
			return ret(L, str(s))
		},
		"decode": func(L *glua.LState) int {
			v, err := c.decode(checkText(L, 1))
			if err != nil {
				return fail(L, err.Error())
			}
			return ret(L, v)
		},
		"array":  mark(c.arrayMT),
		"object": mark(objectMT),
	})
	m.RawSetString("null", rt.null)
	return rt.guarded("rapidjson", m)
}

// bit is LuaJIT's: results are signed 32-bit numbers.
func (rt *Runtime) bit() *glua.LTable {
	arg := func(L *glua.LState, n int) int32 {
		f := math.Mod(math.RoundToEven(float64(L.CheckNumber(n))), 1<<32)
		return int32(uint32(int64(f)))
	}
	fold := func(op func(a, b int32) int32) glua.LGFunction {
		return func(L *glua.LState) int {
			v := arg(L, 1)
			for i := 2; i <= L.GetTop(); i++ {
				v = op(v, arg(L, i))
			}
			return ret(L, glua.LNumber(v))
		}
	}
	shift := func(op func(a int32, n uint) int32) glua.LGFunction {
		return func(L *glua.LState) int { return ret(L, glua.LNumber(op(arg(L, 1), uint(arg(L, 2))&31))) }
	}
	return module(rt.state, funcs{
		"tobit":   func(L *glua.LState) int { return ret(L, glua.LNumber(arg(L, 1))) },
		"bnot":    func(L *glua.LState) int { return ret(L, glua.LNumber(^arg(L, 1))) },
		"band":    fold(func(a, b int32) int32 { return a & b }),
		"bor":     fold(func(a, b int32) int32 { return a | b }),
		"bxor":    fold(func(a, b int32) int32 { return a ^ b }),
		"lshift":  shift(func(a int32, n uint) int32 { return a << n }),
		"rshift":  shift(func(a int32, n uint) int32 { return int32(uint32(a) >> n) }),
		"arshift": shift(func(a int32, n uint) int32 { return a >> n }),
		"rol":     shift(func(a int32, n uint) int32 { return int32(uint32(a)<<n | uint32(a)>>(32-n)) }),
		"ror":     shift(func(a int32, n uint) int32 { return int32(uint32(a)>>n | uint32(a)<<(32-n)) }),
		"bswap": func(L *glua.LState) int {
			v := uint32(arg(L, 1))
			return ret(L, glua.LNumber(int32(v<<24|v<<8&0xff0000|v>>8&0xff00|v>>24)))
		},
		"tohex": func(L *glua.LState) int {
			v, n := uint32(arg(L, 1)), L.OptInt(2, 8)
			s := hex.EncodeToString([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
			if n < 0 {
				s, n = strings.ToUpper(s), -n
			}
			return ret(L, str(s[8-min(n, 8):]))
		},
	})
}

// utf8 has what counts and cuts by characters.
func (rt *Runtime) utf8() *glua.LTable {
	return rt.guarded("lua-utf8", module(rt.state, funcs{
		"len": func(L *glua.LState) int {
			s := checkText(L, 1)
			n := 0
			for i := 0; i < len(s); n++ {
				r, size := decodeRune(s[i:])
				if r == '\uFFFD' && size == 1 {
					return ret(L, glua.LNil, num(i+1))
				}
				i += size
			}
			return ret(L, num(n))
		},
		"sub": func(L *glua.LState) int {
			runes := []rune(checkText(L, 1))
			i, j := L.OptInt(2, 1), L.OptInt(3, -1)
			if i < 0 {
				i = max(len(runes)+i+1, 1)
			}
			if j < 0 {
				j = len(runes) + j + 1
			}
			i, j = max(i, 1), min(j, len(runes))
			if i > j {
				return ret(L, str(""))
			}
			return ret(L, str(string(runes[i-1:j])))
		},
		"char": func(L *glua.LState) int {
			var out strings.Builder
			for i := 1; i <= L.GetTop(); i++ {
				out.WriteRune(rune(L.CheckInt(i)))
			}
			return ret(L, str(out.String()))
		},
		"upper": onText(func(s string) glua.LValue { return str(strings.ToUpper(s)) }),
		"lower": onText(func(s string) glua.LValue { return str(strings.ToLower(s)) }),
	}))
}

// sleepFor waits on behalf of a script.
func sleepFor(L *glua.LState, d time.Duration) {
	runtimeOf(L).wait(L, func(ctx context.Context) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	})
}

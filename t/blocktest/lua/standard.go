package lua

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// openStandard corrects the interpreter's own library where it differs from LuaJIT's.
func (rt *Runtime) openStandard() {
	L := rt.state
	globals := L.G.Global
	extend(L, globals, funcs{
		"tostring":   func(L *glua.LState) int { return ret(L, str(tostring(L, L.CheckAny(1)))) },
		"print":      luaPrint,
		"pcall":      luaPcall,
		"xpcall":     luaXpcall,
		"load":       luaLoad,
		"loadstring": luaLoadstring,
		"loadfile":   luaLoadfile,
		"dofile":     luaDofile,
		"require":    luaRequire,
		"tonumber":   luaTonumber,
	})
	strs := extend(L, globals.RawGetString("string").(*glua.LTable), funcs{
		"format": stringFormat,
		"find":   stringFind,
		"match":  stringMatch,
		"gmatch": stringGmatch,
		"gsub":   stringGsub,
		numberText: func(L *glua.LState) int {
			if n, ok := L.Get(2).(glua.LNumber); ok {
				return ret(L, str(formatNumber(n)))
			}
			return ret(L, L.Get(2))
		},
	})
	strs.RawSetString("gfind", strs.RawGetString("gmatch"))
	extend(L, globals.RawGetString("table").(*glua.LTable), funcs{
		"concat": tableConcat,
		"pack": func(L *glua.LState) int {
			args := arguments(L, 1)
			t := list(L, args...)
			t.RawSetString("n", num(len(args)))
			return ret(L, t)
		},
		"unpack": func(L *glua.LState) int {
			return ret(L, callAll(L, L.GetGlobal("unpack"), arguments(L, 1)...)...)
		},
		"move": tableMove,
	})
	globals.RawSetString("coroutine", module(L, coroutineFuncs))
	rt.openOS(globals)
	rt.openDebug(globals)

	jit := L.NewTable()
	jit.RawSetString("version", str("LuaJIT 2.1.ROLLING"))
	jit.RawSetString("version_num", num(20199))
	jit.RawSetString("os", str("Linux"))
	jit.RawSetString("arch", str("x64"))
	extend(L, jit, funcs{"on": nothing, "off": nothing, "flush": nothing})
	globals.RawSetString("jit", jit)
	globals.RawSetString("bit", rt.bit())
	for _, name := range []string{"jit", "bit", "coroutine"} {
		rt.loaded().RawSetString(name, globals.RawGetString(name))
	}
	if home := rt.opts.Home; home != "" {
		pkg := globals.RawGetString("package").(*glua.LTable)
		var paths []string
		for _, p := range []string{"?.lua", "?/init.lua", "t/?.lua", "t/xrpc/?.lua", "t/xrpc/?/init.lua"} {
			paths = append(paths, filepath.Join(home, p))
		}
		pkg.RawSetString("path", str(strings.Join(paths, ";")))
	}
}

func nothing(*glua.LState) int { return 0 }

func (rt *Runtime) loaded() *glua.LTable {
	return rt.state.G.Global.RawGetString("package").(*glua.LTable).RawGetString("loaded").(*glua.LTable)
}

func luaPrint(L *glua.LState) int {
	var parts []string
	for _, v := range arguments(L, 1) {
		parts = append(parts, tostring(L, v))
	}
	logAt(L, "notice", strings.Join(parts, " "))
	return 0
}

// luaPcall does not keep what ends a script (ngx.exit, a context that is over).
func luaPcall(L *glua.LState) int {
	L.CheckAny(1)
	return protected(L, L.Get(1), arguments(L, 2), nil)
}

func luaXpcall(L *glua.LState) int {
	handler := L.Get(2)
	return protected(L, L.Get(1), arguments(L, 3), L.NewFunction(func(L *glua.LState) int {
		v := L.Get(1)
		if isAbort(v) || fiberOf(L).Err() != nil {
			return ret(L, v)
		}
		return ret(L, callAll(L, handler, v)...)
	}))
}

func isAbort(v glua.LValue) bool {
	ud, ok := v.(*glua.LUserData)
	if !ok {
		return false
	}
	_, ok = ud.Value.(abort)
	return ok
}

func protected(L *glua.LState, fn glua.LValue, args []glua.LValue, handler *glua.LFunction) int {
	top := L.GetTop()
	err := L.CallByParam(glua.P{Fn: fn, NRet: glua.MultRet, Protect: true, Handler: handler}, args...)
	if err == nil {
		values := popFrom(L, top)
		return ret(L, append([]glua.LValue{glua.LTrue}, values...)...)
	}
	if cause := fiberOf(L).Err(); cause != nil {
		raise(L, cause)
	}
	value := glua.LValue(str(err.Error()))
	if api, ok := err.(*glua.ApiError); ok {
		value = api.Object
	}
	if isAbort(value) {
		L.Error(value, 0)
	}
	return ret(L, glua.LFalse, value)
}

func luaTonumber(L *glua.LState) int {
	v := L.CheckAny(1)
	s, ok := v.(glua.LString)
	if !ok {
		if _, ok := v.(glua.LNumber); ok {
			return ret(L, v)
		}
		return ret(L, glua.LNil)
	}
	if L.Get(2) != glua.LNil && L.CheckInt(2) != 10 {
		return ret(L, parseBase(strings.TrimSpace(string(s)), L.CheckInt(2)))
	}
	return ret(L, parseNumber(string(s)))
}

func compiled(L *glua.LState, src, name string) (*glua.LFunction, error) {
	name = strings.TrimLeft(name, "=@")
	proto, err := runtimeOf(L).chunks.compile(name, src)
	if err != nil {
		return nil, err
	}
	return L.NewFunctionFromProto(proto), nil
}

func loadText(L *glua.LState, src, name string, env glua.LValue) int {
	fn, err := compiled(L, src, name)
	if err != nil {
		return fail(L, err.Error())
	}
	if t, ok := env.(*glua.LTable); ok {
		L.SetFEnv(fn, t)
	}
	return ret(L, fn)
}

func chunkName(src string) string {
	line, _, more := strings.Cut(src, "\n")
	if more {
		line += "..."
	}
	return `[string "` + line + `"]`
}

func luaLoadstring(L *glua.LState) int {
	src := checkText(L, 1)
	return loadText(L, src, optText(L, 2, chunkName(src)), glua.LNil)
}

func luaLoad(L *glua.LState) int {
	if fn, ok := L.Get(1).(*glua.LFunction); ok {
		var src strings.Builder
		for {
			part, ok := text(callOne(L, fn))
			if !ok || part == "" {
				break
			}
			src.WriteString(part)
		}
		return loadText(L, src.String(), optText(L, 2, "=(load)"), L.Get(4))
	}
	src := checkText(L, 1)
	return loadText(L, src, optText(L, 2, chunkName(src)), L.Get(4))
}

func luaLoadfile(L *glua.LState) int {
	path := checkText(L, 1)
	src, err := os.ReadFile(path)
	if err != nil {
		return fail(L, "cannot open "+path)
	}
	return loadText(L, string(src), path, L.Get(3))
}

func luaDofile(L *glua.LState) int {
	path := checkText(L, 1)
	src, err := os.ReadFile(path)
	if err != nil {
		L.RaiseError("cannot open %s", path)
	}
	fn, err := compiled(L, string(src), path)
	if err != nil {
		L.RaiseError("%s", err.Error())
	}
	return ret(L, callAll(L, fn)...)
}

func tableConcat(L *glua.LState) int {
	t := L.CheckTable(1)
	sep := optText(L, 2, "")
	from, to := L.OptInt(3, 1), L.OptInt(4, L.ObjLen(t))
	var out strings.Builder
	for i := from; i <= to; i++ {
		v := t.RawGetInt(i)
		s, ok := text(v)
		if !ok {
			L.RaiseError("bad argument #1 to 'concat' (table contains non-strings)")
		}
		if i > from {
			out.WriteString(sep)
		}
		out.WriteString(s)
	}
	return ret(L, str(out.String()))
}

func tableMove(L *glua.LState) int {
	from, f, e, at := L.CheckTable(1), L.CheckInt(2), L.CheckInt(3), L.CheckInt(4)
	to := L.OptTable(5, from)
	if at > f {
		for i := e - f; i >= 0; i-- {
			to.RawSetInt(at+i, from.RawGetInt(f+i))
		}
	} else {
		for i := 0; i <= e-f; i++ {
			to.RawSetInt(at+i, from.RawGetInt(f+i))
		}
	}
	return ret(L, to)
}

// openOS gives os and io the environment of the options; what runs a shell ends with the
// script.
func (rt *Runtime) openOS(globals *glua.LTable) {
	L := rt.state
	extend(L, globals.RawGetString("os").(*glua.LTable), funcs{
		"getenv": func(L *glua.LState) int {
			name := checkText(L, 1)
			v, ok := rt.opts.Env[name]
			if !ok {
				v, ok = os.LookupEnv(name)
			}
			if !ok {
				return ret(L, glua.LNil)
			}
			return ret(L, str(v))
		},
		"execute": func(L *glua.LState) int {
			if L.GetTop() == 0 {
				return ret(L, num(1))
			}
			_, code := rt.shell(L, checkText(L, 1))
			return ret(L, num(code<<8))
		},
		"exit": func(L *glua.LState) int { unsupported(L, "os.exit"); return 0 },
	})
	io := globals.RawGetString("io").(*glua.LTable)
	open := io.RawGetString("open")
	extend(L, io, funcs{"popen": func(L *glua.LState) int {
		if mode := optText(L, 2, "r"); mode != "r" {
			unsupported(L, "io.popen for writing")
		}
		out, _ := rt.shell(L, checkText(L, 1))
		// What the command wrote becomes a file of the library's own kind.
		f, err := os.CreateTemp("", "popen")
		if err != nil {
			return fail(L, err.Error())
		}
		defer func() { _ = os.Remove(f.Name()) }()
		_, err = f.Write(out)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return fail(L, err.Error())
		}
		return ret(L, callAll(L, open, str(f.Name()), str("r"))...)
	}})
}

// shell runs a command to its end: what it wrote to its standard output, its exit code.
func (rt *Runtime) shell(L *glua.LState, command string) (out []byte, code int) {
	rt.outside(L, func(ctx context.Context) {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
		cmd.Env = os.Environ()
		for k, v := range rt.opts.Env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		cmd.WaitDelay = time.Second // what it leaves running must not keep its pipes open for us
		var err error
		out, err = cmd.Output()
		if err != nil {
			code = 127
			if cmd.ProcessState != nil {
				code = cmd.ProcessState.ExitCode()
			}
		}
	})
	return out, code
}

func (rt *Runtime) openDebug(globals *glua.LTable) {
	L := rt.state
	lib := globals.RawGetString("debug").(*glua.LTable)
	getinfo := lib.RawGetString("getinfo")
	fs := funcs{"getinfo": func(L *glua.LState) int {
		// The original counts from its caller, which is this function.
		what, n := L.Get(1), 1
		if level, ok := what.(glua.LNumber); ok {
			what = level + 1
			if level == 0 {
				what = level
			}
		}
		args := []glua.LValue{what}
		if L.Get(2) != glua.LNil {
			args = append(args, str(strings.Map(infoLetters, checkText(L, 2))))
			n++
		}
		v := callOne(L, getinfo, args[:n]...)
		if t, ok := v.(*glua.LTable); ok {
			source, _ := text(t.RawGetString("source"))
			t.RawSetString("short_src", str(source))
			prefix := "="
			if strings.HasSuffix(source, ".lua") {
				prefix = "@"
			}
			t.RawSetString("source", str(prefix+source))
			if t.RawGetString("what") == str("G") {
				t.RawSetString("what", str("C"))
				t.RawSetString("short_src", str("[C]"))
				t.RawSetString("source", str("=[C]"))
			}
		}
		return ret(L, v)
	}}
	for _, name := range []string{"getupvalue", "setupvalue", "upvalueid", "upvaluejoin", "sethook", "gethook", "getregistry"} {
		fs[name] = func(L *glua.LState) int { whiteBox(L, "debug."+name); return 0 }
	}
	extend(L, lib, fs)
}

// infoLetters drops what the interpreter's getinfo does not know.
func infoLetters(r rune) rune {
	if strings.ContainsRune("Slunf", r) {
		return r
	}
	return -1
}

// luaRequire finds what this package offers first, then files; what belongs to the
// reference is never run.
func luaRequire(L *glua.LState) int {
	rt := runtimeOf(L)
	name := checkText(L, 1)
	loaded := rt.loaded()
	if v := loaded.RawGetString(name); v != glua.LNil {
		return ret(L, v)
	}
	if rt.loading[name] {
		L.RaiseError("loop or previous error loading module '%s'", name)
	}
	loader := rt.find(L, name)
	rt.loading[name] = true
	defer delete(rt.loading, name)
	v := loader(L)
	if v == glua.LNil {
		if v = loaded.RawGetString(name); v == glua.LNil {
			v = glua.LTrue
		}
	}
	loaded.RawSetString(name, v)
	return ret(L, v)
}

// checker is the library behind the reference's health checks. Scripts of suites do not use
// it: they replace its functions, to watch what the reference does inside.
const checker = "resty.healthcheck"

func (rt *Runtime) find(L *glua.LState, name string) func(*glua.LState) glua.LValue {
	pkg := L.G.Global.RawGetString("package").(*glua.LTable)
	if fn := field(pkg.RawGetString("preload"), name); fn != glua.LNil {
		return func(L *glua.LState) glua.LValue { return callOne(L, fn, str(name)) }
	}
	if name != toolkit {
		if f := rt.builtin[name]; f != nil {
			return f
		}
	}
	if plugin, ok := strings.CutPrefix(name, "apisix.plugins."); ok {
		if v := rt.plugin(L, plugin); v != nil {
			return func(*glua.LState) glua.LValue { return v }
		}
	}
	if name == "apisix" || strings.HasPrefix(name, "apisix.") {
		whiteBox(L, fmt.Sprintf("require(%q)", name))
	}
	path, _ := text(pkg.RawGetString("path"))
	file := strings.ReplaceAll(name, ".", "/")
	for _, p := range strings.Split(path, ";") {
		full := strings.ReplaceAll(p, "?", file)
		src, err := os.ReadFile(full)
		if err != nil {
			continue
		}
		fn, err := compiled(L, string(src), full)
		if err != nil {
			L.RaiseError("error loading module '%s' from file '%s':\n\t%s", name, full, err.Error())
		}
		return func(L *glua.LState) glua.LValue { return callOne(L, fn, str(name)) }
	}
	if f := rt.builtin[name]; f != nil {
		return f
	}
	if name == checker {
		whiteBox(L, fmt.Sprintf("require(%q)", name))
	}
	unsupported(L, fmt.Sprintf("require(%q)", name))
	return nil
}

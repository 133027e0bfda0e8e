package lua

import (
	"context"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// plugin is a plugin of the gateway under test as scripts of the reference see its own:
// what is inside it ends the script. It is nil for one that is not built.
func (rt *Runtime) plugin(L *glua.LState, name string) glua.LValue {
	if rt.opts.Plugins == nil || strings.Contains(name, ".") {
		return nil
	}
	info, ok := rt.opts.Plugins.Plugin(name)
	if !ok {
		return nil
	}
	schema, err := rt.safeJSON.decode(string(info.Schema))
	if err != nil {
		schema = L.NewTable()
	}
	kinds := []string{"", "consumer", "metadata"}
	m := module(L, funcs{"check_schema": func(L *glua.LState) int {
		conf := L.Get(1)
		kind := 0
		if n, ok := L.Get(2).(glua.LNumber); ok {
			kind = int(n) - 1
		}
		if kind < 0 || kind >= len(kinds) {
			unsupported(L, "this kind of schema")
		}
		src, err := rt.safeJSON.encode(conf)
		if err != nil {
			L.RaiseError("%s", err.Error())
		}
		var filled []byte
		rt.outside(L, func(context.Context) { filled, err = rt.opts.Plugins.Check(name, kinds[kind], []byte(src)) })
		if err != nil {
			return ret(L, glua.LFalse, str(err.Error()))
		}
		// Defaults are filled into the caller's table.
		if t, ok := conf.(*glua.LTable); ok {
			if v, err := rt.safeJSON.decode(string(filled)); err == nil {
				fillIn(t, v)
			}
		}
		return ret(L, glua.LTrue)
	}})
	m.RawSetString("name", str(name))
	m.RawSetString("version", parseOr(info.Version))
	m.RawSetString("priority", num(info.Priority))
	m.RawSetString("schema", schema)
	return rt.inside("apisix.plugins."+name, m)
}

func parseOr(s string) glua.LValue {
	if n := parseNumber(s); n != glua.LNil {
		return n
	}
	return str(s)
}

// fillIn adds the fields that t lacks.
func fillIn(t *glua.LTable, v glua.LValue) {
	from, ok := v.(*glua.LTable)
	if !ok {
		return
	}
	each(from, func(k, v glua.LValue) {
		old := t.RawGet(k)
		if old == glua.LNil {
			t.RawSet(k, v)
		} else if sub, ok := old.(*glua.LTable); ok {
			fillIn(sub, v)
		}
	})
}

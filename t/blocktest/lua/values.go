package lua

import (
	"fmt"
	"sort"

	glua "github.com/yuin/gopher-lua"
)

func runtimeOf(L *glua.LState) *Runtime { return fiberOf(L).req.rt }

// ret returns values from a function.
func ret(L *glua.LState, values ...glua.LValue) int {
	for _, v := range values {
		if v == nil {
			v = glua.LNil
		}
		L.Push(v)
	}
	return len(values)
}

// fail returns nil and a message.
func fail(L *glua.LState, message string) int { return ret(L, glua.LNil, glua.LString(message)) }

func str(s string) glua.LValue { return glua.LString(s) }

func num[N int | int64 | uint32 | float64](n N) glua.LValue { return glua.LNumber(n) }

// arguments are those from n on.
func arguments(L *glua.LState, n int) []glua.LValue {
	var args []glua.LValue
	for ; n <= L.GetTop(); n++ {
		args = append(args, L.Get(n))
	}
	return args
}

// callOne calls fn for one result.
func callOne(L *glua.LState, fn glua.LValue, args ...glua.LValue) glua.LValue {
	L.Push(fn)
	for _, a := range args {
		L.Push(a)
	}
	L.Call(len(args), 1)
	v := L.Get(-1)
	L.Pop(1)
	return v
}

// callAll calls fn for all its results.
func callAll(L *glua.LState, fn glua.LValue, args ...glua.LValue) []glua.LValue {
	top := L.GetTop()
	L.Push(fn)
	for _, a := range args {
		L.Push(a)
	}
	L.Call(len(args), glua.MultRet)
	return popFrom(L, top)
}

type funcs = map[string]glua.LGFunction

// module is a table of functions, added in the order of their names so that pairs is the
// same in every run.
func module(L *glua.LState, fs funcs) *glua.LTable { return extend(L, L.NewTable(), fs) }

func extend(L *glua.LState, t *glua.LTable, fs funcs) *glua.LTable {
	names := make([]string, 0, len(fs))
	for name := range fs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.RawSetString(name, L.NewFunction(fs[name]))
	}
	return t
}

// proxy is an empty table whose fields are answered by get and set; either may be nil.
func proxy(L *glua.LState, get, set glua.LGFunction) *glua.LTable {
	t := L.NewTable()
	mt := L.NewTable()
	if get != nil {
		mt.RawSetString("__index", L.NewFunction(get))
	}
	if set != nil {
		mt.RawSetString("__newindex", L.NewFunction(set))
	}
	t.Metatable = mt
	return t
}

// class returns the metatable of a kind of object, made once. Names that it lacks end a
// script.
func (rt *Runtime) class(name string, methods funcs) *glua.LTable {
	mt := rt.types[name]
	if mt == nil {
		mt = rt.state.NewTable()
		mt.RawSetString("__index", rt.guarded(name, module(rt.state, methods)))
		rt.types[name] = mt
	}
	return mt
}

// object is a table with methods that carries a Go value in the hidden field 0, as
// OpenResty's objects are tables too.
func object(L *glua.LState, class *glua.LTable, value any) *glua.LTable {
	t := L.NewTable()
	t.RawSetString(hidden, userdata(value))
	t.Metatable = class
	return t
}

const hidden = "\x00value"

// self is the Go value of the object that a method was called on.
func self[T any](L *glua.LState) T {
	t, ok := L.Get(1).(*glua.LTable)
	if !ok {
		L.ArgError(1, "bad self (table expected)")
	}
	ud, ok := t.RawGetString(hidden).(*glua.LUserData)
	if !ok {
		L.ArgError(1, "bad self")
	}
	v, ok := ud.Value.(T)
	if !ok {
		L.ArgError(1, "bad self")
	}
	return v
}

// field reads a field of an optional table.
func field(v glua.LValue, name string) glua.LValue {
	if t, ok := v.(*glua.LTable); ok {
		return t.RawGetString(name)
	}
	return glua.LNil
}

func stringField(v glua.LValue, name, def string) string {
	if s, ok := text(field(v, name)); ok {
		return s
	}
	return def
}

// list is a sequence.
func list(L *glua.LState, values ...glua.LValue) *glua.LTable {
	t := L.CreateTable(len(values), 0)
	for i, v := range values {
		t.RawSetInt(i+1, v)
	}
	return t
}

// each calls f for every pair in the order that pairs gives.
func each(t *glua.LTable, f func(k, v glua.LValue)) {
	// The interpreter's own ForEach follows a Go map: what is made of a table would differ
	// from run to run.
	for k, v := t.Next(glua.LNil); k != glua.LNil; k, v = t.Next(k) {
		f(k, v)
	}
}

func isEmpty(t *glua.LTable) bool {
	k, _ := t.Next(glua.LNil)
	return k == glua.LNil
}

// userdata wraps a Go value without a metatable.
func userdata(v any) *glua.LUserData { return &glua.LUserData{Value: v, Metatable: glua.LNil} }

// said is an error in the words of a library that this package stands in for, which write
// errors in ways of their own.
func said(format string, args ...any) error { return quoted(fmt.Sprintf(format, args...)) }

type quoted string

func (q quoted) Error() string { return string(q) }

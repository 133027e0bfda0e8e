package lua

import (
	"fmt"
	"path"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

var (
	logLevels      = []string{"stderr", "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"}
	levelConstants = []string{"STDERR", "EMERG", "ALERT", "CRIT", "ERR", "WARN", "NOTICE", "INFO", "DEBUG"}
)

var logFuncs = funcs{"log": func(L *glua.LState) int {
	level := L.CheckInt(1)
	if level < 0 || level >= len(logLevels) {
		L.RaiseError("bad argument #1 to 'log' (bad log level: %d)", level)
	}
	logAt(L, logLevels[level], joined(L, 2, "log"))
	return 0
}}

// logAt writes a line with the place that the script is at.
func logAt(L *glua.LState, level, message string) {
	place := ""
	for i := 0; ; i++ {
		dbg, ok := L.GetStack(i)
		if !ok {
			break
		}
		fn, err := L.GetInfo("Slnf", dbg, glua.LNil)
		f, isFn := fn.(*glua.LFunction)
		if err != nil || !isFn || f.IsG {
			continue
		}
		place = fmt.Sprintf("%s:%d: ", path.Base(dbg.Source), dbg.CurrentLine)
		if name := functionName(dbg.Name); name != "" && dbg.What != "main" {
			place += name + "(): "
		}
		break
	}
	runtimeOf(L).logLine(level, "[lua] "+place+message, fiberOf(L).req.x)
}

// functionName is a name that a caller used, "" for the interpreter's own words.
func functionName(name string) string {
	if name == "" || strings.ContainsAny(name, " <?") {
		return ""
	}
	return name
}

// logLine adds what nginx says of the request.
func (rt *Runtime) logLine(level, line string, x *Exchange) {
	if rt.opts.Log == nil {
		return
	}
	if x == nil {
		rt.opts.Log(level, line+", context: ngx.timer")
		return
	}
	var out strings.Builder
	fmt.Fprintf(&out, "*%d %s, client: %s, server: %s, request: \"%s %s %s\"", x.Connection, line, x.Remote.Addr(), x.ServerName, x.Method, x.Target, x.Proto)
	if host := headerValue(x.Header, "Host"); host != "" {
		fmt.Fprintf(&out, ", host: %q", host)
	}
	rt.opts.Log(level, out.String())
}

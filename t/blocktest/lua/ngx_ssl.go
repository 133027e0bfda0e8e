package lua

import glua "github.com/yuin/gopher-lua"

// serverName is the name that the client of a TLS connection asked for, nil when it asked
// for none.
func serverName(L *glua.LState) int {
	x, _ := exchange(L)
	if x.TLS == nil || x.TLS.ServerName == "" {
		return ret(L, glua.LNil)
	}
	return ret(L, str(x.TLS.ServerName))
}

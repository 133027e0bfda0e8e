package nginx

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// Scripts runs the Lua of a configuration. It is used by many goroutines at once.
type Scripts interface {
	// Run runs a chunk. name is what Lua's messages cite, "content_by_lua(nginx.conf:12)".
	// x is nil in Init and InitWorker; body is nil but in BodyFilter. The error is
	// *lua.ExitError, *lua.UnsupportedError, *lua.WhiteBoxError, or the script's own.
	//
	// A content script that writes causes Run for HeaderFilter and BodyFilter inside its
	// own Run, from x.Out.
	Run(ctx context.Context, phase lua.Phase, name, chunk string, x *lua.Exchange, body *lua.BodyPart) error
	// Shared declares a dict of ngx.shared. One that is there keeps what it holds.
	Shared(name string)
	// Reset forgets what scripts have left behind: modules, globals, dicts, timers.
	Reset()
}

// phases are the directives that hold Lua, without _by_lua…, of a request.
var phases = map[string]lua.Phase{
	"rewrite": lua.Rewrite, "access": lua.Access, "header_filter": lua.HeaderFilter,
	"body_filter": lua.BodyFilter, "log": lua.Log,
}

func scriptRules() map[string]rule {
	rules := map[string]rule{
		"lua_shared_dict": {inMain | inHTTP | inStream, 2, 2, statement, func(s *scope, d *Directive) error {
			s.config.shared = append(s.config.shared, d.Args[0])
			return nil
		}},
	}
	each := func(name string, in place, set func(*scope, *script)) {
		load := func(s *scope, d *Directive) error {
			sc, err := s.script(d)
			if err == nil {
				set(s, sc)
			}
			return err
		}
		rules[name+luaBlock] = rule{in, 0, 0, block, load}
		rules[name+"_by_lua_file"] = rule{in, 1, 1, statement, load}
		rules[name+"_by_lua"] = rule{in, 1, 1, statement, load}
	}
	for name, phase := range phases {
		each(name, inAnyHTTP|inIf, func(s *scope, sc *script) {
			if s.loc.settings.scripts == nil {
				s.loc.settings.scripts = map[lua.Phase]*script{}
			}
			s.loc.settings.scripts[phase] = sc
		})
	}
	each("content", inLocation|inIf|inStreamServer, func(s *scope, sc *script) {
		if s.stream != nil {
			s.stream.content = sc
			return
		}
		s.loc.content = sc
	})
	each("init", inHTTP, func(s *scope, sc *script) { s.config.init = sc })
	each("init_worker", inHTTP, func(s *scope, sc *script) { s.config.initWorker = sc })
	each("ssl_certificate", inServer, func(s *scope, sc *script) { s.server.ssl().script = sc })
	return rules
}

// script reads the chunk of a directive.
func (s *scope) script(d *Directive) (*script, error) {
	phase, _, _ := strings.Cut(d.Name, "_by_lua")
	sc := &script{name: fmt.Sprintf("%s_by_lua(nginx.conf:%d)", phase, d.Line), chunk: d.Lua}
	switch {
	case strings.HasSuffix(d.Name, "_file"):
		path := s.options.path(d.Args[0])
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		sc.name, sc.chunk = path, string(text)
	case !d.Braces:
		sc.chunk = d.Args[0]
	}
	return sc, nil
}

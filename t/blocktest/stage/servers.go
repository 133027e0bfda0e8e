package stage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gosix/gosix/t/blocktest"
	"github.com/gosix/gosix/t/blocktest/nginx"
)

// source is the configuration that a block runs with: its own sections, and around them the
// servers that every suite takes for granted (the reference's t/APISIX.pm has them). Those
// need the checkout's library and certificates: without one there are none.
func source(p *blocktest.Prepared, home string) (src nginx.Source, err error) {
	var errs []error
	read := func(text string) []*nginx.Directive {
		list, err := nginx.Parse(text)
		errs = append(errs, err)
		return list
	}
	get := func(name string) string { text, _ := p.Get(name); return text }
	src.Main = read(get("main_config"))
	around := dicts
	if home != "" {
		around += usual(get("upstream_server_config"), get("listen_ipv6") != "")
	}
	src.HTTP = read(get("http_config") + "\n" + around + starts(p))
	src.Server = read(get("config") + command(p))
	src.Stream = read(get("stream_config"))
	return src, errors.Join(errs...)
}

// withTLS takes the addresses out where the block's own server is to listen with TLS: they
// are the gateway's, as its certificates are.
func withTLS(src *nginx.Source) (addrs []string, err error) {
	var kept []*nginx.Directive
	for _, d := range src.Server {
		switch {
		case d.Name == "listen" && slices.Contains(d.Args, "quic"):
			return nil, unsupported("listen " + strings.Join(d.Args, " ") + ": HTTP/3 is not built")
		case d.Name == "listen" && slices.Contains(d.Args, "ssl"):
			addrs = append(addrs, d.Args[0])
		default:
			kept = append(kept, d)
		}
	}
	src.Server = kept
	return addrs, nil
}

// dicts are those of every suite.
const dicts = `
lua_shared_dict test 5m;
lua_shared_dict internal-status 10m;
`

// usual are the upstreams of suites: lib.server answers on 1980 to 1982 and 5044, and with
// TLS on 1983.
func usual(inside string, ipv6 bool) string {
	more := ""
	if ipv6 {
		more = "listen [::1]:1980;"
	}
	const answer = `
location / {
	content_by_lua_block { require("lib.server").go() }
	more_clear_headers Date;
}
`
	return `
lua_shared_dict test 5m;
server {
	listen 1980; listen 1981; listen 1982; listen 5044; ` + more + `
	server_tokens off;
	access_log logs/fake-server-access.log;
	` + inside + answer + `
}
server {
	listen 1983 ssl;
	ssl_certificate cert/apisix.crt;
	ssl_certificate_key cert/apisix.key;
	server_tokens off;
	access_log logs/fake-server-access.log;
	ssl_certificate_by_lua_block { ngx.log(ngx.WARN, "Receive SNI: ", require("ngx.ssl").server_name()) }
	` + inside + answer + `
}
`
}

// starts are the scripts that a block wants run when its worker starts.
func starts(p *blocktest.Prepared) string {
	var text strings.Builder
	for _, s := range []struct{ directive, own, extra string }{
		{"init_by_lua_block", "init_by_lua_block", "extra_init_by_lua"},
		{"init_worker_by_lua_block", "", "extra_init_worker_by_lua"},
	} {
		own, _ := p.Get(s.own)
		extra, _ := p.Get(s.extra)
		if own+extra != "" {
			text.WriteString(s.directive + " {\n" + own + "\n" + extra + "\n}\n")
		}
	}
	return text.String()
}

// command is the location that runs an exec section.
func command(p *blocktest.Prepared) string {
	script, ok := p.Get("exec")
	if !ok {
		return ""
	}
	stdin := "nil"
	if in, ok := p.Get("stdin"); ok {
		stdin = long(strings.TrimSuffix(in, "\n"))
	}
	return `
location = /exec_request {
	content_by_lua_block {
		local ok, out, err, reason, status = require("resty.shell").run(` + long(strings.TrimSuffix(script, "\n")) + `, ` + stdin + `, 4000)
		if ok then
			ngx.print(out)
			return
		end
		ngx.log(ngx.WARN, "the command failed, status: ", status, ", reason: ", reason, ", stdout: ", out, ", stderr: ", err)
		ngx.print("stdout: ", out)
		ngx.print("stderr: ", err)
	}
}
`
}

// long quotes a text for Lua.
func long(text string) string {
	level := ""
	for strings.Contains(text, "]"+level+"]") {
		level += "="
	}
	return "[" + level + "[\n" + text + "]" + level + "]"
}

// certificates puts the reference's test certificates where a configuration looks for them,
// at cert/ beside it.
func certificates(home, dir string) error {
	if home == "" {
		return nil
	}
	to := filepath.Join(dir, "conf", "cert")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(home, "t", "certs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, d.Name()), raw, 0o600)
	})
}

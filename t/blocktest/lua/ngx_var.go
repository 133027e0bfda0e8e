package lua

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// variables are nginx's own; a nil result is a variable without a value.
var variables = map[string]func(*Exchange, *slots) glua.LValue{
	"uri":            func(x *Exchange, _ *slots) glua.LValue { return str(x.URI) },
	"document_uri":   func(x *Exchange, _ *slots) glua.LValue { return str(x.URI) },
	"request_uri":    func(x *Exchange, _ *slots) glua.LValue { return str(x.Target) },
	"args":           func(x *Exchange, _ *slots) glua.LValue { return optional(x.Args) },
	"query_string":   func(x *Exchange, _ *slots) glua.LValue { return optional(x.Args) },
	"request":        func(x *Exchange, _ *slots) glua.LValue { return str(x.Method + " " + x.Target + " " + x.Proto) },
	"request_method": func(x *Exchange, _ *slots) glua.LValue { return str(x.Method) },
	"scheme":         func(x *Exchange, _ *slots) glua.LValue { return str(x.Scheme) },
	"is_args": func(x *Exchange, _ *slots) glua.LValue {
		if x.Args == "" {
			return str("")
		}
		return str("?")
	},
	"https": func(x *Exchange, _ *slots) glua.LValue {
		if x.TLS == nil {
			return str("")
		}
		return str("on")
	},
	"host":               func(x *Exchange, _ *slots) glua.LValue { return str(hostOf(x)) },
	"hostname":           func(*Exchange, *slots) glua.LValue { h, _ := os.Hostname(); return str(h) },
	"server_addr":        func(x *Exchange, _ *slots) glua.LValue { return str(addrText(x.Local)) },
	"server_port":        func(x *Exchange, _ *slots) glua.LValue { return str(strconv.Itoa(int(x.Local.Port()))) },
	"server_name":        func(x *Exchange, _ *slots) glua.LValue { return str(x.ServerName) },
	"server_protocol":    func(x *Exchange, _ *slots) glua.LValue { return str(x.Proto) },
	"remote_addr":        func(x *Exchange, _ *slots) glua.LValue { return str(addrText(x.Remote)) },
	"remote_port":        func(x *Exchange, _ *slots) glua.LValue { return str(strconv.Itoa(int(x.Remote.Port()))) },
	"realip_remote_addr": func(x *Exchange, _ *slots) glua.LValue { return str(addrText(x.Remote)) },
	"binary_remote_addr": func(x *Exchange, _ *slots) glua.LValue { return str(string(x.Remote.Addr().Unmap().AsSlice())) },
	"request_body":       func(_ *Exchange, s *slots) glua.LValue { return optional(string(s.body)) },
	"request_time": func(_ *Exchange, s *slots) glua.LValue {
		return str(fmt.Sprintf("%.3f", time.Since(s.began).Seconds()))
	},
	"request_id":          func(_ *Exchange, s *slots) glua.LValue { return str(s.requestID()) },
	"request_length":      func(x *Exchange, s *slots) glua.LValue { return str(strconv.Itoa(requestLength(x, s))) },
	"status":              func(x *Exchange, _ *slots) glua.LValue { return str(fmt.Sprintf("%03d", x.Status)) },
	"body_bytes_sent":     func(_ *Exchange, s *slots) glua.LValue { return str(strconv.Itoa(s.sent)) },
	"connection":          func(x *Exchange, _ *slots) glua.LValue { return str(strconv.FormatUint(x.Connection, 10)) },
	"connection_requests": func(x *Exchange, _ *slots) glua.LValue { return str(strconv.Itoa(x.Requests)) },
	"content_type":        func(x *Exchange, _ *slots) glua.LValue { return present(x.Header, "Content-Type") },
	"content_length":      func(x *Exchange, _ *slots) glua.LValue { return present(x.Header, "Content-Length") },
	"remote_user": func(x *Exchange, _ *slots) glua.LValue {
		encoded, ok := strings.CutPrefix(headerValue(x.Header, "Authorization"), "Basic ")
		if !ok {
			return nil
		}
		pair, _ := text(decodeBase64(strings.TrimSpace(encoded), stdBase64))
		user, _, _ := strings.Cut(pair, ":")
		return optional(user)
	},
	"pid":           func(*Exchange, *slots) glua.LValue { return str(strconv.Itoa(os.Getpid())) },
	"nginx_version": func(*Exchange, *slots) glua.LValue { return str("1.27.1") },
	"msec":          func(*Exchange, *slots) glua.LValue { return str(fmt.Sprintf("%.3f", seconds(time.Now()))) },
	"time_local":    func(*Exchange, *slots) glua.LValue { return str(time.Now().Format("02/Jan/2006:15:04:05 -0700")) },
	"time_iso8601":  func(*Exchange, *slots) glua.LValue { return str(time.Now().Format("2006-01-02T15:04:05-07:00")) },
	"pipe":          func(*Exchange, *slots) glua.LValue { return str(".") },
	"ssl_server_name": func(x *Exchange, _ *slots) glua.LValue {
		if x.TLS == nil {
			return nil
		}
		return optional(x.TLS.ServerName)
	},
	"ssl_protocol": func(x *Exchange, _ *slots) glua.LValue {
		if x.TLS == nil {
			return nil
		}
		return str(strings.Replace(tls.VersionName(x.TLS.Version), "TLS 1", "TLSv1", 1))
	},
	"ssl_session_reused": func(x *Exchange, _ *slots) glua.LValue {
		if x.TLS == nil {
			return nil
		}
		if x.TLS.DidResume {
			return str("r")
		}
		return str(".")
	},
}

func optional(s string) glua.LValue {
	if s == "" {
		return nil
	}
	return str(s)
}

func present(h []Field, name string) glua.LValue {
	values := headerValues(h, name)
	if len(values) == 0 {
		return nil
	}
	return str(strings.Join(values, ", "))
}

func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return "unix:"
	}
	return a.Addr().Unmap().String()
}

// hostOf is the name without port, in lower case.
func hostOf(x *Exchange) string {
	host := headerValue(x.Header, "Host")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	if host == "" {
		host = x.ServerName
	}
	return strings.ToLower(host)
}

func requestLength(x *Exchange, s *slots) int {
	n := len(x.Method) + len(x.Target) + len(x.Proto) + 4 + 2 + len(s.body)
	for _, f := range x.Header {
		n += len(f.Name) + len(f.Value) + 4
	}
	return n
}

func (s *slots) requestID() string {
	if s.id == "" {
		var b [16]byte
		_, _ = rand.Read(b[:])
		s.id = hex.EncodeToString(b[:])
	}
	return s.id
}

// variable is nil for one that has no value.
func variable(x *Exchange, s *slots, name string) glua.LValue {
	if v, ok := x.Vars[name]; ok {
		return str(v)
	}
	if f := variables[name]; f != nil {
		return f(x, s)
	}
	if x.Var != nil {
		if v, ok := x.Var(name); ok {
			return str(v)
		}
	}
	prefix, rest, _ := strings.Cut(name, "_")
	switch {
	case prefix == "http" && rest != "":
		return present(x.Header, strings.ReplaceAll(rest, "_", "-"))
	case strings.HasPrefix(name, "sent_http_"):
		return present(x.OutHeader, strings.ReplaceAll(name[len("sent_http_"):], "_", "-"))
	case prefix == "arg" && rest != "":
		for _, part := range strings.Split(x.Args, "&") {
			k, v, ok := strings.Cut(part, "=")
			if ok && strings.EqualFold(k, rest) {
				return str(v)
			}
		}
	case prefix == "cookie" && rest != "":
		for _, line := range headerValues(x.Header, "Cookie") {
			for _, c := range strings.Split(line, ";") {
				k, v, _ := strings.Cut(strings.TrimSpace(c), "=")
				if k == rest {
					return str(v)
				}
			}
		}
	}
	return nil
}

func varGet(L *glua.LState) int {
	x, s := exchange(L)
	if _, ok := L.Get(2).(glua.LNumber); ok {
		unsupported(L, "ngx.var of a capture")
	}
	return ret(L, variable(x, s, checkText(L, 2)))
}

func varSet(L *glua.LState) int {
	x, _ := exchange(L)
	name := checkText(L, 2)
	value := ""
	if v := L.Get(3); v != glua.LNil {
		s, ok := text(v)
		if b, isBool := v.(glua.LBool); isBool {
			s, ok = b.String(), true
		}
		if !ok {
			L.RaiseError("bad argument #3 to '__newindex' (string, number, or nil expected, but got %s)", v.Type().String())
		}
		value = s
	}
	if name == "args" {
		x.Args = value
		return 0
	}
	if _, ok := x.Vars[name]; !ok {
		if _, builtin := variables[name]; builtin {
			L.RaiseError("variable %q not changeable", name)
		}
		L.RaiseError("variable %q not found for writing; maybe it is a built-in variable that is not changeable or you forgot to use \"set $%s '';\" in the config file to define it first", name, name)
	}
	x.Vars[name] = value
	return 0
}

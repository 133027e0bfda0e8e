// Package lua runs the Lua of test suites: an embedded interpreter with the names of
// ngx.*, of the resty libraries and of the reference's test helpers, written in Go. It
// knows nothing of configuration files, listeners and verdicts; who serves a request hands
// it an Exchange.
package lua

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
)

// A Phase is the handler of nginx that a chunk belongs to.
type Phase string

// The phases that suites write Lua for.
const (
	Init         Phase = "init"
	InitWorker   Phase = "init_worker"
	SSLCert      Phase = "ssl_cert"
	Rewrite      Phase = "rewrite"
	Access       Phase = "access"
	Content      Phase = "content"
	HeaderFilter Phase = "header_filter"
	BodyFilter   Phase = "body_filter"
	Log          Phase = "log"
)

// Options are what a Runtime works with. The zero value is a runtime without files,
// network or log.
type Options struct {
	// Home is a checkout of the reference: its t/lib, t/assets and the like are found
	// below it. Empty: there is none.
	Home string
	// Log takes the lines of ngx.log and of scripts that fail. level is nginx's word
	// ("error", "warn"); line has no level and no time.
	Log func(level, line string)
	// Dial opens the connections of cosockets; nil is a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Env is what os.getenv sees before the process's own environment.
	Env map[string]string
	// Etcd is the endpoint behind apisix.core.etcd, Prefix what its keys begin with.
	Etcd, Prefix string
	// Plugins answers for require("apisix.plugins.X"); nil: every such script is white-box.
	Plugins Plugins
	// LocalConf is what apisix.core.config.local_conf returns, as JSON.
	LocalConf []byte
}

// Plugins is the registry of the gateway under test.
type Plugins interface {
	// Plugin describes a plugin, false when it is not built.
	Plugin(name string) (PluginInfo, bool)
	// Check judges a configuration as the gateway does. kind is "", "consumer" or
	// "metadata". It returns the configuration with its defaults filled in.
	Check(name, kind string, conf []byte) (filled []byte, err error)
}

// PluginInfo is what a script may ask of a plugin.
type PluginInfo struct {
	Name     string
	Version  string
	Priority int
	Schema   []byte // JSON
}

// A Field is one header line.
type Field struct{ Name, Value string }

// An Exchange is one request and its answer, as ngx.* sees them. Whoever serves the
// request fills it; a script changes it. It is used by one goroutine at a time.
type Exchange struct {
	Method     string
	Target     string // as received
	URI        string // decoded path; ngx.req.set_uri changes it
	Args       string // raw query; ngx.req.set_uri_args changes it
	Proto      string // "HTTP/1.1"
	Scheme     string
	Header     []Field // of the request, in order, names as received
	Remote     netip.AddrPort
	Local      netip.AddrPort
	ServerName string
	TLS        *tls.ConnectionState
	Connection uint64 // the number in log lines
	Requests   int    // on this connection so far, this one included

	// Body reads the request's body once and then returns the same bytes.
	Body func() ([]byte, error)
	// Conn is the client's connection with what was read ahead, for ngx.req.socket.
	Conn func() (net.Conn, error)
	// Abort ends the client's connection without an answer, also while another goroutine
	// reads or writes it. It is called when a script is ended from outside. It may be nil.
	Abort func()
	// Capture runs another location of the same server, for ngx.location.capture.
	Capture func(ctx context.Context, sub *Exchange) error

	Vars map[string]string // of `set`, and of the log format; ngx.var writes here
	// Var reads a variable that is not in Vars: the server's own, a map's, a capture's.
	// false: there is no such variable, or it has no value now. It may be nil.
	Var func(name string) (value string, ok bool)

	Status    int     // of the answer; 0 counts as 200
	OutHeader []Field // of the answer
	Out       Writer
	Sent      bool // the head went out

	// Slots is for the runtime: ngx.ctx and what else lasts for the request.
	Slots any
}

// A Writer sends an answer. The first Write, Flush or EOF sends the head as Exchange has
// it then.
type Writer interface {
	Write(p []byte) (int, error)
	Flush() error
	// EOF ends the body; what follows does not reach the client.
	EOF() error
}

// A BodyPart is what a body filter sees and may replace: ngx.arg[1] and ngx.arg[2].
type BodyPart struct {
	Data []byte
	EOF  bool
}

// UnsupportedError is a name or an idiom that this package does not offer.
type UnsupportedError struct {
	What string
	Line int // in the chunk; 0: unknown
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("line %d: %s is not supported", e.Line, e.What)
}

// WhiteBoxError is a script that reaches into what only the reference has.
type WhiteBoxError struct {
	What string
	Line int
}

func (e *WhiteBoxError) Error() string {
	return fmt.Sprintf("line %d: %s is inside the reference", e.Line, e.What)
}

// InterruptedError is a script that was ended from outside, by its context or by the end of
// the runtime. What it has said so far is no answer.
type InterruptedError struct{ Err error }

func (e *InterruptedError) Error() string { return "the script was ended: " + e.Err.Error() }

func (e *InterruptedError) Unwrap() error { return e.Err }

// ExitError is how ngx.exit ends a phase: Status is its argument.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit %d", e.Status) }

// ExecError is how ngx.exec ends a phase: the request goes on at URI, with Args as its
// query. A URI that begins with @ is a named location.
type ExecError struct{ URI, Args string }

func (e *ExecError) Error() string { return "exec " + e.URI }

// ScriptError is a script that failed. Its text is what nginx logs.
type ScriptError struct{ Text string }

func (e *ScriptError) Error() string { return e.Text }

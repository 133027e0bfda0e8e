package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/rs/zerolog"
)

// An Engine reads the requests of clients into exchanges and writes their answers. It is safe
// for concurrent use.
type Engine interface {
	// Serve accepts connections until Shutdown, over TLS unless secure is nil.
	Serve(l net.Listener, secure *tls.Config) error
	// ServeTLS is Serve with the certificates of the snapshot in force.
	ServeTLS(l net.Listener, o TLS) error
	// Drain begins the end of an engine that still accepts: clients learn from every answer
	// that they are to take other connections. One that says nothing for the time of grace is
	// closed.
	Drain(grace time.Duration)
	// Shutdown stops accepting and waits for requests in flight, tunnels among them, until ctx
	// ends; then it breaks off what is left.
	Shutdown(ctx context.Context) error
	// Connections tells of the engine's connections.
	Connections() Connections
}

// The names of the engines (apisix.http_engine).
const (
	EngineStd  = "std"
	EngineFast = "fast"
)

// NewEngine returns the engine of that name, that feeds g. With h2c it speaks HTTP/2 on plain
// connections to clients that begin with its preface.
func NewEngine(name string, g *Gateway, l Limits, h2c bool, errorLog zerolog.Logger) Engine {
	if name == EngineFast {
		return NewFast(g, l, h2c, errorLog)
	}
	return NewStd(g, l, h2c, errorLog)
}

package etcdstore

import (
	"context"
	"net"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// again is after how long a connection that is not made yet is tried once more, beside the
// tries before. The system repeats a lost SYN after 1, 3 and 7 s: a cable that is back in
// between would be noticed no sooner.
const again = 400 * time.Millisecond

// direct reports whether nothing stands before an endpoint: a proxy that the environment names
// is gRPC's matter.
func direct(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	// gRPC asks for what it would be told of HTTPS, whatever the endpoint speaks.
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(&url.URL{Scheme: "https", Host: u.Host})
	return err == nil && proxy == nil
}

// dialer makes connections for gRPC.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// connect returns the first connection that is made before ctx ends. An answer that there is
// none is an answer, too: no other try is waited for.
func (d dialer) connect(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	try := func() {
		conn, err := d(ctx, "tcp", addr)
		select {
		case outcomes <- outcome{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
	}
	next := time.NewTicker(again)
	defer next.Stop()
	for {
		go try()
		select {
		case o := <-outcomes:
			return o.conn, o.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-next.C:
		}
	}
}

package etcdstore

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
)

func TestConnectionsAreTriedAgainBesideOnesThatGetNoAnswer(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	refused := errors.New("refused")
	silent := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := map[string]struct {
		second func(context.Context) (net.Conn, error)
		want   error
	}{
		"the second try is answered":            {func(context.Context) (net.Conn, error) { return near, nil }, nil},
		"the second try is refused":             {func(context.Context) (net.Conn, error) { return nil, refused }, refused},
		"no try is answered before the time is": {silent, context.Canceled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var tries atomic.Int32
			d := dialer(func(try context.Context, _, _ string) (net.Conn, error) {
				switch tries.Add(1) {
				case 1:
					return silent(try)
				case 2:
					return tt.second(try)
				}
				cancel()
				return silent(try)
			})
			conn, err := d.connect(ctx, "etcd:2379")
			if !errors.Is(err, tt.want) || (conn != nil) != (tt.want == nil) {
				t.Errorf("got %v, %v", conn, err)
			}
		})
	}
}

func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	d := dialer(func(context.Context, string, string) (net.Conn, error) {
		cancel()
		<-over
		return near, nil
	})
	if conn, err := d.connect(ctx, "etcd:2379"); conn != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", conn, err)
	}
	close(over)
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("it is open")
	}
}

func TestProxiesOfTheEnvironmentAreLeftAlone(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.test:3128")
	t.Setenv("NO_PROXY", "near.test")
	for endpoint, want := range map[string]bool{
		"http://near.test:2379":  true,
		"https://far.test:2379":  false,
		"http://far.test:2379":   false,
		"http://127.0.0.1:2379":  true,
		"http://far.test:2379\n": false,
	} {
		if got := direct(endpoint); got != want {
			t.Errorf("%q: got %v", endpoint, got)
		}
	}
}

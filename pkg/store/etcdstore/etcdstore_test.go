package etcdstore

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func server(t *testing.T, dir, listen string) *embedetcd.Server {
	t.Helper()
	s, err := embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, endpoints ...string) *Store {
	t.Helper()
	s, err := New(Config{Endpoints: endpoints, Log: zerolog.New(zerolog.NewTestWriter(t))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func set(t *testing.T, s store.Store, key, value string) store.Result {
	t.Helper()
	res, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/" + key, Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestContract(t *testing.T) {
	srv := server(t, t.TempDir(), "")
	t.Cleanup(srv.Close)
	storetest.Run(t, func(t *testing.T) store.Store {
		s := open(t, srv.Endpoint())
		if _, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/", Delete: true, Prefix: true}}); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestAValueThatEtcdDoesNotTakeIsTooLarge(t *testing.T) {
	srv := server(t, t.TempDir(), "")
	t.Cleanup(srv.Close)
	_, err := open(t, srv.Endpoint()).Commit(t.Context(), nil, []store.Op{{Key: "/t/a", Value: make([]byte, 5<<20)}})
	if !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, store.ErrTooLarge)
	}
}

func TestEtcdGoesAndComesBack(t *testing.T) {
	dir := t.TempDir()
	srv := server(t, dir, "")
	listen := strings.TrimPrefix(srv.Endpoint(), "http://")
	s := open(t, srv.Endpoint())
	w := s.Watch(t.Context(), "/t/")
	storetest.Next(t, w)
	set(t, s, "a", "1")
	storetest.Next(t, w)

	srv.Close()
	begin := time.Now()
	_, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/b", Value: []byte("1")}})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while it is away: got %v, want %v", err, store.ErrUnavailable)
	}
	t.Logf("refused after %v", time.Since(begin))

	srv = server(t, dir, listen)
	defer func() { srv.Close() }()
	waitFor(t, func() bool {
		_, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/c", Value: []byte("1")}})
		return err == nil
	})
	for seen := false; !seen; {
		b := storetest.Next(t, w)
		if b.Reset {
			t.Fatalf("a reset came (%v), the history is still there", b.Cause)
		}
		for _, e := range b.Events {
			seen = seen || e.Item.Key == "/t/c"
		}
	}
}

func TestHistoryThatIsGoneGivesAReset(t *testing.T) {
	dir := t.TempDir()
	srv := server(t, dir, "")
	defer func() { srv.Close() }()
	p := proxy(t, srv.Endpoint())
	s := open(t, p.endpoint())
	direct := open(t, srv.Endpoint())
	w := s.Watch(t.Context(), "/t/")
	storetest.Next(t, w)

	p.cut(true)
	var last store.Result
	for _, v := range []string{"1", "2", "3"} {
		last = set(t, direct, "a", v)
	}
	if _, err := direct.client.Compact(t.Context(), last.Revision); err != nil {
		t.Fatal(err)
	}
	p.cut(false)
	b := storetest.Next(t, w)
	if !b.Reset || b.Cause != store.Compacted || len(b.Events) != 1 || string(b.Events[0].Item.Value) != "3" {
		t.Errorf("got %+v", b)
	}
}

func TestAnotherClusterGivesAReset(t *testing.T) {
	one := server(t, t.TempDir(), "")
	other := server(t, filepath.Join(t.TempDir(), "x"), "")
	defer one.Close()
	defer other.Close()
	p := proxy(t, one.Endpoint())
	s := open(t, p.endpoint())
	set(t, open(t, one.Endpoint()), "a", "1")
	set(t, open(t, other.Endpoint()), "b", "1")
	w := s.Watch(t.Context(), "/t/")
	storetest.Next(t, w)
	p.target.Store(strings.TrimPrefix(other.Endpoint(), "http://"))
	p.cut(true)
	p.cut(false)
	b := storetest.Next(t, w)
	if !b.Reset || b.Cause == store.Start || b.Events[0].Item.Key != "/t/b" {
		t.Errorf("got %+v", b)
	}
}

func TestAHungEndpointIsLeft(t *testing.T) {
	srv := server(t, t.TempDir(), "")
	defer srv.Close()
	one, two := proxy(t, srv.Endpoint()), proxy(t, srv.Endpoint())
	s := open(t, one.endpoint(), two.endpoint())
	w := s.Watch(t.Context(), "/t/")
	storetest.Next(t, w)
	used := one
	if s.State().Endpoint == two.endpoint() {
		used = two
	}
	used.hang(true)
	defer used.hang(false)
	set(t, open(t, srv.Endpoint()), "a", "1")
	begin := time.Now()
	if b := storetest.Next(t, w); b.Reset || len(b.Events) != 1 {
		t.Errorf("got %+v", b)
	}
	t.Logf("the change came %v after the endpoint hung", time.Since(begin))
	if s.State().Endpoint == used.endpoint() {
		t.Error("the hung endpoint is still in use")
	}
}

func TestAQuietStoreDoesNotLookDead(t *testing.T) {
	srv := server(t, t.TempDir(), "")
	defer srv.Close()
	s := open(t, srv.Endpoint())
	w := s.Watch(t.Context(), "/t/")
	storetest.Next(t, w)
	since := s.State().Since
	// Longer than what counts as silence.
	select {
	case b := <-w:
		t.Errorf("got %+v", b)
	case <-time.After(silence + 2*heartbeat):
	}
	if now := s.State(); !now.Connected || !now.Since.Equal(since) {
		t.Errorf("the connection was given up: %+v", now)
	}
}

func TestNewRefusesMistakes(t *testing.T) {
	for name, endpoints := range map[string][]string{"no endpoints": nil, "no address": {"::::"}} {
		if _, err := New(Config{Endpoints: endpoints}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatal("it did not come to pass")
		}
	}
}

// wire is a TCP proxy that can be cut, or hang.
type wire struct {
	listener net.Listener
	target   atomic.Value
	mu       sync.Mutex
	down     bool
	conns    []net.Conn
	gate     sync.RWMutex // held while it hangs
}

func proxy(t *testing.T, endpoint string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &wire{listener: l}
	p.target.Store(strings.TrimPrefix(endpoint, "http://"))
	t.Cleanup(func() {
		_ = l.Close()
		p.cut(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *wire) endpoint() string { return "http://" + p.listener.Addr().String() }

func (p *wire) serve(c net.Conn) {
	up, err := net.Dial("tcp", p.target.Load().(string))
	p.mu.Lock()
	if err != nil || p.down {
		p.mu.Unlock()
		_ = c.Close()
		if up != nil {
			_ = up.Close()
		}
		return
	}
	p.conns = append(p.conns, c, up)
	p.mu.Unlock()
	pipe := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			p.gate.RLock()
			p.gate.RUnlock() //nolint:staticcheck // only to wait while it hangs
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		_ = to.Close()
		_ = from.Close()
	}
	go pipe(up, c)
	pipe(c, up)
}

// cut breaks all connections and refuses new ones, or takes them again.
func (p *wire) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *wire) hang(on bool) {
	if on {
		p.gate.Lock()
	} else {
		p.gate.Unlock()
	}
}

package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func server(t *testing.T, dir, listen string) *embedetcd.Server {
	t.Helper()
	var s *embedetcd.Server
	until(t, "the address is free", func() (free bool) { // whose port somebody else may have got meanwhile
		var err error
		if s, err = embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: zerolog.Nop()}); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	return s
}

// running is a server that ends with the test.
func running(t *testing.T) *embedetcd.Server {
	t.Helper()
	s := server(t, t.TempDir(), "")
	t.Cleanup(s.Close)
	return s
}

// open is a store whose calls have more time than they need on a busy machine.
func open(t *testing.T, endpoints ...string) *Store {
	t.Helper()
	return openWith(t, Config{Endpoints: endpoints, Timeout: time.Minute})
}

func openWith(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// watch is a watch under "/t/" that has ended when the test has.
func watched(t *testing.T, s store.Source) <-chan store.Batch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	batches := s.Watch(ctx, "/t/")
	t.Cleanup(func() {
		cancel()
		for range batches { //nolint:revive // until it is closed
		}
	})
	return batches
}

// etcd is the client under a store.
func etcd(t *testing.T, s *Store) *clientv3.Client {
	t.Helper()
	c, err := s.members[0].connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(key, value string) store.Op { return store.Op{Key: "/t/" + key, Value: []byte(value)} }

func set(t *testing.T, s store.Store, key, value string) store.Result {
	t.Helper()
	res, err := s.Commit(t.Context(), nil, []store.Op{put(key, value)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

var until = timetest.Until

func TestContract(t *testing.T) {
	t.Parallel()
	srv := running(t)
	direct := open(t, srv.Endpoint())
	storetest.Run(t, func(t *testing.T) (store.Store, storetest.Faults) {
		if _, err := direct.Commit(t.Context(), nil, []store.Op{{Key: "/t/", Delete: true, Prefix: true}}); err != nil {
			t.Fatal(err)
		}
		p := proxy(t, srv.Endpoint())
		c := Config{Endpoints: []string{p.endpoint()}, Timeout: time.Minute}
		if path.Base(t.Name()) == strings.ReplaceAll(storetest.Away, " ", "_") {
			c.Timeout = 4 * time.Second
		}
		return openWith(t, c), storetest.Faults{
			Direct: direct, Cut: p.cut,
			Compact: func() {
				_, revision, err := direct.List(t.Context(), "/t/none")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := etcd(t, direct).Compact(t.Context(), revision); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestNewRefusesMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no endpoints":                   {},
		"what is no address":             {Endpoints: []string{"::::"}},
		"an address without a scheme":    {Endpoints: []string{"127.0.0.1:2379"}},
		"a scheme that is not spoken":    {Endpoints: []string{"ftp://127.0.0.1:2379"}},
		"an address without a host":      {Endpoints: []string{"http://"}},
		"a user name without a password": {Endpoints: []string{"http://127.0.0.1:2379"}, Username: "u"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNewDoesNotWaitForALogin(t *testing.T) {
	t.Parallel()
	// Connections are taken, by the kernel, and nobody ever reads.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := openWith(t, Config{Endpoints: []string{"http://" + l.Addr().String()}, Username: "u", Password: "p", Timeout: 300 * time.Millisecond})
	if _, err := s.Commit(t.Context(), nil, []store.Op{put("a", "1")}); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("got %v, want %v", err, store.ErrUnavailable)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	// With etcd's own cost a login under the race detector may take longer than a
	// connection gets.
	srv, err := embedetcd.Start(embedetcd.Config{Dir: t.TempDir(), PasswordCost: 4, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	admin := etcd(t, open(t, srv.Endpoint()))
	ctx := t.Context()
	_, err = admin.RoleAdd(ctx, "root")
	fine := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fine(err)
	_, err = admin.RoleAdd(ctx, "t")
	fine(err)
	_, err = admin.RoleGrantPermission(ctx, "t", "/t/", clientv3.GetPrefixRangeEnd("/t/"), clientv3.PermissionType(clientv3.PermReadWrite))
	fine(err)
	for name, role := range map[string]string{"root": "root", "u": "t"} {
		_, err = admin.UserAdd(ctx, name, "secret")
		fine(err)
		_, err = admin.UserGrantRole(ctx, name, role)
		fine(err)
	}
	_, err = admin.AuthEnable(ctx)
	fine(err)

	s := openWith(t, Config{Endpoints: []string{srv.Endpoint()}, Username: "u", Password: "secret", Timeout: time.Minute})
	set(t, s, "a", "1")
	w := watched(t, s)
	if b := storetest.Next(t, w); len(b.Events) != 1 {
		t.Errorf("got %+v, want one item", b)
	}
	set(t, s, "b", "1")
	storetest.Next(t, w)
	if _, _, err := s.List(ctx, "/other/"); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("what the user may not read: got %v, want a refusal", err)
	}
	wrong := openWith(t, Config{Endpoints: []string{srv.Endpoint()}, Username: "u", Password: "guess", Timeout: time.Minute})
	if _, _, err := wrong.List(ctx, "/t/"); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a wrong password: got %v, want a refusal", err)
	}
}

func TestAValueThatEtcdDoesNotTakeIsTooLarge(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	for _, size := range []int{5 << 20, maxSend + 1} {
		_, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/a", Value: make([]byte, size)}})
		if !errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("%d bytes: got %v, want %v", size, err, store.ErrTooLarge)
		}
	}
}

func TestARefusedCommitLeavesNoLease(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	set(t, s, "a", "1")
	if _, err := s.Commit(t.Context(), []store.Cond{{Key: "/t/a"}}, []store.Op{{Key: "/t/b", TTL: time.Hour}}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v, want %v", err, store.ErrConflict)
	}
	leases, err := etcd(t, s).Leases(t.Context())
	if err != nil || len(leases.Leases) != 0 {
		t.Errorf("got %v, %v, want no lease", leases, err)
	}
}

func TestAChangeWithoutAnAnswerHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	srv := running(t)
	p := proxy(t, srv.Endpoint())
	s := openWith(t, Config{Endpoints: []string{p.endpoint()}, Timeout: 5 * time.Second})
	set(t, s, "a", "1")
	trustFor(s, time.Hour) // it hangs right after it answered
	p.hang(true)
	_, err := s.Commit(t.Context(), nil, []store.Op{put("a", "2")})
	p.hang(false)
	if !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want both %v and %v", err, store.ErrUnknownOutcome, store.ErrUnavailable)
	}

	ctx, cancel := context.WithCancel(t.Context())
	trustFor(s, time.Hour)
	p.hang(true)
	done := make(chan error)
	go func() {
		_, err := s.Commit(ctx, nil, []store.Op{put("a", "3")})
		done <- err
	}()
	cancel()
	err = <-done
	p.hang(false)
	if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a caller that left: got %v, want %v", err, context.Canceled)
	}
}

// trustFor makes a store believe that its endpoints answered just now.
func trustFor(s *Store, d time.Duration) {
	for _, m := range s.members {
		m.mu.Lock()
		m.heard = time.Now().Add(d)
		m.mu.Unlock()
	}
}

func TestCallsLeaveAnEndpointThatHangs(t *testing.T) {
	t.Parallel()
	srv := running(t)
	wires := []*wire{proxy(t, srv.Endpoint()), proxy(t, srv.Endpoint()), proxy(t, srv.Endpoint())}
	timetest.Stretch(t, 4*time.Second, func(limit time.Duration) error {
		s := openWith(t, Config{Endpoints: []string{wires[0].endpoint(), wires[1].endpoint(), wires[2].endpoint()}, Timeout: limit})
		for round := range 3 {
			if err := leaves(t, s, wires, round > 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// leaves lets the endpoint hang that a store used last, and calls it. If it trusts the endpoint,
// half of the time of a call is over before it asks another.
func leaves(t *testing.T, s *Store, wires []*wire, trusts bool) error {
	first, err := s.Commit(t.Context(), nil, []store.Op{put("a", "1")})
	if err != nil {
		return err
	}
	used := wires[s.preferred.Load()]
	if trusts {
		trustFor(s, time.Hour)
	}
	used.hang(true)
	defer used.hang(false)
	// A read may be tried again, so that it succeeds even when nothing warned of it.
	it, _, err := s.Get(t.Context(), "/t/a")
	if err != nil || it.Revision != first.Revision {
		return fmt.Errorf("get: got %+v, %w, want revision %d", it, err, first.Revision)
	}
	if _, _, err := s.List(t.Context(), "/t/"); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	_, err = s.Commit(t.Context(), nil, []store.Op{put("a", "2")})
	return err
}

func TestADeadEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	const dead = "http://127.0.0.1:1" // a port that no system gives away, as it may do with one that was closed
	srv := running(t)
	s := open(t, dead, srv.Endpoint(), dead)
	for range 3 {
		s.preferred.Store(0)
		set(t, s, "a", "1")
	}
	w := watched(t, s)
	storetest.Next(t, w)
	set(t, s, "b", "1")
	storetest.Next(t, w)
	until(t, "connected to "+srv.Endpoint(), func() bool { got := s.State(); return got.Connected && got.Endpoint == srv.Endpoint() })
}

// copyDir copies the data of a server that does not run.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Whoever calls has to answer within Timeout, and needs a moment for that itself.
func TestACallEndsBeforeItsAnswerIsDue(t *testing.T) {
	t.Parallel()
	const timeout = time.Hour
	s := openWith(t, Config{Endpoints: []string{"http://127.0.0.1:1"}, Timeout: timeout})
	due := time.Now().Add(timeout)
	ctx, cancel := s.limit(t.Context())
	defer cancel()
	if end, ok := ctx.Deadline(); !ok || !end.Before(due) {
		t.Errorf("a call ends at %v, its answer is due at %v", end, due)
	}
}

func TestPagesGrowWhileTheyComeQuickly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit        int64
		steady       bool
		took         time.Duration
		items, bytes int
		want         int64
	}{
		"small items":                      {limit: 1000, items: 1000, bytes: 160_000, want: 4000},
		"at the most":                      {limit: mostItems, items: mostItems, bytes: 160 * mostItems, want: mostItems},
		"large items":                      {limit: 1000, items: 1000, bytes: 100 << 20, want: 39},
		"items of which one fills a page":  {limit: 10, items: 10, bytes: 100 << 20, want: 1},
		"a slow page":                      {limit: 1000, took: quick + 1, items: 1000, bytes: 160_000, want: 1000},
		"a page that was too much once":    {limit: 250, steady: true, items: 250, bytes: 40_000, want: 250},
		"an empty page, which says little": {limit: 1000, want: 1000},
	} {
		l := listing{limit: test.limit, steady: test.steady}
		if l.resize(test.took, test.items, test.bytes); l.limit != test.want {
			t.Errorf("%s: got %d, want %d", name, l.limit, test.want)
		}
	}
}

func TestAListOfManyPagesIsComplete(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	const number = 5*pageSize + 7
	for from := 0; from < number; from += 100 {
		var ops []store.Op
		for i := from; i < min(from+100, number); i++ {
			ops = append(ops, put(fmt.Sprintf("%05d", i), "x"))
		}
		if _, err := s.Commit(t.Context(), nil, ops); err != nil {
			t.Fatal(err)
		}
	}
	items, _, err := s.List(t.Context(), "/t/")
	if err != nil || len(items) != number {
		t.Fatalf("got %d items, %v", len(items), err)
	}
	b := <-watched(t, s)
	for i := range number {
		if key := fmt.Sprintf("/t/%05d", i); items[i].Key != key || b.Events[i].Item.Key != key {
			t.Fatalf("at %d: got %s and %s, want %s", i, items[i].Key, b.Events[i].Item.Key, key)
		}
	}
}

package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/storetest"
)

func TestEtcdGoesAndComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := server(t, dir, "")
	defer func() { srv.Close() }()
	listen := strings.TrimPrefix(srv.Endpoint(), "http://")
	var log logtest.Log
	s := openWith(t, Config{Endpoints: []string{srv.Endpoint()}, Timeout: 10 * time.Second, Log: zerolog.New(&log)})
	w := watched(t, s)
	storetest.Next(t, w)
	set(t, s, "a", "1")
	before := storetest.Next(t, w)
	until(t, "connected", func() bool { return s.State().Connected })

	srv.Close()
	until(t, "away", func() bool { return !s.State().Connected })
	if _, err := s.Commit(t.Context(), nil, []store.Op{put("b", "1")}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while it is away: got %v, want %v", err, store.ErrUnavailable)
	}
	if got := s.State(); got.Revision != before.Revision {
		t.Errorf("while it is away: got revision %d, want %d", got.Revision, before.Revision)
	}
	until(t, "the log says so", func() bool { return strings.Contains(log.String(), "is away") })
	if n := strings.Count(log.String(), "is away"); n != 1 {
		t.Errorf("%d lines say that it is away, want 1:\n%s", n, log.String())
	}

	srv = server(t, dir, listen)
	var want, got []string
	for i := range 5 {
		set(t, s, "c", fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	for len(got) < len(want) {
		b := storetest.Next(t, w)
		if b.Reset {
			t.Fatalf("a reset came (%v), the history is still there", b.Cause)
		}
		for _, e := range b.Events {
			got = append(got, string(e.Item.Value))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestARestoredBackupGivesAReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := server(t, dir, "")
	listen := strings.TrimPrefix(srv.Endpoint(), "http://")
	s := open(t, srv.Endpoint())
	set(t, s, "a", "1")
	srv.Close()
	backup := copyDir(t, dir)

	srv = server(t, dir, listen)
	defer func() { srv.Close() }()
	w := watched(t, s)
	storetest.Next(t, w)
	set(t, s, "a", "2")
	last := set(t, s, "b", "1")
	for storetest.Next(t, w).Revision < last.Revision {
	}
	srv.Close()

	srv = server(t, backup, listen)
	b := storetest.Next(t, w)
	if b.Cause != store.WentBack || len(b.Events) != 1 || string(b.Events[0].Item.Value) != "1" {
		t.Errorf("got %+v, want a reset because of %q", b, store.WentBack)
	}
	next := set(t, s, "c", "1")
	if b := storetest.Next(t, w); b.Reset || b.Revision != next.Revision {
		t.Errorf("after it: got %+v, want revision %d", b, next.Revision)
	}
}

// A store that was wiped and is then restored from its backup has its cluster's id and the
// higher revision, so that a watch could go on: with the backup's history after the wiped
// store's content.
func TestABackupRestoredAfterAWipeGivesAReset(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		original, wiped func(t *testing.T, s *Store)
	}{
		"with other keys": {
			func(t *testing.T, s *Store) { set(t, s, "a", "1"); set(t, s, "b", "1") },
			func(t *testing.T, s *Store) { set(t, s, "c", "1") },
		},
		"with as many keys": {
			func(t *testing.T, s *Store) { set(t, s, "a", "1"); set(t, s, "a", "2") },
			func(t *testing.T, s *Store) { set(t, s, "c", "1") },
		},
		"with the same keys at the same revisions, and other values": {
			func(t *testing.T, s *Store) { set(t, s, "a", "1"); set(t, s, "b", "1") },
			func(t *testing.T, s *Store) { set(t, s, "a", "made again") },
		},
		"with nothing at that time": {
			func(t *testing.T, s *Store) { set(t, s, "a", "1"); set(t, s, "b", "1") },
			func(t *testing.T, s *Store) {
				set(t, s, "c", "1")
				if _, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t/c", Delete: true}}); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backup := t.TempDir()
			srv := server(t, backup, "")
			listen := strings.TrimPrefix(srv.Endpoint(), "http://")
			srv.Close()
			wiped := copyDir(t, backup) // an empty store with the same id
			srv = server(t, backup, listen)
			direct := open(t, srv.Endpoint())
			test.original(t, direct)
			for range 5 {
				set(t, direct, "last", "1")
			}
			want, revision, err := direct.List(t.Context(), "/t/")
			if err != nil {
				t.Fatal(err)
			}
			srv.Close()

			srv = server(t, wiped, listen)
			defer func() { srv.Close() }()
			test.wiped(t, direct)
			s := open(t, srv.Endpoint())
			w := watched(t, s)
			storetest.Next(t, w)
			until(t, "connected", func() bool { return s.State().Connected })
			srv.Close()

			srv = server(t, backup, listen)
			b := storetest.Next(t, w)
			if !b.Reset || b.Cause != store.WentBack || b.Revision != revision {
				t.Fatalf("got %+v, want a reset to revision %d because of %q", b, revision, store.WentBack)
			}
			if len(b.Events) != len(want) {
				t.Errorf("got %d items, want %d", len(b.Events), len(want))
			}
		})
	}
}

func TestAnotherClusterGivesAReset(t *testing.T) {
	t.Parallel()
	one, other := running(t), running(t)
	p := proxy(t, one.Endpoint())
	set(t, open(t, one.Endpoint()), "a", "1")
	direct := open(t, other.Endpoint())
	for _, v := range []string{"1", "2", "3"} { // its revision is the higher one
		set(t, direct, "b", v)
	}
	w := watched(t, open(t, p.endpoint()))
	first := storetest.Next(t, w)
	p.lead(other.Endpoint())
	b := storetest.Next(t, w)
	if b.Cause != store.OtherCluster || len(b.Events) != 1 || b.Events[0].Item.Key != "/t/b" || b.ClusterID == first.ClusterID {
		t.Errorf("got %+v, want a reset because of %q", b, store.OtherCluster)
	}
}

func TestAHungEndpointIsLeft(t *testing.T) {
	t.Parallel()
	srv := running(t)
	one, two := proxy(t, srv.Endpoint()), proxy(t, srv.Endpoint())
	direct := open(t, srv.Endpoint())
	s := open(t, one.endpoint(), two.endpoint())
	w := watched(t, s)
	storetest.Next(t, w)
	until(t, "connected", func() bool { return s.State().Connected })
	used := one
	if s.State().Endpoint == two.endpoint() {
		used = two
	}
	used.hang(true)
	defer used.hang(false)
	set(t, direct, "a", "1")
	begin := time.Now()
	if b := storetest.Next(t, w); b.Reset || len(b.Events) != 1 {
		t.Errorf("got %+v, want the change", b)
	}
	t.Logf("the change came %v after the endpoint hung", time.Since(begin))
	until(t, "on the other endpoint", func() bool {
		st := s.State()
		return st.Connected && st.Endpoint != used.endpoint()
	})
}

func TestABrokenConnectionIsLeftAtOnce(t *testing.T) {
	t.Parallel()
	srv := running(t)
	one, two := proxy(t, srv.Endpoint()), proxy(t, srv.Endpoint())
	direct := open(t, srv.Endpoint())
	s := open(t, one.endpoint(), two.endpoint())
	var mu sync.Mutex
	streams := map[*grpc.ClientConn]int{}
	s.watchOptions = []grpc.DialOption{grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			mu.Lock()
			streams[cc]++
			mu.Unlock()
			return streamer(ctx, desc, cc, method, opts...)
		})}
	w := watched(t, s)
	storetest.Next(t, w)
	for i, p := range []*wire{one, two, one} {
		p.cut(true)
		set(t, direct, "a", fmt.Sprint(i))
		if b := storetest.Next(t, w); b.Reset || string(b.Events[0].Item.Value) != fmt.Sprint(i) {
			t.Errorf("got %+v, want the change %d", b, i)
		}
		p.cut(false)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, n := range streams {
		if n != 1 {
			t.Errorf("a client opened %d watch streams, want 1: it went on from a revision of its own", n)
		}
	}
}

func TestAQuietStoreDoesNotLookDead(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	w := watched(t, s)
	storetest.Next(t, w)
	stays(t, s, func() {
		// Longer than what counts as silence.
		select {
		case b := <-w:
			t.Errorf("got %+v", b)
		case <-time.After(silence + 2*heartbeat):
		}
	})
}

// stays checks that a connection is not given up while something goes on. On a busy machine a
// sign of life may come too late once, not each time.
func stays(t *testing.T, s *Store, something func()) {
	t.Helper()
	for try := 1; ; try++ {
		until(t, "connected", func() bool { return s.State().Connected })
		since := s.State().Since
		something()
		now := s.State()
		if now.Connected && now.Since.Equal(since) {
			return
		}
		if try == 5 {
			t.Fatalf("the connection was given up: %+v", now)
		}
	}
}

// Keys outside the prefix move the revision of the store, and nothing that could be waited for.
func TestOnlyThePrefixArrives(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	set(t, s, "a", "1")
	w := watched(t, s)
	b := storetest.Next(t, w)
	if got := s.State(); got.Arrived != b.Revision {
		t.Errorf("got %+v, want what was read at %d to have arrived", got, b.Revision)
	}
	res, err := s.Commit(t.Context(), nil, []store.Op{{Key: "/t-nodes/1", Value: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the revision of the store is seen", func() bool { return s.State().Observed >= res.Revision })
	if got := s.State(); got.Arrived != b.Revision || got.Revision != b.Revision {
		t.Errorf("got %+v, want nothing new since %d", got, b.Revision)
	}
	at := set(t, s, "b", "1").Revision
	until(t, "the change arrives, though nobody takes it", func() bool { return s.State().Arrived == at })
	if got := s.State(); got.Revision != b.Revision {
		t.Errorf("got %+v, want nothing delivered since %d", got, b.Revision)
	}
	storetest.Next(t, w)
	until(t, "it is delivered", func() bool { return s.State().Revision == at })
}

func TestASlowReaderDoesNotLookLikeADeadStore(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	w := watched(t, s)
	storetest.Next(t, w)
	stays(t, s, func() {
		set(t, s, "a", "1")
		set(t, s, "b", "1")
		// Nobody reads for longer than what counts as silence; the batches wait meanwhile.
		<-time.After(silence + 2*heartbeat)
		var got []string
		for len(got) < 2 {
			b := storetest.Next(t, w)
			if b.Reset {
				t.Fatalf("a reset came because of %q", b.Cause)
			}
			for _, e := range b.Events {
				got = append(got, e.Item.Key)
			}
		}
		if want := []string{"/t/a", "/t/b"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAnEndpointThatRefusesWatchesIsNotConnected(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	refused := make(chan struct{}, 1000)
	s.watchOptions = []grpc.DialOption{grpc.WithChainStreamInterceptor(
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
			refused <- struct{}{}
			return nil, status.Error(codes.Unimplemented, "404 page not found")
		})}
	storetest.Next(t, watched(t, s))
	for range 3 {
		<-refused
	}
	if s.State().Connected {
		t.Error("it says that it is connected")
	}
}

func TestContentThatIsGoneAtOnceIsBelievedWhenItIsSaidTwice(t *testing.T) {
	t.Parallel()
	srv := running(t)
	p := proxy(t, srv.Endpoint())
	direct := open(t, srv.Endpoint())
	s := open(t, p.endpoint())
	var lies atomic.Int32
	s.watchOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoker(ctx, method, req, reply, cc, opts...)
			if r, ok := req.(*etcdserverpb.RangeRequest); ok && !r.CountOnly && lies.Add(-1) >= 0 {
				res := reply.(*etcdserverpb.RangeResponse)
				res.Kvs, res.Count, res.More = nil, 0, false
			}
			return err
		})}
	set(t, direct, "a", "1")
	w := watched(t, s)
	storetest.Next(t, w)
	for _, test := range []struct {
		lies int32
		want int
	}{{lies: 1, want: 1}, {lies: 2, want: 0}} {
		p.cut(true)
		last := set(t, direct, "a", "2")
		if _, err := etcd(t, direct).Compact(t.Context(), last.Revision); err != nil {
			t.Fatal(err)
		}
		set(t, direct, "a", "3")
		last = set(t, direct, "a", "4")
		if _, err := etcd(t, direct).Compact(t.Context(), last.Revision); err != nil {
			t.Fatal(err)
		}
		lies.Store(test.lies)
		p.cut(false)
		if b := storetest.Next(t, w); b.Cause != store.Compacted || len(b.Events) != test.want {
			t.Errorf("empty %d times: got %+v, want a reset of %d items", test.lies, b, test.want)
		}
	}
}

// deaf makes a watch lose what happens to a key.
func deaf(key string) grpc.DialOption {
	return grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := streamer(ctx, desc, cc, method, opts...)
			return deafStream{stream, key}, err
		})
}

type deafStream struct {
	grpc.ClientStream
	key string
}

func (s deafStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if res, ok := m.(*etcdserverpb.WatchResponse); ok {
		res.Events = slices.DeleteFunc(res.Events, func(e *mvccpb.Event) bool { return string(e.Kv.Key) == s.key })
	}
	return err
}

func TestALostEventIsFoundByComparing(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	s.auditEvery = 200 * time.Millisecond
	s.watchOptions = []grpc.DialOption{deaf("/t/lost")}
	w := watched(t, s)
	storetest.Next(t, w)
	for _, op := range []store.Op{put("lost", "1"), put("lost", "2"), {Key: "/t/lost", Delete: true}} {
		if _, err := s.Commit(t.Context(), nil, []store.Op{op}); err != nil {
			t.Fatal(err)
		}
		b := storetest.Next(t, w)
		if b.Cause != store.AntiEntropy {
			t.Fatalf("got %+v, want a reset because of %q", b, store.AntiEntropy)
		}
		if gone := len(b.Events) == 0; gone != op.Delete {
			t.Errorf("got %+v after %+v", b, op)
		}
	}
}

func TestComparingFindsNothingWhereNothingWasLost(t *testing.T) {
	t.Parallel()
	s := open(t, running(t).Endpoint())
	s.auditEvery = 5 * time.Millisecond
	w := watched(t, s)
	storetest.Next(t, w)
	const changes = 400
	go func() {
		for i := range changes {
			op := put(fmt.Sprintf("k%d", i%7), fmt.Sprint(i))
			if i%5 == 0 {
				op = store.Op{Key: op.Key, Value: op.Value, Delete: i%2 == 0}
			}
			_, _ = s.Commit(context.WithoutCancel(t.Context()), nil, []store.Op{op})
		}
		_, _ = s.Commit(context.WithoutCancel(t.Context()), nil, []store.Op{put("end", "")})
	}()
	for {
		b := storetest.Next(t, w)
		if b.Reset {
			t.Fatalf("a reset came because of %q", b.Cause)
		}
		if b.Events[len(b.Events)-1].Item.Key == "/t/end" {
			return
		}
	}
}

// Connections that end sooner than anything is compared, as behind a proxy that ends them.
func TestComparingOutlivesConnections(t *testing.T) {
	t.Parallel()
	srv := running(t)
	p := proxy(t, srv.Endpoint())
	direct, s := open(t, srv.Endpoint()), open(t, p.endpoint())
	s.auditEvery = 500 * time.Millisecond
	s.watchOptions = []grpc.DialOption{deaf("/t/lost")}
	set(t, direct, "lost", "1") // so that it is its value that is lost: a key would be missed by the next connection
	w := watched(t, s)
	storetest.Next(t, w)
	set(t, direct, "lost", "2")
	for i, end := 0, time.Now().Add(timetest.Patience); time.Now().Before(end); i++ {
		for n := range 10 {
			set(t, direct, "seen", fmt.Sprint(i, n))
			if b := storetest.Next(t, w); b.Cause == store.AntiEntropy {
				return
			}
		}
		p.cut(true)
		until(t, "away", func() bool { return !s.State().Connected })
		p.cut(false)
	}
	t.Error("what was lost is not found")
}

func TestAnInterruptedAuditIsDueAgain(t *testing.T) {
	t.Parallel()
	a := newAudit(time.Hour)
	defer a.timer.Stop()
	a.interrupt() // of none
	select {
	case <-a.due():
		t.Error("it is due before its time")
	default:
	}
	a.begin(func() (*listing, error) { return &listing{revision: 5}, nil })
	a.interrupt()
	<-a.due()
	if a.held != nil || a.touched != nil || len(a.read) > 0 {
		t.Errorf("something of it is left: %+v", a)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	items := []store.Item{{Key: "a", Revision: 2}, {Key: "b", Revision: 3}}
	tests := map[string]struct {
		known   map[string]int64
		touched []string
		reached int64
		want    bool
		waits   bool
	}{
		"the same":                          {known: map[string]int64{"a": 2, "b": 3}, reached: 5},
		"a key is missing":                  {known: map[string]int64{"a": 2}, reached: 5, want: true},
		"a key is too much":                 {known: map[string]int64{"a": 2, "b": 3, "c": 4}, reached: 5, want: true},
		"an older value":                    {known: map[string]int64{"a": 1, "b": 3}, reached: 5, want: true},
		"an older value, but it changed":    {known: map[string]int64{"a": 9, "b": 3}, touched: []string{"a"}, reached: 9},
		"a key was removed meanwhile":       {known: map[string]int64{"a": 2}, touched: []string{"b"}, reached: 9},
		"a key was added meanwhile":         {known: map[string]int64{"a": 2, "b": 3, "c": 6}, touched: []string{"c"}, reached: 6},
		"the watch is not there yet":        {known: map[string]int64{"a": 2}, reached: 4, waits: true},
		"nothing is known, but much stored": {reached: 5, want: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAudit(time.Hour)
			defer a.timer.Stop()
			a.begin(func() (*listing, error) { return &listing{items: items, revision: 5}, nil })
			a.got(<-a.read)
			for _, key := range test.touched {
				a.touch(key)
			}
			if got := a.differs(test.known, test.reached); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if waits := a.held != nil; waits != test.waits {
				t.Errorf("it waits: got %v, want %v", waits, test.waits)
			}
		})
	}
}

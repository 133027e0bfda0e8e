package embedetcd

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func run(t *testing.T, c Config) *Server {
	t.Helper()
	c.Log = zerolog.Nop()
	var s *Server
	timetest.Until(t, "the address is free", func() bool { // whose port somebody else may have got meanwhile
		var err error
		if s, err = Start(c); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	return s
}

func client(t *testing.T, s *Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTheDirectoryIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	s := run(t, Config{Dir: dir})
	defer s.Close()
	for _, d := range []string{dir, filepath.Join(dir, data)} {
		info, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o700 {
			t.Errorf("%s: got mode %o, want 700", filepath.Base(d), got)
		}
	}
}

func TestWhatWasStoredIsThereAfterARestartOnAnotherPort(t *testing.T) {
	dir := t.TempDir()
	s := run(t, Config{Dir: dir})
	first := s.Endpoint()
	put, err := client(t, s).Put(t.Context(), "/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	// Somebody else has the port now.
	other := run(t, Config{Dir: t.TempDir(), Listen: strings.TrimPrefix(first, "http://")})
	defer other.Close()
	s = run(t, Config{Dir: dir})
	defer s.Close()
	if s.Endpoint() == first {
		t.Fatalf("both are at %s", first)
	}
	got, err := client(t, s).Get(t.Context(), "/a")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("got %v, want the value 1 of revision %d", got.Kvs, put.Header.Revision)
	}
	if got.Header.ClusterId != put.Header.ClusterId {
		t.Errorf("got cluster %x, want %x as before", got.Header.ClusterId, put.Header.ClusterId)
	}
	fresh, err := client(t, other).Get(t.Context(), "/a")
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Header.ClusterId == put.Header.ClusterId {
		t.Error("another server's data has the same cluster id")
	}
}

func TestADirectoryHasOneServer(t *testing.T) {
	dir := t.TempDir()
	s := run(t, Config{Dir: dir})
	if _, err := Start(Config{Dir: dir, Log: zerolog.Nop()}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: got %v, want %v", err, ErrInUse)
	}
	s.Close()

	// An etcd that was started by hand knows only its own lock.
	db, err := os.OpenFile(filepath.Join(dir, data, "member", "snap", "db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(db.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Dir: dir, Log: zerolog.Nop()}); !errors.Is(err, ErrInUse) {
		t.Errorf("beside one that was started by hand: got %v, want %v", err, ErrInUse)
	}
	_ = db.Close()
	run(t, Config{Dir: dir}).Close()
}

func TestItToldClientsWhereItIs(t *testing.T) {
	s := run(t, Config{Dir: t.TempDir()})
	defer s.Close()
	members, err := client(t, s).MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := members.Members[0].ClientURLs; len(got) != 1 || got[0] != s.Endpoint() {
		t.Errorf("got %v, want %v", got, s.Endpoint())
	}
	res, err := http.Post(s.Endpoint()+"/v3/kv/range", "application/json", strings.NewReader(`{"key":"AA=="}`))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"revision"`)) {
		t.Errorf("the JSON gateway answers %d %s", res.StatusCode, body)
	}
}

func TestStartRefuses(t *testing.T) {
	taken := run(t, Config{Dir: t.TempDir()})
	defer taken.Close()
	for name, listen := range map[string]string{
		"an address that is not loopback": "0.0.0.0:0",
		"a host name":                     "localhost:0",
		"an address without a port":       "127.0.0.1",
	} {
		if s, err := Start(Config{Dir: t.TempDir(), Listen: listen, Log: zerolog.Nop()}); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
	// By this error a free port that was lost to somebody else is known.
	addr := strings.TrimPrefix(taken.Endpoint(), "http://")
	_, err := Start(Config{Dir: t.TempDir(), Listen: addr, Log: zerolog.Nop()})
	if want := "deployment.etcd.listen: cannot listen on " + addr + ": "; !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("a port that is taken: got %v, want %s%v", err, want, syscall.EADDRINUSE)
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/memstore"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	prefix   = "/apisix"
	patience = timetest.Patience
)

// counted is a store that counts what is asked of it.
type counted struct {
	*memstore.Store
	commits, renewals atomic.Int64
}

func (c *counted) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	c.commits.Add(1)
	return c.Store.Commit(ctx, when, then)
}

func (c *counted) Renew(ctx context.Context, id store.LeaseID) error {
	c.renewals.Add(1)
	return c.Store.Renew(ctx, id)
}

func memory(t *testing.T) *counted {
	t.Helper()
	s := memstore.New()
	t.Cleanup(func() { _ = s.Close() })
	return &counted{Store: s}
}

// gateway is a node of a test: what it has in force is set.
type gateway struct {
	*Presence
	log  *logtest.Log
	mu   sync.Mutex
	now  State
	stop func()
}

func (g *gateway) state() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gateway) apply(revision int64, rejected ...Rejected) {
	g.mu.Lock()
	g.now = State{Applied: revision, Digest: fmt.Sprint("digest of ", revision), Rejections: Reject(rejected)}
	g.mu.Unlock()
	g.Changed()
}

// hold leaves a revision in force of a store that has lost it. Whether the node says so is
// told.
func (g *gateway) hold(revision int64, told bool) {
	g.mu.Lock()
	g.now = State{Applied: revision, Digest: "of another history", Held: told}
	g.mu.Unlock()
	g.Changed()
}

func newGateway(t *testing.T, s Store, id string, change func(*Presence)) *gateway {
	t.Helper()
	g := &gateway{log: &logtest.Log{}}
	g.Presence = NewPresence(PresenceOptions{
		Store: s, Prefix: prefix, Applied: func() int64 { s := g.state(); return s.current() }, State: g.state, Log: zerolog.New(g.log),
	})
	if change != nil {
		change(g.Presence)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Run(ctx, Node{ID: id, Addresses: []string{"127.0.0.1:9080"}, Version: "test"})
	}()
	g.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(g.stop)
	return g
}

func newRegistry(t *testing.T, s Store) *Registry {
	t.Helper()
	r := NewRegistry(s, prefix)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

var eventually = timetest.Until

// nodes are the ids in the registry.
func nodes(t *testing.T, s store.Store) (ids []string) {
	t.Helper()
	items, _, err := s.List(t.Context(), Directory(prefix))
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if n, ok := decode(Directory(prefix), item); ok {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func registered(t *testing.T, s store.Store, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprint("registered are ", want), func() bool { return cmp.Equal(nodes(t, s), want) })
}

// write changes the configuration, to be waited for.
func write(t *testing.T, r *Registry) int64 {
	t.Helper()
	ask, err := r.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.store.Commit(t.Context(), nil, []store.Op{{Key: prefix + "/routes/1", Value: []byte("{}")}, ask})
	if err != nil {
		t.Fatal(err)
	}
	return res.Revision
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestANodeIsRegisteredUntilItEnds(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", nil)
	registered(t, s, "a")
	g.stop()
	if left := nodes(t, s); left != nil {
		t.Errorf("%v stayed behind", left)
	}
}

func TestANodeThatIsKilledIsGoneWithItsLease(t *testing.T) {
	s := memory(t)
	newGateway(t, s, "a", func(p *Presence) {
		p.lease, p.renewal, p.spacing = 50*time.Millisecond, 10*time.Millisecond, time.Millisecond
	})
	direct := s.Direct()
	registered(t, direct, "a")
	s.SetDown(true)
	registered(t, direct)
	s.SetDown(false)
	registered(t, direct, "a")
}

func TestNothingIsWrittenWhileNothingChanges(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", func(p *Presence) { p.lease, p.renewal, p.spacing = time.Hour, time.Millisecond, 0 })
	eventually(t, "renewals", func() bool {
		g.Changed() // a swap that changed nothing
		return s.renewals.Load() > 10
	})
	if n := s.commits.Load(); n != 1 {
		t.Errorf("got %d records with %d renewals, want one", n, s.renewals.Load())
	}
}

func TestARecordIsWrittenSoonerOnlyForThoseWhoWait(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", func(p *Presence) { p.lease, p.spacing = time.Hour, time.Hour })
	r := newRegistry(t, s)
	registered(t, s, "a")
	const changes = 100
	for i := range changes { // or what is applied would be of another history
		if _, err := s.Direct().Commit(t.Context(), nil, []store.Op{{Key: prefix + "/routes/0", Value: fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
	}
	for revision := range int64(changes) {
		g.apply(revision)
	}
	if n := s.commits.Load(); n != 1 {
		t.Errorf("got %d records for changes that nobody waits for, want the first", n)
	}
	at := write(t, r)
	g.apply(at - 1) // not yet what is waited for
	g.apply(at)
	if got := r.Wait(within(t, patience), at); !got.Done() || len(got.Nodes) != 1 || got.Nodes[0].Applied != at {
		t.Errorf("got %+v", got)
	}
	if n := s.commits.Load(); n != 3 {
		t.Errorf("got %d commits, want the first record, the write, and one record for it", n)
	}
	// Once more for what the record says already.
	if got := r.Wait(within(t, patience), at); !got.Done() {
		t.Errorf("got %+v", got)
	}
}

func TestEveryNodeIsWaitedFor(t *testing.T) {
	s := memory(t)
	slow := func(p *Presence) { p.spacing = time.Hour }
	a, b := newGateway(t, s, "a", slow), newGateway(t, s, "b", slow)
	r := newRegistry(t, s)
	registered(t, s, "a", "b")
	at := write(t, r)
	a.apply(at)
	got := r.Wait(within(t, 50*time.Millisecond), at)
	for got.Applied != 1 { // its record may be on its way yet
		got = r.Wait(within(t, 50*time.Millisecond), at)
	}
	if got.Done() || len(got.Nodes) != 2 || !got.Nodes[0].Done || got.Nodes[1].Done {
		t.Errorf("before b has it: got %+v", got)
	}
	b.apply(write(t, r)) // it is further on
	if got := r.Wait(within(t, patience), at); !got.Done() || got.Applied != 2 {
		t.Errorf("got %+v", got)
	}
	b.stop()
	at = write(t, r)
	a.apply(at)
	if got := r.Wait(within(t, patience), at); !got.Done() || got.Applied != 1 {
		t.Errorf("after b ended: got %+v", got)
	}
}

// A revision in force of another history of the store is none of those that are written now,
// however high it is.
func TestWhoHoldsBackWhatTheStoreHasDoesNotHaveIt(t *testing.T) {
	s := memory(t)
	a, b := newGateway(t, s, "a", nil), newGateway(t, s, "b", nil)
	r := newRegistry(t, s)
	registered(t, s, "a", "b")
	a.hold(1000, true)
	b.hold(1000, false) // it has not seen yet that the store was wiped
	at := write(t, r)
	got := r.Wait(within(t, 50*time.Millisecond), at)
	for len(got.Nodes) != 2 || !got.Nodes[0].Held || !got.Nodes[1].Held { // the registry may know nothing yet, and their records may be on their way yet
		got = r.Wait(within(t, 50*time.Millisecond), at)
	}
	if got.Done() || got.Applied != 0 {
		t.Errorf("while it is held back: got %+v", got)
	}
	list, err := r.Nodes(t.Context())
	if err != nil || list.Newest >= 1000 || list.Nodes[0].Lag != list.Newest || !list.Nodes[1].Held {
		t.Errorf("got %+v, %v, want both behind", list, err)
	}
	a.apply(at)
	b.apply(at)
	if got := r.Wait(within(t, patience), at); !got.Done() || got.Applied != 2 {
		t.Errorf("once it is accepted: got %+v", got)
	}
}

func TestANodeThatLeavesIsNotWaitedForAnyLonger(t *testing.T) {
	s := memory(t)
	a := newGateway(t, s, "a", nil)
	r := newRegistry(t, s)
	registered(t, s, "a")
	at := write(t, r)
	done := make(chan Standing, 1)
	go func() { done <- r.Wait(within(t, patience), at) }()
	a.stop()
	if got := <-done; !got.Done() || got.Applied != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestWithoutNodesNobodyWaits(t *testing.T) {
	r := newRegistry(t, memory(t))
	if got := r.Wait(within(t, patience), write(t, r)); !got.Done() || len(got.Nodes) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestARegistryThatHeardNothingSaysSo(t *testing.T) {
	s := memory(t)
	s.SetDown(true)
	r := newRegistry(t, s)
	if got := r.Wait(within(t, time.Millisecond), 5); got.Known || got.Done() {
		t.Errorf("got %+v", got)
	}
}

func TestWhatANodeRefusesIsNotApplied(t *testing.T) {
	s := memory(t)
	a, b := newGateway(t, s, "a", nil), newGateway(t, s, "b", nil)
	r := newRegistry(t, s)
	registered(t, s, "a", "b")
	at := write(t, r)
	refused := Rejected{Key: prefix + "/routes/1", Refused: at, InForce: 1}
	a.apply(at)
	b.apply(at, Rejected{Key: prefix + "/routes/old", Refused: 2}, refused)
	got := r.Wait(within(t, patience), at)
	if got.Done() || got.Applied != 1 || len(got.Nodes) != 2 || !cmp.Equal(got.Nodes[1].Rejected, []Rejected{refused}) {
		t.Errorf("got %+v", got)
	}
}

func TestRefusalsThatAreNotListedAreNotCertain(t *testing.T) {
	var all []Rejected
	for i := range 2 * maxItems {
		all = append(all, Rejected{Key: fmt.Sprint(i), Refused: int64(100 + i)})
	}
	r := Reject(all)
	if len(r.Items) != maxItems || r.Rejected != 2*maxItems || r.Sum == "" {
		t.Fatalf("got %d of %d", len(r.Items), r.Rejected)
	}
	for revision, want := range map[int64][2]bool{
		100 + 2*maxItems - 1: {true, true}, 100: {false, false}, 99: {false, false}, 1000: {false, true},
	} {
		if refused, certain := r.at(revision); (len(refused) > 0) != want[0] || certain != want[1] {
			t.Errorf("%d: got %v, certain %v", revision, refused, certain)
		}
	}
	if none := Reject(nil); none.Sum != "" || none.Rejected != 0 {
		t.Errorf("got %+v for nothing", none)
	}
}

func TestManyWhoWaitCostFewRecords(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", func(p *Presence) { p.spacing = time.Hour })
	r := newRegistry(t, s)
	registered(t, s, "a")
	const writes = 200
	var last int64
	var waiting sync.WaitGroup
	results := make(chan Standing, writes)
	for range writes {
		at := write(t, r)
		last = at
		waiting.Go(func() { results <- r.Wait(within(t, patience), at) })
	}
	before := s.commits.Load()
	g.apply(last)
	waiting.Wait()
	close(results)
	for got := range results {
		if !got.Done() || got.Applied != 1 {
			t.Errorf("got %+v", got)
		}
	}
	if n := s.commits.Load() - before; n > 2 {
		t.Errorf("got %d records, want one for all who wait for what it says", n)
	}
}

func TestWhatWasWrittenBeforeIsAskedForByItself(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", func(p *Presence) { p.spacing = time.Hour })
	r := newRegistry(t, s)
	registered(t, s, "a")
	res, err := s.Commit(t.Context(), nil, []store.Op{{Key: prefix + "/plugins", Value: []byte("[]")}})
	if err != nil {
		t.Fatal(err)
	}
	g.apply(res.Revision)
	ask, err := r.AskFor(t.Context(), res.Revision)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), nil, []store.Op{ask}); err != nil {
		t.Fatal(err)
	}
	if got := r.Wait(within(t, patience), res.Revision); !got.Done() || got.Applied != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestALostLeaseIsMadeAgain(t *testing.T) {
	s := memory(t)
	g := newGateway(t, s, "a", func(p *Presence) { p.spacing = time.Millisecond })
	r := newRegistry(t, s)
	registered(t, s, "a")
	at := write(t, r)
	// As after a store that was restored: none of the leases is known.
	for id := range store.LeaseID(10) {
		_ = s.Revoke(t.Context(), id)
	}
	g.apply(at)
	registered(t, s, "a")
	ask, err := r.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), nil, []store.Op{ask}); !errors.Is(err, store.ErrNoLease) {
		t.Fatalf("got %v", err)
	}
	r.Forget()
	at = write(t, r)
	g.apply(at)
	if got := r.Wait(within(t, patience), at); !got.Done() || got.Applied != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestTwoNodesWithOneIDAreTwoNodes(t *testing.T) {
	s := memory(t)
	quick := func(p *Presence) { p.renewal, p.spacing = 10*time.Millisecond, time.Millisecond }
	a := newGateway(t, s, "a", quick)
	registered(t, s, "a")
	b := newGateway(t, s, "a", quick)
	eventually(t, "both are there", func() bool { return len(nodes(t, s)) == 2 })
	if log := a.log.String() + b.log.String(); !strings.Contains(log, "another node has this node's id") {
		t.Errorf("nobody says so: %s", log)
	}
}

func TestANodeThatCannotRegisterSaysSoOnce(t *testing.T) {
	s := &denied{memory(t)}
	g := newGateway(t, s, "a", func(p *Presence) { p.spacing = time.Millisecond })
	eventually(t, "attempts", func() bool { return s.commits.Load() > 5 })
	if n := strings.Count(g.log.String(), "node is not registered"); n != 1 {
		t.Errorf("got %d lines, want one: %s", n, g.log)
	}
}

type denied struct{ *counted }

func (d *denied) Commit(context.Context, []store.Cond, []store.Op) (store.Result, error) {
	d.commits.Add(1)
	return store.Result{}, errors.New("permission denied")
}

func TestOverview(t *testing.T) {
	node := func(id string, applied int64, digest, sum string) Node {
		return Node{ID: id, State: State{Applied: applied, Digest: digest, Rejections: Rejections{Sum: sum}}}
	}
	type row struct {
		ID                      string
		Lag                     int64
		DigestDiffers, Rejected bool
	}
	tests := map[string]struct {
		live   []Node
		newest int64
		want   []row
	}{
		"nobody":                          {want: []row{}},
		"all have the newest":             {[]Node{node("a", 5, "x", ""), node("b", 5, "x", "")}, 5, []row{{ID: "a"}, {ID: "b"}}},
		"one is behind":                   {[]Node{node("a", 5, "x", ""), node("b", 3, "w", "")}, 0, []row{{ID: "a"}, {ID: "b", Lag: 2}}},
		"one began later":                 {[]Node{node("a", 5, "x", ""), node("b", 9, "x", "")}, 5, []row{{ID: "a"}, {ID: "b"}}},
		"all are behind what was written": {[]Node{node("a", 5, "x", ""), node("b", 5, "x", "")}, 7, []row{{ID: "a", Lag: 2}, {ID: "b", Lag: 2}}},
		"what must never be":              {[]Node{node("a", 5, "x", ""), node("b", 5, "y", "")}, 5, []row{{ID: "a", DigestDiffers: true}, {ID: "b", Lag: 0, DigestDiffers: true}}},
		"one holds back what there is":    {[]Node{node("a", 5, "x", ""), {ID: "b", State: State{Applied: 90, Digest: "old", Held: true}}}, 5, []row{{ID: "a"}, {ID: "b", Lag: 5}}},
		"one did, at an equal revision":   {[]Node{node("a", 5, "x", ""), {ID: "b", State: State{Applied: 5, Digest: "old", Held: true}}}, 5, []row{{ID: "a"}, {ID: "b", Lag: 5}}},
		"another list of rejected items":  {[]Node{node("a", 5, "x", ""), node("b", 5, "x", "r")}, 5, []row{{ID: "a", Rejected: true}, {ID: "b", Rejected: true}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := []row{}
			for _, l := range compare(test.live, test.newest).Nodes {
				got = append(got, row{l.ID, l.Lag, l.DigestDiffers, l.RejectedDiffers})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNodesThatWentAreListedForAWhile(t *testing.T) {
	s := memory(t)
	a, r := newGateway(t, s, "a", nil), newRegistry(t, s)
	newGateway(t, s, "b", nil)
	registered(t, s, "a", "b")
	if got, err := r.Nodes(t.Context()); err != nil || got.Total != 2 || !got.Nodes[0].Live {
		t.Fatalf("got %+v, %v", got, err)
	}
	at := write(t, r)
	r.Wait(within(t, time.Millisecond), at) // until the watch has begun, at the latest by the end of the loop
	eventually(t, "the watch has begun", func() bool { return r.Wait(within(t, time.Millisecond), at).Known })
	a.stop()
	eventually(t, "a is listed as gone", func() bool {
		got, err := r.Nodes(t.Context())
		return err == nil && got.Total == 2 && got.Nodes[0].ID == "a" && !got.Nodes[0].Live && got.Nodes[1].Live
	})
	newGateway(t, s, "a", nil)
	eventually(t, "a is back", func() bool {
		got, err := r.Nodes(t.Context())
		return err == nil && got.Total == 2 && got.Nodes[0].Live && got.Nodes[1].Live
	})
	r.Wrote(at + 10_000) // of a store that was restored since
	if got, _ := r.Nodes(t.Context()); got.Newest > at {
		t.Errorf("got newest %d", got.Newest)
	}
	s.SetDown(true)
	if _, err := r.Nodes(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a store: got %v", err)
	}
}

func TestIDs(t *testing.T) {
	dir := t.TempDir()
	first, release, err := TakeID(dir)
	if err != nil || CheckID(first) != nil {
		t.Fatalf("got %q, %v", first, err)
	}
	second, release2, err := TakeID(dir)
	if err != nil || second == first {
		t.Fatalf("a node that shares the directory got %q, %v", second, err)
	}
	release()
	release2()
	for _, want := range []string{first, second} {
		got, release, err := TakeID(dir)
		if err != nil || got != want {
			t.Errorf("after a restart: got %q, %v, want %q", got, err, want)
		}
		defer release()
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "node.id"), []byte("no id/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := TakeID(bad); err == nil || !strings.Contains(err.Error(), "node.id") {
		t.Errorf("a file that holds no id: got %v", err)
	}
	if _, _, err := TakeID(filepath.Join(bad, "none")); err == nil {
		t.Error("a directory that is not there: got no error")
	}
	for _, id := range []string{"", "wait", "accept", "..", "a/b", "a b", strings.Repeat("a", 65), "ä"} {
		if CheckID(id) == nil {
			t.Errorf("%q passes as an id", id)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add("a", []byte(`{"id":"b","applied":5,"rejected":1,"rejected_items":[{"key":"/apisix/routes/1","refused_revision":4}]}`), int64(4))
	f.Add("a", []byte(`{"rejected":3}`), int64(1))
	f.Add("wait/x", []byte(`{}`), int64(1))
	f.Add("a", []byte(`null`), int64(1))
	f.Fuzz(func(t *testing.T, id string, value []byte, revision int64) {
		n, ok := decode(Directory(prefix), store.Item{Key: Directory(prefix) + id, Value: value})
		if ok && (n.ID != id || CheckID(id) != nil) {
			t.Fatalf("%q was read as %q", id, n.ID)
		}
		if at := asked(&store.Item{Value: value, Revision: revision}); at > revision {
			t.Fatalf("somebody waits for %d before it was written", at)
		}
		if _, certain := n.Rejections.at(revision); !ok && !certain {
			t.Fatal("nothing refuses something")
		}
	})
}

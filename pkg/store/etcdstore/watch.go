package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosix/gosix/pkg/store"
)

const (
	heartbeat   = time.Second             // between two requests for a sign of life
	silence     = 2500 * time.Millisecond // after which an endpoint counts as dead; with what comes then it is left within 3 s
	firstPause  = 100 * time.Millisecond
	longestWait = 5 * time.Second
	// longestSilent is the same where nobody answered: to ask again costs an etcd nothing
	// while it is away, and one that is back must not wait for its nodes.
	longestSilent = 500 * time.Millisecond
	logEvery      = time.Minute
)

// Watch implements store.Source: one watch for the whole prefix, on one endpoint at a
// time. The revision to go on from moves only by what this watch itself delivered: a
// revision learnt anywhere else may be ahead of events that have not come yet.
func (s *Store) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	out := make(chan store.Batch)
	w := &watch{s: s, prefix: prefix, out: out, pageSize: pageSize, cause: store.Start, audit: newAudit(s.auditEvery)}
	go func() {
		defer close(out)
		w.run(ctx)
	}()
	return out
}

// watch is the state that outlives connections.
type watch struct {
	s        *Store
	prefix   string
	out      chan<- store.Batch
	last     int64 // revision up to which everything was delivered
	cluster  uint64
	known    map[string]int64 // the keys that were delivered, and their revisions
	put      store.Item       // the last one that was put, with its value
	pageSize int64
	cause    store.Cause // why the content must be read anew; NoCause: go on after last
	audit    *audit
	logged   time.Time
}

func (w *watch) run(ctx context.Context) {
	defer w.audit.timer.Stop()
	endpoints := w.s.c.Endpoints
	pause, failures := firstPause, 0
	// Nodes that are configured alike do not all watch the same endpoint.
	for n := rand.IntN(len(endpoints)); ; n++ {
		endpoint := endpoints[n%len(endpoints)]
		lived, err := w.connect(ctx, endpoint)
		if ctx.Err() != nil {
			return
		}
		w.away(endpoint, err)
		if lived {
			pause, failures = firstPause, 0
		}
		// No wait before each endpoint was asked once.
		if failures++; failures%len(endpoints) != 0 {
			continue
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return
		}
		longest := longestWait
		if silent(err) {
			longest = longestSilent
		}
		pause = min(2*pause, longest)
	}
}

// away notes that there is no connection: one line for the change, then one a minute.
func (w *watch) away(endpoint string, err error) {
	w.s.mu.Lock()
	changed := w.s.state.Connected
	if changed {
		w.s.state.Connected, w.s.state.Since = false, time.Now()
	}
	since := w.s.state.Since
	w.s.mu.Unlock()
	if changed || time.Since(w.logged) > logEvery {
		w.logged = time.Now()
		w.s.c.Log.Warn().Err(err).Str("endpoint", endpoint).Time("since", since).Int64("revision", w.last).
			Msg("configuration store is away, what is in force stays in force")
	}
}

// here notes that the watch on an endpoint works, and the revision that the store has.
func (w *watch) here(endpoint string, observed int64, cluster uint64) {
	w.s.mu.Lock()
	st := &w.s.state
	changed := !st.Connected
	if changed {
		st.Connected, st.Since = true, time.Now()
	}
	st.Endpoint, st.Observed, st.ClusterID = endpoint, observed, cluster
	w.s.mu.Unlock()
	if changed {
		w.logged = time.Time{}
		w.s.c.Log.Info().Str("endpoint", endpoint).Int64("revision", observed).Msg("configuration store is connected")
	}
}

var (
	errSilent  = errors.New("no sign of life for 2.5 s")
	errEnded   = errors.New("the watch ended")
	errDrifted = errors.New("the store holds something else than was delivered")
	errChanged = errors.New("the store is not the one that it was")
)

// connect reads the content if it must, and watches until something is wrong. lived says
// whether the watch worked for a while: what only looks alive, such as a proxy that passes
// calls and refuses watches, is no reason to try again at once. A client of its own for
// every connection: one that hangs takes nothing else with it.
func (w *watch) connect(ctx context.Context, endpoint string) (lived bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := w.s.dial(ctx, endpoint, append([]grpc.DialOption{oneStream()}, w.s.watchOptions...)...)
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	if w.cause == store.NoCause {
		// Is this the same store, no older than what was delivered, and with the same
		// history? A watch on a revision that is yet to come would be accepted, and silent.
		if err := w.compare(ctx, client); err != nil {
			return false, err
		}
	}
	if w.cause != store.NoCause {
		if err := w.reset(ctx, client); err != nil {
			return false, err
		}
	}
	return w.follow(ctx, client, endpoint)
}

// oneStream lets a client open one watch stream. A second one it would open by itself when
// the first breaks, from a revision that it takes from progress notifications too; old etcds
// send those ahead of the events, which then never come.
func oneStream() grpc.DialOption {
	var opened atomic.Bool
	return grpc.WithChainStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if opened.Swap(true) {
				// A code that the client takes for final.
				return nil, status.Error(codes.Aborted, "the watch stream broke")
			}
			return streamer(ctx, desc, cc, method, opts...)
		})
}

// compare reads the store's revision and cluster, up to date with the majority's, before
// going on from last.
func (w *watch) compare(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), silence)
	defer cancel()
	res, err := client.Get(ctx, newList(w.prefix, 1).from, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if !w.judge(res.Header.Revision, res.Header.ClusterId) {
		return nil
	}
	same, err := w.continues(ctx, client)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		w.cause = store.Compacted
	case err != nil:
		return err
	case !same:
		w.cause = store.WentBack
	}
	return nil
}

// continues tells whether the store held at last what was delivered up to there: as many
// keys, and the newest with its value. A store that was wiped, and restored from a backup
// with a higher revision, has its cluster's id and enough history, but another one.
func (w *watch) continues(ctx context.Context, client *clientv3.Client) (bool, error) {
	l := newList(w.prefix, 1)
	at := clientv3.WithRev(w.last)
	gets := []clientv3.Op{clientv3.OpGet(l.from, clientv3.WithRange(l.end), clientv3.WithCountOnly(), at)}
	newest := ""
	for key, revision := range w.known {
		if newest == "" || revision > w.known[newest] {
			newest = key
		}
	}
	if newest != "" {
		gets = append(gets, clientv3.OpGet(newest, at))
	}
	res, err := client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return false, err
	}
	if res.Responses[0].GetResponseRange().Count != int64(len(w.known)) {
		return false, nil
	}
	if newest == "" {
		return true, nil
	}
	kvs := res.Responses[1].GetResponseRange().Kvs
	if len(kvs) != 1 || kvs[0].ModRevision != w.known[newest] {
		return false, nil
	}
	return w.put.Key != newest || w.put.Revision != kvs[0].ModRevision || bytes.Equal(w.put.Value, kvs[0].Value), nil
}

// judge compares a header with what is known and notes why the content must be read anew.
func (w *watch) judge(revision int64, cluster uint64) (same bool) {
	switch {
	case cluster != 0 && w.cluster != 0 && cluster != w.cluster:
		w.cause = store.OtherCluster
	case revision < w.last:
		w.cause = store.WentBack
	}
	return w.cause == store.NoCause
}

// reset delivers the complete content.
func (w *watch) reset(ctx context.Context, client *clientv3.Client) error {
	l, err := w.list(ctx, client, false)
	if err == nil && len(l.items) == 0 && len(w.known) > 0 {
		// From something to nothing at once: believed when it is said twice.
		l, err = w.list(ctx, client, false)
	}
	if err != nil {
		return err
	}
	b := store.Batch{Reset: true, Cause: w.cause, Revision: l.revision, ClusterID: l.cluster, Events: make([]store.Event, len(l.items))}
	known, put := make(map[string]int64, len(l.items)), store.Item{}
	for i, it := range l.items {
		b.Events[i] = store.Event{Item: it}
		known[it.Key] = it.Revision
		if it.Revision >= put.Revision {
			put = it
		}
	}
	w.arrived(l.revision)
	if err := w.deliver(ctx, b); err != nil {
		return err
	}
	if w.cause != store.Start {
		w.s.c.Log.Info().Stringer("cause", w.cause).Int64("revision", l.revision).Int("items", len(l.items)).
			Msg("configuration was read anew")
	}
	w.cluster, w.known, w.put, w.cause = l.cluster, known, put, store.NoCause
	w.delivered(l.revision)
	return nil
}

// arrived notes that there is something to deliver.
func (w *watch) arrived(revision int64) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.state.Arrived = revision
}

func (w *watch) delivered(revision int64) {
	w.last = revision
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.state.Revision = revision
}

// list reads everything, each page within the time after which an endpoint counts as dead.
// A page that is too much for that is asked for in smaller pieces the next time.
func (w *watch) list(ctx context.Context, client *clientv3.Client, keysOnly bool) (*listing, error) {
	l := newList(w.prefix, w.pageSize)
	l.keysOnly, l.steady = keysOnly, w.pageSize < pageSize
	for !l.done {
		page, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), silence)
		err := l.page(page, client)
		cancel()
		if err != nil {
			if page.Err() != nil && !keysOnly {
				w.pageSize = max(min(l.limit, pageSize)/4, 1)
			}
			return nil, err
		}
	}
	if !keysOnly {
		w.pageSize = pageSize
	}
	return l, nil
}

func (w *watch) deliver(ctx context.Context, b store.Batch) error {
	select {
	case w.out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow delivers changes after last.
func (w *watch) follow(ctx context.Context, client *clientv3.Client, endpoint string) (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	begin := time.Now()
	heard := begin
	// Silence must end every wait, those inside the client too: for the watch to exist,
	// and for a heartbeat to be taken.
	dead := time.AfterFunc(silence, func() { cancel(errSilent) })
	a := w.audit
	defer func() {
		dead.Stop()
		cancel(nil)
		a.interrupt()
		lived = heard.Sub(begin) > silence
	}()
	// From last, not from last+1: etcd reports no progress to a watch that begins in the
	// future, which on a quiet store would look like silence. What comes again is dropped.
	events := client.Watch(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(max(w.last, 1)),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment())
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-tick.C:
			// With another context than the watch's this asks nobody (and returns nil).
			if err := client.RequestProgress(ctx); err != nil {
				return false, ended(ctx, err)
			}
		case <-a.due():
			a.begin(func() (*listing, error) { return w.list(ctx, client, true) })
		case l := <-a.read:
			a.got(l)
		case res, open := <-events:
			if !open {
				return false, ended(ctx, errEnded)
			}
			heard = time.Now()
			if res.CompactRevision != 0 {
				w.cause = store.Compacted
				return false, res.Err()
			}
			if err := res.Err(); err != nil {
				return false, ended(ctx, err)
			}
			if !w.judge(res.Header.Revision, res.Header.ClusterId) {
				return false, errChanged
			}
			w.here(endpoint, res.Header.Revision, res.Header.ClusterId)
			b := w.batch(res)
			if len(b.Events) > 0 {
				w.arrived(b.Revision)
				// Somebody who reads slowly must not look like a dead store.
				dead.Stop()
				if err := w.deliver(ctx, b); err != nil {
					return false, err
				}
				w.note(b, a)
			}
			dead.Reset(silence)
			// A notification of progress says that everything up to its revision has come.
			reached := w.last
			if res.IsProgressNotify() {
				reached = res.Header.Revision
			}
			if a.differs(w.known, reached) {
				w.cause = store.AntiEntropy
				return false, errDrifted
			}
		}
	}
}

// ended prefers the reason why a context ended to what its end looks like.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// batch turns an answer of etcd into a batch, without what was delivered before.
func (w *watch) batch(res clientv3.WatchResponse) store.Batch {
	b := store.Batch{ClusterID: res.Header.ClusterId, Revision: w.last, Events: make([]store.Event, 0, len(res.Events))}
	for _, e := range res.Events {
		if e.Kv.ModRevision <= w.last {
			continue
		}
		it := store.Item{Key: string(e.Kv.Key), Revision: e.Kv.ModRevision}
		if e.Type == clientv3.EventTypePut {
			it = item(e.Kv)
		}
		b.Events = append(b.Events, store.Event{Item: it, Delete: e.Type == clientv3.EventTypeDelete})
		b.Revision = max(b.Revision, e.Kv.ModRevision)
	}
	return b
}

// note moves what is known by a batch that was delivered.
func (w *watch) note(b store.Batch, a *audit) {
	for _, e := range b.Events {
		if e.Delete {
			delete(w.known, e.Item.Key)
		} else {
			w.known[e.Item.Key] = e.Item.Revision
			w.put = e.Item
		}
		a.touch(e.Item.Key)
	}
	w.delivered(b.Revision)
}

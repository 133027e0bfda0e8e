package etcdstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gosix/gosix/pkg/store"
)

const (
	heartbeat   = time.Second     // between two requests for a sign of life
	silence     = 3 * time.Second // after which a watch counts as dead
	firstPause  = 100 * time.Millisecond
	longestWait = 5 * time.Second
	logEvery    = time.Minute
)

// Watch implements store.Source: one watch for the whole prefix, on one endpoint at a
// time. The revision to go on from moves only by what this watch itself delivered: a
// revision learnt anywhere else may be ahead of events that have not come yet.
func (s *Store) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	out := make(chan store.Batch)
	w := &watch{s: s, prefix: prefix, out: out}
	go func() {
		defer close(out)
		w.run(ctx)
	}()
	return out
}

// watch is the state that outlives connections.
type watch struct {
	s       *Store
	prefix  string
	out     chan<- store.Batch
	last    int64 // revision up to which everything was delivered
	cluster uint64
	filled  bool        // a Reset was delivered
	full    bool        // and it was not empty
	cause   store.Cause // why the next list is a Reset; NoCause: go on at last+1
	logged  time.Time
}

func (w *watch) run(ctx context.Context) {
	w.cause = store.Start
	pause := firstPause
	for n := rand.IntN(len(w.s.c.Endpoints)); ctx.Err() == nil; n++ {
		endpoint := w.s.c.Endpoints[n%len(w.s.c.Endpoints)]
		lived, err := w.connect(ctx, endpoint)
		if ctx.Err() != nil {
			return
		}
		w.away(endpoint, err)
		if lived {
			pause = firstPause
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return
		}
		// Every endpoint is asked once before waiting grows.
		if n%len(w.s.c.Endpoints) == len(w.s.c.Endpoints)-1 {
			pause = min(2*pause, longestWait)
		}
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
			Msg("configuration store is away, the last configuration stays in force")
	}
}

func (w *watch) here(endpoint string, revision int64, cluster uint64) {
	w.s.mu.Lock()
	changed := !w.s.state.Connected
	if changed {
		w.s.state.Connected, w.s.state.Since = true, time.Now()
	}
	w.s.state.Endpoint, w.s.state.ClusterID = endpoint, cluster
	w.s.state.Observed = revision
	w.s.mu.Unlock()
	if changed {
		w.logged = time.Time{}
		w.s.c.Log.Info().Str("endpoint", endpoint).Int64("revision", revision).Msg("configuration store is connected")
	}
}

var (
	errSilent = errors.New("no sign of life for 3 s")
	errEnded  = errors.New("watch ended")
)

// connect lists if it must, and watches until something is wrong. lived says whether the
// endpoint answered at all. A client of its own for every connection: a hung one takes
// nothing else with it.
func (w *watch) connect(ctx context.Context, endpoint string) (lived bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := w.s.dial(ctx, []string{endpoint})
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	if w.cause == store.NoCause {
		// Is this the same store, and no older than what we have seen?
		if err := w.compare(ctx, client); err != nil {
			return false, err
		}
	}
	if w.cause != store.NoCause {
		if err := w.reset(ctx, client, endpoint); err != nil {
			return false, err
		}
	}
	return true, w.follow(ctx, client, endpoint)
}

// compare reads the store's revision and cluster before going on from last.
func (w *watch) compare(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	res, err := client.Get(ctx, w.prefix, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	w.judge(res.Header.Revision, res.Header.ClusterId)
	return nil
}

// judge compares a header with what is known and notes why the content must be read anew.
func (w *watch) judge(revision int64, cluster uint64) bool {
	switch {
	case cluster != 0 && w.cluster != 0 && cluster != w.cluster:
		w.cause = store.OtherCluster
	case revision < w.last:
		w.cause = store.WentBack
	}
	return w.cause == store.NoCause
}

// reset delivers the complete content.
func (w *watch) reset(ctx context.Context, client *clientv3.Client, endpoint string) error {
	items, revision, cluster, err := w.list(ctx, client)
	if err != nil {
		return err
	}
	if len(items) == 0 && w.full {
		// From something to nothing at once: believed when it is said twice.
		if items, revision, cluster, err = w.list(ctx, client); err != nil {
			return err
		}
	}
	b := store.Batch{Reset: true, Cause: w.cause, Revision: revision, ClusterID: cluster, Events: make([]store.Event, len(items))}
	for i, it := range items {
		b.Events[i] = store.Event{Item: it}
	}
	w.here(endpoint, revision, cluster)
	if err := w.deliver(ctx, b); err != nil {
		return err
	}
	w.last, w.cluster, w.filled, w.full, w.cause = revision, cluster, true, len(items) > 0, store.NoCause
	return nil
}

func (w *watch) list(ctx context.Context, client *clientv3.Client) ([]store.Item, int64, uint64, error) {
	// A first byte must come soon; a long list may take longer than that.
	probe, cancel := context.WithTimeout(ctx, silence)
	_, err := client.Get(probe, w.prefix, clientv3.WithCountOnly())
	cancel()
	if err != nil {
		return nil, 0, 0, err
	}
	ctx, cancel = context.WithTimeout(ctx, 10*silence)
	defer cancel()
	return list(ctx, client, w.prefix)
}

func (w *watch) deliver(ctx context.Context, b store.Batch) error {
	select {
	case w.out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow delivers changes from last+1 on. Somebody who reads slowly must not look like a
// dead store, so that silence is measured from the last look, not from the last event.
func (w *watch) follow(ctx context.Context, client *clientv3.Client, endpoint string) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// Watch itself waits until the watch exists, for ever if the endpoint hangs just then.
	guard := time.AfterFunc(silence, cancel)
	// From last, not from last+1: etcd reports no progress to a watch that begins in the
	// future, which on a quiet store would look like silence.
	events := client.Watch(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(max(w.last, 1)),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment())
	if !guard.Stop() {
		return errSilent
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if time.Since(heard) > silence {
				return errSilent
			}
			// With another context than the watch's this asks nobody (and returns nil).
			if err := client.RequestProgress(ctx); err != nil {
				return err
			}
		case res, open := <-events:
			if !open {
				return errEnded
			}
			heard = time.Now()
			if res.CompactRevision != 0 {
				w.cause = store.Compacted
				return res.Err()
			}
			if err := res.Err(); err != nil {
				return err
			}
			if !w.judge(res.Header.Revision, res.Header.ClusterId) {
				return errors.New("the store is not the one it was: " + w.cause.String())
			}
			w.here(endpoint, res.Header.Revision, res.Header.ClusterId)
			if b := w.batch(res); len(b.Events) > 0 {
				if err := w.deliver(ctx, b); err != nil {
					return err
				}
				heard = time.Now()
			}
		}
	}
}

// batch turns an answer of etcd into a batch, without what was delivered before, and moves
// last by what it holds.
func (w *watch) batch(res clientv3.WatchResponse) store.Batch {
	b := store.Batch{ClusterID: res.Header.ClusterId, Events: make([]store.Event, 0, len(res.Events))}
	last := w.last
	for _, e := range res.Events {
		if e.Kv.ModRevision <= last {
			continue
		}
		it := store.Item{Key: string(e.Kv.Key), Revision: e.Kv.ModRevision}
		if e.Type == clientv3.EventTypePut {
			it.Value, it.CreateRevision = e.Kv.Value, e.Kv.CreateRevision
			w.full = true
		}
		b.Events = append(b.Events, store.Event{Item: it, Delete: e.Type == clientv3.EventTypeDelete})
		w.last = max(w.last, e.Kv.ModRevision)
	}
	b.Revision = w.last
	return b
}

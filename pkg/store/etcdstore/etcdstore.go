// Package etcdstore is the configuration store on etcd v3: reads, transactions, and one
// watch that survives whatever etcd does. It does not know what the values mean.
package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/gosix/gosix/pkg/store"
)

// Config says where etcd is.
type Config struct {
	Endpoints          []string // "http://127.0.0.1:2379"; one that answers is enough
	Username, Password string
	TLS                *tls.Config   // for https endpoints; nil: the system's roots
	DialTimeout        time.Duration // of a connection, its login included; 0: Timeout; 3 s at most
	Timeout            time.Duration // of a call, over all endpoints; 0: 2 s
	Log                zerolog.Logger
}

// Store is a client of an etcd cluster. It is safe for concurrent use.
type Store struct {
	c            Config
	members      []*member         // of calls; watches have clients of their own
	preferred    atomic.Int32      // the member that answered last
	watchOptions []grpc.DialOption // of the clients of watches, beside those that all have
	auditEvery   time.Duration     // between two comparisons at least; at most twice that

	mu    sync.Mutex
	state store.State
}

const (
	defaultTimeout    = 2 * time.Second
	defaultAuditEvery = 5 * time.Minute
)

// A list is read in pages. Each is bigger than the one before while they come quickly: for
// every page etcd counts all that is left, so that many small ones cost it the square of what
// it holds.
const (
	pageSize  = 1000 // of the first
	mostItems = 16 * pageSize
	mostBytes = 4 << 20 // about: by the mean of the page before
	quick     = 100 * time.Millisecond
)

// New returns a store. It does not wait for etcd: an error is a mistake in c.
func New(c Config) (*Store, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("etcd: no endpoints")
	}
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("etcd: %q is no address such as http://127.0.0.1:2379", e)
		}
	}
	if (c.Username == "") != (c.Password == "") {
		return nil, errors.New("etcd: user name and password go together")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = c.Timeout
	}
	c.DialTimeout = min(c.DialTimeout, silence)
	s := &Store{c: c, auditEvery: defaultAuditEvery, state: store.State{Since: time.Now(), Endpoint: c.Endpoints[0]}}
	for _, e := range c.Endpoints {
		s.members = append(s.members, newMember(func(ctx context.Context) (*clientv3.Client, error) { return s.dial(ctx, e) }))
	}
	// Nodes that are configured alike do not all ask the same endpoint.
	s.preferred.Store(rand.Int32N(int32(len(s.members))))
	return s, nil
}

// Close ends the connections of calls; calls after it fail. Watches end with their
// contexts.
func (s *Store) Close() error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// State tells how the watch stands; of several, the one that changed last.
func (s *Store) State() store.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Item, int64, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	var res *clientv3.GetResponse
	_, err := s.read(ctx, key, func(ctx context.Context, client *clientv3.Client) (err error) {
		res, err = client.Get(ctx, key)
		return err
	})
	if err != nil {
		return store.Item{}, 0, err
	}
	if len(res.Kvs) == 0 {
		return store.Item{}, res.Header.Revision, store.ErrNotFound
	}
	return item(res.Kvs[0]), res.Header.Revision, nil
}

// limit gives a call its time. A tenth stays for whoever called to say so: Timeout is
// when an answer has to be there.
func (s *Store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.c.Timeout-s.c.Timeout/10)
}

// read calls f with a client until it gets an answer. An attempt has half of the time, so
// that an endpoint which stopped a moment ago leaves some for another.
func (s *Store) read(ctx context.Context, key string, f func(ctx context.Context, client *clientv3.Client) error) (*clientv3.Client, error) {
	for {
		m, client, err := s.reach(ctx, key)
		if err != nil {
			return nil, err
		}
		attempt, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), s.c.Timeout/2)
		err = f(attempt, client)
		cancel()
		if err == nil {
			m.answered()
			return client, nil
		}
		if !silent(err) {
			return nil, s.failed(ctx, err)
		}
		m.suspect()
		if ctx.Err() != nil {
			return nil, s.failed(ctx, err)
		}
	}
}

// List implements store.Store. Pages are read at the revision of the first, which has the
// time of a call; each further one has so, too: a long list is not a store that is away.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	l := newList(prefix, pageSize)
	first, cancel := s.limit(ctx)
	defer cancel()
	client, err := s.read(first, l.from, l.page)
	if err != nil {
		return nil, 0, err
	}
	for !l.done {
		page, cancel := s.limit(ctx)
		err := l.page(page, client)
		if err != nil {
			err = s.failed(page, err)
		}
		cancel()
		if err != nil {
			return nil, 0, err
		}
	}
	return l.items, l.revision, nil
}

// listing is a list that is read page by page, all at one revision.
type listing struct {
	from, end string
	limit     int64 // of the next page
	steady    bool  // the limit stays
	keysOnly  bool

	items    []store.Item
	revision int64 // 0: nothing read yet
	cluster  uint64
	done     bool
}

func newList(prefix string, limit int64) *listing {
	if prefix == "" {
		return &listing{from: "\x00", end: "\x00", limit: limit} // etcd's way to say: everything
	}
	return &listing{from: prefix, end: clientv3.GetPrefixRangeEnd(prefix), limit: limit}
}

func (l *listing) page(ctx context.Context, client *clientv3.Client) error {
	opts := []clientv3.OpOption{
		clientv3.WithRange(l.end), clientv3.WithLimit(l.limit), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend),
		clientv3.WithRev(l.revision), // 0 is the newest
	}
	if l.keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	begin := time.Now()
	res, err := client.Get(ctx, l.from, opts...)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if l.revision == 0 {
		l.revision, l.cluster = res.Header.Revision, res.Header.ClusterId
		l.items = make([]store.Item, 0, res.Count)
	}
	bytes := 0
	for _, kv := range res.Kvs {
		l.items = append(l.items, item(kv))
		bytes += len(kv.Key) + len(kv.Value)
	}
	l.resize(took, len(res.Kvs), bytes)
	l.done = !res.More || len(res.Kvs) == 0
	if !l.done {
		l.from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
	return nil
}

// resize sets the limit of the next page by what this one was.
func (l *listing) resize(took time.Duration, items, bytes int) {
	if l.steady || took > quick || items == 0 {
		return
	}
	l.limit = max(min(4*l.limit, mostItems, mostBytes/int64(bytes/items+1)), 1)
}

func item(kv *mvccpb.KeyValue) store.Item {
	return store.Item{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, Revision: kv.ModRevision}
}

// Commit implements store.Store. etcd takes 128 conditions and 128 operations at most.
func (s *Store) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	ifs := make([]clientv3.Cmp, len(when))
	elses := make([]clientv3.Op, len(when))
	for i, c := range when {
		if c.Prefix {
			ifs[i] = clientv3.Compare(clientv3.ModRevision(c.Key).WithPrefix(), "<", c.Revision+1)
			elses[i] = clientv3.OpGet(c.Key, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMinModRev(c.Revision+1), clientv3.WithLimit(1))
			continue
		}
		ifs[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision)
		elses[i] = clientv3.OpGet(c.Key, clientv3.WithKeysOnly())
	}
	for {
		m, client, err := s.reach(ctx, about(when, then))
		if err != nil {
			return store.Result{}, err
		}
		thens, leases, err := ops(ctx, client, then)
		if err != nil {
			m.suspect()
			s.revoke(client, leases)
			return store.Result{}, s.failed(ctx, err)
		}
		res, err := client.Txn(clientv3.WithRequireLeader(ctx)).If(ifs...).Then(thens...).Else(elses...).Commit()
		switch {
		case errors.Is(err, rpctypes.ErrNoLeader):
			// Refused before it was looked at; another member may see a leader. The
			// leases are of no key and end by themselves.
			m.suspect()
			continue
		case err != nil && silent(err):
			// It was handed over. Whether it is carried out, or was, nobody says; once
			// more would be once too often if it was.
			m.suspect()
			return store.Result{}, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, s.failed(ctx, err))
		case err != nil:
			s.revoke(client, leases)
			return store.Result{}, s.failed(ctx, err)
		}
		m.answered()
		if !res.Succeeded {
			s.revoke(client, leases)
			return store.Result{}, conflict(when, res)
		}
		return result(res, len(then)), nil
	}
}

// about is a key that a commit has to do with.
func about(when []store.Cond, then []store.Op) string {
	for _, op := range then {
		if op.Key != "" {
			return op.Key
		}
	}
	for _, c := range when {
		return c.Key
	}
	return "\x00"
}

// ops translates, and makes the leases that are needed.
func ops(ctx context.Context, client *clientv3.Client, then []store.Op) (thens []clientv3.Op, leases []clientv3.LeaseID, err error) {
	thens = make([]clientv3.Op, len(then))
	for i, op := range then {
		switch {
		case op.Delete && op.Prefix:
			thens[i] = clientv3.OpDelete(op.Key, clientv3.WithPrefix(), clientv3.WithPrevKV())
		case op.Delete:
			thens[i] = clientv3.OpDelete(op.Key, clientv3.WithPrevKV())
		case op.Lease != 0:
			thens[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithPrevKV(), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		case op.TTL > 0:
			lease, err := client.Grant(ctx, int64(math.Ceil(op.TTL.Seconds())))
			if err != nil {
				return nil, leases, err
			}
			leases = append(leases, lease.ID)
			thens[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithPrevKV(), clientv3.WithLease(lease.ID))
		default:
			thens[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithPrevKV())
		}
	}
	return thens, leases, nil
}

func result(res *clientv3.TxnResponse, n int) store.Result {
	out := store.Result{Revision: res.Header.Revision, Prev: make([][]store.Item, n)}
	for i, r := range res.Responses {
		if put := r.GetResponsePut(); put != nil && put.PrevKv != nil {
			out.Prev[i] = []store.Item{item(put.PrevKv)}
		}
		for _, kv := range r.GetResponseDeleteRange().GetPrevKvs() {
			out.Prev[i] = append(out.Prev[i], item(kv))
		}
	}
	return out
}

// conflict finds the condition that did not hold.
func conflict(when []store.Cond, res *clientv3.TxnResponse) error {
	for i, r := range res.Responses {
		var now int64
		if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
			now = kvs[0].ModRevision
		}
		if when[i].Prefix && now != 0 || !when[i].Prefix && now != when[i].Revision {
			return &store.ConflictError{Cond: when[i]}
		}
	}
	return store.ErrConflict
}

// revoke takes back leases of a change that did not happen. A lease that stays is of no
// key and ends by itself, so that an error here is none, and not worth waiting for: it must
// not add to the time of a call.
func (s *Store) revoke(client *clientv3.Client, leases []clientv3.LeaseID) {
	if len(leases) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Timeout/10)
	defer cancel()
	for _, id := range leases {
		if _, err := client.Revoke(ctx, id); err != nil {
			return
		}
	}
}

// Grant implements store.Leases.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	var lease store.LeaseID
	// An answer that is lost leaves a lease of no key, which ends by itself.
	_, err := s.read(ctx, "\x00", func(ctx context.Context, client *clientv3.Client) error {
		res, err := client.Grant(ctx, int64(math.Ceil(ttl.Seconds())))
		if err == nil {
			lease = store.LeaseID(res.ID)
		}
		return err
	})
	return lease, err
}

// Renew implements store.Leases. It is the leader of the cluster who answers, and nothing is
// written for it.
func (s *Store) Renew(ctx context.Context, lease store.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_, err := s.read(ctx, "\x00", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
		return err
	})
	return err
}

// Revoke implements store.Leases.
func (s *Store) Revoke(ctx context.Context, lease store.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_, err := s.read(ctx, "\x00", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Revoke(ctx, clientv3.LeaseID(lease))
		return err
	})
	if errors.Is(err, store.ErrNoLease) {
		return nil
	}
	return err
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Leases = (*Store)(nil)
)

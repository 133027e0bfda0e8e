// Package etcdstore is the configuration store on etcd v3: reads, transactions, and one
// watch that survives whatever etcd does. It does not know what the values mean.
package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosix/gosix/pkg/store"
)

// Config says where etcd is.
type Config struct {
	Endpoints          []string // "http://127.0.0.1:2379"
	Username, Password string
	TLS                *tls.Config   // nil: as the endpoints say, with the system's roots
	Timeout            time.Duration // of a call, over all endpoints; 0: 2 s
	Log                zerolog.Logger
}

// Store is a client of an etcd cluster. It is safe for concurrent use.
type Store struct {
	c      Config
	client *clientv3.Client // of calls; watches have their own

	mu    sync.Mutex
	state store.State
}

const (
	defaultTimeout = 2 * time.Second
	pageSize       = 1000
	// maxMessage bounds an answer; a page of the largest values fits.
	maxMessage = 256 << 20
)

// New returns a store. It does not wait for etcd: an error is a mistake in c.
func New(c Config) (*Store, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("etcd: no endpoints")
	}
	for _, e := range c.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Host == "" {
			return nil, fmt.Errorf("etcd: %q is no address", e)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	s := &Store{c: c, state: store.State{Since: time.Now(), Endpoint: c.Endpoints[0]}}
	client, err := s.dial(context.Background(), c.Endpoints)
	if err != nil {
		return nil, err
	}
	s.client = client
	return s, nil
}

func (s *Store) dial(ctx context.Context, endpoints []string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: endpoints, TLS: s.tlsFor(endpoints), Username: s.c.Username, Password: s.c.Password,
		// Lower keepalives are raised to 10 s by gRPC; the watch's own heartbeat is what finds a dead peer.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxCallSendMsgSize: maxMessage, MaxCallRecvMsgSize: maxMessage,
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return client, nil
}

func (s *Store) tlsFor(endpoints []string) *tls.Config {
	for _, e := range endpoints {
		if strings.HasPrefix(e, "https://") {
			if s.c.TLS != nil {
				return s.c.TLS
			}
			return &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return nil
}

// Close ends the store's connections. Watches end with their contexts.
func (s *Store) Close() error { return s.client.Close() }

// State tells how the watch stands.
func (s *Store) State() store.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Item, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	res, err := s.client.Get(ctx, key)
	if err != nil {
		return store.Item{}, 0, s.failed(err, false)
	}
	if len(res.Kvs) == 0 {
		return store.Item{}, res.Header.Revision, store.ErrNotFound
	}
	kv := res.Kvs[0]
	return store.Item{Key: key, Value: kv.Value, CreateRevision: kv.CreateRevision, Revision: kv.ModRevision}, res.Header.Revision, nil
}

// List implements store.Store. Pages are read at the revision of the first.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	items, revision, _, err := list(ctx, s.client, prefix)
	if err != nil {
		return nil, 0, s.failed(err, false)
	}
	return items, revision, nil
}

func list(ctx context.Context, client *clientv3.Client, prefix string) (items []store.Item, revision int64, cluster uint64, err error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		opts := []clientv3.OpOption{
			clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend),
		}
		if revision > 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		res, err := client.Get(ctx, from, opts...)
		if err != nil {
			return nil, 0, 0, err
		}
		if revision == 0 {
			revision, cluster = res.Header.Revision, res.Header.ClusterId
		}
		for _, kv := range res.Kvs {
			items = append(items, store.Item{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, Revision: kv.ModRevision})
		}
		if !res.More || len(res.Kvs) == 0 {
			return items, revision, cluster, nil
		}
		from = string(res.Kvs[len(res.Kvs)-1].Key) + "\x00"
	}
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, when []store.Cond, then []store.Op) (store.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	ifs := make([]clientv3.Cmp, len(when))
	elses := make([]clientv3.Op, len(when))
	for i, c := range when {
		ifs[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision)
		elses[i] = clientv3.OpGet(c.Key, clientv3.WithKeysOnly())
	}
	thens := make([]clientv3.Op, len(then))
	var leases []clientv3.LeaseID
	for i, op := range then {
		switch {
		case op.Delete && op.Prefix:
			thens[i] = clientv3.OpDelete(op.Key, clientv3.WithPrefix(), clientv3.WithPrevKV())
		case op.Delete:
			thens[i] = clientv3.OpDelete(op.Key, clientv3.WithPrevKV())
		case op.TTL > 0:
			lease, err := s.client.Grant(ctx, int64(math.Ceil(op.TTL.Seconds())))
			if err != nil {
				s.revoke(leases)
				return store.Result{}, s.failed(err, false)
			}
			leases = append(leases, lease.ID)
			thens[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithPrevKV(), clientv3.WithLease(lease.ID))
		default:
			thens[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithPrevKV())
		}
	}
	res, err := s.client.Txn(ctx).If(ifs...).Then(thens...).Else(elses...).Commit()
	if err != nil {
		err = s.failed(err, true)
		if !errors.Is(err, store.ErrUnknownOutcome) {
			s.revoke(leases)
		}
		return store.Result{}, err
	}
	if !res.Succeeded {
		s.revoke(leases)
		return store.Result{}, conflict(when, res)
	}
	out := store.Result{Revision: res.Header.Revision, Prev: make([][]store.Item, len(then))}
	for i, r := range res.Responses {
		if put := r.GetResponsePut(); put != nil && put.PrevKv != nil {
			kv := put.PrevKv
			out.Prev[i] = []store.Item{{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, Revision: kv.ModRevision}}
		}
		if del := r.GetResponseDeleteRange(); del != nil {
			for _, kv := range del.PrevKvs {
				out.Prev[i] = append(out.Prev[i], store.Item{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, Revision: kv.ModRevision})
			}
		}
	}
	return out, nil
}

// conflict finds the condition that did not hold.
func conflict(when []store.Cond, res *clientv3.TxnResponse) error {
	for i, r := range res.Responses {
		var now int64
		if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
			now = kvs[0].ModRevision
		}
		if now != when[i].Revision {
			return &store.ConflictError{Cond: when[i]}
		}
	}
	return store.ErrConflict
}

// revoke takes back leases of a change that did not happen. A lease that stays is of no
// key and ends by itself, so that an error here is none.
func (s *Store) revoke(leases []clientv3.LeaseID) {
	if len(leases) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Timeout)
	defer cancel()
	for _, id := range leases {
		_, _ = s.client.Revoke(ctx, id)
	}
}

// failed gives an error of etcd its meaning. sent says that a change was on its way.
func (s *Store) failed(err error, sent bool) error {
	var e rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge), code == codes.ResourceExhausted && strings.Contains(err.Error(), "large"):
		return fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	case errors.Is(err, context.Canceled) || code == codes.Canceled:
		return err
	case code == codes.Unavailable || code == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded):
		if sent {
			return fmt.Errorf("%w, %w: %w", store.ErrUnavailable, store.ErrUnknownOutcome, err)
		}
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return fmt.Errorf("etcd: %w", err)
}

var _ store.Store = (*Store)(nil)

package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gosix/gosix/pkg/store"
)

const (
	// trust is for how long an endpoint that answered is not asked again whether it lives.
	trust = 500 * time.Millisecond
	// headStart is how long one endpoint may think before the next is asked as well.
	headStart = 200 * time.Millisecond
	// round is between two rounds over all endpoints when none answers.
	round = 50 * time.Millisecond
	// maxSend is above what any etcd takes, so that etcd is the one who judges a size.
	maxSend = 16 << 20
	// answerShare is how much of a call's time is left when nobody was reached, one part in so
	// many: whoever asked has its answer within the time, and a call that was begun later than
	// that would leave its outcome to chance.
	answerShare = 10
)

// member is one endpoint, and the client of it that calls share. One client over all
// endpoints would leave the choice to gRPC, which stays with an endpoint that hangs.
type member struct {
	dial func(context.Context) (*clientv3.Client, error)
	turn chan struct{} // capacity 1: whoever put something in may use the next two

	client *clientv3.Client
	closed bool

	mu    sync.Mutex
	heard time.Time // of the last answer; zero: do not trust
}

func newMember(dial func(context.Context) (*clientv3.Client, error)) *member {
	return &member{dial: dial, turn: make(chan struct{}, 1)}
}

func (m *member) trusted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.heard) < trust
}

func (m *member) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = time.Now()
}

func (m *member) suspect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = time.Time{}
}

// connected returns the client, made at the first call: with a user name that asks etcd for
// a token, which New must not wait for.
func (m *member) connected(ctx context.Context) (*clientv3.Client, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.turn }()
	if m.closed {
		return nil, errClosed
	}
	if m.client != nil {
		return m.client, nil
	}
	// The client outlives the call that needed it first.
	client, err := m.dial(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	m.client = client
	return client, nil
}

func (m *member) close() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	m.closed = true
	if m.client == nil {
		return nil
	}
	err := m.client.Close()
	m.client = nil
	return err
}

var errClosed = errors.New("etcd: the store was closed")

// dial makes a client of one endpoint. It waits only for a token, if there is a user name,
// and for that no longer than DialTimeout.
func (s *Store) dial(ctx context.Context, endpoint string, extra ...grpc.DialOption) (*clientv3.Client, error) {
	if direct(endpoint) {
		extra = append(extra, grpc.WithContextDialer(dialer(new(net.Dialer).DialContext).connect))
	}
	return clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: []string{endpoint}, TLS: s.tlsFor(endpoint),
		Username: s.c.Username, Password: s.c.Password, DialTimeout: s.c.DialTimeout,
		// Lower keepalives are raised to 10 s by gRPC; the watch's own heartbeat is what
		// finds a dead peer.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		MaxCallSendMsgSize: maxSend,
		// One more try, for a token that is too old. Who is asked next is decided here.
		MaxUnaryRetries: 2,
		DialOptions: append([]grpc.DialOption{
			// gRPC's own pause grows to two minutes, for which an etcd that is back
			// would still look away.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
				MinConnectTimeout: s.c.DialTimeout,
			}),
		}, extra...),
		Logger: zap.NewNop(),
	})
}

func (s *Store) tlsFor(endpoint string) *tls.Config {
	switch {
	case !strings.HasPrefix(endpoint, "https://"):
		return nil
	case s.c.TLS != nil:
		return s.c.TLS
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}

// reach returns an endpoint that answers, and its client: the one of the last call if it
// did so just now, else the first that says something about key. Asking first is what tells
// "not available", which is certain, from "not known whether it happened".
func (s *Store) reach(ctx context.Context, key string) (*member, *clientv3.Client, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-s.c.Timeout/answerShare))
		defer cancel()
	}
	for {
		if ctx.Err() != nil {
			return nil, nil, s.failed(ctx, ctx.Err())
		}
		first := int(s.preferred.Load())
		if m := s.members[first]; m.trusted() {
			if client, err := m.connected(ctx); err == nil {
				return m, client, nil
			}
		}
		n, client, err := s.race(ctx, first, key)
		if err == nil {
			s.preferred.Store(int32(n))
			return s.members[n], client, nil
		}
		if !silent(err) {
			return nil, nil, s.failed(ctx, err)
		}
		select {
		case <-time.After(round):
		case <-ctx.Done():
			return nil, nil, s.failed(ctx, err)
		}
	}
}

// race asks one endpoint after the other from first on, each when the one before it failed
// or had its head start, and returns the first that answers.
func (s *Store) race(ctx context.Context, first int, key string) (int, *clientv3.Client, error) {
	type answer struct {
		n      int
		client *clientv3.Client
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	total := len(s.members)
	answers := make(chan answer, total)
	asked := 0
	ask := func() {
		n := (first + asked) % total
		asked++
		go func() {
			client, err := s.alive(ctx, s.members[n], key)
			answers <- answer{n, client, err}
		}()
	}
	ask()
	// However many there are, each gets its turn within a call's time.
	next := time.NewTicker(min(headStart, s.c.Timeout/time.Duration(total+1)))
	defer next.Stop()
	var last error
	for failed := 0; failed < total; {
		select {
		case <-next.C:
			if asked < total {
				ask()
			}
		case a := <-answers:
			if a.err == nil {
				return a.n, a.client, nil
			}
			failed++
			// What an endpoint said is worth more than that another said nothing.
			if last == nil || silent(last) {
				last = a.err
			}
			if asked < total {
				ask()
			}
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return 0, nil, last
		}
	}
	return 0, nil, last
}

// alive asks an endpoint for something that it needs the cluster's majority for.
func (s *Store) alive(ctx context.Context, m *member, key string) (*clientv3.Client, error) {
	client, err := m.connected(ctx)
	if err != nil {
		return nil, err
	}
	_, err = client.Get(clientv3.WithRequireLeader(ctx), key, clientv3.WithCountOnly())
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		m.suspect()
		return nil, err
	}
	m.answered()
	return client, nil
}

// codeOf is the status of an error of the client, OK for one that has none.
func codeOf(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.OK
}

// silent tells whether err is that of an endpoint which is away, rather than what it says.
func silent(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// failed gives an error of etcd its meaning. What was left to chance, the caller adds.
func (s *Store) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		// The caller went; that says nothing about the store.
		return fmt.Errorf("etcd: %w", context.Canceled)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), codeOf(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max"):
		return fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("etcd: %w", store.ErrNoLease)
	case silent(err):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case errors.Is(err, errClosed):
		return err
	}
	return fmt.Errorf("etcd: %w", err)
}

// Package gcp gets access tokens for service accounts of Google Cloud and keeps them while
// they are good. It does not know what they are for.
package gcp

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/upstream"
)

const (
	deadline   = 10 * time.Second // for getting one token
	firstPause = time.Second      // after a failure; doubled by each that follows
	longPause  = 30 * time.Second
)

// Options are what a Source works with.
type Options struct {
	Client *upstream.Client // asks the token endpoints
	// Default is the key file, as JSON, of accounts that are configured without one; empty:
	// there is none.
	Default string
	Now     func() time.Time // nil: time.Now
	Log     zerolog.Logger
}

// Source has the accounts of a program. Equal configurations share an account and so its
// token, also across a change of configuration; one that nobody uses any more is forgotten.
// Safe for concurrent use. Nothing runs unless a token is asked for.
type Source struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	accounts map[[sha256.Size]byte]weak.Pointer[Account]
	sweepAt  int // number of accounts at which the forgotten ones are taken out
	closed   bool
	flights  sync.WaitGroup
}

// NewSource returns a source without accounts.
func NewSource(o Options) *Source {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{o: o, accounts: map[[sha256.Size]byte]weak.Pointer[Account]{}, sweepAt: 64}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends what is under way and waits for it. Accounts fail from then on.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.flights.Wait()
}

// Config is an account as configured.
type Config struct {
	// JSON is the account's key file; empty: the source's default.
	JSON string
	// MaxTTL is for how long a token is used at most; 0: as long as it is good.
	MaxTTL time.Duration
	// Early is how long before its end a token is renewed, while it goes on being used.
	Early time.Duration
}

// Account returns the account of a configuration. What is wrong with it is said when it is
// asked for a token.
func (s *Source) Account(c Config) *Account {
	if c.JSON == "" {
		c.JSON = s.o.Default
	}
	id := sha256.Sum256([]byte(strconv.FormatInt(int64(c.MaxTTL), 10) + " " + strconv.FormatInt(int64(c.Early), 10) + " " + c.JSON))
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[id].Value(); a != nil {
		return a
	}
	a := &Account{source: s, maxTTL: c.MaxTTL, early: c.Early}
	a.key, a.unusable = parse(c.JSON)
	s.accounts[id] = weak.Make(a)
	if len(s.accounts) >= s.sweepAt {
		for id, p := range s.accounts {
			if p.Value() == nil {
				delete(s.accounts, id)
			}
		}
		s.sweepAt = max(64, 2*len(s.accounts))
	}
	return a
}

// Account is a service account. Safe for concurrent use.
type Account struct {
	source        *Source
	maxTTL, early time.Duration
	key           *key
	unusable      error

	token atomic.Pointer[token] // the newest; nil: none yet

	mu       sync.Mutex
	flight   *flight // the call that is under way; nil: none
	failure  error   // of the last call; nil: it was good
	failures int     // since the last good call
	retry    time.Time
}

// token is an access token. Between renew and end it is good and another one is wanted.
type token struct {
	value      string
	renew, end time.Time
}

// flight is one call to the token endpoint. Its results may be read when done is closed.
type flight struct {
	done chan struct{}
	got  *token
	err  error
}

var errClosed = errors.New("the program ends")

// Token returns an access token. While there is a good one it does not wait; for a new one
// it waits until ctx ends, and all who wait share one call. After a failed call there is a
// pause before the next, in which the failure is the answer.
func (a *Account) Token(ctx context.Context) (string, error) {
	now := a.source.o.Now()
	before := a.token.Load()
	if before != nil && now.Before(before.renew) {
		return before.value, nil
	}
	f, err := a.renew(now)
	switch {
	case before != nil && now.Before(before.end):
		return before.value, nil
	case err != nil:
		return "", err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if f.err != nil {
		return "", f.err
	}
	return f.got.value, nil
}

// renew returns the call that is under way, after starting it if there is none.
func (a *Account) renew(now time.Time) (*flight, error) {
	if a.unusable != nil {
		return nil, a.unusable
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flight != nil {
		return a.flight, nil
	}
	// One that ended since the caller looked has what it wants.
	if t := a.token.Load(); t != nil && now.Before(t.renew) {
		f := &flight{done: make(chan struct{}), got: t}
		close(f.done)
		return f, nil
	}
	if a.failure != nil && now.Before(a.retry) {
		return nil, a.failure
	}
	s := a.source
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	f := &flight{done: make(chan struct{})}
	a.flight = f
	s.flights.Go(func() { a.fly(f) })
	return f, nil
}

// fly gets a token. It belongs to nobody's request: whoever gives up waiting leaves it to
// the others.
func (a *Account) fly(f *flight) {
	s := a.source
	ctx, cancel := context.WithTimeout(s.ctx, deadline)
	defer cancel()
	value, ttl, err := a.key.exchange(ctx, s.o.Client, s.o.Now())
	now := s.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(f.done)
	a.flight = nil
	if f.err = err; err != nil {
		a.failure, a.retry = err, now.Add(min(firstPause<<min(a.failures, 10), longPause))
		a.failures++
		if s.ctx.Err() == nil {
			s.o.Log.Warn().Err(err).Str("account", a.key.email).Msg("could not get a GCP access token")
		}
		return
	}
	a.failure, a.failures = nil, 0
	f.got = a.lasting(value, ttl, now)
	a.token.Store(f.got)
}

// lasting returns a token that was got now and is good for ttl.
func (a *Account) lasting(value string, ttl time.Duration, now time.Time) *token {
	if a.maxTTL > 0 {
		ttl = min(ttl, a.maxTTL)
	}
	fresh := ttl - a.early
	if fresh <= 0 {
		fresh = ttl / 2 // else it would be renewed at every request
	}
	return &token{value: value, renew: now.Add(fresh), end: now.Add(ttl)}
}

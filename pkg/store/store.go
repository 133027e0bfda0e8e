// Package store moves opaque bytes in and out of the configuration store: what a store
// is, and in which form changes arrive. It does not know what the bytes mean, and not
// how any particular store is spoken to.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Item is one key and what is stored under it. Value is shared by everybody who was handed
// the item: it is read, never written.
type Item struct {
	Key                      string
	Value                    []byte
	CreateRevision, Revision int64 // of the store when the key came to be, and when it last changed
}

// Event is one change: Item is what was put. Of a deletion, Item has the key and the
// revision of the deletion, and nothing else.
type Event struct {
	Item   Item
	Delete bool
}

// Cause says why a batch is a Reset.
type Cause uint8

// The causes of a Reset.
const (
	NoCause      Cause = iota // the batch is no Reset
	Start                     // the first batch
	Compacted                 // the history since the last batch is gone
	WentBack                  // the store's revision is lower than it was, or its history another: it was restored
	OtherCluster              // the store answers with another cluster's id
	AntiEntropy               // a comparison with the store found a difference
	Disk                      // the store has not answered yet: it is what was kept of it on disk
	Emptied                   // one change of the store had removed everything
)

// String is the cause as logs show it; of NoCause it is empty.
func (c Cause) String() string {
	switch c {
	case NoCause:
		return ""
	case Start:
		return "start"
	case Compacted:
		return "compacted"
	case WentBack:
		return "went back"
	case OtherCluster:
		return "other cluster"
	case AntiEntropy:
		return "anti-entropy"
	case Disk:
		return "sealed snapshot"
	case Emptied:
		return "emptied"
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// A Batch is one step of a watch, its events in the order they happened. All changes of one
// revision are in one batch.
type Batch struct {
	Reset     bool  // Events is the complete content in the order of keys; whatever was known before is void
	Cause     Cause // why a Reset
	Events    []Event
	Revision  int64  // of the store after the last event; of a Reset the one at which the content was read
	ClusterID uint64 // never 0
}

// Source is the half of a store that a gateway node needs.
type Source interface {
	// Watch streams the content under prefix; an empty prefix is everything. The first
	// batch is always a Reset; another follows whenever the backend lost history. Between
	// two Resets revisions only grow and no change is left out. An unreachable store is
	// no error: the channel is silent until it is back. The channel is closed only after
	// ctx is done; until then the caller reads it.
	Watch(ctx context.Context, prefix string) <-chan Batch
}

// Cond is what must hold for a Commit: the key was last changed at Revision; 0 means
// that it does not exist. With Prefix: no key that begins with Key was put after Revision;
// what was removed does not count.
type Cond struct {
	Key      string
	Revision int64
	Prefix   bool
}

// Op is one step of a Commit: a put, or with Delete a deletion.
type Op struct {
	Key   string
	Value []byte
	// TTL is after which time the key goes by itself; 0: it stays. Stores may round it
	// up, to whole seconds or to the shortest that they know.
	TTL time.Duration
	// Lease, in place of TTL, is what the key goes with: a lease of Grant's.
	Lease  LeaseID
	Delete bool
	Prefix bool // with Delete: every key that begins with Key
}

// LeaseID names a lease of a store; 0 is none.
type LeaseID int64

// Leases are leases that are kept alive: one renewal, which changes nothing that a watch
// delivers, keeps all keys of a lease. Every store has them. Commit fails with ErrNoLease, and
// changes nothing, where a put names a lease that has ended.
type Leases interface {
	// Grant makes a lease that ends after ttl unless it is renewed. Stores may round ttl up,
	// as those of Op.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// Renew gives a lease its whole time again; ErrNoLease if it has ended.
	Renew(ctx context.Context, lease LeaseID) error
	// Revoke ends a lease now, and its keys; of one that has ended it does nothing.
	Revoke(ctx context.Context, lease LeaseID) error
}

// Result is what a Commit did.
type Result struct {
	Revision int64    // of the store after it
	Prev     [][]Item // per Op, what it replaced or removed; none means created
}

// Store is a configuration store. Implementations are safe for concurrent use and pass
// the suite of package storetest. While the store is out of reach every method fails with
// ErrUnavailable within the time that the implementation was configured with.
type Store interface {
	Source
	// Get reads one key; ErrNotFound if there is none. The revision is the store's, with
	// ErrNotFound too.
	Get(ctx context.Context, key string) (Item, int64, error)
	// List reads everything under prefix in the order of keys, and the revision at
	// which that is true.
	List(ctx context.Context, prefix string) ([]Item, int64, error)
	// Commit applies all of then, or nothing, in one transaction. No key may be changed
	// by two of its puts, or by a put and a deletion. A *ConflictError names the Cond
	// that failed; ErrUnknownOutcome means that it may have happened; after any other
	// error nothing happened.
	Commit(ctx context.Context, when []Cond, then []Op) (Result, error)
}

// State is how the watch of a source stands, for people and for readiness.
type State struct {
	Connected bool
	Since     time.Time // of the change to or from Connected
	Revision  int64     // up to which changes were delivered
	Observed  int64     // newest revision that the store is known to have: any key moves it
	Arrived   int64     // of the newest change under the prefix that came, delivered or not yet; 0: not told
	Endpoint  string    // that answers, or answered last
	ClusterID uint64
}

// Errors of stores, to be tested for with errors.Is.
var (
	ErrNotFound = errors.New("key not found")
	ErrConflict = errors.New("the stored state is another than expected")
	// ErrUnavailable means that no endpoint answered in time. Together with
	// ErrUnknownOutcome one had been handed the change before.
	ErrUnavailable    = errors.New("configuration store is not available")
	ErrUnknownOutcome = errors.New("the store did not say whether the change happened")
	ErrTooLarge       = errors.New("the configuration store does not take a value of this size")
	ErrNoLease        = errors.New("the lease has ended")
)

// ConflictError is the Cond of a Commit that did not hold. It is an ErrConflict.
type ConflictError struct{ Cond Cond }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: %v", e.Cond.Key, ErrConflict)
}

// Is makes a ConflictError an ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

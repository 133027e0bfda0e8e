// Package lastgood is a source of configuration around another one. It keeps what was
// delivered in a sealed file, from which a node starts while the store is away, and it
// guards what is in force against a store that came back without it. It does not know which
// store that is, nor what the values mean.
//
// # Starting without the store
//
// If the store has not answered after Options.Wait, the newest file that opens is delivered
// as a Reset with the cause store.Disk; the store's own follows when it comes. A file that
// does not open, for whatever reason, is refused as a whole, and the one before it is used.
// Beside a large file there is a journal of what changed since: what a change costs to keep
// must not grow with what there is.
//
// # The guard
//
// A Reset in which more than half of the objects in force are missing is held: the content
// in force stays, the alarm store_reset is raised, and the store is followed on, so that what
// is accepted later is the newest. So is a single change that removes everything, directory
// markers included. What was in force before a restart counts, since the file tells it. A
// hold ends when
//
//   - Accept is called,
//   - a marker key says so (Options.Get), or
//   - the store again holds at least half of the objects in force.
//
// Not held is what may be the work of changes one at a time, as an Admin API makes them: the
// cluster is the same, its revision grew by at least as many as objects are gone, and
// something was there all the time. A node without anything in force holds nothing.
//
// # The marker key
//
// It is the prefix with "-nodes/accept" behind it, "/apisix-nodes/accept" for "/apisix/". It
// is read once a second while something is held. Its value, spaces aside, is either
//
//   - a revision of the store in decimal digits, at which it held what is held now (as the
//     node tells it): none before the newest change of what it held when the hold began; or
//   - the store's cluster id, 16 hexadecimal digits, if the content in force is of another
//     cluster: for a move that is meant, it may be there before the nodes are.
//
// So the key may stay: it does not end a later hold.
package lastgood

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store"
)

// Options are the settings of a Source.
type Options struct {
	Source store.Source
	// Dir is where the files are; made, for its owner alone, if it does not exist. One
	// process uses it at a time. Empty: nothing is kept.
	Dir string
	// Keys are secrets of at least 16 random bytes. The first seals, all open. Needed with
	// Dir.
	Keys []string
	Wait time.Duration // for the store, before the file is delivered
	// Trust switches the guard off: whatever the store says is in force.
	Trust bool
	// Get reads a key of the store, for the marker key; nil: there is none.
	Get func(ctx context.Context, key string) (store.Item, int64, error)
	// OnHold is called when a hold has begun, by the goroutine that delivers; nil for nobody.
	OnHold func()
	Log    zerolog.Logger
}

const (
	// settle is from a change to the write of a file, so that a script's changes are one.
	settle = 500 * time.Millisecond
	// writeGap is between two writes at least, and so what a node that is killed may have
	// forgotten at its next start if the store is away then.
	writeGap = 5 * time.Second
	// writeShare bounds the time that is spent on writing: a write that took one second is
	// followed by none for so many.
	writeShare = 50
	// unsavedShare is the part of the objects, one in so many, that may have changed for
	// changes to be kept one by one.
	unsavedShare = 4
	// pollGap is between two looks at the marker key.
	pollGap  = time.Second
	logEvery = time.Minute
)

// Source is a store.Source around another. Use New. Its methods are safe for concurrent
// use; Watch is called once.
type Source struct {
	o       Options
	folder  *folder // nil: nothing is kept
	accepts chan *acceptance

	settle, writeGap, pollGap time.Duration
	writeShare                time.Duration // a factor

	mu     sync.Mutex
	force  content // what was delivered, or will be if the store does not come
	status Status
	// unsaved are the keys that changed since the last write; nil: everything did, or so much
	// that it is written whole.
	unsaved map[string]struct{}
}

// New returns a source. An error is a mistake in o.
func New(o Options) (*Source, error) {
	s := &Source{o: o, accepts: make(chan *acceptance), settle: settle, writeGap: writeGap, pollGap: pollGap, writeShare: writeShare}
	if o.Dir != "" {
		if len(o.Keys) == 0 {
			return nil, errors.New("snapshots: there is no key to seal them with")
		}
		s.folder = &folder{dir: o.Dir, secrets: o.Keys, journalFrom: journalFrom}
	}
	return s, nil
}

// Origin is where the content in force came from.
type Origin string

// The origins of a content.
const (
	OfNothing Origin = ""      // nothing is in force
	OfStore   Origin = "store" // by way of this process
	OfDisk    Origin = "disk"  // the store's, kept by an earlier process
)

// Status is how a source stands.
type Status struct {
	Origin Origin
	Saved  time.Time // of OfDisk: when the file was written
	// Waiting is why nothing is in force; empty until the time for the store is over.
	Waiting string
	Held    *Held // nil: nothing is held
	// Writes and WriteErrors count files that were written and that could not be.
	Writes, WriteErrors int64
}

// Held is what the store holds and this source does not pass on. It is not changed.
type Held struct {
	Cause     store.Cause
	First     int64  // the oldest revision that names it
	Revision  int64  // of the store, when the keys under the prefix changed last
	ClusterID uint64 // of the store
	InForce   int    // objects in force
	Offered   int    // objects that the store holds now
	Since     time.Time
}

// Status tells how the source stands.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// State is that of the source within, if it has one, with the revision that was delivered.
func (s *Source) State() store.State {
	inner, ok := s.o.Source.(interface{ State() store.State })
	if !ok {
		return store.State{}
	}
	state := inner.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Origin != OfNothing {
		state.Revision = s.force.revision
	}
	return state
}

// ErrNothingHeld is the answer to an acceptance of nothing.
var ErrNothingHeld = errors.New("nothing is held")

// RevisionError is the answer to an acceptance of a revision that is not held.
type RevisionError struct{ Revision, First, Newest int64 }

func (e *RevisionError) Error() string {
	return fmt.Sprintf("revision %d is not held: what is held is of revision %d to %d", e.Revision, e.First, e.Newest)
}

// acceptance is a call of Accept on its way to the watch.
type acceptance struct {
	revision int64
	held     Held
	err      error
	done     chan struct{} // closed once the two above are set
}

// Accept puts in force what is held, and returns what that was, once it is delivered. With a
// revision other than 0 only if that means what is held, as for the marker key. Its errors are ErrNothingHeld, a *RevisionError and those of ctx, after which it may
// still happen.
func (s *Source) Accept(ctx context.Context, revision int64) (Held, error) {
	a := &acceptance{revision: revision, done: make(chan struct{})}
	select {
	case s.accepts <- a:
	case <-ctx.Done():
		return Held{}, ctx.Err()
	}
	select {
	case <-a.done:
		return a.held, a.err
	case <-ctx.Done():
		return Held{}, ctx.Err()
	}
}

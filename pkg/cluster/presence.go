package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store"
)

// PresenceOptions is what a node registers with.
type PresenceOptions struct {
	Store  Store
	Prefix string // of the configuration: "/apisix"
	// Applied is the revision in force of the store as it is now, 0 while that is held back;
	// State is all of what is in force. Both are called by Run's goroutine, Applied often.
	Applied func() int64
	State   func() State
	Log     zerolog.Logger
}

// Presence keeps the record of one node in the registry: written when something changed, at
// most once a second, and at once when somebody waits for what has come into force. While
// nothing changes only the lease is renewed. A node that is killed is gone after 10 s.
type Presence struct {
	o       PresenceOptions
	changed chan struct{} // capacity 1
	lease   time.Duration
	renewal time.Duration // between two
	spacing time.Duration

	// Run's own.
	id       string        // as it was given
	leaseID  store.LeaseID // 0: none
	node     Node          // as written last
	revision int64         // of the record; 0: there is none that is known
	wrote    time.Time     // the last record
	renewed  time.Time     // the lease
	failed   time.Time     // the last attempt; zero: it did not
	told     bool          // of what failed
	dirty    bool          // something may have changed since the last record
	asks     []int64       // revisions that are waited for and not in the record, the lowest first
}

// NewPresence returns a presence that is seen once Run runs.
func NewPresence(o PresenceOptions) *Presence {
	return &Presence{o: o, changed: make(chan struct{}, 1), lease: lease, renewal: lease / 3, spacing: spacing}
}

// Changed says that what is in force may have changed. It never blocks.
func (p *Presence) Changed() {
	select {
	case p.changed <- struct{}{}:
	default: // it is going to look anyway
	}
}

// Run keeps a node registered until ctx ends, and takes its record away then. Of n, what does
// not change while the process runs counts, and Run makes n.Run.
func (p *Presence) Run(ctx context.Context, n Node) {
	p.id, p.node, p.node.Run = n.ID, n, random()
	defer p.leave()
	waits := p.o.Store.Watch(ctx, Directory(p.o.Prefix)+waiting)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case b, open := <-waits:
			if !open {
				return
			}
			p.note(b)
		case <-p.changed:
			p.dirty = true
		case <-timer.C:
		}
		if p.failed.IsZero() || time.Since(p.failed) >= p.spacing {
			p.failed = time.Time{}
			if err := p.step(ctx); err != nil && ctx.Err() == nil {
				p.failed = time.Now()
				p.complain(err)
			}
		}
		timer.Reset(time.Until(p.next()))
	}
}

// note keeps what others wait for.
func (p *Presence) note(b store.Batch) {
	if b.Reset {
		p.asks = p.asks[:0]
	}
	for _, e := range b.Events {
		if e.Delete {
			continue
		}
		if at := asked(&e.Item); at > p.node.current() || p.revision == 0 {
			p.asks = append(p.asks, at)
		}
	}
	slices.Sort(p.asks) // a full state comes in the order of keys
	if len(p.asks) > maxAsks {
		// A node that is this far behind owes one record, when it has caught up.
		p.asks = append(p.asks[:0], p.asks[len(p.asks)-1])
	}
}

const maxAsks = 1000

// asked tells whether somebody waits for what is in force and not in the record.
func (p *Presence) asked() bool { return len(p.asks) > 0 && p.asks[0] <= p.o.Applied() }

// step does what is due.
func (p *Presence) step(ctx context.Context) error {
	now := time.Now()
	if p.leaseID != 0 && now.Sub(p.renewed) >= p.renewal {
		if err := p.renew(ctx); err != nil {
			return err
		}
	}
	if p.leaseID == 0 {
		id, err := p.o.Store.Grant(ctx, p.lease)
		if err != nil {
			return err
		}
		p.leaseID, p.renewed, p.revision = id, now, 0
	}
	if p.revision != 0 && !p.asked() && (!p.dirty || now.Sub(p.wrote) < p.spacing) {
		return nil
	}
	return p.write(ctx)
}

// next is when step has something to do although nothing happens.
func (p *Presence) next() time.Time {
	next := p.renewed.Add(p.renewal)
	if p.dirty && p.wrote.Add(p.spacing).Before(next) {
		next = p.wrote.Add(p.spacing)
	}
	if !p.failed.IsZero() {
		next = p.failed.Add(p.spacing)
	}
	return next
}

// renew keeps the lease, and looks whether the record is still there, and this process's.
func (p *Presence) renew(ctx context.Context) error {
	now := time.Now()
	err := p.o.Store.Renew(ctx, p.leaseID)
	if errors.Is(err, store.ErrNoLease) {
		p.leaseID = 0
		return nil
	}
	if err != nil {
		return err
	}
	p.renewed = now
	// For how long the store is away changes by itself.
	p.dirty = p.dirty || p.node.Staleness > 0 || p.o.State().Staleness > 0
	if p.revision == 0 {
		return nil
	}
	item, _, err := p.o.Store.Get(ctx, p.key())
	if err == nil && item.Revision == p.revision {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	p.reconsider(item)
	return nil
}

func (p *Presence) key() string { return Directory(p.o.Prefix) + p.node.ID }

// reconsider looks at a record that is not as it was written; of one that is gone, item is
// empty.
func (p *Presence) reconsider(item store.Item) {
	var other Node
	p.revision = 0
	if item.Key == "" || json.Unmarshal(item.Value, &other) != nil {
		return
	}
	if other.Run == p.node.Run {
		p.revision, p.dirty = item.Revision, true // written, and the answer was lost
		return
	}
	// Two nodes with one id: data that was copied, or a setting. Whoever notices goes out of
	// the way: as one they would be waited for once.
	taken := p.node.ID
	p.node.ID = p.id + "-" + random()[:4]
	p.o.Log.Warn().Str("id", taken).Str("new_id", p.node.ID).Str("other", other.Hostname).
		Msg("another node has this node's id")
}

// write puts the record.
func (p *Presence) write(ctx context.Context) error {
	n := p.node
	n.State = p.o.State()
	if p.revision != 0 && same(&n.State, &p.node.State) {
		p.settled(n.current())
		return nil
	}
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	// The record of a process that came before is overwritten; this one's own must not have
	// been, by another node of the same name.
	var when []store.Cond
	if p.revision != 0 {
		when = []store.Cond{{Key: p.key(), Revision: p.revision}}
	}
	res, err := p.o.Store.Commit(ctx, when, []store.Op{{Key: p.key(), Value: value, Lease: p.leaseID}})
	switch {
	case errors.Is(err, store.ErrNoLease):
		p.leaseID = 0
		p.soon()
		return nil
	case errors.Is(err, store.ErrConflict):
		item, _, err := p.o.Store.Get(ctx, p.key())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		p.reconsider(item)
		p.soon()
		return nil
	case err != nil:
		return err
	}
	p.node, p.revision, p.wrote, p.told = n, res.Revision, time.Now(), false
	p.settled(n.current())
	return nil
}

// soon makes the next step come at once, and write.
func (p *Presence) soon() {
	p.wrote = time.Time{}
	p.Changed()
}

// settled notes that the record is that of a revision.
func (p *Presence) settled(applied int64) {
	p.dirty = false
	for len(p.asks) > 0 && p.asks[0] <= applied {
		p.asks = p.asks[1:]
	}
}

// same tells whether nothing changed that a record is written for.
func same(a, b *State) bool { return reflect.DeepEqual(a, b) }

// complain tells once of what keeps a node out of the registry. That the store is away, its
// watch tells.
func (p *Presence) complain(err error) {
	if p.told || errors.Is(err, store.ErrUnavailable) {
		return
	}
	p.told = true
	p.o.Log.Warn().Err(err).Str("directory", Directory(p.o.Prefix)).
		Msg("node is not registered, who waits for a write does not wait for it")
}

// leave takes the record away: the lease would do so later.
func (p *Presence) leave() {
	if p.leaseID == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.spacing)
	defer cancel()
	_ = p.o.Store.Revoke(ctx, p.leaseID) // at worst the lease ends by itself
}

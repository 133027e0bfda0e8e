package cluster

import (
	"container/heap"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// Registry is how a process that writes configuration sees the nodes. It watches their
// records once somebody asks for the first time: one watch, however many wait. It is safe
// for concurrent use.
type Registry struct {
	store     Store
	directory string
	name      string // of this process's key below wait/

	once sync.Once
	used chan struct{} // closed at the first use

	lease struct {
		sync.Mutex
		id      store.LeaseID // 0: none
		granted time.Time
	}

	mu       sync.Mutex
	known    bool // the watch has begun
	revision int64
	nodes    map[string]Node
	gone     map[string]departed
	waiters  waiters
	written  int64 // newest revision that this process wrote
}

// departed is a node whose record went away.
type departed struct {
	node Node
	at   time.Time
}

// remembered is for how long nodes that went are still listed.
const remembered = 10 * time.Minute

// NewRegistry returns a registry of the nodes beside the configuration under prefix
// ("/apisix"). It needs Run.
func NewRegistry(s Store, prefix string) *Registry {
	return &Registry{
		store: s, directory: Directory(prefix), name: random(), used: make(chan struct{}),
		nodes: map[string]Node{}, gone: map[string]departed{},
	}
}

func (r *Registry) use() { r.once.Do(func() { close(r.used) }) }

// Run follows the records from the first use on until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	select {
	case <-r.used:
	case <-ctx.Done():
		return
	}
	for b := range r.store.Watch(ctx, r.directory) {
		r.follow(b)
	}
}

func (r *Registry) follow(b store.Batch) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var before map[string]Node
	if b.Reset {
		before, r.nodes, r.known = r.nodes, map[string]Node{}, true
		if b.Cause == store.WentBack || b.Cause == store.OtherCluster {
			r.written = 0
		}
	}
	for i := range b.Events {
		e := &b.Events[i]
		if e.Delete {
			id := strings.TrimPrefix(e.Item.Key, r.directory)
			if n, ok := r.nodes[id]; ok {
				r.gone[id] = departed{n, now}
				delete(r.nodes, id)
			}
			continue
		}
		if n, ok := decode(r.directory, e.Item); ok {
			r.nodes[n.ID] = n
			delete(r.gone, n.ID)
		}
	}
	for id, n := range before {
		if _, ok := r.nodes[id]; !ok {
			r.gone[id] = departed{n, now}
		}
	}
	maps.DeleteFunc(r.gone, func(_ string, d departed) bool { return now.Sub(d.at) > remembered })
	r.revision = b.Revision
	r.wake()
}

// wake ends the waits that have what they wait for.
func (r *Registry) wake() {
	// The key by which somebody asks is delivered in its turn: before it, a node that
	// registered earlier may not be known yet.
	floor := r.revision
	for _, n := range r.nodes {
		floor = min(floor, n.current())
	}
	for len(r.waiters) > 0 && r.waiters[0].revision <= floor {
		w, _ := heap.Pop(&r.waiters).(*waiter)
		close(w.done)
	}
}

// Ask returns what belongs into the transaction of a write that is going to be waited for.
func (r *Registry) Ask(ctx context.Context) (store.Op, error) { return r.AskFor(ctx, 0) }

// AskFor returns what is put, by itself, to wait for a revision that was written already; 0
// is that of the put.
func (r *Registry) AskFor(ctx context.Context, revision int64) (store.Op, error) {
	r.use()
	l := &r.lease
	l.Lock()
	defer l.Unlock()
	if l.id == 0 || time.Since(l.granted) > asking/2 {
		id, err := r.store.Grant(ctx, asking)
		if err != nil {
			return store.Op{}, err
		}
		l.id, l.granted = id, time.Now()
	}
	// One key for all that this process asks: a watch delivers every put of it.
	value, err := json.Marshal(question{revision})
	return store.Op{Key: r.directory + waiting + r.name, Value: value, Lease: l.id}, err
}

// Forget makes Ask use another lease: Commit said that the last one has ended.
func (r *Registry) Forget() {
	r.lease.Lock()
	defer r.lease.Unlock()
	r.lease.id = 0
}

// Wrote says that this process changed the configuration.
func (r *Registry) Wrote(revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = max(r.written, revision)
}

// Standing is how far a revision has come.
type Standing struct {
	Revision int64
	Known    bool // false: nothing was heard of the registry
	Applied  int  // number of nodes that have it in force
	Nodes    []Progress
}

// Done tells whether every node has the revision in force.
func (s *Standing) Done() bool { return s.Known && s.Applied == len(s.Nodes) }

// Progress is how far one node is with a revision.
type Progress struct {
	Node
	Done     bool       // it has the revision in force
	Rejected []Rejected // what it refused of it
}

// Wait returns once every node that is registered is at revision, or refused it, or when ctx
// ends; with no nodes at once. The revision is that of a commit with Ask's operation.
func (r *Registry) Wait(ctx context.Context, revision int64) Standing {
	r.use()
	w := &waiter{revision: revision, done: make(chan struct{})}
	r.mu.Lock()
	heap.Push(&r.waiters, w)
	if r.known {
		r.wake()
	}
	r.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.at >= 0 {
		heap.Remove(&r.waiters, w.at)
	}
	s := Standing{Revision: revision, Known: r.known, Nodes: make([]Progress, 0, len(r.nodes))}
	for _, id := range slices.Sorted(maps.Keys(r.nodes)) {
		p := Progress{Node: r.nodes[id]}
		var certain bool
		p.Rejected, certain = p.Rejections.at(revision)
		p.Done = p.current() >= revision && len(p.Rejected) == 0 && certain
		if p.Done {
			s.Applied++
		}
		s.Nodes = append(s.Nodes, p)
	}
	return s
}

// waiter is somebody who waits; at is its place in the heap, -1 outside.
type waiter struct {
	revision int64
	at       int
	done     chan struct{}
}

// waiters is a heap, the lowest revision first.
type waiters []*waiter

func (h waiters) Len() int           { return len(h) }
func (h waiters) Less(i, j int) bool { return h[i].revision < h[j].revision }
func (h waiters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *waiters) Push(x any) {
	w, _ := x.(*waiter)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waiters) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil // or a long list would keep it
	*h, w.at = (*h)[:last], -1
	return w
}

// Overview is the cluster as a table.
type Overview struct {
	Newest int64    `json:"newest"` // revision of the configuration, as far as this process and the nodes know
	Total  int      `json:"total"`
	Nodes  []Listed `json:"list"` // by id
}

// Listed is a node of an Overview.
type Listed struct {
	Node
	Live bool `json:"live"` // false: it is gone, since Gone seconds
	// Lag is how many revisions of the store lie between the newest and the one in force; 0
	// for a node that has the same content. Of one that holds back what the store has now, all
	// of them.
	Lag  int64   `json:"lag"`
	Gone float64 `json:"gone_s,omitempty"`
	// DigestDiffers: a node at the same revision has another content, which must never be.
	DigestDiffers bool `json:"digest_differs"`
	// RejectedDiffers: a node with the same content refuses other items of it, or has other
	// versions of them in force.
	RejectedDiffers bool `json:"rejected_differs"`
}

// Nodes reads the records as they are now. Nodes that went are listed for ten minutes by a
// process that saw them go.
func (r *Registry) Nodes(ctx context.Context) (Overview, error) {
	r.use()
	items, revision, err := r.store.List(ctx, r.directory)
	if err != nil {
		return Overview{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var live []Node
	for _, item := range items {
		if n, ok := decode(r.directory, item); ok {
			live = append(live, n)
		}
	}
	newest := r.written
	if newest > revision {
		newest = 0 // of a store that was restored since
	}
	list := compare(live, newest)
	now := time.Now()
	for id, d := range r.gone {
		if since := now.Sub(d.at); since <= remembered && !slices.ContainsFunc(live, func(n Node) bool { return n.ID == id }) {
			list.Nodes = append(list.Nodes, Listed{Node: d.node, Gone: since.Seconds(), Lag: max(list.Newest-d.node.current(), 0)})
		}
	}
	slices.SortFunc(list.Nodes, func(a, b Listed) int { return strings.Compare(a.ID, b.ID) })
	list.Total = len(list.Nodes)
	return list, nil
}

// compare holds nodes against each other.
func compare(live []Node, newest int64) Overview {
	first := Node{}
	for _, n := range live {
		if n.current() > first.current() {
			first = n
		}
	}
	o := Overview{Newest: max(newest, first.current()), Nodes: make([]Listed, 0, len(live))}
	for _, n := range live {
		l := Listed{Node: n, Live: true}
		// A node that began later has the revision at which it read everything, which may be
		// that of a change of something else.
		if n.Held || n.Digest != first.Digest || first.Applied < newest {
			l.Lag = o.Newest - n.current()
		}
		for _, other := range live {
			l.DigestDiffers = l.DigestDiffers || other.Applied == n.Applied && other.Held == n.Held && other.Digest != n.Digest
			l.RejectedDiffers = l.RejectedDiffers || other.Digest == n.Digest && other.Sum != n.Sum
		}
		o.Nodes = append(o.Nodes, l)
	}
	return o
}

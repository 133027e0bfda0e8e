package lastgood

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// A Reset is held when more than one in lostShare of the objects in force are missing in it.
// A backup lacks what was made since, which is seldom half of everything; a store that was
// wiped lacks all of it, and one that somebody is filling again has a part.
const lostShare = 2

// bulk is how many objects one change must remove to look like a wipe where there are no
// directory markers to tell it by: one object may be the last that somebody deletes.
const bulk = 2

// Watch implements store.Source. Files are written until the channel is closed, the last
// one when ctx has ended.
func (s *Source) Watch(ctx context.Context, prefix string) <-chan store.Batch {
	out := make(chan store.Batch)
	w := &watch{
		Source: s, out: out, markerKey: strings.TrimSuffix(prefix, "/") + "-nodes/accept",
		late: time.NewTimer(s.o.Wait), changed: make(chan struct{}, 1), markers: make(chan marker),
	}
	if s.folder != nil {
		s.folder.prefix = prefix
	}
	in := s.o.Source.Watch(ctx, prefix)
	go func() {
		defer close(out)
		defer w.late.Stop()
		w.load()
		var writing sync.WaitGroup
		end := make(chan struct{})
		if s.folder != nil {
			writing.Go(func() {
				defer w.folder.close()
				w.keep(end)
			})
		}
		w.run(ctx, in)
		w.unhold()
		close(end)
		writing.Wait()
	}()
	return out
}

// watch is the one watch of a source. What of Source's mu guards, only its goroutine writes.
type watch struct {
	*Source
	out       chan<- store.Batch
	markerKey string
	late      *time.Timer // for the store's first answer

	delivered bool  // something is in force
	why       error // there is no file to start from
	onDisk    int64 // revision of the file that was read

	offered content // while held: what the store holds
	kept    int     // while held: objects in force that the store holds
	remind  *time.Ticker
	markers chan marker
	noMark  context.CancelFunc // ends the look-out for the marker
	polling sync.WaitGroup
	seen    int64 // revision of the marker that was judged

	changed chan struct{} // capacity 1: there is something to write
}

// load reads the newest file that is good.
func (w *watch) load() {
	if w.folder == nil {
		w.why = errors.New("no snapshots are kept")
		return
	}
	rec, refused := w.folder.newest()
	for _, err := range refused {
		w.o.Log.Warn().Err(err).Msg("snapshot is refused")
	}
	if rec == nil {
		w.why = fmt.Errorf("%s has no snapshot", w.folder.dir)
		if len(refused) > 0 {
			w.why = fmt.Errorf("no snapshot is good: %w", refused[0])
		}
		return
	}
	c := content{items: make(map[string]store.Item, len(rec.items)), revision: rec.revision, cluster: rec.cluster}
	for _, it := range rec.items {
		c.put(it)
	}
	w.mu.Lock()
	w.force, w.status.Saved = c, rec.saved
	w.mu.Unlock()
	w.onDisk = rec.revision
}

func (w *watch) run(ctx context.Context, in <-chan store.Batch) {
	for {
		var remind <-chan time.Time
		if w.remind != nil {
			remind = w.remind.C
		}
		select {
		case b, open := <-in:
			if !open {
				return
			}
			w.take(ctx, b)
		case <-w.late.C:
			w.startFromDisk(ctx)
		case a := <-w.accepts:
			w.accept(ctx, a)
			close(a.done)
		case m := <-w.markers:
			w.mark(ctx, m)
		case <-remind:
			w.alarm()
		}
	}
}

// deliver hands a batch on. After the end of ctx nobody may be there to take it.
func (w *watch) deliver(ctx context.Context, b store.Batch) {
	select {
	case w.out <- b:
	case <-ctx.Done():
	}
}

// startFromDisk delivers the file, if the store has not come first.
func (w *watch) startFromDisk(ctx context.Context) {
	if w.delivered {
		return
	}
	if w.why != nil {
		w.mu.Lock()
		w.status.Waiting = "the configuration store has not answered, and " + w.why.Error()
		w.mu.Unlock()
		w.o.Log.Warn().Str("reason", w.why.Error()).Msg("configuration store has not answered, and there is nothing to start from")
		return
	}
	w.mu.Lock()
	saved, b := w.status.Saved, w.force.reset(store.Disk)
	w.mu.Unlock()
	w.o.Log.Warn().Time("saved", saved).Int64("revision", b.Revision).Int("items", len(b.Events)).
		Msg("configuration store has not answered, the last configuration is served from disk")
	w.put(ctx, b, OfDisk)
}

// put delivers what is then in force.
func (w *watch) put(ctx context.Context, b store.Batch, from Origin) {
	w.delivered = true
	w.mu.Lock()
	w.status.Origin, w.status.Waiting = from, ""
	w.mu.Unlock()
	w.deliver(ctx, b)
}

// take judges what the store says, and passes it on unless it is to be held.
func (w *watch) take(ctx context.Context, b store.Batch) {
	switch {
	case w.remind != nil && b.Reset:
		w.offer(b.Cause, contentOf(b))
		w.judge(ctx)
	case w.remind != nil:
		w.follow(b.Events, b)
		w.judge(ctx)
	case b.Reset:
		w.reset(ctx, b)
	default:
		w.events(ctx, b)
	}
}

// reset puts a content in force, or holds it.
func (w *watch) reset(ctx context.Context, b store.Batch) {
	next := contentOf(b)
	kept := w.force.kept(&next)
	lost := w.force.objects - kept
	if !w.o.Trust && lost*lostShare > w.force.objects && !w.force.continues(&next, lost) {
		w.hold(ctx, b.Cause, next)
		return
	}
	w.swap(next)
	w.put(ctx, b, OfStore)
}

// swap makes a content the one in force, and has it written unless the file is the same.
func (w *watch) swap(next content) {
	same := w.onDisk == next.revision && w.force.same(&next)
	w.onDisk = 0
	w.mu.Lock()
	w.force, w.unsaved = next, nil
	w.mu.Unlock()
	if !same {
		w.touch()
	}
}

func (w *watch) touch() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// events applies changes, one revision at a time, up to one that removes everything.
func (w *watch) events(ctx context.Context, b store.Batch) {
	for from := 0; from < len(b.Events); {
		to := from + 1
		for to < len(b.Events) && b.Events[to].Item.Revision == b.Events[from].Item.Revision {
			to++
		}
		if w.change(b.Events[from:to]) {
			if from > 0 {
				w.touch()
				w.deliver(ctx, store.Batch{Events: b.Events[:from:from], Revision: w.force.revision, ClusterID: b.ClusterID})
			}
			w.hold(ctx, store.Emptied, content{items: map[string]store.Item{}, revision: b.Events[from].Item.Revision, cluster: b.ClusterID})
			w.follow(b.Events[to:], b)
			w.judge(ctx)
			return
		}
		from = to
	}
	w.mu.Lock()
	w.force.revision, w.force.cluster = b.Revision, b.ClusterID
	w.mu.Unlock()
	w.touch()
	w.deliver(ctx, b)
}

// change applies what happened at one revision, unless that is a wipe.
func (w *watch) change(events []store.Event) (wipe bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	markers := len(w.force.items) - w.force.objects
	var gone []store.Item
	objects := w.force.objects
	for i := range events {
		w.unsave(events[i].Item.Key)
		if e := &events[i]; !e.Delete {
			w.force.put(e.Item)
		} else if it, ok := w.force.remove(e.Item.Key); ok {
			gone = append(gone, it)
		}
	}
	removed := objects - w.force.objects
	if !w.o.Trust && len(w.force.items) == 0 && removed > 0 && (len(gone) > removed || markers == 0 && removed >= bulk) {
		for _, it := range gone {
			w.force.put(it)
		}
		return true
	}
	w.force.revision = events[0].Item.Revision
	return false
}

// hold keeps what is in force.
func (w *watch) hold(ctx context.Context, cause store.Cause, next content) {
	if !w.delivered {
		w.mu.Lock()
		b := w.force.reset(store.Disk)
		w.mu.Unlock()
		w.put(ctx, b, OfDisk)
	}
	w.remind = time.NewTicker(logEvery)
	w.offer(cause, next)
	if w.o.OnHold != nil {
		w.o.OnHold()
	}
	w.alarm()
	if w.o.Get != nil {
		var ctxMark context.Context
		ctxMark, w.noMark = context.WithCancel(ctx)
		w.polling.Go(func() { w.poll(ctxMark) })
	}
}

// offer notes what the store holds while it is not in force.
func (w *watch) offer(cause store.Cause, next content) {
	w.offered, w.kept = next, w.force.kept(&next)
	w.mu.Lock()
	defer w.mu.Unlock()
	since := time.Now()
	if w.status.Held != nil {
		since = w.status.Held.Since
	}
	w.status.Held = &Held{
		Cause: cause, First: w.first(cause, &next), Revision: next.revision, ClusterID: next.cluster,
		InForce: w.force.objects, Offered: next.objects, Since: since,
	}
}

// first is the oldest revision that can mean next, and nothing that the store held before:
// that of its newest item. Where history went on, removals count, which leave no item.
func (w *watch) first(cause store.Cause, next *content) int64 {
	if cause == store.Emptied {
		return next.revision
	}
	first := int64(1)
	for _, it := range next.items {
		first = max(first, it.Revision)
	}
	if next.cluster == w.force.cluster && next.revision >= w.force.revision {
		first = max(first, w.force.revision+1)
	}
	return min(first, next.revision) // which means it in any case
}

// follow applies changes to what is held.
func (w *watch) follow(events []store.Event, b store.Batch) {
	for i := range events {
		it := events[i].Item
		_, inForce := w.force.items[it.Key]
		inForce = inForce && isObject(it.Key)
		if events[i].Delete {
			if _, ok := w.offered.remove(it.Key); ok && inForce {
				w.kept--
			}
		} else if w.offered.put(it) && inForce {
			w.kept++
		}
	}
	w.offered.revision, w.offered.cluster = b.Revision, b.ClusterID
	w.mu.Lock()
	defer w.mu.Unlock()
	now := *w.status.Held
	now.Revision, now.Offered = b.Revision, w.offered.objects
	w.status.Held = &now
}

// judge ends the hold when the store has come back by itself.
func (w *watch) judge(ctx context.Context) {
	if (w.force.objects-w.kept)*lostShare <= w.force.objects {
		w.release(ctx, "the store holds it again")
	}
}

func (w *watch) accept(ctx context.Context, a *acceptance) {
	if w.remind == nil {
		a.err = ErrNothingHeld
		return
	}
	a.held = *w.status.Held
	if newest := max(a.held.Revision, w.State().Observed); a.revision != 0 && (a.revision < a.held.First || a.revision > newest) {
		a.err = &RevisionError{a.revision, a.held.First, newest}
		return
	}
	w.release(ctx, "it was accepted")
}

// mark judges a marker key.
func (w *watch) mark(ctx context.Context, m marker) {
	if w.remind == nil || m.item.Revision == w.seen {
		return
	}
	w.seen = m.item.Revision
	h := w.status.Held
	value := strings.TrimSpace(string(m.item.Value))
	accepted := false
	if len(value) == clusterDigits {
		id, err := strconv.ParseUint(value, 16, 64)
		accepted = err == nil && id == h.ClusterID && id != w.force.cluster
	} else {
		n, err := strconv.ParseInt(value, 10, 64)
		accepted = err == nil && n >= h.First && n <= m.newest
	}
	if !accepted {
		w.o.Log.Warn().Str("key", w.markerKey).Int64("first", h.First).Int64("revision", h.Revision).Str("cluster_id", ClusterText(h.ClusterID)).
			Msg("marker key does not name what is held")
		return
	}
	w.release(ctx, "the marker key accepts it")
}

// marker is the marker key as it was read, and the revision of the store then.
type marker struct {
	item   store.Item
	newest int64
}

const clusterDigits = 16

// ClusterText is a cluster id as the marker key names it.
func ClusterText(id uint64) string { return fmt.Sprintf("%0*x", clusterDigits, id) }

// poll looks for the marker key. A store that does not answer, or does not let this node
// read it, has none.
func (w *watch) poll(ctx context.Context) {
	tick := time.NewTicker(w.pollGap)
	defer tick.Stop()
	for {
		if it, newest, err := w.o.Get(ctx, w.markerKey); err == nil {
			select {
			case w.markers <- marker{it, newest}:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// release puts in force what was held.
func (w *watch) release(ctx context.Context, why string) {
	h := w.status.Held
	w.o.Log.Warn().Str("alarm", "store_reset").Stringer("cause", h.Cause).Str("why", why).Int64("revision", w.offered.revision).
		Int("objects_in_force", h.InForce).Int("objects_offered", w.offered.objects).Msg("what the configuration store holds is in force again")
	b := w.offered.reset(h.Cause)
	w.unhold()
	w.swap(w.offered)
	w.offered = content{}
	w.mu.Lock()
	w.status.Held = nil
	w.mu.Unlock()
	w.put(ctx, b, OfStore)
}

// unhold ends what runs while something is held.
func (w *watch) unhold() {
	if w.remind == nil {
		return
	}
	w.remind.Stop()
	w.remind = nil
	if w.noMark != nil {
		w.noMark()
		w.polling.Wait()
		w.noMark = nil
	}
}

// alarm says that something is held: once at the change and once a minute.
func (w *watch) alarm() {
	h := w.status.Held
	w.o.Log.Warn().Str("alarm", "store_reset").Stringer("cause", h.Cause).Int64("revision", h.Revision).Str("cluster_id", ClusterText(h.ClusterID)).
		Int("objects_in_force", h.InForce).Int("objects_offered", h.Offered).Time("since", h.Since).
		Msg("configuration store has lost most of what is in force, which is kept until that is accepted")
}

// keep writes files, on a goroutine of its own: a disk that is slow or full holds nobody up.
func (w *watch) keep(end <-chan struct{}) {
	var last, logged time.Time // ends of the last write and of the last line about an error
	var took time.Duration
	dirty := false
	for ending := false; !ending; {
		if !dirty {
			select {
			case <-w.changed:
			case <-end:
				ending = true
			}
		}
		if !ending {
			pause := time.NewTimer(max(w.settle, time.Until(last.Add(max(w.writeGap, w.writeShare*took)))))
			select {
			case <-pause.C:
			case <-end:
				ending = true
			}
			pause.Stop()
			dirty = true
		}
		select {
		case <-w.changed:
			dirty = true
		default:
		}
		if !dirty {
			continue
		}
		begin := time.Now()
		err := w.save()
		last = time.Now()
		took = last.Sub(begin)
		w.mu.Lock()
		if err != nil {
			w.status.WriteErrors++
		} else {
			w.status.Writes++
		}
		w.mu.Unlock()
		if dirty = err != nil; dirty && time.Since(logged) > logEvery {
			logged = last
			w.o.Log.Warn().Err(err).Str("dir", w.folder.dir).Msg("snapshot cannot be written")
		}
	}
}

// unsave notes that a key is to be written. It is called with mu held.
func (w *watch) unsave(key string) {
	if w.unsaved == nil {
		return
	}
	if w.unsaved[key] = struct{}{}; len(w.unsaved) > len(w.force.items)/unsavedShare {
		w.unsaved = nil
	}
}

// save writes what is in force: what changed since the last write, if that is enough.
func (w *watch) save() error {
	if changed := w.changes(); changed != nil {
		done, err := w.folder.append(changed)
		if err != nil {
			w.mu.Lock()
			w.unsaved = nil
			w.mu.Unlock()
		}
		if done || err != nil {
			return err
		}
	}
	w.mu.Lock()
	rec := &record{revision: w.force.revision, cluster: w.force.cluster, items: w.force.list()}
	w.unsaved = map[string]struct{}{}
	w.mu.Unlock()
	rec.saved = time.Now()
	err := w.folder.write(rec)
	if err != nil {
		w.mu.Lock()
		w.unsaved = nil
		w.mu.Unlock()
	}
	return err
}

// changes is what changed since the last write, nil if that is everything.
func (w *watch) changes() *record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsaved == nil {
		return nil
	}
	rec := &record{revision: w.force.revision, cluster: w.force.cluster, saved: time.Now()}
	for key := range w.unsaved {
		it, ok := w.force.items[key]
		if !ok {
			it = gone(key)
		}
		rec.items = append(rec.items, it)
	}
	w.unsaved = map[string]struct{}{}
	return rec
}

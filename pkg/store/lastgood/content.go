package lastgood

import (
	"maps"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/store"
)

// content is what a store holds at a revision. Values are shared with everybody who was
// handed them.
type content struct {
	items    map[string]store.Item
	objects  int // of items, those that are no directory markers
	revision int64
	cluster  uint64
}

// isObject tells objects from directory markers (spec/02 §1), which an Admin API writes
// into an empty store before anybody has configured anything.
func isObject(key string) bool { return !strings.HasSuffix(key, "/") }

// contentOf is what a Reset brings.
func contentOf(b store.Batch) content {
	c := content{items: make(map[string]store.Item, len(b.Events)), revision: b.Revision, cluster: b.ClusterID}
	for i := range b.Events {
		c.put(b.Events[i].Item)
	}
	return c
}

// put reports whether the key is new.
func (c *content) put(it store.Item) bool {
	before := len(c.items)
	c.items[it.Key] = it
	if len(c.items) == before {
		return false
	}
	if isObject(it.Key) {
		c.objects++
	}
	return true
}

// remove returns what it removed.
func (c *content) remove(key string) (store.Item, bool) {
	it, ok := c.items[key]
	if ok {
		delete(c.items, key)
		if isObject(key) {
			c.objects--
		}
	}
	return it, ok
}

// list is a copy of the items, in no order.
func (c *content) list() []store.Item {
	list := make([]store.Item, 0, len(c.items))
	for _, it := range c.items {
		list = append(list, it)
	}
	return list
}

// reset is the content as a batch.
func (c *content) reset(cause store.Cause) store.Batch {
	b := store.Batch{Reset: true, Cause: cause, Revision: c.revision, ClusterID: c.cluster, Events: make([]store.Event, 0, len(c.items))}
	for _, it := range c.items {
		b.Events = append(b.Events, store.Event{Item: it})
	}
	slices.SortFunc(b.Events, func(a, b store.Event) int { return strings.Compare(a.Item.Key, b.Item.Key) })
	return b
}

// kept counts the objects that next holds, too, in whichever version.
func (c *content) kept(next *content) int {
	n := 0
	for key := range c.items {
		if _, ok := next.items[key]; ok && isObject(key) {
			n++
		}
	}
	return n
}

// continues tells whether next may be what became of c by changes that each had a revision
// of their own: the same cluster, no fewer revisions than objects that are gone, and
// something that has been there all the time.
func (c *content) continues(next *content, gone int) bool {
	if next.cluster != c.cluster || next.revision-c.revision < int64(gone) {
		return false
	}
	for key, it := range c.items {
		if now, ok := next.items[key]; ok && now.CreateRevision == it.CreateRevision {
			return true
		}
	}
	return false
}

// same tells whether both hold the same versions of the same items.
func (c *content) same(next *content) bool {
	return c.cluster == next.cluster && maps.EqualFunc(c.items, next.items, func(a, b store.Item) bool {
		return a.Revision == b.Revision && a.CreateRevision == b.CreateRevision
	})
}

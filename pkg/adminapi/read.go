package adminapi

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/store"
)

// get reads one item or lists a directory (spec/01 §3.3).
func (a *API) get(q *request, t target) {
	if t.id == "" || t.kind.IDFrom == resource.IDFromManager && !strings.Contains(t.id, "/") {
		a.list(q, t)
		return
	}
	item, err := a.fetch(q, t.kind, t.fullID())
	stale := false
	if errors.Is(err, store.ErrUnavailable) {
		if cache := a.cache(); cache != nil {
			item, stale = cache.Item(t.kind.Name, t.fullID())
		}
	}
	if err != nil && !stale {
		a.failed(q.Context, err)
		return
	}
	shown, err := a.shown(t.kind, item)
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	if stale {
		shown = withStale(shown)
	}
	a.json(q.Context, http.StatusOK, shown)
}

// Cache is what of the store a process holds in memory. *route.Snapshot is one.
type Cache interface {
	Item(kind, id string) (store.Item, bool)
	Items(kind string, f func(id string, item store.Item) bool) // in the order of keys
}

// cache returns nil where there is none.
func (a *API) cache() Cache {
	if a.o.Cache == nil {
		return nil
	}
	return a.o.Cache()
}

// withStale marks an answer, an object, that was not asked of the store.
func withStale(object []byte) []byte {
	return append(slices.Clip(object[:len(object)-1]), `,"stale":true}`...)
}

// fetch reads an item as it is stored; errKeyNotFound if there is none.
func (a *API) fetch(q *request, k *resource.Kind, id string) (store.Item, error) {
	item, _, err := a.o.Store.Get(q.Request.Context(), k.Key(a.o.Prefix, id))
	if errors.Is(err, store.ErrNotFound) {
		err = errKeyNotFound
	}
	return item, err
}

// shown is an item as clients see it: secrets of plugins opened, others left out.
func (a *API) shown(k *resource.Kind, item store.Item) ([]byte, error) {
	if _, err := jsonedit.IndexTrusted(item.Value); err != nil {
		// Somebody else wrote what is no JSON. As a text it can be seen and deleted, and does
		// not spoil the list around it; unless it may hold what is never shown.
		text := []byte("null")
		if len(k.Redact) == 0 {
			text = []byte(quoted(string(item.Value)))
		}
		return entry(item.Key, text, item), nil
	}
	value, err := a.open(k, item.Key, item.Value)
	if err != nil {
		return nil, err
	}
	if len(k.Redact) > 0 {
		doc, err := jsonedit.IndexTrusted(value)
		if err != nil {
			return nil, err
		}
		edits := make([]jsonedit.Edit, len(k.Redact))
		for i, name := range k.Redact {
			edits[i].Name = name
		}
		value = jsonedit.Join(doc.Splice(nil, edits))
	}
	return entry(item.Key, value, item), nil
}

// entry is the envelope of an item. A zero item leaves the indexes out, as writes do.
func entry(key string, value []byte, item store.Item) []byte {
	b := append([]byte(`{"key":`), quoted(key)...)
	b = append(append(b, `,"value":`...), bytes.TrimSpace(value)...)
	if item.Revision != 0 {
		b = strconv.AppendInt(append(b, `,"createdIndex":`...), item.CreateRevision, 10)
		b = strconv.AppendInt(append(b, `,"modifiedIndex":`...), item.Revision, 10)
	}
	return append(b, '}')
}

// items reads every item of a kind, below one parent or, with below empty, all.
func (a *API) items(q *request, k *resource.Kind, below string) ([]store.Item, error) {
	items, _, err := a.itemsAt(q, k, below)
	return items, err
}

// itemsAt returns, with the items, a condition that holds until another is put there.
func (a *API) itemsAt(q *request, k *resource.Kind, below string) ([]store.Item, store.Cond, error) {
	root := k
	if k.Parent != "" {
		root = resource.ByName(k.Parent)
	}
	prefix := root.Key(a.o.Prefix, below)
	all, at, err := a.o.Store.List(q.Request.Context(), prefix)
	if err != nil {
		return nil, store.Cond{}, err
	}
	kept := all[:0]
	for _, item := range all {
		if found, _, ok := resource.Locate(strings.TrimPrefix(item.Key, a.o.Prefix+"/")); ok && found == k {
			kept = append(kept, item)
		}
	}
	return kept, store.Cond{Key: prefix, Revision: at, Prefix: true}, nil
}

func (a *API) list(q *request, t target) {
	below := ""
	switch {
	case t.parent != "":
		below = t.kind.ChildID(t.parent, "")
	case t.id != "":
		below = t.id + "/"
	}
	items, err := a.items(q, t.kind, below)
	stale := false
	if errors.Is(err, store.ErrUnavailable) {
		items, stale = a.cached(t.kind, below)
	}
	if err != nil && !stale {
		a.failed(q.Context, err)
		return
	}
	if len(items) == 0 && !t.kind.Marker {
		a.failed(q.Context, errKeyNotFound)
		return
	}
	items, err = filtered(q, t.kind, items)
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	total := len(items)
	page, ok, err := paging(q)
	if err != nil {
		a.plain(q.Context, http.StatusBadRequest, err.Error())
		return
	}
	if ok {
		sort.SliceStable(items, func(i, j int) bool { return items[i].CreateRevision < items[j].CreateRevision })
		items = page.slice(items)
	}
	body := strconv.AppendInt([]byte(`{"total":`), int64(total), 10)
	body = append(body, `,"list":[`...)
	for i, item := range items {
		shown, err := a.shown(t.kind, item)
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, shown...)
	}
	body = append(body, "]}"...)
	if stale {
		body = withStale(body)
	}
	a.json(q.Context, http.StatusOK, body)
}

// cached is items from memory; false if there is nothing to read from.
func (a *API) cached(k *resource.Kind, below string) (items []store.Item, ok bool) {
	cache := a.cache()
	if cache == nil {
		return nil, false
	}
	cache.Items(k.Name, func(id string, item store.Item) bool {
		if strings.HasPrefix(id, below) {
			items = append(items, item)
		}
		return true
	})
	return items, true
}

// pages is a slice of a list; both may be fractions, which clients do send.
type pages struct{ page, size float64 }

var errPageSize = errors.New("page_size must be between 10 and 500")

func paging(q *request) (pages, bool, error) {
	page, err1 := strconv.ParseFloat(q.Query("page"), 64)
	size, err2 := strconv.ParseFloat(q.Query("page_size"), 64)
	if err1 != nil || err2 != nil || math.IsNaN(page) || math.IsNaN(size) {
		return pages{}, false, nil
	}
	if size < 10 || size > 500 {
		return pages{}, false, errPageSize
	}
	return pages{max(page, 1), size}, true, nil
}

func (p pages) slice(items []store.Item) []store.Item {
	from, to := math.Ceil((p.page-1)*p.size), math.Floor(p.page*p.size)
	if from >= float64(len(items)) {
		return nil
	}
	return items[int(from):int(min(to, float64(len(items))))]
}

// matchTimeout bounds a client's pattern over one value.
const matchTimeout = 100 * time.Millisecond

// filtered keeps the items that the query's filters let through, all of them AND-ed.
func filtered(q *request, k *resource.Kind, items []store.Item) ([]store.Item, error) {
	var keep []func(*jsonedit.Doc) bool
	var patterns []*pattern
	if text := q.Query("name"); text != "" {
		p := search("name", text)
		patterns = append(patterns, p)
		keep = append(keep, func(d *jsonedit.Doc) bool {
			name, ok := d.String("name")
			return ok && p.match(name)
		})
	}
	// A label may have an empty name, so that an empty argument is one to look for.
	if label, given := q.GetQuery("label"); given {
		keep = append(keep, func(d *jsonedit.Doc) bool {
			raw, kind, ok := d.Get("labels")
			found := false
			if ok && kind == jsonedit.Object {
				_ = jsonedit.Members(raw, func(name string, _ []byte, _ jsonedit.Kind) error {
					found = found || name == label
					return nil
				})
			}
			return found
		})
	}
	if text := q.Query("uri"); text != "" {
		p := search("uri", text)
		patterns = append(patterns, p)
		keep = append(keep, func(d *jsonedit.Doc) bool {
			if uri, ok := d.String("uri"); ok {
				return p.match(uri)
			}
			found := false
			if raw, kind, ok := d.Get("uris"); ok && kind == jsonedit.Array {
				_ = jsonedit.Elements(raw, func(_ int, e []byte, _ jsonedit.Kind) error {
					uri, err := jsonedit.Unquote(e)
					found = found || err == nil && p.match(uri)
					return nil
				})
			}
			return found
		})
	}
	if text := q.Query("filter"); text != "" && (k.Name == "routes" || k.Name == "stream_routes") {
		fields, err := url.ParseQuery(text)
		if err != nil {
			return nil, badRequest("invalid argument filter: " + err.Error())
		}
		for _, field := range []string{"service_id", "upstream_id"} {
			if values := fields[field]; len(values) > 0 {
				want := values[len(values)-1]
				keep = append(keep, func(d *jsonedit.Doc) bool {
					got, ok := d.String(field)
					return ok && got == want
				})
			}
		}
	}
	if len(keep) == 0 {
		return items, nil
	}
	kept := items[:0]
next:
	for _, item := range items {
		doc, err := jsonedit.IndexTrusted(item.Value)
		if err != nil {
			continue
		}
		for _, f := range keep {
			if !f(doc) {
				continue next
			}
		}
		kept = append(kept, item)
	}
	for _, p := range patterns {
		if p.late {
			return nil, badRequest("invalid argument " + p.name + ": the pattern takes longer than " + matchTimeout.String() + " for one value")
		}
	}
	return kept, nil
}

// pattern is a regular expression of a client's.
type pattern struct {
	name string          // of the argument
	re   *regexp2.Regexp // nil: malformed, which matches nothing
	late bool            // a match was given up, and no other is begun
}

func search(name, text string) *pattern {
	re, err := regexp2.Compile(text, regexp2.None)
	if err != nil {
		return &pattern{name: name}
	}
	re.MatchTimeout = matchTimeout
	return &pattern{name: name, re: re}
}

func (p *pattern) match(s string) bool {
	if p.re == nil || p.late {
		return false
	}
	ok, err := p.re.MatchString(s)
	p.late = err != nil
	return ok && err == nil
}

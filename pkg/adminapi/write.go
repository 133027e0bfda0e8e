package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/store"
)

// raceRetries is how often a write begins anew because what it depends on changed
// between reading and writing.
const raceRetries = 3

// put creates or replaces an item (spec/01 §3.1, §3.2).
func (a *API) put(q *request, t target) {
	conf, id, err := a.identify(q, t)
	if err == nil {
		t.id = id
		err = a.parentExists(q, t)
	}
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	a.write(q, t, func() (draft, error) {
		before, err := a.fetch(q, t.kind, t.fullID())
		if err != nil && !errors.Is(err, errKeyNotFound) {
			return draft{}, err
		}
		now := a.now()
		d := draft{doc: conf, before: before.Value, created: now, updated: now, absent: err != nil}
		if created, ok := timeOf(before.Value, "create_time"); ok {
			d.created = created
		}
		return d, nil
	})
}

// post creates an item under an id of the store's making.
func (a *API) post(q *request, t target) {
	switch {
	case q.body == nil:
		a.failed(q.Context, badRequest("missing configurations"))
		return
	case t.id != "" || q.doc.Has("id"):
		a.failed(q.Context, badRequest("wrong "+t.kind.Word+" id, do not need it"))
		return
	}
	if err := a.parentExists(q, t); err != nil {
		a.failed(q.Context, err)
		return
	}
	conf, err := a.judgeable(q, t.kind)
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	// What is refused must not use up an id; the id itself is not known yet.
	if _, err = a.opened(t.kind, "", conf, nil); err == nil {
		_, err = a.judge(q, t, conf)
	}
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	res, err := a.o.Store.Commit(q.Request.Context(), nil, []store.Op{{Key: a.o.Prefix + "/gen_id", Value: []byte("1")}})
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	t.id = fmt.Sprintf("%020d", res.Revision)
	conf = withMember(conf, "id", []byte(quoted(t.id)))
	a.write(q, t, func() (draft, error) {
		now := a.now()
		return draft{doc: conf, created: now, updated: now, absent: true, fresh: true}, nil
	})
}

// draft is a document on its way into the store.
type draft struct {
	doc              []byte // with its id, times of no meaning
	before           []byte // what it replaces, as stored; nil: nothing
	created, updated []byte // numbers
	seen             int64  // revision that must still be in force; 0: none
	absent           bool   // nothing was stored by the key
	fresh            bool   // the key must not exist
}

// write judges a draft and stores it; draft is asked again after a lost race, so that it
// reads anew what it depends on.
func (a *API) write(q *request, t target, next func() (draft, error)) {
	key := t.kind.Key(a.o.Prefix, t.fullID())
	for try := 0; ; try++ {
		d, err := next()
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		doc, err := a.opened(t.kind, key, d.doc, d.before)
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		conds, err := a.judge(q, t, doc)
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		if member := t.kind.ParentMember; member != "" {
			doc = withMember(doc, member, []byte(quoted(t.parent)))
		}
		if t.kind.Times {
			doc = withMember(doc, "create_time", d.created)
			doc = withMember(doc, "update_time", d.updated)
		}
		shown, err := a.seal(t.kind, key, doc)
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		stored, err := a.sealOwn(t.kind, key, shown)
		if err != nil {
			a.failed(q.Context, err)
			return
		}
		ops := []store.Op{{Key: key, Value: stored, TTL: q.ttl}}
		if d.absent {
			// What a deletion left below it, or nobody's, must not become the new one's.
			ops = append(ops, a.below(t)...)
		}
		held := d.seen != 0 || d.fresh
		if held || len(ops) > 1 {
			conds = append(conds, store.Cond{Key: key, Revision: d.seen})
		}
		res, err := a.commit(q, conds, ops)
		var conflict *store.ConflictError
		switch {
		case errors.As(err, &conflict) && conflict.Cond.Key == key && held:
			a.fail(q.Context, http.StatusServiceUnavailable, "value changed before overwritten")
			return
		case errors.Is(err, store.ErrConflict) && try < raceRetries:
			continue
		case err != nil:
			a.failed(q.Context, err)
			return
		}
		status := http.StatusOK
		if len(res.Prev[0]) == 0 {
			status = http.StatusCreated
		}
		a.written(q, res, status, entry(key, shown, store.Item{}))
		return
	}
}

// identify finds the id of a PUT in path and body and returns the document with it.
func (a *API) identify(q *request, t target) (conf []byte, id string, err error) {
	k := t.kind
	if k.IDFrom == resource.IDFromPath && t.id == "" {
		return nil, "", badRequest("missing plugin name")
	}
	if q.body == nil {
		return nil, "", badRequest("missing configurations")
	}
	conf, err = a.judgeable(q, k)
	if err != nil {
		return nil, "", err
	}
	switch k.IDFrom {
	case resource.IDFromUsername:
		name, _ := q.doc.String("username")
		if t.id != "" && q.doc.Has("username") && t.id != name {
			return nil, "", badRequest("wrong username")
		}
		if name == "" {
			// The schema words what is wrong with it.
			if _, err := a.judge(q, t, conf); err != nil {
				return nil, "", err
			}
			return nil, "", badRequest("missing " + k.Word + " id")
		}
		return conf, name, nil
	case resource.IDFromPath:
		return withMember(conf, "id", []byte(quoted(t.id))), t.id, nil
	case resource.IDFromManager:
		if manager, name, _ := strings.Cut(t.id, "/"); manager == "" || name == "" {
			return nil, "", badRequest("missing " + k.Word + " id")
		}
	}
	raw, kind, given := q.doc.Get("id")
	switch {
	case t.id != "" && given && idText(raw, kind) != t.id:
		return nil, "", badRequest("wrong " + k.Word + " id")
	case t.id != "":
		return withMember(conf, "id", []byte(quoted(t.id))), t.id, nil
	case !given:
		return nil, "", badRequest("missing " + k.Word + " id")
	}
	// An id of a wrong shape is the schema's to word, and must not become a key.
	t.id = idText(raw, kind)
	open, err := a.open(k, k.Key(a.o.Prefix, t.fullID()), conf)
	if err != nil {
		return nil, "", err
	}
	doc, err := schema.Decode(open)
	if err != nil {
		return nil, "", badRequest("invalid configuration: " + err.Error())
	}
	if err := k.CheckTimes(doc); err != nil {
		return nil, "", badRequest(err.Error())
	}
	if err := validate(k, t.id, doc); err != nil {
		return nil, "", badRequest(err.Error())
	}
	if strings.Contains(t.id, "/") {
		// Files name a credential together with its consumer; here the path has that.
		return nil, "", badRequest("wrong " + k.Word + " id")
	}
	return conf, t.id, nil
}

// judgeable is the body as an object. An empty array is one, as in the reference.
func (a *API) judgeable(q *request, k *resource.Kind) ([]byte, error) {
	switch {
	case q.doc.Kind() == jsonedit.Object:
		return q.body, nil
	case q.doc.Kind() == jsonedit.Array && q.doc.Len() == 0:
		return []byte("{}"), nil
	}
	doc, err := schema.Decode(q.body)
	if err == nil {
		_, err = k.Validate("1", doc) // which id does not matter
	}
	if err == nil {
		err = errors.New("invalid configuration: wrong type: expected object")
	}
	return nil, badRequest(err.Error())
}

// idText is the value of a member "id" as the text that ids are compared by. What cannot be
// an id is its own text.
func idText(raw []byte, kind jsonedit.Kind) string {
	switch kind {
	case jsonedit.String:
		s, _ := jsonedit.Unquote(raw)
		return s
	case jsonedit.Number:
		if id, ok := resource.IDText(json.Number(raw)); ok {
			return id
		}
	}
	return string(raw)
}

// withMember sets a member at the top of an object and keeps all other bytes.
func withMember(object []byte, name string, value []byte) []byte {
	doc, err := jsonedit.IndexTrusted(object)
	if err != nil {
		return object // cannot be: objects get here after a strict scan
	}
	return jsonedit.Join(doc.Splice(nil, []jsonedit.Edit{{Name: name, Value: value}}))
}

func (a *API) now() []byte { return strconv.AppendInt(nil, a.o.Clock.Now().Unix(), 10) }

// timeOf is a time of a document, a whole number, as it is written there.
func timeOf(doc []byte, member string) ([]byte, bool) {
	d, err := jsonedit.IndexTrusted(doc)
	if err != nil {
		return nil, false
	}
	raw, kind, ok := d.Get(member)
	if !ok || kind != jsonedit.Number {
		return nil, false
	}
	t, err := strconv.ParseFloat(string(raw), 64)
	return raw, err == nil && t == math.Trunc(t)
}

func (a *API) parentExists(q *request, t target) error {
	if t.kind.Parent == "" {
		return nil
	}
	parent := resource.ByName(t.kind.Parent)
	_, err := a.fetch(q, parent, t.parent)
	if errors.Is(err, errKeyNotFound) {
		return &refusal{http.StatusNotFound, parent.Word + " not found"}
	}
	return err
}

// patch changes an item: a merge, or with a sub-path the replacement of one member
// (spec/01 §3.5).
func (a *API) patch(q *request, t target) {
	switch {
	case t.kind.IDFrom == resource.IDFromManager && !strings.Contains(t.id, "/"):
		a.failed(q.Context, badRequest("no secret id"))
		return
	case t.id == "":
		a.failed(q.Context, badRequest("missing "+t.kind.Word+" id"))
		return
	case q.body == nil:
		a.failed(q.Context, badRequest("missing new configuration"))
		return
	}
	if len(t.rest) > a.o.Depth {
		// What it leads to would be refused, after a copy of it for every step.
		a.failed(q.Context, badRequest("invalid sub-path: more than "+strconv.Itoa(a.o.Depth)+" steps"))
		return
	}
	merge := len(t.rest) == 0 || t.kind.Parent != ""
	if merge && q.doc.Kind() != jsonedit.Object && q.doc.Kind() != jsonedit.Array {
		a.failed(q.Context, badRequest("invalid configuration"))
		return
	}
	a.write(q, t, func() (draft, error) {
		before, err := a.fetch(q, t.kind, t.fullID())
		if err != nil {
			return draft{}, err
		}
		doc, err := a.open(t.kind, before.Key, before.Value)
		if err != nil {
			return draft{}, err
		}
		if merge {
			doc, err = jsonedit.Merge(doc, q.body)
		} else {
			doc, err = jsonedit.SetPath(doc, t.rest, q.body)
		}
		var path *jsonedit.PathError
		if errors.As(err, &path) {
			return draft{}, badRequest("invalid sub-path: /" + strings.Join(t.rest[:min(path.Depth, len(t.rest))], "/"))
		}
		if err != nil {
			return draft{}, badRequest("invalid configuration: " + err.Error())
		}
		if doc, err = a.patched(doc, t); err != nil {
			return draft{}, err
		}
		now := a.now()
		d := draft{doc: doc, before: before.Value, created: now, updated: now, seen: before.Revision}
		if created, ok := timeOf(doc, "create_time"); ok {
			d.created = created
		}
		if merge && q.doc.Has("update_time") {
			if updated, ok := timeOf(doc, "update_time"); ok {
				d.updated = updated
			}
		}
		return d, nil
	})
}

// patched refuses what a patch made of an item if it is called otherwise or nests deeper
// than a body may. The id is that of the path afterwards, as a text, like the reference's.
func (a *API) patched(doc []byte, t target) ([]byte, error) {
	d, err := jsonedit.Index(doc, jsonedit.Options{MaxDepth: a.o.Depth})
	if err != nil {
		return nil, badRequest("invalid configuration: " + err.Error())
	}
	raw, kind, given := d.Get("id")
	switch {
	case given && idText(raw, kind) != t.id:
		return nil, badRequest("wrong " + t.kind.Word + " id")
	case d.Kind() == jsonedit.Object && (!given || kind != jsonedit.String):
		return withMember(doc, "id", []byte(quoted(t.id))), nil
	}
	return doc, nil
}

// delete removes an item and what lives below it, unless something depends on it.
func (a *API) delete(q *request, t target) {
	if t.id == "" || t.kind.IDFrom == resource.IDFromManager && !strings.Contains(t.id, "/") {
		a.failed(q.Context, badRequest("missing "+t.kind.Word+" id"))
		return
	}
	key := t.kind.Key(a.o.Prefix, t.fullID())
	ops := append([]store.Op{{Key: key, Delete: true}}, a.below(t)...)
	res, err := a.remove(q, t, ops)
	switch {
	case err != nil:
		a.failed(q.Context, err)
	case len(res.Prev[0]) == 0:
		a.failed(q.Context, errKeyNotFound)
	default:
		a.written(q, res, http.StatusOK, []byte(`{"deleted":"1","key":`+quoted(key)+`}`))
	}
}

// below deletes what lives below an item.
func (a *API) below(t target) (ops []store.Op) {
	for _, child := range resource.Kinds() {
		if child.Parent == t.kind.Name {
			ops = append(ops, store.Op{Key: child.Key(a.o.Prefix, child.ChildID(t.id, "")), Delete: true, Prefix: true})
		}
	}
	return ops
}

// mayContain reports whether a text may be part of a document, as it stands or escaped.
func mayContain(doc []byte, text string) bool {
	return bytes.Contains(doc, []byte(text)) || bytes.IndexByte(doc, '\\') >= 0
}

// mayName reports whether a document may have the id as a value: as it stands, escaped, or
// for a number written in another way (1.0, 1e2).
func mayName(doc []byte, id string) bool {
	return mayContain(doc, id) || strings.Trim(id, "0123456789") == "" && id[0] != '0'
}

// remove commits a deletion. What comes to depend on the item between the look and the
// commit is looked at again. Where items are put without pause that would never end, so the
// last look counts as it is, like the reference's, which looks at what its node knows.
func (a *API) remove(q *request, t target, ops []store.Op) (store.Result, error) {
	for try := 0; ; try++ {
		var conds []store.Cond
		if q.Query("force") != "true" {
			var err error
			if conds, err = a.unused(q, t); err != nil {
				return store.Result{}, err
			}
		}
		if try == raceRetries {
			conds = nil
		}
		res, err := a.commit(q, conds, ops)
		if !errors.Is(err, store.ErrConflict) {
			return res, err
		}
	}
}

// unused refuses to delete what another item depends on (spec/01 §3.6). It returns what
// holds until something may have come to depend on it.
func (a *API) unused(q *request, t target) (conds []store.Cond, err error) {
	lists := map[string][]store.Item{}
	for _, use := range t.kind.UsedBy {
		users, have := lists[use.Kind]
		if !have {
			var until store.Cond
			if users, until, err = a.itemsAt(q, resource.ByName(use.Kind), ""); err != nil {
				return nil, err
			}
			lists[use.Kind] = users
			conds = append(conds, until)
		}
		for _, item := range users {
			// Decoding every item would cost the most where nothing is in use.
			if !mayName(item.Value, t.id) {
				continue
			}
			doc, err := schema.Decode(item.Value)
			if err != nil {
				continue
			}
			if use.By(doc, t.id) {
				_, user, _ := resource.Locate(strings.TrimPrefix(item.Key, a.o.Prefix+"/"))
				return nil, badRequest(use.Refusal(user).Error())
			}
		}
	}
	return conds, nil
}

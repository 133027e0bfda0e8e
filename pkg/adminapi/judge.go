package adminapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/protodef"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/sealed"
	"github.com/gosix/gosix/pkg/store"
)

// unmadeID is the one id of the shape that POST makes which it never makes.
const unmadeID = "00000000000000000000"

// judge says whether a document may be stored, with the code by which nodes compile it:
// schema and checks of its kind, references, plugins, expressions, in the order of
// spec/01 §4. It returns what must still hold when the document is written.
func (a *API) judge(q *request, t target, raw []byte) ([]store.Cond, error) {
	k := t.kind
	doc, err := schema.Decode(raw)
	if err != nil {
		return nil, badRequest("invalid configuration: " + err.Error())
	}
	if q.Request.Method != "PATCH" && !q.alone {
		if err := k.CheckTimes(doc); err != nil {
			return nil, badRequest(err.Error())
		}
	}
	if k.IDFrom == resource.IDFromPath {
		return nil, a.judgeMetadata(t.id, raw)
	}
	if object, ok := doc.(map[string]any); ok && q.Request.Method == "POST" && object["id"] == nil && !q.alone {
		// Only some schemas ask for an id; whichever it becomes, it is a good one.
		object["id"] = unmadeID
	}
	if err := validate(k, t.id, doc); err != nil {
		if errors.Is(err, resource.ErrSealed) {
			a.o.Log.Warn().Str("path", q.Request.URL.Path).Msg("decrypt ssl key failed")
		}
		return nil, badRequest(err.Error())
	}
	var conds []store.Cond
	if !q.alone {
		if conds, err = a.references(q, k, doc); err != nil {
			return nil, err
		}
	}
	for _, member := range k.PluginMembers {
		if err := a.judgePlugins(q, t, member, raw); err != nil {
			return nil, err
		}
	}
	if k.Name == "routes" {
		if err := judgeVars(raw); err != nil {
			return nil, badRequest(err.Error())
		}
	}
	if name, given := resource.StreamProtocolOf(doc); given && k.Name == "stream_routes" {
		// As with plugins, one is known when it works. None does yet.
		return nil, badRequest("unknown protocol [" + name + "]")
	}
	if k.Name == "graphql_cost_decorations" && !q.alone {
		if err := a.judgeDecoration(q, t, doc); err != nil {
			return nil, err
		}
	}
	if k.Parent != "" && !q.alone {
		parent := resource.ByName(k.Parent)
		item, err := a.fetch(q, parent, t.parent)
		if err != nil {
			return nil, err
		}
		conds = append(conds, store.Cond{Key: item.Key, Revision: item.Revision})
	}
	return conds, nil
}

// judgeDecoration holds a decoration to the service in its path, and a field to one
// decoration (spec/01 §4).
func (a *API) judgeDecoration(q *request, t target, doc any) error {
	members, _ := doc.(map[string]any)
	if q.Request.Method == "PATCH" && q.doc.Has("service_id") {
		return badRequest("service_id can not be patched")
	}
	if id, given := resource.IDText(members["service_id"]); given && id != t.parent {
		return badRequest("wrong service_id, it is taken from the path")
	}
	field, _ := members["field_path"].(string)
	others, err := a.items(q, t.kind, t.kind.ChildID(t.parent, ""))
	if err != nil {
		return err
	}
	for _, item := range others {
		_, id, _ := resource.Locate(strings.TrimPrefix(item.Key, a.o.Prefix+"/"))
		if id == t.fullID() {
			continue
		}
		other, err := jsonedit.IndexTrusted(item.Value)
		if err != nil {
			continue
		}
		if held, _ := other.String("field_path"); held == field {
			return badRequest("field_path " + field + " is already decorated on this service by [" + id[strings.LastIndexByte(id, '/')+1:] + "]")
		}
	}
	return nil
}

// validate is what a kind says of a document, and of a definition whether it compiles. That
// is asked before it is stored: to a node no definition means anything, and none rejects one
// for it, as no node of the reference does.
func validate(k *resource.Kind, id string, doc any) error {
	filled, err := k.Validate(id, doc)
	if err != nil || k.Name != "protos" {
		return err
	}
	if err := protodef.Check(resource.DefinitionOf(filled)); err != nil {
		return fmt.Errorf("invalid content: %w", err)
	}
	return nil
}

func judgeVars(raw []byte) error {
	doc, err := jsonedit.IndexTrusted(raw)
	if err != nil {
		return err
	}
	vars, kind, ok := doc.Get("vars")
	if !ok || kind != jsonedit.Array {
		return nil
	}
	if _, err := expr.Compile(vars); err != nil {
		return errors.New("failed to validate the 'vars' expression: " + err.Error())
	}
	return nil
}

// references looks up every item that a document names. What it found must still be
// there when the document is written.
func (a *API) references(q *request, k *resource.Kind, doc any) (conds []store.Cond, err error) {
	for _, ref := range k.Refs {
		id, given := ref.ID(doc)
		if !given {
			continue
		}
		kind := resource.ByName(ref.Kind)
		item, err := a.fetch(q, kind, id)
		switch {
		case errors.Is(err, errKeyNotFound):
			return nil, badRequest(ref.Missing(id).Error())
		case errors.Is(err, store.ErrUnavailable):
			return nil, err
		case err != nil:
			return nil, badRequest(ref.Failed(id, err).Error())
		}
		if named, err := schema.Decode(item.Value); err == nil {
			if err := ref.Check(id, doc, named); err != nil {
				return nil, badRequest(err.Error())
			}
		}
		conds = append(conds, store.Cond{Key: item.Key, Revision: item.Revision})
	}
	return conds, nil
}

func (a *API) judgeMetadata(name string, raw []byte) error {
	if name == "" {
		return badRequest("missing plugin name")
	}
	if _, known := a.o.Registry.Definition(name); !known {
		return badRequest("invalid plugin name")
	}
	if err := a.o.Registry.CheckMetadata(name, raw); err != nil {
		return badRequest("invalid configuration: " + err.Error())
	}
	return nil
}

func (a *API) judgePlugins(q *request, t target, member resource.PluginMember, raw []byte) error {
	switch member.Flavour {
	case resource.FlavourConsumer, resource.FlavourCredential:
		return a.judgeConsumerPlugins(q, t, member, raw)
	case resource.FlavourStream:
		return member.Each(raw, func(name string, conf []byte) error {
			if err := a.o.Registry.CheckStream(plugin.Source{Name: name, Conf: conf}); err != nil {
				return badRequest(err.Error())
			}
			return nil
		})
	}
	var taken map[string]string
	if t.kind.Name == "global_rules" && !q.alone {
		var err error
		if taken, err = a.pluginsOfOtherRules(q, t, member); err != nil {
			return err
		}
	}
	return member.Each(raw, func(name string, conf []byte) error {
		if err := a.o.Registry.Check(plugin.Source{Name: name, Conf: conf}); err != nil {
			return badRequest(err.Error())
		}
		if id, held := taken[name]; held {
			return badRequest("plugin '" + name + "' already exists in global rule with id '" + id + "'")
		}
		return nil
	})
}

// pluginsOfOtherRules tells which global rule, other than the target, has a plugin.
func (a *API) pluginsOfOtherRules(q *request, t target, member resource.PluginMember) (map[string]string, error) {
	rules, err := a.items(q, t.kind, "")
	if err != nil {
		return nil, err
	}
	taken := map[string]string{}
	for _, item := range rules {
		_, id, _ := resource.Locate(strings.TrimPrefix(item.Key, a.o.Prefix+"/"))
		if id == t.id {
			continue
		}
		// A rule that cannot be read is in force nowhere, and holds no plugin.
		_ = member.Each(item.Value, func(name string, _ []byte) error {
			if _, held := taken[name]; !held {
				taken[name] = id
			}
			return nil
		})
	}
	return taken, nil
}

func (a *API) judgeConsumerPlugins(q *request, t target, member resource.PluginMember, raw []byte) error {
	return member.Each(raw, func(name string, conf []byte) error {
		def, known := a.o.Registry.Definition(name)
		if member.Flavour == resource.FlavourCredential {
			if !known {
				return badRequest("unknown plugin " + name)
			}
			if !def.Auth {
				return badRequest(plugin.ErrNotAuth.Error())
			}
		}
		made, _, err := a.o.Registry.CompileConsumer(plugin.Source{Name: name, Conf: conf}, nil, nil)
		if err != nil {
			return badRequest("invalid plugins configuration: " + err.Error())
		}
		if q.alone || made == nil || made.Key == "" || schema.IsReference(made.Key) {
			return nil
		}
		return a.keyIsFree(q, t, name, def.ConsumerKey, made.Key)
	})
}

// keyIsFree refuses a key by which another consumer is found already. Credentials live below
// consumers: one list has both, and consumers are named first.
func (a *API) keyIsFree(q *request, t target, name, attribute, key string) error {
	all, _, err := a.o.Store.List(q.Request.Context(), resource.ByName("consumers").Key(a.o.Prefix, ""))
	if err != nil {
		return err
	}
	owner := ""
	for _, item := range all {
		k, id, ok := resource.Locate(strings.TrimPrefix(item.Key, a.o.Prefix+"/"))
		if !ok || k == t.kind && id == t.fullID() || !a.holdsKey(item, name, attribute, key) {
			continue
		}
		if k.Parent == "" {
			owner = "consumer: " + id
			break
		}
		if owner == "" {
			consumer, credential, _ := strings.Cut(id, "/credentials/")
			owner = "credential: " + credential + " of consumer: " + consumer
		}
	}
	if owner == "" {
		return nil
	}
	return badRequest("duplicate " + attribute + " of plugin " + name + " found with " + owner)
}

// holdsKey tells whether an item configures a plugin with the key. Of each of all consumers
// only that one member is opened, and its document is not made anew.
func (a *API) holdsKey(item store.Item, name, attribute, key string) bool {
	if !mayContain(item.Value, name) {
		return false
	}
	raw, kind := item.Value, jsonedit.Object
	for _, step := range []string{"plugins", name, attribute} {
		if kind != jsonedit.Object {
			return false
		}
		var value []byte
		if err := jsonedit.Members(raw, func(member string, v []byte, k jsonedit.Kind) error {
			if member == step {
				value, kind = v, k
			}
			return nil
		}); err != nil || value == nil {
			return false
		}
		raw = value
	}
	if kind != jsonedit.String {
		return false
	}
	held, err := jsonedit.Unquote(raw)
	return err == nil && (held == key || a.o.Ring.Open(strings.TrimPrefix(item.Key, a.o.Prefix+"/"), held) == key)
}

// secretPaths lists the members of a document that are encrypted at rest.
func (a *API) secretPaths(k *resource.Kind, raw []byte) (paths []string) {
	return sealed.Paths(a.o.Registry, k, raw)
}

// seal encrypts the secrets of a document for the item stored under key.
func (a *API) seal(k *resource.Kind, key string, raw []byte) ([]byte, error) {
	if a.o.Ring == nil {
		return raw, nil
	}
	return sealed.Replace(raw, a.secretPaths(k, raw), func(_, plain string) string {
		if k.Name == "ssls" && !strings.HasPrefix(plain, "---") || seal.IsSealed(plain) {
			return plain // a reference, or what somebody encrypted before
		}
		return a.o.Ring.Seal(strings.TrimPrefix(key, a.o.Prefix+"/"), plain)
	})
}

// sealOwn encrypts what the reference leaves plain, in a store that is not shared with it.
func (a *API) sealOwn(k *resource.Kind, key string, raw []byte) ([]byte, error) {
	if a.o.Ring.Format() != seal.GCM {
		return raw, nil
	}
	return sealed.Replace(raw, k.OwnSecrets, func(_, plain string) string {
		if seal.IsSealed(plain) {
			return plain
		}
		return a.o.Ring.Seal(strings.TrimPrefix(key, a.o.Prefix+"/"), plain)
	})
}

// opened is a document that a client sent for the item stored under key, its secrets
// open: the answer to a write shows them sealed, and clients send such answers back. What
// does not open must have been there before. Anything else was sealed for another item, or
// by a key that is gone, and no node could use it.
func (a *API) opened(k *resource.Kind, key string, raw, before []byte) ([]byte, error) {
	if a.o.Ring == nil {
		return raw, nil
	}
	raw, err := a.open(k, key, raw)
	if err != nil {
		return nil, err
	}
	foreign, err := sealed.Still(a.o.Registry, k, raw, before)
	if err == nil && foreign != "" {
		err = badRequest("failed to decrypt previous encrypted key: " + foreign + " was sealed for another item, or by a key that is not in the keyring")
	}
	return raw, err
}

// open is the inverse of seal.
func (a *API) open(k *resource.Kind, key string, raw []byte) ([]byte, error) {
	return sealed.Open(a.o.Ring, a.o.Registry, strings.TrimPrefix(key, a.o.Prefix+"/"), k, raw)
}

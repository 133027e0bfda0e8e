package adminapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
)

// configs serves POST /configs/validate (spec/01 §9): every item of a whole configuration
// is judged as a write of it would be, but by itself. It reports whether the path was its
// own; there is nothing else below /configs.
func (a *API) configs(q *request) bool {
	if q.Request.Method != http.MethodPost || len(q.steps) != 2 || q.steps[1] != "validate" {
		return false
	}
	q.alone = true
	if !a.read(q) || !a.configuration(q) {
		return true
	}
	var v verdicts
	for _, k := range resource.Kinds() {
		if k.Parent == "" { // what lives below another kind stands in that one's section
			a.judgeSection(q, k, &v)
		}
	}
	v.judgePluginList(q.doc)
	if len(v.list) == 0 {
		a.json(q.Context, http.StatusOK, []byte("{}"))
		return true
	}
	errs, err := json.Marshal(v.list)
	if err != nil {
		a.failed(q.Context, err)
		return true
	}
	a.json(q.Context, http.StatusBadRequest, append(append([]byte(`{"error_msg":"Configuration validation failed","errors":`), errs...), '}'))
	return true
}

// configuration makes the body an indexed object, from YAML if it says so; false if it
// answered.
func (a *API) configuration(q *request) bool {
	refuse := func(why string) bool {
		a.fail(q.Context, http.StatusBadRequest, "invalid request body: "+why)
		return false
	}
	if q.body == nil {
		return refuse("empty request body")
	}
	if strings.HasPrefix(q.GetHeader("Content-Type"), "application/yaml") {
		doc, err := config.JSON(q.body, a.o.Depth)
		switch {
		case err != nil:
			return refuse(err.Error())
		case doc == nil || doc[0] != '{' && doc[0] != '[':
			return refuse(config.ErrYAML.Error())
		}
		q.body = doc
	}
	if !a.index(q, false) {
		return false
	}
	if q.doc.Kind() != jsonedit.Object {
		return refuse("a configuration is an object")
	}
	return true
}

// verdict is one fault of a configuration.
type verdict struct {
	Type  string          `json:"resource_type"`
	ID    json.RawMessage `json:"resource_id,omitempty"` // as in the configuration; "" if an item has none
	Index *int            `json:"index,omitempty"`       // in the section, from 0; nil: the section's own fault
	Error string          `json:"error"`
}

type verdicts struct{ list []verdict }

// section finds the items of a directory. A configuration may leave it empty in any way.
func (v *verdicts) section(doc *jsonedit.Doc, name string) (items []byte) {
	version := name + "_conf_version"
	if raw, kind, given := doc.Get(version); given && kind != jsonedit.Number {
		value, _ := schema.Decode(raw) // it was scanned with the body
		v.list = append(v.list, verdict{Type: name, Error: version + " must be a number, got " + schema.TypeName(value)})
	}
	raw, kind, _ := doc.Get(name)
	switch {
	case kind == jsonedit.Array:
		return raw
	case kind == jsonedit.Invalid || kind == jsonedit.Null:
	default:
		value, _ := schema.Decode(raw)
		if members, ok := value.(map[string]any); !ok || len(members) > 0 {
			v.list = append(v.list, verdict{Type: name, Error: "invalid configuration: wrong type: expected array, got " + schema.TypeName(value)})
		}
	}
	return nil
}

// judgeSection judges the items of one kind, and of the kinds that live below it.
func (a *API) judgeSection(q *request, k *resource.Kind, v *verdicts) {
	items := v.section(q.doc, k.Name)
	if items == nil {
		return
	}
	seen := map[string]bool{}
	_ = jsonedit.Elements(items, func(i int, raw []byte, _ jsonedit.Kind) error {
		member, id, shown := named(k, raw)
		say := func(text string) {
			v.list = append(v.list, verdict{Type: k.Name, ID: shown, Index: &i, Error: text})
		}
		if err := a.judgeItem(q, k, id, raw); err != nil {
			say(err.Error())
		}
		if id == "" {
			return nil
		}
		if seen[id] {
			say("found duplicate " + member + " " + id + " in " + k.Name)
		}
		seen[id] = true
		return nil
	})
}

// named finds what an item of a section is called: in which member, in the words of
// messages, as text, and as it stands there.
func named(k *resource.Kind, raw []byte) (member, id string, shown json.RawMessage) {
	shown = json.RawMessage(`""`)
	doc, err := jsonedit.IndexTrusted(raw)
	if err != nil {
		return "", "", shown
	}
	words := [][2]string{{"id", "id"}}
	if k.IDFrom == resource.IDFromUsername {
		words = [][2]string{{"id", "credential id"}, {"username", "username"}}
	}
	for _, w := range words {
		if value, kind, given := doc.Get(w[0]); given && (kind == jsonedit.String || kind == jsonedit.Number) {
			return w[1], idText(value, kind), value
		}
	}
	return "", "", shown
}

// judgeItem judges one item of the section of kind k as if it was written under its id.
func (a *API) judgeItem(q *request, k *resource.Kind, id string, raw []byte) error {
	t := target{kind: k, id: id}
	for _, child := range resource.Kinds() {
		// Files name what lives below another item by its whole key: jack/credentials/c1.
		if parent, own, found := strings.Cut(id, "/"+child.Name+"/"); found && child.Parent == k.Name {
			t = target{kind: child, parent: parent, id: own}
		}
	}
	if k.IDFrom == resource.IDFromManager && !strings.Contains(id, "/") {
		return badRequest("invalid secret id: " + id)
	}
	raw, err := a.opened(t.kind, t.kind.Key(a.o.Prefix, t.fullID()), raw, nil)
	if err == nil {
		_, err = a.judge(q, t, raw)
	}
	return err
}

// judgePluginList judges the list of plugins to load, which is no kind: it has one key.
func (v *verdicts) judgePluginList(doc *jsonedit.Doc) {
	const name = "plugins"
	items := v.section(doc, name)
	if items == nil {
		return
	}
	value, err := schema.Decode(items)
	if err == nil {
		err = resource.CheckPluginList(value)
	}
	if err != nil {
		v.list = append(v.list, verdict{Type: name, Error: err.Error()})
	}
}

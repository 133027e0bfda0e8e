package adminapi

import (
	"encoding/json"
	"net/http"

	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/store"
)

// plugins serves /plugins/… (spec/01 §2).
func (a *API) plugins(q *request) {
	if len(q.steps) == 2 && q.steps[1] == "reload" {
		a.reload(q)
		return
	}
	if q.Request.Method != http.MethodGet {
		a.fail(q.Context, http.StatusNotFound, "not found")
		return
	}
	switch {
	case len(q.steps) == 2 && q.steps[1] == "list":
		a.pluginList(q)
	default:
		a.plugin(q, q.step(1))
	}
}

// reload serves /plugins/reload (spec/01 §6).
func (a *API) reload(q *request) {
	if q.Request.Method != http.MethodPut {
		a.fail(q.Context, http.StatusMethodNotAllowed, "please use PUT method to reload the plugins, "+q.Request.Method+" method is not allowed.")
		return
	}
	if !a.readWait(q) {
		return
	}
	at, err := a.o.Reload()
	if err != nil {
		a.o.Log.Warn().Err(err).Msg("plugins were not reloaded")
		a.plain(q.Context, http.StatusServiceUnavailable, err.Error())
		return
	}
	revision(q.Context, store.Result{Revision: at})
	if q.wait > 0 {
		s := a.awaitWritten(q, at)
		if status, body := standing(q, &s, http.StatusOK, []byte(`{"done":true}`)); status != http.StatusOK {
			a.json(q.Context, status, body)
			return
		}
	}
	a.plain(q.Context, http.StatusOK, "done")
}

func (a *API) pluginList(q *request) {
	names := []string{}
	switch subsystem(q) {
	case "http":
		names = a.o.Registry.Names()
	case "stream":
	default:
		a.plain(q.Context, http.StatusBadRequest, "invalid subsystem passed")
		return
	}
	body, _ := json.Marshal(names)
	a.json(q.Context, http.StatusOK, body)
}

func subsystem(q *request) string {
	if s, given := q.GetQuery("subsystem"); given {
		return s
	}
	return "http"
}

// plugin answers with the schema of one plugin, or with everything about all of them.
func (a *API) plugin(q *request, name string) {
	q.Header("X-API-VERSION", version)
	in := subsystem(q)
	if in != "http" && in != "stream" {
		a.fail(q.Context, http.StatusBadRequest, "unsupported subsystem: "+in)
		return
	}
	if q.Query("all") == "true" {
		a.allPlugins(q, in)
		return
	}
	def, known := a.o.Registry.Definition(name)
	if !known || in == "stream" {
		a.fail(q.Context, http.StatusNotFound, "plugin not found in subsystem "+in)
		return
	}
	doc := a.o.Registry.PublishedSchema(name)
	if q.Query("schema_type") == "consumer" {
		doc = def.ConsumerSchema
	}
	if doc == nil {
		a.fail(q.Context, http.StatusBadRequest, "not found schema")
		return
	}
	a.json(q.Context, http.StatusOK, doc)
}

// allPlugins is the deprecated listing with everything in it. There are no plugins for
// streams.
func (a *API) allPlugins(q *request, in string) {
	type entry struct {
		Version  string          `json:"version,omitempty"`
		Priority int             `json:"priority"`
		Schema   json.RawMessage `json:"schema"`
		Metadata json.RawMessage `json:"metadata_schema,omitempty"`
		Consumer json.RawMessage `json:"consumer_schema,omitempty"`
		Type     string          `json:"type,omitempty"`
		Scope    string          `json:"scope,omitempty"`
	}
	all := map[string]entry{}
	if in == "http" {
		for _, name := range a.o.Registry.Names() {
			def, _ := a.o.Registry.Definition(name)
			e := entry{
				Version: def.Version, Priority: def.Priority, Schema: a.o.Registry.PublishedSchema(name),
				Metadata: def.MetadataSchema, Consumer: def.ConsumerSchema, Scope: def.Scope,
			}
			if def.Auth {
				e.Type = "auth"
			}
			all[name] = e
		}
	}
	body, err := json.Marshal(all)
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	a.json(q.Context, http.StatusOK, body)
}

// schema serves /schema/… (spec/01 §2).
func (a *API) schema(q *request) {
	switch {
	case len(q.steps) >= 3 && q.steps[1] == "validate" && q.Request.Method == http.MethodPost:
		a.validate(q)
	case q.Request.Method != http.MethodGet:
		a.fail(q.Context, http.StatusNotFound, "not found")
	case len(q.steps) == 1:
		a.fail(q.Context, http.StatusBadRequest, "not found schema: ")
	case q.steps[1] == "plugins":
		a.plugin(q, q.step(2))
	default:
		q.Header("X-API-VERSION", version)
		doc, ok := resource.Schemas(q.steps[1])
		if !ok {
			a.fail(q.Context, http.StatusBadRequest, "not found schema: "+q.steps[1])
			return
		}
		a.json(q.Context, http.StatusOK, doc)
	}
}

// validate judges a document by the schema of its kind alone.
func (a *API) validate(q *request) {
	kind := resource.ByName(q.steps[2])
	if kind == nil || kind.Schema == nil {
		a.fail(q.Context, http.StatusNotFound, "Unsupported resource type: "+q.steps[2])
		return
	}
	if !a.read(q) || !a.index(q, true) {
		return
	}
	if q.body == nil {
		a.fail(q.Context, http.StatusBadRequest, "wrong type: expected object, got nil")
		return
	}
	doc, err := schema.Decode(q.body)
	if err == nil {
		err = kind.Schema.Check(doc)
	}
	if err != nil {
		a.fail(q.Context, http.StatusBadRequest, err.Error())
		return
	}
	q.Status(http.StatusOK)
	q.Writer.Header().Set("Content-Type", "application/json")
	q.Writer.WriteHeaderNow()
}

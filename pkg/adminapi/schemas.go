package adminapi

import (
	"encoding/json"
	"net/http"

	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
)

// plugins serves /plugins/… (spec/01 §2).
func (a *API) plugins(q *request) {
	if q.Request.Method != http.MethodGet {
		a.fail(q.Context, http.StatusNotFound, "not found")
		return
	}
	switch {
	case len(q.steps) == 2 && q.steps[1] == "list":
		a.pluginList(q)
	case len(q.steps) >= 2:
		a.pluginSchema(q, q.steps[1])
	case q.Query("all") == "true":
		a.allPlugins(q)
	default:
		a.fail(q.Context, http.StatusNotFound, "not found")
	}
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

func (a *API) pluginSchema(q *request, name string) {
	q.Header("X-API-VERSION", version)
	in := subsystem(q)
	if in != "http" && in != "stream" {
		a.fail(q.Context, http.StatusBadRequest, "unsupported subsystem: "+in)
		return
	}
	doc := a.o.Registry.PublishedSchema(name)
	if doc == nil || in == "stream" {
		a.fail(q.Context, http.StatusNotFound, "plugin not found in subsystem "+in)
		return
	}
	if q.Query("schema_type") == "consumer" {
		if doc = a.o.Registry.PublishedConsumerSchema(name); doc == nil {
			a.fail(q.Context, http.StatusBadRequest, "not found schema")
			return
		}
	}
	a.json(q.Context, http.StatusOK, doc)
}

// allPlugins is the deprecated listing with everything in it.
func (a *API) allPlugins(q *request) {
	q.Header("X-API-VERSION", version)
	type entry struct {
		Version  string          `json:"version"`
		Priority int             `json:"priority"`
		Schema   json.RawMessage `json:"schema"`
		Metadata json.RawMessage `json:"metadata_schema,omitempty"`
		Consumer json.RawMessage `json:"consumer_schema,omitempty"`
		Type     string          `json:"type,omitempty"`
	}
	all := map[string]entry{}
	if subsystem(q) == "http" {
		for _, name := range a.o.Registry.Names() {
			def, _ := a.o.Registry.Definition(name)
			e := entry{
				Version: def.Version, Priority: def.Priority, Schema: a.o.Registry.PublishedSchema(name),
				Metadata: def.MetadataSchema, Consumer: a.o.Registry.PublishedConsumerSchema(name),
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
	case len(q.steps) >= 2 && q.steps[1] == "validate":
		a.validate(q)
	case q.Request.Method != http.MethodGet:
		a.fail(q.Context, http.StatusNotFound, "not found")
	case len(q.steps) == 1:
		a.fail(q.Context, http.StatusBadRequest, "not found schema: ")
	case q.steps[1] == "plugins" && len(q.steps) == 2:
		a.fail(q.Context, http.StatusNotFound, "plugin not found in subsystem http")
	case q.steps[1] == "plugins":
		a.pluginSchema(q, q.steps[2])
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
	if q.Request.Method != http.MethodPost || len(q.steps) < 3 {
		a.fail(q.Context, http.StatusNotFound, "not found")
		return
	}
	kind := resource.ByName(q.steps[2])
	if kind == nil || kind.Schema == nil {
		a.fail(q.Context, http.StatusNotFound, "Unsupported resource type: "+q.steps[2])
		return
	}
	if !a.read(q) || !a.index(q, false) {
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

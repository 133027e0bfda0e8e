// Package aiprompttemplate is the plugin ai-prompt-template: a request names one of the
// configured requests and what is to be filled into it. What the request then means it does
// not know.
package aiprompttemplate

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/prompt"
)

//go:embed schema.json
var schema []byte

// Definition is the plugin. depth is that of JSON in request bodies, 0: 64.
func Definition(depth int) plugin.Definition {
	return plugin.Definition{
		Name: "ai-prompt-template", Version: "0.1", Priority: 1071, Schema: schema,
		New: func(b *plugin.Build) (plugin.Phases, error) {
			t := &templates{depth: depth}
			return plugin.Phases{Rewrite: t.rewrite}, t.read(b.Conf)
		},
	}
}

type templates struct {
	depth  int
	limit  int64 // bytes of a body
	byName map[string]*template
}

func (t *templates) read(conf []byte) error {
	var c struct {
		Limit     int64 `json:"max_req_body_size"`
		Templates []struct {
			Name     string          `json:"name"`
			Template json.RawMessage `json:"template"`
		} `json:"templates"`
	}
	if err := plugin.Decode(conf, &c); err != nil {
		return err
	}
	t.limit, t.byName = c.Limit, map[string]*template{}
	for i, one := range c.Templates {
		compiled, err := compile(one.Template)
		if err != nil {
			return fmt.Errorf("templates[%d]: %w", i, err)
		}
		if t.byName[one.Name] == nil { // the first of a name counts
			t.byName[one.Name] = compiled
		}
	}
	return nil
}

func (t *templates) rewrite(x *plugin.Context) error {
	doc, err := prompt.Read(&x.Request, t.limit, t.depth)
	if err != nil {
		return err
	}
	raw, kind, ok := doc.Get("template_name")
	if !ok || kind == jsonedit.Null || kind == jsonedit.Bool && raw[0] == 'f' {
		return plugin.Exit(http.StatusBadRequest, prompt.Refusal{Message: "template name is missing in request."})
	}
	name := string(raw)
	if kind == jsonedit.String {
		name, _ = doc.String("template_name")
	}
	chosen := t.byName[name]
	if chosen == nil || kind != jsonedit.String {
		return plugin.Exit(http.StatusBadRequest, prompt.Refusal{Message: "template: " + name + " not configured."})
	}
	body, err := chosen.render(doc)
	if err != nil {
		return &plugin.ExitError{
			Status: http.StatusServiceUnavailable, Err: err,
			Body: prompt.Refusal{Message: "request template rendering: " + err.Error()},
		}
	}
	x.Request.Body.Set(body)
	return nil
}

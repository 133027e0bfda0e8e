// Package aipromptdecorator is the plugin ai-prompt-decorator: it puts messages before and
// behind those of a request to a language model. Where a protocol has its messages it does
// not know.
package aipromptdecorator

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/prompt"
)

//go:embed schema.json
var schema []byte

// Definition is the plugin. depth is that of JSON in request bodies, 0: 64.
func Definition(depth int) plugin.Definition {
	return plugin.Definition{
		Name: "ai-prompt-decorator", Version: "0.1", Priority: 1070, Schema: schema,
		New: func(b *plugin.Build) (plugin.Phases, error) {
			d := &decorator{depth: depth}
			return plugin.Phases{Rewrite: d.rewrite}, d.read(b.Conf)
		},
	}
}

type decorator struct {
	depth          int
	limit          int64 // bytes of a body
	before, behind []prompt.Addition
}

func (d *decorator) read(conf []byte) (err error) {
	var c struct {
		Limit   int64             `json:"max_req_body_size"`
		Prepend []json.RawMessage `json:"prepend"`
		Append  []json.RawMessage `json:"append"`
	}
	if err := plugin.Decode(conf, &c); err != nil {
		return err
	}
	d.limit = c.Limit
	if d.before, err = additions("prepend", c.Prepend); err == nil {
		d.behind, err = additions("append", c.Append)
	}
	return err
}

func additions(member string, raw []json.RawMessage) ([]prompt.Addition, error) {
	all := make([]prompt.Addition, len(raw))
	for i := range raw {
		var err error
		if all[i], err = prompt.NewAddition(raw[i]); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", member, i, err)
		}
	}
	return all, nil
}

func (d *decorator) rewrite(x *plugin.Context) error {
	doc, err := prompt.Read(&x.Request, d.limit, d.depth)
	if err != nil {
		return err
	}
	id, _ := protocol.Detect(x.Request.Path, doc)
	body, err := prompt.Surround(id, doc, d.before, d.behind)
	if err != nil {
		return plugin.Exit(http.StatusBadRequest, prompt.Refusal{Message: "could not add messages: " + err.Error()})
	}
	if len(body) != len(doc.Bytes()) { // additions are never empty
		x.Request.Body.Set(body)
	}
	return nil
}

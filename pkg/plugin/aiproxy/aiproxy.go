// Package aiproxy is the plugins ai-proxy and ai-proxy-multi: a chat request in, a model's
// answer out, from one configured account or the best of several. Both generations of
// configuration compile to one form, and one path serves them. How a provider is spoken to
// is its driver's business; how targets are spread, the balancer's.
package aiproxy

import (
	_ "embed"
	"encoding/json"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/gcp"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// Deps are what the plugins work with.
type Deps struct {
	Client  *upstream.Client
	Drivers *drivers.Set
	Pickers *balancer.Cache
	Tokens  *gcp.Source // for auth.gcp; nil: an instance that has it cannot be called
	Depth   int         // of JSON in request bodies; 0: 64
	MaxBody int64       // bytes of a request body where the configuration names no limit; 0: 64 MiB
	// Health probes instances that have checks; nil: they are not probed, and healthy.
	Health *health.Checker
}

//go:embed schema_single.json
var singleSchema []byte

//go:embed schema_multi.json
var multiSchema []byte

//go:embed schema_seed_single.json
var seedSingleSchema []byte

//go:embed schema_seed_multi.json
var seedMultiSchema []byte

// Single is the plugin ai-proxy: one account.
func Single(d Deps) plugin.Definition {
	return plugin.Definition{
		Name: "ai-proxy", Version: "0.1", Priority: 1040, Schema: d.offer(singleSchema),
		Secrets: []string{
			"auth.header", "auth.query", "auth.gcp.service_account_json", "auth.aws.secret_access_key", "auth.aws.session_token",
		},
		SchemaFor: generationSchema(seedSingleSchema, seedSingle),
		Check:     d.checkSingle,
		New:       func(b *plugin.Build) (plugin.Phases, error) { return d.build(b, "ai-proxy", readSingle) },
	}
}

// Multi is the plugin ai-proxy-multi: several accounts, balanced.
func Multi(d Deps) plugin.Definition {
	return plugin.Definition{
		Name: "ai-proxy-multi", Version: "0.1", Priority: 1041, Schema: d.offer(multiSchema, "instances", "items"),
		Secrets: []string{
			"instances.auth.header", "instances.auth.query", "instances.auth.gcp.service_account_json",
			"instances.auth.aws.secret_access_key", "instances.auth.aws.session_token",
			"providers.auth.header", "providers.auth.query",
			"semantic_opts.embeddings.auth.header", "semantic_opts.embeddings.auth.query",
		},
		SchemaFor: generationSchema(seedMultiSchema, seedMulti),
		Check:     d.checkMulti,
		New:       func(b *plugin.Build) (plugin.Phases, error) { return d.build(b, "ai-proxy-multi", readMulti) },
	}
}

// offer adds the program's providers to those that the schema's members at path may name:
// one that the reference does not have is a row in its driver's table, and nothing else.
func (d Deps) offer(schema []byte, path ...string) []byte {
	at := make([]string, 0, 5)
	for _, p := range path {
		if p != "items" {
			at = append(at, "properties")
		}
		at = append(at, p)
	}
	at = append(at, "properties", "provider", "enum")
	list, known := schema, map[string]bool{}
	for _, name := range at {
		list = within(list, name)
	}
	var names []string
	_ = jsonedit.Elements(list, func(_ int, raw []byte, _ jsonedit.Kind) error {
		name, err := jsonedit.Unquote(raw)
		names, known[name] = append(names, name), true
		return err
	})
	for _, name := range d.Drivers.Providers() {
		if !known[name] {
			names = append(names, name)
		}
	}
	if len(names) == len(known) {
		return schema
	}
	enum, err := json.Marshal(names)
	if err == nil {
		schema, err = jsonedit.SetPath(schema, at, enum)
	}
	if err != nil {
		panic("aiproxy: " + err.Error()) // the schema is ours
	}
	return schema
}

// within returns the value of a member of an object; nil if there is none.
func within(object []byte, name string) (value []byte) {
	_ = jsonedit.Members(object, func(n string, raw []byte, _ jsonedit.Kind) error {
		if n == name {
			value = raw
		}
		return nil
	})
	return value
}

// build compiles a configuration of either plugin: both put the same functions into the
// same phases.
func (d Deps) build(b *plugin.Build, name string, read func([]byte) (*conf, error)) (plugin.Phases, error) {
	c, err := read(b.Conf)
	if err != nil {
		return plugin.Phases{}, err
	}
	p, err := d.compile(name, c)
	if err != nil {
		return plugin.Phases{}, err
	}
	if b.Clock != nil {
		p.clock = b.Clock
	}
	if err := p.adopt(b, d.Pickers); err != nil {
		return plugin.Phases{}, err
	}
	for _, w := range c.warnings {
		b.Log.Warn().Str("plugin", name).Str("parent", b.Parent.Kind+"/"+b.Parent.ID).Msg(w)
	}
	return plugin.Phases{Access: p.access, BeforeProxy: p.beforeProxy, Log: p.log, State: p.state}, nil
}

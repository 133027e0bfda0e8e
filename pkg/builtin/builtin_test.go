package builtin

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/upstream"
)

func registry(t *testing.T) *plugin.Registry {
	t.Helper()
	client := upstream.NewClient(upstream.Options{})
	t.Cleanup(client.Close)
	deps := aiproxy.Deps{Client: client, Drivers: Drivers(), Pickers: balancer.NewCache(0)}
	return plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Plugins(deps, metrics(t))...)
}

func metrics(t *testing.T) *prometheus.Metrics {
	t.Helper()
	m, err := prometheus.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPluginsStandInRunOrder(t *testing.T) {
	var listed []string
	for _, d := range Plugins(aiproxy.Deps{Drivers: Drivers()}, metrics(t)) {
		listed = append(listed, d.Name)
	}
	if diff := cmp.Diff(registry(t).Names(), listed); diff != "" {
		t.Errorf("the list is not in the order of priorities: %s", diff)
	}
}

// Schemas are compiled when they are needed, and none may fail then.
func TestEverySchemaCompiles(t *testing.T) {
	r := registry(t)
	for _, name := range r.Names() {
		if !json.Valid(r.PublishedSchema(name)) {
			t.Errorf("%s: has no schema", name)
		}
		d, _ := r.Definition(name)
		if d.ConsumerSchema != nil {
			_, _, _ = r.CompileConsumer(plugin.Source{Name: name, Conf: []byte(`{}`)}, nil, nil)
		}
		_ = r.CheckMetadata(name, []byte(`{}`))
	}
}

package builtin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
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

var example = regexp.MustCompile("(?s)```json\n(.*?)```")

// Every JSON example of a plugin's README is one that the Admin API accepts.
func TestExamplesOfREADMEsAreAccepted(t *testing.T) {
	r := registry(t)
	files, err := filepath.Glob("../plugin/*/README.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no READMEs: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := example.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no example", file)
		}
		for n, block := range blocks {
			if err := accepts(r, block[1]); err != nil {
				t.Errorf("%s, example %d: %v\n%s", file, n+1, err, block[1])
			}
		}
	}
}

func accepts(r *plugin.Registry, raw []byte) error {
	doc, err := schema.Decode(raw)
	if err != nil {
		return err
	}
	object, _ := doc.(map[string]any)
	kind := resource.ByName("routes")
	if object["username"] != nil {
		kind = resource.ByName("consumers")
	}
	if _, err := kind.Validate("1", doc); err != nil {
		return err
	}
	var own struct{ Plugins map[string]json.RawMessage }
	if err := json.Unmarshal(raw, &own); err != nil {
		return err
	}
	names := make([]string, 0, len(own.Plugins))
	for name := range own.Plugins {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		source := plugin.Source{Name: name, Conf: own.Plugins[name]}
		if kind.Name == "consumers" {
			_, _, err = r.CompileConsumer(source, nil, nil)
		} else {
			err = r.Check(source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

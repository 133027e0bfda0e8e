package aipromptdecorator

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange/exchangetest"
	"github.com/gosix/gosix/pkg/plugin"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(0))
	for conf, want := range map[string]string{
		`{}`:               `object matches none of the required: ["prepend"] or ["append"] or ["append","prepend"]`,
		`{"prepend":[{}]}`: `property "prepend" validation failed: failed to validate item 1: property "`,
		`{"append":["a"]}`: `append[0]: `,
		`{"prepend":[]}`:   "",
		`{"append":[{"role":"tool","content":"x"}]}`: `property "role" validation failed: matches none of the enum values`,
	} {
		err := r.Check(plugin.Source{Name: "ai-prompt-decorator", Conf: json.RawMessage(conf)})
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", conf, err, want)
		}
	}
}

func TestABodyThatGetsNothingIsNotReplaced(t *testing.T) {
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(0))
	for conf, changed := range map[string]bool{
		`{"prepend":[]}`: false,
		`{"append":[{"role":"user","content":"x"}]}`: true,
	} {
		p, err := r.Compile(plugin.Source{Name: "ai-prompt-decorator", Conf: json.RawMessage(conf)}, plugin.Labels{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, out := exchangetest.New()
		body := `{"messages":[]}`
		x.Request.Body.SetSource(strings.NewReader(body), int64(len(body)))
		var c plugin.Context
		c.Begin(x, nil, nil, zerolog.Nop())
		c.SetRoute(plugin.NewChain([]*plugin.Compiled{p}), plugin.Labels{})
		if c.Chain().Run(&c, plugin.Rewrite) {
			t.Fatalf("%s: answered %d", conf, out.Status)
		}
		if x.Request.Body.Changed() != changed {
			t.Errorf("%s: changed %v, want %v", conf, !changed, changed)
		}
	}
}

package aiproxy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/plugin"
)

// A provider that speaks like OpenAI is one row: schema, checks, paths, bodies, streams and
// counts follow from it.
func TestANewProviderIsOneRow(t *testing.T) {
	row := map[string]drivers.Driver{"acme": openai.New(openai.Row{
		Host:  "llm.acme.example",
		Paths: map[protocol.ID]string{protocol.OpenAIChat: "/acme/chat"},
		Shape: drivers.Shape{ChatLimit: "limit"},
	})}
	llm, addr := fake(t, "acme")
	r := newRigOf(t, drivers.NewSet(openai.Providers(), row), "")
	chain := r.route("ai-proxy-multi", `{"instances":[{"name":"a","provider":"acme","weight":1,"auth":{},
		"override":{"endpoint":"http://`+addr+`","llm_options":{"max_tokens":9}}}]}`)
	got, c := r.ask(chain, request{body: `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`})
	if got.status != 200 || !strings.HasSuffix(got.body(), "data: [DONE]\n\n") || strings.Contains(got.body(), "usage") {
		t.Errorf("got %d %s", got.status, got.body())
	}
	if llm := c.Facts.LLM; llm.PromptTokens != 7 || llm.TotalTokens <= 7 {
		t.Errorf("got %+v", llm)
	}
	asked := llm.Received()[0]
	if asked.Path != "/acme/chat" || !strings.Contains(string(asked.Body), `"limit":9`) {
		t.Errorf("asked %s with %s", asked.Path, asked.Body)
	}
}

func TestTheSchemasOfferEveryDriver(t *testing.T) {
	for _, set := range []*drivers.Set{allDrivers(), drivers.NewSet(openai.Providers(), map[string]drivers.Driver{"acme": openai.New(openai.Row{})})} {
		d := Deps{Drivers: set}
		for _, def := range []plugin.Definition{Single(d), Multi(d)} {
			var s struct {
				Properties struct {
					Provider  enumeration
					Instances struct {
						Items struct {
							Properties struct{ Provider enumeration }
						}
					}
				}
			}
			if err := json.Unmarshal(def.Schema, &s); err != nil {
				t.Fatal(err)
			}
			offered := slices.Concat(s.Properties.Provider.Enum, s.Properties.Instances.Items.Properties.Provider.Enum)
			for _, name := range set.Providers() {
				if !slices.Contains(offered, name) {
					t.Errorf("%s offers %q, but not %s", def.Name, offered, name)
				}
			}
		}
	}
}

type enumeration struct{ Enum []string }

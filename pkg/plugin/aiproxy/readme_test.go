package aiproxy

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/gosix/gosix/pkg/plugin"
)

func TestTheExamplesOfTheReadmeAreAccepted(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1)
	if len(examples) == 0 {
		t.Fatal("there are no examples")
	}
	r := newRig(t)
	for _, e := range examples {
		var route struct {
			Plugins map[string]json.RawMessage `json:"plugins"`
		}
		if err := json.Unmarshal(e[1], &route); err != nil {
			t.Errorf("%v in\n%s", err, e[1])
		}
		for name, conf := range route.Plugins {
			if err := r.registry.Check(plugin.Source{Name: name, Conf: conf}); err != nil {
				t.Errorf("%v in\n%s", err, e[1])
			}
		}
	}
	if got := r.log.String(); got != "" {
		t.Errorf("an example is accepted with a warning: %s", got)
	}
}

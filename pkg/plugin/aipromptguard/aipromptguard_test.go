package aipromptguard

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/pkg/exchange/exchangetest"
	"github.com/gosix/gosix/pkg/plugin"
)

func TestAPatternThatTakesTooLongCountsAgainstTheRequest(t *testing.T) {
	// The look-ahead keeps it from the engine that is linear.
	const slow = `(?=a)(a+)+\\$`
	body := `{"messages":[{"role":"user","content":"` + strings.Repeat("a", 200) + `"}]}`
	for conf, want := range map[string]string{
		`{"deny_patterns":["` + slow + `"]}`:  `{"message":"Request contains prohibited content"}`,
		`{"allow_patterns":["` + slow + `"]}`: `{"message":"Request doesn't match allow patterns"}`,
	} {
		var log logtest.Log
		r := plugin.NewRegistry(plugin.Settings{Log: zerolog.New(&log)}, Definition(0))
		p, err := r.Compile(plugin.Source{Name: name, Conf: json.RawMessage(conf)}, plugin.Labels{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, out := exchangetest.New()
		x.Request.Body.Set([]byte(body))
		var c plugin.Context
		c.Begin(x, nil, nil, zerolog.New(&log))
		c.SetRoute(plugin.NewChain([]*plugin.Compiled{p}), plugin.Labels{})
		if !c.Chain().Run(&c, plugin.Access) || out.Status != 400 || string(out.Body) != want+"\n" {
			t.Errorf("%s: got %d %q", conf, out.Status, out.Body)
		}
		if !strings.Contains(log.String(), "pattern took too long") {
			t.Errorf("%s: the log says %q", conf, log.String())
		}
	}
}

func TestPatternsAreJudgedWhenTheyAreWritten(t *testing.T) {
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(0))
	for conf, want := range map[string]string{
		`{"deny_patterns":["a","(b"]}`:                    "invalid deny_pattern: (b",
		`{"allow_patterns":["[a"]}`:                       "invalid allow_pattern: [a",
		`{"deny_patterns":["(?<!x)y","(?i)z","\\p{L}+"]}`: "",
	} {
		err := r.Check(plugin.Source{Name: name, Conf: json.RawMessage(conf)})
		if err == nil && want != "" || err != nil && (want == "" || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", conf, err, want)
		}
	}
}

func TestALineInTheLogCannotBeForged(t *testing.T) {
	if got := printable("a\nb\x00c" + strings.Repeat("é", 300)); strings.ContainsAny(got, "\n\x00") || len(got) > 256 {
		t.Errorf("got %d bytes: %q", len(got), got)
	}
}

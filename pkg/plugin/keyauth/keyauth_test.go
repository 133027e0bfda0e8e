package keyauth

import (
	"encoding/json"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange/exchangetest"
	"github.com/gosix/gosix/pkg/plugin"
)

type consumers map[string]*plugin.Consumer

func (c consumers) Find(name, key string) *plugin.Identity {
	if who := c[key]; who != nil && name == "key-auth" {
		return &plugin.Identity{Consumer: who}
	}
	return nil
}

func (c consumers) ByName(name string) *plugin.Consumer {
	for _, who := range c {
		if who.Name == name {
			return who
		}
	}
	return nil
}

func TestKeyAuth(t *testing.T) {
	known := consumers{"k1": {Name: "ann"}, "": {Name: "guest"}}
	tests := map[string]struct {
		conf, header, value, query string
		who, refused               string // one of them
		target                     string // as the upstream sees it
		kept                       bool   // the header
	}{
		"a key in the header":                {conf: `{}`, header: "ApiKey", value: "k1", who: "ann", kept: true},
		"a key in the query":                 {conf: `{}`, query: "a=1&apikey=k1", who: "ann", target: "/x?a=1&apikey=k1"},
		"the header comes first":             {conf: `{}`, header: "apikey", value: "k1", query: "apikey=other", who: "ann", kept: true, target: "/x?apikey=other"},
		"names of one's own":                 {conf: `{"header":"X-Key","query":"k"}`, header: "X-Key", value: "k1", who: "ann", kept: true},
		"no key":                             {conf: `{}`, refused: "Missing API key in request"},
		"an unknown key":                     {conf: `{}`, header: "apikey", value: "k9", refused: "Invalid API key in request", kept: true},
		"a hidden header":                    {conf: `{"hide_credentials":true}`, header: "apikey", value: "k1", who: "ann"},
		"a hidden argument":                  {conf: `{"hide_credentials":true}`, query: "a=1&apikey=k1&b=2", who: "ann", target: "/x?a=1&b=2"},
		"a hidden argument that is alone":    {conf: `{"hide_credentials":true}`, query: "apikey=k1", who: "ann", target: "/x"},
		"no key, and others may come":        {conf: `{"anonymous_consumer":"guest"}`, who: "guest"},
		"a wrong key, and others may come":   {conf: `{"anonymous_consumer":"guest"}`, header: "apikey", value: "k9", who: "guest", kept: true},
		"a member in another letter case":    {conf: `{"Anonymous_Consumer":"guest","HEADER":"X-Key"}`, refused: "Missing API key in request"},
		"others may come, but are not there": {conf: `{"anonymous_consumer":"nobody"}`, refused: "Missing API key in request"},
	}
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition())
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := r.Compile(plugin.Source{Name: "key-auth", Conf: json.RawMessage(tt.conf)}, plugin.Labels{}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			x, out := exchangetest.New()
			x.Request.RawQuery, x.Request.Target = tt.query, "/x"
			if tt.query != "" {
				x.Request.Target += "?" + tt.query
			}
			if tt.header != "" {
				x.Request.Header.Add(tt.header, tt.value)
			}
			var c plugin.Context
			c.Begin(x, known, nil, zerolog.Nop())
			c.SetRoute(plugin.NewChain([]*plugin.Compiled{p}), plugin.Labels{})
			answered := c.Chain().Run(&c, plugin.Rewrite)
			if tt.refused != "" {
				want := `{"message":"` + tt.refused + "\"}\n"
				if !answered || out.Status != 401 || string(out.Body) != want || out.Header.Get("WWW-Authenticate") != `apikey realm="key"` {
					t.Errorf("got %d %q %v", out.Status, out.Body, out.Header.Fields())
				}
				return
			}
			if answered || c.Consumer() == nil || c.Consumer().Name != tt.who {
				t.Fatalf("answered %v, consumer %v, want %s", answered, c.Consumer(), tt.who)
			}
			if tt.header != "" && x.Request.Header.Has(tt.header) != tt.kept {
				t.Errorf("the upstream sees %v", x.Request.Header.Fields())
			}
			if tt.target != "" && x.Request.Target != tt.target {
				t.Errorf("the upstream sees %s, want %s", x.Request.Target, tt.target)
			}
		})
	}
}

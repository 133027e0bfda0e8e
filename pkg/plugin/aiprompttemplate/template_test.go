package aiprompttemplate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
)

func TestTemplate(t *testing.T) {
	tests := map[string]struct{ template, request, want string }{
		"no place":                   {`{"a":"b"}`, `{}`, `{"a":"b"}`},
		"a place":                    {`{"a":"x {{ n }} y"}`, `{"n":"v"}`, `{"a":"x v y"}`},
		"a place in a name":          {`{"{{n}}":1}`, `{"n":"v"}`, `{"v":1}`},
		"entities":                   {`["{{n}}"]`, `{"n":"<&>\"'"}`, `["&lt;&amp;&gt;&quot;&#39;"]`},
		"none":                       {`["{*n*}"]`, `{"n":"<&>\"'"}`, `["<&>\"'"]`},
		"a line break":               {`["{{n}}"]`, `{"n":"a\nb"}`, `["a\nb"]`},
		"a backslash":                {`["{{n}}","{{n}}"]`, `{"n":"\\"}`, `["\\","\\"]`},
		"a number as it is written":  {`["{{n}}"]`, `{"n":1.50}`, `["1.50"]`},
		"null, and what is absent":   {`["{{n}}{{m}}{{m.x}}"]`, `{"n":null,"m":{}}`, `["{}"]`},
		"an object":                  {`["{*n*}"]`, `{"n":{"a":1}}`, `["{\"a\":1}"]`},
		"inside":                     {`["{{a.b-c[2][\"d e\"]}}{{a['b-c'][1]}}"]`, `{"a":{"b-c":[1,{"d e":"v"}]}}`, `["v1"]`},
		"behind the end of a list":   {`["{{a[3]}}"]`, `{"a":[1]}`, `[""]`},
		"a name in a list":           {`["{{a.b}}"]`, `{"a":[1]}`, `[""]`},
		"context":                    {`["{{context.a}}"]`, `{"a":"v"}`, `["v"]`},
		"a member called context":    {`["{{context}}"]`, `{"context":"v"}`, `["v"]`},
		"a comment":                  {`["a{# b #}c"]`, `{}`, `["ac"]`},
		"braces that are text":       {`["{ {a} {{b {*c"]`, `{}`, `["{ {a} {{b {*c"]`},
		"quotes around a place":      {`["\"{{n}}\" \\"]`, `{"n":"v"}`, `["\"v\" \\"]`},
		"the end of a string counts": {`["{{","}}"]`, `{}`, `["{{","}}"]`},
		"a value with a tag":         {`["{{n}}"]`, `{"n":"{{ n }}"}`, `["{{ n }}"]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tm, err := compile([]byte(tt.template))
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonedit.Index([]byte(tt.request), jsonedit.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := tm.render(doc); err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestWhatATemplateMayNotHold(t *testing.T) {
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, Definition(0))
	for name, tt := range map[string]struct{ content, want string }{
		"lua":                   {"{% os.exit() %}", "templates[1]: {% os.exit() %}: lua and includes are not supported in templates"},
		"an include":            {"{( x )}", "templates[1]: {( x )}: lua and includes"},
		"another include":       {"{[ x ]}", "templates[1]: {[ x ]}: lua and includes"},
		"an expression":         {"{{ a .. b }}", "templates[1]: {{ a .. b }}: only fields of the request"},
		"a call":                {"{* a() *}", "templates[1]: {* a() *}: only fields of the request"},
		"an element without it": {"{{ a[0] }}", "templates[1]: {{ a[0] }}: only fields of the request"},
		"nothing":               {"{{ }}", "templates[1]: {{ }}: only fields of the request"},
	} {
		t.Run(name, func(t *testing.T) {
			content, _ := json.Marshal(tt.content)
			conf := `{"templates":[{"name":"a","template":{}},{"name":"b","template":{"messages":[{"role":"user","content":` + string(content) + `}]}}]}`
			err := r.Check(plugin.Source{Name: "ai-prompt-template", Conf: json.RawMessage(conf)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestAPlaceThatLeadsNowhere(t *testing.T) {
	for template, want := range map[string]string{
		`["{{a.b}}"]`:      "field a.b: a has nothing in it",
		`["{{n.b}}"]`:      "field n.b: n has nothing in it",
		`["{{l[2].b.c}}"]`: "field l[2].b.c: l[2].b has nothing in it",
		`["{{n[1]}}"]`:     "field n[1]: n has nothing in it",
	} {
		tm, err := compile([]byte(template))
		if err != nil {
			t.Fatal(err)
		}
		doc, _ := jsonedit.Index([]byte(`{"n":1,"l":[1,{"b":"x"}]}`), jsonedit.Options{})
		if _, err := tm.render(doc); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", template, err, want)
		}
	}
}

// Whatever template and request say, a template that compiles gives JSON or an error.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"a":"{{ n }} {* m.x[1] *}{# c #}"}`, `{"n":"\"","m":{"x":["\\"]}}`)
	f.Add(`["\\{{a}}\\"]`, `{"a":"\u0000"}`)
	f.Add(`["{{a['b']}}"]`, `[1]`)
	f.Fuzz(func(t *testing.T, template, request string) {
		if _, err := jsonedit.Index([]byte(template), jsonedit.Options{}); err != nil {
			return
		}
		doc, err := jsonedit.Index([]byte(request), jsonedit.Options{})
		if err != nil {
			return
		}
		tm, err := compile([]byte(template))
		if err != nil {
			return
		}
		out, err := tm.render(doc)
		if err != nil {
			return
		}
		if _, err := jsonedit.Index(out, jsonedit.Options{}); err != nil {
			t.Errorf("%s with %s became %s: %v", template, request, out, err)
		}
	})
}

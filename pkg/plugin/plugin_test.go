package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange/exchangetest"
)

func definition(name string, priority int, run func(*Context) error) Definition {
	return Definition{
		Name: name, Version: "1", Priority: priority,
		Schema: []byte(`{"type":"object","properties":{"n":{"type":"integer","minimum":1,"default":3}},"required":["name"]}`),
		New: func(b *Build) (Phases, error) {
			return Phases{Rewrite: run, State: b}, nil
		},
	}
}

func registry(defs ...Definition) *Registry {
	return NewRegistry(Settings{Log: zerolog.Nop()}, defs...)
}

func source(name, conf string) Source {
	return Source{Name: name, Conf: json.RawMessage(conf), Parent: Ref{Kind: "routes", ID: "1"}}
}

func TestCheck(t *testing.T) {
	r := registry(definition("a", 1, nil))
	tests := map[string]struct{ name, conf, want string }{
		"a good configuration":              {"a", `{"name":"x"}`, ""},
		"an unknown plugin":                 {"b", `{}`, "unknown plugin [b]"},
		"what the schema refuses":           {"a", `{"name":"x","n":0}`, `failed to check the configuration of plugin a err: property "n" validation failed: expected 0 to be at least 1`},
		"a string":                          {"a", `"blah"`, `invalid plugin conf "blah" for plugin [a]`},
		"null":                              {"a", `null`, `invalid plugin conf "userdata: NULL" for plugin [a]`},
		"an unknown member of _meta":        {"a", `{"name":"x","_meta":{"x":1}}`, `property "_meta" validation failed: additional properties forbidden, found x`},
		"a wrong member beside Disable":     {"a", `{"name":"x","_meta":{"Disable":true}}`, `property "_meta" validation failed: additional properties forbidden, found Disable`},
		"a filter that does not compile":    {"a", `{"name":"x","_meta":{"filter":[["a","xx","b"]]}}`, "failed to validate the 'vars' expression: invalid operator 'xx'"},
		"lua":                               {"a", `{"name":"x","_meta":{"pre_function":"return 1"}}`, "failed to load _meta.pre_function in plugin a"},
		"what is switched off may be wrong": {"a", `{"_meta":{"disable":true}}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := r.Check(source(tt.name, tt.conf))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestCompileFillsInDefaultsAndKeepsState(t *testing.T) {
	r := registry(definition("a", 1, nil))
	first, err := r.Compile(source("a", `{"name":"x<y"}`), Labels{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	build := first.Phases.State.(*Build)
	if got := string(build.Conf); got != `{"n":3,"name":"x<y"}` || build.Prev != nil {
		t.Errorf("built from %s, after %v", got, build.Prev)
	}
	before := NewChain([]*Compiled{first})
	same, _ := r.Compile(source("a", `{"name":"x<y"}`), Labels{}, nil, before)
	if same.Phases.State.(*Build).Prev != first.Phases.State {
		t.Error("an equal configuration did not get the state")
	}
	other, _ := r.Compile(source("a", `{"name":"z"}`), Labels{}, nil, before)
	if b := other.Phases.State.(*Build); b.Prev != nil || b.Before != first.Phases.State {
		t.Error("another configuration got the state as its own, or not as what was before")
	}
	elsewhere := source("a", `{"name":"x<y"}`)
	elsewhere.Parent.ID = "2"
	moved, _ := r.Compile(elsewhere, Labels{}, nil, before)
	if b := moved.Phases.State.(*Build); b.Prev != nil || b.Before != nil {
		t.Error("another route got the state")
	}
}

func TestNamesAreInRunOrder(t *testing.T) {
	r := registry(definition("low", 1, nil), definition("b", 5, nil), definition("a", 5, nil), definition("high", 9, nil))
	if diff := cmp.Diff([]string{"high", "a", "b", "low"}, r.Names()); diff != "" {
		t.Error(diff)
	}
	some := NewRegistry(Settings{Enabled: []string{"low", "none"}, Log: zerolog.Nop()}, definition("low", 1, nil), definition("b", 5, nil))
	if diff := cmp.Diff([]string{"low"}, some.Names()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"none"}, some.Missing()); diff != "" {
		t.Error(diff)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name that is used twice does not panic")
		}
	}()
	registry(definition("a", 1, nil), definition("a", 2, nil))
}

func TestExits(t *testing.T) {
	tests := map[string]struct {
		err    error
		status int
		kind   string
		body   string
	}{
		"a string is sent as it is":        {Exit(400, "no <b>"), 400, "text/plain; charset=utf-8", "no <b>"},
		"an object is JSON with a newline": {Exit(401, map[string]string{"message": "who?"}), 401, "text/plain; charset=utf-8", "{\"message\":\"who?\"}\n"},
		"nothing is a page":                {Exit(503, nil), 503, "text/html; charset=utf-8", "<title>503 Service Temporarily Unavailable</title>"},
		"another error is a bare 500":      {errors.New("secret detail"), 500, "text/html; charset=utf-8", "<title>500 Internal Server Error</title>"},
		"a good status ends the request":   {Exit(200, "done"), 200, "text/plain; charset=utf-8", "done"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := registry(definition("first", 2, func(*Context) error { return tt.err }),
				definition("second", 1, func(*Context) error { t.Error("the next plugin ran"); return nil }))
			var all []*Compiled
			for _, name := range []string{"second", "first"} {
				p, err := r.Compile(source(name, `{"name":"x"}`), Labels{}, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, p)
			}
			x, out := exchangetest.New()
			var c Context
			c.Begin(x, nil, nil, zerolog.Nop())
			c.SetRoute(NewChain(all), Labels{})
			if !c.Chain().Run(&c, Rewrite) {
				t.Fatal("nothing was answered")
			}
			if out.Status != tt.status || out.Header.Get("Content-Type") != tt.kind || !strings.Contains(string(out.Body), tt.body) {
				t.Errorf("got %d %v %q", out.Status, out.Header, out.Body)
			}
			if strings.Contains(string(out.Body), "secret detail") {
				t.Error("the client sees the cause")
			}
		})
	}
}

func TestAFilterThatCannotBeAskedLeavesItsPluginOn(t *testing.T) {
	// A group that looks back takes the pattern out of linear time, into a limit.
	const slow = `^(?:(a+)+\\1)+$`
	for _, tt := range []struct {
		name, filter string
		runs         bool
	}{
		{"it holds", `[["arg_n","~~","^a"]]`, true},
		{"it does not hold", `[["arg_n","~~","^b"]]`, false},
		{"it takes too long", `[["arg_n","~~","` + slow + `"]]`, true},
		{"it takes too long, negated", `[["arg_n","!","~~","` + slow + `"]]`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := 0
			r := registry(definition("guard", 1, func(*Context) error { ran++; return nil }))
			p, err := r.Compile(source("guard", `{"name":"x","_meta":{"filter":`+tt.filter+`}}`), Labels{}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			x, _ := exchangetest.New()
			x.Request.RawQuery = "n=" + strings.Repeat("a", 64) + "!"
			var c Context
			c.Begin(x, nil, nil, zerolog.Nop())
			c.SetRoute(NewChain([]*Compiled{p}), Labels{})
			if c.Chain().Run(&c, Rewrite); (ran == 1) != tt.runs {
				t.Errorf("ran %d times, want it to run: %v", ran, tt.runs)
			}
		})
	}
}

func TestConsumersPluginsGoOverTheRoutes(t *testing.T) {
	var ran []string
	run := func(name string) func(*Context) error {
		return func(*Context) error {
			ran = append(ran, name)
			return nil
		}
	}
	auth := definition("auth", 9, run("auth"))
	auth.Auth = true
	r := registry(auth, definition("both", 5, run("both")), definition("added", 4, run("added")), definition("off", 3, run("off")))
	compile := func(name, conf string) *Compiled {
		p, err := r.Compile(source(name, conf), Labels{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := `{"name":"x"}`
	route := NewChain([]*Compiled{compile("auth", good), compile("both", good), compile("off", good)})
	consumer := &Consumer{
		Name: "ann", GroupID: "g", CustomID: "c",
		Chain: NewChain([]*Compiled{compile("auth", good), compile("both", good), compile("added", good), compile("off", `{"_meta":{"disable":true}}`)}),
	}
	x, _ := exchangetest.New()
	x.Request.Header.Add("X-Credential-Identifier", "liar")
	var c Context
	c.Begin(x, nil, nil, zerolog.Nop())
	c.SetRoute(route, Labels{})
	c.Attach(&Identity{Consumer: consumer})
	if c.MergeConsumer() {
		t.Fatal("it was answered")
	}
	if diff := cmp.Diff([]string{"added"}, ran); diff != "" {
		t.Errorf("rewrite of what the consumer added: %s", diff)
	}
	ran = nil
	c.Chain().Run(&c, Rewrite)
	if diff := cmp.Diff([]string{"auth", "both", "added"}, ran); diff != "" {
		t.Errorf("the merged chain: %s", diff)
	}
	h := &x.Request.Header
	if h.Get("X-Consumer-Username") != "ann" || h.Get("X-Consumer-Custom-ID") != "c" || h.Has("X-Credential-Identifier") || x.Facts.ConsumerGroupID != "g" {
		t.Errorf("the upstream is told %v", h.Fields())
	}
	broken, out := exchangetest.New()
	c.Begin(broken, nil, nil, zerolog.Nop())
	c.SetRoute(route, Labels{})
	c.Attach(&Identity{Consumer: &Consumer{Name: "x", Broken: errors.New("group"), Status: 503}})
	if !c.MergeConsumer() || out.Status != 503 {
		t.Errorf("a broken consumer got %d", out.Status)
	}
}

func TestConsumerConfigurations(t *testing.T) {
	auth := definition("auth", 9, nil)
	auth.Auth, auth.ConsumerKey = true, "key"
	auth.ConsumerSchema = []byte(`{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}`)
	r := registry(auth, definition("other", 1, nil))
	conf, _, err := r.CompileConsumer(source("auth", `{"key":"k"}`), nil, nil)
	if err != nil || conf.Key != "k" {
		t.Errorf("got %+v, %v", conf, err)
	}
	if _, _, err = r.CompileConsumer(source("auth", `{}`), nil, nil); err == nil || !strings.Contains(err.Error(), `property "key" is required`) {
		t.Errorf("got %v", err)
	}
	if _, made, err := r.CompileConsumer(source("other", `{"name":"x"}`), nil, nil); made == nil || err != nil {
		t.Errorf("got %v, %v", made, err)
	}
}

func TestSlotsAreEachRequestsOwn(t *testing.T) {
	key := NewKey[string]("test.key")
	x, s := exchangetest.New()
	var c Context
	c.Begin(x, nil, nil, zerolog.Nop())
	if key.Get(&c) != "" {
		t.Error("a fresh slot has a value")
	}
	key.Set(&c, "v")
	if key.Get(&c) != "v" {
		t.Error("the value is lost")
	}
	x.Reset(context.Background(), s)
	if key.Get(&c) != "" {
		t.Error("the next request sees the value")
	}
}

// twoPlugins is a chain that does nothing, and a request that is about to go through it.
func twoPlugins(t testing.TB) (*Chain, *Context) {
	t.Helper()
	nothing := func(*Context) error { return nil }
	r := registry(definition("a", 2, nothing), definition("b", 1, nothing))
	var all []*Compiled
	for _, name := range r.Names() {
		p, err := r.Compile(source(name, `{"name":"x"}`), Labels{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	chain := NewChain(all)
	x, _ := exchangetest.New()
	c := &Context{}
	c.Begin(x, nil, nil, zerolog.Nop())
	c.SetRoute(chain, Labels{})
	return chain, c
}

func TestAChainDoesNotAllocate(t *testing.T) {
	chain, c := twoPlugins(t)
	if n := testing.AllocsPerRun(100, func() { chain.Run(c, Rewrite) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkChain(b *testing.B) {
	chain, c := twoPlugins(b)
	b.ReportAllocs()
	for b.Loop() {
		chain.Run(c, Rewrite)
	}
}

// consumed is a context of a route with plugins, and a consumer who has some of them and others.
func consumed(t testing.TB) (c *Context, route *Chain, id *Identity) {
	t.Helper()
	var defs []Definition
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		defs = append(defs, definition(name, 10-i/2, func(*Context) error { return nil }))
	}
	r := registry(defs...)
	chain := func(names ...string) *Chain {
		var all []*Compiled
		for _, name := range names {
			p, err := r.Compile(source(name, `{"name":"`+strings.Join(names, "")+`"}`), Labels{}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		return NewChain(all)
	}
	return new(Context), chain("a", "b", "d", "f"), &Identity{Consumer: &Consumer{Name: "ann", Chain: chain("c", "d", "e")}}
}

func TestAConsumersChainStandsInRunOrderAndIsEachRequestsOwn(t *testing.T) {
	c, route, id := consumed(t)
	names := func(chain *Chain) (all string) {
		for _, p := range chain.Plugins() {
			all += p.Name
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		route *Chain
		id    *Identity
		want  string
	}{
		{"the consumer adds to the route", route, id, "abcdef"},
		{"nobody was identified", route, nil, "abdf"},
		{"the route has nothing", nil, id, "cde"},
		{"the consumer has nothing", route, &Identity{Consumer: &Consumer{Name: "bob"}}, "abdf"},
		{"once more", route, id, "abcdef"},
	} {
		x, _ := exchangetest.New()
		c.Begin(x, nil, nil, zerolog.Nop())
		c.SetRoute(tt.route, Labels{})
		if tt.id != nil {
			c.Attach(tt.id)
		}
		c.MergeConsumer()
		if got := names(c.Chain()); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if d := c.Chain().Find("d"); tt.id == id && d != id.Consumer.Chain.Find("d") {
			t.Errorf("%s: the route's plugin won", tt.name)
		}
	}
	if names(route) != "abdf" || names(id.Consumer.Chain) != "cde" {
		t.Error("what requests share was changed")
	}
}

func TestMergingAllocatesNothing(t *testing.T) {
	c, route, id := consumed(t)
	x, _ := exchangetest.New()
	c.Begin(x, nil, nil, zerolog.Nop())
	if n := testing.AllocsPerRun(100, func() {
		c.SetRoute(route, Labels{})
		c.consumer = id.Consumer
		c.MergeConsumer()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMergeConsumer(b *testing.B) {
	c, route, id := consumed(b)
	x, _ := exchangetest.New()
	c.Begin(x, nil, nil, zerolog.Nop())
	c.SetRoute(route, Labels{})
	c.consumer = id.Consumer
	b.ReportAllocs()
	for b.Loop() {
		c.MergeConsumer()
	}
}

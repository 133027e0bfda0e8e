package resource

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/schema"

	"github.com/google/go-cmp/cmp"
)

func TestLocate(t *testing.T) {
	tests := []struct {
		rest, kind, id string // an empty kind: no item
	}{
		{"routes/1", "routes", "1"},
		{"routes/...", "routes", "..."},
		{"consumers/jack", "consumers", "jack"},
		{"consumers/jack/credentials/c1", "credentials", "jack/credentials/c1"},
		{"services/s1/graphql_cost_decorations/d1", "graphql_cost_decorations", "s1/graphql_cost_decorations/d1"},
		{"secrets/vault/1", "secrets", "vault/1"},
		{"plugin_metadata/http-logger", "plugin_metadata", "http-logger"},
		{"routes/", "", ""},
		{"routes", "", ""},
		{"routes/a/b", "", ""},
		{"routes//b", "", ""},
		{"secrets/vault", "", ""},
		{"secrets/vault/", "", ""},
		{"secrets/vault/1/token", "", ""},
		{"consumers/jack/credentials/", "", ""},
		{"consumers/jack/credentials", "", ""},
		{"consumers/jack/graphql_cost_decorations/d1", "", ""},
		{"credentials/c1", "", ""},
		{"plugins", "", ""},
		{"gen_id", "", ""},
		{"", "", ""},
	}
	for _, test := range tests {
		t.Run(test.rest, func(t *testing.T) {
			k, id, ok := Locate(test.rest)
			if !ok {
				if test.kind != "" {
					t.Errorf("got no item, want %s %s", test.kind, test.id)
				}
				return
			}
			if k.Name != test.kind || id != test.id {
				t.Errorf("got %s %q, want %s %q", k.Name, id, test.kind, test.id)
			}
			if got, want := k.Key("/apisix", id), "/apisix/"+test.rest; got != want {
				t.Errorf("key %s, want %s", got, want)
			}
		})
	}
}

func TestChildID(t *testing.T) {
	if got, want := ByName("credentials").ChildID("jack", "c1"), "jack/credentials/c1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := ByName("routes").ChildID("", "1"), "1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKindsAreComplete(t *testing.T) {
	if got, want := len(Kinds()), 14; got != want {
		t.Errorf("%d kinds, want %d", got, want)
	}
	for _, k := range Kinds() {
		if ByName(k.Name) != k {
			t.Errorf("%s: not found by its name", k.Name)
		}
		if k.Schema == nil && k.Name != "secrets" {
			t.Errorf("%s: no schema", k.Name)
		}
		if k.Word == "" || len(k.Verbs) == 0 {
			t.Errorf("%s: got word %q and verbs %v, want both", k.Name, k.Word, k.Verbs)
		}
		if k.Parent != "" && ByName(k.Parent) == nil {
			t.Errorf("%s: unknown parent %s", k.Name, k.Parent)
		}
		for _, r := range k.Refs {
			if ByName(r.Kind) == nil {
				t.Errorf("%s: %s refers to unknown kind %s", k.Name, r.Member, r.Kind)
			}
		}
		for _, u := range k.UsedBy {
			if ByName(u.Kind) == nil {
				t.Errorf("%s: used by unknown kind %s", k.Name, u.Kind)
			}
		}
	}
	if ByName("planets") != nil {
		t.Error("got a kind for planets, want none")
	}
}

func TestAllows(t *testing.T) {
	for kind, refused := range map[string]string{
		"routes": "", "consumers": "POST PATCH", "credentials": "POST PATCH", "consumer_groups": "POST",
		"plugin_metadata": "POST PATCH", "protos": "PATCH", "stream_routes": "PATCH", "secrets": "POST", "ssls": "",
	} {
		for _, verb := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
			if got, want := ByName(kind).Allows(verb), !strings.Contains(refused, verb); got != want {
				t.Errorf("%s %s: got %v, want %v", verb, kind, got, want)
			}
		}
	}
}

func TestSchemas(t *testing.T) {
	for _, name := range []string{
		"route", "service", "upstream", "consumer", "credential", "consumer_group", "plugin_config", "global_rule",
		"ssl", "proto", "stream_route", "plugins", "host_def", "upstream_hash_vars_schema", "upstream_hash_header_schema",
	} {
		raw, ok := Schemas(name)
		if !ok || !json.Valid(raw) {
			t.Errorf("%s: got %s, want a schema", name, raw)
		}
		if strings.Contains(string(raw), "$use") {
			t.Errorf("%s: a part of common.json was not put in", name)
		}
	}
	for _, name := range []string{"routes", "common", ""} {
		if _, ok := Schemas(name); ok {
			t.Errorf("%q: got a schema, want none", name)
		}
	}
}

// They are compiled when they are needed, and none may fail then.
func TestEverySchemaCompiles(t *testing.T) {
	for name, s := range schemas() {
		if _, err := schema.Compile(name, s.Raw()); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckTimes(t *testing.T) {
	for doc, want := range map[string]string{
		`{"uri":"/a"}`:                   ``,
		`{"create_time":1}`:              `the property is forbidden:  create_time`,
		`{"update_time":1}`:              `the property is forbidden:  update_time`,
		`{"upstream":{"create_time":1}}`: `the property is forbidden:  upstream.create_time`,
		`{"plugins":{"update_time":1}}`:  `the property is forbidden:  plugins.update_time`,
		`[]`:                             ``,
	} {
		got := ""
		if err := ByName("routes").CheckTimes(decoded(t, doc)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", doc, got, want)
		}
	}
}

func TestValidateLeavesTheDocumentAlone(t *testing.T) {
	const doc = `{"uri":"/a","upstream":{"nodes":[{"host":"a","weight":1}]}}`
	v := decoded(t, doc)
	filled, err := ByName("routes").Validate("r1", v)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decoded(t, doc), v); diff != "" {
		t.Errorf("document was changed (-before +after):\n%s", diff)
	}
	if got, want := text(object(filled)["id"]), "r1"; got != want {
		t.Errorf("id %q, want %q", got, want)
	}
	if got, want := text(object(object(filled)["upstream"])["type"]), "roundrobin"; got != want {
		t.Errorf("type %q, want %q", got, want)
	}
}

func TestReferences(t *testing.T) {
	tests := []struct {
		kind, doc string
		ids       []string
		missing   []string
	}{
		{
			"routes", `{"upstream_id":7,"service_id":"s","plugin_config_id":"p","upstream":{"tls":{"client_cert_id":"c"}}}`,
			[]string{"7", "s", "p", "c"},
			[]string{
				`failed to fetch upstream info by upstream id [7], response code: 404`,
				`failed to fetch service info by service id [s], response code: 404`,
				`failed to fetch plugin config info by plugin config id [p], response code: 404`,
				`failed to fetch ssl info by ssl id [c], response code: 404`,
			},
		},
		{"routes", `{}`, nil, nil},
		{"consumers", `{"group_id":"g"}`, []string{"g"}, []string{`failed to fetch consumer group info by consumer group id [g], response code: 404`}},
		{"stream_routes", `{"protocol":{"superior_id":"s"}}`, []string{"s"}, []string{`failed to fetch stream routes[s], response code: 404`}},
	}
	for _, test := range tests {
		var ids, missing []string
		for _, r := range ByName(test.kind).Refs {
			if id, ok := r.ID(decoded(t, test.doc)); ok {
				ids, missing = append(ids, id), append(missing, r.Missing(id).Error())
			}
		}
		if diff := cmp.Diff(test.ids, ids); diff != "" {
			t.Errorf("%s %s: ids (-want +got):\n%s", test.kind, test.doc, diff)
		}
		if diff := cmp.Diff(test.missing, missing); diff != "" {
			t.Errorf("%s %s: messages (-want +got):\n%s", test.kind, test.doc, diff)
		}
	}
}

func TestReferenceErrors(t *testing.T) {
	refs := ByName("upstreams").Refs
	if got, want := refs[0].Check("c", nil, decoded(t, `{"type":"server"}`)).Error(), `failed to fetch ssl info by ssl id [c], wrong ssl type`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := refs[0].Check("c", nil, decoded(t, `{"type":"client"}`)); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if got, want := refs[0].Failed("c", errors.New("closed")).Error(), `failed to fetch ssl info by ssl id [c]: closed`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUses(t *testing.T) {
	const split = `{"plugins":{"traffic-split":{"rules":[{"weighted_upstreams":[{"weight":1},{"upstream_id":7}]}]}}}`
	tests := []struct {
		kind, user, doc, want string
	}{
		{"upstreams", "routes", `{"upstream_id":"7"}`, `can not delete this upstream, route [u] is still using it now`},
		{"upstreams", "routes", `{"upstream_id":7}`, `can not delete this upstream, route [u] is still using it now`},
		{"upstreams", "services", `{"upstream_id":"7"}`, `can not delete this upstream, service [u] is still using it now`},
		{"upstreams", "routes", split, `can not delete this upstream, plugin in route [u] is still using it now`},
		{"upstreams", "plugin_configs", split, `can not delete this upstream, plugin in plugin_config [u] is still using it now`},
		{"upstreams", "global_rules", split, `can not delete this upstream, plugin in global_rules [u] is still using it now`},
		{"upstreams", "routes", `{"upstream_id":"8","plugins":[]}`, ``},
		{"services", "routes", `{"service_id":"7"}`, `can not delete this service directly, route [u] is still using it now`},
		{"consumer_groups", "consumers", `{"group_id":"7"}`, `can not delete this consumer group, consumer [u] is still using it now`},
		{"protos", "services", `{"plugins":{"grpc-transcode":{"proto_id":"7"}}}`, `can not delete this proto, service [u] is still using it now`},
		{"stream_routes", "stream_routes", `{"protocol":{"superior_id":"7"}}`, `can not delete this stream route directly, stream route [u] is still using it as superior_id`},
	}
	for _, test := range tests {
		got := ""
		for _, u := range ByName(test.kind).UsedBy {
			if u.Kind == test.user && u.By(decoded(t, test.doc), "7") {
				got = u.Refusal("u").Error()
				break
			}
		}
		if got != test.want {
			t.Errorf("%s used by %s %s: got %q, want %q", test.kind, test.user, test.doc, got, test.want)
		}
	}
}

package sealed

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/seal"
)

func BenchmarkOpen(b *testing.B) {
	ring, err := seal.New([]string{"0123456789abcdef"}, seal.GCM)
	if err != nil {
		b.Fatal(err)
	}
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()},
		plugin.Definition{Name: "p", Schema: []byte(`{}`), Secrets: []string{"auth.header", "auth.query"}})
	k := resource.ByName("routes")
	for name, doc := range map[string]string{
		"no secrets": `{"uri":"/h1","desc":"1","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1980":1}}}`,
		"a secret":   `{"uri":"/h1","plugins":{"p":{"auth":{"header":{"Authorization":"` + ring.Seal("routes/1", "Bearer t") + `"}}}},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1980":1}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(ring, r, "routes/1", k, []byte(doc)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestWhatIsNoJSONIsRefused(t *testing.T) {
	ring, err := seal.New([]string{"0123456789abcdef"}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()})
	for doc, want := range map[string]string{
		`{"a":}`:                         "Expected value but found T_OBJ_END at character 6",
		`{"upstream":{"client_key":"x"}`: "Expected comma or object end but found T_END at character 31",
		"{\"a\":\"\xff\"}":               "invalid utf-8 at character 7",
	} {
		if _, err := Open(ring, r, "routes/1", resource.ByName("routes"), []byte(doc)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", doc, err, want)
		}
	}
}

func TestSecretsOfAnItem(t *testing.T) {
	ring, err := seal.New([]string{"0123456789abcdef"}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.New([]string{"fedcba9876543210"}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	r := plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()},
		plugin.Definition{Name: "p", Schema: []byte(`{}`), Secrets: []string{"secret"}},
		plugin.Definition{Name: "a", Auth: true, Schema: []byte(`{}`), ConsumerSchema: []byte(`{}`), ConsumerSecrets: []string{"key"}})
	for _, test := range []struct {
		name, kind, key string
		doc             func(sealed string) string
		path            string // of the secret
	}{
		{"of a plugin", "routes", "routes/1", func(s string) string { return `{"plugins":{"p":{"secret":"` + s + `"}}}` }, "plugins.p.secret"},
		{"of an auth plugin at a consumer", "consumers", "consumers/c", func(s string) string { return `{"plugins":{"a":{"key":"` + s + `"}}}` }, "plugins.a.key"},
		{"of the kind", "upstreams", "upstreams/1", func(s string) string { return `{"tls":{"client_key":"` + s + `"}}` }, "tls.client_key"},
		{"of the kind, in our own format alone", "secrets", "secrets/vault/1", func(s string) string { return `{"token":"` + s + `"}` }, "token"},
		{"of nobody", "routes", "routes/1", func(string) string { return `{"plugins":{"p":{"open":"x"},"unknown":{"secret":"y"}}}` }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := resource.ByName(test.kind)
			stored, want := []byte(test.doc(ring.Seal(test.key, "plain"))), test.doc("plain")
			got, err := Open(ring, r, test.key, k, stored)
			if err != nil || string(got) != want {
				t.Errorf("opened: %s, %v; want %s", got, err, want)
			}
			if path, err := Still(r, k, got, nil); path != "" || err != nil {
				t.Errorf("still sealed: %q, %v", path, err)
			}
			got, err = Open(other, r, test.key, k, stored)
			if err != nil || string(got) != string(stored) {
				t.Errorf("opened with another key: %s, %v", got, err)
			}
			if path, err := Still(r, k, got, nil); path != test.path || err != nil {
				t.Errorf("sealed with another key: %q, %v; want %q", path, err, test.path)
			}
			if path, err := Still(r, k, got, stored); path != "" || err != nil {
				t.Errorf("sealed, and there before: %q, %v", path, err)
			}
			if got, err := Open(nil, r, test.key, k, stored); err != nil || string(got) != string(stored) {
				t.Errorf("without keys: %s, %v", got, err)
			}
		})
	}
}

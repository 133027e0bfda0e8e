package sealed

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/seal"
)

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

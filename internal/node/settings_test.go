package node

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/seal"
)

func TestASecretThatNoKeyOpensIsNotTakenForOne(t *testing.T) {
	t.Parallel()
	const key, old, other = "0123456789abcdef", "0123456789abcdeg", "fedcba9876543210"
	ring, err := seal.New([]string{key}, seal.GCM)
	if err != nil {
		t.Fatal(err)
	}
	const name, plain = "consumers/ann", `{"username":"ann","plugins":{"key-auth":{"key":"hush"}}}`
	sealed := strings.Replace(plain, "hush", ring.Seal(name, "hush"), 1)
	for what, test := range map[string]struct {
		keyring []config.Secret
		off     bool
		stored  string
		want    string // of the document, or of the error
	}{
		"a key of the keyring opens it":                 {[]config.Secret{old, key}, false, sealed, plain},
		"the keyring has other keys":                    {[]config.Secret{other}, false, sealed, "plugins.key-auth.key: no key of"},
		"there is no keyring":                           {nil, false, sealed, "plugins.key-auth.key: no key of"},
		"encryption is switched off":                    {[]config.Secret{key}, true, sealed, "plugins.key-auth.key: no key of"},
		"it was sealed for another item":                {[]config.Secret{key}, false, strings.Replace(plain, "hush", ring.Seal("consumers/bob", "hush"), 1), "plugins.key-auth.key: no key of"},
		"it is plain":                                   {[]config.Secret{other}, false, plain, plain},
		"it is plain, and there is no keyring":          {nil, false, plain, plain},
		"it has only the prefix of what is sealed":      {[]config.Secret{other}, false, strings.Replace(plain, "hush", "sealed:v1:x", 1), "sealed:v1:x"},
		"what is sealed stands where nothing is secret": {nil, false, strings.Replace(plain, `"ann"`, `"ann","desc":"`+ring.Seal(name, "hush")+`"`, 1), "hush"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := config.Default()
			c.Apisix.DataEncryption.Keyring, c.Apisix.DataEncryption.Enable = test.keyring, !test.off
			opens, err := keyring(c)
			if err != nil {
				t.Fatal(err)
			}
			m, err := metrics(c)
			if err != nil {
				t.Fatal(err)
			}
			registry := plugins(c, aiproxy.Deps{Pickers: balancer.NewCache(0)}, m, zerolog.Nop())
			doc, err := environment(c, registry, opens, nil, nil, zerolog.Nop()).Decrypt(name, []byte(test.stored))
			got := string(doc)
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if refused := strings.Contains(test.want, "no key of"); refused != (err != nil) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

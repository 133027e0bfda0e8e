// Package sealed knows which members of a stored item are secret, and opens and replaces
// them. How they are encrypted is pkg/seal's, who writes and who reads them it does not know.
package sealed

import (
	"bytes"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/seal"
)

// Paths lists the members of an item that are encrypted at rest in either format, as dotted
// paths: those of its kind and those of the plugins that it configures.
func Paths(r *plugin.Registry, k *resource.Kind, raw []byte) []string {
	paths := append([]string(nil), k.Secrets...)
	for _, member := range k.PluginMembers {
		if member.Path == "" {
			continue
		}
		_ = member.Each(raw, func(name string, _ []byte) error {
			def, known := r.Definition(name)
			if !known {
				return nil
			}
			secrets := def.Secrets
			if def.Auth && member.Flavour != resource.FlavourNormal {
				secrets = def.ConsumerSecrets
			}
			for _, s := range secrets {
				paths = append(paths, member.Path+"."+name+"."+s)
			}
			return nil
		})
	}
	return paths
}

// Open returns a stored document with its secrets open; key is the item's below the store's
// prefix. With a nil ring nothing is sealed.
func Open(ring *seal.Ring, r *plugin.Registry, key string, k *resource.Kind, raw []byte) ([]byte, error) {
	if ring == nil {
		return raw, nil
	}
	raw, err := Replace(raw, Paths(r, k, raw), func(_, s string) string { return ring.Open(key, s) })
	if err != nil {
		return nil, err
	}
	return Replace(raw, k.OwnSecrets, func(_, s string) string {
		if !seal.IsSealed(s) {
			return s // plain: a text that happens to look like the reference's format is none
		}
		return ring.Open(key, s)
	})
}

// Still returns the path of a secret of an opened document that no key opened, "" if there
// is none. It is not the secret: whoever may read the store knows it. What is part of before
// is left out.
func Still(r *plugin.Registry, k *resource.Kind, raw, before []byte) (found string, err error) {
	if !seal.MayHold(raw) {
		return "", nil
	}
	_, err = Replace(raw, append(Paths(r, k, raw), k.OwnSecrets...), func(path, value string) string {
		if seal.IsSealed(value) && !bytes.Contains(before, []byte(value)) {
			found = path
		}
		return value
	})
	return found, err
}

// Replace replaces the strings at dotted paths of a document; f gets the path of each.
func Replace(raw []byte, paths []string, f func(path, value string) string) ([]byte, error) {
	known := false // to be JSON, which it is asked of every document that may have secrets
	for _, path := range paths {
		var err error
		switch {
		case seal.MayLead(raw, path):
			raw, err = seal.Members(raw, path, func(s string) string { return f(path, s) })
		case !known:
			err = jsonedit.CheckTrusted(raw)
		}
		if err != nil {
			return nil, err
		}
		known = true
	}
	return raw, nil
}

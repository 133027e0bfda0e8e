package nginx

import (
	"path/filepath"
	"strings"
)

// path resolves a file that a directive names: nginx's own are below t/servroot/conf,
// where the suites also put cert/.
func (o Options) path(name string) string {
	switch {
	case filepath.IsAbs(name):
		return name
	case strings.HasPrefix(name, "cert/"):
		return filepath.Join(o.Root, "t/certs", strings.TrimPrefix(name, "cert/"))
	}
	return filepath.Join(o.Root, "t/servroot/conf", name)
}

// prefixed resolves what is relative to nginx's prefix and not to its configuration.
func (o Options) prefixed(name string) string {
	if filepath.IsAbs(name) || strings.HasPrefix(name, "$") {
		return name
	}
	return filepath.Join(o.Root, "t/servroot", name)
}

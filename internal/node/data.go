package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/gosix/gosix/pkg/config"
)

// adminKey is the key that the process made, if it made one.
type adminKey struct {
	file  string // empty: the keys are configured
	fresh string // the key itself, if it is new
}

// keyLetters is the length of a generated key: 182 bits as an admin key, 32 bytes as the
// key of a keyring.
const keyLetters = 32

func (n *node) data(name string) string { return filepath.Join(n.c.Deployment.DataDir, name) }

// prepare makes the data directory ready and starts the process's own etcd if no other is
// configured, with what such a process needs and nobody configured: an admin key and a
// keyring.
func (n *node) prepare() error {
	d := &n.c.Deployment
	if err := os.MkdirAll(d.DataDir, 0o755); err != nil {
		return fmt.Errorf("deployment.data_dir: %w", err)
	}
	own := len(d.Etcd.Host) == 0
	if own {
		endpoint, stop, err := n.Etcd(n.data("etcd"), d.Etcd.Listen, n.Log)
		if in := (*net.OpError)(nil); errors.As(err, &in) {
			return fmt.Errorf("deployment.etcd.listen: %w", err)
		}
		if err != nil {
			return err
		}
		n.onEnd(stop)
		d.Etcd.Host = []string{endpoint}
		n.ports.Etcd = strings.TrimPrefix(endpoint, "http://")
	}
	// One of an earlier run would tell ports that nobody listens on. Only now: the etcd does
	// not start where another process runs, whose file it then is.
	if err := os.Remove(n.data("ports.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("deployment.data_dir: %w", err)
	}
	if !own {
		return nil
	}
	if e := &n.c.Apisix.DataEncryption; e.Enable && len(e.Keyring) == 0 {
		key, _, err := generated(n.data("keyring"))
		if err != nil {
			return err
		}
		e.Keyring = []config.Secret{config.Secret(key)}
	}
	if !d.Admin.KeyRequired || !n.admin {
		return nil
	}
	if len(d.Admin.Keys) == 0 {
		d.Admin.Keys = config.Default().Deployment.Admin.Keys
	}
	for i := range d.Admin.Keys {
		k := &d.Admin.Keys[i]
		if k.Key != "" {
			continue
		}
		key, fresh, err := generated(n.data("admin.key"))
		if err != nil {
			return err
		}
		k.Key = config.Secret(key)
		n.key.file = n.data("admin.key")
		if fresh {
			n.key.fresh = key
		}
	}
	return nil
}

// generated returns the key kept in a file, made when it is not there yet.
func generated(path string) (key string, fresh bool, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		if key = strings.TrimSpace(string(raw)); len(key) == keyLetters {
			return key, false, nil
		}
		return "", false, fmt.Errorf("%s: holds %d characters, want %d", path, len(key), keyLetters)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", false, err
	}
	key = letters(keyLetters)
	return key, true, writeFile(path, []byte(key+"\n"), 0o600)
}

// letters returns random letters: 5.7 bits each.
func letters(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // documented never to fail
		for _, c := range b {
			// 208 is four times the alphabet: above it a remainder would favour some.
			if c < 208 && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// writeFile writes a file in one step: whoever reads it sees all or nothing, and after a
// power cut it is there.
func writeFile(path string, data []byte, mode os.FileMode) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	tmp, err := os.CreateTemp(dir.Name(), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := errors.Join(write(tmp, data, mode), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return dir.Sync()
}

func write(f *os.File, data []byte, mode os.FileMode) error {
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

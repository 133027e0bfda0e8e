package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// sharers is how many nodes may share a directory.
const sharers = 64

// TakeID returns the id of a node, kept in dir and made when it is not there yet. Nodes that
// share a directory each have their own: the file is locked until release is called, or the
// process ends, and who comes second takes node.id.2. So ids stay the same over restarts.
func TakeID(dir string) (id string, release func(), err error) {
	for n := 1; n <= sharers; n++ {
		path := filepath.Join(dir, "node.id")
		if n > 1 {
			path += "." + strconv.Itoa(n)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return "", nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				continue
			}
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		if id, err = kept(f); err != nil {
			_ = f.Close()
			return "", nil, fmt.Errorf("%s: %w", path, err)
		}
		return id, func() { _ = f.Close() }, nil
	}
	return "", nil, fmt.Errorf("%s: %d nodes use it", dir, sharers)
}

// kept reads the id of a file, or writes one into an empty file.
func kept(f *os.File) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return "", err
	}
	if id := strings.TrimSpace(string(raw)); id != "" {
		return id, CheckID(id)
	}
	id := random()
	if _, err := f.WriteAt([]byte(id+"\n"), 0); err != nil {
		return "", err
	}
	return id, f.Sync()
}

// random is a name that nobody else has: 60 bits.
func random() string { return strings.ToLower(rand.Text()[:12]) }

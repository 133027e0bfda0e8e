package embedetcd

import (
	"errors"
	"os"
	"testing"

	"github.com/rs/zerolog"
)

func TestStart(t *testing.T) {
	dir := t.TempDir() + "/etcd"
	s, err := Start(Config{Dir: dir, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	if _, err := Start(Config{Dir: dir, Log: zerolog.Nop()}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second server on the directory: got %v, want %v", err, ErrInUse)
	}
	before := s.Endpoint()
	s.Close()
	if s, err = Start(Config{Dir: dir, Log: zerolog.Nop()}); err != nil {
		t.Fatalf("on another port: %v", err)
	}
	t.Logf("first at %s, then at %s", before, s.Endpoint())
	s.Close()
	if _, err := Start(Config{Dir: dir, Listen: "0.0.0.0:0", Log: zerolog.Nop()}); err == nil {
		t.Error("an address that is not loopback is taken")
	}
}

package embedetcd

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gosix/gosix/internal/logtest"
)

func TestCloseDoesNotWaitForWatchesAndSaysNothing(t *testing.T) {
	log := &logtest.Log{}
	// etcd itself would wait for seven seconds; a busy machine may need some for what is to be
	// done, not each time.
	const tries = 3
	for try := 1; !closesSoon(t, log); try++ {
		if try == tries {
			t.Fatal("the server waits for a watch that does not end")
		}
	}
	for line := range strings.Lines(log.String()) {
		if !slowness.MatchString(line) {
			t.Errorf("a start and an end as they should be are logged: %s", line)
		}
	}
}

// slowness is what etcd says of a busy machine, or of its disk.
var slowness = regexp.MustCompile(`slow|took too long`)

// closesSoon starts a server and closes it beside a watch. It reports whether that took less
// than 5 s.
func closesSoon(t *testing.T, log io.Writer) bool {
	t.Helper()
	s, err := Start(Config{Dir: t.TempDir(), Log: zerolog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	<-c.Watch(t.Context(), "a", clientv3.WithCreatedNotify())

	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
		s.Close()
	}()
	select {
	case <-closed:
		return true
	case <-time.After(5 * time.Second):
		<-closed
		return false
	}
}

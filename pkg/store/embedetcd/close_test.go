package embedetcd

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gosix/gosix/internal/logtest"
)

func TestCloseDoesNotWaitForWatchesAndSaysNothing(t *testing.T) {
	log := &logtest.Log{}
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
	case <-time.After(5 * time.Second): // etcd itself would wait for seven
		t.Error("the server waits for a watch that does not end")
		<-closed
	}
	if log.String() != "" {
		t.Errorf("a start and an end as they should be are logged: %s", log)
	}
}

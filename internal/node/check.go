package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/upstream"
)

// checkTimeout is how long a check waits for the store.
const checkTimeout = 10 * time.Second

// Check says what is wrong with the settings at path and, with stored, which items in the
// configured etcd a node would reject. It changes nothing.
func Check(path string, stored bool, out io.Writer) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	c, notices, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, n := range notices {
		say("note: %s", n)
	}
	if err := c.Validate(config.ProgramGosix); err != nil {
		return err
	}
	if _, err := etcdTLS(c); err != nil {
		return err
	}
	if _, err := adminTLS(&c.Deployment.Admin); err != nil {
		return err
	}
	if _, err := trusted(c); err != nil {
		return err
	}
	if id := c.Apisix.ID; id != "" {
		if err := cluster.CheckID(id); err != nil {
			return fmt.Errorf("apisix.id: %w", err)
		}
	}
	client := upstream.NewClient(upstream.Options{})
	defer client.Close()
	source := tokens(client, zerolog.Nop())
	defer source.Close()
	m, err := metrics(c)
	if err != nil {
		return err
	}
	registry := plugins(c, aiproxy.Deps{Client: client, Tokens: source, Pickers: balancer.NewCache(0)}, m, zerolog.Nop())
	for _, name := range registry.Missing() {
		say("note: plugins: %s is not built", name)
	}
	ring, err := keyring(c)
	if err != nil {
		return err
	}
	say("settings: ok")
	if !stored {
		return nil
	}
	if len(c.Deployment.Etcd.Host) == 0 {
		return fmt.Errorf("deployment.etcd.host: names no etcd to check")
	}
	st, err := openStore(c, zerolog.Nop())
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	// The very code by which nodes apply what is stored.
	syncer := route.NewSyncer(st, environment(c, registry, ring, nil, nil, zerolog.Nop()), zerolog.Nop())
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	var running sync.WaitGroup
	running.Go(func() { syncer.Run(ctx) })
	defer running.Wait()
	defer cancel()
	select {
	case <-syncer.Ready():
	case <-ctx.Done():
		return fmt.Errorf("deployment.etcd.host: no answer from %v within %v", c.Deployment.Etcd.Host, checkTimeout)
	}
	s := syncer.Router().Snapshot()
	rejected := s.Rejected()
	for _, r := range rejected {
		say("rejected: %s at revision %d: %s", r.Key, r.Refused, r.Reason)
	}
	say("stored: revision %d, %d items rejected", s.Revision(), len(rejected))
	if len(rejected) > 0 {
		return fmt.Errorf("%d stored items would be rejected", len(rejected))
	}
	return nil
}

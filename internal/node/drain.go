package node

import (
	"context"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/config"
)

// aboutTime limits how long what tells of the node is waited for, once nothing else runs.
const aboutTime = time.Second

// drain is the orderly end. For the time of lame the node says that it is not ready and
// sends its clients away, and still serves every one; then it stops accepting and lets what
// runs finish, for as long as the settings say.
func (n *node) drain(lame time.Duration) error {
	limit := config.Seconds(n.c.Apisix.DrainTimeout)
	n.Log.Info().Dur("lame_duck_ms", lame).Dur("limit_ms", limit).Msg("gosix is ending")
	close(n.leaving)
	for _, e := range n.engines {
		e.Drain(lame)
	}
	for _, s := range n.api {
		s.drain.Begin(lame)
	}
	n.linger(lame)

	ctx, cancel := context.WithTimeout(n.Now, limit)
	defer cancel()
	var group sync.WaitGroup
	for _, e := range n.engines {
		group.Go(func() {
			if err := e.Shutdown(ctx); err != nil {
				n.Log.Warn().Err(err).Msg("requests were broken off")
			}
		})
	}
	for _, s := range n.api {
		group.Go(func() { s.end(ctx) })
	}
	group.Wait()
	// Until here somebody may have wanted to know how far it is.
	last, done := context.WithTimeout(n.Now, aboutTime)
	defer done()
	for _, s := range n.about {
		group.Go(func() { s.end(last) })
	}
	group.Wait()
	return nil
}

// linger is the lame duck. A part that fails, or a second signal, ends it.
func (n *node) linger(lame time.Duration) {
	if lame <= 0 {
		return
	}
	t := time.NewTimer(lame)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.Now.Done():
	case err := <-n.failed:
		n.Log.Error().Err(err).Msg("a part failed while gosix was ending")
	}
}

// end takes everything down, from the requests to the store.
func (n *node) end() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, e := range n.engines {
		_ = e.Shutdown(over) // nothing is left after drain; after a failure nothing may stay
	}
	for _, s := range append(n.api, n.about...) {
		_ = s.Close()
	}
	// Before the store goes, so that nobody misses it.
	n.stop()
	n.running.Wait()
	for i := len(n.ends) - 1; i >= 0; i-- {
		n.ends[i]()
	}
}

package node

import (
	"errors"
	"os"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store/etcdstore"
	"github.com/gosix/gosix/pkg/store/lastgood"
)

// lastGood is what the gateway follows: the store, by way of what is kept on disk and what
// guards against a store that lost its content.
func (n *node) lastGood(st *etcdstore.Store) (*lastgood.Source, error) {
	c := &n.c.Deployment.LastGood
	o := lastgood.Options{Source: st, Wait: config.Seconds(c.Wait), Trust: !c.Guard, Get: st.Get, Log: n.Log}
	o.OnHold = func() {
		n.held()
		n.cluster.presence.Changed()
	}
	if c.Snapshots {
		keys, err := n.snapshotKeys()
		if err != nil {
			return nil, err
		}
		o.Dir, o.Keys = n.data("snapshots"), keys
	}
	return lastgood.New(o)
}

// held is the newest revision of what is held back, 0 if nothing is. What was released is
// held until it is in force.
func (n *node) held() int64 {
	if h := n.source.Status().Held; h != nil {
		n.holding.Store(h.Revision)
	}
	return n.holding.Load()
}

// applied says that what was delivered last is in force.
func (n *node) applied() {
	if n.holding.Load() != 0 && n.source.Status().Held == nil {
		n.holding.Store(0)
	}
	n.cluster.presence.Changed()
}

// snapshotKeys are those of the keyring, whether or not members are encrypted with them, and
// that of a node without a keyring: one that got its keyring later still opens what it has.
func (n *node) snapshotKeys() (keys []string, err error) {
	for _, k := range n.c.Apisix.DataEncryption.Keyring {
		keys = append(keys, k.Reveal())
	}
	own := n.data("snapshot.key")
	if _, err := os.Stat(own); len(keys) > 0 && errors.Is(err, os.ErrNotExist) {
		return keys, nil
	}
	key, _, err := generated(own)
	if err != nil {
		return nil, err
	}
	return append(keys, key), nil
}

// following is what the control API tells of: the way from the store to the snapshot.
type following struct {
	*route.Syncer
	*lastgood.Source
}

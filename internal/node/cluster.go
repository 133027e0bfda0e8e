package node

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// membership is a process's part in the registry of nodes.
type membership struct {
	store    *etcdstore.Store
	id       string            // of the gateway
	registry *cluster.Registry // what the Admin API sees; nil without it
	presence *cluster.Presence // nil without the gateway
}

// openCluster makes ready what the process needs of the registry.
func (n *node) openCluster() error {
	m := &n.cluster
	if n.gateway {
		if m.id = n.c.Apisix.ID; m.id != "" {
			if err := cluster.CheckID(m.id); err != nil {
				return fmt.Errorf("apisix.id: %w", err)
			}
		} else {
			id, release, err := cluster.TakeID(n.c.Deployment.DataDir)
			if err != nil {
				return fmt.Errorf("deployment.data_dir: %w", err)
			}
			n.onEnd(release)
			m.id = id
		}
	}
	// A client of its own: the state of the other tells of the watch for the configuration,
	// and so does its log.
	var err error
	if m.store, err = openStore(n.c, zerolog.Nop()); err != nil {
		return err
	}
	n.onEnd(func() { _ = m.store.Close() })
	if n.admin {
		m.registry = cluster.NewRegistry(m.store, n.c.Deployment.Etcd.Prefix)
		n.running.Go(func() { m.registry.Run(n.background) })
	}
	return nil
}

// follows makes the registry follow what a syncer applies, which does not run yet.
func (n *node) follows(syncer *route.Syncer) {
	p := cluster.NewPresence(cluster.PresenceOptions{
		Store: n.cluster.store, Prefix: n.c.Deployment.Etcd.Prefix, Log: n.Log,
		Applied: func() int64 {
			if n.held() > 0 {
				return 0
			}
			return syncer.Router().Snapshot().Revision()
		},
		State: func() cluster.State {
			// Before what is in force is looked at: a hold that ends in between is told of by
			// the next record.
			held := n.held() > 0
			s := inForce(syncer)
			s.Held = held
			return s
		},
	})
	syncer.OnApplied = func(_ *route.Snapshot, r route.Report) {
		n.churn.applied(r.Changed)
		n.applied()
	}
	n.cluster.presence = p
}

// join registers the gateway, which serves by now. It is one that others wait for until its
// last request has ended: so long it must know of changes.
func (n *node) join() {
	hostname, _ := os.Hostname() // without one the record has none
	self := cluster.Node{
		ID: n.cluster.id, Hostname: hostname, Addresses: n.ports.Gateway, TLS: n.ports.GatewayTLS, Control: n.ports.Control,
		Version: Version(), Started: time.Now().Unix(),
	}
	n.running.Go(func() { n.cluster.presence.Run(n.background, self) })
}

// inForce is what the registry tells of a snapshot.
func inForce(syncer *route.Syncer) cluster.State {
	s := syncer.Router().Snapshot()
	digest := s.Digest()
	var rejected []cluster.Rejected
	for _, r := range s.Rejected() {
		rejected = append(rejected, cluster.Rejected{Key: r.Key, Refused: r.Refused, InForce: r.InForce})
	}
	return cluster.State{
		Applied: s.Revision(), Observed: max(syncer.Observed(), s.Revision()), Digest: hex.EncodeToString(digest[:]),
		Staleness: math.Round(10*syncer.Behind().Seconds()) / 10, Rejections: cluster.Reject(rejected),
	}
}

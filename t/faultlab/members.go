package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// replaced is T6's second part: what an operator does to members of etcd while everything runs.
// Each is removed and comes back as a new member without data, and each is defragmented.
func replaced(ctx context.Context, r *Run) error {
	rounds, ballast := 1, 300
	if r.Long {
		rounds, ballast = 5, 3000
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 3, Gateways: 3, Admins: 2})
	if err != nil {
		return err
	}
	c := w.NewClients(4, 0, 12)
	var live, again []time.Duration
	change := func(what string) error {
		path := fmt.Sprintf("/%s-%d", what, len(live))
		began := time.Now()
		if _, err := within(ctx, settling, "a write is accepted", func() bool {
			return w.Admins[len(live)%2].Call(ctx, http.MethodPut, "/routes"+path, w.route(path, "")).Status == http.StatusCreated
		}); err != nil {
			return err
		}
		again = append(again, time.Since(began))
		took, err := w.LiveEverywhere(ctx, path, settling)
		live = append(live, took)
		return err
	}
	report := func(what string) {
		w.AtMost(what+": writes work again in, slowest of all", longest(again), 5*time.Second)
		w.AtMost(what+": a change is live on 3 nodes in, slowest of all", longest(live), time.Second)
		live, again = nil, nil
	}

	for range rounds {
		// The one that a gateway watches first, then the others, of which one leads.
		order := slices.Clone(w.Etcd.Members)
		r.Rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		if m := w.attached(w.Gateways[0]); m != nil {
			i := slices.Index(order, m)
			order[0], order[i] = order[i], order[0]
		}
		for _, m := range order {
			if err := w.Etcd.remove(ctx, m); err != nil {
				return err
			}
			if err := change("removed"); err != nil {
				return err
			}
			if err := w.Etcd.add(ctx, m); err != nil {
				return err
			}
			if err := change("added"); err != nil {
				return err
			}
		}
	}
	r.Note("members replaced", fmt.Sprint(3*rounds))
	report("a member of etcd is removed, and a new one joins")
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)

	// Something to clear away: a member answers nobody while it does.
	var last int64
	for i := range ballast {
		res, err := w.Etcd.KV.Put(ctx, "/lab/ballast", strings.Repeat(fmt.Sprintf("%08d", i), 32<<10/8))
		if err != nil {
			return err
		}
		last = res.Header.Revision
	}
	if _, err := w.Etcd.KV.Compact(ctx, last, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	var took []time.Duration
	var freed int64
	for _, m := range w.Etcd.Members {
		one, err := rawClient(m.Endpoint())
		if err != nil {
			return err
		}
		size := func() int64 {
			if s, err := one.Status(ctx, m.Endpoint()); err == nil {
				return s.DbSize
			}
			return 0
		}
		before, began := size(), time.Now()
		_, err = one.Defragment(ctx, m.Endpoint())
		took = append(took, time.Since(began))
		freed += before - size()
		_ = one.Close()
		if err != nil {
			return fmt.Errorf("defragmentation of %s: %w", m.Name, err)
		}
		if err := change("defragmented"); err != nil {
			return err
		}
	}
	r.Note("members defragmented", fmt.Sprintf("%d, each for at most %s, %d MiB freed", len(took), seconds(longest(took)), freed>>20))
	report("a member of etcd is defragmented")
	if err := c.Judge(ctx); err != nil {
		return err
	}
	w.AgreeLine(ctx, "same digest everywhere in the end in", time.Now(), 2*time.Second)
	w.Finish(ctx)
	return nil
}

// remove takes a member out of the cluster, upon which it ends by itself.
func (c *Cluster) remove(ctx context.Context, m *Member) error {
	var id uint64
	list, err := c.KV.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, l := range list.Members {
		if slices.Contains(l.PeerURLs, m.peer) { // it tells its name later
			id = l.ID
		}
	}
	if err := patiently(ctx, "member remove "+m.Name, func(ctx context.Context) error {
		_, err := c.KV.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil // the call before did it, and said nothing
		}
		return err
	}); err != nil {
		return err
	}
	select {
	case <-m.Process.exited:
	case <-time.After(5 * time.Second):
		m.Process.Kill() // it was cut off from the news
	}
	return nil
}

// add makes a new member without data at the address of one that was removed.
func (c *Cluster) add(ctx context.Context, m *Member) error {
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	if err := patiently(ctx, "member add "+m.Name, func(ctx context.Context) error {
		_, err := c.KV.MemberAdd(ctx, []string{m.peer})
		if errors.Is(err, rpctypes.ErrPeerURLExist) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	c.state = "existing"
	if err := c.start(m); err != nil {
		return err
	}
	one, err := rawClient(m.Endpoint())
	if err != nil {
		return err
	}
	defer func() { _ = one.Close() }()
	return patiently(ctx, m.Name+" joins", func(ctx context.Context) error {
		_, err := one.Get(ctx, "/lab/accepts") // by the word of the leader
		return err
	})
}

// patiently asks etcd until it does what it is asked: it changes no members before it has seen
// for some seconds that all others are well.
func patiently(ctx context.Context, what string, f func(ctx context.Context) error) error {
	var last error
	_, err := within(ctx, settling, what, func() bool {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if last = f(try); last == nil {
			return true
		}
		_ = pause(ctx, 100*time.Millisecond)
		return false
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}

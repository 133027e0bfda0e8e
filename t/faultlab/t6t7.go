package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// quorum is T6: leaders are killed and hang, then the majority goes.
func quorum(ctx context.Context, r *Run) error {
	rounds, lost := 4, 6*time.Second
	if r.Long {
		rounds, lost = 20, 30*time.Second
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 3, Gateways: 3, Admins: 2})
	if err != nil {
		return err
	}
	c := w.NewClients(8, 0, 12)
	var back []time.Duration
	writes := func(what string) (time.Duration, error) {
		return within(ctx, settling, what, func() bool {
			return w.Admins[0].Call(ctx, "PUT", "/routes/probe", w.route("/probe", "")).Status/100 == 2
		})
	}
	for round := range rounds {
		leader, err := w.Etcd.Leader(ctx)
		if err != nil {
			return err
		}
		kill := round%2 == 0
		if kill {
			leader.Process.Kill()
		} else {
			leader.Process.Signal(hang)
		}
		took, err := writes("writes after the loss of a leader")
		if err != nil {
			return err
		}
		back = append(back, took)
		if err := pause(ctx, r.between(1, 3)); err != nil {
			return err
		}
		if kill {
			err = w.Etcd.Up()
		} else {
			leader.Process.Signal(resume)
		}
		if err != nil {
			return err
		}
		if err := pause(ctx, r.between(1, 2)); err != nil {
			return err
		}
	}
	r.AtMost(fmt.Sprintf("slowest of %d lost leaders: writes work again in", rounds), longest(back), 5*time.Second)

	gone := []*Member{w.Etcd.Members[0], w.Etcd.Members[1]}
	for _, m := range gone {
		m.Process.Kill()
	}
	var a asked
	if err := a.ask(ctx, w, time.Now(), lost); err != nil {
		return err
	}
	if err := w.Etcd.Up(); err != nil {
		return err
	}
	if err := w.Etcd.Accepts(ctx, 60*time.Second); err != nil {
		return err
	}
	accepted := time.Now()
	if _, err := writes("writes after the loss of the majority"); err != nil {
		return err
	}
	r.None("writes without a majority that were not answered with 503", a.wrong, a.writes)
	r.AtMost("slowest answer to a write without a majority", a.slowest, 2*time.Second)
	r.None("nodes not ready", a.unready, a.states)
	if err := w.Put(ctx, "/routes/majority", w.route("/majority", "")); err != nil {
		return err
	}
	if _, err := w.LiveEverywhere(ctx, "/majority", settling); err != nil {
		return err
	}
	r.AtMost("a change is live on 3 nodes after the majority is back in", time.Since(accepted), time.Second)
	if err := c.Judge(ctx); err != nil {
		return err
	}
	// A call may be several of etcd, each of which has its time.
	r.Note("slowest answer of the Admin API at any time", seconds(c.slowest))
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
	w.Finish(ctx)
	return nil
}

// adminKilled is T7: the Admin API is killed in the middle of writes.
func adminKilled(ctx context.Context, r *Run) error {
	rounds := 40
	if r.Long {
		rounds = 50 // of each part
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 2, Admins: 2})
	if err != nil {
		return err
	}
	c := w.NewClients(5, 4, 12)
	for range rounds {
		a := w.Admins[r.Rand.IntN(len(w.Admins))]
		if err := pause(ctx, time.Duration(r.Rand.IntN(50_000))*time.Microsecond); err != nil {
			return err
		}
		a.Process.Kill()
		if err := a.Start(); err != nil {
			return err
		}
		if err := a.Listens(ctx, settling); err != nil {
			return err
		}
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	if err := c.Judge(ctx); err != nil {
		return err
	}
	r.Check("kills", fmt.Sprintf("%d, in which %d writes got no answer", rounds, c.unknowns), "writes were hit", c.unknowns > rounds/4)
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
	var rejected []string
	for _, g := range w.Gateways {
		if s, err := g.State(ctx); err != nil || s.Rejected > 0 {
			rejected = append(rejected, fmt.Sprintf("%s rejects %d: %s", g.Name, s.Rejected, strings.Join(w.rejections(ctx, g), ", ")))
		}
	}
	r.None("nodes that reject something", rejected, len(w.Gateways))
	w.Finish(ctx)
	return nil
}

// rejection is an item that a node does not have in force.
type rejection struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// rejections is what a node rejects, as text.
func (w *World) rejections(ctx context.Context, n *Node) (all []string) {
	var list []rejection
	if err := getJSON(ctx, "http://"+n.Control+"/v1/config/rejected", &list); err != nil {
		return []string{err.Error()}
	}
	for _, r := range list {
		all = append(all, fmt.Sprintf("%s (%.80s)", r.Key, r.Reason))
	}
	return all
}

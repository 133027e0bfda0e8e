package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// compaction is T3: one gateway loses sight of etcd, which changes and forgets how.
func compaction(old bool) func(ctx context.Context, r *Run) error {
	return func(ctx context.Context, r *Run) error {
		length := 8 * time.Second
		if r.Long {
			length = 15 * time.Second
		}
		w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1, OldEtcd: old, Namespace: true})
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := w.raw(ctx, fmt.Sprintf("/routes/c%d", i), w.route(fmt.Sprintf("/c%d", i), "before")); err != nil {
				return err
			}
		}
		if _, err := w.Agree(ctx, settling); err != nil {
			return err
		}
		lost := w.Gateways[0]
		if err := w.NS.Cut(ctx); err != nil {
			return err
		}
		cut := time.Now()
		noticed := make(chan time.Duration, 1)
		go func() {
			took, _ := within(ctx, 20*time.Second, "", func() bool {
				s, err := lost.State(ctx)
				return err == nil && s.Staleness > 0
			})
			noticed <- took
		}()
		// 200 changes, of which some take away and some come anew.
		for i := range 200 {
			n := r.Rand.IntN(150)
			key := fmt.Sprintf("/routes/c%d", n)
			if r.Rand.IntN(3) == 0 {
				_, err = w.Etcd.KV.Delete(ctx, prefix+key)
			} else {
				err = w.raw(ctx, key, w.route(fmt.Sprintf("/c%d", n), fmt.Sprint("change ", i)))
			}
			if err != nil {
				return err
			}
		}
		got, err := w.Etcd.KV.Get(ctx, "/lab/accepts")
		if err != nil {
			return err
		}
		if _, err := w.Etcd.KV.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		r.AtMost("staleness is shown after the cut in", <-noticed, 3*time.Second)
		if left := time.Until(cut.Add(length)); left > 0 {
			if err := pause(ctx, left); err != nil {
				return err
			}
		}
		if err := w.NS.Heal(ctx); err != nil {
			return err
		}
		healed := time.Now()
		w.AgreeLine(ctx, "same digest everywhere after the cable is back in", healed, 2*time.Second)
		anew := lost.Process.Log.Since(cut, "configuration was read anew")
		r.Check("the gateway read everything anew because", strings.Join(causes(anew), ", "), "compacted, once", slices.Equal(causes(anew), []string{"compacted"}))
		if err := w.raw(ctx, "/routes/after", w.route("/after", "")); err != nil {
			return err
		}
		took, err := w.LiveEverywhere(ctx, "/after", settling)
		if err != nil {
			return err
		}
		r.AtMost("a change afterwards is live in", took, time.Second)
		w.Finish(ctx)
		return nil
	}
}

// causes are why a node read everything anew, by its log.
func causes(lines []LogLine) (all []string) {
	for _, l := range lines {
		var line struct {
			Cause string `json:"cause"`
		}
		_ = json.Unmarshal([]byte(l.Text), &line)
		all = append(all, line.Cause)
	}
	return all
}

// raw writes into etcd past the Admin API.
func (w *World) raw(ctx context.Context, path, value string) error {
	_, err := w.Etcd.KV.Put(ctx, prefix+path, value)
	return err
}

// hung is T4: the member that a gateway watches stops without a word.
func hung(ctx context.Context, r *Run) error {
	rounds := 5
	if r.Long {
		rounds = 20
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 3, Gateways: 3, Admins: 2})
	if err != nil {
		return err
	}
	var left, written []time.Duration
	for round := range rounds {
		// At any moment between two heartbeats.
		if err := pause(ctx, 3*time.Second+r.between(0, 1)); err != nil {
			return err
		}
		g := w.Gateways[r.Rand.IntN(len(w.Gateways))]
		m := w.attached(g)
		if m == nil {
			return fmt.Errorf("%s does not say which etcd it is connected to", g.Name)
		}
		m.Process.Signal(hang)
		at := time.Now()
		path := fmt.Sprintf("/hung-%d", round)
		put := make(chan time.Duration, 1)
		go func() {
			took, _ := within(ctx, 30*time.Second, "", func() bool {
				return w.Admins[round%2].Call(ctx, "PUT", "/routes"+path, w.route(path, "")).Status == 201
			})
			put <- took
		}()
		_, err := within(ctx, settling, g.Name+" leaves a hung member", func() bool {
			now := w.attached(g)
			return now != m
		})
		left = append(left, time.Since(at))
		written = append(written, <-put)
		m.Process.Signal(resume)
		if err != nil {
			return err
		}
		if _, err := w.LiveEverywhere(ctx, path, 30*time.Second); err != nil {
			return err
		}
	}
	r.AtMost(fmt.Sprintf("slowest of %d: hung member left in", rounds), longest(left), 3*time.Second)
	r.Note("a write through the Admin API took at most", seconds(longest(written)))
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
	w.Finish(ctx)
	return nil
}

func longest(all []time.Duration) (most time.Duration) {
	for _, d := range all {
		most = max(most, d)
	}
	return most
}

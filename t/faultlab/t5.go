package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/gosix/gosix/internal/porttest"
)

// restored is T5: etcd comes back from an older backup, with its revision as it was then, and
// from one whose revision was raised.
func restored(ctx context.Context, r *Run) error {
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1})
	if err != nil {
		return err
	}
	put := func(from, to int, desc string) error {
		for i := from; i < to; i++ {
			if err := w.raw(ctx, fmt.Sprintf("/routes/r%d", i), w.route(fmt.Sprintf("/r%d", i), desc)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := put(0, 40, "old"); err != nil {
		return err
	}
	backup := filepath.Join(r.Dir, "backup")
	if err := w.Etcd.Snapshot(ctx, backup); err != nil {
		return err
	}
	if err := put(20, 60, "new"); err != nil {
		return err
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	for i, extra := range [][]string{nil, {"--bump-revision", "1000000", "--mark-compacted"}} {
		what := "a backup"
		if i > 0 {
			what = "a backup with a raised revision"
			if err := put(0, 5, "newest"); err != nil {
				return err
			}
		}
		w.Watch.Replaced()
		w.Etcd.Kill()
		if err := w.Etcd.Restore(ctx, backup, extra...); err != nil {
			return err
		}
		if err := pause(ctx, r.between(1, 4)); err != nil {
			return err
		}
		if err := w.back(ctx, what); err != nil {
			return err
		}
	}
	w.Finish(ctx)
	return nil
}

// back starts etcd again and measures until its content is in force, and until a change is.
func (w *World) back(ctx context.Context, what string) error {
	if err := w.Etcd.Up(); err != nil {
		return err
	}
	if err := w.Etcd.Accepts(ctx, 60*time.Second); err != nil {
		return err
	}
	accepted := time.Now()
	w.AgreeLine(ctx, "after "+what+": same digest everywhere in", accepted, 2*time.Second)
	path := fmt.Sprintf("/back-%d", accepted.UnixMilli())
	if _, err := within(ctx, settling, "a write works", func() bool {
		return w.Admins[0].Call(ctx, http.MethodPut, "/routes"+path, w.route(path, "")).Status/100 == 2
	}); err != nil {
		return err
	}
	took, err := w.LiveEverywhere(ctx, path, settling)
	if err != nil {
		return err
	}
	w.AtMost("after "+what+": a change is live in", took, time.Second)
	return nil
}

// otherCluster is T5's third part: the address leads to another cluster, with a configuration of
// its own and a lower revision.
func otherCluster(ctx context.Context, r *Run) error {
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1})
	if err != nil {
		return err
	}
	for i := range 40 {
		if err := w.raw(ctx, fmt.Sprintf("/routes/r%d", i), w.route(fmt.Sprintf("/r%d", i), "one")); err != nil {
			return err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	content, err := w.Etcd.Content(ctx)
	if err != nil {
		return err
	}
	w.Watch.Replaced()
	w.Etcd.Kill()
	// The other cluster is made where no node sees it, and then moves to the address.
	if err := w.Etcd.Wipe(); err != nil {
		return err
	}
	w.Etcd.token += "-other"
	m := w.Etcd.Members[0]
	address := m.Client
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		return err
	}
	m.Client = fmt.Sprintf("127.0.0.1:%d", port)
	if err := w.Etcd.Up(); err != nil {
		return err
	}
	other, err := rawClient(m.Endpoint())
	if err != nil {
		return err
	}
	n := 0
	for key, it := range content.Items {
		if n++; n%10 == 0 && key != prefix+"/routes/lab-plain" && key != prefix+"/routes/lab-chat" {
			continue // it lacks some
		}
		if _, err := other.Put(ctx, key, string(it.Value)); err != nil {
			return err
		}
	}
	_ = other.Close()
	w.Etcd.Kill()
	m.Client = address
	if err := w.back(ctx, "another cluster took its place"); err != nil {
		return err
	}
	w.Finish(ctx)
	return nil
}

// wiped is T5's second part: etcd comes back with nothing in it.
func wiped(ctx context.Context, r *Run) error {
	if !r.has("last_good") {
		return notBuilt("nothing guards nodes against a store that comes back empty: there is no setting deployment.last_good")
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1})
	if err != nil {
		return err
	}
	for i, how := range []string{"POST /v1/config/accept", "the marker key"} {
		if err := w.wipe(ctx, how, i); err != nil {
			return err
		}
	}
	w.Finish(ctx)
	return nil
}

// wipe empties etcd, and then has an operator say that it is meant.
func (w *World) wipe(ctx context.Context, how string, round int) error {
	for i := range 40 {
		if err := w.raw(ctx, fmt.Sprintf("/routes/r%d", i), w.route(fmt.Sprintf("/r%d", i), "one")); err != nil {
			return err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	before, err := w.Gateways[0].State(ctx)
	if err != nil {
		return err
	}
	w.Etcd.Kill()
	if err := w.Etcd.Wipe(); err != nil {
		return err
	}
	w.Etcd.token += "-wiped"
	if err := w.Etcd.Up(); err != nil {
		return err
	}
	if err := w.Etcd.Accepts(ctx, 60*time.Second); err != nil {
		return err
	}
	accepted := time.Now()
	held := func(g *Node) bool {
		s, err := g.State(ctx)
		return err == nil && isHeld(s)
	}
	for _, g := range w.Gateways {
		if _, err := within(ctx, settling, g.Name+" holds an empty store back", func() bool { return held(g) }); err != nil {
			return err
		}
	}
	w.AtMost("an empty store is noticed and held back on 3 nodes in", time.Since(accepted), 5*time.Second)
	if err := pause(ctx, time.Duration(5-3*round)*time.Second); err != nil {
		return err
	}
	var lost []string
	for _, g := range w.Gateways {
		s, err := g.State(ctx)
		if err != nil || s.Digest != before.Digest || !isHeld(s) {
			lost = append(lost, fmt.Sprintf("%s has %s at revision %d, held %s", g.Name, short(s.Digest), s.Revision, s.Held))
		}
		if !w.Probe(g, "/r7", "x") {
			lost = append(lost, g.Name+" lost a route")
		}
		if g.metric("store_reset") < 1 {
			lost = append(lost, g.Name+" raises no alarm")
		}
	}
	w.None("nodes that let go of their configuration, or raise no alarm", lost, len(w.Gateways))
	// From here on an operator means it.
	w.Load.Stop()
	w.Watch.Replaced()
	if err := w.acceptHeld(ctx, round > 0); err != nil {
		return fmt.Errorf("%s: %w", how, err)
	}
	// The key is looked at once a second.
	w.AgreeLine(ctx, how+": the empty store is in force everywhere in", time.Now(), 3*time.Second)
	path := fmt.Sprintf("/anew-%d", round)
	if err := w.Put(ctx, "/routes"+path, w.route(path, "")); err != nil {
		return err
	}
	took, err := w.LiveEverywhere(ctx, path, settling)
	if err != nil {
		return err
	}
	w.AtMost(how+": after it a change is live in", took, time.Second)
	return nil
}

// acceptHeld puts in force what nodes hold back: by their own APIs, or by a key that names the
// cluster.
func (w *World) acceptHeld(ctx context.Context, marker bool) error {
	if marker {
		s, err := w.Gateways[0].State(ctx)
		if err != nil {
			return err
		}
		var held struct {
			Cluster string `json:"cluster_id"`
		}
		if err := json.Unmarshal(s.Held, &held); err != nil {
			return err
		}
		_, err = w.Etcd.KV.Put(ctx, prefix+"-nodes/accept", held.Cluster)
		return err
	}
	for _, g := range w.Gateways {
		res, err := small.Post("http://"+g.Control+"/v1/config/accept", "application/json", nil)
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode/100 != 2 {
			return fmt.Errorf("%s answers %s", g.Name, res.Status)
		}
	}
	return nil
}

// isHeld reads what a node says of a state that it does not put in force.
func isHeld(s State) bool {
	switch string(s.Held) {
	case "", "null", "false", `""`, "{}":
		return false
	}
	return true
}

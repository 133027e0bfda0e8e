package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
)

// etcdDown is T1: one long outage, and some short ones, since how soon a node finds etcd again
// depends on the moment.
func etcdDown(ctx context.Context, r *Run) error {
	before, outages := 4*time.Second, []time.Duration{12 * time.Second, r.between(3, 8), r.between(3, 8)}
	if r.Long {
		before, outages = 60*time.Second, []time.Duration{10 * time.Minute, r.between(3, 20), r.between(3, 20), r.between(3, 20)}
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 3, Gateways: 3, Admins: 2})
	if err != nil {
		return err
	}
	if err := pause(ctx, before); err != nil {
		return err
	}
	rss := make([]int64, len(w.Gateways))
	for i, g := range w.Gateways {
		rss[i] = g.Process.RSS()
	}
	var a asked
	var again, live time.Duration
	var noisy []string
	first := time.Now()
	back := first
	for i, outage := range outages {
		killed := time.Now()
		w.Etcd.Kill()
		if err := a.ask(ctx, w, killed, outage); err != nil {
			return err
		}
		for _, g := range w.Gateways {
			// One line for the change of state, and one a minute.
			lines := g.Process.Log.Since(killed, `"level"`)
			if n := len(lines); n > int(outage.Minutes())+1 {
				noisy = append(noisy, fmt.Sprintf("%s wrote %d lines in %v: %s", g.Name, n, outage, texts(lines)))
			}
		}
		if err := w.Etcd.Up(); err != nil {
			return err
		}
		if err := w.Etcd.Accepts(ctx, 60*time.Second); err != nil {
			return err
		}
		accepted := time.Now()
		path := fmt.Sprintf("/back-%d", i)
		if _, err := within(ctx, settling, "a write is accepted", func() bool {
			return w.Admins[i%len(w.Admins)].Call(ctx, http.MethodPut, "/routes"+path, w.route(path, "back")).Status == http.StatusCreated
		}); err != nil {
			return err
		}
		again = max(again, time.Since(accepted))
		if _, err := w.LiveEverywhere(ctx, path, settling); err != nil {
			return err
		}
		live = max(live, time.Since(accepted))
		if i == 0 {
			back = time.Now()
		}
	}
	r.None("writes without etcd that were not refused with 503", a.wrong, a.writes)
	r.AtMost("slowest refusal of a write", a.slowest, 2*time.Second)
	r.Note("reads of the Admin API without etcd that failed", fmt.Sprintf("%d of %d", a.reads, a.writes))
	r.None("nodes not ready", a.unready, a.states)
	r.None("staleness wrong by more than 2 s", a.stale, a.states)
	r.None("nodes that log more than a line a minute", noisy, len(w.Gateways)*len(outages))
	r.AtMost(fmt.Sprintf("slowest of %d returns: writes work", len(outages)), again, time.Second)
	r.AtMost(fmt.Sprintf("slowest of %d returns: a change is live on 3 nodes after etcd accepts again", len(outages)), live, time.Second)
	for i, g := range w.Gateways {
		now := g.Process.RSS()
		r.Note(g.Name+" memory before and after", fmt.Sprintf("%d and %d MiB (%+.0f %%)", rss[i]>>20, now>>20, 100*float64(now-rss[i])/float64(rss[i])))
	}
	w.AgreeLine(ctx, "same digest on 3 nodes, and the one of etcd's content, in", time.Now(), 2*time.Second)
	records := w.Load.Stop()
	with, without := figures(records, w.Begin, first), figures(records, first, back)
	r.Note("whole answers with etcd", fmt.Sprintf("p50 %s, p99 %s of %d", seconds(with.P50), seconds(with.P99), with.Requests))
	r.Note("whole answers without", fmt.Sprintf("p50 %s, p99 %s of %d", seconds(without.P50), seconds(without.P99), without.Requests))
	w.Finish(ctx)
	return nil
}

// between draws a number of seconds.
func (r *Run) between(from, to int) time.Duration {
	return time.Duration(from)*time.Second + time.Duration(r.Rand.Int64N(int64(to-from)*int64(time.Second)))
}

func texts(lines []LogLine) (all []string) {
	for _, l := range lines[:min(len(lines), 5)] {
		all = append(all, l.Text)
	}
	return all
}

// asked is what was asked of a cluster without its store, and what it said.
type asked struct {
	writes, reads, states int // reads: that failed
	wrong, unready, stale []string
	slowest               time.Duration
}

// ask asks every admin for a write and a read, one after the other, and every gateway for its
// state, as long as an outage lasts. How old a gateway is said to be counts from killed.
func (a *asked) ask(ctx context.Context, w *World, killed time.Time, outage time.Duration) error {
	end := killed.Add(outage)
	var calls sync.WaitGroup
	var mu sync.Mutex
	for _, admin := range w.Admins {
		calls.Go(func() {
			for time.Until(end) > 2500*time.Millisecond {
				write := admin.Call(ctx, http.MethodPut, "/routes/lost", w.route("/lost", "lost"))
				read := admin.Call(ctx, http.MethodGet, "/routes/lab-plain", "")
				mu.Lock()
				a.writes++
				a.slowest = max(a.slowest, write.Took)
				// What etcd had in hand when it went is in nobody's hands.
				if write.Status != http.StatusServiceUnavailable && !(write.Status == http.StatusGatewayTimeout && time.Since(killed) < 3*time.Second) {
					a.wrong = append(a.wrong, fmt.Sprintf("%s: %d %s %v", admin.Name, write.Status, write.Body, write.Err))
				}
				if read.Status != http.StatusOK {
					a.reads++
				}
				mu.Unlock()
			}
		})
	}
	defer calls.Wait()
	for time.Now().Before(end) {
		for _, g := range w.Gateways {
			a.states++
			if !ready(g.Status) {
				a.unready = append(a.unready, g.Name)
			}
			s, err := g.State(ctx)
			if err != nil {
				return err
			}
			if off := s.Staleness - time.Since(killed).Seconds(); math.Abs(off) > 2 {
				a.stale = append(a.stale, fmt.Sprintf("%s says %.1f s, off by %.1f s", g.Name, s.Staleness, off))
			}
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

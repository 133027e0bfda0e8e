package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// State is what a node's GET /v1/config says.
type State struct {
	Node      string  `json:"node"`
	Revision  int64   `json:"revision"`
	Observed  int64   `json:"observed"`
	Digest    string  `json:"digest"`
	Staleness float64 `json:"staleness_s"`
	Rejected  int     `json:"rejected"`
	// Held is why a state of the store was not put in force; absent where nothing guards.
	Held json.RawMessage `json:"held"`
}

// Sample is a node's state at a time.
type Sample struct {
	At    time.Time
	Node  string
	Life  int // of the process: counts its starts
	Epoch int // of the store: counts how often it was replaced by an older or another one
	State
}

// Observer asks every node for its state again and again, and keeps every answer.
type Observer struct {
	nodes   []*Node
	every   time.Duration
	epoch   atomic.Int64
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	samples []Sample
}

func newObserver(every time.Duration, nodes ...*Node) *Observer {
	ctx, cancel := context.WithCancel(context.Background())
	o := &Observer{nodes: nodes, every: every, stop: cancel}
	for _, n := range nodes {
		o.running.Go(func() { o.follow(ctx, n) })
	}
	return o
}

func (o *Observer) follow(ctx context.Context, n *Node) {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		life, epoch := n.Life(), o.epoch.Load()
		s, err := n.State(ctx)
		if err != nil || n.Life() != life {
			continue // that a node does not answer is for the load to notice
		}
		o.mu.Lock()
		o.samples = append(o.samples, Sample{time.Now(), n.Name, life, int(epoch), s})
		o.mu.Unlock()
	}
}

// Replaced says that the store is about to be replaced by an older or another one, after which
// revisions may go back, once on every node. It waits until each has been seen: one that is
// seen first in the time afterwards would count as one of the new store.
func (o *Observer) Replaced() {
	for _, n := range o.nodes {
		_, _ = within(context.Background(), 5*time.Second, n.Name+" is seen", func() bool {
			seen := o.Seen(n.Name, time.Time{})
			return len(seen) > 0 && seen[len(seen)-1].Life == n.Life()
		})
	}
	o.epoch.Add(1)
}

// Stop returns everything that was seen, in the order of time.
func (o *Observer) Stop() []Sample {
	o.stop()
	o.running.Wait()
	slices.SortStableFunc(o.samples, func(a, b Sample) int { return a.At.Compare(b.At) })
	return o.samples
}

// take adds what another observer saw before.
func (o *Observer) take(samples []Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.samples = append(o.samples, samples...)
}

// Seen returns what was seen so far of a node since a time.
func (o *Observer) Seen(node string, since time.Time) (out []Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.samples {
		if s.Node == node && s.At.After(since) {
			out = append(out, s)
		}
	}
	return out
}

// epochs gives each sample the epoch of the store that its node had reached: a node lives in
// an older one until its revision has gone back.
func epochs(samples []Sample) []Sample {
	type reached struct {
		life, epoch int
		revision    int64
	}
	at := map[string]reached{}
	out := make([]Sample, len(samples))
	for i, s := range samples {
		r, known := at[s.Node]
		switch {
		case !known, s.Life != r.life:
			r.epoch = s.Epoch
		case s.Revision < r.revision && s.Epoch > r.epoch:
			r.epoch = s.Epoch
		}
		r.life, r.revision = s.Life, s.Revision
		at[s.Node] = r
		s.Epoch = r.epoch
		out[i] = s
	}
	return out
}

// checkDigests finds the nodes that hold something else than others at the same revision.
func checkDigests(samples []Sample) (bad []string) {
	type point struct {
		epoch    int
		revision int64
	}
	first := map[point]Sample{}
	told := map[string]bool{}
	for _, s := range epochs(samples) {
		p := point{s.Epoch, s.Revision}
		f, known := first[p]
		if !known {
			first[p] = s
			continue
		}
		if text := fmt.Sprintf("revision %d: %s has %.8s, %s has %.8s", s.Revision, f.Node, f.Digest, s.Node, s.Digest); f.Digest != s.Digest && !told[text] {
			told[text] = true
			bad = append(bad, text)
		}
	}
	return bad
}

// checkMonotone finds the nodes whose revision went back though the store's did not.
func checkMonotone(samples []Sample) (bad []string) {
	last := map[string]Sample{}
	for _, s := range epochs(samples) {
		l, known := last[s.Node]
		if known && l.Life == s.Life && l.Epoch == s.Epoch && s.Revision < l.Revision {
			bad = append(bad, fmt.Sprintf("%s went from revision %d to %d", s.Node, l.Revision, s.Revision))
		}
		last[s.Node] = s
	}
	return bad
}

// Commit is a revision that etcd made, and when it was known to exist.
type Commit struct {
	Revision int64
	At       time.Time
}

// lags counts, for each sample, how old the oldest change is that its node does not have yet.
func lags(samples []Sample, commits []Commit) (all []time.Duration) {
	slices.SortFunc(commits, func(a, b Commit) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, s := range samples {
		i, _ := slices.BinarySearchFunc(commits, s.Revision+1, func(c Commit, r int64) int { return cmp.Compare(c.Revision, r) })
		if i < len(commits) && commits[i].At.Before(s.At) {
			all = append(all, s.At.Sub(commits[i].At))
		} else {
			all = append(all, 0)
		}
	}
	slices.Sort(all)
	return all
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// small is for the control, status and admin APIs.
var small = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 20 * time.Second}}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := small.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// ready asks for a node's readiness.
func ready(addr string) bool {
	res, err := small.Get("http://" + addr + "/status/ready")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func short(digest string) string { return strings.ToLower(digest[:min(8, len(digest))]) }

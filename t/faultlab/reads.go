package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// readYourWrites is the promise that a write which is acknowledged is everywhere: what was
// waited for, what was asked for by its revision, and what the table of nodes says.
func readYourWrites(ctx context.Context, r *Run) error {
	const routes = 10_000
	changes, cycles, asked := 250, 300, 60
	if r.Long {
		changes, cycles, asked = 1000, 10_000, 1000
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1, NoLoad: true, Settings: "min_revision_header: true\n"})
	if err != nil {
		return err
	}
	if err := w.fill(ctx, routes, ""); err != nil {
		return err
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil { // the first snapshots are on disk
		return err
	}
	if err := w.live(ctx, changes, routes); err != nil {
		return err
	}
	load := NewLoad(w.targets()...)
	load.Start(r.Rate, uint64(r.Unit.Seed))
	r.Later(func() { load.Stop() })
	if err := w.cycles(ctx, cycles); err != nil {
		return err
	}
	if err := w.minRevision(ctx, asked); err != nil {
		return err
	}
	load.Stop()
	w.nodesAgree(ctx, "the table of nodes agrees with every node within")
	if err := w.oneHangs(ctx); err != nil {
		return err
	}
	if r.Long {
		if err := w.oneDies(ctx); err != nil {
			return err
		}
	}
	if err := w.oneRefuses(ctx); err != nil {
		return err
	}
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
	w.FinishWith(ctx, load)
	return nil
}

// live changes a route again and again, without waiting for anybody, and measures by requests
// when each node has it.
func (w *World) live(ctx context.Context, changes, routes int) error {
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	records := w.Etcd.KV.Watch(watch, prefix+"-nodes/", clientv3.WithPrefix())
	written := map[string]int{}
	var counting sync.WaitGroup
	counting.Go(func() {
		for res := range records {
			for _, e := range res.Events {
				if e.Type == clientv3.EventTypePut && !strings.Contains(string(e.Kv.Key), "/wait/") {
					written[string(e.Kv.Key)]++
				}
			}
		}
	})
	var took []time.Duration
	begin := time.Now()
	for i := range changes {
		if err := pause(ctx, time.Duration(20+w.Rand.IntN(80))*time.Millisecond); err != nil {
			return err
		}
		path := fmt.Sprintf("/live/%d", i)
		if err := w.Put(ctx, "/routes/live", w.route(path, "")); err != nil {
			return err
		}
		answered := time.Now()
		each := make([]time.Duration, len(w.Gateways))
		errs := make(chan error, len(w.Gateways))
		var asking sync.WaitGroup
		for n, g := range w.Gateways {
			asking.Go(func() {
				for !w.Probe(g, path, "probe") {
					if time.Since(answered) > 10*time.Second {
						errs <- fmt.Errorf("%s does not serve %s", g.Name, path)
						return
					}
					time.Sleep(time.Millisecond)
				}
				each[n] = time.Since(answered)
			})
		}
		asking.Wait()
		select {
		case err := <-errs:
			return err
		default:
		}
		took = append(took, longest(each))
	}
	length := time.Since(begin)
	cancel()
	counting.Wait()
	slices.Sort(took)
	w.Quick(fmt.Sprintf("a change among %d routes is live on 3 nodes after the answer of the Admin API, p99 of %d", routes, changes), percentile(took, 99), 25*time.Millisecond, time.Second)
	w.Note("… at the median, and at most", seconds(percentile(took, 50))+", "+seconds(took[len(took)-1]))
	var many []string
	for id, n := range written {
		if float64(n) > length.Seconds()+1 {
			many = append(many, fmt.Sprintf("%s: %d in %s", id, n, seconds(length)))
		}
	}
	w.None("nodes that write more than one record a second while nobody waits", many, len(written))
	return nil
}

// cycles writes, waits, and asks every node for what was written and for what it replaced.
func (w *World) cycles(ctx context.Context, number int) error {
	var stale, unapplied []string
	var took []time.Duration
	asked := 0
	before := ""
	for i := range number {
		path := fmt.Sprintf("/cycle/%d", i)
		a := w.Write(ctx, "/routes/cycle?wait=applied&timeout=30s", w.route(path, ""))
		if a.Err != nil || a.Status/100 != 2 {
			return fmt.Errorf("cycle %d: %d %s %w", i, a.Status, a.Body, a.Err)
		}
		took = append(took, a.Took)
		all := fmt.Sprintf("%d/%d", len(w.Gateways), len(w.Gateways))
		if a.Status == http.StatusAccepted || a.Applied != all || a.Revision == 0 {
			unapplied = append(unapplied, fmt.Sprintf("cycle %d: %d, %q, revision %d", i, a.Status, a.Applied, a.Revision))
		}
		for _, g := range w.Gateways {
			for path, want := range map[string]int{path: http.StatusOK, before: http.StatusNotFound} {
				if path == "" {
					continue
				}
				asked++
				var r Record
				if send(small, &r, "http://"+g.Gateway+path, "x"); r.Status != want {
					stale = append(stale, fmt.Sprintf("cycle %d: %s answers %d for %s, want %d", i, g.Name, r.Status, path, want))
				}
			}
		}
		before = path
	}
	slices.Sort(took)
	w.None(fmt.Sprintf("stale answers after %d writes that were waited for", number), stale, asked)
	w.None("writes not answered with X-Gosix-Revision and X-Gosix-Applied: 3/3", unapplied, number)
	w.Note("a write that is waited for takes, median, p99 and at most", fmt.Sprintf("%s, %s, %s", seconds(percentile(took, 50)), seconds(percentile(took, 99)), seconds(took[len(took)-1])))
	return nil
}

// minRevision writes without waiting and names the revision in the requests.
func (w *World) minRevision(ctx context.Context, number int) error {
	ask := func(g *Node, path string, revision int64) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Gateway+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Gosix-Min-Revision", strconv.FormatInt(revision, 10))
		res, err := small.Do(req)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res, res.Body.Close()
	}
	var stale []string
	var newest int64
	late := 0
	for i := range number {
		path := fmt.Sprintf("/asked/%d", i)
		a := w.Admins[0].Call(ctx, http.MethodPut, "/routes/asked", w.route(path, ""))
		if a.Status/100 != 2 {
			return fmt.Errorf("%d %s %w", a.Status, a.Body, a.Err)
		}
		newest = a.Revision
		for _, g := range w.Gateways {
			res, err := ask(g, path, a.Revision)
			if err != nil {
				return err
			}
			switch res.StatusCode {
			case http.StatusOK:
			case http.StatusServiceUnavailable: // says that it is not there, and so is not stale
				late++
			default:
				stale = append(stale, fmt.Sprintf("%s answers %d for %s", g.Name, res.StatusCode, path))
			}
		}
	}
	w.None("stale answers to requests with the revision of a write in X-Gosix-Min-Revision", stale, number*len(w.Gateways))
	w.Most("… of these refused, because the revision did not come within 1 s", "%.0f", float64(late), 0, float64(number))
	var wrong []string
	var slowest time.Duration
	for _, g := range w.Gateways {
		began := time.Now()
		res, err := ask(g, "/plain", newest+1_000_000)
		if err != nil {
			return err
		}
		slowest = max(slowest, time.Since(began))
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			wrong = append(wrong, fmt.Sprintf("%s answers %d, Retry-After %q", g.Name, res.StatusCode, res.Header.Get("Retry-After")))
		}
	}
	w.None("requests for a revision that does not come, not answered with 503 and Retry-After", wrong, len(w.Gateways))
	w.AtMost("slowest of these answers", slowest, 2*time.Second)
	return nil
}

// listedNode is a line of the table of nodes.
type listedNode struct {
	ID              string `json:"id"`
	Addresses       []string
	Live            bool   `json:"live"`
	Applied         int64  `json:"applied"`
	Digest          string `json:"digest"`
	Rejected        int    `json:"rejected"`
	DigestDiffers   bool   `json:"digest_differs"`
	RejectedDiffers bool   `json:"rejected_differs"`
}

// nodes asks the Admin API for the table of live nodes.
func (w *World) nodes(ctx context.Context) (live []listedNode, err error) {
	a := w.Admins[0].Call(ctx, http.MethodGet, "/nodes", "")
	var table struct {
		List []listedNode `json:"list"`
	}
	if err := json.Unmarshal([]byte(a.Body), &table); err != nil || a.Status != http.StatusOK {
		return nil, fmt.Errorf("GET /apisix/admin/nodes: %d %s: %w", a.Status, a.Body, err)
	}
	return slices.DeleteFunc(table.List, func(n listedNode) bool { return !n.Live }), nil
}

// nodesAgree waits until the table says of every node what it says itself. Records are written
// once a second.
func (w *World) nodesAgree(ctx context.Context, what string) {
	begin, last := time.Now(), ""
	_, err := within(ctx, settling, what, func() bool {
		list, err := w.nodes(ctx)
		if err != nil || len(list) != len(w.Gateways) {
			last = fmt.Sprintf("%d nodes are live: %v", len(list), err)
			return false
		}
		for _, g := range w.Gateways {
			s, err := g.State(ctx)
			i := slices.IndexFunc(list, func(n listedNode) bool { return n.ID == s.Node })
			if err != nil || i < 0 {
				last = fmt.Sprintf("%s (%s) is not listed: %v", g.Name, s.Node, err)
				return false
			}
			if n := list[i]; n.Applied != s.Revision || n.Digest != s.Digest || n.Rejected != s.Rejected || n.DigestDiffers || n.RejectedDiffers {
				last = fmt.Sprintf("%s is %+v, listed as %+v", g.Name, s, n)
				return false
			}
		}
		return true
	})
	if err != nil {
		w.Check(what, last, "", false)
		return
	}
	w.AtMost(what, time.Since(begin), 3*time.Second)
}

// oneHangs stops a node: a write that is waited for says which one does not have it.
func (w *World) oneHangs(ctx context.Context) error {
	g := w.Gateways[w.Rand.IntN(len(w.Gateways))]
	s, err := g.State(ctx)
	if err != nil {
		return err
	}
	g.Process.Signal(hang)
	var a Answer
	// The others may be late where the machine is busy. After 10 s the one that hangs counts as
	// gone.
	for begin := time.Now(); a.Applied != "2/3" && time.Since(begin) < 7*time.Second; {
		a = w.Admins[0].Call(ctx, http.MethodPut, "/routes/hangs?wait=applied&timeout=1s", w.route("/hangs", ""))
	}
	g.Process.Signal(resume)
	var body struct {
		Nodes []struct {
			ID      string `json:"id"`
			Applied int64  `json:"applied"`
			InForce bool   `json:"in_force"`
		} `json:"nodes"`
	}
	_ = json.Unmarshal([]byte(a.Body), &body)
	ok := a.Status == http.StatusAccepted && a.Applied == "2/3" && len(body.Nodes) == 3
	for _, n := range body.Nodes {
		ok = ok && n.InForce == (n.ID != s.Node) && (n.Applied >= a.Revision) == n.InForce
	}
	w.Check("a node hangs: a write that is waited for is answered", fmt.Sprintf("%d, X-Gosix-Applied: %s, %d nodes in a table", a.Status, a.Applied, len(body.Nodes)), "202, 2/3, the one that lacks it", ok)
	w.AtMost("… after a timeout of 1 s in", a.Took, 2*time.Second)
	took, err := within(ctx, settling, "a write is everywhere again", func() bool {
		return w.Admins[0].Call(ctx, http.MethodPut, "/routes/hangs?wait=applied&timeout=1s", w.route("/hangs", "")).Applied == "3/3"
	})
	if err != nil {
		return err
	}
	w.AtMost("… and when it goes on, a write is everywhere in", took, 3*time.Second)
	return nil
}

// oneDies kills a node: who waits for it does so until its lease has ended.
func (w *World) oneDies(ctx context.Context) error {
	g := w.Gateways[w.Rand.IntN(len(w.Gateways))]
	applied := func(want string) func() bool {
		return func() bool {
			return w.Admins[0].Call(ctx, http.MethodPut, "/routes/dies?wait=applied&timeout=500ms", w.route("/dies", "")).Applied == want
		}
	}
	g.Process.Kill()
	took, err := within(ctx, settling, "nobody waits for a node that is gone", applied("2/2"))
	if err != nil {
		return err
	}
	w.AtMost("a node is killed: it is waited for no longer than", took, 13*time.Second)
	if err := g.Start(); err != nil {
		return err
	}
	if err := g.Listens(ctx, settling); err != nil {
		return err
	}
	took, err = within(ctx, settling, "a write is everywhere again", applied("3/3"))
	if err != nil {
		return err
	}
	w.AtMost("… and when it is back, a write is on 3 nodes in", took, 3*time.Second)
	return nil
}

// oneRefuses starts a node again that lacks a plugin, and uses the plugin.
func (w *World) oneRefuses(ctx context.Context) error {
	g := w.Gateways[w.Rand.IntN(len(w.Gateways))]
	const without = "plugins: [ai-proxy]\n"
	if err := g.restart(ctx, func(conf string) string { return conf + without }); err != nil {
		return err
	}
	// flagged tells whether all nodes are listed, and whether one of them is said to differ.
	flagged := func() (all, one bool) {
		list, _ := w.nodes(ctx)
		return len(list) == len(w.Gateways), slices.ContainsFunc(list, func(n listedNode) bool { return n.RejectedDiffers })
	}
	if err := w.Put(ctx, "/routes/refused", with(w.route("/refused", ""), `"plugins":{"key-auth":{}}`)); err != nil {
		return err
	}
	took, err := within(ctx, settling, "a node that rejects something alone is flagged", func() bool { all, one := flagged(); return all && one })
	if err != nil {
		return err
	}
	w.AtMost("a node lacks a plugin: that what it rejects differs is told in", took, 3*time.Second)
	var wrong []string
	for _, o := range w.Gateways {
		s, err := o.State(ctx)
		if err != nil {
			return err
		}
		if (s.Rejected == 1) != (o == g) {
			wrong = append(wrong, fmt.Sprintf("%s rejects %d items", o.Name, s.Rejected))
		}
	}
	w.None("… nodes that reject it wrongly", wrong, len(w.Gateways))
	if err := g.restart(ctx, func(conf string) string { return strings.TrimSuffix(conf, without) }); err != nil {
		return err
	}
	took, err = within(ctx, settling, "nobody is flagged any more", func() bool { all, one := flagged(); return all && !one })
	if err != nil {
		return err
	}
	w.AtMost("… and when it has the plugin, nothing differs after", took, 3*time.Second)
	return nil
}

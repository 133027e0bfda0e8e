package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// churn is T8: ten thousand keys change a second, in transactions of a hundred.
func churn(ctx context.Context, r *Run) error {
	// Of memory that is not used Go gives some back every few seconds.
	warm, length, calm, rate, more := 3*time.Second, 12*time.Second, 10*time.Second, 3000, 25.0
	if r.Long {
		warm, length, calm, rate, more = 15*time.Second, time.Minute, time.Minute, 10_000, 5
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 2, Admins: 1})
	if err != nil {
		return err
	}
	const keys, batch = 5000, 100
	key := func(n int) string { return fmt.Sprintf("%s/routes/h%d", prefix, n%keys) }
	txn := func(from, version int) (int64, error) {
		ops := make([]clientv3.Op, batch)
		for i := range ops {
			ops[i] = clientv3.OpPut(key(from+i), w.route(fmt.Sprintf("/h%d", (from+i)%keys), fmt.Sprint(version)))
		}
		res, err := w.Etcd.KV.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return 0, err
		}
		return res.Header.Revision, nil
	}
	for n := 0; n < keys; n += batch {
		if _, err := txn(n, 0); err != nil {
			return err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	// change changes keys for a while, one after the other, and returns what etcd made of it.
	n := 0
	change := func(length time.Duration) (commits []Commit, err error) {
		for begin, next := time.Now(), time.Now(); time.Since(begin) < length; n += batch {
			revision, err := txn(n, n+1)
			if err != nil {
				return nil, err
			}
			commits = append(commits, Commit{revision, time.Now()})
			next = next.Add(time.Second * batch / time.Duration(rate))
			if err := pause(ctx, time.Until(next)); err != nil {
				return nil, err
			}
		}
		return commits, nil
	}
	// A first round and a calm of its own, so that what a process takes once does not look like
	// what it keeps: a heap that has grown stays as large as its garbage was. The calm is as long
	// as the one in the end, so that requests have left as much garbage since, and memory is
	// looked at for its last third: it goes up and down with the collector.
	if _, err := change(warm); err != nil {
		return err
	}
	rss, err := w.calmRSS(ctx, calm)
	if err != nil {
		return err
	}
	most := make([]atomic.Int64, len(w.Gateways))
	files := make([]int, len(w.Gateways))
	for i, g := range w.Gateways {
		files[i] = g.Process.openFiles()
	}
	done := make(chan struct{})
	go func() {
		for pause(ctx, 100*time.Millisecond) == nil {
			for i, g := range w.Gateways {
				most[i].Store(max(most[i].Load(), g.Process.RSS()))
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	begin := time.Now()
	commits, err := change(length)
	if err != nil {
		return err
	}
	end := time.Now()
	close(done)
	r.Note("keys changed a second", fmt.Sprintf("%.0f (asked for: %d)", float64(len(commits)*batch)/end.Sub(begin).Seconds(), rate))
	w.AgreeLine(ctx, "same digest everywhere after the last change in", end, time.Second)
	for _, g := range w.Gateways {
		seen := w.Watch.Seen(g.Name, begin)
		builds, last := 0, int64(0)
		for i := range seen {
			if seen[i].At.Before(end) && seen[i].Revision != last {
				builds, last = builds+1, seen[i].Revision
			}
		}
		all := lags(seen, commits)
		r.Quick(g.Name+": age of the oldest change that is not in force, p99", percentile(all, 99), time.Second, 20*time.Second)
		perSecond := float64(builds) / end.Sub(begin).Seconds()
		r.Most(g.Name+": new snapshots a second", "%.1f", perSecond, 11, 11)
	}
	after, err := w.calmRSS(ctx, calm)
	if err != nil {
		return err
	}
	for i, g := range w.Gateways {
		now := after[i]
		r.Note(g.Name+" memory before, at most, and "+seconds(calm)+" after", fmt.Sprintf("%d, %d, %d MiB", rss[i]>>20, most[i].Load()>>20, now>>20))
		r.Most(g.Name+": memory at most", "%.2f times", float64(most[i].Load())/float64(rss[i]), 1.5, 3)
		r.Most(g.Name+": memory afterwards", "%+.0f %%", 100*float64(now-rss[i])/float64(rss[i]), more, 100)
		r.Note(g.Name+": open files before and after", fmt.Sprintf("%d, %d", files[i], g.Process.openFiles()))
	}
	records := w.Load.Stop()
	quiet, busy := figures(records, begin.Add(-5*time.Second), begin), figures(records, begin, end)
	r.Note("whole answers before", fmt.Sprintf("p50 %s, p99 %s of %d", seconds(quiet.P50), seconds(quiet.P99), quiet.Requests))
	r.Note("whole answers meanwhile", fmt.Sprintf("p50 %s, p99 %s of %d", seconds(busy.P50), seconds(busy.P99), busy.Requests))
	var errors []string
	for i := range records {
		if records[i].Status >= 500 {
			errors = append(errors, records[i].String())
		}
	}
	r.None("answers with a status of 5xx", errors, len(records))
	w.Finish(ctx)
	return nil
}

// calmRSS waits for a time and returns the memory of each gateway in bytes, the mean of what it
// was in the last third of it.
func (w *World) calmRSS(ctx context.Context, wait time.Duration) ([]int64, error) {
	if err := pause(ctx, wait*2/3); err != nil {
		return nil, err
	}
	const every = 100 * time.Millisecond
	sum, looks := make([]int64, len(w.Gateways)), int64(0)
	for end := time.Now().Add(wait / 3); time.Now().Before(end); looks++ {
		for i, g := range w.Gateways {
			sum[i] += g.Process.RSS()
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
	for i := range sum {
		sum[i] /= looks
	}
	return sum, nil
}

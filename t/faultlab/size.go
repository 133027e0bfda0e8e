package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// size is the promise that a change costs what it changes, however much there is besides, and
// what so much costs at a start.
func size(ctx context.Context, r *Run) error {
	// What a tenth of the routes may take is no tenth: a process has a size of its own.
	routes, changes, memory := 10_000, 100, 100.0
	load, gap, calm := 2*time.Second, 100*time.Millisecond, 6*time.Second
	if r.Long {
		routes, changes, memory = 100_000, 200, 400
		load, gap, calm = 5*time.Second, 100*time.Millisecond, 20*time.Second
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 2, Admins: 1, NoLoad: true})
	if err != nil {
		return err
	}
	if err := w.fill(ctx, routes, ""); err != nil {
		return err
	}
	if _, err := w.Agree(ctx, 60*time.Second); err != nil {
		return err
	}
	// Asking a node for its state costs more than what is measured here.
	before := w.Watch.Stop()

	g := w.Gateways[0]
	dir := filepath.Join(g.dir, "data/snapshots")
	start := func() (time.Duration, error) {
		began := time.Now()
		if err := g.Start(); err != nil {
			return 0, err
		}
		_, err := within(ctx, settling, "the last route is served", func() bool { return w.Probe(g, fmt.Sprintf("/g%d", routes-1), "x") })
		return time.Since(began), err
	}
	stop := func() {
		g.Process.Signal(syscall.SIGINT)
		<-g.Process.exited
	}
	stop()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	took, err := start()
	if err != nil {
		return err
	}
	cpu := g.Process.CPU()
	if _, err := within(ctx, settling, "a snapshot is on disk", func() bool { return len(files(dir)) > 0 }); err != nil {
		return err
	}
	r.Quick(fmt.Sprintf("%d routes: loaded from etcd and served in", routes), took, load, 10*load)
	r.Note("… for processor time", seconds(cpu))
	r.Most("… with memory at most, the snapshot on disk included", "%.0f MiB", float64(g.Process.Peak())/(1<<20), memory, memory)
	if err := pause(ctx, calm); err != nil {
		return err
	}
	r.Note("… and memory afterwards", fmt.Sprintf("%d MiB", g.Process.RSS()>>20))

	// Snapshots on disk are written now and then, however much changed: what a change itself
	// costs shows a node that keeps none.
	plain := w.Gateways[1]
	if err := plain.restart(ctx, func(conf string) string {
		return strings.Replace(conf, "  data_dir: data\n", "  data_dir: data\n  last_good: {snapshots: false}\n", 1)
	}); err != nil {
		return err
	}
	// Until it has given back what the start needed, which it looks for twice, 20 s apart.
	settled := calm / 2
	if r.Long {
		settled = 50 * time.Second
	}
	if err := pause(ctx, settled); err != nil {
		return err
	}
	keeps, plainly := g.Process.CPU(), plain.Process.CPU()
	at := time.Now()
	if err := pause(ctx, calm); err != nil {
		return err
	}
	resting, begin := time.Since(at), time.Now()
	restKeeps, restPlainly := g.Process.CPU()-keeps, plain.Process.CPU()-plainly
	keeps, plainly = g.Process.CPU(), plain.Process.CPU()
	for i, next := 0, begin; i < changes; i++ {
		n := r.Rand.IntN(routes)
		if err := w.Put(ctx, fmt.Sprintf("/routes/g%d", n), w.route(fmt.Sprintf("/g%d", n), fmt.Sprint("change ", i))); err != nil {
			return err
		}
		next = next.Add(gap)
		if err := pause(ctx, time.Until(next)); err != nil {
			return err
		}
	}
	working := time.Since(begin)
	// more is what a process took beyond what it takes anyway.
	more := func(now, before, rest time.Duration) time.Duration {
		return max(now-before-time.Duration(float64(rest)*float64(working)/float64(resting)), 0)
	}
	costs, saves := more(plain.Process.CPU(), plainly, restPlainly), more(g.Process.CPU(), keeps, restKeeps)
	r.Quick(fmt.Sprintf("… one changed route costs a node, mean of %d, %s apart", changes, seconds(gap)), costs/time.Duration(changes), time.Millisecond, 10*time.Millisecond)
	r.Note("… beside what a node takes a second while nothing changes", seconds(time.Duration(float64(restPlainly)/resting.Seconds())))
	r.Most("… a node that keeps snapshots takes beyond that, of a processor", "%.1f %%", 100*(saves-costs).Seconds()/working.Seconds(), 3, 30)
	w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)

	stop()
	took, err = start()
	if err != nil {
		return err
	}
	r.Note("… started again on its snapshot, it serves after", seconds(took))
	w.Watch = newObserver(50*time.Millisecond, w.Gateways...)
	r.Later(func() { w.Watch.Stop() })
	w.Watch.take(before)
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	w.Finish(ctx)
	return nil
}

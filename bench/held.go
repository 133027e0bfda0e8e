//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/gosix/gosix/bench/load"
	"github.com/gosix/gosix/bench/poll"
	"github.com/gosix/gosix/bench/proc"
)

// runHeld is a process that holds connections until its standard input ends.
func runHeld(context.Context, []string) error {
	calm()
	in := bufio.NewReader(os.Stdin)
	var t task
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &t)
	}
	if err != nil {
		return err
	}
	addr, err := poll.Address(t.Addr)
	if err != nil {
		return err
	}
	h, err := load.Open(load.Options{
		Addr: addr, Request: t.request(), Connections: t.Connections, Events: t.Events, Hold: t.Hold, Patience: time.Minute,
	}, t.AtOnce)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(h.Answer); err != nil {
		return err
	}
	_, _ = in.ReadByte()
	alive, err := h.Alive()
	if alive < h.Answer.Requests {
		return fmt.Errorf("%d of %d connections stayed: %w", alive, h.Answer.Requests, err)
	}
	h.Close()
	return nil
}

// held is connections that another process holds.
type held struct {
	load.Result
	release func() error // ends them; an error if one of them had ended before
}

// hold opens connections to a target and sends a request over each.
func (b *bench) hold(ctx context.Context, t *target, what body, n, atOnce int) (h held, err error) {
	path := t.path
	if what.events > 0 && t.streamPath != "" {
		path = t.streamPath
	}
	in, err := json.Marshal(task{
		Addr: t.addr, Path: path, Headers: t.headers, Body: what.name, Bytes: what.bytes, Lead: what.lead, Events: what.events,
		Hold: what.name == streamsHeld.name, Connections: n, AtOnce: atOnce,
	})
	if err != nil {
		return h, err
	}
	cmd := exec.CommandContext(ctx, b.self, "held")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return h, err
	}
	if err := pinned(b.cpus[1], cmd.Start); err != nil {
		return h, err
	}
	h.release = func() error {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %w: %s", t.name, err, trim(wrong.Bytes()))
		}
		return nil
	}
	_, err = stdin.Write(append(in, '\n'))
	if err == nil {
		err = json.NewDecoder(stdout).Decode(&h.Result)
	}
	if err != nil {
		return h, errors.Join(err, h.release())
	}
	return h, nil
}

const mib = 1 << 20

// rss is the memory of a target's processes, in MiB.
func (b *bench) rss(pid int) (float64, error) {
	n, err := proc.RSS(pid)
	return float64(n) / mib, err
}

// streams measures what streams cost over which nothing is said, and whether many can be opened
// at once.
func (b *bench) streams(ctx context.Context) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	many := min(9000, int(limit.Max-500)/2) // two connections each
	targets, err := b.everybody(ctx)
	if err != nil {
		return err
	}
	idle := &table{title: "Idle streams, in one process", rows: [][]string{{"Target", "Streams", "KiB each", "Share of a processor"}}}
	burst := &table{title: "200 streams opened at once", rows: [][]string{{"Target", "Completed", "First event p50 ms", "p99", "All after ms"}}}
	for _, t := range targets {
		if t.pid == 0 || !b.ours(t) && t.name != "nginx" {
			continue
		}
		if t, err = b.fresh(ctx, t); err != nil {
			return err
		}
		h, err := b.hold(ctx, t, bodies[3], 200, 200)
		if err != nil {
			return err
		}
		burst.add(t.name, fmt.Sprint(h.Requests), fmt.Sprintf("%.1f", h.First.P50/1000), fmt.Sprintf("%.1f", h.First.P99/1000), fmt.Sprintf("%d", h.Wall.Milliseconds()))
		if h.Failed > 0 {
			burst.notes = append(burst.notes, fmt.Sprintf("%s: %s", t.name, h.Why))
		}
		if err := h.release(); err != nil {
			return err
		}
		if t.name == "ai-multi@"+b.shipped {
			b.judge("of 200 streams opened at once, those that failed", float64(200-h.Requests), 0, "")
		}
		if b.smoke || t.name != "nginx" && t.route != "ai-multi" {
			t.stop()
			continue
		}
		before, err := proc.RSS(t.pid)
		if err != nil {
			return err
		}
		if h, err = b.hold(ctx, t, streamsHeld, many, 100); err != nil {
			return err
		}
		if h.Failed > 0 {
			idle.notes = append(idle.notes, fmt.Sprintf("%s: %s", t.name, h.Why))
		}
		if err := pause(ctx, 2*time.Second); err != nil { // what opening them left behind
			return err
		}
		at, err := proc.CPU(t.pid)
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := pause(ctx, 8*time.Second); err != nil {
			return err
		}
		to, err := proc.CPU(t.pid)
		if err != nil {
			return err
		}
		share := 100 * (to - at).Seconds() / time.Since(begin).Seconds()
		now, err := proc.RSS(t.pid)
		if err != nil {
			return err
		}
		if err := h.release(); err != nil {
			idle.notes = append(idle.notes, err.Error())
		}
		t.stop()
		each := float64(now-before) / 1024 / float64(h.Requests)
		idle.add(t.name, fmt.Sprint(h.Requests), fmt.Sprintf("%.1f", each), fmt.Sprintf("%.2f %%", share))
		if t.name == "ai-multi@"+b.shipped {
			b.judge(fmt.Sprintf("%d idle streams, each", h.Requests), each, 32, " KiB")
			b.judge(fmt.Sprintf("%d idle streams, of a processor", h.Requests), share, 3, " %")
		}
	}
	if err := b.show(burst); err != nil || b.smoke {
		return err
	}
	return b.show(idle)
}

// idle measures what connections cost that are kept after a request.
func (b *bench) idle(ctx context.Context) error {
	const n = 2000
	t := &table{title: fmt.Sprintf("%d idle connections, after a request of 1 KB", n), rows: [][]string{{"Target", "KiB each"}}}
	targets, err := b.everybody(ctx)
	if err != nil {
		return err
	}
	for _, target := range targets {
		if target.pid == 0 || b.ours(target) && target.route != "ai-multi" {
			continue
		}
		if target, err = b.fresh(ctx, target); err != nil {
			return err
		}
		// What serving needs at all is there before.
		if _, err := b.measure(ctx, target, bodies[0], 0, b.connections, 0, b.warm); err != nil {
			return err
		}
		before, err := proc.RSS(target.pid)
		if err != nil {
			return err
		}
		h, err := b.hold(ctx, target, bodies[0], n, b.connections)
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		now, err := proc.RSS(target.pid)
		if err != nil {
			return err
		}
		if err := errors.Join(h.release(), failed(target, h.Result)); err != nil {
			return err
		}
		target.stop()
		each := float64(now-before) / 1024 / n
		t.add(target.name, fmt.Sprintf("%.1f", each))
		if target.name == "ai-multi@fast" {
			b.judge("an idle connection", each, 8, " KiB")
		}
	}
	return b.show(t)
}

func failed(t *target, r load.Result) error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d requests failed: %s", t.name, r.Failed, r.Why)
}

// memory measures what a gateway has when it is idle, with many routes, and after large bodies.
func (b *bench) memory(ctx context.Context) error {
	const routes = 10_000
	many := fmt.Sprintf("/routes%d", routes)
	if err := b.fill(ctx, prefix, b.routesOfOurs); err != nil {
		return err
	}
	if err := b.fill(ctx, many, func() []item { return append(b.oneRoute(), manyRoutes(routes)...) }); err != nil {
		return err
	}
	t := &table{title: "Memory of cmd/gateway: RSS in MiB", rows: [][]string{{
		"Engine", "Idle", fmt.Sprintf("%d routes", routes), "500 bodies of 150 KB at once", "A minute later",
	}}}
	large := body{name: "150k", title: "150 KB", bytes: 150 << 10}
	for _, engine := range b.engine {
		row := []string{engine}
		var idle float64
		for _, at := range []string{prefix, many} {
			g, err := b.startGosix(ctx, "memory-"+engine, engine, at, false)
			if err != nil {
				if b.passedOver(err) {
					break
				}
				return err
			}
			if err := errors.Join(g.answers(ctx), pause(ctx, 2*time.Second)); err != nil {
				return err
			}
			rss, err := b.rss(g.pid())
			if err != nil {
				return err
			}
			row = append(row, fmt.Sprintf("%.1f", rss))
			if engine == b.shipped {
				name, limit := "idle", 25.0
				if at == many {
					name, limit = fmt.Sprintf("with %d routes", routes), 80
				}
				b.judge("memory, "+name, rss, limit, " MiB")
			}
			if at == prefix {
				idle = rss
			}
			g.stop()
		}
		if len(row) == 1 {
			continue
		}
		g, err := b.startGosix(ctx, "memory-"+engine, engine, prefix, false)
		if err != nil {
			return err
		}
		if err := g.answers(ctx); err != nil {
			return err
		}
		r, err := b.measure(ctx, g.target("ai-multi"), large, 0, 500, 0, 2*time.Second)
		if err == nil {
			err = failed(g.target("ai-multi"), r.Result)
		}
		if err != nil {
			return err
		}
		peak, err := b.rss(g.pid())
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Minute); err != nil {
			return err
		}
		later, err := b.rss(g.pid())
		if err != nil {
			return err
		}
		g.stop()
		t.add(append(row, fmt.Sprintf("%.1f", peak), fmt.Sprintf("%.1f (× %.2f idle)", later, later/idle))...)
		if engine == b.shipped {
			b.judge("memory a minute after large bodies, × idle", later/idle, 1.5, "")
		}
	}
	return b.show(t)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gosix/gosix/bench/load"
)

// figure is what several rounds came to.
type figure []float64

func (f figure) median() float64 {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func (f figure) String() string {
	if len(f) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", f.median(), slices.Min(f), slices.Max(f))
}

// cell is a target and a body.
type cell struct {
	micros, ratio  figure // of processor time per request, and to nginx in the same round
	rate, busy     figure // requests a second; share of a processor
	others, joined figure // shares: of the processor that others had; of events that came with another
	failed         int
	why            string
}

// cost measures what a request costs at full load.
func (b *bench) cost(ctx context.Context, targets []*target) error {
	for _, what := range bodies {
		if !slices.Contains(b.body, what.name) {
			continue
		}
		cells := make([]cell, len(targets))
		for round := range b.rounds {
			var nginx float64
			micros := make([]float64, len(targets))
			for i, t := range targets {
				if b.profile != "" && t.profiles != "" && round == 0 {
					go func() {
						if err := b.takeProfile(ctx, t, t.name+"-"+what.name, b.warm, b.window); err != nil {
							_, _ = fmt.Fprintln(b.out, "note: no profile:", err)
						}
					}()
				}
				r, err := b.undisturbed(ctx, t, what)
				if err != nil {
					return err
				}
				c := &cells[i]
				micros[i] = float64(r.CPU.Nanoseconds()) / 1000 / float64(r.Requests)
				if t.name == "nginx" {
					nginx = micros[i]
				}
				c.micros = append(c.micros, micros[i])
				c.rate = append(c.rate, float64(r.Requests)/r.Wall.Seconds())
				c.busy = append(c.busy, r.CPU.Seconds()/r.Wall.Seconds())
				c.others = append(c.others, others(r))
				c.joined = append(c.joined, r.Joined)
				c.failed += r.Failed
				if c.why == "" {
					c.why = r.Why
				}
			}
			for i := range targets {
				if nginx > 0 {
					cells[i].ratio = append(cells[i].ratio, micros[i]/nginx)
				}
			}
		}
		b.printCost(what, targets, cells)
	}
	return nil
}

// others is the share of the gateway's processor that others had.
func others(r load.Result) float64 { return max(0, (r.Busy-r.CPU).Seconds()/r.Wall.Seconds()) }

// undisturbed measures again where others worked on the gateway's processor, or where events of
// a stream were passed on together, which costs less than passing each on: the best of three.
func (b *bench) undisturbed(ctx context.Context, t *target, what body) (best load.Result, err error) {
	const most = 0.1
	harm := func(r load.Result) float64 { return max(others(r), r.Joined) }
	for try := range 3 {
		r, err := b.measure(ctx, t, what, 0, b.connections, b.warm, b.window)
		if err != nil {
			return r, err
		}
		if try == 0 || harm(r) < harm(best) {
			best = r
		}
		if harm(best) <= most {
			break
		}
	}
	return best, nil
}

func (b *bench) printCost(what body, targets []*target, cells []cell) {
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "\n%s\tµs of processor per request\t× nginx (min–max)\trequests/s\tprocessor\tothers on it\tevents joined\tfailed\n", what.name)
	for i, t := range targets {
		c := cells[i]
		_, _ = fmt.Fprintf(w, "%s\t%.1f (%.1f–%.1f)\t%s\t%.0f\t%.0f %%\t%.0f %%\t%.0f %%\t%s\n", t.name, c.micros.median(), slices.Min(c.micros), slices.Max(c.micros), c.ratio,
			c.rate.median(), 100*c.busy.median(), 100*c.others.median(), 100*c.joined.median(), strings.TrimSpace(fmt.Sprint(c.failed, " ", c.why)))
	}
	_ = w.Flush()
}

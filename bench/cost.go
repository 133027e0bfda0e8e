//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// cell is a target and a body.
type cell struct {
	micros, ratio figure // of processor time per request, and to the first target around it
	rate, busy    figure // requests a second; share of a processor
	others        figure // share of that processor that others had
	joined        figure // share of the events that came with another
	failed        int
	why           string
}

// limits are the most that a request may cost, as ratios to nginx, by body.
var limits = map[string]struct{ full, plain, std float64 }{
	"1k": {1.4, 1.3, 2.0}, "16k": {full: 1.6}, "128k": {full: 1.8}, "sse": {full: 1.8},
}

// cost measures what a request costs at full load.
func (b *bench) cost(ctx context.Context) error {
	targets, err := b.everybody(ctx)
	if err != nil {
		return err
	}
	defer func(s settings) { b.settings = s }(b.settings)
	b.settings = b.inSlices()
	for _, what := range bodies {
		if !slices.Contains(b.body, what.name) {
			continue
		}
		cells, err := b.rounds(ctx, what, targets)
		if err != nil {
			return err
		}
		t := &table{title: "Cost of a request: " + what.title, rows: [][]string{{
			"Target", "CPU µs per request", "× nginx", "Requests/s", "Its processor", "Others on it",
		}}}
		if what.events > 0 {
			t.rows[0] = append(t.rows[0], "Events joined")
		}
		t.notes = append(t.notes, fmt.Sprintf("%d rounds of %v.", b.count, b.window))
		for i, target := range targets {
			c := cells[i]
			row := []string{
				target.name, c.micros.with("%.1f"), c.ratio.with("%.2f"), fmt.Sprintf("%.0f", c.rate.median()),
				percent(c.busy), percent(c.others),
			}
			if target.pid == 0 {
				row = []string{target.name, "–", "–", row[3], "–", "–"}
			}
			if what.events > 0 {
				row = append(row, percent(c.joined))
			}
			t.add(row...)
			if c.failed > 0 {
				t.notes = append(t.notes, fmt.Sprintf("%s: %d requests failed: %s", target.name, c.failed, c.why))
			}
			limit := limits[what.name]
			route, engine, _ := strings.Cut(target.name, "@")
			switch {
			case len(c.ratio) == 0: // there is no nginx
			case engine == b.shipped && route == "ai-multi":
				b.judge(what.title+", all plugins, × nginx", c.ratio.median(), limit.full, "")
			case engine == b.shipped && route == "plain" && limit.plain > 0:
				b.judge(what.title+", plain route, × nginx", c.ratio.median(), limit.plain, "")
			}
			if engine == "std" && route == "ai-multi" && limit.std > 0 && len(c.ratio) > 0 {
				b.judge(what.title+", all plugins, engine std, × nginx", c.ratio.median(), limit.std, "")
			}
		}
		if err := b.show(t); err != nil {
			return err
		}
	}
	return nil
}

// slice is how long a window of the part cost is at the most.
const slice = 200 * time.Millisecond

// inSlices returns settings of which each round is many short ones. What a machine with other
// guests gives to a program changes within tenths of a second: the medians of many ratios of
// neighbouring windows differ by some hundredths from run to run where those of a few long ones
// differ by a tenth and more.
func (s settings) inSlices() settings {
	if n := int(s.window / slice); n > 1 && s.profile == "" { // a profile is of a window
		s.count, s.window, s.warm = s.count*n, slice, min(s.warm, slice/2)
	}
	return s
}

func percent(f figure) string { return fmt.Sprintf("%.0f %%", 100*f.median()) }

// rounds measures targets in turns. Ratios are to the first one that is named nginx, or else to
// the first: it is measured before and after each of the others, since what a machine gives to one
// program changes within seconds, and a ratio is to the mean of both.
func (b *bench) rounds(ctx context.Context, what body, targets []*target) ([]cell, error) {
	base := max(0, slices.IndexFunc(targets, func(t *target) bool { return t.name == "nginx" }))
	cells := make([]cell, len(targets))
	one := func(i, round int) (float64, error) {
		t := targets[i]
		if b.profile != "" && t.profiles != "" && round == 0 {
			go func() {
				if err := b.takeProfile(ctx, t, t.name+"-"+what.name); err != nil {
					b.note(fmt.Sprintf("no profile of %s: %v", t.name, err))
				}
			}()
		}
		r, err := b.undisturbed(ctx, t, what)
		if err != nil {
			return 0, err
		}
		cells[i].take(r)
		return perRequest(r), nil
	}
	for round := range b.count {
		before, err := one(base, round)
		if err != nil {
			return nil, err
		}
		if before > 0 {
			cells[base].ratio = append(cells[base].ratio, 1)
		}
		for k := range targets {
			i := (k + round) % len(targets)
			if i == base {
				continue
			}
			own, err := one(i, round)
			if err != nil {
				return nil, err
			}
			after, err := one(base, round)
			if err != nil {
				return nil, err
			}
			if before+after > 0 {
				cells[i].ratio = append(cells[i].ratio, 2*own/(before+after))
			}
			before = after
		}
	}
	return cells, nil
}

// take adds what was measured in a window.
func (c *cell) take(r measured) {
	c.micros = append(c.micros, perRequest(r))
	c.rate = append(c.rate, float64(r.Requests)/r.Wall.Seconds())
	c.busy = append(c.busy, r.CPU.Seconds()/r.Wall.Seconds())
	c.others = append(c.others, others(r))
	c.joined = append(c.joined, r.Joined)
	c.failed += r.Failed
	if c.why == "" {
		c.why = r.Why
	}
}

func perRequest(r measured) float64 {
	return float64(r.CPU.Nanoseconds()) / 1000 / float64(r.Requests)
}

// others is the share of the gateway's processor that others had.
func others(r measured) float64 { return max(0, (r.Busy-r.CPU).Seconds()/r.Wall.Seconds()) }

// undisturbed measures again where others worked on the gateway's processor, or where events of
// a stream were passed on together, which costs less than passing each on: the best of three.
func (b *bench) undisturbed(ctx context.Context, t *target, what body) (best measured, err error) {
	const most = 0.1
	harm := func(r measured) float64 { return max(others(r), r.Joined) }
	for try := range 3 {
		r, err := b.measure(ctx, t, what, 0, b.connections, b.warm, b.window)
		if err != nil {
			return r, err
		}
		if try == 0 || harm(r) < harm(best) {
			best = r
		}
		if b.smoke || harm(best) <= most {
			break
		}
	}
	return best, nil
}

// many measures whether a request costs more where there are many routes, or many consumers.
func (b *bench) many(ctx context.Context, what string, steps []int, items func(n int) []item) error {
	// A collection of a large heap is rare, and is to be in every window.
	defer func(window time.Duration) { b.window = window }(b.window)
	if !b.smoke {
		b.window *= 2
	}
	for _, engine := range b.engine {
		var targets []*target
		var stops []func()
		for _, n := range steps {
			prefix := fmt.Sprintf("/%s%d", what, n)
			if err := b.fill(ctx, prefix, func() []item { return append(b.oneRoute(), items(n)...) }); err != nil {
				return err
			}
			g, err := b.startGosix(ctx, fmt.Sprintf("%s-%d-%s", what, n, engine), engine, prefix, false)
			if err != nil {
				if b.passedOver(err) {
					break
				}
				return err
			}
			stops = append(stops, g.stop)
			t := g.target("ai-multi")
			t.name = fmt.Sprint(n)
			targets = append(targets, t)
		}
		if len(targets) > 0 {
			cells, err := b.rounds(ctx, bodies[0], targets)
			if err != nil {
				return err
			}
			t := &table{title: fmt.Sprintf("Cost of a request with many %s: 1 KB, all plugins, engine %s", what, engine), rows: [][]string{{
				strings.ToUpper(what[:1]) + what[1:], "CPU µs per request", "× the first row", "RSS MiB",
			}}}
			for i, target := range targets {
				rss, err := b.rss(target.pid)
				if err != nil {
					return err
				}
				t.add(target.name, cells[i].micros.with("%.1f"), cells[i].ratio.with("%.3f"), fmt.Sprintf("%.1f", rss))
				if i > 0 && engine == b.shipped {
					b.judge(fmt.Sprintf("%s %s, × one", target.name, what), cells[i].ratio.median(), 1.1, "")
				}
			}
			if err := b.show(t); err != nil {
				return err
			}
		}
		for _, stop := range stops {
			stop()
		}
	}
	return nil
}

// manyRoutes are what makes n routes of one.
func manyRoutes(n int) (list []item) {
	for i := range n - 1 {
		host := "" // half of them stand in the tree that the measured one is found in
		if i%2 == 0 {
			host = fmt.Sprintf(`"host":"h%d.test",`, i%1000)
		}
		list = append(list, item{
			fmt.Sprintf("routes/many-%d", i),
			fmt.Sprintf(`{"id":"many-%d",%s"uri":"/api/%d/v1/*","plugins":{"key-auth":{}},"upstream":{"type":"roundrobin","nodes":{"127.0.0.1:1":1}},"create_time":1,"update_time":1}`, i, host, i),
		})
	}
	return list
}

// manyConsumers are what makes n consumers of one.
func manyConsumers(n int) (list []item) {
	for i := range n - 1 {
		list = append(list, item{
			fmt.Sprintf("consumers/c%d", i),
			fmt.Sprintf(`{"username":"c%d","plugins":{"key-auth":{"key":"key-of-%d"}},"create_time":1,"update_time":1}`, i, i),
		})
	}
	return list
}

// latency measures what is waited at a steady rate that nobody is busy with.
func (b *bench) latency(ctx context.Context) error {
	targets, err := b.everybody(ctx)
	if err != nil {
		return err
	}
	const rate, streams = 500, 200
	whole := &table{title: fmt.Sprintf("Waiting at %d requests/s of 1 KB: µs, from when each was due", rate), rows: [][]string{{"Target", "p50", "p99", "p50 over direct", "p50 over nginx", "CPU µs per request"}}}
	parts := &table{title: fmt.Sprintf("Waiting at %d streams/s: µs", streams), rows: [][]string{{"Target", "First event p50", "p99", "Gap between events p50", "p99", "First p99 over nginx", "Gap p99 over nginx"}}}
	window := 2 * b.window
	type times struct{ p50, p99, cpu, first50, first99, gap50, gap99 figure }
	all := make([]times, len(targets))
	for round := range b.count {
		for k := range targets {
			i := (k + round) % len(targets)
			a := &all[i]
			r, err := b.measure(ctx, targets[i], bodies[0], rate, b.connections, b.warm, window)
			if err != nil {
				return err
			}
			s, err := b.measure(ctx, targets[i], bodies[3], streams, b.connections, b.warm, window)
			if err != nil {
				return err
			}
			a.p50, a.p99, a.cpu = append(a.p50, r.Latency.P50), append(a.p99, r.Latency.P99), append(a.cpu, perRequest(r))
			a.first50, a.first99 = append(a.first50, s.First.P50), append(a.first99, s.First.P99)
			a.gap50, a.gap99 = append(a.gap50, s.Gap.P50), append(a.gap99, s.Gap.P99)
			if n := r.Failed + s.Failed; n > 0 {
				b.note(fmt.Sprintf("%s: %d requests failed: %s %s", targets[i].name, n, r.Why, s.Why))
			}
		}
	}
	over := func(mine figure, of string, get func(times) figure) figure {
		i := slices.IndexFunc(targets, func(t *target) bool { return t.name == of })
		if i < 0 {
			return nil
		}
		var f figure
		for round, other := range get(all[i]) {
			f = append(f, mine[round]-other)
		}
		return f
	}
	for i, t := range targets {
		a := all[i]
		overNginx := over(a.p50, "nginx", func(t times) figure { return t.p50 })
		cpu := a.cpu.with("%.0f")
		if t.pid == 0 {
			cpu = "–"
		}
		whole.add(t.name, a.p50.with("%.0f"), a.p99.with("%.0f"), over(a.p50, "direct", func(t times) figure { return t.p50 }).with("%.0f"), overNginx.with("%.0f"), cpu)
		firstOver := over(a.first99, "nginx", func(t times) figure { return t.first99 })
		gapOver := over(a.gap99, "nginx", func(t times) figure { return t.gap99 })
		parts.add(t.name, a.first50.with("%.0f"), a.first99.with("%.0f"), a.gap50.with("%.0f"), a.gap99.with("%.0f"), firstOver.with("%.0f"), gapOver.with("%.0f"))
		if t.name == "ai-multi@"+b.shipped && len(overNginx) > 0 {
			b.judge(fmt.Sprintf("p50 at %d requests/s, over nginx", rate), overNginx.median(), 60, " µs")
			b.judge("first event p99, over nginx", firstOver.median(), 300, " µs")
			b.judge("gap between events p99, over nginx", gapOver.median(), 300, " µs")
		}
	}
	if err := b.show(whole); err != nil {
		return err
	}
	return b.show(parts)
}

// allocations counts what a request leaves to the collector.
func (b *bench) allocations(ctx context.Context) error {
	if err := b.fill(ctx, prefix, b.routesOfOurs); err != nil {
		return err
	}
	t := &table{title: "Allocations per request", rows: [][]string{{"Target", "Body", "Allocations", "Bytes"}}}
	for _, engine := range b.engine {
		g, err := b.startGosix(ctx, "profiled-"+engine, engine, prefix, true)
		if err != nil {
			if b.passedOver(err) {
				continue
			}
			return err
		}
		for _, route := range gosixRoutes {
			for _, what := range bodies {
				target := g.target(route)
				target.allocations = g.profiles
				m, err := b.measure(ctx, target, what, 0, b.connections, b.warm, b.window)
				if err != nil {
					return err
				}
				allocs, garbage := m.Allocated.Count/float64(m.Requests), m.Allocated.Bytes/float64(m.Requests)
				t.add(target.name, what.title, fmt.Sprintf("%.1f", allocs), fmt.Sprintf("%.0f", garbage))
				if route == "ai-multi" && engine == "fast" && what.name == "1k" {
					b.judge("allocations per request of 1 KB, all plugins", allocs, 5, "")
					b.judge("garbage per request of 1 KB, all plugins", garbage, 1024, " bytes")
				}
			}
		}
		g.stop()
	}
	return b.show(t)
}

// cold measures how soon a gateway answers that was just started.
func (b *bench) cold(ctx context.Context) error {
	const routes = 1000
	at := fmt.Sprintf("/routes%d", routes)
	if err := b.fill(ctx, at, func() []item { return append(b.oneRoute(), manyRoutes(routes)...) }); err != nil {
		return err
	}
	t := &table{title: fmt.Sprintf("From the start to the first answer, with %d routes", routes), rows: [][]string{{"Engine", "ms"}}}
	for _, engine := range b.engine {
		var took figure
		for range b.count {
			begin := time.Now()
			g, err := b.startGosix(ctx, "cold-"+engine, engine, at, false)
			if err != nil {
				if b.passedOver(err) {
					break
				}
				return err
			}
			if err := g.answers(ctx); err != nil {
				return err
			}
			took = append(took, float64(time.Since(begin).Microseconds())/1000)
			g.stop()
		}
		if len(took) == 0 {
			continue
		}
		t.add(engine, took.with("%.0f"))
		if engine == b.shipped {
			b.judge(fmt.Sprintf("first answer after a start with %d routes", routes), took.median(), 100, " ms")
		}
	}
	return b.show(t)
}

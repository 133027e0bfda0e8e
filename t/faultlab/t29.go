package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// slowEtcd is T29: everybody reaches etcd over a line that is slow, narrow, cut to pieces or
// broken again and again.
func slowEtcd(ctx context.Context, r *Run) error {
	length := 5 * time.Second
	if r.Long {
		length = 30 * time.Second
	}
	w, err := r.NewWorld(ctx, Shape{Etcds: 3, Gateways: 3, Admins: 2, Toxic: true})
	if err != nil {
		return err
	}
	type harm struct {
		about string
		delay time.Duration // of an answer, as far as it is known
		toxic Toxic
		both  bool
		gaps  bool // one second of three
	}
	ms := func(n int) Toxic { return Toxic{"latency", map[string]any{"latency": n}} }
	harmAll := func(h harm) error {
		for _, p := range w.Proxies {
			if err := p.Harm(h.toxic, h.both); err != nil {
				return err
			}
		}
		return nil
	}
	clearAll := func() error {
		for _, p := range w.Proxies {
			if err := p.Clear(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	for _, h := range []harm{
		{about: "30 ms", delay: 30 * time.Millisecond, toxic: ms(30)},
		{about: "300 ms", delay: 300 * time.Millisecond, toxic: ms(300)},
		{about: "3000 ms", delay: 3 * time.Second, toxic: ms(3000)},
		{about: "pieces of 7 bytes", toxic: Toxic{"slicer", map[string]any{"average_size": 7, "size_variation": 3, "delay": 10}}, both: true},
		{about: "10 KB/s", toxic: Toxic{"bandwidth", map[string]any{"rate": 10}}, both: true},
		{about: "resets for 1 s of 3", toxic: Toxic{"reset_peer", map[string]any{"timeout": 0}}, gaps: true},
	} {
		if err := harmAll(h); err != nil {
			return err
		}
		end := time.Now().Add(length)
		var mu sync.Mutex
		var wrong []string
		var slowest, refusal time.Duration
		writes, done := 0, 0
		var group sync.WaitGroup
		for _, a := range w.Admins {
			group.Go(func() {
				for i := 0; time.Now().Before(end); i++ {
					path := fmt.Sprintf("/slow-%s-%d", a.Name, i%20)
					got := a.Call(ctx, http.MethodPut, "/routes"+path, w.route(path, h.about))
					mu.Lock()
					writes++
					switch {
					case got.Status/100 == 2:
						done++
						slowest = max(slowest, got.Took)
					case got.Status == http.StatusServiceUnavailable, got.Status == http.StatusGatewayTimeout:
						refusal = max(refusal, got.Took)
					default:
						wrong = append(wrong, fmt.Sprintf("%d %s %v", got.Status, got.Body, got.Err))
					}
					mu.Unlock()
					if pause(ctx, 20*time.Millisecond) != nil {
						return
					}
				}
			})
		}
		for h.gaps && time.Now().Before(end) {
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
			if err := clearAll(); err != nil {
				return err
			}
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			if err := harmAll(h); err != nil {
				return err
			}
		}
		group.Wait()
		if err := clearAll(); err != nil {
			return err
		}
		cleared := time.Now()
		r.None(h.about+": writes answered with neither 2xx nor 503 nor 504", wrong, writes)
		if done > 0 && h.delay > 0 {
			// A write asks etcd up to three times: whether it is there, for what is stored, to store.
			r.Quick(h.about+": slowest write that was done", slowest, min(3*h.delay+200*time.Millisecond, 2*time.Second), 2*time.Second)
		} else if done > 0 {
			r.Note(h.about+": slowest write that was done", seconds(slowest))
		}
		if refused := writes - done; refused > 0 {
			r.Note(h.about+": writes refused or left open", fmt.Sprintf("%d of %d", refused, writes))
			r.AtMost(h.about+": slowest of these answers", refusal, 2*time.Second)
		}
		w.AgreeLine(ctx, h.about+": same digest everywhere after its end in", cleared, 3*time.Second)
	}
	w.Finish(ctx)
	return nil
}

package node

import (
	"context"
	"runtime"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

const (
	// tidyInterval is how often somebody looks whether memory is to be given back.
	tidyInterval = 20 * time.Second
	// settled is how long after its start a process gives back what only the start needed.
	settled = time.Second
)

// tidier gives memory back that a burst of requests has left. The garbage collector runs when
// memory is asked for, or every two minutes: a process that nobody asks anything of any more
// would keep what the burst needed, and the stacks of its connections.
type tidier struct {
	cycles uint64 // as of the last look
	used   uint64 // allocated, as of the last time that it was tidied up
}

// worth is from how many bytes on that were allocated it is worth a collection.
const worth = 1 << 20

// look tidies up if the collector has not run since the last look, and there may be something
// to collect. It reports whether it did.
func (t *tidier) look() bool {
	samples := gaugesOfHeap()
	cycles, allocated := samples[0].Value.Uint64(), samples[1].Value.Uint64()
	quiet := cycles == t.cycles && allocated-t.used >= worth
	t.cycles = cycles
	if !quiet {
		return false
	}
	t.tidy()
	return true
}

// tidy gives back what can be given back.
func (t *tidier) tidy() {
	// Once more than it takes: what is kept for another use is let go the second time, and
	// stacks become smaller by half each time.
	runtime.GC()
	debug.FreeOSMemory()
	_ = forgetProgram() // where that is not possible they stay
	samples := gaugesOfHeap()
	t.cycles, t.used = samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

// gaugesOfHeap are the collections and the bytes that were ever allocated.
func gaugesOfHeap() []gauges.Sample {
	samples := []gauges.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/allocs:bytes"}}
	gauges.Read(samples)
	return samples
}

// tidy runs until ctx ends, from when the process has started.
func tidy(ctx context.Context) {
	start := time.NewTimer(settled)
	defer start.Stop()
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	var t tidier
	for {
		select {
		case <-start.C:
			t.tidy()
		case <-tick.C:
			t.look()
		case <-ctx.Done():
			return
		}
	}
}

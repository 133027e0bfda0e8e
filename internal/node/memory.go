package node

import (
	"context"
	"runtime"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

// tidyInterval is how often somebody looks whether memory is to be given back.
const tidyInterval = 20 * time.Second

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
	samples := []gauges.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/allocs:bytes"}}
	gauges.Read(samples)
	cycles, allocated := samples[0].Value.Uint64(), samples[1].Value.Uint64()
	quiet := cycles == t.cycles && allocated-t.used >= worth
	t.cycles = cycles
	if !quiet {
		return false
	}
	// Once more than it takes: what is kept for another use is let go the second time, and
	// stacks become smaller by half each time.
	runtime.GC()
	debug.FreeOSMemory()
	gauges.Read(samples)
	t.cycles, t.used = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return true
}

// tidy runs until ctx ends.
func tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	var t tidier
	for {
		select {
		case <-tick.C:
			t.look()
		case <-ctx.Done():
			return
		}
	}
}

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
	seen  uint64 // bytes allocated, as of the last look
	used  uint64 // the same, as of the last time that it was tidied up
	again bool   // what was in use then may have become garbage since, and nothing tells
}

const (
	// A process is idle, or as good as idle, if it allocates less between two looks than this
	// part of its heap, within these bounds in bytes: the collector will not run for a while.
	calmPart            = 4
	leastCalm, mostCalm = 4 << 20, 16 << 20
	// worthPart is how much must have been allocated to be worth a collection, in parts of the
	// heap: a collection costs what the heap has, be it a hundred thousand routes.
	worthPart = 4
	// suspect is up to which heap, in bytes, it is also tidied up thoroughly on suspicion.
	suspect = 128 << 20
)

// look tidies up if little has been allocated since the last look, and there may be something
// to collect: twice after much was allocated, since the first time may have been in the middle
// of it. It reports whether it did.
func (t *tidier) look() bool {
	allocated, live := heap()
	quiet := allocated-t.seen < min(max(live/calmPart, leastCalm), mostCalm)
	t.seen = allocated
	much := allocated-t.used >= max(leastCalm, live/worthPart)
	if !quiet || !much && !t.again {
		return false
	}
	if much || live <= suspect {
		t.tidy()
	} else {
		t.once()
	}
	t.again = much
	return true
}

// tidy gives back what can be given back.
func (t *tidier) tidy() {
	// Once more than it takes: what is kept for another use is let go the second time, and
	// stacks become smaller by half each time.
	runtime.GC()
	t.once()
}

// once gives back what nobody uses any more. It is enough after a start, when the first
// requests come, and where nothing says that there is more.
func (t *tidier) once() {
	debug.FreeOSMemory()
	t.seen, _ = heap()
	t.used, t.again = t.seen, true
}

// heap returns how many bytes were ever allocated, and how many the last collection left.
func heap() (allocated, live uint64) {
	samples := []gauges.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	gauges.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
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
			t.once()
		case <-tick.C:
			t.look()
		case <-ctx.Done():
			return
		}
	}
}

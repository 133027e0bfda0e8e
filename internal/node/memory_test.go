package node

import (
	"os"
	"runtime"
	"runtime/debug"
	gauges "runtime/metrics"
	"sync"
	"testing"
	"weak"

	"github.com/gosix/gosix/internal/timetest"
)

func TestTheFirstLoadIsCollectedLateAndThenThoroughly(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("the operator's word stands")
	}
	percent := func() int {
		now := debug.SetGCPercent(-1)
		debug.SetGCPercent(now)
		return now
	}
	before := percent()
	done := loading()
	if got := percent(); got != startingGC {
		t.Errorf("at first %d %%, want %d", got, startingGC)
	}
	timetest.Until(t, "a collection makes it thorough", func() bool {
		runtime.GC()
		return percent() == loadingGC
	})
	done()
	if got := percent(); got != before {
		t.Errorf("in the end %d %%, want %d", got, before)
	}
	done = loading()
	done()
	runtime.GC()
	if got := percent(); got != before {
		t.Errorf("after a load without a collection %d %%, want %d", got, before)
	}
}

func TestWhileMuchChangesGarbageIsCollectedEarlier(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("the operator's word stands")
	}
	percent := func() int {
		now := []gauges.Sample{{Name: "/gc/gogc:percent"}}
		gauges.Read(now)
		return int(now[0].Value.Uint64())
	}
	before := percent()
	var c churn
	c.applied(churningFrom)
	if got := percent(); got != before {
		t.Errorf("while it is not watched %d %%, want %d", got, before)
	}
	c.begin()
	c.applied(churningFrom - 1)
	if got := percent(); got != before {
		t.Errorf("while little changes %d %%, want %d", got, before)
	}
	timetest.Until(t, "much changes", func() bool { // which is over by itself, on a busy machine before it is seen
		c.applied(churningFrom)
		c.applied(churningFrom)
		return percent() == churningGC
	})
	forced := func() uint64 {
		now := []gauges.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
		gauges.Read(now)
		return now[0].Value.Uint64()
	}
	collections := forced()
	timetest.Until(t, "it is over by itself", func() bool { return percent() == before })
	timetest.Until(t, "memory is given back", func() bool { return forced() > collections })
	c.mu.Lock()
	now := c.freed
	c.mu.Unlock()
	if c.due(now.Add(freeInterval-1)) || !c.due(now.Add(freeInterval)) {
		t.Error("memory is given back again too early, or never")
	}
	c.applied(churningFrom)
	c.stop()
	c.applied(churningFrom)
	if got := percent(); got != before {
		t.Errorf("in the end %d %%, want %d", got, before)
	}
}

func TestMemoryOfABurstIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var tidy tidier
	tidy.tidy()
	tidy.look()
	if tidy.look() {
		t.Error("it tidied up where nothing had been left")
	}
	var kept sync.Pool // for another use
	burst := new([8 << 20]byte)
	gone := weak.Make(burst)
	kept.Put(burst)
	if tidy.look() {
		t.Error("it tidied up though much had just been asked for")
	}
	for range 2 {
		if !tidy.look() {
			t.Fatal("it did not tidy up twice")
		}
	}
	if gone.Value() != nil {
		t.Error("the burst's memory is still there")
	}
	if tidy.look() {
		t.Error("it tidied up a third time")
	}
	burst = new([8 << 20]byte) // that it is in the middle of
	gone = weak.Make(burst)
	tidy.tidy()
	runtime.KeepAlive(burst)
	if !tidy.look() || gone.Value() != nil {
		t.Error("what was in use when it tidied up is still there")
	}
	kept.Get()
}

package node

import (
	"os"
	"runtime"
	"runtime/debug"
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

func TestMemoryOfABurstIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var tidy tidier
	tidy.look()
	runtime.GC()
	if tidy.look() {
		t.Error("it tidied up though the collector had run")
	}
	var kept sync.Pool // for another use
	burst := new([8 << 20]byte)
	gone := weak.Make(burst)
	kept.Put(burst)
	if !tidy.look() {
		t.Fatal("it did not tidy up")
	}
	if gone.Value() != nil {
		t.Error("the burst's memory is still there")
	}
	if tidy.look() {
		t.Error("it tidied up where nothing had been left")
	}
	kept.Get()
}

package node

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"weak"
)

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

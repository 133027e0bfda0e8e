package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

const (
	// startingGC lets the garbage of a start lie until the heap has 16 MiB: the least heap
	// that is collected is 4 MiB, times this in percent. Most nodes serve before that.
	startingGC = 400
	// loadingGC is the garbage, in percent of what is in use, that is let lie from there on: a
	// first load leaves as much garbage as it keeps. With 100,000 routes 50 costs half as much
	// time again, and 100 a fifth more memory at the most.
	loadingGC = 75
)

// loading sets the garbage collector for a first load until done is called: it is to begin
// late and be thorough then. GOGC in the environment, the operator's word, stands.
func loading() (done func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	l := &load{before: debug.SetGCPercent(startingGC)}
	// Nothing refers to it, so that the first collection finds it.
	runtime.AddCleanup(&struct{ l *load }{}, (*load).collected, l)
	return l.done
}

// load is a first load that goes on.
type load struct {
	mu     sync.Mutex
	over   bool
	before int
}

// collected is called after the first collection.
func (l *load) collected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		debug.SetGCPercent(loadingGC)
	}
}

func (l *load) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	debug.SetGCPercent(l.before)
}

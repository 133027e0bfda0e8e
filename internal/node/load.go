package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// startingGC lets the garbage of a start lie until the heap has 16 MiB: the least heap
	// that is collected is 4 MiB, times this in percent. Most nodes serve before that.
	startingGC = 400
	// loadingGC is the garbage, in percent of what is in use, that is let lie from there on: a
	// first load leaves as much garbage as it keeps. With 100,000 routes 50 costs half as much
	// time again, and 100 a fifth more memory at the most.
	loadingGC = 75
	// churningGC is the same while much of the configuration changes: for a time there are two
	// versions of many items, on top of what reading them left.
	churningGC = 50
	// churningFrom is how many changes at once are much; one by one they leave little.
	churningFrom = 100
	// churningFor is how long after that it is not over yet.
	churningFor = 2 * time.Second
	// freeInterval is the least time from one return of memory after that to the next.
	freeInterval = time.Minute
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

// churn sets the garbage collector while much changes, from begin on until stop is called. Its
// zero value does nothing yet.
type churn struct {
	mu      sync.Mutex
	watched bool
	before  int         // in percent
	calm    *time.Timer // ends it; nil: nothing changes
	freed   time.Time   // when memory was given back
}

// begin is called once what else sets the collector is done.
func (c *churn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched = os.Getenv("GOGC") == ""
}

// applied is told how many items a new snapshot changed.
func (c *churn) applied(changed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.watched || changed < churningFrom:
	case c.calm == nil:
		c.before = debug.SetGCPercent(churningGC)
		c.calm = time.AfterFunc(churningFor, func() {
			if c.over(); c.due(time.Now()) {
				debug.FreeOSMemory()
			}
		})
	default:
		c.calm.Reset(churningFor)
	}
}

// due tells whether memory is to be given back: what the old versions took is not needed any
// more, and where requests leave little the collector would not come for a while. It costs a
// collection, so that who changes much every few seconds does not have it each time.
func (c *churn) due(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.freed.IsZero() && now.Sub(c.freed) < freeInterval {
		return false
	}
	c.freed = now
	return true
}

func (c *churn) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm != nil {
		c.calm.Stop()
		c.calm = nil
		debug.SetGCPercent(c.before)
	}
}

func (c *churn) stop() {
	c.mu.Lock()
	c.watched = false
	c.mu.Unlock()
	c.over()
}

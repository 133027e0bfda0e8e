package etcdstore

import (
	"math/rand/v2"
	"sync"
	"time"
)

// audit compares now and then what a watch delivered with what the store holds. Watches of
// etcd have lost events more than once without a word, and a node would serve what is no
// longer there until it is started again. It outlives connections. Only the goroutine of the
// watch uses it.
type audit struct {
	every time.Duration
	timer *time.Timer
	read  chan *listing // capacity 1: what was read, nil if it could not be

	reading sync.WaitGroup
	touched map[string]bool // changed since the reading began, and so no evidence; nil: none runs
	held    *listing        // waits until the watch has come as far
}

func newAudit(every time.Duration) *audit {
	return &audit{every: every, timer: time.NewTimer(later(every)), read: make(chan *listing, 1)}
}

// later spreads the nodes of a cluster, so that they do not read all at once.
func later(every time.Duration) time.Duration { return every + rand.N(every) }

// interrupt ends what runs when a connection does. It is due again with the next one: where
// connections are short, nothing would ever be compared otherwise.
func (a *audit) interrupt() {
	a.reading.Wait()
	select {
	case <-a.read:
	default:
	}
	if a.touched != nil {
		a.held, a.touched = nil, nil
		a.timer.Reset(0)
	}
}

func (a *audit) due() <-chan time.Time { return a.timer.C }

// begin reads the keys beside the watch, which must not wait for that.
func (a *audit) begin(read func() (*listing, error)) {
	a.touched = map[string]bool{}
	a.reading.Go(func() {
		// A failure is the watch's to notice; the next audit comes.
		l, err := read()
		if err != nil {
			l = nil
		}
		a.read <- l
	})
}

func (a *audit) got(l *listing) {
	a.held = l
	if l == nil {
		a.over()
	}
}

func (a *audit) over() {
	a.held, a.touched = nil, nil
	a.timer.Reset(later(a.every))
}

// touch says that a key changed.
func (a *audit) touch(key string) {
	if a.touched != nil {
		a.touched[key] = true
	}
}

// differs compares, once the watch has delivered everything up to the revision at which the
// keys were read.
func (a *audit) differs(known map[string]int64, reached int64) bool {
	if a.held == nil || reached < a.held.revision {
		return false
	}
	held, touched := a.held, a.touched
	a.over()
	stored := make(map[string]bool, len(held.items))
	for _, it := range held.items {
		stored[it.Key] = true
		if known[it.Key] != it.Revision && !touched[it.Key] {
			return true
		}
	}
	for key := range known {
		if !stored[key] && !touched[key] {
			return true
		}
	}
	return false
}

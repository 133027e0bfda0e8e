// Package timetest is time in tests: a clock that moves when told to, and waiting for what
// comes about by itself. It does not know what is waited for.
package timetest

import (
	"sync"
	"testing"
	"time"
)

// Patience is how long Until waits: long enough for a machine that is busy with other
// tests, since nobody waits for it unless something is wrong.
const Patience = 30 * time.Second

// Until waits until ok holds and fails the test if it does not come to pass. what says
// what is waited for. ok is called from the test's goroutine.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(Patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not come to pass: %s", what)
		}
	}
}

// Stretch calls try with a limit of time for what it tests, and while it fails with ever longer
// ones: on a busy machine what takes no time may take longer than a short limit, so that something
// else ends by it than what was to. It fails the test with what try says of the longest, which is
// no longer than Patience.
func Stretch(t testing.TB, first time.Duration, try func(limit time.Duration) error) {
	t.Helper()
	for limit := first; ; limit *= 4 {
		err := try(limit)
		if err == nil {
			return
		}
		if 4*limit > Patience {
			t.Fatalf("with a limit of %v: %v", limit, err)
		}
		t.Logf("with a limit of %v: %v", limit, err)
	}
}

// A Clock is a time that passes when it is told to. The zero value shows the zero time.
// All methods may be called at any time by any goroutine.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows that time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass lets time go by.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

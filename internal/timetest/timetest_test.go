package timetest_test

import (
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

func TestTimePassesWhenItIsTold(t *testing.T) {
	start := time.Unix(1000, 0)
	c := timetest.NewClock(start)
	if got := c.Now(); !got.Equal(start) {
		t.Errorf("got %v, want %v", got, start)
	}
	c.Pass(time.Minute)
	if got := c.Now().Sub(start); got != time.Minute {
		t.Errorf("got %v later, want a minute", got)
	}
}

func TestWhoWaitsGoesOnWhenItHolds(t *testing.T) {
	asked := 0
	timetest.Until(t, "the third question", func() bool { asked++; return asked == 3 })
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
}

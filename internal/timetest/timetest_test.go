package timetest_test

import (
	"errors"
	"slices"
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

func TestALimitIsStretchedUntilItIsLongEnough(t *testing.T) {
	var got []time.Duration
	timetest.Stretch(t, time.Millisecond, func(limit time.Duration) error {
		if got = append(got, limit); limit < 10*time.Millisecond {
			return errors.New("too short")
		}
		return nil
	})
	if want := []time.Duration{time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond}; !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
}

func TestWhoWaitsGoesOnWhenItHolds(t *testing.T) {
	asked := 0
	timetest.Until(t, "the third question", func() bool { asked++; return asked == 3 })
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
}

package route

import (
	"testing"
	"time"
)

// paced is a syncer in a time of its own: changes come at fixed distances, and a build
// costs what its changes cost.
func paced(every time.Duration, changes int, cost, length time.Duration) (builds int, longest time.Duration) {
	var p pace
	begin := time.Unix(1700000000, 0)
	now, pending, oldest := begin, 0, begin
	arrival := begin
	for now.Sub(begin) < length {
		if pending == 0 {
			now = later(now, arrival)
		}
		build := later(now, now.Add(p.wait(now)))
		for !arrival.After(build) {
			if pending == 0 {
				oldest = arrival
			}
			pending += changes
			arrival = arrival.Add(every)
		}
		now = build.Add(time.Duration(pending) * cost)
		p.built(build, now, pending)
		longest = max(longest, now.Sub(oldest))
		builds, pending = builds+1, 0
	}
	return builds, longest
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func TestPace(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	tests := map[string]struct {
		every   time.Duration
		changes int
		cost    time.Duration // of a change
		builds  [2]int        // in a minute, at least and at most
		longest time.Duration // until a change is in force
	}{
		// What other numbers do not change is that all of it is gathered ten times a second.
		"10,000 changes a second, one by one":        {100 * us, 1, 20 * us, [2]int{450, 610}, 150 * ms},
		"10,000 changes a second on a fast machine":  {100 * us, 1, us, [2]int{550, 610}, 150 * ms},
		"10,000 changes a second, a hundred at once": {10 * ms, 100, 20 * us, [2]int{450, 610}, 150 * ms},
		"2,000 changes a second":                     {500 * us, 1, 20 * us, [2]int{500, 700}, 150 * ms},
		"builds that cost much":                      {50 * ms, 1, 20 * ms, [2]int{300, 610}, 300 * ms},
		// And that what is cheap is in force at once.
		"somebody who writes and waits": {5 * ms, 1, 100 * us, [2]int{12000, 12001}, 100 * us},
		"one change a second":           {time.Second, 1, 20 * ms, [2]int{60, 61}, 20 * ms},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			builds, longest := paced(test.every, test.changes, test.cost, time.Minute)
			if builds < test.builds[0] || builds > test.builds[1] || longest > test.longest {
				t.Errorf("got %d builds, and %v for a change, want %d to %d and at most %v", builds, longest, test.builds[0], test.builds[1], test.longest)
			}
		})
	}
}

func TestTheFirstBuildsAfterAPauseDoNotWait(t *testing.T) {
	var p pace
	now := time.Unix(1700000000, 0)
	const cost = 50 * time.Millisecond
	build := func() time.Duration {
		wait := max(p.wait(now), 0)
		now = now.Add(wait)
		p.built(now, now.Add(cost), 1)
		now = now.Add(cost)
		return wait
	}
	for i := range 8 {
		if wait := build(); (wait == 0) != (i <= burst) {
			t.Errorf("build %d waited %v", i, wait)
		}
	}
	now = now.Add(longestGap + 2*longestGap)
	for i := range 4 {
		if wait := build(); (wait == 0) != (i <= 2) {
			t.Errorf("build %d after a short pause waited %v", i, wait)
		}
	}
}

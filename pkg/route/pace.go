package route

import "time"

// pace spreads builds. Each is followed by a gap in which changes are gathered, so that no
// more than a tenth of a processor goes into building, and there are at most ten builds a
// second where changes come faster than one each millisecond: then every gap has more to
// gather than the one before, up to the longest. Somebody who writes, waits and writes again
// is slower than that and does not wait for a gap. Nor does who comes after a pause: the
// first few builds after it are free of gaps. Used by one goroutine.
type pace struct {
	due     time.Time // the end of the gap
	spare   int       // builds that need not wait for it
	changes int       // of the last build
}

const (
	// longestGap makes ten builds a second.
	longestGap = 100 * time.Millisecond
	// gapPerChange bounds the rate by what comes in, whatever a machine makes of it.
	gapPerChange = time.Millisecond
	// gapPerCost is the gap in times of what the build took.
	gapPerCost = 10
	// burst is how many builds come without gaps after a pause; one more for each longestGap
	// of it.
	burst = 4
)

// wait is how long to gather changes before the next build; 0 or less: not at all.
func (p *pace) wait(now time.Time) time.Duration {
	if p.spare > 0 {
		return 0
	}
	return p.due.Sub(now)
}

// built notes a build of so many changes.
func (p *pace) built(begin, end time.Time, changes int) {
	if pause := begin.Sub(p.due); pause >= 0 {
		p.spare += int(min(pause/longestGap, burst))
	} else {
		p.spare--
	}
	p.spare = max(min(p.spare, burst), 0)
	p.changes = changes
	p.due = end.Add(min(longestGap, max(gapPerCost*end.Sub(begin), time.Duration(changes)*gapPerChange)))
}

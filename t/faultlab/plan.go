package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// scenario is a fault, and what has to hold while it lasts and afterwards.
type scenario struct {
	name  string
	about string
	run   func(ctx context.Context, r *Run) error
	// parts is into how many units a long run is cut, each with chances of its own, so that
	// one that was stopped goes on where it was; 0 is one.
	parts int
}

// Unit is a scenario with the seed that its chances are drawn from.
type Unit struct {
	Scenario *scenario
	Seed     int64
	Part     int    // of a long run; counts from 0
	Found    string // of a regression: what was wrong
}

// ID names the unit in the results.
func (u Unit) ID() string {
	if u.Scenario.parts < 2 || u.Part < 0 {
		return u.Scenario.name
	}
	return fmt.Sprintf("%s/%d", u.Scenario.name, u.Part)
}

// regression is a seed that once found a fault of gosix. A short run includes it.
type regression struct {
	scenario string
	seed     int64
	found    string // what was wrong
}

// plan lists what is run, in order: everything with the first seed, then with the next.
func plan(all []*scenario, old []regression, seeds []int64, long bool, only []string) (units []Unit) {
	wanted := func(name string) bool {
		if len(only) == 0 {
			return true
		}
		for _, o := range only {
			if name == o || strings.HasPrefix(name, o+"-") {
				return true
			}
		}
		return false
	}
	for i, seed := range seeds {
		for _, s := range all {
			if !wanted(s.name) {
				continue
			}
			if !long {
				units = append(units, Unit{Scenario: s, Seed: seed, Part: -1})
			}
			for part := range max(s.parts, 1) {
				if long {
					units = append(units, Unit{Scenario: s, Seed: seed, Part: part})
				}
			}
			for _, r := range old {
				if i == 0 && !long && r.scenario == s.name && !slices.Contains(seeds, r.seed) {
					units = append(units, Unit{Scenario: s, Seed: r.seed, Part: -1, Found: r.found})
				}
			}
		}
	}
	return units
}

// parseSeeds reads a list such as 1,2,3.
func parseSeeds(text string) (seeds []int64, err error) {
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(word), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("-seed %s: %q is no number", text, word)
		}
		if !slices.Contains(seeds, n) {
			seeds = append(seeds, n)
		}
	}
	return seeds, nil
}

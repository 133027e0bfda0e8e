// Package racetest tells tests whether the race detector is on: with it pools drop what they
// are given now and then, so that allocations cannot be counted. It knows nothing else.
package racetest

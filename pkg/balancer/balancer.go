// Package balancer chooses one target out of several. It knows weights, priorities and
// hash rings, and who was tried or is down when it is told so. What a target is, how a
// request reaches it and what a failure looks like it does not know.
package balancer

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// Target is one choice. A target whose ID stays the same is the same target in the next
// configuration; IDs are unique within one.
type Target struct {
	ID       string // "host:port", or the name of an AI instance
	Weight   int    // share of the picks; 0: none
	Priority int    // higher first
}

// Outcome tells a picker how an attempt ended.
type Outcome struct {
	Failed              bool
	FirstByte, Duration time.Duration // 0: unknown
}

// Attempt is one request's way through the targets, from its first pick to its last. The
// zero value is a request that hashes to 0, has tried nothing and knows of nothing down.
type Attempt struct {
	Hash  uint32 // of the hash key, see Hash; 0 unless the algorithm hashes
	Tried Set    // not to be picked again
	Down  Set    // not to be picked, unless all targets are down: then none counts as down
}

// Picker spreads attempts over a fixed list of targets. It is safe for concurrent use.
type Picker interface {
	// Pick returns the index of a target in Config.Targets, or ErrExhausted when there is
	// none left that may be picked. It does not allocate, but for the first pick from
	// what is left when certain targets are down or tried. It does not add to Tried: that is the caller's.
	Pick(a *Attempt) (int, error)
	// Done reports how an attempt on target i ended. Every pick is followed by one.
	Done(i int, o Outcome)
}

// ErrExhausted is a pick when all that may be picked was tried, in the reference's words.
var ErrExhausted = errors.New("all upstream servers tried")

// ErrUnknownAlgorithm is a configuration whose algorithm does not exist.
var ErrUnknownAlgorithm = errors.New("unknown balancing algorithm")

// Config is what a picker is made of.
type Config struct {
	Algorithm string // one of Algorithms
	Targets   []Target
}

const (
	roundRobinName = "roundrobin"
	ringName       = "chash"
	leastConnName  = "least_conn"
	ewmaName       = "ewma"
)

// Algorithms lists the algorithms that New knows, in alphabetical order.
func Algorithms() []string { return []string{ringName, ewmaName, leastConnName, roundRobinName} }

// New returns a picker. Targets without weight get nothing; where no target has any, chash
// has nothing to pick and the others take all of them as equal (spec/05 §4).
//
// prev, which may be nil, is the picker of the configuration before: what it has counted
// of targets that stay is taken over, and where nothing has changed it may be returned
// itself. The error wraps ErrUnknownAlgorithm.
func New(c Config, prev Picker) (Picker, error) {
	var build func([]member, Picker) Picker
	switch c.Algorithm {
	case roundRobinName:
		build = newRoundRobin
	case ringName:
		build = newRing
	case leastConnName:
		build = func(members []member, _ Picker) Picker { return newLeastConn(members, prev) }
	case ewmaName:
		build = func(members []member, _ Picker) Picker { return newEWMA(members, prev) }
	default:
		return nil, fmt.Errorf("%w %q, want one of %q", ErrUnknownAlgorithm, c.Algorithm, Algorithms())
	}
	groups := byPriority(c.members())
	switch len(groups) {
	case 0:
		return nobody{}, nil
	case 1:
		return build(groups[0], groupOf(prev, groups[0][0].priority)), nil
	}
	return newPriority(groups, build, prev), nil
}

// member is a target that can be picked: its weight is above 0.
type member struct {
	index    int // in Config.Targets
	id       string
	weight   int
	priority int
}

// maxWeight bounds weights so that their sum cannot overflow.
const maxWeight = math.MaxInt32

func (c Config) members() []member {
	weightless := !slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Weight > 0 })
	members := make([]member, 0, len(c.Targets))
	for i, t := range c.Targets {
		m := member{i, t.ID, min(t.Weight, maxWeight), t.Priority}
		if weightless && c.Algorithm != ringName {
			m.weight = 1
		}
		if m.weight > 0 {
			members = append(members, m)
		}
	}
	return members
}

// byPriority splits members into groups of one priority, the highest first.
func byPriority(members []member) (groups [][]member) {
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(b.priority, a.priority) })
	for from, to := 0, 0; from < len(members); from = to {
		for to = from; to < len(members) && members[to].priority == members[from].priority; {
			to++
		}
		groups = append(groups, members[from:to:to])
	}
	return groups
}

// poolOf is the set of the members' indices.
func poolOf(members []member) (pool Set) {
	for _, m := range members {
		pool.Add(m.index)
	}
	return pool
}

// divisor is the greatest common divisor of the weights.
func divisor(members []member) (d int) {
	for _, m := range members {
		for a := m.weight; a != 0; {
			d, a = a, d%a
		}
	}
	return d
}

// nobody is the picker of no targets.
type nobody struct{}

func (nobody) Pick(*Attempt) (int, error) { return 0, ErrExhausted }
func (nobody) Done(int, Outcome)          {}

// Hash is the hash of a key as the rings of chash use it: CRC-32, IEEE (spec/05 §4.2).
func Hash(key string) uint32 { return crc32.ChecksumIEEE([]byte(key)) }

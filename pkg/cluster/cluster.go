// Package cluster is the registry of gateway nodes: each keeps a record of what it has in
// force in the store, under a lease, and whoever writes configuration can wait until all of
// them have it. What configuration is, and how nodes come to have it, this package does not
// know: it sees revisions and digests.
//
// The records are outside the configuration, in a directory of their own beside it:
//
//	<prefix>-nodes/<id>            a Node
//	<prefix>-nodes/wait/<random>   somebody waits for the revision at which this was put,
//	                               or for the one that it names
//
// A write that is to be waited for puts the latter in its own transaction, so that asking
// costs no step more, and cannot be lost between the two.
package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// Store is what the registry needs of a store.
type Store interface {
	store.Store
	store.Leases
}

// Node is the record of one gateway node.
type Node struct {
	ID        string   `json:"id"`
	Run       string   `json:"run"` // random, of the process: two with one ID tell each other by it
	Hostname  string   `json:"hostname,omitempty"`
	Addresses []string `json:"addresses"` // where it serves
	TLS       []string `json:"tls_addresses,omitempty"`
	Control   string   `json:"control,omitempty"`
	Version   string   `json:"version"`
	Started   int64    `json:"started"` // Unix time in seconds
	State
}

// State is what a node has in force.
type State struct {
	Applied   int64   `json:"applied"`     // revision in force
	Observed  int64   `json:"observed"`    // of the newest configuration that had come to the node when it wrote this
	Digest    string  `json:"digest"`      // of the configuration, hexadecimal (spec/00 18)
	Staleness float64 `json:"staleness_s"` // for how long the store had been out of its reach
	// Held says that what is in force is not of the history that the store has now, whose
	// content the node holds back: Applied is no revision of it.
	Held bool `json:"held,omitempty"`
	Rejections
}

// current is the revision in force of the store as it is now; 0: none.
func (s *State) current() int64 {
	if s.Held {
		return 0
	}
	return s.Applied
}

// Rejections are the items whose newest version a node does not have in force.
type Rejections struct {
	Rejected int        `json:"rejected"`                  // their number
	Sum      string     `json:"rejected_digest,omitempty"` // of all of them, empty for none
	Items    []Rejected `json:"rejected_items,omitempty"`  // the newest first; the oldest are left out if there are many
}

// Rejected is one such item.
type Rejected struct {
	Key     string `json:"key"`
	Refused int64  `json:"refused_revision"`
	InForce int64  `json:"revision_in_force"` // 0: none
}

// maxItems bounds the size of a record: etcd takes 1.5 MiB, and every admin process reads it.
const maxItems = 64

// Reject sums up all rejected items of a node. It keeps the list.
func Reject(all []Rejected) Rejections {
	if len(all) == 0 {
		return Rejections{}
	}
	slices.SortFunc(all, func(a, b Rejected) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), strings.Compare(a.Key, b.Key))
	})
	h := sha256.New()
	for _, r := range all {
		_, _ = fmt.Fprintf(h, "%s\x00%d\x00%d\x00", r.Key, r.Refused, r.InForce) // hashes never fail
	}
	return Rejections{Rejected: len(all), Sum: hex.EncodeToString(h.Sum(nil)[:16]), Items: slices.Clone(all[:min(len(all), maxItems)])}
}

// at returns what was refused of a revision. It is not certain if the list does not reach
// back that far.
func (r *Rejections) at(revision int64) (refused []Rejected, certain bool) {
	for _, item := range r.Items {
		if item.Refused == revision {
			refused = append(refused, item)
		}
	}
	listed := len(r.Items)
	return refused, len(refused) > 0 || r.Rejected <= listed || listed > 0 && r.Items[listed-1].Refused < revision
}

const (
	// lease is after which time a node that was killed is gone.
	lease = 10 * time.Second
	// spacing is the time between two records of a node for which nobody waits.
	spacing = time.Second
	// asking is how long a key of those who wait lasts at most; at least half of it. Longer
	// than anybody may wait: nodes that lost sight of the store find it when they are back.
	asking = 2 * MaxWait
	// MaxWait is the longest that somebody may wait.
	MaxWait = time.Minute
)

// Directory is where the records of the nodes of a cluster are, by the prefix of its
// configuration: "/apisix-nodes/".
func Directory(prefix string) string { return prefix + "-nodes/" }

const waiting = "wait/" // below the directory

// question is what is stored by those who wait.
type question struct {
	Revision int64 `json:"revision,omitempty"` // 0: the one at which it was put
}

// asked is the revision that a question is about.
func asked(item *store.Item) int64 {
	var q question
	if json.Unmarshal(item.Value, &q) != nil || q.Revision <= 0 || q.Revision > item.Revision {
		return item.Revision
	}
	return q.Revision
}

// decode reads a record; not ok for what is none, such as the keys of those who wait.
func decode(directory string, item store.Item) (n Node, ok bool) {
	id, below := strings.CutPrefix(item.Key, directory)
	if !below || CheckID(id) != nil || json.Unmarshal(item.Value, &n) != nil {
		return Node{}, false
	}
	n.ID = id // whatever it says itself
	// What was in force when the record was written is no newer than it, unless the store lost
	// its history and the node does not know of that yet.
	n.Held = n.Held || n.Applied > item.Revision
	return n, true
}

// CheckID says what is wrong with the id of a node.
func CheckID(id string) error {
	const longest = 64
	if len(id) == 0 || len(id) > longest {
		return fmt.Errorf("%q has %d characters, want 1 to %d", id, len(id), longest)
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%q holds another character than letters, digits, '.', '_' and '-'", id)
		}
	}
	if id == "wait" || id == "accept" || id == "." || id == ".." { // what else is in the directory
		return fmt.Errorf("%q is no id", id)
	}
	return nil
}

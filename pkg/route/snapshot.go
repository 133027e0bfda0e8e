package route

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"maps"
	"math/bits"
	"strings"
	"weak"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/store"
)

// Snapshot is everything in force at one revision. It is immutable and safe for
// concurrent use; two snapshots share whatever is equal in both.
type Snapshot struct {
	revision int64
	digest   [32]byte

	// Keys of the trees are below the prefix, without a leading slash: "routes/1".
	stored   tree[*store.Item] // what the store holds, good or bad
	objects  tree[*object]     // the last good version of each item
	rejected tree[Rejected]
	counts   map[string]int // of objects by kind; copied when it changes

	// uses is the reverse index: "services/1\x00routes/5" says that routes/5 is built
	// from services/1, whether or not that exists.
	uses      tree[struct{}]
	upstreams tree[*Upstream] // by carrier: "upstreams/1", "services/2"
	routes    tree[*compiled]
	consumers tree[*compiledConsumer]
	auth      []presented // of each plugin that found a consumer once; copied when it changes

	matcher   matcher
	names     serverNames
	global    *plugin.Chain
	globalErr error
	tls       *tlsConfigs
}

// Empty is the snapshot of an empty store: no request matches.
func Empty(env Env) *Snapshot {
	return &Snapshot{
		matcher: matcher{byHost: env.Router == "" || env.Router == HostURI},
		counts:  map[string]int{},
		tls:     &tlsConfigs{byName: map[string]weak.Pointer[tls.Config]{}},
	}
}

// Match returns the route of a request, nil if there is none (spec/03 §4). It uses path,
// host, method and remote address of the request, and whatever `vars` ask for. For a
// route with parameters it sets x.Facts.Params; it changes nothing else, and allocates
// nothing for a route without parameters and a request whose host is in lower case.
func (s *Snapshot) Match(x *exchange.Exchange) *Route { return s.matcher.match(x) }

// Global returns the chain of all global rules as one, nil if there are none. With an
// error no request may be served: a rule names an unknown plugin.
func (s *Snapshot) Global() (*plugin.Chain, error) { return s.global, s.globalErr }

// Find returns whom key belongs to under that auth plugin, nil if nobody. If several
// items have the key, the one created first wins.
func (s *Snapshot) Find(plugin, key string) *plugin.Identity {
	for i := range s.auth { // a handful
		if p := &s.auth[i]; p.plugin == plugin {
			if list, _ := p.keys.get(key); len(list) > 0 {
				return list[0].identity
			}
			break
		}
	}
	return nil
}

// ByName returns the consumer of that name, nil if there is none.
func (s *Snapshot) ByName(name string) *plugin.Consumer {
	c, ok := s.consumers.get("consumers/" + name)
	if !ok {
		return nil
	}
	return c.consumer
}

// Revision is the store revision that the snapshot shows, 0 before the first.
func (s *Snapshot) Revision() int64 { return s.revision }

// Digest names the stored content, bad items and unknown kinds included: nodes with
// equal digests hold the same. It is the sum, modulo 2²⁵⁶, of
//
//	sha256(key ‖ mod_revision ‖ value)
//
// over all keys, each sum taken as a big-endian number: key is the whole key in the
// store, mod_revision has 8 bytes, big-endian, and value is what is stored. An empty
// store has the digest zero.
func (s *Snapshot) Digest() [32]byte { return s.digest }

// Rejected lists the items whose newest version is not in force, by key.
func (s *Snapshot) Rejected() []Rejected {
	list := make([]Rejected, 0, s.rejected.size)
	s.rejected.walk("", func(_ string, r Rejected) bool {
		list = append(list, r)
		return true
	})
	return list
}

// Rejections is the number of items that Rejected lists.
func (s *Snapshot) Rejections() int { return s.rejected.size }

// Rejected is an item whose newest version is not in force.
type Rejected struct {
	Key     string // in the store
	Refused int64  // mod_revision of the version that is refused
	// InForce is the mod_revision of the version in force, 0 if there is none: the item
	// is absent, or it names an unknown plugin and is answered 503.
	InForce int64
	Reason  string
}

// Counts is the number of items in force by kind ("routes").
func (s *Snapshot) Counts() map[string]int { return maps.Clone(s.counts) }

// Item returns a stored item as the store has it, in force or not. Secret members are
// still encrypted, and the value must not be changed. id is that of resource.Locate:
// "jack/credentials/c1" for a credential.
func (s *Snapshot) Item(kind, id string) (store.Item, bool) {
	k := resource.ByName(kind)
	if k == nil {
		return store.Item{}, false
	}
	item, ok := s.stored.get(k.Key("", id)[1:])
	if !ok {
		return store.Item{}, false
	}
	return *item, true
}

// Items calls f for every stored item of a kind in key order until f returns false.
func (s *Snapshot) Items(kind string, f func(id string, item store.Item) bool) {
	k := resource.ByName(kind)
	if k == nil {
		return
	}
	directory := k.Name
	if k.Parent != "" {
		directory = k.Parent
	}
	s.stored.walk(directory+"/", func(rest string, item *store.Item) bool {
		found, id, ok := resource.Locate(rest)
		return !ok || found != k || f(id, *item)
	})
}

// digester brings a digest up to date.
type digester struct {
	sum  [32]byte
	room []byte // for the text of an item
}

// add adds an item's hash.
func (d *digester) add(item *store.Item) { d.change(d.hash(item), bits.Add64) }

// take takes an item's hash away.
func (d *digester) take(item *store.Item) { d.change(d.hash(item), bits.Sub64) }

func (d *digester) hash(item *store.Item) [32]byte {
	d.room = append(d.room[:0], item.Key...)
	d.room = binary.BigEndian.AppendUint64(d.room, uint64(item.Revision))
	d.room = append(d.room, item.Value...)
	return sha256.Sum256(d.room)
}

func (d *digester) change(one [32]byte, by func(x, y, carry uint64) (sum, carryOut uint64)) {
	var carry uint64
	for i := 24; i >= 0; i -= 8 {
		var word uint64
		word, carry = by(binary.BigEndian.Uint64(d.sum[i:]), binary.BigEndian.Uint64(one[i:]), carry)
		binary.BigEndian.PutUint64(d.sum[i:], word)
	}
}

// below returns what follows the prefix and its slash; not ok for other keys.
func below(prefix, key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || rest == "" || rest[0] != '/' {
		return "", false
	}
	return rest[1:], true
}

package route

import (
	"slices"
	"sort"
	"strings"
)

// tree is a persistent radix tree from strings to values. The zero value is an empty
// tree. A tree never changes: an editor makes a new one that shares with the old every
// node which did not have to change, so it costs what the change costs.
type tree[V any] struct {
	root *node[V]
	size int
}

// node is one node of a tree. A node without a value has at least two children, but for
// the root.
type node[V any] struct {
	prefix string     // what this node adds to the key of its parent
	below  *branch[V] // nil: nothing, as for most nodes
	value  V
	has    bool
	// owner is the editor that may still change the node in place. A committed tree is
	// safe from it, since an editor forgets its token when it commits.
	owner *token
}

// branch is what is below a node.
type branch[V any] struct {
	labels   []byte // first byte of each child's prefix, ascending
	children []*node[V]
}

// token is not empty, since pointers to distinct empty structs may be equal.
type token struct{ _ byte }

func (t tree[V]) get(key string) (v V, ok bool) {
	for n := t.root; n != nil; {
		if !strings.HasPrefix(key, n.prefix) {
			return v, false
		}
		if key = key[len(n.prefix):]; key == "" {
			return n.value, n.has
		}
		n = n.child(key[0])
	}
	return v, false
}

// longest returns the longest key that key starts with, and its value.
func (t tree[V]) longest(key string) (length int, v V, ok bool) {
	at := 0
	for n := t.root; n != nil && strings.HasPrefix(key[at:], n.prefix); {
		at += len(n.prefix)
		if n.has {
			length, v, ok = at, n.value, true
		}
		if at == len(key) {
			break
		}
		n = n.child(key[at])
	}
	return length, v, ok
}

// child returns the child whose prefix starts with b, nil if there is none.
func (n *node[V]) child(b byte) *node[V] {
	if n.below == nil {
		return nil
	}
	if i, ok := n.below.find(b); ok {
		return n.below.children[i]
	}
	return nil
}

func (n *node[V]) children() []*node[V] {
	if n.below == nil {
		return nil
	}
	return n.below.children
}

// find returns where a label is among the others, or would be.
func (s *branch[V]) find(b byte) (int, bool) {
	// Most have a handful of children, where a scan beats bisecting.
	if len(s.labels) <= 8 {
		for i, l := range s.labels {
			if l >= b {
				return i, l == b
			}
		}
		return len(s.labels), false
	}
	i := sort.Search(len(s.labels), func(i int) bool { return s.labels[i] >= b })
	return i, i < len(s.labels) && s.labels[i] == b
}

// walk calls f for every key that starts with prefix, in ascending order, until f
// returns false.
func (t tree[V]) walk(prefix string, f func(key string, v V) bool) {
	n, rest, above := t.root, prefix, ""
	for n != nil {
		if len(rest) <= len(n.prefix) {
			if strings.HasPrefix(n.prefix, rest) {
				n.walk(above, f)
			}
			return
		}
		if !strings.HasPrefix(rest, n.prefix) {
			return
		}
		above += n.prefix
		rest = rest[len(n.prefix):]
		n = n.child(rest[0])
	}
}

func (n *node[V]) walk(above string, f func(key string, v V) bool) bool {
	above += n.prefix
	if n.has && !f(above, n.value) {
		return false
	}
	for _, c := range n.children() {
		if !c.walk(above, f) {
			return false
		}
	}
	return true
}

// editor makes a new tree out of an old one. It is not safe for concurrent use.
type editor[V any] struct {
	tree[V]
	token *token
}

func (t tree[V]) edit() editor[V] { return editor[V]{tree: t, token: new(token)} }

// commit returns the tree as it is now. The editor may go on: what it changes next it
// copies first.
func (e *editor[V]) commit() tree[V] {
	e.token = new(token)
	return e.tree
}

// own returns n if this editor made it, else a copy that it may change.
func (e *editor[V]) own(n *node[V]) *node[V] {
	if n.owner == e.token {
		return n
	}
	c := *n
	c.owner = e.token
	if n.below != nil {
		c.below = &branch[V]{slices.Clone(n.below.labels), slices.Clone(n.below.children)}
	}
	return &c
}

func (e *editor[V]) set(key string, v V) {
	if e.root == nil {
		e.root = &node[V]{prefix: key, value: v, has: true, owner: e.token}
		e.size = 1
		return
	}
	e.root = e.insert(e.root, key, v)
}

func (e *editor[V]) insert(n *node[V], key string, v V) *node[V] {
	common := commonLength(n.prefix, key)
	if common < len(n.prefix) {
		// The key leaves in the middle of this node's text: split it.
		lower := e.own(n)
		upper := &node[V]{prefix: n.prefix[:common], owner: e.token}
		lower.prefix = n.prefix[common:]
		upper.adopt(lower)
		n = upper
	} else {
		n = e.own(n)
	}
	key = key[common:]
	if key == "" {
		if !n.has {
			e.size++
		}
		n.value, n.has = v, true
		return n
	}
	if n.below != nil {
		if i, ok := n.below.find(key[0]); ok {
			n.below.children[i] = e.insert(n.below.children[i], key, v)
			return n
		}
	}
	e.size++
	n.adopt(&node[V]{prefix: key, value: v, has: true, owner: e.token})
	return n
}

// adopt adds a child whose label n does not have.
func (n *node[V]) adopt(c *node[V]) {
	if n.below == nil {
		n.below = &branch[V]{}
	}
	s, label := n.below, c.prefix[0]
	i, _ := s.find(label)
	s.labels, s.children = slices.Insert(s.labels, i, label), slices.Insert(s.children, i, c)
}

// del removes a key; a key that is absent changes nothing.
func (e *editor[V]) del(key string) {
	if _, ok := e.get(key); ok {
		e.root = e.remove(e.root, key)
		e.size--
	}
}

func (e *editor[V]) remove(n *node[V], key string) *node[V] {
	n = e.own(n)
	if key = key[len(n.prefix):]; key == "" {
		var none V
		n.value, n.has = none, false
	} else {
		s := n.below
		i, _ := s.find(key[0])
		if c := e.remove(s.children[i], key); c != nil {
			s.children[i] = c
		} else {
			s.labels, s.children = slices.Delete(s.labels, i, i+1), slices.Delete(s.children, i, i+1)
		}
		if len(s.children) == 0 {
			n.below = nil
		}
	}
	switch {
	case n.has || len(n.children()) > 1:
		return n
	case n.below == nil:
		return nil
	}
	// One child and no value: the two become one node.
	c := e.own(n.below.children[0])
	c.prefix = n.prefix + c.prefix
	return c
}

func commonLength(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

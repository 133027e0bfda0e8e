package route

import (
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
	prefix   string // what this node adds to the key of its parent
	labels   []byte // first byte of each child's prefix, ascending
	children []*node[V]
	value    V
	has      bool
	// owner is the editor that may still change the node in place. A committed tree is
	// safe from it, since an editor forgets its token when it commits.
	owner *token
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
	if i, ok := n.find(b); ok {
		return n.children[i]
	}
	return nil
}

func (n *node[V]) find(b byte) (int, bool) {
	// Most nodes have a handful of children, where a scan beats bisecting.
	if len(n.labels) <= 8 {
		for i, l := range n.labels {
			if l >= b {
				return i, l == b
			}
		}
		return len(n.labels), false
	}
	i := sort.Search(len(n.labels), func(i int) bool { return n.labels[i] >= b })
	return i, i < len(n.labels) && n.labels[i] == b
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
	for _, c := range n.children {
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
	c.labels = append([]byte(nil), n.labels...)
	c.children = append([]*node[V](nil), n.children...)
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
	if i, ok := n.find(key[0]); ok {
		n.children[i] = e.insert(n.children[i], key, v)
		return n
	}
	e.size++
	n.adopt(&node[V]{prefix: key, value: v, has: true, owner: e.token})
	return n
}

// adopt adds a child whose label n does not have.
func (n *node[V]) adopt(c *node[V]) {
	i, _ := n.find(c.prefix[0])
	n.labels = append(n.labels, 0)
	copy(n.labels[i+1:], n.labels[i:])
	n.labels[i] = c.prefix[0]
	n.children = append(n.children, nil)
	copy(n.children[i+1:], n.children[i:])
	n.children[i] = c
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
		i, _ := n.find(key[0])
		if c := e.remove(n.children[i], key); c != nil {
			n.children[i] = c
		} else {
			n.labels = append(n.labels[:i], n.labels[i+1:]...)
			copy(n.children[i:], n.children[i+1:])
			n.children[len(n.children)-1] = nil
			n.children = n.children[:len(n.children)-1]
		}
	}
	switch {
	case n.has || len(n.children) > 1:
		return n
	case len(n.children) == 0:
		return nil
	}
	// One child and no value: the two become one node.
	c := e.own(n.children[0])
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

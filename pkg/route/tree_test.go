package route

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTreeAgreesWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key := func() string {
		b := make([]byte, r.IntN(6))
		for i := range b {
			b[i] = "ab/\x00"[r.IntN(4)]
		}
		return string(b)
	}
	var old []tree[int]
	var olds []map[string]int
	model, now := map[string]int{}, tree[int]{}
	for step := range 4000 {
		e := now.edit()
		for range 1 + r.IntN(3) {
			k := key()
			if r.IntN(3) == 0 {
				e.del(k)
				delete(model, k)
			} else {
				e.set(k, step)
				model[k] = step
			}
		}
		now = e.commit()
		if step%20 == 0 {
			checkTree(t, now, model)
		}
		checkLongest(t, now, model, key()+key())
		if step%400 == 0 {
			copied := map[string]int{}
			for k, v := range model {
				copied[k] = v
			}
			old, olds = append(old, now), append(olds, copied)
		}
	}
	for i := range old {
		checkTree(t, old[i], olds[i])
	}
}

func checkTree(t *testing.T, got tree[int], want map[string]int) {
	t.Helper()
	if got.size != len(want) {
		t.Fatalf("got size %d, want %d", got.size, len(want))
	}
	for _, prefix := range []string{"", "a", "ab", "/\x00", "zz"} {
		var keys, wanted []string
		got.walk(prefix, func(k string, v int) bool {
			if w, ok := want[k]; !ok || w != v {
				t.Fatalf("got %q = %d, want %d, %v", k, v, w, ok)
			}
			keys = append(keys, k)
			return true
		})
		for k, v := range want {
			if strings.HasPrefix(k, prefix) {
				wanted = append(wanted, k)
			}
			if g, ok := got.get(k); !ok || g != v {
				t.Fatalf("got get(%q) = %d, %v, want %d", k, g, ok, v)
			}
		}
		sort.Strings(wanted)
		if diff := cmp.Diff(wanted, keys); diff != "" {
			t.Fatalf("keys under %q (-want +got):\n%s", prefix, diff)
		}
	}
}

func checkLongest(t *testing.T, got tree[int], want map[string]int, key string) {
	t.Helper()
	length := -1
	for k := range want {
		if strings.HasPrefix(key, k) {
			length = max(length, len(k))
		}
	}
	n, v, ok := got.longest(key)
	if ok != (length >= 0) || ok && (n != length || v != want[key[:n]]) {
		t.Fatalf("got longest(%q) = %d, %d, %v, want length %d of %v", key, n, v, ok, length, want)
	}
}

func TestTreeSharesWhatDidNotChange(t *testing.T) {
	e := tree[int]{}.edit()
	for i := range 10000 {
		e.set(fmt.Sprintf("key/%05d", i), i)
	}
	before := e.commit()
	e = before.edit()
	e.set("key/05000", -1)
	after := e.commit()
	nodes := map[*node[int]]bool{}
	var collect func(n *node[int])
	collect = func(n *node[int]) {
		nodes[n] = true
		for _, c := range n.children() {
			collect(c)
		}
	}
	collect(before.root)
	fresh := 0
	var count func(n *node[int])
	count = func(n *node[int]) {
		if !nodes[n] {
			fresh++
		}
		for _, c := range n.children() {
			count(c)
		}
	}
	count(after.root)
	if fresh > 8 {
		t.Errorf("got %d new nodes for one change, want at most the depth of the tree", fresh)
	}
	if v, _ := before.get("key/05000"); v != 5000 {
		t.Errorf("got %d in the old tree, want 5000", v)
	}
}

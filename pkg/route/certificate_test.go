package route

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/pkg/certificate"
)

// servers makes stored certificates, all with one pair.
type servers struct{ cert, key []byte }

func newServers(t testing.TB) *servers {
	cert, key := certtest.Pair(t, "any.test")
	return &servers{cert, key}
}

// doc is a stored item for names; extra are members that it has besides, or instead.
func (s *servers) doc(names []string, extra map[string]any) string {
	m := map[string]any{"cert": string(s.cert), "key": string(s.key), "snis": names}
	for name, v := range extra {
		m[name] = v
	}
	doc, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(doc)
}

func serverOf(s *certificate.Server) string {
	if s == nil {
		return ""
	}
	return s.ID
}

func TestServersAreFoundByName(t *testing.T) {
	s, w := newServers(t), newWorld()
	f := follow(t, testEnv(HostURI))
	f.apply(w.batch(
		w.put("ssls/all", s.doc([]string{"*"}, nil)),
		w.put("ssls/wild", s.doc([]string{"*.a.test", "*.LOW.test."}, nil)),
		w.put("ssls/whole", s.doc([]string{"www.a.test", "b.test"}, nil)),
		w.put("ssls/second", s.doc([]string{"www.a.test", "*.a.test", "c.test"}, nil)),
		w.put("ssls/part", s.doc([]string{"*ww.d.test"}, nil)),
		w.put("ssls/off", s.doc([]string{"off.a.test"}, map[string]any{"status": 0})),
		w.put("ssls/ours", s.doc(nil, map[string]any{"type": "client", "snis": []string{"ours.a.test"}})),
	))
	tests := map[string]string{
		"www.a.test": "whole", "b.test": "whole", "x.a.test": "wild", "a.test": "all", "x.y.a.test": "",
		".a.test": "wild", "a.b.c": "all", "x.low.test": "wild", "c.test": "second", "www.d.test": "part", "xww.d.test": "part",
		"ww.d.test": "part", "x.www.d.test": "", "w.d.test": "all", "off.a.test": "wild", "ours.a.test": "wild",
		"localhost": "all", "": "", strings.Repeat("x", 254): "",
	}
	for name, want := range tests {
		if got := serverOf(f.snap.Certificate(name)); got != want {
			t.Errorf("%.20q: got %q, want %q", name, got, want)
		}
	}
	if len(f.snap.Rejected()) > 0 {
		t.Errorf("rejected: %+v", f.snap.Rejected())
	}
	f.apply(w.batch(w.del("ssls/all"), w.del("ssls/whole"), w.put("ssls/wild", s.doc([]string{"z.test"}, nil))))
	for name, want := range map[string]string{"www.a.test": "second", "b.test": "", "x.a.test": "second", "x.low.test": "", "z.test": "wild", "localhost": ""} {
		if got := serverOf(f.snap.Certificate(name)); got != want {
			t.Errorf("after a change %q: got %q, want %q", name, got, want)
		}
	}
}

// A certificate that does not parse is refused by itself: the one in force stays, and those
// beside it.
func TestABadCertificateKeepsTheOneInForce(t *testing.T) {
	s, w := newServers(t), newWorld()
	f := follow(t, testEnv(HostURI))
	f.apply(w.batch(w.put("ssls/1", s.doc([]string{"a.test"}, nil)), w.put("ssls/2", s.doc([]string{"b.test"}, nil))))
	before, beside := f.snap.Certificate("a.test"), f.snap.Certificate("b.test")
	broken := strings.Repeat("w", 200)
	for name, extra := range map[string]map[string]any{
		"a certificate that is none": {"cert": broken},
		"a key that is none":         {"key": broken},
		"a second pair that is none": {"certs": []string{broken}, "keys": []string{string(s.key)}},
		"an authority that is none":  {"client": map[string]any{"ca": broken}},
		"a pattern that is none":     {"client": map[string]any{"ca": string(s.cert), "skip_mtls_uri_regex": []string{"("}}},
		"a reference":                {"key": "$env://KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			f.apply(w.batch(
				w.put("ssls/1", s.doc([]string{"a.test", "c.test"}, extra)), w.put("ssls/new", s.doc([]string{"d.test"}, extra)),
			))
			if f.snap.Certificate("a.test") != before || f.snap.Certificate("b.test") != beside {
				t.Error("the certificates in force have changed")
			}
			if f.snap.Certificate("c.test") != nil || f.snap.Certificate("d.test") != nil {
				t.Error("a name of what was refused is served")
			}
			rejected := f.snap.Rejected()
			if len(rejected) != 2 || rejected[0].Key != prefix+"/ssls/1" || rejected[0].InForce != 1 || rejected[1].InForce != 0 {
				t.Errorf("got rejected %+v", rejected)
			}
		})
	}
	f.apply(w.batch(w.put("ssls/1", s.doc([]string{"a.test", "c.test"}, nil)), w.del("ssls/new")))
	if got := f.snap.Certificate("c.test"); got == nil || got == before || len(f.snap.Rejected()) > 0 {
		t.Errorf("got %q and rejected %+v once it is mended", serverOf(got), f.snap.Rejected())
	}
}

// modelServer looks at every item. covers: of a name that is nobody's, whose it would be if
// a wildcard stood for several labels.
func modelServer(items map[string][]string, created []string, name string) (server, covers string) {
	label, _, _ := strings.Cut(name, ".")
	longest, ok := -1, false
	for _, id := range created {
		for _, n := range items[id] {
			length, one := -1, true
			end, wild := strings.CutPrefix(n, "*")
			switch {
			case n == name:
				length = 1 << 20
			case wild && end == "":
				length = 0
			case wild && strings.HasSuffix(name, end):
				length, one = len(end), len(name)-len(end) <= len(label)
			}
			if length > longest {
				covers, longest, ok = id, length, one
			}
		}
	}
	if ok {
		server = covers
	}
	return server, covers
}

func TestServersAreThoseOfAModel(t *testing.T) {
	s := newServers(t)
	names := []string{"*", "a.test", "*.a.test", "b.a.test", "*b.a.test", "*.b.a.test", "*a.test", "test", "*.test", "*test", "xb.a.test"}
	asked := append(slices.Clone(names), "x.a.test", "x.b.a.test", "y.x.a.test", "bb.a.test", "other")
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, f := newWorld(), follow(t, testEnv(HostURI))
		items, created, asks := map[string][]string{}, []string{}, map[string]bool{}
		for step := range 25 {
			id := fmt.Sprint(r.IntN(6))
			if known := items[id] != nil; known && r.IntN(3) == 0 {
				delete(items, id)
				delete(asks, id)
				created = slices.DeleteFunc(created, func(c string) bool { return c == id })
				f.apply(w.batch(w.del("ssls/" + id)))
			} else {
				if !known {
					created = append(created, id)
				}
				items[id] = nil
				for range 1 + r.IntN(3) {
					items[id] = append(items[id], names[r.IntN(len(names))])
				}
				extra := map[string]any{}
				if asks[id] = r.IntN(3) == 0; asks[id] {
					extra["client"] = map[string]any{"ca": string(s.cert)}
				}
				f.apply(w.batch(w.put("ssls/"+id, s.doc(items[id], extra))))
			}
			again := follow(t, testEnv(HostURI))
			again.apply(w.reset())
			for _, name := range asked {
				want, covers := modelServer(items, created, name)
				if got := serverOf(f.snap.Certificate(name)); got != want {
					t.Fatalf("seed %d, step %d, %q: got %q, want %q of %v", seed, step, name, got, want, items)
				}
				if got := f.snap.Asking(name) != nil; got != asks[covers] {
					t.Fatalf("seed %d, step %d, %q: asks for a certificate: %v, and %q covers it of %v", seed, step, name, got, covers, items)
				}
				if got := serverOf(again.snap.Certificate(name)); got != want {
					t.Fatalf("seed %d, step %d, %q: built anew, got %q, want %q", seed, step, name, got, want)
				}
			}
		}
	}
}

func TestASnapshotKeepsItsServers(t *testing.T) {
	s, w := newServers(t), newWorld()
	f := follow(t, testEnv(HostURI))
	f.apply(w.batch(w.put("ssls/1", s.doc([]string{"a.test"}, nil)), w.put("ssls/2", s.doc([]string{"a.test", "b.test"}, nil))))
	old, first := f.snap, f.snap.Certificate("a.test")
	f.apply(w.batch(w.del("ssls/1"), w.put("ssls/2", s.doc([]string{"c.test"}, nil))))
	if old.Certificate("a.test") != first || serverOf(old.Certificate("b.test")) != "2" || old.Certificate("c.test") != nil {
		t.Error("a snapshot has changed")
	}
	now := f.snap.Certificate("c.test")
	f.apply(w.batch(w.put("routes/1", uri("/a"))))
	if f.snap.Certificate("c.test") != now {
		t.Error("a certificate was compiled again because of a route")
	}
}

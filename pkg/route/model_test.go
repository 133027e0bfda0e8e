package route

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// modelRoute is a route as the naive model reads it.
type modelRoute struct {
	id       string
	created  int
	priority int
	uris     []string
	hosts    []string
	methods  []string
	off      bool
}

func (m modelRoute) doc() string {
	quoted := func(list []string) string { return `["` + strings.Join(list, `","`) + `"]` }
	s := fmt.Sprintf(`{"uris":%s,"priority":%d,"upstream":%s`, quoted(m.uris), m.priority, oneNode)
	if m.hosts != nil {
		s += `,"hosts":` + quoted(m.hosts)
	}
	if m.methods != nil {
		s += `,"methods":` + quoted(m.methods)
	}
	if m.off {
		s += `,"status":0`
	}
	return s + `}`
}

// modelMatch looks at every route: it is spec/03 §3 and §4 without any tree.
func modelMatch(routes []modelRoute, router, method, rawHost, path string) string {
	host := strings.ToLower(rawHost)
	if i := strings.LastIndex(host, ":"); i > strings.LastIndex(host, "]") {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	type hit struct {
		r                          modelRoute
		hostClass, hostLength      int // 0 exact, 1 wildcard, 2 none
		pathClass, prefix, pattern int
		order                      int
	}
	var hits []hit
	for _, r := range routes {
		if r.off || r.methods != nil && !strings.Contains(" "+strings.Join(r.methods, " ")+" ", " "+method+" ") {
			continue
		}
		hosts := r.hosts
		if hosts == nil {
			hosts = []string{""}
		}
		for i, uri := range r.uris {
			class, prefix, ok := modelPath(uri, path, router == URIWithParam)
			if !ok {
				continue
			}
			for j, h := range hosts {
				one := hit{r: r, hostClass: 2, pathClass: class, prefix: prefix, pattern: len(uri), order: i*len(hosts) + j}
				suffix, wild := strings.CutPrefix(h, "*")
				against := host
				if strings.Contains(h, ":") && router != HostURI {
					against = strings.ToLower(rawHost)
				}
				switch {
				case h == "":
				case wild && strings.HasSuffix(against, suffix):
					one.hostClass, one.hostLength = 1, len(suffix)
				case !wild && against == h:
					one.hostClass = 0
				default:
					continue
				}
				if router != HostURI {
					one.hostClass, one.hostLength = 0, 0
				}
				hits = append(hits, one)
			}
		}
	}
	if len(hits) == 0 {
		return ""
	}
	sort.SliceStable(hits, func(i, j int) bool {
		a, b := hits[i], hits[j]
		for _, c := range [][2]int{
			{a.hostClass, b.hostClass},
			{b.hostLength, a.hostLength},
			{a.pathClass, b.pathClass},
			{b.prefix, a.prefix},
			{b.r.priority, a.r.priority},
			{b.pattern, a.pattern},
			{a.r.created, b.r.created},
			{a.order, b.order},
		} {
			if c[0] != c[1] {
				return c[0] < c[1]
			}
		}
		return false
	})
	return hits[0].r.id
}

// modelPath says whether a path matches: class 0 exactly, 1 by a prefix of that length.
func modelPath(uri, path string, params bool) (class, prefix int, ok bool) {
	star := strings.Index(uri, "*")
	if params {
		star = strings.IndexAny(uri, "*:")
	}
	if star < 0 {
		return 0, 0, uri == path
	}
	if !strings.HasPrefix(path, uri[:star]) {
		return 1, star, false
	}
	if !params && uri[star-1] != '/' {
		return 1, star, true
	}
	re, any := "", false
	for i, s := range strings.Split(uri, "/") {
		if i > 0 {
			re += "/"
		}
		switch {
		case strings.HasPrefix(s, "*"):
			re, any = re+"(?s:.*)", true
		case params && strings.HasPrefix(s, ":"):
			re, any = re+"[^/]+", true
		case params:
			re += s
		case strings.Contains(s, "*"):
			re += regexp.QuoteMeta(s[:strings.Index(s, "*")])
			return 1, star, regexp.MustCompile(`\A` + re).MatchString(path)
		default:
			re += regexp.QuoteMeta(s)
		}
	}
	if !any {
		return 1, star, true
	}
	return 1, star, regexp.MustCompile(re).FindString(path) == path
}

func randomModel(r *rand.Rand) []modelRoute {
	segments := []string{"a", "b", "ab", "a.b", "*", "*x", ":id", ":", "a*", "a:b", "b*b", ""}
	hosts := []string{"x.test", "a.x.test", "*.test", "*.x.test", "*x.test", "*", "x.test:80", "[::1]"}
	some := func(from []string) []string {
		n := r.IntN(3)
		if n == 0 {
			return nil
		}
		seen, list := map[string]bool{}, []string(nil)
		for range n {
			if s := pick(r, from); !seen[s] {
				seen[s], list = true, append(list, s)
			}
		}
		return list
	}
	routes := make([]modelRoute, 1+r.IntN(12))
	for i := range routes {
		m := modelRoute{id: fmt.Sprintf("r%d", i), created: i, priority: r.IntN(3), off: r.IntN(10) == 0, hosts: some(hosts), methods: some([]string{"GET", "PUT"})}
		for range 1 + r.IntN(2) {
			uri := ""
			for range 1 + r.IntN(4) {
				uri += "/" + pick(r, segments)
			}
			if len(m.uris) == 0 || m.uris[0] != uri {
				m.uris = append(m.uris, uri)
			}
		}
		routes[i] = m
	}
	return routes
}

func checkModel(t *testing.T, seed uint64, requests []string) {
	t.Helper()
	routes := randomModel(rand.New(rand.NewPCG(seed, 3)))
	for _, router := range routers {
		w, f := newWorld(), follow(t, testEnv(router))
		for _, m := range routes {
			w.put("routes/"+m.id, m.doc())
		}
		f.apply(w.reset())
		if list := f.snap.Rejected(); len(list) > 0 {
			t.Fatalf("seed %d: got rejected %+v, want none", seed, list)
		}
		for _, request := range requests {
			method, rest, _ := strings.Cut(request, " ")
			i := strings.IndexByte(rest, '/')
			x := exchangeOf("GET h/")
			x.Request.Method, x.Request.Host, x.Request.Path = method, rest[:i], rest[i:]
			got, want := idOf(f.snap.Match(x)), modelMatch(routes, router, method, rest[:i], rest[i:])
			if got != want {
				t.Fatalf("seed %d, %s: %q got %q, want %q of %+v", seed, router, request, got, want, routes)
			}
		}
	}
}

var modelHosts = []string{"x.test", "a.x.test", "ax.test", "y.test", "X.TEST.", "x.test:80", "[::1]:80", ""}

func TestMatchAgreesWithTheModel(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 4))
		requests := make([]string, 60)
		for i := range requests {
			path := ""
			for range 1 + r.IntN(4) {
				path += "/" + pick(r, []string{"a", "b", "ab", "a.b", "axb", ":id", "bb", "x", "a:b", "", "a*"})
			}
			requests[i] = pick(r, []string{"GET", "PUT", "BREW"}) + " " + pick(r, modelHosts) + path
		}
		checkModel(t, seed, requests)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(uint64(1), "x.test", "/a/b")
	f.Add(uint64(2), "a.x.test:80", "/ab/a.b/")
	f.Add(uint64(3), "[::1]", "/a\n/:id")
	f.Fuzz(func(t *testing.T, seed uint64, host, path string) {
		if strings.ContainsAny(host, "/ ") || !isASCII(host) {
			return
		}
		checkModel(t, seed%4096, []string{"GET " + host + "/" + path, "PUT " + host + "/" + path + "/a"})
	})
}

// isASCII leaves out hosts that no engine lets through, whose letters have several cases.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func FuzzPattern(f *testing.F) {
	f.Add("/a/*/b", "/a/x/b", true)
	f.Add("/u/:id/*rest", "/u/1/2", true)
	f.Add("/u/:id/v[0-9]+", "/u/1/v2", true)
	f.Add("/:", "/", false)
	f.Fuzz(func(t *testing.T, uri, path string, params bool) {
		p, err := compilePattern(uri, params)
		if err != nil || p.shape == nil {
			return
		}
		got, ok := p.shape.match(path, nil)
		if !ok && len(got) > 0 {
			t.Errorf("got parameters %v of a path that does not match", got)
		}
		for _, one := range got {
			if !strings.Contains(path, one.Value) {
				t.Errorf("got %+v, want a part of %q", one, path)
			}
		}
	})
}

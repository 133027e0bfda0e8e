package route

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/exchange"
)

var routers = []string{HostURI, URI, URIWithParam}

// ask is a request and the id of the route that must answer it, empty for none.
type ask struct{ request, want string }

func TestMatch(t *testing.T) {
	plain, params, uris := []string{HostURI, URI}, []string{URIWithParam}, []string{URI, URIWithParam}
	hosts := []string{HostURI}
	tests := map[string]struct {
		routers []string // nil: all
		routes  []string // created in this order as a, b, c …
		asks    []ask
	}{
		"an exact path matches itself alone": {
			routes: []string{uri("/fox")},
			asks: []ask{
				{"GET h/fox", "a"}, {"GET h/fox/", ""}, {"GET h/foxes", ""}, {"GET h/Fox", ""}, {"GET h/fo", ""}, {"GET h/fox?x=1", "a"},
			},
		},
		"the root path is not everything": {
			routes: []string{uri("/")},
			asks:   []ask{{"GET h/", "a"}, {"GET h/x", ""}},
		},
		"a pattern with a trailing slash asks for it": {
			routes: []string{uri("/nest/")},
			asks:   []ask{{"GET h/nest/", "a"}, {"GET h/nest", ""}},
		},
		"a star as last segment is a prefix with the slash": {
			routes: []string{uri("/foo/*")},
			asks:   []ask{{"GET h/foo/", "a"}, {"GET h/foo/a/b", "a"}, {"GET h/foo", ""}, {"GET h/food", ""}},
		},
		"a star after text is a prefix": {
			routes: []string{uri("/foo*")},
			asks:   []ask{{"GET h/foo", "a"}, {"GET h/food/x", "a"}, {"GET h/fo", ""}},
		},
		"slash star is everything": {
			routes: []string{uri("/*")},
			asks:   []ask{{"GET h/", "a"}, {"GET h/a/b", "a"}},
		},
		"a star in the middle stands for anything, slashes and newlines included": {
			routes: []string{uri("/v/*/tail")},
			asks: []ask{
				{"GET h/v/x/tail", "a"},
				{"GET h/v/x/y/tail", "a"},
				{"GET h/v/x\ny/tail", "a"},
				{"GET h/v/x/tails", ""},
				{"GET h/v/tail", ""},
				{"GET h/v/x", ""},
				{"GET h/v/", ""},
			},
		},
		"several stars that start a segment each stand for anything": {
			routes: []string{uri("/a/*/b/*/c")},
			asks: []ask{
				{"GET h/a/1/b/2/c", "a"}, {"GET h/a/1/b/2/b/c/c", "a"}, {"GET h/a/1/b/c", ""}, {"GET h/a/1/2/c", ""},
			},
		},
		"what follows a star inside a segment is ignored": {
			routes: []string{uri("/a*b")},
			asks:   []ask{{"GET h/a", "a"}, {"GET h/axx", "a"}, {"GET h/a/c/d", "a"}, {"GET h/", ""}},
		},
		"a colon is plain text to routers without parameters": {
			routers: plain,
			routes:  []string{uri("/u/:id"), uri("/w/:id/*rest")},
			asks: []ask{
				{"GET h/u/:id", "a"}, {"GET h/u/5", ""}, {"GET h/w/:id/x", "b"}, {"GET h/w/:id/", "b"}, {"GET h/w/5/x", ""},
			},
		},
		"other operators of regular expressions are plain text to routers without parameters": {
			routers: plain,
			routes:  []string{uri("/a/*/b.c")},
			asks:    []ask{{"GET h/a/x/b.c", "a"}, {"GET h/a/x/bxc", ""}},
		},
		"a parameter is one segment that is not empty": {
			routers: params,
			routes:  []string{uri("/u/:id")},
			asks:    []ask{{"GET h/u/5", "a"}, {"GET h/u/", ""}, {"GET h/u/5/", ""}, {"GET h/u/5/6", ""}, {"GET h/u", ""}},
		},
		"a parameter may stand between texts": {
			routers: params,
			routes:  []string{uri("/u/:id/posts/:post")},
			asks:    []ask{{"GET h/u/5/posts/6", "a"}, {"GET h/u/5/post/6", ""}, {"GET h/u/5/posts", ""}, {"GET h/u/5/posts/6/7", ""}},
		},
		"a pattern of parameters that ends in a slash asks for it": {
			routers: params,
			routes:  []string{uri("/u/:id/")},
			asks:    []ask{{"GET h/u/5/", "a"}, {"GET h/u/5", ""}},
		},
		"a named star takes the rest": {
			routers: params,
			routes:  []string{uri("/u/:id/*rest")},
			asks:    []ask{{"GET h/u/5/a/b", "a"}, {"GET h/u/5/", "a"}, {"GET h/u/5", ""}},
		},
		"segments are regular expression text to the router with parameters": {
			routers: params,
			routes:  []string{uri("/u/:id/v[0-9]+"), uri("/f/:id/a.c"), uri("/x/:id/a|/x/1/ab")},
			asks: []ask{
				{"GET h/u/x/v12", "a"},
				{"GET h/u/x/v", ""},
				{"GET h/u/x/v12/y", ""},
				{"GET h/f/1/abc", "b"},
				{"GET h/f/1/a\nc", ""},
				{"GET h/f/1/ac", ""},
				{"GET h/x/1/a", "c"},
				{"GET h/x/1/ab", ""},
			},
		},
		"a colon inside a segment ends the text that counts for the router with parameters": {
			routers: params,
			routes:  []string{uri("/foo:bar")},
			asks:    []ask{{"GET h/foo:bar", "a"}, {"GET h/food", "a"}, {"GET h/fo", ""}},
		},
		"a route may have several patterns": {
			routes: []string{routeDoc(`"uris":["/one","/two/*"]`)},
			asks:   []ask{{"GET h/one", "a"}, {"GET h/two/x", "a"}, {"GET h/three", ""}},
		},
		"an exact path beats every prefix whatever their priorities": {
			routes: []string{routeDoc(`"uri":"/a/*","priority":100`), uri("/a/b")},
			asks:   []ask{{"GET h/a/b", "b"}, {"GET h/a/c", "a"}},
		},
		"an exact path beats a parameter whatever their priorities": {
			routers: params,
			routes:  []string{routeDoc(`"uri":"/u/:id","priority":100`), uri("/u/me")},
			asks:    []ask{{"GET h/u/me", "b"}, {"GET h/u/5", "a"}},
		},
		"a parameter and a star after the same text are one list": {
			routers: params,
			routes:  []string{uri("/u/*"), uri("/u/:id"), routeDoc(`"uri":"/w/*","priority":1`), uri("/w/:id")},
			asks:    []ask{{"GET h/u/5", "b"}, {"GET h/u/5/6", "a"}, {"GET h/w/5", "c"}},
		},
		"a path that is not the whole pattern falls through to shorter prefixes": {
			routes: []string{uri("/*"), uri("/a/*/b")},
			asks:   []ask{{"GET h/a/x/b", "b"}, {"GET h/a/x/c", "a"}},
		},
		"a parameter that does not fit falls through to shorter prefixes": {
			routers: params,
			routes:  []string{uri("/*"), uri("/u/:id"), uri("/u/:id/x")},
			asks:    []ask{{"GET h/u/5", "b"}, {"GET h/u/5/x", "c"}, {"GET h/u/5/y", "a"}, {"GET h/u/", "a"}},
		},
		"each condition that fails leaves the request to the next of its list": {
			routes: []string{
				routeDoc(`"uri":"/fox","priority":4,"methods":["PUT"]`), routeDoc(`"uri":"/fox","priority":3,"remote_addr":"10.0.0.1"`),
				routeDoc(`"uri":"/fox","priority":2,"vars":[["arg_n","==","1"]]`), uri("/fox"),
			},
			asks: []ask{{"PUT h/fox?n=1 from 10.0.0.1", "a"}, {"GET h/fox?n=1 from 10.0.0.1", "b"}, {"GET h/fox?n=1", "c"}, {"GET h/fox", "d"}},
		},
		"the longest prefix goes first whatever the priorities": {
			routes: []string{routeDoc(`"uri":"/*","priority":100`), routeDoc(`"uri":"/a/*","priority":50`), uri("/a/b*")},
			asks:   []ask{{"GET h/a/bc", "c"}, {"GET h/a/c", "b"}, {"GET h/c", "a"}},
		},
		"a failing condition falls through to shorter prefixes": {
			routes: []string{uri("/*"), routeDoc(`"uri":"/a/b","methods":["POST"]`), routeDoc(`"uri":"/a/*","methods":["PUT"]`)},
			asks:   []ask{{"GET h/a/b", "a"}, {"POST h/a/b", "b"}, {"PUT h/a/b", "c"}},
		},
		"the higher priority goes first among equal paths": {
			routes: []string{routeDoc(`"uri":"/fox","priority":1`), routeDoc(`"uri":"/fox","priority":5`), uri("/fox")},
			asks:   []ask{{"GET h/fox", "b"}},
		},
		"the longer pattern goes first at equal priority": {
			routes: []string{uri("/a/*"), uri("/a/*/b")},
			asks:   []ask{{"GET h/a/x/b", "b"}, {"GET h/a/x/c", "a"}},
		},
		"priority goes before the length of the pattern": {
			routes: []string{routeDoc(`"uri":"/a/*","priority":1`), uri("/a/*/b")},
			asks:   []ask{{"GET h/a/x/b", "a"}},
		},
		"the route created first goes first when all else is equal": {
			routes: []string{uri("/fox"), uri("/fox")},
			asks:   []ask{{"GET h/fox", "a"}},
		},
		"a switched off route is invisible": {
			routes: []string{routeDoc(`"uri":"/fox","status":0`), routeDoc(`"uri":"/fox","status":1`)},
			asks:   []ask{{"GET h/fox", "b"}},
		},
		"methods limit the route, and HEAD is not GET": {
			routes: []string{routeDoc(`"uri":"/fox","methods":["GET","DELETE"]`)},
			asks: []ask{
				{"GET h/fox", "a"}, {"DELETE h/fox", "a"}, {"POST h/fox", ""}, {"HEAD h/fox", ""}, {"OPTIONS h/fox", ""}, {"BREW h/fox", ""},
			},
		},
		"every method in the table can be asked for": {
			routes: []string{routeDoc(`"uri":"/fox","methods":["PURGE","PATCH"]`), routeDoc(`"uri":"/fox","methods":["PUT","OPTIONS","TRACE","CONNECT","HEAD"]`)},
			asks:   []ask{{"PURGE h/fox", "a"}, {"PATCH h/fox", "a"}, {"TRACE h/fox", "b"}, {"HEAD h/fox", "b"}},
		},
		"no methods are all methods, unknown ones too": {
			routes: []string{uri("/fox")},
			asks:   []ask{{"BREW h/fox", "a"}},
		},
		"addresses and networks limit the route": {
			routes: []string{routeDoc(`"uri":"/fox","remote_addrs":["10.0.0.0/8","192.168.0.1","fd00::/8"]`)},
			asks: []ask{
				{"GET h/fox from 10.1.2.3", "a"},
				{"GET h/fox from 192.168.0.1", "a"},
				{"GET h/fox from 192.168.0.2", ""},
				{"GET h/fox from fd00::1", "a"},
				{"GET h/fox from ::ffff:10.1.2.3", "a"},
				{"GET h/fox from fe80::1", ""},
			},
		},
		"one address may be written as remote_addr": {
			routes: []string{routeDoc(`"uri":"/fox","remote_addr":"127.0.0.1"`)},
			asks:   []ask{{"GET h/fox", "a"}, {"GET h/fox from 10.0.0.1", ""}},
		},
		"a host is compared without case, port and final dot": {
			routes: []string{routeDoc(`"uri":"/fox","host":"Den.test"`)},
			asks: []ask{
				{"GET den.test/fox", "a"},
				{"GET DEN.test/fox", "a"},
				{"GET den.test:8080/fox", "a"},
				{"GET den.test./fox", "a"},
				{"GET other.test/fox", ""},
				{"GET a.den.test/fox", ""},
				{"GET /fox", ""},
			},
		},
		"star dot is any depth below, not the domain itself": {
			routes: []string{routeDoc(`"uri":"/fox","host":"*.foo.com"`)},
			asks:   []ask{{"GET a.foo.com/fox", "a"}, {"GET a.b.foo.com/fox", "a"}, {"GET foo.com/fox", ""}, {"GET xfoo.com/fox", ""}},
		},
		"a wildcard host is compared without case and port": {
			routes: []string{routeDoc(`"uri":"/fox","host":"*.Foo.COM"`)},
			asks:   []ask{{"GET A.foo.com/fox", "a"}, {"GET a.FOO.com:8080/fox", "a"}, {"GET foo.com/fox", ""}},
		},
		"a star before text is any suffix": {
			routes: []string{routeDoc(`"uri":"/fox","host":"*den.test"`)},
			asks:   []ask{{"GET den.test/fox", "a"}, {"GET aden.test/fox", "a"}, {"GET a.den.test/fox", "a"}, {"GET x.test/fox", ""}},
		},
		"a single star is any host": {
			routes: []string{routeDoc(`"uri":"/fox","host":"*"`)},
			asks:   []ask{{"GET den.test/fox", "a"}, {"GET x/fox", "a"}, {"GET /fox", "a"}},
		},
		"a route may have several hosts": {
			routes: []string{routeDoc(`"uri":"/fox","hosts":["den.test","*.lair.test"]`)},
			asks:   []ask{{"GET den.test/fox", "a"}, {"GET x.lair.test/fox", "a"}, {"GET lair.test/fox", ""}},
		},
		"an address is a host too": {
			routes: []string{routeDoc(`"uri":"/fox","hosts":["127.0.0.1"]`)},
			asks:   []ask{{"GET 127.0.0.1/fox", "a"}, {"GET 127.0.0.1:9080/fox", "a"}},
		},
		"a host with a port is compared with the header as it came": {
			routers: uris,
			routes:  []string{routeDoc(`"uri":"/fox","host":"den.test:8080"`), routeDoc(`"uri":"/fox","host":"*.lair.test:8080"`)},
			asks:    []ask{{"GET den.test:8080/fox", "a"}, {"GET Den.Test:8080/fox", "a"}, {"GET den.test/fox", ""}, {"GET x.lair.test:8080/fox", "b"}},
		},
		"a host outranks priority and path": {
			routers: hosts,
			routes: []string{
				routeDoc(`"uri":"/fox","priority":100`), routeDoc(`"uri":"/fox","host":"*.den.test","priority":9`), routeDoc(`"uri":"/*","host":"a.den.test"`),
			},
			asks: []ask{{"GET a.den.test/fox", "c"}, {"GET b.den.test/fox", "b"}, {"GET x/fox", "a"}},
		},
		"the longest wildcard host goes first": {
			routers: hosts,
			routes:  []string{routeDoc(`"uri":"/fox","host":"*.test"`), routeDoc(`"uri":"/fox","host":"*.den.test"`), routeDoc(`"uri":"/fox","host":"*"`)},
			asks:    []ask{{"GET x.den.test/fox", "b"}, {"GET x.test/fox", "a"}, {"GET x/fox", "c"}},
		},
		"a host without a matching path falls through to wildcards and then to routes without hosts": {
			routes: []string{
				routeDoc(`"uri":"/only","host":"a.den.test"`), routeDoc(`"uri":"/wild","host":"*.den.test"`), routeDoc(`"uri":"/any","host":"*"`), uri("/none"),
			},
			asks: []ask{
				{"GET a.den.test/only", "a"},
				{"GET a.den.test/wild", "b"},
				{"GET a.den.test/any", "c"},
				{"GET a.den.test/none", "d"},
				{"GET x.test/only", ""},
				{"GET x.test/wild", ""},
			},
		},
		"hosts are only a condition to routers over paths": {
			routers: uris,
			routes:  []string{routeDoc(`"uri":"/fox","priority":1`), routeDoc(`"uri":"/fox","host":"den.test"`), routeDoc(`"uri":"/*","host":"lair.test","priority":9`)},
			asks:    []ask{{"GET den.test/fox", "a"}, {"GET lair.test/fox", "a"}, {"GET lair.test/x", "c"}},
		},
		"an empty store matches nothing": {
			asks: []ask{{"GET h/nothing", ""}, {"HEAD h/", ""}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			which := tt.routers
			if which == nil {
				which = routers
			}
			for _, router := range which {
				w, f := newWorld(), follow(t, testEnv(router))
				for i, doc := range tt.routes {
					w.put("routes/"+string(rune('a'+i)), doc)
				}
				f.apply(w.reset())
				if r := f.snap.Rejected(); len(r) > 0 {
					t.Fatalf("%s: got rejected %v, want none", router, r)
				}
				for _, a := range tt.asks {
					if got := idOf(f.ask(a.request)); got != a.want {
						t.Errorf("%s: %q got route %q, want %q", router, a.request, got, a.want)
					}
				}
			}
		})
	}
}

func TestVarsDecideLast(t *testing.T) {
	tests := map[string]struct {
		vars string
		asks []ask
	}{
		"no conditions are always true":      {`[]`, []ask{{"GET h/fox", "a"}}},
		"a condition on an argument":         {`[["arg_n","==","7"]]`, []ask{{"GET h/fox?n=7", "a"}, {"GET h/fox?n=8", "b"}, {"GET h/fox", "b"}}},
		"several conditions must all hold":   {`[["arg_n",">",3],["arg_m","==","x"]]`, []ask{{"GET h/fox?n=7&m=x", "a"}, {"GET h/fox?n=7", "b"}}},
		"logic may be asked for":             {`["OR",["arg_a","==","1"],["arg_b","==","2"]]`, []ask{{"GET h/fox?b=2", "a"}, {"GET h/fox?a=2", "b"}}},
		"the path and method are variables":  {`[["uri","==","/fox"],["request_method","==","GET"]]`, []ask{{"GET h/fox", "a"}, {"PUT h/fox", "b"}}},
		"an address can be held to networks": {`[["remote_addr","ipmatch",["10.0.0.0/8"]]]`, []ask{{"GET h/fox from 10.0.0.1", "a"}, {"GET h/fox", "b"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, router := range routers {
				w, f := newWorld(), follow(t, testEnv(router))
				w.put("routes/a", routeDoc(`"uri":"/fox","priority":1,"vars":`+tt.vars))
				w.put("routes/b", uri("/fox"))
				f.apply(w.reset())
				for _, a := range tt.asks {
					if got := idOf(f.ask(a.request)); got != a.want {
						t.Errorf("%s: %q got route %q, want %q", router, a.request, got, a.want)
					}
				}
			}
		})
	}
}

func TestParameters(t *testing.T) {
	tests := map[string]struct {
		pattern, request string
		want             []exchange.Param
	}{
		"a segment":               {"/u/:id", "GET h/u/5", []exchange.Param{{Name: "id", Value: "5"}}},
		"a segment and the rest":  {"/u/:id/*rest", "GET h/u/5/a/b", []exchange.Param{{Name: "id", Value: "5"}, {Name: "rest", Value: "a/b"}}},
		"an empty rest":           {"/u/:id/*rest", "GET h/u/5/", []exchange.Param{{Name: "id", Value: "5"}, {Name: "rest", Value: ""}}},
		"a star without a name":   {"/f/*", "GET h/f/a/b", []exchange.Param{{Name: ":ext", Value: "a/b"}}},
		"a star between segments": {"/f/*mid/:last", "GET h/f/a/b/c", []exchange.Param{{Name: "mid", Value: "a/b"}, {Name: "last", Value: "c"}}},
		"a regular expression":    {"/u/:id/v([0-9]+)/:n", "GET h/u/1/v12/x", []exchange.Param{{Name: "id", Value: "1"}, {Name: "n", Value: "x"}}},
		"several stars": {
			"/a/*one/b/*two", "GET h/a/1/b/2/b/3",
			[]exchange.Param{{Name: "one", Value: "1/b/2"}, {Name: "two", Value: "3"}},
		},
		"a route without parameters sets none": {"/plain", "GET h/plain", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, f := newWorld(), follow(t, testEnv(URIWithParam))
			w.put("routes/a", uri(tt.pattern))
			// A candidate that fails after it captured something leaves no trace.
			w.put("routes/b", routeDoc(`"uri":"/f/:wrong/x/*mid","priority":7`))
			f.apply(w.reset())
			x := exchangeOf(tt.request)
			r := f.snap.Match(x)
			if idOf(r) != "a" {
				t.Fatalf("got route %q, want a", idOf(r))
			}
			if diff := cmp.Diff(tt.want, x.Facts.Params); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMatchTellsPatternAndHostAsConfigured(t *testing.T) {
	for _, router := range routers {
		w, f := newWorld(), follow(t, testEnv(router))
		w.put("routes/a", routeDoc(`"uris":["/one","/two/*"],"hosts":["den.test","*.lair.test"]`))
		f.apply(w.reset())
		for request, want := range map[string][2]string{
			"GET den.test/one":      {"/one", "den.test"},
			"GET x.lair.test/two/3": {"/two/*", "*.lair.test"},
		} {
			r := f.ask(request)
			if r == nil || r.Pattern != want[0] || r.Host != want[1] {
				t.Errorf("%s: %q got %+v, want pattern and host %v", router, request, r, want)
			}
		}
	}
}

func TestABadRegularExpressionRejectsItsRouteAlone(t *testing.T) {
	w, f := newWorld(), follow(t, testEnv(URIWithParam))
	w.put("routes/a", uri("/u/:id/(x"))
	w.put("routes/b", uri("/u/:id"))
	f.apply(w.reset())
	if got := idOf(f.ask("GET h/u/1")); got != "b" {
		t.Errorf("got route %q, want b", got)
	}
	if r := f.snap.Rejected(); len(r) != 1 || r[0].Key != "/apisix/routes/a" || r[0].InForce != 0 {
		t.Errorf("got rejected %+v, want routes/a alone", r)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for _, router := range routers {
		w, f := newWorld(), follow(t, testEnv(router))
		for i := range 100 {
			w.put(fmt.Sprintf("routes/h%d", i), routeDoc(fmt.Sprintf(`"uri":"/p%d/*","host":"h%d.test","methods":["GET"],"remote_addrs":["127.0.0.0/8"]`, i, i)))
		}
		w.put("routes/mid", routeDoc(`"uri":"/mid/*/tail","host":"*.wild.test"`))
		w.put("routes/any", uri("/*"))
		f.apply(w.reset())
		for request, want := range map[string]string{
			"GET h7.test:9080/p7/x": "h7", "GET a.wild.test/mid/x/tail": "mid", "GET nowhere/": "any",
		} {
			x := exchangeOf(request)
			if got := idOf(f.snap.Match(x)); got != want {
				t.Errorf("%s: %q got %q, want %q", router, request, got, want)
			}
			// With parameters there is room for what is captured after the first match.
			if n := testing.AllocsPerRun(100, func() { f.snap.Match(x) }); n != 0 {
				t.Errorf("%s: %q got %v allocations, want none", router, request, n)
			}
		}
	}
}

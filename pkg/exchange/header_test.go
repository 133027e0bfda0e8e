package exchange_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/exchange"
)

func header(pairs ...string) *exchange.Header {
	h := new(exchange.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestHeaderChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(h *exchange.Header)
		want   []exchange.Field
	}{
		{"add appends", func(h *exchange.Header) { h.Add("a", "5") }, []exchange.Field{{"A", "1"}, {"B", "2"}, {"a", "3"}, {"C", "4"}, {"a", "5"}}},
		{"set keeps place and spelling of the first and drops the others", func(h *exchange.Header) { h.Set("a", "5") }, []exchange.Field{{"A", "5"}, {"B", "2"}, {"C", "4"}}},
		{"set appends what is new", func(h *exchange.Header) { h.Set("D", "5") }, []exchange.Field{{"A", "1"}, {"B", "2"}, {"a", "3"}, {"C", "4"}, {"D", "5"}}},
		{"del drops every spelling", func(h *exchange.Header) { h.Del("a") }, []exchange.Field{{"B", "2"}, {"C", "4"}}},
		{"del of what is not there changes nothing", func(h *exchange.Header) { h.Del("x") }, []exchange.Field{{"A", "1"}, {"B", "2"}, {"a", "3"}, {"C", "4"}}},
		{"del by a function", func(h *exchange.Header) {
			h.DelFunc(func(f exchange.Field) bool { return f.Value < "3" })
		}, []exchange.Field{{"a", "3"}, {"C", "4"}}},
		{"reset drops all", func(h *exchange.Header) { h.Reset() }, []exchange.Field{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := header("A", "1", "B", "2", "a", "3", "C", "4")
			tt.change(h)
			if diff := cmp.Diff(tt.want, h.Fields()); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if h.Len() != len(tt.want) {
				t.Errorf("Len: got %d, want %d", h.Len(), len(tt.want))
			}
		})
	}
}

func TestHeaderReads(t *testing.T) {
	h := header("A", "1", "B", "", "a", "3")
	for _, tt := range []struct {
		name        string
		get, joined string
		has         bool
		count       int
	}{
		{"a", "1", "1, 3", true, 2},
		{"A", "1", "1, 3", true, 2},
		{"b", "", "", true, 1},
		{"c", "", "", false, 0},
		{"", "", "", false, 0},
	} {
		if got := h.Get(tt.name); got != tt.get {
			t.Errorf("Get(%q): got %q, want %q", tt.name, got, tt.get)
		}
		if got := h.Joined(tt.name); got != tt.joined {
			t.Errorf("Joined(%q): got %q, want %q", tt.name, got, tt.joined)
		}
		if got := h.Has(tt.name); got != tt.has {
			t.Errorf("Has(%q): got %v, want %v", tt.name, got, tt.has)
		}
		if got := h.Count(tt.name); got != tt.count {
			t.Errorf("Count(%q): got %d, want %d", tt.name, got, tt.count)
		}
	}
}

func TestReadingAHeaderDoesNotAllocate(t *testing.T) {
	h := header("Host", "h", "User-Agent", "u", "Content-Type", "text/plain")
	if got := testing.AllocsPerRun(100, func() { h.Get("content-type"); h.Has("x"); h.Joined("host") }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

func TestHopByHop(t *testing.T) {
	for _, name := range []string{
		"TE", "te", "Upgrade", "Trailer", "Connection", "Keep-Alive", "proxy-connection", "Transfer-Encoding",
		"Proxy-Authenticate", "PROXY-AUTHORIZATION",
	} {
		if !exchange.HopByHop(name) {
			t.Errorf("%s is forwarded", name)
		}
	}
	for _, name := range []string{"", "Host", "Cookie", "Authorization", "Content-Type", "Content-Length", "X-Upgrade"} {
		if exchange.HopByHop(name) {
			t.Errorf("%s is not forwarded", name)
		}
	}
}

func TestNamedByConnection(t *testing.T) {
	h := header("connection", "close, X-One", "Connection", "\tx-two ,", "X-Other", "X-Three")
	for name, want := range map[string]bool{"x-one": true, "X-Two": true, "close": true, "X-Three": false, "X-On": false} {
		if got := h.NamedByConnection(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestEqualNameIgnoresCase(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"Host", "hOST", true},
		{"Host", "Hos", false},
		{"X-A", "X_A", false},
		{"", "", true},
	} {
		if got := exchange.EqualName(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

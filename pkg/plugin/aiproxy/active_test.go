package aiproxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/plugin/prometheus"
)

// active is what llm_active_connections says of each instance: "a=1 b=0".
func (r *rig) active() string {
	w := httptest.NewRecorder()
	r.metrics.Handler(prometheus.Sources{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, r.metrics.Path(), nil))
	var all []string
	for _, m := range regexp.MustCompile(`llm_active_connections\{[^}]*node="([^"]*)"[^}]*\} (-?\d+)`).FindAllStringSubmatch(w.Body.String(), -1) {
		all = append(all, m[1]+"="+m[2])
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestARequestUnderWayIsCountedAtTheInstanceThatIsAsked(t *testing.T) {
	tests := map[string]struct {
		second         func(w http.ResponseWriter, leave func())
		inA, inB, over string
	}{
		"the second answers": {
			func(w http.ResponseWriter, _ func()) { _, _ = io.WriteString(w, `{"choices":[]}`) }, "a=1", "a=0 b=1", "a=0 b=0",
		},
		"the second fails too": {func(w http.ResponseWriter, _ func()) { w.WriteHeader(500) }, "a=1", "a=0 b=1", "a=0 b=0"},
		"the second breaks off": {
			func(http.ResponseWriter, func()) { panic(http.ErrAbortHandler) }, "a=1", "a=0 b=1", "a=0 b=0",
		},
		"the client leaves": {func(_ http.ResponseWriter, leave func()) { leave() }, "a=1", "a=0 b=1", "a=0 b=0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			asked := make(chan string, 2)
			a := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked <- r.active()
				w.WriteHeader(500)
			}))
			b := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body) // or its end would not be seen
				asked <- r.active()
				if tt.second(w, leave); ctx.Err() != nil {
					<-q.Context().Done()
				}
			}))
			chain := r.route("ai-proxy-multi", multi("instances", `,"fallback_strategy":["http_5xx"]`, member("a", a, `,"priority":1`), member("b", b, "")), "prometheus", `{}`)
			r.ask(chain, request{body: hello, ctx: ctx})
			if inA, inB := <-asked, <-asked; inA != tt.inA || inB != tt.inB {
				t.Errorf("got %q and %q, want %q and %q", inA, inB, tt.inA, tt.inB)
			}
			if got := r.active(); got != tt.over {
				t.Errorf("at the end: %q, want %q", got, tt.over)
			}
		})
	}
}

func TestARequestUnderWayMovesToTheHedgedCallThatWon(t *testing.T) {
	r := newRig(t)
	wait := make(chan struct{})
	a := provider(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}))
	b := provider(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n")
		w.(http.Flusher).Flush()
		<-wait
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	chain := r.route("ai-proxy-multi", multi("instances", `,"hedge":{"after":20,"max_percent":100}`, member("a", a, `,"priority":1`), member("b", b, "")), "prometheus", `{}`)
	s := &sink{flushed: make(chan struct{})}
	var during string
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-s.flushed
		during = r.active()
		close(wait)
		for range s.flushed {
		}
	}()
	r.ask(chain, request{body: strings.Replace(hello, "{", `{"stream":true,`, 1), sink: s})
	close(s.flushed)
	<-done
	if during != "a=0 b=1" || r.active() != "a=0 b=0" {
		t.Errorf("got %q, at the end %q", during, r.active())
	}
}

package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
)

// An answer that is still on its way is in flight, and a request that left is not.
func TestLeastConnGoesWhereNothingIsInFlight(t *testing.T) {
	w := newWorld(t, nil)
	server := func(name string) string {
		return backend(t, func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(rw, name)
			if r.URL.Query().Get("wait") != "" {
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			}
		})
	}
	doc := strings.Replace(nodes(server("a"), server("b")), "roundrobin", "least_conn", 1)
	w.put("routes/1", `{"uri":"/*","upstream":`+doc+`}`)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/?wait=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := w.clients.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, body := w.do("GET", "/", ""); body == string(first) {
			t.Fatalf("a request goes to %q, whose answer to another is under way", body)
		}
	}
	leave()
	_ = res.Body.Close()
	timetest.Until(t, fmt.Sprintf("%q is asked after its request ended", first), func() bool {
		_, body := w.do("GET", "/", "")
		return body == string(first)
	})
}

func TestEWMATakesTheServerThatAnswersFaster(t *testing.T) {
	w := newWorld(t, nil)
	fast := backend(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "fast") })
	timetest.Stretch(t, 100*time.Millisecond, func(slower time.Duration) error {
		slow := backend(t, func(rw http.ResponseWriter, _ *http.Request) {
			<-time.After(slower)
			_, _ = io.WriteString(rw, "slow")
		})
		doc := strings.Replace(nodes(slow, fast), "roundrobin", "ewma", 1)
		w.put("routes/1", `{"uri":"/*","upstream":`+doc+`}`)
		got := map[string]int{}
		for range 12 {
			_, body := w.do("GET", "/", "")
			got[body]++
		}
		if got["slow"] > 3 || got["fast"] < 9 {
			return fmt.Errorf("got %v, want nearly all from the fast one", got)
		}
		return nil
	})
}

// statused is a server that answers with a status, and says its name.
func statused(t *testing.T, name string) (string, *atomic.Int64) {
	status := &atomic.Int64{}
	status.Store(200)
	return backend(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(rw, name)
	}), status
}

func TestUnhealthyNodesAreNotAsked(t *testing.T) {
	w := newWorld(t, nil)
	a, statusA := statused(t, "a")
	b, _ := statused(t, "b")
	gone := refusing
	const passive = `{"unhealthy":{"http_statuses":[500],"http_failures":2,"tcp_failures":1},"healthy":{"successes":1}}`
	only := func(path, name string) bool {
		for range 8 {
			if res, body := w.do("GET", path, ""); body != name || res.StatusCode != 200 {
				return false
			}
		}
		return true
	}
	put := func(key, uri, nodes, checks string) {
		w.put(key, `{"uri":"`+uri+`","upstream":`+strings.Replace(nodes, `{`, `{"checks":`+checks+`,`, 1)+`}`)
	}
	t.Run("after answers", func(t *testing.T) {
		put("routes/1", "/answers", nodes(a, b), `{"active":{},"passive":`+passive+`}`)
		statusA.Store(500)
		for range 4 { // two each
			w.do("GET", "/answers", "")
		}
		if !only("/answers", "b") {
			t.Error("a is asked after two failures")
		}
		put("routes/1", "/answers", strings.Replace(nodes(a, b), `"nodes"`, `"retries":1,"nodes"`, 1), `{"active":{},"passive":`+passive+`}`)
		if !only("/answers", "b") {
			t.Error("a is asked after a change of something else")
		}
		statusA.Store(200)
	})
	t.Run("after a failed connection", func(t *testing.T) {
		put("routes/2", "/refused", nodes(gone, b), `{"active":{},"passive":`+passive+`}`)
		w.do("GET", "/refused", "")
		w.do("GET", "/refused", "")
		if !only("/refused", "b") {
			t.Error("not only b answers")
		}
		w.do("GET", "/nowhere", "")
		w.logs("/nowhere")
		w.logs("502, 200")
		if strings.Count(w.lines.String(), "502, 200") != 1 {
			t.Errorf("the one that refuses is asked again: %s", w.lines)
		}
	})
	t.Run("after probes", func(t *testing.T) {
		put("routes/3", "/probed", nodes(gone, b),
			`{"active":{"type":"tcp","healthy":{"interval":1},"unhealthy":{"interval":1,"tcp_failures":1}}}`)
		r := w.syncer.Router()
		timetest.Until(t, "a probe fails", func() bool {
			w.do("GET", "/probed", "")
			x := &exchange.Exchange{}
			x.Request.Method, x.Request.Path = "GET", "/probed"
			return r.Snapshot().Match(x).Upstream.Down().Len() == 1
		})
		if !only("/probed", "b") {
			t.Error("not only b answers")
		}
	})
}

package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
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
	res, err := http.DefaultTransport.RoundTrip(req)
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
	for end := time.Now().Add(10 * time.Second); ; {
		if _, body := w.do("GET", "/", ""); body == string(first) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%q gets nothing after its request ended", first)
		}
	}
}

func TestEWMATakesTheServerThatAnswersFaster(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	defer close(release)
	slow := backend(t, func(rw http.ResponseWriter, r *http.Request) {
		select { // slower than the other by a timer that nothing is measured with
		case <-time.After(100 * time.Millisecond):
		case <-release:
		}
		_, _ = io.WriteString(rw, "slow")
	})
	fast := backend(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "fast") })
	doc := strings.Replace(nodes(slow, fast), "roundrobin", "ewma", 1)
	w.put("routes/1", `{"uri":"/*","upstream":`+doc+`}`)
	got := map[string]int{}
	for range 12 {
		_, body := w.do("GET", "/", "")
		got[body]++
	}
	if got["slow"] > 3 || got["fast"] < 9 {
		t.Errorf("got %v, want nearly all from the fast one", got)
	}
}

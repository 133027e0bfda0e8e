package gateway

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

// asking sends a request for a revision; seen is what the upstream got of it.
func (w *world) asking(ctx context.Context, values ...string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/x", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header["X-Gosix-Min-Revision"] = values
	res, err := w.clients.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func telling(t *testing.T) string {
	return backend(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "asked for "+strings.Join(r.Header.Values("X-Gosix-Min-Revision"), ","))
	})
}

// wholeWait is for how long a request waits at least before it is told that its revision is
// not in force.
const wholeWait = time.Second

func TestARequestGetsTheRevisionThatItAsksFor(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinRevision = true })
	up := telling(t)
	w.put("routes/1", `{"uri":"/x","upstream":`+nodes(up)+`}`)
	now := w.syncer.Router().Snapshot().Revision()
	most := "9223372036854775807"
	tests := map[string]struct {
		values []string
		status int
		body   string
	}{
		"none":             {nil, 200, "asked for "},
		"one in force":     {[]string{strconv.FormatInt(now, 10)}, 200, "asked for "},
		"zero":             {[]string{"0"}, 200, "asked for "},
		"one that is far":  {[]string{most}, 503, `{"error_msg":"revision ` + most + ` is not in force yet"}` + "\n"},
		"no number":        {[]string{"abc"}, 400, `{"error_msg":"invalid X-Gosix-Min-Revision: should be one revision, a whole number"}` + "\n"},
		"nothing":          {[]string{""}, 400, ""},
		"below zero":       {[]string{"-1"}, 400, ""},
		"with a sign":      {[]string{"+1"}, 400, ""},
		"beyond all":       {[]string{"9223372036854775808"}, 400, ""},
		"two of them":      {[]string{"1", "1"}, 400, ""},
		"a list":           {[]string{"1, 1"}, 400, ""},
		"a broken number":  {[]string{"1.0"}, 400, ""},
		"spaces around it": {[]string{" 1 "}, 200, ""}, // which HTTP takes away
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			res, body, err := w.asking(t.Context(), test.values...)
			if waited := time.Since(begin); test.status == 503 && waited < wholeWait {
				t.Errorf("it waited for %v, want %v", waited, wholeWait)
			}
			if err != nil || res.StatusCode != test.status || test.body != "" && body != test.body {
				t.Fatalf("got %v %v %q", res, err, body)
			}
			if again := res.Header.Get("Retry-After"); (again != "") != (test.status == 503) {
				t.Errorf("got Retry-After %q", again)
			}
		})
	}
}

// While the content of a store is held back, the revision in force is none of that store's.
func TestARevisionThatIsHeldBackIsNotInForce(t *testing.T) {
	const held = 3
	w := newWorld(t, func(o *Options) { o.MinRevision, o.Held = true, func() int64 { return held } })
	for range held {
		w.put("routes/1", `{"uri":"/x","upstream":`+nodes(telling(t))+`}`)
	}
	now := w.syncer.Router().Snapshot().Revision()
	if now <= held {
		t.Fatalf("revision %d is in force, want more than %d", now, held)
	}
	for want, status := range map[int64]int{held: 503, held - 1: 503, held + 1: 200, now: 200} {
		if res, body, err := w.asking(t.Context(), strconv.FormatInt(want, 10)); err != nil || res.StatusCode != status {
			t.Errorf("revision %d: got %v %v %q, want %d", want, res, err, body, status)
		}
	}
}

func TestARequestWaitsForItsRevision(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinRevision = true })
	up := telling(t)
	w.put("routes/other", `{"uri":"/other","upstream":`+nodes(up)+`}`)
	// On a busy machine the wait may be over before the change is applied.
	timetest.Until(t, "a request gets its revision before its wait is over", func() bool {
		before, now := w.gateway.Requests(), w.syncer.Router().Snapshot().Revision()
		type answer struct {
			status int
			after  time.Duration
		}
		got := make(chan answer, 1)
		go func() {
			begin := time.Now()
			res, _, err := w.asking(t.Context(), strconv.FormatInt(now+1, 10))
			if err != nil {
				t.Error(err)
				res = &http.Response{}
			}
			got <- answer{res.StatusCode, time.Since(begin)}
		}()
		timetest.Until(t, "the gateway is asked", func() bool { return w.gateway.Requests() > before })
		w.put("routes/1", `{"uri":"/x","upstream":`+nodes(up)+`}`)
		a := <-got
		if a.status != 200 && (a.status != 503 || a.after < wholeWait) {
			t.Fatalf("got %d after %v, want the route that is in force since that revision", a.status, a.after)
		}
		return a.after < wholeWait
	})
}

func TestAClientThatLeavesDoesNotWait(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinRevision = true })
	// On a busy machine the gateway may wait no longer before the client leaves.
	timetest.Until(t, "a request whose client leaves ends with that", func() bool {
		before := w.gateway.Requests()
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _, _ = w.asking(ctx, "1000")
		}()
		timetest.Until(t, "the gateway is asked", func() bool { return w.gateway.Requests() > before })
		leave()
		<-over
		w.logs("GET /x ")
		ended := strings.Contains(w.lines.String(), "GET /x 499 ")
		w.lines.Reset()
		return ended
	})
}

func TestTheHeaderMeansNothingUnlessItIsSwitchedOn(t *testing.T) {
	w := newWorld(t, nil)
	w.put("routes/1", `{"uri":"/x","upstream":`+nodes(telling(t))+`}`)
	if res, body, err := w.asking(t.Context(), "nonsense"); err != nil || res.StatusCode != 200 || body != "asked for nonsense" {
		t.Errorf("got %v %v %q", res, err, body)
	}
}

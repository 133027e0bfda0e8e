//go:build linux

package load

import (
	"io"
	"sync/atomic"
	"testing"
	"time"
)

func TestConnectionsAreHeld(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	stream := chunks + "9\r\ndata: 1\n\n\r\n"
	tests := map[string]struct {
		answer     func(n int64, w io.Writer) bool
		events     int
		hold       bool
		want, fail int
		alive      int
	}{
		"after their answers":                 {answer: func(_ int64, w io.Writer) bool { return say(w, plain) }, want: 20, alive: 20},
		"within their streams":                {answer: func(_ int64, w io.Writer) bool { say(w, stream); <-stop; return false }, events: 1, hold: true, want: 20, alive: 20},
		"after whole streams":                 {answer: func(_ int64, w io.Writer) bool { return say(w, stream+"0\r\n\r\n") }, events: 1, want: 20, alive: 20},
		"but for one that is refused":         {answer: func(n int64, w io.Writer) bool { return n != 7 && say(w, plain) }, want: 19, fail: 1, alive: 19},
		"but for one that is never answered":  {answer: func(n int64, w io.Writer) bool { return n == 7 || say(w, plain) }, want: 19, fail: 1, alive: 20},
		"but for one that says too much more": {answer: func(n int64, w io.Writer) bool { return say(w, plain+"more"[:4*b2i(n == 7)]) }, want: 19, fail: 1, alive: 19},
	}
	for name, tt := range tests {
		for _, atOnce := range []int{3, 20} {
			t.Run(name, func(t *testing.T) {
				var most, under atomic.Int64
				addr, requests := server(t, func(n int64, w io.Writer) bool {
					most.Store(max(most.Load(), under.Add(1)))
					defer under.Add(-1)
					return tt.answer(n, w)
				})
				patience := 10 * time.Second
				if tt.fail > 0 {
					patience = 3 * time.Second // all others have their answers by then
				}
				h, err := Open(Options{Addr: addr, Request: []byte(request), Connections: 20, Events: tt.events, Hold: tt.hold, Patience: patience}, atOnce)
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				if r := h.Answer; r.Requests != tt.want || r.Failed != tt.fail || requests.Load() != 20 {
					t.Errorf("%d are held, %d failed, %d were asked for: %s", r.Requests, r.Failed, requests.Load(), r.Why)
				}
				alive, err := h.Alive()
				if alive != tt.alive {
					t.Errorf("%d are alive, want %d: %v", alive, tt.alive, err)
				}
				if !tt.hold && most.Load() > int64(atOnce) {
					t.Errorf("%d at once, want at most %d", most.Load(), atOnce)
				}
			})
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

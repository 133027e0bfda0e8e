//go:build linux

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
)

const request = "POST /chat HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"

// server answers every request that it reads with what answer returns.
func server(t *testing.T, answer func(n int64, w io.Writer) (goOn bool)) (addr netip.AddrPort, requests *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	requests = &atomic.Int64{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if !answer(requests.Add(1), c) {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), requests
}

// drive runs an open loop, and counts the requests that took at least slow.
func drive(t *testing.T, o Options, slow time.Duration) (r Result, all, slower int) {
	t.Helper()
	d := newDriver(o)
	r, err := d.run()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range d.latency {
		if l >= slow {
			slower++
		}
	}
	return r, len(d.latency), slower
}

func say(w io.Writer, text string) bool {
	_, err := io.WriteString(w, text)
	return err == nil
}

const (
	plain  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func TestAClosedLoopCountsEveryAnswerOfTheWindow(t *testing.T) {
	addr, requests := server(t, func(_ int64, w io.Writer) bool { return say(w, plain) })
	var r Result
	timetest.Until(t, "an answer comes in the window", func() (ok bool) {
		requests.Store(0)
		marks := 0
		var err error
		r, err = Run(Options{
			Addr: addr, Request: []byte(request), Connections: 4, Window: 100 * time.Millisecond, PID: os.Getpid(),
			Mark: func() error { marks++; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if marks != 2 {
			t.Errorf("the window was marked %d times", marks)
		}
		return r.Requests > 0 || r.Failed > 0
	})
	// Nothing was sent before the window but what the connections began with, and no more than
	// one request for each connection is without its answer at the end.
	sent := int(requests.Load())
	if r.Failed != 0 || r.Requests > sent || r.Requests < sent-4-4 {
		t.Errorf("%d answers and %d failures of %d requests: %s", r.Requests, r.Failed, sent, r.Why)
	}
	if r.CPU <= 0 || r.Wall < 100*time.Millisecond {
		t.Errorf("processor %v, wall %v", r.CPU, r.Wall)
	}
}

// A server that stands still once is not excused: those who had to be sent meanwhile waited from
// when they should have been.
func TestAnOpenLoopCountsFromWhenARequestShouldHaveBeenSent(t *testing.T) {
	const still = 300 * time.Millisecond
	addr, _ := server(t, func(n int64, w io.Writer) bool {
		if n == 20 {
			time.Sleep(still)
		}
		return say(w, plain)
	})
	r, _, slower := drive(t, Options{Addr: addr, Request: []byte(request), Connections: 1, Rate: 200, Window: 600 * time.Millisecond}, still/3)
	if r.Failed != 0 || len(r.Why) > 0 {
		t.Errorf("%d failures: %s", r.Failed, r.Why)
	}
	// 60 of the 120 requests are due in that time; without the waiting of those, one is slow.
	if got := time.Duration(r.Latency.Max) * time.Microsecond; got < still {
		t.Errorf("the slowest took %v, want at least %v", got, still)
	}
	if slower < 10 {
		t.Errorf("%d requests took long, want about 40", slower)
	}
}

func TestAnOpenLoopSendsAtItsRate(t *testing.T) {
	addr, requests := server(t, func(_ int64, w io.Writer) bool { return say(w, plain) })
	r, all, _ := drive(t, Options{Addr: addr, Request: []byte(request), Connections: 8, Rate: 500, Window: 200 * time.Millisecond}, 0)
	if n := requests.Load(); n != 100 || all != 100 || r.Failed != 0 {
		t.Errorf("%d requests and %d times, want 100; %d failures: %s", n, all, r.Failed, r.Why)
	}
}

func TestWhatIsNotAnsweredFails(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	addr, _ := server(t, func(int64, io.Writer) bool { <-stop; return false })
	r, err := Run(Options{Addr: addr, Request: []byte(request), Connections: 1, Rate: 100, Window: 50 * time.Millisecond, Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 0 || r.Failed != 5 || r.Why != "no answer" {
		t.Errorf("got %d answers, %d failures: %s", r.Requests, r.Failed, r.Why)
	}
}

func TestWrongAnswersAreNotCounted(t *testing.T) {
	tests := map[string]struct{ answer, why string }{
		"a status":                  {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "status 502"},
		"an answer that is cut":     {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "ended within an answer"},
		"no HTTP":                   {"hello\r\n\r\n", "no line of a status"},
		"bytes behind the answer":   {plain + "more", "4 bytes behind"},
		"a chunk longer than it is": {chunks + "2\r\n{}}\r\n0\r\n\r\n", "a chunk longer"},
		"a stream with too little":  {chunks + "9\r\ndata: 1\n\n\r\n0\r\n\r\n", "1 events, want 2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			addr, _ := server(t, func(_ int64, w io.Writer) bool { _ = say(w, tt.answer); return false })
			events := 0
			if strings.Contains(tt.why, "events") {
				events = 2
			}
			r, err := Run(Options{Addr: addr, Request: []byte(request), Connections: 1, Rate: 100, Window: 30 * time.Millisecond, Events: events})
			if err != nil {
				t.Fatal(err)
			}
			if r.Requests != 0 || r.Failed == 0 || !strings.Contains(r.Why, tt.why) {
				t.Errorf("%d answers, %d failures: %q, want %q", r.Requests, r.Failed, r.Why, tt.why)
			}
		})
	}
}

func TestAConnectionThatTheServerClosesIsOpenedAgain(t *testing.T) {
	for name, answer := range map[string]string{
		"it says so":                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
		"its end is the answer's":   "HTTP/1.1 200 OK\r\n\r\n{}",
		"it says so, and in chunks": "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr, requests := server(t, func(_ int64, w io.Writer) bool { _ = say(w, answer); return false })
			timetest.Until(t, "a connection is opened again in the window", func() bool {
				r, err := Run(Options{Addr: addr, Request: []byte(request), Connections: 2, Window: 50 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d answers of %d requests, %d connections", r.Requests, requests.Load(), r.Dialed)
				if r.Failed != 0 || int(requests.Load()) < r.Requests {
					t.Fatalf("%d failures: %s", r.Failed, r.Why)
				}
				return r.Requests >= 2 && r.Dialed >= 2
			})
		})
	}
}

// A process that stands still for as long as the server pauses cannot tell events apart: one
// try in which it did not is enough.
func TestTimesOfAStreamAreTakenEventByEvent(t *testing.T) {
	const pause = 40 * time.Millisecond
	event := func(w io.Writer, n int) { say(w, fmt.Sprintf("%x\r\n%s\r\n", 9*n, strings.Repeat("data: 1\n\n", n))) }
	addr, _ := server(t, func(_ int64, w io.Writer) bool {
		say(w, chunks)
		time.Sleep(pause)
		event(w, 1)
		time.Sleep(2 * pause)
		event(w, 2)
		return say(w, "0\r\n\r\n")
	})
	micros := func(d time.Duration) float64 { return float64(d / time.Microsecond) }
	timetest.Until(t, "the times of a stream are those of its events", func() bool {
		r, err := Run(Options{Addr: addr, Request: []byte(request), Connections: 1, Rate: 20, Window: 10 * time.Millisecond, Events: 3})
		if err != nil {
			t.Fatal(err)
		}
		if r.Failed != 0 || r.First.P50 < micros(pause) || r.Gap.P50 > r.Gap.Max || r.Latency.Max < micros(3*pause) {
			t.Fatalf("got %+v", r)
		}
		t.Logf("got %+v", r)
		return r.First.P50 < micros(2*pause) && r.Gap.Max >= micros(2*pause) && r.Joined == 0.5
	})
}

// An answer is the same in whatever parts it is read.
func TestAnswersAreReadInEveryPart(t *testing.T) {
	tests := map[string]struct {
		text   string
		events int
	}{
		"a length":              {"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\ndata: a\n\nbcd", 1},
		"no body":               {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0},
		"chunks":                {chunks + "b;x=y\r\ndata: a\n\nda\r\n7\r\nta: b\n\n\r\n0\r\nT: v\r\n\r\n", 2},
		"an event in two":       {chunks + "8\r\ndata: a\n\r\n1\r\n\n\r\n0\r\n\r\n", 1},
		"an odd number of ends": {chunks + "a\r\ndata: a\n\n\n\r\n1\r\n\n\r\n0\r\n\r\n", 2},
		"after a 100":           {"HTTP/1.1 100 Continue\r\n\r\n" + plain, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= len(tt.text); size++ {
				var a answer
				for i := 0; i < len(tt.text); i += size {
					part := tt.text[i:min(i+size, len(tt.text))]
					over, err := a.feed([]byte(part))
					if err != nil {
						t.Fatalf("in parts of %d: %v", size, err)
					}
					if last := i+size >= len(tt.text); over != last {
						t.Fatalf("in parts of %d, at %d: whole %v", size, i, over)
					}
				}
				if a.status != 200 || a.events != tt.events {
					t.Fatalf("in parts of %d: status %d, %d events, want %d", size, a.status, a.events, tt.events)
				}
			}
		})
	}
}

func TestTheSpreadOfTimes(t *testing.T) {
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i)*time.Microsecond)
	}
	if got := spread(times); got != (Spread{51, 100, 100}) {
		t.Errorf("got %+v", got)
	}
	if got := spread(nil); got != (Spread{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{plain, chunks + "9\r\ndata: a\n\n\r\n0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + plain, "HTTP/1.1 200 OK\r\n\r\nrest"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		var whole, parts answer
		over, err := whole.feed(text)
		for i := 0; i < len(text); i += size {
			o, e := parts.feed(text[i:min(i+size, len(text))])
			if e != nil {
				// What is behind an answer is only seen if it comes with it.
				if err == nil {
					t.Fatalf("in parts of %d: %v", size, e)
				}
				return
			}
			if o {
				if err == nil && !over {
					t.Fatalf("in parts of %d it is whole", size)
				}
				return
			}
		}
		if err == nil && (over || parts.events != whole.events || parts.status != whole.status) && len(text) > 0 {
			t.Fatalf("in parts of %d: %+v, want %+v, whole %v", size, parts, whole, over)
		}
	})
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Record is one request and what became of it.
type Record struct {
	ID      uint64
	At      time.Time // when it was sent
	Latency time.Duration
	Node    string
	Stream  bool
	Status  int    // 0: no head came
	Bytes   int    // of the body
	Ended   bool   // the body is the expected one, up to its last byte; of a stream: its terminator came and then its end
	Err     string // "" none
	refused bool   // nobody listened: nothing was sent
	unsent  bool   // it failed before a byte of it went out, and not for want of time
	// silent is for how long its connection had seen nothing when it was written, if it failed
	// without a byte of an answer; 0: it did not. What a server keeps is not silent.
	silent time.Duration
}

// Failed tells whether a client would complain.
func (r *Record) Failed() bool { return r.Err != "" || r.Status != http.StatusOK || !r.Ended }

func (r *Record) String() string {
	return fmt.Sprintf("request %d to %s: status %d, %d bytes, ended %v, %s %s", r.ID, r.Node, r.Status, r.Bytes, r.Ended, seconds(r.Latency), r.Err)
}

// Target is where requests are sent; Addr may begin with https://.
type Target struct{ Name, Addr string }

func (t Target) url(path string) string {
	if strings.HasPrefix(t.Addr, "https://") {
		return t.Addr + path
	}
	return "http://" + t.Addr + path
}

// Load sends requests at a steady rate, whether or not earlier ones were answered, and records
// every one of them: 7 of 10 are whole answers, 3 are streams of events.
type Load struct {
	client  *http.Client
	targets []Target
	stop    context.CancelFunc
	running sync.WaitGroup
	sent    atomic.Int64
	held    atomic.Int64 // times that the driver waited because too many were under way
	// silence is after which a node that ends closes a connection; 0: none does. What meets such
	// an end no server can help: it is sent again, and counted as late.
	silence time.Duration
	late    atomic.Int64
	ends    atomic.Int64 // odd: a node is being ended

	mu      sync.Mutex
	records []Record
}

// underWay is how many requests may be unanswered at once.
const underWay = 2000

// patience is how long the driver waits for a whole answer.
const patience = settling

// NewLoad returns a driver that sends nothing yet.
func NewLoad(targets ...Target) *Load {
	return &Load{targets: targets, client: newClient()}
}

// newClient never repeats a request by itself: what fails is seen.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConns: 0, MaxIdleConnsPerHost: 200, IdleConnTimeout: 50 * time.Second, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: settling / 2}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Start sends rate requests a second, drawn from seed.
func (l *Load) Start(rate int, seed uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	chance := rand.New(rand.NewPCG(seed, 1))
	l.running.Go(func() {
		slots := make(chan struct{}, underWay)
		next := time.Now()
		for id := uint64(1); ; id++ {
			next = next.Add(time.Second / time.Duration(rate))
			if wait := time.Until(next); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return
				}
			} else if wait < -time.Second {
				next = time.Now() // the machine slept; what was missed is not sent at once
			}
			select {
			case slots <- struct{}{}:
			default:
				l.held.Add(1)
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
			target, stream := l.targets[id%uint64(len(l.targets))], chance.IntN(10) >= 7
			l.running.Go(func() {
				defer func() { <-slots }()
				l.one(id, target, stream)
			})
		}
	})
}

// Stop ends the sending, waits for every answer, and returns all records in the order of ids.
func (l *Load) Stop() []Record {
	if l.stop == nil {
		return nil
	}
	l.stop()
	l.running.Wait()
	l.client.CloseIdleConnections()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.records, func(a, b Record) int { return int(a.ID) - int(b.ID) })
	return l.records
}

// Sent is the number of requests that were begun.
func (l *Load) Sent() int { return int(l.sent.Load()) }

const chatBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"request %d"}]}`

// one sends a request and records it, whatever happens.
func (l *Load) one(id uint64, t Target, stream bool) {
	l.sent.Add(1)
	var r Record
	at := time.Now() // of the first try: a client waits since then
	for range 10 {
		ends := l.ends.Load()
		r = Record{ID: id, At: at, Node: t.Name, Stream: stream}
		if stream {
			send(l.client, &r, t.url("/v1/chat/completions"), fmt.Sprintf(chatBody, id))
		} else {
			send(l.client, &r, t.url("/plain"), strconv.FormatUint(id, 10))
		}
		r.Latency = time.Since(at)
		if now := l.ends.Load(); now == ends && now%2 == 0 {
			break // no node was being ended meanwhile
		}
		if l.silence == 0 || r.silent < l.silence && (!r.unsent || r.refused) {
			break
		}
		l.late.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// send makes a POST and fills in what came of it.
func send(client *http.Client, r *Record, url, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wrote, heard atomic.Bool
	var idle, quiet atomic.Int64 // before it had a connection, and before it wrote on it
	begin := time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { idle.Store(int64(i.IdleTime)) },
		WroteHeaders:         func() { quiet.Store(int64(time.Since(begin))); wrote.Store(true) },
		GotFirstResponseByte: func() { heard.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		r.Err = err.Error()
		return
	}
	req.GetBody = nil // with it net/http sends a request again on a connection that was closed
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		r.Err, r.refused, r.unsent = err.Error(), errors.Is(err, syscall.ECONNREFUSED), !wrote.Load() && ctx.Err() == nil
		if wrote.Load() && !heard.Load() && ctx.Err() == nil {
			r.silent = time.Duration(idle.Load() + quiet.Load())
		}
		return
	}
	defer func() { _ = res.Body.Close() }()
	r.Status = res.StatusCode
	text, err := io.ReadAll(res.Body)
	r.Bytes = len(text)
	if err != nil {
		r.Err = err.Error()
		return
	}
	if r.Stream {
		r.Ended = terminated(text)
	} else {
		r.Ended = string(text) == "echo "+body
	}
	if !r.Ended || r.Status != http.StatusOK {
		r.Err = fmt.Sprintf("body %.120q", text)
	}
}

// terminated tells whether a stream of events ends with the terminator of its protocol, and
// holds no error event.
func terminated(text []byte) bool {
	return bytes.HasSuffix(bytes.TrimRight(text, "\r\n"), []byte("data: [DONE]")) && !bytes.Contains(text, []byte(`"error"`))
}

// Figures are what a number of records come to.
type Figures struct {
	Requests, Streams int
	Failed            []string
	P50, P99          time.Duration // of whole answers: a stream lasts as long as its provider speaks
}

// figures counts the records of requests that were sent between two times.
func figures(records []Record, from, to time.Time) (f Figures) {
	var latencies []time.Duration
	for i := range records {
		r := &records[i]
		if r.At.Before(from) || !r.At.Before(to) {
			continue
		}
		f.Requests++
		if r.Stream {
			f.Streams++
		} else {
			latencies = append(latencies, r.Latency)
		}
		if r.Failed() {
			f.Failed = append(f.Failed, r.String())
		}
	}
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		f.P50, f.P99 = latencies[n/2], latencies[n*99/100]
	}
	return f
}

// accounted finds requests that were begun and never recorded, or recorded twice.
func accounted(records []Record, sent int) error {
	seen := make(map[uint64]bool, len(records))
	for _, r := range records {
		if seen[r.ID] {
			return fmt.Errorf("request %d was recorded twice", r.ID)
		}
		seen[r.ID] = true
	}
	if len(records) != sent {
		return fmt.Errorf("%d requests were begun, %d recorded", sent, len(records))
	}
	return nil
}

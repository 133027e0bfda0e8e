package reply_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/drivers/reply"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

// talk is a provider that says one thing after the other, and a client that listens.
type talk struct {
	t      *testing.T
	far    net.Conn
	client *gate
	leave  context.CancelFunc
	ended  chan end
	gone   chan struct{} // closed when the provider's connection is
}

// end is how an answer ended.
type end struct {
	begun bool
	out   drivers.Outcome
	err   error
}

func begin(t *testing.T, i *drivers.Instance) *talk {
	t.Helper()
	near, far := net.Pipe()
	ctx, leave := context.WithCancel(context.Background())
	k := &talk{t: t, far: far, client: &gate{flush: make(chan string)}, leave: leave, ended: make(chan end, 1), gone: make(chan struct{})}
	client := upstream.NewClient(upstream.Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return near, nil }})
	i.Driver = openai.Providers()["openai"]
	i.Target, i.Host = &upstream.Target{Addr: "a:1", NoKeepAlive: true}, "a"
	call := drivertest.NewCall(t, i, "/", hello)
	req, err := i.Driver.Request(call)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		res, err := client.Do(ctx, req)
		if err != nil {
			k.ended <- end{err: err}
			return
		}
		answer, err := reply.Begin(ctx, res, call)
		if err != nil {
			var broken *drivers.Broken
			if !errors.As(err, &broken) {
				panic(err)
			}
			k.ended <- end{out: broken.Outcome, err: err}
			return
		}
		defer answer.Close()
		x := &exchange.Exchange{}
		x.Reset(ctx, k.client)
		out, err := answer.Relay(&x.Response)
		k.ended <- end{true, out, err}
	}()
	asked := make(chan struct{})
	go func() {
		defer close(k.gone)
		once := sync.OnceFunc(func() { close(asked) })
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			if strings.HasSuffix(string(buf[:n]), "}") {
				once()
			}
		}
	}()
	k.wait(asked, "the request")
	t.Cleanup(func() {
		leave()
		_ = far.Close()
		client.Close()
	})
	return k
}

func (k *talk) wait(c <-chan struct{}, what string) {
	k.t.Helper()
	select {
	case <-c:
	case <-time.After(timetest.Patience):
		k.t.Fatalf("%s did not come", what)
	}
}

func (k *talk) say(text string) {
	k.t.Helper()
	if _, err := io.WriteString(k.far, text); err != nil {
		k.t.Fatal(err)
	}
}

// hear waits until the client gets something.
func (k *talk) hear() string {
	k.t.Helper()
	select {
	case got := <-k.client.flush:
		return got
	case <-time.After(timetest.Patience):
		k.t.Fatal("the client hears nothing")
	}
	return ""
}

func (k *talk) end() end {
	k.t.Helper()
	for {
		select {
		case e := <-k.ended:
			return e
		case <-k.client.flush:
		case <-time.After(timetest.Patience):
			k.t.Fatal("the answer does not end")
		}
	}
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	comment    = ": keep-alive\n\n"
	roleEvent  = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}],\"usage\":{\"prompt_tokens\":3}}\n\n"
	textEvent  = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
	cutEvent   = `data: {"error":{"message":"upstream stream ended before it was complete","type":"upstream_error","param":null,"code":null}}` + "\n\n"
)

func TestAClientHearsCommentsUntilTheFirstToken(t *testing.T) {
	k := begin(t, &drivers.Instance{KeepAlive: time.Millisecond})
	k.say(streamHead)
	for range 3 {
		if got := k.hear(); got != comment {
			t.Fatalf("got %q", got)
		}
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.WriteString(k.far, textEvent)
	}()
	for {
		if got := k.hear(); got == textEvent {
			break
		} else if got != comment {
			t.Fatalf("got %q", got)
		}
	}
	<-said
	// From the first token on there are none, however long it takes.
	k.say("data: [DO")
	k.say("NE]\n\n")
	if got := k.hear(); got != "data: [DONE]\n\n" {
		t.Errorf("got %q", got)
	}
	_ = k.far.Close()
	if e := k.end(); e.err != nil || !e.out.Complete {
		t.Errorf("got %+v", e)
	}
}

func TestWhatWasHeldBackComesBeforeTheFirstComment(t *testing.T) {
	k := begin(t, &drivers.Instance{KeepAlive: time.Millisecond})
	k.say(streamHead + roleEvent)
	got := ""
	for !strings.HasSuffix(got, roleEvent+comment) {
		piece := k.hear()
		if got += piece; piece != comment && piece != roleEvent && piece != roleEvent+comment {
			t.Fatalf("got %q", got)
		}
	}
}

func TestAfterACommentThereIsNoWayBack(t *testing.T) {
	k := begin(t, &drivers.Instance{KeepAlive: time.Millisecond})
	k.say(streamHead)
	k.hear()
	_ = k.far.Close()
	last := ""
	for last != cutEvent {
		if last = k.hear(); last != comment && last != cutEvent {
			t.Fatalf("got %q", last)
		}
	}
	if e := k.end(); !e.begun || e.err == nil {
		t.Errorf("got %+v", e)
	}
}

// A client that leaves takes the provider's connection with it, whatever they wait for, and
// what is known of the usage by then stays known.
func TestAClientThatLeavesEndsTheProvidersAnswer(t *testing.T) {
	tests := map[string]struct {
		said     string
		heard    bool // the client had something
		instance drivers.Instance
		prompt   int64
	}{
		"before the head":                       {"", false, drivers.Instance{}, 0},
		"after the head of a stream":            {streamHead, false, drivers.Instance{}, 0},
		"after an announcement":                 {streamHead + roleEvent, false, drivers.Instance{}, 3},
		"after a token":                         {streamHead + roleEvent + textEvent, true, drivers.Instance{}, 3},
		"inside an event":                       {streamHead + roleEvent + textEvent + "data: {", true, drivers.Instance{}, 3},
		"between comments":                      {streamHead + roleEvent, true, drivers.Instance{KeepAlive: time.Millisecond}, 3},
		"while limits are watched":              {streamHead + roleEvent + textEvent, true, drivers.Instance{Limits: drivers.Limits{Duration: time.Minute}}, 3},
		"inside a whole answer":                 {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", false, drivers.Instance{}, 0},
		"inside a whole answer, long begun":     {"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + strings.Repeat("x", 1<<20), false, drivers.Instance{}, 0},
		"after the head of an answer in chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, drivers.Instance{}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := begin(t, &tt.instance)
			if tt.said != "" {
				k.say(tt.said)
			}
			if tt.heard {
				k.hear()
			}
			k.leave()
			e := k.end()
			if e.err == nil || e.out.Complete || e.out.Usage.Prompt != tt.prompt {
				t.Errorf("got %+v", e)
			}
			k.wait(k.gone, "the end of the provider's connection")
		})
	}
}

func TestASilentStreamEnds(t *testing.T) {
	read := func(limit time.Duration) drivers.Instance {
		return drivers.Instance{Timeouts: upstream.Timeouts{Read: limit}}
	}
	duration := func(limit time.Duration) drivers.Instance {
		return drivers.Instance{Limits: drivers.Limits{Duration: limit}}
	}
	for name, tt := range map[string]struct {
		limited   func(time.Duration) drivers.Instance
		limit     time.Duration
		keepAlive time.Duration
		said      string
		begun     bool
	}{
		"between tokens":               {read, time.Millisecond, 0, streamHead + textEvent, true},
		"before the first":             {read, time.Millisecond, 0, streamHead + roleEvent, false},
		"before the first, commented":  {read, 20 * time.Millisecond, time.Millisecond, streamHead, true},
		"its time is up, between":      {duration, 20 * time.Millisecond, time.Millisecond, streamHead, true},
		"its time is up before a word": {duration, time.Millisecond, 0, streamHead + roleEvent, false},
	} {
		t.Run(name, func(t *testing.T) {
			timetest.Stretch(t, tt.limit, func(limit time.Duration) error {
				i := tt.limited(limit)
				i.KeepAlive = tt.keepAlive
				k := begin(t, &i)
				k.say(tt.said)
				e := k.end()
				k.wait(k.gone, "the end of the provider's connection")
				if e.err == nil || e.begun != tt.begun {
					return fmt.Errorf("got %+v", e)
				}
				return nil
			})
		})
	}
}

// Bytes that never become an event are no sign of life where events are asked for.
func TestAStreamThatCompletesNoEventEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		said, drip string
		begun      bool
	}{
		"between tokens":            {streamHead + textEvent, "x", true},
		"before the first":          {streamHead + roleEvent, "x", false},
		"comments are no events":    {streamHead + textEvent, ": busy\n\n", true},
		"empty lines are no events": {streamHead + textEvent, "\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			timetest.Stretch(t, 100*time.Millisecond, func(limit time.Duration) error {
				k := begin(t, &drivers.Instance{Limits: drivers.Limits{Idle: limit}, Timeouts: upstream.Timeouts{Read: time.Minute}})
				k.say(tt.said)
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					tick := time.NewTicker(2 * time.Millisecond)
					defer tick.Stop()
					for range tick.C {
						select {
						case <-k.gone:
							return
						default:
						}
						if _, err := io.WriteString(k.far, tt.drip); err != nil {
							return
						}
					}
				}()
				e := k.end()
				k.wait(k.gone, "the end of the provider's connection")
				k.wait(dripped, "the last byte")
				if e.err == nil || !strings.Contains(e.err.Error(), "fell silent") || e.begun != tt.begun {
					return fmt.Errorf("got %+v", e)
				}
				return nil
			})
		})
	}
}

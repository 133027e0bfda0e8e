package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// listed is how many connections wait to be hooked.
func (h *hooks) listed() (n int) {
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		for k := s.young; k != nil; k = k.hook.next {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

func hooked(h *hooks) (k *conn, aborted chan struct{}) {
	k, aborted = &conn{}, make(chan struct{})
	h.adopt(k, func() { close(aborted) })
	return k, aborted
}

// quiet keeps the timer from firing: ticks are the test's.
func quiet() *hooks {
	h := &hooks{}
	h.armed.Store(true)
	return h
}

func TestWhatIsOverSoonIsNotHooked(t *testing.T) {
	h := quiet()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first, _ := hooked(h)
	for range shardCount - 1 {
		hooked(h)
	}
	second, _ := hooked(h) // of the same shard
	third, _ := hooked(h)
	for _, k := range []*conn{first, second, third} {
		h.add(k, ctx)
	}
	for _, k := range []*conn{second, first, third} {
		if k.hook.stop != nil {
			t.Error("hooked at once")
		}
		if !h.remove(k) {
			t.Error("the context ended")
		}
	}
	if n := h.listed(); n != 0 {
		t.Errorf("%d are listed, want none", n)
	}
	h.tick()
	h.tick()
	if first.hook.stop != nil {
		t.Error("hooked after it was over")
	}
}

func TestWhatLastsLongIsHooked(t *testing.T) {
	h := quiet()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	k, aborted := hooked(h)
	h.add(k, ctx)
	h.tick()
	h.armed.Store(true)
	h.tick()
	if h.listed() != 0 || k.hook.stop == nil {
		t.Fatal("not hooked after two ticks")
	}
	cancel()
	<-aborted
	if h.remove(k) {
		t.Error("the end of the context was not reported")
	}
}

func TestAContextThatEndsBeforeTheTickIsNoticedAtIt(t *testing.T) {
	h := &hooks{} // the timer fires
	ctx, cancel := context.WithCancel(context.Background())
	k, aborted := hooked(h)
	h.add(k, ctx)
	cancel()
	<-aborted
	if h.remove(k) {
		t.Error("the end of the context was not reported")
	}
}

func TestAContextWithoutAnEndIsNotHooked(t *testing.T) {
	h := quiet()
	k, _ := hooked(h)
	h.add(k, context.Background())
	h.tick()
	h.tick()
	if n := h.listed(); n != 0 || k.hook.stop != nil {
		t.Errorf("%d are listed, hooked %v", n, k.hook.stop != nil)
	}
	if !h.remove(k) {
		t.Error("the context ended")
	}
}

func TestAnExchangeMakesNoChannelForItsContext(t *testing.T) {
	target := serve(t, numbered())
	c := client(t, Options{})
	c.hooks.armed.Store(true) // the timer is not to ask
	ctx := &asked{Context: context.Background()}
	res, err := c.Do(ctx, get(target))
	if err != nil {
		t.Fatal(err)
	}
	before := ctx.n.Load() // by who dials
	_, _ = io.ReadAll(res)
	_ = res.Close()
	res, err = c.Do(ctx, get(target))
	if err != nil {
		t.Fatal(err)
	}
	if c.hooks.remove(res.conn); ctx.n.Load() != before {
		t.Error("the context was asked for its channel")
	}
	_ = res.Close()
}

// asked is a context that counts how often its channel was asked for.
type asked struct {
	context.Context
	n atomic.Int64
}

func (a *asked) Done() <-chan struct{} {
	a.n.Add(1)
	return a.Context.Done()
}

// A deadline of the context is as good as its end.
func TestAnExchangeEndsWithItsContext(t *testing.T) {
	target := serve(t, func(c net.Conn, r *bufio.Reader) {
		if _, _, ok := request(r); ok {
			_, _ = r.ReadByte() // the client leaves
		}
	})
	c := client(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Do(ctx, get(target))
	if e := failure(t, err); !e.Timeout || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("got %+v, want the deadline of the context", e)
	}
}

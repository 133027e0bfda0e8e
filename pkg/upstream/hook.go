package upstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// hookTick is how long an exchange lasts at least before it is hooked, and twice that at
// most.
const hookTick = 10 * time.Millisecond

// hooks break off exchanges whose context ends. To hook something on a context costs more
// than all else that this package does in user mode, and nearly every exchange is over
// before anybody leaves. So what begins is only listed, and hooked on its context when it
// lasts longer than a tick or two: that is also how late the end of a context may be noticed.
type hooks struct {
	shards [shardCount]hookShard
	armed  atomic.Bool // the timer will fire

	next  atomic.Uint32 // the shard of the next connection
	mu    sync.Mutex
	timer *time.Timer // nil until the first exchange
}

type hookShard struct {
	mu    sync.Mutex
	young *conn // what is listed, the last one first
	tick  uint
	_     [40]byte // shards are not to share a line of the cache
}

// hook is a connection's place among the hooks. Its shard's lock guards it.
type hook struct {
	ctx        context.Context // nil: not hooked, nor listed
	next, prev *conn
	tick       uint        // when it was listed
	stop       func() bool // unhooks it; nil: it is listed
	abort      func()      // cancel, bound once
	shard      *hookShard
}

// adopt gives a new connection its place. abort is called when the context of what it
// carries ends.
func (h *hooks) adopt(k *conn, abort func()) {
	k.hook.shard, k.hook.abort = &h.shards[h.next.Add(1)%shardCount], abort
}

// add breaks off what k does when ctx ends, until remove. It does not ask whether ctx can
// end: for that, many a context makes a channel that nobody else needs.
func (h *hooks) add(k *conn, ctx context.Context) {
	s := k.hook.shard
	s.mu.Lock()
	k.hook.ctx, k.hook.tick = ctx, s.tick
	k.hook.next, k.hook.prev = s.young, nil
	if s.young != nil {
		s.young.hook.prev = k
	}
	s.young = k
	s.mu.Unlock()
	h.arm()
}

// remove reports whether it came before the end of the context.
func (h *hooks) remove(k *conn) bool {
	s := k.hook.shard
	if s == nil {
		return true
	}
	s.mu.Lock()
	stop := k.hook.stop
	if k.hook.ctx != nil && stop == nil {
		s.unlink(k)
	}
	k.hook.ctx, k.hook.stop = nil, nil
	s.mu.Unlock()
	return stop == nil || stop()
}

func (s *hookShard) unlink(k *conn) {
	if k.hook.prev != nil {
		k.hook.prev.hook.next = k.hook.next
	} else {
		s.young = k.hook.next
	}
	if k.hook.next != nil {
		k.hook.next.hook.prev = k.hook.prev
	}
	k.hook.next, k.hook.prev = nil, nil
}

// arm starts the timer of the next tick, unless it runs.
func (h *hooks) arm() {
	if h.armed.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.armed.Load() {
		return
	}
	h.armed.Store(true)
	if h.timer == nil {
		h.timer = time.AfterFunc(hookTick, h.tick)
	} else {
		h.timer.Reset(hookTick)
	}
}

// tick hooks what was listed before the last tick.
func (h *hooks) tick() {
	// Before looking: what is listed behind our back starts the timer again.
	h.armed.Store(false)
	left := false
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		s.tick++
		for k := s.young; k != nil; {
			next := k.hook.next
			if k.hook.tick+1 < s.tick {
				s.unlink(k)
				if k.hook.ctx.Done() != nil {
					k.hook.stop = context.AfterFunc(k.hook.ctx, k.hook.abort)
				} else {
					k.hook.ctx = nil
				}
			}
			k = next
		}
		left = left || s.young != nil
		s.mu.Unlock()
	}
	if left {
		h.arm()
	}
}

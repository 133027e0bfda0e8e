package exchange

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Context is that of one exchange, for engines that do not get one from elsewhere. It ends
// once, by Cancel. It costs a small allocation at the most and has no goroutine; it is never
// used again for another exchange, since whoever works for this one may hold it for longer. It is safe
// for concurrent use.
type Context struct {
	values Values
	ended  atomic.Bool // err is there; nearly always it is not, and asked for

	mu    sync.Mutex
	err   error
	done  chan struct{} // nil until somebody asks for it
	first watcher       // nearly always there is one at the most
	more  []watcher
	last  uint64 // number of the newest watcher
}

type watcher struct {
	f  func() // nil: nobody
	id uint64
}

// Values are what the context of an exchange knows of its connection.
type Values interface{ Value(key any) any }

// NewContext returns a context that has not ended. values may be nil.
func NewContext(values Values) *Context { return &Context{values: values} }

// Contexts makes contexts of which a few lie together, so that memory is taken for all of them at
// once and stays until none is held any more. The first is by itself: who makes one alone, as a
// stream that lasts, has no more than that. The zero value is ready; it is for one goroutine at a
// time.
type Contexts struct {
	left  []Context
	begun bool
}

// New returns a context as NewContext does.
func (c *Contexts) New(values Values) *Context {
	if !c.begun {
		c.begun = true
		return NewContext(values)
	}
	const together = 4 // more would be an object of another kind to the collector
	if len(c.left) == 0 {
		c.left = make([]Context, together)
	}
	one := &c.left[0]
	c.left = c.left[1:]
	one.values = values
	return one
}

// Cancel ends the context for a reason: context.Canceled, or another that is one too, as
// ErrEnding. The first reason counts.
func (c *Context) Cancel(reason error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = reason
	c.ended.Store(true)
	if c.done != nil {
		close(c.done)
	}
	first, more := c.first.f, c.more
	c.first, c.more = watcher{}, nil
	c.mu.Unlock()
	if first != nil {
		go first()
	}
	for i := range more {
		go more[i].f()
	}
}

// Err implements context.Context. Unlike that of other contexts it tells the cause.
func (c *Context) Err() error {
	if !c.ended.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Deadline implements context.Context: there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if c.values == nil {
		return nil
	}
	return c.values.Value(key)
}

// AfterFunc is what package context looks for: contexts made of this one take no goroutine.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	id := c.watch(f)
	return func() bool { return c.forget(id) }
}

// watch has f called in a goroutine of its own once the context has ended. 0: it has.
func (c *Context) watch(f func()) (id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return 0
	}
	c.last++
	if c.first.f == nil {
		c.first = watcher{f, c.last}
	} else {
		c.more = append(c.more, watcher{f, c.last})
	}
	return c.last
}

func (c *Context) forget(id uint64) bool {
	if id == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first.id == id {
		c.first = watcher{}
		return true
	}
	for i := range c.more {
		if c.more[i].id == id {
			last := len(c.more) - 1
			c.more[i], c.more[last] = c.more[last], watcher{}
			c.more = c.more[:last]
			return true
		}
	}
	return false
}

// Ends reports whether ctx may end: whether its Done is not nil. Of a Context that is known
// without a channel.
func Ends(ctx context.Context) bool {
	if _, ok := ctx.(*Context); ok {
		return true
	}
	return ctx.Done() != nil
}

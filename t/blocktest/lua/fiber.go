package lua

import (
	"context"
	"errors"
	"sync"

	glua "github.com/yuin/gopher-lua"
)

// A fiber is one thread of Lua with a goroutine of its own: a request's entry, a light
// thread or a coroutine. It is its state's context, which is how functions find it.
type fiber struct {
	context.Context
	cancel context.CancelFunc
	req    *request
	state  *glua.LState

	// What follows belongs to the holder of the baton.
	status  string // as coroutine.status says it
	ok      bool   // it ended without an error
	results []glua.LValue
	err     error
	waiters []chan *fiber
	waited  bool // its end was taken by thread.wait

	pause  chan struct{} // closed when a light thread first waits
	paused sync.Once

	// Of coroutines. The baton passes with what is sent.
	body    *glua.LFunction
	started bool
	parent  *fiber
	resume  chan []glua.LValue
	yield   chan []glua.LValue // cap 1
	orphan  bool               // nobody waits for its next yield
}

func fiberOf(L *glua.LState) *fiber { return L.Context().(*fiber) }

func (r *request) newFiber(ctx context.Context) *fiber {
	fb := &fiber{req: r, status: "running", pause: make(chan struct{})}
	fb.Context, fb.cancel = context.WithCancel(ctx)
	fb.state, _ = r.rt.state.NewThread()
	fb.state.SetContext(fb)
	return fb
}

// call runs fn to its end, with the baton.
func (fb *fiber) call(fn *glua.LFunction, args []glua.LValue) ([]glua.LValue, error) {
	L := fb.state
	top := L.GetTop()
	err := L.CallByParam(glua.P{Fn: fn, NRet: glua.MultRet, Protect: true}, args...)
	fb.status = "dead"
	if err != nil {
		return nil, thrown(fb, err)
	}
	return popFrom(L, top), nil
}

func popFrom(L *glua.LState, top int) []glua.LValue {
	values := make([]glua.LValue, 0, L.GetTop()-top)
	for i := top + 1; i <= L.GetTop(); i++ {
		values = append(values, L.Get(i))
	}
	L.SetTop(top)
	return values
}

// wait gives the baton away while f runs and takes it back. f returns when its context
// ends. A script that is to stop does so here.
func (rt *Runtime) wait(L *glua.LState, f func(ctx context.Context)) {
	fb := fiberOf(L)
	if !fb.req.yields() {
		L.RaiseError("API disabled in the context of %s_by_lua*", fb.req.phase)
	}
	rt.outside(L, f)
}

// outside is wait for what nginx does without yielding.
func (rt *Runtime) outside(L *glua.LState, f func(ctx context.Context)) {
	fb := fiberOf(L)
	fb.paused.Do(func() { close(fb.pause) })
	rt.leave()
	f(fb)
	rt.enter()
	if err := fb.over(); err != nil {
		raise(L, err)
	}
}

// over says why the fiber is to end. The runtime's end comes to its context a moment later
// than to its sockets.
func (fb *fiber) over() error {
	if err := fb.Err(); err != nil {
		return err
	}
	return fb.req.rt.ctx.Err()
}

// awaitLights waits for the request's light threads, as the end of a phase does.
func (r *request) awaitLights(entry *fiber) {
	for _, fb := range r.lights {
		if fb.status == "dead" {
			continue
		}
		done := make(chan *fiber, 1)
		fb.waiters = append(fb.waiters, done)
		r.rt.leave()
		select {
		case <-done:
		case <-entry.Done():
		}
		r.rt.enter()
		if r.ended != nil {
			return
		}
		if err := entry.Err(); err != nil {
			r.end(err)
			return
		}
	}
}

// threadSpawn starts a light thread. It runs until it first waits; then the caller goes on.
func threadSpawn(L *glua.LState) int {
	parent := fiberOf(L)
	r := parent.req
	fn := L.CheckFunction(1)
	args := arguments(L, 2)
	fb := r.newFiber(r.ctx)
	r.lights = append(r.lights, fb)
	r.fibers.Add(1)
	go func() {
		defer r.fibers.Done()
		defer fb.cancel()
		r.rt.enter()
		defer r.rt.leave()
		fb.results, fb.err = fb.call(fn, args)
		fb.finish()
	}()
	r.rt.leave()
	select {
	case <-fb.pause:
	case <-parent.Done():
	}
	r.rt.enter()
	L.Push(fb.state)
	return 1
}

func (fb *fiber) finish() {
	r := fb.req
	fb.ok = fb.err == nil
	var script *luaError
	switch {
	case fb.ok:
	case errors.As(fb.err, &script):
		fb.results = []glua.LValue{script.value}
		r.rt.logLine("error", r.describe("lua user thread aborted", script), r.x)
	case fb.Err() != nil: // killed, or the request ends
		fb.results = []glua.LValue{glua.LString("killed")}
	default:
		r.end(fb.err)
	}
	for _, w := range fb.waiters {
		w <- fb
	}
	fb.waiters = nil
	fb.paused.Do(func() { close(fb.pause) })
}

func checkFiber(L *glua.LState, n int) *fiber {
	th, ok := L.Get(n).(*glua.LState)
	if !ok {
		L.ArgError(n, "coroutine expected")
	}
	return fiberOf(th)
}

// threadWait returns when the first of its threads has ended.
func threadWait(L *glua.LState) int {
	n := L.GetTop()
	if n == 0 {
		L.RaiseError("at least one coroutine should be specified")
	}
	done := make(chan *fiber, n)
	fibers := make([]*fiber, 0, n)
	for i := 1; i <= n; i++ {
		fb := checkFiber(L, i)
		if fb.waited {
			L.RaiseError("already waited or killed")
		}
		fibers = append(fibers, fb)
	}
	var first *fiber
	for _, fb := range fibers {
		if fb.status == "dead" {
			first = fb
			break
		}
	}
	if first == nil {
		for _, fb := range fibers {
			fb.waiters = append(fb.waiters, done)
		}
		fiberOf(L).req.rt.wait(L, func(ctx context.Context) {
			select {
			case first = <-done:
			case <-ctx.Done():
			}
		})
		for _, fb := range fibers {
			fb.drop(done)
		}
	}
	first.waited = true
	L.Push(glua.LBool(first.ok))
	for _, v := range first.results {
		L.Push(v)
	}
	return 1 + len(first.results)
}

func (fb *fiber) drop(done chan *fiber) {
	for i, w := range fb.waiters {
		if w == done {
			fb.waiters = append(fb.waiters[:i:i], fb.waiters[i+1:]...)
			return
		}
	}
}

func threadKill(L *glua.LState) int {
	fb := checkFiber(L, 1)
	if fb.waited {
		return fail(L, "already waited or killed")
	}
	if fb.status == "dead" {
		return fail(L, "already terminated")
	}
	fb.waited = true
	fb.cancel()
	return ret(L, glua.LNumber(1))
}

var coroutineFuncs = map[string]glua.LGFunction{
	"create":      coCreate,
	"resume":      coResume,
	"yield":       coYield,
	"status":      coStatus,
	"running":     func(L *glua.LState) int { return ret(L, L) },
	"wrap":        coWrap,
	"isyieldable": func(L *glua.LState) int { return ret(L, glua.LBool(fiberOf(L).req.yields())) },
}

func newCoroutine(L *glua.LState, fn *glua.LFunction) *fiber {
	parent := fiberOf(L)
	fb := parent.req.newFiber(parent)
	fb.status = "suspended"
	fb.body = fn
	fb.resume = make(chan []glua.LValue)
	fb.yield = make(chan []glua.LValue, 1)
	return fb
}

func coCreate(L *glua.LState) int { return ret(L, newCoroutine(L, L.CheckFunction(1)).state) }

func coStatus(L *glua.LState) int { return ret(L, glua.LString(checkFiber(L, 1).status)) }

func coResume(L *glua.LState) int {
	co := checkFiber(L, 1)
	values, err := co.next(fiberOf(L), arguments(L, 2))
	var script *luaError
	switch {
	case err == nil:
		L.Push(glua.LTrue)
		for _, v := range values {
			L.Push(v)
		}
		return 1 + len(values)
	case errors.As(err, &script):
		return ret(L, glua.LFalse, script.value)
	}
	raise(L, err)
	return 0
}

func coWrap(L *glua.LState) int {
	co := newCoroutine(L, L.CheckFunction(1))
	L.Push(L.NewFunction(func(L *glua.LState) int {
		values, err := co.next(fiberOf(L), arguments(L, 1))
		var script *luaError
		switch {
		case errors.As(err, &script):
			L.Error(script.value, 0)
		case err != nil:
			raise(L, err)
		}
		return ret(L, values...)
	}))
	return 1
}

// next runs the coroutine up to its next yield or its end.
func (fb *fiber) next(caller *fiber, args []glua.LValue) ([]glua.LValue, error) {
	if fb.status != "suspended" || fb.Err() != nil {
		status := fb.status
		if status == "suspended" {
			status = "dead"
		}
		return nil, &luaError{value: glua.LString("cannot resume " + status + " coroutine")}
	}
	fb.parent = caller
	caller.status, fb.status = "normal", "running"
	if fb.started {
		select {
		case fb.resume <- args:
		case <-fb.Done():
			caller.status = "running"
			return nil, fb.Err()
		}
	} else {
		fb.started = true
		fb.req.fibers.Add(1)
		go fb.live(args)
	}
	values := <-fb.yield
	caller.status = "running"
	if fb.status == "dead" {
		return values, fb.err
	}
	return values, nil
}

// live is a coroutine's goroutine. It starts with the baton of who resumed it.
func (fb *fiber) live(args []glua.LValue) {
	defer fb.req.fibers.Done()
	defer fb.cancel()
	fb.results, fb.err = fb.call(fb.body, args)
	if fb.orphan {
		fb.req.rt.leave()
		return
	}
	fb.yield <- fb.results
}

func coYield(L *glua.LState) int {
	fb := fiberOf(L)
	rt := fb.req.rt
	if fb.body == nil {
		// A light thread or the entry yields to the scheduler.
		rt.wait(L, func(context.Context) {})
		return 0
	}
	fb.status = "suspended"
	fb.yield <- arguments(L, 1)
	select {
	case args := <-fb.resume:
		return ret(L, args...)
	case <-fb.Done():
		rt.enter()
		fb.orphan = true
		raise(L, fb.Err())
		return 0
	}
}

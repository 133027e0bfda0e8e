package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// A Runtime is one worker: its globals, loaded modules and shared dictionaries live as
// long as it does. Requests run concurrently, each in goroutines of its own, but only the
// one that holds the baton runs Lua; it hands the baton over when it waits.
type Runtime struct {
	opts   Options
	state  *glua.LState
	baton  chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	start  time.Time

	endMu sync.Mutex
	ended bool
	runs  sync.WaitGroup // what runs or waits: requests and timers

	chunks  chunkCache
	dictsMu sync.Mutex
	dicts   map[string]*dict

	// What follows belongs to the holder of the baton.
	null     *glua.LUserData
	pending  int // timers that wait
	running  int // timers that run
	loading  map[string]bool
	builtin  map[string]func(*glua.LState) glua.LValue
	types    map[string]*glua.LTable // metatables by the name of what they are for
	conns    *connPool
	etcd     etcdClient
	fault    error // what a timer could not do
	safeJSON *jsonCodec
}

// New returns a runtime. Close ends it.
func New(opts Options) *Runtime {
	rt := &Runtime{
		opts:    opts,
		baton:   make(chan struct{}, 1),
		start:   time.Now(),
		dicts:   map[string]*dict{},
		loading: map[string]bool{},
		types:   map[string]*glua.LTable{},
		conns:   newConnPool(),
	}
	rt.ctx, rt.cancel = context.WithCancel(context.Background())
	rt.state = glua.NewState(glua.Options{
		CallStackSize:       8192,
		MinimizeStackMemory: true,
		RegistrySize:        1024,
		RegistryMaxSize:     1 << 20,
		RegistryGrowStep:    4096,
	})
	rt.null = userdata(nil)
	rt.openStandard()
	rt.openNgx()
	rt.openModules()
	return rt
}

// Close ends everything at once: timers, requests (their Run returns *InterruptedError),
// light threads, sockets. It returns when they have ended. What is run afterwards is
// interrupted before it begins.
func (rt *Runtime) Close() {
	rt.endMu.Lock()
	again := rt.ended
	rt.ended = true
	rt.endMu.Unlock()
	if again {
		return
	}
	rt.cancel()
	rt.conns.close()
	rt.runs.Wait()
	rt.enter()
	defer rt.leave()
	rt.etcd.close()
	rt.state.Close()
}

// begin counts one more run, unless the runtime has ended.
func (rt *Runtime) begin() bool {
	rt.endMu.Lock()
	defer rt.endMu.Unlock()
	if rt.ended {
		return false
	}
	rt.runs.Add(1)
	return true
}

// Shared declares a lua_shared_dict. Declaring one that exists changes nothing.
func (rt *Runtime) Shared(name string) {
	rt.dictsMu.Lock()
	defer rt.dictsMu.Unlock()
	if rt.dicts[name] == nil {
		rt.dicts[name] = newDict()
	}
}

// Run runs a chunk in a phase of a request and returns when it and the light threads it
// spawned have ended. x is nil in the phases that have no request. Beside the errors of
// this package it returns nil or a *ScriptError, whose text is in the log already. A script
// that ctx or Close ends is an *InterruptedError, and its client's connection is aborted.
func (rt *Runtime) Run(ctx context.Context, phase Phase, name, chunk string, x *Exchange, body *BodyPart) error {
	proto, err := rt.chunks.compile(name, chunk)
	if err != nil {
		e := &ScriptError{Text: "failed to load inlined Lua code: " + err.Error()}
		rt.logLine("error", e.Text, x)
		return e
	}
	if !rt.begin() {
		return &InterruptedError{context.Canceled}
	}
	defer rt.runs.Done()
	outside, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(rt.ctx, cancel)()
	if x != nil && x.Abort != nil {
		// The client may be what the script waits for.
		defer context.AfterFunc(outside, x.Abort)()
	}
	ctx, stop := context.WithCancel(outside)
	defer stop()

	r := &request{rt: rt, phase: phase, name: name, x: x, body: body, ctx: ctx, stop: stop}
	// A filter runs inside a Write of the same request's script: it must not wait for that
	// Write to end.
	if x != nil {
		if s, ok := x.Slots.(*slots); ok && s.inWrite.Load() {
			r.nested = true
		}
	}
	rt.enter()
	defer rt.leave()
	if x != nil {
		if _, ok := x.Slots.(*slots); !ok {
			x.Slots = &slots{began: time.Now()}
		}
	}
	err = r.run(rt.state.NewFunctionFromProto(proto))
	cause := outside.Err()
	if cause == nil {
		cause = rt.ctx.Err()
	}
	if cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return &InterruptedError{cause}
	}
	return err
}

// Fault returns what a timer could not do here since the last call, nil when there is
// nothing: an *UnsupportedError or a *WhiteBoxError.
func (rt *Runtime) Fault() error {
	rt.enter()
	defer rt.leave()
	err := rt.fault
	rt.fault = nil
	return err
}

// enter waits for the baton. It is first come, first served.
func (rt *Runtime) enter() { rt.baton <- struct{}{} }

func (rt *Runtime) leave() { <-rt.baton }

// request is one run of a phase, with the fibers it has begun.
type request struct {
	rt     *Runtime
	phase  Phase
	name   string // of the chunk
	x      *Exchange
	body   *BodyPart
	nested bool // inside a Write of the same exchange
	ctx    context.Context
	stop   context.CancelFunc
	ended  error // what ended it early; belongs to the holder of the baton
	fibers sync.WaitGroup
	lights []*fiber
	timer  bool
}

// run is called with the baton and returns with it.
func (r *request) run(fn *glua.LFunction, args ...glua.LValue) error {
	entry := r.newFiber(r.ctx)
	_, err := entry.call(fn, args)
	if err != nil {
		r.end(err)
	}
	if r.ended == nil {
		r.awaitLights(entry)
	}
	// Whatever is left (light threads after an exit, suspended coroutines) unwinds now.
	r.stop()
	r.rt.leave()
	r.fibers.Wait()
	r.rt.enter()
	entry.cancel()
	err = r.ended
	if err == nil {
		return nil
	}
	var script *luaError
	if errors.As(err, &script) {
		e := &ScriptError{Text: r.describe("lua entry thread aborted", script)}
		r.rt.logLine("error", e.Text, r.x)
		return e
	}
	return err
}

// end records why the request is over and stops its fibers. The first reason counts, but
// that a script cannot be run here outweighs what came of it.
func (r *request) end(err error) {
	if r.ended == nil || isVerdict(err) && !isVerdict(r.ended) {
		r.ended = err
	}
	r.stop()
}

func isVerdict(err error) bool {
	var u *UnsupportedError
	var w *WhiteBoxError
	return errors.As(err, &u) || errors.As(err, &w)
}

// describe is nginx's line about a script that failed.
func (r *request) describe(what string, e *luaError) string {
	switch r.phase {
	case HeaderFilter, BodyFilter, Log, Init, InitWorker:
		if !r.timer {
			return fmt.Sprintf("failed to run %s_by_lua*: %s", r.phase, e.Error())
		}
	}
	text := what + ": runtime error: " + e.message()
	if e.trace != "" {
		text += "\nstack traceback:\ncoroutine 0:\n" + e.trace
	}
	return text
}

// yields tells whether the phase may wait.
func (r *request) yields() bool {
	switch r.phase {
	case HeaderFilter, BodyFilter, Log, Init:
		return r.timer
	case InitWorker:
		return r.timer
	}
	return true
}

// luaError is a Lua error that nothing caught.
type luaError struct {
	value glua.LValue
	trace string
}

func (e *luaError) message() string {
	switch v := e.value.(type) {
	case glua.LString:
		return string(v)
	case glua.LNumber:
		return formatNumber(v)
	case *glua.LTable:
		if s, ok := v.RawGetString("msg").(glua.LString); ok {
			return string(s)
		}
	}
	return "unknown reason"
}

func (e *luaError) Error() string { return e.message() }

// abort travels through Lua as an error that no pcall keeps.
type abort struct{ err error }

// raise ends the script with err, past every pcall.
func raise(L *glua.LState, err error) {
	if isVerdict(err) {
		r := fiberOf(L).req
		if r.ended == nil {
			r.ended = err
		}
	}
	L.Error(userdata(abort{err}), 0)
}

func unsupported(L *glua.LState, what string) {
	raise(L, &UnsupportedError{What: what, Line: chunkLine(L)})
}

func whiteBox(L *glua.LState, what string) {
	raise(L, &WhiteBoxError{What: what, Line: chunkLine(L)})
}

// chunkLine is the line of the request's own chunk that runs, 0 when none does.
func chunkLine(L *glua.LState) int {
	name := fiberOf(L).req.name
	for level := 0; ; level++ {
		dbg, ok := L.GetStack(level)
		if !ok {
			return 0
		}
		if _, err := L.GetInfo("Sl", dbg, glua.LNil); err == nil && dbg.Source == name {
			return dbg.CurrentLine
		}
	}
}

// thrown turns what PCall returned into an error of this package.
func thrown(fb *fiber, err error) error {
	var api *glua.ApiError
	if !errors.As(err, &api) {
		return err
	}
	if ud, ok := api.Object.(*glua.LUserData); ok {
		if a, ok := ud.Value.(abort); ok {
			return a.err
		}
	}
	if cause := fb.Err(); cause != nil {
		return cause
	}
	_, trace, _ := strings.Cut(api.StackTrace, "stack traceback:\n")
	return &luaError{value: api.Object, trace: strings.TrimRight(trace, "\n")}
}

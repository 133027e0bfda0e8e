package lua

import (
	"context"
	"net/http"
	"os"
	"time"

	glua "github.com/yuin/gopher-lua"
)

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func clock(f func(time.Time) glua.LValue) glua.LGFunction {
	return func(L *glua.LState) int { return ret(L, f(time.Now())) }
}

var timeFuncs = funcs{
	"now":         clock(func(t time.Time) glua.LValue { return num(seconds(t)) }),
	"time":        clock(func(t time.Time) glua.LValue { return num(t.Unix()) }),
	"today":       clock(func(t time.Time) glua.LValue { return str(t.Local().Format(time.DateOnly)) }),
	"localtime":   clock(func(t time.Time) glua.LValue { return str(t.Local().Format(time.DateTime)) }),
	"utctime":     clock(func(t time.Time) glua.LValue { return str(t.UTC().Format(time.DateTime)) }),
	"update_time": nothing,
	"http_time": func(L *glua.LState) int {
		return ret(L, str(time.Unix(L.CheckInt64(1), 0).UTC().Format(http.TimeFormat)))
	},
	"cookie_time": func(L *glua.LState) int {
		return ret(L, str(time.Unix(L.CheckInt64(1), 0).UTC().Format("Mon, 02-Jan-06 15:04:05 GMT")))
	},
	"parse_http_time": func(L *glua.LState) int {
		t, err := http.ParseTime(checkText(L, 1))
		if err != nil {
			return ret(L, glua.LNil)
		}
		return ret(L, num(t.Unix()))
	},
}

var workerFuncs = funcs{
	"id":      func(L *glua.LState) int { return ret(L, num(0)) },
	"count":   func(L *glua.LState) int { return ret(L, num(1)) },
	"pid":     func(L *glua.LState) int { return ret(L, num(os.Getpid())) },
	"pids":    func(L *glua.LState) int { return ret(L, list(L, num(os.Getpid()))) },
	"exiting": func(L *glua.LState) int { return ret(L, glua.LBool(runtimeOf(L).ctx.Err() != nil)) },
}

var timerFuncs = funcs{
	"at":            func(L *glua.LState) int { return startTimer(L, false) },
	"every":         func(L *glua.LState) int { return startTimer(L, true) },
	"pending_count": func(L *glua.LState) int { return ret(L, num(runtimeOf(L).pending)) },
	"running_count": func(L *glua.LState) int { return ret(L, num(runtimeOf(L).running)) },
}

func startTimer(L *glua.LState, every bool) int {
	rt := runtimeOf(L)
	delay := time.Duration(float64(L.CheckNumber(1)) * float64(time.Second))
	fn := L.CheckFunction(2)
	args := append([]glua.LValue{glua.LFalse}, arguments(L, 3)...)
	if delay < 0 || every && delay == 0 {
		L.RaiseError("delay cannot be %s", map[bool]string{true: "zero", false: "negative"}[every])
	}
	if rt.ctx.Err() != nil {
		return fail(L, "process exiting")
	}
	name := fiberOf(L).req.name
	rt.pending++
	rt.runs.Add(1) // the caller is a run: Close waits for it
	go func() {
		defer rt.runs.Done()
		for {
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-rt.ctx.Done():
				t.Stop()
				return
			}
			rt.runTimer(name, fn, args, every)
			if !every {
				return
			}
		}
	}()
	return ret(L, num(1))
}

func (rt *Runtime) runTimer(name string, fn *glua.LFunction, args []glua.LValue, every bool) {
	ctx, cancel := context.WithCancel(rt.ctx)
	defer cancel()
	rt.enter()
	defer rt.leave()
	if !every {
		rt.pending--
	}
	rt.running++
	r := &request{rt: rt, phase: InitWorker, name: name, ctx: ctx, stop: cancel, timer: true}
	err := r.run(fn, args...)
	rt.running--
	if isVerdict(err) {
		// Nobody waits for a timer: what it could not do is in the log.
		rt.logLine("error", "[lua] timer: "+err.Error(), nil)
		rt.fault = err
	}
}

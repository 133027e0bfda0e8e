package nginx

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A Runtime is what a Host works with. Its functions are called by many goroutines.
type Runtime struct {
	// Scripts runs Lua; nil: every script is an UnsupportedError.
	Scripts Scripts
	// Log takes a line of the error log. level is nginx's word; line has no level and no
	// time, and begins with the connection's number when it is about one: "*3 …".
	Log func(level, line string)
	// Access takes a line of an access log. file is as the directive names it.
	Access func(file, line string)
	// Report takes what turns a block's verdict: *lua.UnsupportedError and
	// *lua.WhiteBoxError. Whoever asked gets a 500.
	Report func(err error)
}

// A Host serves a configuration, which Apply may replace. All methods may be called at any
// time by any goroutine.
type Host struct {
	Runtime

	connections atomic.Uint64 // numbers given so far
	config      atomic.Pointer[Config]
	gateway     atomic.Pointer[Relay] // for subrequests of the front; set by NewFront

	mu        sync.Mutex // over Apply and Close
	listeners map[string]*listener
	begun     [2]string // the init scripts that have run
}

// NewHost returns a host that serves nothing yet.
func NewHost(r Runtime) *Host {
	h := &Host{Runtime: r, listeners: map[string]*listener{}}
	h.config.Store(&Config{})
	return h
}

// Config is what was applied last.
func (h *Host) Config() *Config { return h.config.Load() }

// A ListenError is an address that cannot be had.
type ListenError struct {
	Directive string // as written
	Addr      string
	Err       error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("%s: bind() to %s failed: %v", e.Directive, e.Addr, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// Apply serves cfg from now on. Addresses that stay keep their listener and their
// connections, whose next request sees the new servers; those that are gone are closed.
// When it fails with a *ListenError, what served before serves on.
//
// reset forgets what scripts have left behind. init_by_lua and init_worker_by_lua run
// after a reset and when their text has changed.
func (h *Host) Apply(ctx context.Context, cfg *Config, reset bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted, err := endpoints(cfg)
	if err != nil {
		return err
	}
	fresh, err := h.bind(wanted)
	if err != nil {
		return err
	}
	if err := h.prepare(ctx, cfg, reset); err != nil {
		for _, l := range fresh {
			_ = l.Close()
		}
		return err
	}
	for key, l := range h.listeners {
		if wanted[key] == nil {
			delete(h.listeners, key)
			l.close()
		}
	}
	h.config.Store(cfg)
	for key, e := range wanted {
		if l := h.listeners[key]; l != nil {
			l.current.Store(e)
			continue
		}
		h.start(key, fresh[key], e)
	}
	return nil
}

// endpoints groups the servers by their addresses.
func endpoints(cfg *Config) (map[string]*endpoint, error) {
	out := map[string]*endpoint{}
	for _, s := range cfg.servers {
		listens := s.listens
		if len(listens) == 0 && s != cfg.Front {
			return nil, &UnsupportedError{Directive: "server without listen", Line: s.Line}
		}
		for _, l := range listens {
			e := out[l.key()]
			if e == nil {
				e = &endpoint{config: cfg, listen: l}
				out[l.key()] = e
			}
			if l.ssl && !e.listen.ssl {
				e.listen = l
			}
			e.servers = append(e.servers, s)
		}
	}
	for _, s := range cfg.streams {
		for _, l := range s.listens {
			if out[l.key()] != nil {
				return nil, &ConfigError{Directive: l.directive, Line: s.line, What: "duplicate address and port pair"}
			}
			out[l.key()] = &endpoint{config: cfg, listen: l, stream: s}
		}
	}
	return out, nil
}

// bind takes the addresses that are not held yet: all or none.
func (h *Host) bind(wanted map[string]*endpoint) (map[string]net.Listener, error) {
	fresh := map[string]net.Listener{}
	for key, e := range wanted {
		if h.listeners[key] != nil {
			continue
		}
		l, err := listenOn(e.listen)
		if err != nil {
			for _, other := range fresh {
				_ = other.Close()
			}
			return nil, err
		}
		fresh[key] = l
	}
	return fresh, nil
}

func listenOn(l *listen) (net.Listener, error) {
	if l.network == "unix" {
		// A socket that a process left behind is in the way, as nothing else may be.
		if info, err := os.Stat(l.addr); err == nil && info.Mode().Type() == os.ModeSocket {
			_ = os.Remove(l.addr)
		}
	}
	ln, err := net.Listen(l.network, l.addr)
	if err != nil {
		return nil, &ListenError{Directive: l.directive, Addr: l.addr, Err: err}
	}
	return ln, nil
}

func (h *Host) start(key string, ln net.Listener, e *endpoint) {
	l := &listener{Listener: ln, host: h}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.current.Store(e)
	h.listeners[key] = l
	go l.serve()
}

// prepare gets the scripts' state ready for a configuration.
func (h *Host) prepare(ctx context.Context, cfg *Config, reset bool) error {
	if h.Scripts == nil {
		return nil
	}
	if reset {
		h.Scripts.Reset()
		h.begun = [2]string{}
	}
	for _, name := range cfg.shared {
		h.Scripts.Shared(name)
	}
	for i, s := range []*script{cfg.init, cfg.initWorker} {
		if s == nil || h.begun[i] == s.chunk {
			continue
		}
		phase := []lua.Phase{lua.Init, lua.InitWorker}[i]
		if err := h.Scripts.Run(ctx, phase, s.name, s.chunk, nil, nil); err != nil {
			if h.report(err) {
				return err
			}
			if interrupted(err) {
				return err
			}
			h.log("error", fmt.Sprintf("%s_by_lua error: %v", phase, err))
			if phase == lua.Init {
				return fmt.Errorf("init_by_lua: %w", err) // nginx does not start then
			}
		}
		h.begun[i] = s.chunk
	}
	return nil
}

// Close ends all listeners and connections and waits for them.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, l := range h.listeners {
		l.close()
		delete(h.listeners, key)
	}
	return nil
}

// report hands up what turns a verdict. false: it is an ordinary failure.
func (h *Host) report(err error) bool {
	var unsupported *lua.UnsupportedError
	var inside *lua.WhiteBoxError
	if !errors.As(err, &unsupported) && !errors.As(err, &inside) {
		return false
	}
	if h.Report != nil {
		h.Report(err)
	}
	return true
}

func (h *Host) log(level, line string) {
	if h.Log != nil {
		h.Log(level, line)
	}
}

// errorLogger is for libraries that log by themselves.
func (h *Host) errorLogger() *log.Logger {
	return log.New(logWriter{h}, "", 0)
}

type logWriter struct{ h *Host }

func (w logWriter) Write(p []byte) (int, error) {
	w.h.log("info", strings.TrimSpace(string(p)))
	return len(p), nil
}

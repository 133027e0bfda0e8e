package stage

import (
	"context"
	"maps"
	"sync"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// scripts hands scripts to a runtime that a block starts anew.
type scripts struct {
	options lua.Options

	mu      sync.Mutex
	runtime *lua.Runtime
	shared  map[string]bool
}

// Run runs a chunk.
func (s *scripts) Run(ctx context.Context, phase lua.Phase, name, chunk string, x *lua.Exchange, body *lua.BodyPart) error {
	s.mu.Lock()
	if s.runtime == nil {
		s.runtime = lua.New(s.options)
		for dict := range maps.Keys(s.shared) {
			s.runtime.Shared(dict)
		}
	}
	r := s.runtime
	s.mu.Unlock()
	return r.Run(ctx, phase, name, chunk, x, body)
}

// Shared declares a dict.
func (s *scripts) Shared(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil {
		s.shared = map[string]bool{}
	}
	s.shared[name] = true
	if s.runtime != nil {
		s.runtime.Shared(name)
	}
}

// Reset ends the runtime; the next script begins another.
func (s *scripts) Reset() {
	s.mu.Lock()
	r := s.runtime
	s.runtime, s.shared = nil, nil
	s.mu.Unlock()
	if r != nil {
		r.Close()
	}
}

// fault is what a timer could not do since it was last asked: nobody waits for a timer.
func (s *scripts) fault() error {
	s.mu.Lock()
	r := s.runtime
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Fault()
}

func (s *scripts) close() { s.Reset() }

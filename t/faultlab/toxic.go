package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/porttest"
)

// Proxy stands before a member of etcd and does harm to what passes.
type Proxy struct {
	Listen string
	to     string
	limit  time.Duration // for what toxiproxy may wait for without end

	mu     sync.Mutex
	proxy  *toxiproxy.Proxy
	toxics []string
}

// quiet keeps toxiproxy from telling of every toxic that it ends: it has a logger for all.
var quiet = sync.OnceFunc(func() { zerolog.SetGlobalLevel(zerolog.Disabled) })

// NewProxy starts a proxy that does no harm yet.
func (r *Run) NewProxy(to string) (*Proxy, error) {
	quiet()
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Listen: fmt.Sprintf("127.0.0.1:%d", port), to: to, limit: settling}
	if err := p.start(); err != nil {
		return nil, err
	}
	r.Later(p.Stop)
	return p, nil
}

func (p *Proxy) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p.proxy = toxiproxy.NewProxy(server, "etcd", p.Listen, p.to)
	return p.proxy.Start()
}

// Stop ends the proxy.
func (p *Proxy) Stop() {
	p.mu.Lock()
	last := p.proxy
	p.mu.Unlock()
	ends(p.limit, last.Stop)
}

// ends calls f, and reports whether it ended within the limit.
func ends(limit time.Duration, f func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// Toxic is one kind of harm, in the words of toxiproxy.
type Toxic struct {
	Type       string         `json:"type"`
	Attributes map[string]any `json:"attributes"`
}

// Harm begins to do harm, on the way to etcd and back if both is set.
func (p *Proxy) Harm(t Toxic, both bool) error {
	streams := []string{"downstream"}
	if both {
		streams = append(streams, "upstream")
	}
	for _, s := range streams {
		raw, err := json.Marshal(struct {
			Name   string `json:"name"`
			Stream string `json:"stream"`
			Toxic
		}{t.Type + "-" + s, s, t})
		if err != nil {
			return err
		}
		p.mu.Lock()
		toxics := p.proxy.Toxics
		p.toxics = append(p.toxics, t.Type+"-"+s)
		p.mu.Unlock()
		failed := make(chan error, 1)
		if !ends(p.limit, func() {
			_, err := toxics.AddToxicJson(strings.NewReader(string(raw)))
			failed <- err
		}) {
			return fmt.Errorf("toxic %s: toxiproxy does not take it", t.Type)
		}
		if err := <-failed; err != nil {
			return fmt.Errorf("toxic %s: %w", t.Type, err)
		}
	}
	return nil
}

// Clear ends all harm. toxiproxy changes connections while bytes pass, and can then wait without
// end for one that has stopped: in its place comes another one, without harm.
func (p *Proxy) Clear(ctx context.Context) error {
	p.mu.Lock()
	old, toxics := p.proxy, p.toxics
	p.toxics = nil
	p.mu.Unlock()
	if ends(p.limit, func() {
		for _, name := range toxics {
			_ = old.Toxics.RemoveToxic(ctx, name)
		}
	}) {
		return nil
	}
	go old.Stop() // it closes the port first
	var err error
	for end := time.Now().Add(p.limit); time.Now().Before(end); {
		if err = p.start(); err == nil {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("another toxiproxy at %s: %w", p.Listen, err)
}

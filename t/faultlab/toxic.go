package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/porttest"
)

// Proxy stands before a member of etcd and does harm to what passes.
type Proxy struct {
	Listen string
	proxy  *toxiproxy.Proxy

	mu     sync.Mutex
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
	p := &Proxy{Listen: fmt.Sprintf("127.0.0.1:%d", port)}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p.proxy = toxiproxy.NewProxy(server, "etcd", p.Listen, to)
	if err := p.proxy.Start(); err != nil {
		return nil, err
	}
	r.Later(p.proxy.Stop)
	return p, nil
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
		if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
			return fmt.Errorf("toxic %s: %w", t.Type, err)
		}
		p.mu.Lock()
		p.toxics = append(p.toxics, t.Type+"-"+s)
		p.mu.Unlock()
	}
	return nil
}

// Clear ends all harm.
func (p *Proxy) Clear(ctx context.Context) {
	p.mu.Lock()
	list := p.toxics
	p.toxics = nil
	p.mu.Unlock()
	for _, name := range list {
		_ = p.proxy.Toxics.RemoveToxic(ctx, name)
	}
}

package etcdstore

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// wire is a TCP proxy that can be cut, or hang: then connections are taken and stay, and no
// byte gets through.
type wire struct {
	listener net.Listener
	running  sync.WaitGroup
	gate     sync.RWMutex // held while it hangs

	mu     sync.Mutex
	target string
	down   bool
	over   bool
	conns  []net.Conn
}

func proxy(t *testing.T, endpoint string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &wire{listener: l, target: strings.TrimPrefix(endpoint, "http://")}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.cut(true)
		p.running.Wait()
	})
	return p
}

func (p *wire) endpoint() string { return "http://" + p.listener.Addr().String() }

func (p *wire) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(c) })
	}
}

func (p *wire) serve(c net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	up, err := net.Dial("tcp", target)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		_ = c.Close()
		_ = up.Close()
		return
	}
	p.conns = append(p.conns, c, up)
	p.mu.Unlock()
	p.running.Go(func() { p.pipe(up, c) })
	p.pipe(c, up)
}

func (p *wire) pipe(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.gate.RLock()
		_, err = to.Write(buf[:n])
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// cut breaks all connections and refuses new ones, or takes them again.
func (p *wire) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down || p.over
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// lead makes new connections go elsewhere, and breaks the old ones.
func (p *wire) lead(endpoint string) {
	p.mu.Lock()
	p.target = strings.TrimPrefix(endpoint, "http://")
	p.mu.Unlock()
	p.cut(false)
}

func (p *wire) hang(on bool) {
	if on {
		p.gate.Lock()
	} else {
		p.gate.Unlock()
	}
}

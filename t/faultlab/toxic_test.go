package main

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestHarmEndsThoughToxiproxyWaitsWithoutEnd(t *testing.T) {
	for name, stuck := range map[string]bool{"it lets go": false, "it does not": true} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
				}
			}()
			p, err := (&Run{Lab: new(Lab)}).NewProxy(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			if err := p.Harm(Toxic{"reset_peer", map[string]any{"timeout": 0}}, true); err != nil {
				t.Fatal(err)
			}
			if err := answers(t, p.Listen); err == nil {
				t.Error("an answer came through harm")
			}
			if first := p.proxy; stuck {
				first.Toxics.Lock()
				t.Cleanup(first.Toxics.Unlock)
				p.limit = 100 * time.Millisecond
				if err := p.Harm(Toxic{"latency", map[string]any{"latency": 1}}, false); err == nil {
					t.Error("more harm was taken, though nothing is")
				}
			}
			if err := p.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.limit = settling
			if err := answers(t, p.Listen); err != nil {
				t.Errorf("harm has ended, but: %v", err)
			}
		})
	}
}

// answers is an error unless what is sent to addr comes back.
func answers(t *testing.T, addr string) error {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, settling)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(settling))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

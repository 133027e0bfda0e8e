package upstream

import (
	"syscall"

	"github.com/gosix/gosix/pkg/socket"
)

// probe looks at a connection's socket. The zero value knows nothing.
type probe struct {
	raw  syscall.RawConn    // nil: cannot be looked at
	peek func(uintptr) bool // glance, bound once
	seen socket.State
	one  [1]byte
}

// init makes the probe one of the socket of c, if it has one.
func (p *probe) init(c any) {
	if raw := socket.Raw(c); raw != nil {
		p.raw, p.peek = raw, p.glance
	}
}

// look reports what waits on the connection. It does not block. After an error it does not
// know, which is as bad as socket.Gone.
func (p *probe) look() (socket.State, error) {
	if p.raw == nil {
		return socket.Quiet, nil
	}
	p.seen = socket.Gone
	if err := p.raw.Read(p.peek); err != nil {
		return socket.Gone, err
	}
	return p.seen, nil
}

func (p *probe) glance(fd uintptr) bool {
	p.seen = socket.Glance(fd, &p.one)
	return true
}

package upstream

import "syscall"

// link is what can be seen of a connection without reading from it.
type link uint8

const (
	linkQuiet   link = iota // nothing came, or nothing is known
	linkPending             // bytes can be read
	linkGone                // the server closed it, or it broke
)

// probe looks at a connection's socket. The zero value knows nothing.
type probe struct {
	raw  syscall.RawConn           // nil: cannot be looked at
	peek func(socket uintptr) bool // bound once
	seen link
	one  [1]byte
}

// init makes the probe one of the socket of c, if it has one.
func (p *probe) init(c any) {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			p.raw, p.peek = raw, p.glance
		}
	}
}

// look reports what waits on the connection. It does not block. After an error it does not
// know, which is as bad as linkGone.
func (p *probe) look() (link, error) {
	if p.raw == nil {
		return linkQuiet, nil
	}
	p.seen = linkGone
	if err := p.raw.Read(p.peek); err != nil {
		return linkGone, err
	}
	return p.seen, nil
}

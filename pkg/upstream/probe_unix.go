//go:build (linux && !amd64 && !arm64) || darwin || freebsd || netbsd || openbsd

package upstream

import "syscall"

func (p *probe) glance(socket uintptr) bool {
	n, _, err := syscall.Recvfrom(int(socket), p.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
		p.seen = linkQuiet
	case err == nil && n > 0:
		p.seen = linkPending
	default:
		p.seen = linkGone
	}
	return true
}

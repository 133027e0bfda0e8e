//go:build linux || darwin || freebsd || netbsd || openbsd

package socket

import (
	"os"
	"syscall"
)

// Readable reports whether Readers work here.
const Readable = true

func (p *Probe) glance(socket uintptr) {
	n, _, err := syscall.Recvfrom(int(socket), p.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
		p.seen = Quiet
	case err == nil && n > 0:
		p.seen = Pending
	default:
		p.seen = Gone
	}
}

// attempt reads once; false: nothing is there yet.
func (r *Reader) attempt(socket uintptr) bool {
	p := r.take()
	for {
		n, err := syscall.Read(int(socket), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			r.drop()
			return false
		case err != nil:
			r.drop()
			r.err = os.NewSyscallError("read", err)
		default:
			r.n = n
		}
		return true
	}
}

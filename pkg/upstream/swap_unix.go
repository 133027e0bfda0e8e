//go:build linux || darwin || freebsd || netbsd || openbsd

package upstream

import "syscall"

// swaps gives k the short way.
func (k *conn) swaps() {
	if k.raw != nil {
		k.swap.step = k.oneStep
	}
}

// oneStep is called when the poller is ready to take notice of what comes, and again
// whenever something came. It returns false to wait.
func (k *conn) oneStep(socket uintptr) bool {
	s := &k.swap
	if s.at == swapBegins {
		k.probe.glance(socket)
		if k.seen != linkQuiet {
			s.at = swapDead
			return true
		}
		for {
			s.sent, s.err = syscall.Write(int(socket), s.out)
			if s.err != syscall.EINTR {
				break
			}
		}
		s.at, s.sent = swapSent, max(s.sent, 0)
		if s.err == syscall.EAGAIN {
			s.err = nil
		}
		return s.sent < len(s.out) // else an answer can come
	}
	for {
		s.n, s.err = syscall.Read(int(socket), s.in)
		if s.err != syscall.EINTR {
			break
		}
	}
	s.n = max(s.n, 0)
	if s.err == syscall.EAGAIN {
		s.err = nil
		return false
	}
	s.at = swapRead
	return true
}

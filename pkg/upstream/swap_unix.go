//go:build linux || darwin || freebsd || netbsd || openbsd

package upstream

import (
	"syscall"

	"github.com/gosix/gosix/pkg/socket"
)

// swaps gives k the short way.
func (k *conn) swaps() {
	if k.raw != nil {
		k.swap.step = k.oneStep
	}
}

// oneStep is called when the poller is ready to take notice of what comes, and again
// whenever something came. It returns false to wait.
func (k *conn) oneStep(fd uintptr) bool {
	s := &k.swap
	if s.at == swapBegins {
		k.probe.glance(fd)
		if k.seen != socket.Quiet {
			s.at = swapDead
			return true
		}
		s.at = swapSent
		whole := false
		if len(s.out) == 1 {
			s.sent, s.err = socket.Send(fd, s.out[0])
			whole = s.sent == len(s.out[0])
		} else {
			s.sent, s.err = socket.SendParts(fd, s.out)
			whole = int64(s.sent) == size(s.out)
		}
		if s.err == syscall.EAGAIN {
			s.err = nil
		}
		if whole && s.lender != nil {
			s.lender.recycle(s.o)
			s.o, s.out, s.gone = nil, nil, true
		}
		return !whole // else an answer can come
	}
	k.makeRoom()
	if s.n, s.err = socket.Receive(fd, k.buf[k.w:]); s.err == syscall.EAGAIN {
		s.err = nil
		return false
	}
	s.at = swapRead
	return true
}

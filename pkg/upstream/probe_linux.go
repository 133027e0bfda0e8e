//go:build linux && (amd64 || arm64)

package upstream

import (
	"syscall"
	"unsafe"
)

// glance makes the call itself: it comes before every request on a kept connection, never
// blocks, and asks for no address, which syscall.Recvfrom would have the kernel write.
func (p *probe) glance(socket uintptr) bool {
	n, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, socket, uintptr(unsafe.Pointer(&p.one)), uintptr(len(p.one)),
		syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		p.seen = linkQuiet
	case err == 0 && n > 0:
		p.seen = linkPending
	default:
		p.seen = linkGone
	}
	return true
}

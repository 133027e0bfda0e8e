//go:build linux && (amd64 || arm64) && !race

package socket

import (
	"syscall"
	"unsafe"
)

// rawMost is up to how many bytes a call is hidden from the scheduler: it ends before anybody
// misses the processor. To tell the scheduler costs as much as the kernel's door, and when it
// is told it looks every 20 µs whether the call still lasts.
const rawMost = 256 << 10

// These are the calls for sockets alone: the ones for files of all kinds take a tenth more to
// find out what they have before them. Nothing here waits: with the flag a socket that does
// not block by itself would not either.

// Receive reads once what is there, into p, which is not empty. syscall.EAGAIN: nothing is.
func Receive(socket uintptr, p []byte) (int, error) {
	return call(syscall.SYS_RECVFROM, socket, p, syscall.MSG_DONTWAIT)
}

// Send writes once as much of p, which is not empty, as there is room for. syscall.EAGAIN:
// there is none.
func Send(socket uintptr, p []byte) (int, error) {
	return call(syscall.SYS_SENDTO, socket, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// SendParts is Send for parts that are not all empty; from MaxParts on they are left for later.
func SendParts(socket uintptr, parts [][]byte) (int, error) {
	var vec [MaxParts]syscall.Iovec
	n, total := 0, 0
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		if n == len(vec) {
			break
		}
		vec[n].Base = unsafe.SliceData(p)
		vec[n].SetLen(len(p))
		total += len(p)
		n++
	}
	message := syscall.Msghdr{Iov: &vec[0]}
	message.Iovlen = uint64(n)
	for {
		var sent uintptr
		var err syscall.Errno
		if total <= rawMost {
			sent, _, err = syscall.RawSyscall(syscall.SYS_SENDMSG, socket, uintptr(unsafe.Pointer(&message)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		} else {
			sent, _, err = syscall.Syscall(syscall.SYS_SENDMSG, socket, uintptr(unsafe.Pointer(&message)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		}
		if err != syscall.EINTR {
			return result(sent, err)
		}
	}
}

// Glance reports what waits on a socket.
func Glance(socket uintptr, one *[1]byte) State {
	n, err := call(syscall.SYS_RECVFROM, socket, one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN:
		return Quiet
	case err == nil && n > 0:
		return Pending
	}
	return Gone
}

func call(number, socket uintptr, p []byte, flags uintptr) (int, error) {
	for {
		var n uintptr
		var err syscall.Errno
		if len(p) <= rawMost {
			n, _, err = syscall.RawSyscall6(number, socket, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		} else {
			n, _, err = syscall.Syscall6(number, socket, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		}
		if err != syscall.EINTR {
			return result(n, err)
		}
	}
}

func result(n uintptr, err syscall.Errno) (int, error) {
	switch err {
	case 0:
		return int(n), nil
	case syscall.EAGAIN:
		return 0, syscall.EAGAIN // a constant: it needs no memory
	}
	return 0, err
}

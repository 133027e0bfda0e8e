//go:build (linux && ((!amd64 && !arm64) || race)) || darwin || freebsd || netbsd || openbsd

package socket

import "syscall"

// Receive reads once what is there, into p, which is not empty. syscall.EAGAIN: nothing is.
func Receive(socket uintptr, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Read(int(socket), p) })
}

// Send writes once as much of p, which is not empty, as there is room for. syscall.EAGAIN:
// there is none.
func Send(socket uintptr, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Write(int(socket), p) })
}

// SendParts is Send for parts that are not all empty; from MaxParts on they are left for later.
func SendParts(socket uintptr, parts [][]byte) (sent int, err error) {
	for _, p := range parts[:min(len(parts), MaxParts)] {
		if len(p) == 0 {
			continue
		}
		n, err := Send(socket, p)
		sent += n
		switch {
		case err != nil && sent > 0:
			return sent, nil // with the next call
		case err != nil || n < len(p):
			return sent, err
		}
	}
	return sent, nil
}

// Glance reports what waits on a socket.
func Glance(socket uintptr, one *[1]byte) State {
	n, _, err := syscall.Recvfrom(int(socket), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
		return Quiet
	case err == nil && n > 0:
		return Pending
	}
	return Gone
}

// again makes a call until no signal comes between.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
			continue
		}
		return 0, err
	}
}

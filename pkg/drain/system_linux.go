package drain

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// refuse makes the kernel ignore new clients of l, while handshakes that have begun go on.
// Who asks again, as TCP does a second later, finds the listener closed. It reports whether
// it could; with Multipath TCP, which net.Listen has by itself, it cannot.
func refuse(l *net.TCPListener) bool {
	// The filter sees the header of TCP; flags are its byte 13.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x02, Jt: 0, Jf: 1}, // SYN
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	return failed == nil && err == nil
}

// look reads what has come on c, and does not wait: 0 is nothing.
func look(c *net.TCPConn, p []byte) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true
	})
	if err != nil {
		return 0
	}
	return n
}

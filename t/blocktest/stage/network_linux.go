package stage

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"
)

// Isolate makes cmd run in a network of its own, where every port is free, and as the first
// of its processes, with which the system ends all that it started. It reports whether this
// process may do that; Loopback is what the command itself then calls first.
func Isolate(cmd *exec.Cmd) bool {
	if !mayIsolate() {
		return false
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	return true
}

// leash makes cmd end when this process does, however that ends.
func leash(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// mayIsolate tries it: a container's root may not.
var mayIsolate = sync.OnceValue(func() bool {
	trial := exec.Command("true")
	trial.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	return os.Geteuid() == 0 && trial.Run() == nil
})

// Loopback switches the loopback interface of this process's network on, unless it is, with
// an IPv6 address for the gateway where the system has IPv6.
func Loopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	var request struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCGIFFLAGS, uintptr(unsafe.Pointer(&request))); no != 0 {
		return fmt.Errorf("loopback: %w", no)
	}
	if request.flags&syscall.IFF_UP != 0 {
		return nil
	}
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); no != 0 {
		return fmt.Errorf("loopback: %w", no)
	}
	addLoopback(net.ParseIP(gatewayHost6))
	return nil
}

// addLoopback gives the loopback interface one more IPv6 address. Where that cannot be, the
// gateway has none.
func addLoopback(ip net.IP) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = syscall.Close(fd) }()
	request := struct { // struct in6_ifreq
		addr   [16]byte
		prefix uint32
		index  int32
	}{[16]byte(ip.To16()), 128, int32(lo.Index)}
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
}

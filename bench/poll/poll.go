//go:build linux

// Package poll waits for many sockets on one thread, to the microsecond. The benchmark's load
// and its provider are such loops, so that they cost as little as possible of the processor
// that they share. It does not know what is read or written.
package poll

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller is a set of sockets, level-triggered. It is for one goroutine.
type Poller struct {
	fd     int
	events [512]unix.EpollEvent
	coarse bool // the kernel counts in milliseconds
}

// New returns an empty set. It keeps the goroutine on its thread, whose timers it makes exact.
func New() (*Poller, error) {
	runtime.LockOSThread()
	// The default, 50 µs, would be added to every pause.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &Poller{fd: fd}, nil
}

// Close lets go of the set, and not of its sockets.
func (p *Poller) Close() {
	_ = unix.Close(p.fd)
	runtime.UnlockOSThread()
}

// Add waits for a socket to be readable from now on.
func (p *Poller) Add(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// Writable also waits for room to write, or no more.
func (p *Poller) Writable(fd int, wanted bool) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if wanted {
		e.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &e)
}

// Event is a socket that can be read, written, or both. What went wrong with it, reading tells.
type Event struct {
	FD          int
	Read, Write bool
}

// Wait calls ready for each socket that can be worked on, and returns after timeout if there is
// none. A negative timeout does not end.
func (p *Poller) Wait(timeout time.Duration, ready func(Event)) error {
	n, err := p.wait(timeout)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range p.events[:n] {
		ready(Event{int(e.Fd), e.Events&^unix.EPOLLOUT != 0, e.Events&unix.EPOLLOUT != 0})
	}
	return nil
}

func (p *Poller) wait(timeout time.Duration) (int, error) {
	if timeout < 0 {
		return unix.EpollWait(p.fd, p.events[:], -1)
	}
	if !p.coarse {
		spec := unix.NsecToTimespec(int64(timeout))
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
			uintptr(len(p.events)), uintptr(unsafe.Pointer(&spec)), 0, 0)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.ENOSYS {
			return 0, errno
		}
		p.coarse = true
	}
	return unix.EpollWait(p.fd, p.events[:], int((timeout+time.Millisecond-1)/time.Millisecond))
}

// Dial connects to an IPv4 address and returns a socket that does not block.
func Dial(addr netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("dial %s: %w", addr, err)
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	if err == nil {
		err = errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("dial %s: %w", addr, err)
	}
	return fd, nil
}

// Listen returns a socket on an IPv4 address that does not block, and where it is.
func Listen(addr netip.AddrPort) (int, netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, addr, fmt.Errorf("listen %s: %w", addr, err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}),
		unix.Listen(fd, 4096),
	)
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, addr, fmt.Errorf("listen %s: %w", addr, err)
	}
	at := name.(*unix.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)), nil
}

// Accept returns the next connection of a listening socket; ok is false if there is none.
func Accept(listener int) (fd int, ok bool, err error) {
	fd, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EINTR):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("accept: %w", err)
	}
	return fd, true, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// Again tells whether a read or a write was only too early.
func Again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// Address reads an IPv4 address and port.
func Address(text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err == nil && !addr.Addr().Is4() {
		err = fmt.Errorf("%s is no IPv4 address", text)
	}
	return addr, err
}

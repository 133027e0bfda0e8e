package socket

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Departures tells of connections whose other side has sent its last byte, or that broke.
// All of them are in one epoll set, which costs two system calls a connection, and none while
// it is used. It is safe for concurrent use.
type Departures struct {
	file *os.File // the epoll set, which the runtime's own poller watches
	raw  syscall.RawConn
	set  int
	left func(token uint64)

	ended   sync.WaitGroup
	events  [64]unix.EpollEvent
	waiting func(uintptr) bool
	number  int
}

// NewDepartures returns a set that calls left, in a goroutine of its own, with the token of
// a connection that was left. A connection may be told of more than once.
func NewDepartures(left func(token uint64)) (*Departures, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(set, true); err != nil {
		_ = unix.Close(set)
		return nil, os.NewSyscallError("fcntl", err)
	}
	d := &Departures{file: os.NewFile(uintptr(set), "departures"), set: set, left: left}
	if d.raw, err = d.file.SyscallConn(); err != nil {
		_ = d.file.Close()
		return nil, err
	}
	d.waiting = d.collect
	d.ended.Go(d.run)
	return d, nil
}

// Add begins to watch a connection. Closing it ends that.
func (d *Departures) Add(c syscall.RawConn, token uint64) error {
	return d.control(c, unix.EPOLL_CTL_ADD, unix.EpollEvent{
		Events: unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(uint32(token)), Pad: int32(token >> 32),
	})
}

// Remove ends the watching of a connection.
func (d *Departures) Remove(c syscall.RawConn) error {
	return d.control(c, unix.EPOLL_CTL_DEL, unix.EpollEvent{})
}

func (d *Departures) control(c syscall.RawConn, op int, event unix.EpollEvent) error {
	var err error
	failed := c.Control(func(socket uintptr) {
		err = unix.EpollCtl(d.set, op, int(socket), &event)
	})
	return errors.Join(failed, err)
}

func (d *Departures) run() {
	for {
		d.number = 0
		if err := d.raw.Read(d.waiting); err != nil {
			return // closed
		}
		for _, e := range d.events[:d.number] {
			d.left(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

// collect takes the events that are there; false: there are none yet.
func (d *Departures) collect(uintptr) bool {
	n, err := unix.EpollWait(d.set, d.events[:], 0)
	if err == unix.EINTR {
		n = 0
	}
	d.number = max(n, 0)
	return d.number > 0
}

// Close ends the set; left is not called any more once it has returned.
func (d *Departures) Close() {
	_ = d.file.Close()
	d.ended.Wait()
}

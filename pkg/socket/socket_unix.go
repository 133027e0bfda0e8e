//go:build linux || darwin || freebsd || netbsd || openbsd

package socket

import (
	"os"
	"syscall"
)

// Known reports whether there are Readers, Writers and Glance here.
const Known = true

// attempt reads once; false: nothing is there yet, or what there was has been served.
func (r *Reader) attempt(socket uintptr) bool {
	for {
		p := r.take()
		n, err := Receive(socket, p)
		switch {
		case err == syscall.EAGAIN:
			r.drop()
			return false
		case err != nil:
			r.drop()
			r.err = os.NewSyscallError("read", err)
			return true
		}
		if r.n = n; n == 0 || r.each == nil || !r.each(socket, n) {
			return true
		}
		if r.n = 0; n < len(p) {
			return false // that was all, and what has come since is told
		}
	}
}

// fill never waits.
func (r *Reader) fill(socket uintptr) bool {
	for r.n < len(r.into) {
		n, err := Receive(socket, r.into[r.n:])
		if n == 0 || err != nil {
			break
		}
		r.n += n
	}
	return true
}

// attempt writes until all is written, or an error; false: there is no room.
func (w *Writer) attempt(socket uintptr) bool {
	for w.n < len(w.rest) {
		n, err := Send(socket, w.rest[w.n:])
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			w.err = os.NewSyscallError("write", err)
			break
		}
		w.n += n
	}
	return true
}

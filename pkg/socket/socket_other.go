//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package socket

// Readable reports whether Readers work here.
const Readable = false

// glance knows no way to look without reading.
func (p *Probe) glance(uintptr) { p.seen = Quiet }

func (r *Reader) attempt(uintptr) bool {
	r.err = ErrNoSocket
	return true
}

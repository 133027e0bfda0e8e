//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package upstream

// glance knows no way to look without reading: idle connections end by time alone.
func (p *probe) glance(uintptr) bool {
	p.seen = linkQuiet
	return true
}

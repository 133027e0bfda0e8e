//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package upstream

func (*conn) swaps() {}

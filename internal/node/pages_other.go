//go:build !linux

package node

// forgetProgram is for Linux.
func forgetProgram() error { return nil }

//go:build !scribble

package exchange

// Scribbles says that memory of an exchange is overwritten when the exchange is over: only in
// tests with the tag scribble.
const Scribbles = false

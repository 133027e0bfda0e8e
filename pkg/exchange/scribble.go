//go:build scribble

package exchange

// Scribbles says that memory of an exchange is overwritten when the exchange is over. Tests with
// the tag scribble find by that who keeps a part of a request for longer than that.
const Scribbles = true

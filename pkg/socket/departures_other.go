//go:build !linux

package socket

import (
	"errors"
	"syscall"
)

// Departures cannot be told of here: who wants to know looks with a Probe.
type Departures struct{}

// NewDepartures fails.
func NewDepartures(func(token uint64)) (*Departures, error) { return nil, errors.ErrUnsupported }

// Add fails.
func (*Departures) Add(syscall.RawConn, uint64) error { return errors.ErrUnsupported }

// Remove fails.
func (*Departures) Remove(syscall.RawConn) error { return errors.ErrUnsupported }

// Close does nothing.
func (*Departures) Close() {}

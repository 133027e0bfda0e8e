// Package logtest is a log for tests, which read it while the tested write it. It does not
// know what a line looks like.
package logtest

import (
	"bytes"
	"sync"
)

// A Log keeps what is written to it. The zero value is empty. All methods may be called at
// any time by any goroutine.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write keeps p. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

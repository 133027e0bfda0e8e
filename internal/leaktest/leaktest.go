// Package leaktest looks for goroutines that outlive tests. It does not know what they do.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/internal/timetest"
)

// Main runs the tests of a package, and fails if one of them leaves a goroutine behind.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// None fails a test if a goroutine is left that options do not excuse.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := Find(options...); err != nil {
		t.Error(err)
	}
}

// Find returns an error that shows the goroutines which are left. One that is about to end has
// timetest.Patience for it: goleak's own half a second is short for a busy machine.
func Find(options ...goleak.Option) error {
	for end := time.Now().Add(timetest.Patience); ; {
		if err := goleak.Find(options...); err == nil || time.Now().After(end) {
			return err
		}
	}
}

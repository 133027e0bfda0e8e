package leaktest_test

import (
	"testing"
	"time"

	"github.com/gosix/gosix/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestAGoroutineMayTakeItsTimeToEnd(t *testing.T) {
	end := make(chan struct{})
	go func() { <-end }()
	time.AfterFunc(time.Second, func() { close(end) }) // later than goleak itself looks
	leaktest.None(t)
}

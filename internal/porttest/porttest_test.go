package porttest_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/gosix/gosix/internal/porttest"
)

// Two programs that are told of one port are a fault of a test that looks like one of theirs.
func TestNoPortIsGivenTwice(t *testing.T) {
	given := map[int]bool{}
	for range 300 {
		port, err := porttest.Free("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if given[port] {
			t.Fatalf("port %d is given twice", port)
		}
		given[port] = true
	}
}

func TestAPortThatSomebodyHasIsNotGiven(t *testing.T) {
	port, err := porttest.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
	if err != nil {
		t.Skip("somebody else has it:", err)
	}
	defer func() { _ = l.Close() }()
	if next, err := porttest.Free("127.0.0.1"); err != nil || next == port+1 {
		t.Errorf("got %d, %v", next, err)
	}
}

func TestAHostThatIsNotHereHasNoPort(t *testing.T) {
	if port, err := porttest.Free("192.0.2.1"); err == nil {
		t.Errorf("got %d", port)
	}
}

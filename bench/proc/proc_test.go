//go:build linux

package proc

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAProcessAndWhatItStartedAreOne(t *testing.T) {
	cmd := exec.Command("sh", "-c", "(read x) & read x; wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	for {
		tree, err := Tree(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(tree, cmd.Process.Pid) && len(tree) >= 3 {
			break
		}
	}
	sum, err := RSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	own, err := RSS(cmd.Process.Pid)
	if err != nil || own <= 0 || own >= sum {
		t.Errorf("the child has %d of %d bytes, %v", own, sum, err)
	}
}

func TestTheTimeOnAProcessorIsThatOfWork(t *testing.T) {
	const work = 50 * time.Millisecond
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// As much as the process says itself that it had; what else it does is more.
	for begin := own(t); own(t)-begin < work; {
	}
	after, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The clock of a running thread moves with the ticks of its processor.
	if got := after - before; got < work/2 {
		t.Errorf("got %v for %v of work", got, work)
	}
	if n, err := ticks(os.Getpid()); err != nil || n <= 0 {
		t.Errorf("in ticks: %v, %v", n, err)
	}
	if n, err := Busy(0); err != nil || n <= 0 {
		t.Errorf("processor 0: %v, %v", n, err)
	}
}

func own(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package node

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestPagesOfTheProgramAreForgotten(t *testing.T) {
	files := func() int { // pages of files that are in the process's memory
		raw, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.Fields(string(raw))[2])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// What the other tests needed is there, and most of it is not needed now.
	before := files()
	if err := forgetProgram(); err != nil {
		t.Fatal(err)
	}
	if now := files(); now >= before {
		t.Errorf("%d pages of files before, %d after", before, now)
	}
}

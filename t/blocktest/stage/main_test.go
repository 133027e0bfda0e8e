package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/t/blocktest"
)

// alone is set in the process that runs the tests in a network of their own, to a directory
// for what they build.
const alone = "STAGE_TEST_ALONE"

// TestMain runs the tests in a network of their own where that can be: a Stage has ports that
// somebody else may have.
func TestMain(m *testing.M) {
	if built = os.Getenv(alone); built != "" {
		if err := Loopback(); err != nil {
			panic(err)
		}
		// The clock of the regular expressions runs on for a while.
		goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/dlclark/regexp2.runClock"))
		return
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	if !Isolate(cmd) {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "stage-test")
	if err != nil {
		panic(err)
	}
	cmd.Env = append(os.Environ(), alone+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	_ = os.RemoveAll(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// built is where the tests' programs are.
var built string

// gosix builds the program under test once.
var gosix = sync.OnceValues(func() (string, error) {
	program := filepath.Join(built, "gosix")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/gosix/gosix/cmd/gosix")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
})

// newStage is a world with a gosix that is built for it. It needs a network of its own.
func newStage(t *testing.T) *Stage {
	t.Helper()
	if built == "" {
		t.Skip("a network of its own needs Linux and root")
	}
	program, err := gosix()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.Root()); err == nil {
			t.Error("its files are still there")
		}
	})
	return s
}

// prepared is a block with these sections, as the runner hands it to a World.
func prepared(sections map[string]string) *blocktest.Prepared {
	return &blocktest.Prepared{Block: &blocktest.Block{}, Values: sections, Settings: &blocktest.Settings{}}
}

// results runs a suite of these blocks.
func results(t *testing.T, s *Stage, blocks string, opts blocktest.RunOptions) []blocktest.Result {
	t.Helper()
	suite, err := blocktest.Parse("test.t", []byte("use t::APISIX 'no_plan';\nrun_tests();\n__DATA__\n"+blocks))
	if err != nil {
		t.Fatal(err)
	}
	return blocktest.Run(context.Background(), suite, "", s, opts)
}

func TestACommandInANetworkOfItsOwnIsTheFirstOfItsProcesses(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("it needs Linux and root")
	}
	cmd := exec.Command("sh", "-c", "echo $$")
	if !Isolate(cmd) {
		t.Fatal("root may not")
	}
	out, err := cmd.Output()
	if err != nil || string(out) != "1\n" {
		t.Errorf("its number is %q, %v", out, err)
	}
}

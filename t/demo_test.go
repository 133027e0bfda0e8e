package t

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What `make demo` runs.
func TestDemo(t *testing.T) {
	out, err := exec.Command("go", "run", "./demo", "-gosix", filepath.Join(programs, "gosix")).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "201 Created") || !strings.Contains(text, "data: [DONE]") {
		t.Errorf("%v\n%s", err, text)
	}
}

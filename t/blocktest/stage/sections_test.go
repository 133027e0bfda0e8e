package stage

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/t/blocktest"
)

// A section that the run leaves to the World and the World does not look at would let a
// block pass without what it asked for.
func TestEverySectionForTheStageIsReadRefusedOrKnownToBeWithoutEffect(t *testing.T) {
	var code strings.Builder
	for _, file := range []string{"servers.go", "settings.go"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(raw)
	}
	for _, name := range blocktest.Staged() {
		read := strings.Contains(code.String(), `"`+name+`"`)
		places := 0
		for _, is := range []bool{read, slices.Contains(notStaged, name), slices.Contains(withoutEffect, name)} {
			if is {
				places++
			}
		}
		if places == 0 {
			t.Errorf("section %s: nobody reads it", name)
		} else if places > 1 && !read {
			t.Errorf("section %s: it is refused and said to be without effect", name)
		}
	}
}

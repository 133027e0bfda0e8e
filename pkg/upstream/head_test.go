package upstream

import (
	"strings"
	"testing"
)

// What looks at eight bytes at once must see what one after the other shows.
func TestEveryCharacterInEveryPlaceOfAValue(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				s := strings.Repeat("x", at) + string([]byte{byte(c)}) + strings.Repeat("\x80", length-at-1)
				want := c == '\t' || c >= ' ' && c != 0x7f
				if got := value(s); got != want {
					t.Fatalf("%q: got %v, want %v", s, got, want)
				}
				if !want && value("\t\t\t"+s) {
					t.Fatalf("%q behind tabs passes", s)
				}
				if want = c > ' ' && c != 0x7f; visible(s) != want {
					t.Fatalf("%q is visible: %v, want %v", s, !want, want)
				}
			}
		}
	}
}

func TestTextThatIsKeptIsNotChanged(t *testing.T) {
	o := new(text)
	var kept, want []string
	for i := range 100 {
		p := []byte(strings.Repeat(string(rune('a'+i%26)), 1+i*37%(2*ownText)))
		kept, want = append(kept, o.keep(p)), append(want, string(p))
		clear(p)
	}
	for i := range kept {
		if kept[i] != want[i] {
			t.Fatalf("text %d of %d bytes was changed", i, len(want[i]))
		}
	}
}

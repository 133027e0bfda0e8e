package http1

import (
	"strings"
	"testing"
)

// Eight bytes are looked at together; what each of them may be does not depend on where it
// stands.
func TestEachByteIsJudgedWhereverItStands(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				for _, around := range []string{"a", "\xff", " ", "\t"} {
					s := strings.Repeat(around, at) + string([]byte{byte(c)}) + strings.Repeat(around, length-at-1)
					if got, want := Value(s), c == '\t' || c >= ' ' && c != 0x7f; got != want {
						t.Fatalf("Value(%q): got %v", s, got)
					}
					token := strings.ContainsRune("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", rune(c)) &&
						(length == 1 || around == "a")
					if got := Token(s); got != token {
						t.Fatalf("Token(%q): got %v", s, got)
					}
					visible := c > ' ' && c != 0x7f && (length == 1 || around > " ")
					if got := Visible(s); got != visible {
						t.Fatalf("Visible(%q): got %v", s, got)
					}
				}
			}
		}
	}
}

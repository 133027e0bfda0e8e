package jsonedit

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWalkSeesAnObjectThatTextBeginsWith(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string // name, value
		end      int      // 0: an error
	}{
		{"nothing inside", ` {} ,"x":1}`, nil, 3},
		{"members of every kind", `{"a":1,"b" : "t" ,"c":{"d":[]}}tail`, []string{"a", "1", "b", `"t"`, "c", `{"d":[]}`}, 31},
		{"a name with escapes", `{"\u0061\"":null}`, []string{`a"`, "null"}, 17},
		{"no object", `[1]`, nil, 0},
		{"nothing", ``, nil, 0},
		{"no end", `{"a":1`, []string{"a", "1"}, 0},
		{"a comma before the end", `{"a":1,}`, []string{"a", "1"}, 0},
		{"no colon", `{"a"}`, nil, 0},
		{"a name that is none", `{a:1}`, nil, 0},
		{"a bad value", `{"a":01}`, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			end, err := Walk([]byte(tt.in), func(name string, raw []byte, _ Kind) error {
				got = append(got, name, string(raw))
				return nil
			})
			if diff := cmp.Diff(tt.want, got); diff != "" || end != tt.end || (err == nil) != (tt.end > 0) {
				t.Errorf("got end %d and %v: %s", end, err, diff)
			}
		})
	}
}

func TestClosesKnowsTheRestOfADocument(t *testing.T) {
	for in, want := range map[string]bool{
		`}`: true, ` , "a" : [{}] , "b":null } `: true, `,"}":"}"}`: true,
		``: false, `}}`: false, `]`: false, `,}`: false, `,"a":1`: false, `,"a"}`: false, `,a:1}`: false, `"a":1}`: false, `} x`: false,
	} {
		if got := Closes([]byte(in)); got != want {
			t.Errorf("%s: got %v", in, got)
		}
	}
}

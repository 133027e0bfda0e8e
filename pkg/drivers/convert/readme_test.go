package convert

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The README says of every conversion what it leaves out, in the order of the table.
func TestTheREADMEListsEveryConversion(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, c := range conversions {
		want = append(want, string(c.From)+" to "+string(c.To))
	}
	_, table, _ := strings.Cut(string(text), "\n| From | To | Left out | Refused with 400 |\n|---|---|---|---|\n")
	table, after, _ := strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		got = append(got, strings.Trim(cells[0], "|` ")+" to "+strings.Trim(cells[1], "` "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the README has %q, want %q", got, want)
	}
	after, _, _ = strings.Cut(after, "\n\n")
	for _, c := range chains {
		from, to := "`"+string(c.From)+"`", "`"+string(c.To)+"`"
		_, list, _ := strings.Cut(strings.ReplaceAll(after, "\n", " "), "from "+from+" to ")
		list, _, _ = strings.Cut(list, ", from ")
		if !strings.Contains(list, to) {
			t.Errorf("the README does not say that %s and %s are put together", from, to)
		}
	}
}

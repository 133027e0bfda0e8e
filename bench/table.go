//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// figure is what several rounds came to.
type figure []float64

func (f figure) median() float64 {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// with is the median and, of several rounds, the least and the greatest, each in a format.
func (f figure) with(format string) string {
	switch len(f) {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf(format, f[0])
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", f.median(), slices.Min(f), slices.Max(f))
}

// table is what is printed, in Markdown.
type table struct {
	title string
	notes []string
	rows  [][]string // the first is the head
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n", t.title)
	for _, n := range t.notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 3)
		}
	}
	line := func(row []string, fill string) {
		for i, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(fill, width[i]-utf8.RuneCountInString(cell)) + " ")
		}
		b.WriteString("|\n")
	}
	line(t.rows[0], " ")
	line(make([]string, len(width)), "-")
	for _, row := range t.rows[1:] {
		line(row, " ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// must is a line that gosix has to reach.
type must struct {
	name  string
	got   float64
	limit float64
	unit  string
}

func (m must) held() bool { return m.got <= m.limit }

// judge notes what a part found of a line that gosix has to reach.
func (b *bench) judge(name string, got, limit float64, unit string) {
	b.musts = append(b.musts, must{name, got, limit, unit})
}

func (b *bench) verdicts() *table {
	t := &table{title: "What has to be reached", rows: [][]string{{"Line", "Measured", "At most", ""}}}
	for _, m := range b.musts {
		word := "yes"
		if !m.held() {
			word = "**no**"
		}
		t.add(m.name, fmt.Sprintf("%.4g%s", m.got, m.unit), fmt.Sprintf("%.4g%s", m.limit, m.unit), word)
	}
	return t
}

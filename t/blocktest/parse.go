package blocktest

import (
	"fmt"
	"regexp"
	"strings"
)

// The notation is that of Test::Base: a line that begins with === opens a block, a line
// `--- name filters` a section, and what precedes the first section is the block's
// description. `--- name: value` is a section of one line.
var (
	dataMark    = regexp.MustCompile(`(?m)^__(?:DATA|END)__\r?$\n?`)
	blockMark   = regexp.MustCompile(`(?m)^===`)
	sectionMark = regexp.MustCompile(`(?m)^--- +\(?(\w+)\)? *(.*)?(?:\n|\z)`)
	blockHead   = regexp.MustCompile(`\A===[ \t]*(.*)\s+`)
	inlineMark  = regexp.MustCompile(`:(?:\s|\z)`)
	inlineSplit = regexp.MustCompile(`\s*:(?:\s+|\z)`)
)

// reservedNames cannot name a section: they are methods of a block.
var reservedNames = map[string]bool{
	"new": true, "name": true, "description": true, "set_value": true, "run_filters": true,
	"seq_num": true, "is_filtered": true, "blocks_object": true, "original_values": true,
	"block_accessor": true, "AUTOLOAD": true, "DESTROY": true, "BEGIN": true, "ISA": true, "EXPORT": true,
}

// Parse reads a file. It fails where Test::Base does; a file without blocks is a suite
// without blocks. A file that has blocks and no __DATA__ is a suite of the project's own,
// where Test::Base would find no blocks. A last line that nothing ends counts like the others:
// Test::Base would take a section there for text of the section before it.
func Parse(path string, src []byte) (*Suite, error) {
	text := string(src)
	s := &Suite{Path: path, Prologue: text}
	mark := dataMark.FindStringIndex(text)
	if mark == nil {
		first := blockMark.FindStringIndex(text)
		if first == nil {
			return s, nil
		}
		// Prose, and blocks at once: one of the project's own.
		s.Own, mark = true, []int{0, first[0]}
	}
	s.Prologue = text[:mark[0]]
	data := text[mark[1]:]
	line := 1 + strings.Count(text[:mark[1]], "\n")

	starts := blockMark.FindAllStringIndex(data, -1)
	if len(starts) == 0 {
		return s, nil
	}
	line += strings.Count(data[:starts[0][0]], "\n")
	for i, at := range starts {
		end := len(data)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		hunk := data[at[0]:end]
		b, err := parseBlock(hunk, line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		b.Number = i + 1
		s.Blocks = append(s.Blocks, b)
		line += strings.Count(hunk, "\n")
	}
	return s, nil
}

func parseBlock(hunk string, line int) (*Block, error) {
	head := blockHead.FindStringSubmatchIndex(hunk)
	if head == nil {
		return nil, fmt.Errorf("line %d: a block that ends behind its ===", line)
	}
	b := &Block{Name: strings.TrimSpace(hunk[head[2]:head[3]]), Line: line}
	line += strings.Count(hunk[:head[1]], "\n")
	body := hunk[head[1]:]
	marks := sectionMark.FindAllStringSubmatchIndex(body, -1)
	for i, m := range marks {
		end := len(body)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		at := line + strings.Count(body[:m[0]], "\n")
		s, err := parseSection(body[m[2]:m[3]], body[m[4]:m[5]], body[m[1]:end], at)
		if err != nil {
			return nil, err
		}
		b.Sections = append(b.Sections, s)
	}
	return b, nil
}

// parseSection makes a section of its name, of what stands behind the name, and of the
// lines below.
func parseSection(name, head, value string, line int) (*Section, error) {
	if reservedNames[name] || strings.HasPrefix(name, "_") {
		return nil, fmt.Errorf("line %d: %s cannot name a section", line, name)
	}
	s := &Section{Name: name, Raw: value, Line: line}
	if inlineMark.MatchString(head) {
		if strings.TrimSpace(value) != "" {
			return nil, fmt.Errorf("line %d: section %s has a value behind its name and lines below it", line, name)
		}
		at := inlineSplit.FindStringIndex(head)
		s.Raw = strings.TrimSpace(head[at[1]:])
		head = head[:at[0]]
	}
	s.Filters = strings.Fields(head)
	return s, nil
}

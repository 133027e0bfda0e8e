// Package protodef judges definitions of protocol buffers. It does not know who stores them,
// nor which messages are sent.
package protodef

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxNesting bounds how deep brackets nest. The compiler takes time and memory that grow with
// its square; of messages it allows no more than 31.
const maxNesting = 100

// Check judges a definition: protocol buffers in text form, or a FileDescriptorSet in
// base64. A text may import the files that come with the language; there are no others. The
// error is about the text.
func Check(content string) error {
	text, nesting := withoutComments(content)
	if nesting > maxNesting {
		return fmt.Errorf("nested more than %d deep", maxNesting)
	}
	const name = "content"
	c := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			Accessor: protocompile.SourceAccessorFromMap(map[string]string{name: text}),
		}),
		MaxParallelism: 1,
	}
	_, err := c.Compile(context.Background(), name)
	if err == nil || isDescriptorSet(content) {
		return nil
	}
	if at := reporter.ErrorWithPos(nil); errors.As(err, &at) {
		// The file has no name that would mean anything to its author.
		pos := at.GetPosition()
		return fmt.Errorf("%d:%d: %w", pos.Line, pos.Col, at.Unwrap())
	}
	return err
}

func isDescriptorSet(content string) bool {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(content))
	var set descriptorpb.FileDescriptorSet
	if err != nil || proto.Unmarshal(raw, &set) != nil || len(set.GetFile()) == 0 {
		return false
	}
	// As in the reference, what the files import need not be with them.
	_, err = protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(&set)
	return err == nil
}

// withoutComments returns a text with spaces where comments are, since the compiler takes
// time that grows with the square of their number on one line. With it comes the depth of
// the deepest bracket that is not in a string.
func withoutComments(content string) (text string, nesting int) {
	out := []byte(content)
	depth := 0
	for i := 0; i < len(out); {
		rest := content[i:]
		switch c := out[i]; {
		case strings.HasPrefix(rest, "//"):
			i = blank(out, i, lengthTo(rest, "\n", 2))
			continue
		case strings.HasPrefix(rest, "/*"):
			i = blank(out, i, lengthTo(rest, "*/", 2))
			continue
		case c == '"' || c == '\'':
			i += stringLength(rest)
			continue
		case strings.IndexByte("{[<(", c) >= 0:
			depth++
			nesting = max(nesting, depth)
		case strings.IndexByte("}]>)", c) >= 0:
			depth--
		}
		i++
	}
	return string(out), nesting
}

// lengthTo is the length of s with the first end that stands at or behind from.
func lengthTo(s, end string, from int) int {
	at := strings.Index(s[from:], end)
	if at < 0 {
		return len(s)
	}
	return from + at + len(end)
}

// blank makes n bytes spaces, but for the ends of lines, and returns what follows.
func blank(out []byte, from, n int) int {
	for i := from; i < from+n; i++ {
		if out[i] != '\n' {
			out[i] = ' '
		}
	}
	return from + n
}

// stringLength is the length of the string that s begins with. No string spans lines.
func stringLength(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0], '\n':
			return i + 1
		}
	}
	return len(s)
}

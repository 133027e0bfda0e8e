package jsonedit

import "golang.org/x/sys/cpu"

// wide says that the processor looks at a block of text at once.
var wide = cpu.X86.HasAVX2

// pass goes over blocks of a string, of which there are n at p, up to the first in which there is
// something else than characters and short escape sequences. It returns how many it passed, and
// in b what is in the next one. The three bytes before p are read, too.
//
//go:noescape
func pass(p *byte, n int, b *block) (passed int)

package exchange

import "sync"

// memory is what a body is read into. It is used again by size, so that bodies cost no garbage;
// what nobody uses, the garbage collector takes.
type memory struct {
	bytes []byte
	class int // below 0: none, it is used once
}

// classes are the sizes that are kept, in bytes. There is room for a little more than a round
// number of them, as of a body of such a size with the byte that follows it.
var classes = func() (sizes [18]int) {
	for i := range sizes {
		sizes[i] = (4<<10)<<(i/2) + (i%2)*(2<<10)<<(i/2) + 256
	}
	return sizes
}()

var memories [len(classes)]sync.Pool

func newMemory(size int) *memory {
	for i, n := range classes {
		if size <= n {
			if m, ok := memories[i].Get().(*memory); ok {
				return m
			}
			return &memory{make([]byte, 0, n), i}
		}
	}
	return &memory{make([]byte, 0, size), -1}
}

func (m *memory) free() {
	if Scribbles {
		Scribble(m.bytes[:cap(m.bytes)])
	}
	if m.class >= 0 {
		memories[m.class].Put(m)
	}
}

// Scribble makes memory that is given back look as if another exchange had it already.
func Scribble(p []byte) {
	for i := range p {
		p[i] = '#'
	}
}

package http1

import (
	"bytes"
	"strconv"
)

// Limits of what surrounds chunks, in bytes. Extensions and trailers are read and dropped.
const (
	maxChunkLine = 4 << 10
	maxTrailer   = 16 << 10
	maxExcess    = 16 << 10 // RFC 9112 §7.1.1: ignore extensions, but not at any length
)

// Chunks follows the framing of a chunked body. The zero value is before the first chunk.
type Chunks struct {
	Left int64 // bytes of the chunk's data that are still to come
	Done bool  // the end of the body was seen

	at     chunkPart
	excess int // wire bytes of framing beyond what is usual
}

type chunkPart uint8

const (
	chunkSize chunkPart = iota
	chunkData
	chunkEnd
	chunkTrailer
)

// Advance goes over the framing at the beginning of p, up to the next byte of data or the end
// of the body, and returns how many bytes that was. more says that p ends before.
func (c *Chunks) Advance(p []byte) (n int, more bool, err error) {
	for c.at != chunkData && !c.Done {
		limit := maxChunkLine
		switch c.at {
		case chunkEnd:
			limit = 0
		case chunkTrailer:
			limit = maxTrailer
		}
		line, size, err := chunkLine(p[n:], limit)
		if size == 0 || err != nil {
			return n, true, err
		}
		n += size
		switch c.at {
		case chunkSize:
			err = c.begin(line)
		case chunkTrailer:
			err = c.trailer(line)
		default:
			c.at = chunkSize
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// Took says that n bytes of data were taken.
func (c *Chunks) Took(n int) {
	if c.Left -= int64(n); c.Left == 0 {
		c.at = chunkEnd
	}
}

// chunkLine returns the line at the beginning of p, of up to limit bytes, without its end,
// and its size with it; 0 if p has no end of line.
func chunkLine(p []byte, limit int) (line []byte, size int, err error) {
	i := bytes.IndexByte(p, '\n')
	switch {
	case i == 0 || i > 0 && p[i-1] != '\r':
		return nil, 0, errBareLineFeed
	case i > limit+1 || i < 0 && len(p) > limit+1 || i < 0 && limit == 0 && len(p) == 1 && p[0] != '\r':
		if limit == 0 {
			return nil, 0, Error("chunk is longer than its size")
		}
		return nil, 0, Error("line is longer than " + strconv.Itoa(limit) + " bytes")
	case i < 0:
		return nil, 0, nil
	}
	return p[:i-1], i + 1, nil
}

const errChunkSize = Error("chunk size")

// begin reads the size of a chunk.
func (c *Chunks) begin(line []byte) error {
	digits, extension, extended := bytes.Cut(line, []byte{';'})
	if !extended {
		digits = bytes.TrimRight(digits, " \t") // some pad it
	}
	if len(digits) == 0 || len(digits) > 15 || !Value(text(extension)) {
		return errChunkSize
	}
	var total int64
	for _, d := range digits {
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case 'a' <= d && d <= 'f':
			d -= 'a' - 10
		case 'A' <= d && d <= 'F':
			d -= 'A' - 10
		default:
			return errChunkSize
		}
		total = total<<4 | int64(d)
	}
	if total == 0 {
		c.at, c.excess = chunkTrailer, 0
		return nil
	}
	// A chunk may cost some bytes of framing, and more the larger it is.
	c.excess = max(0, c.excess+len(line)-16-2*int(min(total, maxExcess)))
	if c.excess > maxExcess {
		return Error("more chunk extensions than data")
	}
	c.Left, c.at = total, chunkData
	return nil
}

// trailer reads a line behind the last chunk.
func (c *Chunks) trailer(line []byte) error {
	if len(line) == 0 {
		c.Done = true
		return nil
	}
	if c.excess += len(line) + 2; c.excess > maxTrailer {
		return Error("trailer is larger than " + strconv.Itoa(maxTrailer) + " bytes")
	}
	if name, content, ok := bytes.Cut(line, []byte{':'}); !ok || !Token(name) || !Value(text(content)) {
		return Error("trailer line")
	}
	return nil
}
